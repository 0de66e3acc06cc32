"""DDRM: its start and its step in dense matrices, and its law."""

from __future__ import annotations

import math

import pytest
import torch
from gradient_free import NOISE, blurred, masked, measured, prior
from posteriors import A, GaussianPrior, Y
from problems import F64, PATHS

from fewstep import guidance as G
from fewstep.checks import ArgumentError
from fewstep.fused.noise.seeded import GUIDANCE_STREAM, SeededNoise, normals


@pytest.mark.parametrize("name", ["vp", "edm"])
def test_the_published_step(name):
    """In z = x / alpha, for each direction of the SVD."""
    den, eta, eta_b, noise = GaussianPrior(PATHS[name], "x0"), 0.6, 0.7, 0.3
    seen = []
    G.solve(
        den, G.Gaussian(G.operators.Matrix(A), Y, noise), "ddrm", eta=eta, eta_b=eta_b, steps=8,
        n=2, dtype=F64, callback=seen.append,
    )  # fmt: skip
    u, values, vt = torch.linalg.svd(A)
    yb = (u.T @ Y) / values
    kept, regimes = math.sqrt(1 - eta**2), set()
    for i, step in enumerate(seen):
        s, t = step.node, step.next_node
        d = den(step.x, s.t)
        eps = ((step.x - s.alpha * d) / s.sigma) @ vt.T
        xi = normals([0, 1], (6,), stream=GUIDANCE_STREAM, draw=i, dtype=F64) @ vt.T
        d, rho, z = d @ vt.T, t.rho, torch.empty(2, 6, dtype=F64)
        z[:, 3:] = (d + kept * rho * eps + eta * rho * xi)[:, 3:]
        for j in range(3):
            level = noise / float(values[j])
            regimes.add(rho < level)
            if rho < level:
                z[:, j] = d[:, j] + kept * rho * (yb[j] - d[:, j]) / level + eta * rho * xi[:, j]
            else:
                spread = math.sqrt(rho**2 - eta_b**2 * level**2)
                z[:, j] = (1 - eta_b) * d[:, j] + eta_b * yb[j] + spread * xi[:, j]
        assert torch.allclose(step.x_next, t.alpha * z @ vt, atol=1e-11)
    assert regimes == {True, False}


def test_the_start_has_the_measurement():
    """``yb + sqrt(rho_T^2 - sigma_y^2 / S^2) xi`` in the measured directions."""
    den = GaussianPrior(PATHS["edm"], "x0")
    seen = []
    G.solve(
        den, G.Gaussian(G.operators.Matrix(A), Y, 8.0), "ddrm", steps=2, seeds=[4], dtype=F64,
        callback=seen.append,
    )  # fmt: skip
    u, values, vt = torch.linalg.svd(A)
    z = SeededNoise((4,)).start((6,), dtype=F64)[0]
    level = 8.0 / values  # 5, 9, 53
    coordinates = vt @ z * 80.0
    coordinates[:3] *= (1 - (level / 80.0) ** 2).sqrt()
    coordinates[:3] += (u.T @ Y) / values
    assert torch.allclose(seen[0].x[0], vt.T @ coordinates, atol=1e-10)


def test_its_law():
    """Measured: sharp measurements (.063, .31, .72) with 20 steps, (.026, .27, .73) with 100; a
    blur (.14, .60, .53) with 20. Reference on another draw: (.039, .40, .59), (.020, .28, .68)."""
    e_m, e_c, q = measured(masked(NOISE), "ddrm", 20)
    assert e_m < 0.12 and 0.2 < e_c < 0.45 and 0.55 < q < 0.85
    e_m, e_c, q = measured(masked(NOISE), "ddrm", 100)
    assert e_m < 0.06 and 0.2 < e_c < 0.45 and 0.6 < q < 0.85
    e_m, e_c, q = measured(blurred(), "ddrm", 20)
    assert e_m < 0.25 and 0.4 < e_c < 0.8 and 0.35 < q < 0.75


def test_an_exact_constraint_is_kept():
    _, info = G.solve(
        prior(), G.Constraint(G.operators.Matrix(A), Y), "ddrm", steps=10, n=4, dtype=F64, info=True
    )
    assert float(info.misfit.max()) < 1e-10 and info.counts == info.predicted


def test_it_begins_itself():
    den = prior()
    with pytest.raises(ArgumentError, match="leave init= and start= out"):
        G.solve(den, blurred(), "ddrm", init=torch.zeros(2, 6), start=0.5)
    assert den.calls == 0
