"""A run under ``torch.compile``: ``step`` in tensor operations only, so that one graph serves all
steps of all runs of a shape.

torch makes two graphs: one for the first step, which also allocates the buffers, and one for all
other steps. A graph cannot contain a caller's generator, so a step that is given one runs eagerly.

The tables of a run are read by graphs alone. They are made when torch first traces a step in this
process, and from then on with each run.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from ...checks import host_constant
from ...fused.linear.eager import accumulator_dtype
from ...plans.running.compiled_step import table_step
from .program import Compiled
from .times import WORDS, tolerance


class Traced:
    """The run ``run`` on ``device``, from entry ``begin`` of the pipeline's list."""

    noises: int
    count: int
    matrix: Tensor
    targets: Tensor
    data: Tensor
    labels: Tensor
    place: Tensor

    def __init__(self, run: Compiled, begin: int, device: Any, *, learned: bool) -> None:
        self.begin, self.learned, self.network = begin, learned, run.network
        self.buffers: Tensor | None = None
        self._made_from = (run, device)
        self._wait()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "matrix" not in state:
            self._wait()

    def _wait(self) -> None:
        """Have the tables made where a graph may read them."""
        _WAITING.add(self)
        if _TRACED:
            _make_tables()

    def make_tables(self) -> None:
        """Make the tensors that ``step`` reads."""
        run, device = self._made_from
        with torch.inference_mode(False):  # tensors of ours that a graph with gradients may keep
            self._tables(run, device)

    def _tables(self, run: Compiled, device: Any) -> None:
        wide = torch.float32 if torch.device(device).type == "mps" else torch.float64
        matrix, targets, data, self.noises, self.count = run.tensors
        self.matrix, self.targets, self.data = (
            matrix.to(device, wide),
            targets.to(device),
            data.to(device, wide),
        )
        self.labels = torch.tensor(run.labels, dtype=torch.float32).to(device)
        # else another number of steps would make another graph
        for table in (self.matrix, self.targets, self.data, self.labels):
            torch._dynamo.maybe_mark_dynamic(table, 0)
        self.place = torch.zeros(1, dtype=torch.int64, device=device)

    @property
    def index(self) -> int | None:
        """The entry of the pipeline's list that is due, None before the first step; waits for the
        device."""
        return None if self.buffers is None else self.begin + int(self.place)

    def step(
        self, output: Tensor, timestep: Any, sample: Tensor, *, second: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The next state and, where ``second``, the second value of the step.

        RuntimeError past the end, and for a ``timestep`` that is not due.
        """
        _make_tables()
        if self.learned and output.shape[1] == 2 * sample.shape[1]:
            output = output[:, : sample.shape[1]]
        buffers = self.buffers
        if buffers is None:
            buffers = torch.zeros(
                (self.count, *sample.shape), dtype=sample.dtype, device=sample.device
            )
        torch._assert_async(
            self.place[0] < self.matrix.shape[0],
            "the run is over: call set_timesteps for another one",
        )
        self._demand(timestep)
        extra = None
        if second or self.network.clip is not None:
            wide = accumulator_dtype([sample.dtype, output.dtype])
            p, q, a, b = self.data.index_select(0, self.place)[0].to(wide).unbind(0)
            data = self.network.clipped(
                (p * sample.to(wide) + q * output.to(wide)).to(sample.dtype)
            )
            if second:
                extra = (a * sample.to(wide) + b * data.to(wide)).to(sample.dtype)
            if self.network.clip is not None:
                output = data
        noises = [
            torch.randn(sample.shape, dtype=sample.dtype, device=sample.device)
            for _ in range(self.noises)
        ]
        x, self.buffers = table_step(
            buffers, self.place, self.matrix, self.targets, sample, output, noises
        )
        self.place = self.place + 1
        return x, extra

    def _demand(self, timestep: Any) -> None:
        """RuntimeError, from the device, where ``timestep`` is not the entry that is due."""
        given, due = (
            torch.as_tensor(timestep, device=self.labels.device),
            self.labels.index_select(0, self.place),
        )
        near = (given.flatten().to(torch.float32) - due).abs() <= tolerance(given.dtype) * due.abs()
        torch._assert_async(near.all(), WORDS)


#: runs without tables, and whether torch has traced a step in this process
_WAITING: WeakSet[Traced] = WeakSet()
_TRACED: list[bool] = []


@host_constant
def _make_tables() -> None:
    """Make the tables of all runs that wait for them. It takes no argument, so that a graph does
    not depend on one run."""
    if not _TRACED:
        _TRACED.append(True)
    while _WAITING:
        _WAITING.pop().make_tables()
