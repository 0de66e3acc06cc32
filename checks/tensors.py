"""Checks of tensors, and of objects by their attributes or their class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import ArgumentError, ArgumentTypeError
from .messages import shown

if TYPE_CHECKING:
    from torch import Tensor


def tensor(
    name: str,
    value: Any,
    *,
    floating: bool = True,
    axes: int = 0,
    meta: bool = False,
    error: type[ArgumentError] = ArgumentError,
) -> Tensor:
    """``value`` if it is a dense tensor with at least ``axes`` axes; floating point unless
    ``floating`` is False.

    Raises ``error``, which names dtype and shape, for anything else: arrays, lists, sparse tensors,
    and tensors on ``meta``, which hold no data, unless ``meta`` is True.
    """
    import torch

    fits = (
        isinstance(value, torch.Tensor)
        and value.ndim >= axes
        and (value.is_floating_point() or not floating)
    )
    if not fits or value.layout is not torch.strided or (value.is_meta and not meta):
        kind = f"a {'floating point ' if floating else ''}tensor" + (
            f" with at least {axes} {'axis' if axes == 1 else 'axes'}" if axes else ""
        )
        raise error(
            f"{name} must be {kind} ({'dense' if meta else 'dense, not on meta'}), got "
            f"{described(value)}"
        )
    found: Tensor = value
    return found


def described(value: Any) -> str:
    """Kind, dtype and shape of ``value``, for the text of an exception."""
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return f"{type(value).__name__} {shown(value)}"
    layout = getattr(value, "layout", None)
    more = (
        f", {layout}"
        if "sparse" in str(layout)
        else ", on meta"
        if getattr(value, "is_meta", False)
        else ""
    )
    return f"{type(value).__name__} {value.dtype} {tuple(value.shape)}{more}"


def members(name: str, value: Any, wanted: Iterable[str], what: str) -> None:
    """Raise ArgumentTypeError unless ``value`` has all attributes ``wanted``. ``what`` names the
    expected object in the message."""
    missing = [member for member in wanted if not hasattr(value, member)]
    if missing:
        raise ArgumentTypeError(
            f"{name}={shown(value)} must be {what}; a {type(value).__name__} has no "
            f"{', '.join(missing)}"
        )


def instance(name: str, value: Any, kind: type | tuple[type, ...], what: str) -> None:
    """Raise ArgumentTypeError unless ``value`` is an instance of ``kind``. ``what`` names the
    expected object in the message."""
    if not isinstance(value, kind):
        raise ArgumentTypeError(
            f"{name}={shown(value)} must be {what.rstrip(',')}, got a {type(value).__name__}"
        )
