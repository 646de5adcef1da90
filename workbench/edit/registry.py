"""The edit methods: one file and one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.edit.alphaedit import AlphaEditConfig, alphaedit
from workbench.edit.auto import auto_stamp
from workbench.edit.edit import Edit
from workbench.edit.lunar import LunarConfig, lunar
from workbench.edit.memit import MemitConfig, memit
from workbench.edit.rome import RomeConfig, rome
from workbench.edit.stamp import Sites, StampConfig, stamp
from workbench.edit.train.asu import AsuConfig, asu
from workbench.edit.train.context_distillation import (
    ContextDistillationConfig,
    context_distillation,
)
from workbench.edit.train.flat import FlatConfig, flat
from workbench.edit.train.grad_diff import (
    GradAscentConfig,
    GradDiffConfig,
    KlMinConfig,
    ga,
    grad_diff,
    kl_min,
)
from workbench.edit.train.harry_potter import HarryPotterConfig, harry_potter
from workbench.edit.train.idk import DpoConfig, IdkConfig, dpo, idk
from workbench.edit.train.loop import union
from workbench.edit.train.mechanistic import MechanisticConfig, mechanistic
from workbench.edit.train.npo import NpoConfig, SamNpoConfig, npo, sam_npo
from workbench.edit.train.rep_select import RepSelectConfig, rep_select
from workbench.edit.train.rmu import RmuConfig, rmu
from workbench.edit.train.simnpo import SimNpoConfig, simnpo
from workbench.edit.train.task_vector import TaskVectorConfig, task_vector
from workbench.edit.train.undial import UndialConfig, undial
from workbench.edit.train.vgid import VgidConfig, vgid
from workbench.edit.train.wga import WgaConfig, wga
from workbench.errors import unknown_name
from workbench.facts.fact import Request
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.progress import SILENT, Progress
from workbench.settings import configured, explained


@dataclass(frozen=True)
class Method:
    """A way to edit.

    Attributes:
        run: called with model, request, components and a config; keyword `progress`.
        config: dataclass of its settings.
        summary: what it does, in one line.
        by_site: it edits each site's components in its own way; others edit all of them alike.
    """

    run: Callable[..., Edit]
    config: type[Any]
    summary: str
    by_site: bool = False

    def taken(self, components: ComponentSet | Sites) -> ComponentSet | Sites:
        """Return components in the form that the method takes."""
        return components if self.by_site else union(components)


METHODS: dict[str, Method] = {
    "stamp": Method(stamp, StampConfig, "closed-form redirection of forget activations", True),
    "stamp-auto": Method(
        auto_stamp, StampConfig, "STAMP with weight and strength searched for", True
    ),
    "lunar": Method(lunar, LunarConfig, "one matrix redirected to the refusal direction"),
    "rome": Method(rome, RomeConfig, "rank-one insertion of a new answer, fact by fact"),
    "memit": Method(memit, MemitConfig, "new answers for all facts, spread over several MLPs"),
    "alphaedit": Method(alphaedit, AlphaEditConfig, "MEMIT in the null space of what is kept"),
    "mechanistic": Method(
        mechanistic, MechanisticConfig, "mechanistic unlearning: trains the chosen components only"
    ),
    "ga": Method(ga, GradAscentConfig, "gradient ascent on the answers to forget"),
    "wga": Method(wga, WgaConfig, "gradient ascent, weighted by what is still known"),
    "grad-diff": Method(grad_diff, GradDiffConfig, "gradient ascent, and descent on what is kept"),
    "kl-min": Method(kl_min, KlMinConfig, "gradient ascent, staying near the base by KL"),
    "npo": Method(npo, NpoConfig, "negative preference optimisation"),
    "sam-npo": Method(sam_npo, SamNpoConfig, "NPO made flat against relearning"),
    "simnpo": Method(simnpo, SimNpoConfig, "NPO without a reference, by mean log-probability"),
    "idk": Method(idk, IdkConfig, "fine-tuning on refusals"),
    "dpo": Method(dpo, DpoConfig, "preference optimisation: refusals before answers"),
    "undial": Method(undial, UndialConfig, "self-distillation with lowered answer logits"),
    "flat": Method(flat, FlatConfig, "f-divergence between refusals and answers"),
    "asu": Method(asu, AsuConfig, "distillation from a model with smoothed attention"),
    "rmu": Method(rmu, RmuConfig, "hidden states steered to a random direction"),
    "task-vector": Method(task_vector, TaskVectorConfig, "subtracts what learning the facts adds"),
    "harry-potter": Method(
        harry_potter, HarryPotterConfig, "fine-tuning on generic answers (Who's Harry Potter)"
    ),
    "context-distillation": Method(
        context_distillation,
        ContextDistillationConfig,
        "distillation from the model told in its context to refuse",
    ),
    "vgid": Method(vgid, VgidConfig, "distillation from the model shown noise and told to refuse"),
    "rep-select": Method(rep_select, RepSelectConfig, "forget gradient without its common part"),
}


def method_named(name: str) -> Method:
    """Look a method up.

    Raises:
        WorkbenchError: there is none of this name.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def settings_help(name: str) -> dict[str, str]:
    """Return what each setting of a method means, from its config's documentation."""
    return explained(method_named(name).config)


def make_config(name: str, settings: Mapping[str, Any]) -> Any:
    """Build a method's config from settings.

    Raises:
        WorkbenchError: unknown method or setting, or a value of the wrong type.
    """
    return configured(name, method_named(name).config, settings)


def edit(
    name: str,
    model: Model,
    request: Request,
    components: ComponentSet | Sites,
    settings: Mapping[str, Any] | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Run a method by its name.

    Raises:
        WorkbenchError: unknown method or setting, or what the method itself refuses.
    """
    method = method_named(name)
    return method.run(
        model,
        request,
        method.taken(components),
        make_config(name, settings or {}),
        progress=progress,
    )
