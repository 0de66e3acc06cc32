"""A solver as data: instructions, builder with type check, order walk, weights, lowering, and the
one loop."""

from .builder import Lin, PlanBuilder, dot
from .densities import Transition, transitions
from .instructions import Combine, Draw, Evaluate, Plan, PlanError
from .running.loop import Cursor, NumericalError, RunState, StepState, advance, run
from .running.lowering import Program, lower
from .walk import local_defects, walked_order

__all__ = [
    "Combine",
    "Cursor",
    "Draw",
    "Evaluate",
    "Lin",
    "NumericalError",
    "Plan",
    "PlanBuilder",
    "PlanError",
    "Program",
    "RunState",
    "StepState",
    "Transition",
    "advance",
    "dot",
    "local_defects",
    "lower",
    "run",
    "transitions",
    "walked_order",
]
