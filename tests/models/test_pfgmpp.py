"""PFGM++: its kernel is Student's t, its denoiser the softmax of a power, and EDM is its limit."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

import fewstep
from fewstep.models import Empirical, EmpiricalPFGMPP
from fewstep.schedules import EDM, PFGMPP, grid
from fewstep.schedules.passage import cumulants, passage_time

COUNT = 4096
DATA = torch.tensor([[1.0, -0.5, 0.3], [-0.8, 0.6, 0.1], [0.2, 1.1, -0.9]], dtype=torch.float64)


def levels(seed, count=100_000):
    return np.random.default_rng(seed).standard_normal(count)


@pytest.mark.parametrize("D", [0, -1.0, math.inf, math.nan, True, "8"])
def test_bad_dimensions_are_refused(D):
    with pytest.raises(ValueError, match="must be 0 < D"):
        PFGMPP(D)


def test_the_path_is_edms():
    path = PFGMPP(128, 0.01, 50.0)
    assert path.node(3.0) == EDM(0.01, 50.0).node(3.0)
    assert fewstep.plan("pfgmpp", path, steps=9, s_churn=3.0) == fewstep.plan(
        "heun", EDM(0.01, 50.0), steps=9, s_churn=3.0
    )
    assert fewstep.schedules.from_config(fewstep.schedules.to_config(path)) == path


@pytest.mark.parametrize("D", [1.0, 3.5, 64.0])
def test_the_kernel_is_students_t(D):
    """One coordinate of x / sigma is t with D degrees of freedom; |x|^2 / r^2 is chi2_N / chi2_D
    (Kolmogorov-Smirnov)."""
    z = np.random.default_rng(7).standard_normal((100_000, 5))
    x = PFGMPP(D).kernel_scale(levels(0))[:, None] * z
    limit = 1.95 / math.sqrt(len(x))
    assert stats.kstest(x[:, 0], stats.t(D).cdf).statistic < limit
    assert stats.kstest((x**2).sum(1) / 5.0, stats.f(5, D).cdf).statistic < limit
    assert stats.kstest(x[:, 0], stats.t(1.3 * D).cdf).statistic > limit or D == 64.0


def test_the_start_state_is_heavy_tailed_and_of_its_seed():
    model = EmpiricalPFGMPP(DATA, PFGMPP(4.0))
    seen = {}

    def first(step):
        seen.setdefault("x", step.x)

    fewstep.sample(model, "pfgmpp", steps=1, n=COUNT, seed=10, callback=first)
    assert stats.kstest(
        seen["x"][:, 0].double().numpy() / 80.0, stats.t(4).cdf
    ).statistic < 1.95 / math.sqrt(COUNT)
    whole = seen.pop("x")
    fewstep.sample(model, "pfgmpp", steps=1, seeds=[13, 11], callback=first)
    assert torch.equal(seen["x"], whole[[3, 1]])


def test_the_denoiser_written_out():
    model, x, sigma = (
        EmpiricalPFGMPP(DATA, PFGMPP(6.0)),
        torch.tensor([[0.4, 0.1, -0.2], [30.0, -7.0, 2.0]], dtype=torch.float64),
        0.7,
    )
    squares = ((x[:, None, :] - DATA) ** 2).sum(-1)
    w = (squares + 6.0 * sigma**2) ** (-0.5 * (3 + 6.0))
    torch.testing.assert_close(
        model(x, sigma), (w / w.sum(1, keepdim=True)) @ DATA, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(model(DATA + 0.01, 0.0), DATA)


@pytest.mark.parametrize("churn", [0.0, 5.0])
def test_the_limit_is_edm(churn):
    """As D grows the samples of the same seeds become EDM's."""
    given = {"steps": 12, "final": "sigma_min", "n": 8, "s_churn": churn, "dtype": torch.float64}
    edm = fewstep.sample(Empirical(DATA, EDM(0.5, 80.0)), "heun", **given)
    paths = [PFGMPP(D, 0.5, 80.0) for D in (1e6, 1e10)]
    gaps = [
        float((fewstep.sample(EmpiricalPFGMPP(DATA, path), "pfgmpp", **given) - edm).abs().max())
        for path in paths
    ]
    assert 0.0 < gaps[1] < 0.1 * gaps[0]
    assert gaps[1] < 1e-3


