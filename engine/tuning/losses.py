"""Errors of end states, what a fit makes small, and what a report says of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: bootstrap resamples of an interval
_RESAMPLES = 400


def sample_errors(end: Tensor, wanted: Tensor) -> Tensor:
    """RMSE of each sample, (B,)."""
    return (end.double() - wanted.double()).flatten(1).square().mean(1).sqrt()


def pseudo_huber(errors: Tensor, delta: float) -> float:
    """``mean(delta^2 (sqrt(1 + (e / delta)^2) - 1))`` (Charbonnier et al. 1997): quadratic for
    errors below ``delta``, linear above, so that a few samples that end at another mode do not
    decide."""
    return float((delta * delta * ((1.0 + (errors / delta).square()).sqrt() - 1.0)).mean())


def huber_weights(errors: Tensor, delta: float) -> Tensor:
    """Weights (B,) of the squares in a step of least squares for ``pseudo_huber``."""
    return (1.0 + (errors / delta).square()).rsqrt()


def score(errors: Tensor) -> float:
    """The geometric mean of the errors, by which plans are chosen; inf where one is no number."""
    if not bool(torch.isfinite(errors).all()):
        return math.inf
    return float(errors.clamp_min(1e-300).log().mean().exp())


def summary(errors: Tensor) -> dict[str, float]:
    """Median with a 95 % bootstrap interval (``low``, ``high``), 90th percentile and RMSE."""
    draws = torch.Generator().manual_seed(0)
    picks = torch.randint(len(errors), (_RESAMPLES, len(errors)), generator=draws)
    medians = errors.cpu()[picks].median(1).values
    low, high = (float(v) for v in medians.quantile(torch.tensor([0.025, 0.975]).to(medians)))
    found = {
        "median": float(errors.median()),
        "low": low,
        "high": high,
        "p90": float(errors.quantile(0.9)),
        "rmse": float(errors.square().mean().sqrt()),
    }
    return {name: short(value) for name, value in found.items()}


def short(value: float) -> float:
    """A number of a report: five digits."""
    return float(f"{value:.5g}")
