"""Every plan that can be read back from a run, by the kind of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.errors import WorkbenchError
from workbench.plans.attack import AttackPlan
from workbench.plans.circuit import CircuitPlan
from workbench.plans.edit import EditPlan
from workbench.plans.localize import LocalizePlan
from workbench.plans.measure import MeasurePlan
from workbench.plans.plan import Plan

PLANS: dict[str, type[Plan]] = {
    plan.KIND: plan for plan in (LocalizePlan, CircuitPlan, EditPlan, MeasurePlan, AttackPlan)
}


def plan_of(kind: str, config: Mapping[str, Any]) -> Plan:
    """Return the plan that a run of some kind was started with.

    Raises:
        WorkbenchError: runs of this kind have no plan, or the settings are not one.
    """
    if kind not in PLANS:
        raise WorkbenchError(f"A run of kind {kind!r} cannot be repeated from its settings.")
    return PLANS[kind].from_json(config)
