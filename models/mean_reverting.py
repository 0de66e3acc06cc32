"""Denoiser of ``xbar = x - mu`` from a network on a mean-reverting path (schedules.MeanReverting).

On ``x_t = mu + alpha (x0 - mu) + sigma eps`` the difference to mu follows the ordinary path
``xbar = alpha xbar0 + sigma eps``, so every sampler applies to it unchanged. A network of x
predicts ``V = p x + sum q raw``; the prediction for xbar is

    eps, score, velocity    V                       (dx/dt = dxbar/dt)
    x0                      V - mu
    v                       V, for the kind v of the difference
    mr_v                    V = alpha sigma_inf eps - (sigma / sigma_inf) xbar0,  Li et al. 2025,
                            arXiv 2502.07856; converted to v

so mu is one more raw output with a coefficient. The state, the grid and ``on_step`` refer to xbar;
``fewstep.sample`` takes and returns x (by the attribute ``offset``). Flow maps are not supported:
``raws`` with a second time ``to`` raises ArgumentError.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from ..checks import ArgumentError, choice, flag, tensor
from ..schedules.mean_reverting import MeanReverting
from .base import MAIN, BaseDenoiser, read_coefficients, read_raws
from .denoiser import Condition, Denoiser, ShapeError, Time
from .wrapper import Wrapper


class MeanReverted(Wrapper):
    """Denoiser of ``x - mu`` made from ``inner``, a Denoiser of x on a ``MeanReverting`` schedule.

    Args:
        inner: made with ``models.wrap(network, MeanReverting(...), prediction)``; the network
            receives x.
        mu: mean that the path reverts to (the degraded input), (*shape) for all samples, or
            (B, *shape) with ``per_sample``.
        per_sample: mu has a batch axis; ``fewstep.sample`` then draws B samples.
        velocity: ``"own"`` if inner's prediction type is right; ``"mr_v"`` if its prediction,
            wrapped as "v", is the paper's velocity.

    Raises ValueError if inner is on another schedule or scales its input, ShapeError if mu does not
    fit.
    """

    shape: tuple[int, ...]
    preserves_input = True
    two_times = False

    def __init__(
        self, inner: Denoiser, mu: Tensor, *, per_sample: bool = False, velocity: str = "own"
    ) -> None:
        super().__init__(inner)
        inner = self.denoiser
        tensor("mu", mu)
        flag("per_sample", per_sample)
        choice("velocity", velocity, ("own", "mr_v"))
        if not isinstance(inner.schedule, MeanReverting):
            raise ArgumentError(f"the model is on {inner.schedule!r}; allowed: MeanReverting")
        if velocity == "mr_v" and inner.prediction != "v":
            raise ArgumentError(
                f"velocity='mr_v' with prediction={inner.prediction!r}: wrap the network "
                "with prediction='v'"
            )
        if any(inner.input_scale(t) != 1.0 for t in (inner.schedule.t_max, inner.schedule.t_min)):
            raise ArgumentError(
                "the model scales its input, so mu cannot be added to it; input_scale must be 1"
            )
        if per_sample and mu.ndim == 0:
            raise ShapeError("per_sample=True, but mu has no axis: its shape must be (B, *shape)")
        self.mu, self.velocity = mu, velocity
        self.offset = mu
        self.path: MeanReverting = inner.schedule
        self.shape = tuple(mu.shape[1:] if per_sample else mu.shape)
        self.batch = mu.shape[0] if per_sample else None
        if inner.shape is not None and tuple(inner.shape) != self.shape:
            raise ShapeError(
                f"mu has samples of shape {self.shape}, the model {tuple(inner.shape)}"
            )
        self._placed: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Device of the network, else of mu."""
        return self.inner.device or self.mu.device

    @property
    def inner(self) -> BaseDenoiser:
        """The model of ``x``, before the shift by mu."""
        return self.denoiser

    @override
    def select(self, rows: Tensor) -> MeanReverted:
        """Return the model with the selected samples of mu if mu has a batch axis."""
        inner = self.inner.select(rows)
        if self.batch is None and inner is self.inner:
            return self
        bound = self.batch is not None
        mu = self.mu[rows.to(self.mu.device)] if bound else self.mu
        return MeanReverted(inner, mu, per_sample=bound, velocity=self.velocity)

    def _mu(self, x: Tensor) -> Tensor:
        """Return mu as a tensor like ``x`` (B, *shape)."""
        if self.batch is not None and self.batch != x.shape[0]:
            raise ShapeError(f"mu has {self.batch} samples, the batch has {x.shape[0]}")
        key = (x.device, x.dtype)
        if key not in self._placed:
            self._placed[key] = self.mu.to(x)
        return self._placed[key].expand_as(x)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the inner model's raw outputs at ``x = xbar + mu``, then mu. Raises ArgumentError,
        before any call, if ``to`` is given: second times (flow maps) are not supported."""
        if to is not None:
            raise ArgumentError(
                f"to={to!r}: MeanReverted takes no second time; flow maps on mean-reverting paths "
                "are not supported"
            )
        mu = self._mu(x_in)
        return (*read_raws(self.inner, x_in + mu, t, cond, channels), mu)

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """Return the coefficients ``(p, (q_1, ..., q_mu))`` of the prediction of xbar."""
        p, qs = read_coefficients(self.inner, t, channel)
        c = p - 1.0 if self.prediction == "x0" else p
        if self.velocity == "own":
            return p, (*qs, c)
        node, unit = self.path.node(t), self.path.sigma_inf
        gain = (node.alpha**2 + node.sigma**2) / unit
        carry = node.alpha * node.sigma * (1.0 / unit**2 - 1.0)
        return gain * p + carry, tuple(gain * q for q in (*qs, c))
