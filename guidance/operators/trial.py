"""Trying a forward model: what it claims, measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ...checks import ArgumentError, between
from .accepted import as_operator
from .derivatives import Linearised
from .masks import seeded, sizes
from .operator import Operator

#: samples of a trial
ROWS = 3


def check(
    operator: object, shape: Sequence[int], tolerance: float = 1e-6, seed: int = 0
) -> Mapping[str, float]:
    """Try an operator of your own on three random samples, in float64.

    Args:
        operator: see ``as_operator``.
        shape: of one sample.
        tolerance: largest relative error; 1e-10 for operators that compute in float64 throughout.
        seed: of the samples.

    Returns the relative error of each property: ``rows`` (a sample does not depend on the others),
    ``linear``, ``adjoint`` (``<A x, v> = <x, A^T v>``; of an A that is not linear, of its
    derivative), and for what the operator has ``pinverse`` (``A A^+ A = A``), ``svd`` (``A = U
    diag(s) V^T``), ``prox`` (the gradient at the minimum) and ``norm_bound`` (by how much the norm
    exceeds it). Raises ArgumentError for the first that is larger than the tolerance.
    """
    made, own = as_operator(operator), sizes("shape", shape)
    between("tolerance", tolerance, 0.0)
    generator = seeded(seed)
    rows = made.samples(own) or ROWS
    x, z = torch.randn((2, rows, *own), generator=generator, dtype=torch.float64)
    found: dict[str, float] = {}
    try:
        for name, error in _errors(made, x, z, generator):
            found[name] = error
            if not error <= tolerance:
                raise ArgumentError(
                    f"{made!r}: {MEANINGS[name]}: relative error {error:.3g}, allowed is "
                    f"{tolerance:g}"
                )
    except (RuntimeError, IndexError) as error:
        raise ArgumentError(f"{made!r} fails on samples of shape {own}: {error}") from error
    return found


MEANINGS = {
    "rows": "the measurement of a sample depends on the other samples of the batch",
    "linear": "A(2 x - 3 z) is not 2 A(x) - 3 A(z); if A is not linear, set linear = False",
    "adjoint": "<A x, v> is not <x, A^T v>: the adjoint is another one",
    "pinverse": "A A^+ A is not A",
    "svd": "U diag(s) V^T is not A",
    "prox": "prox(x, y, rho) is not the minimum of |y - A z|^2 + rho |z - x|^2",
    "norm_bound": "A x is longer than norm_bound |x| for some x",
}


def _errors(
    made: Operator, x: Tensor, z: Tensor, generator: torch.Generator
) -> Iterator[tuple[str, float]]:
    y = made(x)
    if made.samples(x.shape[1:]) is None:
        alone = torch.cat([made(one[None]) for one in x])
        yield "rows", _away(alone, y)
    if made.linear:
        yield "linear", _away(made(2.0 * x - 3.0 * z), 2.0 * y - 3.0 * made(z))
    v = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y)
    if made.differentiable:
        yield "adjoint", _adjoint(made.linearise(x), z, v)
    if made.invertible:
        yield "pinverse", _away(made(made.pinverse(y).reshape_as(x)), y)
    spectrum = made.svd
    if spectrum is not None:
        c = spectrum.Vt(x)
        yield "svd", _away(spectrum.U(spectrum.values(c) * c), y)
    if made.linear and made.solvable:
        best = made.prox(x, v, 0.5)
        pull = made.adjoint(v - made(best)).reshape_as(x)
        yield "prox", _away(pull, 0.5 * (best - x))
    if made.linear and made.norm_bound is not None:
        norm = made.norm(x.shape[1:], iterations=30)
        yield "norm_bound", max(0.0, norm / made.norm_bound - 1.0)


def _adjoint(at: Linearised, z: Tensor, v: Tensor) -> float:
    forward, back = at.forward(z), at.adjoint(v)
    left, right = ((forward * v).double().sum(), (z * back).double().sum())
    size = forward.double().norm() * v.double().norm() + z.norm() * back.double().norm()
    return float((left - right).abs() / size.clamp_min(1e-300))


def _away(found: Tensor, exact: Tensor) -> float:
    """|found - exact| / |exact|."""
    if found.shape != exact.shape:
        raise ArgumentError(f"shapes {tuple(found.shape)} and {tuple(exact.shape)} differ")
    return float((found - exact).double().norm() / exact.double().norm().clamp_min(1e-300))
