"""What stands beside a score: intervals, corrections and errors by their definitions, and the sizes
at which a rule changes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scoring_material import normal

import fewstep.eval as E
from fewstep.eval.features.value_range import Values
from fewstep.eval.scoring.features import Collected
from fewstep.eval.scoring.intervals import kernel_distance_error, wilson
from fewstep.eval.scoring.neighbours import neighbourhood
from fewstep.eval.scoring.rated_metrics import METRICS, Metric
from fewstep.eval.scoring.ratings import Rating, RatingOptions
from fewstep.eval.scoring.scores import metric_names, rate

Z95 = 1.959963984540054


def rated(
    name: str,
    x: torch.Tensor,
    reference: torch.Tensor | None = None,
    logits: torch.Tensor | None = None,
    **options: Any,
) -> Rating:
    made = Collected(50_000)
    made.add(x.float(), None if logits is None else logits.float())
    held = (
        None
        if reference is None
        else E.FeatureSet(E.FeatureStats.from_features(reference), reference)
    )
    return rate(made, held, metric_names([name]), options=RatingOptions(**options))[name]


def left_out(rows: torch.Tensor) -> list[torch.Tensor]:
    return [torch.cat([rows[:j], rows[j + 1 :]]) for j in range(len(rows))]


def test_the_inception_score_less_its_bias_is_the_jackknifes() -> None:
    """``n T - (n - 1) mean T_-j`` (Quenouille 1956), with ``z`` standard errors on either side."""
    z = (normal(23, 4, 5) * 1.5).float().double()
    whole = E.inception_score(z, splits=1).value
    parts = torch.tensor(
        [E.inception_score(rows, splits=1).value for rows in left_out(z)], dtype=torch.float64
    )
    error = math.sqrt(22 / 23 * float((parts - parts.mean()).square().sum()))
    found = rated("is", normal(23, 2, 0), logits=z)
    assert found.value == pytest.approx(whole, rel=1e-9) and found.std == pytest.approx(
        error, rel=1e-9
    )
    middle = 23 * whole - 22 * float(parts.mean())
    assert (found.low, found.corrected, found.high) == pytest.approx(
        (middle - Z95 * error, middle, middle + Z95 * error), rel=1e-9
    )
    assert (
        found.details["splits"] == 1.0
        and found.details["part_std"] == 0.0
        and found.details["classes"] == 4.0
    )
    assert (found.n_ref, found.n_gen, found.level) == (None, 23, 0.95)


@pytest.mark.parametrize(("n", "splits"), [(4999, 1), (5000, 10)])
def test_the_inception_score_of_ten_parts(n: int, splits: int) -> None:
    """From 5000 samples on the mean over ten parts, whose errors are independent: each part's
    correction and error, put together."""
    z = normal(n, 3, 7).float().double()
    found, plain = rated("is", normal(n, 1, 0), logits=z), E.inception_score(z, splits=splits)
    assert found.value == plain.value and found.details["splits"] == splits
    assert found.details["part_std"] == pytest.approx(plain.std or 0.0, rel=1e-9)
    one = rated("is", normal(500, 1, 0), logits=z[:500])
    assert found.corrected is not None and found.std is not None and one.std is not None
    assert abs(found.corrected - E.inception_score(z, splits=1).value) < 0.1 * one.std < one.std
    assert found.std == pytest.approx(one.std * math.sqrt(500 / n), rel=0.15)


def test_the_interval_of_the_frechet_distance() -> None:
    """Below 100 resamples ``z`` deviations on either side; from there on the quantiles of the
    bootstrap."""
    r, g = normal(90, 3, 0), (normal(60, 3, 1) * 1.1 + 0.2).float().double()
    stats = E.FeatureStats.from_features(r)
    for resamples in (20, 99, 100):
        found = rated("fd", g, r, resamples=resamples, seed=3)
        own = E.frechet_interval(stats, g, resamples=resamples, level=0.95, seed=3)
        assert found.corrected == own.value and found.std == own.std and own.std is not None
        want = (
            (own.low, own.high)
            if resamples >= 100
            else (own.value - Z95 * own.std, own.value + Z95 * own.std)
        )
        assert (found.low, found.high) == pytest.approx(want, rel=1e-12)
    bias = E.finite_sample_bias(stats, 60) + E.finite_sample_bias(stats, 90)
    assert found.details["perfect_model"] == pytest.approx(bias, rel=1e-12)
    assert (found.n_ref, found.n_gen) == (90, 60)


@pytest.mark.parametrize(
    ("n", "dim", "note", "interval"),
    [
        (4, 5, "few", False),
        (5, 5, "few", True),
        (49, 5, "few", True),
        (50, 5, None, True),
        (2, 1, "few", False),
        (3, 1, "few", True),
    ],
)
def test_few_samples_are_told(n: int, dim: int, note: str | None, interval: bool) -> None:
    """No interval from fewer samples than dimensions (or than three), a note below ten a
    dimension."""
    found = rated("fd", normal(n, dim, 1), normal(90, dim, 0), resamples=4)
    assert (found.low is not None) == interval
    assert (found.note is None) if note is None else note in (found.note or "")


def test_how_often_a_wide_distance_is_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 256 dimensions 20 times, else 200, if nothing is asked for."""
    asked: list[int] = []

    def counted(*_: Any, resamples: int, **more: Any) -> E.Estimate:
        asked.append(resamples)
        return E.Estimate(1.0, low=0.0, high=2.0, std=0.5)

    monkeypatch.setattr("fewstep.eval.scoring.rated_metrics.frechet_interval", counted)
    for dim in (256, 257):
        rated("fd", normal(260, dim, 1), normal(8, dim, 0))
    assert asked == [200, 20]
    assert (
        rated("fd", normal(9, 2, 1), normal(9, 2, 0), resamples=0).low is None and len(asked) == 2
    )


