"""Steering with a solver as the forward model, of which only values are known: the first vorticity
of a Navier-Stokes flow from 64 values of the last one. The prior is exact: Gaussian fields on the
torus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from problems import F64
from torch import Tensor

from fewstep import guidance as G
from fewstep.eval.physics import navier_stokes
from fewstep.eval.physics.random_fields import periodic_fields
from fewstep.models import BaseDenoiser
from fewstep.schedules import EDM

pytestmark = pytest.mark.slow

N, POINTS, NOISE, END = 16, 64, 0.01, 0.5


class Fields(BaseDenoiser):
    """The exact model of ``periodic_fields(N)`` (alpha = 1): the Wiener filter of its spectrum."""

    prediction = "x0"
    preserves_input = True

    def __init__(self) -> None:
        self.schedule, self.shape = EDM(0.002, 80.0), (1, N, N)
        k = torch.fft.fftfreq(N, 1.0 / N).double()
        k2 = 4.0 * math.pi**2 * (k[:, None] ** 2 + k**2)
        #: variances in the orthonormal Fourier basis
        self.spectrum = 2.0 * N**2 * 7.0**3 * (k2 + 49.0) ** -2.5
        self.spectrum[0, 0] = 0.0

    def raws(
        self, x_in: Tensor, t: Any, cond: Any = None, channels: Sequence[str] = ("main",)
    ) -> tuple[Tensor, ...]:
        kept = self.spectrum / (self.spectrum + float(t) ** 2)
        return (torch.fft.ifft2(torch.fft.fft2(x_in) * kept).real,)

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)


def last(w: Tensor) -> Tensor:
    """The vorticity at time END, (B, N, N), of the first one (B, 1, N, N)."""
    start = w[:, 0] - w[:, 0].mean((1, 2), keepdim=True)
    spacing, params = {"t": END, "x": 1.0 / N, "y": 1.0 / N}, {"nu": 1e-3, "forcing": 0.1}
    return navier_stokes.solve({"w": start}, spacing, params, frames=2, substeps=10)["w"][:, -1]


def off(w: Tensor) -> float:
    """Relative L2 error of a first vorticity."""
    return float((w.reshape(N, N) - TRUTH[0, 0]).norm() / TRUTH.norm())


TRUTH = periodic_fields(N, [10_000])[:, None]
_G = torch.Generator().manual_seed(0)
WHERE = torch.randperm(N * N, generator=_G)[:POINTS]
Y = last(TRUTH).flatten(1)[0, WHERE] + NOISE * torch.randn(POINTS, generator=_G, dtype=F64)


def measured(w: Tensor) -> Tensor:
    return last(w).flatten(1)[:, WHERE]


def fit(w: Tensor) -> Tensor:
    return -((measured(w) - Y) ** 2).sum(1) / (2.0 * NOISE**2)


def interpolated() -> Tensor:
    """The measured values, interpolated over the torus: the flow does not go far until END."""
    griddata = pytest.importorskip("scipy.interpolate").griddata
    at = np.stack(np.unravel_index(WHERE.numpy(), (N, N)), 1)
    shifts = [np.array([i * N, j * N]) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    every = np.stack(np.meshgrid(np.arange(N), np.arange(N), indexing="ij"), -1).reshape(-1, 2)
    tiled = np.concatenate([at + shift for shift in shifts])
    return torch.from_numpy(griddata(tiled, np.tile(Y.numpy(), 9), every, method="linear"))


def test_the_model_is_that_of_the_fields():
    w = periodic_fields(N, range(400))
    power = torch.fft.fft2(w, norm="ortho").abs().square().mean(0)
    low = Fields().spectrum > 0.01 * float(Fields().spectrum.max())
    assert torch.allclose(
        power[low] / Fields().spectrum[low], torch.ones(int(low.sum())).double(), atol=0.35
    )
    assert abs(float(power.sum() / Fields().spectrum.sum()) - 1.0) < 0.05


def test_enkg_finds_the_first_vorticity():
    """Relative L2 errors, measured: a sample of the prior 1.28, zero 1, interpolation of the last
    vorticity .365, EnKG .275 (its mean .279) with 256 particles, 7,680 runs of the solver."""
    x, info = G.steer(
        Fields(), fit, method="enkg", forward=measured, data=Y, particles=256, n=1, steps=20,
        scale=0.5, dtype=F64, grid="karras",
    )  # fmt: skip
    prior = sum(off(w) for w in periodic_fields(N, range(20))) / 20
    baseline = off(interpolated())
    assert 1.1 < prior < 1.5 and 0.3 < baseline < 0.42
    assert off(x[0]) < 0.85 * baseline and off(info.particles[0].mean(0)) < 0.85 * baseline
    assert info.rows == info.predicted.rows and info.notes["forward_rows"] == 7680


def test_smc_is_nearer_than_the_prior():
    """Measured: .444, from 256 particles and no gradient; 64 accurate values are many for it."""
    x, info = G.steer(
        Fields(), fit, method="smc", particles=256, n=1, steps=20, dtype=F64, grid="karras"
    )
    prior = sum(off(w) for w in periodic_fields(N, range(20))) / 20
    assert off(x[0]) < 0.6 * prior
    assert info.reward_rows == info.predicted.rewards
