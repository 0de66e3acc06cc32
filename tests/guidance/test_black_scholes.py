"""Black-Scholes concept blending: prices, the choice of each step, and the contract."""

from __future__ import annotations

import math

import pytest
import torch
from problems import F64, GRIDS, PATHS, SAMPLERS, Recorder

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, BlackScholes, Contrast
from fewstep.guidance.combinations.prices import call_price, path_volatility
from fewstep.models import GaussianMixture, RunFacts
from fewstep.schedules import EDM, VE, DiscreteVP, VPLinear
from fewstep.schedules.kinds import ConversionError

TABLE = DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=F64).tolist())
A, B, C = (torch.tensor([v], dtype=F64) for v in (1.0, 2.0, 3.0))


def test_the_price_of_a_call_option():
    spot = torch.tensor([100.0], dtype=F64)
    assert float(call_price(spot, 100.0, 0.05, 0.2, 1.0)) == pytest.approx(10.450584, abs=5e-7)
    random = torch.Generator().manual_seed(0)
    spot = 20.0 + 160.0 * torch.rand(50, generator=random, dtype=F64)
    for rate, vol, tau in ((0.05, 0.2, 1.0), (0.02, 0.05, 30.0), (-0.1, 0.7, 3.0)):
        call = call_price(spot, 100.0, rate, vol, tau)
        paid = 100.0 * math.exp(-rate * tau)
        # the put by the law of its pay-off: K e^(-R tau) Phi(-d2) - S Phi(-d1)
        d1 = (torch.log(spot / 100.0) + (rate + vol**2 / 2) * tau) / (vol * math.sqrt(tau))
        normal = torch.distributions.Normal(0.0, 1.0)
        put = paid * normal.cdf(vol * math.sqrt(tau) - d1) - spot * normal.cdf(-d1)
        assert torch.allclose(call - put, spot - paid, rtol=0, atol=1e-10)
        assert bool((call >= (spot - paid).clamp(min=0.0) - 1e-12).all())
        rising = call_price(spot.sort().values, 100.0, rate, vol, tau)
        assert bool((rising.diff() >= 0.0).all())  # so "phi" takes the lowest score


def test_the_price_of_the_authors_code():
    """exp(-d^2 / 2) for the distribution function, in both terms."""
    spot = torch.tensor([25.0, 31.0], dtype=F64)
    rate, vol, tau = 0.01, 0.1, 40.0
    d1 = (torch.log(spot / 100.0) + (rate + vol**2 / 2) * tau) / (vol * math.sqrt(tau))
    d2 = d1 - vol * math.sqrt(tau)
    wanted = torch.exp(-0.5 * d1**2) * spot - torch.exp(-0.5 * d2**2) * 100 * math.exp(-rate * tau)
    made = call_price(spot, 100.0, rate, vol, tau, "code")
    assert torch.allclose(made, wanted, rtol=1e-12)
    assert not torch.equal(made.argsort(), call_price(spot, 100.0, rate, vol, tau).argsort())


def test_the_volatility_equals_the_variance_of_diffusers():
    """``DDIMScheduler._get_variance(t + 1, t)``, what the authors' code reads."""
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    for t in (0, 1, 300, 700, 998):
        theirs = math.sqrt(float(peer._get_variance(t + 1, t)))
        assert path_volatility(TABLE, float(t)) == pytest.approx(theirs, rel=2e-4)
    # the last time has no noisier one: the step ends there
    assert path_volatility(TABLE, 999.0) == pytest.approx(path_volatility(TABLE, 998.0))


def test_the_volatility_depends_on_the_noise_level_only():
    for schedule in (*PATHS.values(), VE(0.01, 50.0), VPLinear()):
        for t in torch.linspace(schedule.t_min, schedule.t_max, 21, dtype=F64).tolist():
            if float(schedule.sigma(t)) > 0.0:
                assert 0.0 < path_volatility(schedule, t) <= 1.0
    t = 7.0
    a, b = EDM(0.002, 80.0), EDM(0.002, 80.0)
    h = (80.0 - 0.002) / 1000
    one, two = 1 / (1 + t * t), 1 / (1 + (t + h) ** 2)
    wanted = math.sqrt((1 - one) / (1 - two) * (1 - two / one))
    assert path_volatility(a, t) == path_volatility(b, t) == pytest.approx(wanted, rel=1e-12)


def used(network):
    return [cond.tolist() for _, _, cond in network.calls]


def script(scores):
    """A scorer that returns ``scores[call][concept]`` for every sample."""
    count = [0]

    def scorer(x0, i):
        k, count[0] = count[0] // len(scores[0]), count[0] + 1
        return torch.as_tensor(scores[k][i], dtype=F64).expand(len(x0))

    return scorer, count


