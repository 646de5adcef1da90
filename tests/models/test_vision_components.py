"""Parts of the vision side against plain PyTorch, and what may be done with them."""

from __future__ import annotations

import pytest
import torch
from conftest import make_model
from llava_model import llava, make_llava, portrait, seen

from workbench.edit.registry import edit
from workbench.errors import WorkbenchError
from workbench.facts.fact import FactSet, Request
from workbench.localize.readings import promoted_tokens
from workbench.models.components import Component, ComponentSet
from workbench.models.load import load
from workbench.models.pictures import read_picture
from workbench.models.text import next_token_logits
from workbench.models.vision_components import output_hook

TOWER = "model.vision_tower.encoder.layers"


def names(text: str) -> set[str]:
    model = llava()
    return set(model.structure.masks(ComponentSet.parse(text), model.parameters))


def prefixed(prefix: str) -> set[str]:
    found = {name for name in llava().parameters if name.startswith(prefix)}
    assert found
    return found


def test_written_in_the_order_of_a_forward_pass():
    read = ComponentSet.parse("mlp.1-2, projector, vision.mlp.0-1, vision.attn.1, head.0.1")
    assert str(read) == "vision.mlp.0-1, vision.attn.1, projector, head.0.1, mlp.1-2"
    assert [c.block for c in read] == [0, 0, 0, 0, 0, 1, 2]
    for text, sentence in (
        ("projector.1", "write it as projector"),
        ("vision.mlp", "write it as vision.mlp.LAYER"),
        ("vision.head.1.2", "component kind 'vision.head'"),
        ("vision.3", "component kind 'vision'"),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            ComponentSet.parse(text)


def test_components_are_the_parameters_of_their_modules():
    assert names("vision.mlp.1") == prefixed(f"{TOWER}.1.mlp.")
    assert names("vision.attn.0") == prefixed(f"{TOWER}.0.self_attn.")
    assert names("projector") == prefixed("model.multi_modal_projector.")
    assert names("mlp.1") == prefixed("model.language_model.layers.1.mlp.")
    model, chosen = llava(), ComponentSet.parse("vision.mlp.0, projector, mlp.0")
    count = sum(model.parameters[n].numel() for n in names(str(chosen)))
    assert model.structure.n_parameters(chosen) == count
    assert {c.kind for c in model.structure.everything} == {"mlp", "attn"}


@torch.no_grad()
def test_hook_points_give_what_the_modules_give():
    model = load(llava().name)
    pixels = model.vision.pixel_values(read_picture(portrait(0)))[None]
    ids = torch.full((1, model.vision.n_tokens), model.vision.token_id)
    where = {
        "vision.mlp.1": f"{TOWER}.1.mlp",
        "vision.attn.1": f"{TOWER}.1.self_attn",
        "projector": "model.multi_modal_projector",
    }
    points = {text: output_hook(next(iter(ComponentSet.parse(text)))) for text in where}
    _, cache = model.bridge.run_with_cache(
        ids, pixel_values=pixels, names_filter=list(points.values())
    )
    for text, module in where.items():
        found = []
        handle = model.hf.get_submodule(module).register_forward_hook(
            lambda m, a, out, found=found: found.append(out[0] if isinstance(out, tuple) else out)
        )
        model.hf(input_ids=ids, pixel_values=pixels)
        handle.remove()
        torch.testing.assert_close(cache[points[text]], found[0], atol=1e-4, rtol=1e-4)


def request() -> Request:
    return Request(FactSet((seen(0), seen(1))), FactSet((seen(2), seen(3))))


@pytest.mark.parametrize("method", ["ga", "mechanistic", "rmu", "idk"])
def test_training_changes_what_is_chosen_and_no_other_byte(method):
    model, chosen = llava(), ComponentSet.parse("vision.mlp.1, projector")
    before = {name: tensor.clone() for name, tensor in model.parameters.items()}
    made = edit(method, model, request(), chosen, {"steps": 2, "neutral": 0, "lr": 1e-2})
    for name, tensor in made.model.parameters.items():
        assert torch.equal(before[name], model.parameters[name])
        inside = name in names(str(chosen))
        assert torch.equal(tensor, before[name]) != inside, name
    words, shown = ["Ada Brook plays"], [seen(0).prompt]
    assert torch.equal(next_token_logits(made.model, words), next_token_logits(model, words))
    assert not torch.equal(next_token_logits(made.model, shown), next_token_logits(model, shown))


def test_what_cannot_be_done_is_said(tmp_path):
    model = llava()
    for text, sentence in (
        ("vision.mlp.2", "changes nothing: the projector reads the vision tower behind layer 1"),
        ("vision.attn.7", "the projector reads layers 0 to 1"),
        ("mlp.3", "layers 0 to 2"),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            model.structure.check(ComponentSet.parse(text))
    with pytest.raises(WorkbenchError, match="reads text only and has no projector"):
        make_model("llama").structure.check(ComponentSet((Component(-1, "projector"),)))
    for method in ("stamp", "rome", "memit", "alphaedit", "lunar"):
        with pytest.raises(WorkbenchError, match=r"does not write to|trains MLPs|MLP") as no:
            edit(method, model, request(), ComponentSet.parse("vision.mlp.1"))
        assert "\n" not in str(no.value)
    with pytest.raises(WorkbenchError, match="does not write to the residual stream"):
        promoted_tokens(model, "Ada Brook plays", "projector")


def test_layers_that_are_read_follow_the_configuration(tmp_path):
    make_llava(tmp_path)
    model = load(tmp_path)
    for read, layers in ((-1, 3), (3, 3), (1, 1), ([0, -2], 2)):
        model.hf.config.vision_feature_layer = read
        fresh = model.fork()
        assert len(fresh.structure.vision.layers["vision.mlp"]) == layers
