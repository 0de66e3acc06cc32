"""Guidance of the denoiser of a diffusers folder: ``models.load``, ``guidance.CFG``,
``fewstep.sample``; the conditions join in one call, and the result is the pipeline's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers
from diffusers_guided import EQUAL, W, difference
from diffusers_pipelines import dit, noise, seeded
from diffusers_texts import TEXTS

import fewstep
from fewstep import FewstepScheduler
from fewstep import guidance as G
from fewstep.checks import ArgumentError

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap"),
]
CAT, DOGS, NOT = "a cat", "two dogs", "a blue bird"


def conditions(name: str, pipe: Any, words: str) -> dict[str, torch.Tensor]:
    """The prompt as the network's conditions."""
    if name == "sd":
        return {"encoder_hidden_states": pipe.encode_prompt(words, "cpu", 1, False)[0]}
    if name == "flux":
        text, pooled, _ = pipe.encode_prompt(words, None)
        return {"encoder_hidden_states": text, "pooled_projections": pooled}
    more = (words, words) if name == "sd3" else ()
    text, _, pooled, _ = pipe.encode_prompt(words, *more, do_classifier_free_guidance=False)
    if name == "sd3":
        return {"encoder_hidden_states": text, "pooled_projections": pooled}
    sizes = torch.tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]])
    return {"encoder_hidden_states": text, "text_embeds": pooled, "time_ids": sizes}


def counted(den: Any) -> list[int]:
    """The rows of the network's calls, from now on."""
    rows: list[int] = []

    def count(module: Any, args: Any, named: Any) -> None:
        rows.append((args[0] if args else named["hidden_states"]).shape[0])

    den.network.network.register_forward_pre_hook(count, with_kwargs=True)
    return rows


@pytest.fixture(scope="module", params=list(TEXTS))
def loaded(request: Any, tmp_path_factory: Any) -> tuple[str, Any, Any]:
    """A pipeline and the denoiser of its folder."""
    pipe, path = TEXTS[request.param](), tmp_path_factory.mktemp(request.param)
    pipe.save_pretrained(path)
    pipe.set_progress_bar_config(disable=True)
    return request.param, pipe, fewstep.models.load(path, size=8)


def test_cfg_of_a_folder_is_that_of_the_pipeline(loaded):
    name, pipe, den = loaded
    prompts = [conditions(name, pipe, words) for words in (CAT, DOGS)]
    cond = {key: torch.cat([each[key] for each in prompts]) for key in prompts[0]}
    x = torch.randn(2, *den.shape, generator=torch.Generator().manual_seed(3))
    rows = counted(den)
    for uncond in (conditions(name, pipe, NOT), None):  # batch 1 or B
        given = uncond or {
            key: torch.cat([value, value]) for key, value in conditions(name, pipe, NOT).items()
        }
        made, info = fewstep.sample(
            G.CFG(den, W, uncond=given), "dpmpp_2m", grid=den.grid(3), x=x, cond=cond, info=True
        )
        assert rows == [4] * 3 and info.rows == 12 and info.nfe == 3
        rows.clear()
    pipe.scheduler = FewstepScheduler.from_config(pipe.scheduler.config, sampler="dpmpp_2m")
    begun, scale = x, {"guidance_scale": W}
    if name == "flux":
        begun, scale = pipe._pack_latents(x, *x.shape), {"true_cfg_scale": W}
    if name in ("sd", "sdxl"):  # which multiply latents that are given
        pipe.scheduler.set_timesteps(3)
        begun = x / float(pipe.scheduler.init_noise_sigma)
    want = pipe(
        [CAT, DOGS], negative_prompt=[NOT] * 2, latents=begun, num_inference_steps=3,
        height=16, width=16, output_type="latent", **scale,
    ).images  # fmt: skip
    if name == "flux":
        want = pipe._unpack_latents(want, 16, 16, pipe.vae_scale_factor)
    assert difference(made, want) < EQUAL


