"""Settings of a benchmark: samplers and grids as text, budgets, sizes, presets. All are checked
before any network runs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from ...checks import FewstepError, choice, unknown
from ...engine.automatic import AUTO
from ...engine.planning import Request, request, resolve
from ...plans.instructions import PlanError
from ...samplers import registry
from ...samplers.from_file import is_file, plan_file
from ...schedules.base import Schedule
from ...schedules.grids.auto import UNKNOWN, DataFacts
from ...schedules.grids.construction import grid, grid_names
from ...schedules.grids.registry import ALIASES, option_names
from ...schedules.grids.request import GridRequest
from ...schedules.vp import VPLinear
from ..errors import ChoiceError, ScoreError
from .selection import NAME, BestOf, choice_of, share

#: the default samplers: the automatic choice, deterministic ones, one that draws noise
SAMPLERS = (
    "auto",
    "ddim",
    "heun",
    "dpm_solver_2m",
    "dpm_solver_3",
    "dpmpp_2s",
    "dpmpp_2m",
    "dpmpp_3m",
    "unipc",
    "unipc:order=3",
    "deis",
    "ipndm",
    "ipndm_v",
    "dpm_solver_3m",
    "gradient_estimation",
    "dpmpp_2m_sde",
)
LABELS = ("cycle", "none")
#: largest values accepted, far beyond what memory or time allow
MOST = {"n": 1_000_000, "samples": 10_000_000, "resamples": 1_000_000, "nfe": 100_000}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "samplers": (
            "auto",
            "ddim",
            "heun",
            "dpmpp_2m",
            "dpmpp_3m",
            "unipc:order=3",
            "deis",
            "ipndm",
            "dpmpp_2m_sde",
        ),
        "nfes": (5, 8),
        "n": 16,
        "samples": 512,
        "top": 2,
        "resamples": 100,
        "tolerance": 5e-3,
    },
    "docs": {"samples": 2000, "top": 5},
    "referee": {
        "samplers": (
            "auto",
            "ddim",
            "dpmpp_2m",
            "dpmpp_3m",
            "unipc:order=3",
            "ipndm:order=3",
            "skipped",
            "skipped:points=2",
            "skipped:method=dpmpp_2m",
            "skipped:method=dpmpp_2m,points=2",
            "skipped:method=ipndm,points=3",
            "sada:method=ddim",
            "sada",
            "best_of_n:particles=2",
            "best_of_n:particles=4",
        ),
        "grids": ("auto",),
        "nfes": (8, 12, 20),
        "n": 32,
        "samples": 512,
        "top": 2,
        "quality_nfes": (8,),
        "resamples": 100,
        "tolerance": 5e-3,
    },
    "full": {
        "grids": ("auto", "karras", "uniform", "beta"),
        "nfes": (4, 5, 6, 8, 10, 12, 15, 20, 30, 50),
        "n": 256,
        "samples": 50_000,
        "top": None,
        "batch": 256,
    },
}


@dataclass(frozen=True)
class NamedOptions:
    """The name of a sampler or a grid and its options, parsed from ``text``:
    ``unipc:order=3,variant=bh1``, ``karras:rho=5``. ``auto`` is the automatic choice of either."""

    text: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchSettings:
    """The settings that ``runner.bench`` documents. ScoreError for values out of range."""

    models: tuple[str, ...]
    samplers: tuple[str, ...] = SAMPLERS
    grids: tuple[str, ...] = ("auto", "karras")
    nfes: tuple[int, ...] = (5, 8, 10, 20)
    n: int = 64
    samples: int = 0
    top: int | None = 5
    quality_nfes: tuple[int, ...] | None = None
    batch: int = 64
    tolerance: float | None = None
    labels: str = "cycle"
    features: str | None = None
    resamples: int = 200
    final: str = "zero"

    def __post_init__(self) -> None:
        for name in ("models", "samplers", "grids"):
            _names(name, getattr(self, name))
        for name in ("nfes",) if self.quality_nfes is None else ("nfes", "quality_nfes"):
            _budgets(name, getattr(self, name))
        for name, least in (
            ("n", 2),
            ("samples", 0),
            ("batch", 1),
            ("resamples", 2),
            *((("top", 1),) if self.top is not None else ()),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ScoreError(f"{name}={value!r} must be an integer >= {least}")
            if name in MOST and value > MOST[name]:
                raise ScoreError(f"{name}={value} must be at most {MOST[name]}")
        choice("labels", self.labels, LABELS)
        choice("final", self.final, ("zero", "sigma_min"))
        if self.tolerance is not None and not (
            isinstance(self.tolerance, float) and 1e-12 <= self.tolerance <= 1.0
        ):
            raise ScoreError(f"tolerance={self.tolerance!r} must be a number from 1e-12 to 1")
        stray = sorted(set(self.quality_nfes or ()) - set(self.nfes))
        if stray:
            raise ScoreError(f"quality_nfes={stray}: not among nfes={list(self.nfes)}")
        for text in self.samplers:
            sampler_options(text)
        for text in self.grids:
            grid_options(text)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings with tuples as lists, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def _names(what: str, values: Sequence[str]) -> None:
    if isinstance(values, str) or not values or not all(isinstance(v, str) and v for v in values):
        raise ScoreError(f"{what}={values!r} must be a list of at least one name")
    if len(set(values)) != len(values):
        raise ScoreError(f"{what}={list(values)}: duplicate name")


def _budgets(what: str, values: Sequence[int]) -> None:
    if not values:
        raise ScoreError(f"{what} is empty: it must hold at least one number of network calls")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ScoreError(f"{what}: nfe={value!r} must be an integer >= 1")
        if value > MOST["nfe"]:
            raise ScoreError(f"{what}: nfe={value} must be at most {MOST['nfe']}")
    if len(set(values)) != len(values):
        raise ScoreError(f"{what}={list(values)}: duplicate number")


def sampler_options(text: str) -> NamedOptions:
    """Parse a sampler and check its options. SamplerError for an unknown name, ChoiceError for an
    option, each with the nearest match."""
    found = named_options(text)
    if found.name == NAME:
        _, sampler, own = choice_of(found.options)
        written = ",".join(f"{key}={value}" for key, value in own.items())
        sampler_options(f"{sampler}:{written}" if own else sampler)
        return found
    check: Callable[[], Any] = partial(request, AUTO, VPLinear(), found.options)
    if is_file(text):
        check = partial(plan_file, text)
    elif found.name != AUTO:
        name, options, _ = resolve(found.name, dict(found.options), "")
        check = partial(registry.make_options, registry.get(name), options)
    try:
        check()
    except (registry.SamplerError, PlanError) as error:
        raise ChoiceError(f"sampler {text!r}: {error}") from error
    return found


def grid_options(text: str) -> NamedOptions:
    """Parse a grid and check the names of its options. ScoreError for an unknown name, ChoiceError
    for an option, each with the nearest match."""
    found = named_options(text)
    if found.name not in (allowed := (*grid_names(), *ALIASES)):
        raise ScoreError(unknown("grid", found.name, allowed))
    own = ("start", *option_names())
    for key in found.options:
        if key not in own:
            raise ChoiceError(f"grid {text!r}: {unknown('option', key, own)}")
    return found


def refuse_options(settings: BenchSettings, schedule: Schedule) -> None:
    """Raise ChoiceError for a sampler or a grid that works on ``schedule`` with its defaults but
    not with the given options."""
    steps = max(12, min(max(settings.nfes), 200))
    for text in settings.grids:
        given = named_options(text)
        make_grid = partial(grid, given.name, schedule, steps, final=settings.final)
        if (
            given.options
            and _error(make_grid) is None
            and (error := _error(partial(make_grid, **dict(given.options))))
        ):
            raise ChoiceError(f"grid {text!r}: {error}") from error
    where = GridRequest(grid=grid("lam", schedule, steps, final=settings.final))
    for text in settings.samplers:
        given = named_options(text)
        if given.name == NAME:
            _, sampler, own = choice_of(given.options)
            given = NamedOptions(text, sampler, own)
        make_plan = partial(_build, given.name, schedule, where)
        if (
            given.options
            and _error(partial(make_plan, {})) is None
            and (error := _error(partial(make_plan, given.options)))
        ):
            raise ChoiceError(f"sampler {text!r}: {error}") from error


def _build(
    sampler: str, schedule: Schedule, where: GridRequest, options: Mapping[str, Any]
) -> None:
    """Build the plan, if the sampler has one, without its warnings."""
    asked = request(sampler, schedule, options, where)
    if not asked.driver:
        registry.build(asked.name, asked.grid, asked.options)


def _error(make: Callable[[], Any]) -> FewstepError | None:
    """The refusal that ``make()`` raises; None if it succeeds."""
    try:
        make()
    except FewstepError as error:
        return error
    return None


def named_options(text: str) -> NamedOptions:
    """Parse ``name`` or ``name:key=value,key=value``; ``file:PATH`` is a name. ChoiceError for
    anything else."""
    if is_file(text):
        return NamedOptions(text, text)
    name, colon, rest = text.partition(":")
    options: dict[str, Any] = {}
    for piece in split_outside(rest) if colon else ():
        key, equals, value = piece.partition("=")
        if not equals or not key.strip().isidentifier() or key.strip() in options:
            raise ChoiceError(
                f"{text!r}: {piece!r} is no option; the form must be "
                "name:key=value,key=value with each key once"
            )
        options[key.strip()] = _literal(value.strip())
    return NamedOptions(text, name.strip(), options)


def split_named(text: str) -> list[str]:
    """Split ``ddim,unipc:order=3,variant=bh1,heun`` into three: a piece ``key=value`` without a
    colon belongs to the name before it."""
    out: list[str] = []
    for piece in split_outside(text):
        head = piece.partition("=")[0]
        if "=" in piece and ":" not in head and out and ":" in out[-1]:
            out[-1] += f",{piece}"
        else:
            out.append(piece)
    return out


def split_outside(text: str) -> list[str]:
    """Split ``text`` at the commas outside brackets."""
    pieces, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece.strip() for piece in pieces]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def fitted(
    sampler: NamedOptions,
    spacing: NamedOptions,
    schedule: Schedule,
    budget: int,
    final: str = "zero",
    facts: DataFacts = UNKNOWN,
    steps: int | None = None,
) -> Request:
    """Return the largest request of at most ``budget`` network calls; FewstepError if none fits.

    ``facts``: of the model, as ``fewstep.sample`` knows them; so ``auto`` on ``auto`` is its
    default. ``steps``: the steps of the grid, in place of those that fit.
    """
    name, options = sampler.name, dict(sampler.options)
    if name == NAME:
        particles, name, options = choice_of(options)
        one = NamedOptions(sampler.text, name, options)
        each = share(budget, particles)
        return BestOf.of(fitted(one, spacing, schedule, each, final, facts), particles)
    if name != AUTO:  # the grid of an alias is not taken: the row names its own
        name, options, _ = resolve(name, options, "")
    own = {} if name != AUTO and registry.get(name).free else dict(spacing.options)
    start = own.pop("start", None)
    where = GridRequest(
        steps=steps,
        nfe=budget if steps is None else None,
        grid=spacing.name,
        final=final,
        start=start,
        options=tuple(own.items()),
        facts=facts,
    )
    return request(name, schedule, options, where)
