"""The training loop: what it changes, what it must not, and what it does when it fails."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch

from tests.conftest import make_model
from tests.edit.requests import request
from workbench.edit.edit import outside
from workbench.edit.train.examples import answers
from workbench.edit.train.grad_diff import GradAscentConfig, GradDiffConfig, ga, grad_diff
from workbench.edit.train.lessons import to_forget
from workbench.edit.train.loop import (
    Objective,
    Student,
    TrainingConfig,
    descend,
    drawn,
    train_edit,
    union,
)
from workbench.edit.train.losses import nll
from workbench.errors import WorkbenchError
from workbench.models.components import ComponentSet
from workbench.models.model import Model
from workbench.progress import Cancelled, Progress

FAST = {"steps": 3, "lr": 1e-2, "batch": 3, "retain_batch": 3, "kept": 4, "neutral": 2}
CONFIG = GradDiffConfig(**FAST)
MLP = ComponentSet.parse("mlp.1")


def bytes_of(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.parameters.items()}


def unharmed(model: Model, before: dict[str, torch.Tensor]) -> bool:
    return all(
        torch.equal(tensor, before[name]) and not tensor.requires_grad
        for name, tensor in model.parameters.items()
    )


@pytest.mark.parametrize("written", ["mlp.1", "head.1.2", "neuron.2.3-9", "attn.0, neuron.1.0"])
def test_nothing_outside_the_components_changes(family_model: Model, written: str) -> None:
    components = ComponentSet.parse(written)
    before = bytes_of(family_model)
    found = grad_diff(family_model, request(), components, CONFIG)
    assert unharmed(family_model, before)
    assert not outside(family_model, found.model, components)
    masks = family_model.structure.masks(components, family_model.parameters)
    for name, tensor in found.model.parameters.items():
        if name not in masks:
            assert tensor is family_model.parameters[name]
            continue
        moved = tensor != before[name]
        assert moved[masks[name]].any() and not moved[~masks[name]].any()


def test_training_itself_leaves_the_rest_of_a_matrix_alone(tiny: Model) -> None:
    """Not only the update that is read off afterwards: the rest would change what is learned."""
    student = Student.of(tiny, ComponentSet.parse("neuron.1.3-9"))
    objective = Objective(lambda rows: _squares(student), None)
    steps = descend(student, objective, (1, 0), TrainingConfig(steps=2, lr=0.1))
    total = 0.0
    for name, parameter in student.trained.items():
        moved = parameter.detach() != student.start[name]
        assert torch.equal(moved, student.masks[name])
        total += float((student.start[name][student.masks[name]] ** 2).sum())
    assert steps["gradient"][0] == pytest.approx(math.sqrt(total), rel=1e-4)


def _squares(student: Student) -> torch.Tensor:
    return sum((p**2).sum() / 2 for p in student.trained.values())  # type: ignore[return-value]


def test_seeds(tiny: Model) -> None:
    one, two, other = (
        grad_diff(tiny, request(), MLP, replace(CONFIG, seed=seed)).delta for seed in (0, 0, 1)
    )
    for name, update in one.updates.items():
        assert torch.equal(update.dense(), two.updates[name].dense())
        assert not torch.equal(update.dense(), other.updates[name].dense())
    assert other.origin.seed == 1 and one.origin.method == "grad-diff"


def test_the_delta_is_what_the_student_has_learned(tiny: Model) -> None:
    """Ascent lowers what it ascends on: the targets, all of them in every step."""
    config = GradAscentConfig(**{**FAST, "lr": 1e-3, "batch": 99})
    found = ga(tiny, request(), MLP, config)
    assert found.steps["forget_loss"].is_monotonic_decreasing
    assert "retain_loss" not in found.steps
    taught = to_forget(tiny, request())[0]
    with torch.no_grad():
        after = float(-nll(answers(found.model, taught)))
    assert after < found.steps["forget_loss"].iloc[-1]


def test_divergence_is_one_sentence_and_leaves_the_base(tiny: Model) -> None:
    before = bytes_of(tiny)
    with pytest.raises(WorkbenchError, match=r"diverged at step \d of 3, .*; lower lr") as error:
        grad_diff(tiny, request(), MLP, replace(CONFIG, lr=1e30))
    assert str(error.value).count(".") == 1
    assert unharmed(tiny, before)


def test_what_is_not_a_number_is_divergence(tiny: Model) -> None:
    before = bytes_of(tiny)
    count = itertools.count()

    def build(student, base, taught):
        def forget(rows):
            return _squares(student) * (math.nan if next(count) == 1 else 1.0)

        return Objective(forget, None)

    with pytest.raises(WorkbenchError, match="diverged at step 2 of 3"):
        train_edit("any", tiny, request(), MLP, CONFIG, build)
    assert unharmed(tiny, before)


def test_divergence_in_the_last_step_is_seen(tiny: Model) -> None:
    """No loss is taken after it that could tell."""
    student = Student.of(tiny, MLP)
    objective = Objective(lambda rows: _squares(student), None)
    with pytest.raises(WorkbenchError, match="diverged at step 1 of 1"):
        descend(student, objective, (1, 0), TrainingConfig(steps=1, lr=math.inf))


def test_cancelling(tiny: Model) -> None:
    before = bytes_of(tiny)
    steps = []
    progress = Progress(
        report=lambda done, total, label: steps.append((done, label)),
        cancelled=lambda: (1, "training") in steps,
    )
    with pytest.raises(Cancelled):
        grad_diff(tiny, request(), MLP, CONFIG, progress=progress)
    assert steps[-1] == (1, "training")
    assert unharmed(tiny, before)


@pytest.mark.parametrize(("count", "batch"), [(7, 3), (7, 7), (7, 20), (4, 1), (6, 2)])
def test_every_row_is_drawn_once_an_epoch(count: int, batch: int) -> None:
    size = min(count, batch)
    rows = list(itertools.islice(drawn(count, batch, 3), 5 * count))
    assert {len(r) for r in rows} == {size}
    flat = [r for batch_rows in rows for r in batch_rows]
    for epoch in range(len(flat) // count):
        assert sorted(flat[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert rows == list(itertools.islice(drawn(count, batch, 3), 5 * count))
    if 1 < batch < count:
        assert rows != list(itertools.islice(drawn(count, batch, 4), 5 * count))
        epochs = {tuple(flat[i * count : (i + 1) * count]) for i in range(5)}
        assert len(epochs) > 1
    assert max(Counter(flat).values()) - min(Counter(flat).values()) <= 1


def test_the_sharp_gradient_is_the_one_uphill_and_the_point_is_restored(tiny: Model) -> None:
    """Quadratic toy: L = sum a^2 p^2 / 2, so the gradient at p + e is a^2 (p + e)."""
    student = Student.of(tiny, ComponentSet.parse("neuron.1.3-9"))
    scale = {n: torch.rand_like(p, requires_grad=False) for n, p in student.trained.items()}
    seen = []

    def loss(rows):
        seen.append({n: p.detach().clone() for n, p in student.trained.items()})
        return sum((scale[n] ** 2 * p**2).sum() / 2 for n, p in student.trained.items())

    rho = 0.5
    config = TrainingConfig(steps=2, lr=1e-30, forget_weight=3.0)
    steps = descend(student, Objective(loss, None, sharpness=rho), (1, 0), config)
    gradient = {n: scale[n] ** 2 * p * student.masks[n] for n, p in student.start.items()}
    norm = torch.stack([g.norm() for g in gradient.values()]).norm()
    squares = 0.0
    assert len(seen) == 4
    for name, start in student.start.items():
        uphill = start + rho * gradient[name] / norm
        torch.testing.assert_close(seen[1][name], uphill)
        at = 3.0 * scale[name] ** 2 * uphill * student.masks[name]
        squares += float((at**2).sum())
        for point in (seen[0], seen[2]):  # a step of 1e-30 moves none of them
            assert torch.equal(point[name], start)
        assert torch.equal(student.trained[name].detach(), start)
    assert steps["gradient"].tolist() == pytest.approx([math.sqrt(squares)] * 2, rel=1e-4)
    assert steps["forget_loss"][0] == pytest.approx(
        sum(float((scale[n] ** 2 * p**2).sum()) / 2 for n, p in student.start.items()), rel=1e-4
    )


def test_the_retain_gradient_is_taken_at_the_point_itself(tiny: Model) -> None:
    student = Student.of(tiny, MLP)
    seen = []

    def keep(rows):
        seen.append({n: p.detach().clone() for n, p in student.trained.items()})
        return _squares(student)

    objective = Objective(lambda rows: _squares(student), keep, sharpness=1.0)
    descend(student, objective, (1, 1), TrainingConfig(steps=1, lr=1e-30))
    assert all(torch.equal(seen[0][name], start) for name, start in student.start.items())


def test_both_gradients_add_with_their_weights(tiny: Model) -> None:
    student = Student.of(tiny, MLP)
    norm = torch.stack([p.norm() for p in student.start.values()]).norm()
    config = TrainingConfig(steps=1, lr=1e-30, forget_weight=0.5, retain_weight=2.0)
    objective = Objective(lambda rows: _squares(student), lambda rows: _squares(student))
    steps = descend(student, objective, (1, 1), config)
    assert steps["gradient"][0] == pytest.approx(2.5 * float(norm), rel=1e-4)
    assert steps["forget_loss"][0] == steps["retain_loss"][0]
    off = replace(config, forget_weight=0.0)
    assert "forget_loss" not in descend(student, objective, (1, 1), off)


def test_the_learning_rate_falls_along_a_cosine_and_bounds_the_steps(tiny: Model) -> None:
    student = Student.of(tiny, MLP)
    config = TrainingConfig(steps=4, lr=0.01)
    steps = descend(student, Objective(lambda rows: _squares(student), None), (1, 0), config)
    wanted = [0.01 * (1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    assert steps["lr"].tolist() == pytest.approx(wanted)
    with torch.no_grad():
        moved = max(float((p - student.start[n]).abs().max()) for n, p in student.trained.items())
    assert moved == pytest.approx(sum(wanted), rel=0.05)  # Adam: about lr a step, while it descends


def test_small_steps_add_up_in_half_precision() -> None:
    """Each is less than half the distance to the next bfloat16 number, so none would count."""
    model = make_model("qwen2")
    half = Model(model.hf.to(torch.bfloat16), model.tokenizer, "half")
    student = Student.of(half, MLP)
    objective = Objective(lambda rows: sum(p.sum() for p in student.trained.values()), None)
    descend(student, objective, (1, 0), TrainingConfig(steps=40, lr=1e-4))
    for name, parameter in student.trained.items():
        large = student.start[name].abs() > 0.15  # neighbours are 2^-10 or more apart
        assert large.sum() > 100
        assert (parameter.detach() != student.start[name])[large].float().mean() > 0.5
        assert parameter.dtype == torch.bfloat16


def test_a_student_can_be_asked_for_its_structure(tiny: Model) -> None:
    student = Student.of(tiny.fork(), MLP)
    assert student.model.structure.final_norm == tiny.structure.final_norm
    assert all(p.requires_grad for p in student.trained.values())
    shared = set(tiny.parameters) - set(student.masks)
    assert all(student.model.hf.get_parameter(n) is tiny.parameters[n] for n in shared)
    assert student.model.fingerprint == tiny.fingerprint  # nothing is trained yet


def test_components_of_all_sites_are_trained_together(tiny: Model) -> None:
    sites = {"subject": ComponentSet.parse("mlp.0"), "answer": ComponentSet.parse("attn.2")}
    assert union(sites) == ComponentSet.parse("mlp.0, attn.2")
    found = grad_diff(tiny, request(), sites, CONFIG)
    assert found.delta.origin.components == "mlp.0, attn.2"


@dataclass(frozen=True)
class _Signed(TrainingConfig):
    margin: float = 0.0

    def check(self) -> None:
        super().check()
        self.check_signs(not_negative=("margin",))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "steps must be positive, not 0."),
        ({"lr": math.nan}, "lr must be positive, not nan."),
        ({"retain_weight": -1.0}, "retain_weight must not be negative, not -1.0."),
        ({"forget_weight": math.nan}, "forget_weight must not be negative, not nan."),
        ({"margin": -0.5}, "margin must not be negative, not -0.5."),
    ],
)
def test_settings_that_make_no_sense(settings: dict, sentence: str) -> None:
    with pytest.raises(WorkbenchError) as error:
        _Signed(**settings).check()
    assert str(error.value) == sentence
    _Signed().check()


def test_bad_requests(tiny: Model) -> None:
    with pytest.raises(WorkbenchError, match="No component"):
        grad_diff(tiny, request(), ComponentSet(), CONFIG)
    with pytest.raises(WorkbenchError, match="did you mean 'nll'"):
        grad_diff(tiny, request(), MLP, replace(CONFIG, retain="nl"))
    with pytest.raises(WorkbenchError, match="sharpness must not"):
        grad_diff(tiny, request(), MLP, replace(CONFIG, sharpness=-1.0))
