"""Validates the arguments of k-diffusion's functions: the list of noise levels, the state, and the
names of further arguments."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, ArgumentTypeError, integer, plain, unknown
from ...samplers import SamplerError
from ...schedules.grids.construction import Grid

#: arguments that may be tensors; a tensor of no axes for another one is a number
_TENSORS = ("x", "sigmas", "sigma_min", "sigma_max")


@dataclass(frozen=True, eq=False)
class Levels:
    """A validated list of noise levels: ``values`` as floats, ``tensor`` as given (a list becomes a
    float64 tensor)."""

    values: tuple[float, ...]
    tensor: Tensor

    @classmethod
    def of(cls, sigmas: Tensor | Sequence[float]) -> Levels:
        """ArgumentError unless ``sigmas`` has one axis, is not empty, and holds finite levels >= 0
        that fall."""
        try:
            tensor = (
                sigmas
                if isinstance(sigmas, Tensor)
                else torch.tensor([float(s) for s in sigmas], dtype=torch.float64)
            )
        except (TypeError, ValueError):
            raise ArgumentTypeError(
                f"sigmas={sigmas!r} must be a tensor or list of noise levels"
            ) from None
        if tensor.ndim != 1 or tensor.is_complex():
            raise ArgumentError(
                f"sigmas has shape {tuple(tensor.shape)} and dtype {tensor.dtype}; "
                "it must have one axis of real noise levels"
            )
        values: list[float] = tensor.detach().cpu().double().tolist()  # one transfer
        if not values:
            raise ArgumentError(
                "sigmas is empty: give at least two noise levels, from the noisiest to the "
                "last (one alone gives x back)"
            )
        for i, level in enumerate(values):
            if not (math.isfinite(level) and level >= 0.0):
                raise ArgumentError(f"sigmas[{i}]={level} must be a finite noise level >= 0")
        for i, (s, t) in enumerate(pairwise(values)):
            if not t < s:
                raise ArgumentError(
                    f"sigmas must fall, sigmas[{i}]={s:g} is followed by {t:g}; {_remedy(values)}"
                )
        return cls(tuple(values), tensor)


def _remedy(values: Sequence[float]) -> str:
    if all(s < t for s, t in pairwise(values)):
        return (
            "fewstep.invert goes from data to noise; sigmas.flip(0) samples along the same levels"
        )
    return "leave out levels that are repeated, and sort the others from the noisiest to the last"


def check_state(x: object) -> None:
    """Raise ArgumentError unless ``x`` is a floating-point tensor with a batch axis."""
    if not isinstance(x, Tensor):
        raise ArgumentTypeError(f"x must be a tensor (batch, *shape), got {type(x).__name__}")
    if not x.is_floating_point() or x.ndim < 1:
        raise ArgumentError(
            f"x must be floating point with a batch axis, got {x.dtype} of shape {tuple(x.shape)}"
        )


def mapping(extra_args: object) -> dict[str, Any]:
    """Return the model's further arguments as a dict. Raises ArgumentTypeError if they are not a
    mapping with string keys."""
    if extra_args is not None and not isinstance(extra_args, Mapping):
        raise ArgumentTypeError(
            f"extra_args={extra_args!r} must be a dict of arguments for the model, or None"
        )
    return dict(extra_args or {})


def check_callables(**given: object) -> None:
    """Raise ArgumentTypeError for a value that is neither None nor callable."""
    for name, value in given.items():
        if value is not None and not callable(value):
            raise ArgumentTypeError(f"{name}={value!r} must be a function or None")


@dataclass(frozen=True, eq=False)
class Range:
    """Two validated noise levels, ``low`` and ``high``. The run goes from ``high`` to ``low``; it
    goes toward noise if ``low > high``.

    ``t_low`` and ``t_high`` are ``-log sigma`` in k-diffusion's precision: it converts the levels
    to tensors, and a Python number to torch's default dtype.
    """

    low: float
    high: float
    t_low: Tensor
    t_high: Tensor

    @property
    def rising(self) -> bool:
        """True for a run from data to noise."""
        return self.low > self.high

    def along(self, grid: Grid) -> Grid:
        """``grid``, which goes toward data, in the direction of the range."""
        return (
            Grid(
                grid.schedule,
                grid.times[::-1],
                grid.nodes[::-1],
                grid.name,
                grid.params,
                grid.final,
            )
            if self.rising
            else grid
        )

    @classmethod
    def of(cls, sigma_min: Any, sigma_max: Any, eta: Any = 0.0) -> Range:
        """ArgumentError unless both levels are finite and above 0, and for
        ``sigma_min >= sigma_max`` with ``eta``."""
        try:
            low, high = (float(s) for s in (sigma_min, sigma_max))
            tensors = [torch.as_tensor(plain(s)).detach() for s in (sigma_min, sigma_max)]
        except (TypeError, ValueError, RuntimeError):
            raise ArgumentTypeError(
                f"sigma_min={sigma_min!r}, sigma_max={sigma_max!r} must be two noise levels"
            ) from None
        if not 0.0 < low < math.inf or not 0.0 < high < math.inf:
            raise ArgumentError(
                f"sigma_min={low:g}, sigma_max={high:g} must be finite noise levels > 0"
            )
        if not low < high and eta:
            raise ArgumentError(
                f"eta={eta} with sigma_min={low:g}, sigma_max={high:g}: eta must be 0 where "
                "the noise does not fall"
            )
        times = [floating(s).log().neg() for s in tensors]
        return cls(low, high, times[0], times[1])


def floating(levels: Tensor) -> Tensor:
    """``levels`` in their dtype, integers in torch's default one."""
    return levels if levels.is_floating_point() else levels.to(torch.get_default_dtype())


