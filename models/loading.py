"""From a name or a folder to a Denoiser.

Four kinds of source are understood:

* a bundled name, ``names()``: weights that come with the package, trained by ``fewstep.train``;
* ``mixture``: an exact model, eight Gaussians of deviation 0.1 on the unit circle (label k is the
  k-th), on ``EDM(0.002, 80)``;
* a folder with ``config.json`` (``"format": "fewstep-unet"``) and ``model.safetensors``, which
  ``fewstep.train --export`` writes;
* a diffusers folder: a pipeline (``model_index.json``) or a single network (``config.json`` with
  ``_class_name``) beside a scheduler configuration; see ``pretrained``.

A bundled network is EDM-preconditioned (Karras et al. 2022, arXiv 2206.00364, Table 1): the
denoiser is ``D(y; s) = c_skip y + c_out F(c_in y; log(s)/4)`` on the path
``EDM(sigma_min, sigma_max)``.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from .. import checks
from ..schedules import EDM
from .base import BaseDenoiser, complete
from .denoiser import Denoiser
from .errors import ModelError
from .mixture import GaussianMixture
from .preconditioning import EDMPreconditioning
from .weights import CONFIG, MIXTURE, WEIGHTS, load_network, locate, read_json
from .wrapping import wrap

#: a pipeline's list of parts, and the files of a network from diffusers
INDEX, PRETRAINED = "model_index.json", "diffusion_pytorch_model*"


def ring(components: int = 8, std: float = 0.1) -> GaussianMixture:
    """Equal Gaussians on the unit circle, shape (2,): the model called ``mixture``."""
    angles = [2.0 * math.pi * k / components for k in range(components)]
    means = [[math.cos(a), math.sin(a)] for a in angles]
    return GaussianMixture(means, std, [1.0] * components, EDM(0.002, 80.0), "x0")


def classes_of(denoiser: Denoiser) -> int:
    """How many class labels a denoiser takes as ``cond``; 0 for none."""
    return complete(denoiser).classes


def files_of(name_or_folder: str | Path) -> list[Path]:
    """The files that decide what ``load`` gives, in a fixed order: configurations and weights, and
    nothing else that lies in the folder.

    Empty for ``mixture``. Raises ModelError as ``load`` does for what has no configuration.
    """
    if name_or_folder == MIXTURE:
        return []
    folder = locate(name_or_folder)
    if not (folder / INDEX).is_file() and "_class_name" not in read_json(folder / CONFIG):
        return [folder / CONFIG, folder / WEIGHTS]
    from .diffusers.folders import parts

    where, scheduler = parts(folder)
    index = [folder / INDEX] if (folder / INDEX).is_file() else []
    return [
        *index,
        scheduler,
        where / CONFIG,
        *sorted(file for file in where.glob(PRETRAINED) if ".safetensors" in file.suffixes),
    ]


def load(
    name_or_folder: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    size: int | tuple[int, int] | None = None,
    variant: str | None = None,
) -> BaseDenoiser:
    """A Denoiser from a bundled name, a folder of ours or a diffusers folder.

    Args:
        name_or_folder: see the module.
        device, dtype: of the network; default CPU and float32. Exact models follow their state.
        size, variant: height and width of a sample, and the variant of the weights' files
            (``fp16``), for networks from diffusers: see ``load_pretrained``.

    Raises ArgumentError for a device that is not there; ModelError for an unknown name (with the
    nearest match), a missing file, damaged weights, or weights of other shapes or kinds of numbers
    than the network's.
    """
    device = checks.device(device)
    checks.floating_dtype(dtype, ModelError)
    if isinstance(name_or_folder, str) and name_or_folder == MIXTURE:
        if size is not None or variant is not None:
            raise ModelError(
                f"size={size!r}, variant={variant!r}: {MIXTURE!r} is an exact model of shape "
                "(2,) and takes neither"
            )
        return ring()
    folder = locate(name_or_folder)
    if (folder / INDEX).is_file() or "_class_name" in read_json(folder / CONFIG):
        from .diffusers.folders import load_pretrained

        return load_pretrained(folder, device=device, dtype=dtype, size=size, variant=variant)
    if size is not None:
        raise ModelError(
            f"size={size!r}: only networks from diffusers take it; the samples of "
            f"{str(name_or_folder)!r} have one size"
        )
    loaded = load_network(folder)
    network = loaded.network.to(device=device, dtype=dtype)
    schedule = EDM(loaded.sigma_min, loaded.sigma_max)
    shape = (network.config.channels, network.config.image_size, network.config.image_size)
    edm = EDMPreconditioning(loaded.sigma_data)
    return wrap(network, schedule, prediction="x0", time="c_noise", precondition=edm, shape=shape)
