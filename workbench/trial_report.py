"""A trial's results on disk: the table as CSV, what was said as JSON, and the picture as HTML."""

from __future__ import annotations

import json
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.figures.html import drawn, page, section
from workbench.figures.trials import trial_curves
from workbench.models.atomic import whole_folder
from workbench.models.model import Model
from workbench.models.versions import versions
from workbench.repair.trial import Trial


def check_trial_folder(folder: str | Path) -> None:
    """Refuse a folder that holds something, before the long work.

    Raises:
        WorkbenchError: it does.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise WorkbenchError(f"{folder} is there already; choose another folder for the results.")


def write_trial(trial: Trial, folder: str | Path, *, model: Model, seed: int) -> None:
    """Write trial.csv, trial.json and trial.html into a new folder.

    Raises:
        WorkbenchError: the folder is there already, or cannot be written.
    """
    record = {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "seed": seed,
        "versions": versions(),
        "sentences": list(trial.sentences),
        "not_understood": trial.not_understood,
    }
    picture = drawn(trial_curves(trial.table), script=True)
    words = (
        "Every point is one model: the base with that many repairs in force, solved for together. "
        f"Sentences said: {len(trial.sentences)}; not understood: {len(trial.not_understood)}."
    )
    with whole_folder(Path(folder)) as new:
        (new / "trial.csv").write_text(trial.table.to_csv(index=False), encoding="utf-8")
        (new / "trial.json").write_text(
            json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        title = f"How many repairs {model.name} takes"
        text = page(title, [section(title, words, picture)])
        (new / "trial.html").write_text(text, encoding="utf-8")
