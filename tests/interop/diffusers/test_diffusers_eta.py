"""``eta=`` of a pipeline's call: it reaches DDIM and TCD as in diffusers, where pipelines say 0
unless their user says otherwise."""

from __future__ import annotations

import importlib.util

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, noise, ours, theirs
from diffusers_pipelines import draw

from fewstep.samplers import SamplerError

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore:__array_wrap__:DeprecationWarning",
    # of tokenizers' and sentencepiece's compiled types
    "ignore::DeprecationWarning:importlib._bootstrap",
)
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers"
)
DDIM = ("DDIM", {"clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False, **SD})
TCD = ("TCD", {"steps_offset": 1})


@needs_transformers
@pytest.mark.parametrize("case", [DDIM, TCD], ids=lambda c: c[0])
@pytest.mark.parametrize("given", [{}, {"eta": 0.0}, {"eta": 0.3}, {"eta": 1.0}], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_stable_diffusion_call_draws_what_it_drew(case, given, steps):
    a, calls = draw("sd", theirs(*case), steps, **given)
    b, mine = draw("sd", ours(*case), steps, **given)
    assert mine == calls and float((a - b).abs().max()) < 2e-5


@needs_transformers
def test_it_reaches_a_named_sampler_but_not_over_the_options_of_the_scheduler_nor_another_sampler():
    named, stated = ours(*DDIM, sampler="ddim"), ours(*DDIM, sampler="ddim", eta=1.0)
    stochastic = [draw("sd", s, 3, eta=1.0)[0] for s in (ours(*DDIM), named, stated)]
    assert torch.equal(stochastic[0], stochastic[1]) and torch.equal(stochastic[0], stochastic[2])
    assert torch.equal(draw("sd", stated, 3)[0], stochastic[2])  # the call says 0
    assert not torch.equal(draw("sd", named, 3)[0], stochastic[1])
    other = ours(*DDIM, sampler="dpmpp_2m_sde")
    assert (
        torch.equal(draw("sd", other, 3)[0], draw("sd", other, 3, eta=0.5)[0]) and other.plan.draws
    )


def one(scheduler, **more):
    x = noise()
    return scheduler.step(
        x * 0.5,
        scheduler.timesteps[scheduler.step_index or 0],
        x,
        generator=torch.Generator().manual_seed(0),
        **more,
    )


def test_the_first_step_fixes_it_and_its_range_is_checked():
    scheduler = ours(*DDIM)
    scheduler.set_timesteps(4)
    with pytest.raises(SamplerError, match="eta"):
        one(scheduler, eta=-0.5)
    assert not scheduler.plan.draws
    one(scheduler, eta=0.5)
    assert len(scheduler.plan.draws) == 4
    began = scheduler.plan
    one(scheduler, eta=0.0)
    assert scheduler.plan is began
    scheduler.set_timesteps(4)
    assert not scheduler.plan.draws  # a run of its own


def test_a_run_that_begins_in_the_middle_keeps_it():
    late = ours(*DDIM)
    late.set_timesteps(4)
    late.set_begin_index(2)
    x = noise()
    got = late.step(
        x * 0.5, late.timesteps[2], x, generator=torch.Generator().manual_seed(0), eta=1.0
    ).prev_sample
    reference = theirs(*DDIM)
    reference.set_timesteps(4)
    want = reference.step(
        x * 0.5, reference.timesteps[2], x, eta=1.0, generator=torch.Generator().manual_seed(0)
    ).prev_sample
    assert torch.allclose(got, want, atol=1e-6)


def test_the_eta_that_a_pipeline_gives_anyway_does_not_break_a_graph():
    torch.compiler.reset()
    scheduler = ours(*DDIM)
    scheduler.set_timesteps(3)
    step = torch.compile(scheduler.step, backend="eager", fullgraph=True)
    x = y = noise()
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = step(torch.tanh(x), t, x, eta=0.0, return_dict=False)[0]
        scheduler.set_timesteps(3)
        for t in scheduler.timesteps:
            y = scheduler.step(torch.tanh(y), t, y, eta=0.0, return_dict=False)[0]
    assert torch.allclose(x, y, atol=1e-6)


@pytest.mark.parametrize("begin", [None, 0])
def test_another_eta_leaves_the_graph_for_the_whole_run(begin):
    def drawn(step):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            scheduler.set_timesteps(4)
            if begin is not None:
                scheduler.set_begin_index(begin)
            x = noise()
            for t in scheduler.timesteps:
                x = step(torch.tanh(x), t, x, eta=0.7, return_dict=False)[0]
        return x

    torch.compiler.reset()
    scheduler = ours(*DDIM)
    want = drawn(scheduler.step)
    assert torch.equal(drawn(torch.compile(scheduler.step, backend="eager")), want)
