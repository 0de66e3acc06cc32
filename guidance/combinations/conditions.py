"""Where a branch of a combination takes its condition from: the call, a fixed tensor, or the
model's unconditional condition.

A fixed condition has batch size 1 (used for every sample) or B. ``select(rows)`` follows a changed
batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, shown, tensor
from ...models.base import BaseDenoiser, RunFacts
from ...models.denoiser import Condition


class Source(Protocol):
    """Source of a branch's condition."""

    def of(self, cond: Condition, batch: int, times: Sequence[float] = ()) -> Condition:
        """Return the branch's condition for ``batch`` samples, where ``cond`` is that of the call
        and ``times`` are one or ``batch``; none if only the form is asked for."""

    def select(self, rows: Tensor) -> Source:
        """Return the source for the samples ``rows`` (integers)."""

    def for_run(self, facts: RunFacts) -> Source:
        """Return the source for one run."""


class Constant:
    """Base class of sources that keep nothing of single samples and nothing between calls."""

    def select(self, rows: Tensor) -> Source:
        """Return this source."""
        return self  # type: ignore[return-value]

    def for_run(self, facts: RunFacts) -> Source:
        """Return this source."""
        return self  # type: ignore[return-value]


class Given(Constant):
    """The condition of the call. ``owner`` is the name of the guidance, for the message of the
    ArgumentError that a missing condition raises."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def of(self, cond: Condition, batch: int, times: Sequence[float] = ()) -> Condition:
        """Return ``cond``; ArgumentError if it is None."""
        if cond is None:
            raise ArgumentError(
                f"cond=None: {self.owner} needs a condition; pass cond= (a tensor or a mapping of "
                "tensors, batch first)"
            )
        return cond


class Passed(Constant):
    """The condition of the call, None included."""

    def of(self, cond: Condition, batch: int, times: Sequence[float] = ()) -> Condition:
        """Return ``cond``."""
        return cond


class Without(Constant):
    """No condition: None in every call."""

    def of(self, cond: Condition, batch: int, times: Sequence[float] = ()) -> Condition:
        """Return None."""
        return None


@dataclass(frozen=True, eq=False)
class Fixed:
    """A condition given once: a tensor or a mapping of tensors with batch size 1 or B. ``name`` is
    the argument's name, for messages."""

    value: Tensor | Mapping[str, Tensor]
    name: str

    def __post_init__(self) -> None:
        """Raises ArgumentError unless the value is a tensor or a mapping of tensors with a batch
        axis and one batch size."""
        check_condition(self.name, self.value)

    @property
    def batch(self) -> int:
        """Batch size of the value."""
        return batch_of(self.value)

    def of(self, cond: Condition, batch: int, times: Sequence[float] = ()) -> Condition:
        """Return the value with ``batch`` rows. Raises ArgumentError if it has another batch size
        than 1 and ``batch``, or is on another device than ``cond``."""
        if self.batch not in (1, batch):
            raise ArgumentError(
                f"{self.name} has batch size {self.batch}, the samples are {batch}: allowed are "
                f"1 and {batch}"
            )
        here, there = device_of(self.value), None if cond is None else device_of(cond)
        if there not in (None, here):
            raise ArgumentError(f"{self.name} is on {here}, the condition on {there}: move one")
        return mapped(self.value, lambda v: v.expand(batch, *v.shape[1:]))

    def select(self, rows: Tensor) -> Fixed:
        """Return the rows of a value with a row for each sample."""
        if self.batch == 1:
            return self
        chosen = mapped(self.value, lambda v: v[rows.to(v.device)])
        assert chosen is not None
        return Fixed(chosen, self.name)

    def for_run(self, facts: RunFacts) -> Fixed:
        """Return this source."""
        return self


