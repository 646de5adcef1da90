"""The `workbench` command and its subcommands."""

from __future__ import annotations

import typer

from workbench.cli.attack import attack, compare
from workbench.cli.change import edit, export, measure
from workbench.cli.circuit import circuit
from workbench.cli.console import Guarded, heed_interrupts
from workbench.cli.demo import demo
from workbench.cli.locate import localize
from workbench.cli.look import facts_app, models_app, runs_app
from workbench.cli.repair import repair_app
from workbench.cli.repair_trial import task, trial
from workbench.cli.serve import serve
from workbench.cli.watchdog import watchdog_app

app = typer.Typer(
    name="workbench",
    cls=Guarded,
    help="Find where a language model recalls facts, remove them there and only there, and prove "
    "it.\n\nExample: workbench demo --out my-first-edit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.add_typer(models_app, name="models")
app.add_typer(facts_app, name="facts")
app.command()(localize)
app.command()(circuit)
app.command()(edit)
app.command()(measure)
app.command()(attack)
app.command()(compare)
app.command()(export)
repair_app.command()(trial)
repair_app.command()(task)
app.add_typer(repair_app, name="repair")
app.add_typer(watchdog_app, name="watchdog")
app.add_typer(runs_app, name="runs")
app.command("app")(serve)


@app.callback()
def _version(
    version: bool = typer.Option(False, "--version", is_eager=True, help="Show the version."),
) -> None:
    if version:
        from workbench import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    heed_interrupts()
    app()
