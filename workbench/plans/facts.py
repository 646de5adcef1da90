"""Which facts an operation looks at: shared by every plan that looks at some."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import FactSet, Request
from workbench.facts.readers import read_facts
from workbench.job_inputs import draw, request_for, to_trace
from workbench.models.model import Model
from workbench.plans.plan import Plan
from workbench.progress import SILENT, Progress


@dataclass(frozen=True)
class FactsPlan(Plan):
    """A choice of facts.

    Attributes:
        model: demo, smollm2, a folder or a hub id.
        request: a request whose forget facts are looked at; or
        facts: a fact file.
        relation: only facts of this relation.
        subject: only facts about this subject.
        most: most facts to look at, drawn by the seed.
        seed: of every draw.
    """

    request: str = ""
    facts: str = ""
    relation: str | None = None
    subject: str | None = None
    most: int = 48
    seed: int = 0

    def chosen(
        self, model: Model, request: Request | None = None, progress: Progress = SILENT
    ) -> FactSet:
        """Return the facts to look at; the request is read unless it is given.

        Raises:
            WorkbenchError: none or both of request and facts, or no such relation or subject.
        """
        if bool(self.facts) == bool(self.request):
            raise WorkbenchError(
                "Say which facts to localize: either --facts FILE or --request NAME."
            )
        if self.facts:
            found = read_facts(self.facts)
        else:
            request = request or request_for(model, self.request, seed=self.seed, progress=progress)
            found = to_trace(model, self.request, request.forget, seed=self.seed, progress=progress)
        for kind, wanted, known in (
            ("relation", self.relation, found.relations),
            ("subject", self.subject, found.subjects),
        ):
            if wanted is not None and wanted not in known:
                raise unknown_name(kind, wanted, known)
        if self.relation is not None:
            found = found.where(lambda fact: fact.relation == self.relation)
        if self.subject is not None:
            found = found.about([self.subject])
        return draw(found, self.most, self.seed)
