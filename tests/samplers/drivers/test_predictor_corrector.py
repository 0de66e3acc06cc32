"""Predictor-corrector sampling: the pairs, the laws they keep, and the runs of score_sde and
azula."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from golden_cases import SCHEDULES, node, same
from golden_drivers import coupled, exact_model

import fewstep
from fewstep.eval.solver.counting import Counting
from fewstep.fused.noise.seeded import SeededNoise
from fewstep.models import GaussianMixture
from fewstep.plans.builder import PlanBuilder
from fewstep.samplers import SamplerError, get
from fewstep.samplers.drivers.driver import Drive
from fewstep.samplers.drivers.predictor_corrector import (
    CORRECTORS,
    PC,
    PREDICTORS,
    correct,
    langevin_share,
    run_corrected,
)
from fewstep.schedules import VE, DiscreteVP, Flow, Grid, SubVP, VPCosine, VPLinear

CASES = coupled()
SCORE_SDE = sorted(name for name, case in CASES.items() if case.peer == "score_sde_pytorch")
PAIRS = [pair for pair in product(PREDICTORS, CORRECTORS) if pair != ("none", "none")]
GAUSS = {"means": [[0.7, -0.3]], "stds": [0.5], "weights": [1.0]}


def given(case):
    return lambda key, like: case.noise[key].to(like)


@pytest.mark.parametrize(
    "name", sorted(name for name, case in CASES.items() if case.peer == "azula")
)
def test_azula_predictor_corrector(name):
    """Its corrector draws a share of the noise afresh, its predictor is DDIM."""
    case = CASES[name]
    schedule = SCHEDULES[case.schedule]
    levels = [call.rho for call in case.calls[::2]] + [case.end.rho]
    grid = Grid.from_nodes([node(schedule, rho) for rho in levels], schedule)
    out, info = fewstep.sample(
        exact_model(schedule, "x0"),
        "pc",
        grid=grid,
        x=case.x / case.start.alpha,
        noise=case.noise,
        info=True,
        predictor="ddim",
        corrector="renoise",
        delta=case.settings["delta"],
    )
    assert info.nfe == len(case.calls)
    assert float((out - case.out / case.end.alpha).abs().max()) <= 1e-9


def peers_rules(settings):
    """score_sde steps over tables of N entries, and asks the model at N other times: coefficients
    of x, score and z, and the Langevin shares, entry by entry from the noisiest."""
    n, vp = settings["N"], settings["sde"] == "vp"
    entries = range(n - 1, -1, -1)
    if vp:
        betas = np.linspace(0.1 / n, 20.0 / n, n)
        return [
            (2.0 - math.sqrt(1.0 - betas[i]), betas[i], math.sqrt(betas[i])) for i in entries
        ], [1.0 - betas[i] for i in entries]
    sigmas = np.exp(np.linspace(math.log(0.01), math.log(50.0), n))
    below = np.append(0.0, sigmas[:-1])
    gaps = sigmas**2 - below**2
    ancestral = settings["predictor"] == "ancestral_sampling"
    return [
        (1.0, gaps[i], math.sqrt(gaps[i]) * (below[i] / sigmas[i] if ancestral else 1.0))
        for i in entries
    ], [1.0] * n


def written(nodes, end, rules):
    b = PlanBuilder((*nodes, end), "asymptotic")
    x = b.start(nodes[0])
    for s, t, (cx, cs, cz) in zip(nodes, [*nodes[1:], end], rules, strict=True):
        y = cx * x + cs * b.evaluate(x, s, "score")
        x = b.at(t, y if t is end else y + cz * b.noise(s, t))
    return b.finish(x)


def options_of(settings):
    return {"corrector": settings["corrector"], "norms": "batch", "snr": settings["snr"]}


@pytest.mark.parametrize("name", [name for name in SCORE_SDE if ".disc." not in name])
def test_score_sde_predictor_corrector(name):
    """With its tables: to 1e-9, corrector included. With the exact transitions between the times
    that the model sees: near."""
    case, settings = CASES[name], CASES[name].settings
    schedule = VPLinear() if settings["sde"] == "vp" else VE(0.01, 50.0)
    nodes = [schedule.node(float(t)) for t in np.linspace(1.0, settings["eps"], settings["N"])]
    each = 2 if settings["corrector"] == "langevin" else 1
    assert all(
        same(a.rho, call.rho, 1e-9) for a, call in zip(nodes, case.calls[::each], strict=True)
    )
    rules, shares = peers_rules(settings)
    end = schedule.node(schedule.t_zero)
    drive = Drive(exact_model(schedule, "eps"), case.x, nodes[0], given(case))
    out = run_corrected(drive, written(nodes, end, rules), shares, PC(**options_of(settings)))
    assert drive.nfe == len(case.calls)
    assert float((out - case.out).abs().max()) <= 1e-9
    ours = fewstep.sample(
        exact_model(schedule, "eps"),
        "pc",
        grid=Grid.from_nodes([*nodes, end], schedule),
        x=case.x,
        noise=case.noise,
        predictor=settings["predictor"].removesuffix("_sampling"),
        **options_of(settings),
    )
    assert 1e-6 < float((ours - case.out).abs().max()) < (0.3 if settings["sde"] == "vp" else 1e-3)


@pytest.mark.parametrize("name", [name for name in SCORE_SDE if ".disc." in name])
def test_score_sde_on_a_discrete_path(name):
    """Asked at its table's own levels it is ours: DDPM with the large variance, and the same
    corrector."""
    case, settings = CASES[name], CASES[name].settings
    n = settings["N"]
    schedule = DiscreteVP.from_betas(np.linspace(0.1 / n, 20.0 / n, n))
    grid = Grid.from_nodes([schedule.node(float(i)) for i in range(n - 1, -2, -1)], schedule)
    out, info = fewstep.sample(
        exact_model(schedule, "eps"),
        "pc",
        grid=grid,
        x=case.x,
        noise=case.noise,
        info=True,
        predictor="ancestral",
        variance="fixed_large",
        **options_of(settings),
    )
    assert info.nfe == len(case.calls)
    assert float((out - case.out).abs().max()) <= 1e-9


@pytest.mark.parametrize(("predictor", "corrector"), PAIRS)
def test_any_predictor_with_any_corrector(predictor, corrector):
    """Mean and variance of a Gaussian at the end, on a grid that is fine enough for each pair (the
    corrector alone is only run)."""
    mean = torch.linspace(-0.7, 0.7, 48)
    for schedule in (SubVP(), VE(0.01, 50.0)):  # and on VP, where every pair is run in test_drivers
        model = Counting(GaussianMixture(mean[None], [0.5], [1.0], schedule, "eps"))
        out, info = fewstep.sample(
            model, "pc", steps=30, n=40, seed=5, predictor=predictor, corrector=corrector, info=True
        )
        assert info.nfe == model.calls
        assert bool(torch.isfinite(out).all()) and out.shape == (40, 48)
        if predictor != "none":
            assert float((out.mean(0) - mean).square().mean().sqrt()) < 0.2
            assert 0.7 < float((out - mean).std()) / 0.5 < 1.35


def test_a_corrector_keeps_its_level():
    """Many small Langevin steps at one level lead from a wrong state to the marginal there. Norms
    of each sample vary with its state, which has density ``pi |score|^2`` then, and with z: each
    makes the variance ``1 + 2 / d`` of what it is."""
    level, mean = VPLinear().node(0.3), torch.linspace(-0.7, 0.7, 48)
    model = GaussianMixture(mean[None], [0.5], [1.0], VPLinear(), "eps")
    for options in (PC(snr=0.1), PC(corrector="ald", snr=0.1), PC(corrector="renoise", delta=0.06)):
        drive = Drive(model, torch.full((64, 48), 1.0), level, SeededNoise(tuple(range(64))))
        out = (
            correct(drive, drive.x, level, 1.0, replace(options, corrections=200))
            - level.alpha * mean
        )
        variance = (level.alpha * 0.5) ** 2 + level.sigma**2
        assert float(out.mean()) == pytest.approx(0.0, abs=0.06), options
        wanted = (1.0 + 2.0 / 48) ** 2 if options.corrector == "langevin" else 1.0
        assert float(out.square().mean()) / variance == pytest.approx(wanted, abs=0.09), options
        assert drive.nfe == 200


def test_the_step_follows_the_norms():
    """``e = 2 a (snr |z| / |score|)^2`` of each sample, or of the batch's mean norms."""
    schedule = VE(0.01, 50.0)
    level = schedule.node(0.5)
    model = GaussianMixture([[0.0, 0.0]], [1.0], [1.0], schedule, "eps")
    x = torch.tensor([[1.0, 2.0], [-8.0, 4.0]], dtype=torch.float64)
    z = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64)
    score = -x / (1.0 + level.sigma**2)
    for norms in ("sample", "batch"):
        a, b = z.norm(dim=1, keepdim=True), score.norm(dim=1, keepdim=True)
        if norms == "batch":
            a, b = a.mean(), b.mean()
        e = 2.0 * 0.7 * (0.2 * a / b) ** 2
        drive = Drive(model, x, level, lambda key, like: z)
        out = correct(drive, x, level, 0.7, PC(snr=0.2, norms=norms))
        assert torch.allclose(out, x + e * score + (2.0 * e).sqrt() * z, rtol=1e-12, atol=1e-12)


