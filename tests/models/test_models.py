"""The Denoiser contract: the affine value, times a sample, conversions between kinds,
preconditioning numbers, exports."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

import fewstep.models as models
from fewstep.models import (
    Denoiser,
    EDMPreconditioning,
    Empirical,
    GaussianMixture,
    ShapeError,
    VEPreconditioning,
    VPPreconditioning,
    convert_prediction,
    wrap,
)
from fewstep.models.denoiser import call, combine, host_times
from fewstep.schedules import (
    EDM,
    KINDS,
    VE,
    ConversionError,
    DiscreteVP,
    Flow,
    Node,
    Schedule,
    SubVP,
    Trig,
    VPLinear,
)

F64 = torch.float64
SCHEDULES = [VPLinear(), SubVP(), VE(), EDM(), Flow(), Trig()]


def inner_time(schedule: Schedule) -> float:
    """A time with finite alpha, sigma and derivatives."""
    return 0.37 * schedule.t_max + 0.63 * max(schedule.t_min, 1e-2)


class Pair:
    """Two raw outputs, as guidance makes them; every number depends on t."""

    schedule, prediction, shape = VPLinear(), "eps", (3,)

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def raws(self, x_in, t, cond=None):
        self.seen.append(x_in)
        return x_in.sin(), x_in.cos()

    def coefficients(self, t):
        return 0.1 + t, (2.0 * t, -t * t)

    def input_scale(self, t):
        return 1.0 / (1.0 + t)

    def __call__(self, x, t, cond=None):
        return call(self, x, t, cond)


def test_everything_is_a_denoiser():
    mixture = GaussianMixture([[0.0]], 1.0, [1.0], VPLinear())
    empirical = Empirical(torch.zeros(2, 1), EDM())
    wrapped = wrap(lambda x, t: x, Flow(), "velocity", shape=(1,))
    for denoiser in (mixture, empirical, wrapped, Pair()):
        assert isinstance(denoiser, Denoiser)
        assert denoiser.prediction in KINDS
        assert denoiser.shape is None or all(isinstance(n, int) for n in denoiser.shape)
    assert not isinstance(torch.nn.Linear(1, 1), Denoiser)


def test_value_is_affine_in_state_and_raws():
    pair, x = Pair(), torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    t = 0.6
    x_in = x / 1.6
    torch.testing.assert_close(
        pair(x, t), 0.7 * x + 1.2 * x_in.sin() - 0.36 * x_in.cos(), rtol=1e-15, atol=1e-15
    )
    torch.testing.assert_close(pair.seen[0], x_in, rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_each_sample_has_its_own_time(dtype):
    x = torch.randn(4, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))
    times = [0.1, 0.9, 0.5, 1e-3]
    together = Pair()(x, torch.tensor(times, dtype=F64))
    alone = torch.cat([Pair()(x[i : i + 1], t) for i, t in enumerate(times)])
    torch.testing.assert_close(
        together, alone, rtol=3e-7 if dtype is torch.float32 else 1e-15, atol=1e-15
    )
    assert torch.equal(Pair()(x, torch.tensor(0.5, dtype=F64)), Pair()(x, 0.5))


def test_arithmetic_of_low_precision_states_is_wide():
    """In bfloat16 alone, 300 + 1 would be 300 before 300 is taken off again."""
    x = torch.tensor([[1.0]], dtype=torch.bfloat16)
    out = combine([x, x, x], [[300.0], [1.0], [-300.0]])
    assert out.dtype is torch.bfloat16 and float(out) == 1.0


def test_terms_without_weight_are_not_touched():
    x, bad = torch.ones(2, 1), torch.full((2, 1), math.nan)
    assert torch.equal(combine([bad, x], [[0.0], [1.0]]), x)
    assert torch.equal(combine([x, x], [[0.0], [0.0]]), torch.zeros(2, 1))


def test_times_of_the_wrong_shape_are_refused():
    assert host_times(torch.tensor([0.25, 0.5]), 2) == [0.25, 0.5]
    with pytest.raises(ShapeError, match=r"\(3,\).*\(2,\)"):
        host_times(torch.zeros(3), 2)
    with pytest.raises(ShapeError):
        host_times(torch.zeros(2, 1), 2)


def test_number_of_raws_must_match():
    class Short(Pair):
        def raws(self, x_in, t, cond=None):
            return (x_in,)

    with pytest.raises(ShapeError, match="1 raw outputs for 2"):
        Short()(torch.zeros(2, 3), 0.5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_conversions_agree_with_their_definitions(schedule):
    """A state made of known x0 and eps: every kind is u x0 + w eps, from every other kind."""
    g = torch.Generator().manual_seed(2)
    x0, eps = (torch.randn(3, 4, dtype=F64, generator=g) for _ in range(2))
    t = inner_time(schedule)
    n = schedule.node(t)
    x = n.alpha * x0 + n.sigma * eps
    values = {
        "x0": x0,
        "eps": eps,
        "v": n.alpha * eps - n.sigma * x0,
        "velocity": n.dalpha * x0 + n.dsigma * eps,
        "score": -eps / n.sigma,
    }
    for src in KINDS:
        for dst in KINDS:
            got = convert_prediction(values[src], x, t, src, dst, schedule)
            scale = (
                max(float(v.abs().max()) for v in values.values()) + float(x.abs().max()) / n.sigma
            )
            torch.testing.assert_close(
                got, values[dst], rtol=0.0, atol=1e-13 * scale, msg=f"{src} -> {dst}"
            )


def test_conversion_with_a_time_a_sample_and_its_errors():
    x = torch.randn(2, 3, dtype=F64, generator=torch.Generator().manual_seed(3))
    eps = x.flip(0)
    both = convert_prediction(eps, x, torch.tensor([0.2, 0.8], dtype=F64), "eps", "x0", Flow())
    for i, t in enumerate((0.2, 0.8)):
        torch.testing.assert_close(both[i], (x[i] - t * eps[i]) / (1.0 - t), rtol=1e-14, atol=1e-14)
    with pytest.raises(ConversionError):
        convert_prediction(eps, x, 1.0, "eps", "x0", Flow())
    with pytest.raises(ValueError, match="did you mean 'velocity'"):
        convert_prediction(eps, x, 0.5, "velocities", "x0", Flow())
    with pytest.raises(ShapeError, match=r"\(2, 2\).*\(2, 3\)"):
        convert_prediction(eps[:, :2], x, 0.5, "eps", "x0", Flow())


@pytest.mark.parametrize("rho", [0.002, 0.5, 80.0])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_edm_numbers_are_the_published_ones(rho, alpha):
    s = 0.7
    numbers = EDMPreconditioning(s).numbers(Node(alpha, alpha * rho))
    total = rho**2 + s**2
    wanted = (
        1.0 / math.sqrt(total) / alpha,
        s**2 / total / alpha,
        rho * s / math.sqrt(total),
        math.log(rho) / 4.0,
    )
    assert numbers == pytest.approx(wanted, rel=1e-14)


def test_edm_numbers_at_the_ends():
    noise, data = (
        EDMPreconditioning(0.5).numbers(Node(0.0, 1.0)),
        EDMPreconditioning(0.5).numbers(Node(0.8, 0.0)),
    )
    assert noise[:3] == (1.0, 0.0, 0.5)
    assert data[:3] == pytest.approx((2.5, 1.25, 0.0), rel=1e-15)
    assert (noise.c_noise, data.c_noise) == (math.inf, -math.inf)
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="sigma_data"):
            EDMPreconditioning(bad)


def test_vp_and_ve_preconditioning():
    """A VP-trained eps network on the EDM path sees x / sqrt(1 + rho^2) and the trained time; a VE
    network answers -eps."""
    table = DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64).tolist())
    vp = VPPreconditioning(table, 1.0)
    rho = float(table.rho(321.0))
    numbers = vp.numbers(Node(1.0, rho))
    assert numbers == pytest.approx((1.0 / math.sqrt(1.0 + rho**2), 0.0, 1.0, 321.0), rel=1e-10)
    ve = VEPreconditioning()
    assert ve.numbers(Node(0.5, 1.0)) == pytest.approx((2.0, 0.0, -1.0, 0.0), abs=1e-15)
    with pytest.raises(ValueError, match="alpha = 0"):
        ve.numbers(Node(0.0, 1.0))


@pytest.mark.parametrize("schedule", [EDM(), Flow(), VPLinear()], ids=lambda s: type(s).__name__)
def test_a_vp_network_serves_another_path(schedule):
    """An exact eps network of the VP path, wrapped for another, is the exact model of that path."""
    parameters = ([[-1.0, 0.5], [0.8, 0.1]], [0.3, 0.2], [0.4, 0.6])
    trained = GaussianMixture(*parameters, VPLinear())
    network = lambda x, label: trained(x, label / 999.0)  # noqa: E731
    denoiser = wrap(
        network, schedule, "eps", time="c_noise", precondition=VPPreconditioning(VPLinear())
    )
    x = torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(4))
    t = 0.4 * min(schedule.t_max, 10.0)
    exact = GaussianMixture(*parameters, schedule)
    torch.testing.assert_close(denoiser(x, t), exact(x, t), rtol=1e-11, atol=1e-11)


def test_exports():
    for name in models.__all__:
        assert getattr(models, name) is not None
    assert (
        inspect.isfunction(models.load)
        and inspect.isfunction(models.names)
        and inspect.isfunction(models.wrap)
    )
    assert set(models.__all__) <= set(dir(models))
    with pytest.raises(AttributeError, match="nothing"):
        _ = models.nothing
