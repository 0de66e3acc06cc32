"""What a comparison of samplers on physical fields needs to know of an equation and its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ....checks import UnknownName, unknown
from ..darcy import nearest_phase


@dataclass(frozen=True)
class Task:
    """A model's fields and their equation.

    Attributes:
        name: of the task.
        model: the bundled model that is sampled by default.
        equation: module of ``fewstep.eval.physics``.
        given: the field that determines the others, ``solution`` the field that is compared with
            the solver's.
        admissible: field ``given`` as sampled -> the nearest that the data set can have.
    """

    name: str
    model: str
    equation: str
    given: str
    solution: str
    admissible: Callable[[Tensor], Tensor]


TASKS: Mapping[str, Task] = {
    "darcy": Task("darcy", "darcy", "darcy", "a", "u", nearest_phase),
}


def task_named(name: str) -> Task:
    """Return the task called ``name``. Raises UnknownName with the nearest match."""
    if name not in TASKS:
        raise UnknownName(unknown("task", name, TASKS))
    return TASKS[name]
