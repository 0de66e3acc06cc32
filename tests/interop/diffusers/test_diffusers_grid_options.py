"""Named grids of the diffusers scheduler: their options, grid and sampler ``auto``, and configs that
version 0.1 saved."""

from __future__ import annotations

import json
import math

import pytest
import torch

pytest.importorskip("diffusers")

import diffusers
from diffusers_loops import SD, ours
from diffusers_pipelines import ddpm, run

import fewstep
from fewstep import FewstepScheduler
from fewstep.checks import FewstepError, GridError
from fewstep.engine.automatic import choices
from fewstep.interop.diffusers.config import ConfigError
from fewstep.models import wrap
from fewstep.samplers import SamplerError
from fewstep.schedules import EDM, Flow
from fewstep.schedules.diffusers.config import read
from fewstep.schedules.grids.auto import DataFacts

#: diffusers hands numpy functions a torch tensor
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
TABLE = ("DDIM", {"clip_sample": False, **SD})
LOGISTIC = {"sigma_data": 1.0, "center": 2.5}
DYNAMIC = {"use_dynamic_shifting": True}


def ready(scheduler, steps=6, **given):
    scheduler.set_timesteps(steps, **given)
    return scheduler


def rhos(scheduler):
    return [node.rho for node in scheduler._compiled.grid.nodes]


# options of a grid


@pytest.mark.parametrize(
    ("grid", "options"),
    [
        ("logistic", LOGISTIC),
        ("logistic", {"spread": 1.1}),
        ("karras", {"rho": 5.0, "drop_last": True}),
        ("uniform", {}),
    ],
)
def test_a_run_is_the_plan_of_the_grid_with_its_options(grid, options):
    s = ready(ours(*TABLE, sampler="unipc", solver_order=3, grid=grid, grid_options=options))
    schedule = s._settings.schedule
    assert s.plan == fewstep.plan(
        "unipc", schedule, grid=fewstep.grid(grid, schedule, 6, **options), order=3
    )
    assert s.config["grid_options"] == options


def test_without_a_grid_the_config_decides():
    s = ready(ours(*TABLE, sampler="unipc"))
    assert s.config["grid"] is None and s.config["grid_options"] == {}
    assert s.timesteps.tolist() == [830, 664, 498, 332, 166, 0]
    assert s.plan.reason == ""


@pytest.mark.parametrize(
    ("config", "mu", "shift"),
    [
        ({"shift": 3.0}, None, 3.0),
        (DYNAMIC, 0.8, math.exp(0.8)),
        ({**DYNAMIC, "time_shift_type": "linear"}, 1.7, 1.7),
    ],
)
@pytest.mark.parametrize("grid", ["logistic", "uniform"])
def test_the_shift_of_a_flow_applies_to_grids_spaced_in_t(config, mu, shift, grid):
    s = ready(ours("FlowMatchEulerDiscrete", config, sampler="unipc", grid=grid), mu=mu)
    due = fewstep.grid(grid, Flow(shift), 6)
    assert s.plan == fewstep.plan("unipc", Flow(shift), grid=due)
    own = FewstepScheduler.from_config(s.config, grid_options={"shift": 1.0})
    assert rhos(ready(own)) == [node.rho for node in fewstep.grid(grid, Flow(), 6).nodes]


def test_a_grid_spaced_in_t_needs_mu_where_mu_decides():
    def made(grid):
        return ours("FlowMatchEulerDiscrete", DYNAMIC, sampler="unipc", grid=grid)

    with pytest.raises(GridError, match="mu="):
        made("logistic").set_timesteps(6)
    assert len(ready(made("karras")).timesteps) == 6


def test_set_shift_moves_a_named_grid():
    s = ours("FlowMatchEulerDiscrete", {"shift": 3.0}, sampler="unipc", grid="logistic")
    s.set_shift(1.5)
    assert rhos(ready(s)) == [node.rho for node in fewstep.grid("logistic", Flow(1.5), 6).nodes]


@pytest.mark.parametrize("end", ["zero", "sigma_min"])
def test_a_named_grid_of_an_edm_config_runs_between_its_levels(end):
    config = {"sigma_min": 0.01, "sigma_max": 50.0, "final_sigmas_type": end}
    s = ready(ours("EDMEuler", config, grid="logistic", grid_options=LOGISTIC))
    due = fewstep.grid("logistic", EDM(0.01, 50.0), 6, final=end, **LOGISTIC)
    assert rhos(s) == pytest.approx([node.rho for node in due.nodes], rel=1e-12)
    assert float(s.timesteps[0]) == pytest.approx(math.log(50.0) / 4)
    same, own = (ready(ours("EDMEuler", config, **more)) for more in ({"grid": "karras"}, {}))
    assert rhos(same) == pytest.approx(rhos(own), rel=1e-12)


# grid auto


