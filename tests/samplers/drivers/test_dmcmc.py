"""Denoising MCMC: the law of its chain on Gaussian data and on a mixture, levels of each sample's
own, calls, seeds and refusals."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

import fewstep
from fewstep.eval.solver.counting import Counting
from fewstep.fused.noise.seeded import SeededNoise
from fewstep.models import GaussianMixture
from fewstep.samplers import SamplerError, build, get, make_options
from fewstep.samplers.drivers.dmcmc import DMCMC, Levels, chain, finish_grid, new_level, sweep
from fewstep.samplers.drivers.driver import BudgetError, Drive
from fewstep.samplers.drivers.sample_times import run_rows
from fewstep.schedules import EDM, VE, Flow, VPLinear

STD = 0.5
EDM_PATH = EDM(0.002, 80.0)


class Rows(Counting):
    """Counts calls and rows, with a time a row."""

    def __init__(self, denoiser):
        super().__init__(denoiser)
        self.rows = []

    def raws(self, x_in, t, cond=None):
        self.times.append(float(torch.as_tensor(t).max()))
        self.rows.append(len(x_in))
        return self.denoiser.raws(x_in, t, cond)


def gaussian(d, schedule=EDM_PATH, prediction="x0"):
    return GaussianMixture(torch.linspace(-0.7, 0.7, d)[None], [STD], [1.0], schedule, prediction)


def mixture(schedule, prediction="v"):
    return GaussianMixture(
        [[1.0, -0.5], [-0.8, 0.6], [0.2, 1.1]],
        [0.25, 0.3, 0.2],
        [0.5, 0.3, 0.2],
        schedule,
        prediction,
    )


def table_of(model, batch, options, schedule=EDM_PATH):
    grid = fewstep.grid("lam", schedule, 6)
    x = torch.zeros(batch, *model.shape, dtype=torch.float64)
    return Levels(Drive(model, x, grid[0], SeededNoise(tuple(range(batch)))), grid, options)


def left_by(step, eta, rho, v):
    """Stationary variance of a kernel at one level, by the recursion of the variance."""
    if step == "constant":
        eta = eta / rho**2
    c = 1.0 - math.sqrt(1.0 - eta) if step == "renoise" else eta / 2.0
    return eta * rho**2 / (1.0 - (1.0 - c * rho**2 / v) ** 2)


@pytest.mark.parametrize(("step", "eta"), [("langevin", 0.5), ("renoise", 0.5), ("constant", 0.3)])
def test_one_level_has_the_law_of_its_kernel(step, eta):
    """Mean, variance and correlation within 3 standard errors of the closed form, which is not the
    marginal itself."""
    d, batch, rho = 8, 600, 0.7
    model = gaussian(d)
    options = DMCMC(levels=1, high=rho, step=step, eta=eta)
    table = table_of(model, batch, options)
    v = STD**2 + rho**2
    y, k = torch.full((batch, d), 2.0, dtype=torch.float64), torch.zeros(batch, dtype=torch.long)
    for _ in range(40):
        y, k = sweep(table, y, k, options)
    rest = y - model.means[0]
    wanted = left_by(step, eta, rho, v)
    assert abs(wanted / v - 1.0) > 0.02
    if step == "langevin":
        assert wanted == pytest.approx(v / (1.0 - eta * rho**2 / (4.0 * v)), rel=1e-12)
    error = math.sqrt(2.0 / (batch * d))
    assert abs(float(rest.square().mean()) / wanted - 1.0) < 3.0 * error
    assert float(rest.mean(0).abs().max()) < 3.7 * math.sqrt(wanted / batch)  # the largest of 8
    off = torch.corrcoef(rest.T) - torch.eye(d)
    assert float(off.abs().max()) < 4.0 / math.sqrt(batch)


@pytest.mark.parametrize("d", [1, 2, 16])
def test_the_chain_keeps_its_law(d):
    """Begun in the law of data and levels it stays there: levels log-uniform, x of the variance of
    its level."""
    batch, eta = 900, 0.05
    model = gaussian(d)
    options = DMCMC(low=0.02, high=20.0, levels=100, eta=eta)
    table = table_of(model, batch, options)
    g = torch.Generator().manual_seed(d)
    k = torch.randint(0, 100, (batch,), generator=g)
    rho = table.rho[k][:, None]
    y = model.means[0] + (STD**2 + rho**2).sqrt() * torch.randn(
        batch, d, dtype=torch.float64, generator=g
    )
    began = k
    for _ in range(30):
        y, k = sweep(table, y, k, options)
    assert float((k - began).abs().double().mean()) > 7.0, "levels move"
    rho = table.rho[k][:, None]
    v = STD**2 + rho**2
    scaled = (y - model.means[0]).square() / v * (1.0 - eta * rho**2 / (4.0 * v))
    assert abs(float(scaled.mean()) - 1.0) < 3.0 * math.sqrt(2.0 / (batch * d))
    share = (torch.sort(k).values + 0.5) / 100
    distance = float((share - (torch.arange(batch) + 0.5) / batch).abs().max())
    assert distance < 1.63 / math.sqrt(batch) + 0.5 / 100  # Kolmogorov-Smirnov, 1 per cent


def test_the_residual_alone_falls_to_no_noise():
    """Data that fill all dimensions: no level below ``rho^2 = 3 s^2`` holds itself (the fixed point
    of |y - D| / sqrt(d))."""
    d, batch = 32, 40
    model = gaussian(d)
    ends = {}
    for estimator in ("gaussian", "residual"):
        options = DMCMC(low=0.02, high=20.0, levels=300, estimator=estimator)
        table = table_of(model, batch, options)
        k = torch.full((batch,), table.at(0.5))
        y = (
            model.means[0]
            + math.hypot(STD, 0.5)
            * torch.randn(batch, d, generator=torch.Generator().manual_seed(3)).double()
        )
        for _ in range(60):
            y, k = sweep(table, y, k, options)
        ends[estimator] = float(table.rho[k].median())
    assert ends["residual"] < 0.025 and 0.1 < ends["gaussian"] < 3.0


def test_levels_are_drawn_from_their_posterior():
    options = DMCMC(levels=5, low=0.3, high=2.0)
    model = gaussian(3)
    table = table_of(model, 20_000, options)
    size = torch.full((20_000,), 2.4, dtype=torch.float64)
    rhos = [node.rho for node in table.nodes]
    assert all(
        b / a == pytest.approx((2.0 / 0.3) ** 0.2, rel=1e-12) for a, b in pairwise([0.3, *rhos])
    )
    weights = [rho**-3 * math.exp(-1.2 / rho**2) for rho in rhos]
    wanted = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    drawn = torch.bincount(new_level(table, size, table.drive.x, options), minlength=5) / 20_000
    assert bool(((drawn - wanted).abs() < 3.5 * (wanted * (1 - wanted) / 20_000).sqrt()).all())
    best = new_level(
        table, size[:1], table.drive.x[:1], DMCMC(levels=5, low=0.3, high=2.0, update="argmax")
    )
    assert int(best) == int(wanted.argmax())


def test_the_same_chain_on_every_path():
    """In ``y = x / alpha`` VP, Flow and VE are one chain."""
    ends = []
    for schedule in (EDM_PATH, VPLinear(), Flow(3.0), VE(0.01, 50.0)):
        model = mixture(schedule)
        options = DMCMC(low=0.05, high=10.0, levels=100)
        table = table_of(model, 6, options, schedule)
        start = torch.linspace(-1.0, 1.0, 12, dtype=torch.float64).reshape(6, 2)
        y, k = chain(table, start, torch.full((6,), 40), options)
        ends.append((y, k))
        assert int(k.min()) < 40
    for y, k in ends[1:]:
        assert torch.equal(k, ends[0][1]) and torch.allclose(y, ends[0][0], rtol=0.0, atol=1e-9)


@pytest.mark.slow
def test_modes_are_reached_from_one_start():
    """All chains begin at one point, in one mode; at the end the modes have their weights (after 20
    sweeps the first has 0.62 yet)."""
    n, schedule = 500, VPLinear()
    model = mixture(schedule)
    x = torch.tensor([[1.2, -0.9]], dtype=torch.float64).repeat(n, 1)
    begun = fewstep.sample(model, "dpmpp_2m", steps=6, x=x)
    assert int((torch.cdist(begun, model.means).argmin(1) == 0).sum()) == n
    out, info = fewstep.sample(
        model,
        "dmcmc",
        steps=6,
        x=x,
        sweeps=1,
        burn_in=250,
        levels=24,
        low=0.02,
        high=5.0,
        eta=0.4,
        info=True,
        finish_steps=12,
    )
    assert info.nfe == 6 + 2 * 251 + 12
    found = torch.bincount(torch.cdist(out, model.means).argmin(1), minlength=3) / n
    assert bool(
        (
            (found - model.weights).abs() < 3.0 * (model.weights * (1 - model.weights) / n).sqrt()
        ).all()
    ), found
    exact = model.sample(100_000, 0)
    error = exact.std(0) / math.sqrt(n)
    assert bool(((out - exact.mean(0)).mean(0).abs() < 3.0 * error).all())
    covariance = torch.cov(out.T) - torch.cov(exact.T)
    assert float(covariance.abs().max()) < 3.0 * 0.7 * math.sqrt(2.0 / n)


def test_the_state_of_least_noise_is_kept():
    model = mixture(EDM_PATH)
    options = DMCMC(low=0.05, high=10.0, levels=100, sweeps=12, burn_in=4)
    table = table_of(model, 9, options)
    y = torch.linspace(-1.0, 1.0, 18, dtype=torch.float64).reshape(9, 2)
    k = torch.full((9,), 50)
    least, level = chain(table, y, k, options)
    again = table_of(model, 9, options)
    path = []
    for _ in range(16):
        y, k = sweep(again, y, k, options)
        path.append((y, k))
    levels = torch.stack([k for _, k in path[4:]])
    assert torch.equal(level, levels.min(0).values) and len(set(level.tolist())) > 3
    first = levels.argmin(0)
    for i in range(9):
        assert torch.equal(least[i], path[4 + int(first[i])][0][i])


def test_calls_are_counted():
    for options, chained, last in (
        ({}, 20, 5),
        ({"sweeps": 3, "burn_in": 2, "langevin": 3}, 20, 5),
        ({"finish": "heun", "finish_steps": 3, "sweeps": 1}, 2, 5),
        ({"sweeps": 0}, 0, 5),
    ):
        model = Rows(mixture(VPLinear()))
        _, info = fewstep.sample(model, "dmcmc", steps=4, n=7, info=True, **options)
        warm = 7 if options.get("finish") == "heun" else 4
        assert info.nfe == info.passes == model.calls == warm + chained + last
        assert set(model.rows) == {7}, "every call serves the whole batch"
    model = Rows(mixture(VPLinear()))
    assert fewstep.sample(model, "dmcmc", nfe=40, n=2, info=True)[1].nfe == model.calls == 40
    assert (
        fewstep.sample(model, "dmcmc", nfe=40, n=2, info=True, finish="heun")[1].nfe
        == 40 - (40 - 20 - 9 - 1) % 2
    )
    with pytest.raises(BudgetError) as stop:
        fewstep.sample(Rows(mixture(VPLinear())), "dmcmc", n=2, steps=4, max_nfe=9)
    assert stop.value.nfe == 9
    with pytest.raises(ValueError, match="its chain makes 20 calls, finish 5"):
        fewstep.sample(model, "dmcmc", nfe=25)


@pytest.mark.parametrize("finish", ["dpmpp_2m", "ddpm"])
def test_bits_do_not_depend_on_the_batch(finish):
    model = mixture(VPLinear())
    for dtype in (torch.float32, torch.float64):
        whole = fewstep.sample(model, "dmcmc", steps=4, n=9, seed=100, finish=finish, dtype=dtype)
        part = fewstep.sample(model, "dmcmc", steps=4, n=2, seed=103, finish=finish, dtype=dtype)
        assert torch.equal(part, whole[3:5]) and not torch.equal(part[0], part[1])
        assert torch.equal(
            whole,
            fewstep.sample(model, "dmcmc", steps=4, n=9, seed=100, finish=finish, dtype=dtype),
        )


def test_plans_of_several_starts_advance_together():
    """Each sample has what its own plan alone gives, conditions and noises included, in as many
    calls as one plan."""
    schedule = VPLinear()
    model = mixture(schedule)
    grid = fewstep.grid("lam", schedule, 5)
    options = make_options(get("ddpm"), {})
    plans = {
        k: build("ddpm", finish_grid(grid, schedule.node_at_rho(0.2 + 0.3 * k), 5), options)
        for k in range(3)
    }
    which, label = [2, 0, 1, 0, 2], torch.tensor([0, 1, 2, -1, 1])
    x = torch.linspace(-1.0, 1.0, 10, dtype=torch.float64).reshape(5, 2)
    noise = [
        torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        for k in range(4)
    ]
    for cond in (label, {"label": label}, None):
        drive = Drive(Rows(model), x, plans[2].start, lambda key, like: noise[key], cond=cond)
        out = run_rows(drive, plans, which)
        assert drive.nfe == drive.denoiser.calls == 5 and drive.node == grid[-1]
        for i, k in enumerate(which):
            alone = None if cond is None else label[i : i + 1]
            one = fewstep.run(
                plans[k], model, x[i : i + 1], noise=[z[i : i + 1] for z in noise], cond=alone
            )
            assert torch.equal(out[i : i + 1], one)


def test_the_grid_of_a_level():
    """Karras nodes with exponent 7 from the level to the last one before sigma = 0."""
    grid = fewstep.grid("lam", EDM_PATH, 5)
    found = [node.rho for node in finish_grid(grid, EDM_PATH.node_at_rho(0.7), 4)]
    roots = [0.7 ** (1 / 7) + i / 3 * (0.002 ** (1 / 7) - 0.7 ** (1 / 7)) for i in range(4)]
    assert found == pytest.approx([*(r**7 for r in roots), 0.0], rel=1e-9)
    assert [node.rho for node in finish_grid(grid, EDM_PATH.node_at_rho(0.7), 1)] == pytest.approx(
        [0.7, 0.0]
    )
    short = finish_grid(
        fewstep.grid("lam", EDM_PATH, 5, final="sigma_min"), EDM_PATH.node_at_rho(0.7), 2
    )
    assert short.steps == 2 and short[-1].rho == pytest.approx(0.002)


def test_levels_of_a_table_are_seen_by_its_network():
    """Each sample's network input, time and coefficients are those of its own level."""
    schedule = VPLinear()
    for prediction in ("eps", "x0", "v", "score", "velocity"):
        model = mixture(schedule, prediction)
        table = table_of(model, 4, DMCMC(levels=7, low=0.1, high=9.0), schedule)
        y, k = (
            torch.tensor([[0.3, 1.0], [2.0, -1.0], [0.1, 0.2], [-3.0, 4.0]], dtype=torch.float64),
            torch.tensor([0, 6, 3, 3]),
        )
        found = table.denoised(y, k)
        for i in range(4):
            node = table.nodes[int(k[i])]
            exact = mixture(schedule, "x0").predict("x0", node.alpha * y[i : i + 1], node.t)
            assert torch.allclose(found[i : i + 1], exact, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finish": "ode45"}, "finish='ode45' is a driver"),
        ({"finish": "dimm"}, "did you mean 'ddim'"),
        ({"arguments": {"etta": 0.5}, "finish": "ddim"}, "did you mean 'eta'"),
        ({"eta": 2.5}, "eta=2.5 must be a number from"),
        ({"step": "renoise", "eta": 1.5}, "eta=1.5"),
        ({"step": "langevn"}, "did you mean 'langevin'"),
        ({"estimator": "classifier"}, "estimator"),
        ({"update": "mode"}, "update"),
        ({"sweeps": -1}, "sweeps=-1"),
        ({"levels": 0}, "levels=0"),
        ({"low": 2.0, "high": 1.0}, "low=2 to high=1"),
        ({"low": 1e-6}, "must satisfy 0.01"),
        ({"high": 1e6}, "low < high <= "),
        ({"jump": 0.0}, "jump=0.0"),
        ({"langevin": 0}, "langevin=0"),
    ],
)
def test_what_is_refused_before_the_first_call(options, message):
    model = Counting(mixture(VPLinear()))
    with pytest.raises(ValueError, match=message):
        fewstep.sample(model, "dmcmc", steps=3, **options)
    assert model.calls == 0


def test_noise_must_be_there():
    with pytest.raises(SamplerError, match="is a driver"):
        fewstep.plan("dmcmc", VPLinear(), steps=3)
    entry, grid = get("dmcmc"), fewstep.grid("lam", VPLinear(), 3)
    with pytest.raises(ValueError, match="noise= or seeds"):
        entry.build(Drive(mixture(VPLinear()), torch.zeros(1, 2), grid[0]), grid, entry.options())
