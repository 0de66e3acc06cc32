"""Checks of fields, spacings and parameters of an equation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ...checks import ArgumentError, between, described, integer, plain, shown, unknown
from .derivatives.differences import difference


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


#: in place of the default of a parameter that must be given
REQUIRED: Final = _Required()


@dataclass(frozen=True)
class Inputs:
    """Checked arguments of an equation's functions.

    Attributes:
        fields: name -> values in float64 or complex128 (float32 or complex64 where the device has
            no float64), all of one shape.
        spacing: axis -> distance.
        params: every parameter, with defaults filled in; tensors in the dtype of the fields.
    """

    fields: dict[str, Tensor]
    spacing: dict[str, float]
    params: dict[str, Any]

    def param(self, name: str) -> Any:
        """A parameter ready to be multiplied with a field: one number a sample as (B, 1, ...)."""
        value = self.params[name]
        ndim = next(iter(self.fields.values())).ndim
        if isinstance(value, Tensor) and value.ndim == 1:
            return value.reshape(-1, *(1,) * (ndim - 1))
        return value

    def rate(self, name: str) -> Tensor:
        """The time derivative of a field (B, T, space): ``fields[name + "_t"]`` where it is given,
        else differences of order 4."""
        found = self.fields.get(f"{name}_t")
        return difference(self.fields[name], self.spacing["t"], 1) if found is None else found

    def acceleration(self, name: str) -> Tensor:
        """The second time derivative of a field: ``fields[name + "_tt"]`` where it is given, else
        differences of order 4, of ``fields[name + "_t"]`` where that is given."""
        given, dt = self.fields, self.spacing["t"]
        if f"{name}_tt" in given:
            return given[f"{name}_tt"]
        if f"{name}_t" in given:
            return difference(given[f"{name}_t"], dt, 1)
        return difference(given[name], dt, 1, derivative=2)

    def number(self, name: str, low: float = -math.inf) -> Any:
        """``param(name)`` of a parameter that must not depend on the place: a number, or one number
        a sample, finite and at least ``low``. Raises ArgumentError otherwise."""
        value = self.params[name]
        found = torch.as_tensor(value).flatten() if isinstance(value, (float, Tensor)) else None
        if found is None or (isinstance(value, Tensor) and value.ndim > 1):
            kind = described(value) if found is None else f"values of shape {tuple(value.shape)}"
            raise ArgumentError(
                f"parameter {name!r} must be a number, or one number a sample; got {kind}"
            )
        if not bool((torch.isfinite(found) & (found >= low)).all()):
            bound = "finite" if low == -math.inf else f"finite and at least {low:g}"
            raise ArgumentError(f"parameter {name!r}={found.tolist()} must be {bound}")
        return self.param(name)


def read(
    fields: Mapping[str, Tensor],
    spacing: Mapping[str, float],
    params: Mapping[str, Any],
    *,
    needed: Iterable[str],
    optional: Iterable[str] = (),
    axes: tuple[str, ...],
    allowed: Mapping[str, Any],
    spaced: tuple[str, ...] | None = None,
) -> Inputs:
    """Check the arguments of an equation's function.

    ``needed`` and ``optional`` are names of fields, ``axes`` the axes after the batch, ``spaced``
    those that ``spacing`` names (default ``axes``), ``allowed`` parameters with their defaults.
    Raises ArgumentError for missing or unknown names, fields of
    different shapes, with other axes or fewer than 6 points an axis, missing or unusable spacings,
    and parameters that are neither numbers nor tensors of one value a sample or a point.
    """
    found = _fields(fields, tuple(needed), tuple(optional), axes)
    first = next(iter(found.values()))
    steps = _names("spacing", spacing, spaced or axes, ())
    distances = {a: float(between(f"spacing[{a!r}]", plain(d), 0.0)) for a, d in steps.items()}
    given = _names("parameter", params, (), tuple(allowed))
    values = {name: given.get(name, default) for name, default in allowed.items()}
    lacking = [name for name, value in values.items() if value is REQUIRED]
    if lacking:
        raise ArgumentError(
            f"parameters {lacking} are missing; give them as params={{{lacking[0]!r}: ...}}"
        )
    return Inputs(found, distances, {k: _param(k, v, first) for k, v in values.items()})


def _names(
    what: str, given: Mapping[str, Any], needed: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    """``given`` as a dict, if it holds ``needed`` and nothing beside ``optional``."""
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{what}s must be a mapping by name, got {described(given)}")
    allowed = (*needed, *optional)
    for name in given:
        if name not in allowed:
            raise ArgumentError(unknown(what, name, allowed or ("none",)))
    missing = [name for name in needed if name not in given]
    if missing:
        raise ArgumentError(
            f"{what} {', '.join(map(repr, missing))} missing; needed: {', '.join(needed)}"
        )
    return dict(given)


def _fields(
    fields: Mapping[str, Tensor],
    needed: tuple[str, ...],
    optional: tuple[str, ...],
    axes: tuple[str, ...],
) -> dict[str, Tensor]:
    found = _names("field", fields, needed, optional)
    layout = f"(B, {', '.join(axes)})"
    shape: torch.Size | None = None
    for name, value in found.items():
        if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
            raise ArgumentError(
                f"field {name!r} must be a floating point or complex tensor, got {described(value)}"
            )
        if value.ndim != len(axes) + 1 or min(value.shape[1:]) < 6:
            raise ArgumentError(
                f"field {name!r} must be {layout} with at least 6 points an axis, got shape "
                f"{tuple(value.shape)}"
            )
        shape = shape or value.shape
        if value.shape != shape:
            raise ArgumentError(
                f"fields have the shapes {[tuple(v.shape) for v in found.values()]}; all must "
                "lie on one grid"
            )
        found[name] = wide(value)
    return found


def wide(value: Tensor) -> Tensor:
    """``value`` in float64 or complex128; float32 or complex64 on devices that have no float64."""
    if value.device.type == "mps":
        return value.to(torch.complex64 if value.is_complex() else torch.float32)
    return value.to(torch.complex128 if value.is_complex() else torch.float64)


def _param(name: str, value: Any, like: Tensor) -> Any:
    """A number, or a tensor of the device and dtype of ``like``."""
    if isinstance(value, (str, type(None))):
        return value
    found = plain(value)
    if isinstance(found, Tensor):
        if found.ndim == 0:
            return found.to(like.device)
        per_sample = found.shape == like.shape[:1]
        on_grid = found.shape == like.shape[1:] or (
            found.ndim == like.ndim
            and all(m in (1, n) for m, n in zip(found.shape, like.shape, strict=True))
        )
        if not (per_sample or on_grid):
            raise ArgumentError(
                f"parameter {name!r} has shape {tuple(found.shape)}; it must be a number, one "
                f"number a sample ({like.shape[0]},) or values on the grid {tuple(like.shape)}, "
                "with 1 for an axis along which it is constant"
            )
        return wide(found.to(like.device))
    if isinstance(found, (bool, int, float)):
        return found if isinstance(found, bool) else float(found)
    raise ArgumentError(
        f"parameter {name!r}={shown(value)} must be a number, or a tensor of one number a sample "
        "or of values on the grid"
    )


def check_periodic(fields: Mapping[str, Tensor], axes: Mapping[str, int]) -> None:
    """Raise ArgumentError where a field is not periodic along one of ``axes`` (name -> dimension):
    the step across the end, root mean square over its points, is over 5 times the largest inside,
    or zero where the others are not, because the end point is stored twice."""
    for name, field in fields.items():
        value = field.detach()
        for axis, dim in axes.items():
            inside = value.diff(dim=dim).abs().square().movedim(dim, 0).flatten(1).mean(1).sqrt()
            wrap = (value.select(dim, 0) - value.select(dim, -1)).abs().square().mean().sqrt()
            largest = inside.max()
            if wrap > 5.0 * largest:
                raise ArgumentError(
                    f"field {name!r} is not periodic in {axis}: the step across the end is "
                    f"{float(wrap):.3g}, the largest inside {float(largest):.3g}; a spectral "
                    "derivative needs whole periods"
                )
            if wrap == 0.0 and largest > 0.0:
                raise ArgumentError(
                    f"field {name!r} has its first point again at the end of {axis}; leave the "
                    "end point out of a periodic grid"
                )


def check_real(fields: Mapping[str, Tensor]) -> None:
    """Raise ArgumentError where a field is complex."""
    for name, field in fields.items():
        if field.is_complex():
            raise ArgumentError(
                f"field {name!r} is complex; this equation is one of real fields: give its .real"
            )


def check_finite(fields: Mapping[str, Tensor]) -> None:
    """Raise ArgumentError where a field is not finite."""
    for name, field in fields.items():
        if not bool(torch.isfinite(field).all()):
            raise ArgumentError(f"field {name!r} is not finite")


def check_frames(frames: int | None) -> int:
    """``frames`` as an integer of at least 1. Raises ArgumentError, also where it is None."""
    if frames is None:
        raise ArgumentError("frames= is needed: the number of times, the first one included")
    return integer("frames", frames, 1)


def refuse_frames(frames: int | None) -> None:
    """Raise ArgumentError if ``frames`` is given to an equation without a time axis."""
    if frames is not None:
        raise ArgumentError(f"frames={shown(frames)}: this equation has no time axis")