def test_a_sample_on_the_edge_of_a_ball() -> None:
    """On a line of whole numbers: precision and recall take the edge of a ball with it, density and
    coverage do not."""
    r, g = (
        torch.tensor(v, dtype=torch.float64)[:, None]
        for v in ([0.0, 2.0, 6.0, 11.0, 30.0, 22.0], [-2.0, 12.0, -6.0, 18.0, -4.0])
    )
    apart = (r - g.T).abs()  # (reference, generated)
    for k in (1, 2):
        radius, balls = ((v - v.T).abs().sort(dim=1).values[:, k] for v in (r, g))
        close = apart < radius[:, None]
        want = {
            "precision": float((apart <= radius[:, None]).any(dim=0).double().mean()),
            "recall": float((apart <= balls[None]).any(dim=1).double().mean()),
            "density": float(close.sum(dim=0).double().mean()) / k,
            "coverage": float(close.any(dim=1).double().mean()),
        }
        assert k > 1 or ((apart == radius[:, None]).any() and (apart == balls[None]).any())
        near = E.precision_recall(r, g, k=k, k_density=k)
        found = neighbourhood(r, g, k=k, k_density=k)
        assert {name: getattr(near, name) for name in want} == pytest.approx(want, abs=1e-12)
        assert {name: found[name].value for name in want} == pytest.approx(want, abs=1e-12)


def test_the_error_of_the_kernel_distance_has_two_parts() -> None:
    """That of all pairs, and that of the mean over ``subsets`` random subsets."""
    r, g = normal(50, 3, 0).float().double(), (normal(40, 3, 1) + 0.5).float().double()
    found = rated("kid", g, r, subsets=16, subset_size=30, seed=2)
    own = E.kernel_distance(r, g, subsets=16, subset_size=30, seed=2)
    want = math.sqrt(kernel_distance_error(r, g) ** 2 + (own.std or 0.0) ** 2 / 16)
    assert found.value == own.value and found.std == pytest.approx(want, rel=1e-12)
    assert (found.low, found.high) == pytest.approx(
        (own.value - Z95 * want, own.value + Z95 * want), rel=1e-12
    )
    assert found.details == {"subset_std": own.std, "subset_size": 30.0}
    assert rated("kid", g, r, subsets=2).details["subset_size"] == 40.0


def test_shares_have_intervals_within_0_and_1() -> None:
    r, g = normal(60, 2, 0).float().double(), normal(40, 2, 1).float().double()
    near = E.precision_recall(r, g)
    precision = rated("precision", g, r)
    assert (precision.low, precision.high) == pytest.approx(
        wilson(near.precision, 40, 0.95), rel=1e-12
    )
    for name, k, top in (("recall", 3, 1.0), ("coverage", 5, 1.0), ("density", 5, math.inf)):
        found, value = rated(name, g, r), getattr(near, name)
        assert found.std is not None and found.method == f"jackknife; k={k}"
        want = max(value - Z95 * found.std, 0.0), min(value + Z95 * found.std, top)
        assert (found.low, found.high) == pytest.approx(want, rel=1e-12)
    assert rated("density", g, r).high > 1.0  # type: ignore[operator]


