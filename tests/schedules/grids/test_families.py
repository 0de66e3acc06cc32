"""The registry of grid families: what a family declares, what its options refuse, and how one of a
user's own is added."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import pytest

import fewstep
from fewstep.checks import between
from fewstep.schedules import EDM, Flow, GridError, VPLinear, grid, grid_names
from fewstep.schedules.grids import families, registry
from fewstep.schedules.grids.frame import Frame
from fewstep.schedules.grids.registry import ALIASES, GRIDS, NoOptions, register


@dataclass(frozen=True)
class Middle:
    where: float = 0.5

    def __post_init__(self) -> None:
        between("where", self.where, 0, 1)


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "GRIDS", dict(GRIDS))
    monkeypatch.setattr(registry, "ALIASES", dict(ALIASES))


def test_families_are_found_in_alphabetical_order() -> None:
    assert list(families.FAMILIES) == sorted(families.FAMILIES)
    made_in = {family.layout.__module__.rpartition(".")[2] for family in GRIDS.values()}
    assert made_in == set(families.FAMILIES)
    assert (
        grid_names() == (*sorted(GRIDS), "auto", "auto_0_1") and not GRIDS.keys() & ALIASES.keys()
    )


@pytest.mark.parametrize("name", GRIDS)
def test_a_family_declares_its_options(name: str) -> None:
    family = GRIDS[name]
    assert is_dataclass(family.options) and family.options.__hash__ is not None
    assert family.options() == family.options()
    assert family.layout.__doc__ and family.options.__doc__
    assert ("shift" in family.option_names) == family.in_t
    plain = grid(name, Flow(), 3)
    full = {f.name: getattr(family.options(), f.name) for f in fields(family.options)}
    assert grid(name, Flow(), 3, **full) == plain
    assert grid(name, Flow(), 3, **dict.fromkeys(family.option_names)) == plain


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("karras", {"rh": 5.0}, "unknown option 'rh'; did you mean 'rho'"),
        ("karras", {"rh": None}, "unknown option 'rh'"),
        ("uniform", {"rho": 5.0}, "takes no rho=; karras do"),
        ("beta", {"power": 2.0}, "takes no power=; polyexponential, power do"),
        ("karras", {"rho": True}, "rho=True"),
        ("karras", {"rho": float("inf")}, "rho=inf"),
        ("karras", {"rho": -1}, "rho=-1: must be 0 < rho < inf"),
        ("beta_t", {"b": 0}, "b=0: must be 0 < b < inf"),
        ("linear_quadratic", {"threshold": 0.5}, "0 < threshold < 0.5"),
        ("ays", {"table": 3}, "table=3 must be a string"),
        ("leading", {"offset": -1}, "offset=-1"),
    ],
)
def test_options_check_themselves(name, options, message) -> None:
    with pytest.raises(GridError, match=message):
        grid(name, VPLinear(), 4, **options)


def test_a_familys_values_are_checked_without_a_schedule() -> None:
    for name, options in (("karras", {"rho": 0.0}), ("power", {"power": -2.0})):
        with pytest.raises(ValueError, match=r"must be 0 <"):
            GRIDS[name].options(**options)


def test_a_grid_of_ones_own(own_registry) -> None:
    @register("middle", in_t=True, aliases=("centre",))
    def middle(frame: Frame, options: Middle) -> list[float]:
        """Half of the steps on either side of a time."""
        low = frame.bottom + options.where * (frame.base_top - frame.bottom)
        u = np.linspace(frame.base_top, low, frame.steps)
        return frame.open([frame.top, *frame.warp(u[1:])])

    made = grid("centre", EDM(0.002, 10.0), 5, where=0.25)
    assert made.name == "middle" and made.params == (("where", 0.25),)
    assert made.times[1] == pytest.approx(10.0 - 0.75 * (10.0 - 0.002) / 4)
    assert made.times[-1] == 0.0
    assert fewstep.plan("ddim", VPLinear(), steps=4, grid="middle").steps == 4
    with pytest.raises(GridError, match="0 < where < 1"):
        grid("middle", EDM(), 5, where=1.5)
    for word in ("middle", "centre", "karras", "polynomial"):
        with pytest.raises(GridError, match="registered twice"):
            register(word)(middle)


def test_a_layout_must_annotate_its_options(own_registry) -> None:
    with pytest.raises(GridError, match=r"grid 'bare': annotate the argument options of bare"):

        @register("bare")
        def bare(frame, options):
            return []


def test_a_layout_that_does_not_fall_is_refused(own_registry) -> None:
    @register("rising")
    def rising(frame: Frame, options: NoOptions) -> list[float]:
        """Goes up."""
        return [0.1, 0.5, 1.0]

    with pytest.raises(GridError, match=r"grid 'rising' with 2 steps .* must fall strictly"):
        grid("rising", VPLinear(), 2)


def test_the_order_of_registration_does_not_depend_on_the_process() -> None:
    code = "from fewstep.schedules.grids.registry import GRIDS; print(*GRIDS)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == list(GRIDS)
