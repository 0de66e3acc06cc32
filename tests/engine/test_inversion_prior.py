"""The prior term of Newton-Raphson inversion: its closed form on linear steps, the likely one of
several solutions, and its price."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from test_inversion import data, model
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine.gradients import GradientError
from fewstep.eval.solver.counting import Counting
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture, wrap
from fewstep.schedules import EDM, Flow, VPLinear

F64 = torch.float64
PATHS = {"vp": (VPLinear(), "ddim", "lam"), "edm": (EDM(), "ddim", "lam")}
PATHS["flow"] = (Flow(), "flow_euler", "uniform")


@pytest.mark.parametrize("path", PATHS)
def test_weight_zero_is_the_method_without_it(path: str) -> None:
    schedule, sampler, grid = PATHS[path]
    den, given = model(schedule), {"inversion": "newton", "steps": 12, "grid": grid}
    for dtype in (F64, torch.float32):
        x0 = data(den).to(dtype)
        plain = fewstep.invert(den, x0, sampler, **given)
        assert torch.equal(fewstep.invert(den, x0, sampler, prior=0.0, **given), plain)
        assert not torch.equal(fewstep.invert(den, x0, sampler, prior=1e-3, **given), plain)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("path", PATHS)
def test_linear_steps_have_the_ridge_solution(path: str, size: int) -> None:
    """``x = (M^T M + w)^-1 (M^T r + w y / A)`` for the step ``y = A (M x + c)``, in every step; also
    where the gradients are more than the iterations' few vectors."""
    schedule, sampler, grid = PATHS[path]
    g = torch.Generator().manual_seed(size)
    matrix = 0.25 * torch.randn(size, size, generator=g, dtype=F64)
    den = wrap(lambda x, t: torch.tanh(t[:1].to(x)) + x @ matrix.T, schedule, "v", shape=(size,))
    y = torch.randn(2, size, generator=g, dtype=F64)
    weight, times = 0.05, fewstep.grid(grid, schedule, 4, final="sigma_min", start=0.9).times
    given = {"times": times, "inversion": "newton", "iterations": 12}
    found = fewstep.invert(den, y, sampler, prior=weight, **given)
    for s, t in list(pairwise(times))[::-1]:
        plan = fewstep.plan(sampler, schedule, times=[s, t])
        zero = fewstep.run(plan, den, torch.zeros(1, size, dtype=F64))
        step = (fewstep.run(plan, den, torch.eye(size, dtype=F64)) - zero).T
        factor = plan.end.alpha / plan.start.alpha
        m, r = step / factor, (y - zero) / factor
        left = m.T @ m + weight * torch.eye(size, dtype=F64)
        y = torch.linalg.solve(left, (r @ m + weight * y / factor).T).T
    torch.testing.assert_close(found, y, rtol=1e-12, atol=1e-12)


def test_of_several_solutions_the_likely_one_is_found() -> None:
    """A step of classifier-free guidance is no monotone function, and its equation has one solution
    within two standard deviations of ``q(x | y)``. Newton-Raphson alone ends 14 of them away."""
    exact = GaussianMixture([[-1.0], [1.0]], 0.3, [0.5, 0.5], VPLinear(), "v")
    den, cond = CFG(exact, 3.0), torch.ones(1, dtype=torch.long)
    whole = fewstep.grid("lam", den.schedule, 4, final="sigma_min")
    times, y = whole.times[2:4], torch.tensor([[2.163]], dtype=F64)
    s, t = whole[2], whole[3]
    deviation = math.sqrt(s.sigma**2 - (s.alpha / t.alpha * t.sigma) ** 2)

    def found(prior: float, iterations: int) -> tuple[float, float]:
        """The distance from the mean in standard deviations, and the error of the step."""
        x, info = fewstep.invert(
            den, y, "ddim", times=times, cond=cond, inversion="newton", iterations=iterations,
            prior=prior, info=True,
        )  # fmt: skip
        return float(x - y * s.alpha / t.alpha) / deviation, info.largest

    for iterations in (3, 20):
        assert found(0.0, iterations)[0] == pytest.approx(-13.8, abs=0.1)
    away, error = found(0.01, 20)
    assert away == pytest.approx(-1.34, abs=0.02) and error == pytest.approx(0.02, abs=0.01)
    (nearer, more), (less, exact_) = found(0.1, 20), found(1e-6, 40)
    assert abs(nearer) < abs(away) and more > error  # nearer to the mean at a larger error
    assert less == pytest.approx(-13.8, abs=0.1) and exact_ < 2e-4


