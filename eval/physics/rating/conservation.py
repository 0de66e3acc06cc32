"""Drift of conserved quantities."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ....checks import ArgumentError
from ..arguments import wide
from .residuals import ratio


def conserved_drift(values: Tensor, scale: Tensor) -> Tensor:
    """``max_t |Q(t) - Q(0)| / Q_scale``, (B,); 0 where both are 0.

    ``values`` are Q at each time, (B, T). ``scale`` (B,) is not Q itself, which may vanish: see
    ``quantity_scale``.
    """
    if values.ndim != 2 or scale.shape != values.shape[:1]:
        raise ArgumentError(
            f"values {tuple(values.shape)} and scale {tuple(scale.shape)} must be (B, T) and (B,)"
        )
    q = wide(values)
    return ratio((q - q[:, :1]).abs().amax(1), wide(scale))


def quantity_scale(
    conserved: Callable[[dict[str, Tensor]], Mapping[str, Tensor]],
    fields: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Quantity -> ``int |f dQ/df|``, (B,), mean over the times: how much Q would change if every
    value of every field ``f`` changed by its own size.

    For a linear quantity, such as a mass, it is ``int |f|``, which does not vanish with the mass;
    for a quadratic one, such as an energy, twice the integral of its density. ``conserved`` gives
    quantity -> (B, T) of fields (B, T, space).
    """
    with torch.enable_grad():
        leaves = {name: wide(value.detach()).requires_grad_() for name, value in fields.items()}
        found = {}
        for name, q in conserved(leaves).items():
            if not q.requires_grad:
                raise ArgumentError(
                    f"the conserved quantity {name!r} is not differentiable in the fields: compute "
                    "it by torch"
                )
            slopes = torch.autograd.grad(
                q.sum(), list(leaves.values()), retain_graph=True, allow_unused=True
            )
            parts = [
                (leaf.detach().conj() * slope).abs().flatten(2).sum(2).mean(1)
                for leaf, slope in zip(leaves.values(), slopes, strict=True)
                if slope is not None
            ]
            found[name] = torch.stack(parts).sum(0)
    return found
