"""Exact models against quadrature, finite differences, an independent implementation and brute
force; bits across batch sizes."""

from __future__ import annotations

import json
import math

import mpmath
import numpy as np
import pytest
import torch
from repository import ROOT
from scipy.integrate import quad

import fewstep.models.empirical as empirical_module
import fewstep.schedules as schedules
from fewstep.models import Empirical, GaussianMixture, ShapeError, convert_prediction
from fewstep.models.exact import fold
from fewstep.schedules import (
    EDM,
    KINDS,
    VE,
    ConversionError,
    DiscreteVP,
    Flow,
    SubVP,
    Trig,
    VPLinear,
)

F64 = torch.float64
GOLDEN = json.loads((ROOT / "tests" / "golden" / "gmm_points.json").read_text())
MEANS, STDS, WEIGHTS = (-1.3, 0.4, 1.7), (0.3, 0.2, 0.4), (0.3, 0.5, 0.2)
NODES = [
    (VPLinear(), 0.3),
    (VPLinear(), 1.0),
    (EDM(), 0.4),
    (VE(), 0.5),
    (Flow(), 0.6),
    (Trig(), 0.2),
    (SubVP(), 0.5),
]
node_ids = [f"{type(s).__name__}-{t}" for s, t in NODES]


def line(schedule, prediction="eps"):
    """Three components in one dimension."""
    return GaussianMixture([[m] for m in MEANS], STDS, WEIGHTS, schedule, prediction)


def plane(schedule, prediction="eps"):
    """Three components of shape (2, 3) with a standard deviation of every entry."""
    rng = np.random.default_rng(0)
    return GaussianMixture(
        rng.normal(size=(3, 2, 3)), rng.uniform(0.2, 0.6, (3, 2, 3)), WEIGHTS, schedule, prediction
    )


def normals(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def bell(x, mean, std):
    """The normal density, in plain floats: a quadrature asks for it a hundred thousand times."""
    return math.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2.0 * math.pi))


