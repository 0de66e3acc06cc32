"""Frequency-decoupled guidance, and its pyramid."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from methods import images, pair
from problems import F64, PATHS, Recorder

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, FDG
from fewstep.guidance.combinations.pyramid import collapsed, down, pyramid, up
from fewstep.models import convert_prediction
from fewstep.schedules import VPLinear

LABELS = torch.tensor([0, 1, 0])
SIZES = [(8, 8), (7, 5), (6, 9), (1, 1), (2, 3), (1, 17), (28, 28)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [1, 2, 3, 5])
def test_a_pyramid_is_the_image_again(size, levels):
    image = torch.randn(2, 3, *size, dtype=F64)
    made = pyramid(image, levels)
    assert len(made) == levels and made[0].shape == image.shape
    for finer, coarser in pairwise(made):
        halves = [(n + 1) // 2 for n in finer.shape[-2:]]
        assert list(coarser.shape) == [2, 3, *halves]
    assert torch.allclose(collapsed(made), image, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [(16, 16), (9, 7)])
def test_a_constant_is_in_the_coarsest_level_and_a_checkerboard_in_the_finest(size):
    constant = torch.full((1, 1, *size), 0.7, dtype=F64)
    *fine, last = pyramid(constant, 3)
    assert all(float(level.abs().max()) < 1e-15 for level in fine)
    assert torch.allclose(last, torch.full_like(last, 0.7), rtol=1e-14)
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    board = (1.0 - 2.0 * ((rows + columns) % 2)).to(F64)[None, None]
    fine, coarse = pyramid(board, 2)
    assert torch.allclose(fine, board, rtol=0, atol=1e-15) and float(coarse.abs().max()) < 1e-15


def test_a_ramp_keeps_its_slope_far_from_the_borders():
    ramp = torch.arange(32, dtype=F64).expand(1, 1, 32, 32)
    inside = slice(4, -4)
    smaller = down(ramp)
    wanted = 0.5 + 2.0 * torch.arange(16, dtype=F64)
    assert torch.allclose(smaller[0, 0, 5, inside], wanted[inside], rtol=1e-14)
    larger = up(smaller, (32, 32))
    middle = slice(10, -10)
    assert torch.allclose(larger[0, 0, 5, middle], ramp[0, 0, 5, middle], rtol=1e-13)


@pytest.mark.parametrize("scales", [(3.0,), (3.0, 3.0), (3.0,) * 4])
@pytest.mark.parametrize("name", PATHS)
def test_equal_scales_are_classifier_free_guidance(name, scales):
    den = images(PATHS[name])
    x = torch.randn(3, *den.shape, dtype=F64)
    plain = CFG(den, 3.0)(x, 0.4, LABELS)
    assert torch.allclose(FDG(den, scales)(x, 0.4, LABELS), plain, rtol=1e-12, atol=1e-12)
    given = {"parallel_weights": (1.0,) * len(scales), "on": "prediction"}
    assert torch.allclose(FDG(den, scales, **given)(x, 0.4, LABELS), plain, rtol=1e-12, atol=1e-12)


def mixed(cond, uncond, scales, **given):
    return FDG(images(VPLinear()), scales, **given).mix([uncond, cond], cond, [0.5])


def test_each_level_has_its_scale():
    cond, uncond = pair(3, 2, 8, 8)
    made = pyramid(mixed(cond, uncond, (5.0, 2.0, 1.0)), 3)
    c, u = pyramid(cond, 3), pyramid(uncond, 3)
    wanted = collapsed([b + w * (a - b) for w, a, b in zip((5.0, 2.0, 1.0), c, u, strict=True)])
    assert torch.allclose(collapsed(made), wanted, rtol=1e-12, atol=1e-12)


def test_parallel_weights():
    cond, uncond = pair(3, 2, 8, 8)
    found = mixed(cond, uncond, (5.0, 2.0), parallel_weights=(0.0, 0.5))
    levels = []
    for w, share, a, b in zip(
        (5.0, 2.0), (0.0, 0.5), pyramid(cond, 2), pyramid(uncond, 2), strict=True
    ):
        d = a - b
        along = ((d * a).flatten(1).sum(1) / a.square().flatten(1).sum(1))[:, None, None, None] * a
        levels.append(b + w * (d - along + share * along))
    assert torch.allclose(found, collapsed(levels), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PATHS)
def test_without_parallel_weights_every_kind_gives_the_same(name):
    path, x = PATHS[name], torch.randn(3, 3, 5, 4, dtype=F64)
    found = []
    for kind in ("x0", "eps", "v"):
        den = FDG(images(path, kind), (6.0, 2.0))
        assert den.prediction == kind
        found.append(convert_prediction(den(x, 0.4, LABELS), x, 0.4, kind, "x0", path))
    assert torch.allclose(found[0], found[1], rtol=1e-10, atol=1e-10)
    assert torch.allclose(found[0], found[2], rtol=1e-10, atol=1e-10)


def test_scales_of_every_form():
    path = VPLinear()
    den = images(path)
    x = torch.randn(3, *den.shape, dtype=F64)
    rows = torch.tensor([2.0, 3.0, 4.0], dtype=F64)
    made = FDG(den, (rows, lambda rho: 1.0 + rho, 2.0), interval=(0.1, 3.0))
    rho = float(path.rho(0.4))
    for i in range(3):
        one = FDG(den, (float(rows[i]), 1.0 + rho, 2.0))
        own = one(x[i : i + 1], 0.4, LABELS[i : i + 1])
        assert torch.allclose(made(x, 0.4, LABELS)[i : i + 1], own, rtol=1e-13, atol=1e-13)
    chosen = made.select(torch.tensor([2, 0]))
    assert chosen.batch == 2 and chosen.scales[0].tensor.tolist() == [4.0, 2.0]
    assert made.batch == 3 and FDG(den, (2.0, rows)).batch == 3
    # outside of the interval, and with all scales 1: the conditional prediction from one call
    network = Recorder(path, null=0.0)
    for scales, interval in (((3.0, 2.0), (0.3, 0.3)), ((1.0, 1.0), None)):
        single = FDG(network, scales, interval=interval)
        image, cond = torch.randn(2, 6, 5, dtype=F64), torch.ones(2, dtype=F64)
        network.calls.clear()
        assert torch.equal(single(image, 0.4, cond), torch.tanh(image + 0.3))
        assert network.rows == 2 and single.network_rows(0.4) == 1
    assert FDG(network, (1.0, 2.0)).network_rows(0.4) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scales": 3.0}, "scales=3.0: must be a list"),
        ({"scales": ()}, "must be a list"),
        ({"scales": (3.0, float("nan"))}, r"scales\[1\]=nan"),
        ({"scales": (torch.ones(2), torch.ones(3))}, r"scales\[1\] has 3 values"),
        ({"scales": (3.0, 2.0), "parallel_weights": (1.0,)}, "a list of 2 numbers"),
        ({"scales": (3.0,), "parallel_weights": (float("inf"),)}, r"parallel_weights\[0\]=inf"),
        ({"scales": (3.0,), "on": "x0"}, "without parallel_weights="),
        ({"scales": (3.0,), "on": "x1", "parallel_weights": (0.5,)}, "x1"),
    ],
)
def test_wrong_arguments_are_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        FDG(Recorder(VPLinear()), **given)


def test_samples_without_two_axes_are_refused_before_the_first_call():
    network = Recorder(VPLinear(), null=0.0)
    given = {"steps": 2, "grid": "lam", "n": 2, "cond": torch.ones(2)}
    with pytest.raises(ArgumentError, match=r"two spatial axes at the end.*\(4,\)"):
        fewstep.sample(FDG(network, (3.0, 2.0)), "ddim", shape=(4,), **given)
    network.shape = (4,)
    with pytest.raises(ArgumentError, match="two spatial axes"):
        FDG(network, (3.0, 2.0))
    assert not network.calls


def test_the_text_names_its_settings():
    den = FDG(images(VPLinear()), (3.0, 2.0), parallel_weights=(0.5, 1.0), interval=(0.1, 2.0))
    for part in ("scales[0]=3.0", "scales[1]=2.0", "(0.5, 1.0)", "interval=(0.1, 2.0)", "on='x0'"):
        assert part in repr(den)
