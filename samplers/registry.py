"""The registry of samplers: a dict, and the decorator ``register`` that adds to it.

A sampler is a function ``(builder, grid, options) -> Plan`` with a frozen dataclass of options. A
driver is a function ``(drive, grid, options) -> Tensor`` (see ``drivers.driver``).
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

from ..checks import ArgumentError, choice, instance, plain, shown, unknown
from ..checks.option_values import check_types, plainly
from ..plans.builder import PlanBuilder
from ..plans.instructions import Exactness
from ..plans.plan import Plan
from ..plans.transforms.analytic_first_step import RULES, analytic_first_step
from ..schedules.grids.construction import Grid
from .option_names import aliases, as_given, current


class SamplerError(ArgumentError):
    """An unknown sampler, or options that it does not have or cannot use."""


class NoCallLeft(SamplerError):
    """An analytic first step requested for a plan of one network call."""


@dataclass(frozen=True)
class NoOptions:
    """Options class of samplers without options."""


#: word that ``sample`` uses for an argument -> the option that may be meant
RENAMED = {"noise": "diffusion"}
#: ``(builder, grid, options) -> Plan``, or ``(drive, grid, options) -> Tensor``
Build = Callable[[Any, Grid, Any], Any]
Number = float | Callable[[Any], float]
#: kinds of path that samplers can be certified on
PATHS = ("vp", "flow")


@dataclass(frozen=True)
class Sampler:
    """One registered method.

    Attributes:
        name, source: public name; paper, arXiv id and equation.
        build: function that builds the plan; of a driver: function that drives the run.
        options: frozen dataclass of its options.
        order: declared order (weak order if stochastic), a number or a function of the options.
        tau: diffusion strength of the SDE that it solves, 0 for the probability-flow ODE; a number
            or a function of the options.
        allow: the weakest exactness level allowed for its plans.
        alpha_zero: True if it can start at alpha = 0 itself; otherwise an x0-kind step is made
            first.
        fill: ``(nfe, options) -> (steps, options)`` for methods that spend a budget in unequal
            steps; None: equal steps.
        variants: option sets that are certified and tested in addition to the defaults.
        form: ``plan``, or ``driver`` for a sampler whose steps depend on the data.
        free: True for a driver that picks its own step sizes; ``steps=`` does not apply.
        brownian: True for a driver whose noise is always a Brownian path.
        on: kinds of path that it is certified on, ``vp`` (variance preserving) or ``flow``
            (straight), the usual one first. A sampler for flows only steps in a time that must be
            finite.
        channels: channels of the denoiser that its plans use.
        walks: False where the order walk, which sets the noise to zero, does not describe the
            sampler, because it extrapolates predictions across fresh noise: its order is only
            measured.
        follows: of a driver that runs another sampler's plan: name and options of that sampler, a
            function of the options.
        reversible: True if its runs can be undone to rounding from their end (``plan.partners``).
    """

    name: str
    build: Build
    options: type
    order: Number
    source: str
    tau: Number = 0.0
    allow: Exactness = "exact"
    alpha_zero: bool = False
    fill: Callable[[int, Any], tuple[int, Any]] | None = None
    variants: tuple[Mapping[str, Any], ...] = ()
    form: Literal["plan", "driver"] = "plan"
    free: bool = False
    brownian: bool = False
    on: tuple[str, ...] = ("vp",)
    channels: tuple[str, ...] = ("main",)
    walks: bool = True
    follows: Callable[[Any], tuple[str, Any]] | None = None
    reversible: bool = False

    def order_of(self, options: Any) -> float:
        """Declared order for these options."""
        return self.order(options) if callable(self.order) else self.order

    def tau_of(self, options: Any) -> float:
        """Diffusion strength for these options."""
        return self.tau(options) if callable(self.tau) else self.tau

    @property
    def guided(self) -> bool:
        """True if its plans read several predictions of a guided model. Its order is that without
        guidance; with guidance it has none, because the strength depends on the grid."""
        return self.channels != ("main",)

    @property
    def summary(self) -> str:
        """First paragraph of the docstring of ``build``, on one line."""
        return " ".join((self.build.__doc__ or "").strip().partition("\n\n")[0].split())


_REGISTRY: dict[str, Sampler] = {}
#: prefix of a name -> the sampler of a name that begins with it
_OPENED: dict[str, Callable[[str], Sampler]] = {}


def register_prefix(prefix: str, opened: Callable[[str], Sampler]) -> None:
    """Let ``get`` answer every name that begins with ``prefix`` by ``opened(name)``. Such a sampler
    has one plan, which is not cached here."""
    _OPENED[prefix] = opened


def register(
    name: str,
    *,
    order: Number,
    source: str,
    tau: Number = 0.0,
    allow: Exactness = "exact",
    alpha_zero: bool = False,
    fill: Callable[[int, Any], tuple[int, Any]] | None = None,
    variants: tuple[Mapping[str, Any], ...] = (),
    form: Literal["plan", "driver"] = "plan",
    free: bool = False,
    brownian: bool = False,
    on: str | tuple[str, ...] = "vp",
    channels: tuple[str, ...] = ("main",),
    walks: bool = True,
    follows: Callable[[Any], tuple[str, Any]] | None = None,
    reversible: bool = False,
) -> Callable[[Build], Build]:
    """Register the decorated function under ``name``. The annotation of its ``options`` parameter
    is the options class. The other arguments are attributes of ``Sampler``."""
    paths = (on,) if isinstance(on, str) else tuple(on)
    for path in paths:
        choice("on", path, PATHS)

    def decorate(build: Build) -> Build:
        if name in _REGISTRY or name == "auto":  # the automatic choice
            raise SamplerError(f"sampler {name!r} is registered twice")
        options = _options_of(name, build)
        _REGISTRY[name] = Sampler(
            name,
            build,
            options,
            order,
            source,
            tau,
            allow,
            alpha_zero,
            fill,
            variants,
            form,
            free,
            brownian,
            paths,
            channels,
            walks,
            follows,
            reversible,
        )
        return build

    return decorate


def _options_of(name: str, build: Build) -> type:
    """Return the options class of a function to register. Raises SamplerError if it is not
    annotated, or the function has no docstring."""
    options = typing.get_type_hints(build).get("options")
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        raise SamplerError(
            f"sampler {name!r}: the parameter options of {build.__name__}() must be annotated "
            "with the frozen dataclass of its options, such as options: NoOptions"
        )
    if not (build.__doc__ or "").strip():
        raise SamplerError(
            f"sampler {name!r}: {build.__name__}() must have a docstring; its first paragraph "
            "is the description in tables and in describe()"
        )
    return options


def names(form: str | None = None) -> tuple[str, ...]:
    """All registered names, sorted. ``form``: only ``plan`` or only ``driver`` samplers."""
    if form is not None:
        choice("form", form, ("plan", "driver"))
    return tuple(
        sorted(name for name, sampler in _REGISTRY.items() if form in (None, sampler.form))
    )


def get(name: str) -> Sampler:
    """Return the sampler called ``name``. Raises SamplerError that names the nearest match."""
    for prefix, opened in _OPENED.items():
        if isinstance(name, str) and name.startswith(prefix):
            return opened(name)
    if not isinstance(name, str) or name not in _REGISTRY:
        raise SamplerError(unknown("sampler", name, names()))
    return _REGISTRY[name]


def make_options(sampler: Sampler, given: Mapping[str, Any], *, warn: bool = True) -> Any:
    """Create the sampler's options from ``given``. Raises SamplerError for unknown names, with the
    nearest match, and for invalid values.

    ``afs`` is an option of every plan sampler: True or ``prior``, ``unit``, ``zero`` replace its
    first network call by a closed form (``plans.transforms.analytic_first_step``).
    """
    instance("sampler", sampler, Sampler, "a Sampler, as samplers.get(name) returns it")
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise SamplerError(
            f"{sampler.name}: options={shown(given)}: must be a dict of options by name"
        )
    options, own = sampler.options, _known(sampler, given, warn)
    rule = own.pop("afs", False)
    rule = plain(rule)
    if rule is not False:
        rule = RULES[0] if rule is True else rule
        if not isinstance(rule, str) or rule not in RULES:
            raise SamplerError(f"{sampler.name}: " + unknown("afs", str(rule), RULES))
        options, own = _with_afs(options), {**own, "afs": rule}
    own = plainly(options, own)
    try:
        made = _made(options, own)
        endless = {
            name
            for name, value in own.items()
            if isinstance(value, float) and value == math.inf and getattr(made, name) is None
        }
        # an infinite value that the options replaced by None means no limit
        check_types(options, {name: value for name, value in own.items() if name not in endless})
        return made
    except ValueError as error:
        text = as_given(sampler.options, given, str(error))
        raise SamplerError(f"{sampler.name}: {text}") from error


def _known(sampler: Sampler, given: Mapping[str, Any], warn: bool) -> dict[str, Any]:
    """``given`` under the current names of options. Raises SamplerError for unknown names."""
    try:
        own = current(sampler.options, given, warn=warn)
    except ValueError as error:
        raise SamplerError(f"{sampler.name}: {error}") from error
    fields = [f.name for f in dataclasses.fields(sampler.options)]
    allowed = [*fields, *(["afs"] if sampler.form == "plan" else [])]
    for key in own:
        if key not in allowed:
            if (now := RENAMED.get(key)) in allowed:
                raise SamplerError(
                    f"{sampler.name}: the option {key!r} is called {now!r}: use {now}={own[key]!r}"
                )
            names = [*allowed, *aliases(sampler.options)]
            raise SamplerError(f"{sampler.name}: " + unknown("option", key, names))
    return own


def current_names(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Translate options of sampler ``name`` saved by any version to their current names and words,
    without a warning."""
    return current(get(name).options, options, warn=False)