@pytest.mark.parametrize(
    ("sampler", "kind"),
    [("unipc", "multistep_x0"), ("heun", "singlestep"), ("euler_ancestral", "stochastic")],
)
def test_grid_auto_is_the_rule_for_the_sampler(sampler, kind):
    s = ready(ours(*TABLE, sampler=sampler, grid="auto"), 16)
    found, facts = s._compiled.grid, DataFacts(None, spatial=True, guided=True)
    schedule = s._settings.schedule
    assert found == fewstep.grid("auto", schedule, found.steps, kind=kind, facts=facts)
    assert f"{found.steps} steps of a {kind} sampler" in s.plan.reason
    assert "sigma_data 0.5 (unknown, assumed)" in s.plan.explain()


def test_grid_auto_takes_the_scale_of_the_data_and_other_numbers_from_its_options():
    s = ready(ours(*TABLE, sampler="unipc", grid="auto", grid_options={"sigma_data": 1.0}))
    schedule, facts = s._settings.schedule, DataFacts(1.0, spatial=True, guided=True)
    due = fewstep.grid("auto", schedule, 6, kind="multistep_x0", facts=facts)
    assert s._compiled.grid == due
    assert "sigma_data 1 " in s.plan.reason and "by grid_options" not in s.plan.reason
    moved = FewstepScheduler.from_config(s.config, grid_options={"center": 2.0})
    assert dict(ready(moved)._compiled.grid.params)["center"] == 2.0
    assert "by grid_options, center 2" in moved.plan.reason


def test_grid_auto_takes_the_scale_of_the_data_from_an_edm_config():
    s = ready(ours("EDMDPMSolverMultistep", {"sigma_data": 0.7}, grid="auto"))
    facts = DataFacts(0.7, spatial=True, guided=True)
    due = fewstep.grid("auto", EDM(0.002, 80.0), 6, kind="multistep_x0", facts=facts)
    assert rhos(s) == pytest.approx([node.rho for node in due.nodes], rel=1e-12)


def test_times_of_the_caller_come_before_the_grid():
    s = ready(ours(*TABLE, sampler="unipc", grid="auto"), None, timesteps=[900, 500, 100])
    assert s.timesteps.tolist() == [900, 500, 100] and s.plan.reason == ""


def test_grid_auto_of_version_0_1_stays_by_its_name():
    s = ready(ours(*TABLE, sampler="unipc", grid="auto_0_1"))
    assert s._compiled.grid == fewstep.grid("lam", s._settings.schedule, 6, drop_last=True)


# sampler auto


def chosen(steps):
    """The sampler and its options for guided samples with spatial axes."""
    samples = DataFacts(None, spatial=True, guided=True).samples
    rows = [r for r in choices() if r["samples"] == samples and steps <= r["calls"]]
    return rows[0]["sampler"], rows[0]["options"]


@pytest.mark.parametrize("steps", [4, 12, 40])
def test_sampler_auto_is_the_robust_choice_on_the_grid_of_the_config(steps):
    s = ready(ours(*TABLE, sampler="auto"), steps)
    name, options = chosen(steps)
    due = ready(ours(*TABLE, sampler=name, sampler_options=dict(options)), steps)
    assert s.plan == due.plan and s.order == 1 and s.config["sampler"] == "auto"
    assert s.plan.reason.startswith(f"sampler auto: {name}, order={options['order']}; for {steps}")


def test_sampler_auto_keeps_its_order_whatever_the_config_has():
    config = {"solver_order": 3, **SD}
    s = ready(ours("DPMSolverMultistep", config, sampler="auto", grid="auto"), 8)
    assert s._compiled.options.order == chosen(8)[1]["order"]
    assert [line.split(":")[0] for line in s.plan.reason.splitlines()] == [
        "sampler auto",
        "grid auto",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 0.5}, "takes no option 'eta'"),
        ({"sampler_options": {"order": 3}}, "takes no option 'order'"),
        ({"order": 3}, "name the sampler that has it, for instance sampler='ipndm'"),
    ],
)
def test_options_of_sampler_auto_are_refused(options, message):
    with pytest.raises(SamplerError, match=message):
        ours(*TABLE, sampler="auto", **options)


def test_an_order_of_sampler_auto_is_refused():
    with pytest.raises(ConfigError, match="solver_order=3"):
        ours(*TABLE, sampler="auto", solver_order=3)


# errors


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"grid_options": {"rho": 5.0}}, r"grid_options=\{'rho': 5.0\}: name the grid .*grid="),
        ({"grid": "logistic", "center": 2.0}, r"grid_options=\{'center': 2.0\}"),
        ({"grid": "logistc"}, "did you mean 'logistic'"),
        ({"grid": "logistic", "grid_options": {"centre": 2.0}}, "did you mean 'center'"),
        ({"grid": "logistic", "grid_options": {"rho": 7.0}}, "takes no rho=; karras"),
        ({"grid": "auto", "grid_options": {"rho": 7.0}}, "grid='auto'.* takes no rho="),
        ({"grid": "auto_0_1", "grid_options": {"center": 7.0}}, "'lam' takes no center="),
        ({"grid": "logistic", "grid_options": {"center": -2.0}}, "center=-2.0: must be 0 < center"),
        ({"grid": "logistic", "grid_options": {"center": "2"}}, "center='2' must be"),
        ({"grid": "uniform", "grid_options": {"shift": 0}}, "shift=0: must be 0 < shift"),
        ({"grid": "logistic", "grid_options": {"center": [2.0]}}, "center"),
        ({"grid": "logistic", "grid_options": [2.0]}, r"grid_options=\[2.0\] must be a mapping"),
        ({"grid": "logistic", "grid_options": {3: 2.0}}, "must be a mapping from option names"),
    ],
)
def test_wrong_options_of_a_grid_are_refused_when_they_are_given(given, message):
    with pytest.raises(ConfigError, match=message):
        ours(*TABLE, sampler="unipc", **given)
    if "center" in given:  # no key of a config
        return
    whole = {"_class_name": "FewstepScheduler", "origin": "DDIMScheduler", "grid_options": {}}
    with pytest.raises(ConfigError, match=message):
        read({**whole, **given})


