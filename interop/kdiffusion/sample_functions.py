"""k-diffusion's functions with its signatures, and one for every other registered sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, ArgumentTypeError, choice, unknown
from ...engine import run, sample
from ...engine.planning import request
from ...plans.plan import Plan
from ...plans.running.loop import OnStep, StepState
from ...samplers import ALIASES, SamplerError, names
from ...schedules.grids.request import GridRequest
from . import noises
from .arguments import (
    Levels,
    check_callables,
    check_state,
    churned,
    mapping,
    order_of,
    rounded,
    size,
)
from .definition import Options, function, path_of
from .following import Callback, KDiffusionModel, Model, step_starts
from .level_ranges import adaptive, fast
from .noises import Draws, NoiseSampler

Extra = Mapping[str, Any] | None


@function("euler", noises.churn_asks, slope_first=True)
def sample_euler(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Options:
    """Euler steps in sigma after churn (Karras et al. 2022, arXiv 2206.00364, Alg. 2 without its
    second half)."""
    return churned(s_churn, s_tmin, s_tmax, s_noise)


@function("euler_ancestral", noises.step_asks)
def sample_euler_ancestral(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Options:
    """Euler step to a lower noise level, then fresh noise up to the wanted one."""
    return {"eta": eta, "s_noise": s_noise}


@function("heun", noises.churn_asks, slope_first=True)
def sample_heun(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Options:
    """Heun steps in sigma after churn (Karras et al. 2022, arXiv 2206.00364, Alg. 2)."""
    return churned(s_churn, s_tmin, s_tmax, s_noise)


@function("dpm2", noises.churn_asks, slope_first=True)
def sample_dpm_2(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Options:
    """DPM-Solver-2 steps, midpoint in log sigma, after churn."""
    return churned(s_churn, s_tmin, s_tmax, s_noise)


@function("dpm2_ancestral", noises.step_asks)
def sample_dpm_2_ancestral(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Options:
    """DPM-Solver-2 step to a lower noise level, then fresh noise up to the wanted one."""
    return {"eta": eta, "s_noise": s_noise}


@function("lms", slope_first=True)
def sample_lms(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    order: int = 4,
) -> Options:
    """Linear multistep (Adams-Bashforth) in sigma."""
    return {"order": order_of(order, len(sigmas) - 1)}


@function("dpmpp_2s_ancestral", noises.step_asks)
def sample_dpmpp_2s_ancestral(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Options:
    """DPM-Solver++ 2S step to a lower noise level, then fresh noise up to the wanted one."""
    return {"eta": eta, "s_noise": s_noise}


@function("dpmpp_sde", noises.two_stage_asks, path=True)
def sample_dpmpp_sde(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    r: float = 1 / 2,
) -> Options:
    """DPM-Solver++ SDE: an ancestral step to the stage, then an ancestral step with the corrected
    prediction."""
    return {"eta": eta, "s_noise": s_noise, "r": r, "noises": "overlapping"}


@function("dpmpp_2m")
def sample_dpmpp_2m(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
) -> Options:
    """DPM-Solver++ 2M."""
    return {"lower_order_final": False}


@function("dpmpp_2m_sde", noises.sde_asks, path=True)
def sample_dpmpp_2m_sde(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    solver_type: str = "midpoint",
) -> Options:
    """SDE-DPM-Solver++ 2M."""
    correction = choice("solver_type", solver_type, ("midpoint", "heun"))
    return {"eta": eta, "s_noise": s_noise, "correction": correction, "lower_order_final": False}


@function("dpmpp_3m_sde_compat", noises.sde_asks, path=True)
def sample_dpmpp_3m_sde(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Options:
    """SDE-DPM-Solver++ 3M with half of the second difference."""
    return {"eta": eta, "s_noise": s_noise, "lower_order_final": False}


@function("dpm_fast", run=fast, slope_first=True)
def sample_dpm_fast(
    model: Model,
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    n: int,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    eta: float = 0.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Options:
    """DPM-Solver-fast: ``n`` network calls from sigma_max to sigma_min, in blocks of order 3, then
    2 and 1."""
    return {"eta": eta, "s_noise": s_noise}


@function("dpm_adaptive", run=adaptive)
def sample_dpm_adaptive(
    model: Model,
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    extra_args: Extra = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    pcoeff: float = 0.0,
    icoeff: float = 1.0,
    dcoeff: float = 0.0,
    accept_safety: float = 0.81,
    eta: float = 0.0,
    s_noise: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    return_info: bool = False,
) -> Options:
    """DPM-Solver of orders 1 and 2, or 2 and 3, with adaptive steps from sigma_max to sigma_min.

    ``return_info`` gives ``(x, info)`` with the counts ``steps, nfe, n_accept, n_reject``.
    """
    rule = {"pcoeff": pcoeff, "icoeff": icoeff, "dcoeff": dcoeff, "accept_safety": accept_safety}
    steps = {
        "order": order,
        "rtol": rounded(rtol),
        "atol": rounded(atol),
        "h0": size(h_init),
        "control": "pid",
        "coupling": "mean",
    }
    return {**steps, **rule, "eta": eta, "s_noise": s_noise}


def sampler(name: str) -> Callable[..., Any]:
    """The function called ``name``, for instance ``sampler("sample_dpmpp_2m")``; SamplerError with
    the nearest match for an unknown one."""
    found: Any = globals().get(name) if name in NAMES else None
    if found is not None:
        return found  # type: ignore[no-any-return]
    return _registered(name, *_resolved(name))


def _resolved(name: str) -> tuple[str, Options]:
    if name in ALIASES:
        return ALIASES[name].sampler, dict(ALIASES[name].options)
    own = name.removeprefix("sample_")
    if own not in names():
        raise SamplerError(
            unknown(
                "function",
                name,
                [
                    *(a for a in ALIASES if a.startswith("sample_")),
                    *(f"sample_{n}" for n in names()),
                ],
            )
        )
    return own, {}


def _registered(name: str, own: str, fixed: Options) -> Callable[..., Tensor]:
    """The function of a sampler that k-diffusion does not have."""

    def call(
        model: Model,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Extra = None,
        callback: Callback | None = None,
        disable: bool | None = None,
        *further: Any,
        noise_sampler: NoiseSampler | None = None,
        **options: Any,
    ) -> Tensor:
        if further:
            raise ArgumentTypeError(
                f"{name} takes 6 arguments by position, {6 + len(further)} were given; "
                "noise_sampler and options go by keyword"
            )
        check_state(x)
        check_callables(model=model, callback=callback, noise_sampler=noise_sampler)
        levels = Levels.of(sigmas)
        schedule = path_of(levels.values)
        if schedule is None:
            return x
        den = KDiffusionModel(model, mapping(extra_args), schedule)
        asked = request(own, schedule, {**fixed, **options}, GridRequest(times=levels.values))
        if not asked.driver:
            return _follow_plan(asked.plan(), den, x, levels, callback, noise_sampler)
        if noise_sampler is not None:
            raise ArgumentError(
                f"{name} chooses its steps as it goes: noise_sampler cannot be asked for "
                "them; leave it out"
            )
        return _drive(den, own, x, levels, callback, {**fixed, **options})

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Sampler {own!r} with k-diffusion's arguments; its options go by keyword."
    return call


def _follow_plan(
    plan: Plan,
    den: KDiffusionModel,
    x: Tensor,
    levels: Levels,
    callback: Callback | None,
    noise_sampler: NoiseSampler | None,
) -> Tensor:
    """Run a plan with the caller's noises and callback."""
    draws = Draws(plan, None, None, noise_sampler)
    watch = _watcher(callback, step_starts(plan), levels.tensor)
    return run(plan, den, x, noise=draws.take, on_step=watch)


def _drive(
    den: KDiffusionModel,
    name: str,
    x: Tensor,
    levels: Levels,
    callback: Callback | None,
    options: Options,
) -> Tensor:
    """Run a driver with torch's own normals."""
    watch = _watcher(callback, None, None)
    out: Tensor = sample(
        den,
        name,
        times=levels.values,
        x=x,
        noise=lambda key, like: torch.randn_like(like),
        callback=watch,
        **options,
    )
    return out


def _watcher(
    callback: Callback | None, starts: Mapping[int, int] | None, sigmas: Tensor | None
) -> OnStep | None:
    """``callback`` as an ``on_step``: it looks, and replaces nothing. ``starts`` None: every step
    is one (drivers)."""
    if callback is None:
        return None

    def watch(step: StepState) -> None:
        i = step.index if starts is None else starts.get(step.index)
        if i is None:
            return
        hat = torch.tensor(step.node.sigma, dtype=torch.float64)
        sigma = hat if sigmas is None else sigmas[i]
        callback(
            {"x": step.x, "i": i, "sigma": sigma, "sigma_hat": hat, "denoised": step.outputs["x0"]}
        )

    return watch


#: the functions of the public package
NAMES = tuple(name for name in list(globals()) if name.startswith("sample_"))
