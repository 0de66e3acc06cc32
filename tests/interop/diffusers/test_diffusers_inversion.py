"""Plans of diffusers' inverse schedulers, against the loops of the schedulers themselves."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError, ArgumentTypeError
from fewstep.eval.solver.counting import Counting
from fewstep.interop.diffusers import ConfigError, FewstepScheduler, inverse_plan, invert
from fewstep.models import wrap
from fewstep.schedules import DiscreteVP, VPLinear

diffusers = pytest.importorskip("diffusers")

KINDS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


def network(x: Tensor, t: Tensor | float) -> Tensor:
    """A smooth function of the state and the label."""
    time = torch.as_tensor(t, dtype=x.dtype).reshape(-1)[:1]
    return 0.6 * torch.tanh(x + 1e-3 * time) + 0.3 * x


def loop(scheduler: Any, steps: int, x: Tensor) -> tuple[Tensor, int]:
    """The scheduler's own loop, with its float32 table widened before ``1 - alphas_cumprod``."""
    for name in ("alphas_cumprod", "initial_alpha_cumprod"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).double())
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t.item()), t, x).prev_sample
    return x, len(scheduler.timesteps)


def compare(scheduler: Any, steps: int, tolerance: float = 1e-5) -> fewstep.plans.Plan:
    config = dict(scheduler.config)
    assert config["_class_name"] == type(scheduler).__name__ if "_class_name" in config else True
    config["_class_name"] = type(scheduler).__name__
    plan = inverse_plan(config, steps)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted, _ = loop(scheduler, steps, x)
    table = DiscreteVP.from_alphas_cumprod(scheduler.alphas_cumprod.tolist())
    den = wrap(network, table, KINDS[config["prediction_type"]], shape=(3,))
    found = fewstep.run(plan, den, x)
    size = float(wanted.abs().max())
    assert bool(torch.isfinite(wanted).all())
    assert float((found - wanted).abs().max()) < tolerance * size
    assert inverse_plan(json.loads(json.dumps(config, default=str)), steps) == plan
    return plan


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_ddim_inverse(steps: int, spacing: str, prediction: str) -> None:
    for given in (
        {},
        {"set_alpha_to_one": False, "steps_offset": 1},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"rescale_betas_zero_snr": True},
    ):
        if given.get("rescale_betas_zero_snr") and prediction == "epsilon":
            continue
        scheduler = diffusers.DDIMInverseScheduler(
            clip_sample=False, prediction_type=prediction, timestep_spacing=spacing, **given
        )
        plan = compare(scheduler, steps)
        assert plan.nfe == steps and len(plan.off_label) == steps


def test_ddim_inverse_of_data_predictions() -> None:
    scheduler = diffusers.DDIMInverseScheduler(
        clip_sample=False, prediction_type="sample", set_alpha_to_one=False
    )
    # the table's first sigma^2 is 1e-4, of which float32 betas keep four digits
    compare(scheduler, 10, tolerance=3e-4)


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("steps", [6, 20])
def test_dpm_solver_inverse(steps: int, spacing: str) -> None:
    for given in (
        {},
        {"solver_order": 1},
        {"algorithm_type": "dpmsolver", "prediction_type": "v_prediction"},
        {"solver_type": "heun", "lower_order_final": False},
        {"solver_order": 3},
        {"prediction_type": "sample", "steps_offset": 1},
        {"lambda_min_clipped": -5.1, "beta_schedule": "squaredcos_cap_v2"},
    ):
        if spacing == "trailing" and ("solver_type" in given or given.get("solver_order") == 3):
            continue  # test_diffusers_has_no_number_there
        with warnings.catch_warnings():  # diffusers means to drop algorithm_type="dpmsolver"
            warnings.simplefilter("ignore", FutureWarning)
            scheduler = diffusers.DPMSolverMultistepInverseScheduler(
                timestep_spacing=spacing, **given
            )
        plan = compare(scheduler, steps, 3e-4 if "steps_offset" in given else 2e-5)
        assert plan.nfe == steps - (spacing == "trailing")
        assert plan.start.lam > plan.end.lam


