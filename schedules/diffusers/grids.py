"""The grid of a diffusers scheduler config, in float64: nodes with the time fed to the network.

    table, levels   integer times, ``np.round`` of linspace, leading, trailing; ``levels`` take one
                    point more and drop the last
    sigmas          the same in real numbers, sigma linear between entries of the table
                    (``interpolation_type``)
    edm             levels between sigma_min and sigma_max (arXiv 2206.00364, eq. 5)
    flow            uniform in sigma, then shifted by ``shift`` or e^mu (arXiv 2403.03206, eq. 23)
    distilled       entries of the table that a consistency model was trained on (arXiv 2310.04378)

A named grid (``grid``) replaces these rules. On paths without a table it runs from sigma_max to
sigma_min; on flows the shift applies to grids spaced in t.

Special levels (Karras and so on) run between the ends of the table, for ``sigmas`` between the ends
of the plain spacing. Where a grid that ends at sigma_min would reach it twice, its levels are laid
out with one point more, and the last one is the end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...checks import GridError
from ..discrete import DiscreteVP
from ..flow import Flow
from ..grids.auto import DataFacts
from ..grids.construction import Grid
from ..grids.construction import grid as make_grid
from ..grids.families.beta_quantiles import quantile
from ..grids.registry import get
from ..node import Node
from ..noise_path import NoisePath
from ..ve import EDM
from .config import LARGEST, Settings
from .named_grids import family_name

Levels = list[float]


def grid_of(
    settings: Settings,
    steps: int,
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    mu: float | None = None,
) -> Grid:
    """The grid of ``steps`` steps, or the one through the network's ``times`` or through
    ``sigmas``. GridError where there is none."""
    if settings.grid is not None and times is None and sigmas is None:
        return _named(settings, settings.grid, steps, mu)
    if times is not None:
        nodes = [_node_at(settings, float(t) / settings.scale) for t in times]
    elif sigmas is not None:
        nodes = _given_sigmas(settings, [float(s) for s in sigmas], mu)
    else:
        nodes = _laid_out(settings, steps, mu)
    flow = settings.style in ("flow", "flow_levels")
    ended = (
        (sigmas is not None and not flow)
        or (settings.log_linear and times is None)
        or nodes[-1].sigma == 0.0
    )
    if not ended:
        nodes.append(_end(settings, nodes))
    for s, t in pairwise(nodes):
        if not s.rho > t.rho:
            raise GridError(
                f"{steps} steps: times must fall strictly from noise to data, but "
                f"{settings.label(s.t or 0.0):.6g} is followed by "
                f"{settings.label(t.t or 0.0):.6g}; give fewer steps, another "
                "timestep_spacing, or a falling list"
            )
    return Grid.from_nodes(nodes, settings.schedule)


def facts_of(settings: Settings) -> DataFacts:
    """What a scheduler knows about its model, for grid "auto": ``sigma_data`` of ``grid_options``,
    else of an EDM config, else unknown. Pipelines hand it guided predictions of images or
    latents."""
    schedule = settings.schedule
    scale = schedule.sigma_data if isinstance(schedule, NoisePath) else None
    return DataFacts(_options(settings).get("sigma_data", scale), spatial=True, guided=True)


def _options(settings: Settings) -> dict[str, Any]:
    """``grid_options`` as keywords."""
    return dict(settings.grid_options)


def _named(settings: Settings, name: str, steps: int, mu: float | None) -> Grid:
    """The named grid of ``steps`` steps. GridError where the path has none."""
    schedule, options = settings.schedule, _options(settings)
    in_t = get(family_name(name, schedule)).in_t
    if isinstance(schedule, Flow) and in_t and "shift" not in options:
        options["shift"] = shift_at(settings, mu)
    bounded = EDM(*settings.levels) if isinstance(schedule, NoisePath) else schedule
    found = make_grid(
        name,
        bounded,
        steps,
        final=settings.end,
        kind=settings.kind if name == "auto" else None,
        facts=facts_of(settings) if name == "auto" else None,
        **options,
    )
    if bounded is schedule:
        return found
    nodes = [_node_of(settings, node.rho) for node in found.nodes[:-1]]
    nodes.append(_end(settings, nodes, found.nodes[-1].rho))
    made = Grid.from_nodes(nodes, schedule)
    return dataclasses.replace(made, name=found.name, params=found.params, final=found.final)


def _laid_out(settings: Settings, steps: int, mu: float | None) -> list[Node]:
    """The nodes of the config's own rule, with the end where that is one of its points."""
    if settings.style in ("flow", "flow_levels"):
        return [settings.schedule.node(s) for s in _flow(settings, steps, mu)]
    if settings.style == "edm" or isinstance(settings.schedule, NoisePath):
        return _ending(settings, steps)
    if settings.style == "trig":
        beta = np.sin(np.linspace(1.0, 0.0, steps + 1) * (0.5 * math.pi)) ** 2
        return [
            settings.schedule.node(float(t))
            for t in np.arctan2(beta, np.sqrt(1.0 - beta * beta)) / (0.5 * math.pi)
        ]
    if settings.special or settings.log_linear:
        low, high = _bounds(settings, steps)
        if settings.log_linear:  # the last of its points is the end
            levels = _special(settings, steps + 1, low, high, "exponential")
            return [*(_node_of(settings, rho) for rho in levels[:-1]), Node(1.0, low, 0.0)]
        return _ending(settings, steps)
    return [_node_at(settings, t) for t in _times(settings, steps)]


