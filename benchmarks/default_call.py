"""The check of the default call, and the page docs/grids.md.

    python benchmarks/default_call.py [--only [SECTION ...]] [--write docs/grids.md] [sizes]

Sections: fit (the tables of ``grid_choice``), golden, named, random, guided, networks, scaling.
``--write`` replaces the sections that were run, and the text around all of them; the other sections
stay as the page has them, so that they can be measured one by one. ``--only`` without a section
writes the text alone.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grid_choice
import torch
from default_grids import named_section, scaling_section
from default_mixtures import golden_section, guided_section, random_section
from default_networks import networks_section
from grid_measures import Sizes, table
from grid_problems import PATHS

from fewstep.engine.automatic import choices
from fewstep.schedules.grids.auto import RULE, SHARE


def fit_section(sizes: Sizes) -> str:
    """The tables of ``grid_choice``, at its own numbers of calls and settings."""
    return grid_choice.report(samples=sizes.samples)


SECTIONS: Mapping[str, Callable[[Sizes], str]] = {
    "fit": fit_section,
    "golden": golden_section,
    "named": named_section,
    "random": random_section,
    "guided": guided_section,
    "networks": networks_section,
    "scaling": scaling_section,
}
EMPTY = "Not measured."

PAGE = """# The default grid and sampler, `"auto"`

Written by `python benchmarks/default_call.py --write docs/grids.md`; the rule is coded in
`schedules/grids/auto.py`, the choice of the sampler in `engine/automatic.py`.

## The rule

The grid `auto` is the grid `logistic`: levels `rho = sigma / alpha` at

    log rho(u) = log(center sigma_data) + spread log(u / (1 - u)),

where u falls uniformly from the probability of the first level (1 where alpha = 0) to 0, and
sigma = 0 is the last node. The levels are densest at `center sigma_data`, where the state passes
from noise to data; `spread` says how far they reach to both sides. As only rho matters, one rule
serves all paths: in x / alpha the probability-flow ODE has the same solutions on all of them.
It was fitted and checked on the paths of the tables below (VPLinear, VPCosine, DiscreteVP, EDM,
Flow). On other classes of schedules it works but was not measured, and `info.reason` says so.

The numbers depend on

- the number of steps;
- the kind of sampler: *multistep* (one network call a step, steps made of eps, v or velocities),
  *multistep_x0* (one call a step, steps made of x0; and methods of first order, whose steps are the
  same in eps and in x0), *singlestep* and *singlestep_x0* (several calls a step), *stochastic*
  (noise is added at the steps);
- whether the model is guided or its samples are latents, which are nearly always guided: the rows
  *multistep guided* and *multistep_x0 guided*. The other kinds have the same numbers for both;
- the shape of a sample: vectors, or samples with spatial axes (images, sequences), whose broad
  spectra need more steps at high levels. For an unknown shape the grid takes the geometric mean of
  both centers and the mean of both spreads, and the sampler is that for spatial axes;
- `sigma_data`, the standard deviation of the data in units of x0, which scales all levels. A
  denoiser declares it; 0.5 is assumed where it does not, that of images in [-1, 1].

{rule}

Between two rows the logarithm of the center and the spread are interpolated linearly in the
logarithm of the steps; beyond them they are constant.

### The last node before sigma = 0

Samplers of the kind *multistep* extrapolate eps over the last step, to sigma = 0. Most paths have a
least level `rho_min` above 0, and the grid puts no node between it and 0. If the formula asks for
nodes below it, these crowd just above `rho_min`, and the last step is many times longer than the
ones before, which the weights of a multistep method turn into a large error. So the numbers of the
table are changed until the last node before sigma = 0 is not below `rho_min`. With N steps and the
probability p of the first level, that node is at

    rho_last = center sigma_data exp(-spread L),    L = log(N / p - 1).

If `gap = log(rho_min / rho_last)` is positive,

    log center  grows by  {share:g} gap,
    spread      falls by  {rest:g} gap / L,

