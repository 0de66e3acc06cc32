"""Branches of a combination: the models that are asked, with the condition of each, and the network
calls that answer several branches at once.

Branches of the same model are joined in one call of k B rows, in the order of the branches, where
their conditions can be joined; else they are separate calls, those with a condition first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError, FewstepError
from ...models.base import MAIN, BaseDenoiser, read_raws
from ...models.denoiser import Condition, Time, combine, host_times
from ...schedules.host_times import attach_times
from .conditions import Fixed, Null, Source, joined

Raws = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Branch:
    """One prediction of a combination.

    ``name`` is its channel, ``denoiser`` the model, ``source`` the origin of its condition.
    """

    name: str
    denoiser: BaseDenoiser
    source: Source

    def check(self, cond: Condition, batch: int) -> None:
        """Raise the error that a call with the condition ``cond`` of ``batch`` samples would raise,
        as far as the model can say; it names ``uncond=`` if the model refuses None."""
        own = self.source.of(cond, batch)
        try:
            self.denoiser.check_cond(own, batch)
        except FewstepError as error:
            if own is None and isinstance(self.source, Null):
                raise ArgumentError(_refuses_none(error)) from error
            raise


def changed(
    branches: Sequence[Branch],
    model: Callable[[BaseDenoiser], BaseDenoiser],
    source: Callable[[Source], Source],
) -> tuple[Branch, ...]:
    """Return the branches with ``model`` applied to each model once, so that branches of one model
    stay so, and ``source`` to each source."""
    made: dict[int, BaseDenoiser] = {}
    for branch in branches:
        if id(branch.denoiser) not in made:
            made[id(branch.denoiser)] = model(branch.denoiser)
    return tuple(Branch(b.name, made[id(b.denoiser)], source(b.source)) for b in branches)


def _refuses_none(error: Exception) -> str:
    return (
        f"the network takes no cond=None ({error}): pass uncond=, the condition of the "
        "unconditional prediction"
    )


def ask(
    branches: Sequence[Branch],
    first: BaseDenoiser,
    x_in: Tensor,
    t: Time,
    cond: Condition,
    to: Time | None = None,
) -> list[Raws]:
    """Return the raw outputs of each branch at ``x_in`` (B, *shape), the scaled input of the model
    ``first``."""
    answers: dict[int, Raws] = {}
    times = host_times(t, x_in.shape[0])
    for group in _groups(branches):
        model, batch = branches[group[0]].denoiser, x_in.shape[0]
        own = _rescaled(x_in, first, model, t)
        conds = [branches[i].source.of(cond, batch, times) for i in group]
        given = cond is not None or any(each is not None for each in conds)
        one, many = joined(conds) if len(group) > 1 else (False, None)
        if one:
            answers.update(zip(group, _together(model, own, t, many, to, len(group)), strict=True))
            continue
        for i, each in sorted(zip(group, conds, strict=True), key=lambda pair: pair[1] is None):
            null = each is None and isinstance(branches[i].source, Null)
            answers[i] = _alone(model, own, t, each, to, null and given)
    return [answers[i] for i in range(len(branches))]


def _groups(branches: Sequence[Branch]) -> Iterator[list[int]]:
    """The places of the branches of each model."""
    models: list[BaseDenoiser] = []
    for branch in branches:
        if not any(branch.denoiser is model for model in models):
            models.append(branch.denoiser)
    for model in models:
        yield [i for i, branch in enumerate(branches) if branch.denoiser is model]


def _together(
    model: BaseDenoiser, x_in: Tensor, t: Time, cond: Condition, to: Time | None, count: int
) -> list[Raws]:
    """One call of ``count`` B rows: the raw outputs of each part."""
    batch = x_in.shape[0]
    raws = read_raws(
        model.select(torch.arange(batch).repeat(count)),
        torch.cat([x_in] * count),
        _repeated(t, count),
        cond,
        MAIN,
        None if to is None else _repeated(to, count),
    )
    parts = [raw.chunk(count) for raw in raws]
    return [tuple(part[k] for part in parts) for k in range(count)]


def _alone(
    model: BaseDenoiser, x_in: Tensor, t: Time, cond: Condition, to: Time | None, null: bool
) -> Raws:
    """A call for one branch. ``null``: without a condition, because the model has no
    unconditional one; its TypeError or AttributeError is taken as a refusal of None."""
    if not null:
        return read_raws(model, x_in, t, cond, MAIN, to)
    try:
        return read_raws(model, x_in, t, cond, MAIN, to)
    except (TypeError, AttributeError) as error:
        raise ArgumentError(_refuses_none(error)) from error


def _repeated(t: Time, count: int) -> Time:
    """Times of ``count`` copies of a batch."""
    if not isinstance(t, Tensor) or t.numel() == 1:
        return t
    return attach_times(t.repeat(count), host_times(t, t.numel()) * count)


def _rescaled(x_in: Tensor, first: BaseDenoiser, model: BaseDenoiser, t: Time) -> Tensor:
    """Return the input of ``model`` where ``x_in`` is that of ``first``."""
    if model is first:
        return x_in
    times = host_times(t, x_in.shape[0])
    factors = [model.input_scale(v) / first.input_scale(v) for v in times]
    return x_in if all(f == 1.0 for f in factors) else combine([x_in], [factors])


def batch_size(branches: Sequence[Branch]) -> int | None:
    """Return the only batch size that the models and the fixed conditions allow; None for any.
    Raises ArgumentError if they disagree."""
    sizes = {b.source.batch for b in branches if isinstance(b.source, Fixed)} - {1}
    sizes |= {b.denoiser.batch for b in branches if b.denoiser.batch is not None}
    if len(sizes) > 1:
        raise ArgumentError(
            f"the models and conditions have batch sizes {sorted(sizes)}: they must agree"
        )
    return next(iter(sizes), None)
