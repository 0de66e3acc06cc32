"""Closed forms of ``i psi_t + psi_xx / 2 + |psi|^2 psi = 0`` at places (X,) and times (T,): (T, X).

Solitons: Zakharov and Shabat, Sov. Phys. JETP 34 (1972). Breather: Akhmediev and Korneev, Theor.
Math. Phys. 69 (1986).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...checks import between


def soliton(
    x: Tensor, t: Tensor, amplitude: float, velocity: float = 0.0, centre: float = 0.0
) -> Tensor:
    """``A sech(A (x - x0 - v t)) exp(i (v (x - x0) + (A^2 - v^2) t / 2))``: the soliton of
    amplitude A, velocity v and first centre x0."""
    place, t = x - centre, t[:, None]
    phase = velocity * place + (amplitude**2 - velocity**2) / 2.0 * t
    found: Tensor = amplitude / torch.cosh(amplitude * (place - velocity * t)) * (1j * phase).exp()
    return found


def soliton_rate(x: Tensor, t: Tensor, amplitude: float, velocity: float = 0.0) -> Tensor:
    """``psi_t`` of the soliton whose first centre is 0."""
    turning = 1j * (amplitude**2 - velocity**2) / 2.0
    moving = velocity * amplitude * torch.tanh(amplitude * (x - velocity * t[:, None]))
    return (turning + moving) * soliton(x, t, amplitude, velocity)


def phase_shift(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """How far two solitons of (amplitude, velocity), the first one faster, are moved by passing
    through each other: ``dx = ln(((v1-v2)^2 + (A1+A2)^2) / ((v1-v2)^2 + (A1-A2)^2)) / A1`` and
    ``-dx A1 / A2``."""
    (a1, v1), (a2, v2) = first, second
    speed = (v1 - v2) ** 2
    logarithm = math.log((speed + (a1 + a2) ** 2) / (speed + (a1 - a2) ** 2))
    return logarithm / a1, -logarithm / a2


def breather(x: Tensor, t: Tensor, a: float) -> Tensor:
    """``exp(i t) (1 + (2 (1 - 2 a) cosh(b t) + i b sinh(b t)) / (sqrt(2 a) cos(k x) - cosh(b t)))``
    with ``k = 2 sqrt(1 - 2 a)`` and ``b = sqrt(8 a (1 - 2 a))`` for 0 < a < 1/2: a wave of period
    2 pi / k on a constant that grows, is highest at t = 0, and goes. Raises ArgumentError."""
    a = between("a", a, 0.0, 0.5)
    k, b = 2.0 * math.sqrt(1.0 - 2.0 * a), math.sqrt(8.0 * a * (1.0 - 2.0 * a))
    t = t[:, None]
    above = torch.complex(2.0 * (1.0 - 2.0 * a) * torch.cosh(b * t), b * torch.sinh(b * t))
    below = math.sqrt(2.0 * a) * torch.cos(k * x) - torch.cosh(b * t)
    found: Tensor = (1j * t).exp() * (1.0 + above / below)
    return found
