"""Strong and weak errors of samplers on models, against the closed forms of a Gaussian."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.eval import ScoreError, gaussian_weak_error, strong_error, weak_error
from fewstep.eval.certificates.gaussian import MEAN, STD, last_state, weak_errors
from fewstep.eval.certificates.problem import mixture
from fewstep.eval.certificates.strong import exact_end
from fewstep.eval.solver.pathwise import refined
from fewstep.models import GaussianMixture, wrap
from fewstep.schedules import EDM, DiscreteVP, Flow, VPLinear
from fewstep.schedules.grids.construction import Grid

F64 = torch.float64
COMMON = {"grid": "lam", "final": "sigma_min"}


def gaussian(schedule=None, width=8, prediction="eps") -> GaussianMixture:
    return GaussianMixture(
        MEAN * torch.ones(1, width, dtype=F64), STD, [1.0], schedule or VPLinear(), prediction
    )


def exact(found, tau):
    r = found.reference
    return exact_end(r.ends[0], r.ends[-1], r.start, r.seeds, tau)


@pytest.mark.parametrize(
    ("sampler", "options", "tau"),
    [
        ("dpmpp_2m_sde", {}, 1.0),
        pytest.param(
            "sde_dpm_solver_1",
            {"tau": 0.5, "reference_sampler": ("sa_solver", {"tau": 0.5})},
            0.5,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_strong_error_is_that_of_the_closed_form(sampler, options, tau):
    found = strong_error(gaussian(), sampler, steps=10, n=8, refine=32, **COMMON, **options)
    truth = exact(found, tau)
    rmse = float((found.x - truth).square().mean().sqrt())
    assert found.rmse == pytest.approx(rmse, rel=0.02) and found.converged
    true_reference = float((found.reference.end - truth).square().mean().sqrt())
    assert 0.5 * true_reference < found.reference.error < 3.0 * true_reference
    assert found.reference.tau == tau and found.reference.steps == 320 and found.nfe == 10
    torch.testing.assert_close(found.per_sample.square().mean().sqrt().item(), found.rmse)
    torch.testing.assert_close(found.largest, float((found.x - found.reference.end).abs().max()))
    assert found.relative == pytest.approx(
        found.rmse / float(found.reference.end.square().mean().sqrt())
    )


def test_the_strong_error_falls_with_its_order_on_a_mixture():
    """ddpm is of strong order 1: halving the steps halves the error, on the paths of one
    reference."""
    reference, errors = None, []
    for steps in (20, 10):
        found = strong_error(
            mixture(VPLinear()), "ddpm", steps=steps, n=16, refine=16, reference=reference, **COMMON
        )
        reference = found.reference
        errors.append(found.rmse)
    assert math.log2(errors[1] / errors[0]) == pytest.approx(1.0, abs=0.25)


def test_an_independent_reference_agrees():
    own = strong_error(gaussian(), "dpmpp_2m_sde", steps=6, n=6, refine=12, **COMMON)
    other = strong_error(
        gaussian(),
        "dpmpp_2m_sde",
        steps=6,
        n=6,
        refine=12,
        reference_sampler=("sa_solver", {"tau": 1.0}),
        **COMMON,
    )
    assert float((own.reference.end - other.reference.end).square().mean().sqrt()) < 3.0 * (
        own.reference.error + other.reference.error
    )
    assert other.rmse == pytest.approx(own.rmse, rel=0.05)
    with pytest.raises(ScoreError, match="different SDEs"):
        strong_error(
            gaussian(),
            "ddpm",
            steps=4,
            n=2,
            refine=2,
            reference_sampler=("sa_solver", {"tau": 0.5}),
        )


def test_noise_that_follows_no_path_is_far_away():
    """The control: with independent noise the distance is that of two samples."""
    found = strong_error(gaussian(), "dpmpp_2m_sde", steps=40, n=24, refine=2, **COMMON)
    loose = fewstep.sample(gaussian(), "dpmpp_2m_sde", steps=40, n=24, dtype=F64, **COMMON)
    apart = float((loose - found.reference.end).square().mean().sqrt())
    assert apart > 0.9 * STD and found.rmse < 0.1 * apart


def test_samples_have_paths_of_their_own():
    whole = strong_error(
        mixture(VPLinear()), "ddpm", steps=5, seeds=[3, 9, 4, 7, 5], refine=4, **COMMON
    )
    parts = strong_error(
        mixture(VPLinear()), "ddpm", steps=5, seeds=[3, 9, 4, 7, 5], refine=4, batch=2, **COMMON
    )
    one = strong_error(mixture(VPLinear()), "ddpm", steps=5, seeds=[4], refine=4, **COMMON)
    assert torch.equal(whole.x, parts.x) and torch.equal(whole.reference.end, parts.reference.end)
    assert torch.equal(whole.per_sample[2:3], one.per_sample)


def test_conditions_go_with_their_samples():
    model = GaussianMixture([[-2.0], [2.0]], 0.1, [0.5, 0.5], VPLinear())
    labels = torch.tensor([0, 1, 0, 1, 1])
    found = strong_error(model, "ddpm", steps=8, n=5, cond=labels, refine=2, batch=2)
    assert torch.equal(found.x[:, 0] > 0.0, labels == 1) and torch.equal(
        found.reference.end[:, 0] > 0.0, labels == 1
    )


@pytest.mark.parametrize("schedule", [EDM(0.002, 80.0), Flow()], ids=["edm", "flow"])
def test_ends_at_zero_noise_and_starts_without_signal(schedule):
    model = gaussian(schedule, 4, "velocity" if isinstance(schedule, Flow) else "x0")
    found = strong_error(model, "dpmpp_2m_sde", steps=12, n=6, refine=16)
    assert found.reference.ends[-1].sigma == 0.0 and len(found.reference.ends) == 3
    assert 0.0 < found.reference.error < 0.5 * found.rmse < 0.25


def test_the_refined_grid():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    betas[-1] = 1.0
    grid = fewstep.grid("leading", DiscreteVP.from_betas(betas.numpy()), 5)
    for g in (
        grid,
        fewstep.grid("uniform", Flow(), 4),
        fewstep.grid("lam", VPLinear(), 4, final="sigma_min"),
    ):
        fine = refined(g, 6)
        inner = [node for node in fine if node in g.nodes]
        assert inner == list(g.nodes)
        assert fine.steps == 6 * (g.steps - (g[-1].sigma == 0.0)) + (g[-1].sigma == 0.0)
        assert all(a.lam < b.lam for a, b in fine.pairs())


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("ddim", {"steps": 4}, "draws no noise"),
        ("adaptive_sde", {}, "driver"),
        ("restart", {"steps": 18}, "jumps"),
        ("ddpm", {"steps": 4, "refine": 3}, "even"),
        ("ddpm", {"steps": 4, "refine": 1}, "refine=1"),
        ("ddpm", {"steps": 4, "batch": 0}, "batch=0"),
    ],
)
def test_what_has_no_strong_error_is_refused(sampler, options, message):
    with pytest.raises(ValueError, match=message):
        strong_error(gaussian(), sampler, n=2, **options)


def test_a_reference_serves_its_own_start_and_strength():
    first = strong_error(gaussian(), "ddpm", steps=4, n=3, refine=2, **COMMON)
    again = strong_error(
        gaussian(), "dpmpp_2m_sde", steps=4, n=3, reference=first.reference, **COMMON
    )
    assert again.reference is first.reference
    for sampler, change, message in (
        ("ddpm", {"n": 4}, "differs from the sampler"),
        ("ddpm", {"final": "zero"}, "differs from the sampler"),
        ("dpmpp_2m_sde", {"eta": 0.5}, "tau"),
    ):
        arguments = {"steps": 4, "n": 3, "reference": first.reference, **COMMON, **change}
        with pytest.raises(ScoreError, match=message):
            strong_error(gaussian(), sampler, **arguments)
    begin, last = first.reference.ends
    tiny = Grid.from_nodes([begin, VPLinear().node_at_lam(begin.lam + 1e-5), last], VPLinear())
    with pytest.raises(ScoreError, match="below the resolution"):
        strong_error(gaussian(), "ddpm", grid=tiny, n=3, reference=first.reference)


# --- weak errors


def limit(start, end, tau):
    """Mean and variance at ``end`` of the SDE on the Gaussian data from N(0, 1) at ``start``: y - m
    shrinks by c = (v_t / v_s)^(kappa / 2) and gains v_t (1 - (v_t / v_s)^(tau^2)), with v = STD^2 +
    rho^2 and y = x / alpha."""
    v_s, v_t = (STD**2 + n.rho**2 for n in (start, end))
    c = (v_t / v_s) ** (0.5 * (1.0 + tau**2))
    mean = MEAN * (1.0 - c)
    variance = c**2 / start.alpha**2 + v_t * (1.0 - (v_t / v_s) ** (tau**2))
    return end.alpha * mean, end.alpha**2 * variance


def law(plan):
    """Mean and variance of the plan's result from N(0, 1)."""
    out = last_state(plan)
    return out.offset, out.gain**2 + sum(c * c for c in out.noise)


