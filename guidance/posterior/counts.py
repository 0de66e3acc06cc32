"""Cost of a posterior sampler: calls of the network, of the forward model, and backward passes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """Numbers of batched calls.

    Attributes:
        network: calls of the denoiser.
        vjp: vector-Jacobian products, backward passes through the denoiser.
        operator: calls of the forward model or of its derivative.
        adjoint: calls of its adjoint, or of its pseudo-inverse.

    Of a method that works in the coordinates of the SVD, ``V^T x`` is a call of the operator,
    ``V c`` and ``U^T y`` are calls of the adjoint.
    """

    network: int = 0
    vjp: int = 0
    operator: int = 0
    adjoint: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.network + other.network,
            self.vjp + other.vjp,
            self.operator + other.operator,
            self.adjoint + other.adjoint,
        )
