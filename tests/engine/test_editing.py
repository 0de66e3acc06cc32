"""FlowEdit: closed forms on Gaussians, the loop of its authors, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fewstep.checks import ArgumentError
from fewstep.engine import flow_edit
from fewstep.engine.arguments import StateError
from fewstep.fused.noise.seeded import GUIDANCE_STREAM, SeededNoise
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture, wrap
from fewstep.schedules import Flow, VPLinear

F64 = torch.float64


def two_classes(prediction: str = "velocity") -> GaussianMixture:
    """Classes N(m, s^2 I) of one spread; the condition is the class."""
    return GaussianMixture([[1.0, 0.0], [-2.0, 3.0]], 0.6, [0.5, 0.5], Flow(), prediction)


def labels(k: int, n: int = 5) -> Tensor:
    return torch.full((n,), k, dtype=torch.long)


def data() -> Tensor:
    return torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("prediction", ["velocity", "v", "x0"])
@pytest.mark.parametrize("steps", [1, 3, 28])
def test_gaussian_classes_of_one_spread_differ_by_the_shift_of_their_means(steps, prediction):
    """There ``d/dt (z - x0) = g(t) (z - x0 - (1 - t) shift) - shift`` for every noise, which the
    straight line (1 - t) shift solves, and so does Euler with any steps."""
    den, x0 = two_classes(prediction), data()
    found = flow_edit(den, x0, labels(0), labels(1), steps=steps)
    torch.testing.assert_close(found - x0, torch.tensor([-3.0, 3.0], dtype=F64).expand(5, 2))


def test_the_same_condition_changes_nothing():
    den, x0 = two_classes(), data()
    assert torch.equal(flow_edit(den, x0, labels(1), labels(1), steps=4, draws=3), x0)


def test_a_later_start_changes_less():
    den, x0 = two_classes(), data()
    changes = [
        float((flow_edit(den, x0, labels(0), labels(1), steps=20, start=s) - x0).norm())
        for s in (1.0, 0.7, 0.3)
    ]
    assert changes[0] > changes[1] > changes[2] > 0.0


def network(x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    return torch.tanh(x + cond) * (1.0 + t.reshape(-1)[:1].to(x)) - 0.3 * x * cond


def test_it_is_the_loop_of_its_authors():
    """fallenshock/FlowEdit, FlowEditSD3 with n_min = 0: the noise of a step is shared by both."""
    den, times, draws = wrap(network, Flow(), "velocity", shape=(2,)), [0.9, 0.7, 0.4, 0.1, 0.0], 3
    x0, a, b = data(), torch.full((5, 2), 0.2, dtype=F64), torch.full((5, 2), -0.9, dtype=F64)
    noise = SeededNoise((7, 8, 9, 10, 11), GUIDANCE_STREAM)
    z = x0.clone()
    for i, (t, s) in enumerate(pairwise(times)):
        change = torch.zeros_like(z)
        for k in range(draws):
            x = (1.0 - t) * x0 + t * noise(i * draws + k, x0)
            at = torch.tensor(t, dtype=F64)
            change += (network(z + x - x0, at, b) - network(x, at, a)) / draws
        z = z + (s - t) * change
    seen: list[tuple[int, int]] = []
    found = flow_edit(
        den, x0, a, b, times=times, draws=draws, seed=7, progress=lambda *n: seen.append(n)
    )
    torch.testing.assert_close(found, z, rtol=1e-12, atol=1e-12)
    assert seen[-1] == (24, 24)


def test_samples_do_not_depend_on_the_batch_and_models_may_differ():
    den, x0 = two_classes(), data()
    given = {"steps": 5, "draws": 2}
    whole = flow_edit(den, x0, labels(0), labels(1), seeds=[3, 1, 4, 5, 9], **given)
    part = flow_edit(den, x0[2:3], labels(0, 1), labels(1, 1), seeds=[4], **given)
    assert torch.equal(part, whole[2:3])
    strong = CFG(den, 2.0)
    more = flow_edit(den, x0, labels(0), labels(1), target_model=strong, seed=3, **given)
    assert not torch.allclose(more, flow_edit(den, x0, labels(0), labels(1), seed=3, **given))


def test_refused():
    den, x0 = two_classes(), data()
    vp = GaussianMixture([[0.0, 0.0]], 0.6, [1.0], VPLinear())
    for wrong, error, message in (
        (lambda: flow_edit(vp, x0, None, None), ArgumentError, "needs models on one Flow"),
        (
            lambda: flow_edit(den, x0, None, None, target_model=vp),
            ArgumentError,
            "needs models on one Flow",
        ),
        (lambda: flow_edit(den, x0, labels(0, 4), labels(1)), StateError, "the batch is 5"),
        (lambda: flow_edit(den, x0, labels(0), labels(1), draws=0), ArgumentError, "draws"),
        (lambda: flow_edit(den, x0, labels(0), labels(1), seeds=[1]), StateError, "1 seeds"),
        (lambda: flow_edit(den, x0[:, :1], labels(0), labels(1)), StateError, "shape"),
    ):
        with pytest.raises(error, match=message):
            wrong()
