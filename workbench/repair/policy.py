"""Who may ask for what: rules in a TOML file, the first that fits decides.

    [[rule]]
    users = ["anna", "support-*"]      # "*" is everybody
    actions = ["forget"]
    relations = ["phone", "email"]
    per_day = 5
    confirm = true

    [[rule]]
    subjects = ["Afghanistan"]
    allow = false

What no rule fits is not allowed. Without a file everybody may forget and correct what is on file,
twenty times a day, and is asked to confirm it.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import Field

from workbench.checked import Checked, checked
from workbench.errors import WorkbenchError
from workbench.facts.readers import read_toml
from workbench.repair.ledger import REPAIRED, Logged
from workbench.repair.plan import RepairPlan


def current_user() -> str:
    """Return the account that asks, for the policy and the log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name, as in some containers
        return "nobody"


class Rule(Checked):
    """One rule; what it does not say fits everything.

    Attributes:
        users: who asks; "*" and "?" stand for any characters.
        actions: what is done.
        subjects: whom it is about.
        relations: what about them; a rule fits only if all that is asked for fits.
        allow: whether it may be done.
        per_day: most repairs of one user in a day (UTC); None for any number.
        confirm: whether the user is shown the plan and asked first.
    """

    users: tuple[str, ...] = ("*",)
    actions: tuple[Literal["forget", "correct"], ...] = ("forget", "correct")
    subjects: tuple[str, ...] = ("*",)
    relations: tuple[str, ...] = ("*",)
    allow: bool = True
    per_day: int | None = Field(20, ge=0)
    confirm: bool = True

    def fits(self, user: str, plan: RepairPlan) -> bool:
        """Whether the rule speaks of such a request."""
        return (
            _any(user, self.users)
            and plan.action in self.actions
            and _any(plan.subject, self.subjects)
            and all(_any(f.relation, self.relations) for f in plan.forget)
        )


class Policy(Checked):
    """All rules, in their order."""

    rule: tuple[Rule, ...] = (Rule(),)

    def decide(self, user: str, plan: RepairPlan, log: Sequence[Logged]) -> Rule:
        """Return the rule that lets a user's plan be done.

        Raises:
            WorkbenchError: none does, or it has been done too often today.
        """
        rule = next((r for r in self.rule if r.fits(user, plan)), None)
        who = user or "you"
        if rule is None or not rule.allow:
            what = ", ".join(dict.fromkeys(f.relation for f in plan.forget))
            raise WorkbenchError(
                f"The policy does not let {who} {plan.action} {what} of {plan.subject}; ask "
                "whoever looks after this model."
            )
        today = datetime.now(UTC).date().isoformat()
        done = [x for x in log if x.user == user and x.time.startswith(today)]
        count = sum(x.outcome.startswith(REPAIRED) for x in done)
        if rule.per_day is not None and count >= rule.per_day:
            raise WorkbenchError(
                f"The policy lets {who} make {rule.per_day} repairs a day, and {count} were made "
                "today; try again tomorrow."
            )
        return rule


def read_policy(path: str | Path | None) -> Policy:
    """Read a policy file; None for the default.

    Raises:
        WorkbenchError: it is no TOML, or something in it is wrong.
    """
    if path is None:
        return Policy()
    return checked(Policy, read_toml(path), str(path))


def _any(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text.casefold(), pattern.casefold()) for pattern in patterns)
