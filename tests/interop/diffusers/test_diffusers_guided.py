"""``guided``: guidance of fewstep inside a diffusers pipeline, against the pipeline's own guidance and
against loops written by hand; what is refused; what is left behind."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import re
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("diffusers")
if importlib.util.find_spec("transformers") is None:
    pytest.skip("needs transformers", allow_module_level=True)

import diffusers
import diffusers_guided
from diffusers_guided import (
    CASES,
    EQUAL,
    SMALL,
    W,
    difference,
    drawn,
    equal,
    own_guidance,
    pipe_of,
    shape_of_calls,
)
from diffusers_loops import SD, ours
from diffusers_pipelines import EMBEDS, noise, run, stable_diffusion
from diffusers_zoo import consistency

import fewstep
from fewstep import guidance as G
from fewstep.checks import ArgumentError, ArgumentTypeError, ConfigError, UnknownName
from fewstep.interop.diffusers import guided
from fewstep.interop.diffusers.layouts import LAYOUTS
from fewstep.interop.diffusers.recorder import Recorder
from fewstep.interop.diffusers.replay import Guidance
from fewstep.models import GaussianMixture
from fewstep.plans import PlanError
from fewstep.samplers import registry

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap"),
]
FOUR = (
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
)
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in CASES if name not in FOUR]
SD1 = "StableDiffusionPipeline"


def cfg(den: Any) -> Any:
    return G.CFG(den, W)


# against the pipeline's own guidance


@pytest.mark.parametrize("name", [*FOUR, *SLOW])
def test_cfg_is_the_pipelines_own_guidance(name):
    assert equal(name, "dpmpp_2m")
    assert shape_of_calls(name)[0] == LAYOUTS[name].calls


@pytest.mark.slow
def test_the_page_holds_the_table():
    """``python tests/interop/diffusers/diffusers_guided.py`` writes it."""
    assert set(CASES) == set(LAYOUTS)
    assert diffusers_guided.written() == diffusers_guided.table()


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2s", "seeds_2"])
def test_samplers_with_several_calls_a_step(sampler):
    assert equal(SD1, sampler)


@pytest.mark.parametrize("name", FOUR)
def test_by_name_with_the_scale_of_the_call(name):
    pipe = pipe_of(name, "ddim")
    (a, _), (b, _) = own_guidance(name, pipe), own_guidance(name, guided(pipe, "cfg"))
    assert difference(b, a) < EQUAL
    c = drawn(name, guided(pipe, "cfg", scale=W))[0]
    assert torch.equal(b, c)


def test_rescale_is_guidance_rescale():
    pipe = pipe_of(SD1, "dpmpp_2m")
    (a, _) = own_guidance(SD1, pipe, guidance_rescale=0.7)
    (b, _) = drawn(SD1, guided(pipe, "cfg", scale=W, rescale=0.7))
    (plain, _) = own_guidance(SD1, pipe)
    assert difference(b, a) < EQUAL and difference(plain, a) > 1e-3


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("clip", [{"clip_sample": True}, {"thresholding": True}, {}])
def test_predictions_and_clipping(prediction, clip):
    config = {"clip_sample": False, **SD, "prediction_type": prediction, **clip}
    pipe = pipe_of(SD1)
    pipe.scheduler = ours("DDIM", config)  # the pipeline's constructor turns clip_sample off
    assert (pipe.scheduler._settings.clip is not None) is bool(clip)
    (a, _) = own_guidance(SD1, pipe)
    assert difference(drawn(SD1, guided(pipe, cfg))[0], a) < EQUAL


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", [SD1, "FluxPipeline"])
def test_dtypes(name, dtype):
    pipe = pipe_of(name, "dpmpp_2m").to(dtype)
    given = {
        key: value.to(dtype)
        for key, value in CASES[name].arguments.items()
        if isinstance(value, torch.Tensor)
    }
    (a, _), (b, _) = own_guidance(name, pipe, **given), drawn(name, guided(pipe, cfg), **given)
    # theirs mixes in the dtype of the network, ours in float32 at least
    bound = {torch.bfloat16: 0.05, torch.float16: 0.01, torch.float64: 1e-5}[dtype]
    assert b.dtype == a.dtype and difference(b, a) < bound


@pytest.mark.parametrize("name", FOUR)
def test_several_images_of_several_prompts(name):
    # SD3 and Flux do not repeat embeddings that are given
    each = 2 if "unet" in LAYOUTS[name].network else 1
    two = {
        key: torch.cat([value, -value]).repeat_interleave(2 // each, 0)
        for key, value in CASES[name].arguments.items()
        if isinstance(value, torch.Tensor)
    }
    pipe = pipe_of(name, "dpmpp_2m")
    (a, _) = own_guidance(name, pipe, **two, num_images_per_prompt=each)
    (b, _) = drawn(name, guided(pipe, cfg), **two, num_images_per_prompt=each)
    assert len(a) == 4 and difference(b, a) < EQUAL and difference(a[:2], a[2:]) > 1e-3
    # each sample with a scale of its own
    scales = [1.0, 2.0, 3.5, W]
    made = guided(pipe, lambda den: G.CFG(den, torch.tensor(scales)))
    (c, _) = drawn(name, made, **two, num_images_per_prompt=each)
    assert difference(c[3:], a[3:]) < EQUAL and difference(c[2:3], a[2:3]) > 1e-5
    with pytest.raises(ArgumentError, match="scale has 4 values for 1 samples"):
        drawn(name, made)


def test_the_second_value_of_a_step_is_guided():
    """``pred_original_sample``, under no_grad (worked out later) and in inference mode (at once)."""
    found: dict[bool, list[torch.Tensor]] = {}
    for ours_too in (False, True):
        pipe = pipe_of(SD1, "ddim")
        own, step = found.setdefault(ours_too, []), pipe.scheduler.step

        def seen(*args: Any, own: Any = own, step: Any = step, **more: Any) -> Any:
            made = step(*args, **{**more, "return_dict": True})
            own.append(made.pred_original_sample)
            return (made.prev_sample,)

        pipe.scheduler.step = seen
        with torch.inference_mode():
            drawn(SD1, guided(pipe, cfg)) if ours_too else own_guidance(SD1, pipe)
    assert len(found[True]) == 3
    for a, b in zip(found[False], found[True], strict=True):
        assert difference(b, a) < EQUAL


# against a loop written by hand


def loop(
    mix: Any,
    steps: int = 4,
    state: dict[str, torch.Tensor] | None = None,
    bound: float = float("inf"),
) -> torch.Tensor:
    """DDIM (eta = 0) on the small Stable Diffusion: ``mix(uncond, cond, rho)`` is the guided eps, or
    two, of the data and of the noise, whose x0 are clipped at ``bound``; ``state["x"]`` is the
    state that it belongs to."""
    pipe = pipe_of(SD1, "ddim")
    pipe.scheduler.set_timesteps(steps)
    bars = pipe.scheduler.alphas_cumprod.double()
    times = pipe.scheduler.timesteps.tolist()
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    embeds = torch.cat([EMBEDS["negative_prompt_embeds"], EMBEDS["prompt_embeds"]])
    for t, after in zip(times, [*times[1:], None], strict=True):
        a, b = bars[t], torch.tensor(1.0).double() if after is None else bars[after]
        with torch.no_grad():
            answer = pipe.unet(
                torch.cat([x, x]).float(), torch.tensor(t), encoder_hidden_states=embeds
            ).sample
        u, c = answer.double().chunk(2)
        if state is not None:
            state["x"] = x
        made = mix(u, c, float(((1 - a) / a).sqrt()))
        eps, renoised = made if isinstance(made, tuple) else (made, made)
        data, renoised = (
            ((x - (1 - a).sqrt() * each) / a.sqrt()).clamp(-bound, bound)
            for each in (eps, renoised)
        )
        renoised = (x - a.sqrt() * renoised) / (1 - a).sqrt()
        x = b.sqrt() * data + (1 - b).sqrt() * renoised
    return x


def in_pipeline(method: Any, steps: int = 4, sampler: str = "ddim") -> torch.Tensor:
    """The same in the pipeline, from the same noise."""
    pipe = guided(stable_diffusion(ours("DDIM", DDIM, sampler=sampler)), method)
    made = pipe.__call__  # the class's own name and signature
    assert made.__name__ == "__call__" and type(pipe).__name__ == SD1
    return run(pipe, steps, output="latent", **CASES[SD1].arguments)[0]


DDIM = {"clip_sample": False, "set_alpha_to_one": True, **SD}


def test_an_interval_is_that_of_a_hand_written_loop():
    low, high = 0.5, 8.0

    def mix(u: torch.Tensor, c: torch.Tensor, rho: float) -> torch.Tensor:
        return u + (W if low < rho <= high else 1.0) * (c - u)

    made = in_pipeline(lambda den: G.CFG(den, W, interval=(low, high)))
    assert difference(made, loop(mix)) < EQUAL
    assert difference(made, loop(lambda u, c, rho: u + W * (c - u))) > 1e-4


@pytest.fixture
def planted(monkeypatch: Any) -> str:
    """A sampler that reads two channels, as those of the CFG++ family do."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    @registry.register("planted_pp", order=1, source="a test", channels=("main", "uncond"))
    def planted_pp(b: Any, grid: Any, options: registry.NoOptions) -> Any:
        """The data of the guided prediction, the noise of the unconditional one."""
        x = b.start(grid[0])
        for s, t in grid.pairs():
            data, eps = b.evaluate_kinds(x, s, (("x0", "main"), ("eps", "uncond")))
            x = b.at(t, t.alpha * data + t.sigma * eps)
        return b.finish(x)

    return "planted_pp"


