"""Sections of ``default_call`` on exact mixtures: the default call against other toolkits and
against the default call of version 0.1."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from grid_measures import (
    FINE_STEPS,
    Case,
    Ratio,
    Sizes,
    case,
    converged,
    default,
    errors,
    former,
    geometric,
    mean_and_worst,
    ratio_in,
    table,
    worst_cells,
)
from grid_problems import CHECK, PATHS, WEIGHTS, Guided, Mix, Problem, fresh, golden
from torch import Tensor

import fewstep

Call: TypeAlias = Callable[[Problem, int, Tensor], Tensor]

GOLDEN_CALLS = (5, 10, 20)
#: path -> the least median error of any peer with 5, 10 and 20 calls: 14 samplers of other toolkits
#: in all their settings, 5524 runs in all
PEERS: dict[str, tuple[float, float, float]] = {
    "ddpm": (0.077, 0.0189, 0.00206),
    "sd": (0.0196, 0.00742, 0.00201),
    "cosine": (0.143, 0.0166, 0.00729),
    "vp_linear": (0.0289, 0.00679, 0.00123),
    "vp_cosine": (0.243, 0.0222, 0.00171),
    "edm": (0.15, 0.0122, 0.00187),
    "flow": (0.163, 0.0179, 0.00154),
}
#: fresh noises of the distribution of errors
FRESH = 1024


def by_uniform_lam(model: Problem, nfe: int, x: Tensor) -> Tensor:
    """The sampler dpmpp_2m on the grid ``lam``."""
    return fewstep.sample(model, "dpmpp_2m", nfe=nfe, grid="lam", x=x)


def rmse(x: Tensor, case: Case) -> Tensor:
    """RMSE of every sample in the data's own units (B,)."""
    return (x - case.end).square().mean(1).sqrt()


def golden_section(sizes: Sizes) -> str:
    """Median errors on the golden mixture over those of the best peer; then the distribution of
    errors over fresh noises."""
    mix, z = golden()
    lines, moved = [], 0.0
    ratios: dict[Call, list[float]] = {default: [], former: []}
    for path in sizes.paths:
        schedule = PATHS[path]
        model = mix.on(schedule)
        end = converged(model, schedule, z, 2 * FINE_STEPS)
        moved = max(moved, float((converged(model, schedule, z) - end).abs().max()))
        here = Case(path, model.sigma_data or 1.0, "golden", model, schedule.prior_scale * z, end)
        line: list[object] = [path]
        for nfe, peer in zip(GOLDEN_CALLS, PEERS[path], strict=True):
            for call, found in ratios.items():
                found.append(float(rmse(call(model, nfe, here.state), here).median()) / peer)
            line += [peer, *(f"{found[-1]:.2f}" for found in ratios.values())]
        lines.append(line)
    head = ["path", *(f"{what} {n}" for n in GOLDEN_CALLS for what in ("peer", "now", "before"))]
    means = "; ".join(
        f"{name} {geometric(found):.2f}, worst {max(found):.2f}, cells above 1: "
        f"{sum(v > 1 for v in found)} of {len(found)}"
        for name, found in (("now", ratios[default]), ("before", ratios[former]))
    )
    return "\n\n".join(
        [
            "Median RMSE over the 16 golden noises: of the best peer, and divided by it.",
            table(head, lines),
            f"Geometric means: {means}. The converged ends have {2 * FINE_STEPS} steps, and are at "
            f"most {moved:.0e} from those with half as many.",
            _distribution(mix, sizes),
        ]
    )


def _distribution(mix: Mix, sizes: Sizes) -> str:
    """Median, 90th percentile and share of mode flips over fresh noises, before and now."""
    lines = []
    for path in sizes.paths:
        made = case(path, 1.0, "golden", mix, FRESH, 1234)
        home = mix.nearest(made.end)
        for nfe in GOLDEN_CALLS:
            line: list[object] = [path, nfe]
            for call in (former, default):
                x = call(made.model, nfe, made.state)
                error = rmse(x, made)
                flips = float((mix.nearest(x) != home).double().mean())
                line += [float(error.median()), float(error.quantile(0.9)), f"{100 * flips:.2g} %"]
            lines.append(line)
    head = [f"{what} {when}" for when in ("before", "now") for what in ("median", "p90", "flips")]
    text = (
        f"Over {FRESH} fresh noises: median, 90th percentile, and the share of samples that end "
        "nearest to another component than the converged end."
    )
    return f"{text}\n\n{table(['path', 'calls', *head], lines)}"


def ratio(a: Call, b: Call, case: Case, nfe: int, *more: str) -> Ratio:
    """The median error of ``a`` over that of ``b``."""
    first, second = (errors(f(case.model, nfe, case.state), case).median() for f in (a, b))
    return ratio_in(case, nfe, float(first / second), *more)


def random_section(sizes: Sizes) -> str:
    """The default call on problems drawn afresh, over dpmpp_2m on uniform log-SNR and over the
    former default."""
    names = list(sizes.paths)
    found: dict[tuple[str, int, Call], list[Ratio]] = {}
    for seed in range(sizes.seed, sizes.seed + sizes.problems):
        model = fresh(seed)
        # every family meets every path
        path = names[(seed // 2) % len(names)]
        made = case(path, model.sigma_data or 1.0, f"seed {seed}", model, sizes.samples)
        kind = "spatial" if made.spatial else "vector"
        for nfe in sizes.calls:
            for other, name in ((by_uniform_lam, "over lam"), (former, "over the former")):
                value = ratio(default, other, made, nfe, name)
                found.setdefault((kind, nfe, other), []).append(value)
    lines = [
        [kind, nfe, *(mean_and_worst(found[kind, nfe, f]) for f in (by_uniform_lam, former))]
        for kind in ("vector", "spatial")
        for nfe in sizes.calls
        if (kind, nfe, former) in found
    ]
    text = (
        f"{sizes.problems} problems drawn from the seeds {sizes.seed} and up, half of them "
        "vectors, at scales from 0.25 to 4, on the paths in turn. Median error of the default call "
        "divided by that of the other call: geometric mean (worst)."
    )
    head = ["data", "calls", "over dpmpp_2m on lam", "over the former default"]
    worst = worst_cells(v for row in found.values() for v in row)
    return f"{text}\n\n{table(head, lines)}\n\n{worst}"


def guided_section(sizes: Sizes) -> str:
    """The default call on guided exact mixtures, over the former default."""
    found: dict[tuple[str, float, int], list[Ratio]] = {}
    for name, make in CHECK.items():
        base = make()
        for path in sizes.paths:
            for scale in (0.5, 1.0):
                for w in WEIGHTS:
                    model = Guided(base.scaled(scale), w)
                    made = case(path, scale, name, model, sizes.samples)
                    kind = "spatial" if made.spatial else "vector"
                    for nfe in sizes.calls:
                        key = (kind, w, nfe)
                        value = ratio(default, former, made, nfe, f"w {w:g}")
                        found.setdefault(key, []).append(value)
    lines = [[kind, w, nfe, mean_and_worst(v)] for (kind, w, nfe), v in sorted(found.items())]
    every = [v for row in found.values() for v in row]
    lines.append(["all", "", "", mean_and_worst(every)])
    text = (
        "The guided prediction is `E[x0] + w (E[x0 | half of the components] - E[x0])`; the "
        "problems of the check, scales 0.5 and 1, all paths. Median error of the default call "
        "divided by that of the former default: geometric mean (worst)."
    )
    return (
        f"{text}\n\n{table(['data', 'w', 'calls', 'now / before'], lines)}\n\n{worst_cells(every)}"
    )
