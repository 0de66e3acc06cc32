"""Arguments of ``FewstepScheduler.step`` beyond the first three, read as each diffusers class
defines them.

The diffusers classes define different arguments in different positions: the fourth is ``eta`` in
DDIM and TCD, ``s_churn`` in the Euler classes, a generator in others. A call is read by the
signature of the class named in ``origin``; calls that do not fit it are read as (generator,
return_dict, eta). An argument that the plan cannot use raises ArgumentError.
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, plain, unknown

OWN_ORDER = ("generator", "return_dict", "eta")


def _number(value: Any) -> bool:
    value = plain(value)
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _drawer(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(isinstance(v, torch.Generator) for v in value)
    return value is None or isinstance(value, torch.Generator)


def _tensor(value: Any) -> bool:
    return value is None or isinstance(value, Tensor)


def _bool(value: Any) -> bool:
    return isinstance(plain(value), bool)


#: argument -> whether a value can be one
FITS = {
    "generator": _drawer,
    "return_dict": _bool,
    "use_clipped_model_output": _bool,
    **dict.fromkeys(("eta", "order", "s_churn", "s_tmin", "s_tmax", "s_noise"), _number),
    **dict.fromkeys(("variance_noise", "per_token_timesteps", "pred_original_sample"), _tensor),
}
#: what an argument is unless it is given, where it would change a step; and what to do instead
PLAIN: dict[str, tuple[Any, str]] = {
    "s_churn": (
        0.0,
        "it is an option of the samplers euler, heun and dpm2: give it to from_config with "
        "sampler=",
    ),
    "s_tmin": (
        0.0,
        "it is an option of euler, heun and dpm2: give it to from_config with sampler=",
    ),
    "s_tmax": (
        math.inf,
        "it is an option of euler, heun and dpm2: give it to from_config with sampler=",
    ),
    "s_noise": (
        1.0,
        "it is an option of the samplers that draw noise: give it to from_config with sampler=",
    ),
    "pred_original_sample": (
        None,
        "the plan takes the network's output: convert x0 to what the config's prediction_type says",
    ),
}


def fits(name: str, value: Any) -> bool:
    """True if ``value`` has a type that the argument ``name`` accepts."""
    return FITS.get(name, _tensor)(value)


@cache
def places(origin: str) -> tuple[str, ...]:
    """Names of the arguments of the class's ``step`` from the fourth on, in order."""
    import diffusers

    names = tuple(inspect.signature(getattr(diffusers, origin).step).parameters)
    return names[names.index("sample") + 1 :]


def by_place(origin: str, more: Sequence[Any]) -> dict[str, Any]:
    """Map positional arguments to names, by the class's own signature or else by ``OWN_ORDER``.
    Raises ArgumentError if neither fits."""
    for order in (places(origin), OWN_ORDER):
        named = dict(zip(order, more, strict=False))
        if len(more) <= len(order) and all(
            fits(name, value) or (order is OWN_ORDER and value is None)
            for name, value in named.items()
        ):
            return named
    raise ArgumentError(
        f"step got {len(more)} values after sample, "
        f"{', '.join(type(v).__name__ for v in more)}; {origin} takes "
        f"({', '.join(places(origin)) or 'none'}), FewstepScheduler "
        f"({', '.join(OWN_ORDER)}): give them by name"
    )


def read(origin: str, options: Any, more: Sequence[Any], named: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that the plan's step uses: generator, return_dict, eta, noise and token
    times.

    ``named`` are the keywords of the call; ``options`` are the options of the run, which a call may
    repeat. Raises ArgumentError for values that the step cannot use.
    """
    given = by_place(origin, more)
    for name, value in named.items():
        if name not in FITS:
            raise ArgumentError(unknown("argument of step", name, sorted(FITS)))
        if name in given:
            raise ArgumentError(f"step got {name} twice, by its place and by its name")
        if not fits(name, value) and value is not None:
            raise ArgumentError(f"step({name}={type(value).__name__}): this is no {name}")
        given[name] = value
    for name, (fine, instead) in PLAIN.items():
        value = given.pop(name, fine)
        if value is not fine and (
            isinstance(value, Tensor) or (value != fine and value != getattr(options, name, fine))
        ):
            raise ArgumentError(
                f"step({name}={value if _number(value) else type(value).__name__}) is not "
                f"supported: {instead}"
            )
    given.pop("use_clipped_model_output", None)  # a plan reads the clipped prediction in any case
    order = given.pop("order", None)
    if order is not None and order != getattr(options, "order", order):
        raise ArgumentError(
            f"step(order={order}) in a run of order {options.order}: give from_config solver_order="
        )
    if given.get("generator") is not None and given.get("variance_noise") is not None:
        raise ArgumentError("step got generator and variance_noise: give one of them")
    found = {name: given[name] for name in OWN_ORDER if name in given}
    return {
        **found,
        "noise": given.get("variance_noise"),
        "tokens": given.get("per_token_timesteps"),
    }