# --- mixture: values
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "t"), NODES, ids=node_ids)
def test_mixture_against_quadrature(schedule, t):
    """p_t and E[x0 | x] as integrals over x0."""
    node, model = schedule.node(t), line(schedule, "x0")
    for x in (-1.1, 0.2, 1.9):

        def joint(v: float, x: float = x) -> float:
            parts = zip(WEIGHTS, MEANS, STDS, strict=True)
            prior = sum(w * bell(v, m, s) for w, m, s in parts)
            return prior * bell(x, node.alpha * v, node.sigma)

        points = [*MEANS, *([x / node.alpha] if node.alpha > 1e-2 else [])]
        mass = quad(joint, -5.0, 6.0, points=points, epsabs=0.0, epsrel=1e-11, limit=400)[0]
        first = quad(
            lambda v, p=joint: v * p(v),
            -5.0,
            6.0,
            points=points,
            epsabs=1e-13,
            epsrel=1e-11,
            limit=400,
        )[0]
        state = torch.tensor([[x]], dtype=F64)
        assert float(model.log_prob(state, t)) == pytest.approx(math.log(mass), rel=1e-9, abs=1e-9)
        assert float(model(state, t)) == pytest.approx(first / mass, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(("schedule", "t"), NODES, ids=node_ids)
def test_score_is_the_gradient_of_the_log_density(schedule, t):
    """Central differences (second order) and autograd of log_prob, on a mixture with axes of
    different widths."""
    model = plane(schedule)
    x = normals(4, 2, 3, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_prob(x, t).sum(), x)
    score = model.score(x.detach(), t)
    torch.testing.assert_close(score, gradient, rtol=1e-11, atol=1e-11)
    step = 1e-5
    shift = torch.zeros(4, 2, 3, dtype=F64)
    shift[:, 1, 2] = step
    slope = (model.log_prob(x.detach() + shift, t) - model.log_prob(x.detach() - shift, t)) / (
        2.0 * step
    )
    torch.testing.assert_close(score[:, 1, 2], slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("schedule", "t"), NODES, ids=node_ids)
def test_kinds_of_one_mixture_agree(schedule, t):
    """Every kind, computed on its own, is the conversion of every other; x = alpha E[x0] + sigma
    E[eps]; Tweedie."""
    x, node = normals(5, 2, 3, seed=2), schedule.node(t)
    values = {kind: plane(schedule, kind)(x, t) for kind in KINDS}
    torch.testing.assert_close(
        node.alpha * values["x0"] + node.sigma * values["eps"], x, rtol=1e-13, atol=1e-13
    )
    torch.testing.assert_close(
        node.alpha * values["x0"], x + node.sigma**2 * values["score"], rtol=1e-12, atol=1e-12
    )
    scale = max(float(v.abs().max()) for v in values.values()) / min(node.alpha, node.sigma)
    for src in KINDS:
        for dst in KINDS:
            got = convert_prediction(values[src], x, t, src, dst, schedule)
            torch.testing.assert_close(
                got, values[dst], rtol=0.0, atol=1e-13 * scale, msg=f"{src} -> {dst}"
            )


@pytest.mark.parametrize("point", GOLDEN["points"], ids=lambda p: f"{p['schedule']}-{p['t']}")
def test_mixture_against_an_independent_implementation(point):
    schedule = getattr(schedules, point["schedule"])()
    node = schedule.node(point["t"])
    assert (node.alpha, node.sigma) == pytest.approx((point["alpha"], point["sigma"]), rel=1e-15)
    x = torch.tensor(point["x"], dtype=F64)
    for kind in KINDS:
        if kind not in point:
            continue
        got = GaussianMixture(GOLDEN["means"], GOLDEN["stds"], GOLDEN["weights"], schedule, kind)(
            x, point["t"]
        )
        wanted = torch.tensor(point[kind], dtype=F64)
        torch.testing.assert_close(got, wanted, rtol=0.0, atol=2e-14 * float(wanted.abs().max()))


def test_mixture_at_the_ends_of_the_path():
    """alpha = 0: the mean of the data. sigma = 0: the state itself, no noise, and still a score."""
    x = normals(4, 2, 3, seed=3)
    model = plane(Flow())
    mean = (model.weights[:, None, None] * model.means).sum(0).expand(4, 2, 3)
    torch.testing.assert_close(model.predict("x0", x, 1.0), mean, rtol=1e-14, atol=1e-14)
    # the responsibilities add up to 1 to rounding
    torch.testing.assert_close(model.predict("eps", x, 1.0), x, rtol=1e-15, atol=0.0)
    torch.testing.assert_close(model.predict("velocity", x, 1.0), x - mean, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(model.predict("x0", x, 0.0), x, rtol=1e-14, atol=0.0)
    assert torch.equal(model.predict("eps", x, 0.0), torch.zeros_like(x))
    near = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.log_prob(near, 0.0).sum(), near)
    torch.testing.assert_close(model.score(x, 0.0), gradient, rtol=1e-12, atol=1e-12)
    with pytest.raises(ConversionError, match="velocity"):
        line(VPLinear(), "velocity")(x[:, 0, :1], 0.0)


def test_mixture_far_away_and_at_huge_noise():
    """The nearest component of a state a thousand widths away; sigma = 80; all finite."""
    model = line(EDM(), "x0")
    far = torch.tensor([[1e3], [-1e3]], dtype=F64)
    v = STDS[2] ** 2 + 0.01**2
    # the widest component wins on both sides
    wanted = (STDS[2] ** 2 * far + 0.01**2 * MEANS[2]) / v
    torch.testing.assert_close(model(far, 0.01), wanted, rtol=1e-12, atol=0.0)
    x = 80.0 * normals(64, 1, seed=4)
    assert bool(torch.isfinite(model(x, 80.0)).all()) and bool(
        torch.isfinite(model.log_prob(x * 1e3, 80.0)).all()
    )
    assert (
        float(
            (model(x, 80.0) - sum(m * w for m, w in zip(MEANS, WEIGHTS, strict=True))).abs().max()
        )
        < 0.1
    )


def test_forms_of_the_standard_deviations():
    means, x = normals(3, 2, 3, seed=5), normals(4, 2, 3, seed=6)
    full = torch.full((3, 2, 3), 0.4, dtype=F64)
    values = [
        GaussianMixture(means, s, WEIGHTS, VPLinear())(x, 0.4) for s in (0.4, [0.4] * 3, full)
    ]
    torch.testing.assert_close(values[0], values[1], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(values[0], values[2], rtol=1e-14, atol=1e-14)
    axes = GaussianMixture([[0.3, -0.2]], [[0.5, 2.0]], [1.0], EDM())
    x = normals(3, 2, seed=7)
    each = [
        GaussianMixture([[m]], s, [1.0], EDM()).log_prob(x[:, i : i + 1], 0.7)
        for i, (m, s) in enumerate([(0.3, 0.5), (-0.2, 2.0)])
    ]
    torch.testing.assert_close(axes.log_prob(x, 0.7), each[0] + each[1], rtol=1e-14, atol=1e-14)


def test_weights_are_normalised():
    one, two = (GaussianMixture([[0.0], [1.0]], 0.5, w, EDM()) for w in ([1.0, 3.0], [0.25, 0.75]))
    x = normals(3, 1)
    assert torch.equal(one(x, 1.0), two(x, 1.0)) and one.weights.tolist() == [0.25, 0.75]
    empty = GaussianMixture([[0.0], [1.0]], 0.5, [0.0, 1.0], EDM())
    alone = GaussianMixture([[1.0]], 0.5, [1.0], EDM())
    torch.testing.assert_close(empty(x, 1.0), alone(x, 1.0), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize(
    ("means", "stds", "weights", "text"),
    [
        ([0.0, 1.0], 1.0, [0.5, 0.5], "means have shape"),
        ([[0.0], [1.0]], [1.0, 1.0, 1.0], [0.5, 0.5], "stds have shape"),
        ([[0.0], [1.0]], 0.0, [0.5, 0.5], "positive"),
        ([[0.0], [math.nan]], 1.0, [0.5, 0.5], "finite"),
        ([[0.0], [1.0]], 1.0, [0.5], "weights have shape"),
        ([[0.0], [1.0]], 1.0, [-0.5, 1.5], "not negative"),
        ([[0.0], [1.0]], 1.0, [0.0, 0.0], "not all zero"),
    ],
)
def test_parameters_that_make_no_mixture(means, stds, weights, text):
    with pytest.raises(ValueError, match=text):
        GaussianMixture(means, stds, weights, EDM())


def test_names_and_shapes_are_checked():
    with pytest.raises(ValueError, match="did you mean 'score'"):
        line(EDM(), "scores")
    with pytest.raises(ValueError, match="did you mean 'eps'"):
        line(EDM()).predict("epsilon", torch.zeros(1, 1), 1.0)
    with pytest.raises(ShapeError, match=r"\(2, 3, 2\).*2, 3"):
        plane(EDM())(torch.zeros(2, 3, 2), 1.0)


# --- mixture: conditions, draws, gradients, types
# -------------------------------------------------------------------------------


def test_condition_is_one_component():
    x = normals(4, 2, 3, seed=8)
    model = plane(VPLinear())
    cond = torch.tensor([0, 2, -1, 1])
    got = model(x, 0.5, cond)
    for i, k in enumerate(cond.tolist()):
        alone = (
            model
            if k < 0
            else GaussianMixture(model.means[k : k + 1], model.stds[k : k + 1], [1.0], VPLinear())
        )
        torch.testing.assert_close(got[i : i + 1], alone(x[i : i + 1], 0.5), rtol=1e-14, atol=1e-14)
        given = model.log_prob(x, 0.5, cond)[i : i + 1]
        torch.testing.assert_close(given, alone.log_prob(x[i : i + 1], 0.5), rtol=1e-14, atol=1e-14)
    assert torch.equal(model(x, 0.5, {"label": cond}), got)
    assert torch.equal(model(x, 0.5, torch.full((4,), -1)), model(x, 0.5))


@pytest.mark.parametrize(
    ("cond", "text"),
    [
        (torch.tensor([0, 3]), "allowed: -1"),
        (torch.tensor([0, -2]), "allowed: -1"),
        (torch.tensor([0.0, 1.0]), "integers"),
        (torch.tensor([0]), "batch is 2"),
        ({"class": torch.tensor([0, 1])}, "'label'"),
    ],
)
def test_conditions_that_do_not_fit(cond, text):
    with pytest.raises(ValueError, match=text):
        plane(EDM())(torch.zeros(2, 2, 3), 1.0, cond)


def test_draws_have_the_law_of_the_mixture():
    """Moments within five standard errors, the same first draws for any number, one component on
    demand."""
    model = plane(EDM())
    n = 20000
    x = model.sample(n, 3)
    assert x.shape == (n, 2, 3) and x.dtype is F64
    w = model.weights[:, None, None]
    mean = (w * model.means).sum(0)
    variance = (w * (model.stds**2 + model.means**2)).sum(0) - mean**2
    assert bool(((x.mean(0) - mean).abs() < 5.0 * (variance / n).sqrt()).all())
    fourth = ((x - mean) ** 4).mean(0)
    assert bool(((x.var(0) - variance).abs() < 5.0 * ((fourth - variance**2) / n).sqrt()).all())
    assert torch.equal(model.sample(7, 3), x[:7]) and not torch.equal(model.sample(7, 4), x[:7])
    part = model.sample(n, 3, component=1)
    assert bool(((part.mean(0) - model.means[1]).abs() < 5.0 * model.stds[1] / math.sqrt(n)).all())
    assert bool((((part - model.means[1]) / model.stds[1]).std(0) - 1.0).abs().max() < 0.03)
    with pytest.raises(ValueError, match="component=3"):
        model.sample(1, 0, component=3)


def test_jacobian_is_the_posterior_covariance():
    """d E[x0|x] / dx = alpha / sigma^2 Var[x0|x], by autograd against quadrature."""
    node, model, x = (
        VPLinear().node(0.3),
        line(VPLinear(), "x0"),
        torch.tensor([[0.6]], dtype=F64, requires_grad=True),
    )
    (slope,) = torch.autograd.grad(model(x, 0.3).sum(), x)
    joint = lambda v: (  # noqa: E731
        sum(w * bell(v, m, s) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True))
        * bell(0.6, node.alpha * v, node.sigma)
    )
    m0, m1, m2 = (
        quad(lambda v, k=k: v**k * joint(v), -5.0, 6.0, points=list(MEANS), epsrel=1e-11)[0]
        for k in range(3)
    )
    assert float(slope) == pytest.approx(
        node.alpha / node.sigma**2 * (m2 / m0 - (m1 / m0) ** 2), rel=1e-7
    )
    assert torch.autograd.gradcheck(
        lambda v: plane(Flow())(v, 0.4), (normals(2, 2, 3).requires_grad_(),)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_states_of_lower_precision(dtype):
    """Computed in float64, rounded once."""
    x = normals(3, 2, 3, seed=9).to(dtype)
    out = plane(EDM())(x, 0.3)
    assert out.dtype is dtype and torch.equal(out, plane(EDM())(x.double(), 0.3).to(dtype))


@pytest.mark.parametrize(
    "schedule",
    [VPLinear(), VE(), Flow(), DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 50))],
    ids=lambda s: type(s).__name__,
)
def test_exact_models_do_not_wait_for_the_device(schedule):
    """The meta device raises at every read of a value."""
    x, t = torch.empty(2, 2, 3, device="meta"), torch.empty((), dtype=F64, device="meta")
    cond = torch.empty(2, dtype=torch.int64, device="meta")
    points = Empirical(torch.zeros(4, 2, 3), schedule, labels=torch.tensor([0, 1, 1, 0]))
    for kind in KINDS:
        for model in (plane(schedule), points):
            assert model.predict(kind, x, t, cond).shape == x.shape


# --- bits
# -----------------------------------------------------------------------------------------------------------------------


def bit_models():
    rng = np.random.default_rng(1)
    wide = GaussianMixture(
        rng.normal(size=(10, 1, 28, 28)), rng.uniform(0.1, 0.5, 10), np.ones(10), VPLinear(), "v"
    )
    data = torch.from_numpy(rng.normal(size=(501, 1, 28, 28))).float()
    return {
        "line": line(VPLinear()),
        "plane": plane(VPLinear(), "velocity"),
        "wide": wide,
        "single": GaussianMixture([[0.5]], 0.2, [1.0], VPLinear(), "x0"),
        "empirical": Empirical(data, VPLinear(), "eps"),
    }


@pytest.mark.parametrize("name", list(bit_models()))
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_rows_do_not_depend_on_the_batch(name, dtype):
    model = bit_models()[name]
    x = normals(64, *model.shape, seed=10).to(dtype)
    for t in (1.0, 0.31, 0.01):
        every = model(x, t)
        for batch in (1, 7):
            for first in (0, 13):
                rows = x[first : first + batch].clone()
                assert torch.equal(model(rows, t), every[first : first + batch])
                assert torch.equal(
                    model(rows, torch.full((batch,), t, dtype=F64)), every[first : first + batch]
                )
        assert torch.equal(model(x, torch.tensor(t, dtype=F64)), every)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 100])