class Null(Constant):
    """The unconditional condition ``denoiser.null_cond(cond, batch)``; None if the model has
    none. ``like``: the source of the condition whose form it takes, by default that of the call."""

    def __init__(self, denoiser: BaseDenoiser, like: Source | None = None) -> None:
        self.denoiser, self.like = denoiser, like

    def of(self, cond: Condition, batch: int, times: Sequence[float] = ()) -> Condition:
        """Return the unconditional condition in the form of ``cond``, or None."""
        form = cond if self.like is None else self.like.of(cond, batch, times)
        return self.denoiser.null_cond(form, batch)

    @override
    def select(self, rows: Tensor) -> Source:
        """Return the source for the samples ``rows``."""
        return self if self.like is None else Null(self.denoiser, self.like.select(rows))


def unconditional(denoiser: BaseDenoiser, uncond: Condition, name: str = "uncond") -> Fixed | Null:
    """Return the source of an unconditional branch: ``uncond`` if it is given, else the model's
    own."""
    return Null(denoiser) if uncond is None else Fixed(uncond, name)


def check_condition(name: str, value: object) -> None:
    """Raise ArgumentError unless ``value`` is a tensor or a mapping of tensors with a batch axis
    and one batch size."""
    if not isinstance(value, (Tensor, Mapping)) or (isinstance(value, Mapping) and not value):
        raise ArgumentError(
            f"{name}={shown(value)}: must be a tensor with batch size 1 or that of the samples, or "
            "a mapping of names to such tensors"
        )
    items = value.items() if isinstance(value, Mapping) else [(None, value)]
    sizes = {}
    for key, each in items:
        what = name if key is None else f"{name}[{key!r}]"
        sizes[what] = tensor(what, each, floating=False, axes=1, meta=True).shape[0]
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        raise ArgumentError(
            f"{name} has batch sizes {sizes}: all tensors must have the same, 1 or that of the "
            "samples"
        )


def batch_of(cond: Tensor | Mapping[str, Tensor]) -> int:
    """Return the batch size of a condition."""
    return int(_first(cond).shape[0])


def device_of(cond: Tensor | Mapping[str, Tensor]) -> torch.device:
    """Return the device of a condition, that of its first tensor."""
    return _first(cond).device


def _first(cond: Tensor | Mapping[str, Tensor]) -> Tensor:
    return next(iter(cond.values())) if isinstance(cond, Mapping) else cond


def mapped(cond: Condition, change: Callable[[Tensor], Tensor]) -> Condition:
    """Return ``cond`` with ``change`` applied to each tensor."""
    if isinstance(cond, Mapping):
        return {key: change(value) for key, value in cond.items()}
    return None if cond is None else change(cond)


def where(mask: Tensor, chosen: Condition, other: Condition) -> Condition:
    """Return the rows of ``chosen`` where ``mask`` (B,) is true, else those of ``other``, a
    condition of the same form."""
    if isinstance(chosen, Mapping) and isinstance(other, Mapping):
        return {key: _rows(mask, value, other[key]) for key, value in chosen.items()}
    assert isinstance(chosen, Tensor) and isinstance(other, Tensor)
    return _rows(mask, chosen, other)


def _rows(mask: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    own = mask.to(chosen.device).reshape(-1, *(1,) * (chosen.ndim - 1))
    return torch.where(own, chosen, other)


def joined(conds: Sequence[Condition]) -> tuple[bool, Condition]:
    """Return (True, the conditions of several branches as one batch), or (False, None) if they
    cannot be joined: one is None, or their forms, dtypes or shapes (without the batch) differ."""
    tensors = [c for c in conds if isinstance(c, Tensor)]
    if len(tensors) == len(conds):
        like = {(c.shape[1:], c.dtype, c.device) for c in tensors}
        return (True, torch.cat(tensors)) if len(like) == 1 else (False, None)
    mappings = [c for c in conds if isinstance(c, Mapping)]
    if len(mappings) < len(conds) or len({frozenset(c) for c in mappings}) > 1:
        return False, None
    made = {key: joined([c[key] for c in mappings]) for key in mappings[0]}
    if not all(fits for fits, _ in made.values()):
        return False, None
    return True, {key: value for key, (_, value) in made.items() if isinstance(value, Tensor)}
