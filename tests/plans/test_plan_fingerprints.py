"""Plans, grids and samples of drivers are what they were: fingerprints of every sampler with every
variant, and of every grid.

A fingerprint is a weighted sum of all numbers, so that any one of them that changes shows;
``golden/fingerprints.json`` holds those of version 0.1.
``python tests/plans/test_plan_fingerprints.py`` writes the file again, where plans are meant to
change.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import pytest
import torch
from repository import ROOT

import fewstep
from fewstep.models import GaussianMixture
from fewstep.plans import Plan
from fewstep.samplers import current_names, get, names
from fewstep.schedules import EDM, DiscreteVP, Flow, Schedule, VPCosine, VPLinear, grid
from fewstep.schedules.grids.registry import GRIDS

#: the options of version 0.1: cases keep their names when options are renamed
FORMER = json.loads((ROOT / "tests/golden/version_0_1/options.json").read_text(encoding="utf-8"))
FILE = ROOT / "tests" / "golden" / "fingerprints.json"
TABLE = DiscreteVP.from_betas([1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)])
PATHS: dict[str, Schedule] = {
    "vp": VPLinear(),
    "cosine": VPCosine(),
    "table": TABLE,
    "edm": EDM(0.002, 80.0),
    "flow": Flow(3.0),
}


def weighed(numbers: Iterable[float]) -> list[float]:
    """``sum w x`` and ``sum |w x|`` with weights that no two numbers share; infinities count as
    1000."""
    total = size = 0.0
    for k, x in enumerate(numbers, 1):
        term = math.cos(1.7 * k) * (math.copysign(1000.0, x) if math.isinf(x) else x)
        total, size = total + term, size + abs(term)
    return [total, size]


def of_plan(plan: Plan) -> list[Any]:
    nodes = [
        v
        for node in (*plan.nodes, *(e.node for e in plan.evaluations))
        for v in (node.alpha, node.sigma)
    ]
    return [
        [plan.nfe, len(plan.code), len(plan.draws), plan.exactness],
        [*weighed(plan.coefficients), *weighed(nodes)],
    ]


def told(options: Mapping[str, Any]) -> str:
    """Options by their values, so that an option may get another name."""
    return json.dumps(list(options.values()), default=list)


def plan_cases() -> dict[str, Any]:
    """A plan of five steps to sigma = 0 by sampler, variant and path."""
    out = {}
    for name in names("plan"):
        variants = FORMER[name]["variants"] if name in FORMER else get(name).variants
        for options in ({}, *variants):
            for path in ("flow",) if get(name).on[0] == "flow" else ("vp", "edm", "flow"):
                now = current_names(name, options)
                out[f"{name} {told(options)} {path}"] = (name, now, path)
    return out


def grid_cases() -> dict[str, Any]:
    """Seven steps of every grid on every path, to both ends, whole and begun in the middle."""
    every = product(GRIDS, PATHS, ("zero", "sigma_min"), (1.0, 0.6))
    return {" ".join(map(str, case)): case for case in every}


def driver_cases() -> dict[str, Any]:
    return {
        f"{name} {told(options)}": (name, current_names(name, options))
        for name in names("driver")
        for options in ({}, *(FORMER.get(name) or {"variants": get(name).variants})["variants"])
    }


def fingerprint(case: tuple[Any, ...]) -> list[Any]:
    if len(case) == 3:
        name, options, path = case
        try:
            return of_plan(fewstep.plan(name, PATHS[path], steps=5, grid="auto_0_1", **options))
        except ValueError as error:
            return [[type(error).__name__], []]
    if len(case) == 4:
        name, path, final, part = case
        schedule = PATHS[path]
        start = (
            {}
            if part == 1.0
            else {"start": schedule.t_min + part * (schedule.t_max - schedule.t_min)}
        )
        try:
            return [[], weighed(grid(name, schedule, 7, final=final, **start).times)]
        except ValueError as error:
            return [[type(error).__name__], []]
    name, options = case
    model = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4], VPLinear(), "v")
    given: dict[str, Any] = {} if get(name).free else {"steps": 5}
    given["grid"] = "auto_0_1"
    if name in ("adaptive_sde", "dpm_adaptive", "ode45", "ode853"):
        given |= {"rtol": 0.05, "atol": 0.05}
    out, info = fewstep.sample(
        model, name, n=2, seed=5, dtype=torch.float64, info=True, **given, **options
    )
    return [[info.nfe, info.accepted, info.rejected], weighed(out.flatten().tolist())]


def close(found: list[Any], wanted: list[Any], tolerance: float) -> bool:
    """Counts and names equal; sums to ``tolerance`` of the size behind each, which follows it."""
    (counts, sums), (counts_, sums_) = found, wanted
    sizes = [size for size in sums_[1::2] for _ in (0, 1)]
    same = counts == counts_ and len(sums) == len(sums_)
    return same and all(
        abs(a - b) <= tolerance * size for a, b, size in zip(sums, sums_, sizes, strict=True)
    )


GOLDEN: dict[str, dict[str, list[Any]]] = json.loads(FILE.read_text()) if FILE.exists() else {}


@pytest.mark.parametrize("sampler", names("plan"))
def test_plans(sampler: str) -> None:
    cases = {key: case for key, case in plan_cases().items() if case[0] == sampler}
    assert cases
    for key, case in cases.items():
        assert key in GOLDEN["plans"], f"{key}: new; write the file again"
        assert close(fingerprint(case), GOLDEN["plans"][key], 1e-9), key


@pytest.mark.parametrize("name", sorted({key.split()[0] for key in GOLDEN["grids"]}))
def test_grids(name: str) -> None:
    """The grids of version 0.1; a new one has no row."""
    cases = {key: case for key, case in grid_cases().items() if case[0] == name}
    for key, case in cases.items():
        assert close(fingerprint(case), GOLDEN["grids"][key], 1e-9), key
    assert cases


@pytest.mark.parametrize("key", driver_cases())
def test_drivers(key: str) -> None:
    assert close(fingerprint(driver_cases()[key]), GOLDEN["drivers"][key], 1e-4), key


if __name__ == "__main__":
    made = {"plans": plan_cases(), "grids": grid_cases(), "drivers": driver_cases()}
    rows = {
        kind: {key: fingerprint(case) for key, case in cases.items()}
        for kind, cases in made.items()
    }
    lines = ",\n".join(
        f'"{kind}": {{\n'
        + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items())
        + "\n}"
        for kind, found in rows.items()
    )
    FILE.write_text("{\n" + lines + "\n}\n")
