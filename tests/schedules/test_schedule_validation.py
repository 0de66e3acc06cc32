"""``schedules.check``: each planted defect is named with its function and time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

import fewstep
from fewstep.schedules import Schedule, ScheduleError, VPLinear, check, grid, register
from fewstep.schedules.base import namespace
from fewstep.schedules.registry import SCHEDULES
from fewstep.schedules.validation import check_schedule


@dataclass(frozen=True)
class Line(Schedule):
    """``alpha = 1 - t / 2``, ``sigma = t`` on [0.01, 1]."""

    t_min: ClassVar[float] = 0.01
    t_max: ClassVar[float] = 1.0

    def alpha(self, t: Any) -> Any:
        return 1.0 - 0.5 * t

    def sigma(self, t: Any) -> Any:
        return 1.0 * t

    def dalpha(self, t: Any) -> Any:
        return -0.5 + 0.0 * t

    def dsigma(self, t: Any) -> Any:
        return 1.0 + 0.0 * t

    def t_of_lam(self, lam: Any) -> Any:
        rho = namespace(lam).exp(-lam)
        return rho / (1.0 + 0.5 * rho)


def test_a_sound_schedule_passes_and_samples() -> None:
    check(Line())
    check_schedule(Line())
    assert fewstep.plan("dpmpp_2m", Line(), steps=4).nfe == 4


def spoiled(**members: Any) -> Schedule:
    """``Line`` with other members."""
    return dataclass(frozen=True)(type("Spoiled", (Line,), members))()


DEFECTS = [
    ({"dsigma": lambda self, t: 1.01 + 0.0 * t}, r"dsigma\(0\.\d+\) is 1\.01; the finite diff"),
    ({"dalpha": lambda self, t: 0.5 + 0.0 * t}, r"dalpha\(0\.\d+\) is 0\.5; .* is -0\.5"),
    ({"t_of_lam": lambda self, lam: 0.5 + 0.0 * lam}, r"t_of_lam\(lam\(.*\)\) is 0\.5; it must"),
    (
        {"t_of_lam": lambda self, lam: Line.t_of_lam(self, lam + 1e-5)},
        r"t_of_lam\(lam\(0\.\d+\)\) is 0\.",
    ),
    (
        {"sigma": lambda self, t: 1.0 - 0.9 * t, "dsigma": lambda self, t: 0.0 * t - 0.9},
        "lam is .* fall",
    ),
    ({"sigma": lambda self, t: -1.0 * t}, r"sigma\(0\.\d+\) is -0\.\d+; .* > 0"),
    ({"alpha": lambda self, t: math.nan * t}, r"alpha\(0\.\d+\) is nan"),
    ({"t_max": 0.01}, "t_min=0.01, t_max=0.01; .* t_min < t_max"),
    ({"t_max": math.inf}, "t_max=inf"),
    ({"t_zero": 0.5}, "t_zero=0.5, .* <= t_min=0.01"),
    ({"t_zero": 0.01}, "at t_zero=0.01 .* sigma must be exactly 0"),
    ({"prior_scale": 0.0}, "prior_scale is 0.0"),
    ({"lam_start": None}, "lam_start is None"),
    ({"lam": lambda self, t: Schedule.lam(self, t) + 0.1}, r"lam\(.*\) is .* log\(alpha / sigma"),
    ({"rho": lambda self, t: t}, r"rho\(.*\) is .*; sigma / alpha is"),
    ({"f": lambda self, t: 0.0 * t}, r"f\(.*\) is 0; dalpha / alpha is -0\."),
    ({"g2": lambda self, t: 1.0 + 0.0 * t}, r"g2\(.*\) is 1; 2 sigma dsigma"),
    ({"dlam": lambda self, t: -1.0 + 0.0 * t}, r"dlam\(.*\) is -1; the finite difference of lam"),
    ({"sigma": lambda self, t: float(t)}, "sigma of a float64 array raises TypeError"),
    (
        {"sigma": lambda self, t: t if isinstance(t, float) else 0.5 * t},
        r"sigma\(0\.\d+\) is 0\.\d+ for a float and 0\.\d+ for a float64 array",
    ),
    (
        {
            "t_max": 2.0,
            "alpha": lambda self, t: 1.0 - 0.5 * t,
        },
        "alpha is 0 at t_max=2.0, so lam_start must be finite; it is -inf",
    ),
    (
        {"t_min": 0.0, "lam_start": -5.0},
        "sigma is 0 at t_min=0.0, so lam_end must be finite; it is inf",
    ),
]


@pytest.mark.parametrize(("members", "message"), DEFECTS)
def test_a_defect_is_named(members: dict[str, Any], message: str) -> None:
    schedule = spoiled(**members)
    with pytest.raises(ScheduleError, match=message):
        check(schedule)
    with pytest.raises(ScheduleError, match=message):
        grid("uniform", schedule, 4)
    with pytest.raises(ScheduleError, match=message):
        fewstep.plan("ddim", schedule, steps=3)


def test_missing_functions_are_named() -> None:
    @dataclass(frozen=True)
    class Bare(Schedule):
        t_min: ClassVar[float] = 0.1
        t_max: ClassVar[float] = 1.0

        def alpha(self, t: Any) -> Any:
            return 1.0 + 0.0 * t

    with pytest.raises(ScheduleError, match="leaves out sigma, dalpha, dsigma, t_of_lam$"):
        check(Bare())


def test_a_schedule_must_be_hashable() -> None:
    loose = type("Loose", (Line,), {"__hash__": None})()
    with pytest.raises(ScheduleError, match="must be a frozen dataclass"):
        grid("uniform", loose, 3)


def test_a_users_schedule_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Schedule] = []
    monkeypatch.setattr("fewstep.schedules.validation.check", calls.append)
    schedule = spoiled()
    for _ in range(3):
        grid("uniform", schedule, 3)
    assert calls == [schedule]
    grid("uniform", VPLinear(), 3)
    assert calls == [schedule]


def test_registration_takes_frozen_dataclasses_of_a_new_name(monkeypatch) -> None:
    monkeypatch.setattr("fewstep.schedules.registry.SCHEDULES", dict(SCHEDULES))
    assert register(Line) is Line
    with pytest.raises(ScheduleError, match="'Line' is registered twice"):
        register(Line)
    for cls in (type("Bare", (Schedule,), {}), dataclass(type("Warm", (Schedule,), {})), int):
        with pytest.raises(ScheduleError, match="must be a frozen dataclass derived from Schedule"):
            register(cls)
