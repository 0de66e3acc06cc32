"""Parallel in time: any plan by Picard iteration over a sliding window (ParaDiGMS, Shih et al.
2023, arXiv 2305.16317, algorithm 1).

The network calls of a plan that lie in the window are made at once, as one batch, at the states of
the sweep before (at first, at the state where the window begins). Then the plan is run through the
window by the one loop, with those answers in place of the network's. A state whose answers were
made at the very states that the sweep passes is final; after every sweep at least one more call is,
so that N calls take at most N sweeps, and fewer where the answers vary little. A call counts as
converged where its state moved by less than ``tol`` times the noise that a stochastic step would
draw there, sigma_t sqrt(1 - rho_t^2 / rho_s^2), in the root mean square of the sample that is
worst; the window then moves on to the first call that is not. Noises are drawn once a key.

With ``tol=0`` the result is that of the plan, to the rounding of the network's rows in another
batch. The linear part of every step is exact in a sweep: what is iterated is the prediction alone,
for any plan, several calls a step, correctors and noise included. An answer that is not there yet
is taken from the call before. Every call of every pass is counted; ``passes`` is what takes time
where the device has room for ``window`` times the batch. The host reads one number a call and pass.
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
    """``method``: the sampler whose plan is run, with ``arguments`` as its options; ``window``
    calls at once; ``tol``: 0 gives the plan's own result."""

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
    """The calls from ``first`` on: ``cursor`` stands at the first of them, ``states`` and
    ``inputs`` are what the next pass evaluates."""

    def __init__(self, drive: Drive, cursor: Cursor, options: Picard) -> None:
        self.drive, self.cursor, self.options = drive, cursor, options
        self.calls = cursor.program.calls
        self.first = 0
        self.states, self.inputs = [cursor.x.clone()], [cursor.x_in.clone()]

    def advance(self) -> None:
        """One pass of the network and one sweep; moves on by the calls that converged."""
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
        """How many calls were evaluated where the sweep passes: the first always, the next ones to
        ``tol``."""
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
        """The noise that a step to this call's level would draw."""
        s, t = self.calls[number_ - 1].node, self.calls[number_].node
        fresh = noise_share(s, t, 1.0) if t.rho < s.rho else 0.0
        return max(fresh, 1e-3 * t.sigma)

    def _commit(self, answers: list[tuple[Tensor, ...]]) -> bool:
        """Take the steps that these answers make; True where an edit made what is known beyond them
        worthless."""
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
        f"nfe={nfe}: the calls of picard depend on the data; give steps=, and max_nfe= to "
        "limit them"
    )


@register(
    "picard",
    order=lambda o: get(o.method).order_of(o.inner()),
    source="Shih et al. 2023, arXiv 2305.16317, algorithm 1",
    tau=lambda o: get(o.method).tau_of(o.inner()),
    form="driver",
    fill=_no_budget,
    variants=(
        {"method": "ddpm"},
        {"method": "dpmpp_2m"},
        {"method": "unipc", "window": 4},
        {"method": "heun", "tol": 0.01},
    ),
)
def picard(drive: Drive, grid: Grid, options: Picard) -> Tensor:
    """Any plan, parallel in time: Picard iteration over a sliding window of network calls."""
    plan = build(options.method, grid, options.inner())
    drawn: dict[int, Tensor] = {}

    def noise(key: int, like: Tensor) -> Tensor:
        if key not in drawn:
            if drive.noise is None:
                raise ArgumentError(f"{options.method} draws noise: give noise= or seeds")
            drawn[key] = drive.noise(key, like)
        return drawn[key]

    return parallel(
        drive, Cursor(lower(plan, drive.denoiser), drive.denoiser, drive.x, noise), options
    )
