"""One vocabulary of options: aliases, former names, and everything that version 0.1 accepted."""

from __future__ import annotations

import json
import math

import pytest
from repository import ROOT

import fewstep
from fewstep.samplers import SamplerError, current_names, describe, get, make_options, names
from fewstep.samplers.option_names import aliases
from fewstep.schedules import Flow, VPLinear

FORMER = json.loads((ROOT / "tests/golden/version_0_1/options.json").read_text(encoding="utf-8"))
PLANS = [name for name in FORMER if get(name).form == "plan"]


def home(name):
    return Flow() if get(name).on[0] == "flow" else VPLinear()


def plan(name, options):
    return fewstep.plan(name, home(name), steps=4, **options)


@pytest.mark.parametrize("name", PLANS)
def test_the_defaults_of_version_0_1_are_the_defaults(name):
    """Every old option with its old default, under its old name: the plan of today."""
    saved = current_names(name, FORMER[name]["defaults"])
    assert plan(name, saved) == plan(name, {})


@pytest.mark.parametrize("name", PLANS)
def test_the_variants_of_version_0_1_are_variants(name):
    """Old variants, in their order, give the plans of today's; tests/plans compares both with
    fingerprints that version 0.1 wrote."""
    old = [plan(name, current_names(name, v)) for v in FORMER[name]["variants"]]
    assert all(made == plan(name, v) for made, v in zip(old, get(name).variants, strict=False))


@pytest.mark.parametrize("name", [n for n in FORMER if n not in PLANS])
def test_the_options_of_drivers_are_still_taken(name):
    for options in (FORMER[name]["defaults"], *FORMER[name]["variants"]):
        make_options(get(name), current_names(name, options))


@pytest.mark.parametrize(
    ("name", "given", "now"),
    [
        ("ddim", {"eta": 0.5}, {"tau": 0.5}),
        ("dpmpp_2m_sde", {"eta": 0.5}, {"tau": math.sqrt(0.5)}),
        ("dpmpp_3m_sde", {"eta": 0.25}, {"tau": 0.5}),
        ("flow_sde", {"a": 1.0}, {"tau": 1.0 / math.sqrt(2.0)}),
        ("dpmpp_sde", {"r": 0.4}, {"r1": 0.4}),
        ("res_3s", {"c2": 0.4, "c3": 0.8}, {"r1": 0.4, "r2": 0.8}),
        ("unipc", {"variant": "bh1"}, {"correction": "bh1"}),
        ("unipc", {"solver_type": "bh2"}, {"correction": "midpoint"}),
        ("unip", {"variant": "vary_coeff"}, {"correction": "exact"}),
        ("dpmpp_2m", {"solver_type": "heun"}, {"correction": "exact"}),
        ("dpmpp_2m", {"correction": "taylor"}, {"correction": "exact"}),
        ("dpmpp_3s", {"correction": "half"}, {"correction": "midpoint_compat"}),
        ("seeds_2", {"correction": "dpmsolver"}, {"correction": "midpoint"}),
        ("tcd", {"eta": 0.7}, {"gamma": 0.7}),
    ],
)
def test_words_of_other_programs(name, given, now):
    entry = get(name)
    assert make_options(entry, given) == make_options(entry, now) != make_options(entry, {}) or (
        (make_options(entry, now) == make_options(entry, {}) and "bh2" in given.values())
        or given == {"correction": "dpmsolver"}
    )


@pytest.mark.parametrize(
    ("name", "given", "now"),
    [
        ("er_sde", {"noise_scale": "sde"}, {"diffusion": "sde"}),
        (
            "exponential_adams",
            {"moment": "half", "order": 2},
            {"correction": "midpoint", "order": 2},
        ),
        ("flow_sde", {"taus": (0.5, 0.2)}, {"tau": (0.5, 0.2)}),
    ],
)
def test_former_names_warn_at_the_door_and_not_in_files(name, given, now, recwarn):
    entry, (former,) = get(name), given.keys() - now.keys()
    assert current_names(name, given) == now
    assert not recwarn.list
    with pytest.warns(DeprecationWarning, match=f"{former}.* is now called"):
        assert make_options(entry, given) == make_options(entry, now)


def test_two_names_of_one_option_are_refused():
    with pytest.raises(SamplerError, match="tau= and eta= name the same option"):
        make_options(get("ddim"), {"tau": 0.5, "eta": 0.5})


def test_flow_sde_ranks_its_former_names():
    """As version 0.1: taus before tau before a."""
    old = {"a": 0.7, "tau": 0.4, "taus": (0.1, 0.2)}
    assert current_names("flow_sde", old) == {"tau": (0.1, 0.2)}
    assert current_names("flow_sde", {**old, "taus": ()}) == {"tau": 0.4}
    assert current_names("flow_sde", {**old, "taus": (), "tau": None}) == {
        "tau": 0.7 / math.sqrt(2.0)
    }


def test_a_value_out_of_range_is_named_as_it_was_given():
    with pytest.raises(SamplerError, match="eta=-1"):
        make_options(get("dpmpp_2m_sde"), {"eta": -1.0})


def test_one_word_for_one_thing():
    """No sampler has an option that is an alias elsewhere, but for the kernel size of dmcmc and
    words that mean something else where they are (deis and pndm variants, gamma of tcd)."""
    words = {word for name in names() for word in aliases(get(name).options)}
    own = {(name, f) for name in names() for f in get(name).options.__dataclass_fields__}
    found = {(name, f) for name, f in own if f in words}
    assert found == {("dmcmc", "eta"), ("deis", "variant"), ("pndm", "variant")}


def test_describe_lists_the_aliases():
    assert describe("unipc")["option_aliases"] == {
        "variant": "correction",
        "solver_type": "correction",
    }
    assert describe("heun")["option_aliases"] == {}
