"""k-diffusion's ``sample_*`` functions over the registry, for programs that call those (k-diffusion, ComfyUI's custom samplers).

``sample_NAME(model, x, sigmas, extra_args=None, callback=None, disable=None, **options)`` exists for every k-diffusion name in
``fewstep.samplers.ALIASES`` and for every registered sampler: ``from fewstep.interop.kdiffusion import sample_dpmpp_2m, sample_unipc``.

    model(x, sigma, **extra_args) -> x0      x = x0 + sigma eps; sigma (B,), in the dtype of x
    sigmas (n + 1,)                          falling, the last one may be 0
    callback({"x", "i", "sigma", "sigma_hat", "denoised"})      once a step, with the state that the step begins from

Options are k-diffusion's (``eta s_noise s_churn s_tmin s_tmax order solver_type noise_sampler``) where the sampler has them, and the
sampler's own. Noise comes from ``noise_sampler(sigma, sigma_next)``, else from ``torch.randn_like`` as there. Both k-diffusion functions
that take a range instead of a list keep their form: ``sample_dpm_fast(model, x, sigma_min, sigma_max, n, ...)`` and
``sample_dpm_adaptive(model, x, sigma_min, sigma_max, ..., rtol, atol, order, ...)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..checks import ArgumentError, unknown
from ..engine import run, sample
from ..engine.planning import request
from ..plans.instructions import Plan
from ..plans.loop import NoiseSource, OnStep, StepState
from ..samplers import ALIASES, SamplerError, names
from ..schedules import EDM

Callback = Callable[[dict[str, Any]], Any]
NoiseSampler = Callable[[Tensor, Tensor], Tensor]
#: k-diffusion's word -> ours
WORDS = {"solver_type": "correction", "h_init": "h0"}
#: the functions that take a range of noise levels instead of a list
RANGES = ("sample_dpm_fast", "sample_dpm_adaptive")


class KDiffusionModel:
    """k-diffusion's model as a Denoiser: predicts x0 on ``alpha = 1, sigma = t``."""

    prediction = "x0"

    def __init__(self, model: Callable[..., Tensor], extra: Mapping[str, Any], schedule: EDM) -> None:
        self.model, self.extra, self.schedule = model, dict(extra), schedule
        self.shape: tuple[int, ...] | None = None

    def input_scale(self, t: float) -> float:
        """1: the model scales its input itself."""
        return 1.0

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        """The answer is the prediction."""
        return 0.0, (1.0,)

    def raws(self, x_in: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:
        """One call of the model."""
        sigma = torch.as_tensor(t, device=x_in.device).to(x_in.dtype)
        return (self.model(x_in, sigma * x_in.new_ones(x_in.shape[0]), **self.extra),)

    def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
        """x0."""
        return self.raws(x, t)[0]


def step_starts(plan: Plan) -> dict[int, int]:
    """Evaluation number -> step, for the evaluation that each step begins with: the last one within (sigma_{i-1}, sigma_i]."""
    bounds = [node.sigma for node in plan.nodes[:-1]]
    found = {}
    for i, low in enumerate(bounds):
        inside = [k for k, e in enumerate(plan.evaluations) if e.node.sigma >= low and (i == 0 or e.node.sigma < bounds[i - 1])]
        if inside:
            found[inside[0] if i == 0 else inside[-1]] = i
    return found


def watcher(callback: Callback | None, starts: Mapping[int, int] | None, sigmas: Tensor | None) -> OnStep | None:
    """``callback`` as an ``on_step``: it looks, and replaces nothing. ``starts`` None: every step is one (adaptive)."""
    if callback is None:
        return None

    def watch(step: StepState) -> None:
        i = step.index if starts is None else starts.get(step.index)
        if i is None:
            return
        hat = torch.tensor(step.node.sigma, dtype=torch.float64)
        sigma = hat if sigmas is None else sigmas[i]
        callback({"x": step.x, "i": i, "sigma": sigma, "sigma_hat": hat, "denoised": step.outputs["x0"]})

    return watch


def noise_of(plan: Plan | None, sampler: NoiseSampler | None) -> NoiseSource:
    """``noise_sampler`` asked for the interval that each draw stands for, or plain normals."""

    def draw(key: int, like: Tensor) -> Tensor:
        if sampler is None or plan is None:
            return torch.randn_like(like)
        interval = plan.draws[key]
        start, end = (torch.tensor(node.sigma, dtype=torch.float64, device=like.device) for node in (interval.start, interval.end))
        return sampler(start, end).to(like)

    return draw


def resolved(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Registered name and options of ``sample_NAME``; SamplerError with the nearest match for an unknown one."""
    given = {WORDS.get(key, key): value for key, value in options.items()}
    if name in ALIASES:
        return ALIASES[name].sampler, {**ALIASES[name].options, **given}
    own = name.removeprefix("sample_")
    if own not in names():
        raise SamplerError(unknown("function", name, [*(a for a in ALIASES if a.startswith("sample_")), *(f"sample_{n}" for n in names())]))
    return own, given


def sampler(name: str) -> Callable[..., Tensor]:
    """The function called ``name``, for instance ``sampler("sample_dpmpp_2m")``."""
    resolved(name, {})
    if name in RANGES:
        return _fast if name == RANGES[0] else _adaptive

    def function(
        model: Callable[..., Tensor],
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
        noise_sampler: NoiseSampler | None = None,
        **options: Any,
    ) -> Tensor:
        own, given = resolved(name, options)
        levels = [float(s) for s in sigmas]
        if len(levels) < 2:
            raise ArgumentError(f"sigmas has {len(levels)} levels: at least two are wanted")
        schedule = EDM(min(s for s in levels if s > 0.0) * 0.5, levels[0] * 1.5)  # churn goes up to 1.42 of the first level
        asked = request(own, schedule, given, times=levels)
        if asked.driver:
            if noise_sampler is not None:
                raise ArgumentError(f"{name} chooses its steps as it goes: noise_sampler cannot be asked for them; leave it out")
            out: Tensor = sample(
                KDiffusionModel(model, extra_args or {}, schedule),
                own,
                times=levels,
                x=x,
                noise=noise_of(None, None),
                callback=watcher(callback, None, None),
                **given,
            )
            return out
        plan = asked.plan()
        watch = watcher(callback, step_starts(plan), sigmas)
        return run(plan, KDiffusionModel(model, extra_args or {}, schedule), x, noise=noise_of(plan, noise_sampler), on_step=watch)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"k-diffusion's ``{name}`` by sampler {resolved(name, {})[0]!r}; arguments as this module says."
    return function


def _fast(
    model: Callable[..., Tensor],
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    n: int,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    noise_sampler: NoiseSampler | None = None,
    **options: Any,
) -> Tensor:
    """k-diffusion's ``sample_dpm_fast``: ``n`` network calls between two noise levels."""
    schedule = EDM(float(sigma_min), float(sigma_max))
    own, given = resolved("sample_dpm_fast", options)
    plan = request(own, schedule, given, nfe=n, grid="lam", final="sigma_min").plan()
    watch = watcher(callback, step_starts(plan), torch.tensor([node.sigma for node in plan.nodes]))
    return run(plan, KDiffusionModel(model, extra_args or {}, schedule), x, noise=noise_of(plan, noise_sampler), on_step=watch)


def _adaptive(
    model: Callable[..., Tensor],
    x: Tensor,
    sigma_min: float,
    sigma_max: float,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    **options: Any,
) -> Tensor:
    """k-diffusion's ``sample_dpm_adaptive``: DPM-Solver with adaptive steps between two noise levels, without noise."""
    schedule = EDM(float(sigma_min), float(sigma_max))
    own, given = resolved("sample_dpm_adaptive", options)
    den = KDiffusionModel(model, extra_args or {}, schedule)
    out: Tensor = sample(den, own, grid="lam", final="sigma_min", x=x, callback=watcher(callback, None, None), **given)
    return out


def __getattr__(name: str) -> Any:
    if name.startswith("sample_"):
        try:
            return sampler(name)
        except SamplerError as error:
            raise AttributeError(str(error)) from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
