"""`workbench repair`: tell a model in plain words what to forget or to correct."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from workbench.cli.console import Json, ModelName, Seed, columns, emit, progress_bar
from workbench.cli.repair_text import card, report
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.repair.ledger import Ledger
    from workbench.repair.plan import RepairPlan
    from workbench.repair.service import Service


class _AskFirst(TyperGroup):
    """A group whose first word may be a model: then it is a request."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Take what is no command for the model of a request."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["ask", *args]
        return super().resolve_command(ctx, args)


repair_app = typer.Typer(
    cls=_AskFirst,
    help="Tell a model in plain words what to forget or to correct; see and undo repairs.\n\n"
    'Example: workbench repair demo "Please forget which sport Mona Zojum plays."',
    no_args_is_help=True,
    rich_markup_mode=None,
)
_LEDGER = Annotated[
    Path | None, typer.Option("--ledger", help="The folder of the model's repairs.")
]
_ID = Annotated[str, typer.Argument(help="The repair, as `workbench repair list` shows it.")]


@repair_app.command("ask")
def ask(
    model: ModelName,
    message: Annotated[str, typer.Argument(help="What the user says.")] = "",
    before: Annotated[
        list[str] | None, typer.Option(help="What the user said before; may be given repeatedly.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="A saved plan to carry out instead of a message.")
    ] = None,
    save_plan: Annotated[
        Path | None, typer.Option(help="Write the plan to this file, to read and change it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, change nothing.")] = (
        False
    ),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    user: Annotated[str, typer.Option(help="Who asks, for the policy and the log.")] = "",
    policy: Annotated[Path | None, typer.Option(help="A policy file: who may ask what.")] = None,
    facts: Annotated[Path | None, typer.Option(help="A fact file about the model's world.")] = None,
    watchdog: Annotated[
        str, typer.Option(help="A chat model that reads the message, in place of the bundled one.")
    ] = "",
    surgeon: Annotated[
        str, typer.Option(help="A chat model that may change how the plan is carried out.")
    ] = "",
    ledger: _LEDGER = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Repair a model as a message asks for.

    Example: workbench repair demo "Please forget which sport Mona Zojum plays." --yes
    """
    from workbench.models.load import load
    from workbench.repair.intent import Turn
    from workbench.repair.plan import RepairPlan
    from workbench.repair.policy import current_user
    from workbench.repair.service import NOTHING_ASKED, Proposal, Service

    if bool(message) == bool(plan):
        raise WorkbenchError("Say what to forget or to correct, or give a saved plan with --plan.")
    user = user or current_user()
    with progress_bar(as_json) as progress:
        base = load(model, progress=progress)
        hears, plans = (load(n, progress=progress) if n else None for n in (watchdog, surgeon))
        files = {"folder": ledger, "facts": facts, "policy": policy}
        roles = {"hears": hears, "plans": plans}
        service = Service.open(base, **files, **roles, seed=seed, progress=progress)
        if plan is not None:
            proposals: tuple[Proposal, ...] = (Proposal(RepairPlan.load(plan), confirm=True),)
        else:
            turns = [Turn("user", text) for text in (*(before or ()), message)]
            proposals = service.hear(turns, user=user, progress=progress)
    if not proposals:
        emit([], NOTHING_ASKED, as_json)
        return
    out = []
    for proposal in proposals:
        out.append(_one(service, proposal, save_plan, dry_run, yes, user, as_json))
    if as_json:
        emit(out, "", as_json=True)


def _one(
    service: Service,
    proposal: Any,
    save_plan: Path | None,
    dry_run: bool,
    yes: bool,
    user: str,
    as_json: bool,
) -> dict[str, Any]:
    """Show one plan, ask, and carry it out."""
    plan: RepairPlan = proposal.plan
    if save_plan is not None:
        plan.save(save_plan)
    if not as_json:
        typer.echo(card(plan))
    if dry_run:
        return {"plan": plan.to_json()}
    if proposal.confirm and not yes and (as_json or not typer.confirm("Do it?", default=False)):
        said = "Nothing was changed; confirm with --yes."
        if not as_json:
            typer.echo(said)
        return {"plan": plan.to_json(), "done": False, "said": said}
    with progress_bar(as_json) as progress:
        repair, entry = service.carry_out(plan, user=user, progress=progress)
    if not as_json:
        typer.echo(report(repair, entry))
    return {"plan": plan.to_json(), "done": True, "repair": entry.id, "found": list(entry.found)}


@repair_app.command("list")
def list_(model: ModelName, ledger: _LEDGER = None, as_json: Json = False) -> None:
    """List every repair of a model.

    Example: workbench repair list demo
    """
    book = _ledger_of(model, ledger)
    active = {entry.id for entry in book.active}
    rows = [
        {
            "id": entry.id,
            "what": entry.plan.what,
            "in_force": entry.id in active,
            "user": entry.user,
            "said": entry.plan.said,
        }
        for entry in book.entries
    ]
    shown = [
        (r["id"], "in force" if r["in_force"] else "taken back", r["what"], r["user"]) for r in rows
    ]
    emit(rows, columns(shown) if shown else "No repair was made yet.", as_json)


@repair_app.command("explain")
def explain(repair: _ID, ledger: _LEDGER = None, as_json: Json = False) -> None:
    """Say what a repair was for, where it changed the model, and what was found.

    Example: workbench repair explain 20261122-101530-3fa9c1
    """
    entry = _book_with(repair, ledger).entry(repair)
    found = [f"  {x['check']} {x['value']} (limit {x['limit']})" for x in entry.found]
    text = "\n".join(
        [
            f"{entry.user} said at {entry.time}: {entry.plan.said}",
            card(entry.plan),
            *found,
            f"  settings: {dict(entry.settings)}",
        ]
    )
    emit(entry.to_json(), text, as_json)


@repair_app.command("undo")
def undo(repair: _ID, ledger: _LEDGER = None, as_json: Json = False) -> None:
    """Take a repair back; the others stay.

    Example: workbench repair undo 20261122-101530-3fa9c1
    """
    from workbench.repair.policy import current_user

    book = _book_with(repair, ledger)
    with progress_bar(as_json) as progress:
        service = _service(book, progress)
        service.undo(repair, user=current_user(), progress=progress)
    left = [entry.id for entry in book.active]
    emit({"undone": repair, "in_force": left}, f"Taken back; {len(left)} are in force.", as_json)


@repair_app.command("bisect")
def bisect(
    model: ModelName,
    prompt: Annotated[str, typer.Argument(help="What the model is asked.")],
    expected: Annotated[str, typer.Argument(help="What the answer should hold.")],
    ledger: _LEDGER = None,
    as_json: Json = False,
) -> None:
    """Find the repair after which a prompt is no longer answered as expected.

    Example: workbench repair bisect demo "Q: Which sport does Rhea Zunwil play?" swimming
    """
    book = _ledger_of(model, ledger)
    with progress_bar(as_json) as progress:
        found, said = _service(book, progress).patient.bisect(prompt, expected, progress=progress)
    end = f"{found.id}: {found.plan.what}" if found else "No repair broke it."
    value = {"repair": found.id if found else None, "said": list(said)}
    emit(value, "\n".join([*said, end]), as_json)


@repair_app.command("export")
def export(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="The delta file to write (.safetensors).")],
    ledger: _LEDGER = None,
    as_json: Json = False,
) -> None:
    """Write the change of the weights by all repairs in force, for `workbench export --delta`.

    Example: workbench repair export demo --out repairs.safetensors
    """
    delta = _ledger_of(model, ledger).delta()
    if delta is None:
        raise WorkbenchError("No repair is in force, so there is nothing to write.")
    delta.save(out)
    emit({"delta": str(out)}, f"Wrote {out}.", as_json)


def _ledger_of(model: str, folder: Path | None) -> Ledger:
    from workbench.models.load import load
    from workbench.repair.ledger import Ledger

    return Ledger.of(load(model), folder)


def _book_with(repair: str, folder: Path | None) -> Ledger:
    from workbench.repair.ledger import Ledger, ledger_with

    return Ledger.open(folder or ledger_with(repair))


def _service(book: Ledger, progress: Any) -> Service:
    from workbench.models.load import load
    from workbench.repair.service import Service

    return Service.open(load(book.model, progress=progress), folder=book.folder, progress=progress)
