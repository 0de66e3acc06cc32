"""Grid refinement: the order at which a residual vanishes on a known solution.

A residual in physical units, evaluated on a solution of its equation, falls as ``h^p`` with the
spacing, p the order of its discretisation, until rounding stops it. Wrong units are found so: a
term without its ``1/h`` leaves a residual that does not fall, a residual that as a whole lacks
``1/h^k`` falls as ``h^(p + k)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ...checks import ArgumentError, between, integer
from .arguments import wide
from .equation import Equation, Problem
from .rating.residuals import rms_residual
from .rating.subject import Residual, Rules, Subject, rules_of

#: largest difference between measured and expected order
TOLERANCE = 0.2
#: a residual below this multiple of the effect of rounding is taken as rounding
ABOVE = 10.0
SPECTRAL: Literal["spectral"] = "spectral"


@dataclass(frozen=True)
class RefinementRow:
    """One grid.

    Attributes:
        n: points an axis, as given to ``exact``.
        h: the largest spacing in space (of a line in time alone, in time).
        rms: root mean square of the residual.
        rounding: change of the residual, root mean square, when the fields are rounded otherwise.
        slope: ``log(rms / previous rms) / log(h / previous h)``; None for the first grid, and where
            rounding hides it.
    """

    n: int
    h: float
    rms: float
    rounding: float
    slope: float | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing but rounding is left."""
        return self.rms <= ABOVE * self.rounding


@dataclass(frozen=True)
class Refinement:
    """Result of ``refinement``.

    Attributes:
        name: of the equation or the function.
        rows: the grids, coarse to fine.
        order: the slope between the two finest grids above rounding; infinite where less than two
            are.
        expected: the stated order, "spectral", or None.
        ok: whether the order is the expected one, to 0.2 on either side; "spectral": whether the
            finest grid is down to rounding. None without ``expected``, and where rounding hides the
            order.
        message: the result in a sentence, with what to look for.
    """

    name: str
    rows: tuple[RefinementRow, ...]
    order: float
    expected: float | Literal["spectral"] | None
    ok: bool | None
    message: str

    def table(self) -> str:
        """One line a grid, then the message."""
        lines = [f"{'n':>6}  {'h':>10}  {'RMS residual':>12}  slope"]
        for row in self.rows:
            slope = "rounding" if row.exact else "" if row.slope is None else f"{row.slope:.2f}"
            lines.append(f"{row.n:>6}  {row.h:>10.4g}  {row.rms:>12.4g}  {slope}".rstrip())
        return "\n".join([*lines, self.message])


def refinement(
    equation: Equation | Residual | str,
    exact: Callable[[int], Problem] | None = None,
    sizes: Sequence[int] = (16, 32, 64, 128),
    expected: float | Literal["spectral"] | None = None,
) -> Refinement:
    """Measure the order of a residual on a known solution.

    Example::

        found = fewstep.eval.physics.refinement("heat")
        print(found.table())

    Args:
        equation: a name, an object with the members of ``Equation``, or a function
            ``residual(fields, spacing, params)``.
        exact: ``exact(n)``, a solution in float64 on ``n`` points an axis, a ``Problem`` or its
            three parts; default the equation's own. In a problem with time give the exact time
            derivative, or refine the times with the space.
        sizes: at least two numbers of points, rising.
        expected: the stated order, or "spectral"; default the equation's own where ``exact`` is its
            own too.

    Raises ArgumentError for a function without ``exact``, and for ``sizes`` that do not rise.
    """
    rules = rules_of(equation)
    if exact is None:
        if rules.equation is None or not hasattr(rules.equation, "exact"):
            raise ArgumentError(
                "exact= is needed: a function of n that gives a solution on n points an axis, as "
                "fields, spacing, params"
            )
        exact = rules.equation.exact
        expected = rules.equation.order if expected is None else expected
    if expected is not None and expected != SPECTRAL:
        between("expected", expected, 0.0)
    grids = [integer("a size", n, 2) for n in sizes]
    if len(grids) < 2 or sorted(set(grids)) != grids:
        raise ArgumentError(f"sizes={tuple(grids)}: must be at least two, rising")
    rows: list[RefinementRow] = []
    for n in grids:
        rows.append(_row(rules, n, Problem(*exact(n)), rows[-1] if rows else None))
    order, ok = _order(rows), None
    if expected == SPECTRAL:
        ok = rows[-1].exact
    elif expected is not None and order < math.inf:
        ok = abs(order - float(expected)) <= TOLERANCE
    message = _message(rows, order, expected, ok)
    return Refinement(rules.name, tuple(rows), order, expected, ok, message)


