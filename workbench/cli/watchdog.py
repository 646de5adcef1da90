"""`workbench watchdog`: what a message asks to forget or to correct."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.console import Json, Seed, columns, emit, progress_bar
from workbench.errors import WorkbenchError

watchdog_app = typer.Typer(
    help="Who hears what a message asks to forget.\n\n"
    'Example: workbench watchdog read "Please forget where Ada Brook was born."',
    no_args_is_help=True,
    rich_markup_mode=None,
)
_MODEL = Annotated[
    str, typer.Option("--model", help="A chat model to read in place of the bundled watchdog.")
]
_FILE = Annotated[
    Path | None, typer.Option("--file", help="A watchdog of your own; by default the bundled one.")
]


@watchdog_app.command("read")
def watchdog_read(
    message: Annotated[str, typer.Argument(help="What the user says.")],
    before: Annotated[
        list[str] | None, typer.Option(help="What the user said before; may be given repeatedly.")
    ] = None,
    file: _FILE = None,
    model: _MODEL = "",
    as_json: Json = False,
) -> None:
    """Say what a message asks to forget or to correct, if anything.

    Example: workbench watchdog read "Forget that, please." --before "Where does Ada Brook live?"
    """
    from workbench.repair.intent import Turn

    turns = [Turn("user", text) for text in (*(before or ()), message)]
    with progress_bar(as_json) as progress:
        found = _reader(file, model, progress).read(turns)
    lines = [f"{intent} ({intent.confidence:.2f})" for intent in found]
    emit([i.to_json() for i in found], "\n".join(lines or ["Nothing is asked for."]), as_json)


@watchdog_app.command("train")
def watchdog_train(
    file: Annotated[Path, typer.Option("--file", help="Where to write it.")] = Path(
        "watchdog.safetensors"
    ),
    count: Annotated[int | None, typer.Option(min=1, help="Messages to make up.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over them.")] = None,
    seed: Seed = 0,
    meanings: Annotated[
        str, typer.Option(help="The model that says what words mean; empty to train without.")
    ] = "smollm2",
    as_json: Json = False,
) -> None:
    """Train a watchdog on made-up messages.

    Example: workbench watchdog train --file watchdog.safetensors
    """
    from workbench.models.load import load
    from workbench.repair.meanings import common_words, meanings_of
    from workbench.repair.watchdog_training import TrainConfig, train

    given: dict[str, Any] = {"count": count, "epochs": epochs}
    config = TrainConfig(seed=seed, **{k: v for k, v in given.items() if v is not None})
    with progress_bar(as_json) as progress:
        meant = None
        if meanings:
            model = load(meanings, progress=progress)
            meant = meanings_of(common_words(), model, progress=progress)
        watchdog = train(config, meant, progress=progress)
    watchdog.save(file)
    said = f"Wrote {file}. Test it: workbench watchdog test --file {file}"
    emit({"file": str(file), "words": len(watchdog.known.words)}, said, as_json)


@watchdog_app.command("test")
def watchdog_test(
    file: _FILE = None,
    model: _MODEL = "",
    count: Annotated[int, typer.Option(min=1, help="Messages to make up.")] = 3000,
    seed: Seed = 0,
    written: Annotated[
        bool, typer.Option("--written", help="Take the bundled messages written one by one.")
    ] = False,
    messages: Annotated[
        Path | None, typer.Option(help="A TOML file of such messages of your own.")
    ] = None,
    errors: Annotated[int, typer.Option(min=0, help="Errors of each kind to show.")] = 0,
    as_json: Json = False,
) -> None:
    """Test a watchdog on messages whose phrasings and subjects no training message had.

    Example: workbench watchdog test --count 1000
    """
    from workbench.repair.messages import messages as made_up
    from workbench.repair.watchdog_training import examine
    from workbench.repair.written import written_messages

    by_hand = written or messages is not None
    found = written_messages(messages) if by_hand else made_up("test", count, seed=seed)
    with progress_bar(as_json) as progress:
        report = examine(_reader(file, model, progress), found, shown=errors, progress=progress)
    rows = [
        (words, f"{found.value:.3f}", f"[{found.low:.3f}, {found.high:.3f}]", f"n = {found.n}")
        for words, found in (
            ("requests detected", report.detection),
            ("subjects and words found to the letter", report.exact),
            ("false alarms", report.false_alarms),
        )
    ]
    wrong = (
        ("Not heard", report.missed),
        ("Heard, but not to the letter", report.inexact),
        ("False alarms", report.alarms),
    )
    listed = [
        f"\n{kind}:\n" + "\n".join(f"  {t!r}" for t in texts) for kind, texts in wrong if texts
    ]
    emit(report.to_json(), "\n".join([columns(rows), *listed]), as_json)


def _reader(file: Path | None, model: str, progress: Any) -> Any:
    """Return who is to read: a watchdog from a file, the bundled one, or a chat model."""
    from workbench.models.load import load
    from workbench.repair.chat_watchdog import ChatWatchdog
    from workbench.repair.watchdog import Watchdog

    if model and file:
        raise WorkbenchError("Give a watchdog's file or a chat model, not both.")
    return ChatWatchdog(load(model, progress=progress)) if model else Watchdog.load(file)