@pytest.mark.parametrize("w", [0.6, 1.0])
def test_a_sampler_that_reads_channels(planted, w):
    """CFG++ (Chung et al. 2024, arXiv 2406.08070, algorithm 2) by hand."""
    made = in_pipeline(lambda den: G.CFG(den, w), sampler=planted)
    assert difference(made, loop(lambda u, c, rho: (u + w * (c - u), u))) < EQUAL
    pipe = pipe_of(SD1)
    pipe.scheduler = ours("DDIM", {**DDIM, "clip_sample": True, "steps_offset": 1}, sampler=planted)
    b = run(guided(pipe, "cfg", scale=w), 4, output="latent", **CASES[SD1].arguments)[0]
    assert float(made.abs().max()) > 1.0
    assert difference(b, loop(lambda u, c, rho: (u + w * (c - u), u), bound=1.0)) < EQUAL


def test_a_sampler_that_reads_channels_is_refused_without(planted):
    pipe = stable_diffusion(ours("DDIM", DDIM, sampler=planted))
    with pytest.raises(ConfigError, match=r"'planted_pp' reads the channel uncond.*guided\(pipe"):
        own_guidance(SD1, pipe)
    without = guided(pipe, lambda den: G.Contrast(den, den, 2.0, ref_cond=None))
    with pytest.raises(PlanError, match=r"planted_pp.*'uncond'.*model, ref"):
        drawn(SD1, without)
    drawn(SD1, guided(pipe, cfg))


