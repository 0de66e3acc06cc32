"""The example scripts on small pipelines with text encoders: SD, SDXL, SD3, Flux; and the same
folder as a Denoiser."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from repository import ROOT
from safetensors.torch import load_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from diffusers_texts import TEXTS
from PIL import Image

import fewstep

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore:__array_wrap__:DeprecationWarning",
    # of tokenizers' and sentencepiece's compiled types
    "ignore::DeprecationWarning:importlib._bootstrap",
)
EXAMPLES = ROOT / "docs" / "examples"


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=list(TEXTS))
def folder(request, tmp_path_factory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp(request.param) / "pipe"
    TEXTS[request.param]().save_pretrained(path)
    return request.param, path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_text_to_image(folder, tmp_path, capsys):
    _, path = folder
    draw = script("text_to_image").main

    def picture(name: str, *more: str) -> np.ndarray:
        out = tmp_path / f"{name}.png"
        draw(
            [
                "--model",
                str(path),
                "--steps",
                "4",
                "--size",
                "16",
                "--device",
                "cpu",
                "--out",
                str(out),
                *more,
            ]
        )
        return pixels(out)

    cat = picture("cat", "--prompt", "a cat", "--sampler", "unipc", "--order", "3")
    assert "4 steps, 4 network evaluations" in capsys.readouterr().out
    dogs = picture("dogs", "--prompt", "two dogs", "--sampler", "unipc", "--order", "3")
    other = picture("other", "--prompt", "a cat", "--sampler", "dpmpp_2m_sde")
    assert (
        cat.shape == (16, 16, 3)
        and not np.array_equal(cat, dogs)
        and not np.array_equal(cat, other)
    )


def test_guided_text_to_image(folder, tmp_path, capsys):
    """Guided by CFG the pipeline draws what it draws at that guidance scale."""
    name, path = folder
    shared = ["--model", str(path), "--prompt", "a cat", "--negative", "a dog", "--steps", "3"]
    shared += ["--size", "16", "--device", "cpu", "--sampler", "dpmpp_2m"]

    def picture(file: str, script_name: str, *more: str) -> np.ndarray:
        out = tmp_path / f"{file}.png"
        script(script_name).main([*shared, "--out", str(out), *more])
        return pixels(out)

    a = picture("a", "guided_text_to_image", "--scale", "4")
    assert "dpmpp_2m, cfg 4.0: 3 evaluations" in capsys.readouterr().out
    other = picture("b", "guided_text_to_image", "--scale", "4", "--interval", "0.01,0.02")
    assert not np.array_equal(a, other)
    if name != "flux":  # whose --guidance is the embedded scale
        assert np.abs(a - picture("c", "text_to_image", "--guidance", "4")).max() <= 1


def test_a_prompt_as_conditions_of_the_folders_denoiser(folder, tmp_path, capsys):
    """The encoded prompt has the names that the network wants, and the latents are those that the
    pipeline draws."""
    name, path = folder
    file = tmp_path / "prompt.safetensors"
    script("encode_prompt").main(
        ["--model", str(path), "--prompt", "a cat", "--size", "16", "--out", str(file)]
    )
    capsys.readouterr()
    den, cond = fewstep.models.load(path, size=8), load_file(file)
    den.check_cond(cond, 1)
    x = torch.randn(1, *den.shape, generator=torch.Generator().manual_seed(3))
    made = fewstep.sample(den, "ddim", grid=den.grid(5), x=x, cond=cond)
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(path)
    pipe.scheduler = fewstep.FewstepScheduler.from_config(pipe.scheduler.config, sampler="ddim")
    pipe.set_progress_bar_config(disable=True)
    size = {"height": 16, "width": 16, "num_inference_steps": 5, "output_type": "latent"}
    begun = pipe._pack_latents(x, *x.shape) if name == "flux" else x
    start = pipe("a cat", latents=begun / scale(pipe, name), guidance_scale=1.0, **size).images
    want = pipe._unpack_latents(start, 16, 16, pipe.vae_scale_factor) if name == "flux" else start
    assert float((made - want).abs().max() / want.abs().max()) < 1e-5


def scale(pipe: Any, name: str) -> float:
    """Pipelines of Stable Diffusion multiply given latents by ``init_noise_sigma``."""
    if name not in ("sd", "sdxl"):
        return 1.0
    pipe.scheduler.set_timesteps(5)
    return float(pipe.scheduler.init_noise_sigma)


def test_the_page_runs(tmp_path, capsys):
    """The Python blocks of docs/diffusers.md in their order, on a small Stable Diffusion."""
    TEXTS["sd"]().save_pretrained(tmp_path / "pipe")
    blocks = re.findall(
        r"```python\n(.*?)```",
        (ROOT / "docs" / "diffusers.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    names: dict[str, Any] = {"PATH": str(tmp_path / "pipe")}
    for block in blocks:
        exec(block, names)
    assert "8 network evaluations" in capsys.readouterr().out
    assert names["latents"].shape == names["same"].shape == (2, 4, 8, 8) and names[
        "pictures"
    ].shape == (2, 3, 16, 16)


@pytest.mark.slow
def test_the_script_as_a_program(tmp_path):
    TEXTS["sd"]().save_pretrained(tmp_path / "pipe")
    arguments = [
        "--model",
        str(tmp_path / "pipe"),
        "--prompt",
        "a cat",
        "--steps",
        "2",
        "--size",
        "16",
        "--out",
        str(tmp_path / "a.png"),
    ]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "text_to_image.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        pixels(tmp_path / "a.png").shape == (16, 16, 3)
        and "StableDiffusionPipeline, unipc" in done.stdout
    )