def test_the_edit_reaches_the_predictor():
    """One corrected step by hand: the predictor moves the corrected state, with the prediction made
    there."""
    schedule = VPLinear()
    s, t = schedule.node(0.5), schedule.node(0.3)
    model = GaussianMixture(**GAUSS, schedule=schedule, prediction="eps")
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    z = [torch.tensor([[0.5, 1.5]], dtype=torch.float64)]
    out = fewstep.sample(
        model, "pc", grid=Grid.from_nodes([s, t], schedule), x=x, noise=z, predictor="ddim", snr=0.3
    )
    moved = correct(
        Drive(model, x, s, lambda key, like: z[0]), x, s, langevin_share(s, t), PC(snr=0.3)
    )
    wanted = fewstep.run(
        fewstep.plan("ddim", schedule, grid=Grid.from_nodes([s, t], schedule)), model, moved
    )
    assert torch.allclose(out, wanted, rtol=0, atol=1e-14)


def test_bits_do_not_depend_on_the_batch():
    model = GaussianMixture(**GAUSS, schedule=VPLinear(), prediction="v")
    for corrector in CORRECTORS:
        whole = fewstep.sample(model, "pc", steps=4, n=9, seed=100, corrector=corrector)
        assert torch.equal(
            fewstep.sample(model, "pc", steps=4, n=2, seed=103, corrector=corrector), whole[3:5]
        )
    coupled_ = fewstep.sample(model, "pc", steps=4, n=9, seed=100, norms="batch")
    assert not torch.equal(
        fewstep.sample(model, "pc", steps=4, n=2, seed=103, norms="batch"), coupled_[3:5]
    )


