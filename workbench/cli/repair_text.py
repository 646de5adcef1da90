"""Plans and repairs in words, for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.repair.ledger import Entry
    from workbench.repair.patient import Repair
    from workbench.repair.plan import RepairPlan


def card(plan: RepairPlan) -> str:
    """Write a plan for people."""
    places = "; ".join(f"{site}: {parts}" for site, parts in plan.sites.items())
    kept = ", ".join(f"{n} {what}" for what, n in plan.keep.items())
    lines = [f"{plan.what}."]
    for fact, seen in zip(plan.forget, plan.evidence, strict=False):
        becomes = f" -> {(fact.foil or '').strip()}" if plan.action == "correct" else ""
        share = f"{seen.agreed:.0%} of {seen.asked} wordings"
        lines.append(f"  {fact.relation}: {seen.answer}{becomes} ({share})")
    lines.append(f"  where: {places}, by {plan.method}")
    lines.append(f"  kept: {kept}")
    return "\n".join(lines)


def report(repair: Repair, entry: Entry) -> str:
    """Write what a repair did for people."""
    first = entry.answers[0]
    found = "\n".join(f"  {f}" for f in repair.examination.found)
    return (
        f"Done in {repair.seconds:.1f} s ({repair.tried} tried).\n{found}\n"
        f"  {str(first['prompt']).strip()!r}\n    before: {str(first['base_answer']).strip()}\n"
        f"    after:  {str(first['answer']).strip()}\n"
        f"Take it back: workbench repair undo {entry.id}"
    )
