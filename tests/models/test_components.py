"""The component grammar, and slices against plain PyTorch hooks in all eight families."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.component_names import KINDS
from workbench.models.components import Component, ComponentSet
from workbench.models.delta import Dense, Origin, WeightDelta
from workbench.models.model import Model
from workbench.models.text import encode

TEXT = "Question: Which sport does Ada Brook play?\nAnswer: tennis"
LAYER, HEAD, NEURON = 1, 2, 17

components = st.one_of(
    st.builds(
        Component,
        st.integers(0, 40),
        st.sampled_from(["mlp", "attn", "vision.mlp", "vision.attn"]),
    ),
    st.just(Component(-1, "projector")),
    st.builds(
        Component, st.integers(0, 40), st.sampled_from(["head", "neuron"]), st.integers(0, 300)
    ),
)


@given(items=st.lists(components, min_size=1, max_size=30))
def test_what_is_written_is_parsed_back(items: list[Component]) -> None:
    whole = ComponentSet(tuple(items))
    assert ComponentSet.parse(str(whole)) == whole
    assert set(whole) == set(items) and len(whole) == len(set(items))


@given(
    text=st.one_of(
        st.text(max_size=12),
        st.text("mlpatnhedur0123456789.-+, ", max_size=16),
        st.builds("{}.{}".format, st.sampled_from(KINDS), st.text("0123456789.-+", max_size=12)),
    )
)
def test_any_text_parses_or_gets_one_sentence(text: str) -> None:
    try:
        assert ComponentSet.parse(text)
    except WorkbenchError as error:
        assert str(error)


def test_ranges_and_lists() -> None:
    parsed = ComponentSet.parse("mlp.2-4, head.3.0+2, attn.0")
    assert [str(c) for c in parsed] == ["attn.0", "mlp.2", "head.3.0", "head.3.2", "mlp.3", "mlp.4"]
    assert str(parsed | ComponentSet.parse("mlp.5")) == "attn.0, mlp.2-5, head.3.0+2"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Cannot read"),
        ("mlp", "mlp.LAYER"),
        ("mlp.1.2", "mlp.LAYER"),
        ("head.1", "head.LAYER.INDEX"),
        ("heads.1.2", "did you mean 'head'"),
        ("mlp.4-2", "not valid"),
        ("mlp.1,,mlp.2", "Cannot read"),
        ("neuron.0-999999.0-999999", "more parts"),
        ("mlp.1++2", "Cannot read"),
    ],
)
def test_grammar_errors(text: str, sentence: str) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        ComponentSet.parse(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mlp.3", "layers 0 to 2"),
        ("head.0.4", "heads 0 to 3"),
        ("neuron.2.100000", "neurons 0 to"),
    ],
)
def test_components_out_of_range(tiny: Model, text: str, sentence: str) -> None:
    with pytest.raises(WorkbenchError, match=sentence):
        tiny.structure.check(ComponentSet.parse(text))
    with pytest.raises(WorkbenchError, match="No component"):
        tiny.structure.check(ComponentSet())


def ids_of(model: Model) -> Tensor:
    return torch.tensor([encode(model, TEXT)])


def logits_of(model: Model) -> Tensor:
    with torch.no_grad():
        return model.hf(input_ids=ids_of(model)).logits


def changed(model: Model, masks: dict[str, Tensor], *, to: float | None = 0.0) -> Model:
    """Set the masked values to a number, or to noise."""
    torch.manual_seed(0)
    updates = {}
    for name, mask in masks.items():
        old = model.parameters[name]
        new = torch.randn_like(old) if to is None else torch.full_like(old, to)
        updates[name] = Dense(torch.where(mask, new - old, torch.zeros_like(old)))
    return model.with_delta(WeightDelta(updates, Origin("test")))


def bridge_logits(model: Model, hook_name: str, zero: object) -> Tensor:
    def hook(value: Tensor, hook: object) -> Tensor:
        value = value.clone()
        value[zero] = 0.0
        return value

    with torch.no_grad():
        return model.bridge.run_with_hooks(ids_of(model), fwd_hooks=[(hook_name, hook)])


def masks_of(model: Model, *items: Component) -> dict[str, Tensor]:
    return model.structure.masks(ComponentSet(items), model.parameters)


def test_zeroing_a_head_equals_zeroing_its_output(family_model: Model) -> None:
    component = Component(LAYER, "head", HEAD)
    writer = family_model.structure.writer(component)
    masks = {writer.parameter: masks_of(family_model, component)[writer.parameter]}
    mine = logits_of(changed(family_model, masks))
    hooked = bridge_logits(
        family_model, f"blocks.{LAYER}.attn.hook_z", (slice(None), slice(None), HEAD)
    )
    torch.testing.assert_close(mine, hooked, atol=1e-4, rtol=1e-4)
    assert (mine - logits_of(family_model)).abs().max() > 1e-2
    # all slices at once: with its output column zero the head's other rows cannot matter
    whole = logits_of(changed(family_model, masks_of(family_model, component)))
    torch.testing.assert_close(whole, hooked, atol=1e-4, rtol=1e-4)


def test_zeroing_a_neuron_equals_zeroing_its_activation(family_model: Model) -> None:
    component = Component(LAYER, "neuron", NEURON)
    mine = logits_of(changed(family_model, masks_of(family_model, component)))
    writer = family_model.structure.writer(component)
    hooked = bridge_logits(family_model, writer.input_hook, (..., NEURON))
    torch.testing.assert_close(mine, hooked, atol=1e-4, rtol=1e-4)
    assert (mine - logits_of(family_model)).abs().max() > 1e-4


def captured(model: Model, hook_name: str) -> Tensor:
    out: list[Tensor] = []
    with torch.no_grad():
        model.bridge.run_with_hooks(
            ids_of(model), fwd_hooks=[(hook_name, lambda value, hook: out.append(value.clone()))]
        )
    return out[0]


def test_a_heads_rows_change_only_that_head(family_model: Model) -> None:
    """Noise in a head's slices moves its z in that layer and no other head's."""
    edited = changed(family_model, masks_of(family_model, Component(LAYER, "head", HEAD)), to=None)
    name = f"blocks.{LAYER}.attn.hook_z"
    moved = (captured(edited, name) - captured(family_model, name)).abs().amax((0, 1, 3))
    assert moved[HEAD] > 1e-3
    assert (moved[[h for h in range(4) if h != HEAD]] == 0).all()


def test_a_neurons_rows_change_only_that_neuron(family_model: Model) -> None:
    component = Component(LAYER, "neuron", NEURON)
    hook = family_model.structure.writer(component).input_hook
    edited = changed(family_model, masks_of(family_model, component), to=None)
    moved = (captured(edited, hook) - captured(family_model, hook)).abs().amax((0, 1))
    assert moved[NEURON] > 1e-3
    assert (moved[torch.arange(len(moved)) != NEURON] == 0).all()


def test_grouped_heads_leave_shared_keys_and_values_alone(family_model: Model) -> None:
    structure = family_model.structure
    names = {s.name for s in structure.slices(Component(LAYER, "head", HEAD))}
    grouped = structure.n_key_value_heads < structure.n_heads
    assert grouped == (family_model.config.model_type not in ("gpt2", "gpt_neox", "phi"))
    if grouped:
        assert not any("k_proj" in n or "v_proj" in n for n in names)


def test_gradients_through_slices_are_those_of_autograd(family_model: Model) -> None:
    """The loss depends on a neuron's slice: autograd on a shared copy says the same as a delta."""
    component = Component(LAYER, "neuron", NEURON)
    writer = family_model.structure.writer(component)
    mask = masks_of(family_model, component)[writer.parameter]
    copy = family_model.fork().hf
    weight = copy.get_parameter(writer.parameter)
    trainable = torch.nn.Parameter(weight.detach().clone())
    out = torch.func.functional_call(
        copy, {writer.parameter: trainable}, kwargs={"input_ids": ids_of(family_model)}
    )
    loss = out.logits[0, -1].log_softmax(-1)[7]
    (gradient,) = torch.autograd.grad(loss, trainable)
    step = 1e-3 * torch.where(mask, gradient, torch.zeros_like(gradient)) / gradient[mask].norm()
    values = []
    for sign in (1.0, -1.0):
        delta = WeightDelta({writer.parameter: Dense(sign * step)}, Origin("test"))
        values.append(logits_of(family_model.with_delta(delta))[0, -1].double().log_softmax(-1)[7])
    slope = float(values[0] - values[1]) / 2e-3
    assert slope == pytest.approx(float(gradient[mask].norm()), rel=0.05, abs=2e-3)


def test_whole_layers_own_disjoint_parameters_and_counts_add_up(family_model: Model) -> None:
    structure = family_model.structure
    every = structure.everything
    sizes = [structure.n_parameters(ComponentSet((c,))) for c in every]
    assert structure.n_parameters(every) == sum(sizes)
    layers = family_model.hf.base_model
    blocks = next(m for m in layers.modules() if isinstance(m, torch.nn.ModuleList))
    inside = {id(p) for p in blocks.parameters() if p.ndim > 1}
    owned = {id(family_model.parameters[s.name]) for c in every for s in structure.slices(c)}
    assert inside <= owned


def test_overlap_counts_once(tiny: Model) -> None:
    both = ComponentSet.parse("mlp.1, neuron.1.3")
    assert tiny.structure.n_parameters(both) == tiny.structure.n_parameters(
        ComponentSet.parse("mlp.1")
    )
    masks = tiny.structure.masks(ComponentSet.parse("head.0.0-3"), tiny.parameters)
    assert sum(int(m.sum()) for m in masks.values()) == tiny.structure.n_parameters(
        ComponentSet.parse("head.0.0-3")
    )
