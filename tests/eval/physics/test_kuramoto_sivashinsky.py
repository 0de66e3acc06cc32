"""Kuramoto-Sivashinsky: growth rates, a steady state, moving frames, statistics."""

from __future__ import annotations

import math

import torch

from fewstep.eval.physics import kuramoto_sivashinsky as ks


def test_small_modes_grow_at_k2_minus_k4():
    modes = torch.tensor([4.0, 7.0, 12.0], dtype=torch.float64)
    k, x = 2 * math.pi * modes / 64, torch.arange(64).double()
    start = 1e-9 * (k[:, None] * x).cos()
    u = ks.solve({"u": start}, {"t": 5.0, "x": 1.0}, {}, frames=2)["u"]
    growth = torch.exp(5 * (k**2 - k**4))
    torch.testing.assert_close(u[:, 1], growth[:, None] * start, rtol=0, atol=1e-14)


def test_a_steady_source_holds_a_steady_state():
    x = torch.arange(32).double() * 2 * math.pi / 32
    u, spacing = x.sin() + 0.3 * (2 * x).cos(), {"t": 0.1, "x": 2 * math.pi / 32}
    source = u * (x.cos() - 0.6 * (2 * x).sin()) + 0.3 * 12 * (2 * x).cos()
    params = {"source": source[None, None]}
    assert ks.residual({"u": u.expand(1, 8, 32)}, spacing, params).abs().max() < 1e-10
    found = ks.solve({"u": u[None]}, spacing, params, frames=6)["u"]
    torch.testing.assert_close(found, u.expand_as(found), rtol=0, atol=1e-11)


def test_a_moving_frame_moves_the_solution_at_order_four():
    """u + U solves the equation where u(x - U t) does."""
    n, length, speed = 64, 22.0, 1.0
    x = torch.arange(n).double() * length / n
    k = 2 * math.pi * torch.fft.fftfreq(n, length / n, dtype=torch.float64)
    start = 0.5 * (2 * math.pi * x / length).cos() + 0.4 * (4 * math.pi * x / length).sin()
    spacing, errors = {"t": 1.0, "x": length / n}, []
    for steps in (40, 80):
        both = torch.stack([start, start + speed])
        u = ks.solve({"u": both}, spacing, {}, frames=2, substeps=steps)["u"][:, 1]
        moved = torch.fft.ifft(torch.fft.fft(u[0]) * (-1j * speed * k).exp()).real + speed
        errors.append((u[1] - moved).square().mean().sqrt())
    slope = math.log2(errors[0] / errors[1])
    assert abs(slope - 4.0) < 0.2, (slope, errors)


def test_draws_are_chaos_of_the_known_size_and_keep_their_mean():
    problem = ks.draw(4, 64)
    assert 1.1 < problem.fields["u"].std() < 1.4
    mass = ks.conserved(*problem)["mass"]
    assert (mass - mass[:, :1]).abs().max() < 1e-12
