"""A black-box function that automatic differentiation can go through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from ...checks import instance, tensor
from ...models.denoiser import Time
from ..populations.rewards import Reward
from .estimate import Smoothing


class Smoothed:
    """A black-box function with a gradient: the values are those of f, the gradient is the estimate
    of a ``Smoothing``.

        loss = Smoothed(f, Smoothing(directions=256))
        (g,) = torch.autograd.grad(loss(x).sum(), x)

    Guidance that differentiates a function works with it where only the function is a black box.
    The function may be one of the state, or of the network's prediction; then the gradient goes on
    through the network. The time of the call gives each step its own directions, and seeds that
    travel with the condition give each sample its own, in any batch:

        score = Smoothed(log_prob)
        Classifier(den, lambda x, t, cond: score(x, t=t, seeds=cond["seed"]))

    The estimate is made in the backward pass; it has no gradient itself. Cost for each sample: 1
    value, and ``smoothing.evaluations`` more where the gradient is asked for (one less for the
    forward form, which uses the value).
    """

    def __init__(self, f: Callable[[Any], Any], smoothing: Smoothing | None = None) -> None:
        """Args:
            f: as in ``Smoothing.gradient``; ``Reward(f, takes="pil")`` for pictures.
            smoothing: its numbers; None: the default ones.

        Raises ArgumentError for other arguments.
        """
        self.smoothing = Smoothing() if smoothing is None else smoothing
        instance("smoothing", self.smoothing, Smoothing, "a Smoothing")
        self.reward = Reward.of(f)

    def __call__(
        self, x: Tensor, *, seeds: Sequence[int] | Tensor | None = None, t: Time = 0.0
    ) -> Tensor:
        """Return the values f(x) (B,), differentiable in ``x`` (B, *shape). ``seeds`` and ``t``
        address the random directions, as in ``Smoothing.gradient``."""
        tensor("x", x, axes=1)
        value: Tensor = _Estimated.apply(x, self, seeds, t)  # type: ignore[no-untyped-call]
        return value


class _Estimated(torch.autograd.Function):
    """Values of a black box; the backward pass estimates the gradient."""

    @staticmethod
    @override
    def forward(
        ctx: Any, x: Tensor, owner: Smoothed, seeds: Sequence[int] | Tensor | None, t: Time
    ) -> Tensor:
        values = owner.reward(x).to(torch.promote_types(x.dtype, torch.float32))
        ctx.save_for_backward(x, values)
        ctx.owner, ctx.seeds, ctx.t = owner, seeds, t
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, None, None, None]:
        x, values = ctx.saved_tensors
        owner: Smoothed = ctx.owner
        g = owner.smoothing.gradient(owner.reward, x, seeds=ctx.seeds, t=ctx.t, values=values)
        return g * incoming.reshape(-1, *(1,) * (x.ndim - 1)).to(g.dtype), None, None, None
