"""Time grids: shape on every schedule, errors, and the nodes that other programs used.

``golden/grids.json`` holds the (alpha, sigma) of every network call of recorded float64 runs of
diffusers 0.42.1, k-diffusion, diff-sampler, DPM-Solver, UniPC and flow_matching (peer and commit in
each row), with the state's (alpha, sigma) at the end.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from repository import ROOT

from fewstep.schedules import (
    EDM,
    VE,
    DiscreteVP,
    Flow,
    Grid,
    GridError,
    Node,
    Schedule,
    SubVP,
    Trig,
    VPCosine,
    VPLinear,
    VPSigmoid,
    from_config,
    grid,
    grid_names,
)
from fewstep.schedules.grids.auto import UNKNOWN, auto_options
from fewstep.schedules.grids.families.align_your_steps import TABLES as AYS
from fewstep.schedules.grids.families.optimal_stepsizes import TABLES as OSS
from fewstep.schedules.grids.registry import ALIASES, GRIDS

DDPM = DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000))
SD = from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
assert isinstance(SD, DiscreteVP)

SCHEDULES: dict[str, Schedule] = {
    "vp_linear": VPLinear(),
    "vp_cosine": VPCosine(),
    "vp_sigmoid": VPSigmoid(),
    "sub_vp": SubVP(),
    "ve": VE(),
    "edm": EDM(),
    "flow": Flow(),
    "flow_shift": Flow(3.0),
    "trig": Trig(),
    "ddpm": DDPM,
    "ddpm_log_alpha": DiscreteVP(DDPM.log_table, "log_alpha"),
    "ddpm_alpha_bar": DiscreteVP(DDPM.log_table, "alpha_bar"),
    "sd": SD,
    "sd_log_alpha": DiscreteVP(SD.log_table, "log_alpha"),
    "sd_zero_snr": SD.rescale_zero_snr(),
    "cosine": from_config({"beta_schedule": "squaredcos_cap_v2"}),
}
GOLDEN: list[dict[str, Any]] = json.loads((ROOT / "tests" / "golden" / "grids.json").read_text())

#: grids whose first time is below t_max by definition
LOW_START = {"leading", "ddim_uniform"}
#: grids whose last time with ``final="sigma_min"`` is above t_min where sigma(t_min) > 0
HIGH_END = {"hyperparameters"}


@pytest.mark.parametrize("name", grid_names())
def test_every_grid_on_every_schedule(name: str) -> None:
    for (key, schedule), final, steps in product(
        SCHEDULES.items(), ("zero", "sigma_min"), (1, 2, 3, 5, 10, 50)
    ):
        case = f"{name} on {key}, {steps} steps to {final}"
        g = grid(name, schedule, steps, final=final)
        assert g.steps == steps and len(g) == steps + 1 == len(g.times) == len(g.nodes), case
        assert all(s > t for s, t in pairwise(g.times)), case
        assert all(s.rho > t.rho for s, t in g.pairs()), case
        assert [n.t for n in g] == list(g.times), case
        if final == "zero":
            assert g[-1].sigma == 0.0 and g.times[-1] == schedule.t_zero, case
        elif name in HIGH_END and schedule.sigma(schedule.t_min) > 0.0:
            assert g.times[-1] > schedule.t_min, case
        else:
            assert g.times[-1] == schedule.t_min, case
        if name not in LOW_START and not (name == "oss" and isinstance(schedule, Flow)):
            assert g.times[0] == schedule.t_max, case
        again = grid(name, schedule, steps, final=final)
        assert g == again and hash(g) == hash(again), case
        assert g.name in GRIDS, case


@pytest.mark.parametrize("name", grid_names())
def test_start_in_the_middle(name: str) -> None:
    for (key, schedule), steps in product(SCHEDULES.items(), (1, 2, 7)):
        case = f"{name} on {key}, {steps} steps"
        start = schedule.t_min + 0.6 * (schedule.t_max - schedule.t_min)
        g = grid(name, schedule, steps, start=start)
        assert g.steps == steps and g[-1].sigma == 0.0, case
        assert g.times[0] == start if name not in LOW_START else g.times[0] <= start, case
        assert dict(g.params)["start"] == start, case


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["case"])
def test_nodes_of_other_programs(row: dict[str, Any]) -> None:
    g = grid(
        row["grid"],
        SCHEDULES[row["schedule"]],
        len(row["nodes"]) - 1,
        final=row["final"],
        **row["options"],
    )
    for node, (alpha, sigma) in zip(g, row["nodes"], strict=True):
        assert node.rho == pytest.approx(sigma / alpha if alpha else math.inf, rel=1e-9, abs=1e-300)
        assert node.alpha == pytest.approx(alpha, rel=1e-9, abs=1e-12)


def test_golden_rows_cover_what_they_should() -> None:
    assert {row["grid"] for row in GOLDEN} >= {
        "karras",
        "exponential",
        "beta",
        "linspace",
        "leading",
        "trailing",
        "lam",
        "uniform",
    }
    assert {row["final"] for row in GOLDEN} == {"zero", "sigma_min"}


def test_final_zero_and_sigma_min_on_vp() -> None:
    vp = VPLinear()
    assert grid("uniform", vp, 3).times == pytest.approx((1.0, 0.5005, 0.001, 0.0))
    assert grid("uniform", vp, 3, final="sigma_min").times == pytest.approx(
        (1.0, 0.667, 0.334, 0.001)
    )
    assert grid("uniform", vp, 1).times == (1.0, 0.0)
    assert grid("uniform", VE(), 2).times == (1.0, 0.0, -math.inf)
    assert grid("uniform", DDPM, 2).times == (999.0, 0.0, -1.0)
    assert (
        grid("uniform", Flow(), 4).times
        == (1.0, 0.75, 0.5, 0.25, 0.0)
        == grid("uniform", Flow(), 4, final="sigma_min").times
    )


def test_infinite_ends_are_spaced_from_lam_start_to_lam_end() -> None:
    flow = Flow()
    g = grid("lam", flow, 5)
    assert g[0].lam == -math.inf and g[-1].lam == math.inf
    assert [n.lam for n in g.nodes[1:-1]] == pytest.approx(
        np.linspace(flow.lam_start, flow.lam_end, 5)[1:], abs=1e-12
    )
    zero = SCHEDULES["sd_zero_snr"]
    g = grid("karras", zero, 4)
    high, low = math.exp(-zero.lam_start / 7), zero.rho(0.0) ** (1 / 7)
    assert g[0].alpha == 0.0
    assert [n.rho for n in g.nodes[1:-1]] == pytest.approx(
        [(high + w * (low - high)) ** 7 for w in (1 / 3, 2 / 3, 1.0)], rel=1e-9
    )


@pytest.mark.parametrize("shift", [0.5, 3.0, 12.0])
def test_shift_is_a_translation_of_lam(shift: float) -> None:
    for schedule in (Flow(), Trig()):
        plain, moved = grid("uniform", schedule, 8), grid("uniform", schedule, 8, shift=shift)
        assert [n.lam for n in moved.nodes[1:-1]] == pytest.approx(
            [n.lam - math.log(shift) for n in plain.nodes[1:-1]], abs=1e-12
        )
        assert moved.times[0] == 1.0 and moved.times[-1] == 0.0
    assert grid("uniform", Flow(shift), 8).times == grid("uniform", Flow(), 8, shift=shift).times
    begun = grid("trailing", Flow(shift), 4, start=0.75)
    base = [t / (shift - (shift - 1.0) * t) for t in begun.times]
    assert begun.times[0] == 0.75 and np.diff(base) == pytest.approx(np.full(4, -base[0] / 4))


def test_dynamic_shift() -> None:
    assert Flow.dynamic(256).shift == pytest.approx(math.exp(0.5)) and Flow.dynamic(
        4096
    ).shift == pytest.approx(math.exp(1.15))


def test_published_lists() -> None:
    assert grid("oss", Flow(), 10).times == pytest.approx((*OSS["flux"][:-1], 0.0), rel=1e-12)
    assert grid("oss", Flow(), 20, table="wan").times == pytest.approx(
        (*OSS["wan"][:-1], 0.0), rel=1e-12
    )
    times = grid("ays", SD, 10).times
    assert [round(t) for t in times] == [999, 850, 736, 645, 545, 455, 343, 233, 125, 24, -1]
    assert [n.rho for n in grid("ays", SD, 10).nodes[1:-1]] == pytest.approx(
        AYS["sd15"][1:], rel=1e-4
    )
    assert grid("ays", VE(0.01, 700.0), 10, table="svd")[3].rho == pytest.approx(7.977, rel=1e-9)


def test_integer_spacings() -> None:
    assert grid("trailing", DDPM, 7).times == (
        999.0,
        856.0,
        713.0,
        570.0,
        428.0,
        285.0,
        142.0,
        -1.0,
    )
    assert grid("leading", DDPM, 3, offset=1).times == (667.0, 334.0, 1.0, -1.0)
    assert grid("ddim_uniform", DDPM, 3).times == (667.0, 334.0, 1.0, -1.0)
    assert grid("simple", DDPM, 3).times == (999.0, 666.0, 333.0, -1.0)
    assert grid("linspace", DDPM, 5, final="sigma_min").times == (
        999.0,
        799.0,
        599.0,
        400.0,
        200.0,
        0.0,
    )
    assert grid("sgm_uniform", DDPM, 4).times == (999.0, 749.25, 499.5, 249.75, -1.0)


def test_linear_quadratic_is_mochis() -> None:
    n, tau = 10, 0.025
    g = [1.0 - t for t in grid("linear_quadratic", Flow(), n).times]
    assert g[:6] == pytest.approx([i * tau / 5 for i in range(6)], abs=1e-15)
    assert np.diff(g, 3)[5:] == pytest.approx(np.zeros(3), abs=1e-14) and g[-1] == 1.0


def test_kl_optimal_is_uniform_in_the_angle() -> None:
    assert grid("kl_optimal", Trig(), 6).times == pytest.approx(np.linspace(1, 0, 7), abs=1e-12)
    angles = [math.atan(n.rho) for n in grid("kl_optimal", EDM(), 6)]
    assert np.diff(angles[:-1]) == pytest.approx(np.full(5, np.diff(angles[:-1]).mean()), rel=1e-9)


def test_beta_t_follows_the_quantiles() -> None:
    from scipy.stats import beta

    assert grid("beta_t", Flow(), 5).times == pytest.approx(
        (*beta.ppf(1 - np.arange(5) / 5, 0.6, 0.6), 0.0), rel=1e-9
    )


def test_polyexponential_and_power() -> None:
    logs = [n.lam for n in grid("polyexponential", EDM(), 6, power=2.0).nodes[:-1]]
    first, last = EDM().lam(80.0), EDM().lam(0.002)
    assert logs == pytest.approx(
        [last + (first - last) * (1 - i / 5) ** 2 for i in range(6)], rel=1e-12
    )
    assert grid("power", Flow(), 4, power=3.0).times == pytest.approx(
        [(1 - i / 4) ** 3 for i in range(5)], abs=1e-15
    )
    assert grid("quadratic", Flow(), 4).times == grid("power", Flow(), 4).times


def test_custom_times_and_sigmas() -> None:
    g = grid("custom", VPLinear(), times=[1.0, 0.4, 0.0])
    assert g.times == (1.0, 0.4, 0.0) and g.name == "custom" and g[-1].sigma == 0.0
    g = grid(None, SD, sigmas=[14.0, 1.0, 0.1, 0.0])
    assert [n.rho for n in g] == pytest.approx([14.0, 1.0, 0.1, 0.0], rel=1e-12) and g.times[
        -1
    ] == -1.0
    assert grid("custom", Flow(), sigmas=[math.inf, 1.0, 0.0]).times == (1.0, 0.5, 0.0)
    assert grid("custom", EDM(), 2, times=[3.0, 1e-4, 0.0]).steps == 2


def test_tail_and_pairs() -> None:
    g = grid("karras", EDM(), 6)
    t = g.tail(2)
    assert (
        t.times == g.times[2:]
        and t.nodes == g.nodes[2:]
        and t.steps == 4
        and dict(t.params)["tail"] == 2
    )
    assert g.tail(1).tail(1) == t and g.tail(0) is g
    assert list(g.pairs()) == [(g[i], g[i + 1]) for i in range(6)]
    with pytest.raises(GridError, match="0 <= i < 6"):
        g.tail(6)


def test_stage_nodes_delegate() -> None:
    g = grid("lam", VPLinear(), 4)
    assert g.at_t(0.3) == VPLinear().node(0.3)
    assert g.at_lam(0.5).lam == pytest.approx(0.5, rel=1e-12) and g.at_rho(
        2.0
    ).rho == pytest.approx(2.0, rel=1e-12)
    assert g.at_lam(math.inf).sigma == 0.0 and g.at_rho(0.0).sigma == 0.0


def test_explicit_nodes_are_kept() -> None:
    nodes = (Node(0.1, 0.9), Node(0.5, 0.5, t=0.5), Node(1.0, 0.0))
    g = Grid.from_nodes(nodes, Flow())
    assert (
        g.nodes == nodes
        and g.times == pytest.approx((0.9, 0.5, 0.0))
        and g == Grid.from_nodes(nodes, Flow())
    )
    assert math.isnan(Grid.from_nodes((Node(0.0, 1.0), Node(1.0, 1.0)), VPLinear()).times[0])
    with pytest.raises(GridError, match="at least 2"):
        Grid.from_nodes(nodes[:1], Flow())


def test_auto_is_a_grid_on_every_schedule() -> None:
    for schedule in SCHEDULES.values():
        ends = (schedule.rho(schedule.t_max), schedule.rho(schedule.t_min))
        options = auto_options(5, "multistep", UNKNOWN, ends)
        assert (
            grid("auto", schedule, 5)
            == grid("logistic", schedule, 5, **options)
            == grid(None, schedule, 5)
        )


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases(alias: str) -> None:
    assert grid(alias, VPLinear(), 5) == grid(ALIASES[alias], VPLinear(), 5)


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        (EDM(), {"name": "karass", "steps": 5}, "did you mean 'karras'"),
        (EDM(), {"name": "karras", "steps": 0}, "steps=0"),
        (EDM(), {"name": "karras", "steps": 2.5}, "steps=2.5"),
        (EDM(), {"name": "karras", "steps": True}, "steps=True"),
        (EDM(), {"name": "karras"}, "steps=None"),
        (EDM(), {"name": "karras", "steps": 5, "final": "zeros"}, "did you mean 'zero'"),
        (EDM(), {"name": "lam", "steps": 5, "rho": 7.0}, "takes no rho=; karras do"),
        (EDM(), {"name": "karras", "steps": 5, "rho": 0.0}, "0 < rho"),
        (EDM(), {"name": "karras", "steps": 5, "start": 81.0}, "start=81.0"),
        (EDM(), {"name": "karras", "steps": 5, "start": 0.0}, "no step is left"),
        (EDM(), {"name": "karras", "steps": 5, "start": 0.002}, "fall strictly"),
        (EDM(), {"name": "uniform", "steps": 5, "shift": 3.0}, "Flow, Trig"),
        (Flow(), {"name": "uniform", "steps": 5, "shift": 0.0}, "0 < shift"),
        (Flow(), {"name": "lam", "steps": 5, "shift": 3.0}, "takes no shift="),
        (Flow(), {"name": "leading", "steps": 5, "offset": 1}, "on tables"),
        (Flow(), {"name": "oss", "steps": 5, "table": "flx"}, "did you mean 'flux'"),
        (EDM(), {"name": "gits", "steps": 5, "table": "cifar"}, "did you mean 'cifar10'"),
        (SD, {"name": "hyperparameters", "steps": 5, "table": "sd14"}, "did you mean 'sd15'"),
        (Flow(), {"name": "linear_quadratic", "steps": 5, "threshold": 0.9}, "threshold=0.9"),
        (Flow(), {"name": "custom", "times": [1.0]}, "at least 2"),
        (Flow(), {"name": "custom", "times": [1.0, 0.5, 0.5, 0.0]}, "fall strictly"),
        (Flow(), {"name": "custom", "times": [0.2, 0.5]}, "fall strictly"),
        (Flow(), {"name": "custom", "times": [1.5, 0.5]}, "outside"),
        (Flow(), {"name": "custom", "times": [1.0, math.nan]}, "outside"),
        (Flow(), {"name": "custom", "times": [1.0, 0.0], "steps": 3}, "steps=3"),
        (Flow(), {"name": "custom", "times": [1.0, 0.0], "sigmas": [1.0, 0.0]}, "one of them"),
        (Flow(), {"name": "karras", "times": [1.0, 0.0]}, "grid of their own"),
        (Flow(), {"name": "custom", "times": [1.0, 0.0], "start": 0.5}, "grid of their own"),
        (SD, {"name": "custom", "sigmas": [20.0, 1.0]}, "sigmas: .*outside"),
        (SD, {"name": "custom", "sigmas": [math.inf, 1.0]}, "sigmas: .*outside"),
        (SD, {"name": "custom", "sigmas": [1.0, -1.0]}, ">= 0"),
        (SD, {"name": "custom", "sigmas": [1.0, math.nan]}, ">= 0"),
        (SD, {"name": "custom", "times": [999.0, -0.5]}, "outside"),
        (SD, {"name": "linspace", "steps": 1500}, "fewer steps"),
        (SD, {"name": "ddim_uniform", "steps": 1000}, "outside"),
    ],
)
def test_errors_say_what_is_wrong(
    schedule: Schedule, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(GridError, match=message):
        grid(arguments.pop("name"), schedule, **arguments)


def test_a_table_allows_as_many_steps_as_it_has_entries() -> None:
    tiny = DiscreteVP.from_betas([0.1, 0.2, 0.3, 0.4])
    for name in ("linspace", "leading", "trailing", "simple"):
        assert grid(name, tiny, 4).times == (3.0, 2.0, 1.0, 0.0, -1.0)
        with pytest.raises(GridError):
            grid(name, tiny, 5)
    assert grid("uniform", tiny, 9).steps == 9