@pytest.mark.parametrize("sampler", [n for n in registry.names() if registry.get(n).guided])
def test_every_sampler_that_reads_channels(sampler):
    """Refused by name in a pipeline, and run in a guided one."""
    with pytest.raises(ConfigError, match=rf"'{sampler}' reads the channel.*guided\(pipe"):
        own_guidance(SD1, stable_diffusion(ours("DDIM", DDIM, sampler=sampler)))
    made = in_pipeline(lambda den: G.CFG(den, 0.6), sampler=sampler)
    assert bool(torch.isfinite(made).all())
    if sampler == "euler_cfg_pp":
        assert difference(made, loop(lambda u, c, rho: (u + 0.6 * (c - u), u))) < EQUAL


def test_one_step_from_noise_alone_is_refused_too():
    """The plan of one step from alpha = 0 reads one prediction; its sampler reads two."""
    scheduler = ours("FlowMatchEulerDiscrete", {}, sampler="dpmpp_2m_cfg_pp")
    with pytest.raises(ConfigError, match="'dpmpp_2m_cfg_pp' reads the channel uncond"):
        scheduler.set_timesteps(1)


def test_apg_is_that_of_a_hand_written_loop():
    """Algorithm 1 of the paper, on x0, with the momentum kept from step to step."""
    w, eta, norm, momentum = 5.0, 0.2, 2.5, -0.5
    state: dict[str, torch.Tensor] = {}

    def mix(u: torch.Tensor, c: torch.Tensor, rho: float) -> torch.Tensor:
        # x0 = x / alpha - rho eps, so that a change of x0 by d is one of eps by -d / rho
        x = state["x"]
        data = [x * (1.0 + rho**2) ** 0.5 - rho * eps for eps in (u, c)]
        d = data[1] - data[0] + momentum * state.get("d", torch.zeros_like(u))
        state["d"] = d
        d = d * min(1.0, norm / float(d.norm()))
        part = float((d * data[1]).sum() / (data[1] * data[1]).sum()) * data[1]
        return c - (w - 1.0) * (d - part + eta * part) / rho

    made = in_pipeline(lambda den: G.APG(den, w, eta=eta, norm=norm, momentum=momentum))
    assert difference(made, loop(mix, state=state)) < EQUAL
    named = guided(
        stable_diffusion(ours("DDIM", DDIM, sampler="ddim")), "apg", scale=w, eta=eta, norm=norm,
        momentum=momentum,
    )  # fmt: skip
    assert torch.equal(run(named, 4, output="latent", **CASES[SD1].arguments)[0], made)


