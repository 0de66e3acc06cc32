"""The path of networks that are told log(s) / 4: its closed forms, whatever sigma_data is, against
differences and 50 digits."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
import torch

from fewstep.schedules import EDM
from fewstep.schedules.noise_path import NoisePath

TIMES = (-3.0, -1.1, -0.2, 0.0, 0.3, 0.9, 1.6)
every = pytest.mark.parametrize("data", [0.5, 1.0, 1.7])


@every
def test_alpha_and_sigma_are_those_of_the_preconditioned_input(data: float) -> None:
    """``x = (x0 + s eps) / sqrt(s^2 + sigma_data^2)`` at ``t = log(s) / 4``."""
    path = NoisePath(data)
    for t in TIMES:
        s = mp.exp(4 * mp.mpf(t))
        root = mp.sqrt(s**2 + mp.mpf(data) ** 2)
        assert path.alpha(t) == pytest.approx(float(1 / root), rel=1e-15)
        assert path.sigma(t) == pytest.approx(float(s / root), rel=1e-14)
        assert path.rho(t) == pytest.approx(EDM(1e-6, 1e6).node(float(s)).rho, rel=1e-13)
        assert path.t_of_lam(path.lam(t)) == pytest.approx(t, abs=1e-14)


@every
def test_derivatives_and_diffusion(data: float) -> None:
    """Against mpmath's derivatives; ``g2 = d sigma^2/dt - 2 f sigma^2 = 8 s^2 alpha^2``, in closed
    form."""
    path = NoisePath(data)
    with mp.workdps(40):
        d2 = mp.mpf(data) ** 2
        alpha = lambda t: 1 / mp.sqrt(mp.exp(8 * t) + d2)  # noqa: E731
        sigma = lambda t: mp.exp(4 * t) / mp.sqrt(mp.exp(8 * t) + d2)  # noqa: E731
        for t in TIMES:
            da, ds = mp.diff(alpha, mp.mpf(t)), mp.diff(sigma, mp.mpf(t))
            f = da / alpha(mp.mpf(t))
            assert path.dalpha(t) == pytest.approx(float(da), rel=1e-12)
            assert path.dsigma(t) == pytest.approx(float(ds), rel=1e-12)
            assert path.f(t) == pytest.approx(float(f), rel=1e-12)
            assert path.g2(t) == pytest.approx(
                float(2 * sigma(mp.mpf(t)) * ds - 2 * f * sigma(mp.mpf(t)) ** 2), rel=1e-12
            )
            assert path.g2(t) == pytest.approx(8.0 * path.sigma(t) ** 2, rel=1e-12)
            assert path.dlam(t) == pytest.approx(-4.0, rel=1e-12)


@every
def test_numbers_arrays_and_tensors_agree(data: float) -> None:
    path = NoisePath(data)
    for name in ("alpha", "sigma", "dalpha", "dsigma", "f", "g2", "lam", "rho"):
        read = getattr(path, name)
        one = np.array([read(t) for t in TIMES])
        np.testing.assert_allclose(read(np.array(TIMES)), one, rtol=1e-13, err_msg=name)
        np.testing.assert_allclose(
            read(torch.tensor(TIMES, dtype=torch.float64)).numpy(), one, rtol=1e-13, err_msg=name
        )


def test_the_clean_end() -> None:
    path = NoisePath(0.5)
    assert (path.sigma(-math.inf), path.alpha(-math.inf), path.t_zero) == (0.0, 2.0, -math.inf)