def _row(rules: Rules, n: int, problem: Problem, before: RefinementRow | None) -> RefinementRow:
    """The residual on one grid. The effect of rounding is measured: values are multiplied by
    ``1 +- eps`` at random."""
    fields, spacing, params = problem
    plain = Subject.of("exact", rules, fields, spacing, params).residual
    generator = torch.Generator().manual_seed(n)
    eps = torch.finfo(torch.float64).eps
    moved = {}
    for name, value in fields.items():
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        moved[name] = wide(value) * (1.0 + eps * noise.to(value.device))
    change = Subject.of("exact", rules, moved, spacing, params).residual - plain
    rms, rounding = (float(rms_residual(r).square().mean().sqrt()) for r in (plain, change))
    inner = [h for axis, h in spacing.items() if axis != "t"]
    h = float(max(inner or spacing.values()))
    row = RefinementRow(n, h, rms, rounding)
    if before is None or row.exact or before.exact:
        return row
    if not h < before.h:
        raise ArgumentError(f"exact({n}) has the spacing {h}, not below {before.h} of {before.n}")
    return RefinementRow(n, h, rms, rounding, math.log(before.rms / rms) / math.log(before.h / h))


def _order(rows: Sequence[RefinementRow]) -> float:
    slopes = [row.slope for row in rows if row.slope is not None]
    return slopes[-1] if slopes else math.inf


def _message(
    rows: Sequence[RefinementRow],
    order: float,
    expected: float | Literal["spectral"] | None,
    ok: bool | None,
) -> str:
    last = rows[-1]
    if order == math.inf:
        every = "every grid" if all(row.exact for row in rows) else "every grid but one"
        found = f"the residual is down to rounding on {every}"
        if expected not in (None, SPECTRAL):
            return f"{found}: the order is hidden; take coarser grids, or a less simple solution"
    else:
        found = f"order {order:.2f} between the finest grids above rounding"
    if expected is not None:
        stated = expected if expected == SPECTRAL else f"{expected:g}"
        found += f", stated {stated}: {'as stated' if ok else 'OFF'}"
    if ok or (ok is None and order > 0.5):
        return found
    return f"{found}. {_advice(order, expected, last)}"


def _advice(order: float, expected: float | Literal["spectral"] | None, last: RefinementRow) -> str:
    """What to look for where the order is not the stated one."""
    if order < -0.3:
        return (
            "The residual grows as the grid is refined: a term is divided by h too often, the "
            "solution jumps, or it is stored in float32"
        )
    if order <= 0.3:
        return (
            f"The residual stays at {last.rms:.3g} as the grid is refined: look for a derivative "
            "that is not divided by its spacing (1/h, 1/h^2, another axis's h), a wrong sign or "
            "coefficient, or a solution of another equation"
        )
    if expected == SPECTRAL:
        return (
            "A spectral residual of a smooth periodic solution falls to rounding: look for grids "
            "that are too coarse for the solution (the slope still rises), an end point that is "
            "stored twice, a field that is not periodic, or differences among the derivatives"
        )
    if expected is not None and order > expected + TOLERANCE:
        more = order - float(expected)
        return (
            f"It falls faster than stated by h^{more:.2g}: look for a residual that as a whole is "
            "not divided by its spacing (units of the field in place of those of the equation), or "
            "a solution so simple that the leading error vanishes"
        )
    return (
        "It falls more slowly than stated: look for one-sided or first-order differences at walls "
        "and ends, coefficients at other points than their derivatives, and a time step that is "
        "not refined"
    )
