"""Video pipelines, small and with random weights: every kind of sampler runs, counts its calls, and
repeats its bits.

Wan is a flow with five-dimensional latents. TextToVideoSD hands the scheduler a new tensor at every
step, its frames as a batch.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

import diffusers
from diffusers_loops import SD
from diffusers_pipelines import Counted, noise, seeded, vae

from fewstep import FewstepScheduler
from fewstep.interop.diffusers.config import ConfigError

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("transformers") is None, reason="needs transformers"
    ),
    pytest.mark.filterwarnings(
        "ignore::FutureWarning:diffusers",
        "ignore:__array_wrap__:DeprecationWarning",
        # of tokenizers' and sentencepiece's compiled types
        "ignore::DeprecationWarning:importlib._bootstrap",
    ),
]
#: one step rule, history, several calls a step, noise, a corrector
SAMPLERS = (
    "flow_euler",
    "unipc",
    "dpmpp_2m",
    "heun",
    "euler_ancestral",
    "dpmpp_2m_sde",
    "deis",
    "sa_solver",
    "flow_rk4",
)
WAN = {
    "_class_name": "UniPCMultistepScheduler",
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
}


@cache
def wan() -> Counted:
    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 1,
    }
    kinds = {"text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "rope_max_seq_len": 32}
    net = seeded(diffusers.WanTransformer3DModel, **sizes, **kinds)
    coder = seeded(
        diffusers.AutoencoderKLWan, base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1
    )
    return quiet(
        diffusers.WanPipeline(
            tokenizer=None, text_encoder=None, vae=coder, transformer=net, scheduler=None
        )
    )


def quiet(pipe: Any) -> Counted:
    pipe.set_progress_bar_config(disable=True)
    return Counted(pipe)


def drawn(
    counted: Counted, scheduler: Any, seed: int, **arguments: Any
) -> tuple[torch.Tensor, int]:
    """Latents, and the number of network calls."""
    counted.pipe.scheduler, before = scheduler, counted.calls
    made = counted.pipe(
        output_type="latent", generator=torch.Generator().manual_seed(seed), **arguments
    ).frames
    return made, counted.calls - before


def film(scheduler: Any, steps: int, seed: int = 0) -> tuple[torch.Tensor, int]:
    """Latents (1, 16, 3, 2, 4) of nine frames and the number of network calls."""
    text = {
        "prompt_embeds": noise(1, 4, 16),
        "negative_prompt_embeds": noise(1, 4, 16, seed=6),
        "guidance_scale": 1.0,
    }
    size = {"height": 16, "width": 32, "num_frames": 9, "num_inference_steps": steps}
    return drawn(wan(), scheduler, seed, **text, **size)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_kind_of_sampler_draws_a_film(sampler):
    scheduler = FewstepScheduler.from_config(WAN, sampler=sampler, noise_seed=0)
    a, calls = film(scheduler, 6)
    again, _ = film(scheduler, 6)
    other, _ = film(scheduler, 6, seed=1)
    assert (
        a.shape == (1, 16, 3, 2, 4)
        and torch.isfinite(a).all()
        and calls == scheduler.nfe == len(scheduler.timesteps)
    )
    assert torch.equal(a, again) and not torch.equal(a, other)


@pytest.mark.parametrize("steps", [1, 20])
def test_a_film_by_its_own_scheduler_is_what_it_was(steps):
    """(Their UniPC on a flow differs by its truncated times and its first sigma:
    tests/interop/diffusers/test_diffusers_equality.py.)"""
    theirs, calls = film(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), steps)
    ours, mine = film(
        FewstepScheduler.from_config(
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
        ),
        steps,
    )
    assert mine == calls == steps and float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


@cache
def moving() -> Counted:
    blocks = {
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    }
    sizes = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
    }
    net = seeded(
        diffusers.UNet3DConditionModel, sample_size=8, attention_head_dim=4, **sizes, **blocks
    )
    begun = diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)
    return quiet(
        diffusers.TextToVideoSDPipeline(
            vae=vae(), text_encoder=None, tokenizer=None, unet=net, scheduler=begun
        )
    )


def clip(scheduler: Any, steps: int, seed: int = 0) -> tuple[torch.Tensor, int]:
    """Latents (1, 4, 3, 8, 8) of three frames and the number of network calls."""
    text = {"prompt_embeds": noise(1, 4, 16), "negative_prompt_embeds": noise(1, 4, 16, seed=6)}
    return drawn(
        moving(),
        scheduler,
        seed,
        **text,
        height=16,
        width=16,
        num_frames=3,
        num_inference_steps=steps,
    )


@pytest.mark.parametrize("name", ["DDIM", "DPMSolverMultistep", "UniPCMultistep"])
def test_frames_as_a_batch_and_a_new_tensor_every_step(name):
    """An equal tensor in place of the one that was given is no edit, with a corrector too."""
    config = {"clip_sample": False, **SD} if name == "DDIM" else SD
    theirs, calls = clip(getattr(diffusers, f"{name}Scheduler")(**config), 5)
    scheduler = FewstepScheduler.from_config({"_class_name": f"{name}Scheduler", **config})
    ours, mine = clip(scheduler, 5)
    assert ours.shape == (1, 4, 3, 8, 8) and mine == calls == scheduler.nfe
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


def test_samplers_that_leave_the_flow_are_refused_in_words():
    with pytest.raises(ConfigError, match="as it goes"):
        FewstepScheduler.from_config(WAN, sampler="ode45")
