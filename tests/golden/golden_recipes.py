"""Which function knows a peer's settings, and which known deviation a case shows."""

from __future__ import annotations

from collections.abc import Callable

from golden_authors import (
    dc_solver,
    deis_official,
    diff_sampler,
    dpm_solver_official,
    flow_matching,
    pndm_official,
    rectified_flow,
    unipc_official,
)
from golden_cases import Case
from golden_kinds import LeftOut, Recipe
from golden_libraries import diffusers, edm_official, k_diffusion
from golden_others import azula, nothing

__all__ = ["PEERS", "LeftOut", "Recipe", "deviation", "recipe"]

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
        sums = {
            "deis": "Riemann sum",
            "diff-sampler": "Riemann sum in the VP time" if options["variant"] == "tab" else None,
        }
        return sums.get(case.peer)
    if name == "dpm_solver_3m":
        return "half of the second difference"
    if case.sampler == "DPMSolverSinglestepScheduler" and case.settings["solver_order"] == 3:
        return "half weight in the stage"
    if options.get("variance") == "fixed_large":
        return "noise at the end"
    return {
        "IPNDMScheduler": "no data at alpha = 0",
        "get_rectified_flow_sampler/euler": "label off the state",
    }.get(case.sampler)
