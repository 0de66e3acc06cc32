"""MAMBO-G: a guidance scale that falls where the update is large."""

from __future__ import annotations

import math

import pytest
import torch
from methods import images, pair
from problems import F64, PATHS, Recorder

from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, MAMBO
from fewstep.models import convert_prediction
from fewstep.schedules import Flow, VPLinear

LABELS = torch.tensor([0, 1, 0])


def mixed(cond, uncond, alpha):
    return MAMBO(images(Flow()), 10.0, alpha=alpha).mix([uncond, cond], cond, [0.5])


def test_the_scale_falls_with_the_ratio_of_the_norms():
    _, uncond = pair(4, 3, 5, 4)
    d = torch.randn_like(uncond)
    d = d / d.flatten(1).norm(dim=1)[:, None, None, None]
    size = uncond.flatten(1).norm(dim=1)[:, None, None, None]
    for alpha in (0.5, 8.0):
        for ratio in (1e-3, 0.1, 1.0):
            update = ratio * size * d
            w = 1.0 + 9.0 * math.exp(-alpha * ratio)
            found = mixed(uncond + update, uncond, alpha)
            assert torch.allclose(found, uncond + w * update, rtol=1e-12, atol=1e-12)
    # a large update: the conditional prediction
    assert torch.allclose(mixed(uncond + 100.0 * size * d, uncond, 8.0), uncond + 100.0 * size * d)


@pytest.mark.parametrize("name", PATHS)
def test_alpha_0_is_classifier_free_guidance(name):
    den = images(PATHS[name])
    x = torch.randn(3, *den.shape, dtype=F64)
    made = MAMBO(den, 3.0, alpha=0.0)
    value = convert_prediction(
        made(x, 0.4, LABELS), x, 0.4, "velocity", den.prediction, PATHS[name]
    )
    assert torch.allclose(value, CFG(den, 3.0)(x, 0.4, LABELS), rtol=1e-11, atol=1e-11)


def test_predictions_of_norm_0():
    cond, _ = pair(3, 4)
    zero = torch.zeros_like(cond)
    assert torch.equal(mixed(cond, zero, 8.0), cond)  # an infinite ratio
    assert torch.equal(mixed(zero, zero, 8.0), zero)
    assert torch.allclose(mixed(cond, zero, 0.0), 10.0 * cond, rtol=1e-14)


def test_wrong_arguments_are_refused():
    for given, message in (({"alpha": -1.0}, "alpha=-1.0"), ({"on": "x1"}, "x1")):
        with pytest.raises(ArgumentError, match=message):
            MAMBO(Recorder(VPLinear()), 2.0, **given)
    assert "alpha=8.0" in repr(MAMBO(Recorder(VPLinear()), 2.0))
