"""A plan as a function of tensors: its coefficients, the times of its grid, the labels of its
calls.

    coefficients  (K,) all coefficients in the order of ``plan.coefficients``. They are moved to the
                  nearest ones with the right signal and noise (``exact_coefficients``)
    times         (steps - 1,) the times of the inner grid nodes, from noise to data. The sampler is
                  compiled again on the grid with these times
    labels        (nfe,) the times at which the network is called. The states stay at their nodes
                  (LD3, Tong et al. 2024, arXiv 2405.15506; S4S, arXiv 2502.17423)

All are float64 on the host. ``times`` and ``labels`` need a plan that ``fewstep.plan`` made, which
knows its sampler and schedule; a plan read from JSON has coefficients only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...checks import ArgumentError, ArgumentTypeError, shown, unknown
from ...schedules.grids.construction import Grid
from ..instructions import EXACTNESS, Combine, Evaluate, PlanData, PlanError
from ..recipe import Recipe
from ..type_check import measure
from .exact_coefficients import exact_coefficients

P = TypeVar("P", bound=PlanData)
#: what can be asked for
WHAT = ("coefficients", "times", "labels")
Theta = Mapping[str, Tensor]
#: a coefficient below this share of the largest is what rounding left of 0
_RESIDUE = 1e-13


def parameters(plan: PlanData, what: str | Sequence[str] = "coefficients") -> dict[str, Tensor]:
    """Return the tensors of ``plan`` named by ``what``, one or several of ``WHAT``, by name.

    PlanError where the plan does not know its sampler, or has no inner node.
    """
    return {name: _READ[name](plan) for name in _names(what)}


def with_parameters(plan: P, theta: Theta) -> P:
    """Return ``plan`` with the parameters ``theta``, as ``parameters`` names and shapes them,
    type-checked again.

    PlanError where it would be less exact than ``plan``; GridError for times that do not fall
    strictly from noise to data.
    """
    check_theta(plan, theta)
    with torch.no_grad():
        base: P = placed(plan, theta)
        return base if set(theta) == {"times"} else _measured(base, plan)


def _moved(plan: P, given: Tensor) -> P:
    """``plan`` with the coefficients nearest to ``given``."""
    exact = exact_coefficients(plan, given.detach().to("cpu", torch.float64))
    return replace(plan, code=with_coefficients(plan, exact.tolist()))


def placed(plan: P, theta: Theta) -> P:
    """``plan`` with the parameters ``theta``, not type-checked."""
    base = located(plan, theta)
    return _moved(base, theta["coefficients"]) if "coefficients" in theta else base


def located(plan: P, theta: Theta) -> P:
    """``plan`` with the times and labels of ``theta``, its coefficients those of its sampler; not
    type-checked."""
    base = plan
    if "times" in theta:
        recipe = _recipe(plan, "times")
        ends = recipe.grid.times
        base = recipe.plan((ends[0], *_floats(theta["times"]), ends[-1]))
        if "coefficients" in theta:
            base = padded(base, plan)
            if base.structure != plan.structure:
                raise PlanError(
                    f"{plan.name or 'plan'}: at other times its sampler makes a plan with other "
                    "terms, so its coefficients cannot be given at the same time"
                )
    if "labels" in theta:
        base = _labelled(base, _recipe(plan, "labels").grid, _floats(theta["labels"]))
    return base


def padded(plan: P, other: PlanData) -> P:
    """``plan`` with the terms that ``other``, a plan of the same instructions, has beside its own,
    at coefficient 0. PlanError where the instructions differ."""
    code: list[Evaluate | Combine] = []
    kinds = [[type(i) for i in p.code] for p in (plan, other)]
    if kinds[0] != kinds[1]:
        raise PlanError(
            f"{plan.name or 'plan'}: at other times its sampler makes a plan of other instructions"
        )
    for i, j in zip(plan.code, other.code, strict=True):
        if isinstance(i, Combine) and isinstance(j, Combine):
            i = replace(i, terms=_union(j.terms, i.terms), noise=_union(j.noise, i.noise))
        code.append(i)
    return replace(plan, code=tuple(code))


def _union(
    places: tuple[tuple[int, float], ...], terms: tuple[tuple[int, float], ...]
) -> tuple[tuple[int, float], ...]:
    """``terms`` in the order of ``places``, 0 where it has none; then the terms that only it has,
    less those that rounding left of 0."""
    known = {key: 0.0 for key, _ in places}
    least = _RESIDUE * max((abs(c) for _, c in terms), default=0.0)
    own = {key: c for key, c in terms if key in known or abs(c) > least}
    return tuple({**known, **own}.items())


def with_coefficients(plan: PlanData, given: Sequence[Any]) -> tuple[Evaluate | Combine, ...]:
    """The instructions of ``plan`` with the coefficients ``given``."""
    left = iter(given)
    code: list[Evaluate | Combine] = []
    for i in plan.code:
        if isinstance(i, Combine):
            terms = tuple((value, next(left)) for value, _ in i.terms)
            code.append(Combine(i.out, terms, tuple((k, next(left)) for k, _ in i.noise), i.node))
        else:
            code.append(i)
    return tuple(code)


def check_theta(plan: PlanData, theta: Theta) -> None:
    """Raise ArgumentError unless ``theta`` has known names and tensors of the plan's shapes."""
    if not isinstance(theta, Mapping) or not theta:
        raise ArgumentTypeError(
            f"parameters={shown(theta)}: must be a mapping of tensors by name, as "
            "plan.parameters() returns it"
        )
    for name, value in theta.items():
        _names(name)
        wanted = _READ[name](plan)
        if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
            raise ArgumentTypeError(f"{name}={shown(value)}: must be a floating-point tensor")
        if value.shape != wanted.shape:
            raise ArgumentError(
                f"{name} has shape {tuple(value.shape)}; this plan has {tuple(wanted.shape)}"
            )
        if not bool(torch.isfinite(value).all()):
            raise ArgumentError(f"{name} holds values that are not finite")