@pytest.mark.parametrize("given", [{"solver_type": "heun"}, {"solver_order": 3}])
def test_diffusers_has_no_number_there(given: dict[str, Any]) -> None:
    """Its last step with trailing times has no length, and divides by it; ours is left out."""
    scheduler = diffusers.DPMSolverMultistepInverseScheduler(timestep_spacing="trailing", **given)
    x = torch.ones(2, 3, dtype=torch.float64)
    assert bool(loop(scheduler, 20, x)[0].isnan().all())
    config = {**scheduler.config, "_class_name": type(scheduler).__name__}
    plan = inverse_plan(config, 20)
    table = DiscreteVP.from_alphas_cumprod(scheduler.alphas_cumprod.tolist())
    den = wrap(network, table, "eps", shape=(3,))
    assert bool(fewstep.run(plan, den, x).isfinite().all()) and plan.nfe == 19


STABLE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


@pytest.mark.parametrize(
    "origin",
    ["PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"],
)
@pytest.mark.parametrize("name", ["DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler"])
def test_made_from_the_scheduler_of_a_pipeline(name: str, origin: str) -> None:
    """Such a config keeps the other class's keys, which diffusers ignores."""
    more = {"skip_prk_steps": True} if origin == "PNDMScheduler" else {}
    config = getattr(diffusers, origin)(**STABLE, **more).config
    own = {"clip_sample": False} if name == "DDIMInverseScheduler" else {}
    inverse = getattr(diffusers, name).from_config(config, **own)
    if inverse.config.timestep_spacing == "linspace" and own:
        inverse.register_to_config(timestep_spacing="leading")
    if origin == "PNDMScheduler":
        assert "skip_prk_steps" in inverse.config
    plan = compare(inverse, 12)
    assert inverse_plan(inverse, 12) == plan  # the scheduler itself


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_noise_and_the_way_back_are_those_of_the_pair_of_schedulers(spacing: str) -> None:
    given = {"clip_sample": False, "timestep_spacing": spacing}
    inverse, forward = diffusers.DDIMInverseScheduler(**given), diffusers.DDIMScheduler(**given)
    x0 = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = loop(inverse, 20, x0)[0]
    table = DiscreteVP.from_alphas_cumprod(inverse.alphas_cumprod.tolist())
    den, seen = Counting(wrap(network, table, "eps", shape=(3,))), []
    found, info = invert(
        diffusers.DDIMInverseScheduler(**given), den, x0, 20, info=True,
        progress=lambda *n: seen.append(n),
    )  # fmt: skip
    torch.testing.assert_close(found, noise, rtol=1e-5, atol=1e-5)
    assert den.calls == 40 and info.nfe == 20 and seen[-1] == (20, 20)
    forward.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    back = loop(forward, 20, noise)[0]
    torch.testing.assert_close(info.reconstruction, back, rtol=1e-4, atol=1e-4)
    assert info.largest == pytest.approx(float((back - x0).abs().max()), rel=1e-3)
    assert torch.equal(fewstep.run(info.plan, den, found), info.reconstruction)
    assert torch.equal(invert(inverse, den, x0, 20), found)


@pytest.mark.parametrize("given", [{}, {"algorithm_type": "dpmsolver"}, {"solver_order": 3}])
@pytest.mark.parametrize("spacing", ["linspace", "leading"])
def test_the_round_trip_of_dpm_solver_closes_with_the_steps(spacing: str, given: Any) -> None:
    config = {"_class_name": "DPMSolverMultistepInverseScheduler", "timestep_spacing": spacing}
    table = DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000).tolist())
    den = fewstep.models.GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.5, [0.5, 0.5], table)
    x0 = den.sample(16, 0)
    errors = [
        float(invert({**config, **given}, den, x0, n, info=True)[1].errors.mean())
        for n in (25, 100)
    ]
    assert errors[1] < 0.25 * errors[0] and errors[1] < 0.01, errors


