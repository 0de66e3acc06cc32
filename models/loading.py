"""Loads a Denoiser from a name or a folder.

Four kinds of source are supported:

    a bundled name (``names()``)    weights that come with the package, trained by
                                    ``fewstep.train``
    ``mixture``                     an exact model, eight Gaussians of deviation 0.1 on the unit
                                    circle (label k is the k-th), on ``EDM(0.002, 80)``
    a fewstep folder                ``config.json`` (``"format": "fewstep-unet"``) and
                                    ``model.safetensors``, written by ``fewstep.train --export``
    a diffusers folder              a pipeline (``model_index.json``) or a single network
                                    (``config.json`` with ``_class_name``) beside a scheduler
                                    configuration; see ``models.diffusers.folders``

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
from .base import BaseDenoiser
from .denoiser import Denoiser
from .errors import ModelError
from .mixture import GaussianMixture
from .preconditioning import EDMPreconditioning
from .weights import CONFIG, MIXTURE, WEIGHTS, load_network, locate, read_json
from .wrapper import complete
from .wrapping import wrap

#: files of a diffusers folder: a pipeline's list of parts, and a network's files
INDEX, PRETRAINED = "model_index.json", "diffusion_pytorch_model*"


def ring(components: int = 8, std: float = 0.1) -> GaussianMixture:
    """Mixture of equal Gaussians on the unit circle, shape (2,): the model called ``mixture``."""
    angles = [2.0 * math.pi * k / components for k in range(components)]
    means = [[math.cos(a), math.sin(a)] for a in angles]
    return GaussianMixture(means, std, [1.0] * components, EDM(0.002, 80.0), "x0")


def classes_of(denoiser: Denoiser) -> int:
    """Number of class labels that a denoiser takes as ``cond``; 0 for none."""
    return complete(denoiser).classes


def files_of(name_or_folder: str | Path) -> list[Path]:
    """Return the configuration and weight files that determine the result of ``load``, in a fixed
    order. Other files in the folder are left out.

    Empty for ``mixture``. Raises ModelError as ``load`` does if there is no configuration.
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
    """Load a Denoiser from a bundled name, a fewstep folder or a diffusers folder.

    Args:
        name_or_folder: see the module.
        device, dtype: of the network; default CPU and float32. Exact models follow their state.
        size, variant: height and width of a sample, and the variant of the weights' files
            (``fp16``), for networks from diffusers: see ``load_pretrained``.

    Raises ArgumentError for a device that is not available; ModelError for an unknown name (with
    the nearest match), a missing file, damaged weights, or weights whose shapes or dtypes do not
    fit the network.
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
