"""EnKG, ensemble Kalman diffusion guidance, as an optimiser of populations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, choice, described, integer, number, shown
from ...plans.plan import Plan
from ...samplers import registry as samplers
from ...schedules.grids.construction import grid
from .completions import completed
from .ensemble import cross_products, moved
from .population import Population, Setting
from .ratings import check_alive, rated
from .registry import Cost, Outcome, register
from .rewards import Reward, RewardError

#: published schedules: of each, whether step i of N moves the ensemble, and the divisor of the
#: steps that are left, which gives the steps of the inner run
SCHEDULES: dict[str, tuple[Callable[[int, int], bool], int]] = {
    "authors": (lambda i, n: 0.1 * n < i < n - 0.1 * n, 4),
    "inversebench": (lambda i, n: i >= 1, 8),
}
#: most steps of an inner run
MOST_INNER = 20


@dataclass(frozen=True)
class EnKG:
    """Options of EnKG.

    Args:
        forward: forward model A: ``forward(x0 (R, *shape))`` returns Y (R, ...), a tensor. None: Y
            is the loss, minus the reward, itself; all particles then move by the same vector.
        data: the measurement y, shaped like one Y, or (n, ...) with one for each sample: the loss
            is ``|Y - y|^2``, e = Y - y.
        error: instead of ``data``: a function of Y (R, ...) that returns ``e = (1/2) grad_Y loss``,
            shaped like Y.
        scale: g, the length of a move.
        moves: moves at each step.
        schedule: "authors" (moves at ``0.1 N < i < 0.9 N``, ``1 + (N - i) // 4`` inner steps) or
            "inversebench" (moves from the second step on, ``1 + (N - i) // 8`` inner steps); at
            most 20 inner steps.
        least: None, or m: the length falls, ``g (1 - m) (N - i) / N + m``.
    """

    forward: Any = None
    data: Any = None
    error: Any = None
    scale: float = 2.0
    moves: int = 2
    schedule: str = "authors"
    least: float | None = None

    def __post_init__(self) -> None:
        for name in ("forward", "error"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ArgumentError(f"{name}={shown(value)}: must be a function of a tensor")
        if self.data is not None and not isinstance(self.data, Tensor):
            raise ArgumentError(f"data must be a tensor, got {described(self.data)}")
        given = (self.data is not None) + (self.error is not None)
        if (self.forward is not None) != (given == 1) or given > 1:
            raise ArgumentError(
                "forward= needs one of data= and error=; without forward= the loss is minus the "
                "reward, and neither is used"
            )
        number("scale", self.scale, 0.0)
        integer("moves", self.moves, 1)
        choice("schedule", self.schedule, SCHEDULES)
        if self.least is not None:
            number("least", self.least, 0.0)

    def active(self, i: int, n: int) -> bool:
        """Whether step i of n moves the ensemble."""
        return SCHEDULES[self.schedule][0](i, n)

    def inner(self, i: int, n: int) -> int:
        """Steps of the inner run at step i of n."""
        return min(1 + (n - i) // SCHEDULES[self.schedule][1], MOST_INNER)

    def length(self, i: int, n: int) -> float:
        """Length of a move at step i of n."""
        if self.least is None:
            return self.scale
        return self.scale * (1.0 - self.least) * (n - i) / n + self.least


def inner_plan(setting: Setting, k: int, options: EnKG) -> Plan | None:
    """The run from the state of network call ``k`` to the end, Euler's method on a Karras grid of
    its own; None where the ensemble does not move."""
    steps = setting.plan.call_steps
    i, n = steps[k], steps[-1] + 1
    if not options.active(i, n) or (k and steps[k - 1] == i):
        return None
    start = setting.plan.evaluations[k].node.t
    made = grid("karras", setting.denoiser.schedule, options.inner(i, n), start=start)
    return samplers.build("ddim", made, samplers.make_options(samplers.get("ddim"), {"eta": 0.0}))


def _cost(setting: Setting, options: EnKG) -> Cost:
    each = setting.samples * setting.particles
    rows, moves = setting.network_rows(), 0
    for k in range(setting.plan.nfe):
        plan = inner_plan(setting, k, options)
        if plan is not None:
            moves += options.moves
            rows += options.moves * replace(setting, plan=plan).network_rows()
    return Cost(each * rows, each * (1 + (moves if options.forward is None else 0)))


def _check(setting: Setting, rewards: Reward, options: EnKG) -> None:
    if setting.plan.draws:
        raise ArgumentError(
            f"enkg moves an ensemble along the ODE, and {setting.sampler} adds noise: use a "
            "sampler without noise: ddim, heun"
        )
    for k in range(setting.plan.nfe):
        inner_plan(setting, k, options)


@register(
    "enkg",
    cost=_cost,
    source="Zheng et al. 2024, arXiv 2409.20175, algorithms 1 and 2",
    needs=("x0",),
    sampler="ddim",
    check=_check,
)
def enkg(setting: Setting, rewards: Reward, options: EnKG) -> Outcome:
    """Move the ``particles`` of each sample together along the ODE, at each step also along their
    own differences to a smaller loss; needs no gradient of the forward model.

    An optimiser, not a posterior sampler: the residual falls below the noise of the data and the
    ensemble collapses. A move keeps every particle in the span of the ensemble, so it needs more
    particles than the data has directions. The covariance is that of all particles, whatever
    ``batch`` is. A particle whose outputs are not finite neither moves nor counts in a move. The
    sample is the particle with the largest reward.
    """
    population = Population(setting)
    losses = _Losses(setting, rewards, options)
    steps, inner_rows, moves = setting.plan.call_steps, 0, 0
    while not population.done:
        k = population.index
        plan = inner_plan(setting, k, options)
        for _ in range(options.moves if plan is not None else 0):
            assert plan is not None
            run = completed(population, plan)
            inner_rows, moves = inner_rows + run.network_rows, moves + 1
            length = options.length(steps[k], steps[-1] + 1)
            population.replace(_move(population, *losses(run), length))
        population.step()
    ends = population.result
    found = rated(rewards, ends, population)
    check_alive(found, setting, rewards)
    top, place = found.max(1)
    rows = torch.arange(setting.samples) * setting.particles + place
    return Outcome(
        ends.index_select(0, rows.to(ends.device)),
        top,
        population.network_rows + inner_rows,
        particles=ends.reshape(setting.samples, -1, *ends.shape[1:]),
        particle_rewards=found,
        notes={"moves": moves, "forward_rows": losses.rows},
    )


def _move(population: Population, outputs: Tensor, errors: Tensor, length: float) -> Tensor:
    """The states after one move, each sample an ensemble of its own."""
    x = population.cursor.x
    size, made = population.particles, []
    for s in range(population.samples):
        rows = slice(s * size, (s + 1) * size)
        flat = x[rows].flatten(1)
        made.append(moved(flat, cross_products(outputs[rows], errors[rows]), length))
    return torch.cat(made).reshape(x.shape)


class _Losses:
    """Outputs Y and errors e of finished particles, (S P, m)."""

    def __init__(self, setting: Setting, rewards: Reward, options: EnKG) -> None:
        self.setting, self.rewards, self.options = setting, rewards, options
        #: samples that the forward model was given
        self.rows = 0

    def __call__(self, ends: Population) -> tuple[Tensor, Tensor]:
        x0 = ends.result
        wide = torch.promote_types(x0.dtype, torch.float32)
        if self.options.forward is None:
            y = -rated(self.rewards, x0, ends).reshape(-1, 1).to(x0.device, wide)
            if not bool(torch.isfinite(y).any()):
                raise RewardError(f"no particle has a reward: {self.rewards.lost.first}")
            return y, torch.full_like(y, 0.5)
        self.rows += len(x0)
        outputs = self.options.forward(x0.clone())
        y = _checked("forward", outputs, x0).to(wide)
        return y.flatten(1), self._errors(y).flatten(1).to(wide)

    def _errors(self, y: Tensor) -> Tensor:
        if self.options.error is not None:
            found = _checked("error", self.options.error(y), y)
            if found.shape != y.shape:
                raise ArgumentError(
                    f"error returned shape {tuple(found.shape)} for outputs {tuple(y.shape)}"
                )
            return found
        data: Tensor = self.options.data.to(y)
        own = y.shape[1:]
        if data.shape == own:
            return y - data
        if data.shape == (self.setting.samples, *own):
            return y - data.repeat_interleave(self.setting.particles, 0)
        raise ArgumentError(
            f"data has shape {tuple(data.shape)}; the outputs of forward have {tuple(own)}: "
            f"allowed are {tuple(own)} and {(self.setting.samples, *own)}"
        )


def _checked(name: str, found: Any, x: Tensor) -> Tensor:
    """A tensor of real numbers with one row for each row of ``x``, at least two axes."""
    fits = isinstance(found, Tensor) and found.is_floating_point() and found.ndim >= 2
    if not fits or found.shape[0] != x.shape[0]:
        raise ArgumentError(
            f"{name} returned {described(found)}; it must be a floating point tensor "
            f"({x.shape[0]}, ...)"
        )
    kept: Tensor = found.detach()
    return kept
