"""Scores from one pass: values equal to the metrics taken alone, standard errors equal to the
definition, intervals that cover."""

from __future__ import annotations

import math

import pytest
import torch
from scoring_material import normal

import fewstep.eval as E
from fewstep.eval.metrics.kernels import cubic, unbiased
from fewstep.eval.scoring.features import Collected, chosen_places
from fewstep.eval.scoring.intervals import (
    cmmd_with_error,
    inception_parts,
    jackknife_error,
    kernel_distance_error,
    normal_quantile,
    wilson,
)
from fewstep.eval.scoring.neighbours import neighbourhood
from fewstep.eval.scoring.rated_metrics import METRICS
from fewstep.eval.scoring.ratings import RatingOptions
from fewstep.eval.scoring.scores import check_request, metric_names, rate

F64 = torch.float64
SHARES = ("precision", "recall", "density", "coverage")


def collected(features, logits=None, size=50, keep=50_000):
    made = Collected(keep)
    for i in range(0, len(features), size):
        made.add(
            features[i : i + size].float(), None if logits is None else logits[i : i + size].float()
        )
    return made


def single(x):
    """As it is kept."""
    return x.float().double()


def rated(features, reference, metrics, logits=None, **options):
    held = (
        reference
        if isinstance(reference, E.FeatureSet)
        else E.FeatureSet(E.FeatureStats.from_features(reference), reference)
    )
    return rate(
        collected(features, logits), held, metric_names(metrics), options=RatingOptions(**options)
    )


# --- one pass gives what the metrics give alone


def test_every_metric_from_one_pass():
    r, g, z = (
        single(normal(200, 5, 0)),
        single(normal(150, 5, 1) * 1.2 + 0.3),
        single(normal(150, 7, 2) * 2.0),
    )
    found = rated(g, r, list(METRICS), z, resamples=20, subsets=10, subset_size=100)
    near = E.precision_recall(r, g)
    alone = {
        "fd": E.frechet_distance(r, g),
        "fd_infinity": E.frechet_infinity(E.FeatureStats.from_features(r), g).value,
        "kid": E.kernel_distance(r, g, subsets=10, subset_size=100).value,
        "is": E.inception_score(z, splits=1).value,
        **{name: getattr(near, name) for name in SHARES},
        "cmmd": E.cmmd(r, g).value,
        "memorization": E.memorization(g, r).fraction,
    }
    assert {name: found[name].value for name in METRICS} == pytest.approx(alone, rel=1e-9)
    assert list(found.ratings) == list(METRICS) and found.count == 150
    for name in METRICS:
        rating = found[name]
        middle = rating.value if rating.corrected is None else rating.corrected
        assert rating.low <= middle <= rating.high and rating.low < rating.high, name
        assert rating.n_gen == 150 and rating.level == 0.95 and rating.method, name


