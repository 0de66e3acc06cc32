"""k-diffusion's ``sample_*`` functions over the registry, for programs that call those
(k-diffusion, ComfyUI's custom samplers).

The functions of the public package stand here with its signatures (names, order and defaults of the
arguments); in float64 they give its numbers. Each also takes the further options of its sampler
here, by keyword. ``sample_NAME`` exists for every other registered sampler too, and for the names
of ``fewstep.samplers.ALIASES``: ``from fewstep.interop.kdiffusion import sample_unipc``; their
options, and a ``noise_sampler``, go by keyword.

    model(x, sigma, **extra_args) -> x0      x = x0 + sigma eps; sigma (B,), in the dtype of x
    sigmas (n + 1,)                          falling, the last one may be 0; one level alone gives x
                                             back
    callback({"x", "i", "sigma", "sigma_hat", "denoised"})      once a step, with the state that the
                                                                step begins from
    disable                                  taken and not needed: there is no progress bar

**Noise** comes from ``noise_sampler(sigma, sigma_next)``, else from ``torch.randn_like``, in
k-diffusion's order and number, those draws included that it makes and does not use: one seed of
torch gives one picture in both. The three SDE functions follow a Brownian path in sigma by default,
with one draw of torch for its seed: the law of k-diffusion's, other normals than torchsde's.

**Callbacks** come after the network call and before the noise of the step. A write into ``x`` or
``denoised`` acts as there (except that the caller's own ``x`` is never written to): it changes the
step that follows, save that Euler, Heun, DPM2, LMS and DPM-Solver-fast have computed the step's
slope by then, so that a write into ``x`` moves the state along and one into ``denoised`` is lost.
The callback of ``sample_dpm_adaptive`` comes after each trial, rejected ones too, with the state
that it left. The functions of other samplers show copies.

Where they differ: levels that rise or stand twice, NaN and negative levels are refused, as is a
model that returns a NaN; the result has the dtype of ``x``; lists in float32 are used as they are
but computed with in float64. ``sample_dpm_2_ancestral`` with eta > 1 adds the noise that
k-diffusion leaves out where a step goes down to sigma = 0 first. ``[sigma, 0]`` works for the SDE
functions too.
"""

from __future__ import annotations

from typing import Any

from ...samplers import SamplerError
from .sample_functions import (
    NAMES,
    sample_dpm_2,
    sample_dpm_2_ancestral,
    sample_dpm_adaptive,
    sample_dpm_fast,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_dpmpp_2s_ancestral,
    sample_dpmpp_3m_sde,
    sample_dpmpp_sde,
    sample_euler,
    sample_euler_ancestral,
    sample_heun,
    sample_lms,
    sampler,
)

__all__ = [
    "NAMES",
    "sample_dpm_2",
    "sample_dpm_2_ancestral",
    "sample_dpm_adaptive",
    "sample_dpm_fast",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_sde",
    "sample_dpmpp_2s_ancestral",
    "sample_dpmpp_3m_sde",
    "sample_dpmpp_sde",
    "sample_euler",
    "sample_euler_ancestral",
    "sample_heun",
    "sample_lms",
    "sampler",
]


def __getattr__(name: str) -> Any:
    if name.startswith("sample_"):
        try:
            return sampler(name)
        except SamplerError as error:
            raise AttributeError(str(error)) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