def expectations(mean, variance):
    return {
        "mean": mean,
        "square": variance + mean**2,
        "cos": math.cos(mean) * math.exp(-variance / 2),
    }


@pytest.mark.parametrize(
    ("sampler", "options", "tau"),
    [("ddpm", {}, 1.0), ("ddim", {"eta": 0.5}, 0.5), ("ddim", {}, 0.0)],
)
def test_weak_errors_are_those_of_the_affine_law(sampler, options, tau):
    """Sampler and limit from the same N(0, 1) start, both known; the pairs' difference is within 4
    standard errors and is seen."""
    found = weak_error(
        gaussian(width=16),
        sampler,
        steps=6,
        n=192,
        **({"refine": 8} if tau else {}),
        **COMMON,
        **options,
    )
    plan = fewstep.plan(sampler, VPLinear(), steps=6, **COMMON, **options)
    own, exact = expectations(*law(plan)), expectations(*limit(plan.start, plan.end, tau))
    fine = exact
    if tau:
        grid = refined(Grid.from_nodes(plan.nodes, VPLinear()), 8)
        fine = expectations(*law(fewstep.plan(sampler, VPLinear(), grid=grid, **options)))
        assert all(abs(fine[name] - exact[name]) < 2.0 * found.reference.error for name in own)
    for name, pair in found.differences.items():
        assert abs(pair.difference - (own[name] - fine[name])) < 4.0 * pair.standard_error, name
        assert pair.standard_error < 0.7 * pair.unpaired
    assert found["square"].significant and not found["mean"].significant
    assert found.nfe == 6


