"""FlowAlign: closed forms on Gaussians, its limits, the loop of its authors, and what is refused."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from test_editing import F64, data, labels, network, two_classes
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine import flow_align, flow_edit
from fewstep.engine.arguments import StateError
from fewstep.eval.solver.counting import Counting
from fewstep.fused.noise.seeded import GUIDANCE_STREAM, SeededNoise
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture, wrap
from fewstep.schedules import Flow, VPLinear

SHIFT = torch.tensor([-3.0, 3.0], dtype=F64)  # between the means of the classes, of spread 0.6


def shift_factor(times: list[float], scale: float, align: float) -> float:
    """The result minus x0 by the shift of the means, for classes N(m, s^2) of one spread. There u is
    ``g (x - (1 - t) m) - m``, and ``z - x0 = ((1 - t) w + e) shift`` with, for every noise,

        e <- (1 + (t' - t) g - c K) e - c w,    K = 1 - t g,  the derivative of the data prediction
    """
    e = 0.0
    for t, then in pairwise(times):
        g = (t - (1.0 - t) * 0.36) / ((1.0 - t) ** 2 * 0.36 + t * t)
        e = (1.0 + (then - t) * g - align * (1.0 - t * g)) * e - align * scale
    return scale + e


@pytest.mark.parametrize("prediction", ["velocity", "v", "x0"])
@pytest.mark.parametrize(("scale", "align"), [(1.0, 0.1), (2.5, 0.0), (13.5, 0.01), (0.3, 1.0)])
@pytest.mark.parametrize("steps", [1, 3, 28])
def test_gaussian_classes_of_one_spread(steps, scale, align, prediction):
    den, x0 = two_classes(prediction), data()
    given = {"scale": scale, "align": align, "steps": steps, "draws": 2}
    found = flow_align(den, x0, labels(0), labels(1), **given)
    factor = shift_factor([1.0 - i / steps for i in range(steps + 1)], scale, align)
    if steps == 1:
        assert factor == pytest.approx(scale * (1.0 - align))
    torch.testing.assert_close(found - x0, factor * SHIFT.expand(5, 2), rtol=1e-9, atol=1e-9)


def test_the_same_condition_returns_the_data_exactly():
    for dtype in (F64, torch.float32):
        x0 = data().to(dtype)
        assert torch.equal(flow_align(two_classes(), x0, labels(1), labels(1), draws=3), x0)
    den = wrap(network, Flow(), "velocity", shape=(2,))
    cond, x0 = torch.full((5, 2), 0.2, dtype=F64), data()
    assert torch.equal(flow_align(den, x0, cond, cond, steps=4), x0)


def test_without_its_terms_it_is_flow_edit():
    den = wrap(network, Flow(), "velocity", shape=(2,))
    x0, a, b = data(), torch.full((5, 2), 0.2, dtype=F64), torch.full((5, 2), -0.9, dtype=F64)
    given = {"steps": 9, "draws": 2, "seeds": [3, 1, 4, 1, 5], "start": 0.8}
    wanted = flow_edit(den, x0, a, b, **given)
    assert torch.equal(flow_align(den, x0, a, b, scale=1.0, align=0.0, **given), wanted)
    assert not torch.allclose(flow_align(den, x0, a, b, scale=1.0, **given), wanted)
    # with the scale alone it is FlowEdit to a model guided from the source condition
    guided = CFG(den, 3.0, a)
    wanted = flow_edit(den, x0, a, b, target_model=guided, **given)
    found = flow_align(den, x0, a, b, scale=3.0, align=0.0, **given)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


def test_a_stronger_term_stays_nearer_to_the_data():
    den, x0 = two_classes(), data()
    changes = [
        float((flow_align(den, x0, labels(0), labels(1), scale=2.0, align=c) - x0).norm())
        for c in (0.0, 0.01, 0.1, 1.0)
    ]
    assert changes[0] > changes[1] > changes[2] > changes[3] > 0.0


def test_it_is_the_loop_of_its_authors():
    """FlowAlign/FlowAlign, sd3_edit.py: both conditions at y_t, and one noise for both sides."""
    den, times, w, c = (
        wrap(network, Flow(), "velocity", shape=(2,)),
        [0.9, 0.7, 0.4, 0.0],
        4.0,
        0.05,
    )
    x0, a, b = data(), torch.full((5, 2), 0.2, dtype=F64), torch.full((5, 2), -0.9, dtype=F64)
    noise = SeededNoise((7, 8, 9, 10, 11), GUIDANCE_STREAM)
    z = x0.clone()
    for i, (s, then) in enumerate(pairwise(times)):
        q = (1.0 - s) * x0 + s * noise(i, x0)
        p, at = z + q - x0, torch.tensor(s, dtype=F64)
        vp = network(p, at, a) + w * (network(p, at, b) - network(p, at, a))
        vq = network(q, at, a)
        z = z + (then - s) * (vp - vq) + c * (q - s * vq - p + s * vp)
    found = flow_align(den, x0, a, b, times=times, scale=w, align=c, seed=7)
    torch.testing.assert_close(found, z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("scale", "calls"), [(13.5, 3), (1.0, 2)])
def test_calls_are_as_many_as_announced(scale, calls):
    den, seen = Counting(two_classes()), []
    given = {"steps": 7, "draws": 2, "scale": scale, "progress": lambda *n: seen.append(n)}
    flow_align(den, data(), labels(0), labels(1), **given)
    assert den.calls == calls * 2 * 7
    assert seen == [(k + 1, den.calls) for k in range(den.calls)]


def test_samples_do_not_depend_on_the_batch():
    den, x0 = two_classes(), data()
    whole = flow_align(den, x0, labels(0), labels(1), seeds=[3, 1, 4, 5, 9], steps=5)
    part = flow_align(den, x0[2:3], labels(0, 1), labels(1, 1), seeds=[4], steps=5)
    assert torch.equal(part, whole[2:3])


def test_refused():
    den, x0 = Counting(two_classes()), data()
    vp = GaussianMixture([[0.0, 0.0]], 0.6, [1.0], VPLinear())

    def edit(model: fewstep.models.Denoiser = den, x: Tensor = x0, **given: object) -> object:
        return lambda: flow_align(model, x, labels(0, 5), labels(1), **given)

    for wrong, error, message in (
        (edit(vp), ArgumentError, "needs a model on a Flow"),
        (edit(scale=math.nan), ArgumentError, "scale=nan must be a finite number"),
        (edit(align=1.5), ArgumentError, "align=1.5 must be a number from 0.0 to 1.0"),
        (edit(draws=0), ArgumentError, "draws"),
        (edit(x=x0[:4]), StateError, "the batch is 4"),
        (edit(seeds=[1]), StateError, "1 seeds"),
        (edit(x=x0[:, :1]), StateError, "shape"),
    ):
        with pytest.raises(error, match=message):
            wrong()
    assert den.calls == 0
