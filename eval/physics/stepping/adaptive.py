"""Adaptive integration of order 8 at given times.

DOP853 of Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section II.5, as in
scipy. Each interval between two times is integrated to its end, not interpolated: the values have
the order of the method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ....checks import ArgumentError

#: real or complex values
Array = npt.NDArray[Any]


def dop853(
    start: Array,
    slope: Callable[[float, Array], Array],
    dt: float,
    *,
    frames: int,
    rtol: float,
    atol: float,
    leave: Callable[[float, Array], Array] | None = None,
) -> tuple[Array, int]:
    """States of ``y' = slope(t, y)`` at ``frames`` times ``dt`` apart, and the number of slopes.

    Args:
        start: the state at the first time, (n,), real or complex.
        slope: ``(t, y) -> y'``; t runs from 0 to ``dt`` in every interval, the equation must not
            depend on the interval.
        dt: time between two frames.
        frames: number of times, the first included.
        rtol: largest error of a step, relative to y, root mean square over the components.
        atol: the same, absolute.
        leave: ``(dt, y) -> state`` at the end of an interval, where y is not the state itself but
            equals it at t = 0, as in an integrating factor.

    Returns:
        ``(states (frames, n), calls of slope)``. Raises ArgumentError where the step becomes too
        small.
    """
    from scipy.integrate import DOP853  # type: ignore[import-untyped]

    states, calls, step = [start], 0, None
    for frame in range(1, frames):
        solver = DOP853(
            slope, 0.0, states[-1], dt, rtol=rtol, atol=atol, first_step=step and min(step, dt)
        )
        while solver.status == "running":
            # the last step of an interval is cut short: that before it is the one to go on with
            before, message = solver.h_abs, solver.step()
        if solver.status == "failed":
            raise ArgumentError(
                f"the adaptive solver stopped between frames {frame - 1} and {frame}: {message}; "
                "the solution may not exist that long, or rtol is too small"
            )
        step, calls = max(before, solver.h_abs), calls + solver.nfev
        states.append(solver.y if leave is None else leave(dt, solver.y))
    return np.stack(states), calls
