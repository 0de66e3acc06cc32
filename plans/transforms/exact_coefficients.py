"""The coefficients with the right signal and noise that are nearest to given ones.

A state at a node must have signal alpha and noise norm sigma. In the coefficients c of its Combine
these are two equations, ``S c = alpha`` and ``|N c| = sigma``, where S and N are the signals and
noises of the combined values. Given coefficients are moved by the smallest change (each weighed by
the size of its value) that solves them: by Newton's method, which takes one step where the
equations are linear, as in every plan without noise. The instructions are treated in order. The
result is a differentiable function of the given coefficients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...schedules.kinds import parts
from ...schedules.node import Node
from ..instructions import Combine, Evaluate, PlanData, PlanError
from ..type_check import TOLERANCE

#: steps of Newton's method where the noise norm is quadratic in the coefficients
_STEPS = 6
#: rows of the equations that differ by less than this share are one
_RANK = 1e-10


def exact_coefficients(plan: PlanData, given: Tensor) -> Tensor:
    """Return the coefficients (K,), float64, in the order of ``plan.coefficients``, that are
    nearest to ``given`` (K,) and give every state the signal and, if ``plan.exactness`` is
    ``exact``, the noise of its node.

    Coefficients that fulfil the equations are returned unchanged. With ``asymptotic`` all are.
    PlanError where the coefficients of a state with noise are such that it has none.
    """
    return _Walk(plan, given).coefficients()


class _Walk:
    """Signals and noise vectors (start noise, draws) of the values, one instruction at a time."""

    def __init__(self, plan: PlanData, given: Tensor) -> None:
        self.plan, self.given = plan, given
        self.atoms = 1 + len(plan.draws)
        self.signal: dict[int, Tensor] = {}
        self.noise: dict[int, Tensor] = {}
        self.noisy = self._atom(0)
        self._set(0, given.new_tensor(plan.start.alpha), plan.start.sigma * self._atom(0))

    def _atom(self, index: int) -> Tensor:
        atom = torch.zeros(self.atoms, dtype=torch.float64)
        atom[index] = 1.0
        return atom

    def _set(self, value: int, signal: Tensor, noise: Tensor) -> None:
        self.signal[value], self.noise[value] = signal, noise

    def coefficients(self) -> Tensor:
        found, place = [], 0
        for i in self.plan.code:
            if isinstance(i, Evaluate):
                self._evaluate(i)
                continue
            count = len(i.terms) + len(i.noise)
            found.append(self._combine(i, self.given[place : place + count]))
            place += count
        return torch.cat(found)

    def _evaluate(self, e: Evaluate) -> None:
        state = self.noise[e.state]
        if bool((state != 0.0).any()):
            self.noisy = state / state.norm()
        for value, kind, _ in e.outs:
            u, w = parts(kind, e.node)
            self._set(value, self.given.new_tensor(u), w * self.noisy)

    def _combine(self, i: Combine, c: Tensor) -> Tensor:
        signals = torch.stack(
            [*(self.signal[v] for v, _ in i.terms), *(c.new_zeros(()) for _ in i.noise)]
        )
        noises = torch.stack(
            [*(self.noise[v] for v, _ in i.terms), *(self._atom(1 + key) for key, _ in i.noise)], 1
        )
        if i.node is None or self.plan.exactness == "asymptotic":
            self._set(i.out, signals @ c, noises @ c)
            return c
        own = c.new_tensor([w for _, w in (*i.terms, *i.noise)])
        negative = bool((noises @ own)[0] < 0.0)
        c = _moved(c, signals, noises, i.node, self.plan.exactness == "exact", negative)
        noise = noises @ c
        norm = noise.norm()
        share = i.node.sigma / norm if float(norm.detach()) > 0.0 else 1.0
        self._set(i.out, c.new_tensor(i.node.alpha), noise * share)
        return c


def _moved(
    c: Tensor, signals: Tensor, noises: Tensor, node: Node, both: bool, negative: bool
) -> Tensor:
    """``c`` with the smallest change that makes the Combine a state at ``node``; ``negative``: the
    start noise has a negative coefficient in the plan's own state."""
    size2 = signals**2 + (noises**2).sum(0)
    largest = float((size2.detach().sqrt() * c.detach().abs()).max())
    scale = max(largest, node.alpha, node.sigma)
    weights = (size2 > 0.0) / torch.where(size2 > 0.0, size2, torch.ones_like(size2))
    linear = bool((noises[1:] == 0.0).all())
    sigma = -node.sigma if negative and linear else node.sigma
    for _ in range(1 if linear else _STEPS):
        misses, rows = (signals @ c - node.alpha)[None], signals[None]
        if both:
            more, further = _noise_equations(c, noises[:1] if linear else noises, sigma, linear)
            misses, rows = torch.cat((misses, more)), torch.cat((rows, further))
        if float(misses.detach().abs().max()) <= TOLERANCE * scale:
            # the value stays; its derivative is that of the moved one
            change = _least(misses, rows, weights)
            return c - (change - change.detach())
        c = c - _least(misses, rows, weights)
    return c


def _noise_equations(
    c: Tensor, noises: Tensor, sigma: float, linear: bool
) -> tuple[Tensor, Tensor]:
    """How far the noise of a Combine misses ``sigma``, and the derivatives by ``c``, by row."""
    noise = noises @ c
    if linear or sigma == 0.0:  # a norm of 0 has no derivative: every atom must vanish
        return noise - sigma, noises
    norm = noise.norm()
    if float(norm.detach()) == 0.0:
        raise PlanError("the coefficients give a state no noise; its node has sigma > 0")
    return (norm - sigma)[None], ((noise / norm) @ noises)[None]


def _least(misses: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """The smallest d, weighed, with ``rows d = misses``; rows that follow from others drop out."""
    lengths = (rows * weights * rows).sum(1)
    lengths = torch.where(lengths > 0.0, lengths, torch.ones_like(lengths)).sqrt()
    misses, rows = misses / lengths, rows / lengths[:, None]
    square = rows * weights @ rows.T
    inverse: Tensor = torch.linalg.pinv(square, rtol=_RANK, hermitian=True)
    return weights * (rows.T @ (inverse @ misses))
