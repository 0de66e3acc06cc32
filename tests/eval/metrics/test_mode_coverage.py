"""Mode coverage of samples that can be counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from fewstep.eval import mode_coverage

MEANS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]], dtype=torch.float64)


def points(*groups: tuple[tuple[float, float], int]) -> torch.Tensor:
    return torch.cat(
        [torch.tensor([at], dtype=torch.float64).repeat(count, 1) for at, count in groups]
    )


def test_counted_by_hand() -> None:
    """Shares 4, 3, 2, 1 of ten against weights 1, 1, 1, 1: tv and KL in closed form; two of the ten
    lie too far out."""
    x = points(
        ((0.1, 0.0), 4),
        ((10.0, 0.1), 2),
        ((10.0, 3.1), 1),
        ((0.0, 9.9), 1),
        ((0.0, 13.2), 1),
        ((10.0, 10.0), 1),
    )
    found = mode_coverage(x, MEANS, 1.0)
    shares = [0.4, 0.3, 0.2, 0.1]
    assert found.shares.tolist() == pytest.approx(shares)
    assert found.tv == pytest.approx(0.5 * sum(abs(p - 0.25) for p in shares))
    assert found.kl == pytest.approx(sum(p * math.log(p / 0.25) for p in shares))
    assert (found.quality, found.covered, found.modes) == (pytest.approx(0.8), 4, 4)


@pytest.mark.parametrize(("radius", "quality"), [(3.0, 0.5), (2.0, 0.25), (4.5, 0.75), (6.5, 1.0)])
def test_the_radius_is_in_deviations(radius: float, quality: float) -> None:
    """At distances 0, 2.5, 4 and 6 deviations, of width 0.5; expected is P(chi_2 <= radius)."""
    x = points(((0.0, 0.0), 1), ((1.25, 0.0), 1), ((0.0, 2.0), 1), ((0.0, -3.0), 1))
    found = mode_coverage(x, MEANS, 0.5, radius=radius)
    assert found.quality == pytest.approx(quality)
    assert found.expected == pytest.approx(1.0 - math.exp(-0.5 * radius**2), rel=1e-6)
    three = mode_coverage(torch.zeros(2, 3), torch.zeros(1, 3), 1.0, radius=radius)
    assert three.expected == pytest.approx(stats.chi(3).cdf(radius), rel=1e-5)


def test_nearest_is_in_deviations_and_weights_are_shares() -> None:
    """At (4, 0) the wide second mode is nearer in its deviations; a mode without weight is none of
    the modes."""
    x = points(((4.0, 0.0), 3), ((0.0, 10.0), 1))
    found = mode_coverage(x, MEANS, torch.tensor([1.0, 2.0, 1.0, 1.0]), [2.0, 4.0, 2.0, 0.0])
    assert found.shares.tolist() == pytest.approx([0.0, 0.75, 0.25, 0.0])
    assert (found.covered, found.modes) == (1, 3), (
        "the second mode's samples are 3 deviations off, not within 3"
    )
    assert found.tv == pytest.approx(0.5 * (0.25 + 0.25 + 0.0))
    assert found.kl == pytest.approx(0.75 * math.log(0.75 / 0.5))


def test_a_mode_is_covered_from_one_percent_of_its_mass_on() -> None:
    """Of 1,000 samples, equal weights of 4: 2.5 samples are 1 % of a mode's mass, so 3 cover it and
    2 do not."""
    for count, covered in ((3, 2), (2, 1)):
        x = points(((0.0, 0.0), 1000 - count), ((10.0, 0.0), count))
        assert mode_coverage(x, MEANS, 1.0).covered == covered
    far = points(((0.0, 0.0), 900), ((10.0, 3.5), 100))
    assert mode_coverage(far, MEANS, 1.0).covered == 1, "only samples within the radius hold a mode"
