"""Noise levels of tables and configs: zero terminal SNR from either door, beta schedules, and the
bounds that a config gives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fewstep.schedules import DiscreteVP, Flow
from fewstep.schedules.config import make_betas
from fewstep.schedules.diffusers.config import read
from fewstep.schedules.diffusers.grids import grid_of

BARS = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def levels(config: dict[str, Any], steps: int = 8, **given: Any) -> list[float]:
    return [node.rho for node in grid_of(read(config), steps, **given)]


# --- tables


@pytest.mark.parametrize("interpolation", ["log_rho", "log_alpha"])
def test_zero_terminal_snr_of_either_door(interpolation: str) -> None:
    """Algorithm 1 of arXiv 2305.08891 on ``sqrt(abar)``, asked for from abar as from betas."""
    plain = DiscreteVP.from_alphas_cumprod(BARS, interpolation)
    table = DiscreteVP.from_alphas_cumprod(BARS, interpolation, rescale_zero_snr=True)
    s = np.sqrt(BARS)
    wanted = (s - s[-1]) * s[0] / (s[0] - s[-1])
    assert not plain.zero_snr and table.zero_snr
    assert (plain.interpolation, table.interpolation) == (interpolation, interpolation)
    assert table.alpha(np.arange(1000.0)) == pytest.approx(wanted, rel=1e-11, abs=1e-13)
    assert table == plain.rescale_zero_snr()
    assert plain.alpha(999.0) == pytest.approx(math.sqrt(BARS[-1]), rel=1e-13)


def test_beta_schedules_as_published() -> None:
    i = np.arange(50)
    np.testing.assert_allclose(
        make_betas("linear", 50, 0.001, 0.02), 0.001 + 0.019 * i / 49, rtol=1e-13
    )
    np.testing.assert_allclose(
        make_betas("scaled_linear", 50, 0.001, 0.02),
        (0.001**0.5 + (0.02**0.5 - 0.001**0.5) * i / 49) ** 2,
        rtol=1e-13,
    )
    np.testing.assert_allclose(
        make_betas("sigmoid", 50, 0.001, 0.02),
        0.001 + 0.019 / (1 + np.exp(6 - 12 * i / 49)),
        rtol=1e-13,
    )
    bar = np.cos((np.arange(51) / 50 + 0.008) / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(
        make_betas("squaredcos_cap_v2", 50), np.minimum(1 - bar[1:] / bar[:-1], 0.999), rtol=1e-13
    )
    assert make_betas("squaredcos_cap_v2", 50)[-1] == 0.999
    assert (make_betas("linear")[0], make_betas("linear")[-1], len(make_betas("linear"))) == (
        1e-4,
        0.02,
        1000,
    )


# --- levels of a config


def karras(low: float, high: float, n: int, rho: float = 7.0) -> list[float]:
    return [
        (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        for i in range(n)
    ]


@pytest.mark.parametrize(
    ("low", "high"), [(None, None), (0.05, None), (None, 9.0), (0.05, 9.0), (0.1, 3.0)]
)
def test_bounds_of_a_config_on_a_table(low: float | None, high: float | None) -> None:
    """``sigma_min`` and ``sigma_max`` replace the ends of the table, each alone or both; without
    them the ends stand."""
    base = {
        "_class_name": "EulerDiscreteScheduler",
        "timestep_spacing": "linspace",
        "use_karras_sigmas": True,
        **TABLE,
    }
    found = levels({**base, "sigma_min": low, "sigma_max": high})
    table = DiscreteVP.from_betas(np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    wanted = karras(low or table.rho(0.0), high or table.rho(999.0), 8)
    assert found == pytest.approx([*wanted, 0.0], rel=1e-9)


@pytest.mark.parametrize(
    ("flag", "law"),
    [
        ("use_karras_sigmas", lambda low, high, n: karras(low, high, n)),
        ("use_exponential_sigmas", lambda low, high, n: np.geomspace(high, low, n).tolist()),
    ],
)
def test_special_levels_of_a_multistep_class(flag: str, law: Any) -> None:
    config = {"_class_name": "DPMSolverMultistepScheduler", flag: True, **TABLE}
    table = DiscreteVP.from_betas(np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    assert levels(config) == pytest.approx(
        [*law(table.rho(0.0), table.rho(999.0), 8), 0.0], rel=1e-9
    )


def test_beta_levels_are_quantiles_of_the_level() -> None:
    from scipy.stats import beta

    config = {
        "_class_name": "EulerDiscreteScheduler",
        "timestep_spacing": "linspace",
        "use_beta_sigmas": True,
        "sigma_min": 0.05,
        "sigma_max": 9.0,
    }
    wanted = 0.05 + beta.ppf(np.linspace(1.0, 0.0, 8), 0.6, 0.6) * (9.0 - 0.05)
    assert levels({**config, **TABLE}) == pytest.approx([*wanted, 0.0], rel=1e-9)


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
def test_levels_of_an_edm_config(schedule: str) -> None:
    config = {
        "_class_name": "EDMEulerScheduler",
        "sigma_min": 0.01,
        "sigma_max": 50.0,
        "sigma_data": 0.7,
        "rho": 5.0,
        "sigma_schedule": schedule,
    }
    wanted = (
        karras(0.01, 50.0, 8, 5.0) if schedule == "karras" else np.geomspace(50.0, 0.01, 8).tolist()
    )
    assert levels(config) == pytest.approx([*wanted, 0.0], rel=1e-9)
    assert levels({"_class_name": "EDMEulerScheduler"}) == pytest.approx(
        [*karras(0.002, 80.0, 8), 0.0], rel=1e-9
    )


def shifted(sigma: float, shift: float) -> float:
    return shift * sigma / (1.0 + (shift - 1.0) * sigma)


def test_levels_of_a_flow_config() -> None:
    """Uniform, then shifted; with a mu the shift is e^mu, or mu where it is linear; stretched to
    end at ``shift_terminal``."""
    base = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}

    def times(config: dict[str, Any], **given: Any) -> list[float]:
        return [float(node.t or 0.0) for node in grid_of(read({**base, **config}), 5, **given)]

    plain = np.linspace(1.0, shifted(0.001, 3.0), 5)
    assert times({"shift": 3.0}) == pytest.approx(
        [*(shifted(s, 3.0) for s in plain), 0.0], rel=1e-12
    )
    even = np.linspace(1.0, 0.001, 5)
    dynamic = times({"use_dynamic_shifting": True}, mu=0.8)
    assert dynamic == pytest.approx([*(shifted(s, math.exp(0.8)) for s in even), 0.0], rel=1e-12)
    linear = times({"use_dynamic_shifting": True, "time_shift_type": "linear"}, mu=0.8)
    assert linear == pytest.approx([*(shifted(s, 0.8) for s in even), 0.0], rel=1e-12)
    ended = times({"use_dynamic_shifting": True, "shift_terminal": 0.1}, mu=0.8)
    levels_ = np.array([shifted(s, math.exp(0.8)) for s in even])
    assert ended == pytest.approx(
        [*(1.0 - (1.0 - levels_) * (1.0 - 0.1) / (1.0 - levels_[-1])), 0.0], rel=1e-12, abs=1e-13
    )


def test_the_dynamic_shift_is_linear_in_the_tokens() -> None:
    """mu 0.5 at 256 tokens and 1.15 at 4096 (FLUX.1); others as given."""
    assert Flow.dynamic(256).shift == pytest.approx(math.exp(0.5), rel=1e-13)
    assert Flow.dynamic(4096).shift == pytest.approx(math.exp(1.15), rel=1e-13)
    assert Flow.dynamic(1024).shift == pytest.approx(math.exp(0.5 + 0.65 * 768 / 3840), rel=1e-13)
    assert Flow.dynamic(30, 0.2, 0.9, 10, 60).shift == pytest.approx(
        math.exp(0.2 + 0.7 * 20 / 50), rel=1e-13
    )


@pytest.mark.parametrize(
    ("spacing", "offset", "wanted"),
    [
        ("linspace", 0, [999.0, 749.0, 500.0, 250.0, 0.0]),
        ("leading", 0, [800.0, 600.0, 400.0, 200.0, 0.0]),
        ("leading", 1, [801.0, 601.0, 401.0, 201.0, 1.0]),
        ("trailing", 0, [999.0, 799.0, 599.0, 399.0, 199.0]),
    ],
)
def test_times_of_a_table_config(spacing: str, offset: int, wanted: list[float]) -> None:
    """``DDIMScheduler``'s five times; the end is sigma = 0."""
    given = {"timestep_spacing": spacing, "steps_offset": offset, "clip_sample": False, **TABLE}
    nodes = grid_of(read({"_class_name": "DDIMScheduler", **given}), 5)
    times = [node.t for node in nodes]
    if spacing == "linspace":
        wanted = [float(round(999.0 * (4 - i) / 4)) for i in range(5)]
    assert times[:-1] == wanted
    assert nodes[-1].sigma == 0.0


