"""The fit of ``fewstep.tune`` on problems whose solution is known."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fewstep.engine.tuning.least_squares import Family, _Linear, _Step, fit
from fewstep.engine.tuning.losses import sample_errors, score

F64 = torch.float64


class Ends:
    """Stands for a model: the 'plan' is the point, its ends a function of the point."""

    def __init__(self, ends, wanted):
        self.ends, self.derivatives_made = ends, 0
        self.train = SimpleNamespace(end=wanted)
        self.seconds = math.inf

    def time_for(self, seconds):
        return seconds < self.seconds

    def end(self, point, given):
        return self.ends(torch.as_tensor(point))

    def held_score(self, point):
        return score(sample_errors(self.end(point, None), self.train.end))

    def linearised(self, point):
        self.derivatives_made += 1
        at = torch.as_tensor(point)
        slopes = torch.func.jacfwd(self.ends)(at)
        return self.ends(at), slopes.movedim(-1, 0)


def family(problem):
    return Family(
        plan=lambda point: point,
        linearised=problem.linearised,
        moved=lambda point, step: point + step,
    )


def test_a_linear_problem_is_solved_with_one_set_of_derivatives():
    g = torch.Generator().manual_seed(0)
    slopes = torch.randn(3, 20, 4, generator=g, dtype=F64)
    truth = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
    linear = Ends(
        lambda p: torch.einsum("p,pbd->bd", p, slopes), torch.einsum("p,pbd->bd", truth, slopes)
    )
    found = fit(family(linear), np.zeros(3), linear)
    assert found.point == pytest.approx(truth.numpy(), abs=1e-9)
    assert linear.derivatives_made <= 2  # the second where rounding is all that is left


def test_a_curved_problem_needs_fewer_derivatives_than_steps():
    at = torch.linspace(0.1, 2.0, 20, dtype=F64)[:, None]

    def ends(p):
        return p[0] * torch.exp(-p[1] * at) + p[2] * torch.sin(at)

    truth = torch.tensor([2.0, 0.7, -0.3], dtype=F64)
    curved = Ends(ends, ends(truth))
    found = fit(family(curved), np.array([1.0, 1.5, 0.5]), curved)
    assert found.point == pytest.approx(truth.numpy(), abs=1e-8)
    assert 1 < curved.derivatives_made < found.steps


def test_outliers_do_not_decide():
    at = torch.linspace(-1.0, 1.0, 21, dtype=F64)[:, None]
    wanted = 3.0 * at
    wanted[::5] += 40.0  # samples that end at another mode
    line = Ends(lambda p: p[0] * at + p[1], wanted)
    found = fit(family(line), np.zeros(2), line)
    assert found.point[0] == pytest.approx(3.0, abs=0.02)
    assert found.point[1] == pytest.approx(0.0, abs=0.02)


def test_moved_derivatives_explain_the_step_and_change_nothing_across_it():
    g = torch.Generator().manual_seed(1)
    old = _Linear(
        torch.randn(5, 2, generator=g, dtype=F64), torch.randn(3, 5, 2, generator=g, dtype=F64)
    )
    change, end = np.array([0.3, -0.1, 0.2]), torch.randn(5, 2, generator=g, dtype=F64)
    new = old.moved(_Step(None, end, change, 1.0, True))
    assert new.end is end
    step = torch.from_numpy(change)
    assert torch.allclose(torch.tensordot(step, new.slopes, 1), end - old.end, atol=1e-12)
    across = torch.tensor([0.1, 0.3, 0.0], dtype=F64)  # at right angles to the step
    assert torch.allclose(
        torch.tensordot(across, new.slopes, 1), torch.tensordot(across, old.slopes, 1), atol=1e-12
    )


def test_a_step_that_would_end_after_the_budget_is_not_begun():
    at = torch.linspace(0.1, 2.0, 20, dtype=F64)[:, None]
    curved = Ends(lambda p: torch.exp(-p[0] * at), torch.exp(-0.7 * at))
    curved.seconds = 1e-9  # no step is so short
    found = fit(family(curved), np.array([1.5]), curved)
    assert found.steps == 1
