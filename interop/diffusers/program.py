"""Compiles settings and a number of steps to a run: the grid, the sampler's plan on it, and the
list of times that the network is given."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from diffusers.utils import logging
from torch import Tensor

from ...checks import ArgumentError, number, plain
from ...plans.instructions import Combine, Evaluate
from ...plans.plan import Plan
from ...plans.running.compiled_step import tabulate
from ...plans.running.lowering import Program, check_lowering, lower
from ...samplers import fitted_steps, registry
from ...samplers.from_file import file_grid, is_file, plan_file
from ...samplers.option_names import meanings
from ...samplers.singlestep.renoising import below, boundary
from ...schedules import Grid, Node
from ...schedules.diffusers.grids import facts_of, grid_of
from ...schedules.grids.auto import auto_reason
from ...schedules.kinds import ConversionError
from .config import ConfigError, Settings
from .network import Network
from .replay import Guidance, GuidedNetwork

#: (p, q, ...) of x0 or why there is none, and (a, b) of a step's second value
Reading = tuple[tuple[float, ...] | ConversionError, tuple[float, float]]
#: what goes on in the middle of a run, where a start-up of several calls has no place: uniform
#: Adams-Bashforth weights from the first step
STEADY = {
    name: (("ipndm", registry.make_options(registry.get("ipndm"), {})),)
    for name in ("plms", "pndm")
}


@dataclass(frozen=True)
class Compiled:
    """A compiled run, shared by all schedulers with the same settings. ``labels[k]`` is the time
    that the network is given at evaluation k."""

    grid: Grid
    plan: Plan
    network: Network | GuidedNetwork
    labels: tuple[float, ...]
    sampler: str
    options: Any
    origin: str

    @cached_property
    def program(self) -> Program:
        """The plan lowered to launches, by the first step that needs it. (What cannot be lowered is
        refused when the run is set up.)"""
        return lower(self.plan, self.network)

    @cached_property
    def starts(self) -> dict[int, int]:
        """Evaluation that begins a step -> its grid node: the last evaluation at that node."""
        return _starts(self.plan, self.grid)

    @cached_property
    def sigmas(self) -> tuple[float, ...]:
        """Noise level of each evaluation and of the end: sigma of a flow, sigma / alpha
        elsewhere."""
        flow = type(self.network.schedule).__name__ == "Flow"
        nodes = [*(e.node for e in self.plan.evaluations), self.plan.end]
        return tuple(node.sigma if flow else node.rho for node in nodes)

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """By call: (p, q, ...) with ``x0 = p x + sum q output``, or why there is none; and the
        second value of a step, ``a x + b x0``."""
        return tuple(self._reading(k, e.node) for k, e in enumerate(self.plan.evaluations))

    def _reading(self, k: int, node: Node) -> Reading:
        try:
            data: tuple[float, ...] | ConversionError = self.network.data(node)
        except ConversionError as error:
            data = error
        if self.sampler == "lcm":
            return data, boundary(self.options, node)
        if self.origin == "TCDScheduler" and node.sigma:
            after = next((n for n in self.grid.nodes if n.rho < node.rho), self.plan.end)
            lower = below(self.grid, after, getattr(self.options, "gamma", 0.0))
            e = lower.sigma / node.sigma
            return data, (e, lower.alpha - e * node.alpha)
        return data, (0.0, 1.0)

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, int, int]:
        """``plans.traced.Table``: matrix, targets, (p, q, a, b) of ``readings`` by call (NaN where
        there is no x0), noises, buffers."""
        table = tabulate(self.program)
        data = [
            ((math.nan, math.nan) if isinstance(d, Exception) else d) + second
            for d, second in self.readings
        ]
        with torch.inference_mode(False):
            wide = [torch.tensor(rows, dtype=torch.float64) for rows in (table.matrix, data)]
            return wide[0], torch.tensor(table.targets), wide[1], table.noises, table.buffers

    @cached_property
    def _copies(self) -> dict[Any, Tensor]:
        return {}

    def at(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Rows of labels, alpha and sigma by evaluation on a device, copied there once."""
        if torch.compiler.is_compiling() or (device, dtype) not in self._copies:
            nodes = [e.node for e in self.plan.evaluations]
            table = torch.tensor(
                [self.labels, [n.alpha for n in nodes], [n.sigma for n in nodes]], dtype=dtype
            ).to(device)
            if torch.compiler.is_compiling():
                return table
            self._copies[device, dtype] = table
        return self._copies[device, dtype]

    def with_option(self, settings: Settings, name: str, value: Any) -> Compiled:
        """The same steps and times with one of the sampler's options changed. SamplerError for a
        value out of range."""
        known = meanings(registry.get(self.sampler).options)
        changed = known[name].option if name in known else name
        given = {
            f.name: getattr(self.options, f.name)
            for f in dataclasses.fields(self.options)
            if f.name != changed
        } | {name: value}
        options = registry.make_options(registry.get(self.sampler), given)
        return _compiled(self.grid, self.sampler, options, self.network, settings)

    @cached_property
    def _tails(self) -> dict[int, Compiled]:
        return {0: self}

    def tail(self, begin: int) -> Compiled:
        """The run from evaluation ``begin`` on: the plan rebuilt on the grid's tail, whose calls
        are those that are left.

        ValueError where the state there is no state of the grid, or where the sampler's start-up
        costs calls that are not there or at other times.
        """
        if begin not in self._tails:
            self._tails[begin] = self._tail(begin)
        return self._tails[begin]

    def _tail(self, begin: int) -> Compiled:
        nodes = [e.node for e in self.plan.evaluations[begin:]]
        if nodes and nodes[0] in self.grid.nodes[:-1]:
            grid = self.grid.tail(self.grid.nodes.index(nodes[0]))
            steady = STEADY.get(self.sampler, ())
            for sampler, options in ((self.sampler, self.options), *steady):
                plan = registry.build(sampler, grid, options)
                if _same_times(plan, nodes):
                    return _program(
                        grid, plan, self.network, self.labels[begin:], sampler, options, self.origin
                    )
                # a time told twice: the first call changes nothing
                if steady and _same_times(plan, nodes[1:]) and nodes[0] == nodes[1]:
                    return _program(
                        grid,
                        _idle(plan),
                        self.network,
                        self.labels[begin:],
                        sampler,
                        options,
                        self.origin,
                    )
        raise ArgumentError(
            f"{self.sampler} cannot begin at entry {begin} of its {self.plan.nfe} network "
            "calls, inside a step or its start-up; it can at "
            f"{sorted(self.starts)}, and samplers of one call a step (dpmpp_2m, unipc, deis) "
            "anywhere"
        )

    def free(self, begin: int) -> bool:
        """True if the calls from ``begin`` on read no value of earlier calls: then the plan of the
        tail equals the rest of this plan. Never in the middle of an invertible sampler, which
        carries a second state."""
        if begin and self.plan.partners:
            return False
        try:
            tail = self.tail(begin)
        except ArgumentError:
            return False
        ours, theirs = self.program.launches[begin + 1 :], tail.program.launches[1:]
        return [(x.matrix, [o.kind for o in x.operands]) for x in ours] == [
            (x.matrix, [o.kind for o in x.operands]) for x in theirs
        ]


