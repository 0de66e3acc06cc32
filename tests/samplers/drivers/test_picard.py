"""Picard iteration written out for one-node plans: which calls of a window count as converged, and
what the tolerance is measured in."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.models import GaussianMixture
from fewstep.schedules import VPLinear, grid

VP = VPLinear()
MODEL = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4], VP, "x0")
X = torch.tensor([[0.7, -1.2], [-0.4, 0.9], [1.9, 0.1]], dtype=torch.float64)


def by_hand(steps: int, window: int, tol: float) -> tuple[torch.Tensor, int, int]:
    """DDIM by sweeps: (result, passes, calls). A call is final where its state moved by at most
    ``tol`` times the fresh part of an ancestral step to its level,
    ``sigma_t sqrt(1 - rho_t^2 / rho_s^2)``, in the RMS of the worst sample."""
    path = grid("lam", VP, steps, final="sigma_min")
    nodes = list(path)

    def move(x: torch.Tensor, k: int, data: torch.Tensor) -> torch.Tensor:
        s, t = nodes[k], nodes[k + 1]
        e = t.sigma / s.sigma
        return e * x + (t.alpha - e * s.alpha) * data

    first, x, passes, calls = 0, X, 0, 0
    states = [x]
    while first < steps:
        answers = [MODEL(y, nodes[first + k].t) for k, y in enumerate(states)]
        passes, calls = passes + 1, calls + len(states)
        swept, y = [], x
        for k, answer in enumerate(answers):
            swept.append(y)
            y = move(y, first + k, answer)
        done = 1
        while done < len(states):
            s, t = nodes[first + done - 1], nodes[first + done]
            unit = max(t.sigma * math.sqrt(1.0 - (t.rho / s.rho) ** 2), 1e-3 * t.sigma)
            if float((swept[done] - states[done]).square().mean(1).sqrt().max()) > tol * unit:
                break
            done += 1
        while first + len(swept) < steps and len(swept) < done + window:
            swept.append(y)
            y = move(y, first + len(swept) - 1, answers[-1])
        for k in range(done):
            x = move(x, first + k, answers[k])
        first += done
        states = swept[done:]
    return x, passes, calls


@pytest.mark.parametrize("window", [1, 3, 6, 50])
@pytest.mark.parametrize("tol", [1e-6, 0.003, 0.03, 0.1, 0.3, 2.0])
def test_picard_written_out(tol: float, window: int) -> None:
    x, passes, calls = by_hand(18, window, tol)
    path = grid("lam", VP, 18, final="sigma_min")
    out, info = fewstep.sample(MODEL, "picard", grid=path, x=X, window=window, tol=tol, info=True)
    assert (info.passes, info.nfe, info.accepted) == (passes, calls, 18)
    torch.testing.assert_close(out, x, rtol=0.0, atol=1e-12)


def test_the_tolerance_decides() -> None:
    """Looser tolerances take strictly fewer passes here: were it ignored or scaled, the counts
    above would not tell."""
    passes = [by_hand(18, 6, tol)[1] for tol in (0.003, 0.03, 0.3)]
    assert passes == sorted(set(passes), reverse=True)