def test_the_price_is_an_error_in_proportion_to_the_weight() -> None:
    den = model(VPLinear())
    x0 = data(den)
    given = {"inversion": "newton", "steps": 20, "grid": "lam", "info": True}
    norms, errors = [], []
    for weight in (0.0, 1e-6, 1e-5, 1e-4):
        z, info = fewstep.invert(den, x0, "ddim", prior=weight, **given)
        norms.append(float(z.norm()))
        errors.append(float(info.errors.square().mean().sqrt()))
    assert errors[0] < 1e-6 and norms[0] > norms[1] > norms[2] > norms[3]
    assert errors[2] / errors[1] == pytest.approx(10.0, rel=0.05)
    assert errors[3] / errors[2] == pytest.approx(10.0, rel=0.05)
    assert errors[3] == pytest.approx(0.00191, rel=0.01)


def test_calls_and_float32() -> None:
    """As many network calls as without it; the differences of float32 are good enough."""
    exact = model(VPLinear())
    den, x0, seen = Counting(exact), data(exact), []
    given = {"inversion": "newton", "steps": 5, "grid": "lam", "prior": 0.01}
    wide = fewstep.invert(den, x0, "heun", progress=lambda *n: seen.append(n), **given)
    assert den.calls == seen[-1][0] == seen[-1][1] == 15 * 10
    assert bool(wide.isfinite().all())
    wide, single = (fewstep.invert(exact, x, "ddim", **given) for x in (x0, x0.float()))
    assert float((single - wide).abs().max()) < 1e-3


def test_networks_that_autograd_cannot_follow_are_refused() -> None:
    x, given = torch.zeros(1, 2), {"inversion": "newton", "steps": 4, "prior": 0.1}
    detached = wrap(lambda x, t: torch.tanh(x.detach()), VPLinear(), "eps", shape=(2,))
    with pytest.raises(GradientError, match="does not depend on its input"):
        fewstep.invert(detached, x, "ddim", **given)
    fewstep.invert(detached, x, "ddim", **{**given, "prior": 0.0})
    den = Counting(model(VPLinear()))
    with torch.inference_mode(), pytest.raises(GradientError, match="inference_mode"):
        fewstep.invert(den, x, "ddim", **given)
    assert den.calls == 0
    with torch.no_grad():  # parameters that require grad leave no graph behind
        weight = torch.ones(2, requires_grad=True)
        open_ = wrap(lambda x, t: torch.tanh(x * weight), VPLinear(), "eps", shape=(2,))
        assert not fewstep.invert(open_, x, "ddim", **given).requires_grad
    assert not fewstep.invert(open_, x, "ddim", **given).requires_grad


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prior": 0.1}, "only newton has a prior term"),
        ({"prior": 0.0, "inversion": "fixed_point"}, "only newton has a prior term"),
        ({"prior": -0.1, "inversion": "newton"}, "prior=-0.1 must be a finite number >= 0"),
        ({"prior": math.inf, "inversion": "newton"}, "prior=inf must be"),
        ({"prior": "x", "inversion": "newton"}, "prior='x' must be"),
    ],
)
def test_refused(given: dict[str, object], message: str) -> None:
    den = Counting(model(VPLinear()))
    x: Tensor = torch.zeros(1, 2)
    with pytest.raises(ArgumentError, match=message):
        fewstep.invert(den, x, "ddim", steps=5, **given)
    assert den.calls == 0
