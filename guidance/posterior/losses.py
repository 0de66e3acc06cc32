"""Losses of predictions: residuals of measurements and of equations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from ...checks import ArgumentError, choice, described, number, shown
from ..likelihoods.likelihood import Likelihood
from .counts import Counts

Residual = Callable[[Tensor], Tensor]


class Loss:
    """``w |r(x0)|`` of each sample, or ``w |r(x0)|^2``: a measurement, or the residual of an
    equation."""

    def __init__(
        self,
        residual: Residual | Likelihood,
        weight: float | Callable[[float], float] = 1.0,
        *,
        space: Residual | None = None,
        norm: str = "norm",
        early: float = 1.0,
        late: float = 1.0,
    ) -> None:
        """Args:
            residual: a differentiable function of the fields (B, ...) that returns (B, ...), or a
                likelihood, whose residual is ``y - A(x0)`` and whose data follow the batch.
            weight: w, a number or a function of ``rho = sigma / alpha``.
            space: differentiable function from predictions (B, *shape) to fields in the units of
                the residual; None: the predictions themselves.
            norm: "norm" or "squared".
            early, late: factors on w before and after the switch of the method.

        Raises ArgumentError for other arguments.
        """
        for name, value in (("residual", residual), ("space", space)):
            fits = callable(value) or (name == "residual" and isinstance(value, Likelihood))
            if not fits and not (name == "space" and value is None):
                raise ArgumentError(f"{name}={shown(value)}: must be a function of a tensor")
        if not callable(weight):
            number("weight", weight, 0.0)
        self.residual, self.weight, self.space = residual, weight, space
        self.norm = choice("norm", norm, ("norm", "squared"))
        self.early, self.late = number("early", early, 0.0), number("late", late, 0.0)

    def __repr__(self) -> str:
        return f"Loss({shown(self.residual)}, {shown(self.weight)}, norm={self.norm!r})"

    def factor(self, rho: float, late: bool) -> float:
        """The weight at the level ``rho``, before or after the switch. Raises ArgumentError for a
        weight that is negative or not finite."""
        own = self.weight(rho) if callable(self.weight) else self.weight
        return number("weight", own, 0.0) * (self.late if late else self.early)

    def values(self, x0: Tensor) -> Tensor:
        """``|r(x0)|`` or its square of each sample of x0 (B, *shape), (B,)."""
        fields = x0 if self.space is None else self.space(x0)
        if isinstance(self.residual, Likelihood):
            found = self.residual.residual(fields)
        else:
            found = self.residual(fields)
        real = isinstance(found, Tensor) and found.is_floating_point() and found.ndim >= 1
        if not real or found.shape[0] != x0.shape[0]:
            raise ArgumentError(
                f"the residual returned {described(found)}; it must be a floating point tensor "
                f"({x0.shape[0]}, ...)"
            )
        flat = found.flatten(1)
        return (
            flat.square().sum(1)
            if self.norm == "squared"
            else torch.linalg.vector_norm(flat, dim=1)
        )

    def select(self, rows: Tensor) -> Loss:
        """The loss of the samples ``rows``."""
        if not isinstance(self.residual, Likelihood):
            return self
        made = copy(self)
        made.residual = self.residual.select(rows)
        return made


class Losses:
    """A list of losses, with the members of a likelihood that ``solve`` reads."""

    def __init__(self, losses: Any) -> None:
        """``losses``: a Loss, a likelihood (weight 1), or a sequence of them."""
        given = list(losses) if isinstance(losses, Sequence) else [losses]
        kinds = (Loss, Likelihood)
        if not given or not all(isinstance(value, kinds) for value in given):
            raise ArgumentError(
                f"likelihood={shown(losses)}: must be guidance.Loss objects or likelihoods"
            )
        self.losses = tuple(v if isinstance(v, Loss) else Loss(v) for v in given)

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self.losses))}]"

    @property
    def switches(self) -> bool:
        """Whether a loss changes at the switch."""
        return any(loss.early != loss.late for loss in self.losses)

    def samples(self, shape: Sequence[int]) -> int | None:
        """Number of samples that the measurements are for; None: any."""
        known = {
            loss.residual.samples(shape)
            for loss in self.losses
            if isinstance(loss.residual, Likelihood) and loss.space is None
        } - {None}
        if len(known) > 1:
            raise ArgumentError(f"the measurements are for {sorted(filter(None, known))} samples")
        return next(iter(known), None)

    def select(self, rows: Tensor) -> Self:
        """The losses of the samples ``rows``."""
        made = copy(self)
        made.losses = tuple(loss.select(rows) for loss in self.losses)
        return made

    def misfit(self, x: Tensor) -> Tensor:
        """The values of the losses, without weights, (B, K) float64."""
        with torch.no_grad():
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            return torch.stack([loss.values(wide).to(torch.float64) for loss in self.losses], 1)

    def total(self, x0: Tensor, rhos: Sequence[float], late: bool, counts: Counts) -> Tensor | None:
        """``sum_k w_k |r_k(x0)|`` of each sample (B,), of the losses whose weight is not 0; None
        where there is none. ``rhos``: one or B."""
        total: Tensor | None = None
        for loss in self.losses:
            weights = [loss.factor(rho, late) for rho in rhos]
            if any(weights):
                counts.operator += 1
                counts.adjoint += 1
                column = torch.tensor(weights, dtype=x0.dtype).to(x0.device)
                part = column * loss.values(x0)
                total = part if total is None else total + part
        return total

    def spent(self, rho: float, late: bool) -> Counts:
        """Cost of ``total`` and its gradient."""
        count = sum(loss.factor(rho, late) > 0.0 for loss in self.losses)
        return Counts(0, 0, count, count)
