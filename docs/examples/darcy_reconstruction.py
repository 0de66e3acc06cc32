"""Darcy flow from 3 % of the points, with the bundled prior of (a, u): the table of docs/solve.md.

    python docs/examples/darcy_reconstruction.py [--fields 256] [--draws 4]
        [--only baselines prior mmps ...] [--write]

Each field of 64 x 64 nodes has 123 random points of its own. Errors: relative L2 error of u, and
the share of nodes where the coefficient a, rounded to 3 or 12, is wrong; means over the fields. The
baselines interpolate the points of the same field: nearest, linear (nearest outside of the hull)
and thin-plate, without and with the values 0 of u at the walls; "solved" is u of the reference
solver with the rounded a of the row. Fields are drawn with seeds that training does not use.
"linear regression" is the linear estimate
with the mean and the covariance of 600 drawn fields and their symmetric images; ``baselines`` and
``regression`` need no model. A sample of the posterior has about the square root of 2 times the
error of the posterior's mean, so the mean of some samples has a row too. ``--model`` takes a
folder instead of the bundled model. ``--write`` writes the table into docs/solve.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import fewstep
from fewstep import guidance as G
from fewstep.eval.physics import darcy
from fewstep.models import BaseDenoiser
from fewstep.schedules import EDM

PAGE = Path(__file__).resolve().parent.parent / "solve.md"
BEGIN = "<!-- figures of docs/examples/darcy_reconstruction.py -->"
END = "<!-- end of the figures -->"
#: parts of the table
ROWS = ("baselines", "prior", "regression", "prior_covariance", "mmps", "diffusion_pde")
SIZE, POINTS, SEED = 64, 123, 0
#: noise that the methods assume, in units of the model (a' = 0.2 a - 1.5, u' = 115 u - 0.9), where
#: u' has a standard deviation of 0.2
NOISE = 0.001
#: fields whose covariance is used, drawn with seeds of the training data
DRAWN, FIRST, RANK = 600, 100_000, 300


class Problem(NamedTuple):
    """True fields (B, 2, 64, 64) in units of the model, and where they are observed, (B, 64, 64)
    for a and for u."""

    truth: Tensor
    points_a: Tensor
    points_u: Tensor

    def part(self, rows: slice) -> Problem:
        """Some of the fields."""
        return Problem(*(value[rows] for value in self))


class Errors(NamedTuple):
    """Of each field: relative L2 error of u, wrong share of a, and relative L2 error of u solved
    from the rounded a; NaN where there is none."""

    u: Tensor
    a: Tensor
    solved: Tensor


def model_units(a: Tensor, u: Tensor) -> Tensor:
    """Both fields as the channels of the model."""
    return torch.stack([0.2 * a - 1.5, 115.0 * u - 0.9], 1)


def physical(x: Tensor) -> tuple[Tensor, Tensor]:
    """a and u in physical units, float64."""
    x = x.double()
    return (x[:, 0] + 1.5) / 0.2, (x[:, 1] + 0.9) / 115.0


def problem(fields: int) -> Problem:
    """The fields, with random points of their own."""
    drawn = darcy.draw(fields, SIZE, SEED).fields
    masks = torch.zeros(2, fields, SIZE * SIZE, dtype=torch.bool)
    for i in range(fields):
        for k in range(2):
            order = torch.randperm(
                SIZE * SIZE, generator=torch.Generator().manual_seed(2 * (SEED + i) + k)
            )
            masks[k, i, order[:POINTS]] = True
    masks = masks.reshape(2, fields, SIZE, SIZE)
    return Problem(model_units(drawn["a"], drawn["u"]).float(), masks[0], masks[1])


def solved(a: Tensor) -> Tensor:
    """u of the reference solver for the rounded coefficient."""
    h = 1.0 / (SIZE - 1)
    return darcy.solve({"a": darcy.nearest_phase(a)}, {"x": h, "y": h}, {})["u"]


def relative(u: Tensor, true: Tensor) -> Tensor:
    """Relative L2 error of each field."""
    return (u - true).flatten(1).norm(dim=1) / true.flatten(1).norm(dim=1)


def rated(x: Tensor, truth: Tensor) -> Errors:
    """The errors of x (B, 2, 64, 64), whose channels may be NaN."""
    (a, u), (true_a, true_u) = physical(x), physical(truth)
    nan = torch.full((len(x),), torch.nan, dtype=torch.float64)
    share, through = nan, nan
    if bool(a.isfinite().all()):
        share = (darcy.nearest_phase(a) != darcy.nearest_phase(true_a)).double().mean((1, 2))
        through = relative(solved(a), true_u)
    return Errors(relative(u, true_u) if bool(u.isfinite().all()) else nan, share, through)


# ---- baselines


def interpolated(values: Tensor, mask: Tensor, kind: str, wall: float | None) -> Tensor:
    """One field (64, 64) from its points; ``wall``: the value on the walls, if it is used."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator, RBFInterpolator

    known = mask.clone()
    data = values.clone()
    if wall is not None:
        for edge in (np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]):
            known[edge], data[edge] = True, wall
    at, given = known.nonzero().double().numpy(), data[known].double().numpy()
    every = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij"), -1)
    every = every.reshape(-1, 2).astype(float)
    near = NearestNDInterpolator(at, given)(every)
    if kind == "nearest":
        found = near
    elif kind == "linear":
        found = LinearNDInterpolator(at, given)(every)
        found = np.where(np.isnan(found), near, found)
    else:
        found = RBFInterpolator(at, given, kernel="thin_plate_spline")(every)
    return torch.from_numpy(found).reshape(SIZE, SIZE)


