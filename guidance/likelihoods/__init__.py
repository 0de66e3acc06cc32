"""Likelihoods ``p(y | x0)`` of measurements."""

from __future__ import annotations

from .constraint import Constraint
from .gaussian import Gaussian
from .likelihood import Likelihood
from .poisson import Poisson

__all__ = ["Constraint", "Gaussian", "Likelihood", "Poisson"]
