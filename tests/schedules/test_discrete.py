"""Tables of noise levels (interpolation, zero terminal SNR, the clean point) and configuration
dicts of every schedule."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from fewstep.schedules import (
    EDM,
    VE,
    DiscreteVP,
    Flow,
    Schedule,
    ScheduleError,
    SubVP,
    Trig,
    VPCosine,
    VPLinear,
    VPSigmoid,
    from_config,
    to_config,
)
from fewstep.schedules.base import LAM_EDGE
from fewstep.schedules.discrete import INTERPOLATIONS

BETAS = np.linspace(1e-4, 0.02, 1000)
DDPM = DiscreteVP.from_betas(BETAS)
TABLES: dict[str, Schedule] = {
    "log_rho": DDPM,
    "log_alpha": DiscreteVP.from_betas(BETAS, "log_alpha"),
    "alpha_bar": DiscreteVP.from_betas(BETAS, "alpha_bar"),
    "zero_snr": DDPM.rescale_zero_snr(),
    "zero_snr_log_alpha": DiscreteVP.from_betas(BETAS, "log_alpha", rescale_zero_snr=True),
}
OTHERS = (
    VPLinear(),
    VPLinear(0.0, 12.0),
    VPCosine(),
    VPSigmoid(0.0, 3.0, 0.7),
    SubVP(),
    VE(),
    EDM(0.1, 30.0),
    Flow(3.0),
    Trig(),
)


def test_table_is_exact_at_integers() -> None:
    bars = np.cumprod(1.0 - BETAS)
    for kind in ("log_rho", "log_alpha", "alpha_bar"):
        table = DiscreteVP.from_alphas_cumprod(bars, kind)
        t = np.arange(1000.0)
        assert table.alpha(t) == pytest.approx(np.sqrt(bars), rel=4e-16)
        assert table.sigma(t) == pytest.approx(np.sqrt(1.0 - bars), rel=1e-12)
        assert [table.alpha(float(v)) for v in (0, 500, 999)] == pytest.approx(
            np.sqrt(bars[[0, 500, 999]]), rel=4e-16
        )
    assert np.asarray(DDPM.alphas_cumprod) == pytest.approx(bars, rel=1e-12)


def test_table_keeps_the_digits_of_small_sigmas() -> None:
    table = DiscreteVP.from_betas([1e-14, 3e-14, 0.5])
    assert [table.sigma(t) ** 2 for t in (0.0, 1.0)] == pytest.approx([1e-14, 4e-14], rel=1e-12)


def test_interpolation_rules() -> None:
    t, w = 300.3, 0.3
    for name, value in (("log_rho", "lam"), ("log_alpha", "alpha"), ("alpha_bar", "alpha")):
        table = TABLES[name]

        def read(at: float, table: Schedule = table, name: str = name, value: str = value) -> float:
            v = getattr(table, value)(at)
            return float(v if name == "log_rho" else math.log(v) if name == "log_alpha" else v * v)

        assert read(t) == pytest.approx((1 - w) * read(300.0) + w * read(301.0), rel=1e-12)
    assert (
        TABLES["log_alpha"].alpha(t) != TABLES["alpha_bar"].alpha(t) != TABLES["log_rho"].alpha(t)
    )


def test_interval_next_to_zero_snr_is_linear_in_alpha_bar() -> None:
    for name in ("zero_snr", "zero_snr_log_alpha"):
        table = TABLES[name]
        assert table.alpha(999.0) == 0.0 and table.sigma(999.0) == 1.0
        assert table.alpha(998.75) ** 2 == pytest.approx(0.25 * table.alpha(998.0) ** 2, rel=1e-12)
        assert table.t_of_lam(table.lam(998.75)) == pytest.approx(998.75, abs=1e-9)
        assert table.lam_start == -LAM_EDGE


def test_zero_snr_rescale_is_algorithm_1() -> None:
    s = np.sqrt(np.cumprod(1.0 - BETAS))
    wanted = (s - s[-1]) * s[0] / (s[0] - s[-1])
    table = DDPM.rescale_zero_snr()
    assert table.zero_snr and not DDPM.zero_snr
    assert table.alpha(np.arange(1000.0)) == pytest.approx(wanted, rel=1e-12, abs=1e-14)
    assert table.alpha(0.0) == DDPM.alpha(0.0)
    assert DiscreteVP.from_betas(BETAS, rescale_zero_snr=True) == table


def test_clean_point_of_a_table_stands_alone() -> None:
    node = DDPM.node(-1.0)
    assert (node.alpha, node.sigma, node.dalpha, node.dsigma) == (1.0, 0.0, None, None)
    assert list(DDPM.sigma(np.array([-1.0, 0.0]))) == [0.0, DDPM.sigma(0.0)]
    with pytest.raises(ValueError, match="outside"):
        DDPM.node(-0.5)
    with pytest.raises(ValueError, match="half log-SNR"):
        DDPM.node_at_lam(DDPM.lam(0.0) + 0.1)


def test_table_hash_and_print_are_short() -> None:
    assert len(repr(DDPM)) < 120 and "T=1000" in repr(DDPM)
    assert len({DDPM, DiscreteVP.from_betas(BETAS), TABLES["log_alpha"]}) == 2


@pytest.mark.parametrize("schedule", [*TABLES.values(), *OTHERS], ids=repr)
def test_config_round_trips_through_strict_json(schedule: Schedule) -> None:
    text = json.dumps(to_config(schedule), allow_nan=False)
    assert from_config(json.loads(text)) == schedule


def test_diffusers_configs() -> None:
    assert (
        from_config(
            {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "clip_sample": True}
        )
        == DDPM
    )
    assert from_config({"trained_betas": BETAS.tolist(), "beta_schedule": "scaled_linear"}) == DDPM
    zero = from_config(
        {
            "beta_schedule": "linear",
            "beta_start": 1e-4,
            "beta_end": 0.02,
            "rescale_betas_zero_snr": True,
        }
    )
    assert zero == TABLES["zero_snr"]
    scaled = from_config(
        {
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "num_train_timesteps": 500,
        }
    )
    assert scaled == DiscreteVP.from_betas(np.linspace(0.00085**0.5, 0.012**0.5, 500) ** 2)
    assert scaled.t_max == 499.0
    sigmoid = from_config({"beta_schedule": "sigmoid", "beta_start": 1e-4, "beta_end": 0.02})
    assert 1.0 - sigmoid.alpha(0.0) ** 2 == pytest.approx(
        1e-4 + 0.0199 / (1 + math.exp(6.0)), rel=1e-9
    )
    cosine = from_config({"beta_schedule": "squaredcos_cap_v2"})
    # diffusers 0.42.1 in float64
    assert cosine.alpha(999.0) == pytest.approx(4.9282521313695554e-05, rel=1e-7)
    assert cosine.alpha(799.0) == pytest.approx(0.30666857138717996, rel=1e-9)
    assert from_config(
        {
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "shift": 3.0,
            "num_train_timesteps": 1000,
        }
    ) == Flow(3.0)
    assert from_config(
        {"use_flow_sigmas": True, "flow_shift": 5.0, "beta_schedule": "linear"}
    ) == Flow(5.0)
    assert from_config(
        {"_class_name": "EDMEulerScheduler", "sigma_min": 0.01, "sigma_max": 70.0}
    ) == EDM(0.01, 70.0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"schedule": "VPLinar"}, "did you mean 'VPLinear'"),
        ({"schedule": "VPLinear", "beta_mi": 0.1}, "did you mean 'beta_min'"),
        ({"schedule": "VE", "sigma_min": 2.0, "sigma_max": 1.0}, "VE config"),
        ({"beta_schedule": "scaled_linea"}, "did you mean 'scaled_linear'"),
        ({"sigma_data": 0.5}, "no schedule"),
    ],
)
def test_bad_configs_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_config(config)


def test_foreign_schedules_have_no_config() -> None:
    class Mine(VPLinear):
        pass

    with pytest.raises(ScheduleError, match="Mine"):
        to_config(Mine())


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_number_an_array_and_a_tensor_give_the_same(interpolation: str, zero_snr: bool) -> None:
    """At entries, between them, in the last interval and at t = -1; one number goes another way
    than arrays do."""
    table = DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000), interpolation, zero_snr)
    times = [-1.0, 0.0, 0.25, 500.0, 500.7, 997.5, 998.0, 998.5, 999.0]
    for name in ("alpha", "sigma", "rho", "dalpha", "dsigma"):
        read = getattr(table, name)
        one = np.array([read(t) for t in times])
        np.testing.assert_allclose(read(np.array(times)), one, rtol=1e-14, atol=0.0, err_msg=name)
        np.testing.assert_allclose(
            read(torch.tensor(times, dtype=torch.float64)).numpy(),
            one,
            rtol=1e-14,
            atol=0.0,
            err_msg=name,
        )


@pytest.mark.parametrize("interpolation", ["log_rho", "log_alpha", "alpha_bar"])
def test_a_time_that_is_nan_gives_nan_beside_right_numbers(interpolation):
    table = DiscreteVP.from_betas(
        [0.01 + 0.001 * k for k in range(20)], interpolation=interpolation
    )
    t = torch.tensor([3.25, math.nan, 7.0], dtype=torch.float64)
    for function in (table.alpha, table.sigma, table.lam):
        found = function(t)
        assert bool(found[1].isnan()) and [float(found[0]), float(found[2])] == pytest.approx(
            [function(3.25), function(7.0)], rel=1e-12
        )
