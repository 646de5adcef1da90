"""The attacks: one file and one line each.

An attack is a function and the frozen dataclass of its settings, all with defaults and `seed` among
them:

    def quantization(model, request, config, *, base, progress=SILENT) -> tuple[Cell, ...]

It attacks `model`; `base` is the model before the edit, and may be `model` itself. Outcomes are
about facts of `request.forget` only, any of them as often as wanted. The cells depend on request,
settings and seed, so that base and oracle have the same ones. It writes to no model, raises
`WorkbenchError` where it cannot be done at all, and gives a cell without outcomes and with a note
where one setting cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.attack.answer_prefix import AnswerPrefixConfig, answer_prefix
from workbench.attack.attack import Cell
from workbench.attack.in_context import InContextConfig, in_context
from workbench.attack.logit_lens import LogitLensConfig, logit_lens
from workbench.attack.multiple_choice import MultipleChoiceConfig, multiple_choice
from workbench.attack.pictures import PicturesConfig, pictures
from workbench.attack.probe import ProbeConfig, probe
from workbench.attack.pruning import PruningConfig, pruning
from workbench.attack.quantization import QuantizationConfig, quantization
from workbench.attack.relearn import RelearnConfig, relearn
from workbench.attack.rephrased import RephrasedConfig, rephrased
from workbench.attack.sampling import SamplingConfig, sampling
from workbench.attack.soft_prompt import SoftPromptConfig, soft_prompt
from workbench.attack.unlearning_depth import UnlearningDepthConfig, unlearning_depth
from workbench.errors import unknown_name
from workbench.facts.fact import Request
from workbench.models.pictured import pictures_of
from workbench.settings import configured, explained


@dataclass(frozen=True)
class Attack:
    """A way to bring removed knowledge back.

    Attributes:
        run: called with model, request and a config; keywords `base` and `progress`.
        config: dataclass of its settings.
        summary: what it does, in one line.
        diagnostic: it brings knowledge of the base along, so it shows where the edit acts and not
            whether anybody without the base could undo it; never the headline.
        pictured: it is for facts that show pictures.
    """

    run: Callable[..., tuple[Cell, ...]]
    config: type[Any]
    summary: str
    diagnostic: bool = False
    pictured: bool = False


ATTACKS: dict[str, Attack] = {
    "rephrased": Attack(
        rephrased, RephrasedConfig, "other wordings, and sentences in front of the question"
    ),
    "multiple_choice": Attack(
        multiple_choice, MultipleChoiceConfig, "the answer has only to be likelier than others"
    ),
    "in_context": Attack(in_context, InContextConfig, "solved examples in front of the question"),
    "answer_prefix": Attack(
        answer_prefix, AnswerPrefixConfig, "the answer's beginning forced, refusals forbidden"
    ),
    "pictures": Attack(
        pictures, PicturesConfig, "other pictures of the same, and altered ones", pictured=True
    ),
    "sampling": Attack(sampling, SamplingConfig, "several answers drawn instead of the likeliest"),
    "quantization": Attack(
        quantization, QuantizationConfig, "weights rounded to fewer bits, as for deployment"
    ),
    "pruning": Attack(pruning, PruningConfig, "the smallest weights set to 0"),
    "logit_lens": Attack(
        logit_lens, LogitLensConfig, "the answer read off inner layers by the unembedding"
    ),
    "probe": Attack(probe, ProbeConfig, "the answer read off inner layers by trained linear maps"),
    "relearn": Attack(
        relearn, RelearnConfig, "trained on some of the facts, asked about the others"
    ),
    "soft_prompt": Attack(
        soft_prompt, SoftPromptConfig, "vectors trained on some of the facts, put before the others"
    ),
    "unlearning_depth": Attack(
        unlearning_depth,
        UnlearningDepthConfig,
        "the base's inner states put back, layer by layer",
        diagnostic=True,
    ),
}


def attacks_for(request: Request) -> tuple[str, ...]:
    """Return the attacks that there are for a request: on pictures only where some are shown."""
    shown = any(pictures_of(fact.prompt) for fact in request.forget)
    return tuple(name for name, attack in ATTACKS.items() if shown or not attack.pictured)


def attack_named(name: str) -> Attack:
    """Look an attack up.

    Raises:
        WorkbenchError: there is none of this name.
    """
    if name not in ATTACKS:
        raise unknown_name("attack", name, ATTACKS)
    return ATTACKS[name]


def settings_help(name: str) -> dict[str, str]:
    """Return what each setting of an attack means, from its config's documentation."""
    return explained(attack_named(name).config)


def make_config(name: str, settings: Mapping[str, Any]) -> Any:
    """Build an attack's config from settings.

    Raises:
        WorkbenchError: unknown attack or setting, or a value of the wrong type.
    """
    return configured(name, attack_named(name).config, settings)