def _same_times(plan: Plan, nodes: Sequence[Node]) -> bool:
    """Whether the network calls of ``plan`` are at ``nodes``, to rounding."""
    found = [e.node for e in plan.evaluations]
    return len(found) == len(nodes) and all(
        a == b or _near(a, b) for a, b in zip(found, nodes, strict=True)
    )


def _near(a: Node, b: Node) -> bool:
    return all(
        math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-12)
        for x, y in ((a.alpha, b.alpha), (a.sigma, b.sigma))
    )


def _idle(plan: Plan) -> Plan:
    """``plan`` with an additional first network call whose output is not used."""
    first = plan.evaluations[0]
    spare = 1 + max(
        v
        for i in plan.code
        for v in ([i.out] if isinstance(i, Combine) else [v for v, _, _ in i.outs])
    )
    return dataclasses.replace(
        plan, code=(Evaluate(((spare, *first.outs[0][1:]),), 0, first.node), *plan.code)
    )


def _starts(plan: Plan, grid: Grid) -> dict[int, int]:
    last = {e.node: k for k, e in enumerate(plan.evaluations)}
    return {last[node]: i for i, node in enumerate(grid.nodes[:-1]) if node in last}


def _compiled(
    grid: Grid, sampler: str, options: Any, network: Network | GuidedNetwork, settings: Settings
) -> Compiled:
    plan = registry.build(sampler, grid, options, reason_of(settings, grid))
    if isinstance(network, Network) and (
        further := {*registry.get(sampler).channels, *plan.channels} - {"main"}
    ):
        raise ConfigError(
            f"sampler={sampler!r} reads the channel {', '.join(sorted(further))} of a guided "
            "model, and a pipeline gives its scheduler one mixture: use "
            "pipe = fewstep.interop.diffusers.guided(pipe, 'cfg', scale=...)"
        )
    labels = tuple(settings.label(float(e.node.t or 0.0)) for e in plan.evaluations)
    return _program(grid, plan, network, labels, sampler, options, settings.origin)


