"""What is measured at the last position of a localization run.

The logit difference is linear in the final residual stream and signed; the probability misses
components that lower it (Zhang & Nanda 2023, arXiv 2309.16042, sec. 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import Fact

Metric = Callable[
    [Float[Tensor, "batch vocab"], Int[Tensor, " batch"], Int[Tensor, " batch"] | None],
    Float[Tensor, " batch"],
]


def probability(
    logits: Float[Tensor, "batch vocab"],
    target: Int[Tensor, " batch"],
    foil: Int[Tensor, " batch"] | None,
) -> Float[Tensor, " batch"]:
    """Probability of the target token; 0 to 1."""
    return torch.softmax(logits, -1).gather(-1, target[:, None])[:, 0]


def log_probability(
    logits: Float[Tensor, "batch vocab"],
    target: Int[Tensor, " batch"],
    foil: Int[Tensor, " batch"] | None,
) -> Float[Tensor, " batch"]:
    """Log-probability of the target token, in nats."""
    return torch.log_softmax(logits, -1).gather(-1, target[:, None])[:, 0]


def logit_difference(
    logits: Float[Tensor, "batch vocab"],
    target: Int[Tensor, " batch"],
    foil: Int[Tensor, " batch"] | None,
) -> Float[Tensor, " batch"]:
    """Logit of the target token minus logit of the foil token.

    Raises:
        WorkbenchError: the facts have no foils.
    """
    if foil is None:
        raise WorkbenchError(
            "The logit difference needs a foil for every fact; add foils, or choose the metric "
            "'probability'."
        )
    return (logits.gather(-1, target[:, None]) - logits.gather(-1, foil[:, None]))[:, 0]


METRICS: dict[str, Metric] = {
    "probability": probability,
    "log_probability": log_probability,
    "logit_difference": logit_difference,
}


def default_metric(facts: Iterable[Fact]) -> str:
    """Return the metric to use unless one is asked for.

    The logit difference if all facts have foils, else the probability.
    """
    return "logit_difference" if all(f.foil is not None for f in facts) else "probability"


def metric_named(name: str) -> Metric:
    """Look a metric up.

    Raises:
        WorkbenchError: there is none of this name.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]
