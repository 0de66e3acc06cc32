"""Diagnostics of a score: Fokker-Planck residual, conservativity and intrinsic dimension, on exact
models and on errors planted in them."""

from __future__ import annotations

import math

import pytest
import torch
from laws import normals
from torch import Tensor

from fewstep.engine.likelihood import GradientError
from fewstep.engine.sampling import StateError
from fewstep.eval import (
    ScoreError,
    flipd,
    fokker_planck_residual,
    intrinsic_dimension,
    score_asymmetry,
)
from fewstep.eval.diagnostics.derivatives import pull, push
from fewstep.eval.diagnostics.time_derivative import by_jvp, central, step_of
from fewstep.models import Empirical, GaussianMixture, MeanReverted, wrap
from fewstep.models.denoiser import call
from fewstep.schedules import EDM, PFGMPP, VE, DiscreteVP, Flow, MeanReverting, SubVP, VPLinear

F64 = torch.float64
#: prediction kinds along with the schedules
PATHS = [
    (VPLinear(), "eps"),
    (VE(0.01, 50.0), "x0"),
    (Flow(), "velocity"),
    (EDM(), "score"),
    (SubVP(), "v"),
    (DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64).numpy()), "v"),
]
NAMES = [type(schedule).__name__ for schedule, _ in PATHS]


def mixture(schedule, prediction="eps") -> GaussianMixture:
    return GaussianMixture(normals(0, 3, 4), [0.3, 0.2, 0.4], [0.3, 0.5, 0.2], schedule, prediction)


def unit_gaussian(schedule, d=2, prediction="score") -> GaussianMixture:
    return GaussianMixture(torch.zeros(1, d, dtype=F64), 1.0, [1.0], schedule, prediction)


class Planted:
    """The exact score of ``base`` (a model of the score) plus ``field(x)``."""

    def __init__(self, base, field) -> None:
        self.base, self.field, self.schedule, self.prediction, self.shape = (
            base,
            field,
            base.schedule,
            "score",
            base.shape,
        )

    def raws(self, x_in, t, cond=None):
        return (self.base(x_in, t, cond) + self.field(x_in),)

    def coefficients(self, t):
        return 0.0, (1.0,)

    def input_scale(self, t):
        return 1.0

    def __call__(self, x, t, cond=None):
        return call(self, x, t, cond)


def turned(rate: float):
    """``rate W x`` in the plane, W the quarter turn."""
    w = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=F64)
    return lambda x: rate * x @ w.T.to(x)


# --- Fokker-Planck


@pytest.mark.parametrize(("schedule", "prediction"), PATHS, ids=NAMES)
def test_exact_scores_diffuse(schedule, prediction):
    model = mixture(schedule, prediction)
    times = [schedule.t_of_rho(rho) for rho in (0.3, 1.0, 3.0)]
    found = fokker_planck_residual(model, model.sample(12, 0), times)
    assert found.derivative == "central" and found.step == pytest.approx(7.4e-4, rel=1e-2)
    assert bool((found.relative < 1e-10).all()) and found.per_sample.shape == (3, 12)
    assert torch.equal(found.probe_error, torch.zeros(3, dtype=F64))
    torch.testing.assert_close(found.per_dimension, found.per_sample.mean(dim=1))


@pytest.mark.parametrize(("schedule", "prediction"), PATHS[:4], ids=NAMES[:4])
def test_a_constant_in_the_score_leaves_its_residual(schedule, prediction):
    """s = -x / v + b on N(0, 1), v = alpha^2 + sigma^2: r = (g^2 / v + f) b, everywhere."""
    b = torch.tensor([0.3, -0.4], dtype=F64)
    model = Planted(unit_gaussian(schedule), lambda x: b.expand_as(x))
    times = [schedule.t_of_rho(rho) for rho in (0.4, 2.0)]
    found = fokker_planck_residual(model, normals(2, 5, 2), times)
    for k, t in enumerate(times):
        v = schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2
        size = abs(schedule.g2(t) / v + schedule.f(t)) * 0.5
        torch.testing.assert_close(
            found.per_sample[k], torch.full((5,), size / 2, dtype=F64), rtol=1e-9, atol=0
        )


