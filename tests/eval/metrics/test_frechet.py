"""Frechet distance and feature statistics: closed forms, ranks, shards, files, intervals, and what
is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import fewstep
from fewstep.eval import (
    FeatureStats,
    Moments,
    Provenance,
    ProvenanceError,
    ScoreError,
    data_hash,
    finite_sample_bias,
    frechet_distance,
    frechet_infinity,
    frechet_interval,
    load_stats,
    save_stats,
)
from fewstep.eval.metrics.frechet import _quick, factor, triangle

F64 = torch.float64


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rotation(dim: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(normal(dim, dim, seed=seed)).Q


def gaussian(mean: torch.Tensor, cov: torch.Tensor) -> FeatureStats:
    return FeatureStats.from_moments(mean, cov, None)


def stretched(dim: int, power: float, seed: int = 0) -> tuple[FeatureStats, FeatureStats, float]:
    """Two Gaussians that do not commute, ``S_2 = T S_1 T`` with a positive T, whose distance is
    ``tr (T - 1) S_1 (T - 1)``."""
    q, p = rotation(dim, seed), rotation(dim, seed + 1)
    first = (q * torch.arange(1, dim + 1, dtype=F64) ** -power) @ q.T
    stretch = (p * torch.linspace(0.5, 2.0, dim, dtype=F64)) @ p.T
    moved = stretch - torch.eye(dim, dtype=F64)
    zero = torch.zeros(dim, dtype=F64)
    return (
        gaussian(zero, first),
        gaussian(zero, stretch @ first @ stretch),
        float((moved @ first @ moved).trace()),
    )


# --- the room


def test_importing_eval_loads_not_even_torch():
    code = (
        "import fewstep, sys; fewstep.eval; print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_every_name_is_there():
    assert all(getattr(fewstep.eval, name) is not None for name in fewstep.eval.__all__)
    assert set(fewstep.eval.__all__) <= set(dir(fewstep.eval))
    with pytest.raises(AttributeError, match="frechet_distnce"):
        _ = fewstep.eval.frechet_distnce


# --- closed forms


def test_equal_covariances_leave_the_means():
    mean = torch.tensor([3.0, -4.0, 0.0], dtype=F64)
    cov = torch.diag(torch.tensor([1.0, 2.0, 0.5], dtype=F64))
    assert frechet_distance(gaussian(mean, cov), gaussian(0 * mean, cov)) == pytest.approx(
        25.0, rel=1e-14
    )


@pytest.mark.parametrize("dim", [1, 2, 7, 64])
def test_commuting_covariances(dim):
    q = rotation(dim, 3)
    a, b = torch.linspace(0.1, 4.0, dim, dtype=F64), torch.linspace(3.0, 0.2, dim, dtype=F64)
    zero = torch.zeros(dim, dtype=F64)
    truth = float((a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(
        gaussian(zero, (q * a) @ q.T), gaussian(zero, (q * b) @ q.T)
    ) == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0, 5.0])
def test_covariances_that_do_not_commute(power):
    a, b, truth = stretched(100, power)
    assert frechet_distance(a, b) == pytest.approx(truth, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(truth, rel=1e-9)


def test_two_by_two_against_many_digits():
    mpmath = pytest.importorskip("mpmath")
    rows = ([[2.0, 0.7], [0.7, 0.5]], [[1.0, -0.3], [-0.3, 1.6]])
    with mpmath.workdps(40):
        s1, s2 = (mpmath.matrix(r) for r in rows)
        product = s1 * s2  # for 2 x 2: tr sqrt(M) = sqrt(tr M + 2 sqrt(det M))
        root = mpmath.sqrt(product[0, 0] + product[1, 1] + 2 * mpmath.sqrt(mpmath.det(product)))
        truth = float(s1[0, 0] + s1[1, 1] + s2[0, 0] + s2[1, 1] - 2 * root)
    stats = [gaussian(torch.zeros(2), torch.tensor(r, dtype=F64)) for r in rows]
    assert frechet_distance(*stats) == pytest.approx(truth, rel=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_inception_size(power):
    a, b, truth = stretched(2048, power)
    assert frechet_distance(a, b) == pytest.approx(truth, rel=1e-9)


def test_as_scipys_root_at_full_rank():
    a, b = (
        FeatureStats.from_features(normal(300, 20, seed=s) @ normal(20, 20, seed=s + 5))
        for s in (0, 1)
    )
    root = scipy.linalg.sqrtm(a.cov.numpy() @ b.cov.numpy()).real
    slow = float((a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace()) - 2.0 * np.trace(
        root
    )
    assert frechet_distance(a, b) == pytest.approx(slow, rel=1e-10)


# --- ranks


def few(count: int, dim: int, seed: int) -> torch.Tensor:
    return normal(count, dim, seed=seed) * torch.arange(1, dim + 1, dtype=F64) ** -0.5


@pytest.mark.parametrize("counts", [(2, 2), (20, 30), (20, 200), (200, 20)])
def test_fewer_samples_than_dimensions(counts):
    """The centred features' own singular values are the truth; the covariances have rank n - 1."""
    features = [few(n, 60, seed) for seed, n in enumerate(counts)]
    roots = [(f - f.mean(0)) / (len(f) - 1) ** 0.5 for f in features]
    means = float((features[0].mean(0) - features[1].mean(0)).square().sum())
    truth = (
        means
        + sum(float(r.square().sum()) for r in roots)
        - 2.0 * float(torch.linalg.svdvals(roots[0] @ roots[1].T).sum())
    )
    found = frechet_distance(*features)
    assert math.isfinite(found)
    assert found == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("count", [3, 40, 400])
