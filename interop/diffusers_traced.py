"""A run under ``torch.compile``: diffusers' ``step`` as tensors alone, so that one graph serves all steps of all runs of a shape.

Two graphs are made: the first step's, which also makes the buffers, and the other steps'. A caller's generator cannot enter a graph
(torch takes none there): steps that are given one run outside it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..fused.linear import accumulator_dtype
from ..plans.traced import turn
from .diffusers_program import Compiled


class Traced:
    """The run ``run`` on ``device``, from entry ``begin`` of the pipeline's list; ``sure`` where the caller said that it begins there."""

    def __init__(self, run: Compiled, begin: int, device: Any, *, sure: bool, learned: bool) -> None:
        self.begin, self.sure, self.learned, self.network = begin, sure, learned, run.network
        wide = torch.float32 if torch.device(device).type == "mps" else torch.float64
        matrix, targets, data, self.noises, self.count = run.tensors
        self.matrix, self.targets, self.data = matrix.to(device, wide), targets.to(device), data.to(device, wide)
        for table in (self.matrix, self.targets, self.data):  # else another number of steps would make another graph
            torch._dynamo.maybe_mark_dynamic(table, 0)
        self.place = torch.zeros(1, dtype=torch.int64, device=device)
        self.first = torch.tensor(run.labels[0], dtype=torch.float32, device=device)
        self.buffers: Tensor | None = None

    @property
    def index(self) -> int | None:
        """The entry of the pipeline's list that is due, None before the first step; waits for the device."""
        return None if self.buffers is None else self.begin + int(self.place)

    def step(self, output: Tensor, timestep: Any, sample: Tensor) -> Tensor:
        """The next state. RuntimeError past the end, and where a run begins elsewhere than was said."""
        if self.learned and output.shape[1] == 2 * sample.shape[1]:
            output = output[:, : sample.shape[1]]
        buffers = self.buffers
        if buffers is None:
            buffers = torch.zeros((self.count, *sample.shape), dtype=sample.dtype, device=sample.device)
            if not self.sure:
                begins = torch.as_tensor(timestep, device=self.first.device).flatten()[0].to(torch.float32) == self.first
                torch._assert_async(begins, "a compiled run that does not begin with the first of timesteps: call set_begin_index")
        torch._assert_async(self.place[0] < self.matrix.shape[0], "the run is over: call set_timesteps for another one")
        if self.network.clip is not None:
            wide = accumulator_dtype([sample.dtype, output.dtype])
            p, q = self.data.index_select(0, self.place)[0].to(wide).unbind(0)
            output = self.network.clipped((p * sample.to(wide) + q * output.to(wide)).to(sample.dtype))
        noises = [torch.randn(sample.shape, dtype=sample.dtype, device=sample.device) for _ in range(self.noises)]
        x, self.buffers = turn(buffers, self.place, self.matrix, self.targets, sample, output, noises)
        self.place = self.place + 1
        return x