def test_own_test_functions():
    model = mixture(VPLinear())
    found = weak_error(
        model,
        "ddpm",
        steps=5,
        n=32,
        refine=4,
        functions={"right": lambda x: (x[:, 0] > 0.9).double()},
        **COMMON,
    )
    assert list(found.differences) == ["right"] and found["right"].standard_error > 0.0
    with pytest.raises(ScoreError, match="'whole'"):
        weak_error(model, "ddim", steps=2, n=3, functions={"whole": lambda x: x})
    with pytest.raises(ScoreError, match="empty"):
        weak_error(model, "ddim", steps=2, n=3, functions={})
    with pytest.raises(ScoreError, match="at least 2"):
        weak_error(model, "ddim", steps=2, n=1)
    with pytest.raises(ScoreError, match="draws noise"):
        weak_error(model, "adaptive_sde", n=2)


def test_the_exact_weak_error():
    schedule = VPLinear()
    plan = fewstep.plan("dpmpp_2m_sde", schedule, steps=10, **COMMON)
    found = gaussian_weak_error(gaussian(width=3), "dpmpp_2m_sde", steps=10, **COMMON)
    mean, variance = weak_errors(plan)
    torch.testing.assert_close(found.mean.abs(), torch.full((3,), mean, dtype=F64))
    torch.testing.assert_close(found.variance.abs(), torch.full((3,), variance, dtype=F64))
    means, stds = (
        torch.tensor([[[0.0, 1.0], [2.0, -1.0]]], dtype=F64),
        torch.tensor([[[0.5, 0.1], [1.0, 0.5]]], dtype=F64),
    )
    model = GaussianMixture(means, stds, [1.0], schedule, "v")
    both = [gaussian_weak_error(model, "ddpm", steps=n, **COMMON) for n in (100, 400)]
    assert both[0].mean.shape == (2, 2) and both[0].nfe == 100
    assert bool((both[0].variance.abs() > 3.0 * both[1].variance.abs()).all())  # weak order 1
    x = fewstep.sample(model, "ddpm", steps=100, n=4000, dtype=F64, **COMMON)
    end = schedule.node(schedule.t_min)
    wanted = (end.alpha * stds[0]) ** 2 + end.sigma**2 + both[0].variance
    torch.testing.assert_close(x.var(dim=0), wanted, rtol=0.12, atol=0)
    with pytest.raises(ScoreError, match="3 components"):
        gaussian_weak_error(mixture(schedule), "ddpm", steps=3)


def test_a_float32_network():
    model = wrap(torch.nn.Linear(2, 2), VPLinear(), "eps", shape=(2,))
    found = strong_error(_without_label(model), "ddpm", steps=4, n=3, refine=2, **COMMON)
    assert found.x.dtype is F64 and found.rmse > 0.0


def _without_label(model):
    return wrap(_Plain(model.network), model.schedule, "eps", shape=model.shape)


class _Plain(torch.nn.Module):
    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x, t):
        return 0.1 * self.inner(x)