def test_the_choice_of_each_step():
    """The first step takes concept 1, the next ones the cheapest, for each sample; ties the last."""
    network = Recorder(VPLinear())
    rows = torch.tensor([30.0, 20.0], dtype=F64)
    scorer, count = script(
        [[25.0, 24.0], [rows, rows.flip(0)], [25.0, 25.0], [10.0, 11.0], [26.0, 20.0]]
    )
    den = BlackScholes(network, [A, B], scorer, volatility=0.3)
    fewstep.sample(den, "ddim", steps=6, grid="lam", x=torch.randn(2, 4, dtype=F64))
    assert used(network) == [[1, 1], [2, 2], [2, 1], [2, 2], [1, 1], [2, 2]]
    assert count[0] == 10  # the last step is not scored


def test_the_price_decides_with_the_numbers_of_the_step():
    """tau = N - i, R = 1 / N, the path's volatility at the time of the call."""
    scores = [[24.0, 25.0, 31.0], [60.0, 40.0, 90.0], [99.0, 150.0, 101.0]]
    for pricing in ("phi", "code"):
        network = Recorder(TABLE)
        scorer, _ = script(scores)
        den = BlackScholes(network, [A, B, C], scorer, pricing=pricing)
        plan = fewstep.plan("ddim", TABLE, grid="leading", steps=4)
        fewstep.run(plan, den, torch.randn(1, 4, dtype=F64))
        wanted = [1.0]
        for i, own in enumerate(scores):
            vol = path_volatility(TABLE, plan.nodes[i].t)
            spot = torch.tensor(own, dtype=F64)
            prices = call_price(spot, 100.0, 0.25, vol, 4.0 - i, pricing).tolist()
            wanted.append([1.0, 2.0, 3.0][2 - prices[::-1].index(min(prices))])
        assert [value for (value,) in used(network)] == wanted


