"""``window``: the steps of a stochastic sampler that draw noise; the others solve the ODE.

Policy-gradient methods put the noise into few steps: MixGRPO (Li et al. 2025, arXiv 2507.21802)
into a window that slides between runs, G2RPO (arXiv 2510.01982) into one step.
"""

from __future__ import annotations

from ...checks import ArgumentError


def check_window(window: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``window`` as a tuple. Raises ArgumentError unless it is () or (first, stop) with
    0 <= first < stop."""
    window = tuple(window)
    if not window:
        return window
    if len(window) != 2 or any(isinstance(i, bool) or not isinstance(i, int) for i in window):
        raise ArgumentError(
            f"window={window!r}: must be two integers (first, stop), or () for all steps"
        )
    if not 0 <= window[0] < window[1]:
        raise ArgumentError(f"window={window!r}: must have 0 <= first < stop")
    return window


def in_window(value: float, window: tuple[int, ...], i: int) -> float:
    """Return ``value`` for a step ``i`` in ``window`` (() holds all steps), else 0."""
    return value if not window or window[0] <= i < window[1] else 0.0


def check_reach(window: tuple[int, ...], steps: int) -> None:
    """Raise ArgumentError if ``window`` begins after the last of ``steps`` steps."""
    if window and window[0] >= steps:
        raise ArgumentError(
            f"window={window!r}: no step of {steps} is in it; must begin before {steps}"
        )
