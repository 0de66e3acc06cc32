"""Runs of k-diffusion's and azula's loops, for ``step.py``: the same number of steps of the same
method, and a network that returns a tensor made beforehand. Both packages are optional."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

#: solver of ``step.py`` -> the function of k-diffusion
KDIFFUSION = {"Euler": "sample_euler", "Heun": "sample_heun", "DPM++ 2M": "sample_dpmpp_2m"}
#: solver of ``step.py`` -> the class of azula and its options
AZULA: dict[str, tuple[str, dict[str, int]]] = {
    "Euler": ("EulerSampler", {}),
    "Heun": ("HeunSampler", {}),
    "DPM++ 2M": ("xEABSampler", {"order": 2}),
    "DPM++ 3M": ("xEABSampler", {"order": 3}),
}


def peers(folder: Path | None) -> dict[str, Any]:
    """Those of ``k-diffusion`` and ``azula`` that can be imported, from ``folder`` first."""
    if folder is not None:
        sys.path.insert(0, str(folder))
    found: dict[str, Any] = {}
    for name, load in (("k-diffusion", _kdiffusion), ("azula", lambda: import_module("azula"))):
        try:
            found[name] = load()
        except ImportError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return found


def _kdiffusion() -> Any:
    """``k_diffusion.sampling``, with a stand-in for ``k_diffusion.utils``, which imports much that
    a loop has no use for."""
    spec = next(
        (p for p in map(Path, sys.path) if (p / "k_diffusion" / "sampling.py").exists()), None
    )
    if spec is None:
        raise ImportError("no package k_diffusion")
    package, utils = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = [str(spec / "k_diffusion")]
    utils.append_dims = _append_dims  # type: ignore[attr-defined]
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils}
    return import_module("k_diffusion.sampling")


def _append_dims(x: Tensor, ndim: int) -> Tensor:
    return x[(..., *[None] * (ndim - x.ndim))]


def run_of(
    name: str, package: Any, solver: str, steps: int, x: Tensor, raw: Tensor
) -> Callable[[], object] | None:
    """A run of ``solver`` by the peer ``name``; None where it has none."""
    if name == "k-diffusion":
        if solver not in KDIFFUSION:
            return None
        sample = getattr(package, KDIFFUSION[solver])
        sigmas = package.get_sigmas_karras(steps, 0.03, 14.6)
        return lambda: sample(lambda x_in, sigma: raw, x, sigmas, disable=True)
    if solver not in AZULA:
        return None
    kind, options = AZULA[solver]

    class Given(torch.nn.Module):
        """A denoiser that returns the tensor."""

        schedule = package.noise.VPSchedule()

        def forward(self, x_t: Tensor, t: Tensor) -> Any:
            return package.denoise.DiracPosterior(raw)

    sampler = getattr(package.sample, kind)(Given(), steps=steps, silent=True, **options)
    return lambda: sampler(x)