def test_options_are_checked_again_when_they_are_set_on_the_config():
    s = ours(*TABLE, sampler="unipc", grid="karras")
    s.config.grid_options = {"rho": 5.0}
    due = fewstep.grid("karras", s._settings.schedule, 6, rho=5.0)
    assert ready(s)._compiled.grid == due
    s.config.grid_options = {"rh": 5.0}
    with pytest.raises(FewstepError, match="'rho'"):
        s.set_timesteps(6)


# round trips


def test_grid_options_are_saved_and_read(tmp_path):
    s = ready(ours(*TABLE, sampler="unipc", grid="logistic", grid_options=LOGISTIC))
    s.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["grid_options"] == LOGISTIC
    for again in (
        FewstepScheduler.from_pretrained(tmp_path),
        FewstepScheduler.from_config(s.config),
        FewstepScheduler.from_config(s),
        FewstepScheduler(**{k: v for k, v in s.config.items() if not k.startswith("_")}),
    ):
        assert again._settings == s._settings and ready(again).plan == s.plan
    assert FewstepScheduler.from_config(diffusers.DDIMScheduler.from_config(dict(s.config)))
    assert read(json.loads((tmp_path / "scheduler_config.json").read_text())) == s._settings


def test_another_grid_drops_the_options_of_the_former():
    s = ours(*TABLE, sampler="unipc", grid="logistic", grid_options=LOGISTIC)
    same = FewstepScheduler.from_config(s.config, sampler="deis", grid="logistic")
    assert same.config["grid_options"] == LOGISTIC
    for name in ("karras", None):
        assert FewstepScheduler.from_config(s.config, grid=name).config["grid_options"] == {}


def test_the_settings_of_other_options_are_other_settings():
    first, second = (
        ours(*TABLE, sampler="unipc", grid="logistic", grid_options={"center": c})._settings
        for c in (1.0, 2.0)
    )
    assert first != second and hash(first) == hash(first)


@pytest.mark.parametrize(
    ("origin", "config", "grid", "due"),
    [
        ("DDIM", SD, "auto", lambda s: fewstep.grid("lam", s, 6, drop_last=True)),
        ("DDIM", SD, "uniform", lambda s: fewstep.grid("uniform", s, 6)),
        ("FlowMatchEulerDiscrete", {"shift": 3.0}, "auto", lambda s: fewstep.grid("quadratic", s, 6)),
        ("FlowMatchEulerDiscrete", {"shift": 3.0}, "uniform", lambda s: fewstep.grid("uniform", s, 6)),
        ("FlowMatchEulerDiscrete", DYNAMIC, "karras", lambda s: fewstep.grid("karras", s, 6)),
    ],
)  # fmt: skip
def test_a_grid_that_version_0_1_saved_is_the_same(origin, config, grid, due, tmp_path):
    """It saved no grid_options; its named grids took no shift, and its auto was another rule."""
    saved = dict(ours(origin, config, sampler="unipc").config)
    del saved["grid_options"]
    saved |= {"grid": grid, "_class_name": "FewstepScheduler"}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(saved))
    for s in (FewstepScheduler.from_config(saved), FewstepScheduler.from_pretrained(tmp_path)):
        assert ready(s)._compiled.grid.nodes == due(s._settings.schedule).nodes
        assert FewstepScheduler.from_config(s.config)._settings == s._settings == read(saved)
    new = FewstepScheduler.from_config(saved, grid="logistic")
    assert new.config["grid_options"] == {}


# a pipeline


def test_a_pipeline_draws_what_fewstep_draws_on_the_same_grid():
    s = ours(
        "DDPM", {"clip_sample": False}, sampler="unipc", grid="logistic", grid_options=LOGISTIC
    )
    pipe = ddpm(s)
    drawn, calls = run(pipe, 5)
    schedule = s._settings.schedule
    den = wrap(lambda x, t: pipe.unet(x, t).sample, schedule, "eps", shape=(3, 8, 8))
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    grid = fewstep.grid("logistic", schedule, 5, **LOGISTIC)
    made = fewstep.sample(den, "unipc", grid=grid, x=x)
    assert calls == 5
    picture = (made / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert torch.allclose(drawn, picture, atol=1e-5) and float(picture.std()) > 0.1
