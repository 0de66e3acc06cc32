"""Spacing and parameters of samples, and true solutions on the same grid: given, read from files,
or those of the equation's data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, unknown

if TYPE_CHECKING:
    from ..eval.physics.equation import Equation, Problem
    from .field_samples import FieldSamples


@dataclass(frozen=True, eq=False)
class FieldGrid:
    """What samples lie on.

    Attributes:
        spacing, params: as the equation takes them.
        origin: where they come from, for people.
    """

    spacing: Mapping[str, float]
    params: Mapping[str, Any]
    origin: str


def field_grid(
    name: str,
    equation: Equation,
    samples: FieldSamples,
    spacing: Mapping[str, float] | None,
    params: Mapping[str, Any] | None,
) -> FieldGrid:
    """The grid of samples: what is given, else what their files hold. Where neither says anything
    of the spacing, that of the equation's data set of this size, and its parameters if none are
    given.

    Raises ArgumentError for unknown names, and for spacings and parameters that are nowhere said.
    """
    from ..eval.physics.arguments import REQUIRED

    for axis in spacing or {}:
        if axis not in equation.AXES:
            raise ArgumentError(unknown("axis of spacing", axis, equation.AXES))
    for key in params or {}:
        if key not in equation.PARAMS:
            raise ArgumentError(unknown("parameter", key, equation.PARAMS or ("none",)))
    steps = {**samples.problem.spacing, **(spacing or {})}
    values = {**samples.problem.params, **(params or {})}
    origin = "given" if spacing else "of the file"
    lacking = [axis for axis in equation.AXES if axis not in steps]
    if lacking and not steps:
        found = _default(name, equation, samples)
        steps, origin = dict(found.spacing), f"of the data set of {name}"
        values = values or dict(found.params)
    elif lacking:
        raise ArgumentError(f"the spacing of {', '.join(lacking)} is missing: {_how(lacking)}")
    missing = [k for k, v in equation.PARAMS.items() if v is REQUIRED and k not in values]
    if missing:
        raise ArgumentError(
            f"{name} needs the parameter{'s' * (len(missing) > 1)} {', '.join(missing)}: give "
            f"param= (--param {missing[0]}=VALUE)"
        )
    return FieldGrid(steps, values, origin)


def true_solutions(
    name: str,
    equation: Equation,
    samples: FieldSamples,
    grid: FieldGrid,
    data: str | Path | int,
    seed: int,
) -> Problem:
    """True solutions on the samples' grid: of an npz file, or so many draws of the equation's data
    set, rounded as the samples are. Raises ArgumentError."""
    from ..eval.physics.storage import load_fields

    if not isinstance(data, int):
        found = load_fields(data)
        return found._replace(
            spacing=found.spacing or dict(grid.spacing), params=found.params or dict(grid.params)
        )
    size, shape = _size(name, equation, samples), _shape(samples)
    found = equation.draw(data, size, seed)
    drawn = tuple(next(iter(found.fields.values())).shape[1:])
    if drawn != shape:
        raise ArgumentError(
            f"the data set of {name} has fields of shape {drawn}, the samples {shape}: give true "
            "solutions in a file"
        )
    params = {**equation.PARAMS, **grid.params}
    for key, value in found.params.items():
        if not isinstance(value, int | float | str) or params.get(key) != value:
            raise ArgumentError(
                f"the data set of {name} has {key}={value}, the samples {params.get(key)}: give "
                "true solutions in a file"
            )
    return found._replace(fields=samples.stored(found.fields))


def _default(name: str, equation: Equation, samples: FieldSamples) -> Problem:
    """One draw of the data set on a grid of the samples' size. Raises ArgumentError where there is
    none, or its grid is another."""
    axes = list(equation.AXES)
    found = equation.draw(1, _size(name, equation, samples), 0)
    drawn = tuple(next(iter(found.fields.values())).shape[1:])
    if drawn != _shape(samples):
        raise ArgumentError(
            f"samples of shape {_shape(samples)} are not those of the data set of {name}, {drawn}: "
            f"{_how(axes)}"
        )
    each = [key for key, value in found.params.items() if not isinstance(value, int | float | str)]
    if each:
        raise ArgumentError(
            f"the data set of {name} has another {', '.join(each)} in each sample: {_how(axes)}, "
            f"and param= (--param {each[0]}=VALUE)"
        )
    return found


def _size(name: str, equation: Equation, samples: FieldSamples) -> int:
    """Points along each axis of space. Raises ArgumentError where they differ, or the equation has
    no data set."""
    shape = _shape(samples)
    sizes = {n for axis, n in zip(equation.AXES, shape, strict=False) if axis != "t"}
    if len(shape) != len(equation.AXES):
        raise ArgumentError(
            f"samples of shape {shape}: {name} has the axes {', '.join(equation.AXES)}"
        )
    if len(sizes) != 1 or not hasattr(equation, "draw"):
        raise ArgumentError(
            f"{name} has no data set on a grid of shape {shape}: {_how(list(equation.AXES))}, and "
            "true solutions in a file"
        )
    return sizes.pop()


def _shape(samples: FieldSamples) -> tuple[int, ...]:
    return tuple(next(iter(samples.problem.fields.values())).shape[1:])


def _how(axes: list[str]) -> str:
    return f"give spacing= (--spacing {','.join(f'{axis}=H' for axis in axes)})"
