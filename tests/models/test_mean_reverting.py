"""Mean-reverting paths: the formulas of MR Sampler in x with mu, for every kind of network, and the
law of what fewstep.sample returns."""

import math
from itertools import pairwise

import pytest
import torch
from laws import COUNT, check_law, normals

import fewstep
from fewstep.checks import ArgumentError
from fewstep.models import BaseDenoiser, MeanReverted
from fewstep.plans import PlanBuilder, PlanError
from fewstep.schedules import DiscreteVP, Flow, MeanReverting, SubVP, VPCosine, VPLinear, grid


def test_the_mean_reverting_path_contains_vp():
    for base in (
        VPLinear(),
        VPCosine(),
        DiscreteVP.from_betas([1e-4 + 2e-5 * i for i in range(1000)]),
    ):
        own, other = MeanReverting(1.0, base), MeanReverting(0.3, base)
        for t in (0.01, 0.4, 0.9):
            t = t * base.t_max
            assert own.node(t) == base.node(t)
            node = other.node(t)
            assert node.alpha**2 + (node.sigma / 0.3) ** 2 == pytest.approx(1.0, rel=1e-14)
            assert node.lam == pytest.approx(base.lam(t) - math.log(0.3), rel=1e-12)
            assert other.t_of_lam(node.lam) == pytest.approx(t, rel=1e-9)
            assert other.g2(t) / -other.f(t) == pytest.approx(2.0 * 0.3**2, rel=1e-9)
        plan = fewstep.plan("dpmpp_2m", base, steps=5, grid="lam", final="sigma_min")
        assert fewstep.plan("mr_ode", own, steps=5, grid="lam", final="sigma_min").close(plan)


@pytest.mark.parametrize(
    ("sigma_inf", "base"), [(0.0, VPLinear()), (-1.0, VPLinear()), (1.0, SubVP()), (1.0, Flow())]
)
def test_bad_mean_reverting_paths_are_refused(sigma_inf, base):
    with pytest.raises(ValueError, match="must be"):
        MeanReverting(sigma_inf, base)


SIGMA_INF = 0.4
PATH = MeanReverting(SIGMA_INF, VPLinear())
MU = torch.tensor([0.5, -1.2], dtype=torch.float64)


def data(x, t):
    """Exact E[x0 | x] for x0 ~ N((0.7, -0.4), (0.5, 0.3)^2) on the mean-reverting path, written
    out."""
    node = PATH.node(float(t.reshape(-1)[0]) if torch.is_tensor(t) else t)
    mean, variance = (
        torch.tensor([0.7, -0.4], dtype=torch.float64),
        torch.tensor([0.25, 0.09], dtype=torch.float64),
    )
    gain = node.alpha * variance / (node.alpha**2 * variance + node.sigma**2)
    return mean + gain * (x - MU - node.alpha * (mean - MU))


def network(kind):
    """The network of the paper's three targets."""

    def value(x, t):
        node, D = PATH.node(float(t.reshape(-1)[0])), data(x, t)
        eps = (x - MU - node.alpha * (D - MU)) / node.sigma
        known = {
            "x0": D,
            "eps": eps,
            "score": -eps / node.sigma,
            "velocity": node.dalpha * (D - MU) + node.dsigma * eps,
        }
        known["v"] = node.alpha * eps - node.sigma * (D - MU)
        known["mr_v"] = node.alpha * SIGMA_INF * eps - node.sigma / SIGMA_INF * (D - MU)
        return known[kind]

    own = {"velocity": "mr_v"} if kind == "mr_v" else {}
    return MeanReverted(
        fewstep.models.wrap(value, PATH, "v" if kind == "mr_v" else kind), MU, **own
    )


def first_order(name, kind, x, path, z):
    """The steps of the paper in x, with mu."""
    for k, (s, t) in enumerate(pairwise(path)):
        h, D = t.lam - s.lam, data(x, s.t)
        eps = (x - MU - s.alpha * (D - MU)) / s.sigma
        a, r = t.alpha / s.alpha, t.sigma / s.sigma
        if name == "mr_ode" and kind == "eps":
            x = a * x + (1.0 - a) * MU - t.sigma * math.expm1(h) * eps
        elif name == "mr_ode":
            x = r * x + MU * (1.0 - r * (1.0 - s.alpha) - t.alpha) + t.alpha * -math.expm1(-h) * D
        elif kind == "eps":
            x = (
                a * x
                + (1.0 - a) * MU
                - 2.0 * t.sigma * math.expm1(h) * eps
                + t.sigma * math.sqrt(math.expm1(2.0 * h)) * z[k]
            )
        else:
            m = t.alpha * -math.expm1(-2.0 * h)
            x = (
                r * math.exp(-h) * x
                + MU * (1.0 - a * math.exp(-2.0 * h) - m)
                + m * D
                + t.sigma * math.sqrt(-math.expm1(-2.0 * h)) * z[k]
            )
    return x


