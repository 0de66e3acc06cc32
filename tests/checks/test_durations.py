"""Lengths of time in words."""

from __future__ import annotations

import pytest

from fewstep.checks import ArgumentError
from fewstep.checks.durations import duration


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(90, 90.0), (0.5, 0.5), ("90", 90.0), ("90s", 90.0), ("5min", 300.0), (" 1.5 h ", 5400.0)],
)
def test_a_duration_is_seconds(given: object, seconds: float) -> None:
    assert duration("budget", given) == seconds


@pytest.mark.parametrize("given", ["5 minutes", "", "min", "-5", "1e3", True, None, -1.0, "5,5s"])
def test_other_texts_are_refused(given: object) -> None:
    with pytest.raises(ArgumentError, match="budget="):
        duration("budget", given)
