"""What an equation offers: the interface that every module of an equation satisfies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from torch import Tensor

from ...checks import UnknownName, unknown

#: name -> values on the grid, (B, [T,] space); real or complex
Fields: TypeAlias = Mapping[str, Tensor]
#: axis -> distance between two points of the grid, in physical units
Spacing: TypeAlias = Mapping[str, float]
#: name -> a number, one number a sample (B,), or values on the grid
Params: TypeAlias = Mapping[str, Any]


class Problem(NamedTuple):
    """Fields on a grid, with what their equation needs: ``residual(*problem)``.

    Attributes:
        fields: name -> (B, [T,] space), float64 unless said otherwise.
        spacing: axis -> distance between two points, in physical units.
        params: parameters of the equation.
    """

    fields: dict[str, Tensor]
    spacing: dict[str, float]
    params: dict[str, Any]


class Equation(Protocol):
    """An equation: a module of ``fewstep.eval.physics``, or any object with these members.

    Grids. The axes of a field follow the batch: ``t`` first where there is one, then ``x``, then
    ``y``, so that ``u[b, k, i, j]`` is the value at t_k, x_i, y_j. A periodic grid of n points has
    spacing L/n and leaves the end point out; a grid between walls has spacing L/(n - 1) and holds
    both.
    """

    @property
    def FIELDS(self) -> tuple[str, ...]:
        """Names of the fields."""

    @property
    def OPTIONAL(self) -> tuple[str, ...]:
        """Names of fields that may be left out. A time derivative ``u_t`` is used where it is
        given, in place of differences in time."""

    @property
    def AXES(self) -> tuple[str, ...]:
        """The axes of a field after the batch."""

    @property
    def PARAMS(self) -> Mapping[str, Any]:
        """Parameter -> its default; ``REQUIRED`` where there is none."""

    @property
    def order(self) -> float | Literal["spectral"]:
        """Order of the residual in the grid's spacing, or "spectral". Differences in time have
        order 4 in either case unless the module says otherwise."""

    def residual(self, fields: Fields, spacing: Spacing, params: Params) -> Tensor:
        """The residual in physical units, (B, [T,] space), zero where the equation holds. Grids
        between walls: at the interior points. A system stacks its equations, in the order of
        ``FIELDS``: (B, equations, [T,] space). Differentiable in the fields."""
        ...

    def scale(self, fields: Fields, spacing: Spacing, params: Params) -> Tensor:
        """Root mean square of the equation's largest term, (B,): the unit of a relative
        residual."""
        ...

    def solve(
        self, fields: Fields, spacing: Spacing, params: Params, *, frames: int | None = None
    ) -> dict[str, Tensor]:
        """The missing fields from those that determine them, by the reference solver, in float64.

        Where there is a time axis, ``fields`` holds the state at the first time, (B, space), and
        the result ``frames`` states ``spacing["t"]`` apart, the first included; elsewhere
        ``frames`` is refused."""
        ...

    def exact(self, n: int) -> Problem:
        """A known solution on ``n`` points an axis, its time derivative included."""
        ...

    def draw(self, n: int, size: int, seed: int = 0) -> Problem:
        """``n`` solutions of the data set's distribution on ``size`` points an axis: sample i
        depends on ``seed + i`` only."""
        ...

    def boundary_error(self, fields: Fields, spacing: Spacing, params: Params) -> Tensor:
        """Root mean square of what the boundary condition says is zero, over the wall's points,
        relative to the field's own, (B,); 0 on periodic grids."""
        ...

    def conserved(self, fields: Fields, spacing: Spacing, params: Params) -> dict[str, Tensor]:
        """Conserved quantity -> its value at each time, (B, T); empty where there is none."""
        ...


def equation_named(name: str) -> Equation:
    """The module of the equation called ``name``. Raises UnknownName with the nearest match."""
    from importlib import import_module
    from typing import cast

    from . import EQUATIONS

    if name not in EQUATIONS:
        raise UnknownName(unknown("equation", name, EQUATIONS))
    return cast("Equation", import_module(f".{name}", __package__))
