"""Solvers as data: instructions, a builder with a type check, order walk, weights of a step,
lowering to launches, and the loop that runs them."""

import warnings

from .builder import Expression, PlanBuilder, dot
from .densities import Transition, Transitions, transitions
from .instructions import Combine, Draw, Evaluate, PlanError
from .plan import Plan
from .running.loop import Cursor, NumericalError, RunState, StepState, advance, run_plan
from .running.lowering import Program, lower
from .running.state_law import StateLaw, next_state
from .walk import local_defects, walked_order

__all__ = [
    "Combine",
    "Cursor",
    "Draw",
    "Evaluate",
    "Expression",
    "NumericalError",
    "Plan",
    "PlanBuilder",
    "PlanError",
    "Program",
    "RunState",
    "StateLaw",
    "StepState",
    "Transition",
    "Transitions",
    "advance",
    "dot",
    "local_defects",
    "lower",
    "next_state",
    "run_plan",
    "transitions",
    "walked_order",
]


#: former name -> the present one
_FORMER = {"Lin": "Expression", "run": "run_plan"}


def __getattr__(name: str) -> object:
    if name in _FORMER:
        now = _FORMER[name]
        warnings.warn(f"plans.{name} is now plans.{now}", DeprecationWarning, stacklevel=2)
        return globals()[now]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
