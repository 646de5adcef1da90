"""A chat model as a second surgeon: shown the draft of a plan, it may propose another way to do it.

RePAIR (arXiv 2604.12820) gives this role to a 7B model that writes code, which is run. Here its
answer is data. It may say where to edit and with which settings, at first and where that is too
weak or too rough; what is forgotten, what is kept, and the limits that protect it are not its to
say. Its proposal passes the checks of any plan. One that does not is sent back once, with the
sentence that says what is wrong; if the next is no better, the plan is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from workbench.edit.registry import METHODS
from workbench.errors import WorkbenchError
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.repair.chat_model import check_chat_model, go_on
from workbench.repair.plan import RepairPlan, make_plan

PROPOSED = ("sites", "settings", "stronger", "gentler")  # what a proposal may hold
_TASK = """\
You plan how the weights of a language model are edited so that it forgets one thing. You see the \
draft of a plan as a JSON record: "sites" (which components are edited at the subject's tokens and \
where the answer is read out), "settings" of the first try, "stronger" (settings to try next while \
too little is forgotten) and "gentler" (while too much else is lost). Answer with one JSON record \
of the same four keys: the draft as it is, or what you would change. Components are written like \
"mlp.2-4, attn.3"; settings are {names}.
"""
_BEGUN = "{"
_ROOM = 400  # tokens of an answer
_TRIES = 2


@dataclass(frozen=True)
class Proposed:
    """A plan as a chat model proposes it.

    Attributes:
        plan: the plan.
        tries: how often the model was asked.
    """

    plan: RepairPlan
    tries: int


@dataclass(frozen=True, eq=False)
class ChatSurgeon:
    """A chat model that plans.

    Attributes:
        model: a model with a chat template.
    """

    model: Model

    def __post_init__(self) -> None:
        """Refuse a model that cannot be talked to."""
        check_chat_model(self.model, "plan", "surgeon")

    def propose(self, draft: RepairPlan, base: Model) -> Proposed:
        """Return a plan with what the model would do.

        Args:
            draft: the surgeon's own plan.
            base: the patient before any repair, which has to have the components.

        Raises:
            WorkbenchError: neither proposal is a plan that could be carried out, or the model
                cannot read so much.
        """
        turns = [_TASK.format(names=_names(draft)) + _written(draft)]
        fault: WorkbenchError | None = None
        for tries in range(1, _TRIES + 1):
            answer = go_on(self.model, turns, _BEGUN, room=_ROOM)
            try:
                return Proposed(proposed(answer, draft, base), tries)
            except WorkbenchError as error:
                fault = error
                turns += [answer, f"{error} Answer with the whole JSON record again."]
        raise WorkbenchError(
            f"{self.model.name} proposed no plan that could be carried out, so nothing was planned "
            f"by it ({fault}); plan without it, or choose another model."
        )


def proposed(answer: str, draft: RepairPlan, base: Model) -> RepairPlan:
    """Return a draft with what an answer puts in its place, checked like any plan.

    Args:
        answer: what a model wrote; what stands behind its first JSON record is passed over.
        draft: the plan to change.
        base: the patient, which has to have the components.

    Raises:
        WorkbenchError: it is no record of what may be proposed, or does not fit.
    """
    data = _record(answer)
    others = [key for key in data if key not in PROPOSED]
    if others:
        raise WorkbenchError(
            f"A proposal may hold {', '.join(PROPOSED)}, and nothing else; leave {others[0]!r} out."
        )
    plan = make_plan({**draft.to_json(), **data}, "The proposal")
    for components in plan.sites.values():
        base.structure.check(ComponentSet.parse(components))
    return plan


def _record(answer: str) -> dict[str, Any]:
    """Return the first JSON record in an answer."""
    try:
        data, _ = json.JSONDecoder().raw_decode(answer[answer.index("{") :])
    except (ValueError, RecursionError):
        raise WorkbenchError("The proposal is no JSON record; write one.") from None
    return data


def _written(draft: RepairPlan) -> str:
    shown = {key: value for key, value in draft.to_json().items() if key in PROPOSED}
    return f"{draft.what}.\nDraft: {json.dumps(shown)}"


def _names(draft: RepairPlan) -> str:
    return ", ".join(sorted(METHODS[draft.method].config.__dataclass_fields__))
