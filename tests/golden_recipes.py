"""What each peer's settings are called here: a sampler, its options, and which model calls begin a step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

from golden_cases import Case, same


class Recipe(NamedTuple):
    """A replay: registered name, options, and the numbers of the model calls that are grid nodes."""

    sampler: str
    options: dict[str, Any]
    where: tuple[int, ...]


class LeftOut(ValueError):
    """No sampler of ours does this; the message says which feature is missing."""


def each(case: Case, stages: int = 1) -> tuple[int, ...]:
    """Every call begins a step, or every ``stages``-th."""
    return tuple(range(0, len(case.calls), stages))


def fresh(case: Case) -> tuple[int, ...]:
    """Calls at a level where the call before was not."""
    return tuple(i for i, call in enumerate(case.calls) if i == 0 or not same(call.rho, case.calls[i - 1].rho, 1e-8))


def runge_kutta_start(case: Case) -> tuple[int, ...]:
    """Three steps of four calls, then one a step."""
    return (0, 4, 8, *range(12, len(case.calls)))


def repeated_second(case: Case) -> tuple[int, ...]:
    """The second level is called twice, as the end of the first step and as the start of the second."""
    return (0, *range(2, len(case.calls)))


def blocks(case: Case, orders: tuple[int, ...]) -> tuple[int, ...]:
    """Steps of ``orders`` calls."""
    return tuple(accumulate((0, *orders[:-1])))


DATA_FORM = {1: "ddim", 2: "dpmpp_2m", 3: "dpmpp_3m_compat"}
NOISE_FORM = {1: "dpm_solver_1", 2: "dpm_solver_2m", 3: "dpm_solver_3m"}
SINGLE = {("++", 2): "dpmpp_2s", ("", 2): "dpm_solver_2", ("++", 3): "dpmpp_3s", ("", 3): "dpm_solver_3"}


def dpm_multistep(case: Case, form: str, order: int, lower: bool) -> Recipe:
    """DPM-Solver(++) multistep of any order."""
    name = (DATA_FORM if form else NOISE_FORM)[order]
    return Recipe(name, {} if order == 1 else {"lower_order_final": lower}, each(case))


def dpm_solver_official(case: Case) -> Recipe:
    """LuChengTHU/dpm-solver."""
    s = case.settings
    form, order = ("++" if "++" in s["algorithm_type"] else ""), s["order"]
    if s["method"] == "adaptive":
        raise LeftOut("adaptive step size")
    if s["method"] == "multistep" or order == 1:
        return dpm_multistep(case, form, order, case.steps < 10)
    return Recipe(SINGLE[form, order], {"blocks": "fill"}, each(case))


def unipc_official(case: Case) -> Recipe:
    """wl-zhao/UniPC."""
    s = case.settings
    if s["variant"] == "vary_coeff":
        raise LeftOut("UniPC vary_coeff")
    kind = "x0" if s["algorithm_type"] == "data_prediction" else "eps"
    return Recipe("unipc", {"order": s["order"], "variant": s["variant"], "kind": kind}, each(case))


def dc_solver(case: Case) -> Recipe:
    """wl-zhao/DC-Solver, which is UniPC where nothing is compensated."""
    if set(case.settings["dc_ratios"]) != {1.0}:
        raise LeftOut("DC-Solver")
    return Recipe("unipc", {"order": case.settings["order"], "variant": case.settings["variant"]}, each(case))


TABLEAUS = {"1euler": "euler", "2heun": "heun", "3kutta": "kutta3", "3ral": "ralston3", "3heun": "heun3", "4rk": "rk4"}
TABLEAUS |= {"3vdh": "houwen3", "3ssprk": "ssp3"}


def deis_official(case: Case) -> Recipe:
    """qsh-zh/deis; its orders count the nodes beside the newest."""
    s = case.settings
    if s["method"] == "ipndm":
        return Recipe("ipndm", {}, each(case))
    if s["method"] == "rho_rk":
        tableau = TABLEAUS[s["rk_method"]]
        if tableau == "euler":
            return Recipe("euler", {}, each(case))
        return Recipe("deis", {"variant": "rhork", "rk": tableau}, each(case, int(s["rk_method"][0])))
    return Recipe("deis", {"variant": s["method"].replace("_", ""), "order": s["ab_order"] + 1}, each(case))


def diff_sampler(case: Case) -> Recipe:
    """zju-pi/diff-sampler."""
    order = case.settings["max_order"]
    if case.sampler == "deis_sampler":
        return Recipe("deis", {"variant": case.settings["deis_mode"], "order": order}, each(case))
    if case.sampler == "dpm_pp_sampler":
        return dpm_multistep(case, "++", order, True)
    if case.sampler == "unipc_sampler":
        return Recipe("unipc", {"order": order, "variant": case.settings["variant"]}, each(case))
    return Recipe("ipndm", {"order": order}, each(case))


def pndm_official(case: Case) -> Recipe:
    """luping-liu/PNDM."""
    if case.settings["method"] != "F-PNDM":
        raise LeftOut(case.settings["method"])
    return Recipe("pndm", {}, runge_kutta_start(case))


def edm_official(case: Case) -> Recipe:
    """NVlabs/edm."""
    if case.settings.get("S_churn"):
        raise LeftOut("churn")
    return Recipe("heun", {}, each(case, 2))


def azula(case: Case) -> Recipe:
    """probabilists/azula; no step is of lower order at the end."""
    if case.sampler == "PCSampler":
        raise LeftOut("predictor-corrector")
    if case.sampler in ("DDIMSampler", "DDPMSampler"):
        return Recipe("ddim", {"eta": 1.0 if case.sampler == "DDPMSampler" else case.settings["eta"]}, each(case))
    if case.sampler == "HeunSampler":
        return Recipe("heun", {}, each(case, 2))
    order = case.settings["order"]
    if case.sampler == "xEABSampler":
        return Recipe(f"dpmpp_{order}m", {"correction": "taylor", "lower_order_final": False}, each(case))
    return Recipe("deis", {"variant": "rhoab" if case.sampler == "zABSampler" else "logrho", "order": order}, each(case))


def flow_matching(case: Case) -> Recipe:
    """facebookresearch/flow_matching over torchdiffeq, whose rk4 is the 3/8 rule."""
    method = case.settings["method"]
    if method == "heun3":
        raise LeftOut("third-order Heun in time")
    if method == "rk4":
        return Recipe("flow_rk4", {"rule": "3/8", "evaluate_end": True}, each(case, 4))
    return Recipe(f"flow_{method}", {}, each(case, 2 if method == "midpoint" else 1))


def rectified_flow(case: Case) -> Recipe:
    """gnobitab/RectifiedFlow."""
    return Recipe("flow_euler", {}, each(case))


def k_diffusion(case: Case) -> Recipe:
    """crowsonkb/k-diffusion."""
    s, name = case.settings, case.sampler.removeprefix("sample_")
    sde = {"eta": s.get("eta", 1.0), "s_noise": s.get("s_noise", 1.0)}
    if s.get("s_churn"):
        raise LeftOut("churn")
    if name == "dpm_adaptive":
        raise LeftOut("adaptive step size")
    if name == "euler_ancestral":
        return Recipe("euler_ancestral", sde, each(case))
    if name == "dpm_fast":
        return Recipe("dpm_solver_3", {"blocks": "fill"}, each(case))
    if name == "lms":
        return Recipe("lms", {"order": s.get("order", 4)}, each(case))
    if name == "dpmpp_2m_sde":
        correction = "taylor" if s.get("solver_type") == "heun" else "midpoint"
        return Recipe(name, {**sde, "correction": correction, "lower_order_final": False}, each(case))
    if name in ("euler", "heun", "dpm_2", "dpmpp_2m"):
        plain: dict[str, Recipe] = {
            "euler": Recipe("euler", {}, each(case)),
            "heun": Recipe("heun", {}, each(case, 2)),
            "dpm_2": Recipe("dpm2", {}, each(case, 2)),
            "dpmpp_2m": Recipe("dpmpp_2m", {"lower_order_final": False}, each(case)),
        }
        return plain[name]
    if sde["eta"]:
        raise LeftOut(f"{name} with noise")
    without_noise: dict[str, Recipe] = {
        "dpm_2_ancestral": Recipe("dpm2", {}, each(case, 2)),
        "dpmpp_2s_ancestral": Recipe("dpmpp_2s", {}, each(case, 2)),
        "dpmpp_sde": Recipe("dpmpp_2s", {}, each(case, 2)),
        "dpmpp_3m_sde": Recipe("dpmpp_3m_compat", {"correction": "taylor", "lower_order_final": False}, each(case)),
    }
    return without_noise[name]


def diffusers(case: Case) -> Recipe:
    """huggingface/diffusers."""
    s, name = case.settings, case.sampler.removesuffix("Scheduler").removesuffix("Discrete")
    short = case.steps < 15
    if name in ("DPMSolverMultistep", "EDMDPMSolverMultistep"):
        return diffusers_dpm(case, short)
    if name == "DPMSolverSinglestep":
        form = "++" if "++" in s["algorithm_type"] else ""
        return Recipe(SINGLE[form, s["solver_order"]], {"blocks": "fill"}, each(case))
    if name == "UniPCMultistep":
        kind = "x0" if s.get("predict_x0", True) else "eps"
        return Recipe("unipc", {"order": s["solver_order"], "variant": s.get("solver_type", "bh2"), "kind": kind}, each(case))
    if name == "DEISMultistep":
        return Recipe("deis", {"variant": "logrho", "order": s["solver_order"], "lower_order_final": short}, each(case))
    if name == "PNDM":
        return Recipe("plms", {}, repeated_second(case)) if s["skip_prk_steps"] else Recipe("pndm", {}, runge_kutta_start(case))
    simple: dict[str, Recipe] = {
        "DDIM": Recipe("ddim", {"eta": s.get("eta", 0.0)}, each(case)),
        "DDPM": Recipe("ddpm", {"variance": s.get("variance_type", "fixed_small")}, each(case)),
        "EDMEuler": Recipe("euler", {}, each(case)),
        "EulerAncestral": Recipe("euler_ancestral", {}, each(case)),
        "Heun": Recipe("heun", {}, each(case, 2)),
        "KDPM2": Recipe("dpm2", {}, each(case, 2)),
        "IPNDM": Recipe("ipndm", {}, each(case)),
        "FlowMatchEuler": Recipe("flow_euler", {}, each(case)),
        "FlowMatchHeun": Recipe("flow_heun", {}, each(case, 2)),
    }
    if name not in simple:
        raise LeftOut(name)
    return simple[name]


def diffusers_dpm(case: Case, short: bool) -> Recipe:
    """DPM-Solver multistep of diffusers; its lower orders at the end act below 15 steps."""
    s = case.settings
    algorithm, order = s.get("algorithm_type", "dpmsolver++"), s.get("solver_order", 2)
    if not algorithm.startswith("sde"):
        return dpm_multistep(case, "++" if "++" in algorithm else "", order, short)
    if "++" not in algorithm:
        raise LeftOut("SDE-DPM-Solver, noise form")
    if order == 1:
        return Recipe("ddim", {"eta": 1.0}, each(case))
    if s.get("solver_type") == "heun":
        return Recipe("dpmpp_2m_sde", {"correction": "taylor", "lower_order_final": short}, each(case))
    return Recipe("dpmpp_2m_sde", {"lower_order_final": short}, each(case))


def nothing(case: Case) -> Recipe:
    """Peers whose samplers we do not have."""
    raise LeftOut(case.sampler)


PEERS: dict[str, Callable[[Case], Recipe]] = {
    "diffusers": diffusers,
    "k-diffusion": k_diffusion,
    "dpm-solver": dpm_solver_official,
    "UniPC": unipc_official,
    "DC-Solver": dc_solver,
    "deis": deis_official,
    "diff-sampler": diff_sampler,
    "PNDM": pndm_official,
    "edm": edm_official,
    "azula": azula,
    "flow_matching": flow_matching,
    "RectifiedFlow": rectified_flow,
    "DPM-Solver-v3": nothing,
    "score_sde_pytorch": nothing,
}


def recipe(case: Case) -> Recipe:
    """What replays the case; LeftOut where nothing does."""
    return PEERS[case.peer](case)


def deviation(case: Case) -> str | None:
    """The known deviation that a case shows, by name; None where it must be equal."""
    name, options, _ = recipe(case)
    if name == "deis" and options["variant"] in ("tab", "rhoab"):
        sums = {"deis": "Riemann sum", "diff-sampler": "Riemann sum in the VP time" if options["variant"] == "tab" else None}
        return sums.get(case.peer)
    if name == "dpm_solver_3m":
        return "half of the second difference"
    if case.sampler == "DPMSolverSinglestepScheduler" and case.settings["solver_order"] == 3:
        return "half weight in the stage"
    if options.get("variance") == "fixed_large":
        return "noise at the end"
    return {"IPNDMScheduler": "no data at alpha = 0", "get_rectified_flow_sampler/euler": "label off the state"}.get(case.sampler)