@pytest.mark.parametrize("D", [8.0, 64.0])
def test_the_ode_carries_the_kernels_law(D):
    """From the exact law at sigma = 3 to that at sigma = 0.3: mean and covariance within 3 standard
    errors."""
    path = PFGMPP(D)
    plan = fewstep.plan("pfgmpp", path, sigmas=[float(s) for s in np.geomspace(3.0, 0.3, 9)])
    rng = np.random.default_rng(2)
    x0 = DATA[torch.from_numpy(rng.integers(0, 3, COUNT))]

    def noised(sigma):
        return x0 + sigma * torch.from_numpy(
            path.kernel_scale(rng.standard_normal(COUNT))[:, None] * rng.standard_normal((COUNT, 3))
        )

    out = fewstep.run(plan, EmpiricalPFGMPP(DATA, path), noised(3.0))
    wanted = noised(0.3)
    for f in (lambda v: v, lambda v: v[:, :, None] * v[:, None, :]):
        a, b = f(out), f(wanted)
        error = torch.sqrt((a.var(0) + b.var(0)) / COUNT)
        assert bool(((a.mean(0) - b.mean(0)).abs() < 3.0 * error).all())


def test_the_samples_are_the_data():
    out = fewstep.sample(
        EmpiricalPFGMPP(DATA, PFGMPP(16.0)), "pfgmpp", steps=20, n=600, dtype=torch.float64
    )
    distance = torch.cdist(out, DATA)
    assert float(distance.amin(1).max()) < 1e-6
    counts = torch.bincount(distance.argmin(1), minlength=3)
    assert bool(((counts - 200).abs() < 3.0 * math.sqrt(600 * 2 / 9)).all())


@pytest.mark.parametrize(
    ("D", "low", "high"),
    [(1.0, 1.0, 1.3), (4.0, 1.0, 3.0), (16.0, 2.0, 2.1), (128.0, 1.0, 1.4), (2048.0, 1.0, 1.4)],
)
def test_the_exact_jump_keeps_the_kernel(D, low, high):
    """Student's t at radius r_low and the jump make Student's t at r_high (Kolmogorov-Smirnov, in
    the sum of squares)."""
    path, z = PFGMPP(D), np.random.default_rng(0).standard_normal((2, 40_000, 3))
    x = low * path.kernel_scale(levels(1, 40_000))[:, None] * z[0]
    x = (
        x
        + math.sqrt(high**2 - low**2)
        * path.jump_scale(levels(2, 40_000), levels(3, 40_000), low, high)[:, None]
        * z[1]
    )
    assert stats.kstest((x**2).sum(1) / (3.0 * high**2), stats.f(3, D).cdf).statistic < 1.95 / 200.0


@pytest.mark.parametrize(("D", "ratio"), [(9.0, 1.4), (80.0, 1.1), (128.0, 1.3), (500.0, 1.4)])
def test_the_passage_time_has_its_cumulants(D, ratio):
    """Mean and variance of the quantile function over its levels; both sides of the change of
    method."""
    mean, variance, _, _ = cumulants(D, 1.0, ratio)
    w = passage_time(D, 1.0, ratio, special.ndtri((np.arange(200_000) + 0.5) / 200_000))
    assert w.mean() == pytest.approx(mean, rel=2e-3)
    assert w.var() == pytest.approx(variance, rel=3e-2)
    assert bool((np.diff(w) >= 0.0).all())


def test_the_authors_jump_puts_in_too_much_at_small_D():
    """Median radius after the jump from sigma = 1 to 1.3 against that of the kernel there."""
    excess = {}
    for D in (4.0, 16.0, 128.0, 2048.0):
        path, rng = PFGMPP(D, jump="authors"), np.random.default_rng(0)
        n = 40_000
        z = rng.standard_normal((3, n, 20), dtype=np.float32)
        x = path.kernel_scale(levels(1, n))[:, None] * z[0]
        x = (
            x
            + (math.sqrt(0.69) * path.jump_scale(levels(2, n), levels(3, n), 1.0, 1.3))[:, None]
            * z[1]
        )
        kernel = 1.3 * path.kernel_scale(levels(4, n))[:, None] * z[2]
        excess[D] = (
            np.median(np.linalg.norm(x, axis=1)) / np.median(np.linalg.norm(kernel, axis=1)) - 1.0
        )
    assert 0.12 < excess[4.0] < 0.16
    assert 0.03 < excess[16.0] < 0.045
    assert 0.002 < excess[128.0] < 0.006
    assert abs(excess[2048.0]) < 0.002


def test_gaussian_noise_of_ones_own_is_taken_as_it_is():
    model, x = EmpiricalPFGMPP(DATA, PFGMPP(4.0)), torch.ones(2, 3, dtype=torch.float64)
    plan = fewstep.plan("pfgmpp", PFGMPP(4.0), steps=4, s_churn=2.0)
    z = [torch.full((2, 3), 0.1 * k, dtype=torch.float64) for k in range(4)]
    a, b = (fewstep.run(plan, model, x, noise=noise) for noise in (z, lambda key, like: z[key]))
    assert torch.equal(a, b)
    path = grid("karras", EDM(), 4)
    assert fewstep.plan("heun", EDM(), grid=path).nfe == 7
    with pytest.raises(ValueError, match="PFGMPP"):
        EmpiricalPFGMPP(DATA, EDM())