def test_levels_between_entries_are_linear_in_the_level() -> None:
    """Euler's linspace: real times, sigma linear between the entries of the table."""
    config = {
        "_class_name": "EulerDiscreteScheduler",
        "timestep_spacing": "linspace",
        "interpolation_type": "linear",
        **TABLE,
    }
    table = np.sqrt(1.0 / np.cumprod(1.0 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2) - 1.0)
    wanted = np.interp(np.linspace(999.0, 0.0, 8), np.arange(1000), table)
    assert levels(config) == pytest.approx([*wanted, 0.0], rel=1e-10)
    log_linear = levels({**config, "interpolation_type": "log_linear"})
    assert log_linear == pytest.approx(np.geomspace(table[-1], table[0], 9).tolist(), rel=1e-9)


def test_lambda_min_clipped_is_the_first_entry_in_use() -> None:
    config = {
        "_class_name": "DPMSolverMultistepScheduler",
        "lambda_min_clipped": -1.0,
        "timestep_spacing": "linspace",
        **TABLE,
    }
    settings = read(config)
    assert (
        settings.schedule.lam(float(settings.first))
        >= -1.0
        > settings.schedule.lam(settings.first + 1.0)
    )
    assert grid_of(settings, 8)[0].t == settings.first


def test_where_a_table_begins_in_lam() -> None:
    """With zero terminal SNR at its last finite entry, at least -5.1; a mild table ends above
    that."""
    for betas, cut in ((np.linspace(1e-4, 0.02, 1000), True), (np.linspace(1e-3, 0.05, 20), False)):
        table = DiscreteVP.from_betas(betas, rescale_zero_snr=True)
        last = table.lam(len(betas) - 2.0)
        assert table.lam_start == (-5.1 if cut else pytest.approx(last))
        assert (last < -5.1) is cut
        assert DiscreteVP.from_betas(betas).lam_start == -math.inf