def test_a_rotation_leaves_its_residual():
    """On N(0, I) and VP: r = -g^2/2 grad |w W x|^2 = -(g w)^2 x, though the rotation changes no
    marginal (a gauge)."""
    schedule, w, t = VPLinear(), 0.8, 0.4
    model = Planted(unit_gaussian(schedule), turned(w))
    found = fokker_planck_residual(model, x0 := normals(3, 6, 2), [t], seed=5)
    from fewstep.eval.diagnostics.derivatives import noised, seeds_of

    x = noised(model, x0, schedule.node(t), seeds_of(6, 5, None))
    torch.testing.assert_close(
        found.per_sample[0], schedule.g2(t) * w**2 * x.norm(dim=1) / 2, rtol=1e-8, atol=0
    )
    assert float(found.relative) > 0.1


def test_probes_estimate_the_residual_without_bias():
    """With Gaussian probes |r|^2 holds their noise; ``square`` does not, and agrees with the exact
    trace."""
    schedule = VPLinear()
    base = mixture(schedule, "score")
    model = Planted(base, lambda x: 0.5 * x.sin())
    x0, t = base.sample(400, 0), [schedule.t_of_rho(0.8)]
    exact = fokker_planck_residual(model, x0, t, trace="exact")
    found = fokker_planck_residual(model, x0, t, trace="hutchinson", probes=16, probe="gaussian")
    torch.testing.assert_close(exact.square, exact.relative**2)
    assert float(found.relative**2) > float(exact.square) * 1.1
    assert float(found.square) == pytest.approx(float(exact.square), rel=0.1)
    one = fokker_planck_residual(model, x0[:4], t, trace="hutchinson", probes=1)
    assert (
        bool(one.probe_error.isnan())
        and bool(one.square.isnan())
        and bool(one.per_dimension.isfinite())
    )


def test_chunks_change_nothing():
    model, t = mixture(VPLinear(), "v"), [0.3, 0.5]
    x0 = model.sample(7, 0)
    for trace in ("exact", "hutchinson"):
        whole = fokker_planck_residual(model, x0, t, trace=trace)
        parts = fokker_planck_residual(model, x0, t, trace=trace, batch=3)
        assert torch.equal(whole.per_sample, parts.per_sample)
        assert torch.equal(
            score_asymmetry(model, x0, t, trace=trace).asym,
            score_asymmetry(model, x0, t, trace=trace, batch=2).asym,
        )
        assert torch.equal(
            flipd(model, x0, 0.1, trace=trace), flipd(model, x0, 0.1, trace=trace, batch=4)
        )
    labels = torch.arange(7) % 3
    apart = score_asymmetry(model, x0, t, cond=labels, batch=2)
    assert torch.equal(
        apart.per_sample, score_asymmetry(model, x0, t, cond={"label": labels}).per_sample
    )
    cloud = [intrinsic_dimension(model, x0, 0.02, cond=labels, batch=b).spectrum for b in (None, 5)]
    assert torch.equal(*cloud)
    assert not torch.equal(cloud[0], intrinsic_dimension(model, x0, 0.02).spectrum)


class Timed:
    """E[x0 | x] of N(0, STD^2) in EDM's preconditioning, written in torch with a tensor t: forward
    mode sees its time."""

    schedule, prediction, shape = EDM(), "x0", (3,)

    def raws(self, x_in, t, cond=None):
        sigma = torch.as_tensor(t, dtype=x_in.dtype)
        gain = 0.25 / (0.25 + sigma**2)  # x0 = gain y; the network's part of it, over c_out
        y = x_in / self.input_scale_of(sigma)
        return ((gain - self.skip(sigma)) * y / self.out(sigma),)

    def skip(self, sigma):
        return 1.0 / (1.0 + sigma**2)

    def out(self, sigma):
        return sigma / (1.0 + sigma**2) ** 0.5

    def input_scale_of(self, sigma):
        return 1.0 / (1.0 + sigma**2) ** 0.5

    def coefficients(self, t):
        return self.skip(t), (self.out(t),)

    def input_scale(self, t):
        return float(self.input_scale_of(t))

    def __call__(self, x, t, cond=None):
        return call(self, x, t, cond)


class HalfSeen(Timed):
    """One of its two uses of the time is hidden from autograd."""

    def skip(self, sigma):
        return 1.0 / (1.0 + float(sigma) ** 2)

    def raws(self, x_in, t, cond=None):
        return super().raws(x_in, t, cond)


