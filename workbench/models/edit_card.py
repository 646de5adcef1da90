"""The edit card: README.md for people and edit.json for programs, beside an exported model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.models.delta import WeightDelta
from workbench.models.model import Model

SCHEMA = "workbench-edit-1"


def edit_record(
    model: Model,
    base: Model | None,
    delta: WeightDelta | None,
    scorecard: Mapping[str, Any] | None,
    *,
    certificate: Mapping[str, Any] | None = None,
    files: Mapping[str, str],
    differences: Mapping[str, float],
) -> dict[str, Any]:
    """Return what edit.json holds.

    Args:
        model: the exported model.
        base: what it was made from, if known.
        delta: the edit, if there is one.
        scorecard: its measures.
        certificate: what attacks brought back.
        files: SHA-256 of every other file by relative name.
        differences: largest logit difference of each verified format.
    """
    from workbench import __version__

    origin = delta.origin.to_json() if delta else None
    known = delta.origin.model_fingerprint if delta else ""
    return {
        "schema": SCHEMA,
        "workbench": __version__,
        "base": {"name": model.name, "fingerprint": base.fingerprint if base else known or None},
        "edited": {"fingerprint": model.fingerprint},
        "components": delta.origin.components if delta else "",
        "parameters": sorted(delta.updates) if delta else [],
        "origin": origin,
        "scorecard": dict(scorecard) if scorecard else None,
        "robustness": dict(certificate) if certificate else None,
        "max_logit_difference": dict(differences),
        "files": dict(files),
    }


def edit_card(
    model: Model,
    delta: WeightDelta | None,
    scorecard: Mapping[str, Any] | None,
    formats: Sequence[str],
    certificate: Mapping[str, Any] | None = None,
) -> str:
    """Return README.md: what was edited and how, what was measured, how to load and undo."""
    blocks = [_front_matter(model), f"# {model.name}, edited" if delta else f"# {model.name}"]
    blocks += [_what(model, delta), _measures(scorecard), _robustness(certificate)]
    blocks += [_use(model, formats), _undo(delta, formats)]
    return "\n\n".join(b for b in blocks if b) + "\n"


def _front_matter(model: Model) -> str:
    task = "text-generation" if model.vision is None else "image-text-to-text"
    lines = ["library_name: transformers", f"pipeline_tag: {task}"]
    lines += ["tags:", "- model-editing", "- unlearning", "- edit-workbench"]
    lines.append(f"base_model: {json.dumps(model.name)}")
    return "\n".join(["---", *lines, "---"])


def _what(model: Model, delta: WeightDelta | None) -> str:
    if delta is None:
        return f"An unedited copy of `{model.name}`."
    lines = [f"`{model.name}` with the weights of some components changed on purpose.", ""]
    for i, origin in enumerate(delta.origin.parts or (delta.origin,), start=1):
        lines.append(f"{i}. Method `{origin.method}`, components `{origin.components}`.")
        settings = json.dumps(dict(origin.config), ensure_ascii=False, sort_keys=True)
        lines.append(f"   Settings: `{settings}`, seed {origin.seed}.")
    lines += ["", "These parameters differ from the base; every other is the same:"]
    lines += [f"- `{name}`" for name in sorted(delta.updates)]
    return "\n".join(lines)


def _measures(scorecard: Mapping[str, Any] | None) -> str:
    if not scorecard:
        return "## Measured\n\nNothing was measured before this export."
    rows = [f"| {name} | {value} |" for name, value in _flat(scorecard)]
    return "\n".join(["## Measured", "", "| measure | value |", "|---|---|", *rows])


def _robustness(certificate: Mapping[str, Any] | None) -> str:
    """Write what attacks brought back, the worst on top."""
    if not certificate:
        return "## Does it come back?\n\nNo attack was tried before this export."
    head = ("attack", "worst setting", "n", "attacked", "before", "base", "brought back", "oracle")
    lines = ["## Does it come back?", ""]
    lines.append("Share of what was removed that each attack brings back, the worst on top:")
    lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in certificate["rows"]:
        if row["value"] is None:
            cells = [row["attack"], row["note"] or "not measured", *[""] * (len(head) - 2)]
        else:
            interval = f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
            shares = [row[k] for k in ("before", "base", "recovered", "oracle_recovered")]
            shown = ["" if share is None else f"{share:.2f}" for share in shares]
            name = f"{row['attack']} (needs the base)" if row["diagnostic"] else row["attack"]
            cells = [name, row["setting"], f"{row['n']:.0f}", interval, *shown]
        lines.append(f"| {' | '.join(str(c).replace('|', '/') for c in cells)} |")
    return "\n".join(lines)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            yield f"{prefix}{key}", shown.replace("|", "\\|").replace("\n", " ")


def _use(model: Model, formats: Sequence[str]) -> str:
    kind, reader, name = "AutoModelForCausalLM", "AutoTokenizer", "tokenizer"
    if model.vision is not None:
        kind, reader, name = "LlavaForConditionalGeneration", "AutoProcessor", "processor"
    code = [f"from transformers import {', '.join(sorted((kind, reader)))}", ""]
    if "checkpoint" in formats:
        code += [
            f"model = {kind}.from_pretrained(FOLDER)",
            f"{name} = {reader}.from_pretrained(FOLDER)",
        ]
    elif "lora" in formats:
        code.append(f"model = {kind}.from_pretrained(BASE)")
    if "lora" in formats:
        code += ["", "# or: the base model with the edit as an adapter"]
        code += [
            "from peft import PeftModel",
            "",
            f"base = {kind}.from_pretrained(BASE)",
        ]
        code.append('edited = PeftModel.from_pretrained(base, FOLDER + "/lora")')
    if len(code) == 2:
        return ""
    return "\n".join(["## Load", "", "```python", *code, "```"])


def _undo(delta: WeightDelta | None, formats: Sequence[str]) -> str:
    if delta is None:
        return ""
    lines = ["## Undo", "", "Use the base model: it was not changed."]
    if "delta" in formats:
        lines.append(
            "`delta/delta.safetensors` holds the difference; subtracting it from this checkpoint "
            "gives the base up to rounding."
        )
    return "\n".join(lines)
