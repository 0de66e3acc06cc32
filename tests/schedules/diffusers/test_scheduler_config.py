"""diffusers' scheduler configs, read without diffusers: the table of defaults is that of the
installed classes, and files say the same."""

from __future__ import annotations

import math

import pytest

from fewstep.checks import ConfigError
from fewstep.schedules import EDM, Flow, from_config
from fewstep.schedules.diffusers.classes import STYLES, class_defaults
from fewstep.schedules.diffusers.config import read, shift_of


@pytest.mark.parametrize("name", sorted(STYLES))
def test_the_defaults_are_those_of_the_installed_classes(name):
    pytest.importorskip("diffusers")
    from fewstep.interop.diffusers.config import complete, installed

    table, found = class_defaults(name), installed(name)
    assert found and {k: table.get(k, "absent") for k in found} == found
    assert read({"_class_name": name}) == read(complete({}, name))


def test_a_key_left_out_means_what_it_means_in_its_class():
    heun, ddim = (
        from_config({"_class_name": f"{name}Scheduler"}) for name in ("HeunDiscrete", "DDIM")
    )
    assert heun.alphas_cumprod[0] == pytest.approx(1.0 - 0.00085) and ddim.alphas_cumprod[
        0
    ] == pytest.approx(1.0 - 1e-4)
    assert from_config({"_class_name": "EDMEulerScheduler"}) == EDM(0.002, 80.0)
    assert from_config(
        {
            "_class_name": "FewstepScheduler",
            "origin": "FlowMatchEulerDiscreteScheduler",
            "shift": 2.0,
        }
    ) == Flow(2.0)


def test_shifts_of_flows():
    still = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    moving = {**still, "use_dynamic_shifting": True}
    linear = {**moving, "time_shift_type": "linear"}
    assert shift_of(still, read(still)) == 3.0
    assert shift_of(moving, read(moving), 256) == pytest.approx(math.exp(0.5))
    assert (
        shift_of(moving, read(moving))
        == pytest.approx(math.exp(1.15))
        == shift_of(moving, read(moving), 4096)
    )
    assert shift_of(linear, read(linear), 256) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "unknown scheduler class 'None'"),
        ({"_class_name": "DDIMSchedule"}, "did you mean 'DDIMScheduler'"),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True},
            "invert_sigmas",
        ),
        ({"_class_name": "DDIMScheduler", "prediction_type": "epsilonn"}, "did you mean 'epsilon'"),
        ({"_class_name": "DDIMScheduler", "beta_end": 2.0}, "beta_end=2.0"),
    ],
)
def test_what_is_not_understood_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        read(config)
