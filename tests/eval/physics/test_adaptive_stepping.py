"""DOP853 at given times: accuracy, its count of slopes, and what stops it."""

from __future__ import annotations

import numpy as np
import pytest

from fewstep.checks import ArgumentError
from fewstep.eval.physics.stepping.adaptive import dop853


@pytest.mark.parametrize("rtol", [1e-6, 1e-9, 1e-12])
def test_a_rotation_to_its_tolerance(rtol):
    calls = []

    def slope(t, y):
        calls.append(t)
        return 2j * y

    states, count = dop853(np.array([1.0 + 0j]), slope, 0.7, frames=6, rtol=rtol, atol=rtol)
    assert count == len(calls)
    error = abs(states[:, 0] - np.exp(1.4j * np.arange(6))).max()
    assert error < 30 * rtol


def test_an_integrating_factor_leaves_at_the_end_of_each_interval():
    """v' = -v + v^2 through y = exp(t) v."""

    def slope(t, y):
        return np.exp(-t) * y**2

    def leave(t, y):
        return np.exp(-t) * y

    t = 0.5 * np.arange(5)
    found, _ = dop853(np.array([0.6]), slope, 0.5, frames=5, rtol=1e-11, atol=1e-11, leave=leave)
    np.testing.assert_allclose(found[:, 0], 1 / (1 + (1 / 0.6 - 1) * np.exp(t)), rtol=1e-10)


def test_a_solution_that_ends_is_refused():
    with pytest.raises(ArgumentError, match="between frames 1 and 2"):
        dop853(np.array([1.0]), lambda t, y: y**2, 0.6, frames=4, rtol=1e-8, atol=1e-8)
