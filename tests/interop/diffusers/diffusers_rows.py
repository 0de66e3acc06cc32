"""The configs for which a diffusers class and its counterpart give the same latents, and the counts
where theirs does something else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffusers_loops import SD

COUNTS = (1, 2, 3, 5, 10, 20, 50)
OFFSET = {"steps_offset": 1, "timestep_spacing": "leading"}
V = {"prediction_type": "v_prediction"}
SVD = {
    "use_karras_sigmas": True,
    "sigma_min": 0.002,
    "sigma_max": 700.0,
    "timestep_type": "continuous",
    **V,
    "timestep_spacing": "leading",
}
BETAS = [0.01 + 0.0001 * k for k in range(100)]
LOW = {"lower_order_final": True}
NOISE = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
SDE = {"algorithm_type": "sde-dpmsolver++"}
SDE_NOISE = {"algorithm_type": "sde-dpmsolver", "final_sigmas_type": "sigma_min"}
PLMS = {"skip_prk_steps": True, "steps_offset": 1}

#: why a count of a row is not compared; each cause is pinned in test_diffusers_deviations
NEXT = "their next time is t - T // N, which is no entry of the list where N does not divide T"
STRETCH = "their stretch to shift_terminal divides by zero"
LEAST = "their one exponential level is sigma_min"
START = "their Runge-Kutta start-up takes the last four of at least four times"


@dataclass(frozen=True)
class Row:
    """``name`` + "Scheduler" with ``config``; ``apart``: counts where theirs does something else,
    with the reason."""

    name: str
    config: dict[str, Any]
    apart: dict[int, str] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [
            self.name,
            *(f"{k}={v}" for k, v in self.config.items() if k not in SD and k != "trained_betas"),
        ]
        return " ".join(words)


ROWS = [
    Row("DDIM", {"clip_sample": False, "set_alpha_to_one": False, **OFFSET, **SD}),
    Row("DDIM", {"clip_sample": False, "beta_schedule": "squaredcos_cap_v2", **V}),
    Row(
        "DDIM",
        {
            "clip_sample": False,
            "prediction_type": "sample",
            "num_train_timesteps": 100,
            "trained_betas": BETAS,
        },
    ),
    Row(
        "DDIM",
        {
            "clip_sample": False,
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
            **SD,
            **V,
        },
        {3: NEXT},
    ),
    Row("DDPM", {"clip_sample": False}),
    Row("DDPM", {"clip_sample": True}),
    Row("DDPM", {"clip_sample": False, "thresholding": True, "sample_max_value": 2.0}),
    Row("DDPM", {"clip_sample": False, "variance_type": "fixed_large", "beta_schedule": "sigmoid"}),
    Row("PNDM", {**PLMS, **SD}),
    Row("PNDM", {"steps_offset": 1, **SD}, dict.fromkeys((1, 2, 3), START)),
    Row("DPMSolverMultistep", SD),
    Row("DPMSolverMultistep", {"solver_order": 1, "timestep_spacing": "trailing", **V}),
    Row("DPMSolverMultistep", {"solver_order": 3, **OFFSET}),
    Row("DPMSolverMultistep", {"solver_order": 3, "solver_type": "heun", "euler_at_final": True}),
    Row("DPMSolverMultistep", {"solver_type": "heun", "thresholding": True}),
    Row("DPMSolverMultistep", {"lambda_min_clipped": -2.0, "beta_schedule": "squaredcos_cap_v2"}),
    Row("DPMSolverMultistep", {"solver_order": 1, **NOISE}),
    Row("DPMSolverMultistep", {"euler_at_final": True, **NOISE}),
    Row("DPMSolverMultistep", {"solver_type": "heun", **NOISE}),
    Row("DPMSolverMultistep", {"solver_order": 3, **NOISE}),
    Row("DPMSolverMultistep", {"solver_order": 1, **SDE}),
    Row("DPMSolverMultistep", {**SDE, **SD}),
    Row("DPMSolverMultistep", {"solver_type": "heun", **SDE}),
    Row("DPMSolverMultistep", {"solver_order": 1, **SDE_NOISE}),
    Row("DPMSolverMultistep", SDE_NOISE),
    Row("DPMSolverMultistep", {"solver_type": "heun", **SDE_NOISE}),
    Row("DPMSolverSinglestep", {"solver_order": 1, **LOW}),
    Row("DPMSolverSinglestep", {**LOW, **SD}),
    Row("DPMSolverSinglestep", {"solver_type": "heun", **LOW}),
    Row("DPMSolverSinglestep", {"solver_order": 3, **LOW}),
    Row("DPMSolverSinglestep", {"solver_order": 3, "solver_type": "heun", **LOW}),
    Row("DPMSolverSinglestep", {"solver_order": 1, **NOISE, **LOW}),
    Row("DPMSolverSinglestep", {**NOISE, **LOW}),
    Row("DPMSolverSinglestep", {"solver_type": "heun", **NOISE}),
    Row("DPMSolverSinglestep", {"solver_order": 3, **NOISE}),
    Row("DEISMultistep", {"solver_order": 1}),
    Row("DEISMultistep", SD),
    Row("DEISMultistep", {"solver_order": 3, "timestep_spacing": "trailing"}),
    Row("UniPCMultistep", {"solver_order": 1}),
    Row("UniPCMultistep", SD),
    Row("UniPCMultistep", {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
    Row(
        "UniPCMultistep",
        {"solver_order": 3, "prediction_type": "sample", "disable_corrector": [0, 1]},
    ),
    Row(
        "UniPCMultistep",
        {"solver_order": 3, "predict_x0": False, "final_sigmas_type": "sigma_min", **OFFSET},
    ),
    Row("HeunDiscrete", SD),
    Row("HeunDiscrete", {"use_karras_sigmas": True, **SD}),
    Row("HeunDiscrete", {"timestep_spacing": "trailing", **V}),
    Row("EulerDiscrete", SD),
    Row("EulerDiscrete", {"use_karras_sigmas": True, **SD}),
    Row("EulerDiscrete", {"use_exponential_sigmas": True, **OFFSET}),
    Row("EulerDiscrete", {"use_beta_sigmas": True, **V}),
    Row("EulerDiscrete", {"final_sigmas_type": "sigma_min", "timestep_spacing": "trailing"}),
    Row("EulerDiscrete", SVD),
    Row("EulerAncestralDiscrete", SD),
    Row("EulerAncestralDiscrete", V),
    Row("KDPM2Discrete", SD),
    Row("KDPM2AncestralDiscrete", {**OFFSET, **SD}),
    Row("LMSDiscrete", {"use_karras_sigmas": True, **SD}),
    Row("EDMEuler", {}),
    Row("EDMEuler", {"sigma_data": 1.0, "sigma_schedule": "exponential", **V}, {1: LEAST}),
    Row("EDMDPMSolverMultistep", {}),
    Row("EDMDPMSolverMultistep", {"solver_order": 1}),
    Row("EDMDPMSolverMultistep", {"solver_order": 3, "final_sigmas_type": "zero"}),
    Row("EDMDPMSolverMultistep", {"solver_type": "heun", **SDE}),
    Row("FlowMatchEulerDiscrete", {"shift": 3.0}),
    Row("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}, given={"mu": 0.8}),
    Row(
        "FlowMatchEulerDiscrete",
        {"use_dynamic_shifting": True, "time_shift_type": "linear", "shift_terminal": 0.1},
        {1: STRETCH},
        {"mu": 0.8},
    ),
    Row("FlowMatchEulerDiscrete", {"shift": 2.0, "use_karras_sigmas": True}),
    Row("FlowMatchEulerDiscrete", {"shift": 2.0, "stochastic_sampling": True}),
    Row("FlowMatchHeunDiscrete", {}),
    Row("FlowMatchHeunDiscrete", {"shift": 3.0}),
    Row("LCM", {}),
    Row("TCD", {}),
    Row("TCD", SD),
]


def calls_of(row: Row, steps: int, calls: int) -> int:
    """What ours is asked for: where a step has no fixed number of calls (PNDM) ours counts
    calls."""
    return calls if row.name == "PNDM" else steps


def tolerance(row: Row, scheduler: Any, steps: int) -> float:
    """A few float32 roundings of theirs: of the largest state that their side holds, which is sigma
    / alpha where they do not scale it; of ``1 - alpha_bar``, which they form in float32 (one step
    of linspace starts at t = 0, where it is small); of ``1 - alpha_bar_t / alpha_bar_s`` in DDPM's
    variance, which falls with the step; of the last sigma, by which FlowMatchHeun divides."""
    first = float(scheduler.sigmas[0]) if hasattr(scheduler, "sigmas") else 1.0
    made = 4e-6 + 6e-7 * max(1.0, first) + 1.2e-7 / first**2
    if row.name == "DDPM":
        made += 2e-7 * steps
    if row.name == "FlowMatchHeunDiscrete":
        made += 6e-8 / float(scheduler.sigmas[-2])
    return made
