"""Small pipelines with random weights, saved and loaded as Denoisers: ``fewstep.sample`` gives what
the pipeline's own loop gives."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("diffusers")

import diffusers
from diffusers_loops import SD
from diffusers_pipelines import (
    Counted,
    ddpm,
    dit,
    flux,
    noise,
    pixart,
    sd3,
    sdxl,
    seeded,
    stable_diffusion,
)

import fewstep
from fewstep.cli import main
from fewstep.models import ModelError, Wrapper, complete, load
from fewstep.models.denoiser import ShapeError
from fewstep.models.diffusers.folders import Pretrained, assemble
from fewstep.models.diffusers.networks import NETWORKS, ConditionError
from fewstep.schedules import EDM, DiscreteVP, Flow
from fewstep.schedules.diffusers.config import read

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore:__array_wrap__:DeprecationWarning",
    # of tokenizers' and sentencepiece's compiled types
    "ignore::DeprecationWarning:importlib._bootstrap",
)
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers"
)
PLAIN = {"clip_sample": False, "timestep_spacing": "trailing"}
TEXT = {"encoder_hidden_states": noise(2, 4, 16)}
POOLED = {
    "text_embeds": noise(2, 8),
    "time_ids": torch.tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]] * 2),
}
JOINT = {"encoder_hidden_states": noise(2, 4, 16), "pooled_projections": noise(2, 8, seed=6)}
WORDS = {"encoder_hidden_states": noise(2, 4, 32), "pooled_projections": noise(2, 32, seed=6)}
CAPTION = {**TEXT, "encoder_attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])}


def ddim(**config: Any) -> Any:
    return diffusers.DDIMScheduler(**{**PLAIN, **config})


def euler_flow(**config: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**config)


def saved(pipe: Any, folder: Path) -> Path:
    pipe.save_pretrained(folder)
    return folder


def told(den: Any) -> list[float]:
    """The times that the network is told from now on."""
    seen: list[float] = []

    def watch(module: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        t = options.get("timestep", args[1] if len(args) > 1 else None)
        assert t.shape == (2,) and float(t[0]) == float(t[1])
        seen.append(float(t[0]))

    den.network.network.register_forward_pre_hook(watch, with_kwargs=True)
    return seen


def own_loop(
    scheduler: Any, network: Any, x: torch.Tensor, steps: int, **given: Any
) -> torch.Tensor:
    """diffusers' scheduler over ``network(x, t)``."""
    scheduler.set_timesteps(steps, **given)
    x = x * float(getattr(scheduler, "init_noise_sigma", 1.0))
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        with torch.no_grad():
            x = scheduler.step(network(x_in, t), t, x, return_dict=False)[0]
    return x


def close(a: torch.Tensor, b: torch.Tensor, bound: float = 3e-6) -> bool:
    """Float32 rounding of a few steps."""
    return float((a - b).abs().max() / b.abs().max()) < bound


# tables of betas: DDIM


CASES: dict[str, tuple[Any, dict[str, torch.Tensor], int, dict[str, Any]]] = {
    "UNet2DModel": (ddpm, {}, 3, {}),
    "DiTTransformer2DModel": (dit, {"class_labels": torch.tensor([3, 7])}, 4, {}),
    "UNet2DConditionModel": (
        stable_diffusion,
        TEXT,
        4,
        {"steps_offset": 1, "set_alpha_to_one": False},
    ),
    "UNet2DConditionModel-xl": (sdxl, {**TEXT, **POOLED}, 4, {"beta_schedule": "scaled_linear"}),
    "PixArtTransformer2DModel": (pixart, CAPTION, 4, {}),
}
HEAVY = ("UNet2DConditionModel", "UNet2DConditionModel-xl", "PixArtTransformer2DModel")


