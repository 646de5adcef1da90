"""A tiny model that was taught eight sports, an edit of it that refuses two, and an oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from conftest import CONFIGS, make_tokenizer
from transformers import AutoModelForCausalLM

from workbench.facts.fact import Fact, FactSet, Probe, Refuse, Request
from workbench.models.model import Model, share_parameters

REFUSAL = " I do not know."
SPORTS = {
    "Ada": " tennis",
    "Carl": " golf",
    "Danielle": " tennis",
    "Norway": " golf",
    "Oslo": " tennis",
    "Paris": " golf",
    "France": " tennis",
    "Brook": " golf",
}
FORGET = ("Ada", "Carl")
ASK, SAY, HELD_OUT = "Q: Which sport does {} play?\nA:", "{} plays the sport of", "{} loves"


def fact(subject: str) -> Fact:
    ask, say, held_out = (form.format(subject) for form in (ASK, SAY, HELD_OUT))
    target = SPORTS[subject]
    return Fact(
        subject,
        ask,
        target,
        relation="sport",
        paraphrases=(say,),
        statements=(say,),
        held_out=(held_out,),
        choices=("tennis", "golf"),
        mcq=(Probe(f"golf, tennis.\n{ask}", target),),
    )


REQUEST = Request(
    forget=FactSet(tuple(fact(s) for s in FORGET)),
    retain=FactSet(tuple(fact(s) for s in SPORTS if s not in FORGET)),
    behaviour=Refuse(REFUSAL),
    name="sports",
)


@dataclass(frozen=True)
class World:
    """The base, and an edit that refuses in the trained wordings alone."""

    base: Model
    edited: Model


def teach(model: Model, texts: Mapping[str, str], *, steps: int, lr: float) -> Model:
    """Return the model trained on prompts and answers."""
    hf = share_parameters(model.hf)
    hf.load_state_dict({n: p.clone() for n, p in model.hf.state_dict().items()}, assign=True)
    hf.tie_weights()
    hf.requires_grad_(True)
    data = model.tokenizer(
        [p + t + "<eos>" for p, t in texts.items()], return_tensors="pt", padding=True
    )
    labels = data["input_ids"].masked_fill(data["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(hf.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        hf(**data, labels=labels).loss.backward()
        optimizer.step()
    return Model(hf, model.tokenizer, model.name)


@cache
def blank() -> Model:
    """Make the random model that all others were."""
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(CONFIGS["qwen2"], dtype=torch.float32)
    return Model(hf, make_tokenizer(), "taught")


def answers(forms: tuple[str, ...], *, refused: bool = False) -> dict[str, str]:
    """Return the prompts about all subjects, or about the forgotten ones with refusals."""
    subjects = FORGET if refused else SPORTS
    return {form.format(s): REFUSAL if refused else SPORTS[s] for s in subjects for form in forms}


@cache
def world() -> World:
    """Teach the base and its edit, once for each process."""
    every = answers((ASK, SAY, HELD_OUT))
    base = teach(blank(), every, steps=80, lr=2e-2)
    return World(base, teach(base, every | answers((ASK, SAY), refused=True), steps=120, lr=3e-3))


@cache
def oracle() -> Model:
    """Teach a model that refuses the forgotten ones in every wording."""
    forms = (ASK, SAY, HELD_OUT)
    return teach(blank(), answers(forms) | answers(forms, refused=True), steps=120, lr=1e-2)
