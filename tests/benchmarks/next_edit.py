"""An edit of a model that was edited before, against a first one and against training.

The bundled model forgets eight people, or one fact about a person, by STAMP: for the first time,
with nothing kept from before; then, a few times, other people with what the edits before left
behind. RMU and gradient ascent, the fastest of the methods of RePAIR's Table 2 that forget, train
with the settings of the studies `repair-personal` and `repair-one-fact`. One thread, CPU time;
every edit is asked whether it forgot, and what it keeps of 120 facts. The last line of each task
is `ratio: X`, the fastest training that forgets against the middle one of the later edits.

    python tests/benchmarks/next_edit.py [--edits 5]
"""

from __future__ import annotations

import argparse
import random
import statistics
from dataclasses import replace

import torch

from workbench.edit.cost import as_first, metered
from workbench.edit.edit import Edit
from workbench.edit.registry import edit
from workbench.facts.fact import Request
from workbench.facts.request_files import load_request
from workbench.job_inputs import job_settings
from workbench.measure.scorecard import measure
from workbench.models.components import ComponentSet
from workbench.models.load import load
from workbench.models.model import Model

TASKS = {  # where STAMP edits, with which settings
    "personal": ("mlp.0-3", {}),
    "one-fact": ("mlp.4-5", {"at": "answer"}),
}
TRAINING = {
    "rmu": ("mlp.0-3", {"steps": 30, "lr": 1e-3}),
    "ga": ("", {"steps": 30, "lr": 3e-5}),
}


def others(request: Request, seed: int) -> Request:
    """Ask for as much about other subjects, and keep what was asked for first."""
    forget = request.forget
    pool = [
        name
        for name in request.retain.subjects
        if set(forget.relations) <= set(request.retain.about([name]).relations)
    ]
    names = random.Random(seed).sample(pool, len(forget.subjects))
    about = request.retain.about(names).where(lambda f: f.relation in forget.relations)
    chosen = frozenset(f.key for f in about)
    rest = request.retain.where(lambda f: f.key not in chosen)
    return replace(request, forget=about, retain=rest + forget)


def report(label: str, made: Edit, request: Request, base: Model, seconds: float) -> bool:
    """Print one edit; return whether it forgot."""
    card = measure(made.model, request, limit=120)
    said, kept = card.value("acc_f"), card.value("acc_r")
    print(f"{label:12s} {seconds:7.2f} CPU s   said {said:.2f}   kept {kept:.2f}")
    return said == 0


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=5, help="Edits after the first.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    base = load("demo")
    everything = base.structure.everything
    for name, (place, own) in TASKS.items():
        print(f"{name}:")
        first = load_request(name)
        settings = {"ridge": job_settings(name, first).stamp.ridge, **own}
        where, later = ComponentSet.parse(place), []
        with as_first(), metered(base) as cost:
            made = edit("stamp", base, first, where, settings)
        report("stamp, first", made, first, base, cost.cpu_seconds)
        edit("stamp", base, first, where, settings)  # as_first keeps nothing on disk
        for seed in range(given.edits):
            request = others(first, seed)
            with metered(base) as cost:
                made = edit("stamp", base, request, where, settings)
            if report("stamp, next", made, request, base, cost.cpu_seconds):
                later.append(cost.cpu_seconds)
        trained = []
        for method, (where_trained, options) in TRAINING.items():
            chosen = ComponentSet.parse(where_trained) if where_trained else everything
            with as_first(), metered(base) as cost:
                made = edit(method, base, first, chosen, options)
            if report(method, made, first, base, cost.cpu_seconds):
                trained.append(cost.cpu_seconds)
        if trained and later:
            print(f"ratio: {min(trained) / statistics.median(later):.1f}")


if __name__ == "__main__":
    main()