def answers(net: Any, cond: dict[str, torch.Tensor], channels: int) -> Any:
    """``network(x, t)`` as the pipeline calls it."""
    names = ("text_embeds", "time_ids")
    added = {k: v for k, v in cond.items() if k in names}
    more = {k: v for k, v in cond.items() if k not in names}
    if added:
        more["added_cond_kwargs"] = added
    if type(net).__name__.startswith("PixArt"):
        more["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
    return lambda x, t: net(x, timestep=t.expand(x.shape[0]), return_dict=False, **more)[0][
        :, :channels
    ]


@pytest.mark.parametrize(
    ("case", "prediction"),
    [
        *(
            pytest.param(c, "epsilon", marks=[needs_transformers] if c in HEAVY else [])
            for c in CASES
        ),
        ("UNet2DModel", "v_prediction"),
        ("DiTTransformer2DModel", "sample"),
    ],
)
def test_ddim_on_a_loaded_folder_is_diffusers_ddim(case, prediction, tmp_path):
    make, cond, channels, config = CASES[case]
    scheduler = ddim(prediction_type=prediction, **config)
    pipe = make(scheduler)
    den = load(saved(pipe, tmp_path))
    assert (
        isinstance(den, Pretrained)
        and den.shape == (channels, 8, 8)
        and isinstance(den.schedule, DiscreteVP)
    )
    x, steps, seen = noise(2, channels, 8, 8), 5, told(den)
    net = pipe.transformer if hasattr(pipe, "transformer") else pipe.unet
    want = own_loop(scheduler, answers(net, cond, channels), x, steps)
    # the first entry of the table, or no noise at all
    end = 0.0 if config.get("set_alpha_to_one") is False else -1.0
    times = [*(float(t) for t in scheduler.timesteps), end]
    made, info = fewstep.sample(den, "ddim", times=times, x=x, cond=cond or None, info=True)
    assert (
        close(made, want)
        and seen == times[:-1]
        and info.nfe == len(seen) == steps
        and info.time_mismatch == 0.0
    )
    assert torch.equal(
        fewstep.sample(den, "ddim", grid=den.grid(steps), x=x, cond=cond or None), made
    )
    off = fewstep.sample(den, "unipc", times=[700.5, 300.25, 0.0], x=x, cond=cond or None)
    # the exact time of its state, between the table's entries too
    assert seen[-2:] == [700.5, 300.25] and torch.isfinite(off).all()


@needs_transformers
def test_a_pipelines_latents():
    """Through the pipeline itself, with its own call of the network. (5 divides 1000: else their
    DDIM takes another previous step.)"""
    scheduler = ddim()
    pipe = stable_diffusion(scheduler)
    den = assemble(
        NETWORKS["UNet2DConditionModel"](pipe.unet),
        read({**scheduler.config, "_class_name": "DDIMScheduler"}),
        {},
    )
    x, counted = noise(1, 4, 8, 8), Counted(pipe)
    pipe.set_progress_bar_config(disable=True)
    text = {"prompt_embeds": noise(1, 4, 16), "guidance_scale": 1.0}
    want = pipe(
        **text, latents=x, num_inference_steps=5, output_type="latent", height=16, width=16
    ).images
    made = fewstep.sample(
        den, "ddim", grid=den.grid(5), x=x, cond={"encoder_hidden_states": noise(1, 4, 16)}
    )
    assert counted.calls == 10 and close(made, want)


def test_the_null_class_is_no_condition(tmp_path):
    pipe = dit(ddim())
    den = load(saved(pipe, tmp_path))
    x, t = noise(2, 4, 8, 8), 500.0
    null = torch.full((2,), 1000)
    assert torch.equal(den(x, t), den(x, t, null)) and torch.equal(
        den(x, t, null), den(x, t, {"class_labels": null})
    )
    assert not torch.equal(den(x, t), den(x, t, torch.tensor([1, 2])))
    assert den.classes == fewstep.models.loading.classes_of(den) == 1000


GRIDS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("EulerDiscrete", {"timestep_spacing": "leading", "steps_offset": 1}, "euler", {}),
    ("EulerDiscrete", {"use_karras_sigmas": True}, "euler", {}),
    # whole times there
    ("DPMSolverMultistep", {"use_karras_sigmas": True}, "dpmpp_2m", {"correction": "midpoint"}),
    (
        "UniPCMultistep",
        {"timestep_spacing": "trailing", "final_sigmas_type": "sigma_min"},
        "unipc",
        {"order": 2},
    ),
]


