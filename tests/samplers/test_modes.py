"""Every sampler under ``no_grad``, ``inference_mode`` and a compiled step, with and without a
callback: the bits of a plain run."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

import fewstep
from fewstep.eval.certificates.problem import Unguided
from fewstep.models import MeanReverted, wrap
from fewstep.plans.running.tensor_versions import edited, version
from fewstep.samplers import names
from fewstep.schedules import PFGMPP, Flow, MeanReverting, VPLinear

MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
ADAPTIVE = ("adaptive_sde", "dpm_adaptive", "ode45", "ode853")
LAW = ([[0.8], [-0.4]], [0.3, 0.5], [0.5, 0.5])


def model(sampler: str) -> Any:
    """A network that the sampler takes."""
    if sampler.startswith("mr_"):
        path, mu = MeanReverting(0.6, VPLinear()), torch.zeros(1)
        return MeanReverted(wrap(lambda x, t: 0.2 * torch.tanh(x), path, "eps", shape=(1,)), mu)
    if sampler.startswith(("flow", "interpolant", "rectified")):
        return Unguided(*LAW, Flow(), prediction="velocity")
    return Unguided(*LAW, PFGMPP(128, 1) if sampler == "pfgmpp" else VPLinear())


def draw(sampler: str, callback: Any = None) -> torch.Tensor:
    given = {} if sampler in ADAPTIVE else {"steps": 3}
    return fewstep.sample(model(sampler), sampler, n=3, seed=1, callback=callback, **given)


def in_place(step: Any) -> None:
    step.x_next.mul_(0.99)


CALLBACKS = {
    "none": None,
    "looks": lambda step: None,
    "returns": lambda step: 0.99 * step.x_next,
    "in_place": in_place,
}


@pytest.mark.parametrize(
    "sampler",
    [pytest.param(n, marks=pytest.mark.slow) if n == "adaptive_sde" else n for n in names()],
)
def test_every_sampler_in_every_mode(sampler):
    plain = {name: draw(sampler, callback) for name, callback in CALLBACKS.items()}
    assert torch.equal(plain["none"], plain["looks"]) and not torch.equal(
        plain["none"], plain["in_place"]
    )
    with torch.no_grad():
        assert torch.equal(draw(sampler, in_place), plain["in_place"])
    with torch.inference_mode():
        for name, callback in CALLBACKS.items():
            assert torch.equal(draw(sampler, callback), plain[name]), name


def test_writes_to_a_tensor():
    x = torch.zeros(2)
    before = version(x)
    assert not edited(x, before)
    x.add_(1.0)
    assert edited(x, before)
    with torch.inference_mode():
        y = torch.zeros(2)
        before, kept = version(y), y.clone()
        assert before == -1 and edited(y, before) and not edited(y, before, kept)
        y.add_(1.0)
        assert edited(y, before, kept)


# the steps of a pipeline's scheduler


def scheduler(sampler: str) -> Any:
    pytest.importorskip("diffusers")
    from diffusers_loops import SD, ours

    flow = sampler.startswith(("flow", "interpolant"))
    path: tuple[str, dict[str, Any]] = (
        ("FlowMatchEulerDiscrete", {"shift": 3.0})
        if flow
        else ("DDIM", {"clip_sample": False, **SD})
    )
    try:
        s = ours(*path, sampler=sampler, noise_seed=0)
        s.set_timesteps(5)
    except ValueError:
        pytest.skip("not in a pipeline of these paths")
    return s


def loop(s: Any, edit: bool) -> torch.Tensor:
    from diffusers_loops import network, noise

    s.set_timesteps(5)
    x = noise()
    for k, t in enumerate(s.timesteps):
        x = s.step(network(x, float(t)), t, x, return_dict=False)[0]
        if edit and k + 1 < len(s.timesteps):
            x.mul_(0.95)
    return x


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("sampler", names("plan"))
def test_steps_of_a_scheduler_in_every_mode(sampler):
    s = scheduler(sampler)
    for edit in (False, True):
        want = loop(s, edit)
        for mode in MODES.values():
            with mode():
                assert torch.equal(loop(s, edit), want)
            inner: AbstractContextManager[Any] = mode()
            s.set_timesteps(5)
            with inner:
                assert torch.equal(loop(s, edit), want)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
    "ignore:__array_wrap__:DeprecationWarning",
)
@pytest.mark.parametrize(
    "sampler", ["ddim", "unipc", "heun", "euler_ancestral", "dpmpp_2m_sde", "dpmpp_2s"]
)
@pytest.mark.parametrize("mode", MODES)
def test_compiled_steps_in_every_mode(sampler, mode):
    pytest.importorskip("diffusers")
    from diffusers_loops import SD, distance, network, noise, ours

    torch._dynamo.reset()
    s = ours("DDIM", {"clip_sample": False, **SD}, sampler=sampler)
    compiled, found = torch.compile(s.step, backend="eager", fullgraph=True), []
    for step in (s.step, compiled):
        for edit in (False, True):
            with MODES[mode]():
                torch.manual_seed(0)
                s.set_timesteps(5)
                x = noise()
                for k, t in enumerate(s.timesteps):
                    x = step(network(x, float(t)), t, x, return_dict=False)[0]
                    if edit and k + 1 < len(s.timesteps):
                        x.mul_(0.95)
            found.append(x)
    assert distance(found[2], found[0]) < 1e-5 and distance(found[3], found[1]) < 1e-5
    torch._dynamo.reset()


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers")
@pytest.mark.filterwarnings(
    "ignore:__array_wrap__:DeprecationWarning", "ignore::DeprecationWarning:importlib._bootstrap"
)
@pytest.mark.parametrize("kind", ["ddpm", "stable_diffusion", "sd3"])
def test_pipelines_in_inference_mode(kind):
    pytest.importorskip("diffusers")
    import diffusers_pipelines as pipelines
    from diffusers_loops import ours

    path = (
        ("FlowMatchEulerDiscrete", {"shift": 3.0})
        if kind == "sd3"
        else ("DDIM", {"clip_sample": False, "steps_offset": 1})
    )
    s = ours(*path, sampler="unipc")
    pipe = getattr(pipelines, kind)(s)
    calls: dict[str, Any] = (
        {}
        if kind == "ddpm"
        else {"output": "latent", "guidance_scale": 0.0, "height": 16, "width": 16}
    )
    if kind != "ddpm":
        calls |= {"prompt_embeds": pipelines.EMBEDS["prompt_embeds"]}
        calls |= (
            {"pooled_prompt_embeds": pipelines.POOLED_SD3["pooled_prompt_embeds"]}
            if kind == "sd3"
            else {}
        )
    want, _ = pipelines.run(pipe, 4, **calls)
    with torch.inference_mode():
        got, _ = pipelines.run(pipe, 4, **calls)
    assert torch.equal(got, want)