@torch.no_grad()
def test_conditions_of_other_lengths_are_two_calls(loaded):
    name, pipe, den = loaded
    cond = conditions(name, pipe, CAT)
    short = {**cond, "encoder_hidden_states": cond["encoder_hidden_states"][:, :3]}
    x, rows = torch.randn(1, *den.shape, generator=torch.Generator().manual_seed(3)), counted(den)
    t = 0.5 * float(den.schedule.t_max)
    made = G.CFG(den, W, uncond=short)(x, t, cond)
    assert rows == [1, 1]
    u, c = den(x, t, short), den(x, t, cond)
    assert difference(made, u + W * (c - u)) < EQUAL


def test_without_a_negative_prompt_the_network_is_not_called(loaded):
    name, pipe, den = loaded
    cond, rows = conditions(name, pipe, CAT), counted(den)
    with pytest.raises(ArgumentError, match="takes no cond=None.*encoder_hidden_states.*uncond="):
        fewstep.sample(G.CFG(den, W), "ddim", grid=den.grid(2), n=1, cond=cond)
    lacking = {"encoder_hidden_states": cond["encoder_hidden_states"]}
    if len(cond) > 1:
        with pytest.raises(ArgumentError, match="cond lacks"):
            fewstep.sample(G.CFG(den, W, uncond=lacking), "ddim", grid=den.grid(2), n=1, cond=cond)
    assert not rows


def saved(pipe: Any, path: Path) -> Any:
    pipe.save_pretrained(path)
    return fewstep.models.load(path)


def test_labels_of_a_dit_have_their_null_class(tmp_path):
    """One call of 2 B rows with label 1000 in the first B; the learned variance is cut off."""
    config = diffusers.DDIMScheduler(clip_sample=False)
    den = saved(dit(config), tmp_path)
    x, labels = torch.randn(2, *den.shape, generator=torch.Generator().manual_seed(3)), [3, 7]
    rows, cond = counted(den), torch.tensor(labels)
    made, info = fewstep.sample(G.CFG(den, W), "ddim", grid=den.grid(3), x=x, cond=cond, info=True)
    assert rows == [4] * 3 and info.rows == 12
    for name in ("class_labels", "label"):
        again = fewstep.sample(G.CFG(den, W), "ddim", grid=den.grid(3), x=x, cond={name: cond})
        assert torch.equal(again, made)
    scheduler = FewstepScheduler.from_config(config, sampler="ddim")
    scheduler.set_timesteps(3)
    both = torch.tensor([1000, 1000, *labels])
    for t in scheduler.timesteps:
        with torch.no_grad():
            answer = den.network.network(
                torch.cat([x, x]), timestep=t.expand(4), class_labels=both
            ).sample[:, :4]
        u, c = answer.chunk(2)
        x = scheduler.step(u + W * (c - u), t, x).prev_sample
    assert difference(made, x) < EQUAL


def test_a_network_of_labels_without_a_null_class(tmp_path):
    """It was trained on labels only: the unconditional label has to be given."""
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    net = seeded(
        diffusers.UNet2DModel, sample_size=8, block_out_channels=(8, 8), layers_per_block=1,
        norm_num_groups=4, num_class_embeds=5, **blocks,
    )  # fmt: skip
    net.save_pretrained(tmp_path / "unet")
    diffusers.DDIMScheduler(clip_sample=False).save_pretrained(tmp_path / "scheduler")
    den = fewstep.models.load(tmp_path / "unet")
    x, cond = noise(2, 3, 8, 8), torch.tensor([0, 3])
    rows = counted(den)
    with pytest.raises(ArgumentError, match="takes no cond=None.*class_labels.*uncond="):
        fewstep.sample(G.CFG(den, W), "ddim", grid=den.grid(2), x=x, cond=cond)
    assert not rows
    with torch.no_grad():
        made = G.CFG(den, W, uncond=torch.tensor([4]))(x, 500.0, cond)
        assert rows == [4]
        u, c = den(x, 500.0, torch.tensor([4, 4])), den(x, 500.0, cond)
    assert difference(made, u + W * (c - u)) < EQUAL