@pytest.mark.parametrize(("name", "config", "sampler", "options"), GRIDS)
def test_the_grid_is_the_one_that_diffusers_lays_out(name, config, sampler, options):
    pipe = ddpm(getattr(diffusers, f"{name}Scheduler")(**SD, **config))
    whole = {"round_timesteps": sampler != "euler"}
    meant = {**SD, **config, **whole, "_class_name": f"{name}Scheduler"}
    den = assemble(NETWORKS["UNet2DModel"](pipe.unet), read(meant), meant)
    x, grid = noise(2, 3, 8, 8), den.grid(6)
    want = own_loop(pipe.scheduler, answers(pipe.unet, {}, 3), x, 6)
    begun = (
        x * grid[0].sigma
        if name == "EulerDiscrete" and config.get("timestep_spacing") != "leading"
        else x
    )
    made = fewstep.sample(den, sampler, grid=grid, x=begun, **options)
    assert close(made, want, 1e-5)
    assert (
        fewstep.sample(den, sampler, grid=grid, x=begun, info=True, **options)[1].time_mismatch
        <= 0.5
    )


# flows


@needs_transformers
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_stable_diffusion_3_is_euler_on_its_flow(shift, tmp_path):
    pipe = sd3(euler_flow(shift=shift))
    den = load(saved(pipe, tmp_path))
    assert den.schedule == Flow(shift) and den.shape == (4, 8, 8) and den.prediction == "velocity"
    x, steps, seen, counted = noise(2, 4, 8, 8), 5, told(den), Counted(pipe)
    pipe.set_progress_bar_config(disable=True)
    texts = {
        "prompt_embeds": JOINT["encoder_hidden_states"],
        "pooled_prompt_embeds": JOINT["pooled_projections"],
    }
    size = {
        "height": 16,
        "width": 16,
        "output_type": "latent",
        "num_inference_steps": steps,
        "guidance_scale": 1.0,
    }
    want = pipe(**texts, **size, latents=x).images
    for sampler in ("flow_euler", "ddim"):  # the same step on a flow
        assert close(fewstep.sample(den, sampler, grid=den.grid(steps), x=x, cond=JOINT), want)
    exact = [1000.0 * t for t in den.grid(steps).times[:-1]]
    assert (
        seen[:steps] == pytest.approx(exact, rel=1e-7)
        and len(seen) == 2 * counted.calls == 2 * steps
    )
    assert [float(t) for t in pipe.scheduler.timesteps] == pytest.approx(exact, rel=1e-6)


@needs_transformers
def test_flux_packs_places_and_shifts_by_size(tmp_path):
    pipe = flux(euler_flow(use_dynamic_shifting=True))
    folder = saved(pipe, tmp_path)
    den = load(folder, size=8)
    assert (
        den.shape == (1, 8, 8) and den.schedule == Flow.dynamic(16) and load(folder).shape is None
    )
    assert load(folder).schedule == Flow.dynamic(4096)
    x, steps, seen = noise(2, 1, 8, 8), 5, told(den)
    packed = pipe._pack_latents(x, 2, 1, 8, 8)
    pipe.set_progress_bar_config(disable=True)
    texts = {
        "prompt_embeds": WORDS["encoder_hidden_states"],
        "pooled_prompt_embeds": WORDS["pooled_projections"],
    }
    size = {"height": 16, "width": 16, "output_type": "latent", "num_inference_steps": steps}
    want = pipe._unpack_latents(
        pipe(**texts, **size, latents=packed).images, 16, 16, pipe.vae_scale_factor
    )
    made = fewstep.sample(den, "flow_euler", grid=den.grid(steps), x=x, cond=WORDS)
    assert close(made, want) and seen == pytest.approx(list(den.grid(steps).times[:-1]), rel=1e-7)
    with pytest.raises(ShapeError, match="both even"):
        den(noise(2, 1, 7, 8), 0.5, WORDS)


