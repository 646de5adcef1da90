"""Exports are the model that was edited, whole, or nothing."""

import hashlib
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_model
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from workbench.errors import WorkbenchError
from workbench.models import export as exporting
from workbench.models.atomic import _beside, recover, whole_folder
from workbench.models.delta import Dense, LowRank, Origin, WeightDelta
from workbench.models.export import export
from workbench.models.load import load
from workbench.models.model import Model
from workbench.models.verify import Reload, verify
from workbench.progress import Cancelled, Progress

ORIGIN = Origin("stamp", config={"strength": 1.0}, components="mlp.1", seed=4)
DOWN = "model.layers.1.mlp.down_proj.weight"
IDS = torch.tensor([[5, 6, 7, 8, 9, 300]])


def low_rank_delta(model: Model, names: dict[str, int], *, size: float = 0.3) -> WeightDelta:
    generator = torch.Generator().manual_seed(1)
    updates = {}
    for name, rank in names.items():
        rows, columns = model.parameters[name].shape
        left = size * torch.randn(rows, rank, generator=generator)
        updates[name] = LowRank(left, torch.randn(rank, columns, generator=generator))
    return WeightDelta(updates, ORIGIN)


@torch.no_grad()
def logits(hf) -> torch.Tensor:
    return hf(input_ids=IDS).logits


