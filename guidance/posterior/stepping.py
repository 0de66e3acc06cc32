"""Methods that replace the states of a run, with noise of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError
from ...fused.noise.seeded import GUIDANCE_STREAM, SeededNoise
from ...models.base import RunFacts
from ...models.denoiser import Denoiser
from ...plans.builder import PlanBuilder
from ...plans.plan import Plan
from ...plans.running.step_state import StepState
from ...samplers.singlestep.ancestral import ancestral_shares
from ...schedules.grids.construction import Grid
from ...schedules.node import Node
from .counts import Counts
from .posterior import Levels, Posterior
from .prediction import Prediction


@dataclass
class Run:
    """What a run of a method keeps: its noise, the number of its calls, how many of them wait for
    the change of their step, what the method keeps, and where the present path to the data began
    and how many calls it has left."""

    noise: SeededNoise | None = None
    calls: int = 0
    due: int = 0
    kept: dict[str, Any] = field(default_factory=dict)
    level: Node | None = None
    left: int = 0


class Stepping(Posterior):
    """A denoiser that predicts the model's D, and whose ``on_step`` changes the state after each
    step; a subclass defines ``moved`` and ``per_step``.

        x = fewstep.sample(method, "ddim", eta=1.0, callback=method.on_step)

    Its noise belongs to the seeds of the samples: stream GUIDANCE, draw number = number of the
    call. Runs without ``on_step``, without seeds, and from data to noise are refused.
    """

    differentiates = False
    #: the cost of a change
    per_step = Counts()

    def __init__(self, denoiser: Denoiser, likelihood: Any) -> None:
        super().__init__(denoiser, likelihood)
        self.joinable = False
        self._run = Run()

    @override
    def counted(self) -> Self:
        made = super().counted()
        made._run = Run()
        return made

    @override
    def for_run(self, facts: RunFacts) -> Self:
        """Begin a run. Raises ArgumentError for one that the method does not take."""
        name = type(self).__name__
        if facts.inverse or facts.steps is None:
            raise ArgumentError(f"{name} changes states: it runs from noise to data, with a plan")
        if not facts.seeds:
            raise ArgumentError(f"{name} draws noise of the seeds: give seeds=, not noise=")
        made = super().for_run(facts)
        self._run.noise = SeededNoise(facts.seeds, GUIDANCE_STREAM)
        self._run.calls, self._run.due, self._run.level = len(facts.steps), 0, None
        return made

    @override
    def cost(self, t: float) -> Counts:
        return Counts(1) + self.per_step

    @override
    def spent(self) -> Counts:
        return Counts(1) + self.per_step

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        return p.value

    @override
    def readings(self, x0: Tensor, corrected: Tensor) -> tuple[Tensor, ...]:
        if self._run.due:
            raise ArgumentError(
                f"{type(self).__name__} changes the state after each step: give its on_step as "
                "callback= of fewstep.sample, or use guidance.solve"
            )
        self._run.due += self._run.noise is not None
        return super().readings(x0, corrected)

    def on_step(self, step: StepState) -> Tensor | None:
        """The state after a step of a run of this denoiser. Raises ArgumentError for a step of
        another run."""
        if not self._run.due:
            raise ArgumentError(
                f"on_step belongs to a run of this very {type(self).__name__}: give both to "
                "fewstep.sample"
            )
        self._run.due = 0
        with torch.no_grad():
            moved: Tensor = self.moved(step).to(step.x_next.dtype)
        return moved

    def moved(self, step: StepState) -> Tensor:
        """The state at ``step.next_node``."""
        raise NotImplementedError

    def drawn(self, step: StepState, draw: int = 0, draws: int = 1) -> Tensor:
        """Normals like the state, number ``draw`` of ``draws`` of this step."""
        assert self._run.noise is not None
        return self._run.noise(step.index * draws + draw, wide(step.x_next))

    def measured(self, x: Tensor, node: Node) -> Tensor:
        """``alpha y - A(x)`` for a state (B, *shape) at ``node`` and a linear operator, one call of
        it; ``A^+`` of it leads to the states whose signal has the measurement y."""
        self.counts.operator += 1
        shifted = x if self.offset is None else x + node.alpha * self.offset.to(x)
        value = self.likelihood.operator(shifted)
        lost: Tensor = node.alpha * self.likelihood.data(value) - value
        return lost

    def pinverse(self, y: Tensor, like: Tensor) -> Tensor:
        """``A^+ y``, shaped like the state ``like``."""
        self.counts.adjoint += 1
        found: Tensor = self.likelihood.operator.pinverse(y).reshape(like.shape)
        return found


def bare_plan(grid: Grid, name: str) -> Plan:
    """DDIM steps, for methods that replace every state."""
    b = PlanBuilder(grid.nodes, name=name)
    x = b.start(grid[0])
    for s, t in grid.pairs():
        e, _ = ancestral_shares(s, t, 0.0)
        x = b.at(t, e * x + (t.alpha - e * s.alpha) * b.evaluate(x, s, "x0"))
    return b.finish(x)


def wide(x: Tensor) -> Tensor:
    """``x`` in float32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
