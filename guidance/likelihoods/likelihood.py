"""``Likelihood``: a measurement with its forward model and the level of its noise."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from ...checks import ArgumentError, tensor
from ..operators.accepted import as_operator
from ..operators.operator import Operator


class Likelihood:
    """The law of a measurement, ``p(y | x0)``. A subclass defines ``log_density`` and ``slope``.

    Attributes:
        operator: A.
        y: the measurement, shaped like ``A(x0)[0]``, or (B, ...) with one for each sample.
        sigma_y: standard deviation of Gaussian noise; 0 is an exact constraint.
    """

    #: whether the noise is Gaussian, of standard deviation ``sigma_y``
    gaussian: bool = True
    sigma_y: float = 0.0

    def __init__(self, operator: Any, y: Tensor) -> None:
        """``operator``: see ``operators.as_operator``; ``y``: finite."""
        self.operator: Operator = as_operator(operator)
        given = tensor("y", y)
        if not bool(torch.isfinite(given).all()):
            raise ArgumentError("y has values that are NaN or infinite")
        self.y = given.detach()
        self._rows: Tensor | None = None

    def __repr__(self) -> str:
        own = f"{self.operator!r}, y={tuple(self.y.shape)}, sigma_y={self.sigma_y}"
        return f"{type(self).__name__}({own})"

    def data(self, value: Tensor) -> Tensor:
        """y on the device and in the dtype of ``value``, which is A(x0) (B, *measured)."""
        y = self.y.to(value)
        if y.ndim == value.ndim and y.shape[0] > 1 and self._rows is not None:
            y = y.index_select(0, self._rows.to(y.device))
        return y

    def light(self, x0: Tensor) -> Tensor:
        """What the operator is applied to, for samples x0 (B, *shape)."""
        return x0

    def log_density(self, value: Tensor) -> Tensor:
        """``log p(y | x0)`` of each sample for ``value``, A(x0) (B, *measured); (B,) float64."""
        raise ArgumentError(f"{self!r} has no density")

    def slope(self, value: Tensor) -> Tensor:
        """The gradient of ``log_density`` by ``value``, shaped like it."""
        raise ArgumentError(f"{self!r} has no density")

    def log_prob(self, x0: Tensor) -> Tensor:
        """``log p(y | x0)`` of each sample of x0 (B, *shape), (B,) float64."""
        return self.log_density(self.operator(self.light(_wide(x0))))

    def gradient(self, x0: Tensor) -> Tensor:
        """The gradient of ``log_prob``, ``A'(x0)^T slope``, shaped like x0. Raises ArgumentError
        for an operator without derivative."""
        at = self.operator.linearise(self.light(_wide(x0)))
        return at.adjoint(self.slope(at.value)).reshape_as(x0)

    def residual(self, x0: Tensor) -> Tensor:
        """``y - A(x0)``, (B, *measured)."""
        value = self.operator(self.light(_wide(x0)))
        return self.data(value) - value

    def samples(self, shape: Sequence[int]) -> int | None:
        """Number of samples of shape ``shape`` that the measurement is for; None: any.

        Raises ArgumentError where ``y`` or the operator does not fit the samples; it makes one call
        of the operator.
        """
        own = self.operator.samples(shape)
        wide = torch.promote_types(self.y.dtype, torch.float32)
        probe = torch.zeros((own or 1, *shape), dtype=wide, device=self.y.device)
        value = probed(self.operator, probe)
        measured = tuple(value.shape[1:])
        batched = self.y.ndim == value.ndim and tuple(self.y.shape[1:]) == measured
        if tuple(self.y.shape) != measured and not batched:
            raise ArgumentError(
                f"y has shape {tuple(self.y.shape)}; the operator measures {measured} of a sample "
                f"of shape {tuple(shape)}: allowed are {measured} and (batch, "
                f"{', '.join(map(str, measured))})"
            )
        count = self.y.shape[0] if batched and self.y.shape[0] > 1 else None
        count = len(self._rows) if count is not None and self._rows is not None else count
        if None not in (own, count) and own != count:
            raise ArgumentError(f"the operator is for {own} samples, y for {count}")
        self.operator.check_data(self.data(value).expand(own or count or 1, *measured))
        return count if own is None else own

    def select(self, rows: Tensor) -> Self:
        """The likelihood of the samples ``rows`` (integers) of its batch."""
        made = copy(self)
        rows = rows.to(self.y.device)
        made._rows = rows if self._rows is None else self._rows[rows]
        made.operator = self.operator.select(rows)
        return made

    def misfit(self, x: Tensor) -> Tensor:
        """``|y - A(x)|`` of each sample of x (B, *shape), (B,) float64."""
        with torch.no_grad():
            away = self.residual(x).to(torch.float64).flatten(1)
            found: Tensor = torch.linalg.vector_norm(away, dim=1)
        return found


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def probed(operator: Operator, probe: Tensor) -> Tensor:
    """A of ``probe``. Raises ArgumentError where the operator does not take such samples."""
    try:
        with torch.no_grad():
            return operator(probe)
    except (RuntimeError, IndexError, ValueError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(
            f"{operator!r} does not take samples of shape {tuple(probe.shape[1:])}: {error}"
        ) from error