@needs_transformers
def test_a_guidance_distilled_flux_needs_its_guidance():
    pipe = flux(euler_flow())
    net = seeded(
        diffusers.FluxTransformer2DModel, **{**pipe.transformer.config, "guidance_embeds": True}
    )
    den = assemble(
        NETWORKS["FluxTransformer2DModel"](net),
        read({"_class_name": "FlowMatchEulerDiscreteScheduler"}),
        {},
    )
    with pytest.raises(
        ConditionError,
        match=r"cond lacks guidance.*encoder_hidden_states, pooled_projections, guidance",
    ):
        den(noise(2, 1, 8, 8), 0.5, WORDS)
    weak, strong = (
        den(noise(2, 1, 8, 8), 0.5, {**WORDS, "guidance": torch.full((2,), g)}) for g in (1.0, 3.5)
    )
    assert not torch.equal(weak, strong)


# EDM


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_networks_are_preconditioned(prediction, tmp_path):
    scheduler = diffusers.EDMEulerScheduler(
        prediction_type=prediction, sigma_data=0.7, sigma_max=20.0
    )
    pipe = ddpm(scheduler)
    pipe.unet.save_pretrained(tmp_path)
    scheduler.save_pretrained(tmp_path)
    den = load(tmp_path)
    assert (
        den.schedule == EDM(0.002, 20.0)
        and den.prediction == "x0"
        and den.grid(6).times[0] == pytest.approx(20.0)
    )
    x = noise(2, 3, 8, 8)
    want = own_loop(scheduler, answers(pipe.unet, {}, 3), x, 6)
    made = fewstep.sample(den, "euler", grid=den.grid(6), x=x * float(scheduler.init_noise_sigma))
    assert close(made, want, 1e-5)


# what a folder says of its data


def told_of_data(den: Any) -> tuple[float | None, bool, bool]:
    return den.sigma_data, den.latent, den.guided


def relisted(folder: Path, **entries: Any) -> Any:
    """The folder with other entries in its list of parts, loaded."""
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, **entries}))
    return load(folder)


def test_a_folder_of_pixels_has_no_sigma_data_and_an_autoencoder_makes_latents(tmp_path):
    folder = saved(ddpm(ddim()), tmp_path)
    assert told_of_data(load(folder)) == (None, False, False)
    latents = (1.0, True, False)
    for key, kind in (
        ("vqvae", "Any"),
        ("movq", "Any"),
        ("vae", "Any"),
        ("decoder", "AutoencoderTiny"),
        ("decoder", "AsymmetricAutoencoderKL"),
        ("vqgan", "PaellaVQModel"),
    ):
        assert told_of_data(relisted(folder, **{key: ["diffusers", kind]})) == latents
        # absent
        assert told_of_data(relisted(folder, **{key: [None, None]})) == (None, False, False)
    plain = {"decoder": ["diffusers", "UNet2DModel"], "_note": "vae", "requires_vae": True}
    assert told_of_data(relisted(folder, **plain)) == (None, False, False)
    # the network's folder alone is that of the same pipeline
    relisted(folder, vqvae=["diffusers", "VQModel"])
    assert told_of_data(load(folder / "unet")) == latents
    (folder / "model_index.json").unlink()
    assert told_of_data(load(folder / "unet")) == (None, False, False)