def baseline(task: Problem, kind: str, walls: bool) -> Tensor:
    """Both fields from their own points."""
    made = []
    for x, points_a, points_u in zip(*task, strict=True):
        zero = -0.9 if walls else None  # u = 0 in units of the model
        made.append(
            torch.stack(
                [
                    interpolated(x[0], points_a, kind, None),
                    interpolated(x[1], points_u, kind, zero),
                ]
            )
        )
    return torch.stack(made)


# ---- the model


#: what is observed: of a, of u
TASKS: dict[str, tuple[str, str]] = {
    "a everywhere": ("all", ""),
    "a at 3 %": ("points", ""),
    "u at 3 %": ("", "points"),
    "a and u at 3 %": ("points", "points"),
}


def mask_of(task: Problem, name: str) -> Tensor:
    """(B, 2, 64, 64): where the fields of a task are observed."""
    masks = []
    for how, points in zip(TASKS[name], task[1:], strict=True):
        masks.append(
            torch.ones_like(points)
            if how == "all"
            else points
            if how == "points"
            else torch.zeros_like(points)
        )
    return torch.stack(masks, 1)


def measured(task: Problem, name: str) -> G.Gaussian:
    """The likelihood of a task."""
    operator = G.operators.Inpaint(mask_of(task, name))
    return G.Gaussian(operator, operator(task.truth), NOISE)


def covariance() -> tuple[Tensor, G.LowRank]:
    """Mean and covariance of drawn fields and their images under the symmetries of the square."""
    drawn = darcy.draw(DRAWN, SIZE, FIRST).fields
    x = model_units(drawn["a"], drawn["u"]).float()
    for turned in (lambda v: v.rot90(1, (2, 3)), lambda v: v.flip(2), lambda v: v.flip(3)):
        x = torch.cat([x, turned(x)])
    return x.mean(0), G.LowRank.from_samples(x, RANK)


class Constant(BaseDenoiser):
    """Predicts the mean of the data whatever the state is."""

    prediction = "x0"
    preserves_input = True

    def __init__(self, mean: Tensor) -> None:
        self.schedule, self.mean, self.shape = EDM(1e-3, 1e6), mean, tuple(mean.shape)

    def raws(self, x_in: Tensor, t: Any, cond: Any = None, channels: Any = ("main",)) -> Any:
        """The mean for each sample."""
        return (self.mean.expand_as(x_in),)

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """Those of the prediction itself."""
        return 0.0, (1.0,)


class Means:
    """Posterior means of a method: the mean of ``draws`` samples of each field."""

    def __init__(self, method: str, draws: int, **options: Any) -> None:
        self.method, self.draws, self.options = method, draws, options

    def __call__(self, den: Any, task: Problem, name: str) -> tuple[list[Tensor], str]:
        """One sample of each field, their mean over the draws, and the cost of a field."""
        n, found, info = len(task.truth), [], None
        for k in range(self.draws):
            what = self.measured(task, name)
            seeds = range(1000 * k, 1000 * k + n)
            x, info = G.solve(den, what, self.method, seeds=seeds, info=True, **self.options)
            found.append(x)
        assert info is not None
        cost = f"{info.counts.network}, {info.counts.vjp}"
        return [found[0], torch.stack(found).mean(0)], cost

    def measured(self, task: Problem, name: str) -> Any:
        """The likelihood."""
        return measured(task, name)


class Published(Means):
    """DiffusionPDE with the published weights of the observations, which are of fields in physical
    units and of 2000 steps; that of u is stable for many steps only, and is divided by 20 here.
    The equation's term, whose published residual is about 1 on exact fields, is left out."""

    def measured(self, task: Problem, name: str) -> Any:
        """The losses of both fields."""
        data = measured(task, name)
        losses = []
        for channel, weight in ((0, 5.0 / 0.2), (1, 5000.0 / 115.0 / 20.0)):
            keep = torch.zeros(2, 1, 1, dtype=torch.bool)
            keep[channel] = True
            mask = mask_of(task, name) & keep
            if bool(mask.any()):
                likelihood = G.Gaussian(G.operators.Inpaint(mask), data.y * keep, NOISE)
                losses.append(G.Loss(likelihood, weight, late=0.1))
        return losses