def _made(options: type, given: dict[str, Any]) -> Any:
    try:
        return options(**given)
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
        # the value has a type that the check of the options cannot handle
        check_types(options, given)
        raise ArgumentError(f"{given}: {error}") from error


@cache
def _with_afs(options: type) -> type:
    """Options class with one more field: the rule of the analytic first step."""
    rule = dataclasses.field(default=RULES[0], kw_only=True)
    return dataclasses.make_dataclass(
        options.__name__, [("afs", str, rule)], bases=(options,), frozen=True
    )


def build(name: str, grid: Grid, options: Any, reason: str = "") -> Plan:
    """Build the plan of a sampler on a grid, or return it from the cache (plans are immutable).
    ``options`` must come from ``make_options``; ``reason`` is the plan's."""
    sampler = get(name)
    instance("grid", grid, Grid, "a Grid, as fewstep.grid returns it")
    instance(
        "options",
        options,
        sampler.options,
        f"options of {name}, as samplers.make_options returns them",
    )
    if name not in _REGISTRY:
        plan: Plan = sampler.build(None, grid, options)
        return plan
    return _told(name, grid, options, reason) if reason else _built(name, grid, options)


def forget_plans() -> None:
    """Clear the caches of ``build``."""
    _built.cache_clear()
    _told.cache_clear()


