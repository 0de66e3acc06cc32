"""What the settings of diffusers, k-diffusion and EDM are called here."""

from __future__ import annotations

from golden_cases import Case
from golden_kinds import (
    SINGLE,
    LeftOut,
    Recipe,
    blocks,
    churned,
    dpm_multistep,
    each,
    repeated_second,
    runge_kutta_start,
)

from fewstep.samplers.singlestep.dpm_solver import fill_orders


def edm_official(case: Case) -> Recipe:
    """NVlabs/edm."""
    s = case.settings
    if s.get("S_churn"):
        names = {"s_churn": "S_churn", "s_tmin": "S_min", "s_tmax": "S_max", "s_noise": "S_noise"}
        return churned(case, "heun", {ours: float(s[theirs]) for ours, theirs in names.items()})
    return Recipe("heun", {}, each(case, 2))


def k_diffusion(case: Case) -> Recipe:
    """crowsonkb/k-diffusion."""
    s, name = case.settings, case.sampler.removeprefix("sample_")
    sde = {"eta": s.get("eta", 1.0), "s_noise": s.get("s_noise", 1.0)}
    if s.get("s_churn"):
        return churned(
            case,
            {"dpm_2": "dpm2"}.get(name, name),
            {key: s[key] for key in ("s_churn", "s_tmin", "s_tmax", "s_noise")},
        )
    if name == "dpm_adaptive":
        raise LeftOut("adaptive step size")
    if name == "euler_ancestral":
        return Recipe("euler_ancestral", sde, each(case))
    if name == "dpm_fast":
        orders = fill_orders(3, len(case.calls))
        return Recipe("dpm_fast", {"orders": orders}, blocks(case, orders))
    if name == "lms":
        return Recipe("lms", {"order": s.get("order", 4)}, each(case))
    if name == "dpmpp_2m_sde":
        correction = "taylor" if s.get("solver_type") == "heun" else "midpoint"
        return Recipe(
            name, {**sde, "correction": correction, "lower_order_final": False}, each(case)
        )
    if name in ("euler", "heun", "dpm_2", "dpmpp_2m"):
        plain: dict[str, Recipe] = {
            "euler": Recipe("euler", {}, each(case)),
            "heun": Recipe("heun", {}, each(case, 2)),
            "dpm_2": Recipe("dpm2", {}, each(case, 2)),
            "dpmpp_2m": Recipe("dpmpp_2m", {"lower_order_final": False}, each(case)),
        }
        return plain[name]
    with_noise: dict[str, Recipe] = {
        "dpm_2_ancestral": Recipe("dpm2_ancestral", sde, each(case, 2)),
        "dpmpp_2s_ancestral": Recipe("dpmpp_2s_ancestral", sde, each(case, 2)),
        "dpmpp_sde": Recipe("dpmpp_sde", {**sde, "noises": "overlapping"}, each(case, 2)),
        "dpmpp_3m_sde": Recipe(
            "dpmpp_3m_sde_compat", {**sde, "lower_order_final": False}, each(case)
        ),
    }
    return with_noise[name]


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
        return Recipe(
            "unipc",
            {"order": s["solver_order"], "variant": s.get("solver_type", "bh2"), "kind": kind},
            each(case),
        )
    if name == "DEISMultistep":
        return Recipe(
            "deis",
            {"variant": "logrho", "order": s["solver_order"], "lower_order_final": short},
            each(case),
        )
    if name == "SASolver":
        return sa_solver(case)
    if name == "PNDM":
        return (
            Recipe("plms", {}, repeated_second(case))
            if s["skip_prk_steps"]
            else Recipe("pndm", {}, runge_kutta_start(case))
        )
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


def sa_solver(case: Case) -> Recipe:
    """SASolver of diffusers: noise between t = 200 and 800 of its table, and the linear second
    moment in data form."""
    s = case.settings
    kind = "x0" if s["algorithm_type"] == "data_prediction" else "eps"
    orders = {"predictor_order": s["predictor_order"], "corrector_order": s["corrector_order"]}
    return Recipe(
        "sa_solver",
        {**orders, "kind": kind, "correction": "linear", "interval": (200.0, 800.0)},
        each(case),
    )


def diffusers_dpm(case: Case, short: bool) -> Recipe:
    """DPM-Solver multistep of diffusers; its lower orders at the end act below 15 steps."""
    s = case.settings
    algorithm, order = s.get("algorithm_type", "dpmsolver++"), s.get("solver_order", 2)
    if not algorithm.startswith("sde"):
        return dpm_multistep(case, "++" if "++" in algorithm else "", order, short)
    if "++" not in algorithm:
        return Recipe(
            *(
                ("sde_dpm_solver_1", {})
                if order == 1
                else ("sde_dpm_solver_2m", {"lower_order_final": short})
            ),
            each(case),
        )
    if order == 1:
        return Recipe("ddim", {"eta": 1.0}, each(case))
    if s.get("solver_type") == "heun":
        return Recipe(
            "dpmpp_2m_sde", {"correction": "taylor", "lower_order_final": short}, each(case)
        )
    return Recipe("dpmpp_2m_sde", {"lower_order_final": short}, each(case))
