"""Reload an exported model as a stranger would, and compare it with what was exported.

Run by path in a clean process; imports torch, transformers, safetensors (Pillow for pictures, peft
for an adapter), never this package. Reads a JSON request from the file named on the command line
and prints one JSON line: for each export the largest logit difference, and a list of what differs
otherwise.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    PreTrainedModel,
)


def main() -> None:
    """Answer the request, job by job."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    reference = load_file(request["reference"])
    answers = []
    for job in request["jobs"]:
        problems: list[str] = []
        model = _model(job, request)
        if job["adapter"] is None:
            problems += _differences(model, request)
            problems += _tokenizer_differences(job["folder"], request)
            problems += _processor_differences(job["folder"], request, reference)
        answers.append({"difference": _largest(model, reference), "problems": problems})
    print(json.dumps(answers))


def _model(job: dict[str, Any], request: dict[str, Any]) -> PreTrainedModel:
    dtype = getattr(torch, request["dtype"])
    kind: Any = LlavaForConditionalGeneration if request["pictured"] else AutoModelForCausalLM
    model: Any = kind.from_pretrained(
        job["folder"], dtype=dtype, use_safetensors=True, local_files_only=True
    )
    if job["adapter"] is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job["adapter"])
    return model.to(request["device"]).eval()


def _differences(model: PreTrainedModel, request: dict[str, Any]) -> list[str]:
    out = []
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(flat.numpy().tobytes())
    if digest.hexdigest() != request["fingerprint"]:
        out.append("the parameters are not byte for byte the edited model's")
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    if tied != request["tied"]:
        out.append("input and output embeddings are tied in one of the two only")
    return out


def _tokenizer_differences(folder: str, request: dict[str, Any]) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    out = []
    for text, ids in request["texts"]:
        if list(tokenizer(text)["input_ids"]) != ids:
            out.append("the tokenizer makes other tokens")
            break
    if tokenizer.chat_template != request["chat_template"]:
        out.append("the chat template is another one")
    return out


def _processor_differences(
    folder: str, request: dict[str, Any], reference: dict[str, torch.Tensor]
) -> list[str]:
    if not request["pictured"]:
        return []
    from PIL import Image

    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    for prompt in request["pictured"]:
        images = [Image.open(file) for file in prompt["files"]]
        made = processor(text=prompt["text"], images=images, return_tensors="pt")
        ids, pixels = (reference[f"{name}.{prompt['run']}"] for name in ("ids", "pixel_values"))
        if not torch.equal(made["input_ids"], ids):
            return ["the processor makes other tokens of a prompt with a picture"]
        if not torch.equal(made["pixel_values"], pixels):
            return ["the processor makes other pixels of a picture"]
    return []


@torch.no_grad()
def _largest(model: PreTrainedModel, reference: dict[str, torch.Tensor]) -> float:
    largest = 0.0
    for name, ids in reference.items():
        if not name.startswith("ids."):
            continue
        pixels = reference.get(f"pixel_values.{name[4:]}")
        shown = {} if pixels is None else {"pixel_values": pixels.to(model.device)}
        logits = model(input_ids=ids.to(model.device), **shown).logits.cpu().double()
        difference = (logits - reference[f"logits.{name[4:]}"].double()).abs().max()
        if not torch.isfinite(difference):
            return float("1e30")
        largest = max(largest, float(difference))
    return largest


if __name__ == "__main__":
    main()