def test_images_are_scored_by_the_library():
    images = torch.randint(
        0, 256, (70, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    found = E.score(images, "mnist:test", metrics="fd,is")
    extractor = E.load_extractor("mnist")
    want = E.frechet_distance(E.bundled_stats("mnist", "test"), extractor.stats(images, batch=64))
    assert found["fd"].value == pytest.approx(want, rel=1e-12)
    assert found.reference == "mnist:test" and found.generated.extractor.startswith(
        "fd-mnist sha256:"
    )
    assert found["fd"].n_ref == 10_000 and found["fd"].n_gen == 70
    in_batches = E.score([images[:64], images[64:]], "mnist:test", metrics="fd")
    assert in_batches["fd"].value == found["fd"].value
    assert (
        E.score(images[:20].float() / 127.5 - 1.0, None, extractor="mnist", metrics="is")[
            "is"
        ].n_gen
        == 20
    )


def test_the_bundled_reference_keeps_features_of_its_own():
    """2,000 of the 60,000 training images: their distance to all of them is what so many samples
    have."""
    held = E.load_reference("mnist:train")
    assert held.features.shape == (2000, 64) and held.stats.count == 60_000
    distance = E.frechet_distance(held.stats, held.features)
    assert distance == pytest.approx(E.finite_sample_bias(held.stats, 2000), rel=1 / 3)


def test_shards_add_up_to_the_single_pass():
    x = normal(1000, 6, 3) + 100.0
    whole = collected(x, size=1000).stats()
    parts = collected(x, size=37).stats()
    scale = float(whole.cov.abs().max())
    assert float((whole.mean - parts.mean).abs().max()) < 1e-12 * 100
    assert float((whole.cov - parts.cov).abs().max()) < 1e-12 * max(scale, 1.0)


def test_a_bounded_number_of_features_is_kept_whatever_the_batches():
    x = torch.arange(500.0)[:, None].repeat(1, 2)
    a, b = collected(x, size=500, keep=40), collected(x, size=7, keep=40)
    assert torch.equal(a.features(), b.features()) and a.features().shape == (40, 2)
    assert a.count == b.count == 500 and len(b._index[0]) == 40
    assert bool((a.features()[:, 0].diff() > 0).all()), "in the order of the source"
    assert float(a.features()[:, 0].std()) > 100.0, "spread over the whole, not its head"
    assert a.stats().count == 500
    places = chosen_places(torch.arange(10_000), 5_000)
    assert abs(float(places.double().mean()) - 4999.5) < 4 * 10_000 / math.sqrt(12 * 5_000)
    few = rate(a, E.FeatureSet(E.FeatureStats.from_features(normal(20, 2, 0))), ("fd",))
    assert few["fd"].low is None and "40 of 500" in few["fd"].note


# --- standard errors are those of the definition


def without(metric, g):
    return jackknife_error(
        torch.tensor([metric(torch.cat([g[:j], g[j + 1 :]])) for j in range(len(g))], dtype=F64)
    )


@pytest.mark.parametrize(("seed", "k", "shift"), [(0, 3, 0.5), (1, 1, 1.5), (2, 2, 0.0)])
def test_neighbour_errors_are_the_jackknifes(seed, k, shift):
    r, g = normal(40, 3, 2 * seed), normal(30, 3, 2 * seed + 1) + shift
    found, want = neighbourhood(r, g, k, 4), E.precision_recall(r, g, k=k, k_density=4)
    for name in SHARES:
        assert found[name].value == pytest.approx(getattr(want, name), rel=1e-12)
        by_hand = without(
            lambda rest, name=name: getattr(E.precision_recall(r, rest, k=k, k_density=4), name), g
        )
        assert found[name].error == pytest.approx(by_hand, rel=1e-9, abs=1e-12), name


def test_kernel_errors_are_the_jackknifes():
    r, g = normal(25, 4, 0), normal(20, 4, 1) + 0.4
    by_hand = without(lambda rest: unbiased(cubic(r, r), cubic(rest, rest), cubic(r, rest)), g)
    assert kernel_distance_error(r, g) == pytest.approx(by_hand, rel=1e-9)
    value, free, error = cmmd_with_error(r, g)
    assert value == pytest.approx(E.cmmd(r, g).value, rel=1e-9)
    assert free == pytest.approx(E.cmmd(r, g, estimator="unbiased").value, rel=1e-9)
    assert error == pytest.approx(without(lambda rest: E.cmmd(r, rest).value, g), rel=1e-9)


def test_inception_errors_are_the_jackknifes():
    z = normal(40, 5, 3) * 3.0
    value, left_out = inception_parts(z)
    assert value == pytest.approx(E.inception_score(z, splits=1).value, rel=1e-12)
    assert float(left_out[7]) == pytest.approx(
        E.inception_score(torch.cat([z[:7], z[8:]]), splits=1).value, rel=1e-12
    )
    sure = torch.eye(4, dtype=F64).repeat(5, 1) * 1e4
    assert inception_parts(sure)[0] == pytest.approx(4.0)


def test_wilson_and_the_normal_quantile():
    assert normal_quantile(0.95) == pytest.approx(1.959963984540054, rel=1e-9)
    low, high = wilson(0.0, 20, 0.95)
    assert low == 0.0 and high == pytest.approx(0.1611, abs=1e-4)  # Wilson 1927: z^2 / (n + z^2)
    assert wilson(1.0, 20, 0.95) == pytest.approx((1.0 - high, 1.0))


# --- intervals cover


def gaussian_runs(metrics, runs, m=200, q=4, **options):
    """Scores of draws of N(0.5, diag) against the fixed features of N(0, 1)."""
    scale = torch.tensor([1.3, 0.8, 1.0, 1.1], dtype=F64)[:q]
    r = normal(300, q, 999)
    exact = E.FeatureSet(E.FeatureStats.from_moments(torch.zeros(q), torch.eye(q), None), r)
    truth = q * 0.25 + float((scale - 1.0).square().sum())
    return (
        r,
        scale,
        truth,
        [
            rated(normal(m, q, run) * scale + 0.5, exact, metrics, seed=run, **options)
            for run in range(runs)
        ],
    )


@pytest.mark.slow
def test_frechet_intervals_cover_the_known_distance():
    """The issue's number: 90 to 99 % of 200 runs; and at as many samples as dimensions no fewer
    than 90 %."""
    *_, truth, found = gaussian_runs("fd", 200, resamples=100)
    assert 0.90 <= sum(s["fd"].low <= truth <= s["fd"].high for s in found) / 200 <= 0.99
    *_, truth, found = gaussian_runs("fd", 100, m=5, resamples=100)
    assert sum(s["fd"].low <= truth <= s["fd"].high for s in found) >= 90


@pytest.mark.slow
def test_other_intervals_cover_what_many_samples_give():
    """Truth: the same reference against very many samples; for recall and coverage, which depend on
    m, the mean of all runs."""
    names = ("kid", "cmmd", "fd_infinity", *SHARES)
    r, scale, fd, found = gaussian_runs(names, 200, resamples=100, subset_size=200, subsets=20)
    many = normal(4000, 4, 12345) * scale + 0.5
    truth = {
        "kid": unbiased(cubic(r, r), cubic(many, many), cubic(r, many)),
        "cmmd": E.cmmd(r, many, estimator="unbiased").value,
        "fd_infinity": fd,
        **{name: sum(s[name].value for s in found) / 200 for name in SHARES},
    }
    for name in names:
        covered = sum(s[name].low <= truth[name] <= s[name].high for s in found) / 200
        assert 0.88 <= covered <= 1.0, (name, covered)
        deviation = float(torch.tensor([s[name].corrected or s[name].value for s in found]).std())
        stated = sum(s[name].std for s in found) / 200
        assert 0.85 < stated / deviation < 2.0, (name, stated, deviation)


@pytest.mark.slow
def test_inception_intervals_cover_the_score_of_very_many():
    z = normal(200_000, 6, 77) * 2.0
    truth = E.inception_score(z, splits=1).value
    reference = E.FeatureSet(E.FeatureStats.from_moments(torch.zeros(2), torch.eye(2), None))
    found = [
        rated(normal(150, 2, run), reference, "is", normal(150, 6, 5000 + run) * 2.0)["is"]
        for run in range(200)
    ]
    assert 0.90 <= sum(s.low <= truth <= s.high for s in found) / 200 <= 0.99
    plain, corrected = (
        sum(getattr(s, name) for s in found) / 200 - truth for name in ("value", "corrected")
    )
    assert abs(corrected) < 0.3 * abs(plain)


# --- what a number is worth is said


def test_few_samples_are_said_to_be_few():
    reference = E.FeatureSet(E.FeatureStats.from_moments(torch.zeros(8), torch.eye(8), None))
    few = rated(normal(6, 8, 0), reference, "fd")["fd"]
    assert few.low is None and "few for 8 dimensions" in few.note
    assert few.details["perfect_model"] == pytest.approx(E.finite_sample_bias(reference.stats, 6))
    assert rated(normal(200, 8, 0), reference, "fd", resamples=20)["fd"].note is None
    assert "normal" in rated(normal(200, 8, 0), reference, "fd", resamples=20)["fd"].method
    assert rated(normal(200, 8, 0), reference, "fd", resamples=0)["fd"].low is None


def test_memorization_is_calibrated_where_there_is_held_out_data():
    train, held_out = normal(100, 3, 0), normal(60, 3, 1)
    reference = E.FeatureSet(E.FeatureStats.from_features(train), train)
    found = rate(collected(train[:40]), reference, ("memorization",), held_out=held_out)[
        "memorization"
    ]
    assert found.value == 1.0 and found.details["z"] < -5.0 and found.high == 1.0
    assert "not calibrated" in rated(train[:40], train, "memorization")["memorization"].note


def test_titles_name_the_network():
    from fewstep.jobs.metric_names import title

    assert title("fd", E.Provenance(extractor="fd-mnist sha256:00", resize="none")) == "FD-mnist"
    assert (
        title("fd_infinity", E.Provenance(extractor="fd-cifar sha256:00")) == "FD-cifar at infinity"
    )
    assert title("fd", E.Provenance(extractor="inception sha256:00", resize="tf")) == "FID"
    assert (
        title("fd", E.Provenance(extractor="inception sha256:00", resize="clean"))
        == "FID (inception, clean)"
    )
    assert title("fd", E.Provenance(extractor="dinov2-small sha256:00")) == "FD (dinov2-small)"
    assert title("recall", E.Provenance(extractor="fd-mnist sha256:00")) == "recall (fd-mnist)"


# --- what cannot be scored


def test_requests_that_cannot_be_met_are_refused():
    moments = E.FeatureSet(E.FeatureStats.from_features(normal(20, 3, 0)), None, "mnist:test")
    for name in ("kid", "precision", "cmmd", "memorization"):
        with pytest.raises(
            E.ScoreError, match="mnist:test.*moments only.*fewstep ref DATA --features"
        ):
            check_request((name,), moments, 100)
    with pytest.raises(E.ScoreError, match="fd needs a reference"):
        check_request(("fd",), None, 100)
    with pytest.raises(E.ScoreError, match="fd: 1 samples, must be at least 2"):
        rate(collected(normal(1, 3, 0)), moments, ("fd",))
    with pytest.raises(E.ScoreError, match="did you mean 'kid'"):
        metric_names("kidd")
    with pytest.raises(E.ScoreError, match="class logits"):
        rated(normal(9, 3, 0), normal(9, 3, 1), "is")
    with pytest.raises(E.ScoreError, match="3 dimensions, the samples 4"):
        rated(normal(9, 4, 0), normal(9, 3, 1), "kid")
    with pytest.raises(
        E.ScoreError, match=r"2 samples hold NaN or infinity, first the batch's \[1, 3\]"
    ):
        Collected().add(torch.tensor([[0.0], [math.nan], [1.0], [math.inf]]))
    with pytest.raises(E.ScoreError, match="level=2"):
        RatingOptions(level=2)
    with pytest.raises(E.ScoreError, match="did you mean 'mnist:test'"):
        E.load_reference("mnist:tset")
    with pytest.raises(E.ScoreError, match="name that network"):
        E.score(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), moments)


def test_statistics_of_other_rules_are_refused_unless_asked():
    other = E.FeatureStats.from_features(
        normal(20, 3, 0), E.Provenance(extractor="a", resize="tf1")
    )
    held, mine = E.FeatureSet(other), E.Provenance(extractor="a", resize="pil")
    with pytest.raises(E.ProvenanceError, match="resize 'tf1' and 'pil'"):
        rate(collected(normal(9, 3, 1)), held, ("fd",), provenance=mine)
    found = rate(
        collected(normal(9, 3, 1)),
        held,
        ("fd",),
        provenance=mine,
        options=RatingOptions(strict=False),
    )
    assert found["fd"].value > 0.0
