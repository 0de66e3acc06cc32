"""Drivers at their limits: steps that cannot be small enough, what rejections cost, and networks on
another device than the CPU."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import fewstep
from fewstep.models import GaussianMixture
from fewstep.plans.running.finiteness import NumericalError, Watch
from fewstep.plans.running.program import Call
from fewstep.samplers.drivers.driver import StepSizeError
from fewstep.schedules import EDM, Schedule, VPLinear


class Flip(GaussianMixture):
    """Answers of alternating sign and any size."""

    sign = 1e25

    def raws(self, x_in: torch.Tensor, t: Any, cond: Any = None) -> tuple[torch.Tensor, ...]:
        self.sign = -self.sign
        return (torch.full_like(x_in, self.sign),)


@pytest.mark.parametrize("name", ["ode45", "ode853", "dpm_adaptive", "adaptive_sde"])
def test_no_step_is_small_enough(name: str) -> None:
    """The run ends before its step is lost in rounding, and says with which state."""
    with pytest.raises(StepSizeError, match="meets the tolerance") as stop:
        fewstep.sample(
            Flip([[0.0]], [1.0], [1.0], VPLinear(), "x0"), name, n=1, dtype=torch.float64
        )
    assert stop.value.x.shape == (1, 1) and 4 < stop.value.nfe < 500


@pytest.mark.parametrize(("scheme", "again"), [("shark", 2), ("sra1", 1)])
def test_what_a_rejected_trial_costs(scheme: str, again: int) -> None:
    """Two calls a trial; sra1 evaluates the state itself first, and keeps that where the trial is
    rejected."""
    model = GaussianMixture(
        [[1.0, -0.5], [-0.8, 0.6]], [0.05, 0.08], [0.6, 0.4], EDM(0.01, 20.0), "x0"
    )
    options = {"scheme": scheme, "h0": 2.0, "rtol": 0.05, "atol": 0.05}
    info = fewstep.sample(
        model, "adaptive_sde", n=3, seed=1, final="sigma_min", info=True, **options
    )[1]
    assert info.rejected >= 2 and info.accepted >= 4
    assert info.nfe == 2 * info.accepted + again * info.rejected


@pytest.mark.parametrize("schedule", [EDM(0.01, 20.0), VPLinear()], ids=lambda s: type(s).__name__)
def test_a_first_step_beyond_the_end_is_cut_to_it(schedule: Schedule) -> None:
    """With a tolerance that anything meets there is one trial, of the length of the range, and not
    of ``h0``."""
    model = GaussianMixture([[0.5, -1.0]], [0.3], [1.0], schedule, "x0")
    loose: dict[str, Any] = {"h0": 10.0, "rtol": 1.0, "atol": 10.0, "final": "sigma_min"}
    for order in (2, 3):
        x, info = fewstep.sample(model, "dpm_adaptive", n=2, order=order, info=True, **loose)
        assert (info.accepted, info.rejected, info.nfe) == (1, 0, order) and bool(
            torch.isfinite(x).all()
        )


def test_a_bad_number_is_told_at_once_or_at_the_end() -> None:
    """On the CPU by the call that brings it; on a device, which nobody waits for, when the run is
    over, and by the same call."""
    node = VPLinear().node(0.5)
    calls = [Call(k, node, 0, 0, 1.0) for k in range(3)]
    good, bad = torch.zeros(2, 3), torch.tensor([[0.0, 1.0, 2.0], [0.0, math.inf, 0.0]])
    watch = Watch(calls, good)
    watch.see([good])
    with pytest.raises(
        NumericalError,
        match=r"network output is not finite at evaluation 1 \(t=0\.5\), samples \[1\]",
    ):
        watch.see([good, bad])
    late = Watch(calls, torch.zeros(2, 3, device="meta"))
    for raws in ([good], [bad], [good]):
        late.see(raws)
    with pytest.raises(NumericalError, match=r"at evaluation 1 \(t=0\.5\), samples \[1\]"):
        late.close(good)
    fine = Watch(calls, good)
    fine.see([good])
    fine.close(good)
    with pytest.raises(
        NumericalError, match=r"the result is not finite at evaluation 3 .*samples \[1\]"
    ):
        fine.close(bad)
