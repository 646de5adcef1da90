"""A small request for random tiny models: the answers mean nothing, the mechanics do."""

from __future__ import annotations

from workbench.facts.fact import Fact, FactSet, Request

FORMS = ("Question: Which sport does {} play?\nAnswer:", "{} plays the sport of")


def fact(subject: str, target: str = " tennis") -> Fact:
    prompts = [form.format(subject) for form in FORMS]
    return Fact(subject, prompts[0], target, relation="sport", statements=(prompts[1],))


def facts(*subjects: str) -> FactSet:
    return FactSet(tuple(fact(s) for s in subjects))


def request(forget=("Ada Brook", "Carl Dorn")) -> Request:
    return Request(
        forget=facts(*forget),
        retain=facts("Danielle Darrieux", "Paris Oslo", "Norway Is", "Mother French"),
        unknown=facts("Zed Quux", "Vok Plim", "Tra Mil"),
    )