which moves the node to `rho_min`; p and L are computed again with the new numbers until the gap is
closed. Nothing changes for the other kinds, on paths that reach sigma = 0 (flow), and for grids
that end at sigma_min. A `center` or `spread` that is given is used as it is.

### A huge first level

Samplers of the kind *singlestep* average the slopes eps of both ends of a step. On a path whose
first level is finite but above 2000 sigma_data (the cosine table of 1000 betas) the second level of
the rule is too low for that, and they keep the former grid, `auto_0_1`.

### The sampler

The sampler `auto` depends on the number of network calls, the shape of a sample, and whether the
model is guided or its samples are latents. High orders at few calls diverge under strong guidance.

{samplers}

```python
import fewstep

model = fewstep.models.load("mixture")
plan = fewstep.plan("auto", model, nfe=8)
print(plan.reason)  # what was chosen, and why

# the default of version 0.1
former = fewstep.sample(model, "dpmpp_2m", grid="auto_0_1", nfe=8, n=4)
```

## How the numbers were measured

An error is the RMSE of the end point of a sample to the end of the converged probability-flow ODE
(dpmpp_3m, 400 steps from the first level to 1e-5 sigma_data) from the same noise, divided by
sigma_data. A cell (a problem, path, scale of the data, sampler and number of calls) has the median
over its samples, so that one sample which ends in another component does not outweigh the others.
Problems are exact mixtures of Gaussians with diagonal covariances, in float64: vectors in 2 to 64
dimensions, and samples of shape (1, h, w) whose widths fall as a power of the frequency. The paths:
{paths}.
`ddpm`, `sd` and `cosine` are tables of 1000 noise rates (linear, scaled linear, cosine).

Stochastic samplers have no end point to compare with; their error is the exact weak error on data
of one Gaussian with the standard deviations s_j: the root mean square over the elements j of
`std of the end of the plan - s_j`, divided by sigma_data. For such data a plan is linear in the
start noise and in the noises that it draws, so one run with each of these noises in turn as a row
gives the standard deviation of the end exactly. This says nothing about data of several components.
On Gaussians `ddpm` has the errors of `euler_ancestral`, and `seeds_2` those of `dpmpp_sde`.

The numbers of the rule were chosen from searches like those in the tables of the fit, of other
sizes. They need not be the best pair of a row: neighbours differ little, and few numbers should
serve all lengths. Everything below *Check* is on other
problems, of other families and seeds, or on networks from other start noises. It is not wholly
unseen: the choice of samplers for guided models was corrected after a look at *Guided models*, and
the spread of spatial data after a look at the seeds 0 to 119 of *Problems drawn afresh* (another
`--seed` draws others), and images of both networks, from other seeds, were among the searches.

Not fitted: numbers for each path (all paths share them); orders and options of samplers other than
those of the tables; data whose scale differs much between elements or components; paths with a data
term of their own (mean-reverting), for which `plan.reason` says so.

## Fit

Each figure belongs to a pair `center, spread`: the geometric mean, over the cells, of its error
divided by the least error of any searched pair in that cell. A pair that is best everywhere would
have 1. Settings (path, scale of the data): {settings}.
Searched: the centers {centers} with the spreads {spreads}.

The column *rule* has the numbers of the table above for the steps that the calls allow, and in
brackets the largest to which they are changed at the least level of a path. Its figure includes
this change, which the searched pairs do not have; so it can be below those of all of them, and
below 1.

{fit}

## Check

### The golden mixture, against other toolkits

{golden}

### Against named grids

{named}

### Problems drawn afresh

{random}

### Guided models

{guided}

### Networks

{networks}

### Other kinds of samplers

{scaling}

## Published lists

Papers give these grids for their models, and every model can use them; `table=` names the list, and
other numbers of steps interpolate it.

