"""Clean samples from a batch in which every sample has its own noise level, by the steps of any
sampler.

A step of a sampler on ``x = x0 + sigma eps`` depends on the ratios of its noise levels only, so one
plan from sigma = 1 to 0 serves the whole batch: at relative level t sample b has level
``t sigma_b``, and the network is given that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..checks import ArgumentError, described, integer
from ..models.wrapping import wrap
from ..schedules.ve import EDM
from .planning import plan
from .sampling import run

#: relative noise level of the last call before 0
LEAST = 0.02


def sample_estimate(
    sampler: str = "ddim", steps: int = 4, options: Mapping[str, Any] | None = None
) -> Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor], Tensor]:
    """Return a function ``(denoise, x, sigma) -> x0`` that draws clean samples from noisy ones.

    ``x`` (B, *shape) is ``x0 + sigma eps`` with ``sigma`` (B,), ``denoise(x, sigma)`` the clean
    sample's mean. The result is differentiable in ``x`` and in what ``denoise`` depends on; it
    costs ``steps`` calls of a sampler of one call a step; ``options`` are the sampler's. It is the
    ``estimate`` of a residual loss (arXiv 2403.14404, section 3.3, has DDIM).

    Raises ArgumentError for samplers that draw noise, UnknownName for unknown ones.
    """
    schedule = EDM(LEAST, 1.0)
    made = plan(
        sampler, schedule, grid="karras", steps=integer("steps", steps, 1), **dict(options or {})
    )
    if made.draws:
        raise ArgumentError(
            f"sampler {sampler!r} draws noise; a sample estimate needs one that does not"
        )

    def estimate(denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor) -> Tensor:
        if sigma.shape != x.shape[:1]:
            raise ArgumentError(f"sigma must be one number a sample, got {described(sigma)}")
        relative = wrap(lambda y, t: denoise(y, sigma * t), schedule, "x0", time="sigma")
        if not torch.is_grad_enabled():
            return run(made, relative, x)
        start = x if x.requires_grad else x.detach().requires_grad_()  # says that a graph is wanted
        return run(made, relative, start, grad="full")

    return estimate