def test_a_set_has_no_distance_to_itself(count):
    f = few(count, 50, 0)
    assert 0.0 <= frechet_distance(f, f.clone()) < 1e-11


def test_constant_features():
    assert frechet_distance(torch.ones(4, 3), torch.zeros(5, 3)) == pytest.approx(3.0, rel=1e-15)


def test_the_quick_root_says_where_it_is_not_to_be_trusted():
    for power, precise in ((0.5, True), (6.0, False)):
        a, b, truth = stretched(60, power)
        root, error = _quick(triangle(a.cov), b.cov)
        traces = float(a.cov.trace() + b.cov.trace())
        assert (error < 5e-7 * truth) is precise
        assert abs(traces - 2.0 * root - truth) <= 2.0 * error + 1e-14 * traces


def test_a_factor_leaves_rounding_out():
    cov = FeatureStats.from_features(few(10, 40, 0)).cov
    assert factor(cov).shape == (40, 9)
    torch.testing.assert_close(factor(cov) @ factor(cov).T, cov, rtol=0, atol=1e-14)


@given(st.integers(2, 12), st.integers(2, 30), st.integers(2, 30), st.integers(0, 10**6))
def test_symmetric_and_blind_to_rotation(dim, m, n, seed):
    a, b, q = (
        normal(m, dim, seed=seed),
        2.0 * normal(n, dim, seed=seed + 1) + 1.0,
        rotation(dim, seed + 2),
    )
    found = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(found, rel=1e-9)
    assert frechet_distance(a @ q, b @ q) == pytest.approx(found, rel=1e-9)
    assert frechet_distance(3.0 * a, 3.0 * b) == pytest.approx(9.0 * found, rel=1e-9)


# --- moments