def test_the_derivative_by_forward_mode():
    """s = -x / (1/4 + sigma^2): d s / d lam = -2 sigma^2 x / (1/4 + sigma^2)^2, as lam = -log
    sigma."""
    model, x = Timed(), normals(4, 5, 3)
    for sigma in (0.05, 0.5, 4.0):
        node = model.schedule.node(sigma)
        wanted = -2.0 * sigma**2 * x / (0.25 + sigma**2) ** 2
        own = by_jvp(model, x, node)
        assert own is not None
        torch.testing.assert_close(own, wanted, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            central(model, x, node, step_of(F64)), wanted, rtol=1e-9, atol=1e-9
        )
    found = fokker_planck_residual(model, 0.5 * x, [0.05, 0.5, 4.0])
    assert found.derivative == "jvp" and bool((found.relative < 1e-9).all())
    assert fokker_planck_residual(HalfSeen(), 0.5 * x, [0.5]).derivative == "central"
    with pytest.raises(GradientError, match="central"):
        fokker_planck_residual(mixture(VPLinear()), x.new_zeros(2, 4), [0.5], derivative="jvp")


def test_a_float32_network():
    """Differences over a wider step: the exact score of N(0, I) on VP, in float32, to rounding."""
    net = torch.nn.Linear(2, 2, bias=False)
    torch.nn.init.eye_(net.weight)
    model = wrap(_Scaled(net), VPLinear(), "eps", shape=(2,))
    found = fokker_planck_residual(model, normals(5, 6, 2), [0.3])
    assert found.step == pytest.approx(0.0413, rel=1e-2)
    assert found.per_dimension.item() < 1e-3 * float(VPLinear().g2(0.3))