@pytest.mark.parametrize("interpolation", ["log_rho", "log_alpha", "alpha_bar"])
def test_times_of_levels_beyond_a_table(interpolation: str) -> None:
    """The end intervals go on: t(lam) stays monotone, and is exact at and between entries, for
    numbers, arrays and tensors."""
    import torch

    table = DiscreteVP.from_betas(np.linspace(1e-3, 0.05, 30), interpolation)
    times = np.array([0.0, 0.3, 7.0, 7.5, 28.0, 28.9, 29.0])
    lams = table.lam(times)
    for found in (
        table.t_of_lam(lams),
        table.t_of_lam(torch.from_numpy(lams)).numpy(),
        [table.t_of_lam(float(v)) for v in lams],
    ):
        assert list(found) == pytest.approx(list(times), abs=1e-9)
    assert table.t_of_lam(float(lams[0]) + 0.2) < 0.0
    assert table.t_of_lam(float(lams[-1]) - 0.2) > 29.0


@pytest.mark.parametrize(
    ("name", "first", "bottom"),
    [("sd15", 14.615, 0.152), ("sdxl", 14.615, 0.113), ("svd", 700.0, 0.034)],
)
def test_published_levels_are_kept_where_they_fit(name: str, first: float, bottom: float) -> None:
    """Ten steps on a path from the list's first level: the list itself. From another level log rho
    is stretched, its last kept."""
    from fewstep.schedules import EDM, grid
    from fewstep.schedules.grids.families.align_your_steps import TABLES as AYS

    table = AYS[name]
    assert (table[0], table[-1], len(table)) == (first, bottom, 10)
    found = [node.rho for node in grid("ays", EDM(0.002, first), 10, table=name)]
    assert found == pytest.approx([*table, 0.0], rel=1e-9)
    moved = np.log([node.rho for node in grid("ays", EDM(0.002, 40.0), 10, table=name)][:-1])
    logs = np.log(table)
    want = math.log(bottom) + (logs - logs[-1]) * (math.log(40.0) - math.log(bottom)) / (
        logs[0] - logs[-1]
    )
    assert moved == pytest.approx(want, rel=1e-9)
    # the list ends outside: nine tenths of the range
    short = [node.rho for node in grid("ays", EDM(0.5, 40.0), 10, table=name)]
    assert short[-2] == pytest.approx(40.0 * (0.5 / 40.0) ** 0.9, rel=1e-9)