| grid | `table=` | steps |
| --- | --- | --- |
| `ays` (arXiv 2404.14507) | `sd15`, `sdxl`, `svd` | 10 |
| `oss` (arXiv 2503.21774) | `flux`, `wan` | 10 and 20 (flow) |
| `gits` (arXiv 2405.11326) | `cifar10` | 6, `final="sigma_min"` |
| `hyperparameters` (arXiv 2510.02390) | `sd15`, `sd15_full`, `sdxl` | 5 to 8, `final="sigma_min"` |

The grid `hyperparameters` stops at rho = 0.13 to 0.29; its authors decode that state.
With `final="zero"`, the default, a further step leads from there to sigma = 0.
"""


def rule_table() -> str:
    """The numbers of the rule."""
    lines = [
        [kind, "spatial" if spatial else "vector", row.steps, row.center, row.spread]
        for (kind, spatial), rows in RULE.items()
        for row in rows
    ]
    return table(["sampler", "data", "steps", "center", "spread"], lines)


def sampler_table() -> str:
    """The choice of the sampler."""
    lines = []
    for row in choices():
        most = row["calls"]
        options = "".join(f" {key}={value:g}" for key, value in row["options"].items())
        calls = "all others" if most == float("inf") else f"up to {most:g}"
        lines.append([row["samples"], calls, f"`{row['sampler']}`{options}"])
    return table(["samples", "calls", "sampler"], lines)


def marked(name: str, text: str) -> str:
    """A section between comments by which it is found again."""
    return f"<!-- {name} -->\n\n{text}\n\n<!-- end of {name} -->"


def kept(name: str, page: str) -> str:
    """The section that a page has."""
    found = re.search(rf"<!-- {name} -->\n\n(.*?)\n\n<!-- end of {name} -->", page, re.DOTALL)
    return found[1] if found else EMPTY


def full_page(found: Mapping[str, str], before: str) -> str:
    """The page with the sections ``found``, and those of ``before``."""
    parts = {name: marked(name, found.get(name) or kept(name, before)) for name in SECTIONS}
    return PAGE.format(
        rule=rule_table(),
        samplers=sampler_table(),
        share=SHARE,
        rest=1.0 - SHARE,
        settings=", ".join(f"`{path}` {scale:g}" for path, scale in grid_choice.SETTINGS),
        centers=", ".join(f"{center:g}" for center in grid_choice.CENTERS),
        spreads=", ".join(f"{spread:g}" for spread in grid_choice.SPREADS),
        paths=", ".join(f"`{name}`" for name in PATHS),
        **parts,
    )


def write(page: Path | None, found: Mapping[str, str]) -> None:
    """Put the text and the sections ``found`` into the page, if there is one to write."""
    if page is not None:
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        page.write_text(full_page(found, before), encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    own = Sizes()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--write", type=Path, help="also write the page here")
    parser.add_argument("--samples", type=int, default=own.samples, help="start noises of a cell")
    parser.add_argument("--calls", type=int, nargs="+", default=own.calls)
    parser.add_argument("--paths", nargs="+", choices=list(PATHS), default=own.paths)
    parser.add_argument("--scales", type=float, nargs="+", default=own.scales, help="of named")
    parser.add_argument("--seed", type=int, default=own.seed, help="first seed of random")
    parser.add_argument("--problems", type=int, default=own.problems, help="number of random")
    parser.add_argument("--images", type=int, default=own.images, help="of networks")
    parser.add_argument("--first-seed", type=int, default=own.first_seed, help="of networks")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    o = arguments()
    sizes = Sizes(
        samples=o.samples,
        calls=tuple(o.calls),
        paths=tuple(o.paths),
        scales=tuple(o.scales),
        seed=o.seed,
        problems=o.problems,
        images=o.images,
        first_seed=o.first_seed,
    )
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    found = {}
    for name in SECTIONS:
        if name in o.only:
            began = time.perf_counter()
            found[name] = SECTIONS[name](sizes)
            print(f"## {name}\n\n{found[name]}\n", flush=True)
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            write(o.write, found)
    write(o.write, found)


if __name__ == "__main__":
    main()