def test_the_scorer_gets_the_predicted_x0():
    for name, schedule in PATHS.items():
        seen = []
        model = GaussianMixture([[1.0], [-1.0]], 0.3, [0.5, 0.5], schedule, "velocity")

        def scorer(x0, i, seen=seen):
            assert not x0.requires_grad
            seen.append(x0)
            return torch.full((len(x0),), 20.0 + i)

        x = schedule.prior_scale * torch.randn(2, 1, dtype=F64)
        plan = fewstep.plan("ddim", schedule, grid=GRIDS[name], steps=2)
        conds = [torch.tensor([0]), torch.tensor([1])]
        den = BlackScholes(CFG(model, 2.0), conds, scorer)
        fewstep.run(plan, den, x)
        t = plan.nodes[0].t
        value = CFG(model, 2.0)(x, t, torch.tensor([0, 0]))
        wanted = fewstep.models.convert_prediction(value, x, t, "velocity", "x0", schedule)
        assert len(seen) == 2 and torch.allclose(seen[0], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sampler", ["heun", "dpm2", "dpmpp_2m", "unipc", "res_3s"])
def test_stages_keep_the_concept_of_their_step(sampler):
    network = Recorder(VPLinear())
    scorer, count = script([[20.0, 10.0], [10.0, 20.0]] * 10)  # changes after each step
    den = BlackScholes(network, [A, B], scorer)
    plan = fewstep.plan(sampler, VPLinear(), grid="lam", steps=4)
    fewstep.run(plan, den, torch.randn(1, 4, dtype=F64))
    from fewstep.plans.call_steps import call_steps

    steps = call_steps(plan)
    assert [value for (value,) in used(network)] == [1.0 + step % 2 for step in steps]
    assert count[0] == 2 * steps[-1]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", PATHS)
def test_each_sample_is_what_it_is_alone(name, sampler):
    model = GaussianMixture([[1.0], [-1.0]], 0.3, [0.5, 0.5], PATHS[name], "velocity")

    def scorer(x0, i):
        return torch.exp(x0[:, 0] * (1 - 2 * i)) + 1.0

    mine = torch.tensor([0, 1, 0])
    z = PATHS[name].prior_scale * torch.randn(3, 1, dtype=F64)
    given = {"steps": 6, "grid": GRIDS[name]}
    den = BlackScholes(model, [mine, 1 - mine], scorer)
    every, info = fewstep.sample(den, sampler, x=z, seeds=[3, 4, 5], info=True, **given)
    assert info.rows == 3 * info.nfe
    for i in range(3):
        own = BlackScholes(model, [mine[i : i + 1], 1 - mine[i : i + 1]], scorer)
        one = fewstep.sample(own, sampler, x=z[i : i + 1], seeds=[3 + i], **given)
        assert torch.allclose(every[i : i + 1], one, rtol=0, atol=1e-11)
    again = fewstep.sample(den, sampler, x=z, seeds=[3, 4, 5], **given)
    assert torch.equal(again, every)  # a run leaves nothing behind


def test_select_follows_the_samples():
    network = Recorder(VPLinear())
    scorer, _ = script([[torch.tensor([30.0, 20.0, 30.0]), torch.tensor([20.0, 30.0, 25.0])]])
    den = BlackScholes(network, [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([7.0])], scorer)
    run = den.for_run(RunFacts((), (0, 1, 2)))
    run.raws(torch.zeros(3, 4), 0.9)
    chosen = run.select(torch.tensor([1, 2]))
    assert chosen.batch == 2
    with pytest.raises(IndexError):  # the script is over: the second step is scored
        chosen.raws(torch.zeros(2, 4), 0.5)
    assert used(network)[1] == [2.0, 7.0]
    assert den.select(torch.tensor([0])).sources[0].value.tolist() == [1.0]


def test_conditions_may_be_mappings():
    network = Recorder(VPLinear())
    scorer, _ = script([[20.0, 10.0]])
    den = BlackScholes(network, [{"c": A}, {"c": B}], scorer)
    fewstep.sample(den, "ddim", steps=2, grid="lam", x=torch.randn(2, 4, dtype=F64))
    assert [cond["c"].tolist() for _, _, cond in network.calls] == [[1, 1], [2, 2]]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_runs_in_every_dtype(name, dtype):
    model = GaussianMixture([[1.0], [-1.0]], 0.3, [0.5, 0.5], PATHS[name], "velocity")
    scorers = [lambda x0: x0[:, 0].float().exp(), lambda x0: (-x0[:, 0]).exp()]
    den = BlackScholes(CFG(model, 1.5), [torch.tensor([0]), torch.tensor([1])], scorers, strike=1.0)
    for sampler in (*SAMPLERS, "heun"):
        for steps in (1, 2, 3):
            out, info = fewstep.sample(
                den, sampler, steps=steps, n=2, dtype=dtype, grid=GRIDS[name], info=True
            )
            assert out.dtype == dtype and bool(torch.isfinite(out).all())
            assert info.rows == 4 * info.nfe


def test_wrong_arguments_are_refused():
    network = Recorder(VPLinear())

    def good(x0, i):
        return torch.ones(len(x0))

    wrong = [
        (([A], good), {}, "two or more conditions"),
        (([A, None], good), {}, "two or more conditions"),
        (([A, "cat"], good), {}, r"conds\[1\]='cat'"),
        (([A, A.float()], good), {}, "must have one form"),
        (([A, {"c": A}], good), {}, "must have one form"),
        (([torch.ones(2), torch.ones(3)], good), {}, r"batch sizes \[2, 3\]"),
        (([A, B], [good]), {}, "1 scorers for 2 concepts"),
        (([A, B], 3.0), {}, "scorer=3.0"),
        (([A, B], good), {"pricing": "fi"}, "fi.*phi"),
        (([A, B], good), {"strike": 0.0}, "strike=0.0"),
        (([A, B], good), {"rate": math.nan}, "rate=nan"),
        (([A, B], good), {"volatility": -1.0}, "volatility=-1.0"),
    ]
    for given, more, message in wrong:
        with pytest.raises(ArgumentError, match=message):
            BlackScholes(network, *given, **more)
    den = BlackScholes(network, [A, B], good)
    run = {"steps": 3, "grid": "lam", "x": torch.zeros(2, 4, dtype=F64)}
    with pytest.raises(ArgumentError, match="cond= of the call with BlackScholes"):
        fewstep.sample(den, "ddim", cond=torch.ones(2), **run)
    with pytest.raises(ArgumentError, match="use a sampler with a plan"):
        fewstep.sample(den, "picard", **run)
    with pytest.raises(ArgumentError, match="from data to noise"):
        fewstep.invert(den, torch.zeros(2, 4, dtype=F64), sampler="ddim", steps=3)
    with pytest.raises(ArgumentError, match=r"call it through fewstep\.sample"):
        den(torch.zeros(2, 4), 0.5)
    with pytest.raises(ArgumentError, match="keeps values between the calls"):
        Contrast(den, den, 2.0, ref_cond=None)
    flow = Recorder(PATHS["flow"])
    flow.prediction = "eps"
    with pytest.raises(ConversionError, match="alpha=0"):
        fewstep.sample(BlackScholes(flow, [A, B], good), "ddim", **run)
    assert not network.calls and not flow.calls
    for scorer, message in (
        (lambda x0, i: 1.0, "one score per sample"),
        (lambda x0, i: torch.ones(len(x0), 1), "one score per sample"),
        (lambda x0, i: -torch.ones(len(x0)), "must be positive and finite"),
        (lambda x0, i: torch.full((len(x0),), math.nan), "must be positive and finite"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fewstep.sample(BlackScholes(network, [A, B], scorer), "ddim", **run)
    with pytest.raises(ArgumentError, match=r"volatility\(t="):
        fewstep.sample(BlackScholes(network, [A, B], good, volatility=lambda t: 0.0), "ddim", **run)