def test_optimal_steps_of_a_flow() -> None:
    """Ten steps on Flow: the published times, the first as published, the last replaced by 0."""
    from fewstep.schedules import grid
    from fewstep.schedules.grids.families.optimal_stepsizes import TABLES as OSS

    assert grid("oss", Flow(), 10, table="flux").times == pytest.approx(
        [*OSS["flux"][:-1], 0.0], rel=1e-9, abs=1e-12
    )
    assert grid("oss", Flow(), 20, table="wan").times == pytest.approx(
        [*OSS["wan"][:-1], 0.0], rel=1e-9, abs=1e-12
    )
    half = grid("oss", Flow(), 5, table="flux").times
    assert half == pytest.approx([*OSS["flux"][:-1:2], 0.0], rel=1e-9, abs=1e-12)


def test_what_a_config_means_where_it_says_nothing() -> None:
    """The defaults of the class, and of what the class does not have."""
    names = (
        "prediction",
        "train_steps",
        "spacing",
        "offset",
        "special",
        "first",
        "low",
        "high",
        "rho",
        "shift",
        "dynamic",
        "terminal",
        "clip",
    )
    ddim = read({"_class_name": "DDIMScheduler"})
    assert [getattr(ddim, key) for key in names] == [
        "eps",
        1000,
        "leading",
        0,
        "",
        999,
        None,
        None,
        7.0,
        1.0,
        "",
        0.0,
        1.0,
    ]
    assert (
        ddim.end,
        ddim.log_linear,
        ddim.skipping,
        ddim.learned,
        ddim.grid,
        ddim.round_times,
    ) == ("zero", False, 0, False, None, False)
    flow = read({"_class_name": "FlowMatchEulerDiscreteScheduler"})
    assert (flow.prediction, flow.shift, flow.scale, flow.label(0.25)) == (
        "velocity",
        1.0,
        1000.0,
        250.0,
    )
    assert (
        read(
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
        ).dynamic
        == "exponential"
    )
    edm = read({"_class_name": "EDMEulerScheduler"})
    assert (edm.special, edm.rho, edm.low, edm.high, edm.schedule.sigma_data) == (
        "karras",
        7.0,
        0.002,
        80.0,
        0.5,
    )
    assert read({"_class_name": "LCMScheduler"}).skipping == 50
    threshold = read({"_class_name": "DDIMScheduler", "thresholding": True, "clip_sample": False})
    assert threshold.clip == (0.995, 1.0)
    assert read({"_class_name": "DDIMScheduler", "clip_sample_range": 2.5}).clip == 2.5
    assert read({"_class_name": "DDIMScheduler", "clip_sample": False}).clip is None