def _ending(settings: Settings, n: int) -> list[Node]:
    """The nodes of ``n`` special levels; where the last one would be the end, of ``n + 1`` without
    it.

    (Not for classes without such levels, whose ``set_alpha_to_one=False`` concerns their table.)
    """
    low, high = _bounds(settings, n)
    if (
        settings.end == "sigma_min"
        and settings.style not in ("table", "distilled")
        and low <= _least(settings) * (1.0 + 1e-9)
    ):
        return [
            _node_of(settings, rho)
            for rho in _special(settings, n + 1, *_bounds(settings, n + 1))[:-1]
        ]
    return [_node_of(settings, rho) for rho in _special(settings, n, low, high)]


def _least(settings: Settings) -> float:
    """The noise level of ``final_sigmas_type="sigma_min"``."""
    return (
        settings.levels[0]
        if isinstance(settings.schedule, NoisePath)
        else settings.schedule.rho(0.0)
    )


def _or(given: float | None, otherwise: float) -> float:
    """``given`` unless it is None."""
    return otherwise if given is None else given


def _times(settings: Settings, n: int) -> Levels:
    """Times on the table, from noise to data."""
    top, total = settings.first + 1, settings.train_steps
    if settings.style == "distilled":
        return distilled_times(total, settings.skipping, n)
    extra = int(settings.style == "levels")
    if settings.spacing == "linspace":
        values = np.linspace(0.0, top - 1.0, n + extra)[::-1][: n if extra else None]
        return (
            [float(v) for v in (values if settings.style == "sigmas" else np.round(values))]
            if n + extra > 1
            else [0.0]
        )
    if settings.spacing == "leading":
        stride = top // (n + extra)
        if (n - 1 + extra) * stride + settings.offset > total - 1:
            raise GridError(
                f"steps_offset={settings.offset}: {n} steps of leading spacing begin at "
                f"{(n - 1 + extra) * stride + settings.offset}, "
                f"and the table's last entry is {total - 1}"
            )
        return [float(i * stride + settings.offset) for i in range(n + extra - 1, extra - 1, -1)]
    values = np.round(top - np.arange(n) * (total / n)) - 1.0
    return [float(v) for v in values if v >= 0.0]


