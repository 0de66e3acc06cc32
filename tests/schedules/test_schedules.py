"""Schedules: closed forms in 50 digits, inverses, derivatives, array types, bad parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewstep.schedules import (
    EDM,
    VE,
    DiscreteVP,
    Flow,
    Schedule,
    SubVP,
    Trig,
    VPCosine,
    VPLinear,
    VPSigmoid,
)
from fewstep.schedules.base import LAM_EDGE

BETAS = np.linspace(1e-4, 0.02, 1000)
DDPM = DiscreteVP.from_betas(BETAS)
TABLES: dict[str, Schedule] = {
    "log_rho": DDPM,
    "log_alpha": DiscreteVP.from_betas(BETAS, "log_alpha"),
    "alpha_bar": DiscreteVP.from_betas(BETAS, "alpha_bar"),
    "zero_snr": DDPM.rescale_zero_snr(),
    "zero_snr_log_alpha": DiscreteVP.from_betas(BETAS, "log_alpha", rescale_zero_snr=True),
}
CLOSED: dict[str, Schedule] = {
    "vp_linear": VPLinear(),
    "vp_linear_other": VPLinear(0.0, 12.0),
    "vp_cosine": VPCosine(),
    "vp_sigmoid": VPSigmoid(),
    "vp_sigmoid_other": VPSigmoid(0.0, 3.0, 0.7),
    "sub_vp": SubVP(),
    "ve": VE(),
    "edm": EDM(),
    "flow": Flow(),
    "trig": Trig(),
}
ALL = {**CLOSED, **TABLES}
every = pytest.mark.parametrize("schedule", ALL.values(), ids=ALL)


def inner(schedule: Schedule, u: float) -> float:
    """A time strictly inside, at the fraction ``u`` of the finite part of the lam range."""
    first = max(schedule.lam(schedule.t_max), -8.0)
    last = min(schedule.lam(schedule.t_min), 8.0)
    return float(schedule.t_of_lam(first + (last - first) * u))


# ---- closed forms against 50 digits
# ----------------------------------------------------------------------------------------------


def mp_vp(log_alpha: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    return lambda t: (mp.exp(log_alpha(t)), mp.sqrt(1 - mp.exp(2 * log_alpha(t))))


def mp_sigmoid(t: Any) -> tuple[Any, Any]:
    def s(z: Any) -> Any:
        return 1 / (1 + mp.exp(-z))

    bar = (s(mp.mpf(3)) - s(6 * t - 3)) / (s(mp.mpf(3)) - s(mp.mpf(-3)))
    return mp.sqrt(bar), mp.sqrt(1 - bar)


def mp_cosine(t: Any) -> tuple[Any, Any]:
    s = mp.mpf("0.008")
    alpha = mp.cos(mp.pi / 2 * (t + s) / (1 + s)) / mp.cos(mp.pi / 2 * s / (1 + s))
    return alpha, mp.sqrt(1 - alpha**2)


def mp_linear(t: Any) -> Any:
    return -(mp.mpf(20) - mp.mpf(0.1)) * t**2 / 4 - mp.mpf(0.1) * t / 2


EXACT: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "vp_linear": mp_vp(mp_linear),
    "vp_cosine": mp_cosine,
    "vp_sigmoid": mp_sigmoid,
    "sub_vp": lambda t: (mp.exp(mp_linear(t)), 1 - mp.exp(2 * mp_linear(t))),
    "ve": lambda t: (mp.mpf(1), mp.mpf(0.01) * (mp.mpf(50) / mp.mpf(0.01)) ** t),
    "edm": lambda t: (mp.mpf(1), t),
    "flow": lambda t: (1 - t, t),
    "trig": lambda t: (mp.cos(mp.pi * t / 2), mp.sin(mp.pi * t / 2)),
}


@pytest.mark.parametrize("key", EXACT)
def test_alpha_and_sigma_to_full_relative_precision(key: str) -> None:
    schedule = CLOSED[key]
    near_zero = [1e-12, 1e-7, 1e-4] if key != "ve" else [-3.0, 0.0]
    times = [
        *near_zero,
        *(float(v) for v in np.linspace(0.01, 0.999, 37) * schedule.t_max),
        schedule.t_max * (1 - 1e-6),
        schedule.t_max,
    ]
    with mp.workdps(50):
        for t in times:
            alpha, sigma = EXACT[key](mp.mpf(t))
            if alpha > 1e-30:
                assert abs(schedule.alpha(t) / alpha - 1) < 5e-15, t
            assert abs(schedule.sigma(t) / sigma - 1) < 5e-15, t


@pytest.mark.parametrize("key", CLOSED)
def test_clean_end_is_exact(key: str) -> None:
    node = CLOSED[key].node(CLOSED[key].t_zero)
    assert (node.alpha, node.sigma, node.lam, node.rho) == (1.0, 0.0, math.inf, 0.0)


@pytest.mark.parametrize("key", ["flow", "trig"])
def test_noisy_end_is_exact(key: str) -> None:
    node = CLOSED[key].node(1.0)
    assert (node.alpha, node.sigma, node.lam, node.rho) == (0.0, 1.0, -math.inf, math.inf)


def test_range_and_scale_of_each_path() -> None:
    for vp in (VPLinear(), VPCosine(), VPSigmoid(), SubVP()):
        assert (vp.t_min, vp.t_zero, vp.prior_scale) == (1e-3, 0.0, 1.0)
    assert [s.t_max for s in (VPLinear(), SubVP(), VPCosine(), VPSigmoid())] == [
        1.0,
        1.0,
        0.9946,
        0.9999,
    ]
    for flow in (Flow(), Trig()):
        assert (flow.t_min, flow.t_max, flow.t_zero, flow.prior_scale) == (0.0, 1.0, 0.0, 1.0)
    assert (VE(0.1, 30.0).t_min, VE(0.1, 30.0).t_max, VE().t_zero, VE(0.1, 30.0).prior_scale) == (
        0.0,
        1.0,
        -math.inf,
        30.0,
    )
    assert (
        EDM(0.1, 30.0).t_min,
        EDM(0.1, 30.0).t_max,
        EDM().t_zero,
        EDM(0.1, 30.0).prior_scale,
    ) == (0.1, 30.0, 0.0, 30.0)
    assert (DDPM.t_min, DDPM.t_max, DDPM.t_zero, DDPM.prior_scale) == (0.0, 999.0, -1.0, 1.0)
    assert VE(0.1, 30.0).sigma(1.0) == 30.0 and VE(0.1, 30.0).sigma(0.0) == 0.1


# ---- inverses, derivatives, array types
# ------------------------------------------------------------------------------------------


@every
@given(u=st.floats(0.0, 1.0))
def test_lam_and_time_round_trip(schedule: Schedule, u: float) -> None:
    first, last = (
        max(schedule.lam(schedule.t_max), -LAM_EDGE),
        min(schedule.lam(schedule.t_min), 9.0),
    )
    lam = first + (last - first) * u
    node = schedule.node_at_lam(lam)
    assert node.lam == pytest.approx(lam, rel=1e-12, abs=1e-12)
    assert schedule.node_at_rho(math.exp(-lam)).rho == pytest.approx(math.exp(-lam), rel=1e-12)
    assert schedule.t_of_rho(node.rho) == pytest.approx(node.t, rel=1e-9, abs=1e-9)
    assert schedule.lam(schedule.t_of_lam(lam)) == pytest.approx(lam, rel=1e-12, abs=1e-12)


def slope(f: Callable[[float], float], t: float, h: float) -> float:
    """Fourth-order central difference."""
    return (8.0 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12.0 * h)


@every
@given(u=st.floats(0.001, 0.999))
def test_derivatives_agree_with_finite_differences(schedule: Schedule, u: float) -> None:
    t = inner(schedule, u)
    if isinstance(schedule, DiscreteVP):
        t = math.floor(t) + 0.25 + 0.5 * (t - math.floor(t))
        h = 0.02
    else:
        h = 1e-3 * min(t, schedule.t_max + 1e-4 - t) if not isinstance(schedule, VE) else 1e-3
    scale = 1e-13 / h
    a, b = schedule.dalpha(t), schedule.dsigma(t)
    assert a == pytest.approx(slope(schedule.alpha, t, h), rel=1e-6, abs=10 * scale)
    assert b == pytest.approx(
        slope(schedule.sigma, t, h), rel=1e-6, abs=10 * scale * max(1.0, schedule.sigma(t))
    )
    assert schedule.dlam(t) == pytest.approx(slope(schedule.lam, t, h), rel=1e-5, abs=100 * scale)
    assert schedule.f(t) == pytest.approx(a / schedule.alpha(t), rel=1e-10, abs=1e-14)
    direct = 2 * schedule.sigma(t) * b - 2 * schedule.f(t) * schedule.sigma(t) ** 2
    assert schedule.g2(t) == pytest.approx(direct, rel=1e-9, abs=1e-14)


def test_sde_coefficients_at_the_edges() -> None:
    for vp in (VPLinear(), SubVP()):
        assert vp.f(0.0) == pytest.approx(-0.05) and vp.f(1.0) == pytest.approx(-10.0)
    assert VPLinear().g2(0.0) == pytest.approx(0.1) and SubVP().g2(0.0) == 0.0
    assert SubVP().g2(1.0) == pytest.approx(20.0 * (1 - math.exp(-2 * 10.05)), rel=1e-12)
    assert EDM().g2(80.0) == pytest.approx(160.0) and EDM().f(80.0) == 0.0 and EDM().g2(0.0) == 0.0
    assert VE().g2(-math.inf) == 0.0 and VE().g2(1.0) == pytest.approx(
        2 * 2500.0 * math.log(5000.0)
    )
    assert (
        Flow().g2(0.0) == 0.0
        and Flow().g2(1.0) == math.inf
        and Flow().f(1.0) == -math.inf
        and Flow().f(0.0) == -1.0
    )
    assert Trig().g2(0.0) == 0.0 and Trig().g2(1.0) == math.inf and Trig().f(1.0) == -math.inf


def test_vertical_tangents_become_unknown_derivatives_of_a_node() -> None:
    assert VPLinear().dsigma(0.0) == math.inf and VPLinear().node(0.0).dsigma is None
    assert (
        TABLES["zero_snr"].dalpha(999.0) == -math.inf
        and TABLES["zero_snr"].node(999.0).dalpha is None
    )
    assert Flow().node(1.0).dalpha == -1.0 and SubVP().node(0.0).dsigma == pytest.approx(0.1)


@every
def test_floats_arrays_and_tensors_agree(schedule: Schedule) -> None:
    t = np.array([inner(schedule, u) for u in np.linspace(0.0, 1.0, 23)])
    for name in ("alpha", "sigma", "lam", "rho", "dalpha", "dsigma", "dlam", "f", "g2"):
        f = getattr(schedule, name)
        array, tensor = f(t), f(torch.tensor(t))
        assert (
            isinstance(f(float(t[3])), float)
            and isinstance(array, np.ndarray)
            and tensor.dtype == torch.float64
        )
        assert array == pytest.approx([f(float(v)) for v in t], rel=1e-12, abs=1e-13), name
        assert tensor.numpy() == pytest.approx(array, rel=1e-11, abs=1e-13), name
    lam = schedule.lam(t)
    assert schedule.t_of_lam(lam) == pytest.approx(t, rel=1e-9, abs=1e-9)
    assert schedule.t_of_lam(torch.tensor(lam)).numpy() == pytest.approx(t, rel=1e-9, abs=1e-9)
    assert schedule.sigma(torch.tensor(t, dtype=torch.float32)).dtype == torch.float32


@every
def test_infinite_ends_in_arrays(schedule: Schedule) -> None:
    ends = np.array([schedule.t_max, schedule.t_zero])
    assert schedule.lam(ends)[1] == math.inf and schedule.rho(ends)[1] == 0.0
    assert schedule.lam(ends)[0] == pytest.approx(
        schedule.lam(schedule.t_max), rel=1e-13
    ) and schedule.rho(ends)[0] == pytest.approx(schedule.rho(schedule.t_max), rel=1e-13)


@every
def test_times_and_lams_outside_are_refused(schedule: Schedule) -> None:
    beyond = [schedule.t_max + 0.01, math.nan, math.inf]
    beyond += [] if isinstance(schedule, VE) else [schedule.t_low - 0.01]
    for t in beyond:
        with pytest.raises(ValueError, match="outside"):
            schedule.node(t)
    with pytest.raises(ValueError, match="nan"):
        schedule.node_at_lam(math.nan)
    with pytest.raises(ValueError, match=">= 0"):
        schedule.node_at_rho(-1.0)
    if schedule.lam(schedule.t_max) > -math.inf:
        for lam in (schedule.lam(schedule.t_max) - 0.01, -math.inf):
            with pytest.raises(ValueError, match="half log-SNR"):
                schedule.node_at_lam(lam)
    else:
        assert schedule.node_at_lam(-math.inf).alpha == 0.0 == schedule.node_at_rho(math.inf).alpha


@every
def test_frozen_hashable_compared_by_value(schedule: Schedule) -> None:
    twin = dataclasses.replace(schedule)  # type: ignore[type-var]
    assert twin == schedule and hash(twin) == hash(schedule) and twin is not schedule
    assert all((other == schedule) == (other is schedule) for other in ALL.values())
    for field in dataclasses.fields(schedule):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(schedule, field.name, 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiscreteVP.from_betas([0.1, 0.0]), "0 < beta"),
        (lambda: DiscreteVP.from_betas([0.1, math.nan]), "0 < beta"),
        (lambda: DiscreteVP.from_betas([0.1]), "at least 2"),
        (lambda: DiscreteVP.from_betas([0.1, 1.0, 0.1]), "entry 2"),
        (lambda: DiscreteVP.from_alphas_cumprod([0.9, 0.95]), "entry 1"),
        (lambda: DiscreteVP.from_alphas_cumprod([1.0, 0.5]), "abar < 1"),
        (lambda: DiscreteVP.from_betas([0.1, 0.2], "log_rh"), "did you mean 'log_rho'"),
        (lambda: VPLinear(20.0, 0.1), "beta_min=20.0"),
        (lambda: SubVP(-1.0, 1.0), "beta_min=-1.0"),
        (lambda: VPSigmoid(3.0, -3.0), "start < end"),
        (lambda: VE(1.0, 0.5), "sigma_min=1.0"),
        (lambda: EDM(0.0, 80.0), "sigma_min=0.0"),
        (lambda: Flow(0.0), "shift=0.0"),
        (lambda: Flow(math.nan), "shift=nan"),
        (lambda: Flow.dynamic(0), "tokens=0"),
    ],
)
def test_bad_parameters_are_refused(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
