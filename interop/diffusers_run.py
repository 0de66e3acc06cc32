"""One run of a plan seen as diffusers' ``step``: a cursor, the tensor given out last, and the noise of the caller's generator."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..checks import ArgumentError
from ..plans.instructions import PlanError
from ..plans.loop import Cursor
from .diffusers_program import Compiled


class StepOutput(SchedulerOutput):
    """diffusers' output of a step, made without its checks (which take as long as a small step)."""

    def __init__(self, prev_sample: Tensor) -> None:
        OrderedDict.__setitem__(self, "prev_sample", prev_sample)
        object.__setattr__(self, "prev_sample", prev_sample)


class Run:
    """Follows a pipeline through the plan of ``run``, which begins at entry ``begin`` of the pipeline's list."""

    def __init__(self, run: Compiled, begin: int, sample: Tensor, learned: bool = False, seed: int | None = None) -> None:
        self.begin, self.learned = begin, learned
        self.own = None if seed is None else torch.Generator("cpu").manual_seed(seed)
        self.generator: Any = None
        self.network, self.clipped = run.network, run.network.clip is not None
        self.cursor = Cursor(run.program, run.network, sample, self._draw, fresh=True)
        self.inherited = run.program.inherited
        self.given, self.version = sample, sample._version

    @property
    def index(self) -> int:
        """The entry of the pipeline's list that is due."""
        return self.begin + self.cursor.index

    def _draw(self, key: int, like: Tensor) -> Tensor:
        z: Tensor = randn_tensor(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)
        return z

    def step(self, output: Tensor, sample: Tensor, generator: Any) -> Tensor:
        """The next state, a tensor that no later step writes into."""
        cursor = self.cursor
        launches, number = cursor.program.launches, cursor.index
        if number + 1 == len(launches):
            raise PlanError(f"the run of {number} network calls is over: call set_timesteps for another one")
        if isinstance(generator, (list, tuple)) and len(generator) not in (1, sample.shape[0]):
            raise ArgumentError(f"{len(generator)} generators for {sample.shape[0]} samples: give one, or one a sample")
        if sample is not self.given or sample._version != self.version:
            cursor.replace(sample)
        shape = sample.shape
        if output.shape != shape:
            if not self.learned or output.shape[1] != 2 * shape[1]:
                raise ArgumentError(f"model_output has shape {tuple(output.shape)}, the sample {tuple(shape)}: they must be equal")
            output = output[:, : shape[1]]
        self.generator = self.own if generator is None else generator
        if self.clipped:
            output = self.network.value(output, cursor.x, cursor.node)
        cursor.step((output,))
        x = cursor.x
        self.given = x.clone() if number + 1 in self.inherited else x  # an edit in place is then seen as a difference
        self.version = x._version if self.given is x else 0
        return self.given


def position(timesteps: Tensor, timestep: Any, starts: Sequence[int]) -> int:
    """The entry of ``timesteps`` that ``timestep`` is: by its place in memory (no device is waited for), else by its value.

    Of equal values the first that begins a step. ValueError where there is none.
    """
    if isinstance(timestep, Tensor) and timestep.untyped_storage().data_ptr() == timesteps.untyped_storage().data_ptr():
        return (timestep.storage_offset() - timesteps.storage_offset()) // max(1, timesteps.stride(0))
    value = float(torch.as_tensor(timestep).flatten()[0])
    found = [k for k, t in enumerate(timesteps.tolist()) if t == value]
    if not found:
        raise ArgumentError(f"timestep {value} is none of this run's: {timesteps.tolist()}; iterate over scheduler.timesteps")
    return next((k for k in found if k in starts), found[0])
