"""Derivatives: polynomials by differences, Fourier modes by the transform."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics.derivatives.differences import difference, running_integral
from fewstep.eval.physics.derivatives.spectral import dealiased, derivative, laplacian


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("derivative_order", [1, 2])
def test_differences_are_exact_for_polynomials_of_their_degree(order, derivative_order):
    x = torch.arange(9).double() * 0.3
    degree = order + derivative_order - 1
    value = x.repeat(2, 1) ** degree
    wanted = math.perm(degree, derivative_order) * x ** (degree - derivative_order)
    found = difference(value, 0.3, 1, order, derivative_order)
    torch.testing.assert_close(found, wanted.repeat(2, 1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("order", "derivative_order"), [(2, 1), (2, 2), (4, 1), (4, 2)])
def test_differences_have_their_order_and_one_more_at_the_ends(order, derivative_order):
    inside, ends = [], []
    for n in (80, 160):
        x = torch.linspace(0, 1, n + 1, dtype=torch.float64)
        wanted = 3**derivative_order * torch.exp(3 * x)
        error = difference(torch.exp(3 * x), 1 / n, 0, order, derivative_order) - wanted
        inside.append(error.square().mean().sqrt())
        ends.append(error[[0, -1]].abs().max())
    assert abs(math.log2(inside[0] / inside[1]) - order) < 0.2
    assert abs(math.log2(ends[0] / ends[1]) - order - 1) < 0.3


def test_too_few_points_are_refused():
    with pytest.raises(ArgumentError, match="at least 6 points"):
        difference(torch.ones(5), 0.1, 0)


def test_spectral_derivatives_of_a_mode():
    x = torch.arange(16).double() / 16 * 3.0
    k = 2 * math.pi * 3 / 3.0
    torch.testing.assert_close(derivative((k * x).sin(), 3 / 16, 0), k * (k * x).cos())
    torch.testing.assert_close(derivative((k * x).sin(), 3 / 16, 0, 2), -(k**2) * (k * x).sin())
    torch.testing.assert_close(
        derivative(torch.exp(1j * k * x), 3 / 16, 0), 1j * k * torch.exp(1j * k * x)
    )


def test_the_nyquist_mode_has_no_first_derivative():
    value = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    assert derivative(value, 0.5, 0).abs().max() < 1e-14
    torch.testing.assert_close(derivative(value, 0.5, 0, 2), -((math.pi / 0.5) ** 2) * value)


def test_laplacian_of_a_product_of_modes():
    x = torch.arange(16).double() * 2 * math.pi / 16
    value = x.sin()[:, None] * (2 * x).cos()
    h = 2 * math.pi / 16
    found = laplacian(value, {"x": h, "y": h}, {"x": 0, "y": 1})
    torch.testing.assert_close(found, -5 * value, atol=1e-12, rtol=0)


def test_dealiasing_keeps_less_than_a_third_of_the_modes():
    kept = dealiased(torch.ones(13, 12), (0, 1))
    assert kept[0].nonzero().flatten().tolist() == [0, 1, 2, 3, 9, 10, 11]
    assert kept[:, 0].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 9, 10, 11, 12]


def test_the_running_integral_is_exact_for_cubics():
    x = torch.arange(7).double() * 0.3
    found = running_integral((4 * x**3 - 3 * x**2 + 1).repeat(2, 1), 0.3, 1)
    torch.testing.assert_close(found, (x**4 - x**3 + x).repeat(2, 1), rtol=0, atol=1e-14)
    with pytest.raises(ArgumentError, match="at least 4 points"):
        running_integral(x[:3], 0.3, 0)
