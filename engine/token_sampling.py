"""``fewstep.sample`` for models of tokens (``guidance.discrete``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..checks import ArgumentError, described, shown
from ..fused.noise.seeded import START_STREAM
from ..fused.noise.uniforms import SeededUniforms
from ..guidance.discrete.cursor import (
    DiscreteCursor,
    Method,
    OnTokens,
    TokenStep,
    method,
    run_tokens,
)
from ..guidance.discrete.denoiser import BaseDiscrete, DiscreteDenoiser, complete
from ..guidance.discrete.registry import TokenSamplerError, get, names
from ..models.wrapping import shape_of
from ..samplers import registry
from ..samplers.aliases import ALIASES
from ..schedules.grids.request import DEFAULT_STEPS
from .arguments import StateError, check_cond, check_watchers
from .information import SampleInfo
from .memory import check_room
from .progress import print_progress
from .start_states import chosen_seeds

#: arguments of ``sample`` that have no meaning for tokens -> their default
REFUSED: Mapping[str, Any] = {
    "plan": None,
    "sigmas": None,
    "final": "zero",
    "init": None,
    "start": None,
    "noise": "independent",
    "dtype": None,
    "grad": None,
    "parameters": None,
    "plan_parameters": None,
    "compile": False,
    "capture": None,
}


def sample_tokens(
    denoiser: DiscreteDenoiser, given: Mapping[str, Any]
) -> Tensor | tuple[Tensor, SampleInfo]:
    """Draw sequences of tokens (n, L), int64. ``given``: the arguments of ``fewstep.sample``.

    The run goes from t = 1 to t = 0, in equal steps (default 20) or through ``times``, one network
    call a step; ``x``, tokens (n, L), is the start state, whose masks are filled. Raises
    ArgumentError before the first network call for arguments and samplers of continuous models.
    """
    model = complete(denoiser)
    check_refused(given)
    check_watchers(given["callback"], given["progress"])
    if given["record"] and not given["info"]:
        raise ArgumentError("record=True keeps the states in info.states: pass info=True as well")
    how, reason = method_of(model, given)
    device = checks.device(given["device"])
    x, seeds = _start(model, given, device)
    check_room((*x.shape, model.path.states(model.vocabulary)), x.device, torch.float32)
    check_cond(given["cond"], len(x))
    began = time.perf_counter()
    cursor = DiscreteCursor(model, how, x, SeededUniforms(seeds), given["cond"])
    states = [cursor.x] if given["record"] else None
    total = how.calls(x.shape[1])
    out = run_tokens(cursor, _watcher(given["callback"], given["progress"], total, states))
    if not given["info"]:
        return out
    facts = SampleInfo(
        cursor.nfe,
        None,
        seeds,
        0.0,
        0.0,
        reason=reason,
        rows=cursor.rows,
        calls=float(cursor.nfe),
    )
    kept = None if states is None else torch.stack(states)
    return out, replace(facts, seconds=time.perf_counter() - began, states=kept)


def refuse_token_samplers(name: object) -> None:
    """Raise TokenSamplerError if ``name`` is a sampler of tokens: the model has real-valued
    states."""
    if isinstance(name, str) and name in names() and name not in ALIASES:
        raise TokenSamplerError(
            f"{name!r} is a sampler of tokens; this model's states are real numbers, for which "
            "fewstep.samplers.names() lists the samplers"
        )


def check_refused(given: Mapping[str, Any]) -> None:
    """Raise ArgumentError for arguments ``given`` that have no meaning for tokens."""
    for name, default in REFUSED.items():
        value = given.get(name, default)
        if value is not default and value != default:
            raise ArgumentError(
                f"{name}={shown(given[name])}: not an argument for a model of tokens; it takes "
                "sampler, steps or nfe or times, n, seed, seeds, x, shape, cond, device"
            )
    if given["grid"] not in ("auto", "uniform"):
        raise ArgumentError(
            f"grid={shown(given['grid'])}: a model of tokens takes equal steps in t, or times="
        )


def method_of(model: BaseDiscrete, given: Mapping[str, Any]) -> tuple[Method, str]:
    """The checked sampler, and why it was chosen if it was not named."""
    name, reason = given["sampler"], ""
    if name == "auto":
        name = "concrete_score" if model.prediction == "score" else "ancestral"
        reason = f"sampler {name}: the step of networks that predict {model.prediction}"
    if (
        isinstance(name, str)
        and name not in names()
        and (name in registry.names() or name in ALIASES)
    ):
        raise TokenSamplerError(
            f"{name!r} is a sampler of real-valued states; this model's states are tokens, for "
            f"which there are {', '.join(names(model.path))}"
        )
    steps, nfe, times = given["steps"], given["nfe"], given["times"]
    if steps is not None and nfe is not None:
        raise ArgumentError(f"steps={steps} and nfe={nfe}: give one of them")
    steps = steps if nfe is None else checks.integer("nfe", nfe, 1)
    free = isinstance(name, str) and name in names() and get(name).free
    if steps is None and times is None and not free:
        steps = DEFAULT_STEPS
    return method(name, model, steps=steps, times=times, options=given["options"]), reason


def _start(
    model: BaseDiscrete, given: Mapping[str, Any], device: torch.device | None
) -> tuple[Tensor, tuple[int, ...]]:
    """The start state (n, L) and the seeds."""
    n = given["n"]
    n = None if n is None else checks.integer("n", n, 1)
    x = prompt(model, given["x"], device)
    seeds = chosen_seeds(n, given["seed"], given["seeds"], x)
    if x is not None:
        return x, seeds
    length = length_of(model, given["shape"])
    fields = SeededUniforms(seeds, stream=START_STREAM)
    return model.path.start(fields(0, (length,), device or model.device), model.vocabulary), seeds


def prompt(model: BaseDiscrete, x: Any, device: torch.device | None) -> Tensor | None:
    """The start state ``x`` (n, L), checked, on the device of the run; None if there is none."""
    if x is None:
        return None
    found = model.path.check_tokens(x, model.vocabulary)
    if model.length is not None and found.shape[1] != model.length:
        raise StateError(f"x has {found.shape[1]} positions, the model takes {model.length}")
    return found.to(device or model.device or found.device)


def length_of(model: BaseDiscrete, shape: Sequence[int] | None) -> int:
    """The number of positions: that of ``shape``, or the model's. Raises StateError."""
    if shape is None:
        if model.length is None:
            raise StateError("the model does not define the length: pass shape=(length,)")
        return model.length
    found = shape_of(shape)
    if len(found) != 1 or (model.length is not None and found[0] != model.length):
        allowed = "(length,)" if model.length is None else f"({model.length},)"
        raise StateError(f"shape={shown(shape)}: the shape of one sequence is {allowed}")
    return found[0]


def _watcher(
    callback: OnTokens | None,
    progress: bool | Callable[[int, int], None],
    total: int,
    states: list[Tensor] | None,
) -> OnTokens | None:
    """A callback that reports progress and records the states; None if there is nothing to do."""
    if callback is None and not progress and states is None:
        return None

    def watch(step: TokenStep) -> Tensor | None:
        if progress is True:
            print_progress(step.index + 1, total)
        elif progress:
            progress(step.index + 1, total)
        edited = None if callback is None else callback(step)
        if edited is not None and not isinstance(edited, Tensor):
            raise ArgumentError(f"callback must return tokens or None, got {described(edited)}")
        if states is not None:
            states.append(step.x_next if edited is None else edited)
        return edited

    return watch
