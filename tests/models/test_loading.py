"""Loading: bundled names, folders, damaged files, diffusers folders; the U-Net's conditions; the
bundled weights themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.models.errors import ModelError
from fewstep.models.loading import load
from fewstep.models.unet import UNet, UNetConfig
from fewstep.models.weights import BUNDLED, CONFIG, WEIGHTS, load_network, names

TINY = UNetConfig(8, 2, 3, widths=(16, 32), blocks=(1, 2), attention=(1,), embedding=16, head=16)


def lively(config: UNetConfig = TINY, seed: int = 0) -> UNet:
    """A network whose zero-initialised layers are random too, so that every input matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(config).eval().requires_grad_(False)
        for parameter in network.parameters():
            if not bool(parameter.any()):
                torch.nn.init.normal_(parameter, std=0.1)
    return network


def write_folder(folder: Path, config: UNetConfig = TINY, **changes: object) -> Path:
    """A model folder of a lively network; ``changes`` replace entries of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    edm = {"sigma_data": 0.6, "sigma_min": 0.01, "sigma_max": 50.0}
    value = {"format": "fewstep-unet", "network": config.to_dict(), "edm": edm, **changes}
    (folder / CONFIG).write_text(json.dumps(value))
    save_file(
        {key: tensor.half() for key, tensor in lively().state_dict().items()}, folder / WEIGHTS
    )
    return folder


def images(n: int = 3) -> Tensor:
    """Standard normal inputs of the tiny network."""
    return torch.randn(n, 2, 8, 8, generator=torch.Generator().manual_seed(4))


# --- the network


def test_conditions_are_one_thing_in_three_forms() -> None:
    """A tensor, a mapping and None (= the null label); each label gives another answer."""
    network, x, c = lively(), images(), torch.tensor([-1.0, 0.0, 1.0])
    label = torch.tensor([0, 2, 1])
    assert torch.equal(network(x, c, label), network(x, c, {"label": label}))
    assert torch.equal(network(x, c, None), network(x, c, torch.tensor([3, 3, 3])))
    assert not torch.allclose(network(x, c, label), network(x, c, None), atol=1e-3)
    assert torch.allclose(network(x, c[0], label)[0], network(x, c, label)[0], atol=1e-6)
    assert not torch.allclose(network(x, c[0], label)[1], network(x, c, label)[1], atol=1e-3)
    for bad in (torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0, 1])):
        with pytest.raises(ValueError, match="labels must be 3 integers"):
            network(x, c, bad)
    with pytest.raises(ValueError, match="'label'"):
        network(x, c, {"text": label})
    with pytest.raises(ValueError, match=r"\(3, 1, 8, 8\)"):
        network(x[:, :1], c, label)


def test_rows_do_not_see_each_other() -> None:
    """Every row alone gives what it gives in a batch, up to rounding."""
    network, x, c = lively(), images(), torch.tensor([-1.0, 0.0, 1.0])
    whole = network(x, c, torch.tensor([0, 1, 2]))
    for i in range(3):
        assert torch.allclose(
            network(x[i : i + 1], c[i], torch.tensor([i])), whole[i : i + 1], atol=1e-5
        )


def test_answers_have_the_dtype_of_the_image() -> None:
    """A float64 state goes in and comes out, computed in the dtype of the weights."""
    network, x, c = lively(), images(), torch.zeros(3)
    wide = network(x.double(), c.double(), None)
    assert wide.dtype == torch.float64 and torch.equal(wide.float(), network(x, c, None))
    assert torch.allclose(network.double()(x.double(), c, None), wide, atol=1e-4)


def test_shapes_that_cannot_be_built_are_refused() -> None:
    """Indivisible sizes, widths that do not fit the heads, unknown settings."""
    with pytest.raises(ValueError, match="not divisible"):
        UNetConfig(28, widths=(32, 32, 32, 32), blocks=(1, 1, 1, 1))
    with pytest.raises(ValueError, match="multiples of head"):
        UNetConfig(28, widths=(40, 64))
    with pytest.raises(ValueError, match="one number of blocks per width"):
        UNetConfig(28, widths=(32, 64), blocks=(1,))
    with pytest.raises(ValueError, match="'width'"):
        UNetConfig.from_dict({"image_size": 28, "width": 3})
    assert UNetConfig.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY


# --- folders


def test_folder_becomes_the_preconditioned_denoiser(tmp_path: Path) -> None:
    """D = c_skip y + c_out F(c_in y, log(sigma)/4) with the folder's own sigma_data and noise
    range."""
    den = load(write_folder(tmp_path / "m"))
    assert den.prediction == "x0" and den.shape == (2, 8, 8)
    assert (den.schedule.t_min, den.schedule.t_max) == (0.01, 50.0)
    y, label, d = images(), torch.tensor([2, 0, 1]), 0.6
    network = load_network(tmp_path / "m").network
    for s in (0.01, 0.7, 50.0):
        total = s * s + d * d
        raw = network(y / math.sqrt(total), torch.full((3,), math.log(s) / 4), label)
        want = d * d / total * y + s * d / math.sqrt(total) * raw
        assert torch.allclose(den(y, s, {"label": label}), want, rtol=1e-4, atol=1e-5)


def test_loaded_networks_are_ready_to_sample(tmp_path: Path) -> None:
    """float32, evaluation mode, no gradients, the weights of the file; the global generator is not
    touched."""
    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    loaded = load_network(write_folder(tmp_path / "m"))
    assert torch.equal(torch.rand(1), want)
    assert not any(module.training for module in loaded.network.modules())
    stored = load_file(tmp_path / "m" / WEIGHTS)
    for key, parameter in loaded.network.named_parameters():
        assert (
            parameter.dtype == torch.float32
            and not parameter.requires_grad
            and parameter.device.type == "cpu"
        )
        assert torch.equal(parameter, stored[key].float())
    assert loaded.network.enter.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(loaded.network.embed.frequencies, lively().embed.frequencies)


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    """The message names the nearest match, or the file that is not there."""
    with pytest.raises(ModelError, match="did you mean 'mnist'.*allowed: .*mnist"):
        load("minst")
    with pytest.raises(ModelError, match="is a file"):
        load(write_folder(tmp_path / "m") / CONFIG)
    (tmp_path / "m" / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="no model.safetensors"):
        load(tmp_path / "m")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no config.json"):
        load(tmp_path / "empty")
    assert issubclass(ModelError, ValueError)


def test_damaged_folders(tmp_path: Path) -> None:
    """A cut safetensors file, broken JSON, another format, missing or foreign settings."""
    folder = write_folder(tmp_path / "cut")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(ModelError, match="not a readable safetensors"):
        load(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(ModelError, match="not readable JSON"):
        load(folder)
    (folder / CONFIG).write_text("[1]")
    with pytest.raises(ModelError, match="found list"):
        load(folder)
    for change, match in (
        ({"format": "other"}, "'other'"),
        ({"edm": {"sigma_data": 0.5}}, "lacks 'sigma_min'"),
        ({"network": {"image_size": 7}}, "not divisible"),
        ({"network": {**TINY.to_dict(), "colour": 1}}, "colour"),
    ):
        with pytest.raises(ModelError, match=match):
            load(write_folder(tmp_path / "m", **change))


def test_weights_of_another_shape(tmp_path: Path) -> None:
    """Wrong shapes, missing and foreign tensors are named."""
    folder = write_folder(tmp_path / "m")
    stored = load_file(folder / WEIGHTS)
    save_file({**stored, "enter.bias": torch.zeros(7)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"enter.bias has shape \(7,\), the network \(16,\)"):
        load(folder)
    save_file(
        {key: value for key, value in stored.items() if key != "enter.bias"}, folder / WEIGHTS
    )
    with pytest.raises(ModelError, match="enter.bias is missing"):
        load(folder)
    save_file({**stored, "extra": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="extra is not part"):
        load(folder)


# --- the bundled weights


def test_the_bundled_model_of_fields_loads_and_denoises() -> None:
    """Documented loss under a tenth of the zero network's, and small files."""
    loaded, den = load_network("darcy"), load("darcy")
    evaluation = loaded.config["evaluation"]
    assert evaluation["images"] == 512 and evaluation["loss"] < evaluation["zero"] / 10
    assert (BUNDLED / "darcy" / WEIGHTS).stat().st_size < 6_000_000
    assert den.shape == (2, 64, 64) and loaded.config["labels"] == []


