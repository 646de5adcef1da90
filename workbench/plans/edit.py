"""An edit as a plan and as a recorded run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from workbench.edit.buffer import Site
from workbench.edit.edit import Edit
from workbench.edit.registry import make_config, method_named
from workbench.edit.stamp import SITES, Sites, StampConfig
from workbench.errors import WorkbenchError, unknown_name
from workbench.facts.fact import Request
from workbench.job_inputs import job_inputs, job_settings, request_for
from workbench.job_trace import choose_sites, trace_before
from workbench.models.components import ComponentSet
from workbench.models.load import load
from workbench.models.model import Model
from workbench.plans.plan import Plan, Recorded, apply_deltas, load_deltas, options
from workbench.progress import SILENT, Progress
from workbench.store.store import RunStore


@dataclass(frozen=True)
class EditPlan(Plan):
    """Settings of an edit. Say what to edit in one way: components, sites, or auto.

    Attributes:
        model: demo, smollm2, a folder or a hub id.
        request: what to forget and keep.
        components: what to edit, such as "mlp.1-3".
        subject: what to edit at the subject's tokens.
        answer: what to edit where the answer is read out.
        auto: choose the components by causal tracing, and what `settings` leaves out by the
            request, as the main job does.
        method: name of the edit method.
        settings: settings of the method that differ from its defaults; one that holds at one site
            only is written "answer.weight".
        deltas: delta files applied before.
        seed: of every draw.
    """

    KIND: ClassVar[str] = "edit"

    request: str = ""
    components: str = ""
    subject: str = ""
    answer: str = ""
    auto: bool = False
    method: str = "stamp"
    settings: Mapping[str, Any] = field(default_factory=dict)
    deltas: tuple[str, ...] = ()
    seed: int = 0

    def arguments(self) -> list[str]:
        """Return the command's words behind `workbench edit MODEL`."""
        return options(
            request=self.request,
            components=self.components,
            subject=self.subject,
            answer=self.answer,
            auto=self.auto,
            method=self.method if self.method != EditPlan.method else None,
            set_=[f"{k}={'none' if v is None else v}" for k, v in self.settings.items()],
            delta=self.deltas,
            seed=self.seed or None,
            out="edit.safetensors",
        )

    def config(self) -> Any:
        """Return the method's settings.

        Raises:
            WorkbenchError: unknown method or setting, or not exactly one way to say what to edit.
        """
        given = [x for x in (self.components, self.subject or self.answer, self.auto) if x]
        if len(given) != 1:
            raise WorkbenchError(
                "Say what to edit in one way: --components, --subject and --answer, or --auto."
            )
        plain = {k: v for k, v in self.settings.items() if "." not in k}
        return make_config(self.method, {"seed": self.seed, **plain})

    def per_site(self) -> dict[Site, dict[str, Any]]:
        """Return the settings that differ at one site.

        Raises:
            WorkbenchError: unknown site or setting.
        """
        out: dict[Site, dict[str, Any]] = {}
        for written, value in self.settings.items():
            site, dot, key = written.partition(".")
            if not dot:
                continue
            if site not in SITES:
                raise unknown_name("site", site, SITES)
            if key == "at":
                raise WorkbenchError(f"{written} makes no sense; give the site's own settings.")
            if not method_named(self.method).by_site:
                raise WorkbenchError(
                    f"{self.method} has no settings by site; write {key} instead of {written}."
                )
            typed = getattr(make_config(self.method, {key: value}), key)
            out.setdefault(site, {})[key] = typed
        return out

    def check(self) -> None:
        """Refuse settings that do not fit.

        Raises:
            WorkbenchError: with the first that does not.
        """
        self.config()
        self.per_site()

    def settled(self, request: Request) -> EditPlan:
        """Return the plan with the settings in it that the request decides."""
        if not self.auto:
            return self
        suggested = suggested_settings(self.request, request, method=self.method)
        return replace(self, settings={**suggested, **self.settings})

    def chosen(self, model: Model, progress: Progress = SILENT) -> ComponentSet | Sites:
        """Return the components to edit, by site where sites are given or found."""
        if self.components:
            return ComponentSet.parse(self.components)
        if self.auto:
            inputs = job_inputs(model, self.request, seed=self.seed, progress=progress)
            settings = job_settings(self.request, inputs.request, seed=self.seed)
            _, basis = trace_before(model, inputs, settings, progress)
            return dict(choose_sites(model, inputs.request, basis, settings))
        written: dict[Site, str] = {"subject": self.subject, "answer": self.answer}
        return {site: ComponentSet.parse(text) for site, text in written.items() if text}


def make_edit(
    plan: EditPlan, model: Model, request: Request, *, progress: Progress = SILENT
) -> Edit:
    """Make an edit of a model at hand with the plan's settings as they stand, and record nothing.

    Raises:
        WorkbenchError: the plan does not fit, or the edit cannot be made; no model is changed.
    """
    config, per_site = plan.config(), plan.per_site()
    method = method_named(plan.method)
    taken = method.taken(plan.chosen(model, progress))
    more = {"per_site": per_site} if per_site else {}
    return method.run(model, request, taken, config, progress=progress, **more)


def run_edit(
    plan: EditPlan,
    model: Model | None = None,
    request: Request | None = None,
    *,
    store: RunStore | None = None,
    progress: Progress = SILENT,
) -> Recorded[Edit]:
    """Make an edit and record the run.

    Args:
        plan: what to do.
        model: the plan's model with the plan's deltas, if it is at hand already.
        request: the plan's request, if it is loaded already.
        store: where to record; the user's own by default.
        progress: where to report.

    Raises:
        WorkbenchError: the plan does not fit, or the edit cannot be made; no model is changed.
    """
    plan.check()  # what is wrong with it is told before the long work
    if model is None:
        deltas = load_deltas(plan.deltas)  # a wrong path is told before the long work
        model = apply_deltas(load(plan.model, progress=progress), deltas)
    request = request or request_for(model, plan.request, seed=plan.seed, progress=progress)
    plan = plan.settled(request)
    store = store or RunStore.default()
    with store.start("edit", plan.to_json(), name=request.name, seed=plan.seed) as run:
        made = make_edit(plan, model, request, progress=progress)
        run.save_delta(made.delta)
        run.save_table("steps", made.steps)
        run.save_json("edit", made.summary())
    return Recorded(run.id, run.path, made)


def suggested_settings(
    name: str, request: Request | None = None, *, method: str = "stamp"
) -> dict[str, Any]:
    """Return the settings of the main job for a request, where they are not the defaults.

    They are STAMP's; for other methods there are none.

    Args:
        name: the request's name or file.
        request: the request; see `job_settings`.
        method: name in the registry.
    """
    if method_named(method).config is not StampConfig:
        return {}
    settings = job_settings(name, request)
    default = type(settings.stamp)()
    out = {
        f.name: value
        for f in fields(default)
        if (value := getattr(settings.stamp, f.name)) != getattr(default, f.name)
    }
    for site, more in settings.per_site.items():
        out |= {f"{site}.{key}": value for key, value in more.items()}
    return out