def test_the_networks_of_latents(tmp_path):
    assert {name for name, adapter in NETWORKS.items() if adapter.latent} == {
        "DiTTransformer2DModel",
        "PixArtTransformer2DModel",
        "SD3Transformer2DModel",
        "FluxTransformer2DModel",
    }
    pipe, scheduler = dit(ddim()), ddim()
    pipe.transformer.save_pretrained(tmp_path)  # without a list of parts
    scheduler.save_pretrained(tmp_path)
    assert told_of_data(load(tmp_path)) == (1.0, True, False)


@needs_transformers
def test_a_text_unet_is_one_of_latents_if_its_pipeline_has_an_autoencoder(tmp_path):
    pipe, scheduler = stable_diffusion(ddim()), ddim()
    assert told_of_data(load(saved(pipe, tmp_path / "pipeline"))) == (1.0, True, False)
    pipe.unet.save_pretrained(tmp_path / "alone")
    scheduler.save_pretrained(tmp_path / "alone")
    assert told_of_data(load(tmp_path / "alone")) == (None, False, False)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_preconditioned_folder_has_the_sigma_data_of_its_scheduler(prediction, tmp_path):
    scheduler = diffusers.EDMEulerScheduler(prediction_type=prediction, sigma_data=0.7)
    folder = saved(ddpm(scheduler), tmp_path)
    assert told_of_data(load(folder)) == (0.7, False, False)
    assert told_of_data(relisted(folder, vae=["diffusers", "AutoencoderKL"])) == (0.7, True, False)


# conditions


@needs_transformers
def test_conditions_are_checked_before_the_network_is_called():
    pipe = sdxl(ddim())
    den = assemble(
        NETWORKS["UNet2DConditionModel"](pipe.unet), read({"_class_name": "DDIMScheduler"}), {}
    )
    x, counted = noise(2, 4, 8, 8), Counted(pipe)
    for cond, message in (
        (None, "cond=None, but UNet2DConditionModel requires"),
        (TEXT, "cond lacks text_embeds, time_ids"),
        ({**TEXT, **POOLED, "text_embed": noise(2, 8)}, "did you mean 'text_embeds'"),
        (noise(2, 4, 16), "give a mapping"),
    ):
        with pytest.raises(ConditionError, match=message):
            fewstep.sample(den, "ddim", steps=2, x=x, cond=cond)
    with pytest.raises(ShapeError, match="its first dimension must be the batch size 2"):
        den(x, 5.0, {**TEXT, **POOLED, "text_embeds": noise(1, 8)})
    assert counted.calls == 0
    den.check_cond({**TEXT, **POOLED}, 2)


def test_networks_without_and_with_labels():
    pipe = ddpm(ddim())
    free = assemble(NETWORKS["UNet2DModel"](pipe.unet), read({"_class_name": "DDIMScheduler"}), {})
    with pytest.raises(ConditionError, match="takes no condition"):
        free(noise(2, 3, 8, 8), 5.0, {"class_labels": torch.tensor([0, 1])})
    assert free.classes == 0
    net = seeded(diffusers.UNet2DModel, **{**pipe.unet.config, "num_class_embeds": 5})
    labelled = assemble(NETWORKS["UNet2DModel"](net), read({"_class_name": "DDIMScheduler"}), {})
    with pytest.raises(ConditionError, match="cond=None.*class_labels"):
        labelled(noise(2, 3, 8, 8), 5.0)
    assert labelled.classes == 5 and labelled(
        noise(2, 3, 8, 8), 5.0, torch.tensor([0, 4])
    ).shape == (2, 3, 8, 8)


def test_dtypes(tmp_path):
    folder = saved(ddpm(ddim()), tmp_path)
    wide, narrow = load(folder), load(folder, dtype=torch.bfloat16, device="cpu")
    assert narrow.network.network.dtype == torch.bfloat16
    x = noise(2, 3, 8, 8)
    a, b, c = wide(x, 500.0), narrow(x, 500.0), wide(x.double(), 500.0)
    assert a.dtype == b.dtype == torch.float32 and c.dtype == torch.float64
    assert float((a - b).abs().max()) < 0.05 * float(a.abs().max()) and torch.allclose(
        a.double(), c, atol=1e-6
    )


