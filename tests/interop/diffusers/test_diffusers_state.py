"""A run of the scheduler: beginning in the middle, edits, threads, noise and generators."""

from __future__ import annotations

import copy
import threading

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, distance, network, noise, ours, sample, theirs

import fewstep
from fewstep import FewstepScheduler

#: diffusers hands numpy functions a torch tensor
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
SD_PNDM = {
    "skip_prk_steps": True,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    **SD,
}
FLOW = ("FlowMatchEulerDiscrete", {"shift": 3.0})


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
    assert (
        s._run.cursor.program.plan == fewstep.plan(sampler, s._settings.schedule, grid=tail)
        and s._run.cursor.done
    )


def test_the_first_time_is_looked_up_once_by_place_or_value():
    s = ours("HeunDiscrete", SD)
    for pick in (lambda t: t, lambda t: float(t), lambda t: torch.tensor(float(t))):
        s.set_timesteps(5)
        s.step(noise(), pick(s.timesteps[4]), noise())
        assert s.step_index == 5 and s._run.begin == 4
    s.set_timesteps(5)
    # t_1 twice: the end of step 0 and the start of step 1
    s.step(noise(), float(s.timesteps[1]), noise())
    assert s._run.begin == 2


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
    threads = [
        threading.Thread(target=lambda one: found.append(sample(one, 10)[0]), args=(one,))
        for one in copies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and all(torch.equal(x, alone) for x in found)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("sampler", ["ddim", "unipc", "heun"])
def test_an_edited_sample_goes_on_from_where_it_was_put(sampler, in_place):
    """As ``on_step`` of fewstep.run: what the network sees and what later corrections keep is the
    edited state."""
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
    want = fewstep.run(
        plan, Net(), start, on_step=lambda step: None if step.index == last else 0.9 * step.x_next
    )
    assert torch.allclose(x, want, rtol=1e-6, atol=1e-6)


def test_what_was_given_out_is_never_written_again():
    s = ours("UniPCMultistep", SD)
    s.set_timesteps(8)
    x, kept = noise(), []
    for t in s.timesteps:
        x = s.step(network(x, float(t)), t, x).prev_sample
        kept.append((x, x.clone()))
    assert all(torch.equal(a, b) for a, b in kept)


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
    add = (
        (lambda s: s.scale_noise(x, t, z)) if name == FLOW[0] else (lambda s: s.add_noise(x, z, t))
    )
    assert distance(add(b), add(a)) < 5e-6
    if name == "DDIM":
        assert distance(b.get_velocity(x, z, t), a.get_velocity(x, z, t)) < 5e-6
        assert torch.allclose(b.alphas_cumprod, a.alphas_cumprod, rtol=1e-4)
        assert (
            distance(
                ours(name, {}).add_noise(x, z, torch.tensor([7, 640])),
                a.add_noise(x, z, torch.tensor([7, 640])),
            )
            < 5e-6
        )


def test_noise_between_entries_is_that_of_the_run():
    s = ours("EulerDiscrete", SD)
    s.set_timesteps(7)
    node = s.plan.evaluations[3].node
    x, z = noise(1).double(), noise(2).double()
    assert node.t != round(node.t) and torch.allclose(
        s.add_noise(x, z, s.timesteps[3:4]), node.alpha * x + node.sigma * z, rtol=1e-12
    )


def test_half_precision_states_stay_half():
    s = ours("DPMSolverMultistep", SD)
    s.set_timesteps(5)
    x = noise().half()
    for t in s.timesteps:
        x = s.step(network(x.float(), float(t)).half(), t, x).prev_sample
        assert x.dtype == torch.float16
    assert distance(x.float(), sample(ours("DPMSolverMultistep", SD), 5)[0]) < 2e-2


def test_a_step_answers_with_an_object_or_a_tuple():
    s = ours("UniPCMultistep", SD)
    found = []
    for as_object in (True, False):
        s.set_timesteps(4)
        x = noise()
        for t in s.timesteps:
            made = s.step(network(x, float(t)), t, x, return_dict=as_object)
            assert isinstance(made, tuple) is not as_object or made[0] is made.prev_sample
            x = made.prev_sample if as_object else made[0]
        found.append(x)
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("name", "config"),
    [("DDIM", {"clip_sample": False}), ("DPMSolverMultistep", SD), ("DEISMultistep", SD), FLOW],
)
def test_an_edit_between_steps_means_what_it_means_there(name, config):
    """Without a corrector an edited state is where both go on from."""
    runs = []
    for make in (theirs, ours):
        s = make(name, config)
        s.set_timesteps(6)
        x = noise()
        for k, t in enumerate(s.timesteps):
            x = s.step(network(x, float(t)), t, x, return_dict=False)[0]
            x = 0.8 * x + 0.1 if k == 2 else x
        runs.append(x)
    assert distance(runs[1], runs[0]) < 1e-5


def test_their_corrector_undoes_an_edit_and_ours_keeps_it():
    """UniPC corrects the state from the one before, so theirs loses what was done to it in
    between."""

    def end(scheduler, change):
        scheduler.set_timesteps(6)
        x = noise()
        for k, t in enumerate(scheduler.timesteps):
            output = network(noise(9), float(t))  # a data prediction that does not see the state
            x = scheduler.step(output, t, x, return_dict=False)[0]
            x = x + change if k == 2 else x
        return x

    config = {"prediction_type": "sample", "final_sigmas_type": "sigma_min", **SD}
    moved = [
        float(
            (end(make("UniPCMultistep", config), 1.0) - end(make("UniPCMultistep", config), 0.0))
            .abs()
            .max()
        )
        for make in (theirs, ours)
    ]
    s = ours("UniPCMultistep", config)
    s.set_timesteps(6)
    assert moved[0] < 1e-5 and moved[1] == pytest.approx(
        s.plan.end.sigma / s.plan.evaluations[3].node.sigma, rel=1e-3
    )