def test_fold_is_the_sum(n):
    v = torch.from_numpy(np.random.default_rng(n).integers(-9, 9, (3, n, 2))).double()
    assert torch.equal(fold(v, 1), v.sum(1))


# --- empirical
# ------------------------------------------------------------------------------------------------------------------


def brute(data, x, alpha, sigma, allowed=None):
    """E[x0 | x] with 60 digits."""
    with mpmath.workdps(60):
        rows = [[mpmath.mpf(float(v)) for v in row] for row in data]
        a, s, state = mpmath.mpf(alpha), mpmath.mpf(sigma), [mpmath.mpf(float(v)) for v in x]
        logs = [
            -sum((u - a * v) ** 2 for u, v in zip(state, row, strict=True)) / (2 * s * s)
            for row in rows
        ]
        keep = range(len(rows)) if allowed is None else allowed
        top = max(logs[i] for i in keep)
        w = {i: mpmath.exp(logs[i] - top) for i in keep}
        total = sum(w.values())
        return [float(sum(w[i] * rows[i][j] for i in keep) / total) for j in range(len(state))]


@pytest.mark.parametrize(
    ("schedule", "t"),
    [
        (EDM(), 80.0),
        (EDM(), 0.5),
        (EDM(), 0.002),
        (Flow(), 0.3),
        (Flow(), 0.999),
        (VPLinear(), 0.2),
    ],
)
def test_empirical_against_brute_force(schedule, t):
    rng = np.random.default_rng(2)
    data = torch.from_numpy(rng.normal(size=(9, 4))).float()
    node = schedule.node(t)
    x = node.alpha * data[:3].double() + node.sigma * normals(3, 4, seed=11)
    got = Empirical(data, schedule)(x, t)
    wanted = torch.tensor([brute(data, row, node.alpha, node.sigma) for row in x], dtype=F64)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_empirical_keeps_its_digits_at_small_noise():
    """Two points 1e-5 apart at distance 1000 from the origin: ||a||^2 - 2ab + ||b||^2 has nothing
    left of their difference."""
    data = torch.tensor([[1000.0, 1000.0], [1000.00001, 1000.0]], dtype=F64)
    x = torch.tensor([[1000.000004, 1000.000001]], dtype=F64)
    got = Empirical(data, EDM(1e-6))(x, 5e-6)
    wanted = torch.tensor([brute(data, x[0], 1.0, 5e-6)], dtype=F64)
    torch.testing.assert_close(got - 1000.0, wanted - 1000.0, rtol=1e-6, atol=1e-12)
    assert 1e-6 < float(got[0, 0] - 1000.0) < 9e-6