# what cannot be loaded


def test_damaged_and_foreign_folders(tmp_path):
    folder = saved(ddpm(ddim()), tmp_path / "pipe")
    weights, config = (
        folder / "unet" / "diffusion_pytorch_model.safetensors",
        folder / "unet" / "config.json",
    )
    good, text = weights.read_bytes(), config.read_text()
    weights.write_bytes(good[:-50])
    with pytest.raises(ModelError, match="cannot be read"):
        load(folder)
    weights.unlink()
    half = folder / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    half.write_bytes(good)
    with pytest.raises(ModelError, match="give variant='fp16'"):
        load(folder)
    assert load(folder, variant="fp16").shape == (3, 8, 8)
    half.unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(
        ModelError, match=r"diffusion_pytorch_model.bin is pickled and never opened"
    ):
        load(folder)
    save_file({"conv_in.bias": torch.zeros(8)}, weights)
    with pytest.raises(ModelError, match=r"do not fit UNet2DModel: .* is missing"):
        load(folder)
    weights.write_bytes(good)
    config.write_text(json.dumps({**json.loads(text), "time_embedding_type": "fourier"}))
    with pytest.raises(ModelError):
        load(folder)
    config.write_text(text)
    (folder / "model_index.json").write_text(
        json.dumps({"prior": ["diffusers", "PriorTransformer"]})
    )
    with pytest.raises(ModelError, match="has prior; it must have"):
        load(folder)
    with pytest.raises(ModelError, match="size=8"):
        load("mnist", size=8)


@needs_transformers
def test_an_inpainting_network_is_no_denoiser():
    pipe = stable_diffusion(ddim())
    net = seeded(diffusers.UNet2DConditionModel, **{**pipe.unet.config, "in_channels": 9})
    with pytest.raises(ModelError, match="9 channels in and 4 out"):
        NETWORKS["UNet2DConditionModel"](net)


def test_schedulers_with_a_table_that_are_not_known_are_read_as_ddpm(tmp_path):
    folder = saved(ddpm(ddim()), tmp_path / "pipe")
    diffusers.DDIMParallelScheduler(beta_end=0.01).save_pretrained(folder / "scheduler")
    assert load(folder).schedule == fewstep.schedules.from_config(
        {"_class_name": "DDPMScheduler", "beta_end": 0.01}
    )
    diffusers.CogVideoXDDIMScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(ModelError, match="snr_shift_scale"):
        load(folder)


# the command line


def test_generate_from_a_folder(tmp_path, capsys):
    folder = saved(ddpm(ddim()), tmp_path / "pipe")
    arguments = [
        "generate",
        "--model",
        str(folder),
        "--seeds",
        "0-2",
        "--batch",
        "2",
        "--steps",
        "3",
        "--device",
        "cpu",
    ]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    assert len(list((tmp_path / "a" / "samples").glob("*.png"))) == 3
    folder = saved(dit(ddim()), tmp_path / "dit")
    arguments[2] = str(folder)
    assert main([*arguments, "--out", str(tmp_path / "b"), "--labels", "7"]) == 0
    assert len(list((tmp_path / "b" / "samples").glob("*.npz"))) == 2
    capsys.readouterr()


@needs_transformers
def test_generate_needs_the_size_of_flux(tmp_path, capsys):
    folder = saved(flux(euler_flow(use_dynamic_shifting=True)), tmp_path / "pipe")
    save_file({k: v[:1].clone() for k, v in WORDS.items()}, tmp_path / "words.safetensors")
    arguments = [
        "generate",
        "--model",
        str(folder),
        "--seeds",
        "0-1",
        "--steps",
        "2",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "a"),
    ]
    arguments += ["--cond", str(tmp_path / "words.safetensors"), "--format", "npz"]
    assert main(arguments) == 3 and "size" in capsys.readouterr().err
    assert (
        main([*arguments, "--size", "8 by 8"]) == 3 and "size='8 by 8'" in capsys.readouterr().err
    )
    assert main([*arguments, "--size", "4x8"]) == 0
    made = np.load(next((tmp_path / "a" / "samples").glob("*.npz")))
    assert made["image"].shape == (2, 4, 8, 1)
    capsys.readouterr()


