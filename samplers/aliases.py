"""Other people's names: what a diffusers class, a ComfyUI or A1111 menu entry, or a k-diffusion function is called here.

An alias is ``(sampler, options, grid, note)``; the note says where the two are not the same thing.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Alias(NamedTuple):
    """What another program's name means here."""

    sampler: str
    options: dict[str, Any]
    grid: str | None = None
    note: str = ""


_KARRAS = "karras"
_FIRST_ORDER_END = "its last step to sigma = 0 is first order, as here"
_ROUNDED = "diffusers feeds the network rounded times with special sigmas; here the time is exact"

ALIASES: dict[str, Alias] = {
    # diffusers scheduler classes
    "DDIMScheduler": Alias("ddim", {}),
    "DDPMScheduler": Alias("ddpm", {}),
    "PNDMScheduler": Alias("pndm", {}, None, "with skip_prk_steps=True it is plms"),
    "EulerDiscreteScheduler": Alias("euler", {}, None, _ROUNDED),
    "EulerAncestralDiscreteScheduler": Alias("euler_ancestral", {}, None, _ROUNDED),
    "HeunDiscreteScheduler": Alias("heun", {}, None, _ROUNDED),
    "KDPM2DiscreteScheduler": Alias("dpm2", {}, None, _ROUNDED),
    "LMSDiscreteScheduler": Alias("lms", {}, None, "exact integrals instead of adaptive quadrature"),
    "DPMSolverMultistepScheduler": Alias(
        "dpmpp_2m", {}, None, "solver_order=3 there is dpmpp_3m_compat: its third order is a second order"
    ),
    "DPMSolverSinglestepScheduler": Alias("dpmpp_2s", {"blocks": "fill"}, None, "one grid interval an evaluation"),
    "DEISMultistepScheduler": Alias("deis", {"variant": "logrho", "order": 2}, None, "not the paper's t-AB: it interpolates in log rho"),
    "UniPCMultistepScheduler": Alias("unipc", {}),
    "IPNDMScheduler": Alias("ipndm", {}, None, "its table starts at alpha = 0 and takes x0 = 0 there"),
    "EDMEulerScheduler": Alias("euler", {}, _KARRAS, "starts from sqrt(sigma_max^2 + 1) noise"),
    "EDMDPMSolverMultistepScheduler": Alias("dpmpp_2m", {}, _KARRAS, "starts from sqrt(sigma_max^2 + 1) noise"),
    "FlowMatchEulerDiscreteScheduler": Alias("flow_euler", {}, None, "its grid ends at 1/1000 before 0"),
    "FlowMatchHeunDiscreteScheduler": Alias("flow_heun", {}, None, "its grid ends at 1/1000 before 0"),
    # k-diffusion functions
    "sample_euler": Alias("euler", {}),
    "sample_euler_ancestral": Alias("euler_ancestral", {}),
    "sample_heun": Alias("heun", {}),
    "sample_dpm_2": Alias("dpm2", {}),
    "sample_lms": Alias("lms", {}),
    "sample_dpm_fast": Alias("dpm_solver_3", {}, "lam", "use nfe=; it ends at sigma_min"),
    "sample_dpmpp_2m": Alias("dpmpp_2m", {}, None, _FIRST_ORDER_END),
    "sample_dpmpp_2m_sde": Alias("dpmpp_2m_sde", {}, None, "independent noise here unless a Brownian path is asked for"),
    "sample_ipndm": Alias("ipndm", {}),
    # ComfyUI and A1111 menus
    "dpm_2": Alias("dpm2", {}),
    "dpm_fast": Alias("dpm_solver_3", {}, "lam", "use nfe=; it ends at sigma_min"),
    "uni_pc": Alias("unipc", {"order": 3, "variant": "bh1"}),
    "uni_pc_bh2": Alias("unipc", {"order": 3, "variant": "bh2"}),
    "Euler": Alias("euler", {}),
    "Euler a": Alias("euler_ancestral", {}),
    "LMS": Alias("lms", {}),
    "Heun": Alias("heun", {}),
    "DPM2": Alias("dpm2", {}),
    "DPM++ 2M": Alias("dpmpp_2m", {}),
    "DPM++ 2M Karras": Alias("dpmpp_2m", {}, _KARRAS),
    "DPM++ 2M SDE": Alias("dpmpp_2m_sde", {"correction": "taylor"}),
    "DPM++ 2M SDE Karras": Alias("dpmpp_2m_sde", {"correction": "taylor"}, _KARRAS),
    "DPM++ 2M SDE Heun": Alias("dpmpp_2m_sde", {"correction": "taylor"}),
    "UniPC": Alias("unipc", {"order": 3}),
    "DDIM": Alias("ddim", {}),
    "DDPM": Alias("ddpm", {}),
    "PLMS": Alias("plms", {}),
    "DEIS": Alias("deis", {}),
}


def find(text: str) -> dict[str, Alias]:
    """Aliases whose name, or whose sampler's name, contains ``text`` (case, spaces and punctuation aside)."""
    wanted = _plain(text)
    return {name: alias for name, alias in ALIASES.items() if wanted in _plain(name) or wanted in _plain(alias.sampler)}


def _plain(text: str) -> str:
    return "".join(c for c in text.lower().replace("++", "pp") if c.isalnum())
