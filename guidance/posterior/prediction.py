"""The prediction of x0 of one network call, with its vector-Jacobian product."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.base import BaseDenoiser
from ...models.denoiser import Condition, Time, convert_prediction
from ...plans.transforms.gradients import GradientError
from .counts import Counts
from .registry import without_gradients


@dataclass(frozen=True)
class Prediction:
    """``x0 = D(x, t)`` in float32 or better, as a function of the state ``x`` (B, *shape).

    ``graph``: results are differentiable themselves, for runs with gradients.
    """

    x: Tensor
    x0: Tensor
    graph: bool
    counts: Counts

    @property
    def value(self) -> Tensor:
        """x0, without its graph unless the run itself is differentiated."""
        return self.x0 if self.graph else self.x0.detach()

    def vjp(self, v: Tensor) -> Tensor:
        """``J^T v``, J = dD/dx, of v (B, *shape), in the dtype of ``x0``."""
        self.counts.vjp += 1
        (found,) = torch.autograd.grad(
            self.x0, self.x, v.to(self.x0), retain_graph=True, create_graph=self.graph,
            allow_unused=True,
        )  # fmt: skip
        return torch.zeros_like(self.x0) if found is None else found.to(self.x0)


def predicted(
    denoiser: BaseDenoiser, x: Tensor, t: Time, cond: Condition, counts: Counts, method: str
) -> Prediction:
    """Call ``denoiser`` at the state ``x`` (B, *shape), with its graph.

    Raises GradientError in ``torch.inference_mode``, and for a model that autograd cannot follow.
    """
    if torch.is_inference_mode_enabled():
        raise GradientError(
            f"{method} differentiates the model, which torch.inference_mode does not allow: use "
            "torch.no_grad"
        )
    graph = recorded(denoiser, x)
    with torch.enable_grad():
        leaf = x if graph and x.requires_grad else x.detach().requires_grad_(True)
        x0 = plain(denoiser, leaf, t, cond, counts)
    if not x0.requires_grad:
        raise without_derivative(method)
    return Prediction(leaf, x0, graph, counts)


def without_derivative(method: str) -> GradientError:
    """The error of a model that autograd cannot follow, with the methods that need no gradient."""
    return GradientError(
        f"{method} differentiates the model, and the prediction does not depend on the state "
        "differentiably: the network must not detach it or compute under torch.no_grad. Methods "
        f"without gradients: guidance.solve with {without_gradients()}; guidance.steer with "
        "method='enkg' or 'smc'"
    )


def recorded(denoiser: BaseDenoiser, x: Tensor) -> bool:
    """Whether a call at ``x`` is part of a larger computation that autograd records."""
    return torch.is_grad_enabled() and (
        x.requires_grad or any(p.requires_grad for p in denoiser.parameters())
    )


def plain(denoiser: BaseDenoiser, x: Tensor, t: Time, cond: Condition, counts: Counts) -> Tensor:
    """The prediction of x0 in float32 or better."""
    counts.network += 1
    found = denoiser(x, t, cond)
    wide = torch.promote_types(x.dtype, torch.float32)
    return convert_prediction(
        found.to(wide), x.to(wide), t, denoiser.prediction, "x0", denoiser.schedule
    )