@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun"])
def test_methods_run_in_every_pipeline(name, sampler):
    """Each reduces to CFG, which is known to be right, where its options say so, and else differs;
    a second run of a method that keeps values is the first."""
    pipe = pipe_of(name, sampler)
    plain = drawn(name, guided(pipe, cfg))[0]
    flow = {} if name in FOUR[2:] else {"zero_steps": 0}
    same = {
        "apg": lambda den: G.APG(den, W, eta=1.0),
        "fdg": lambda den: G.FDG(den, [W]),
        "mambo": lambda den: G.MAMBO(den, W, alpha=0.0),
        "compose": lambda den: G.Compose(den, [None], [W]),
    }
    other = {
        "apg": lambda den: G.APG(den, W, norm=2.5, momentum=-0.5),
        "cfg_zero": lambda den: G.CFGZero(den, W, **flow),
        "fdg": lambda den: G.FDG(den, [W, 1.0]),
        "mambo": lambda den: G.MAMBO(den, W),
        "tcfg": lambda den: G.TCFG(den, W),
        "classifier": lambda den: G.Classifier(
            G.CFG(den, W), lambda x, t, cond: -((x - 1.0) ** 2).flatten(1).sum(1), 3.0,
            conditional=True, interval=(0.0, 5.0),
        ),
    }  # fmt: skip
    if name == "FluxPipeline":
        del same["fdg"], other["fdg"]
    for key, method in same.items():
        # on x0 in float32, where rho is up to 157
        assert difference(drawn(name, guided(pipe, method))[0], plain) < 1e-4, key
    for key, method in other.items():
        made = guided(pipe, method)
        a, b = drawn(name, made)[0], drawn(name, made)[0]
        assert torch.equal(a, b) and difference(a, plain) > 3e-4, key


def test_a_denoiser_of_the_users_own():
    """An object with the members of the Denoiser protocol that asks the one it wraps twice."""

    class Halves:
        def __init__(self, den: Any) -> None:
            self.den, self.schedule, self.shape = den, den.schedule, den.shape
            self.prediction = den.prediction

        def raws(self, x_in: Any, t: Any, cond: Any = None) -> Any:
            uncond = self.den.null_cond(cond, x_in.shape[0])
            (c,), (u,) = self.den.raws(x_in, t, cond), self.den.raws(x_in, t, uncond)
            return ((c + u) / 2,)

        def coefficients(self, t: float) -> Any:
            return self.den.coefficients(t)

        def input_scale(self, t: float) -> float:
            return 1.0

        def __call__(self, x: Any, t: Any, cond: Any = None) -> Any:
            raise NotImplementedError

    assert difference(in_pipeline(Halves), loop(lambda u, c, rho: (u + c) / 2)) < EQUAL
    assert difference(
        in_pipeline(lambda den: G.Contrast(den, den, 3.0, ref_cond=None)),
        loop(lambda u, c, rho: u + 3.0 * (c - u)),
    ) < EQUAL  # fmt: skip


# what is left behind


def clean(pipe: Any, network: Any = None) -> bool:
    network = network or pipe.unet
    return not network._forward_hooks and pipe.scheduler._guidance is None