@pytest.mark.parametrize("name", [name for name in names() if name != "darcy"])
def test_bundled_models_load_and_denoise(name: str) -> None:
    """Documented loss under a third of the zero network's, small files, and a class label that
    changes the picture."""
    loaded, den = load_network(name), load(name)
    config = loaded.network.config
    evaluation = loaded.config["evaluation"]
    assert evaluation["images"] == 2000 and evaluation["loss"] < evaluation["zero"] / 3
    assert (BUNDLED / name / WEIGHTS).stat().st_size < (
        4_000_000 if name == "mnist" else 16_000_000
    )
    assert den.shape == (config.channels, config.image_size, config.image_size)
    assert len(loaded.config["labels"]) == config.classes == 10
    noise = 80.0 * torch.randn(10, *den.shape, generator=torch.Generator().manual_seed(0))
    # at the noisiest time D is about the mean picture of each class
    means = den(noise, 80.0, torch.arange(10))
    assert means.abs().max() < 1.2
    gaps = torch.cdist(means.flatten(1), means.flatten(1)) / math.sqrt(means[0].numel())
    assert float(gaps[~torch.eye(10, dtype=torch.bool)].min()) > (0.1 if name == "mnist" else 0.01)


def test_mnist_is_bundled_and_paints_ink_on_paper() -> None:
    """A class's expected picture at the noisiest time: paper at the border, ink in the middle, a
    one thinner than a zero."""
    assert "mnist" in names()
    den = load("mnist")
    noise = 80.0 * torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    zero, one = den(noise, 80.0, torch.tensor([0, 1]))[:, 0]
    assert float(zero[:2].max()) < -0.8 and float(one[:2].max()) < -0.8
    # the hole of the zero is where the one stands
    assert float(one[13:15, 13:15].mean()) > float(zero[13:15, 13:15].mean()) + 0.5
    assert float(zero.mean()) > float(one.mean())


