"""Where the forget activations are sent: the reference rows of each target rule.

    counterpart  the same wording about subjects the model does not know, averaged: where it refuses
                 by itself
    relation     the same, but only the part that the relations to forget read (`relation_reading`)
    teacher      the same prompt, shown four refusals in context
    noise        the same prompt, its picture destroyed, averaged over the wording's pictures
                 (Chen et al. 2026, arXiv 2606.00105, the visual half of its teacher); `counterpart`
                 where no picture is shown
    mean         one vector: mean of refused prompts' outputs minus mean of the forget outputs
                 (Rachapudi et al. 2026, arXiv 2604.12820)
    subspace     the projection of each output on the top-k subspace of refused prompts' outputs
    foil         the same wording about a subject whose answer is the foil (behaviour `Replace`)
    logits       none: the refusal or foil is to lead the logits (`readout`)

counterpart, relation, teacher, noise and foil ask the residual stream after the layer to be the
reference's; mean and subspace ask it of the matrix's own output.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.edit.buffer import Site, site_rows
from workbench.edit.forms import form_of, mention, mentions_by_kind, prompts_of, shared_beginnings
from workbench.edit.rows import Rows
from workbench.edit.self_made import SLOT
from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet, Replace, Request
from workbench.models.model import Model
from workbench.models.pictured import joined, pictures_of
from workbench.models.text import encode, generate

TargetName = Literal[
    "counterpart", "relation", "teacher", "noise", "mean", "subspace", "foil", "logits"
]
TARGETS: tuple[TargetName, ...] = get_args(TargetName)
_ABOUT_OTHERS = ("counterpart", "relation", "noise")  # the last where no picture is shown
_SHOTS = 4  # refusals shown to the teacher


@dataclass(frozen=True, eq=False)
class Task:
    """What to move and where to.

    Attributes:
        forget: sequences and positions whose keys are moved.
        group: group of each forget position.
        reference: sequences and positions whose activations say where to.
        reference_group: group of each reference position.
        whose: the subject of each forget position, and which of its sequence's positions it is.
    """

    forget: Rows
    group: Int[Tensor, " n_forget"]
    reference: Rows
    reference_group: Int[Tensor, " n_reference"]
    whose: tuple[tuple[str, int], ...] = ()

    def reference_means(
        self, values: Float[Tensor, "n_reference d"]
    ) -> Float[Tensor, "n_forget d"]:
        """Average reference activations over each group; return them per forget position."""
        n = int(max(self.group.max(), self.reference_group.max())) + 1
        sums = values.new_zeros(n, values.shape[1]).index_add_(0, self.reference_group, values)
        counts = values.new_zeros(n).index_add_(
            0, self.reference_group, torch.ones_like(values[:, 0])
        )
        return (sums / counts.clamp_min(1)[:, None])[self.group]


@dataclass
class _Builder:
    """Collects rows; positions of one group are compared with each other."""

    groups: dict[Hashable, int]
    sequences: list[tuple[int, ...]]
    picks: list[tuple[int, ...]]
    group: list[int]
    whose: list[tuple[str, int]]
    seen: set[Hashable]

    @staticmethod
    def new(groups: dict[Hashable, int]) -> _Builder:
        return _Builder(groups, [], [], [], [], set())

    def add(
        self, row: tuple[tuple[int, ...], tuple[int, ...]], key: Hashable, subject: str = ""
    ) -> None:
        """Add one sequence; its k-th position belongs to group (key, k). Repeats are dropped."""
        ids, picks = row
        if (ids, key) in self.seen:
            return
        self.seen.add((ids, key))
        self.sequences.append(ids)
        self.picks.append(picks)
        for k in range(len(picks)):
            self.group.append(self.groups.setdefault((key, k), len(self.groups)))
            self.whose.append((subject, k))

    def rows(self) -> tuple[Rows, Int[Tensor, " n"]]:
        return Rows(tuple(self.sequences), tuple(self.picks)), torch.tensor(self.group)


def refuses_unknown(model: Model, request: Request, *, most: int = 8) -> bool:
    """Whether the model by itself refuses what it does not know, in the request's words."""
    if isinstance(request.behaviour, Replace) or not request.unknown:
        return False
    refusal = request.behaviour.text.strip()
    answers = generate(model, [f.prompt for f in request.unknown][:most], max_new_tokens=12)
    return 2 * sum(a.strip().startswith(refusal) for a in answers) > len(answers)


def needed_sites(model: Model, request: Request) -> tuple[Site, ...]:
    """Return the sites that must be edited for a request's behaviour.

    Losing the fact where it is looked up is enough if the model then refuses by itself. If it would
    make an answer up, the answer site has to be taught to refuse as well. A foil can only be
    written where answers are read out.
    """
    if isinstance(request.behaviour, Replace):
        return ("answer",)
    return ("subject",) if refuses_unknown(model, request) else ("subject", "answer")


def target_for(model: Model, request: Request, site: Site) -> TargetName:
    """Return the target rule that goes with a request's behaviour at a site."""
    if isinstance(request.behaviour, Replace):
        return "logits"
    return "counterpart" if site == "subject" or refuses_unknown(model, request) else "teacher"


