"""Continuing a batch runs what texts share once and ended texts no further, and says the same."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import make_model
from workbench.edit.cost import metered
from workbench.edit.self_made import sample
from workbench.models import continuing, prefix
from workbench.models.model import Model
from workbench.models.text import encode, generate

SHARED = "Question: Which sport does Ada Brook play? Answer:"
CHAT = [f"{SHARED} {end}" for end in ("rugby", "The capital of France", "a", "Ada Brook plays the")]
OTHERS = ["Carl", "The capital of France is"]


@pytest.fixture(scope="module")
def llama() -> Model:
    """A tiny model whose layers keep all keys and values."""
    return make_model("llama")


def one_by_one(model: Model, prompts: list[str], n: int) -> list[str]:
    out = []
    for prompt in prompts:
        ids = torch.tensor([encode(model, prompt)])
        made = model.hf.generate(
            *(ids,),
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=0,
        )
        new = made[0, ids.shape[1] :]
        out.append(model.tokenizer.decode(new, skip_special_tokens=True))
    return out


@pytest.mark.parametrize("prompts", [CHAT, CHAT + OTHERS, [CHAT[0], *OTHERS, *CHAT[1:], SHARED]])
def test_a_shared_beginning_changes_no_answer(family_model: Model, prompts: list[str]) -> None:
    found = generate(family_model, prompts, max_new_tokens=8, stop=None)
    assert found == one_by_one(family_model, prompts, 8)


def test_a_shared_beginning_is_run_once(llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with metered(llama) as once:
        generate(llama, CHAT + OTHERS, max_new_tokens=1)
    monkeypatch.setattr(continuing, "behind_shared", lambda hf, ids, mask: prefix.whole(ids, mask))
    with metered(llama) as plain:
        generate(llama, CHAT + OTHERS, max_new_tokens=1)
    texts = [encode(llama, p) for p in CHAT]
    rows, shared = [len(t) for t in texts], len(encode(llama, SHARED))
    assert plain.forward_tokens == pytest.approx(6 * max(rows))
    longest = max(max(rows) - shared, *(len(encode(llama, p)) for p in OTHERS))
    assert once.forward_tokens == pytest.approx(shared + 6 * longest, abs=6)


@pytest.mark.parametrize(
    ("texts", "length"),
    [
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7]], 5),
        ([[1, 2, 3, 4, 5, 6]] * 2, 5),  # the last token is always run by itself
        ([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7], [9]], 5),
        ([[1, 2, 3, 4, 5, 6], [9, 2, 3, 4, 5, 6]], 0),
        ([[1, 2, 3, 4, 5, 6]], 0),
        ([[1, 2, 3, 4, 5, 6, 7], [1, 2], [1, 2, 3]], 6),  # one long text among short ones
        ([[1, 2, 3], [1, 2, 4], [9, 9]], 0),  # too little is saved
    ],
)
def test_what_is_worth_sharing(texts: list[list[int]], length: int) -> None:
    assert prefix._shared(texts) == length


def test_a_window_is_never_shared(family_model: Model) -> None:
    """Padding behind the shared tokens would count as part of a window."""
    from workbench.models.text import batches

    (batch,) = batches(family_model, [encode(family_model, p) for p in CHAT], side="left")
    start = prefix.behind_shared(family_model.hf, batch.input_ids, batch.attention_mask)
    windowed = bool(getattr(family_model.config, "sliding_window", None))
    assert (start.cache is None) == windowed


def test_what_has_ended_is_run_no_further(llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generate(llama, CHAT + OTHERS, max_new_tokens=12, stop=None)
    stop = next(c for c in "".join(whole) if 1 < sum(c in text for text in whole) < 6)
    with metered(llama) as fewer:
        found = generate(llama, CHAT + OTHERS, max_new_tokens=12, stop=stop)
    assert found == [text.split(stop)[0] for text in whole]
    monkeypatch.setattr(continuing, "_MANY", 2.0)
    with metered(llama) as all_of_them:
        assert generate(llama, CHAT + OTHERS, max_new_tokens=12, stop=stop) == found
    assert fewer.forward_tokens < all_of_them.forward_tokens


def test_rows_that_ended_are_filled(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.tensor([encode(tiny, "Ada Brook plays"), encode(tiny, "The capital of")][:1] * 3)
    mask = torch.ones_like(ids)
    free = continuing.new_tokens(tiny, ids, mask, 6)
    end = int(free[0, 2])
    first = free[0].tolist().index(end)
    monkeypatch.setattr(continuing, "end_tokens", lambda model: {end})
    assert continuing.new_tokens(tiny, ids, mask, 6).tolist() == [free[0, : first + 1].tolist()] * 3


def test_draws_do_not_depend_on_what_has_ended(tiny: Model, monkeypatch) -> None:
    starts = [encode(tiny, p) for p in ("Carl", "The capital", "Ada Brook", "Question")]

    def drawn() -> list[list[int]]:
        return sample(tiny, starts, length=8, generator=torch.Generator().manual_seed(3))

    monkeypatch.setattr(continuing, "end_tokens", lambda model: set(range(0, 200, 7)))
    found = drawn()
    monkeypatch.setattr(continuing, "_MANY", 2.0)
    assert drawn() == found