@pytest.mark.parametrize("target", ["x0", "eps", "velocity", "v", "mr_v", "score"])
@pytest.mark.parametrize("kind", ["x0", "eps"])
@pytest.mark.parametrize("name", ["mr_ode", "mr_sde"])
def test_the_formulas_of_mr_sampler(name, kind, target):
    path = grid("uniform", PATH, 4, final="sigma_min")
    z = normals(0, 5, 3, 2)
    x = MU + SIGMA_INF * z[0]
    ours = fewstep.sample(
        network(target),
        name,
        grid=path,
        x=x,
        noise=list(z[1:]) if name == "mr_sde" else None,
        order=1,
        kind=kind,
    )
    torch.testing.assert_close(
        ours, first_order(name, kind, x, path.nodes, z[1:]), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", ["mr_ode", "mr_sde", "unipc"])
def test_sample_of_a_mean_reverting_model(name):
    """Start state, offset and result are those of x: from mu + sigma_inf z the data come out, as
    alpha_T = 0.007 shows little of mu."""
    out = fewstep.sample(
        network("mr_v"), name, steps=60, grid="lam", n=COUNT, seed=5, dtype=torch.float64
    )
    check_law(out, [0.7, -0.4], [0.5, 0.3])


def test_mu_of_each_sample_and_the_middle():
    many = torch.stack([MU, MU + 1.0, MU - 2.0])
    inner = fewstep.models.wrap(lambda x, t: x * 0.1, PATH, "eps")
    model = MeanReverted(inner, many, per_sample=True)
    out = fewstep.sample(model, "mr_ode", steps=3, seed=4, dtype=torch.float64)
    assert out.shape == (3, 2)
    for k in range(3):
        alone = fewstep.sample(
            MeanReverted(inner, many[k]), "mr_ode", steps=3, seeds=[4 + k], dtype=torch.float64
        )
        torch.testing.assert_close(out[k : k + 1], alone)
    near = fewstep.sample(network("x0"), "mr_ode", steps=3, init=many, start=0.01, seed=0)
    assert float((near - many).abs().max()) < 0.2


def test_bad_mean_reverting_models_are_refused():
    inner = fewstep.models.wrap(lambda x, t: x, PATH, "eps", shape=(2,))
    for given, message in (
        ((fewstep.models.wrap(lambda x, t: x, VPLinear(), "eps"), MU), "MeanReverting"),
        ((inner, torch.zeros(3)), "shape"),
        ((inner, torch.zeros(2, dtype=torch.int64)), "floating"),
    ):
        with pytest.raises(ValueError, match=message):
            MeanReverted(*given)
    with pytest.raises(ValueError, match="mr_v"):
        MeanReverted(inner, MU, velocity="mr_v")
    with pytest.raises(ValueError, match="3 samples"):
        fewstep.sample(
            MeanReverted(inner, torch.zeros(3, 2), per_sample=True), "mr_ode", steps=2, n=4
        )


def test_a_second_time_is_refused_before_any_call():
    """A flow map of x as the inner model: neither its ``raws`` nor a plan gets to a call."""
    calls = []

    class FlowMap(BaseDenoiser):
        schedule, prediction, shape, offset = PATH, "x0", (2,), None
        two_times = True

        def raws(self, x_in, t, cond=None, channels=("main",), to=None):
            calls.append(to)
            return (x_in,)

        def coefficients(self, t, channel="main"):
            return 0.0, (1.0,)

    model = MeanReverted(FlowMap(), MU)
    x = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(ArgumentError, match=r"to=0\.5: MeanReverted takes no second time"):
        model.raws(x, 1.0, to=0.5)
    nodes = [PATH.node(1.0), PATH.node(0.5)]
    b = PlanBuilder(nodes, name="flow map")
    s, e = b.start(nodes[0]), nodes[1].sigma / nodes[0].sigma
    D = b.evaluate(s, nodes[0], "x0", to=nodes[1])
    plan = b.finish(b.at(nodes[1], e * s + (nodes[1].alpha - e * nodes[0].alpha) * D))
    with pytest.raises(PlanError, match="second time"):
        fewstep.run(plan, model, x)
    assert not calls
    assert len(model.raws(x, 1.0)) == 2 and calls == [None]
