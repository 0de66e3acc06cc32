"""What ``grid_choice`` and ``default_call`` share: converged ends, errors, plans of a budget, and
tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from grid_problems import F64, PATHS, Problem, source
from torch import Tensor

import fewstep
from fewstep.plans.plan import Plan
from fewstep.samplers import SamplerError, registry
from fewstep.samplers.kinds import kind_of
from fewstep.schedules import EDM, Grid, GridError, Schedule
from fewstep.schedules.grids.auto import DataFacts, Kind

#: (sampler, its options)
Sampler: TypeAlias = tuple[str, Mapping[str, Any]]
#: a grid of some length
Layout: TypeAlias = Callable[[int], Grid]

#: steps of a converged run; its last level, in units of sigma_data; its first level at most
FINE_STEPS, LAST, FIRST = 400, 1e-5, 1e5
#: the default call of version 0.1
FORMER_SAMPLER, FORMER_GRID = "dpmpp_2m", "auto_0_1"
NAMED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("uniform", {}),
    ("lam", {}),
    ("quadratic", {}),
    ("sgm_uniform", {}),
    ("kl_optimal", {}),
    ("beta", {}),
    ("beta_t", {}),
    ("linear_quadratic", {}),
    ("karras", {"rho": 7.0}),
    ("karras", {"rho": 7.0, "drop_last": True}),
    ("lam", {"drop_last": True}),
    ("power", {"power": 2.0, "drop_last": True}),
)
MULTISTEPS: tuple[Sampler, ...] = (
    ("dpmpp_2m", {}),
    ("unipc", {"order": 2}),
    ("unipc", {"order": 3}),
    ("dpmpp_3m", {}),
    ("deis", {"order": 3}),
    ("ipndm", {"order": 3}),
)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a comparison.

    Attributes:
        samples: start noises of a cell.
        calls: budgets of network calls.
        paths: names of ``PATHS``.
        scales: standard deviations of the data, for the named grids.
        seed: of the problems drawn afresh; ``problems``: their number.
        images, first_seed: start noises of the networks.
    """

    samples: int = 32
    calls: tuple[int, ...] = (5, 8, 10, 20)
    paths: tuple[str, ...] = tuple(PATHS)
    scales: tuple[float, ...] = (0.35, 1.0)
    seed: int = 0
    problems: int = 60
    images: int = 64
    first_seed: int = 2000


class Measured(Protocol):
    """A problem at some scale on a path, on which plans have an error."""

    @property
    def path(self) -> str:
        """The name of the path."""
        ...

    @property
    def scale(self) -> float:
        """Standard deviation of the data."""
        ...

    @property
    def problem(self) -> str:
        """The name of the problem."""
        ...

    def error(self, plan: Plan) -> float:
        """The error of a plan, in units of the data's standard deviation."""
        ...


class Case(NamedTuple):
    """A problem on a path, its start states and their converged ends."""

    path: str
    scale: float
    problem: str
    model: Problem
    state: Tensor
    end: Tensor

    @property
    def spatial(self) -> bool:
        """Whether the samples have spatial axes."""
        assert self.model.shape is not None
        return len(self.model.shape) > 1

    @property
    def facts(self) -> DataFacts:
        """The facts that the default call reads, with the nominal scale."""
        return DataFacts(self.scale, self.spatial)

    def error(self, plan: Plan) -> float:
        """The median error over the samples of a plan."""
        ends = fewstep.run(plan, self.model, self.state, check=False)
        return float(errors(ends, self).median())


@cache
def fine_plan(low: float, high: float, steps: int) -> tuple[Plan, Schedule]:
    """The plan of a converged run between two levels, in x / alpha, and its path."""
    path = EDM(low, high)
    return fewstep.plan("dpmpp_3m", path, steps=steps, grid="lam"), path


def converged(model: Problem, schedule: Schedule, z: Tensor, steps: int = FINE_STEPS) -> Tensor:
    """The end at sigma = 0 of the probability-flow ODE from ``prior_scale z``.

    Integrated in x / alpha from min(rho(t_max), 1e5) to 1e-5 sigma_data. Above 1e5 the state is
    ``sigma z + alpha E[x0]``.
    """
    top = schedule.node(schedule.t_max)
    rho = min(top.rho, FIRST)
    plan, path = fine_plan(LAST * float(f"{model.sigma_data:.6g}"), rho, steps)
    moved = model.on(path)
    if top.rho == rho:
        x = schedule.prior_scale * z / top.alpha
    else:
        x = rho * z + moved(rho * z, path.t_max)
    return fewstep.run(plan, moved, x, check=False)