@needs_transformers
def test_generate_with_conditions_from_a_file(tmp_path, capsys):
    """One row for all, or one a sample; what the network lacks is said before it is called and
    before the folder is taken."""
    folder = saved(stable_diffusion(ddim()), tmp_path / "sd")
    rows = noise(3, 4, 16)
    save_file({"encoder_hidden_states": rows}, tmp_path / "each.safetensors")
    save_file({"encoder_hidden_states": rows[1:2].clone()}, tmp_path / "all.safetensors")
    save_file({"encoder_states": rows}, tmp_path / "wrong.safetensors")
    save_file({"encoder_hidden_states": rows[:2].clone()}, tmp_path / "short.safetensors")
    arguments = [
        "generate",
        "--model",
        str(folder),
        "--seeds",
        "0-2",
        "--batch",
        "2",
        "--steps",
        "3",
        "--device",
        "cpu",
        "--out",
    ]

    def draw(name: str) -> list[torch.Tensor]:
        out = tmp_path / name
        assert main([*arguments, str(out), "--cond", str(tmp_path / f"{name}.safetensors")]) == 0
        return [torch.from_numpy(np.load(file)["x"]) for file in sorted(out.glob("samples/*.npz"))]

    (a, b), (c, d) = draw("each"), draw("all")
    assert torch.equal(a[1], c[1]) and not torch.equal(a[0], c[0]) and not torch.equal(b, d)
    want = fewstep.sample(
        load(folder), steps=3, seeds=(2,), cond={"encoder_hidden_states": rows[2:]}
    )
    assert close(b, want)
    capsys.readouterr()
    for more, message in (
        ([], "cond=None, but UNet2DConditionModel requires"),
        (["--cond", str(tmp_path / "wrong.safetensors")], "did you mean 'encoder_hidden_states'"),
        (["--cond", str(tmp_path / "short.safetensors")], "its rows are 1, or 3"),
        (["--cond", str(tmp_path / "none.safetensors")], "no readable safetensors file"),
    ):
        assert main([*arguments, str(tmp_path / "refused"), *more]) == 3
        assert message in capsys.readouterr().err and not (tmp_path / "refused").exists()


# --- the contract


class Identity(Wrapper):
    """Changes nothing."""


class Delegating:
    """A user's class that hands everything on."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __call__(self, x: torch.Tensor, t: Any, cond: Any = None) -> Any:
        return self.inner(x, t, cond)


@pytest.mark.parametrize("make", [ddpm, dit])
@pytest.mark.parametrize(
    ("sampler", "options"),
    [("heun", {"steps": 3}), ("dpmpp_2m_sde", {"steps": 3}), ("picard", {"steps": 3})],
)
def test_an_identity_wrapper_around_a_folder_changes_no_bit(
    make: Any, sampler: str, options: dict[str, Any], tmp_path: Path
) -> None:
    den = load(saved(make(ddim()), tmp_path))
    cond = torch.tensor([3, 7]) if make is dit else None
    want, facts = fewstep.sample(den, sampler, seeds=(1, 2), cond=cond, info=True, **options)
    for wrapper in (Identity, Delegating):
        made = wrapper(den)
        found, same = fewstep.sample(made, sampler, seeds=(1, 2), cond=cond, info=True, **options)
        assert torch.equal(found, want) and same.time_mismatch == facts.time_mismatch
        assert made.classes == den.classes and made.device == den.device
        assert told_of_data(complete(made)) == told_of_data(den) and den.latent == (make is dit)
        if make is ddpm:
            with pytest.raises(ConditionError):
                complete(made).check_cond(torch.tensor([1, 2]), 2)
