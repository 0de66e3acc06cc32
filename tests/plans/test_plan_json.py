"""What a text says about its plan is measured again: a changed text is PlanError, or a plan whose
claims are true."""

import json
import random

import numpy as np
import pytest

import fewstep
from fewstep.plans import Plan, PlanError
from fewstep.plans.type_check import measure
from fewstep.samplers import get, names
from fewstep.schedules import EDM, VE, Flow, VPLinear

JUNK = (
    None,
    True,
    0,
    1,
    -1,
    10**9,
    10**400,
    -0.5,
    1e308,
    "inf",
    "-inf",
    "x",
    [],
    [1],
    [[1, 2]],
    {},
    {"a": 1},
    "exact",
    "eps",
    "v",
)


def body(name="dpmpp_2m", schedule=None, steps=4, **options):
    return json.loads(fewstep.plan(name, schedule or VPLinear(), steps=steps, **options).to_json())


def places(value, path=()):
    yield path
    for key in (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    ):
        yield from places(value[key], (*path, key))


def mutated(found, rng):
    """One change at one place: dropped, scaled, doubled, moved or replaced."""
    path = rng.choice([p for p in places(found) if p])
    parent = found
    for key in path[:-1]:
        parent = parent[key]
    key, how = path[-1], rng.randrange(5)
    value = parent[key]
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(value, (int, float)) and not isinstance(value, bool):
        parent[key] = value * rng.choice([1 + 1e-6, 2, -1, 0, 1e300]) + rng.choice([0, 0, 1])
    elif how == 2 and isinstance(parent, list):
        parent.insert(key, json.loads(json.dumps(rng.choice(parent))))
    elif how == 3 and isinstance(parent, list):
        rng.shuffle(parent)
    else:
        parent[key] = rng.choice(JUNK)
    return found


@pytest.mark.parametrize("name", names("plan"))
def test_a_changed_text_is_refused_or_true(name):
    rng = random.Random(name)
    for _ in range(16):
        try:
            text = body(
                name,
                rng.choice((VPLinear(), Flow(), EDM(), VE())),
                rng.randint(1, 4),
                **rng.choice(({}, *get(name).variants)),
            )
        except ValueError:  # not on this schedule
            continue
        try:
            plan = Plan.from_json(json.dumps(mutated(text, rng)))
        except PlanError:
            continue
        found = measure(plan)
        assert (found.exactness, found.off_label) == (plan.exactness, plan.off_label)
        assert found.defect == pytest.approx(plan.defect, rel=1e-6, abs=1e-12)
        assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("name", names("plan"))
def test_what_was_written_is_read(name):
    for schedule in (
        VPLinear(),
        Flow(),
        EDM(),
        fewstep.schedules.MeanReverting(),
        fewstep.schedules.PFGMPP(64.0),
    ):
        for options in ({}, *get(name).variants):
            try:
                plan = fewstep.plan(name, schedule, steps=3, **options)
            except ValueError:
                continue
            again = Plan.from_json(plan.to_json())
            assert again == plan and again.name == plan.name and again.defect == plan.defect


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["code"][1]["terms"][0].__setitem__(1, "inf"),
        lambda d: d["code"][1]["terms"][0].__setitem__(1, 12.5),
        lambda d: d["code"][1]["terms"][0].__setitem__(1, "0.5"),
        lambda d: d["code"][1]["terms"].append(d["code"][1]["terms"][0]),
        lambda d: d.__setitem__("name", None),
        lambda d: d.__setitem__("exactness", "signal"),
        lambda d: d.__setitem__("defect", 0.3),
        lambda d: d.__setitem__("defect", "inf"),
        lambda d: d.__setitem__("off_label", [0]),
        lambda d: d.__setitem__("nodes", []),
        lambda d: d["nodes"].reverse(),
        lambda d: d.__setitem__("end", d["start"]),
        lambda d: d.__setitem__("result", True),
        lambda d: d["start"].__setitem__("alpha", -0.5),
        lambda d: d["code"][0].__setitem__("evaluate", [[1, []]]),
    ],
)
def test_what_is_not_true_is_refused(change):
    found = body()
    Plan.from_json(json.dumps(found))
    change(found)
    with pytest.raises(PlanError):
        Plan.from_json(json.dumps(found))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        b"\xff\xfe",
        5,
        None,
        "",
        "[1]",
        "NaN",
        "1" * 5000,
        {},
        np.zeros(2),
    ],
)
def test_what_is_no_plan(text):
    with pytest.raises(PlanError):
        Plan.from_json(text)


def test_a_stochastic_plan_keeps_its_level():
    for name, level in (("euler_maruyama", "asymptotic"), ("ddpm", "exact")):
        found = body(name, VPLinear(), 5)
        assert found["exactness"] == level == Plan.from_json(json.dumps(found)).exactness
    found["code"][1]["noise"][0][1] *= 1.5
    with pytest.raises(PlanError, match="signal"):
        Plan.from_json(json.dumps(found))