def test_a_budget_is_kept():
    model = Counting(GaussianMixture(**GAUSS, schedule=VPLinear(), prediction="v"))
    for options, budget, wanted in (
        ({}, 11, 10),
        ({"corrections": 2}, 10, 9),
        ({"corrector": "none"}, 7, 7),
        ({"predictor": "none"}, 8, 8),
    ):
        model.times.clear()
        _, info = fewstep.sample(model, "pc", nfe=budget, n=1, info=True, **options)
        assert info.nfe == model.calls == wanted


def test_plans_of_the_predictors():
    """Without a corrector a predictor is a plan, and pc runs that plan."""
    model = GaussianMixture(**GAUSS, schedule=VPLinear(), prediction="eps")
    for name in ("euler_maruyama", "reverse_diffusion", "ddim"):
        given = {"steps": 6, "n": 3, "seed": 2, "grid": "lam"}
        plain = fewstep.sample(model, name, **given)
        found = fewstep.sample(model, "pc", predictor=name, corrector="none", **given)
        assert torch.equal(found, plain)
    assert fewstep.plan("reverse_diffusion", VPLinear(), steps=3).exactness == "asymptotic"
    assert fewstep.plan("euler_maruyama", VPCosine(), steps=3).nfe == 3


def test_reverse_diffusion_on_ve_is_the_papers():
    """``x + (sigma_s^2 - sigma_t^2) score + sqrt(sigma_s^2 - sigma_t^2) z`` (eq. 47)."""
    schedule = VE(0.01, 50.0)
    plan = fewstep.plan("reverse_diffusion", schedule, steps=3, final="sigma_min", grid="lam")
    s, t = plan.nodes[:2]
    step = next(i for i in plan.code if hasattr(i, "terms"))
    gap = s.sigma**2 - t.sigma**2
    assert [c for _, c in step.terms] == pytest.approx([1.0, gap]) and step.noise[0][
        1
    ] == pytest.approx(math.sqrt(gap))


def test_euler_maruyama_on_vp_is_the_papers():
    schedule = VPLinear(0.1, 20.0)
    plan = fewstep.plan("euler_maruyama", schedule, times=[1.0, 0.6, 0.2])
    step = next(i for i in plan.code if hasattr(i, "terms"))
    assert [c for _, c in step.terms] == pytest.approx([1.0 + 0.5 * 20.0 * 0.4, 20.0 * 0.4])
    assert step.noise[0][1] == pytest.approx(math.sqrt(20.0 * 0.4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snr": 0.0}, "snr=0.0 must be a number from"),
        ({"snr": -0.1}, "snr"),
        ({"predictor": "euler"}, "did you mean 'euler_maruyama'|unknown predictor"),
        ({"corrector": "langevn"}, "did you mean 'langevin'"),
        ({"predictor": "none", "corrector": "none"}, "does nothing"),
        ({"corrections": 0}, "corrections=0"),
        ({"max_nfe": 0}, "max_nfe=0"),
        ({"nfe": 1}, "cannot do one step with nfe=1"),
    ],
)
def test_bad_options_are_refused_before_the_network(options, message):
    model = Counting(GaussianMixture(**GAUSS, schedule=Flow(), prediction="v"))
    with pytest.raises((SamplerError, ValueError), match=message):
        fewstep.sample(model, "pc", n=1, **options)
    assert model.calls == 0


def test_every_pair_is_a_variant():
    listed = [
        (o.get("predictor", PC.predictor), o.get("corrector", PC.corrector))
        for o in ({}, *get("pc").variants)
    ]
    assert set(PAIRS) == set(listed)
