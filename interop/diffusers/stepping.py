"""One run of a plan behind diffusers' ``step``: a cursor, the last returned tensor, and the noise
from the caller's generator."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ...checks import ArgumentError
from ...plans.instructions import PlanError
from ...plans.running.loop import Cursor
from ...plans.running.tensor_versions import edited, version
from .output import Prediction
from .program import Compiled
from .replay import GuidedNetwork


class Run:
    """Follows a pipeline through the plan of ``run``, which begins at entry ``begin`` of the
    pipeline's list."""

    def __init__(
        self,
        run: Compiled,
        begin: int,
        sample: Tensor,
        learned: bool = False,
        seed: int | None = None,
    ) -> None:
        self.begin, self.learned = begin, learned
        self.own = None if seed is None else torch.Generator("cpu").manual_seed(seed)
        self.generator: Any = None
        self.network = (
            run.network.for_run(run.plan, sample.shape[0])
            if isinstance(run.network, GuidedNetwork)
            else run.network
        )
        self.clipped = self.network.clip is not None
        self.cursor = Cursor(run.program, self.network, sample, self._draw, fresh=True)
        self.inherited, self.readings = run.program.inherited, run.readings
        self.variance: Tensor | None = None
        # what was given out: the state itself, where an edit in place is the edit of the state; or
        # a copy, its writes counted
        self.given: Tensor = sample
        self.written: int | None = None

    @property
    def index(self) -> int:
        """The entry of the pipeline's list that is due."""
        return self.begin + self.cursor.index

    def _draw(self, key: int, like: Tensor) -> Tensor:
        if self.variance is not None:
            return self.variance.to(like)
        z: Tensor = randn_tensor(
            like.shape, generator=self.generator, device=like.device, dtype=like.dtype
        )
        return z

    def step(
        self, output: Tensor, sample: Tensor, generator: Any, noise: Tensor | None = None
    ) -> tuple[Tensor, Prediction]:
        """The next state, a tensor that no later step writes into, and the evaluation behind it."""
        cursor = self.cursor
        launches, number = cursor.program.launches, cursor.index
        if number + 1 == len(launches):
            raise PlanError(
                f"the run of {number} network calls is over: call set_timesteps for another one"
            )
        if not (generator is None or isinstance(generator, torch.Generator)):
            check_generators(generator, sample.shape[0])
        if sample is not self.given or (self.written is not None and edited(sample, self.written)):
            cursor.replace(sample)
        shape = sample.shape
        if output.shape != shape:
            if not self.learned or output.shape[1] != 2 * shape[1]:
                raise ArgumentError(
                    f"model_output has shape {tuple(output.shape)}, the sample "
                    f"{tuple(shape)}: they must be equal"
                )
            output = output[:, : shape[1]]
        self.generator, self.variance = self.own if generator is None else generator, noise
        if noise is not None and self._draws(number) != 1:
            raise ArgumentError(
                f"step got variance_noise, but this one draws {self._draws(number)} noises: "
                "leave it out"
            )
        state, (data, second) = cursor.x, self.readings[number]
        outputs: tuple[Tensor, ...] = (output,)
        if isinstance(self.network, GuidedNetwork):
            assert cursor.call is not None
            outputs = self.network.answer(cursor.x_in, cursor.call)
        elif self.clipped:
            outputs, data = (self.network.value(output, state, cursor.node),), (0.0, 1.0)
        cursor.step(outputs)
        x = cursor.x
        if number + 1 in self.inherited:  # an edit in place is then seen as a difference
            self.given = x.clone()
            self.written = version(self.given)
        else:
            self.given, self.written = x, None
        return self.given, Prediction(state, outputs, data, second)

    def _draws(self, number: int) -> int:
        """How many noises the launch after call ``number`` reads."""
        return sum(
            operand.kind == "noise" for operand in self.cursor.program.launches[number + 1].operands
        )


def check_generators(generator: Any, batch: int) -> None:
    """ArgumentError for what is no list of generators, one or one a sample."""
    if not isinstance(generator, (list, tuple)) or not all(
        isinstance(g, torch.Generator) for g in generator
    ):
        raise ArgumentError(
            f"step(generator={type(generator).__name__}) must be a torch.Generator, or a "
            "list of them"
        )
    if len(generator) not in (1, batch):
        raise ArgumentError(
            f"{len(generator)} generators for {batch} samples: give one, or one a sample"
        )
