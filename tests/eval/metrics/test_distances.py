"""Distances of samples and of their features: known answers first, then scipy and torchmetrics,
then what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch

from fewstep.eval import (
    ScoreError,
    classifier_test,
    cmmd,
    energy_distance,
    inception_score,
    kernel_distance,
    memorization,
    mmd,
    mode_coverage,
    precision_recall,
    psnr,
    sliced_floor,
    sliced_wasserstein,
    ssim,
    wasserstein,
)
from fewstep.eval.metrics.copying import mann_whitney
from fewstep.eval.metrics.kernels import cubic, unbiased

F64 = torch.float64


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=F64)


# --- Wasserstein


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0])
def test_a_shifted_cloud_is_as_far_as_the_shift(order):
    x = normal(200, 3)
    shift = torch.tensor([0.3, -0.4, 1.2], dtype=F64)
    assert wasserstein(
        x, x[torch.randperm(200, generator=torch.Generator().manual_seed(1))] + shift, order=order
    ).value == pytest.approx(1.3)


def test_sliced_distance_of_a_shift():
    """SW_2^2 = mean_u (u.m)^2 = |m|^2 / d."""
    x, shift = normal(50, 4), torch.tensor([2.0, 0.0, 0.0, 1.0], dtype=F64)
    found = sliced_wasserstein(x, x + shift, directions=20_000)
    assert found.value == pytest.approx(math.sqrt(5 / 4), abs=5 * found.std)
    assert found.std < 0.005


def test_in_one_dimension_all_are_scipys():
    x, y = normal(300, 1), 1.5 * normal(300, 1, seed=1) + 0.3
    one = scipy.stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert wasserstein(x, y, order=1.0).value == pytest.approx(one, rel=1e-12)
    assert sliced_wasserstein(x, y, order=1.0).value == pytest.approx(one, rel=1e-12)


def test_samples_of_unequal_sizes():
    x = normal(5000, 1)
    assert sliced_wasserstein(x, normal(3000, 1, seed=1) + 0.7).value == pytest.approx(
        0.7, abs=0.08
    )
    assert sliced_wasserstein(x, x.repeat(2, 1)).value < 1e-12
    assert sliced_wasserstein([[0.0], [1.0]], [[0.0], [0.0], [1.0], [1.0]], order=1.0).value == 0.0


def test_gaussian_clouds_by_bures():
    """Two diagonal Gaussians: W_2^2 = |m|^2 + sum (s - t)^2; 700 points in the plane overstate it
    by a few hundredths."""
    found = wasserstein(
        normal(700, 2), 2.0 * normal(700, 2, seed=1) + torch.tensor([1.0, 0.0], dtype=F64)
    ).value
    assert found == pytest.approx(math.sqrt(1 + 2), rel=0.05)


def test_the_floor_is_that_of_two_halves():
    x = normal(400, 2)
    floor, far = sliced_floor(x), sliced_wasserstein(x[:200], x[200:] + 1.0)
    assert 0.0 < floor.value < 0.3 < far.value
    assert (floor.n_ref, floor.n_gen) == (200, 200)


# --- energy, kernels


def test_energy_distance_of_shifted_normals():
    """N(0,1) and N(1,1): E|X - Y| is the mean of a folded N(1, 2)."""
    across = 2 * math.exp(-0.25) / math.sqrt(math.pi) + math.erf(0.5)
    truth = 2 * across - 4 / math.sqrt(math.pi)
    assert truth == pytest.approx(0.5418, abs=1e-4)
    assert energy_distance(normal(4000, 1), normal(4000, 1, seed=1) + 1.0).value == pytest.approx(
        truth, abs=0.04
    )


def test_energy_distance_is_scipys_but_for_the_diagonal():
    x, y = normal(60, 1), normal(40, 1, seed=1)
    biased = scipy.stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    own = [float(torch.cdist(v, v).sum()) / len(v) ** 2 for v in (x, y)]
    unbiased_own = [o * len(v) / (len(v) - 1) for o, v in zip(own, (x, y), strict=True)]
    assert energy_distance(x, y).value == pytest.approx(
        biased + sum(own) - sum(unbiased_own), rel=1e-10
    )


def test_kernel_distance_by_hand():
    x, y = normal(6, 3), normal(6, 3, seed=1)
    k = lambda a, b: float((a @ b / 3 + 1) ** 3)  # noqa: E731
    own = sum(k(v[i], v[j]) for v in (x, y) for i in range(6) for j in range(6) if i != j) / 30
    truth = own - 2 * sum(k(a, b) for a in x for b in y) / 36
    found = kernel_distance(x, y, subsets=3, subset_size=6)
    assert found.value == pytest.approx(truth, rel=1e-12)
    assert found.std == pytest.approx(0.0, abs=1e-12)


def test_kernel_distance_knows_the_cubic_moments():
    """In one dimension MMD^2 = 3 m_1^2 + 3 m_2^2 + m_3^2 of the differences of moments: shift 1
    gives 3 + 3 + 16."""
    x, y = normal(20_000, 1), normal(20_000, 1, seed=1) + 1.0
    assert kernel_distance(x, y, subsets=40, subset_size=1000).value == pytest.approx(22.0, rel=0.1)


def test_halves_of_one_set_have_no_kernel_distance():
    x = normal(2000, 8)
    found = kernel_distance(x[:1000], x[1000:], subsets=100, subset_size=300)
    assert abs(found.value) < 3 * found.std
    assert found == kernel_distance(x[:1000], x[1000:], subsets=100, subset_size=300)
    assert found != kernel_distance(x[:1000], x[1000:], subsets=100, subset_size=300, seed=1)


def test_cmmd_by_hand():
    x, y = normal(20, 5), normal(30, 5, seed=1) + 0.5
    a, b = (v / v.norm(dim=1, keepdim=True) for v in (x, y))
    kernel = [torch.exp(-(torch.cdist(p, q) ** 2) / 200) for p, q in ((a, a), (b, b), (a, b))]
    biased = 1000 * float(kernel[0].mean() + kernel[1].mean() - 2 * kernel[2].mean())
    assert cmmd(x, y).value == pytest.approx(biased, rel=1e-9)
    assert cmmd(x, y, estimator="unbiased").value == pytest.approx(
        1000 * unbiased(*kernel), rel=1e-9
    )
    assert cmmd(x, 7.0 * x).value == pytest.approx(0.0, abs=1e-12)


def test_mmd_tells_laws_apart_and_leaves_equal_ones():
    x = normal(200, 2)
    same, other = (
        mmd(x, normal(200, 2, seed=1), permutations=99),
        mmd(x, normal(200, 2, seed=1) + 1.0, permutations=99),
    )
    assert same.p_value > 0.05 and other.p_value == 0.01
    assert abs(same.value) < 0.02 < other.value


@pytest.mark.parametrize("bandwidths", [(0.5,), (2.0,), (0.5, 1.0, 2.0)])
@pytest.mark.parametrize("n", [5, 6])
def test_mmd_by_hand(n, bandwidths):
    """With 12 and 13 points: 66 and 78 distances, both even, of whose two middle ones the lower
    counts; with 10 and 11 there is one."""
    for m in (5, 7):
        x, y = normal(m, 2), normal(n, 2, seed=1)
        median = np.sort(scipy.spatial.distance.pdist(torch.cat([x, y]).numpy()))
        median = float(median[(len(median) - 1) // 2])
        pairs = ((x, x), (y, y), (x, y))
        k = [
            sum(torch.exp(-(torch.cdist(a, b) ** 2) / (2 * (w * median) ** 2)) for w in bandwidths)
            / len(bandwidths)
            for a, b in pairs
        ]
        assert mmd(x, y, bandwidths=bandwidths).value == pytest.approx(
            unbiased(*k), rel=1e-10, abs=1e-13
        )
    assert mmd(x, y).p_value is None


# --- one matrix of features


def test_inception_score_of_sure_and_of_blind_classifiers():
    logits = 1e3 * torch.eye(5, dtype=F64).repeat(40, 1)
    assert inception_score(logits, splits=1).value == pytest.approx(5.0, rel=1e-12)
    assert inception_score(torch.ones(40, 5)).value == pytest.approx(1.0, rel=1e-12)
    # 20 shuffled rows do not hold the classes evenly
    assert 1.0 < inception_score(logits, splits=10).value < 5.0


def test_precision_and_recall_by_hand():
    """On the line with k = 1: references 0, 1, 10; generated 0.5, 9, 30 (their nearest: 8.5, 8.5,
    21)."""
    found = precision_recall([[0.0], [1.0], [10.0]], [[0.5], [9.0], [30.0]], k=1, k_density=1)
    assert found.precision == pytest.approx(2 / 3)  # radii 1, 1, 9
    assert found.recall == pytest.approx(1.0)
    assert found.density == pytest.approx((2 + 1) / 3)
    assert found.coverage == pytest.approx(1.0)


def test_coverage_of_the_same_law():
    """E[coverage] = 1 - prod_{i=1..k} (n - i) / (n + m - i)."""
    n, k = 1500, 5
    found = precision_recall(normal(n, 4), normal(n, 4, seed=1), k_density=k)
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert found.coverage == pytest.approx(expected, abs=0.015)
    assert found.density == pytest.approx(1.0, abs=0.04)
    assert min(found.precision, found.recall) > 0.7


def test_collapse_costs_recall_and_coverage_only():
    found = precision_recall(normal(500, 3), 0.1 * normal(500, 3, seed=1))
    assert (
        found.precision > 0.99
        and found.recall < 0.05
        and found.coverage < 0.3
        and found.density > 1.2
    )


def test_far_samples_are_worth_nothing():
    found = precision_recall(normal(100, 3), normal(100, 3, seed=1) + 50.0)
    assert (found.precision, found.recall, found.density, found.coverage) == (0.0, 0.0, 0.0, 0.0)


def test_copies_are_found():
    train, other = normal(300, 8), normal(100, 8, seed=1)
    copied = train[:100] + 1e-3 * normal(100, 8, seed=2)
    found = memorization(copied, train, held_out=other)
    assert found.fraction == 1.0 and found.held_out_fraction == 0.0 and found.authentic == 0.0
    assert found.z < -10.0
    assert found.nearest.tolist() == list(range(100))
    fresh = memorization(normal(100, 8, seed=3), train, held_out=other)
    assert fresh.fraction == 0.0 and abs(fresh.z) < 3.0 and fresh.authentic > 0.2
    assert memorization(copied, train).z is None


def test_exact_copies_of_duplicated_data_are_copies():
    train = torch.tensor([[0.0], [0.0], [5.0]])
    assert memorization(train[:1], train).fraction == 1.0


def test_mann_whitney_is_scipys():
    a, b = normal(40), normal(30, seed=1).round(decimals=1)
    a = torch.where(a > 0, a.round(decimals=1), a)  # with ties
    u = scipy.stats.mannwhitneyu(
        a, b, use_continuity=False, method="asymptotic", alternative="greater"
    )
    assert scipy.stats.norm.sf(mann_whitney(a, b)) == pytest.approx(u.pvalue, rel=1e-10)
    assert mann_whitney(torch.ones(3), torch.ones(4)) == 0.0


# --- classifier, modes


@pytest.mark.parametrize(("shift", "bayes"), [(0.0, 0.5), (1.0, 0.6915)])
def test_classifier_reaches_what_bayes_allows(shift, bayes):
    y = normal(1000, 2, seed=1)
    y[:, 0] += shift
    found = classifier_test(normal(1000, 2), y)
    assert found.value == pytest.approx(bayes, abs=0.035)
    assert found.n_ref == 1000
    assert 0.0 < found.std < 0.05


def test_classifier_leaves_the_global_state_alone():
    state = torch.random.get_rng_state()
    first = classifier_test(normal(50, 2), normal(60, 2, seed=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == classifier_test(normal(50, 2), normal(60, 2, seed=1))


def ring(n: int, modes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    angle = 2 * math.pi * torch.arange(8, dtype=F64) / 8
    means = torch.stack([angle.cos(), angle.sin()], dim=1)
    return means, means[torch.arange(n) % modes] + 0.02 * normal(n, 2, seed=seed)


def test_modes_that_are_there():
    means, x = ring(8000, 8)
    found = mode_coverage(x, means, 0.02)
    assert found.expected == pytest.approx(1 - math.exp(-4.5), rel=1e-6)
    assert found.quality == pytest.approx(found.expected, abs=0.005)
    assert (found.covered, found.modes, found.tv) == (8, 8, 0.0)


def test_modes_that_are_missing():
    means, x = ring(8000, 6)
    found = mode_coverage(x, means, 0.02)
    assert (found.covered, found.modes) == (6, 8)
    assert found.tv == pytest.approx(0.25, abs=1e-3) and found.kl == pytest.approx(
        math.log(8 / 6), abs=1e-3
    )
    assert mode_coverage(x, means, 0.02, [1.0] * 6 + [0.0] * 2).covered == 6
    assert mode_coverage(x + 0.3, means, torch.full((8,), 0.02)).quality < 0.01


# --- pairs


def test_psnr_of_a_known_error():
    x = torch.zeros(3, 1, 4, 4)
    assert psnr(
        x, x + torch.tensor([0.2, 0.02, 0.0]).view(3, 1, 1, 1), data_range=2.0
    ).tolist() == pytest.approx([20.0, 40.0, math.inf])


def test_ssim_of_equal_and_of_constant_images():
    x = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    assert ssim(x, x, data_range=1.0).tolist() == pytest.approx([1.0, 1.0])
    a, b = 0.2, 0.6  # without structure only the brightness term is left
    c = 0.01**2
    found = ssim(
        torch.full((1, 1, 12, 12), a, dtype=F64),
        torch.full((1, 1, 12, 12), b, dtype=F64),
        data_range=1.0,
    )
    assert float(found) == pytest.approx((2 * a * b + c) / (a * a + b * b + c), rel=1e-9)


# --- torchmetrics


def test_pairs_as_torchmetrics():
    image = pytest.importorskip("torchmetrics.functional.image")
    x = torch.rand(4, 3, 24, 28, generator=torch.Generator().manual_seed(0))
    y = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    mean, full = image.structural_similarity_index_measure(
        x, y, data_range=1.0, reduction="none", return_full_image=True
    )
    np.testing.assert_allclose(
        ssim(x, y, data_range=1.0), full[..., 5:-5, 5:-5].mean(dim=(1, 2, 3)), atol=2e-6
    )
    # theirs counts windows over reflected edges
    assert float((mean - ssim(x, y, data_range=1.0)).abs().max()) > 1e-4
    theirs = image.peak_signal_noise_ratio(x, y, data_range=1.0, reduction="none", dim=(1, 2, 3))
    np.testing.assert_allclose(psnr(x, y, data_range=1.0), theirs, rtol=1e-5)


def test_kernels_as_torchmetrics():
    kid = pytest.importorskip("torchmetrics.image.kid")
    x, y = normal(50, 16), normal(50, 16, seed=1) + 0.2
    theirs = kid.poly_mmd(x, y)
    assert unbiased(cubic(x, x), cubic(y, y), cubic(x, y)) == pytest.approx(
        float(theirs), rel=1e-10
    )


def test_frechet_as_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    from fewstep.eval import FeatureStats, frechet_distance

    a, b = (FeatureStats.from_features(normal(80, 16, seed=s) + s) for s in (0, 1))
    theirs = float(fid._compute_fid(a.mean, a.cov, b.mean, b.cov))
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-10)


# --- bad input

TWO = (normal(20, 2), normal(20, 2, seed=1))
NAN = torch.full((20, 2), math.nan)
METRICS = (
    sliced_wasserstein,
    wasserstein,
    energy_distance,
    cmmd,
    mmd,
    precision_recall,
    memorization,
    classifier_test,
)


@pytest.mark.parametrize("metric", METRICS)
def test_nan_other_dimensions_and_nothing_are_refused(metric):
    metric(*TWO)
    for bad in (
        NAN,
        normal(20, 3),
        torch.zeros(0, 2),
        torch.zeros(20, 0),
        "text",
        torch.tensor(1.0),
    ):
        for pair in ((TWO[0], bad), (bad, TWO[1])):
            with pytest.raises(ScoreError):
                metric(*pair)


@pytest.mark.parametrize(
    "call",
    [
        lambda: kernel_distance(*TWO),  # 20 rows for subsets of 1,000
        lambda: kernel_distance(*TWO, subset_size=1),
        lambda: kernel_distance(TWO[0], NAN, subset_size=5),
        lambda: kernel_distance(*TWO, subsets=0, subset_size=5),
        lambda: cmmd(torch.zeros(3, 2), TWO[1]),
        lambda: cmmd(*TWO, estimator="best"),
        lambda: cmmd(*TWO, sigma=0.0),
        lambda: mmd(torch.zeros(9, 2), torch.zeros(9, 2)),
        lambda: mmd(*TWO, bandwidths=()),
        lambda: mmd(*TWO, bandwidths=(1.0, -1.0)),
        lambda: mmd(TWO[0][:1], TWO[1]),
        lambda: energy_distance(TWO[0][:1], TWO[1]),
        lambda: wasserstein(TWO[0], TWO[1][:19]),
        lambda: wasserstein(*TWO, most=10),
        lambda: wasserstein(*TWO, order=0.5),
        lambda: sliced_wasserstein(*TWO, directions=0),
        lambda: sliced_wasserstein(*TWO, order=math.nan),
        lambda: precision_recall(*TWO, k=20),
        lambda: precision_recall(*TWO, k=True),
        lambda: memorization(TWO[0], TWO[1][:1]),
        lambda: memorization(*TWO, held_out=normal(5, 3)),
        lambda: classifier_test(*TWO, folds=1),
        lambda: classifier_test(*TWO, folds=11),
        lambda: inception_score(torch.zeros(5, 1)),
        lambda: inception_score(torch.zeros(5, 3), splits=6),
        lambda: inception_score(torch.full((5, 3), math.nan)),
        lambda: mode_coverage(TWO[0], TWO[1], 0.0),
        lambda: mode_coverage(TWO[0], TWO[1], 1.0, [1.0, 2.0]),
        lambda: mode_coverage(TWO[0], TWO[1], 1.0, radius=0.0),
        lambda: psnr(torch.zeros(2, 3), torch.zeros(3, 2), data_range=1.0),
        lambda: psnr(torch.zeros(2, 3), torch.full((2, 3), math.nan), data_range=1.0),
        lambda: psnr(torch.zeros(2, 3), torch.zeros(2, 3), data_range=0.0),
        lambda: ssim(torch.zeros(1, 1, 10, 20), torch.zeros(1, 1, 10, 20), data_range=1.0),
        lambda: ssim(torch.zeros(1, 20, 20), torch.zeros(1, 20, 20), data_range=1.0),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ScoreError):
        call()
