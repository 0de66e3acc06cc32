"""What the settings of the authors' own repositories are called here."""

from __future__ import annotations

from golden_cases import Case
from golden_kinds import (
    SINGLE,
    LeftOut,
    Recipe,
    dpm_multistep,
    each,
    repeated_second,
    runge_kutta_start,
)


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
    variant = "vary_coeff_compat" if s["variant"] == "vary_coeff" else s["variant"]
    kind = "x0" if s["algorithm_type"] == "data_prediction" else "eps"
    return Recipe("unipc", {"order": s["order"], "variant": variant, "kind": kind}, each(case))


def dc_solver(case: Case) -> Recipe:
    """wl-zhao/DC-Solver, which is UniPC where nothing is compensated."""
    if set(case.settings["dc_ratios"]) != {1.0}:
        raise LeftOut("DC-Solver")
    return Recipe(
        "unipc", {"order": case.settings["order"], "variant": case.settings["variant"]}, each(case)
    )


TABLEAUS = {
    "1euler": "euler",
    "2heun": "heun",
    "3kutta": "kutta3",
    "3ral": "ralston3",
    "3heun": "heun3",
    "4rk": "rk4",
}
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
        return Recipe(
            "deis", {"variant": "rhork", "rk": tableau}, each(case, int(s["rk_method"][0]))
        )
    return Recipe(
        "deis", {"variant": s["method"].replace("_", ""), "order": s["ab_order"] + 1}, each(case)
    )


def diff_sampler(case: Case) -> Recipe:
    """zju-pi/diff-sampler."""
    order = case.settings["max_order"]
    if case.sampler == "deis_sampler":
        return Recipe("deis", {"variant": case.settings["deis_mode"], "order": order}, each(case))
    if case.sampler == "dpm_pp_sampler":
        return dpm_multistep(case, "++", order, True)
    if case.sampler == "unipc_sampler":
        return Recipe("unipc", {"order": order, "variant": case.settings["variant"]}, each(case))
    if case.sampler == "ipndm_v_sampler":
        return Recipe("ipndm_v_compat", {"order": order}, each(case))
    return Recipe("ipndm", {"order": order}, each(case))


def pndm_official(case: Case) -> Recipe:
    """luping-liu/PNDM."""
    if case.settings["method"] == "S-PNDM":
        return Recipe("pndm", {"variant": "S"}, repeated_second(case))
    if case.settings["method"] != "F-PNDM":
        raise LeftOut(case.settings["method"])
    return Recipe("pndm", {}, runge_kutta_start(case))


def rectified_flow(case: Case) -> Recipe:
    """gnobitab/RectifiedFlow."""
    return Recipe("flow_euler", {}, each(case))


def flow_matching(case: Case) -> Recipe:
    """facebookresearch/flow_matching over torchdiffeq, whose rk4 is the 3/8 rule."""
    method = case.settings["method"]
    if method == "heun3":
        return Recipe("flow_heun3", {}, each(case, 3))
    if method == "rk4":
        return Recipe("flow_rk4", {"rule": "3/8", "evaluate_end": True}, each(case, 4))
    return Recipe(f"flow_{method}", {}, each(case, 2 if method == "midpoint" else 1))
