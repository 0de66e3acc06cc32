"""A diffusers folder to a Denoiser: a UNet2DModel trained with a table of betas.

A pipeline folder names its parts in ``model_index.json`` (``unet/``, ``scheduler/``); a single model keeps ``config.json`` with
``"_class_name": "UNet2DModel"`` and needs ``scheduler_config.json`` in the same folder or in ``../scheduler``. The scheduler's
configuration gives ``alpha_bar_k = prod_{j<=k} (1 - beta_j)`` (Ho et al. 2020, arXiv 2006.11239, eq. 4) for ``DiscreteVP`` and what
the network predicts. diffusers is imported only here, when such a folder is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from ..schedules import DiscreteVP
from ..schedules.errors import unknown
from .denoiser import Denoiser
from .errors import ModelError
from .weights import CONFIG, read_json
from .wrapping import Label, wrap

PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
TABLE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
SCHEDULER = "scheduler_config.json"


class TableUNet(nn.Module):
    """``network(x, k, cond)`` of a UNet2DModel; a learned variance (twice the channels) is cut off."""

    def __init__(self, unet: nn.Module, channels: int) -> None:
        """``unet`` a UNet2DModel of ``channels`` input channels."""
        super().__init__()
        self.unet, self.channels = unet, channels

    def forward(self, x: Tensor, index: Tensor, cond: Tensor | Mapping[str, Tensor] | None = None) -> Tensor:
        """``x`` (B, C, H, W), ``index`` 0-dim or (B,) steps of the table, ``cond`` labels, {"label": labels} or None."""
        label = cond["label"] if isinstance(cond, Mapping) else cond
        answer: Tensor = self.unet(x, index, class_labels=label, return_dict=False)[0]
        return answer[:, : self.channels]


def parts(folder: Path) -> tuple[Path, Path]:
    """The network's folder and the scheduler's configuration file. Raises ModelError."""
    if (folder / "model_index.json").is_file():
        index = read_json(folder / "model_index.json")
        if "unet" not in index or "scheduler" not in index:
            raise ModelError(f"the pipeline {str(folder)!r} has {sorted(index)}; only pipelines of a unet and a scheduler can be loaded")
        return folder / "unet", folder / "scheduler" / SCHEDULER
    for file in (folder / SCHEDULER, folder.parent / "scheduler" / SCHEDULER):
        if file.is_file():
            return folder, file
    raise ModelError(f"no {SCHEDULER} in {str(folder)!r} or {str(folder.parent / 'scheduler')!r}: the noise schedule is unknown")


def diffusers() -> Any:
    """The package, imported at first use; its classes are untyped. Raises ImportError."""
    return import_module("diffusers")


def table(config: Mapping[str, Any], file: Path) -> DiscreteVP:
    """The schedule of a scheduler's configuration. Raises ModelError where it has no betas."""
    if "beta_schedule" not in config and config.get("trained_betas") is None:
        raise ModelError(f"{str(file)!r} ({config.get('_class_name')}) has no table of betas; wanted a DDPM-like scheduler")
    try:
        scheduler = diffusers().DDPMScheduler(**{key: config[key] for key in TABLE if key in config})
        return DiscreteVP.from_alphas_cumprod(scheduler.alphas_cumprod.tolist())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ModelError(f"{str(file)!r}: {error}") from error


def image_shape(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """(channels, height, width) from a network's configuration; None where it leaves the size open."""
    size = config["sample_size"]
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return int(config["in_channels"]), int(height), int(width)


def load_diffusers(folder: Path) -> Denoiser:
    """A Denoiser from a diffusers folder. Raises ModelError for what cannot be loaded, with what can."""
    where, file = parts(folder)
    kind = read_json(where / CONFIG).get("_class_name")
    if kind != "UNet2DModel":
        raise ModelError(f"{str(where / CONFIG)!r}: network class {kind!r} cannot be loaded; allowed: UNet2DModel")
    config = read_json(file)
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ModelError(f"{str(file)!r}: {unknown('prediction_type', prediction, PREDICTIONS)}")
    try:
        loader = diffusers().UNet2DModel.from_pretrained
    except ImportError as error:
        raise ModelError(f"{str(folder)!r} is a diffusers folder and diffusers is not installed: pip install diffusers") from error
    schedule = table(config, file)
    try:
        unet = loader(str(where), local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the network in {str(where)!r} cannot be read: {error}") from error
    network = TableUNet(unet.float().eval().requires_grad_(False), int(unet.config["in_channels"]))
    time: Label = "index" if unet.config["time_embedding_type"] == "learned" else "t"  # only a learned embedding is a table
    return wrap(network, schedule, prediction=PREDICTIONS[prediction], time=time, shape=image_shape(unet.config))