def test_moments_are_numpys():
    f = normal(50, 6) @ normal(6, 6, seed=1) + 7.0
    stats = FeatureStats.from_features(f)
    np.testing.assert_allclose(stats.mean, f.numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(stats.cov, np.cov(f.numpy(), rowvar=False), rtol=1e-12, atol=1e-13)
    assert (stats.count, stats.dim) == (50, 6)


@pytest.mark.parametrize("cuts", [(1, 2, 500), (250,), (0, 0, 999), (333, 334, 700, 701)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_shards_equal_the_single_pass(cuts, offset):
    f = normal(1000, 24) * torch.linspace(0.01, 3.0, 24, dtype=F64) + offset
    whole = FeatureStats.from_features(f)
    parts = Moments()
    for shard in f.tensor_split(cuts):
        part = Moments()
        part.update(shard)
        parts.merge(part)
    merged = parts.stats()
    scale = float(whole.cov.diagonal().max())
    assert merged.count == 1000
    assert float((merged.mean - whole.mean).abs().max()) <= 1e-12 * max(offset, 1.0)
    assert float((merged.cov - whole.cov).abs().max()) <= 1e-12 * scale * (
        1.0 if not offset else 10.0
    )


def test_statistics_merge():
    f = normal(90, 5)
    a, b, c = (FeatureStats.from_features(part) for part in f.split(30))
    merged, whole = a.merge(b, c), FeatureStats.from_features(f)
    torch.testing.assert_close(merged.cov, whole.cov, rtol=0, atol=1e-13)
    assert merged.count == 90
    with pytest.raises(ScoreError, match="without a count"):
        gaussian(torch.zeros(5), torch.eye(5)).merge(a)
    with pytest.raises(ProvenanceError, match="resize 'a' and 'b'"):
        FeatureStats.from_features(f, Provenance(resize="a")).merge(
            FeatureStats.from_features(f, Provenance(resize="b"))
        )


def test_small_variance_around_a_large_mean_survives():
    f = 1e-3 * normal(2000, 2) + 1e4
    assert FeatureStats.from_features(f.split(100)).cov[0, 0].item() == pytest.approx(
        float((f - 1e4)[:, 0].var()), rel=1e-7
    )


def test_float32_features_are_summed_in_float64():
    f = (1e-3 * normal(5000, 2) + 100.0).float()
    exact = np.cov(f.double().numpy(), rowvar=False)
    np.testing.assert_allclose(
        FeatureStats.from_features(f.split(64)).cov, exact, rtol=1e-11, atol=1e-17
    )


# --- files


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_gives_every_bit_back(tmp_path, suffix):
    where = Provenance(
        data=data_hash(normal(3, 2)),
        extractor="net sha256:0",
        resize="none",
        quantize="round",
        dtype="float32",
        note="é",
    )
    stats = FeatureStats.from_features(normal(30, 7), where)
    save_stats(stats, tmp_path / f"s{suffix}")
    again = load_stats(tmp_path / f"s{suffix}")
    assert torch.equal(again.mean, stats.mean) and torch.equal(again.cov, stats.cov)
    assert (again.count, again.provenance) == (30, where)
    save_stats(again, tmp_path / f"t{suffix}")
    assert (tmp_path / f"s{suffix}").read_bytes() == (tmp_path / f"t{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"s{suffix}", f"t{suffix}"]


def test_exact_moments_have_no_count(tmp_path):
    save_stats(gaussian(torch.zeros(2), torch.eye(2)), tmp_path / "s.npz")
    assert load_stats(tmp_path / "s.npz").count is None


def test_other_tools_statistics_are_read(tmp_path):
    np.savez(tmp_path / "edm.npz", mu=np.arange(3.0), sigma=np.eye(3))
    stats = load_stats(tmp_path / "edm.npz")
    assert (
        stats.mean.tolist() == [0.0, 1.0, 2.0]
        and stats.count is None
        and stats.provenance == Provenance()
    )


def test_bad_files_are_refused(tmp_path):
    good = FeatureStats.from_features(normal(9, 2))
    path = tmp_path / "s.npz"
    cases = [
        (lambda: np.savez(path, mu=np.zeros(2)), "holds"),
        (lambda: np.savez(path, mu=np.zeros(2), sigma=np.eye(2), extra=np.eye(2)), "extra"),
        (lambda: np.savez(path, mu=np.zeros(2), sigma=np.eye(3)), r"\(q,\)"),
        (lambda: np.savez(path, mu=np.zeros(2), sigma=np.eye(2), format="other"), "format 'other'"),
        (lambda: np.savez(path, mu=np.zeros(2, dtype=int), sigma=np.eye(2)), "floating point"),
        (lambda: np.savez(path, mu=np.array([None, 1.0]), sigma=np.eye(2)), "plain arrays"),
        (lambda: np.savez(path, mu=np.full(2, np.nan), sigma=np.eye(2)), "NaN"),
        (lambda: path.write_bytes(b"not a zip"), "plain arrays"),
        (lambda: path.write_bytes(path.read_bytes()[:50]), "plain arrays"),
    ]
    for write, message in cases:
        write()
        with pytest.raises(ScoreError, match=message):
            load_stats(path)
    facts = {"format": "fewstep-stats-1", "count": "7", "provenance": json.dumps({"nonsense": "x"})}
    save_file(
        {"mu": good.mean, "sigma": good.cov},
        tmp_path / "s.safetensors",
        metadata={"statistics": json.dumps(facts)},
    )
    with pytest.raises(ScoreError, match="nonsense"):
        load_stats(tmp_path / "s.safetensors")
    (tmp_path / "s.safetensors").write_bytes(b"12345678")
    with pytest.raises(ScoreError, match="safetensors"):
        load_stats(tmp_path / "s.safetensors")
    for name in ("s.pkl", "gone.npz"):
        with pytest.raises(ScoreError):
            load_stats(tmp_path / name)


def test_data_hash_sees_shape_and_dtype():
    x = torch.arange(6)
    assert len({data_hash(v) for v in (x, x.reshape(2, 3), x.int(), x + 1)}) == 4
    assert data_hash(x) == data_hash(x.numpy())


# --- rules


@pytest.mark.parametrize("rule", ["extractor", "resize", "quantize"])
def test_statistics_of_different_rules_are_not_compared(rule):
    a, b = (
        FeatureStats.from_features(normal(9, 2, seed=s), Provenance(**{rule: name}))
        for s, name in ((0, "one"), (1, "two"))
    )
    with pytest.raises(ProvenanceError, match=f"{rule} 'one' and 'two'"):
        frechet_distance(a, b)
    assert frechet_distance(a, b, strict=False) == frechet_distance(
        normal(9, 2, seed=0), normal(9, 2, seed=1)
    )
    assert frechet_distance(a, normal(9, 2, seed=1)) == frechet_distance(a, b, strict=False)


# --- bad input


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(0, 3), "0 samples"),
        (torch.zeros(1, 3), "1 samples"),
        ([], "0 samples"),
        (
            torch.tensor([[0.0, math.nan], [1.0, 2.0], [math.inf, 0.0]]),
            r"2 of 3 rows, first \[0, 2\]",
        ),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], "of 3 and of 4 dimensions"),
        (torch.zeros(4, 0), "no columns"),
        (torch.zeros(3, 2, dtype=torch.complex64), "real"),
        (7, "int"),
    ],
)
def test_bad_features_are_refused(features, message):
    with pytest.raises(ScoreError, match=message):
        FeatureStats.from_features(features)