def methods(cov: G.LowRank, draws: int) -> dict[str, Means]:
    """The methods by name; ``draws`` of ``prior_covariance``."""
    karras = {"grid": "karras"}
    return {
        "prior_covariance": Means(
            "prior_covariance", draws, covariance=cov, sampler="ddim",
            sampler_options={"eta": 1.0}, steps=20, **karras,
        ),
        "mmps": Means("mmps", 1, iterations=1, sampler="dpmpp_2m", steps=20, **karras),
        "diffusion_pde": Published("diffusion_pde", 1, steps=100, **karras),
    }  # fmt: skip


def regression(mean: Tensor, cov: G.LowRank, task: Problem, name: str) -> Tensor:
    """The linear estimate from the points with this mean and covariance: no network."""
    likelihood = measured(task, name)
    g = G.PriorCovariance(Constant(mean), likelihood, cov)
    return g(torch.zeros_like(task.truth), g.schedule.t_max)


def in_parts(
    den: Any, method: Means, task: Problem, name: str, batch: int
) -> tuple[list[Errors], str]:
    """Errors of one draw and of the mean, batch by batch."""
    found: list[list[Errors]] = [[], []]
    cost = ""
    for i in range(0, len(task.truth), batch):
        part = task.part(slice(i, i + batch))
        made, cost = method(den, part, name)
        for errors, x in zip(found, made, strict=True):
            errors.append(rated(x, part.truth))
    joined = [Errors(*(torch.cat(v) for v in zip(*errors, strict=True))) for errors in found]
    return joined, cost


# ---- the table


def row(name: str, what: str, errors: Errors, calls: str = "") -> str:
    """A line of the table."""
    cells = [f"{float(v.mean()):.4f}" if bool(v.isfinite().all()) else "" for v in errors]
    return f"| {name} | {what} | {' | '.join(cells)} | {calls} |"


def baselines(task: Problem) -> list[str]:
    """The rows of the interpolations."""
    lines = []
    for kind in ("nearest", "linear", "thin plate"):
        for walls in (False, True):
            errors = rated(baseline(task, kind, walls), task.truth)
            if walls:
                errors = errors._replace(a=errors.a * torch.nan, solved=errors.a * torch.nan)
            lines.append(row(f"{kind}{', walls' if walls else ''}", "own field at 3 %", errors))
            print(lines[-1], flush=True)
    return lines


def prior_rows(den: Any, task: Problem, batch: int) -> list[str]:
    """Samples without any observation, and their consistency with the solver."""
    n = len(task.truth)
    x = torch.cat(
        [fewstep.sample(den, nfe=30, seeds=range(i, min(i + batch, n))) for i in range(0, n, batch)]
    )
    a, u = physical(x)
    own = relative(u, solved(a))
    lines = [row("the prior", "nothing", rated(x, task.truth), "30")]
    print(lines[0], f"u against the solver with its own a: {float(own.mean()):.4f}", flush=True)
    return lines


def method_rows(den: Any, args: Any, task: Problem, mean: Tensor, cov: G.LowRank) -> list[str]:
    """The rows of the methods that are asked for."""
    lines = []
    some = [name for name in args.tasks if "all" not in TASKS[name]]  # not 4096 measurements
    for name in some if "regression" in args.only else ():
        errors = rated(regression(mean, cov, task, name), task.truth)
        lines.append(row("linear regression", name, errors, "0"))
        print(lines[-1], flush=True)
    for method, means in methods(cov, args.draws).items():
        own = some if method == "prior_covariance" else args.tasks
        for name in own if method in args.only else ():
            began = time.perf_counter()
            (one, many), cost = in_parts(den, means, task, name, args.batch)
            lines.append(row(f"`{method}`, one sample", name, one, cost))
            if means.draws > 1:
                label = f"`{method}`, mean of {means.draws}"
                lines.append(row(label, name, many, f"{means.draws} x ({cost})"))
            print("\n".join(lines[-2:]), f"{time.perf_counter() - began:.0f} s", flush=True)
    return lines


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--fields", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--model", default="darcy")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=list(ROWS), choices=ROWS)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--write", action="store_true")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Make the table."""
    args = arguments(argv)
    task = problem(args.fields)
    lines = [
        f"Means over {args.fields} fields.",
        "",
        "| method | observed | u, relative L2 | a, wrong share | u solved from a | network calls, "
        "VJPs |",
        "|---|---|---|---|---|---|",
    ]
    if "baselines" in args.only:
        lines += baselines(task)
    den = None
    if set(args.only) - {"baselines", "regression"}:
        den = fewstep.models.load(args.model)
        if "prior" in args.only:
            lines += prior_rows(den, task, args.batch)
    if set(args.only) - {"baselines", "prior"}:
        lines += method_rows(den, args, task, *covariance())
    if args.write:
        page = PAGE.read_text(encoding="utf-8")
        head, rest = page.split(BEGIN)
        text = "\n".join(lines)
        PAGE.write_text(
            f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
