"""Each scheduler class of diffusers against its counterpart, given the same config: the same
latents at 1, 2, 3, 5, 10, 20 and 50 steps.

Rows that deviate, and why; each cause is pinned in ``test_diffusers_deviations``:

    DDIM, N not dividing T      theirs steps to t - T // N, which is no entry of the list
    DDIM with clip_sample       theirs keeps the unclipped noise prediction (unless
                                use_clipped_model_output)
    DDIM, PNDM ending at t = 0  with set_alpha_to_one=False their last call changes nothing; ours
        goes on to sigma = 0
    PNDM                        N steps are N + 1 calls (N + 9 with the Runge-Kutta start-up): ours
                                counts calls; with v_prediction theirs
                                averages v of different times, ours the noise
    special levels (Karras, exponential, beta, lu) of the multistep classes, KDPM2
                                theirs tells the network a rounded time; equal with the exact one,
                                    or with round_timesteps=True
    special levels to sigma_min their last level comes twice and the last call changes nothing: N +
        1 steps there are N here
    flow levels of the multistep classes
                                theirs truncates the time; UniPC's first sigma is 1 - 1e-6 there
    UniPC bh1 to sigma = 0      theirs is not finite
    IPNDM                       theirs takes x0 = 0 at alpha = 0
    LMS from the middle         theirs weighs derivatives that it does not have
    SASolver                    theirs draws a noise a step and drops most; given the noise by step,
                                equal
    KDPM2 inpainting            their add_noise takes the level of the step's end at its midpoint
    DEIS, order 3, many steps   their float32 grid makes the error grow with the steps
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, distance, noise, ours, sample, theirs
from diffusers_rows import COUNTS, ROWS, calls_of, tolerance

from fewstep.interop.diffusers import stepping as diffusers_run
from fewstep.interop.diffusers.config import STYLES

#: theirs warns of its own settings (algorithm_type="dpmsolver" and so on)
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore::UserWarning:diffusers",
    "ignore:__array_wrap__:DeprecationWarning",
)


def test_every_class_has_a_row_or_a_test_of_its_own():
    assert {row.name + "Scheduler" for row in ROWS} | {
        "IPNDMScheduler",
        "SASolverScheduler",
    } == set(STYLES)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_counterpart_of_a_class_gives_its_latents(row):
    made, b = theirs(row.name, row.config), ours(row.name, row.config)
    for steps in COUNTS:
        if steps in row.apart:
            continue
        a = copy.deepcopy(made)  # set_timesteps of DPMSolverSinglestep writes into its config
        x, calls = sample(a, steps, **row.given)
        y, mine = sample(b, calls_of(row, steps, calls), **row.given)
        assert mine == calls == b.nfe
        assert distance(y, x) < tolerance(row, a, steps), steps


@pytest.mark.parametrize("row", [row for row in ROWS if row.apart], ids=str)
def test_where_a_count_is_left_out_theirs_is_really_apart(row):
    """A skipped count that agrees, or that ours cannot do where theirs can, would hide
    something."""
    a, b = theirs(row.name, row.config), ours(row.name, row.config)
    for steps in row.apart:
        try:
            x, _ = sample(a, steps, **row.given)
        except (ValueError, IndexError, RuntimeWarning):
            continue
        y, _ = sample(b, steps, **row.given)
        assert torch.isfinite(y).all() and not distance(y, x) < 1e-4, steps


@pytest.mark.parametrize("kind", ["data_prediction", "noise_prediction"])
def test_sa_solver_with_the_noise_of_each_step(kind, monkeypatch):
    """Theirs draws a noise a step and throws most of them away; ours draws what it uses. Given the
    noise by step, they agree."""
    import diffusers.schedulers.scheduling_sasolver as module

    config = {"algorithm_type": kind, **SD}
    place = {"k": 0}

    def drawn(shape: Any, **_: Any) -> torch.Tensor:
        place["k"] += 1
        return noise(100 + place["k"] - 1)

    monkeypatch.setattr(module, "randn_tensor", drawn)
    monkeypatch.setattr(
        diffusers_run.Run, "_draw", lambda self, key, like: noise(100 + self.index - 1)
    )
    for steps in COUNTS:
        place["k"] = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x, _ = sample(theirs("SASolver", config), steps)
        y, _ = sample(ours("SASolver", config), steps)
        assert distance(y, x) < 2e-5, steps


@pytest.mark.parametrize("name", ["DDIM", "DPMSolverMultistep", "EulerDiscrete", "HeunDiscrete"])
def test_times_of_the_caller(name):
    config = {"clip_sample": False} if name == "DDIM" else SD
    times = [900, 500, 200, 50]
    if name == "DDIM":
        y, calls = sample(ours(name, config), None, timesteps=times)
        z, _ = sample(ours("DPMSolverMultistep", {"solver_order": 1}), None, timesteps=times)
        assert calls == 4 and distance(y, z) < 1e-6
        return
    x, calls = sample(theirs(name, config), None, timesteps=times)
    y, mine = sample(ours(name, config), None, timesteps=times)
    assert mine == calls and distance(y, x) < 1e-5


def test_sigmas_of_the_caller():
    levels = [14.6, 6.3, 1.3, 0.4, 0.0]
    x, _ = sample(theirs("EulerDiscrete", SD), None, sigmas=levels)
    y, _ = sample(ours("EulerDiscrete", SD), None, sigmas=levels)
    assert distance(y, x) < 1e-5
    flow = [1.0, 0.8, 0.3]
    x, _ = sample(theirs("FlowMatchEulerDiscrete", {"shift": 2.0}), None, sigmas=flow)
    y, _ = sample(ours("FlowMatchEulerDiscrete", {"shift": 2.0}), None, sigmas=flow)
    z, _ = sample(ours("FlowMatchEulerDiscrete", {"shift": 2.0}), None, sigmas=[*flow, 0.0])
    assert distance(y, x) < 1e-6 and torch.equal(y, z)


def test_mu_shifts_the_times_of_the_run():
    """Their own shift, e^mu / (e^mu + 1 / sigma - 1), at two resolutions of one scheduler."""
    config = {"use_dynamic_shifting": True}
    a, b = theirs("FlowMatchEulerDiscrete", config), ours("FlowMatchEulerDiscrete", config)
    for mu in (0.5, 1.15):
        for s in (a, b):
            s.set_timesteps(6, mu=mu)
        assert torch.allclose(b.timesteps, a.timesteps, atol=1e-3) and torch.allclose(
            b.sigmas, a.sigmas, atol=1e-6
        )