@pytest.mark.parametrize(
    ("mean", "cov", "count", "message"),
    [
        ([0.0, 0.0], np.eye(3), 5, r"\(q,\)"),
        ([0.0, math.nan], np.eye(2), 5, "NaN"),
        ([0.0, 0.0], [[1.0, 0.5], [0.5 + 1e-5, 1.0]], 5, "symmetric"),
        ([0.0, 0.0], [[1.0, 0.0], [0.0, -1e-9]], 5, "diagonal"),
        ([[0.0, 0.0]], np.eye(2), 5, r"\(q,\)"),
        ([0.0, 0.0], np.eye(2), 1, "count=1"),
        ([0.0, 0.0], np.eye(2), 2.5, "count=2.5"),
        ([0.0, 0.0], np.eye(2), True, "count=True"),
    ],
)
def test_bad_moments_are_refused(mean, cov, count, message):
    with pytest.raises(ScoreError, match=message):
        FeatureStats.from_moments(mean, cov, count)


def test_what_is_no_covariance_is_refused():
    bad = gaussian(torch.zeros(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=F64))
    good = gaussian(torch.zeros(2), torch.eye(2))
    for pair in ((bad, good), (good, bad)):
        with pytest.raises(ScoreError, match="eigenvalues"):
            frechet_distance(*pair)


def test_other_dimensions_are_refused():
    with pytest.raises(ScoreError, match="of 2 and 3"):
        frechet_distance(normal(5, 2), normal(5, 3))


# --- finite samples


def test_bias_of_a_finite_sample():
    """FD of m samples against their own law; the mean of 60 runs, whose standard error is 1 %."""
    truth = gaussian(torch.zeros(16), torch.diag(torch.linspace(0.5, 2.0, 16, dtype=F64)))
    root = truth.cov.diagonal().sqrt()
    mean = sum(frechet_distance(truth, normal(400, 16, seed=s) * root) for s in range(60)) / 60
    assert mean == pytest.approx(finite_sample_bias(truth, 400), rel=0.05)
    unit = gaussian(torch.zeros(16), torch.eye(16))
    assert finite_sample_bias(unit, 400) == pytest.approx((16 + 16 * 17 / 4) / 400, rel=1e-12)