def test_which_end_a_config_has() -> None:
    """Classes without ``final_sigmas_type``: DEIS and SA-Solver stop at sigma_min, others at 0
    unless told the first entry."""
    ends = {
        name: read({"_class_name": name + "Scheduler"}).end
        for name in ("DDIM", "TCD", "DEISMultistep", "SASolver", "DPMSolverMultistep")
    }
    assert ends == {
        "DDIM": "zero",
        "TCD": "sigma_min",
        "DEISMultistep": "sigma_min",
        "SASolver": "sigma_min",
        "DPMSolverMultistep": "zero",
    }
    assert read({"_class_name": "DDIMScheduler", "set_alpha_to_one": False}).end == "sigma_min"
    assert (
        read({"_class_name": "DPMSolverMultistepScheduler", "final_sigmas_type": "sigma_min"}).end
        == "sigma_min"
    )


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_levels_of_the_multistep_classes(shift: float) -> None:
    """Flipped ``1 - linspace(1, 1/T, n + 1)`` without its last, shifted; UniPC begins at 1 with the
    same strides."""
    given = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}
    falling = np.linspace(1.0, 0.001, 5)
    for name, plain in (
        ("DPMSolverMultistep", (1.0 - falling)[::-1][:-1]),
        ("UniPCMultistep", falling[:-1]),
    ):
        nodes = grid_of(read({"_class_name": name + "Scheduler", **given}), 4)
        assert [node.t for node in nodes] == pytest.approx(
            [*(shifted(s, shift) for s in plain), 0.0], rel=1e-12
        )


def test_levels_that_a_caller_gives() -> None:
    """A flow's sigmas are shifted and get their end; a table's last one is the end; times name
    nodes of the path."""
    flow = read({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    assert [n.t for n in grid_of(flow, 0, sigmas=[1.0, 0.6, 0.2])] == pytest.approx(
        [1.0, shifted(0.6, 3.0), shifted(0.2, 3.0), 0.0]
    )
    assert [n.t for n in grid_of(flow, 0, sigmas=[1.0, 0.6, 0.0])] == pytest.approx(
        [1.0, shifted(0.6, 3.0), 0.0]
    )
    assert [n.t for n in grid_of(flow, 0, times=[900.0, 300.0])] == pytest.approx([0.9, 0.3, 0.0])
    euler = read({"_class_name": "EulerDiscreteScheduler", **TABLE})
    assert [n.rho for n in grid_of(euler, 0, sigmas=[9.0, 2.0, 0.5, 0.0])] == pytest.approx(
        [9.0, 2.0, 0.5, 0.0], rel=1e-9
    )
    assert [n.rho for n in grid_of(euler, 0, sigmas=[9.0, 2.0, 0.5])] == pytest.approx(
        [9.0, 2.0, 0.5], rel=1e-9
    )
    assert [n.t for n in grid_of(euler, 0, times=[900.0, 300.0])][:2] == [900.0, 300.0]


def test_levels_of_the_trigonometric_class() -> None:
    """IPNDM: ``beta = sin^2(pi u / 2)`` at n + 1 points from 1 to 0, and the angle
    ``atan2(beta, sqrt(1 - beta^2))`` in units of pi / 2."""
    nodes = grid_of(read({"_class_name": "IPNDMScheduler"}), 6).nodes
    beta = np.sin(np.linspace(1.0, 0.0, 7) * math.pi / 2) ** 2
    assert [node.sigma for node in nodes] == pytest.approx(beta.tolist(), abs=1e-15)
    assert [node.alpha for node in nodes] == pytest.approx(
        np.sqrt(1.0 - beta**2).tolist(), abs=1e-15
    )


@pytest.mark.parametrize(("offset", "fits"), [(99, True), (100, False)])
def test_leading_times_up_to_the_last_entry(offset: int, fits: bool) -> None:
    """Ten steps of leading spacing are at 900 .. 0 plus the offset, which may reach the last of
    1000 entries."""
    settings = read(
        {"_class_name": "DDIMScheduler", "timestep_spacing": "leading", "steps_offset": offset}
    )
    if fits:
        assert [node.t for node in grid_of(settings, 10).nodes[:-1]] == [
            900.0 - 100.0 * k + offset for k in range(10)
        ]
    else:
        with pytest.raises(ValueError, match="the table's last entry is 999"):
            grid_of(settings, 10)
