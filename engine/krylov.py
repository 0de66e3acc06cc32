"""Linear equations ``M d = r`` of one Newton iteration, solved for each sample in a space of a few
vectors. M is known by its products only: M v is a difference of a step, M^T u a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

#: Jacobian products of one Newton iteration
KRYLOV = 4


class Linearised:
    """``M = J / factor``, where J is the Jacobian at ``x`` (B, *shape) of ``step``, and ``now`` its
    value there."""

    def __init__(
        self, step: Callable[[Tensor], Tensor], x: Tensor, now: Tensor, factor: float
    ) -> None:
        self.step, self.x, self.now, self.factor = step, x, now, factor
        self.dtype = torch.promote_types(x.dtype, torch.float32)
        # the step of the differences, relative to the state
        self.reach = math.sqrt(torch.finfo(x.dtype).eps) * (self.flat(x).norm(dim=1) + 1.0)

    def flat(self, value: Tensor) -> Tensor:
        """States (B, *shape) as vectors (B, n), in float32 at least."""
        return value.to(self.dtype).flatten(1)

    def state(self, vectors: Tensor) -> Tensor:
        """Vectors (B, n) as states."""
        return vectors.view(self.x.shape).to(self.x)

    def moved(self, v: Tensor) -> Tensor:
        """The step from x moved along unit vectors ``v`` (B, n): one call."""
        return self.step(self.x + self.state(self.reach[:, None] * v))

    def product(self, moved: Tensor) -> Tensor:
        """``M v`` (B, n) from ``moved(v)``."""
        change = (moved.to(self.dtype) - self.now.to(self.dtype)).flatten(1)
        made: Tensor = change / (self.reach * self.factor)[:, None]
        return made


class Differentiated(Linearised):
    """``Linearised`` with the products ``M^T u``: ``step`` is made once with a graph at ``x``."""

    def __init__(self, step: Callable[[Tensor], Tensor], x: Tensor, factor: float) -> None:
        with torch.enable_grad():
            self._leaf = x.detach().clone().requires_grad_()
            self._value = step(self._leaf)
        super().__init__(step, x, self._value.detach(), factor)

    def transposed(self, u: Tensor) -> Tensor:
        """``M^T u`` (B, n): one backward pass."""
        (found,) = torch.autograd.grad(self._value, self._leaf, self.state(u), retain_graph=True)
        return self.flat(found) / self.factor


def gmres(m: Linearised, residual: Tensor) -> Tensor:
    """The least-squares solution d of ``M d = residual`` (B, *shape) in the Krylov space of
    ``KRYLOV`` vectors, for each sample."""
    start = m.flat(residual)
    tiny, count = torch.finfo(m.dtype).tiny, min(KRYLOV, start.shape[1])
    beta = start.norm(dim=1)
    basis = [start / beta.clamp(min=tiny)[:, None]]
    h = start.new_zeros(len(start), count + 1, count)
    for j in range(KRYLOV):
        moved = m.moved(basis[min(j, count - 1)])
        if j >= count:  # as many calls for every shape of sample
            continue
        w = m.product(moved)
        for i, v in enumerate(basis):
            h[:, i, j] = (w * v).sum(1)
            w = w - h[:, i, j, None] * v
        h[:, j + 1, j] = w.norm(dim=1)
        basis.append(w / h[:, j + 1, j].clamp(min=tiny)[:, None])
    gram = h.mT @ h
    trace = gram.diagonal(dim1=1, dim2=2).sum(1) + 1.0  # regular where nothing is left to solve
    eye = torch.eye(count, dtype=m.dtype, device=start.device)
    gram = gram + (torch.finfo(m.dtype).eps * trace)[:, None, None] * eye
    weights = torch.linalg.solve(gram, beta[:, None] * h[:, 0])
    found = sum(weights[:, j, None] * basis[j] for j in range(count))
    return m.state(torch.as_tensor(found))


def ridge(m: Differentiated, residual: Tensor, pull: Tensor, weight: float) -> Tensor:
    """The minimum d of ``|M d - residual|^2 + weight |d - pull|^2`` (``residual`` and ``pull`` are
    (B, *shape)) for each sample, by ``KRYLOV`` steps of conjugate gradients (CGLS)."""
    rest, other = m.flat(residual), m.flat(pull)  # what is left of both terms
    tiny = torch.finfo(m.dtype).tiny
    found = torch.zeros_like(rest)
    gradient = m.transposed(rest) + weight * other
    along, square = gradient, gradient.square().sum(1, keepdim=True)
    for k in range(KRYLOV):
        length = along.norm(dim=1, keepdim=True).clamp(min=tiny)
        product = length * m.product(m.moved(along / length))
        curvature = product.square().sum(1, keepdim=True) + weight * length.square()
        # the minimum along the line, also where rounding has made the directions dependent
        step = (gradient * along).sum(1, keepdim=True) / curvature.clamp(min=tiny)
        found = found + step * along
        rest, other = rest - step * product, other - step * along
        if k + 1 < KRYLOV:
            gradient = m.transposed(rest) + weight * other
            before, square = square, gradient.square().sum(1, keepdim=True)
            along = gradient + square / before.clamp(min=tiny) * along
    return m.state(found)
