"""Parallel-in-time sampling: Picard iteration of any plan over a sliding window (ParaDiGMS, Shih et
al. 2023, arXiv 2305.16317, algorithm 1).

The network calls of the plan in the window are made as one batch, at the states of the previous
sweep (at first, at the state where the window begins). The plan is then run through the window by
the common loop, with these outputs in place of network calls. A state is final if its outputs were
computed at exactly the states that the sweep passes. Every sweep makes at least one more call
final, so N calls need at most N sweeps, and fewer if the outputs vary little. A call has converged
if its state moved by less than ``tol`` times the noise that a stochastic step would draw there,
sigma_t sqrt(1 - rho_t^2 / rho_s^2), in the root mean square of the worst sample. The window then
moves to the first call that has not converged. Noises are drawn once per key.

With ``tol=0`` the result is that of the plan, up to the rounding of the network's rows in another
batch. The linear part of each step is exact in a sweep: only the prediction is iterated, for any
plan, including several calls per step, correctors and noise. Outputs that do not exist yet are
taken from the previous call. Every call of every pass is counted. ``passes`` determines the run
time if the device has room for ``window`` times the batch. The host reads one number per call and
pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, integer, number
from ...checks.option_values import pairs
from ...plans.running.loop import Cursor
from ...plans.running.lowering import lower
from ...schedules.grids.construction import Grid
from ..registry import SamplerError, build, get, make_options, register
from ..singlestep.ancestral import noise_share
from .driver import Drive, Driven
from .step_control import rms


@dataclass(frozen=True)
class Picard(Driven):
    """Options of ``picard``.

    ``method``: the sampler whose plan is run, with ``arguments`` as its options; ``window``: number
    of calls made at once; ``tol``: convergence tolerance, 0 gives the plan's own result.
    """

    method: str = "ddim"
    arguments: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    window: int = 16
    tol: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        integer("window", self.window, 1, 10_000)
        number("tol", self.tol, 0.0, 10.0)
        if get(self.method).form != "plan":
            raise SamplerError(
                f"method={self.method!r} is a driver; must be a sampler of form plan"
            )
        object.__setattr__(self, "arguments", pairs("arguments", self.arguments))
        self.inner()

    def inner(self) -> Any:
        """The options of the plan."""
        return make_options(get(self.method), dict(self.arguments))


class Window:
    """The calls from ``first`` on. ``cursor`` is at the first of them; ``states`` and ``inputs``
    are evaluated in the next pass."""

    def __init__(self, drive: Drive, cursor: Cursor, options: Picard) -> None:
        self.drive, self.cursor, self.options = drive, cursor, options
        self.calls = cursor.program.calls
        self.first = 0
        self.states, self.inputs = [cursor.x.clone()], [cursor.x_in.clone()]

    def advance(self) -> None:
        """Make one network pass and one sweep, then move on by the converged calls."""
        count = len(self.states)
        answers = self.drive.call_together(self.inputs, self.calls[self.first : self.first + count])
        sweep = self.cursor.fork()
        states, inputs = [], []
        for answer in answers:
            states.append(sweep.x.clone())
            inputs.append(sweep.x_in.clone())
            sweep.step(answer)
        done = self._converged(states)
        while not sweep.done and len(states) < done + self.options.window:
            states.append(sweep.x.clone())
            inputs.append(sweep.x_in.clone())
            sweep.step(answers[-1])
        if not self._commit(answers[:done]):
            self.states, self.inputs = states[done:], inputs[done:]

    def _converged(self, states: list[Tensor]) -> int:
        """Number of leading calls that have converged to ``tol``; the first always counts."""
        if len(states) == 1:
            return 1
        moved = [
            rms(a - b).max() / self._unit(self.first + k)
            for k, (a, b) in enumerate(zip(states, self.states, strict=True))
            if k
        ]
        fits = (torch.stack(moved) <= self.options.tol).tolist()
        return 1 + (fits.index(False) if False in fits else len(fits))

    def _unit(self, number_: int) -> float:
        """Standard deviation of the noise that a step to this call's level would draw."""
        s, t = self.calls[number_ - 1].node, self.calls[number_].node
        fresh = noise_share(s, t, 1.0) if t.rho < s.rho else 0.0
        return max(fresh, 1e-3 * t.sigma)

    def _commit(self, answers: list[tuple[Tensor, ...]]) -> bool:
        """Make the steps of the converged calls. Returns True if an edit of the state invalidates
        the outputs of later calls."""
        drive, cursor = self.drive, self.cursor
        for answer in answers:
            cursor.step(answer)
            self.first += 1
            if drive.accept(cursor.x.clone(), cursor.node, answer):
                cursor.replace(drive.x)
                self.states, self.inputs = (
                    ([], []) if cursor.done else ([cursor.x.clone()], [cursor.x_in.clone()])
                )
                return True
        return False


def parallel(drive: Drive, cursor: Cursor, options: Picard) -> Tensor:
    """Run the cursor to its end."""
    window = Window(drive, cursor, options)
    while not cursor.done:
        window.advance()
    return cursor.result


def _no_budget(nfe: int, options: Picard) -> tuple[int, Picard]:
    raise ArgumentError(
        f"nfe={nfe}: the calls of picard depend on the data; use steps=, and max_nfe= to limit them"
    )


@register(
    "picard",
    order=lambda o: get(o.method).order_of(o.inner()),
    source="Shih et al. 2023, arXiv 2305.16317, algorithm 1",
    tau=lambda o: get(o.method).tau_of(o.inner()),
    form="driver",
    fill=_no_budget,
    follows=lambda o: (o.method, o.inner()),
    variants=(
        {"method": "ddpm"},
        {"method": "dpmpp_2m"},
        {"method": "unipc", "window": 4},
        {"method": "heun", "tol": 0.01},
    ),
)
def picard(drive: Drive, grid: Grid, options: Picard) -> Tensor:
    """Parallel-in-time sampling of any plan: Picard iteration over a sliding window of network
    calls."""
    plan = build(options.method, grid, options.inner())
    drawn: dict[int, Tensor] = {}

    def noise(key: int, like: Tensor) -> Tensor:
        if key not in drawn:
            if drive.noise is None:
                raise ArgumentError(f"{options.method} draws noise: noise= or seeds must be given")
            drawn[key] = drive.noise(key, like)
        return drawn[key]

    return parallel(
        drive, Cursor(lower(plan, drive.denoiser), drive.denoiser, drive.x, noise), options
    )
