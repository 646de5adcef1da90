"""Operations as values: a plan says what to do, can be written as a command, and runs recorded.

The command line and the browser make the same plans, so what one did the other can repeat.
"""

from workbench.plans.attack import AttackPlan, run_attack
from workbench.plans.circuit import CircuitPlan, run_circuit
from workbench.plans.edit import EditPlan, run_edit
from workbench.plans.export import ExportPlan, run_export
from workbench.plans.localize import LocalizePlan, run_localize
from workbench.plans.measure import MeasurePlan, run_measure
from workbench.plans.plan import Plan, Recorded
from workbench.plans.registry import plan_of

__all__ = [
    "AttackPlan",
    "CircuitPlan",
    "EditPlan",
    "ExportPlan",
    "LocalizePlan",
    "MeasurePlan",
    "Plan",
    "Recorded",
    "plan_of",
    "run_attack",
    "run_circuit",
    "run_edit",
    "run_export",
    "run_localize",
    "run_measure",
]