def _names(what: str | Sequence[str]) -> tuple[str, ...]:
    names = (what,) if isinstance(what, str) else tuple(what)
    for name in names:
        if name not in WHAT:
            raise ArgumentError(unknown("what", name, WHAT))
    if not names:
        raise ArgumentError(f"what={what!r}: must name one or more of {', '.join(WHAT)}")
    return names


def _floats(values: Tensor) -> list[float]:
    return [float(v) for v in values.detach().to("cpu", torch.float64)]


def _tensor(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _coefficients(plan: PlanData) -> Tensor:
    return _tensor(plan.coefficients)


def _times(plan: PlanData) -> Tensor:
    grid = _recipe(plan, "times").grid
    if grid.steps < 2:
        raise PlanError(f"{plan.name or 'plan'} has one step, so its grid has no inner time")
    return _tensor(grid.times[1:-1])


def _labels(plan: PlanData) -> Tensor:
    _recipe(plan, "labels")
    return _tensor([float(e.node.t or 0.0) for e in plan.evaluations])


_READ: dict[str, Callable[[PlanData], Tensor]] = {
    "coefficients": _coefficients,
    "times": _times,
    "labels": _labels,
}


def _recipe(plan: PlanData, what: str) -> Recipe:
    """The plan's recipe. PlanError where it has none that gives the plan back."""
    recipe, name = plan.recipe, plan.name or "plan"
    if recipe is None:
        raise PlanError(
            f"{name} does not know its sampler and schedule, so it has no {what}: it was read from "
            "JSON, written by hand, or changed; ask a plan of fewstep.plan"
        )
    grid = recipe.grid
    if any(node != grid.schedule.node(t) for node, t in zip(grid.nodes, grid.times, strict=True)):
        raise PlanError(
            f"{name} was made on nodes of its own, not on times of a schedule: it has no {what}"
        )
    return recipe


def _labelled(plan: P, grid: Grid, labels: Sequence[float]) -> P:
    """``plan`` whose calls are labelled with the schedule's nodes at ``labels``."""
    left = iter(labels)
    code: list[Evaluate | Combine] = []
    for i in plan.code:
        if isinstance(i, Evaluate):
            t = next(left)
            i = i if t == i.node.t else replace(i, node=grid.schedule.node(t))
        code.append(i)
    return replace(plan, code=tuple(code))


def _measured(base: P, plan: P) -> P:
    """``base`` with exactness, defect and labels as measured, and without a recipe, which would not
    give it back. PlanError where it is less exact than ``plan``."""
    found = measure(base)
    if EXACTNESS.index(found.exactness) > EXACTNESS.index(plan.exactness):
        raise PlanError(
            f"{plan.name or 'plan'}: with these parameters the states miss their signal or noise "
            f"by {found.defect:.1e} of the largest term ({found.exactness} instead of "
            f"{plan.exactness})"
        )
    return replace(
        base,
        exactness=found.exactness,
        defect=found.defect,
        off_label=found.off_label,
        recipe=None,
    )
