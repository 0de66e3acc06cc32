"""Small, blurred and grey versions of images, against other libraries and by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from operator_table import draw
from PIL import Image
from problems import F64

from fewstep.checks import ArgumentError
from fewstep.guidance import Gaussian, operators
from fewstep.guidance.operators.kernels import gaussian_kernel, motion_kernel

Blur, SuperResolution, Colourisation = (
    operators.Blur,
    operators.SuperResolution,
    operators.Colourisation,
)
KERNEL = torch.rand(3, 5, generator=torch.Generator().manual_seed(5), dtype=F64) - 0.3


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_equals_torch_with_antialias(factor):
    x = draw(2, 3, 12, 24)
    y = SuperResolution(factor, "bicubic")(x)
    size = tuple(y.shape[-2:])
    theirs = {
        antialias: torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=antialias)
        for antialias in (True, False)
    }
    assert torch.allclose(y, theirs[True], atol=1e-12)
    assert not torch.allclose(y, theirs[False], atol=0.1)  # a = -3/4 without stretching


def test_bicubic_equals_pillow():
    x = draw(16, 24)
    y = SuperResolution(4, "bicubic")(x[None])[0]
    theirs = Image.fromarray(x.numpy().astype(np.float32)).resize((6, 4), Image.Resampling.BICUBIC)
    assert np.allclose(y.numpy(), np.asarray(theirs), atol=1e-6)


def test_average_equals_avg_pool():
    x = draw(2, 3, 6, 9)
    assert torch.allclose(SuperResolution(3)(x), torch.nn.functional.avg_pool2d(x, 3), atol=1e-14)


MODES = {"circular": "wrap", "zero": "constant", "reflect": "mirror"}


@pytest.mark.parametrize("boundary", MODES)
@pytest.mark.parametrize("kernel", [KERNEL, gaussian_kernel((0.5, 1.2), 5)])
def test_blur_equals_scipy(boundary, kernel):
    x = draw(2, 7, 9)
    y = Blur(kernel, boundary)(x)
    for one, made in zip(x, y, strict=True):
        theirs = scipy.ndimage.convolve(one.numpy(), kernel.numpy(), mode=MODES[boundary])
        assert np.allclose(made.numpy(), theirs, atol=1e-12)


def test_blur_is_the_flipped_conv2d_of_torch():
    x = draw(2, 1, 7, 9)
    weight = KERNEL.flip(0, 1)[None, None]
    theirs = torch.nn.functional.conv2d(x, weight, padding=(1, 2))
    assert torch.allclose(Blur(KERNEL, "zero")(x), theirs, atol=1e-12)


def test_a_kernel_of_even_size_is_centred_at_its_half():
    x, kernel = torch.zeros(1, 6, 6, dtype=F64), draw(2, 4)
    x[0, 3, 3] = 1.0
    for boundary in MODES:
        y = Blur(kernel, boundary)(x)[0]
        assert torch.allclose(y[2:4, 1:5], kernel, atol=1e-12)


def test_the_gaussian_kernel_is_one():
    kernel = gaussian_kernel((1.0, 2.0))
    assert kernel.shape == (13, 13) and float(kernel.sum()) == pytest.approx(1.0, abs=1e-14)
    assert float(kernel[7, 6] / kernel[6, 6]) == pytest.approx(np.exp(-0.5), abs=1e-12)
    assert float(kernel[6, 8] / kernel[6, 6]) == pytest.approx(np.exp(-0.5), abs=1e-12)


def spread(kernel):
    """The eigenvalues of the covariance of a kernel as a law of places, small one first."""
    n = len(kernel)
    place = torch.arange(n, dtype=F64) - n // 2
    at = torch.stack([place[:, None].expand(n, n), place[None].expand(n, n)]).flatten(1)
    away = at - (at * kernel.flatten()).sum(1, keepdim=True)
    return torch.linalg.eigvalsh((away * kernel.flatten()) @ away.T)


def test_the_motion_kernel_is_a_path():
    line, curve = motion_kernel(15, 0.0, seed=1), motion_kernel(15, 2.0, seed=1)
    for kernel in (line, curve):
        assert float(kernel.sum()) == pytest.approx(1.0, abs=1e-12) and bool((kernel >= 0.0).all())
        assert bool(kernel[[0, -1]].any()) or bool(kernel[:, [0, -1]].any())
    assert spread(line)[0] < 0.3 < 15 < spread(line)[1]  # a line: (length 14..20)^2 / 12
    assert spread(curve)[0] > 2.0 * spread(line)[0]
    assert torch.equal(curve, motion_kernel(15, 2.0, seed=1))
    assert not torch.equal(curve, motion_kernel(15, 2.0, seed=2))


def test_small_singular_values_are_cut():
    x, kernel = draw(1, 16, 16), gaussian_kernel(1.5)
    for cut, low, high in ((1e-12, 30.0, 1e9), (0.03, 1.0, 1.0 / 0.03)):
        op = Blur(kernel, cut=cut)
        y = op(x)
        noise = 1e-3 * draw(1, 16, 16, seed=1)
        gain = (op.pinverse(y + noise) - op.pinverse(y)).norm() / noise.norm()
        assert low < float(gain) < high


def test_grey_is_the_mean_and_coloured_by_the_weights():
    x = draw(2, 3, 4, 5)
    assert torch.allclose(Colourisation()(x), x.mean(1, keepdim=True), atol=1e-15)
    op = Colourisation((0.299, 0.587, 0.114))
    grey = op(x)
    assert grey.shape == (2, 1, 4, 5) and torch.allclose(op(op.pinverse(grey)), grey, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SuperResolution(1), "factor=1"),
        (lambda: SuperResolution(2.0), "factor=2.0"),
        (lambda: SuperResolution(2, "bicubik"), "bicubic"),
        (lambda: SuperResolution(4)(draw(1, 1, 8, 6)), "does not divide the size 8 x 6"),
        (lambda: Gaussian(SuperResolution(3), draw(1, 2, 2)).samples((1, 8, 8)), "does not divide"),
        (lambda: SuperResolution(2)(draw(1, 8)), "takes images"),
        (lambda: Blur(torch.zeros(3, 3)), "0 everywhere"),
        (lambda: Blur(torch.ones(3)), "kernel has shape"),
        (lambda: Blur(torch.full((3, 3), torch.nan)), "finite"),
        (lambda: Blur(torch.ones(3, 3), "reflekt"), "reflect"),
        (lambda: Blur(torch.ones(3, 3), cut=-0.1), "cut"),
        (lambda: Blur(torch.ones(9, 9), "reflect")(draw(1, 4, 9)), "larger than 4 x 9"),
        (lambda: Blur.gaussian(0.0), "std"),
        (lambda: Blur.gaussian((1.0, 2.0, 3.0)), "one number or two"),
        (lambda: Blur.gaussian(1.0, 4), "must be odd"),
        (lambda: Blur.motion(1), "size=1"),
        (lambda: Blur.motion(5, -1.0), "intensity"),
        (lambda: Blur.motion(5, boundary="zero").pinverse(draw(1, 5, 5)), "no pseudo-inverse"),
        (lambda: Colourisation(0), "weights=0"),
        (lambda: Colourisation([]), "must be numbers"),
        (lambda: Colourisation([0.0, 0.0]), "not all be 0"),
        (lambda: Colourisation()(draw(1, 4, 2, 2)), "3 channels first"),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