def test_what_to_call_is_said() -> None:
    """``FewstepScheduler`` and ``fewstep.invert`` name the function for these schedulers."""
    table = DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000).tolist())
    den, x0 = Counting(wrap(network, table, "eps", shape=(3,))), torch.zeros(2, 3)
    wanted = r"fewstep\.interop\.diffusers\.invert\(scheduler, denoiser, x0, steps\)"
    for name in ("DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler"):
        scheduler = getattr(diffusers, name)()
        config = {**scheduler.config, "_class_name": name}
        for given in (scheduler, config):
            with pytest.raises(ConfigError, match=f"{name} goes from data to noise.*{wanted}"):
                FewstepScheduler.from_config(given)
            with pytest.raises(ArgumentTypeError, match=wanted):
                fewstep.invert(den, x0, given, steps=5)
    bare = dict(diffusers.DDIMInverseScheduler(clip_sample=False).config)
    bare.pop("_class_name", None)
    with pytest.raises(ConfigError, match="pass the scheduler itself"):
        inverse_plan(bare, 5)
    with pytest.raises(ConfigError, match="must be a scheduler or its config"):
        inverse_plan("DDIMInverseScheduler", 5)
    for other in (DiscreteVP.from_betas([0.01] * 1000), VPLinear()):
        wrong = Counting(wrap(network, other, "eps", shape=(3,)))
        with pytest.raises(ArgumentError, match="has not the level of the DDIMInverseScheduler"):
            invert({**bare, "_class_name": "DDIMInverseScheduler"}, wrong, x0, 5)
        assert wrong.calls == 0
    assert den.calls == 0


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    ("DDIMInverseScheduler", {}, 10, "clips its predictions"),
    ("DDIMInverseScheduler", {"clip_sample": False, "steps": 3}, 10, "steps"),
    ("DDIMInverseScheduler", {"clip_sample": False, "steps_offset": 1}, 1000, "beyond the"),
    ("DDIMInverseScheduler", {"clip_sample": False}, 1001, "at most num_train_timesteps"),
    (
        "DDIMInverseScheduler",
        {"clip_sample": False, "timestep_spacing": "linspace"},
        10,
        "leading and trailing",
    ),
    ("DDIMScheduler", {}, 10, "DDIMInverseScheduler"),
    ("DPMSolverMultistepInverseScheduler", {"thresholding": True}, 10, "clips its predictions"),
    ("DPMSolverMultistepInverseScheduler", {"use_karras_sigmas": True}, 10, "special levels"),
    (
        "DPMSolverMultistepInverseScheduler",
        {"algorithm_type": "sde-dpmsolver++"},
        10,
        "draws noise",
    ),
    (
        "DPMSolverMultistepInverseScheduler",
        {"solver_order": 3, "timestep_spacing": "trailing"},
        10,
        "not served",
    ),
    ("DPMSolverMultistepInverseScheduler", {"solver_order": 7}, 10, "solver_order=7"),
    ("DPMSolverMultistepInverseScheduler", {}, 1000, "fewer steps"),
]


@pytest.mark.parametrize(("name", "given", "steps", "message"), REFUSED)
def test_refused(name: str, given: dict[str, Any], steps: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        inverse_plan({"_class_name": name, **given}, steps)


def test_the_table_of_keys_is_that_of_the_installed_classes() -> None:
    """A key that an inverse class has and its forward class has not would be refused."""
    for name in ("DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler"):
        config = dict(getattr(diffusers, name)().config)
        config |= {"_class_name": name, "clip_sample": False} if "DDIM" in name else {}
        inverse_plan({**config, "_class_name": name}, 10)