def order_of(order: Any, steps: int) -> int:
    """The order of a linear multistep method, an integer >= 1, cut to what ``steps`` can use."""
    return max(1, min(integer("order", order, 1), steps))


def rounded(tolerance: Any) -> Any:
    """A tolerance in torch's default dtype, as in k-diffusion; 0 becomes the smallest accepted
    value. A value that is not a number is returned unchanged."""
    value = plain(tolerance)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return tolerance
    return float(torch.tensor(float(value))) or 1e-12


def size(step: Any) -> Any:
    """The absolute value of a step size; a value that is not a number is returned unchanged."""
    value = plain(step)
    return abs(value) if isinstance(value, int | float) else step


def churned(s_churn: Any, s_tmin: Any, s_tmax: Any, s_noise: Any) -> dict[str, Any]:
    """Options of ``samplers.singlestep.churn``. An empty range [s_tmin, s_tmax] means no churn,
    ``s_churn=inf`` the largest churn of a step, ``s_tmax=inf`` no upper limit."""
    bounds = [plain(s) for s in (s_tmin, s_tmax)]
    if all(isinstance(s, numbers.Real) for s in bounds) and bounds[0] > bounds[1]:
        return {"s_noise": s_noise}
    s_churn = 1e6 if plain(s_churn) == math.inf else s_churn
    s_tmax = None if plain(s_tmax) == math.inf else s_tmax
    return {"s_churn": s_churn, "s_tmin": s_tmin, "s_tmax": s_tmax, "s_noise": s_noise}


def bound(
    signature: inspect.Signature,
    name: str,
    args: Sequence[Any],
    keywords: Mapping[str, Any],
    own: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of ``signature`` by name with their defaults, and the further keywords, which
    must be among ``own``.

    Raises SamplerError with the nearest match for a keyword that is neither, ArgumentTypeError
    where an argument is missing, given twice, or one too many is given by position.
    """
    further = {key: value for key, value in keywords.items() if key not in signature.parameters}
    for key in further:
        if key not in own:
            raise SamplerError(
                f"{name}: " + unknown("argument", key, [*signature.parameters, *own])
            )
    try:
        found = signature.bind(
            *args, **{key: value for key, value in keywords.items() if key in signature.parameters}
        )
    except TypeError as error:
        raise ArgumentTypeError(f"{name}{signature}: {error}") from None
    found.apply_defaults()
    return {
        key: value if key in _TENSORS else _number(value) for key, value in found.arguments.items()
    }, further


def _number(value: Any) -> Any:
    return (
        value.item()
        if isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()
        else value
    )


def bare(declared: Callable[..., Any]) -> inspect.Signature:
    """The signature without annotations: names, order and defaults, as ``inspect.signature`` shows
    those of k-diffusion."""
    signature = inspect.signature(declared)
    parameters = [
        p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