def reason_of(settings: Settings, grid: Grid) -> str:
    """What the automatic choices took, and why, one line each; empty if there was none."""
    texts = [settings.reason] if settings.reason else []
    if settings.grid == "auto" and grid.name != "nodes":  # nodes are times of the caller
        facts = facts_of(settings)
        given = {k: v for k, v in settings.grid_options if k != "sigma_data"}
        words = "".join(f"; by grid_options, {key} {value:g}" for key, value in given.items())
        made = dict(grid.params)
        reason = auto_reason(settings.schedule, grid.steps, settings.kind, facts, made)
        texts.append(reason + words)
    return "\n".join(texts)


def _program(
    grid: Grid,
    plan: Plan,
    network: Network | GuidedNetwork,
    labels: tuple[float, ...],
    sampler: str,
    options: Any,
    origin: str,
) -> Compiled:
    check_lowering(plan, network)
    return Compiled(grid, plan, network, labels, sampler, options, origin)


def compile_run(
    settings: Settings,
    sampler: str,
    options: Any,
    steps: int,
    times: tuple[float, ...] | None = None,
    sigmas: tuple[float, ...] | None = None,
    mu: float | None = None,
    guidance: Guidance | None = None,
) -> Compiled:
    """The run of ``steps`` steps, or through given times or sigmas."""
    own = network_of(settings)
    network = own if guidance is None else guidance.network(own)
    if is_file(sampler) and (times is not None or sigmas is not None):
        raise ConfigError(f"{sampler} has its own times: leave timesteps= and sigmas= out")
    if is_file(sampler):
        grid = file_grid(sampler, settings.schedule, steps)
    else:
        grid = grid_of(settings, steps, times, sigmas, mu)
    made = _compiled(grid, sampler, options, network, settings)
    if isinstance(network, GuidedNetwork):
        network.for_run(made.plan)  # raises before the first network call
    return made


#: ``compile_run``, which keeps the runs that it made
compiled = lru_cache(maxsize=64)(compile_run)


def network_of(settings: Settings) -> Network:
    """The network that ``settings`` are for."""
    return Network(settings.schedule, settings.prediction, settings.clip)


@lru_cache(maxsize=64)
def calls_per_step(settings: Settings, sampler: str, options: Any) -> int | None:
    """Network calls a step where that is one number (the last step may take fewer), else None."""
    mu = 0.5 if settings.dynamic else None
    if is_file(sampler):
        plan = plan_file(sampler).plan
        return 1 if plan.nfe == plan.steps else None
    grids = [grid_of(settings, n, mu=mu) for n in (4, 5, 6)]
    plans = [registry.build(sampler, grid, options) for grid in grids]
    a, b, c = (plan.nfe for plan in plans)
    each = b - a
    if each < 1 or c - b != each or not 0 < a - 3 * each <= each:
        return None
    found = [_starts(plan, grid) for plan, grid in zip(plans, grids, strict=True)]
    return (
        each
        if all(
            starts.get(i * each) == i
            for starts, grid in zip(found, grids, strict=True)
            for i in range(grid.steps)
        )
        else None
    )


@lru_cache(maxsize=64)
def fitted(
    settings: Settings, sampler: str, options: Any, calls: int, mu: float | None
) -> tuple[int, Any]:
    """Steps and options of the largest run of at most ``calls`` network calls."""

    if is_file(sampler):
        plan = plan_file(sampler).plan
        return (plan.steps if plan.nfe == calls else calls), options

    def made(steps: int) -> Grid:
        return grid_of(settings, steps, mu=mu)

    return fitted_steps(sampler, calls, options, made)


def as_tuple(name: str, values: Sequence[float] | Tensor | Any | None) -> tuple[float, ...] | None:
    """A caller's list, array or tensor as finite host numbers. ArgumentError for what is none."""
    if values is None:
        return None
    listed = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        raise ArgumentError(f"{name}={values!r} must be a list of numbers")
    return tuple(float(number(name, plain(v), -math.inf, math.inf)) for v in listed)


def mismatch(settings: Settings, run: Compiled) -> float:
    """The largest distance between a state's time and what the network is told, in table
    entries."""
    gaps = [
        abs(settings.scale * float(e.node.t or 0.0) - label)
        for e, label in zip(run.plan.evaluations, run.labels, strict=True)
    ]
    return max((g for g in gaps if math.isfinite(g)), default=0.0)


@lru_cache(maxsize=256)
def report(sampler: str, calls: int, gap: float) -> None:
    """Log a warning through diffusers, once for the same arguments, about the distance between
    rounded times and the times of the states."""
    logging.get_logger("diffusers.schedulers.fewstep").warning(
        f"round_timesteps: the {calls} network calls of {sampler} are told the nearest "
        f"entries of the table, up to {gap:.2g} entries from "
        "the times of their states; for a network that takes real numbers leave round_timesteps out"
    )
