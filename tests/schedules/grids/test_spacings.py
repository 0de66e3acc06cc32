"""Named grids with options that are not their defaults, each written out by hand from its
source."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fewstep.schedules import EDM, VE, DiscreteVP, Flow, Schedule, Trig, VPLinear, grid

EXPLODING = EDM(0.002, 80.0)
TABLE = DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000))
N = 7
U = np.linspace(1.0, 0.0, N)


def rhos(name: str, schedule: Schedule, steps: int = N, **options: Any) -> list[float]:
    return [node.rho for node in grid(name, schedule, steps, **options)]


def times(name: str, schedule: Schedule, steps: int = N, **options: Any) -> list[float]:
    return list(grid(name, schedule, steps, **options).times)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.5, 0.9), (0.9, 0.5), (1.0, 1.0), (2.0, 0.7)])
def test_beta_with_both_parameters(a: float, b: float) -> None:
    """Quantiles of Beta(a, b), which are other ones for Beta(b, a); of rho for ``beta``, of t for
    ``beta_t``."""
    for low, high, schedule in ((0.002, 80.0, EXPLODING), (0.01, 50.0, VE(0.01, 50.0))):
        wanted = low + stats.beta.ppf(U, a, b) * (high - low)
        assert rhos("beta", schedule, a=a, b=b) == pytest.approx([*wanted, 0.0], rel=1e-9)
    top, bottom = 1.0, 1e-3
    wanted = bottom + (top - bottom) * stats.beta.ppf(1.0 - np.arange(N) / N, a, b)
    assert times("beta_t", VPLinear(), a=a, b=b) == pytest.approx([*wanted, 0.0], rel=1e-9)


@pytest.mark.parametrize("r", [3.0, 7.0, 11.0])
def test_karras_with_its_exponent(r: float) -> None:
    wanted = (0.002 ** (1 / r) + U * (80.0 ** (1 / r) - 0.002 ** (1 / r))) ** r
    assert rhos("karras", EXPLODING, rho=r) == pytest.approx([*wanted, 0.0], rel=1e-10)
    open_ = (
        0.002 ** (1 / r) + np.linspace(1.0, 0.0, N + 1) * (80.0 ** (1 / r) - 0.002 ** (1 / r))
    ) ** r
    assert rhos("karras", EXPLODING, rho=r, drop_last=True) == pytest.approx(
        [*open_[:-1], 0.0], rel=1e-10
    )


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("power", [1.0, 1.7, 3.0])
def test_polyexponential_and_power(power: float, final: str) -> None:
    u = U if final == "zero" else np.linspace(1.0, 0.0, N + 1)
    end = [0.0] if final == "zero" else []
    law = np.exp(math.log(0.002) + u**power * math.log(80.0 / 0.002))
    assert rhos("polyexponential", EXPLODING, power=power, final=final) == pytest.approx(
        [*law, *end], rel=1e-10
    )
    base = (1.0 + (1e-3 ** (1 / power) - 1.0) * (1.0 - u)) ** power
    assert times("power", VPLinear(), power=power, final=final) == pytest.approx(
        [*base, *end], rel=1e-10
    )


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("uniform", lambda u: 80.0 + (0.002 - 80.0) * (1.0 - u)),
        ("quadratic", lambda u: (80.0**0.5 + (0.002**0.5 - 80.0**0.5) * (1.0 - u)) ** 2),
        ("lam", lambda u: 0.002 * 40000.0**u),
        ("exponential", lambda u: 0.002 * 40000.0**u),
        ("kl_optimal", lambda u: np.tan(u * math.atan(80.0) + (1.0 - u) * math.atan(0.002))),
    ],
)
def test_spacings_of_the_level(name: str, law: Callable[[Any], Any]) -> None:
    assert rhos(name, EXPLODING) == pytest.approx([*law(U), 0.0], rel=1e-10)
    assert rhos(name, EXPLODING, final="sigma_min") == pytest.approx(
        law(np.linspace(1.0, 0.0, N + 1)), rel=1e-10
    )
    assert rhos(name, EXPLODING, start=20.0)[0] == pytest.approx(20.0)


@pytest.mark.parametrize("shift", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("schedule", [Flow(), Trig()])
def test_shifts_of_grids_in_t(schedule: Schedule, shift: float) -> None:
    """``t -> s t / (1 + (s - 1) t)`` on the flow, lam -> lam - log s on any path, the first and
    last time kept."""

    def moved(t: float) -> float:
        if t in (0.0, 1.0):
            return t
        tangent = shift * float(schedule.rho(t))
        return (
            tangent / (1.0 + tangent)
            if isinstance(schedule, Flow)
            else 2.0 / math.pi * math.atan(tangent)
        )

    assert times("uniform", schedule, shift=shift) == pytest.approx(
        [moved(1.0 - i / N) for i in range(N + 1)], rel=1e-10, abs=1e-12
    )
    assert times("trailing", schedule, shift=shift) == pytest.approx(
        [moved(1.0 - i / N) for i in range(N + 1)], rel=1e-10, abs=1e-12
    )
    begun = times("uniform", schedule, shift=shift, start=0.6)
    back = 0.6
    if shift != 1.0:
        tangent = float(schedule.rho(0.6)) / shift
        back = (
            tangent / (1.0 + tangent)
            if isinstance(schedule, Flow)
            else 2.0 / math.pi * math.atan(tangent)
        )
    assert begun == pytest.approx(
        [moved(back * (1.0 - i / N)) for i in range(N + 1)], rel=1e-10, abs=1e-12
    )


def test_integer_spacings_of_a_table() -> None:
    n = 6
    stride = 1000 // n
    assert times("leading", TABLE, n) == [*(float(i * stride) for i in range(n - 1, -1, -1)), -1.0]
    assert times("leading", TABLE, n, offset=3) == [
        *(float(i * stride + 3) for i in range(n - 1, -1, -1)),
        -1.0,
    ]
    assert times("trailing", TABLE, n) == [
        *(float(round(1000 - i * 1000 / n) - 1) for i in range(n)),
        -1.0,
    ]
    assert times("linspace", TABLE, n) == [
        *(float(round(999 * (n - 1 - i) / (n - 1))) for i in range(n)),
        -1.0,
    ]
    assert times("linspace", TABLE, n, drop_last=True) == [
        *(float(round(999 * (n - i) / n)) for i in range(n)),
        -1.0,
    ]
    assert times("simple", TABLE, n) == [
        *(999.0 - math.floor(i * 1000 / n) for i in range(n)),
        -1.0,
    ]
    assert times("ddim_uniform", TABLE, n) == [
        *(float(1 + i * stride) for i in range(n - 1, -1, -1)),
        -1.0,
    ]
    assert times("sgm_uniform", TABLE, n)[:-1] == pytest.approx(
        [999.0 * (n - i) / n for i in range(n)]
    )


def test_strides_elsewhere() -> None:
    """On a path without a table the strides are those of [t_min, t_max]; leading starts a stride
    below the top."""
    span = 1.0 - 1e-3
    assert times("leading", VPLinear(), 5) == pytest.approx(
        [*(1e-3 + span * i / 5 for i in range(4, -1, -1)), 0.0], rel=1e-12
    )
    assert times("trailing", VPLinear(), 5) == pytest.approx(
        [*(1.0 - span * i / 5 for i in range(5)), 0.0], rel=1e-12
    )


@pytest.mark.parametrize(("steps", "threshold"), [(8, 0.025), (9, 0.025), (10, 0.1)])
def test_linear_quadratic(steps: int, threshold: float) -> None:
    """Linear to ``threshold`` in the first half of the steps, then the parabola with that value and
    slope that ends at 1 (Mochi 1)."""
    half = steps // 2
    slope = threshold / half
    found = 1.0 - np.array(times("linear_quadratic", Flow(), steps, threshold=threshold))
    assert found[: half + 1] == pytest.approx([slope * i for i in range(half + 1)], abs=1e-12)
    i = np.arange(half, steps + 1) - half
    bend = (1.0 - threshold - slope * i[-1]) / i[-1] ** 2
    if steps % 2 == 0:
        curve = found[half:]
        second = np.diff(curve, 2)
        assert second == pytest.approx(np.full(len(second), second[0]), rel=1e-8)
    assert found[-1] == 1.0 and bend > 0.0
