"""One run of a plan seen as diffusers' ``step``: a cursor, the tensor given out last, and the noise of the caller's generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..plans.instructions import PlanError
from ..plans.loop import Cursor
from .diffusers_program import Compiled


class Run:
    """Follows a pipeline through the plan of ``run``, which begins at entry ``begin`` of the pipeline's list."""

    def __init__(self, run: Compiled, begin: int, sample: Tensor, learned: bool = False, seed: int | None = None) -> None:
        self.begin, self.learned = begin, learned
        self.own = None if seed is None else torch.Generator("cpu").manual_seed(seed)
        self.generator: Any = None
        self.network = run.network
        self.cursor = Cursor(run.program, run.network, sample, self._draw)
        self.inherited = {number for launch in run.program.launches for _, number, _ in launch.edits}
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
        cursor, call = self.cursor, self.cursor.call
        if call is None:
            raise PlanError(f"the run of {cursor.program.plan.nfe} network calls is over: call set_timesteps for another one")
        if cursor.index and (sample is not self.given or sample._version != self.version):
            cursor.replace(sample)
        if self.learned and output.shape[1] == 2 * sample.shape[1]:
            output = output[:, : sample.shape[1]]
        if output.shape != sample.shape:
            raise ValueError(f"model_output has shape {tuple(output.shape)}, the sample {tuple(sample.shape)}: they must be equal")
        self.generator = self.own if generator is None else generator
        slots = cursor.state.slots
        for slot in cursor.program.launches[cursor.index + 1].outs:  # a caller may keep what it was given: write into new tensors
            slots[slot] = None
        cursor.step((self.network.value(output, cursor.x, call.node),))
        number = cursor.index
        x = cursor.x
        self.given = x.clone() if number in self.inherited else x  # an edit in place is then seen as a difference
        self.version = self.given._version
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
        raise ValueError(f"timestep {value} is none of this run's: {timesteps.tolist()}; iterate over scheduler.timesteps")
    return next((k for k in found if k in starts), found[0])
