"""Configs of diffusers' schedulers: whose they are, the key sets of every supported version, and
values that cannot be."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from repository import ROOT

pytest.importorskip("diffusers")

import diffusers
from diffusers_loops import distance, noise, ours, sample, theirs
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep import FewstepScheduler
from fewstep.checks import FewstepError
from fewstep.interop.diffusers.config import OWN, ConfigError, installed
from fewstep.schedules.diffusers.classes import LATER, NOT_SERVED, SAME, STYLES, class_defaults
from fewstep.schedules.diffusers.values import FLAGS

#: diffusers hands numpy functions a torch tensor
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
VERSIONS = json.loads((ROOT / "tests" / "golden" / "schedulers.json").read_text(encoding="utf-8"))
#: the classes that have the same keys, which no config without a name can be told from
TIES = {
    frozenset({"KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"}),
    frozenset({"LCMScheduler", "TCDScheduler"}),
    frozenset({"FlowMatchHeunDiscreteScheduler", "FlowMapEulerDiscreteScheduler"}),
}
TIED = {name: sorted(tie) for tie in TIES for name in tie}


def live(version: str, name: str) -> dict[str, Any]:
    """The config that a constructor of that version leaves, without a class name."""
    config = {
        k: float(v) if v in ("inf", "-inf") else v for k, v in VERSIONS[version][name].items()
    }
    return {**config, "_use_default_values": list(config)}


@pytest.mark.parametrize("name", sorted(STYLES))
def test_the_table_holds_the_keys_and_defaults_of_every_version(name):
    """No default was changed from 0.31 on, and no key was taken away; those that came later are
    known."""
    newest = {k: v for k, v in live(list(VERSIONS)[-1], name).items() if k != "_use_default_values"}
    assert newest == class_defaults(name)
    for version in VERSIONS:
        config = live(version, name)
        assert all(
            class_defaults(name)[key] == value
            for key, value in config.items()
            if key != "_use_default_values"
        )
    assert set(newest) - set(live("0.31.0", name)) == LATER.get(name, frozenset())


@pytest.mark.parametrize("version", list(VERSIONS))
@pytest.mark.parametrize("name", sorted({*STYLES, *SAME, *NOT_SERVED}))
def test_a_config_of_every_version_is_read(version, name):
    """With the class name, missing keys are the class's defaults. Without it the keys tell the
    class, or the candidates are named."""
    if name not in VERSIONS[version]:
        return
    config, meant = live(version, name), SAME.get(name, name)
    if name in NOT_SERVED:
        with pytest.raises(ConfigError, match=name):
            FewstepScheduler.from_config({**config, "_class_name": name})
    else:
        assert (
            FewstepScheduler.from_config({**config, "_class_name": name}).config
            == FewstepScheduler.from_config({}, origin=meant).config
        )
    if name not in TIED:
        assert FewstepScheduler.from_config(config).config["origin"] == meant
        return
    with pytest.raises(ConfigError, match=r"origin=") as refused:
        FewstepScheduler.from_config(config)
    assert all(
        candidate in str(refused.value)
        for candidate in TIED[name]
        if candidate in VERSIONS[version] or candidate in NOT_SERVED
    )
    found = FewstepScheduler.from_config(config, sampler="unipc").config["origin"]
    assert found in TIED[name] and found in STYLES


def test_classes_told_apart_by_a_default_are_told_apart():
    lms, kdpm2 = diffusers.LMSDiscreteScheduler, diffusers.KDPM2DiscreteScheduler
    assert FewstepScheduler.from_config(lms().config).config["origin"] == "LMSDiscreteScheduler"
    with pytest.raises(
        ConfigError, match="KDPM2DiscreteScheduler, KDPM2AncestralDiscreteScheduler have"
    ):
        FewstepScheduler.from_config(kdpm2(steps_offset=1).config)
    with pytest.raises(ConfigError, match="LMSDiscreteScheduler"):
        FewstepScheduler.from_config(lms(beta_start=0.001, beta_end=0.01).config)


@pytest.mark.parametrize("name", sorted({*STYLES, *SAME}))
def test_a_scheduler_object_is_taken_with_its_class(name):
    scheduler = getattr(diffusers, name)()
    assert (
        FewstepScheduler.from_config(scheduler).config
        == FewstepScheduler.from_config({"_class_name": name}).config
    )


def test_an_object_of_a_class_that_is_not_served_is_refused_by_its_name():
    with pytest.raises(ConfigError, match="CogVideoXDDIMScheduler"):
        FewstepScheduler.from_config(diffusers.CogVideoXDDIMScheduler())
    with pytest.raises(ConfigError, match="from_pretrained"):
        FewstepScheduler.from_config("folder")
    with pytest.raises(ConfigError, match="origin="):
        FewstepScheduler.from_config(diffusers.CogVideoXDDIMScheduler().config)


@pytest.mark.parametrize("name", ["DDIMParallel", "DDPMParallel"])
def test_parallel_classes_step_as_the_ones_that_they_extend(name):
    a, b = (
        sample(theirs(name, {"clip_sample": False}), 5)[0],
        sample(ours(name, {"clip_sample": False}), 5)[0],
    )
    assert distance(b, a) < 1e-5


def test_an_object_of_ours_keeps_everything():
    s = ours(
        "DDIM",
        {"clip_sample": False, "steps_offset": 1},
        sampler="unipc",
        solver_order=3,
        corrector=False,
    )
    again = FewstepScheduler.from_config(s)
    assert again.config == s.config == FewstepScheduler.from_config(s.config).config
    assert FewstepScheduler.from_config(s, sampler="euler").config["sampler_options"] == {}


def test_a_saved_config_says_what_it_said(tmp_path):
    """As diffusers' classes: nothing in a file is unset, and the name of the class and the version
    stay."""
    scheduler = ours("DDIM", {"steps_offset": 1}, sampler="unipc")
    scheduler.save_pretrained(tmp_path)
    again = FewstepScheduler.from_pretrained(tmp_path)
    assert "_use_default_values" in scheduler.config and "_use_default_values" not in again.config
    assert dict(again.config) == {
        k: v for k, v in scheduler.config.items() if k != "_use_default_values"
    }
    assert (
        again.config["_class_name"] == "FewstepScheduler" and "_diffusers_version" in again.config
    )
    assert FewstepScheduler.from_config(again.config).config == again.config
    theirs = diffusers.DDIMScheduler.from_config(again.config)
    assert (
        theirs.config["_class_name"] == "DDIMScheduler"
        and theirs.config["timestep_spacing"] == "leading"
    )


def test_values_that_nobody_gave_are_the_defaults_of_the_class_that_reads_them():
    """As in diffusers: DDIM's leading spacing is not what Euler's config says, unless somebody gave
    it."""
    ddim = ours("DDIM", {"steps_offset": 1})
    assert (
        "timestep_spacing" in ddim.config["_use_default_values"]
        and "steps_offset" not in ddim.config["_use_default_values"]
    )
    euler = diffusers.EulerDiscreteScheduler.from_config(ddim.config)
    assert euler.config["timestep_spacing"] == "linspace" and euler.config["steps_offset"] == 1
    back = FewstepScheduler.from_config(euler.config)
    assert (
        back.config == ddim.config
        and FewstepScheduler.from_config(euler).config["origin"] == "EulerDiscreteScheduler"
    )
    turned = FewstepScheduler.from_config(ddim.config, origin="EulerDiscreteScheduler")
    assert turned.config["timestep_spacing"] == "linspace" and turned.config["steps_offset"] == 1
    given = FewstepScheduler.from_config(
        ours("DDIM", {"timestep_spacing": "trailing"}).config, origin="EulerDiscreteScheduler"
    )
    assert given.config["timestep_spacing"] == "trailing"


def test_a_value_that_a_pipeline_replaced_stays():
    """Stable Diffusion sets steps_offset in the config of a scheduler that was made without it, and
    leaves it listed as a default."""
    config = dict(diffusers.DDIMScheduler().config)
    config["steps_offset"] = 1
    assert FewstepScheduler.from_config(config).config["steps_offset"] == 1
    assert FewstepScheduler.from_config(config, origin="PNDMScheduler").config["steps_offset"] == 1


def test_compatibles_are_the_classes_that_are_read_and_this_one():
    scheduler = ours("DDIM", {})
    assert {c.__name__ for c in scheduler.compatibles} == {*STYLES, "FewstepScheduler"}
    for other in scheduler.compatibles:
        made = other.from_config(scheduler.config)
        assert FewstepScheduler.from_config(made.config).config == scheduler.config


# values


@pytest.mark.parametrize("options", [{"eta": 1.0}, {"order": 1}, {"zzz": 1}, {"eta": "frog"}])
def test_options_without_a_sampler_are_refused(options):
    with pytest.raises(ConfigError, match="sampler="):
        ours("DDIM", {}, sampler_options=options)
    with pytest.raises(ConfigError, match="sampler="):
        FewstepScheduler(
            **{
                **class_defaults("DDIMScheduler"),
                "sampler_options": options,
                "origin": "DDIMScheduler",
            }
        )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sampler", 3),
        ("grid", 4),
        ("grid", "karas"),
        ("sampler_options", [1]),
        ("noise_seed", "a"),
        ("noise_seed", 1.5),
    ],
)
def test_arguments_of_another_kind_are_refused(key, value):
    with pytest.raises(FewstepError, match=key):
        ours("DDIM", {}, **{key: value})


@pytest.mark.parametrize("eta", ["frog", None, [1.0], {}, float("nan")])
def test_an_option_of_another_kind_is_refused_when_it_is_given(eta):
    with pytest.raises(FewstepError, match="eta"):
        ours("DDIM", {}, sampler="ddim", sampler_options={"eta": eta})


def test_an_order_that_nothing_has_is_refused():
    with pytest.raises(ConfigError, match="solver_order=3"):
        FewstepScheduler(sampler="dpmpp_2m", solver_order=3, origin="DDIMScheduler")
    with pytest.raises(ConfigError, match="solver_order=3"):
        FewstepScheduler(solver_order=3, origin="DDIMScheduler")
    assert (
        FewstepScheduler(
            sampler="euler", solver_order=3, origin="DPMSolverMultistepScheduler"
        ).config["solver_order"]
        == 3
    )


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("FlowMatchEulerDiscrete", {"shift": 0}),
        ("FlowMatchEulerDiscrete", {"shift": -1.0}),
        ("FlowMatchEulerDiscrete", {"shift_terminal": 1.0}),
        ("FlowMatchEulerDiscrete", {"time_shift_type": "exponental"}),
        (
            "DPMSolverMultistep",
            {"flow_shift": 0, "use_flow_sigmas": True, "prediction_type": "flow_prediction"},
        ),
        ("DPMSolverMultistep", {"algorithm_type": "dpmsolver+"}),
        ("DPMSolverMultistep", {"solver_type": "midpiont"}),
        ("DPMSolverMultistep", {"lambda_min_clipped": 10.0}),
        ("DPMSolverMultistep", {"solver_order": 0}),
        ("UniPCMultistep", {"solver_order": 2.5}),
        ("UniPCMultistep", {"disable_corrector": "01"}),
        ("EDMEuler", {"sigma_min": 0}),
        ("EDMEuler", {"sigma_max": 0}),
        ("EDMEuler", {"sigma_data": 0}),
        ("EDMEuler", {"sigma_data": -1}),
        ("EDMEuler", {"rho": 0}),
        ("EDMEuler", {"sigma_min": 100.0}),
        ("EDMEuler", {"sigma_schedule": "kerras"}),
        ("EulerDiscrete", {"interpolation_type": "log_liner"}),
        ("EulerDiscrete", {"final_sigmas_type": "zeroo"}),
        ("EulerDiscrete", {"timestep_type": "discreet"}),
        ("DDIM", {"num_train_timesteps": 0}),
        ("DDIM", {"num_train_timesteps": "1000"}),
        ("DDIM", {"steps_offset": -1}),
        ("UniPCMultistep", {"shift_terminal": 0.1}),
        ("IPNDM", {"trained_betas": [0.1, 0.2]}),
        ("DDIM", {"clip_sample_range": 0.0}),
        ("DDIM", {"clip_sample": "yes"}),
        ("DDIM", {"beta_start": -0.1}),
        ("DDIM", {"beta_end": float("nan")}),
        ("DDIM", {"trained_betas": [0.1, 2.0]}),
        ("DDIM", {"trained_betas": [0.1]}),
        ("DDIM", {"beta_schedule": "scaled-linear"}),
        ("DDPM", {"variance_type": "fixed_smal"}),
        ("DDPM", {"thresholding": True, "sample_max_value": 0}),
        ("DDPM", {"dynamic_thresholding_ratio": 1.5}),
        ("LCM", {"timestep_scaling": 0}),
        ("LCM", {"original_inference_steps": 0}),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(name, config):
    with pytest.raises(
        ConfigError, match=list(config)[-1] if "flow_shift" not in config else "flow_shift"
    ):
        ours(name, config)


@pytest.mark.parametrize(
    "key",
    [
        "sigma_min",
        "sigma_max",
        "shift",
        "rho",
        "timestep_spacing",
        "prediction_type",
        "final_sigmas_type",
    ],
)
def test_none_is_the_default_of_the_class(key):
    name = (
        "FlowMatchEulerDiscrete"
        if key == "shift"
        else "EulerDiscrete"
        if key == "timestep_spacing"
        else "EDMEuler"
    )
    assert ours(name, {key: None})._settings == ours(name, {})._settings
    # of a flag, it is False, as in diffusers
    assert ours("DDIM", {"clip_sample": None})._settings.clip is None


@pytest.mark.parametrize("bound", [0.25, 0.5, 1.0, 2.0])
def test_a_threshold_below_one_is_the_bound_itself(bound):
    """Theirs is clamp(s, min=1, max=bound), which is the bound where it is below 1."""
    config = {"thresholding": True, "dynamic_thresholding_ratio": 0.87, "sample_max_value": bound}
    a, b = (
        sample(theirs("DPMSolverMultistep", config), 10)[0],
        sample(ours("DPMSolverMultistep", config), 10)[0],
    )
    assert distance(b, a) < 1e-5


# levels


@pytest.mark.parametrize(
    "name", ["DPMSolverMultistep", "UniPCMultistep", "EulerDiscrete", "HeunDiscrete"]
)
@pytest.mark.parametrize("key", ["use_karras_sigmas", "use_exponential_sigmas"])
def test_special_levels_of_a_finite_table_begin_at_its_end(name, key):
    """Karras et al. 2022, eq. 5, between the ends of the cosine table, whose largest level is
    20291."""
    s = ours(name, {"beta_schedule": "squaredcos_cap_v2", key: True})
    s.set_timesteps(10)
    bars = [math.cos((k / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(1001)]
    logs = [math.log1p(-min(1.0 - b / a, 0.999)) for a, b in pairwise(bars)]
    low, high = (math.sqrt(-math.expm1(v) / math.exp(v)) for v in (logs[0], math.fsum(logs)))
    u = torch.linspace(0.0, 1.0, 10, dtype=torch.float64)
    karras = (high ** (1 / 7) + u * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    wanted = (
        karras
        if "karras" in key
        else torch.exp(math.log(high) + u * (math.log(low) - math.log(high)))
    )
    found = torch.unique(s.sigmas.double()).flip(0)[:10]
    assert torch.allclose(found, wanted, rtol=1e-6)


def test_special_levels_of_a_table_without_an_end_begin_at_4096_and_a_given_bound_is_kept():
    zero = {
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "use_karras_sigmas": True,
    }
    for config, first in (
        (zero, 4096.0),
        ({**zero, "sigma_max": 6000.0}, 6000.0),
        ({**zero, "timestep_spacing": "trailing"}, 4096.0),
    ):
        for steps in (1, 5):
            s = ours("EulerDiscrete", config)
            s.set_timesteps(steps)
            assert float(s.sigmas[0]) == pytest.approx(first, rel=1e-6) or (
                steps == 1 and "trailing" not in config.values()
            )


@pytest.mark.parametrize(
    "bounds", [{}, {"sigma_min": 0.01, "sigma_max": 200.0}, {"sigma_max": 80.0}]
)
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_karras_levels_of_unipc_on_a_flow_are_theirs(bounds, steps):
    config = {
        "use_flow_sigmas": True,
        "use_karras_sigmas": True,
        "prediction_type": "flow_prediction",
        **bounds,
    }
    if "sigma_max" not in installed("UniPCMultistepScheduler"):
        pytest.skip("before 0.38 its levels are others")
    a, b = theirs("UniPCMultistep", config), ours("UniPCMultistep", config)
    x, _ = sample(b, steps)
    told = b.timesteps.tolist()
    y, _ = sample(a, steps, told=lambda k, t: told[k])
    assert torch.allclose(a.sigmas, b.sigmas, atol=2e-5) and distance(x, y) < 1e-4


def test_a_flow_has_no_level_above_one():
    with pytest.raises(ConfigError, match=r"sigma_max=80"):
        ours("FlowMatchEulerDiscrete", {"use_karras_sigmas": True, "sigma_max": 80.0})
    with pytest.raises(ConfigError, match=r"sigma_max=80"):
        ours(
            "UniPCMultistep",
            {
                "use_flow_sigmas": True,
                "use_beta_sigmas": True,
                "prediction_type": "flow_prediction",
                "sigma_max": 80.0,
            },
        )


# one bad value

NUMBERS = (float("nan"), math.inf, -math.inf, -1, 0, -0.5, 1e308, 10**400, 2.5, True, 1j)
BAD = st.sampled_from([None, "", "x", "nan", b"x", [], [1], [None], {}, {"a": 1}, (), *NUMBERS])
STILL = {"tau_func", "solver_p"}


@settings(max_examples=250, derandomize=True, deadline=None, database=None)
@given(
    name=st.sampled_from(sorted(STYLES)),
    data=st.data(),
    special=st.sampled_from([None, "use_karras_sigmas", "use_flow_sigmas"]),
)
def test_one_bad_value_is_refused_by_its_key_or_the_run_falls(name, data, special):
    own = sorted({*class_defaults(name), *OWN} - STILL)
    key, value = data.draw(st.sampled_from(own)), data.draw(BAD)
    config = {"_class_name": name, **({special: True} if special in class_defaults(name) else {})}
    if special == "use_flow_sigmas" and special in config:
        config["prediction_type"] = "flow_prediction"
    config[key] = value
    refused = ""
    try:
        s = FewstepScheduler.from_config(config)
        s.set_timesteps(5, mu=0.7)
    except FewstepError as error:
        refused = str(error)
    if refused:
        assert key in refused or key == "origin" or (value is True and key in FLAGS), (
            key,
            value,
            refused,
        )
        return
    levels = s.sigmas.tolist()
    assert all(math.isfinite(v) for v in levels[1:]) and all(a >= b for a, b in pairwise(levels)), (
        key,
        value,
    )
    x = s.step(noise(), s.timesteps[0], noise()).prev_sample
    assert torch.isfinite(x).all(), (key, value)


def test_the_first_time_of_unipc_on_a_flow_is_below_the_boundary_as_theirs_is():
    """A Wan pipeline with boundary_ratio=1 has a second network alone: its first takes the calls
    with t >= 1000."""
    config = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    if not set(config) <= set(installed("UniPCMultistepScheduler")):
        pytest.skip("the installed diffusers has no such keys")
    a, b = theirs("UniPCMultistep", config), ours("UniPCMultistep", config)
    for s in (a, b):
        s.set_timesteps(4)
        assert float(s.timesteps[0]) < 1000.0
    assert float(b.timesteps[0]) == pytest.approx(1000.0, rel=1e-7)
