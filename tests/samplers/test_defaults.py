"""Defaults that decide a user's numbers where nothing is said: of samplers, paths, metrics and
commands. A change of one is a decision."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

import fewstep
from fewstep import eval as E
from fewstep import jobs
from fewstep.cli.generate import MODEL
from fewstep.cli.settings import defaults_of
from fewstep.engine.likelihood import likelihood
from fewstep.samplers import get, names
from fewstep.schedules import (
    EDM,
    PFGMPP,
    VE,
    DiscreteVP,
    Flow,
    MeanReverting,
    SubVP,
    VPLinear,
    VPSigmoid,
)

CHURN = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": None, "s_noise": 1.0}
STAGES = {"r1": None, "r2": 2 / 3, "correction": "midpoint", "blocks": "full", "orders": ()}
MIDPOINT = {"correction": "midpoint", "lower_order_final": True}
SDE = {"tau": 1.0, "s_noise": 1.0}
V3 = {
    "order": 3,
    "corrector": "none",
    "p_pseudo": False,
    "lower_order_final": True,
    "settings": "none",
}
V3 |= {"statistics": None, "l": 1.0, "s": 0.0, "force": False}
TOLERANCES = {"rtol": 1e-5, "atol": 1e-5, "per_sample": False}
PID = {
    "control": "dpm",
    "theta": 0.9,
    "pcoeff": 0.0,
    "icoeff": 1.0,
    "dcoeff": 0.0,
    "accept_safety": 0.81,
    "coupling": "max",
}

#: options by sampler; what is not listed here is not checked
OPTIONS: dict[str, dict[str, Any]] = {
    "adaptive_sde": {
        "tau": 1.0,
        "scheme": "shark",
        "rtol": 0.02,
        "atol": 0.01,
        "h0": 0.05,
        "per_sample": False,
    },
    "consistency": {"floor": 0.0},
    "ddim": {"tau": 0.0},
    "ddpm": {"variance": "fixed_small"},
    "deis": {"variant": "tab", "order": 3, "rk": "kutta3", "lower_order_final": False},
    "dmcmc": {
        "sweeps": 10,
        "burn_in": 0,
        "langevin": 1,
        "eta": 0.2,
        "levels": 500,
        "jump": 0.5,
        "finish": "dpmpp_2m",
        "finish_steps": 5,
    },
    "dpm2": CHURN,
    "dpm2_ancestral": SDE,
    "dpm_adaptive": {
        "order": 3,
        "kind": "eps",
        "rtol": 0.05,
        "atol": 0.0078,
        "h0": 0.05,
        "per_sample": False,
        **PID,
    },
    "dpm_fast": {"tau": 0.0, "s_noise": 1.0, "blocks": "full"},
    "dpm_solver_2": STAGES,
    "dpm_solver_2m": MIDPOINT,
    "dpm_solver_3": STAGES,
    "dpm_solver_3m": {**MIDPOINT, "third": "exact"},
    "dpmpp_2m": MIDPOINT,
    "dpmpp_2m_sde": {**MIDPOINT, **SDE},
    "dpmpp_2s": STAGES,
    "dpmpp_2s_ancestral": SDE,
    "dpmpp_3m": MIDPOINT,
    "dpmpp_3m_sde": {**SDE, "lower_order_final": True},
    "dpmpp_3s": STAGES,
    "dpmpp_sde": {**SDE, "r1": 0.5, "noises": "split"},
    "er_sde": {"order": 3, "diffusion": "sde_5", "s_noise": 1.0, "lower_order_final": False},
    "etdrk4": {"tableau": "cox_matthews", "kind": "x0"},
    "euler": CHURN,
    "euler_ancestral": SDE,
    "exponential_adams": {
        "order": 3,
        "kind": "x0",
        "variable": "lam",
        "corrector": "none",
        "correction": "exact",
        "lower_order_final": True,
        "points": 0,
        "scale": 0.0,
    },
    "flow_adams": {"order": 2, "lower_order_final": False},
    "flow_heun": {"evaluate_end": False},
    "flow_rk4": {"evaluate_end": False, "rule": "classic"},
    "flow_sde": {"tau": 0.7 / 2**0.5, "form": "exact", "order": 1, "window": ()},
    "ghvb": {"order": 1.8},
    "gradient_estimation": {"gamma": 2.0},
    "heavy_ball": {"beta": 0.8, "base": "ipndm", "order": 4, "nesterov": False},
    "heun": CHURN,
    "interpolant_ode": {"method": "heun"},
    "interpolant_sde": {"diffusion": "sbdm", "scale": 1.0, "method": "em", "last": "tweedie"},
    "ipndm": {"order": 4},
    "ipndm_v": {"order": 4, "lower_order_final": False},
    "lcm": {"timestep_scaling": 0.0},
    "lms": {"order": 4, "lower_order_final": False},
    "ode45": TOLERANCES,
    "ode853": TOLERANCES,
    "pc": {
        "predictor": "reverse_diffusion",
        "corrector": "langevin",
        "snr": 0.16,
        "corrections": 1,
        "norms": "sample",
    },
    "pfgmpp": CHURN,
    **dict.fromkeys(("dpm_solver_v3", "dpm_solver_v3_elementwise"), V3),
    "picard": {"method": "ddim", "window": 16, "tol": 0.1},
    "pndm": {"variant": "F"},
    "res_2m": {"lower_order_final": True},
    "res_2s": {"r1": 0.5, "kind": "x0"},
    "res_3s": {"r1": 0.5, "kind": "x0", "r2": 1.0, "gamma": "exact"},
    "restart": {"preset": "cifar10", "intervals": (), "s_noise": 1.0},
    "sa_solver": {
        "predictor_order": 2,
        "corrector_order": 2,
        "tau": 1.0,
        "interval": (),
        "clock": "t",
        "mode": "pec",
        "kind": "x0",
        "correction": "exact",
        "end_noise": False,
        "lower_order_final": True,
    },
    "sde_dpm_solver_1": {"tau": 1.0, "s_noise": 1.0},
    "sde_dpm_solver_2m": {**MIDPOINT, "tau": 1.0, "s_noise": 1.0},
    "seeds_2": {"kind": "x0", "correction": "midpoint", "tau": 1.0, "r1": 0.5},
    "seeds_3": {"kind": "x0", "correction": "midpoint", "tau": 1.0},
    "tcd": {"gamma": 0.3},
    "unip": {"order": 2, "correction": "midpoint", "kind": "x0", "lower_order_final": True},
    "unipc": {
        "order": 2,
        "correction": "midpoint",
        "corrector": True,
        "kind": "x0",
        "lower_order_final": True,
        "skip_corrector": (),
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_a_sampler(name: str) -> None:
    made = get(name).options()
    assert {key: getattr(made, key) for key in OPTIONS[name]} == OPTIONS[name]


def test_a_driver_stops_at_ten_thousand_calls() -> None:
    assert {get(name).options().max_nfe for name in names("driver")} == {10_000}


def test_parameters_of_paths() -> None:
    found = {
        kind: {
            f.name: f.default
            for f in dataclasses.fields(kind)
            if f.default is not dataclasses.MISSING
        }
        for kind in (VPLinear, SubVP, VPSigmoid, VE, EDM, Flow)
    }
    assert found == {
        VPLinear: {"beta_min": 0.1, "beta_max": 20.0},
        SubVP: {"beta_min": 0.1, "beta_max": 20.0},
        VPSigmoid: {"start": -3.0, "end": 3.0, "tau": 1.0},
        VE: {"sigma_min": 0.01, "sigma_max": 50.0},
        EDM: {"sigma_min": 0.002, "sigma_max": 80.0},
        Flow: {"shift": 1.0},
    }
    assert DiscreteVP.from_betas([0.1, 0.2]).interpolation == "log_rho"
    assert (PFGMPP(8.0).sigma_min, PFGMPP(8.0).sigma_max, PFGMPP(8.0).jump) == (
        0.002,
        80.0,
        "exact",
    )
    assert MeanReverting() == MeanReverting(1.0, VPLinear())


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (
            fewstep.sample,
            {
                "sampler": "auto",
                "grid": "auto",
                "final": "zero",
                "seed": 0,
                "noise": "independent",
                "steps": None,
            },
        ),
        (fewstep.plan, {"grid": "auto", "final": "zero", "steps": None}),
        (fewstep.invert, {"sampler": "dpm_solver_2m", "grid": "auto", "final": None}),
        (
            likelihood,
            {
                "steps": 64,
                "rule": "rk4",
                "trace": "auto",
                "probes": 1,
                "probe": "rademacher",
                "seed": 0,
                "t": None,
            },
        ),
        (E.kernel_distance, {"subsets": 100, "subset_size": 1000, "seed": 0}),
        (E.cmmd, {"sigma": 10.0, "estimator": "biased"}),
        (E.mmd, {"bandwidths": (0.25, 0.5, 1.0, 2.0, 4.0), "permutations": 0, "seed": 0}),
        (E.precision_recall, {"k": 3, "k_density": 5}),
        (E.sliced_wasserstein, {"directions": 500, "order": 2.0, "seed": 0}),
        (E.wasserstein, {"order": 2.0}),
        (E.inception_score, {"splits": 10}),
        (E.mode_coverage, {"radius": 3.0}),
        (E.frechet_interval, {"resamples": 200, "level": 0.95, "seed": 0}),
        (E.frechet_infinity, {"sizes": 15, "smallest": None, "seed": 0}),
        (
            E.solver_error,
            {"sampler": "auto", "grid": "auto", "final": "zero", "n": 64, "seed": 0},
        ),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_arguments_of_a_function(function: Any, wanted: dict[str, Any]) -> None:
    given = inspect.signature(function).parameters
    assert {key: given[key].default for key in wanted} == wanted


@pytest.mark.parametrize(
    ("job", "wanted"),
    [
        (
            jobs.generate,
            {
                "seeds": range(64),
                "batch": 64,
                "sampler": "auto",
                "grid": "auto",
                "final": "zero",
                "labels": "cycle",
            },
        ),
        (
            jobs.score,
            {
                "seeds": range(2000),
                "batch": 64,
                "labels": "random",
                "metrics": "fd",
                "level": 0.95,
                "seed": 0,
                "keep": 50000,
                "pairs": 10000,
            },
        ),
        (jobs.reference, {"keep": 50000, "batch": 64, "features": False, "skip_corrupt": False}),
    ],
    ids=["generate", "score", "ref"],
)
def test_settings_of_a_command(job: Any, wanted: dict[str, Any]) -> None:
    """The command has those of the function that it calls."""
    assert {key: defaults_of(job)[key] for key in wanted} == wanted
    assert MODEL == "mnist"
