"""What methods ask of a likelihood: refused with the methods that take it instead."""

from __future__ import annotations

from typing import Any

from ...checks import ArgumentError
from ..likelihoods.likelihood import Likelihood


def exact(likelihood: Likelihood, method: str) -> None:
    """Raise ArgumentError unless the likelihood is an exact constraint."""
    if likelihood.sigma_y:
        raise ArgumentError(
            f"{method} is for exact constraints, and {likelihood!r} has noise: use "
            "guidance.Constraint, or a method for noise, such as ddnm_plus, diffpir or mmps"
        )


def noisy(likelihood: Likelihood, method: str) -> None:
    """Raise ArgumentError for an exact constraint."""
    if not likelihood.sigma_y:
        raise ArgumentError(
            f"{method} divides by sigma_y^2, and {likelihood!r} has no noise: use a small sigma_y "
            "in guidance.Gaussian, or a method for exact constraints, such as ddnm or ddrm"
        )


def linear(likelihood: Likelihood, method: str) -> None:
    """Raise ArgumentError unless the operator is linear."""
    if not likelihood.operator.linear:
        raise ArgumentError(
            f"{method} is for linear operators, and {likelihood.operator!r} is not: use dps or "
            "mmps, which linearise it"
        )


def invertible(likelihood: Likelihood, method: str) -> None:
    """Raise ArgumentError unless the operator is linear and has a pseudo-inverse."""
    linear(likelihood, method)
    if not likelihood.operator.invertible:
        raise ArgumentError(
            f"{method} uses the pseudo-inverse, and {likelihood.operator!r} has none in closed "
            f"form: {_ADJOINT}"
        )


def spectral(likelihood: Likelihood, method: str) -> Any:
    """The SVD of the operator. Raises ArgumentError where there is none."""
    linear(likelihood, method)
    if likelihood.operator.svd is None:
        raise ArgumentError(
            f"{method} uses the singular value decomposition, and {likelihood.operator!r} has "
            f"none: {_ADJOINT}"
        )
    return likelihood.operator.svd


_ADJOINT = "use a method that needs the adjoint only, such as diffpir, dds or mmps"