def build_task(
    model: Model,
    request: Request,
    site: Site,
    target: TargetName,
    *,
    counterparts: int,
    tokens: int = 1,
) -> Task:
    """Build forget and reference rows of a target rule.

    Raises:
        WorkbenchError: the request lacks what the rule needs.
    """
    replace = isinstance(request.behaviour, Replace)
    if target != "logits" and replace != (target == "foil"):
        want = "target 'logits' or 'foil'" if replace else "behaviour 'replace'"
        raise WorkbenchError(
            f"The target {target!r} does not go with this request's behaviour; use {want}."
        )
    if site == "answer" and target == "relation":
        raise WorkbenchError(
            "The target 'relation' is for the subject's tokens, where several relations are read; "
            "use the subject site."
        )
    if site == "subject" and (replace or target == "logits"):
        raise WorkbenchError(
            "At the subject's token there is no answer to write yet; use the answer site."
        )
    if target == "noise" and not any(pictures_of(p) for f in request.forget for p in prompts_of(f)):
        raise WorkbenchError(
            "The target 'noise' destroys pictures, and no fact to forget shows one; give facts an "
            "image, or use target 'counterpart'."
        )
    groups: dict[Hashable, int] = {}
    forget, reference = _Builder.new(groups), _Builder.new(groups)
    others = (request.retain + request.unknown).subjects
    shared = shared_beginnings(request.forget.subjects, others)
    referred: set[Hashable] = set()
    for fact in request.forget:
        for prompt in prompts_of(fact):
            key = _key(fact, prompt, site, target, model)
            answer = (fact.foil or "") if replace else request.behaviour.text  # type: ignore[union-attr]
            stands = mention(fact, prompt)
            ids, picks = site_rows(
                model, prompt, stands, site, answer, tokens, shared[fact.subject]
            )
            if target == "logits":  # every token of the answer, and nothing behind it
                forget.add((ids, picks[:-1]), key)
                continue
            forget.add((ids, picks), key, fact.subject)
            destroyed = target == "noise" and pictures_of(stands)
            if target in _ABOUT_OTHERS and not destroyed and key in referred:
                continue  # the same counterparts again, whoever is forgotten
            referred.add(key)
            for other in _references(
                model,
                request,
                fact,
                prompt,
                site,
                target,
                counterparts,
                tokens,
                shared[fact.subject],
            ):
                reference.add(other, key)
    rows, group = forget.rows()
    if target == "logits":
        return Task(rows, group, Rows((), ()), group[:0])
    references, reference_group = reference.rows()
    missing = set(group.tolist()) - set(reference_group.tolist())
    if missing:
        raise WorkbenchError(_what_is_missing(target))
    return Task(rows, group, references, reference_group, tuple(forget.whose))


def _key(fact: Fact, prompt: str, site: Site, target: TargetName, model: Model) -> Hashable:
    if target in ("mean", "subspace"):
        return "all"
    if target == "teacher":
        return (prompt,)
    form = form_of(fact, prompt)
    if target == "foil":
        return (form, fact.foil)
    # What stands behind the subject cannot matter at it: wordings that begin alike are one.
    return (form.shown, form.text.split(SLOT)[0]) if site == "subject" else form


def _references(
    model: Model,
    request: Request,
    fact: Fact,
    prompt: str,
    site: Site,
    target: TargetName,
    counterparts: int,
    tokens: int,
    shared: int,
) -> Sequence[tuple[tuple[int, ...], tuple[int, ...]]]:
    form = form_of(fact, prompt)
    if target == "foil":
        pool = [f for f in (*request.retain, *request.forget) if f.relation == fact.relation]
        same = [f for f in pool if f.target == fact.foil and f.subject != fact.subject]
        names = mentions_by_kind(FactSet(tuple(same))).get(form.kind, ())[:counterparts]
        return [site_rows(model, form.about(n), n, site, fact.foil or "") for n in names]
    refusal = request.behaviour.text  # type: ignore[union-attr]
    if target == "noise" and form.shown:
        return [site_rows(model, prompt, mention(fact, prompt), site, refusal, tokens, shared)]
    if target == "teacher":
        end = turn_end(model)
        shots = [(u.prompt, f"{refusal}{end}") for u in list(request.unknown)[:_SHOTS]]
        shown = joined(part for shot in shots for part in shot)
        stands = mention(fact, prompt)
        ids, picks = site_rows(model, prompt, stands, site, refusal, tokens, shared)
        lead = tuple(encode(model, shown, bare=True))
        return [((*lead, *ids), tuple(p + len(lead) for p in picks))] if lead else []
    names = mentions_by_kind(request.unknown).get(form.kind, ())[:counterparts]
    return [site_rows(model, form.about(n), n, site, refusal, tokens) for n in names]


def turn_end(model: Model) -> str:
    """Return what ends an answer in a conversation."""
    eos = model.tokenizer.eos_token or ""
    return f"{eos}\n" if model.tokenizer.chat_template else "\n"


def _what_is_missing(target: TargetName) -> str:
    if target == "foil":
        return (
            "No other fact of the request has the foil as its answer, so there is nothing to copy "
            "it from; add such a fact to retain, or use target 'logits'."
        )
    return (
        f"The target {target!r} needs prompts about subjects the model does not know, for every "
        "relation that is forgotten; give the request an `unknown` set."
    )


def output_change(
    target: TargetName,
    outputs: Float[Tensor, "n d_out"],
    group: Int[Tensor, " n"],
    reference: Float[Tensor, "m d_out"],
    reference_group: Int[Tensor, " m"],
    *,
    dimensions: int,
) -> Float[Tensor, "n d_out"]:
    """Return the asked change of the matrix's outputs for the targets `mean` and `subspace`."""
    change = torch.empty_like(outputs)
    for g in group.unique().tolist():
        own, other = group == g, reference_group == g
        y, y_ref = outputs[own], reference[other]
        if target == "mean":
            change[own] = y_ref.mean(0) - y.mean(0)
            continue
        centre = y_ref.mean(0)
        k = min(dimensions, len(y_ref) - 1)
        _, _, directions = torch.linalg.svd(y_ref - centre, full_matrices=False)
        basis = directions[: max(k, 0)]
        change[own] = centre + (y - centre) @ basis.T @ basis - y
    return change
