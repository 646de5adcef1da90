"""Probes of the stream at the subject's last token, and the streams they read.

What follows the subject cannot reach its last token, so prompts are run up to it only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from workbench.facts.prompts import Prompt
from workbench.localize.gradients import HOOKS, node_names, run
from workbench.models.embeddings import embed
from workbench.models.model import Model

Ablated = Literal["attn", "mlp"]
FOLDS = 4


class Probes:
    """Cross-validated logistic regressions; no subject is in both training and test."""

    def __init__(self, labels: Sequence[str], subjects: Sequence[str], seed: int) -> None:
        from sklearn.model_selection import StratifiedGroupKFold

        self.labels = np.array(labels)
        self.chance = max(Counter(labels).values()) / len(labels)
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        self.folds = list(folds.split(np.zeros(len(labels)), self.labels, list(subjects)))

    def correct(self, stream: Float[Tensor, "fact d_model"]) -> NDArray[np.float64]:
        """Return 1 for each fact whose answer a probe trained on other subjects reads."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x = stream.double().cpu().numpy()
        right = np.zeros(len(self.labels))
        for train, test in self.folds:
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
            probe.fit(x[train], self.labels[train])
            right[test] = probe.predict(x[test]) == self.labels[test]
        return right


class Reader:
    """Residual streams at the subjects' last tokens, with outputs ablated to their means."""

    def __init__(self, model: Model, prompts: Sequence[Prompt]) -> None:
        self.model = model
        # What follows the subject cannot reach its last token.
        ids = [p.ids[: p.last_subject + 1] for p in prompts]
        self.n = len(ids)
        self.batches = [
            (same, [ids[i] for i in same])
            for length in sorted({len(s) for s in ids})
            for same in [[i for i, s in enumerate(ids) if len(s) == length]]
        ]
        outputs = self._read(node_names(model, ["attn", "mlp"]), {})
        self.means = {name: values.mean(0) for name, values in outputs.items()}

    def streams(self, ablate: Mapping[Ablated, range]) -> list[Float[Tensor, "fact d_model"]]:
        """Return the stream behind every layer."""
        names = node_names(self.model, ["resid"])
        gone = [HOOKS[kind].format(i) for kind, span in ablate.items() for i in span]
        states = self._read(names, {name: self.means[name] for name in gone})
        return [states[name] for name in names]

    def _read(self, names: Sequence[str], means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        changes = {name: put_last(mean) for name, mean in means.items()}
        out: dict[str, Tensor] = {}
        for rows, ids in self.batches:
            _, states = run(self.model, embed(self.model, ids), names, replace=changes)
            for name, state in states.items():
                last = state[:, -1]
                out.setdefault(name, last.new_empty(self.n, last.shape[-1]))[rows] = last
        return out


def put_last(mean: Float[Tensor, " d_model"]) -> Any:
    """Return a function that puts a mean in the place of the last position."""

    def put(value: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        value = value.clone()
        value[:, -1] = mean
        return value

    return put
