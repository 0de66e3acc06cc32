"""Tangential damping, against a singular value decomposition."""

from __future__ import annotations

import pytest
import torch
from methods import images, pair
from problems import F64, PATHS, Recorder

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, TCFG
from fewstep.guidance.combinations.tcfg import damped
from fewstep.models import convert_prediction
from fewstep.schedules import DiscreteVP, VPLinear

LABELS = torch.tensor([0, 1, 0])


def by_svd(cond, uncond):
    rows = torch.stack([cond.flatten(1), uncond.flatten(1)], 1)
    first = torch.linalg.svd(rows, full_matrices=False)[2][:, 0]
    return ((uncond.flatten(1) * first).sum(1, keepdim=True) * first).reshape(cond.shape)


@pytest.mark.parametrize("case", ["near", "far", "opposite", "small", "large", "orthogonal"])
def test_damped_is_the_projection_on_the_first_singular_vector(case):
    cond, uncond = pair(5, 3, 5, 4)
    if case == "near":
        uncond = cond + 1e-3 * uncond
    elif case == "opposite":
        uncond = -uncond
    elif case == "small":
        uncond = 1e-3 * uncond
    elif case == "large":
        uncond = 1e3 * uncond
    elif case == "orthogonal":
        along = (cond * uncond).flatten(1).sum(1) / cond.square().flatten(1).sum(1)
        uncond = 0.4 * (uncond - along[:, None, None, None] * cond)
    wanted = by_svd(cond, uncond)
    found = damped(cond, uncond)
    size = uncond.flatten(1).norm(dim=1).max()
    assert float((found - wanted).abs().max() / size) < 1e-12
    # a projection is orthogonal to what it drops, and drops no more than there is
    dropped = uncond - found
    assert float((dropped * found).flatten(1).sum(1).abs().max() / size**2) < 1e-12
    assert bool((found.flatten(1).norm(dim=1) <= uncond.flatten(1).norm(dim=1)).all())


def test_predictions_along_each_other_are_not_damped():
    _, uncond = pair(3, 4, 4)
    for k in (-2.0, 0.5, 1.0):
        assert torch.allclose(damped(k * uncond, uncond), uncond, rtol=1e-14, atol=1e-14)
    zero = torch.zeros_like(uncond)
    assert torch.equal(damped(zero, zero), zero) and torch.equal(damped(uncond, zero), zero)
    assert torch.equal(damped(zero, uncond), uncond)
    # equal singular values: no direction comes first
    one, other = torch.eye(2, dtype=F64)[:1], torch.eye(2, dtype=F64)[1:]
    assert torch.equal(damped(one, other), other)


@pytest.mark.parametrize("on", [None, "x0", "velocity", "prediction"])
@pytest.mark.parametrize("name", PATHS)
def test_the_combination_in_its_kind(name, on):
    path, den = PATHS[name], images(PATHS[name], "x0")
    made = TCFG(den, 3.0, on=on)
    kind = made.prediction
    default = "velocity" if name == "flow" else "eps"
    assert kind == {None: default, "prediction": "x0"}.get(on, on)
    x = torch.randn(3, *den.shape, dtype=F64)
    cond, uncond = (
        convert_prediction(den(x, 0.4, label), x, 0.4, "x0", kind, path)
        for label in (LABELS, torch.full((3,), -1))
    )
    kept = by_svd(cond, uncond)
    wanted = kept + 3.0 * (cond - kept)
    assert torch.allclose(made(x, 0.4, LABELS), wanted, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(wanted, uncond + 3.0 * (cond - uncond), rtol=0, atol=1e-6)


def test_the_default_kind_at_alpha_0_names_the_remedy():
    path = DiscreteVP.from_alphas_cumprod(torch.linspace(0.999, 0.0, 20, dtype=F64))
    network = Recorder(path)
    network.prediction = "v"
    given = {"steps": 3, "grid": "trailing", "n": 2, "shape": (4,), "cond": torch.ones(2)}
    for den in (TCFG(network, 3.0), CFG(network, 3.0, rescale=0.5, on="eps")):
        with pytest.raises(ArgumentError, match=r"kind eps, which say nothing about x0 .*on='v'"):
            fewstep.sample(den, "ddim", **given)
    assert not network.calls
    assert bool(fewstep.sample(TCFG(network, 3.0, on="v"), "ddim", **given).isfinite().all())


def test_wrong_arguments_are_refused():
    with pytest.raises(ArgumentError, match="x1"):
        TCFG(Recorder(VPLinear()), 2.0, on="x1")
    assert "on='eps'" in repr(TCFG(Recorder(VPLinear()), 2.0))