def hidden(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_everything_verified_in_a_clean_process(tmp_path):
    base = make_model("qwen2")
    base.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    delta = low_rank_delta(base, {DOWN: 2, "model.layers.2.self_attn.o_proj.weight": 3})
    edited = base.with_delta(delta)
    scorecard = {"acc_f": {"value": 0.0, "n": 8}, "refusal": 1.0}
    result = export(
        edited, tmp_path / "out", base=base, scorecard=scorecard, prompts=["Ada Brook plays"]
    )
    assert result.formats == ("checkpoint", "delta", "lora") and not result.left_out
    assert set(result.differences) == {"checkpoint", "LoRA adapter"}
    assert result.max_logit_difference is not None and result.max_logit_difference <= 1e-4
    assert hidden(tmp_path) == [] and hidden(tmp_path / "out") == []

    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(again), logits(edited.hf))
    assert again.lm_head.weight is again.model.embed_tokens.weight
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == base.tokenizer.chat_template
    assert load(tmp_path / "out").fingerprint == edited.fingerprint
    saved = WeightDelta.load(tmp_path / "out/delta/delta.safetensors")
    assert base.with_delta(saved).fingerprint == edited.fingerprint

    record = json.loads((tmp_path / "out/edit.json").read_text())
    assert record["base"]["fingerprint"] == base.fingerprint
    assert record["edited"]["fingerprint"] == edited.fingerprint
    assert record["components"] == "mlp.1" and record["scorecard"] == scorecard
    files = {
        p.relative_to(tmp_path / "out").as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file() and p.name != "edit.json"
    }
    assert record["files"] == files == dict(result.files)
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers")
    assert "| acc_f.value | 0 |" in card and DOWN in card and "## Undo" in card
    modes = {p.stat().st_mode & 0o777 for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert len(modes) == 1


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama"])
def test_plain_peft_loads_the_adapter(family, tmp_path):
    base = make_model(family)
    matrices = [n for n, p in base.parameters.items() if p.ndim == 2 and ".1." in n]
    delta = low_rank_delta(base, {n: 1 + i for i, n in enumerate(matrices)}, size=0.1)
    edited = base.with_delta(delta)
    export(edited, tmp_path / "out", base=base, formats=["lora"], verified=False)
    assert not (tmp_path / "out/config.json").exists()
    base.hf.save_pretrained(tmp_path / "base")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    before = logits(plain)
    adapted = PeftModel.from_pretrained(plain, tmp_path / "out/lora").eval()
    assert (before - logits(edited.hf)).abs().max() > 0.1
    torch.testing.assert_close(logits(adapted), logits(edited.hf), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_ties_stay_as_they_are(tied, tmp_path):
    base = make_model("qwen2" if tied else "llama")
    name = "model.embed_tokens.weight"
    shape = base.parameters[name].shape
    edited = base.with_delta(WeightDelta({name: Dense(torch.full(shape, 0.5))}, ORIGIN))
    export(edited, tmp_path / "out", base=base, verified=False)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied
    assert torch.equal(logits(again), logits(edited.hf))


def test_shards_and_half_precision(tmp_path):
    model = make_model("llama")
    half = Model(model.hf.to(torch.bfloat16), model.tokenizer, "half")
    export(half, tmp_path / "out", max_shard="40KB", verified=False)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert load(tmp_path / "out", dtype="bfloat16").fingerprint == half.fingerprint


def test_lora_only_where_it_is_exact(tmp_path):
    base = make_model("qwen2")
    dense = base.with_delta(WeightDelta({DOWN: Dense(torch.ones(32, 48))}, ORIGIN))
    with pytest.raises(WorkbenchError, match=r"not low-rank.*rank=.*compress"):
        export(dense, tmp_path / "out", base=base, formats=["lora"])
    result = export(dense, tmp_path / "out", base=base, verified=False)
    assert result.formats == ("checkpoint", "delta") and "not low-rank" in result.left_out["lora"]
    tied = low_rank_delta(base, {"model.embed_tokens.weight": 1})
    with pytest.raises(WorkbenchError, match="not the weight of a linear map"):
        export(base.with_delta(tied), tmp_path / "no", base=base, formats=["lora"])
    with pytest.raises(WorkbenchError, match="give the base model"):
        export(base.with_delta(low_rank_delta(base, {DOWN: 1})), tmp_path / "no", formats=["lora"])
    with pytest.raises(WorkbenchError, match="was not edited"):
        export(base, tmp_path / "no", formats=["delta"])
    with pytest.raises(WorkbenchError, match="did you mean 'lora'"):
        export(base, tmp_path / "no", formats=["lorra"])
    assert not (tmp_path / "no").exists()


def test_a_wrong_base_or_edit_is_refused(tmp_path):
    base, other = make_model("qwen2"), make_model("qwen2", seed=1)
    delta = low_rank_delta(base, {DOWN: 1})
    for wrong in ({"base": other}, {"base": base, "delta": delta * 0.5}):
        with pytest.raises(WorkbenchError, match="not its base plus the edit"):
            export(base.with_delta(delta), tmp_path / "out", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_verification_finds_another_model(tmp_path):
    """The clean process must not nod through one weight a millionth off, or another tokenizer."""
    base = make_model("qwen2")
    exporting.write_checkpoint(base, tmp_path / "a")
    nudge = torch.zeros(32, 48)
    nudge[0, 0] = 1e-6
    slightly = base.with_delta(WeightDelta({DOWN: Dense(nudge)}, ORIGIN))
    slightly.tokenizer.chat_template = "another"
    with pytest.raises(WorkbenchError, match=r"not byte for byte.*chat template"):
        verify(slightly, [Reload("checkpoint", tmp_path / "a")], tmp_path)
    (tmp_path / "a/model.safetensors").unlink()
    with pytest.raises(WorkbenchError, match="could not be reloaded"):
        verify(base, [Reload("checkpoint", tmp_path / "a")], tmp_path)
    assert hidden(tmp_path) == []


def test_what_fails_verification_leaves_nothing(tmp_path, monkeypatch):
    base = make_model("qwen2")
    edited = base.with_delta(low_rank_delta(base, {DOWN: 1}))
    write = exporting.write_checkpoint
    monkeypatch.setattr(exporting, "write_checkpoint", lambda m, f, s: write(base, f, s))
    with pytest.raises(WorkbenchError, match=r"is not the edited model \(logits differ by"):
        export(edited, tmp_path / "deep/out", formats=["checkpoint"])
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_beyond_the_tolerance_is_left_out(tmp_path, monkeypatch):
    base = make_model("qwen2")
    edited = base.with_delta(low_rank_delta(base, {DOWN: 2}))
    write = exporting.write_lora
    monkeypatch.setattr(
        exporting, "write_lora", lambda m, d, f, base: write(m, d * 1.01, f, base=base)
    )
    result = export(edited, tmp_path / "out", base=base)
    assert result.formats == ("checkpoint", "delta") and set(result.differences) == {"checkpoint"}
    assert "more than 1e-04" in result.left_out["lora"]
    assert not (tmp_path / "out/lora").exists()
    assert not any(name.startswith("lora") for name in result.files)
    with pytest.raises(WorkbenchError, match="LoRA adapter is not the edited model"):
        export(edited, tmp_path / "no", base=base, formats=["lora"])


def test_cancelled_while_verifying(tmp_path):
    seen = []
    progress = Progress(
        report=lambda done, total, label: seen.append(label),
        cancelled=lambda: seen.count("verifying the export") > 2,
    )
    with pytest.raises(Cancelled):
        export(make_model("qwen2"), tmp_path / "out", progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_existing_folders(tmp_path):
    a, b = make_model("qwen2"), make_model("qwen2", seed=1)
    (tmp_path / "out").mkdir()  # an empty folder is none
    export(a, tmp_path / "out", verified=False)
    with pytest.raises(WorkbenchError, match=r"already exists.*--overwrite"):
        export(b, tmp_path / "out", verified=False)
    assert load(tmp_path / "out").fingerprint == a.fingerprint
    export(b, tmp_path / "out", verified=False, overwrite=True)
    assert load(tmp_path / "out").fingerprint == b.fingerprint
    assert hidden(tmp_path) == []
    (tmp_path / "home").mkdir()
    (tmp_path / "home/diary.txt").write_text("mine")
    with pytest.raises(WorkbenchError, match="not written by this workbench"):
        export(a, tmp_path / "home", overwrite=True)
    with pytest.raises(WorkbenchError, match="is a file"):
        export(a, tmp_path / "home/diary.txt", overwrite=True)
    assert (tmp_path / "home/diary.txt").read_text() == "mine"


def test_unwritable_places(tmp_path):
    model = make_model("qwen2")
    (tmp_path / "file").touch()
    with pytest.raises(WorkbenchError, match=r"Cannot write.*choose a folder"):
        export(model, tmp_path / "file/deep/out")
    with pytest.raises(WorkbenchError, match="Cannot write"):
        export(model, "/proc/out")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


FULL_DISK = """
import sys, torch
sys.path.insert(0, {tests!r})
from conftest import make_model
from workbench.errors import WorkbenchError
from workbench.models.export import export
import resource
model = make_model("qwen2")
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    export(model, {out!r}, verified=False)
except WorkbenchError as error:
    print("SENTENCE", error)
"""


def test_a_disk_that_fills_up(tmp_path):
    """A limit on file size makes the real writes fail half-way, as a full disk does."""
    assert resource.RLIMIT_FSIZE
    tests = str(Path(__file__).parent.parent)
    code = FULL_DISK.format(tests=tests, limit=50_000, out=str(tmp_path / "out"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("SENTENCE Cannot write"), done.stderr[-2000:]
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_processes(tmp_path):
    """Dead processes' temporary folders go; live ones' and strangers' stay."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = _beside(tmp_path / "a", "tmp")
    gone = mine.with_name(mine.name.replace(f"-{__import__('os').getpid()}-", f"-{dead.pid}-"))
    aside = gone.with_name(gone.name.replace(".tmp", ".old").replace(".a.", ".b."))
    old = gone.with_name(gone.name.replace(".tmp", ".old"))
    stranger = tmp_path / ".b.workbench-notes"
    for folder in (mine, gone, aside, old, stranger, tmp_path / "a"):
        folder.mkdir()
        (folder / "x").write_text(folder.name)
    recover(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [mine.name, stranger.name, "a", "b"]
    )
    assert (tmp_path / "b/x").read_text() == aside.name  # put back
    assert (tmp_path / "a/x").read_text() == "a"


def test_an_error_inside_keeps_the_old_folder(tmp_path):
    with whole_folder(tmp_path / "out") as place:
        (place / "x").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "out", overwrite=True) as place:
        (place / "x").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "out/x").read_text() == "old" and hidden(tmp_path) == []