def test_nothing_is_left_behind():
    plain = pipe_of(SD1, "dpmpp_2m")
    own = own_guidance(SD1, plain)[0]
    pipe = guided(plain, lambda den: G.CFG(den, 2.0))
    a, b = drawn(SD1, pipe)[0], drawn(SD1, pipe)[0]
    assert torch.equal(a, b) and clean(pipe) and pipe.scheduler.nfe == 3
    assert pipe.scheduler.plan.nfe == 3 and pipe.unet is plain.unet
    # the pipeline that was given, and one that guidance was taken from, do what they did
    back = guided(pipe, None)
    assert type(back) is type(plain)
    assert torch.equal(own_guidance(SD1, plain)[0], own)
    assert torch.equal(own_guidance(SD1, back)[0], own)
    assert "Guided" not in type(pipe).__name__ and isinstance(pipe, type(plain))
    other = diffusers.StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    assert other.unet is pipe.unet and type(other) is diffusers.StableDiffusionImg2ImgPipeline
    # guided twice is guided by the second method
    assert difference(drawn(SD1, guided(pipe, cfg))[0], own) < EQUAL


def test_an_exception_and_an_interruption():
    pipe = guided(pipe_of(SD1, "dpmpp_2m"), cfg)
    whole = drawn(SD1, pipe)[0]

    def fail(pipe: Any, i: int, t: Any, values: Any) -> Any:
        raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError, match="of the caller"):
        drawn(SD1, pipe, callback_on_step_end=fail)
    assert clean(pipe) and torch.equal(drawn(SD1, pipe)[0], whole)

    def stop(pipe: Any, i: int, t: Any, values: Any) -> Any:
        pipe._interrupt = i == 1
        return values

    drawn(SD1, pipe, callback_on_step_end=stop)
    assert clean(pipe) and torch.equal(drawn(SD1, pipe)[0], whole)
    hook = pipe.unet.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drawn(SD1, pipe)
    hook.remove()
    assert clean(pipe) and torch.equal(drawn(SD1, pipe)[0], whole)