def test_endless_samples():
    """The mean over 16 samples of 200: within 3 standard errors of the truth, which the plain
    distance misses by more than 4."""
    truth = 8 * 0.2**2 + 8 * 0.1**2
    reference = gaussian(torch.zeros(8), torch.eye(8))
    fakes = [1.1 * normal(200, 8, seed=seed) + 0.2 for seed in range(16)]
    found = [
        frechet_infinity(reference, fake, sizes=8, smallest=40, seed=k)
        for k, fake in enumerate(fakes)
    ]
    off, plain = (
        np.array(v) - truth
        for v in ([f.value for f in found], [frechet_distance(reference, fake) for fake in fakes])
    )
    assert abs(off.mean()) < 3.0 * off.std(ddof=1) / 4.0
    assert plain.mean() > 4.0 * plain.std(ddof=1) / 4.0
    assert off.std(ddof=1) < 0.25
    assert (found[0].n_ref, found[0].n_gen) == (None, 200)
    assert found[0] == frechet_infinity(reference, fakes[0], sizes=8, smallest=40, seed=0)
    assert found[0] != frechet_infinity(reference, fakes[0], sizes=8, smallest=40, seed=1)


def interval(run: int) -> tuple[float, float, float]:
    """Interval and truth of one known pair."""
    scale = torch.tensor([1.3, 0.8, 1.0, 1.1], dtype=F64)
    truth = 4 * 0.5**2 + float((scale - 1.0).square().sum())
    found = frechet_interval(
        gaussian(torch.zeros(4), torch.eye(4)),
        normal(200, 4, seed=run) * scale + 0.5,
        resamples=100,
        seed=run,
    )
    return found.low, found.high, truth


def test_interval_of_one_run():
    """The ends are the reflected quantiles of the very resamples (their level and degrees of
    freedom: ``test_intervals``)."""
    scale = torch.tensor([1.3, 0.8, 1.0, 1.1], dtype=F64)
    fake, reference = normal(200, 4, seed=0) * scale + 0.5, gaussian(torch.zeros(4), torch.eye(4))
    generator = torch.Generator().manual_seed(0)
    drawn = [
        frechet_distance(reference, fake[torch.randint(200, (200,), generator=generator)])
        for _ in range(100)
    ]
    plain = frechet_distance(reference, fake)
    low, high, truth = interval(0)
    assert (low, high) == pytest.approx(
        (2 * plain - np.quantile(drawn, 0.975), 2 * plain - np.quantile(drawn, 0.025)), rel=1e-9
    )
    assert low < truth < high
    assert interval(1)[:2] != (low, high)


@pytest.mark.slow
def test_intervals_cover_the_truth():
    found = [interval(run) for run in range(200)]
    assert 0.90 <= sum(low <= truth <= high for low, high, truth in found) / 200 <= 0.99


def test_both_sets_are_resampled_when_both_are_samples():
    a, b = normal(100, 3), normal(100, 3, seed=1)
    one, both = (
        frechet_interval(FeatureStats.from_features(a), b, resamples=50),
        frechet_interval(a, b, resamples=50),
    )
    assert both.high - both.low > one.high - one.low
    assert (both.n_ref, both.n_gen, both.level) == (100, 100, 0.95)


@pytest.mark.parametrize(
    "call",
    [
        lambda: frechet_interval(normal(9, 2), normal(2, 2)),
        lambda: frechet_interval(normal(9, 2), normal(9, 2), level=1.0),
        lambda: frechet_interval(normal(9, 2), normal(9, 2), resamples=0),
        lambda: frechet_infinity(normal(9, 2), normal(3, 2)),
        lambda: frechet_infinity(normal(9, 2), normal(30, 2), sizes=2),
        lambda: frechet_infinity(normal(9, 2), normal(30, 2), smallest=30),
    ],
)
def test_bad_intervals_are_refused(call):
    with pytest.raises(ScoreError):
        call()
