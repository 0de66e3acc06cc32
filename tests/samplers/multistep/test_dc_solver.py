"""DC-Solver: UniPC at ratios of 1, and its compensated predictions written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.models import GaussianMixture
from fewstep.samplers import SamplerError
from fewstep.schedules import EDM, Flow, VPLinear

F64 = torch.float64
PATHS = {"vp": VPLinear(), "edm": EDM(), "flow": Flow()}
RATIOS = (1.0, 1.0, 1.0, 0.7, 1.3, 0.9)


def mixture(path="vp"):
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.3, 0.7], dtype=F64)
    return GaussianMixture(means, stds, weights, PATHS[path], prediction="x0")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "options", [{}, {"order": 3}, {"kind": "eps"}, {"corrector": False}], ids=str
)
def test_ratios_of_one_are_unipc(path, options):
    for steps in (1, 2, 3, 6):
        wanted = fewstep.plan("unipc", PATHS[path], steps=steps, **options)
        for ratios in ((), (1,) * steps):
            made = fewstep.plan("dc_solver", PATHS[path], steps=steps, ratios=ratios, **options)
            assert made == wanted


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("options", [{"order": 1}, {}, {"order": 3}, {"kind": "eps"}], ids=str)
def test_every_state_keeps_its_signal_and_noise(path, options):
    made = fewstep.plan("dc_solver", PATHS[path], steps=6, ratios=RATIOS, **options)
    assert made.exactness == "exact" and made.nfe == 6
    assert made != fewstep.plan("unipc", PATHS[path], steps=6, **options)


def test_the_run_written_out():
    """UniPC-2 with bh2 weights on x0, in log space, and the parabola through three predictions."""
    den, edm = mixture("edm"), PATHS["edm"]
    plan = fewstep.plan("dc_solver", edm, steps=6, grid="karras", final="sigma_min", ratios=RATIOS)
    x = 80.0 * torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    t = list(fewstep.grid("karras", edm, 6, final="sigma_min").times)
    stored, times, state = [], [], x
    before = None
    for i in range(6):
        m = den(state, t[i], None)
        if before is not None:
            state = corrected(*before, m, stored, times, t[i])
        if RATIOS[i] != 1.0:
            at = RATIOS[i] * t[i] + (1.0 - RATIOS[i]) * t[i - 1]
            fit = np.polynomial.polynomial.Polynomial
            basis = [fit.fit([t[i], t[i - 1], t[i - 2]], row, 2)(at) for row in np.eye(3)]
            m = basis[0] * m + basis[1] * stored[0] + basis[2] * stored[1]
        stored, times = [m, *stored], [t[i], *times]
        before = (state, t[i])
        state = predicted(state, t[i], t[i + 1], stored, times, last=i == 5)
    assert torch.allclose(fewstep.run(plan, den, x), state, atol=1e-10)


def predicted(x, s, t, stored, times, last):
    carry, h = t / s, np.log(s / t)
    if len(stored) == 1 or last:
        return carry * x + (1.0 - carry) * stored[0]
    slope = (stored[0] - stored[1]) / np.log(times[1] / times[0])
    return carry * x + (1.0 - carry) * (stored[0] + 0.5 * h * slope)


def corrected(x, s, m, stored, times, t):
    """Exact weights of the parabola in lam through three predictions (two: bh2's half)."""
    h, carry = np.log(s / t), t / s
    if len(stored) == 1:
        return carry * x + (1.0 - carry) * 0.5 * (stored[0] + m)
    nodes = np.array([1.0, 0.0, -np.log(times[1] / times[0]) / h])
    u = (np.polynomial.legendre.leggauss(40)[0] + 1.0) / 2.0
    w = np.polynomial.legendre.leggauss(40)[1] / 2.0
    moments = [h * np.sum(w * np.exp(-h * (1.0 - u)) * u**k) for k in range(3)]
    weights = np.linalg.solve(np.vander(nodes, 3, increasing=True).T, moments)
    return carry * x + sum(float(a) * v for a, v in zip(weights, [m, *stored[:2]], strict=True))


@pytest.mark.parametrize(
    ("schedule", "ratios", "error", "message"),
    [
        (EDM(), (1.0, 1.0, 0.9), ArgumentError, "3 entries for 5 steps"),
        (
            EDM(),
            (1.0, 0.9, 1, 1, 1),
            ArgumentError,
            "entry 1 must be 1, as step 1 has fewer than 2",
        ),
        (Flow(), (1, 1, 0.9, 1, 1), ArgumentError, "entry 2 must be 1"),
        (EDM(), (1, 1, 1, 1, 11), SamplerError, "ratios=11 must be a number from -10.0 to 10.0"),
        (EDM(), (1, 1, 1, 1, float("nan")), SamplerError, "ratios=nan"),
    ],
)
def test_ratios_that_cannot_be(schedule, ratios, error, message):
    with pytest.raises(error, match=message):
        fewstep.plan("dc_solver", schedule, steps=5, ratios=ratios)


def test_a_budget_of_calls_is_that_of_unipc():
    plan = fewstep.plan("dc_solver", VPLinear(), nfe=6, ratios=RATIOS)
    assert plan.nfe == 6
    # the grid auto is that of UniPC
    assert plan.nodes == fewstep.plan("unipc", VPLinear(), nfe=6).nodes
