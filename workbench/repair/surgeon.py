"""The surgeon: from what is asked to a plan, by what the patient really knows.

Source of the role: RePAIR (arXiv 2604.12820), where a 7B language model writes code for the edit.
Here it is a plan that is checked, and everything in it is read from the patient: what it knows is
asked of it, and where it recalls such things is traced once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.checked import Scalar
from workbench.edit.targets import needed_sites
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.facts.known import split_known
from workbench.facts.prompts import lead
from workbench.job_inputs import CAPITALS, bundled_world, draw, job_settings, to_trace
from workbench.job_trace import trace, traced_sites
from workbench.localize.sites import SiteName
from workbench.measure.answers import holds, words
from workbench.models.kept import kept
from workbench.models.model import Model
from workbench.plans.edit import suggested_settings
from workbench.progress import SILENT, Progress
from workbench.repair.beside import said_beside
from workbench.repair.catalog import Catalog
from workbench.repair.elicit import Known, elicit
from workbench.repair.intent import Intent
from workbench.repair.plan import CHECKS, Evidence, Limits, RepairPlan, make_plan
from workbench.repair.solving import Dose, one_of_many

_TRACED = 12  # facts that the sites are found by
_STRONGER = ({"weight": 100.0}, {"weight": 300.0}, {"weight": 300.0, "strength": 1.3})
# A whole subject that a short training brings back is sent further; that costs others least.
_FURTHER = ({"beyond": 0.3}, {"weight": 100.0}, {"weight": 300.0, "strength": 1.3})
_QUICK = {"confusable": 400, "named": 200, "context": 40, "generations": 8, "chats": 0}
_CAREFUL = {"confusable": 1500, "named": 400, "context": 100, "generations": 32}
_LARGE = {"confusable": 4500, "named": 1200}
_GENTLER = (_CAREFUL, _LARGE, {"confusable_weight": 10.0})
_WHOLE = {"ridge": 0.1}  # its several facts are forgotten as surely, and others keep more
_FEW = 2  # repairs in force, from which on a whole subject needs more than the quick buffer
_CHAT: dict[str, Scalar] = {  # of a chat model; its few prompts weigh the more
    **{"context": 20, "generations": 8, "answer.chats": 40},
    **{"answer.confusable": 100, "answer.named": 100, "answer.confusable_weight": 100.0},
    # A smaller margin is as good as forgotten until somebody trains on other facts.
    **{"answer.weight": 80.0, "answer.margin": 9.0, "answer.ridge": 1e-3},
}
_CHAT_STRONGER = ({"answer.weight": 150.0}, {"answer.weight": 300.0, "answer.margin": 12.0})
_CHAT_GENTLER = ({"answer.confusable": 160, "answer.named": 130, "answer.chats": 10},)
# It tells a capital in four wordings of six: of the few questions that it answers, a single one
# that is lost is 0.02.
_CHAT_LIMITS = Limits(kept=0.93)
_MANY: dict[str, Scalar] = {
    **{"chats": 0, "answer.confusable_weight": 40.0, "answer.weight": 250.0},
    **{"subject.target": "relation", "subject.spare": 8.0, "subject.confusable_weight": 3.0},
    "subject.tokens": 1,  # all of a hundred names would crowd the inputs of a matrix
}
_SOME = 10  # single things in force, up to which a small buffer keeps the rest
_FOR_SOME: dict[str, Scalar] = {
    **{"confusable": 1200, "named": 400, "context": 40, "generations": 8},
    "answer.confusable": 800,
}
_FOR_MANY: dict[str, Scalar] = {
    **{"confusable": 9000, "named": 1200, "context": 100, "generations": 32},
    "answer.confusable": 12000,
}
_MANY_STRONGER = ({"answer.weight": 500.0}, {"subject.damp": 2.0}, {"answer.weight": 1000.0})
_MANY_GENTLER = (
    {"subject.spare": 15.0, "answer.confusable_weight": 60.0},
    {"subject.confusable_weight": 6.0, "subject.spare": 30.0},
)


@dataclass(frozen=True, eq=False)
class Surgeon:
    """Writes repair plans for one patient.

    Attributes:
        base: the patient before any repair; where it recalls is traced in it.
        catalog: what is on file about its world.
        limits: what repairs must reach; None for those that go with the patient.
        seed: of every draw.
    """

    base: Model
    catalog: Catalog
    limits: Limits | None = None
    seed: int = 0

    def plan(
        self,
        intent: Intent,
        patient: Model,
        *,
        said: str = "",
        others: Sequence[Dose] = (),
        progress: Progress = SILENT,
    ) -> RepairPlan:
        """Write a plan for one intent.

        Args:
            intent: what is asked for.
            patient: the model as it is now, with the repairs so far.
            said: the user's words.
            others: the repairs in force.
            progress: where to report.

        Raises:
            WorkbenchError: it is not clear whom or what is meant, or there is nothing to repair;
                the sentence asks back.
        """
        subject = self._subject(intent)
        possible = self.catalog.relations_of(subject)
        facts = [self.catalog.asked_about(subject, r) for r in possible]
        known = elicit(patient, facts, self.catalog.refusal, progress=progress)
        if not known:
            raise WorkbenchError(
                f"The model knows nothing about {subject} that is on file, so there is nothing to "
                "repair; it was asked about "
                f"{_listed(possible)}."
            )
        meant = self._meant(intent, subject, known)
        if intent.action == "correct":
            meant = (self._corrected(meant, intent),)
        target = FactSet(tuple(k.fact for k in meant))
        request = self.catalog.request(target, replaced=intent.action == "correct")
        whole = intent.action == "forget" and len(meant) == len(known) > 1
        many = intent.action == "forget" and not whole and one_of_many(others)
        many = many and set(possible) <= set(request.unknown.relations)
        many = many and self._name != CAPITALS  # what one relation reads was not tried there
        sites = self._sites(request, whole, many, progress)
        many = many and "subject" in sites
        own, beside = request.retain.about([subject]), FactSet()
        if self.catalog.wider and not whole:
            beside = said_beside(self.base, self.catalog.wider, target, self.catalog.refusal)
        data = {
            "model": self.base.name,
            "fingerprint": self.base.fingerprint,
            "said": said or intent.words,
            "action": intent.action,
            "subject": subject,
            "facts": [k.fact.to_json() for k in meant],
            "evidence": [
                Evidence(
                    relation=k.fact.relation,
                    answer=k.fact.target.strip(),
                    agreed=k.agreed,
                    asked=k.asked,
                )
                for k in meant
            ],
            "keep": {
                "about the subject": len(own) + len(beside),
                "used by the edit": len(request.retain) - len(own),
                "held back": len(request.evaluate),
            },
            "sites": sites,
            **self._settings(len(others), many=many, whole=whole),
            "limits": self.limits or (_CHAT_LIMITS if self._name == CAPITALS else Limits()),
            "checks": CHECKS,
            "seed": self.seed,
        }
        return make_plan(data)

    def _subject(self, intent: Intent) -> str:
        """Return whom the intent is about."""
        if not words(intent.subject) and not intent.subject.strip():
            raise WorkbenchError("It is not said whom this is about; name the person or the thing.")
        found = self.catalog.whom(intent.subject)
        if found is None and intent.subject.lower() in ("it", "she", "he", "they", "this", "that"):
            raise WorkbenchError(f"It is not clear who {intent.subject!r} is; write the name.")
        return found or intent.subject

    def _meant(self, intent: Intent, subject: str, known: Sequence[Known]) -> tuple[Known, ...]:
        """Return what is meant of all that the patient knows about a subject."""
        relations = [k.fact.relation for k in known]
        if not intent.what and intent.action == "forget":
            return tuple(known)
        told = [k for k in known if holds(intent.about, k.fact.target)]
        fits = self.catalog.speaks_of(intent.what, self.catalog.relations_of(subject))
        if len(told) == 1 and (not fits or told[0].fact.relation in fits):
            return (told[0],)
        if len(fits) > 1:
            raise WorkbenchError(
                f"About {subject}, {intent.what!r} may be {_listed(fits, 'or')}; say which."
            )
        meant = tuple(k for k in known if k.fact.relation in fits)
        if not meant:
            raise WorkbenchError(
                f"The model knows nothing about {subject} that {intent.what!r} would be; it knows "
                f"{_listed(relations)}."
            )
        return meant

    def _corrected(self, meant: Sequence[Known], intent: Intent) -> Known:
        """Return what is meant with what shall be right."""
        if not intent.replacement.strip():
            raise WorkbenchError(
                f"It is not said what shall be right about {intent.subject}; write it."
            )
        if len(meant) > 1:
            listed = _listed([k.fact.relation for k in meant], "or")
            raise WorkbenchError(f"Which of it is wrong about {intent.subject}: {listed}?")
        (one,) = meant
        if holds(one.fact.target, intent.replacement):
            raise WorkbenchError(
                f"The model says {intent.replacement} already, so there is nothing to correct."
            )
        target = one.fact.target
        right = lead(target) + intent.replacement.strip()
        answers = one.fact.extra.get("answer")
        if answers:  # a sentence that holds the answer stays a sentence
            name = next((a for a in answers if a in target), "")
            right = target.replace(name, intent.replacement.strip()) if name else right
        extra = {k: v for k, v in one.fact.extra.items() if k != "answer"}
        return replace(one, fact=replace(one.fact, foil=right, extra=extra))

    def _sites(
        self, request: Request, whole: bool, many: bool, progress: Progress
    ) -> dict[SiteName, str]:
        """Choose where to edit: all of a subject where it is looked up, one thing where it is said.

        At the subject's tokens nothing is asked yet, so what is lost there is lost for every
        question about it. One thing of many goes at both.
        """
        found = self._traced(progress)
        if whole:
            wanted = needed_sites(self.base, request)
        else:
            wanted = ("subject", "answer") if many else ("answer",)
        return {site: found[site] for site in wanted if site in found} or found

    def _traced(self, progress: Progress) -> dict[SiteName, str]:
        """Trace where the base recalls what is on file; it is done once for a model, and kept."""
        settings = job_settings(self._name, seed=self.seed)
        pool = draw(self.catalog.retain, 4 * _TRACED, self.seed)
        inputs = [pool.fingerprint, settings.window, settings.first, settings.most, self.seed]

        def make() -> dict[SiteName, str]:
            facts = to_trace(self.base, self._name, pool, seed=self.seed, progress=progress)
            facts = draw(split_known(self.base, facts).require(), _TRACED, self.seed)
            found = traced_sites(trace(self.base, facts, settings, progress), settings)
            return {site: str(components) for site, components in found.items()}

        return kept(self.base, "sites", inputs, make)

    @property
    def _name(self) -> str:
        """The kind of request whose settings go with the patient."""
        if bundled_world(self.base) or not self.base.tokenizer.chat_template:
            return "repair"
        return CAPITALS

    def _settings(self, others: int, *, many: bool, whole: bool) -> dict[str, Any]:
        """Return the settings of the first try, and what is tried next.

        The first buffer is a small one, for a few repairs need no more.

        Args:
            others: how many repairs are in force.
            many: whether it is one of many.
            whole: whether a whole subject is to be forgotten.
        """
        own = {k: v for k, v in suggested_settings(self._name).items() if v is not None}
        if many and others >= _SOME:
            steps = ({**_MANY, **_FOR_MANY}, _MANY_STRONGER, _MANY_GENTLER)
        elif many:
            gentler = (*_MANY_GENTLER, _FOR_MANY)
            steps = ({**_MANY, **_FOR_SOME}, _MANY_STRONGER, gentler)
        elif own:
            steps = ({**own, **_CHAT}, _CHAT_STRONGER, _CHAT_GENTLER)
        else:
            stronger = _FURTHER if whole else _STRONGER
            careful = whole and others >= _FEW
            first = {**_QUICK, **(_CAREFUL if careful else {}), **(_WHOLE if whole else {})}
            steps = (first, stronger, _GENTLER[careful:])
        return dict(zip(("settings", "stronger", "gentler"), steps, strict=True))


def _listed(names: Sequence[str], joint: str = "and") -> str:
    *first, last = dict.fromkeys(names)
    return f"{', '.join(first)} {joint} {last}" if first else last
