"""ROME: insert one key-value pair a fact into one MLP's down projection.

For each fact in turn, the earlier ones already inserted:

    k*     mean over contexts of the down projection's input at the subject's last token
    v*     W k* + d, with d searched so that the model gives the new answer  (`value_vector`)
    W'     = W + d (C^-1 k*)^T / ((C^-1 k*)^T k*)          so that  W' k* = v*

C is the second moment of the matrix's keys (`covariance`): among all changes that store the pair,
this one changes the outputs of other keys least. The method edits one layer; of several chosen MLPs
the setting `layer` takes one.

Source: Meng et al. 2022 (arXiv 2202.05262), eq. 2-4. Published settings are for GPT-J; the
defaults here were tried on the bundled model. That the new answer is a refusal, and the several
wordings among the contexts, are this project's.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.edit.contexts import at_place, build_contexts, mlp_matrices, prefixes
from workbench.edit.covariance import Covariance, usual_keys
from workbench.edit.edit import Edit, finish_by
from workbench.edit.stream import Stream
from workbench.edit.value_vector import ValueConfig, find_vectors
from workbench.errors import unknown_name
from workbench.facts.fact import FactSet, Request
from workbench.models.components import ComponentSet
from workbench.models.delta import LowRank
from workbench.models.model import Model, replace_parameter
from workbench.progress import SILENT, Progress

Which = Literal["first", "middle", "last"]


@dataclass(frozen=True)
class RomeConfig(ValueConfig):
    """Settings of one ROME edit.

    Attributes:
        wordings: most prompts of each fact that are contexts.
        prefixes: texts the model makes up that its first prompt is put behind.
        steps: most gradient steps of the search for a value vector.
        lr: step size of Adam.
        stop: a fact's -log p(new answer), in nats, below which its vector is good enough.
        kl: weight of the divergence at the essence prompt "{subject} is a".
        decay: weight of the vector's size.
        clamp: largest size of the vector, in sizes of what it is added to.
        samples: keys for each input of the matrix that their covariance is taken from.
        kept: kept facts among them.
        ridge: added to the covariance's diagonal, in units of its mean.
        seed: seed of every draw.
        layer: which of several chosen MLPs is edited.
    """

    clamp: float = 4.0
    layer: Which = "last"

    def check(self) -> None:
        """Refuse settings that make no sense.

        Raises:
            WorkbenchError: with the first such setting.
        """
        super().check()
        if self.layer not in get_args(Which):
            raise unknown_name("layer", self.layer, get_args(Which))


def rome(
    model: Model,
    request: Request,
    components: ComponentSet,
    config: RomeConfig | None = None,
    *,
    progress: Progress = SILENT,
) -> Edit:
    """Edit one MLP so that the model gives the new answers.

    Args:
        model: the model to edit; it stays as it is.
        request: what to forget; what it keeps joins the covariance.
        components: MLPs.
        config: settings.
        progress: where to report; cancelling changes nothing.

    Raises:
        WorkbenchError: settings, components or request do not fit.
    """
    started = time.perf_counter()
    config = config or RomeConfig()
    config.check()
    groups = mlp_matrices(model, components, "ROME")
    group = at_place(groups, config.layer)
    writer = group.writer
    (usual,) = usual_keys(model, request, [group], config, progress).values()
    beginnings = prefixes(model, request, config.prefixes, seed=config.seed)
    edited, old = model.fork().hf, model.parameters[writer.parameter]
    weight = (old.T if writer.transposed else old).double()
    quiet = Progress(cancelled=progress.cancelled)
    lefts, rights, steps = [], [], []
    for fact in progress.track(request.forget, "inserting facts"):
        one = FactSet((fact,))
        contexts = build_contexts(model, request, one, beginnings, wordings=config.wordings)
        x, y, _ = Stream(model, contexts.lookups[0], [group.layer]).observe(edited, writer)
        key, size = x.double().mean(0), y.float().mean(0).norm()[None]
        found = find_vectors(
            model,
            edited,
            contexts,
            group.layer,
            writer.module,
            first=group.layer,
            size=size,
            config=config,
            progress=quiet,
        )
        left, right = rank_one(key, found.change[0].double(), usual)
        lefts.append(left)
        rights.append(right)
        new = weight + torch.stack(lefts, 1) @ torch.stack(rights)
        placed = (new.T if writer.transposed else new).to(old.dtype).contiguous()
        replace_parameter(edited, writer.parameter, placed)
        steps.append(
            {
                "layer": group.layer,
                "parameter": writer.parameter,
                "subject": fact.subject,
                "relation": fact.relation,
                "forget_keys": len(x),
                "retain_keys": usual.count,
                "asked": float(left.norm()),
                "loss": float(found.loss[0]),
                "probability": float(found.probability[0]),
                "retain_change": float(left.norm() * usual.length(right) / usual.length(weight)),
                "relative_norm": float(left.norm() * right.norm() / weight.norm()),
                "covariance_condition": usual.condition,
                "rank": 1,
            }
        )
    left, right = torch.stack(lefts, 1).to(old.dtype), torch.stack(rights).to(old.dtype)
    update = LowRank(right.T.contiguous(), left.T.contiguous())
    if not writer.transposed:
        update = LowRank(left, right)
    return finish_by(
        "rome",
        model,
        request,
        components,
        {writer.parameter: update},
        config,
        steps=pd.DataFrame(steps),
        started=started,
    )


def rank_one(
    key: Float[Tensor, " d_in"], change: Float[Tensor, " d_out"], usual: Covariance
) -> tuple[Float[Tensor, " d_out"], Float[Tensor, " d_in"]]:
    """Return left and right of the update that adds `change` to the output of `key`.

    Source: Meng et al. 2022 (arXiv 2202.05262), eq. 2.
    """
    right = usual.whiten(key)
    return change, right / (right @ key)
