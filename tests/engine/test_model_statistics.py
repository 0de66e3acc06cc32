"""Statistics of DPM-Solver-v3 estimated on a model: closed forms, files, the stage of
``fewstep.tune``, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine import Statistics, model_statistics
from fewstep.engine.tuning import statistics as estimation
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture, wrap
from fewstep.plans import PlanError
from fewstep.plans.running.loop import NumericalError
from fewstep.schedules import DiscreteVP, Flow, VPLinear

F64 = torch.float64
VP = VPLinear()
MEAN = torch.tensor([0.6, -0.4], dtype=F64)
FACTOR = torch.tensor([[0.6, 0.0], [0.3, 0.4]], dtype=F64)
COV, EYE = FACTOR @ FACTOR.T, torch.eye(2, dtype=F64)
QUICK = {"trajectories": 32, "fine_steps": 64, "test": 64}


def gaussian(schedule=VP, change=lambda x: x):
    """Gaussian data with correlated coordinates."""

    def network(x, t):
        node = schedule.node(float(t.reshape(-1)[0]))
        p = COV @ torch.linalg.inv(COV + node.rho**2 * EYE)
        return MEAN + (change(x) / node.alpha - MEAN) @ p.T

    return wrap(network, schedule, "x0", shape=(2,))


def closed_form(lam):
    """(l, s, b) of each coordinate and (l, s) of both together, by ``D = m + P (y - m)``."""
    rho2 = math.exp(-2.0 * lam)
    cov, eye, mean = COV.numpy(), EYE.numpy(), MEAN.numpy()
    spread = cov + rho2 * eye
    inverse = np.linalg.inv(spread)
    p, slope = cov @ inverse, 2.0 * rho2 * cov @ inverse @ inverse

    def parts(l, l_slope):  # noqa: E741
        f = eye - p - np.diag(l)
        h = -slope - np.diag(l_slope) - f @ (eye - p)
        return np.diag(f @ spread @ h.T), np.diag(f @ spread @ f.T)

    l, l_slope = 1.0 - np.diag(p), -np.diag(slope)  # noqa: E741
    over, under = parts(l, l_slope)
    s = over / under
    one, one_slope = l.mean(), l_slope.mean()
    both = parts(np.full(2, one), np.full(2, one_slope))
    squares = one * mean @ mean
    pooled = (both[0].sum() + one_slope * squares) / (both[1].sum() + one * squares)
    return l, s, -l_slope * mean + s * l * mean, one, pooled


def apart(found):
    """Largest differences from the closed form, (l, s, b, pooled l, pooled s), over the nodes where
    coordinates are neither all noise nor clean."""
    inside = [k for k, lam in enumerate(found.lam) if -2.0 < lam < 2.0]
    wanted = [np.array(v) for v in zip(*(closed_form(found.lam[k]) for k in inside), strict=True)]
    names = ("l", "s", "b", "pooled_l", "pooled_s")
    return {
        name: float(np.abs(getattr(found, name)[inside] - value).max())
        for name, value in zip(names, wanted, strict=True)
    }


@pytest.mark.parametrize("source", ["data", "trajectories"])
def test_estimates_converge_to_the_closed_form(source):
    """The error falls as the square root of the draws: 64 times as many give an eighth; less than
    0.3 is required, of errors above 2e-3."""
    found = []
    for draws in (128, 8192):
        z = torch.randn(draws, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
        given = {"data": MEAN + z @ FACTOR.T} if source == "data" else {"fine_steps": 32}
        found.append(apart(model_statistics(gaussian(), nodes=40, draws=draws, **given)))
    coarse, fine = found
    assert all(fine[name] < max(0.3 * coarse[name], 2e-3) for name in fine), found
    assert max(fine.values()) < 0.06 and fine["l"] < 0.01, fine


def test_where_the_jacobian_is_diagonal_l_is_exact():
    """No sign of another coordinate is in the product: l has no error of draws."""
    model = GaussianMixture([[0.5, -0.2]], [[0.3, 0.7]], [1.0], Flow(), "x0")
    found = model_statistics(model, nodes=20, draws=16, fine_steps=32)
    rho2 = np.exp(-2.0 * found.lam)[:, None]
    assert np.abs(found.l - rho2 / (np.array([0.09, 0.49]) + rho2)).max() < 1e-8
    assert found.lam[0] == pytest.approx(Flow().lam_start)


def test_networks_without_forward_derivatives_are_differenced(monkeypatch):
    """One that raises and one that cuts the derivative silently give what the whole one gives."""

    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

    used = []
    real = estimation._difference
    monkeypatch.setattr(estimation, "_difference", lambda *a: used.append(len(a[2])) or real(*a))
    given = {"nodes": 8, "draws": 16, "fine_steps": 16}
    whole = model_statistics(gaussian(), **given)
    assert used == [4]
    for change in (Opaque.apply, torch.detach):
        used.clear()
        other = model_statistics(gaussian(change=change), **given)
        assert used.count(16) == 9
        assert np.abs(other.l - whole.l).max() < 1e-8


def test_the_same_call_gives_the_same_statistics():
    given = {"nodes": 8, "draws": 16, "fine_steps": 16}
    first, second, other = (model_statistics(gaussian(), seed=k, **given) for k in (0, 0, 1))
    assert np.array_equal(first.s, second.s) and not np.array_equal(first.s, other.s)
    assert first.facts["draws"] == 16 and first.facts["source"] == "trajectories of 16 steps"


def test_conditions_of_the_draws():
    model = GaussianMixture([[0.0, 0.0], [0.0, 0.0]], [0.2, 0.8], [0.5, 0.5], VP)
    given = {"nodes": 8, "draws": 16, "fine_steps": 16}
    found = model_statistics(model, cond=lambda seeds: torch.ones(len(seeds), dtype=int), **given)
    rho2 = np.exp(-2.0 * found.lam)
    assert np.abs(found.pooled_l - rho2 / (0.64 + rho2)).max() < 1e-8


# -- files and provenance


def test_a_file_keeps_every_bit(tmp_path):
    path = tmp_path / "statistics.safetensors"
    made = model_statistics(gaussian(), nodes=8, draws=16, fine_steps=16)
    made.save(path)
    read = Statistics.load(path)
    for name in ("lam", "l", "s", "b", "pooled_l", "pooled_s"):
        assert np.array_equal(getattr(read, name), getattr(made, name))
    assert read.made_for == made.made_for and read.facts == made.facts
    for name in ("dpm_solver_v3", "dpm_solver_v3_elementwise"):
        one, two = (
            fewstep.sample(gaussian(), name, steps=4, statistics=given, force=True, dtype=F64)
            for given in (made, str(path))
        )
        assert torch.equal(one, two)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(PlanError, match="statistics.safetensors"):
        Statistics.load(path)


@pytest.mark.parametrize("name", ["dpm_solver_v3", "dpm_solver_v3_elementwise"])
def test_statistics_of_another_model_are_refused(name):
    def model(spread, schedule=VP):
        return GaussianMixture([[0.5, -0.2]], [[0.3, spread]], [1.0], schedule, "v")

    made = model_statistics(model(0.7), nodes=8, draws=16, fine_steps=16)
    given = {"steps": 3, "statistics": made, "cond": torch.zeros(1, dtype=int)}
    assert fewstep.sample(model(0.7), name, **given).isfinite().all()
    for other, words in (
        (model(0.8), "another model"),
        (model(0.7, Flow()), "another schedule"),
        (CFG(model(0.7), 2.0), "with no guidance"),
    ):
        with pytest.raises(PlanError, match=words):
            fewstep.sample(other, name, **given)
        assert fewstep.sample(other, name, force=True, **given).isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lam": [0.0, 0.0, 1.0]}, "lam: must be at least two rising numbers"),
        ({"l": [0.0, 1.0]}, "l has shape"),
        ({"s": np.zeros((3, 2))}, "s has shape"),
        ({"b": [0.0, math.nan, 0.0]}, "b: must be finite"),
        ({"pooled_l": np.zeros((3, 2)), "pooled_s": np.zeros(3)}, "pooled_l has shape"),
        ({"l": "many"}, "l='many'"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, words):
    given = {"lam": [-1.0, 0.0, 1.0], "l": np.zeros(3), "s": np.zeros(3), "b": np.zeros(3)}
    assert Statistics(**given).shape == ()
    with pytest.raises(ArgumentError, match=words):
        Statistics(**{**given, **change})


# -- refusals


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"draws": 4}, "draws=4: too few"),
        ({"nodes": 4}, "nodes=4"),
        ({"data": torch.zeros(8, 3)}, r"data has shape \(8, 3\)"),
        ({"data": torch.zeros(8, 2), "fine_steps": 16}, "fine_steps= belongs to trajectories"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_what_cannot_be_estimated_is_refused(given, words):
    with pytest.raises(ArgumentError, match=words):
        model_statistics(gaussian(), **given)


def rounding():
    return wrap(
        lambda x, t: x / (1.0 + 0.001 * t.reshape(-1, 1)),
        DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000)),
        "eps",
        time="index",
        shape=(2,),
    )


def test_a_network_that_rounds_times_has_no_statistics():
    with pytest.raises(ArgumentError, match="rounds the times"):
        model_statistics(rounding())


def test_a_network_without_numbers_is_refused():
    broken = wrap(lambda x, t: x * math.nan, VP, "x0", shape=(2,))
    with pytest.raises(NumericalError):
        model_statistics(broken, nodes=8, draws=16, fine_steps=16)
    with pytest.raises(ArgumentError, match="are no numbers"):
        model_statistics(broken, nodes=8, draws=16, data=torch.ones(4, 2))


# -- the stage of fewstep.tune


def mixture():
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.2, 0.4], dtype=F64)
    return GaussianMixture(means, stds, weights, VP)


def test_the_stage_adds_plans_with_statistics(monkeypatch, tmp_path):
    from fewstep.engine.tuning import search

    monkeypatch.setattr(search, "SAMPLERS", (("dpmpp_3m", {}),))
    monkeypatch.setattr(search, "others", lambda: ())
    monkeypatch.setattr(search, "GRIDS", (("lam", {}),))
    made = fewstep.tune(mixture(), 6, what="statistics", **QUICK)
    report = made.report
    assert [stage["stage"] for stage in report["stages"]] == ["search", "statistics"]
    assert report["kept"] == "tuned" and report["from"].startswith("dpm_solver_v3:order=")
    assert report["untuned"] == "dpmpp_3m on lam"
    assert report["test"]["tuned"]["median"] < 0.7 * report["test"]["untuned"]["median"]
    assert made.plan.nfe == 6
    path = tmp_path / "6.json"
    made.save(path)
    assert path.stat().st_size < 8000
    x = fewstep.sample(mixture(), f"file:{path}", n=2)
    assert torch.equal(x, fewstep.sample(mixture(), plan=made, n=2))


def test_the_stage_leaves_a_network_that_rounds_times():
    made = fewstep.tune(rounding(), 3, what="statistics", sampler="ddim", **QUICK)
    assert made.report["kept"] == "untuned"
    assert made.plan == fewstep.plan("ddim", rounding(), nfe=3)
