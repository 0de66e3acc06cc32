"""The two k-diffusion functions that take a range of noise levels instead of a list:
DPM-Solver-fast and adaptive DPM-Solver.

Both integrate in ``t = -log sigma``. k-diffusion computes t in torch's default dtype (the adaptive
function in the dtype of the levels if they are tensors), and passes such values to callbacks and to
``noise_sampler``. The coefficients here belong to the exact levels, in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, flag
from ...engine.planning import request
from ...samplers import registry
from ...samplers.drivers.driver import Drive, Trial
from ...schedules import EDM
from ...schedules.grids.request import GridRequest
from ...schedules.node import Node
from .arguments import Range, mapping
from .definition import Function, Options
from .following import Callback, KDiffusionModel, Shown, run_with_callback, step_starts
from .noises import Draws, NoiseSampler, fitted, keyed, step_asks

#: k-diffusion has no bound on the network calls of an adaptive run
MOST_CALLS = 2**31


@torch.no_grad()
def fast(made: Function, given: Mapping[str, Any], further: Options) -> Tensor:
    """Run ``sample_dpm_fast``: ``n`` network calls from sigma_max to sigma_min."""
    ends = Range.of(given["sigma_min"], given["sigma_max"], given["eta"])
    if ends.low == ends.high:
        raise ArgumentError(
            f"sigma_min={ends.low:g} and sigma_max={ends.high:g} are equal; they must differ"
        )
    schedule, x, callback = EDM(*sorted((ends.low, ends.high))), given["x"], given["callback"]
    options = {**made.options(**given), **further}
    where = GridRequest(nfe=given["n"], grid="lam", final="sigma_min")
    asked = request(made.sampler, schedule, options, where)
    plan = registry.build(asked.name, ends.along(asked.grid), asked.options)
    ts = torch.linspace(float(ends.t_high), float(ends.t_low), len(plan.nodes), device=x.device)
    sigmas = ts.neg().exp()
    starts = sorted(step_starts(plan))
    asks = step_asks(plan, starts, sigmas)
    shown = None
    if callback is not None:
        shown = Shown(
            callback, sigmas, sigmas, made.slope_first, lambda i: {"t": ts[i], "t_up": ts[i]}
        )
    draws = Draws(plan, keyed(asks, plan), None, given["noise_sampler"])
    return run_with_callback(
        plan,
        KDiffusionModel(given["model"], mapping(given["extra_args"]), schedule),
        x,
        draws,
        shown,
    )


@torch.no_grad()
def adaptive(
    made: Function, given: Mapping[str, Any], further: Options
) -> Tensor | tuple[Tensor, dict[str, int]]:
    """Run ``sample_dpm_adaptive``; with ``return_info`` also the counts of steps and network
    calls."""
    ends = Range.of(given["sigma_min"], given["sigma_max"], given["eta"])
    flag("return_info", given["return_info"])
    x, callback = given["x"], given["callback"]
    options = {"max_nfe": MOST_CALLS, **made.options(**given), **further}
    trials = Trials(callback, given["noise_sampler"], ends.t_high)
    if ends.low == ends.high:
        registry.make_options(registry.get(made.sampler), options)
        return (x, trials.counts) if given["return_info"] else x
    schedule = EDM(*sorted((ends.low, ends.high)))
    asked = request(made.sampler, schedule, options, GridRequest(grid="lam", final="sigma_min"))
    den = KDiffusionModel(given["model"], mapping(given["extra_args"]), schedule)
    grid = ends.along(asked.grid)
    drive = Drive(
        den,
        x if callback is None else x.clone(),
        grid[0],
        trials.normals,
        max_nfe=asked.options.max_nfe,
    )
    drive.interval_noise, drive.on_trial, drive.reuse, drive.exact_end = (
        trials.between,
        trials.see,
        False,
        False,
    )
    trials.drive = drive
    out: Tensor = drive.close(registry.get(asked.name).build(drive, grid, asked.options))
    return (out, trials.counts) if given["return_info"] else out


class Trials:
    """Noises and callback of an adaptive run: one noise for each accepted trial, one call of the
    callback for each trial, accepted or rejected."""

    drive: Drive

    def __init__(
        self, callback: Callback | None, sampler: NoiseSampler | None, start: Tensor
    ) -> None:
        self.callback, self.sampler, self.start = callback, sampler, start
        self.counts = {"steps": 0, "nfe": 0, "n_accept": 0, "n_reject": 0}
        self.drawn = False

    def normals(self, key: int, like: Tensor) -> Tensor:
        """Normals."""
        return torch.randn_like(like)

    def between(self, start: Node, end: Node, like: Tensor) -> Tensor:
        """The noise of an accepted trial."""
        self.drawn = True
        if self.sampler is None:
            return torch.randn_like(like)
        return fitted(
            self.sampler(self._time(start).neg().exp(), self._time(end).neg().exp()), like
        )

    def see(self, trial: Trial) -> None:
        """Draw the noise that k-diffusion draws even where it is not used; count; call the callback
        with the state as it is now."""
        drive, counts = self.drive, self.counts
        if trial.accepted and not self.drawn:
            self.between(trial.start, drive.node, drive.x)
        self.drawn = False
        counts["n_accept" if trial.accepted else "n_reject"] += 1
        counts["nfe"] = drive.nfe
        counts["steps"] += 1
        if self.callback is None:
            return
        t = self._time(drive.node)
        sigma = t.neg().exp()
        shown = {
            "x": drive.x,
            "i": counts["steps"] - 1,
            "t": t,
            "t_up": t,
            "denoised": trial.outputs["x0"],
            "error": trial.error,
        }
        self.callback({"sigma": sigma, "sigma_hat": sigma, **shown, "h": trial.h, **counts})

    def _time(self, node: Node) -> Tensor:
        """``-log sigma`` in the precision of the levels."""
        return torch.full((), node.lam, dtype=self.start.dtype)
