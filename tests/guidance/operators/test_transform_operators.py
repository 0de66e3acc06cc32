"""Fourier coefficients, random measurements and line integrals, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from operator_table import COILS, FREQUENCIES, draw
from problems import F64

from fewstep.checks import ArgumentError
from fewstep.guidance import Gaussian, operators
from fewstep.guidance.operators.compressed_sensing import hadamard

Fourier, CompressedSensing, Radon = operators.Fourier, operators.CompressedSensing, operators.Radon
ONES = torch.ones(4, 6)


def dft(n):
    """The unitary Fourier matrix with its origins in the middle."""
    k = np.arange(n) - n // 2
    return torch.from_numpy(np.exp(-2j * np.pi * np.outer(k, k) / n) / math.sqrt(n))


@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_coefficients_are_those_of_the_dft(size):
    z = torch.complex(draw(2, *size), draw(2, *size, seed=1))
    exact = dft(size[0]) @ z @ dft(size[1]).T
    y = Fourier(torch.ones(size))(torch.stack([z.real, z.imag], 1))
    assert torch.allclose(torch.complex(y[:, 0], y[:, 1]), exact, atol=1e-12)
    y = Fourier(torch.ones(size), real=True)(z.real)
    exact = dft(size[0]) @ z.real.to(exact) @ dft(size[1]).T
    assert torch.allclose(torch.complex(y[:, 0], y[:, 1]), exact, atol=1e-12)


def test_coils_weigh_the_image():
    x = draw(2, 2, 4, 6)
    y = Fourier(FREQUENCIES, COILS)(x)
    assert y.shape == (2, 2, 3, 4, 6)
    for k, coil in enumerate(COILS):
        z = torch.complex(x[:, 0], x[:, 1]) * coil
        one = Fourier(FREQUENCIES)(torch.stack([z.real, z.imag], 1))
        assert torch.allclose(y[:, :, k], one, atol=1e-12)


def test_lines_are_columns_with_a_middle():
    mask = Fourier.lines((16, 40), acceleration=4.0, centre=0.1, seed=3).mask
    assert bool((mask == mask[:1]).all()) and int(mask[0].sum()) == 10
    assert bool(mask[0, 18:22].all())
    other = Fourier.lines((16, 40), acceleration=4.0, centre=0.1, seed=4).mask
    assert not torch.equal(mask, other)
    assert bool(Fourier.lines((4, 6), 1.0).mask.all())


def test_fully_sampled_images_come_back():
    x = draw(2, 2, 4, 6)
    op = Fourier(ONES)
    assert torch.allclose(op.pinverse(op(x)), x, atol=1e-12)
    half = torch.zeros(5, 5)
    half[:, 2:] = 1.0  # of real images the other half is known too
    op, x = Fourier(half, real=True), draw(2, 5, 5)
    assert torch.allclose(op.pinverse(op(x)), x, atol=1e-12)


def test_hadamard_equals_scipy():
    x = draw(3, 16)
    exact = x @ torch.from_numpy(scipy.linalg.hadamard(16).astype(float)) / 4.0
    assert torch.allclose(hadamard(x), exact, atol=1e-13)


def test_random_measurements_are_those_of_the_seed():
    x = draw(2, 3, 8, 8)
    for kind in ("hadamard", "gaussian"):
        first, again, other = (CompressedSensing((3, 8, 8), 20, kind, seed=s) for s in (1, 1, 2))
        assert torch.equal(first(x), again(x)) and not torch.allclose(first(x), other(x))
        assert first(x).shape == (2, 20)
    assert CompressedSensing((3, 8, 8), 20).block == 64
    # |A x|^2 is |x|^2 on average, for the Gaussian matrix
    sizes = [
        float(CompressedSensing((64,), 200, "gaussian", s)(x[0, 0].reshape(1, 64)).square().sum())
        for s in range(20)
    ]
    assert np.mean(sizes) == pytest.approx(float(x[0, 0].square().sum()), rel=0.1)


def test_lengths_are_those_of_points_on_the_lines():
    op, n = Radon(6, (0.0, 0.4, math.pi / 2, 2.0, 3.0)), 6
    image, t = draw(1, n, n)[0], (torch.arange(200_000, dtype=F64) + 0.5) / 100_000 - 1.0
    y = op(image[None])[0]
    for i, angle in enumerate(op.angles):
        for j in range(op.detectors):
            s = (j - 0.5 * (op.detectors - 1)) / n
            u = s * math.cos(angle) - t * math.sin(angle)
            v = s * math.sin(angle) + t * math.cos(angle)
            column, row = ((w + 0.5) * n for w in (u, v))
            inside = (column >= 0) & (column < n) & (row >= 0) & (row < n)
            values = image[row[inside].long(), column[inside].long()]
            assert float(y[i, j]) == pytest.approx(float(values.sum()) / 100_000, abs=2e-4)


def test_right_angles_add_up_columns_and_rows():
    x = draw(2, 1, 8, 8)
    y = Radon(8, (0.0, math.pi / 2), 8)(x)
    assert y.shape == (2, 1, 2, 8)
    assert torch.allclose(y[:, :, 0], x.sum(-2) / 8.0, atol=1e-12)
    assert torch.allclose(y[:, :, 1], x.sum(-1) / 8.0, atol=1e-12)


def test_every_view_holds_the_mass():
    place = (torch.arange(32, dtype=F64) + 0.5) / 32 - 0.5
    disc = ((place[:, None] ** 2 + place**2) < 0.3**2).double()
    y = Radon(32, 7)(disc[None])[0]
    assert torch.allclose(y.sum(1) / 32, disc.mean() + 0.0 * y[:, 0], rtol=0.01)
    s = (torch.arange(y.shape[1], dtype=F64) - 0.5 * (y.shape[1] - 1)) / 32
    chord = 2.0 * (0.09 - s**2).clamp_min(0.0).sqrt()
    assert float((y - chord).abs().max()) < 0.2 and float((y - chord).abs().mean()) < 0.015


def test_a_graph_goes_through_line_integrals():
    x = draw(1, 6, 6).requires_grad_(True)
    op = Radon(6, 3)
    y = op(x)
    (slope,) = torch.autograd.grad(y.square().sum(), x)
    assert torch.allclose(slope, 2.0 * op.adjoint(y.detach()), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Fourier(torch.ones(4)), "mask has shape"),
        (lambda: Fourier(torch.zeros(4, 4)), "sample something"),
        (lambda: Fourier(0.5 * ONES), "0 and 1"),
        (lambda: Fourier(ONES, ONES), "complex tensor"),
        (lambda: Fourier(ONES, COILS[:, :, :5]), "complex tensor"),
        (lambda: Fourier(ONES, COILS, real=True), "real=False"),
        (lambda: Fourier(ONES)(draw(1, 4, 6)), "takes samples"),
        (lambda: Fourier(ONES)(draw(1, 3, 4, 6)), "takes samples"),
        (lambda: Fourier(ONES, real=True)(draw(1, 3, 6, 4)), "takes samples"),
        (lambda: Fourier(ONES).adjoint(draw(1, 4, 6)), "real and imaginary"),
        (lambda: Fourier.lines((4, 6), 0.5), "acceleration"),
        (lambda: Fourier.lines((4, 6), centre=2.0), "centre"),
        (lambda: Gaussian(Fourier(FREQUENCIES), draw(2, 4, 6)).samples((2, 4, 6)), "zero-filled"),
        (lambda: CompressedSensing((3, 3), 2), "odd number"),
        (lambda: CompressedSensing((4,), 5), "measurements=5"),
        (lambda: CompressedSensing((4,), 2, "gausian"), "gaussian"),
        (lambda: CompressedSensing((4,), 2)(draw(1, 5)), "have shape"),
        (lambda: Radon(0, 3), "size=0"),
        (lambda: Radon(4, ()), "at least one"),
        (lambda: Radon(4, (math.nan,)), "angles=nan"),
        (lambda: Radon(4, 3)(draw(1, 4, 5)), "takes images 4 x 4"),
        (lambda: Radon(4, 3).pinverse(draw(1, 3, 6)), "no pseudo-inverse"),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