@lru_cache(maxsize=256)
def _told(name: str, grid: Grid, options: Any, reason: str) -> Plan:
    """The plan with its reason: the same object for the same arguments, because a program is kept
    for each plan object."""
    return dataclasses.replace(_built(name, grid, options), reason=reason)


@lru_cache(maxsize=256)
def _built(name: str, grid: Grid, options: Any) -> Plan:
    sampler = get(name)
    if sampler.form == "driver":
        raise SamplerError(
            f"{name} is a driver: its steps depend on the data, so it has no fixed plan; "
            "call fewstep.sample"
        )
    plan = _written(sampler, grid, options)
    rule = getattr(options, "afs", None)
    if rule is not None:
        plan = _shortened(name, plan, rule)
    return dataclasses.replace(plan, recipe=SamplerRecipe(name, options, grid))


@dataclass(frozen=True)
class SamplerRecipe:
    """A plan's sampler, its options and grid (``plans.recipe``)."""

    name: str
    options: Any
    grid: Grid

    def plan(self, times: Sequence[float]) -> Plan:
        """The plan of the same sampler and options at ``times``."""
        own = self.grid
        grid = Grid.from_times(own.schedule, times, own.name, own.params, own.final, "")
        return _built.__wrapped__(self.name, grid, self.options)

    def __reduce__(self) -> Any:
        # the class of options with afs is made at run time and cannot be found by pickle
        given = {f.name: getattr(self.options, f.name) for f in dataclasses.fields(self.options)}
        return _recipe, (self.name, given, self.grid)


def _recipe(name: str, given: dict[str, Any], grid: Grid) -> SamplerRecipe:
    options = get(name).options
    return SamplerRecipe(name, (_with_afs(options) if "afs" in given else options)(**given), grid)


def _shortened(name: str, plan: Plan, rule: str) -> Plan:
    """``plan`` with the analytic first step ``rule``."""
    if plan.nfe < 2:
        raise NoCallLeft(
            f"{name}: afs={rule!r} replaces the only network call of a plan of {plan.steps} "
            "step; use more steps"
        )
    return analytic_first_step(plan, rule)


def _written(sampler: Sampler, grid: Grid, options: Any) -> Plan:
    """Build the plan; a sampler that cannot start at alpha = 0 is preceded by one step that can."""
    name = sampler.name
    builder = PlanBuilder(grid.nodes, sampler.allow, name)
    if grid[0].alpha == 0.0 and not sampler.alpha_zero:
        x = builder.prologue(grid[0], grid[1])
        if len(grid) == 2:
            return builder.finish(x)
        grid = grid.tail(1)
    plan: Plan = sampler.build(builder, grid, options)
    return plan