def noises(model: Problem, n: int, seed: int) -> Tensor:
    """Standard normal noise (n, *shape)."""
    assert model.shape is not None
    return torch.randn(n, *model.shape, generator=source(seed), dtype=F64)


def case(path: str, scale: float, name: str, model: Problem, n: int, seed: int = 77) -> Case:
    """The case of ``model``, which has the scale already."""
    schedule = PATHS[path]
    z = noises(model, n, seed)
    model = model.on(schedule)
    end = converged(model, schedule, z)
    return Case(path, scale, name, model, schedule.prior_scale * z, end)


def settings(
    problems: Mapping[str, Callable[[], Problem]], pairs: Iterable[tuple[str, float]], n: int
) -> Iterator[tuple[Schedule, float, list[Case]]]:
    """The cases of all problems, one setting (path, scale) after another."""
    made = {name: make() for name, make in problems.items()}
    for path, scale in pairs:
        cases = [case(path, scale, name, mix.scaled(scale), n) for name, mix in made.items()]
        yield PATHS[path], scale, cases


def errors(x: Tensor, case: Case) -> Tensor:
    """RMSE of every sample, in units of the data's standard deviation (B,)."""
    assert case.model.sigma_data is not None
    return (x - case.end).square().flatten(1).mean(1).sqrt() / case.model.sigma_data


def fitting_plan(sampler: Sampler, schedule: Schedule, nfe: int, layout: Layout) -> Plan | None:
    """The longest plan of at most ``nfe`` calls on a grid; None if the sampler or the grid cannot
    be made for so few, or on this path."""
    name, options = sampler
    for steps in range(nfe, 0, -1):
        try:
            plan = fewstep.plan(name, schedule, grid=layout(steps), **options)
        except (GridError, SamplerError):
            return None
        if plan.nfe <= nfe:
            return plan
    return None


def sampler_kind(sampler: Sampler) -> Kind:
    """The kind on which grid ``auto`` depends."""
    name, options = sampler
    return kind_of(name, registry.make_options(registry.get(name), dict(options)))


def automatic(sampler: Sampler, schedule: Schedule, nfe: int, facts: DataFacts) -> Plan | None:
    """The longest plan of at most ``nfe`` calls on grid ``auto`` for these facts."""
    layout = partial(fewstep.grid, "auto", schedule, kind=sampler_kind(sampler), facts=facts)
    return fitting_plan(sampler, schedule, nfe, layout)


def default(model: Problem, nfe: int, x: Tensor) -> Tensor:
    """The default call."""
    return fewstep.sample(model, nfe=nfe, x=x)


def former(model: Problem, nfe: int, x: Tensor) -> Tensor:
    """The default call of version 0.1."""
    return fewstep.sample(model, FORMER_SAMPLER, nfe=nfe, grid=FORMER_GRID, x=x)


def geometric(values: Iterable[float]) -> float:
    """The geometric mean; NaN of nothing."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def label(sampler: Sampler) -> str:
    """A sampler or grid with its options, as printed."""
    name, options = sampler
    return " ".join([name, *(k if v is True else f"{k}={v:g}" for k, v in options.items())])


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table; numbers with three digits."""
    lines = [[_cell(v) for v in row] for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.3g}"


class Ratio(NamedTuple):
    """The error of one choice over that of another, and the cell where it was measured."""

    value: float
    cell: str


def ratio_in(case: Measured, nfe: int, value: float, *more: str) -> Ratio:
    """A ratio with the description of its cell."""
    words = (*more, case.problem, case.path, f"scale {case.scale:.3g}", f"{nfe} calls")
    return Ratio(value, ", ".join(words))


def mean_and_worst(ratios: Sequence[Ratio]) -> str:
    """``geometric mean (worst)``."""
    if not ratios:
        return "-"
    return f"{geometric(r.value for r in ratios):.2f} ({max(ratios).value:.2f})"


def worst_cells(ratios: Iterable[Ratio], count: int = 5) -> str:
    """A line that names the cells with the largest ratios."""
    worst = sorted(ratios, reverse=True)[:count]
    return "The largest: " + "; ".join(f"{r.value:.2f} ({r.cell})" for r in worst) + "."
