"""Names of samplers in other programs: diffusers classes, ComfyUI and A1111 menu entries,
k-diffusion functions.

An alias is ``(sampler, options, grid, note)``; the note names differences between the two.
"""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from ..checks import instance
from ..checks.messages import LONGEST


class Alias(NamedTuple):
    """Sampler, options and grid that correspond to another program's name."""

    sampler: str
    options: dict[str, Any]
    grid: str | None = None
    note: str = ""


_KARRAS = "karras"
_FIRST_ORDER_END = "its last step to sigma = 0 has first order, as in fewstep"
_ONE_PATH = (
    "its two noises of a step are increments of one Brownian path; in fewstep they are independent "
    "unless noise='brownian'"
)
_PATH = "its noise is a Brownian path; in fewstep noise is independent unless noise='brownian'"
_HALVED = (
    "it has only second order, like dpmpp_3m_sde_compat; dpmpp_3m_sde uses the full second "
    "difference"
)
_ROUNDED = (
    "with special sigmas diffusers passes rounded times to the network; fewstep passes exact times"
)

_OPEN_END = "on levels that end above 0 its last step keeps its order; use lower_order_final=False"
_SLIPPED = "its weights of orders 3 and 4 contain errors; ipndm_v is the correct method"
ALIASES: dict[str, Alias] = {
    "ddim_cfg_pp": Alias("euler_cfg_pp", {}),
    # diffusers scheduler classes
    "DDIMScheduler": Alias("ddim", {}),
    "DDPMScheduler": Alias("ddpm", {}),
    "PNDMScheduler": Alias("pndm", {}, None, "for skip_prk_steps=True use plms"),
    "EulerDiscreteScheduler": Alias("euler", {}, None, _ROUNDED),
    "EulerAncestralDiscreteScheduler": Alias("euler_ancestral", {}, None, _ROUNDED),
    "HeunDiscreteScheduler": Alias("heun", {}, None, _ROUNDED),
    "KDPM2DiscreteScheduler": Alias("dpm2", {}, None, _ROUNDED),
    "KDPM2AncestralDiscreteScheduler": Alias("dpm2_ancestral", {}, None, _ROUNDED),
    "LMSDiscreteScheduler": Alias(
        "lms", {}, None, "fewstep uses exact integrals in place of adaptive quadrature"
    ),
    "DPMSolverMultistepScheduler": Alias(
        "dpmpp_2m",
        {},
        None,
        "for solver_order=3 use dpmpp_3m_compat, which has only second order too",
    ),
    "DPMSolverSinglestepScheduler": Alias(
        "dpmpp_2s", {"blocks": "fill"}, None, "one evaluation per grid interval"
    ),
    "DEISMultistepScheduler": Alias(
        "deis",
        {"variant": "logrho", "order": 2},
        None,
        "not the paper's t-AB: it interpolates in log rho",
    ),
    "UniPCMultistepScheduler": Alias("unipc", {}),
    "IPNDMScheduler": Alias(
        "ipndm", {}, None, "its table starts at alpha = 0, where it sets x0 = 0"
    ),
    "SASolverScheduler": Alias(
        "sa_solver",
        {"correction": "linear"},
        None,
        "its tau is 1 within interval=(200, 800) of its table, else 0",
    ),
    "DPMSolverSDEScheduler": Alias("dpmpp_sde", {"noises": "overlapping"}, None, _ONE_PATH),
    "sde-dpmsolver": Alias(
        "sde_dpm_solver_2m",
        {},
        None,
        "an algorithm_type of DPMSolverMultistepScheduler, solver_order 2",
    ),
    "sde-dpmsolver++": Alias(
        "dpmpp_2m_sde", {}, None, "an algorithm_type of DPMSolverMultistepScheduler, solver_order 2"
    ),
    "EDMEulerScheduler": Alias("euler", {}, _KARRAS, "starts from sqrt(sigma_max^2 + 1) noise"),
    "EDMDPMSolverMultistepScheduler": Alias(
        "dpmpp_2m", {}, _KARRAS, "starts from sqrt(sigma_max^2 + 1) noise"
    ),
    "FlowMatchEulerDiscreteScheduler": Alias(
        "flow_euler", {}, None, "its grid ends at 1/1000 before 0"
    ),
    "FlowMatchHeunDiscreteScheduler": Alias(
        "flow_heun", {}, None, "its grid ends at 1/1000 before 0"
    ),
    "LCMScheduler": Alias(
        "lcm", {"timestep_scaling": 10.0}, None, "for consistency functions on tables"
    ),
    "TCDScheduler": Alias(
        "tcd",
        {},
        None,
        "its eta is gamma; its last step goes to the first entry of the table, not to sigma = 0",
    ),
    # k-diffusion functions
    "sample_euler": Alias("euler", {}),
    "sample_euler_ancestral": Alias("euler_ancestral", {}),
    "sample_heun": Alias("heun", {}),
    "sample_dpm_2": Alias("dpm2", {}),
    "sample_lms": Alias("lms", {}),
    "sample_dpm_fast": Alias(
        "dpm_fast", {}, "lam", 'its n is nfe= here; it ends at sigma_min: final="sigma_min"'
    ),
    "sample_dpmpp_2m": Alias("dpmpp_2m", {}, None, f"{_FIRST_ORDER_END}; {_OPEN_END}"),
    "sample_dpmpp_2m_sde": Alias(
        "dpmpp_2m_sde", {}, None, f'{_PATH}; solver_type="heun" is correction="heun"; {_OPEN_END}'
    ),
    "sample_dpmpp_3m_sde": Alias(
        "dpmpp_3m_sde_compat",
        {},
        None,
        f"{_HALVED}; its last step but one has third order; use lower_order_final=False",
    ),
    "sample_dpmpp_sde": Alias("dpmpp_sde", {"noises": "overlapping"}, None, _ONE_PATH),
    "sample_dpm_2_ancestral": Alias("dpm2_ancestral", {}),
    "sample_dpmpp_2s_ancestral": Alias("dpmpp_2s_ancestral", {}),
    "sample_ipndm": Alias("ipndm", {}),
    "sample_ipndm_v": Alias("ipndm_v_compat", {"order": 4}, None, _SLIPPED),
    "sample_res_multistep": Alias("res_2m", {}, None, _FIRST_ORDER_END),
    "sample_gradient_estimation": Alias("gradient_estimation", {}),
    "sample_dpm_adaptive": Alias(
        "dpm_adaptive", {"control": "pid", "coupling": "mean"}, None, "it ends at sigma_min"
    ),
    # score_sde
    "ancestral_sampling": Alias(
        "ddpm",
        {"variance": "fixed_large"},
        None,
        "on VE paths it is ddpm with its default variance",
    ),
    # a search space of samplers
    "USF": Alias(
        "exponential_adams", {}, None, "its decisions are options with one entry per step, and afs"
    ),
    # papers on the inversion of flows
    "rf_solver": Alias("flow_midpoint", {}, None, "the same step, written as a Taylor expansion"),
    # ComfyUI and A1111 menus
    "dpm_2": Alias("dpm2", {}),
    "dpm_2_ancestral": Alias("dpm2_ancestral", {}),
    "dpmpp_2m_sde_heun": Alias("dpmpp_2m_sde", {"correction": "heun"}, None, _PATH),
    "sa_solver_pece": Alias("sa_solver", {"mode": "pece"}),
    "sample_er_sde": Alias(
        "er_sde_compat", {}, None, "its integrals are sums over 200 points; fewstep's are exact"
    ),
    "seeds_1": Alias("ddim", {"eta": 1.0}),
    "res_multistep": Alias("res_2m", {}, None, _FIRST_ORDER_END),
    "DPM fast": Alias(
        "dpm_fast", {}, "lam", 'its steps are nfe= here; it ends at sigma_min: final="sigma_min"'
    ),
    "uni_pc": Alias("unipc", {"order": 3, "variant": "bh1"}),
    "uni_pc_bh2": Alias("unipc", {"order": 3, "variant": "bh2"}),
    "LCM": Alias("lcm", {}, None, "without the boundary scaling of diffusers"),
    "TCD": Alias(
        "tcd", {}, None, "its last step goes to the first entry of the table, not to sigma = 0"
    ),
    "Restart": Alias(
        "restart",
        {},
        _KARRAS,
        "its intervals depend on the step count; fewstep uses the paper's",
    ),
    "DPM adaptive": Alias(
        "dpm_adaptive", {"control": "pid", "coupling": "mean"}, None, "it ends at sigma_min"
    ),
    "Euler": Alias("euler", {}),
    "Euler a": Alias("euler_ancestral", {}),
    "LMS": Alias("lms", {}),
    "Heun": Alias("heun", {}),
    "DPM2": Alias("dpm2", {}),
    "DPM++ 2M": Alias("dpmpp_2m", {}),
    "DPM++ 2M Karras": Alias("dpmpp_2m", {}, _KARRAS),
    "DPM2 a": Alias("dpm2_ancestral", {}),
    "DPM++ 2S a": Alias("dpmpp_2s_ancestral", {}),
    "DPM++ SDE": Alias("dpmpp_sde", {"noises": "overlapping"}, None, _ONE_PATH),
    "DPM++ SDE Karras": Alias("dpmpp_sde", {"noises": "overlapping"}, _KARRAS, _ONE_PATH),
    "DPM++ 2M SDE": Alias("dpmpp_2m_sde", {}, None, _PATH),
    "DPM++ 2M SDE Karras": Alias("dpmpp_2m_sde", {}, _KARRAS, _PATH),
    "DPM++ 2M SDE Heun": Alias("dpmpp_2m_sde", {"correction": "heun"}, None, _PATH),
    "DPM++ 3M SDE": Alias("dpmpp_3m_sde_compat", {}, None, _HALVED),
    "DPM++ 3M SDE Karras": Alias("dpmpp_3m_sde_compat", {}, _KARRAS, _HALVED),
    "DPM++ 3M SDE Exponential": Alias("dpmpp_3m_sde_compat", {}, "exponential", _HALVED),
    "UniPC": Alias("unipc", {"order": 3}),
    "DDIM": Alias("ddim", {}),
    "DDPM": Alias("ddpm", {}),
    "PLMS": Alias("plms", {}),
    "DEIS": Alias("deis", {}),
}


def find(text: str) -> dict[str, Alias]:
    """Aliases whose name, or whose sampler's name, contains ``text``. Case, spaces and punctuation
    are ignored."""
    instance("text", text, str, "a part of a sampler's name")
    wanted = _plain(text)
    return {
        name: alias
        for name, alias in ALIASES.items()
        if wanted in _plain(name) or wanted in _plain(alias.sampler)
    }


def nearest(text: str) -> str | None:
    """Alias with the name most similar to ``text``; None if none is similar."""
    names = {_plain(name): name for name in ALIASES}
    close = difflib.get_close_matches(_plain(text)[:LONGEST], names, n=1, cutoff=0.8)
    return names[close[0]] if close else None


def _plain(text: str) -> str:
    return "".join(c for c in text.lower().replace("++", "pp") if c.isalnum())