# --- diffusers folders


def diffusers_folder(folder: Path, **scheduler: object) -> Path:
    """A small DDPM pipeline from configurations, saved."""
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            num_class_embeds=3,
        )
    diffusers.DDPMPipeline(
        unet, diffusers.DDPMScheduler(num_train_timesteps=50, **scheduler)
    ).save_pretrained(folder)
    return folder


def test_diffusers_pipeline_folder(tmp_path: Path) -> None:
    """The network's answer at a table index, and the table itself, are those of diffusers, for
    every kind of prediction."""
    diffusers = pytest.importorskip("diffusers")
    folder = diffusers_folder(tmp_path, beta_schedule="scaled_linear")
    pipe = diffusers.DDPMPipeline.from_pretrained(folder)
    x, label = (
        torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)),
        torch.tensor([2, 0]),
    )
    # their own product is float32, and 1 - bar of it loses four digits
    bars = (1.0 - pipe.scheduler.betas.double()).cumprod(0)
    for kind, prediction in (("epsilon", "eps"), ("v_prediction", "v"), ("sample", "x0")):
        diffusers.DDPMScheduler.from_config(
            pipe.scheduler.config, prediction_type=kind
        ).save_pretrained(folder / "scheduler")
        den = load(folder)
        assert den.prediction == prediction and den.shape == (1, 8, 8), kind
        for step in (0, 17, 49):
            bar = float(bars[step])
            assert den.schedule.alpha(float(step)) == pytest.approx(math.sqrt(bar), rel=1e-6), (
                kind,
                step,
            )
            assert den.schedule.sigma(float(step)) == pytest.approx(math.sqrt(1 - bar), rel=1e-5), (
                kind,
                step,
            )
            with torch.no_grad():
                want = pipe.unet(x, step, class_labels=label).sample
            for cond in (label, {"label": label}):
                assert torch.allclose(den(x, float(step), cond), want, atol=1e-5), (kind, step)


def test_diffusers_unet_alone_and_refusals(tmp_path: Path) -> None:
    """The unet folder of a pipeline loads by itself; schedulers of no known path and other networks
    are refused by name."""
    diffusers = pytest.importorskip("diffusers")
    folder = diffusers_folder(tmp_path / "pipe")
    assert load(folder / "unet").schedule == load(folder).schedule
    diffusers.ScoreSdeVeScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(ModelError, match="unknown scheduler class 'ScoreSdeVeScheduler'"):
        load(folder)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(ModelError, match="scheduler_config.json"):
        load(folder / "unet")
    diffusers.DDPMScheduler(prediction_type="v_prediction").save_pretrained(folder / "scheduler")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace("v_prediction", "v_predict"))
    with pytest.raises(ModelError, match="did you mean 'v_prediction'"):
        load(folder)
    config = json.loads((folder / "unet" / CONFIG).read_text())
    (folder / "unet" / CONFIG).write_text(json.dumps({**config, "_class_name": "UNet1DModel"}))
    diffusers.DDPMScheduler().save_pretrained(folder / "scheduler")
    with pytest.raises(ModelError, match="'UNet1DModel'.*allowed: .*UNet2DModel"):
        load(folder)


def spoiled(folder: Path, spoil: object) -> str:
    """A model folder whose first tensor went through ``spoil``; the tensor's name."""
    write_folder(folder)
    found = load_file(folder / WEIGHTS)
    first = next(iter(found))
    save_file({**found, first: spoil(found[first])}, folder / WEIGHTS)  # type: ignore[operator]
    return first


@pytest.mark.parametrize(
    "kind", [torch.int8, torch.bool, torch.complex64, torch.int64, torch.uint8]
)
def test_weights_are_floating_point(kind: torch.dtype, tmp_path: Path) -> None:
    first = spoiled(tmp_path, lambda value: value.to(kind))
    with pytest.raises(ModelError, match=f"{first} is {str(kind).removeprefix('torch.')}"):
        load(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_are_finite(value: float, tmp_path: Path) -> None:
    first = spoiled(tmp_path, lambda tensor: torch.full_like(tensor, value))
    with pytest.raises(ModelError, match=f"NaN or infinite: {first}"):
        load(tmp_path)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_any_floating_point_kind_are_read(kind: torch.dtype, tmp_path: Path) -> None:
    spoiled(tmp_path, lambda value: value.to(kind))
    assert load(tmp_path).network.training is False  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [None, 5, np.zeros(2), ["mnist"], b"mnist"])
def test_what_is_no_name_is_named(name):
    with pytest.raises(ModelError, match="must be the name of a model .*mnist"):
        load(name)
