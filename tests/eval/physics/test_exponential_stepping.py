"""ETDRK4: its coefficients, what it solves exactly, and its order."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics.derivatives.spectral import wave_numbers
from fewstep.eval.physics.stepping.exponential import etdrk4, etdrk4_weights, substeps_for


def phi(k: int, z: complex) -> complex:
    """phi_k by its definition in 60 digits."""
    with mpmath.workdps(60):
        z = mpmath.mpc(z)
        if z == 0:
            return complex(1 / mpmath.factorial(k))
        head = mpmath.fsum(z**j / mpmath.factorial(j) for j in range(k))
        return complex((mpmath.exp(z) - head) / z**k)


@pytest.mark.parametrize("z", [0.0, -1e-9, -1e-3, -0.5, 2.0, -30.0, -1e5, 1e-6j, 3j, -2 + 40j])
def test_weights_are_those_of_the_phi_functions(z):
    h = 0.25
    found = etdrk4_weights(torch.tensor([z / h], dtype=torch.complex128), h)
    p1, p2, p3 = (phi(k, z) for k in (1, 2, 3))
    wanted = [phi(1, z / 2) / 2, p1 - 3 * p2 + 4 * p3, 2 * p2 - 4 * p3, 4 * p3 - p2]
    for value, right in zip(found[2:], wanted, strict=True):
        assert abs(complex(value) / h - right) < 1e-14
    assert not etdrk4_weights(torch.tensor([-1.0, 0.0]), h).first.is_complex()


def test_a_constant_n_is_exact_for_any_step_and_rates_of_each_sample():
    rate = torch.tensor([[0.0, -1.0, -1e6], [0.5, -2.0, 0.0]], dtype=torch.float64)
    v0 = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64).expand(2, 3)
    found = etdrk4(v0, rate, lambda v, t: torch.full_like(v, 0.7), 0.9, frames=4, substeps=2)
    t = torch.arange(4).double()[None, :, None] * 0.9
    r = rate[:, None]
    wanted = (r * t).exp() * v0[:, None] + 0.7 * torch.where(
        r == 0, t, torch.expm1(r * t) / torch.where(r == 0, 1.0, r)
    )
    assert found.shape == (2, 4, 3)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-14)


def logistic(h):
    """v' = L v - v^2 for L = 0, 1 and -2: closed forms."""
    rate = torch.tensor([[0.0, 1.0, -2.0]], dtype=torch.float64)
    v0 = torch.full((1, 3), 0.4, dtype=torch.float64)
    found = etdrk4(v0, rate, lambda v, t: -(v**2), 1.0, frames=2, substeps=round(1 / h))[:, -1]
    grown = torch.where(rate == 0, 1.0, torch.expm1(rate) / torch.where(rate == 0, 1.0, rate))
    return (found - v0 * rate.exp() / (1 + v0 * grown)).abs()


def rotation(h):
    """v' = i w v + i |v|^2 v rotates at w + |v|^2."""
    rate = 1j * torch.tensor([[0.0, 2.0, -3.0]], dtype=torch.float64)
    v0 = torch.full((1, 3), 0.8 + 0.6j, dtype=torch.complex128)
    found = etdrk4(
        v0, rate, lambda v, t: 1j * v.abs() ** 2 * v, 1.0, frames=2, substeps=round(1 / h)
    )
    return (found[:, -1] - v0 * (rate + 1j).exp()).abs()


def stiff_heat(h):
    """u_t = u_xx - u^3 + source with u = exp(cos(x - t)): h L reaches -h 32^2."""
    x = torch.arange(64).double() * 2 * math.pi / 64

    def source(t):
        u, s, c = (x - t).cos().exp(), (x - t).sin(), (x - t).cos()
        return u * s - (s**2 - c) * u + u**3

    def nonlinear(v, t):
        return torch.fft.fft(source(t) - torch.fft.ifft(v).real ** 3)

    rate = -(wave_numbers(64, 2 * math.pi / 64) ** 2)
    v0 = torch.fft.fft(x.cos().exp())[None]
    v = etdrk4(v0, rate, nonlinear, 1.0, frames=2, substeps=round(1 / h))[:, -1]
    return (torch.fft.ifft(v).real - (x - 1.0).cos().exp()).square().mean().sqrt()[None]


@pytest.mark.parametrize(
    ("problem", "h"), [(logistic, 0.1), (rotation, 0.05), (stiff_heat, 1 / 40)]
)
def test_the_order_is_four(problem, h):
    slopes = (problem(h) / problem(h / 2)).log2()
    assert ((slopes - 4.0).abs() < 0.2).all(), slopes


def test_two_axes_are_solved_as_one():
    rate = -torch.rand(1, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v0 = torch.complex(rate, rate + 1.0)
    flat = etdrk4(v0.flatten(1), rate.flatten(1), lambda v, t: v**2 + t, 0.1, frames=3)
    found = etdrk4(v0, rate, lambda v, t: v**2 + t, 0.1, frames=3)
    assert torch.equal(found.flatten(2), flat)
    assert torch.equal(found[:, 0], v0)


def test_a_solution_that_blows_up_is_refused():
    one = torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(ArgumentError, match="not finite after 9 frames"):
        etdrk4(one, one, lambda v, t: v**3, 1.0, frames=9)
    with pytest.raises(ArgumentError, match="substeps"):
        etdrk4(one, one, lambda v, t: v, 1.0, frames=2, substeps=0)


def test_substeps():
    assert substeps_for(0.3, 0.1) == 3
    assert substeps_for(0.31, 0.1) == 4
    assert substeps_for(0.01, 0.1) == 1
