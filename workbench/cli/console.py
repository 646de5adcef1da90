"""What all commands share: errors as sentences, a progress bar, output for people or machines."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from workbench.errors import WorkbenchError
from workbench.models.atomic import whole_folder
from workbench.progress import Cancelled, Progress, seconds_left

USER_ERROR, INTERRUPTED = 2, 130
_interrupted = threading.Event()
_WIDTH = 24

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
ModelName = Annotated[str, typer.Argument(help="demo, demo-vision, smollm2, a folder or a hub id.")]
RequestName = Annotated[
    str, typer.Option(help="A bundled request's name, capitals, or a request file.")
]
Deltas = Annotated[list[Path] | None, typer.Option(help="A delta file to apply; may be repeated.")]
FactsFile = Annotated[Path | None, typer.Option(help="A fact file to look at.")]
LOST_BY = (
    "How the subject is lost: noise, replace (another subject's tokens), image (noise for its "
    "picture), image-gaussian or image-patches."
)
Samples = Annotated[int | None, typer.Option(min=1, help="Corrupted samples per fact.")]
MetricName = Annotated[str | None, typer.Option(help="What is measured, such as probability.")]
Relation = Annotated[str | None, typer.Option(help="Only facts of this relation.")]
SubjectName = Annotated[str | None, typer.Option(help="Only facts about this subject.")]
Most = Annotated[int, typer.Option(min=1, help="Most facts to look at, drawn by the seed.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


class Guarded(TyperGroup):
    """A command group that turns errors into one sentence and an exit code.

    2: something in the input is wrong. 130: the user stopped it. Anything else is a fault of the
    program and keeps its traceback.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except WorkbenchError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(USER_ERROR) from error
        except (KeyboardInterrupt, Cancelled) as stop:
            typer.echo("Stopped; nothing half-done is left behind.", err=True)
            raise typer.Exit(INTERRUPTED) from stop
        except BrokenPipeError:
            # The reader (head, less) is gone; keep the interpreter from failing again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None


def heed_interrupts() -> None:
    """Stop at the next step even where an interrupt's exception is lost.

    Python drops what is raised while it lets go of an object, and with it the user's Ctrl-C. A
    process that was started to ignore interrupts goes on ignoring them.
    """

    def note(number: int, frame: object) -> None:
        _interrupted.set()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)


class Bar:
    """One line on a terminal: label, bar, steps, time left."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.label, self.start, self.drawn = "", 0.0, 0.0

    def report(self, done: int, total: int, label: str) -> None:
        """Draw a state; at most ten times a second."""
        now = time.monotonic()
        if label != self.label:
            self.label, self.start, self.drawn = label, now, 0.0
        if now - self.drawn < 0.1 and done < total:
            return
        self.drawn = now
        self.stream.write("\r\x1b[K" + bar_line(done, total, label, now - self.start))
        self.stream.flush()

    def clear(self) -> None:
        """Leave the line empty."""
        self.stream.write("\r\x1b[K")
        self.stream.flush()


def bar_line(done: int, total: int, label: str, seconds: float) -> str:
    """Write one state of the progress, with the time left once there is something to go by."""
    share = done / total if total else 1.0
    full = round(share * _WIDTH)
    line = f"{label:<28.28} [{'#' * full}{'-' * (_WIDTH - full)}] {done}/{total}"
    left = seconds_left(done, total, seconds)
    if left is not None:
        line += f", {round(left) // 60}:{round(left) % 60:02d} left"
    return line


@contextmanager
def progress_bar(as_json: bool) -> Iterator[Progress]:
    """Show progress on stderr if a person looks at it."""
    if as_json or not sys.stderr.isatty():
        yield Progress(cancelled=_interrupted.is_set)
        return
    bar = Bar(sys.stderr)
    try:
        yield Progress(bar.report, _interrupted.is_set)
    finally:
        bar.clear()


def emit(value: Mapping[str, Any] | Sequence[Any], text: str, as_json: bool) -> None:
    """Print one JSON document, or the text for people."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=str) if as_json else text)


def columns(rows: Sequence[Sequence[object]]) -> str:
    """Lay rows out in aligned columns."""
    cells = [[str(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def check_output(path: Path, overwrite: bool) -> Path:
    """Refuse an output file that cannot be written, before the work begins.

    Raises:
        WorkbenchError: it exists and may not be replaced, or its folder cannot be written to.
    """
    path = path.expanduser()
    if path.is_dir():
        raise WorkbenchError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not overwrite:
        raise WorkbenchError(
            f"{path} already exists and was left as it is; choose another name or overwrite it "
            "with --overwrite."
        )
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise WorkbenchError(
            f"Cannot write {path}: its folder does not exist or is not writable; choose another."
        )
    return path


class _Fine(Exception):
    """The folder can be written."""


def check_folder(path: Path, overwrite: bool) -> None:
    """Refuse an output folder that cannot be written, before the work begins.

    Raises:
        WorkbenchError: it exists and may not be replaced, or cannot be written.
    """
    with suppress(_Fine), whole_folder(path.expanduser(), overwrite=overwrite):
        raise _Fine


def settings_of(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Read `--set key=value` options.

    Raises:
        WorkbenchError: one of them is not of this form.
    """
    out: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise WorkbenchError(f"Cannot read the setting {pair!r}; write it as key=value.")
        out[key.strip()] = value.strip()
    return out
