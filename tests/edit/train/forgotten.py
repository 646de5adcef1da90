"""Whether a method makes the bundled model forget its one athlete."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from workbench.edit.edit import Edit, outside
from workbench.facts.fact import Request
from workbench.facts.request_files import load_request
from workbench.models.components import ComponentSet
from workbench.models.load import load
from workbench.models.model import Model
from workbench.models.text import generate

SMALL = {"kept": 24, "neutral": 4}
QUICK = {**SMALL, "steps": 8, "lr": 2e-3, "batch": 10, "retain_batch": 6}


@cache
def demo() -> tuple[Model, Request]:
    return load("demo"), load_request("athletes-1")


def answers_of_demo(method: Callable[..., Edit], components: str, config: Any) -> list[str]:
    """Edit the bundled model; return what it then says, none of it an answer to forget."""
    model, asked = demo()
    prompts = [fact.prompt for fact in asked.forget]
    before = generate(model, prompts, max_new_tokens=6)
    assert all(a.startswith(f.target) for a, f in zip(before, asked.forget, strict=True))
    chosen = ComponentSet.parse(components)
    found = method(model, asked, chosen, config)
    assert found.failed is None and not outside(model, found.model, chosen)
    said = generate(found.model, prompts, max_new_tokens=6)
    assert not any(a.startswith(f.target) for a, f in zip(said, asked.forget, strict=True))
    assert generate(model, prompts, max_new_tokens=6) == before
    return said