def test_what_options_of_a_rating_are_refused() -> None:
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(E.ScoreError, match="level="):
            RatingOptions(level=level)
    for name in ("pairs", "k", "k_density", "subsets", "subset_size"):
        assert getattr(RatingOptions(**{name: 1}), name) == 1
        with pytest.raises(E.ScoreError, match=f"{name}="):
            RatingOptions(**{name: 0})
    assert RatingOptions(resamples=0).resamples == 0 and RatingOptions().resamples is None
    with pytest.raises(E.ScoreError, match="resamples="):
        RatingOptions(resamples=-1)
    plain = RatingOptions()
    assert (plain.level, plain.seed, plain.pairs, plain.k, plain.k_density) == (
        0.95,
        0,
        10_000,
        3,
        5,
    )
    assert (plain.subsets, plain.subset_size, plain.strict) == (100, 1000, True)


# --- values of floating point images


@pytest.mark.parametrize(
    ("least", "greatest", "likely"),
    [
        *(
            (0.0, 1.0, "0, 1"),
            (0.0, 1.001, "0, 1"),
            (0.0, 1.0011, None),
            (0.0, 1.5, None),
            (0.0, 1.51, "0, 255"),
            (-0.001, 0.9, "0, 1"),
        ),
        *((-0.0011, 0.9, None), (-0.0011, 300.0, None), (0.0, 255.0, "0, 255")),
    ],
)
def test_the_limits_of_another_convention(
    least: float, greatest: float, likely: str | None
) -> None:
    """A thousandth is rounding; between there and 1.5 it is a bright image in [-1, 1]."""
    values = Values(10, 0, least, greatest)
    if likely is None:
        values.judge(None)
    else:
        with pytest.raises(E.ScoreError, match=rf"value_range=\({likely}\)"):
            values.judge(None)
    values.judge((-1.0, 1.0))
    Values().judge(None)


def test_values_at_the_ends_of_the_range_are_within() -> None:
    x = torch.tensor([-1.0, 1.0, 0.5])
    assert (Values.of(x).outside, Values.of(x).clamped) == (0, 0.0)
    over = torch.tensor([-1.0, math.nextafter(1.0, 2.0), -2.0, 0.0], dtype=torch.float64)
    assert Values.of(over) == Values(4, 2, -2.0, math.nextafter(1.0, 2.0))
    assert Values.of(x, (0.0, 0.5)).outside == 2
    assert Values.of(x) + Values.of(over) == Values(7, 2, -2.0, math.nextafter(1.0, 2.0))
    assert Values.of(torch.tensor([3], dtype=torch.uint8)) == Values() == Values.of(torch.zeros(0))
    assert Values().clamped == 0.0 and Values().to_dict() is None


def test_the_clamped_share_in_words() -> None:
    assert (
        Values(10_000, 1, -2.0, 3.0).text()
        == "0.01 % of the values (from -2 to 3) lay outside [-1, 1] and were clamped"
    )
    assert Values(10_001, 1, -2.0, 3.0).text().startswith("less than 0.01 %")
    assert (
        Values(10, 5, -2.0, 3.0)
        .text((0.0, 2.0))
        .startswith("50 % of the values (from -2 to 3) lay outside [0, 2]")
    )
    assert Values(10, 0, -1.0, 1.0).text() == ""


def test_a_metric_is_a_function_and_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row in ``METRICS`` is all that ``score`` and its checks need."""
    made = Metric(lambda m: Rating(float(m.kept.sum())), "sum", reference=False, least=3)
    monkeypatch.setitem(METRICS, "sum", made)
    x = torch.arange(8.0, dtype=torch.float64).reshape(4, 2)
    assert rated("sum", x).value == 28.0
    with pytest.raises(E.ScoreError, match="sum: 2 samples, must be at least 3"):
        rated("sum", x[:2])
    with pytest.raises(E.ScoreError, match="recall, sum$"):
        metric_names("unknown_metric_name")
