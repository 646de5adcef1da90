"""Exact patching in both directions against one bridge pass per cell, and by hand."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.localize.naive import known_fact, naive_cells, one_pair
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet
from workbench.localize.activation_patching import activation_patching, cell_variants
from workbench.localize.cone import patch_effects
from workbench.localize.corruption import Noise
from workbench.localize.metrics import logit_difference
from workbench.models.model import Model, share_parameters

ALL = ("resid", "mlp", "attn", "head")


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_equals_one_bridge_pass_per_cell(family_model: Model, direction: str) -> None:
    pair = one_pair(family_model)
    kinds = ALL if direction == "denoising" else ("resid", "head")
    variants = cell_variants(family_model, kinds)
    effects = patch_effects(family_model, [pair], variants, logit_difference, direction=direction)[
        0
    ]
    some = variants if len(variants) <= 12 else variants[::2]
    wanted = naive_cells(family_model, pair, some, direction == "denoising")
    scale = max(float(v.abs().max()) for v in wanted.values())
    for cell, values in wanted.items():
        error = float((effects.cells[cell] - values).abs().max())
        assert error <= 1e-6 * max(1.0, scale) * 5, (cell, error, scale)


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_the_whole_effect_is_one(tiny: Model, direction: str) -> None:
    result = activation_patching(
        tiny,
        FactSet((known_fact(tiny),)),
        corruption=Noise(samples=3, multiple=1.0),
        direction=direction,
        kinds=("resid",),
    )
    grid = result.grid("resid")
    assert float(grid.iloc[-1, -1]) == pytest.approx(1.0, abs=1e-4)
    assert result.config["metric"] == "logit_difference"
    assert result.config["direction"] == direction


def test_by_hand_where_layers_only_add(tiny: Model) -> None:
    """Without attention between positions, and with a linear readout, effects are dot products.

    Attention's output matrices are zeroed, so only the last position is read, from the embedding
    and the MLPs; patching the last MLP there changes the stream by the difference of its outputs.
    """
    hf = share_parameters(tiny.hf)
    for name, parameter in list(hf.named_parameters()):
        if "o_proj" in name:
            owner = hf.get_submodule(name.rpartition(".")[0])
            owner.weight = torch.nn.Parameter(torch.zeros_like(parameter), requires_grad=False)
    model = Model(hf, tiny.tokenizer, "no attention")
    pair = one_pair(model)
    corrupted = pair.clean.repeat(2, 1, 1)
    corrupted[:, -1] += torch.randn(2, model.d_model, generator=torch.Generator().manual_seed(0))
    pair = type(pair)(pair.prompt, pair.ids, pair.clean, corrupted, pair.target, pair.foil)
    effects = patch_effects(model, [pair], cell_variants(model, ALL), logit_difference)[0]

    def stream(x: torch.Tensor, mlps: list) -> tuple[torch.Tensor, torch.Tensor]:
        for layer in hf.model.layers:
            mlps.append(layer.mlp(layer.post_attention_layernorm(x)))
            x = x + mlps[-1]
        return x, mlps[-1]

    def read(x: torch.Tensor) -> torch.Tensor:
        logits = hf.model.norm(x) @ hf.lm_head.weight.T
        return logits[:, pair.target] - logits[:, pair.foil]

    with torch.no_grad():
        (clean, clean_mlp), (base, base_mlp) = (
            stream(pair.clean[:, -1], []),
            stream(corrupted[:, -1], []),
        )
        by_hand = read(base - base_mlp + clean_mlp) - read(base)
    last = model.n_layers - 1
    assert torch.allclose(effects.cells["mlp", last, -1][:, -1], by_hand, atol=1e-4)
    assert torch.allclose(effects.cells["resid", 0, -1][:, -1], read(clean) - read(base), atol=1e-4)
    for (kind, *_), values in effects.cells.items():
        assert float(values[:, :-1].abs().max()) == 0.0
        if kind in ("attn", "head"):
            assert float(values.abs().max()) <= 1e-4


def test_heads_of_the_last_layer_sum_to_its_attention(tiny: Model) -> None:
    """They write their sum to the stream, so for a small change their effects add up."""
    pair = one_pair(tiny)
    near = pair.clean + 1e-3 * (pair.corrupted - pair.clean)
    model = Model(copy.deepcopy(tiny.hf).double(), tiny.tokenizer, "double")
    pair = type(pair)(
        pair.prompt, pair.ids, pair.clean.double(), near.double(), pair.target, pair.foil
    )
    variants = cell_variants(model, ("attn", "head"))
    cells = patch_effects(model, [pair], variants, logit_difference)[0].cells
    last = model.n_layers - 1
    heads = sum(cells["head", last, h] for h in range(model.structure.n_heads))
    assert torch.allclose(heads, cells["attn", last, -1], rtol=2e-2, atol=1e-7)


def test_default_metric_follows_the_foils(tiny: Model) -> None:
    fact = known_fact(tiny)
    bare = type(fact)(fact.subject, fact.prompt, fact.target)
    result = activation_patching(
        tiny, FactSet((bare,)), corruption=Noise(samples=1), kinds=("resid",)
    )
    assert result.config["metric"] == "probability"
    with pytest.raises(WorkbenchError, match="foil"):
        activation_patching(
            tiny,
            FactSet((bare,)),
            corruption=Noise(samples=1),
            kinds=("resid",),
            metric="logit_difference",
        )


def test_wrong_settings_get_a_sentence(tiny: Model) -> None:
    facts = FactSet((known_fact(tiny),))
    with pytest.raises(WorkbenchError, match="did you mean 'noising'"):
        activation_patching(tiny, facts, direction="noisng")  # type: ignore[arg-type]
    with pytest.raises(WorkbenchError, match="kind of cell"):
        activation_patching(tiny, facts, kinds=("heads",))
    with pytest.raises(WorkbenchError, match="corrupt with noise"):
        activation_patching(tiny, facts, kinds=("resid",))