def test_empirical_at_the_ends_of_the_path():
    data = normals(6, 2, 2, seed=12)
    model = Empirical(data, Flow())
    x = data[:3] + 0.01
    torch.testing.assert_close(model(x, 1.0), data.mean(0).expand(3, 2, 2), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(model(x, 0.0), data[:3], rtol=0.0, atol=0.0)
    with pytest.raises(ConversionError, match="sigma=0"):
        Empirical(data, Flow(), "eps")(x, 0.0)


def test_empirical_labels():
    data, labels = normals(8, 3, seed=13), torch.tensor([0, 1, 2, 0, 1, 2, 1, 1])
    x, t = normals(4, 3, seed=14), 0.6
    model = Empirical(data, Flow(), labels=labels)
    cond = torch.tensor([1, -1, 0, 2])
    got = model(x, t, cond)
    for i, k in enumerate(cond.tolist()):
        rows = data if k < 0 else data[labels == k]
        torch.testing.assert_close(
            got[i : i + 1], Empirical(rows, Flow())(x[i : i + 1], t), rtol=1e-13, atol=1e-13
        )
    torch.testing.assert_close(
        model(x, 1.0, cond)[2], data[labels == 0].mean(0), rtol=1e-13, atol=1e-13
    )
    nearest = data[labels == 2][torch.cdist(x[3:], data[labels == 2])[0].argmin()]
    torch.testing.assert_close(model(x, 0.0, cond)[3], nearest, rtol=0.0, atol=0.0)
    with pytest.raises(ValueError, match="no labels"):
        Empirical(data, Flow())(x, t, cond)
    with pytest.raises(ValueError, match="allowed: -1"):
        model(x, t, torch.tensor([3, 0, 0, 0]))


@pytest.mark.parametrize("kind", KINDS)
def test_empirical_kinds(kind):
    data, x, t = normals(8, 3, seed=15), normals(4, 3, seed=16), 0.6
    x0 = Empirical(data, VPLinear())(x, t)
    wanted = convert_prediction(x0, x, t, "x0", kind, VPLinear())
    torch.testing.assert_close(
        Empirical(data, VPLinear(), kind)(x, t), wanted, rtol=1e-13, atol=1e-13
    )


def test_empirical_in_blocks(monkeypatch):
    """Small blocks of data and rows give the same means, up to rounding."""
    data, x = normals(23, 5, seed=17), normals(9, 5, seed=18)
    times = torch.linspace(0.2, 0.9, 9, dtype=F64)
    whole = Empirical(data, Flow())(x, times)
    monkeypatch.setattr(empirical_module, "BLOCK", 40)
    torch.testing.assert_close(Empirical(data, Flow())(x, times), whole, rtol=1e-14, atol=1e-14)
    monkeypatch.setattr(empirical_module, "BLOCK", 100)
    torch.testing.assert_close(Empirical(data, Flow())(x, times), whole, rtol=1e-14, atol=1e-14)


def test_empirical_is_differentiable_and_a_limit_of_mixtures():
    data, x = normals(6, 3, seed=19), normals(2, 3, seed=20)
    model = Empirical(data, VPLinear())
    assert torch.autograd.gradcheck(lambda v: model(v, 0.5), (x.clone().requires_grad_(),))
    narrow = GaussianMixture(data, 1e-7, np.ones(6), VPLinear(), "x0")
    torch.testing.assert_close(model(x, 0.5), narrow(x, 0.5), rtol=1e-10, atol=1e-10)


def test_empirical_keeps_the_data_and_its_type():
    data = normals(4, 1, 2, 2).float()
    model = Empirical(data, EDM())
    data.zero_()
    assert model.data.dtype is torch.float32 and float(model.data.abs().sum()) > 0.0
    assert model.shape == (1, 2, 2) and model.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("data", "labels", "text"),
    [
        (torch.zeros(3), None, "data have shape"),
        (torch.zeros(3, 2, dtype=torch.int64), None, "floating point"),
        (torch.full((3, 2), math.nan), None, "finite"),
        (torch.zeros(3, 2), torch.tensor([0, 1]), "labels have shape"),
        (torch.zeros(3, 2), torch.tensor([0.0, 1.0, 1.0]), "integers"),
        (torch.zeros(3, 2), torch.tensor([0, 2, 2]), "at least once"),
        (torch.zeros(3, 2), torch.tensor([-1, 0, 1]), "at least once"),
    ],
)
def test_data_that_make_no_model(data, labels, text):
    with pytest.raises(ValueError, match=text):
        Empirical(data, EDM(), labels=labels)