def distilled_times(total: int, entries: int, n: int, strength: float = 1.0) -> Levels:
    """``n`` times of a distilled table: every ``total // entries``-th entry up to ``strength`` of
    it. GridError for more than it has."""
    table = (np.arange(1, int(entries * strength) + 1) * (total // entries) - 1)[::-1]
    if n > len(table):
        part = f" below strength {strength:g}" if strength != 1.0 else ""
        raise GridError(
            f"{n} steps of a model distilled on {len(table)}{part} "
            f"(original_inference_steps={entries})"
        )
    return [float(table[int(i)]) for i in np.floor(np.linspace(0, len(table), n, endpoint=False))]


def _bounds(settings: Settings, steps: int) -> tuple[float, float]:
    """The least and the largest level between which special levels run."""
    schedule = settings.schedule
    if settings.style == "edm" or isinstance(schedule, NoisePath):
        return _ordered(*settings.levels)
    if settings.style == "sigmas" and not settings.log_linear:
        spaced = [_node_at(settings, t).rho for t in _times(settings, steps)]
        low, high = spaced[-1], spaced[0]
    else:
        low, high = schedule.rho(0.0), schedule.rho(schedule.t_max)
    low, high = (level if math.isfinite(level) else LARGEST for level in (low, high))
    return _ordered(_or(settings.low, low), _or(settings.high, high))


def _ordered(low: float, high: float) -> tuple[float, float]:
    """Both levels, checked. Raises GridError where the first is above the second; equal levels are
    allowed, for a run of one step."""
    if low > high:
        raise GridError(
            f"sigma_min={low:.6g} and sigma_max={high:.6g}: special levels run from the "
            "second down to the first"
        )
    return low, high


def _special(
    settings: Settings, n: int, low: float, high: float, name: str | None = None
) -> Levels:
    """``n`` levels from ``high`` to ``low``."""
    u = np.linspace(1.0, 0.0, n)
    name = name or settings.special or "karras"
    if name in ("exponential", "lu"):
        values = np.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    elif name == "beta":
        values = low + quantile(0.6, 0.6, u) * (high - low)
    else:
        a, b = low ** (1.0 / settings.rho), high ** (1.0 / settings.rho)
        values = (a + u * (b - a)) ** settings.rho
    return [float(v) for v in values]


def shift_at(settings: Settings, mu: float | None) -> float:
    """A flow's shift: the config's, or with dynamic shifting that of ``mu``. GridError without
    it."""
    if not settings.dynamic:
        return settings.shift
    if mu is None:
        raise GridError(
            "use_dynamic_shifting: give mu= (pipelines compute it from the number of latent tokens)"
        )
    return math.exp(mu) if settings.dynamic == "exponential" else mu


def shifted(settings: Settings, sigma: float, mu: float | None) -> float:
    """A flow's sigma after its static or resolution-dependent shift."""
    if not settings.dynamic:
        return settings.shift * sigma / (1.0 + (settings.shift - 1.0) * sigma)
    scale = shift_at(settings, mu)
    return 0.0 if sigma == 0.0 else scale / (scale + (1.0 / sigma - 1.0))


def _flow(settings: Settings, n: int, mu: float | None) -> Levels:
    """Sigmas of a flow, without the end at 0."""
    unit = 1.0 / settings.train_steps
    if settings.style == "flow_levels" and settings.origin != "UniPCMultistepScheduler":
        # 1 - 1/T .. ; the last point, 0, is the end
        plain = 1.0 - np.linspace(1.0, unit, n + 1)[::-1][:-1]
    elif settings.style == "flow_levels":
        plain = np.linspace(1.0, unit, n + 1)[:-1]
    else:
        laid = (
            settings
            if settings.laid_shift is None
            else dataclasses.replace(settings, shift=settings.laid_shift)
        )
        least = unit if settings.dynamic else shifted(laid, unit, mu)
        plain = np.linspace(1.0, least, n)
    return _stretched(settings, [shifted(settings, float(s), mu) for s in plain], n)


def _stretched(settings: Settings, levels: Levels, n: int) -> Levels:
    """Levels moved to end at ``shift_terminal``, then replaced by special ones between their
    ends."""
    if settings.terminal:
        factor = (1.0 - levels[-1]) / (1.0 - settings.terminal)
        levels = [1.0 - (1.0 - s) / factor for s in levels] if factor else levels
    if (
        settings.special == "karras"
        and settings.origin == "UniPCMultistepScheduler"
        and settings.low
        and settings.high
    ):
        return [
            rho / (1.0 + rho)
            for rho in _special(settings, n, *_ordered(settings.low, settings.high))
        ]
    if settings.special and len(levels) > 1:
        levels = _special(
            settings, n, *_ordered(_or(settings.low, levels[-1]), _or(settings.high, levels[0]))
        )
    return levels


def _given_sigmas(settings: Settings, sigmas: Levels, mu: float | None) -> list[Node]:
    """Nodes of a caller's sigmas. Those of a flow are shifted as its own levels and need no
    end; elsewhere the last one is the end."""
    if settings.style in ("flow", "flow_levels"):
        inner = sigmas[:-1] if len(sigmas) > 1 and sigmas[-1] == 0.0 else sigmas
        return [
            settings.schedule.node(s)
            for s in _stretched(settings, [shifted(settings, s, mu) for s in inner], len(inner))
        ]
    if len(sigmas) < 2:
        raise GridError(
            f"sigmas={sigmas}: the last one is the end of the last step, so at least two are needed"
        )
    nodes = [_node_of(settings, rho) for rho in sigmas[:-1]]
    return [*nodes, _end(settings, nodes, sigmas[-1])]


def _node_of(settings: Settings, rho: float) -> Node:
    """The node at noise-to-signal ratio ``rho``."""
    return settings.schedule.node(settings.schedule.time_at_rho(rho))


def _node_at(settings: Settings, t: float) -> Node:
    """The node at time ``t``; for ``sigmas`` between two entries of the table with rho linear in
    t."""
    schedule = settings.schedule
    if isinstance(schedule, DiscreteVP) and schedule.t_max < t <= settings.train_steps - 1:
        raise GridError(
            f"timesteps: {t:.6g} is beyond the table, which has {int(schedule.t_max) + 1} "
            "entries (trained_betas), while the times follow "
            f"num_train_timesteps={settings.train_steps}: give that as many, or timesteps= "
            "within the table"
        )
    try:
        node = schedule.node(t)
    except ValueError as error:
        raise GridError(f"timesteps: {error}") from None
    if settings.style != "sigmas" or not isinstance(schedule, DiscreteVP) or t == math.floor(t):
        return node
    n = math.floor(t)
    first = schedule.rho(float(n))
    rho = first + (t - n) * (schedule.rho(n + 1.0) - first)
    alpha = 1.0 / math.sqrt(1.0 + rho * rho)
    return Node(alpha, rho * alpha, t, node.dalpha, node.dsigma) if math.isfinite(rho) else node


def _end(settings: Settings, nodes: Sequence[Node], rho: float | None = None) -> Node:
    """The last node. Classes whose state is ``x0 + s eps`` end there unscaled; where the grid has
    already reached ``sigma_min``, the end is sigma = 0."""
    unscaled = settings.style in ("sigmas", "edm")
    if rho is None:
        least = _least(settings)
        rho = least if settings.end == "sigma_min" and nodes[-1].rho > least * (1.0 + 1e-9) else 0.0
    if rho == 0.0:
        zero = settings.schedule.t_zero
        return (
            Node(1.0, 0.0, zero)
            if isinstance(settings.schedule, NoisePath)
            else settings.schedule.node(zero)
        )
    node = _node_of(settings, rho)
    return Node(1.0, node.rho, node.t) if unscaled else node
