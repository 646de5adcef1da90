"""The result of every localizer: a score for each component, by token role or position.

Scores are normalised: 0 = as in the corrupted run, 1 = the whole clean-minus-corrupted effect.

    score(c, role) = mean(metric patched at c - metric corrupted) / mean(metric clean - corrupted)

Means run over facts and noise samples; the standard error is that of the numerator in the same
unit, with facts as the independent samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.facts.prompts import PICTURE, ROLES, Prompt, Role
from workbench.models.components import Component, ComponentSet, Structure

CellKind = Literal["resid", "mlp", "attn", "head"]
Cell = tuple[CellKind, int, int]  # kind, layer, head (-1 where there is none)
COLUMNS = ("kind", "layer", "index", "role", "position", "token", "score", "stderr", "n")


@dataclass(frozen=True, eq=False)
class FactEffects:
    """What patching did to one fact, in units of the metric.

    Attributes:
        prompt: the fact's tokens and roles.
        clean: metric of the clean run.
        corrupted: metric of each corrupted sample.
        cells: for each cell, metric after patching minus metric of the same corrupted sample.
        picture: the same with all tokens of the picture patched at once that stands for the
            subject; None where there is none, or where that was not done.
    """

    prompt: Prompt
    clean: float
    corrupted: Float[Tensor, " sample"]
    cells: Mapping[Cell, Float[Tensor, "sample pos"]]
    picture: Mapping[Cell, Float[Tensor, " sample"]] | None = None


@dataclass(frozen=True, eq=False)
class Localization:
    """Where a set of facts is recalled.

    Attributes:
        method: registry name of the localizer.
        table: one row per cell and role (or position): kind, layer, index, role, position, token,
            score, stderr, n. Position is -1 where roles are averaged over facts, and in the row of
            the whole picture, which stands above its tokens.
        clean: mean metric of the clean runs.
        corrupted: mean metric of the corrupted runs.
        n_facts: facts that were used.
        left_out: prompts of facts the model does not know.
        sizes: parameters of each MLP and attention, by component name.
        config: settings, seed, model name and fingerprint.
    """

    method: str
    table: pd.DataFrame
    clean: float
    corrupted: float
    n_facts: int
    left_out: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of cells in the table, in their order."""
        return tuple(dict.fromkeys(self.table["kind"]))

    def grid(self, kind: str, *, index: int | None = None, value: str = "score") -> pd.DataFrame:
        """Return layers x roles (or positions) of one kind; heads are summed unless one is named.

        Raises:
            WorkbenchError: this localization did not score that kind.
        """
        rows = self.table[self.table["kind"] == kind]
        if rows.empty:
            raise WorkbenchError(
                f"{self.method} did not score {kind!r} here; it scored {', '.join(self.kinds)}."
            )
        if index is not None:
            rows = rows[rows["index"] == index]
        by_position = bool((rows["position"] >= 0).any())
        column = "position" if by_position else "role"
        grid = rows.pivot_table(index="layer", columns=column, values=value, aggfunc="sum")
        columns = list(grid.columns) if by_position else [r for r in ROLES if r in grid.columns]
        return pd.DataFrame(grid[columns])

    def ranking(
        self,
        *,
        kinds: Iterable[str] | None = None,
        roles: Iterable[Role] | None = None,
        merge_heads: bool = False,
    ) -> list[tuple[Component, float]]:
        """Rank components by their largest |score| over the given token roles.

        Args:
            kinds: cell kinds to use; default all but the residual stream, which is no component.
            roles: token roles to look at; default all.
            merge_heads: add the heads of a layer up to its attention.
        """
        wanted = set(kinds) if kinds is not None else set(self.kinds) - {"resid"}
        rows = self.table[self.table["kind"].isin(wanted - {"resid"})]
        if roles is not None:
            rows = rows[rows["role"].isin(set(roles))]
        if merge_heads and "head" in wanted:
            rows = rows.replace({"kind": {"head": "attn"}}).assign(
                index=lambda d: d["index"].where(d["kind"] != "attn", -1)
            )
            rows = rows.groupby(["kind", "layer", "index", "role", "position"], as_index=False)[
                "score"
            ].sum()
        best = rows.assign(size=rows["score"].abs()).sort_values("size", ascending=False)
        best = best.drop_duplicates(["kind", "layer", "index"])
        return [
            (Component(int(r.layer), r.kind, int(r.index)), float(r.score))  # type: ignore[arg-type]
            for r in best[["layer", "kind", "index", "score"]]
            .set_axis(["layer", "kind", "index", "score"], axis=1)
            .itertuples(index=False, name="Row")
        ]

    def choose(
        self,
        *,
        k: int | None = None,
        parameters: float | None = None,
        threshold: float | None = None,
        kinds: Iterable[str] | None = None,
        roles: Iterable[Role] | None = None,
    ) -> ComponentSet:
        """Choose the components with the largest scores.

        Args:
            k: this many.
            parameters: whole components until their parameters reach this count, or this share of
                all MLP and attention parameters if below 1; heads of a layer count as one
                component (Guo et al. 2024, arXiv 2410.12949, equal-budget protocol).
            threshold: every one with |score| of at least this.
            kinds: mlp, attn, head; default all that were scored.
            roles: token roles to look at; default all.

        Raises:
            WorkbenchError: not exactly one of k, parameters and threshold, or nothing is left.
        """
        if sum(x is not None for x in (k, parameters, threshold)) != 1:
            raise WorkbenchError("Choose by exactly one of k, parameters and threshold.")
        ranked = self.ranking(kinds=kinds, roles=roles, merge_heads=parameters is not None)
        if k is not None:
            ranked = ranked[: max(k, 0)]
        elif threshold is not None:
            ranked = [(c, s) for c, s in ranked if abs(s) >= threshold]
        elif parameters is not None:
            ranked = self._within(ranked, parameters)
        if not ranked:
            raise WorkbenchError(
                "No component passes this choice; lower the threshold or raise the budget."
            )
        return ComponentSet(tuple(c for c, _ in ranked))

    def _within(
        self, ranked: Sequence[tuple[Component, float]], budget: float
    ) -> list[tuple[Component, float]]:
        limit = budget * sum(self.sizes.values()) if budget < 1 else budget
        out, used = [], 0
        for component, score in ranked:
            if used >= limit:
                break
            out.append((component, score))
            used += self.sizes[str(component)]
        return out

    def save(self, folder: str | Path) -> None:
        """Write table.csv and localization.json into an existing folder."""
        folder = Path(folder)
        self.table.to_csv(folder / "table.csv", index=False)
        meta = {
            "method": self.method,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "n_facts": self.n_facts,
            "left_out": list(self.left_out),
            "sizes": dict(self.sizes),
            "config": dict(self.config),
        }
        (folder / "localization.json").write_text(json.dumps(meta, indent=1))

    @staticmethod
    def load(folder: str | Path) -> Localization:
        """Read what `save` wrote.

        Raises:
            WorkbenchError: the folder does not hold a whole localization.
        """
        folder = Path(folder)
        try:
            meta = json.loads((folder / "localization.json").read_text())
            table = pd.read_csv(folder / "table.csv", keep_default_na=False)
            return Localization(table=table, **{**meta, "left_out": tuple(meta["left_out"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise WorkbenchError(f"{folder} holds no readable localization ({error}).") from error


def summarise(
    method: str,
    effects: Sequence[FactEffects],
    structure: Structure,
    *,
    left_out: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    tokens: Sequence[str] | None = None,
) -> Localization:
    """Average the effects of several facts by token role; keep positions if there is one fact.

    Args:
        method: registry name of the localizer.
        effects: one entry per fact.
        structure: the model's structure, for component sizes.
        left_out: prompts of facts that were not used.
        config: what is needed to run it again.
        tokens: the tokens' texts, where there is one fact.

    Raises:
        WorkbenchError: there is no fact, or corruption did not change the metric.
    """
    if not effects:
        raise WorkbenchError("There is no fact to localize; give at least one the model knows.")
    clean = float(np.mean([e.clean for e in effects]))
    corrupted = float(np.mean([float(e.corrupted.mean()) for e in effects]))
    scale = clean - corrupted
    if abs(scale) < 1e-9:
        raise WorkbenchError(
            "Corrupting the subject does not change the answer, so there is no effect to locate; "
            "check that the subject is what the answer depends on, or use stronger noise."
        )
    single = len(effects) == 1
    rows = _position_rows(effects[0], scale, tokens) if single else _role_rows(effects, scale)
    sizes = {str(c): structure.n_parameters(ComponentSet((c,))) for c in structure.everything}
    return Localization(
        method,
        pd.DataFrame(rows, columns=list(COLUMNS)),
        clean,
        corrupted,
        len(effects),
        tuple(left_out),
        sizes,
        config or {},
    )


def _position_rows(
    effect: FactEffects, scale: float, tokens: Sequence[str] | None
) -> list[tuple[Any, ...]]:
    roles = effect.prompt.roles
    names = tokens or [""] * len(roles)
    rows = []
    for cell, values in effect.cells.items():
        mean, error, n = _over_samples(values, scale)
        if effect.picture is not None:
            whole, spread, _ = _over_samples(effect.picture[cell], scale)
            rows.append((*cell, PICTURE, -1, PICTURE, float(whole), float(spread), n))
        rows += [
            (*cell, role, i, names[i], float(mean[i]), float(error[i]), n)
            for i, role in enumerate(roles)
        ]
    return rows


def _over_samples(values: Tensor, scale: float) -> tuple[Tensor, Tensor, int]:
    """Return mean and standard error over samples, as shares of the effect, and their number."""
    mean, n = values.double().mean(0) / scale, len(values)
    return mean, values.double().std(0) / n**0.5 / abs(scale) if n > 1 else mean * 0, n


def _role_rows(effects: Sequence[FactEffects], scale: float) -> list[tuple[Any, ...]]:
    rows = []
    for kind, layer, index in effects[0].cells:
        per_role: dict[Role, list[float]] = {}
        for effect in effects:
            by_position = effect.cells[kind, layer, index].double().mean(0)
            for role in dict.fromkeys(effect.prompt.roles):
                at = [i for i, r in enumerate(effect.prompt.roles) if r == role]
                per_role.setdefault(role, []).append(float(by_position[at].mean()))
            if effect.picture is not None:
                whole = effect.picture[kind, layer, index].double().mean()
                per_role.setdefault(PICTURE, []).append(float(whole))
        for role in (r for r in ROLES if r in per_role):
            values = np.array(per_role[role]) / scale
            error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
            mean = float(values.mean())
            rows.append((kind, layer, index, role, -1, "", mean, error, len(values)))
    return rows