class _Scaled(torch.nn.Module):
    """eps = sigma x, the exact one of N(0, I) on VP."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.inner(x) * VPLinear().sigma(t).view(-1, 1).to(x)


# --- conservativity


@pytest.mark.parametrize(("schedule", "prediction"), PATHS, ids=NAMES)
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_exact_scores_are_gradients(schedule, prediction, trace):
    model = mixture(schedule, prediction)
    found = score_asymmetry(
        model, model.sample(8, 0), [schedule.t_of_rho(0.5), schedule.t_of_rho(2.0)], trace=trace
    )
    assert bool((found.nasym < 1e-25).all()) and bool((found.asym < 1e-20).all())
    assert found.probes == (0 if trace == "exact" else 1)


def test_a_rotation_is_seen_as_what_it_is():
    """J = -I / v + w W in the plane: Asym = 4 w^2, NAsym = w^2 / (1 / v^2 + w^2); every Rademacher
    probe gives both."""
    schedule, w = VE(0.01, 50.0), 0.8
    model = Planted(unit_gaussian(schedule), turned(w))
    for sigma in (0.5, 3.0):
        t, v = schedule.t_of_rho(sigma), 1.0 + sigma**2
        for trace in ("exact", "hutchinson"):
            found = score_asymmetry(model, normals(6, 5, 2), [t], trace=trace)
            assert found.asym.item() == pytest.approx(4.0 * w**2, rel=1e-12)
            assert found.nasym.item() == pytest.approx(w**2 / (v**-2 + w**2), rel=1e-12)
            assert found.pooled.item() == pytest.approx(found.nasym.item(), rel=1e-12)


def test_probes_agree_with_the_jacobian():
    schedule = VPLinear()
    base = mixture(schedule, "score")
    a = normals(7, 4, 4)
    model = Planted(base, lambda x: (x @ a.T).tanh())
    x0, t = base.sample(300, 0), [schedule.t_of_rho(0.8)]
    exact = score_asymmetry(model, x0, t, trace="exact")
    for probe in ("rademacher", "gaussian"):
        found = score_asymmetry(model, x0, t, trace="hutchinson", probes=8, probe=probe)
        assert found.asym.item() == pytest.approx(exact.asym.item(), rel=0.05)
        assert found.pooled.item() == pytest.approx(exact.pooled.item(), rel=0.05)
    assert 0.0 < exact.standard_error.item() < exact.nasym.item()


def test_products_with_the_jacobian():
    x = normals(8, 3, 4).requires_grad_()
    v, w = normals(9, 3, 4), normals(10, 3, 4)
    a = normals(11, 4, 4)

    def f(x):
        return (x @ a).sin() * x[:, :1]

    wanted = torch.func.jvp(f, (x.detach(),), (v,))[1]
    torch.testing.assert_close(push(f(x), x, v), wanted)
    assert float((push(f(x), x, v) * w).sum()) == pytest.approx(
        float((pull(f(x), x, w) * v).sum()), rel=1e-12
    )


# --- dimension


def flat(d: int, k: int, schedule, prediction="x0", thin=1e-5) -> GaussianMixture:
    """A unit Gaussian in the first k of d dimensions, turned by nothing."""
    stds = torch.full((1, d), thin, dtype=F64)
    stds[0, :k] = 1.0
    return GaussianMixture(torch.zeros(1, d, dtype=F64), stds, [1.0], schedule, prediction)


@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [(EDM(), "x0"), (VPLinear(), "eps"), (Flow(), "velocity")],
    ids=["edm", "vp", "flow"],
)
@pytest.mark.parametrize(("d", "k"), [(10, 3), (10, 9), (6, 1)])
def test_the_dimension_of_a_subspace(schedule, prediction, d, k):
    model = flat(d, k, schedule, prediction)
    t = schedule.t_of_rho(0.005)
    found = intrinsic_dimension(model, model.sample(4, 1), t)
    assert found.dimension.tolist() == [k] * 4 and found.points == 200
    assert bool((found.ratio > 20.0).all()) and bool((found.spectrum.diff(dim=1) <= 0.0).all())
    torch.testing.assert_close(found.gap, found.spectrum[:, d - k - 1] - found.spectrum[:, d - k])
    normal = found.spectrum[:, : d - k] * found.sigma
    assert float(normal.square().mean()) == pytest.approx(1.0, abs=0.25)
    assert flipd(model, model.sample(4, 1), t).round().tolist() == [k] * 4


def test_a_subspace_in_any_position():
    """Four points of a mixture whose components lie along axes of different number."""
    means = 10.0 * torch.eye(2, 8, dtype=F64)
    stds = torch.full((2, 8), 1e-5, dtype=F64)
    stds[0, 2:4], stds[1, 2:7] = 1.0, 1.0
    model = GaussianMixture(means, stds, [0.5, 0.5], EDM(), "eps")
    x0 = torch.cat([model.sample(2, 0, component=0), model.sample(2, 0, component=1)])
    assert intrinsic_dimension(model, x0, 0.01).dimension.tolist() == [2, 2, 5, 5]
    assert flipd(model, x0, 0.01).round().tolist() == [2, 2, 5, 5]


def test_a_base_point_off_the_manifold():
    """20 sigma away, the common pull stands alone as the first singular value; without it the
    dimension is right."""
    model = flat(10, 3, EDM())
    x0 = model.sample(3, 1)
    x0[:, 9] += 0.1
    assert intrinsic_dimension(model, x0, 0.005).dimension.tolist() == [9] * 3
    assert intrinsic_dimension(model, x0, 0.005, center=True).dimension.tolist() == [3] * 3
    assert (
        intrinsic_dimension(model, model.sample(3, 1), 0.005, center=True).dimension.tolist()
        == [3] * 3
    )


def test_the_dimension_of_a_circle():
    """2,000 points of a circle in the plane of 5 dimensions; the noise is above their distance and
    below the radius."""
    phi = torch.arange(2000, dtype=F64) * (2.0 * math.pi / 2000)
    data = torch.zeros(2000, 5, dtype=F64)
    data[:, 0], data[:, 1] = phi.cos(), phi.sin()
    model = Empirical(data, EDM(), "x0")
    found = intrinsic_dimension(model, data[[3, 700, 1500]], 0.02)
    assert found.dimension.tolist() == [1, 1, 1]
    assert bool((found.ratio > 5.0).all())
    torch.testing.assert_close(
        flipd(model, data[[3, 700]], 0.02), torch.ones(2, dtype=F64), rtol=0, atol=0.01
    )


def test_flipd_by_its_formula():
    """N(0, diag s^2) at x = alpha x0: d + sigma^2 (sum alpha^2 x0^2 / v^2 - 1 / v), v = alpha^2 s^2
    + sigma^2."""
    schedule, t = VPLinear(), 0.2
    stds = torch.tensor([[1.0, 0.3, 0.01]], dtype=F64)
    model = GaussianMixture(torch.zeros(1, 3, dtype=F64), stds, [1.0], schedule, "v")
    x0, node = model.sample(5, 0), schedule.node(t)
    v = node.alpha**2 * stds**2 + node.sigma**2
    wanted = 3.0 + node.sigma**2 * ((node.alpha * x0 / v).square() - 1.0 / v).sum(dim=1)
    torch.testing.assert_close(flipd(model, x0, t), wanted)
    # of a diagonal Jacobian every Rademacher probe is exact
    torch.testing.assert_close(flipd(model, x0, t, trace="hutchinson"), wanted)


# --- states and errors


def test_a_mean_reverting_model_takes_data():
    """The state of its path is x - mu: the score of data around mu is asked there."""
    mu = torch.tensor([2.0, -1.0, 0.5], dtype=F64)
    path = MeanReverting(0.6, VPLinear())
    exact = GaussianMixture(torch.full((1, 3), 0.4, dtype=F64), 0.5, [1.0], path, "eps")
    model = MeanReverted(wrap(lambda x, t: exact(x - mu, float(t[0])), path, "eps", shape=(3,)), mu)
    x0 = exact.sample(4, 0)
    for measure in (
        lambda m, x: fokker_planck_residual(m, x, [0.4]).per_sample,
        lambda m, x: flipd(m, x, 0.2),
    ):
        torch.testing.assert_close(
            measure(model, x0 + mu), measure(exact, x0), rtol=1e-6, atol=1e-9
        )


def test_networks_without_derivatives_say_what_to_do():
    detached = wrap(lambda x, t: x.detach() * 0.5, VPLinear(), "eps", shape=(3,))
    x0 = normals(12, 4, 3)
    for ask in (fokker_planck_residual, score_asymmetry):
        with pytest.raises(GradientError, match="intrinsic_dimension"):
            ask(detached, x0, [0.4])
    with pytest.raises(GradientError, match="intrinsic_dimension"):
        flipd(detached, x0, 0.1)
    assert intrinsic_dimension(detached, x0, 0.1).dimension.shape == (4,)

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return 2.0 * ctx.saved_tensors[0] * grad

    once = wrap(lambda x, t: Once.apply(x), VPLinear(), "eps", shape=(3,))
    assert float(score_asymmetry(once, x0, [0.4], trace="exact").nasym) < 1e-20
    for ask in (
        lambda: score_asymmetry(once, x0, [0.4], trace="hutchinson"),
        lambda: fokker_planck_residual(once, x0, [0.4]),
    ):
        with pytest.raises(GradientError, match="SDPBackend.MATH"):
            ask()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, x: fokker_planck_residual(m, x, []), ScoreError, "times is empty"),
        (
            lambda m, x: fokker_planck_residual(m, x, [m.schedule.t_max]),
            ScoreError,
            "end of the path",
        ),
        (lambda m, x: fokker_planck_residual(m, x, [0.5], derivative="jpv"), ValueError, "jvp"),
        (lambda m, x: fokker_planck_residual(m, x, [0.5], step=2.0), ScoreError, "step=2.0"),
        (lambda m, x: score_asymmetry(m, x, [0.0]), ScoreError, "sigma > 0"),
        (lambda m, x: score_asymmetry(m, x, [0.5], trace="hutch"), ValueError, "hutchinson"),
        (
            lambda m, x: score_asymmetry(m, x, [0.5], probes=0, trace="hutchinson"),
            ValueError,
            "probes=0",
        ),
        (lambda m, x: score_asymmetry(m, x[:, :3], [0.5]), StateError, "the model.s is"),
        (lambda m, x: score_asymmetry(m, x * math.nan, [0.5]), ScoreError, "NaN"),
        (lambda m, x: score_asymmetry(m, x, [0.5], seeds=[1]), StateError, "1 seeds"),
        (lambda m, x: score_asymmetry(m, x, [0.5], batch=0), ValueError, "batch=0"),
        (lambda m, x: intrinsic_dimension(m, x, 0.1, points=3), ValueError, "points=3"),
        (
            lambda m, x: intrinsic_dimension(unit_gaussian(VPLinear(), 1), x[:, :1], 0.1),
            ScoreError,
            "normal space",
        ),
        (
            lambda m, x: intrinsic_dimension(unit_gaussian(Flow(), 4, "velocity"), x),
            ScoreError,
            "give t=",
        ),
        (
            lambda m, x: fokker_planck_residual(unit_gaussian(PFGMPP(128.0), 4), x, [0.5]),
            ScoreError,
            "PFGM",
        ),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(mixture(VPLinear()), normals(13, 4, 4))


def test_a_table_of_times_has_no_derivative():
    schedule = PATHS[-1][0]
    model = wrap(lambda x, t: x * 0.5, schedule, "eps", time="index", shape=(3,))
    with pytest.raises(ScoreError, match="index"):
        fokker_planck_residual(model, normals(14, 2, 3), [400.0])
