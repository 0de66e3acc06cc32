"""The scheduler surface: configs, lists of times, beginning in the middle, edits, noise, errors, and what a step costs."""

from __future__ import annotations

import copy
import json
import threading
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

import diffusers
from diffusers.configuration_utils import FrozenDict
from diffusers_loops import SD, distance, network, noise, ours, sample, theirs
from torch.utils._python_dispatch import TorchDispatchMode

import fewstep
from fewstep import FewstepScheduler
from fewstep.interop.diffusers_config import STYLES, ConfigError
from fewstep.plans.instructions import PlanError
from fewstep.samplers import SamplerError, names
from fewstep.schedules import ConversionError

#: diffusers hands numpy functions a torch tensor
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
SD_PNDM = {"skip_prk_steps": True, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False, **SD}
FLOW = ("FlowMatchEulerDiscrete", {"shift": 3.0})


class Calls(TorchDispatchMode):
    """The names of the operators that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


# configs


@pytest.mark.parametrize("origin", sorted(STYLES))
def test_every_class_is_read_by_its_own_defaults_and_written_back(origin, tmp_path):
    config = getattr(diffusers, origin)().config
    given = FewstepScheduler.from_config({"_class_name": origin})
    inferred = FewstepScheduler.from_config(config, origin=origin)
    assert given.config == inferred.config and given.config["origin"] == origin
    assert all(given.config[k] == v or v is None for k, v in config.items() if not k.startswith("_"))
    given.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["_class_name"] == "FewstepScheduler"
    again = FewstepScheduler.from_pretrained(tmp_path)
    assert again.config["origin"] == origin and again._settings == given._settings
    back = getattr(diffusers, origin).from_config(dict(given.config))
    assert all(back.config[k] == v for k, v in config.items() if not k.startswith("_"))


def test_a_config_without_a_class_is_known_by_its_keys():
    assert FewstepScheduler.from_config(diffusers.DDIMScheduler().config).config["origin"] == "DDIMScheduler"
    shared = diffusers.KDPM2DiscreteScheduler().config
    with pytest.raises(ConfigError, match="origin="):
        FewstepScheduler.from_config(shared)
    assert FewstepScheduler.from_config(shared, sampler="unipc").config["origin"] == "KDPM2DiscreteScheduler"


def test_sampler_order_and_options_come_by_keyword_and_stay():
    s = ours("PNDM", SD_PNDM, sampler="unipc", solver_order=3, corrector=False)
    s.set_timesteps(8)
    assert s.plan == fewstep.plan("unipc", s._settings.schedule, grid=s._compiled.grid, order=3, corrector=False)
    other = FewstepScheduler.from_config(s.config, sampler="euler_ancestral", eta=0.5)
    assert other.config["sampler_options"] == {"eta": 0.5} and other.config["skip_prk_steps"] is True
    karras = ours("PNDM", SD_PNDM, sampler="DPM++ 2M Karras")
    karras.set_timesteps(5)
    levels = ours("DPMSolverMultistep", {**SD, "use_karras_sigmas": True})  # the alias names sampler and levels
    levels.set_timesteps(5)
    assert torch.allclose(karras.sigmas[:-1], levels.sigmas[:-1])


def test_the_order_is_calls_a_step_where_that_is_one_number():
    one, two = ("unipc", "dpmpp_2m", "euler", "ddim", "plms", "pndm"), ("heun", "dpm2", "dpmpp_sde")
    assert {ours("DDIM", {}, sampler=name).order for name in one} == {1}
    assert {ours("DDIM", {}, sampler=name).order for name in two} == {2}
    s = ours("DDIM", {}, sampler="pndm")
    s.set_timesteps(29)
    assert s.nfe == len(s.timesteps) == 29 and s.plan.steps == 20


def test_a_named_grid_replaces_the_spacing():
    s = ours("DDIM", {}, sampler="unipc", grid="ays")
    s.set_timesteps(7)
    assert s._compiled.grid == fewstep.grid("ays", s._settings.schedule, 7)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ({"beta_strat": 0.1}, {}, "did you mean 'beta_start'"),
        ({}, {"use_karas_sigmas": True}, "use_karas_sigmas"),
        ({}, {"eta": 0.5}, "sampler="),
        ({"prediction_type": "eps"}, {}, "prediction_type"),
        ({"timestep_spacing": "middle"}, {}, "timestep_spacing"),
        ({}, {"sampler": "unipc", "use_karras_sigmas": True, "use_beta_sigmas": True}, "one of them"),
        ({}, {"sampler": "dpmpp_2m", "solver_order": 3}, "dpmpp_3m"),
        ({}, {"sampler": "ode45"}, "as it goes"),
        ({"beta_schedule": "cubic"}, {}, "beta_schedule"),
    ],
)
def test_what_is_not_understood_is_refused(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        ours("DDIM", config, **changes)


def test_an_unknown_sampler_or_option_is_refused():
    with pytest.raises(SamplerError, match="unipc"):
        ours("DDIM", {}, sampler="unipcc")
    with pytest.raises(ConfigError, match="correctr"):
        ours("DDIM", {}, sampler="unipc", correctr=False)
    with pytest.raises(ConfigError, match="EulerDiscreteScheduler"):
        FewstepScheduler.from_config({"_class_name": "EulerDiscretScheduler"})
    with pytest.raises(ConfigError, match="tau="):
        ours("SASolver", {"tau_func": abs})
    with pytest.raises(ConfigError, match="variance_type"):
        ours("DDPM", {"variance_type": "learned_range"})


def test_importing_fewstep_finds_both_names_late():
    assert fewstep.FewstepScheduler.__module__ == "fewstep" and fewstep.SchedulerMixin is diffusers.SchedulerMixin
    assert "FewstepScheduler" not in fewstep.__all__
    assert diffusers.DDIMScheduler in ours("DDIM", {}).compatibles


def test_a_prediction_that_says_nothing_at_the_start_is_refused_before_the_first_call():
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}
    with pytest.raises(ConversionError, match="v, velocity"):
        ours("DDIM", zero).set_timesteps(5)
    ours("DDIM", {**zero, "prediction_type": "v_prediction"}).set_timesteps(5)


def test_a_learned_variance_is_left_aside():
    s = ours("DDPM", {"variance_type": "learned_range", "clip_sample": False}, sampler="dpmpp_2m")
    s.set_timesteps(3)
    x, mean = noise(), noise(3)
    both = s.step(torch.cat([mean, noise(4)], 1), s.timesteps[0], x).prev_sample
    s.set_timesteps(3)
    assert torch.equal(both, s.step(mean, s.timesteps[0], x).prev_sample)


def test_a_pipeline_may_replace_the_config():
    """Stable Diffusion pipelines write steps_offset=1 into the config that they are given."""
    s = ours("DDIM", {"clip_sample": False, "steps_offset": 0})
    s._internal_dict = FrozenDict({**s.config, "steps_offset": 1})
    s.set_timesteps(4)
    assert s.timesteps.tolist() == [751, 501, 251, 1]


def test_noise_without_a_generator_is_seeded_where_asked():
    for seed, same in ((7, True), (None, False)):
        s = ours("EulerAncestralDiscrete", SD, noise_seed=seed)
        a, b = (_without_generator(s) for _ in range(2))
        assert torch.equal(a, b) is same


def _without_generator(s: FewstepScheduler) -> torch.Tensor:
    s.set_timesteps(3)
    x = noise()
    for t in s.timesteps:
        x = s.step(network(x, float(t)), t, x).prev_sample
    return x


# lists


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_inference_steps": 0}, "at least 1"),
        ({}, "at least 1"),
        ({"timesteps": [900, 100], "sigmas": [9.0, 0.0]}, "both given"),
        ({"timesteps": [100, 900]}, "fall strictly"),
        ({"timesteps": [900, 900]}, "fall strictly"),
        ({"timesteps": []}, "empty"),
        ({"timesteps": [1500]}, "999"),
        ({"sigmas": [1.0, 3.0, 0.0]}, "fall strictly"),
        ({"num_inference_steps": 5, "timesteps": [900, 100]}, "leave one"),
        ({"num_inference_steps": 1001}, "trained on 1000"),
    ],
)
def test_bad_lists_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ours("DDIM", {}).set_timesteps(**given)


def test_a_step_needs_a_run_that_is_not_over():
    s = ours("DDIM", {})
    with pytest.raises(PlanError, match="set_timesteps"):
        s.step(noise(), 0, noise())
    s.set_timesteps(2)
    x = noise()
    for t in s.timesteps:
        x = s.step(noise(), t, x).prev_sample
    with pytest.raises(PlanError, match="over"):
        s.step(noise(), 0, x)
    s.set_timesteps(2)
    with pytest.raises(ValueError, match="none of this run"):
        s.step(noise(), 123, x)
    with pytest.raises(ValueError, match="shape"):
        s.step(noise(n=1), s.timesteps[0], x)


@pytest.mark.parametrize("sampler", [n for n in names("plan") if n not in ("mr_ode", "mr_sde", "pfgmpp")])
@pytest.mark.parametrize("path", ["DDIM", "FlowMatchEulerDiscrete"])
def test_every_sampler_runs_and_its_list_has_its_calls(sampler, path):
    config = {"clip_sample": False, **SD} if path == "DDIM" else FLOW[1]
    try:
        s = ours(path, config, sampler=sampler)
        s.set_timesteps(timesteps=[900, 600, 300, 100])
    except ValueError as error:
        pytest.skip(f"refused: {error}")
    assert len(s.timesteps) == s.nfe == s.plan.nfe
    x, calls = sample(s, None, timesteps=[900, 600, 300, 100])
    y, _ = sample(s, None, timesteps=[900, 600, 300, 100])
    assert calls == s.nfe and torch.isfinite(x).all() and torch.equal(x, y)


# the middle of a run


@pytest.mark.parametrize("sampler", ["ddim", "unipc", "dpmpp_2m", "deis", "heun", "dpmpp_sde"])
def test_a_run_that_begins_in_the_middle_is_the_plan_of_the_tail(sampler):
    s = ours("DDIM", {"clip_sample": False}, sampler=sampler)
    s.set_timesteps(6)
    begin = 2 * s.order
    tail = s._compiled.grid.tail(2)
    s.set_begin_index(begin)
    x, generator = noise(), torch.Generator().manual_seed(0)
    for k, t in enumerate(s.timesteps[begin:]):
        assert s.step_index in (None, begin + k)
        x = s.step(network(x, float(t)), t, x, generator=generator).prev_sample
    assert s._run.cursor.program.plan == fewstep.plan(sampler, s._settings.schedule, grid=tail) and s._run.cursor.done


def test_the_first_time_is_looked_up_once_by_place_or_value():
    s = ours("HeunDiscrete", SD)
    for pick in (lambda t: t, lambda t: float(t), lambda t: torch.tensor(float(t))):
        s.set_timesteps(5)
        s.step(noise(), pick(s.timesteps[4]), noise())
        assert s.step_index == 5 and s._run.begin == 4
    s.set_timesteps(5)
    s.step(noise(), float(s.timesteps[1]), noise())  # t_1 twice: the end of step 0 and the start of step 1
    assert s._run.begin == 2


def test_a_begin_inside_a_step_is_refused():
    s = ours("KDPM2Discrete", SD)
    s.set_timesteps(5)
    with pytest.raises(ValueError, match="inside a step"):
        s.set_begin_index(1)


def test_plms_in_the_middle_goes_on_without_its_start_up():
    s = ours("PNDM", SD_PNDM)
    s.set_timesteps(11)
    for begin in (1, 2, 5, 10):
        s.set_begin_index(begin)
        x = noise()
        for t in s.timesteps[begin:]:
            x = s.step(network(x, float(t)), t, x).prev_sample
        assert s._run.cursor.done and torch.isfinite(x).all()


def test_two_threads_may_use_two_copies():
    s = ours("UniPCMultistep", SD)
    alone, _ = sample(s, 10)
    found: list[torch.Tensor] = []
    copies = [copy.deepcopy(s) for _ in range(2)]
    threads = [threading.Thread(target=lambda one: found.append(sample(one, 10)[0]), args=(one,)) for one in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and all(torch.equal(x, alone) for x in found)


# edits


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("sampler", ["ddim", "unipc", "heun"])
def test_an_edited_sample_goes_on_from_where_it_was_put(sampler, in_place):
    """As ``on_step`` of fewstep.run: what the network sees and what later corrections keep is the edited state."""
    s = ours("DDIM", {"clip_sample": False}, sampler=sampler)
    s.set_timesteps(6)
    x = start = noise()
    for k, t in enumerate(s.timesteps):
        x = s.step(network(x, float(t)), t, x).prev_sample
        if k < len(s.timesteps) - 1:
            x = x.mul_(0.9) if in_place else 0.9 * x
    plan, labels = s.plan, iter(s.timesteps.tolist())

    class Net:
        schedule, prediction, shape = s._settings.schedule, "eps", None
        input_scale = staticmethod(lambda t: 1.0)
        coefficients = staticmethod(lambda t: (0.0, (1.0,)))
        raws = staticmethod(lambda x_in, t, cond=None: (network(x_in, next(labels)),))

    last = plan.nfe - 1
    want = fewstep.run(plan, Net(), start, on_step=lambda step: None if step.index == last else 0.9 * step.x_next)
    assert torch.allclose(x, want, rtol=1e-6, atol=1e-6)


def test_what_was_given_out_is_never_written_again():
    s = ours("UniPCMultistep", SD)
    s.set_timesteps(8)
    x, kept = noise(), []
    for t in s.timesteps:
        x = s.step(network(x, float(t)), t, x).prev_sample
        kept.append((x, x.clone()))
    assert all(torch.equal(a, b) for a, b in kept)


# noise


def test_a_list_of_generators_makes_a_sample_independent_of_its_batch():
    def run(seeds: list[int]) -> torch.Tensor:
        s = ours("EulerAncestralDiscrete", SD)
        s.set_timesteps(4)
        x = torch.cat([noise(seed, 1) for seed in seeds])
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for t in s.timesteps:
            output = torch.cat([network(row[None], float(t)) for row in x])
            x = s.step(output, t, x, generator=generators, return_dict=False)[0]
        return x

    assert torch.equal(run([5, 6, 7])[1:2], run([6]))


@pytest.mark.parametrize(("name", "config"), [("DDIM", {}), ("DPMSolverMultistep", SD), FLOW])
def test_noise_is_added_as_there(name, config):
    a, b = theirs(name, config), ours(name, config)
    x, z = noise(1), noise(2)
    for s in (a, b):
        s.set_timesteps(10)
    t = a.timesteps[3:5]
    add = (lambda s: s.scale_noise(x, t, z)) if name == FLOW[0] else (lambda s: s.add_noise(x, z, t))
    assert distance(add(b), add(a)) < 5e-6
    if name == "DDIM":
        assert distance(b.get_velocity(x, z, t), a.get_velocity(x, z, t)) < 5e-6
        assert torch.allclose(b.alphas_cumprod, a.alphas_cumprod, rtol=1e-4)
        assert distance(ours(name, {}).add_noise(x, z, torch.tensor([7, 640])), a.add_noise(x, z, torch.tensor([7, 640]))) < 5e-6


def test_noise_between_entries_is_that_of_the_run():
    s = ours("EulerDiscrete", SD)
    s.set_timesteps(7)
    node = s.plan.evaluations[3].node
    x, z = noise(1).double(), noise(2).double()
    assert node.t != round(node.t) and torch.allclose(s.add_noise(x, z, s.timesteps[3:4]), node.alpha * x + node.sigma * z, rtol=1e-12)


# cost


@pytest.mark.parametrize(
    "sampler", ["ddim", "euler", "dpmpp_2m", "deis", "heun", "dpmpp_3m", "euler_ancestral", "dpmpp_2m_sde", "flow_euler"]
)
def test_a_step_is_few_operators_and_waits_for_nothing(sampler):
    s = ours(*FLOW, sampler=sampler) if sampler == "flow_euler" else ours("DDIM", {"clip_sample": False}, sampler=sampler)
    s.set_timesteps(12)
    x, output, generator = noise(), noise(3), torch.Generator().manual_seed(0)
    most = 16 if s.plan.stochastic else 8
    for t in s.timesteps:
        with Calls() as calls:
            x = s.step(output, t, x, generator=generator, return_dict=False)[0]
        assert len(calls.names) <= most, calls.names
        assert not [name for name in calls.names if "local_scalar" in name or "item" in name]


def test_half_precision_states_stay_half():
    s = ours("DPMSolverMultistep", SD)
    s.set_timesteps(5)
    x = noise().half()
    for t in s.timesteps:
        x = s.step(network(x.float(), float(t)).half(), t, x).prev_sample
        assert x.dtype == torch.float16
    assert distance(x.float(), sample(ours("DPMSolverMultistep", SD), 5)[0]) < 2e-2