def test_a_callback_that_changes_the_latents():
    def damp(pipe: Any, i: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        return {"latents": 0.9 * values["latents"]} if i == 1 else {}

    pipe = pipe_of(SD1, "unipc")
    a, b = (
        own_guidance(SD1, pipe, callback_on_step_end=damp)[0],
        drawn(SD1, guided(pipe, cfg), callback_on_step_end=damp)[0],
    )
    assert difference(b, a) < EQUAL


def test_copies_and_pickles(tmp_path):
    pipe = guided(pipe_of(SD1, "dpmpp_2m"), "cfg", scale=W)
    a = drawn(SD1, pipe)[0]
    for scheduler in (
        copy.deepcopy(pipe.scheduler),
        pickle.loads(pickle.dumps(pipe.scheduler)),
    ):
        assert scheduler.nfe == 3 and scheduler._guidance is None
        assert torch.equal(own_guidance(SD1, stable_diffusion(scheduler))[0],
                           own_guidance(SD1, pipe_of(SD1, "dpmpp_2m"))[0])  # fmt: skip
    for other in (copy.deepcopy(pipe), pickle.loads(pickle.dumps(pipe))):
        assert other.unet is not pipe.unet and difference(drawn(SD1, other)[0], a) < 1e-6
    assert torch.equal(drawn(SD1, copy.copy(pipe))[0], a)
    copies = []

    def keep(pipe: Any, i: int, t: Any, values: Any) -> Any:
        copies.append(copy.deepcopy(pipe.scheduler))
        return values

    drawn(SD1, pipe, callback_on_step_end=keep)
    assert len(copies) == 3 and all(each._guidance is None for each in copies)


def test_a_saved_pipeline_is_loaded_without_guidance(tmp_path):
    from diffusers_texts import sd_text

    pipe = sd_text()
    pipe.scheduler = fewstep.FewstepScheduler.from_config(pipe.scheduler.config, sampler="ddim")
    guided(pipe, cfg).save_pretrained(tmp_path)
    again = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(again) is type(pipe) and again.scheduler.config["sampler"] == "ddim"
    words = {"prompt": "a cat", **SMALL}
    a = run(again, 2, output="latent", guidance_scale=W, **words)[0]
    assert difference(run(guided(again, cfg), 2, output="latent", **words)[0], a) < EQUAL


def test_compiled_networks():
    pipe = guided(pipe_of(SD1, "ddim"), cfg)
    a = drawn(SD1, pipe)[0]
    plain = pipe.unet
    pipe.unet = torch.compile(plain, backend="eager")
    assert difference(drawn(SD1, pipe)[0], a) < 1e-6 and clean(pipe, plain) and clean(pipe)
    plain.compile(backend="eager", fullgraph=True)
    own = plain._compiled_call_impl
    pipe.unet = plain
    for _ in range(2):
        assert difference(drawn(SD1, pipe)[0], a) < 1e-6
        assert clean(pipe) and plain._compiled_call_impl is own
    # a compiled step runs outside of the graph
    pipe.scheduler.step = torch.compile(pipe.scheduler.step, backend="eager")
    assert difference(drawn(SD1, pipe)[0], a) < 1e-6
    torch._dynamo.reset()


class Calls(TorchDispatchMode):
    """The operations that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


METHODS = {
    "cfg": cfg,
    "rescale": lambda den: G.CFG(den, W, interval=(0.5, 8.0), rescale=0.5),
}


def stepped(scheduler: Any, method: Any, device: str) -> torch.Tensor:
    """A run of the scheduler with outputs that are recorded by hand."""
    recorder = Recorder(LAYOUTS[SD1])
    scheduler._guidance = Guidance(method, recorder)
    scheduler.set_timesteps(4, device=device)
    x, outputs = noise(2, 4, 8, 8).to(device), noise(4, 4, 8, 8, seed=8).to(device)
    for t in scheduler.timesteps:
        recorder.note((outputs + 0.1 * torch.cat([x, x]),))
        x = scheduler.step(x, t, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_read_back(method):
    scheduler = ours("DDIM", DDIM, sampler="dpmpp_2m")
    with Calls() as calls:
        stepped(scheduler, METHODS[method], "cpu")
    assert len(calls.names) > 20
    assert not [name for name in calls.names if "local_scalar" in name or "item" in name]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_no_device_is_waited_for(method):
    scheduler = ours("DDIM", DDIM, sampler="dpmpp_2m")
    want = stepped(scheduler, METHODS[method], "cuda")  # tables are copied there once
    recorder = Recorder(LAYOUTS[SD1])
    scheduler._guidance = Guidance(METHODS[method], recorder)
    scheduler.set_timesteps(4, device="cuda")
    x, outputs = noise(2, 4, 8, 8).cuda(), noise(4, 4, 8, 8, seed=8).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for t in scheduler.timesteps:
            recorder.note((outputs + 0.1 * torch.cat([x, x]),))
            x = scheduler.step(x, t, x, return_dict=False)[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(x, want)


# what is refused


def refused(pipe: Any, message: str, name: str = SD1, **more: Any) -> None:
    """Before the first network call."""
    calls: list[int] = []
    hook = getattr(pipe, LAYOUTS[name].network).register_forward_pre_hook(
        lambda *_: calls.append(1)
    )
    with pytest.raises(ArgumentError, match=message):
        drawn(name, pipe, **more)
    hook.remove()
    assert not calls and pipe.scheduler._guidance is None


def test_arguments_of_a_call_that_would_have_no_effect():
    pipe = guided(pipe_of(SD1, "ddim"), cfg)
    refused(pipe, "guidance_scale=1.0 in a guided pipeline: the method has its own", guidance_scale=1.0)  # fmt: skip
    refused(pipe, "guidance_rescale=0.7 .* pass rescale= to the method", guidance_rescale=0.7)
    assert torch.equal(drawn(SD1, pipe, guidance_rescale=0.0)[0], drawn(SD1, pipe)[0])
    three = guided(pipe_of("StableDiffusion3Pipeline", "ddim"), cfg)
    refused(three, r"skip_guidance_layers=\[0\]", "StableDiffusion3Pipeline", skip_guidance_layers=[0])  # fmt: skip
    flux = guided(pipe_of("FluxPipeline", "ddim"), cfg)
    without = {"negative_prompt_embeds": None, "negative_pooled_prompt_embeds": None}
    refused(
        flux, "needs an unconditional prompt: pass negative_prompt= or negative_prompt_embeds=",
        "FluxPipeline", **without,
    )  # fmt: skip
    refused(flux, "true_cfg_scale=4.0 in a guided", "FluxPipeline", true_cfg_scale=4.0)
    by_name = guided(pipe_of("FluxPipeline", "ddim"), "cfg")
    refused(by_name, "no scale: pass true_cfg_scale=", "FluxPipeline")


def test_a_pipeline_without_an_unconditional_prediction():
    """A network with an embedded scale, and a scale that a callback turns off in the middle."""
    name = "LatentConsistencyModelPipeline"
    with pytest.raises(ConfigError, match=f"{name} cannot be guided.*StableDiffusionPipeline"):
        guided(consistency(name)(ours("DDIM", DDIM)), cfg)
    pipe = guided(consistency(SD1)(ours("DDIM", DDIM)), cfg)
    with pytest.raises(ArgumentError, match="1 rows for 1 samples.*no unconditional prediction"):
        drawn(SD1, pipe)
    assert clean(pipe)

    def turn_off(pipe: Any, i: int, t: Any, values: Any) -> Any:
        pipe._guidance_scale = 0.0
        return {"prompt_embeds": values["prompt_embeds"].chunk(2)[1]}

    pipe = guided(pipe_of(SD1, "ddim"), cfg)
    with pytest.raises(ArgumentError, match="no unconditional prediction.*pass interval="):
        drawn(
            SD1, pipe, callback_on_step_end=turn_off,
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        )  # fmt: skip
    assert clean(pipe)


def test_other_schedulers_and_networks():
    pipe = stable_diffusion(diffusers.DDIMScheduler(**DDIM))
    words = r"a DDIMScheduler.*pipe.scheduler = FewstepScheduler.from_config\(pipe.scheduler.config"
    with pytest.raises(ConfigError, match=words):
        guided(pipe, cfg)
    made = guided(pipe_of(SD1, "ddim"), cfg)
    made.scheduler = diffusers.DDIMScheduler(**DDIM)
    with pytest.raises(ConfigError, match=words):
        drawn(SD1, made)
    made.scheduler = ours("DDIM", DDIM, sampler="unipc")
    a = own_guidance(SD1, guided(made, None))[0]
    assert difference(drawn(SD1, made)[0], a) < EQUAL

    class Plain:
        """A network that is no module."""

        config, dtype = made.unet.config, torch.float32

        def __call__(self, *args: Any, **more: Any) -> Any:
            raise AssertionError

    made.__dict__["unet"] = Plain()
    with pytest.raises(ArgumentTypeError, match=r"pipe.unet is a Plain: it must be a torch.nn"):
        made(num_inference_steps=2, **CASES[SD1].arguments)


WRONG = [
    (("cgf",), {}, UnknownName, "'cgf'.*cfg"),
    (("cfg",), {"rescaled": 0.5}, ArgumentError, "rescaled.*rescale"),
    (("cfg",), {"scale": float("nan")}, ArgumentError, "scale=nan"),
    (("cfg",), {"scale": 2.0, "interval": (3.0, 1.0)}, ArgumentError, "interval="),
    ((cfg,), {"scale": 2.0}, ArgumentError, "scale=2.0 belongs to a method that is given by name"),
    ((None,), {"rescale": 0.5}, ArgumentError, "rescale=0.5 belongs"),
    ((5.0,), {}, ArgumentTypeError, "guidance=5.0: must be a name, or a function"),
    ((G.CFG,), {}, ArgumentTypeError, "cannot be called with a denoiser alone.*lambda den"),
    ((lambda den: None,), {}, ArgumentTypeError, "returned None: it must return a guided"),
    (
        (lambda den: G.CFG(den, 2.0, uncond=torch.zeros(1)),), {}, ArgumentError,
        "CFG has a condition of its own for its branch 'uncond'.*negative_prompt=.*models.load",
    ),
    (
        (lambda den: G.Compose(den, [torch.zeros(1), None], [1.0, 1.0]),), {}, ArgumentError,
        "Compose has a condition of its own for its branch 'cond_1'",
    ),
    (
        (lambda den: G.Contrast(den, other_network(den.schedule), 2.0),), {}, ArgumentError,
        "asks another network, .*models.load",
    ),
    (
        (lambda den: G.Contrast(den, G.Perturbed(den, object), 2.0),), {}, ArgumentError,
        r"asks Perturbed\(...\), a further call of the network",
    ),
    ((lambda den: G.TSG(den, 2.0, 0.1),), {}, ArgumentError, r"asks Retimed\(...\), a further"),
    ((lambda den: G.ICG(den, 2.0, std=1.0),), {}, ArgumentError, "ICG has a condition of its own"),
    (
        (lambda den: G.Threshold(G.CFG(den, 2.0)),), {}, ArgumentError,
        "this model predicts latents",
    ),
    (("apg",), {"momentum": 1.0}, ArgumentError, "momentum=1.0"),
    (("cfg_zero",), {}, ArgumentError, "zero_steps=1 on DiscreteVP.*pass zero_steps=0"),
]  # fmt: skip


def other_network(schedule: Any) -> Any:
    return GaussianMixture([[0.0]], 1.0, [1.0], schedule)


@pytest.mark.parametrize(("method", "options", "kind", "message"), WRONG)
def test_methods_that_cannot_be_served(method, options, kind, message):
    pipe = pipe_of(SD1, "ddim")
    with pytest.raises(kind, match=message):
        guided(pipe, *method, **options)
    with pytest.raises(ArgumentTypeError, match="must be a diffusers pipeline"):
        guided(pipe.unet, cfg)
    with pytest.raises(ArgumentTypeError, match="must be a name, or a function"):
        guided(pipe, G.CFG(other_network(fewstep.schedules.VPLinear()), 2.0))


def test_methods_that_do_not_fit_the_run_are_refused_before_the_network_is_called():
    embeds = EMBEDS["prompt_embeds"]

    def priced(den: Any) -> Any:
        return G.BlackScholes(den, [embeds, -embeds], lambda x0, i: 50.0 + x0.flatten(1).mean(1))

    refused(guided(pipe_of(SD1, "ddim"), priced), "BlackScholes, which has its conditions")
    three = "StableDiffusion3Pipeline"
    late = guided(pipe_of(three, "ddim"), "cfg_zero", scale=W, zero_steps=3)
    refused(late, "zero_steps=3 of a run.*nothing would move", three)
    with pytest.raises(ArgumentError, match="FDG works on two spatial axes"):
        guided(pipe_of("FluxPipeline", "ddim"), lambda den: G.FDG(den, [2.0, 1.0]))


def test_a_method_that_asks_for_other_inputs():
    class Moved(G.CFG):
        """Asks the network next to the state."""

        def raws(self, x_in: Any, *args: Any, **more: Any) -> Any:
            return super().raws(x_in + 0.1, *args, **more)

    class Later(G.CFG):
        def raws(self, x_in: Any, t: Any, *args: Any, **more: Any) -> Any:
            return super().raws(x_in, t - 1.0, *args, **more)

    class Deaf(G.CFG):
        def raws(self, x_in: Any, *args: Any, **more: Any) -> Any:
            return x_in, x_in

    for kind, message in (
        (Moved, "another input"),
        (Later, "input or time"),
        (Deaf, "did not ask"),
    ):
        pipe = guided(pipe_of(SD1, "ddim"), lambda den, kind=kind: kind(den, W))
        with pytest.raises(ArgumentError, match=message):
            drawn(SD1, pipe)


def test_rows_that_are_none_of_the_layouts():
    recorder, x = Recorder(LAYOUTS[SD1]), torch.zeros(2, 4, 8, 8)
    with pytest.raises(ArgumentError, match="no output of the network was recorded"):
        recorder.take(x)
    for rows in ([6], [4, 2], [2, 2]):
        for n in rows:
            recorder.note((torch.zeros(n, 4, 8, 8),))
        called = ", ".join(map(str, rows))
        words = f"called with {called} rows for 2 samples, and guidance needs one call of 4"
        with pytest.raises(ArgumentError, match=re.escape(words)):
            recorder.take(x)
        assert not recorder.outputs
    recorder.note(torch.zeros(4, 3, 8, 8))
    with pytest.raises(ArgumentError, match=r"shape \(2, 3, 8, 8\) a branch, the sample"):
        recorder.take(x)
    two = Recorder(LAYOUTS["FluxPipeline"])
    c, u = noise(2, 4, 8), noise(2, 4, 8, seed=7)
    for each in (c, u):
        two.note((each,))
    found = two.take(c)
    assert found["cond"] is c and found["uncond"] is u
