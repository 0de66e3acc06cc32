"""Denoising MCMC: a Langevin-Gibbs chain over data and noise level, then any sampler from the
lowest noise level that the chain reached (Kim & Ye 2022, arXiv 2209.14593, algorithm 1: denoising
Langevin Gibbs).

The chain moves ``(y, rho)`` with ``y = x / alpha = x0 + rho eps``. Each sample has its own level
out of K log-uniform ones, so the chain is the same on every path. It starts from an ordinary sample
with fresh noise of level ``jump``. A sweep is

    y   <- y + (eta / 2) score(y, rho) + sqrt(eta) z,    score = -(y - D) / rho^2
           ``langevin`` times
    rho <- a level drawn from  q_k ~ rho_k^-d exp(-R^2 / (2 rho_k^2)),   or its argmax

The paper trains a network to predict the level. Here it follows from the denoiser: given x0 and y
the level has exactly this law under the log-uniform prior, with ``R^2 = |y - x0|^2``. ``estimator``
selects the value used for x0:

    gaussian   a draw of N(D, w^2),    w^2 = rho^2 div D / d,
               div D / d ~ (dy . dD) / |dy|^2 from the preceding Langevin step
    residual   D

``rho^2 grad D`` is the covariance of x0 given y (Tweedie). Therefore ``gaussian`` has
``E[R^2] = d rho^2`` at every level for any data, is the exact Gibbs step on isotropic Gaussian
data, and needs no further call. The residual alone is smaller by the data's share, and where the
data fill all dimensions the levels fall to no noise (for a Gaussian of deviation s: from rho^2 < 3
s^2); it is suitable for data of few dimensions among many. With either estimator the levels change
by about 1 / sqrt(2 d) in log rho per sweep: in many dimensions the chain stays near ``jump``.

Kernels at one level (``step``), and their effect on the variance v of a Gaussian:

    langevin   the above with eta rho^2 in place of eta
               v / (1 - eta rho^2 / (4 v)): at most 1 + eta / 4 times too much noise
    renoise    D + sqrt(1 - eta) (y - D) + sqrt(eta) rho z
               right for v = rho^2, too little by (1 - sqrt(1 - eta)) / 2 for large v
    constant   the above unchanged (the paper's)
               v / (1 - eta / (4 v)): the chain stays above about rho = sqrt(eta) / 2

After the chain, the state of lowest noise (of the sweeps after ``burn_in``) is brought to the
grid's end by the plan sampler ``finish``, on Karras nodes (exponent 7) from its own level. The
plans of all levels advance together: a network call serves the whole batch, each sample at its own
time, and counts once: ``nfe = warm + (burn_in + sweeps)(langevin + 1) + finish``. The host reads
the levels once, after the chain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import ArgumentError, choice, integer, number
from ...checks.option_values import pairs
from ...plans.plan import Plan
from ...plans.running.lowering import lower
from ...schedules.grids.construction import Grid
from ...schedules.grids.construction import grid as make_grid
from ...schedules.kinds import convert
from ...schedules.node import Node
from ...schedules.vp import VPLinear
from ..budgets import largest
from ..registry import SamplerError, build, get, make_options, register
from .driver import Drive, Driven
from .end_points import end_of
from .predictor_corrector import PC, run_corrected
from .sample_times import call_rows, run_rows

#: kernel at one level -> its largest eta
STEPS = {"renoise": 1.0, "langevin": 2.0, "constant": 1e9}


@dataclass(frozen=True)
class DMCMC(Driven):
    """Options of denoising MCMC.

    Attributes:
        sweeps, burn_in: sweeps of the chain; the lowest noise level is taken from the last
            ``sweeps``.
        langevin: Langevin steps per sweep.
        step, eta: the kernel and its size (see above; ``constant`` is 0.5 to 1.6 in the paper, for
            data in [0, 1]).
        estimator: ``gaussian`` or ``residual``; ``update``: ``sample`` or ``argmax`` (see above).
        levels, low, high: number and range of the levels; None: the range of the grid.
        jump: noise-to-signal ratio at which the chain starts.
        finish, arguments: plan sampler for the final denoising, and its options. It also makes the
            sample that the chain starts from, on the grid.
        finish_steps: number of its steps from the chain's level.
    """

    sweeps: int = 10
    burn_in: int = 0
    langevin: int = 1
    eta: float = 0.2
    step: str = "langevin"
    estimator: str = "gaussian"
    update: str = "sample"
    levels: int = 500
    low: float | None = None
    high: float | None = None
    jump: float = 0.5
    finish: str = "dpmpp_2m"
    arguments: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    finish_steps: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        integer("sweeps", self.sweeps, 0, 1_000_000)
        integer("burn_in", self.burn_in, 0, 1_000_000)
        integer("langevin", self.langevin, 1, 1000)
        choice("step", self.step, tuple(STEPS))
        number("eta", self.eta, 1e-9, STEPS[self.step])
        choice("estimator", self.estimator, ("gaussian", "residual"))
        choice("update", self.update, ("sample", "argmax"))
        integer("levels", self.levels, 1, 100_000)
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), 1e-9, 1e9)
        number("jump", self.jump, 1e-9, 1e9)
        integer("finish_steps", self.finish_steps, 1, 10_000)
        if get(self.finish).form != "plan":
            raise SamplerError(
                f"finish={self.finish!r} is a driver; must be a sampler of form plan"
            )
        object.__setattr__(self, "arguments", pairs("arguments", self.arguments))
        self.inner()

    def inner(self) -> Any:
        """The options of ``finish``."""
        return make_options(get(self.finish), dict(self.arguments))

    @property
    def chain_calls(self) -> int:
        """Number of network calls of the chain."""
        return (self.burn_in + self.sweeps) * (self.langevin + 1)


class Levels:
    """Noise levels of a chain with the denoiser's coefficients there, as tensors (K,) on the
    device."""

    def __init__(self, drive: Drive, grid: Grid, options: DMCMC) -> None:
        first = grid[0].rho if grid[0].alpha > 0.0 else math.exp(-grid.schedule.lam_start)
        low = end_of(grid).rho if options.low is None else options.low
        high = first if options.high is None else options.high
        if not (low < high <= first * (1.0 + 1e-12) and low >= end_of(grid).rho * (1.0 - 1e-12)):
            raise SamplerError(
                f"dmcmc: levels from low={low:.6g} to high={high:.6g}; must satisfy "
                f"{end_of(grid).rho:.6g} <= low < high <= {first:.6g}"
            )
        count = options.levels
        rhos = [low * (high / low) ** ((k + 1) / count) for k in range(count - 1)]
        self.nodes = [grid.at_rho(rho) for rho in [*rhos, min(high, first)]]
        self.drive, self.grid = drive, grid
        rows = [self._numbers(node) for node in self.nodes]
        self.t, self.rho, self.alpha, self.scale, self.own, *self.gains = self._columns(rows)
        self.log_rho = self.rho.log()

    def _numbers(self, node: Node) -> list[float]:
        """Time, rho, alpha, input scale, and the coefficients of ``x0 = own x + sum gain raw``."""
        denoiser, t = self.drive.denoiser, float(node.t or 0.0)
        p, qs = denoiser.coefficients(t)
        a, b = convert(denoiser.prediction, "x0", node)
        return [t, node.rho, node.alpha, denoiser.input_scale(t), a + b * p, *(b * q for q in qs)]

    def _columns(self, rows: list[list[float]]) -> list[Tensor]:
        device = self.drive.x.device
        table = torch.from_numpy(np.array(rows).T.copy())
        return list(
            table.to(device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        )

    def at(self, rho: float) -> int:
        """Index of the level nearest to ``rho``."""
        return min(range(len(self.nodes)), key=lambda k: abs(math.log(self.nodes[k].rho / rho)))

    def of(self, values: Tensor, k: Tensor, like: Tensor) -> Tensor:
        """``values[k]``, reshaped to multiply ``like`` (B, *shape)."""
        return values[k].to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))

    def denoised(self, y: Tensor, k: Tensor) -> Tensor:
        """``D(y, rho_k)`` by one counted call, each sample at its own level."""
        x = y * self.of(self.alpha, k, y)
        x_in = (x * self.of(self.scale, k, y)).to(self.drive.x.dtype)
        raws = call_rows(self.drive, x_in, self.t[k], self.nodes[-1], self.drive.cond)
        out = x * self.of(self.own, k, y)
        for gain, raw in zip(self.gains, raws, strict=True):
            out = out + self.of(gain, k, y) * raw.to(y.dtype)
        return out


def sweep(table: Levels, y: Tensor, k: Tensor, options: DMCMC) -> tuple[Tensor, Tensor]:
    """One sweep of the chain from ``y`` (B, *shape) at levels ``k`` (B,)."""
    rho, eta = table.of(table.rho, k, y), options.eta
    pull: float | Tensor = 1.0 - math.sqrt(1.0 - eta) if options.step == "renoise" else 0.5 * eta
    push: float | Tensor = math.sqrt(eta) * rho
    if options.step == "constant":
        pull, push = 0.5 * eta / rho.square(), math.sqrt(eta)
    moved, denoised = y, table.denoised(y, k)
    for _ in range(options.langevin):
        y, before = moved, denoised
        moved = y - pull * (y - before) + push * table.drive.draw(y)
        denoised = table.denoised(moved, k)
    rest = (moved - denoised).flatten(1).double()
    if options.estimator == "residual":
        return moved, new_level(table, rest.square().sum(1), moved, options)
    step, change = ((a - b).flatten(1).double() for a, b in ((moved, y), (denoised, before)))
    width = (
        table.rho[k].double()
        * ((step * change).sum(1) / step.square().sum(1)).clamp_min(0.0).sqrt()
    )
    rest = rest - width[:, None] * table.drive.draw(moved).flatten(1).double()
    return moved, new_level(table, rest.square().sum(1), moved, options)


def new_level(table: Levels, size: Tensor, y: Tensor, options: DMCMC) -> Tensor:
    """Draw levels (B,) given ``R^2 = size`` (B,)."""
    logs = -y[0].numel() * table.log_rho - 0.5 * size[:, None] / table.rho.square()
    if options.update == "argmax":
        return logs.argmax(1)
    total = (logs - logs.amax(1, keepdim=True)).exp().cumsum(1)
    z = table.drive.draw(y).flatten(1)[:, :1].to(total)
    level = 0.5 * torch.erfc(-z / math.sqrt(2.0)) * total[:, -1:]
    return (total < level).sum(1).clamp_max(len(table.nodes) - 1)


def chain(table: Levels, y: Tensor, k: Tensor, options: DMCMC) -> tuple[Tensor, Tensor]:
    """Run the chain. Returns state and level of lowest noise, (B, *shape) and (B,)."""
    least = (y, k)
    for n in range(options.burn_in + options.sweeps):
        y, k = sweep(table, y, k, options)
        if n <= options.burn_in:
            least = (y, k)
            continue
        lower = k < least[1]
        least = (
            torch.where(lower.reshape(-1, *[1] * (y.ndim - 1)), y, least[0]),
            torch.where(lower, k, least[1]),
        )
    return least


def finish_grid(grid: Grid, level: Node, steps: int) -> Grid:
    """Grid of ``steps`` Karras steps (exponent 7) from ``level`` to the end of ``grid``."""
    end = grid[-1]
    last = end_of(grid)
    count = steps - (end.sigma == 0.0)
    a, c = level.rho ** (1 / 7), last.rho ** (1 / 7)
    if count == 0:
        return Grid.from_nodes([level, end], grid.schedule)
    inner = [grid.at_rho((a + i / count * (c - a)) ** 7) for i in range(1, count)]
    return Grid.from_nodes(
        [level, *inner, last, *([end] if end.sigma == 0.0 else [])], grid.schedule
    )


def _fill(nfe: int, options: DMCMC) -> tuple[int, DMCMC]:
    """Number of steps of the initial sample that the budget ``nfe`` leaves."""

    def cost(n: int) -> int:
        return build(options.finish, make_grid("lam", VPLinear(), n), options.inner()).nfe

    left = nfe - options.chain_calls - cost(options.finish_steps)
    steps = largest(cost, left, left)
    if steps < 1:
        raise ArgumentError(
            f"dmcmc cannot do nfe={nfe}: its chain makes {options.chain_calls} calls, finish "
            f"{cost(options.finish_steps)}"
        )
    return steps, options


@register(
    "dmcmc",
    order=lambda o: get(o.finish).order_of(o.inner()),
    source="Kim & Ye 2022, arXiv 2209.14593, algorithm 1",
    tau=1.0,
    form="driver",
    fill=_fill,
    variants=(
        {"estimator": "residual"},
        {"update": "argmax"},
        {"step": "constant", "eta": 0.1, "burn_in": 3},
        {"step": "renoise"},
        {"finish": "heun", "langevin": 2},
        {"finish": "ddpm", "finish_steps": 8},
    ),
)
def dmcmc(drive: Drive, grid: Grid, options: DMCMC) -> Tensor:
    """Denoising Langevin Gibbs: a chain over data and noise level, then any plan sampler from each
    sample's lowest noise."""
    table = Levels(drive, grid, options)
    inner = options.inner()
    warm = build(options.finish, grid, inner)

    def plan_from(k: int) -> Plan:
        return build(options.finish, finish_grid(grid, table.nodes[k], options.finish_steps), inner)

    for k in {0, len(table.nodes) - 1}:  # raise errors before the chain runs, not after it
        lower(plan_from(k), drive.denoiser)
    run_corrected(drive, warm, [], PC(corrector="none"))
    wide = torch.promote_types(drive.x.dtype, torch.float32)
    first = table.at(options.jump)
    end, begin = grid[-1], table.nodes[first]
    y = drive.x.to(wide) / end.alpha
    y = y + math.sqrt(max(begin.rho**2 - end.rho**2, 0.0)) * drive.draw(y)
    y, least = chain(table, y, torch.full((len(y),), first, device=y.device), options)
    levels = [int(v) for v in least.tolist()]
    drive.accept((y * table.of(table.alpha, least, y)).to(drive.x.dtype), table.nodes[max(levels)])
    return run_rows(drive, {level: plan_from(level) for level in set(levels)}, levels)
