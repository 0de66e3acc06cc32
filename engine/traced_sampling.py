"""``sample`` under ``torch.compile``: sampler, grid, plan, launches and noise from seeds are made
while torch traces, and are constants of its graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checks import ArgumentError, host_constant, instance, integer
from ..fused.noise.seeded import SeededNoise
from ..models.base import BaseDenoiser, RunFacts
from ..models.denoiser import Condition
from ..models.wrapper import CopiedInput
from ..plans.plan import Plan
from ..plans.running.loop import Noise, OnStep, run_plan
from ..plans.running.lowering import constant_program, lower
from ..plans.running.program import Program
from ..schedules.grids.construction import Grid
from ..schedules.grids.request import GridRequest
from ..schedules.node import Node
from .arguments import StateError, check_middle, check_run
from .automatic import facts_of
from .heavy_tails import kernel_noise, path_noise
from .paths import Named, noise_for
from .planning import Request, request
from .start_states import Begin, chosen_seeds, first_state


class Asked(NamedTuple):
    """The arguments of ``sample`` that choose the plan."""

    sampler: str
    options: Mapping[str, Any]
    steps: int | None
    nfe: int | None
    grid: str | Grid
    times: Sequence[float] | None
    sigmas: Sequence[float] | None
    final: str
    start: float | None
    shape: tuple[int, ...] | None

    def request(self, denoiser: BaseDenoiser) -> Request:
        """The request for ``denoiser``. Raises what ``sample`` raises."""
        known = facts_of(denoiser, self.shape)
        where = GridRequest(
            self.steps,
            self.nfe,
            self.grid,
            self.times,
            self.sigmas,
            self.final,
            self.start,
            facts=known,
        )
        made = request(self.sampler, denoiser.schedule, self.options, where)
        made.check_model(denoiser)
        return made


@host_constant
def traced_program(denoiser: BaseDenoiser, *asked: Any) -> Program:
    """The launches of the plan that ``asked``, the fields of ``Asked``, chooses."""
    made = Asked(*asked).request(denoiser)
    if made.driver:
        raise ArgumentError(
            f"{made.name} under torch.compile: its steps depend on the data, so there is no one "
            "graph; compile the network, or use a sampler with a plan"
        )
    return lower(made.plan(), denoiser).complete()


@host_constant
def traced_start(
    denoiser: BaseDenoiser,
    seeds: tuple[int, ...],
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    *asked: Any,
) -> Tensor:
    """The start state from ``seeds`` on the grid that ``asked`` chooses."""
    first: Node = Asked(*asked).request(denoiser).grid[0]
    return first_state(denoiser, first, seeds, None, None, asked[-1], device, dtype)


def traced_state(
    denoiser: BaseDenoiser, asked: Asked, program: Program, seeds: tuple[int, ...], begin: Begin
) -> Tensor:
    """``start_states.first_state`` in the graph; noise from the seeds is a constant."""
    x, init, device, dtype = begin.x, begin.init, begin.device, begin.dtype
    if x is not None and init is not None:
        raise StateError("x= and init= exclude each other: pass one of them")
    if x is not None:
        return x.to(device=device or x.device, dtype=dtype or x.dtype)
    if init is None:
        return traced_start(denoiser, seeds, device, dtype, *asked)
    init, first = init.to(device=device or init.device, dtype=dtype or init.dtype), program.plan
    z = _noise(denoiser, seeds, tuple(init.shape[1:]), init.device, init.dtype)
    return first.start.alpha * init + first.start.sigma * z


@host_constant
def _noise(
    denoiser: BaseDenoiser,
    seeds: tuple[int, ...],
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    z = SeededNoise(seeds).start(shape, device, dtype)
    return kernel_noise(denoiser.schedule, seeds, z)


@host_constant
def traced_seeds(
    n: int | None, seed: int, seeds: tuple[int, ...] | None, batch: int | None
) -> tuple[int, ...]:
    """``start_states.chosen_seeds`` as constants; ``batch``: the rows of a given state."""
    n = None if n is None else integer("n", n, 1)
    return chosen_seeds(n, seed, seeds, None if batch is None else torch.empty(batch, 1))


def run_in_graph(
    program: Program,
    denoiser: BaseDenoiser,
    x: Tensor,
    noise: Noise | Named,
    seeds: Sequence[int] | None,
    cond: Condition,
    on_step: OnStep | None,
    check: bool = True,
) -> Tensor:
    """``run`` of a program that is a constant of the graph. Raises what ``run`` raises."""
    check_run(denoiser, x, cond, on_step)
    steps, inverse = program.course
    own = denoiser.for_run(RunFacts(tuple(seeds or ()), steps, inverse))
    source = path_noise(denoiser.schedule, program.plan, noise_for(program.plan, noise, seeds))
    model: Any = own if own.preserves_input else CopiedInput(own)
    return run_plan(program, model, x, noise=source, cond=cond, on_step=on_step, check=check)


def constant_run(
    plan: Plan | Program,
    denoiser: BaseDenoiser,
    x: Tensor,
    noise: Noise | Named,
    seeds: Sequence[int] | None,
    cond: Condition,
    on_step: OnStep | None,
    check: bool,
) -> Tensor:
    """``run`` under ``torch.compile``."""
    instance("plan", plan, (Plan, Program), "a plan, as fewstep.plan makes it,")
    program = constant_program(plan, denoiser)
    return run_in_graph(program, denoiser, x, noise, seeds, cond, on_step, check)


def sample_in_graph(
    denoiser: BaseDenoiser,
    asked: Asked,
    begin: Begin,
    cond: Condition,
    noise: Noise | Named,
    callback: OnStep | None,
) -> Tensor:
    """``sample`` under ``torch.compile``."""
    shift = denoiser.offset
    begin = begin.shifted(denoiser)
    given = begin.x if begin.x is not None else begin.init
    batch = None if given is None else given.shape[0]
    listed = None if begin.seeds is None else tuple(begin.seeds)
    seeds = traced_seeds(begin.n, begin.seed, listed, batch)
    check_middle(asked.start, begin.x, begin.init)
    program = traced_program(denoiser, *asked)
    state = traced_state(denoiser, asked, program, seeds, begin)
    out = run_in_graph(program, denoiser, state, noise, seeds, cond, callback)
    return out if shift is None else out + shift.to(out)


def refuse_traced_arguments(given: Mapping[str, Any]) -> None:
    """ArgumentError for arguments of ``sample`` that leave the graph."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise ArgumentError(
                f"{name}= under torch.compile: allowed are the arguments that choose the plan, "
                "x, init, n, seed, seeds, shape, cond, noise, device, dtype and callback; "
                f"use {name}= without torch.compile, and compile the network"
            )
