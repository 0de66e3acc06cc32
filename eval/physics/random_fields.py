r"""Gaussian random fields by spectral sampling, in float64, one seed a sample.

Each field is a sum of the eigenfunctions of its covariance, weighted by the roots of the
eigenvalues and by standard normals. Four families, in the conventions of the data sets that use
them:

    ``neumann_fields``   cosines on the square, covariance ``(-Laplace + tau^2)^-alpha`` with zero
                         normal derivative (Li et al. 2021, arXiv 2010.08895, Darcy flow)
    ``periodic_fields``  complex exponentials on the torus (the same, Navier-Stokes)
    ``line_fields``      sines and cosines on the circle (the same, Burgers)
    ``karhunen_loeve``   eigenvectors of ``exp(-|x - x'| / ell)`` on the nodes of a square (Zhu and
                         Zabaras 2018, arXiv 1801.06879)

Sample i depends on ``seeds[i]`` and the size only: it is the same in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor

from ...checks import ArgumentError, between, integer, number
from ...fused import normals

#: stream of the noise that makes data
FIELD_STREAM = (1 << 30) + 3
#: the most nodes of an axis of a field, and of the dense covariance of ``karhunen_loeve``
MOST_NODES, MOST_DENSE = 8192, 128


def white(seeds: Iterable[int], shape: tuple[int, ...], draw: int = 0) -> Tensor:
    """Standard normals (n, *shape), float64: draw number ``draw`` of the data's stream."""
    return normals(seeds, shape, stream=FIELD_STREAM, draw=draw, device="cpu", dtype=torch.float64)


def uniform(
    seeds: Iterable[int], low: float, high: float, draw: int = 0, shape: tuple[int, ...] = ()
) -> Tensor:
    """Numbers uniform in [low, high], (n, *shape), float64: the distribution function of
    ``white``'s draw number ``draw``."""
    found: Tensor = torch.special.ndtr(white(seeds, shape or (1,), draw))
    return low + (high - low) * (found if shape else found[:, 0])


def neumann_fields(size: int, seeds: Iterable[int], alpha: float = 2.0, tau: float = 3.0) -> Tensor:
    r"""Fields on ``size`` x ``size`` cell centres of the unit square, zero mean, (n, size, size).

    ``g = C^T L C`` with the orthonormal DCT-II matrix ``C`` and ``L_ij = size tau^(alpha-1)
    (pi^2 (i^2 + j^2) + tau^2)^(-alpha/2) xi_ij``, ``L_00 = 0``. Raises ArgumentError.
    """
    size, alpha, tau = _checked(size, alpha, tau)
    k = torch.arange(size, dtype=torch.float64)
    weights = (math.pi**2 * (k[:, None] ** 2 + k**2) + tau**2).pow(-alpha / 2.0)
    weights *= size * tau ** (alpha - 1.0)
    weights[0, 0] = 0.0
    basis = cosine_matrix(size)
    return basis.T @ (weights * white(seeds, (size, size))) @ basis


def cosine_matrix(size: int) -> Tensor:
    """Orthonormal DCT-II: row k holds ``sqrt(2/n) cos(pi k (j + 1/2) / n)``, row 0 ``1/sqrt(n)``;
    (size, size)."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi * k[:, None] * (k + 0.5) / size) * math.sqrt(2.0 / size)
    matrix[0] = math.sqrt(1.0 / size)
    return matrix


def periodic_fields(
    size: int, seeds: Iterable[int], alpha: float = 2.5, tau: float = 7.0
) -> Tensor:
    r"""Fields on ``size`` x ``size`` nodes of the unit torus, zero mean, (n, size, size).

    ``Re sum_k sqrt2 tau^(alpha-1) (4 pi^2 |k|^2 + tau^2)^(-alpha/2) z_k e^(2 pi i k x)`` with
    independent standard normal real and imaginary parts of ``z_k``; k = 0 is left out. Raises
    ArgumentError.
    """
    size, alpha, tau = _checked(size, alpha, tau)
    k = torch.fft.fftfreq(size, 1.0 / size, dtype=torch.float64)
    weights = (4.0 * math.pi**2 * (k[:, None] ** 2 + k**2) + tau**2).pow(-alpha / 2.0)
    weights *= size**2 * math.sqrt(2.0) * tau ** (alpha - 1.0)
    weights[0, 0] = 0.0
    seeds = tuple(seeds)
    noise = torch.complex(white(seeds, (size, size), 0), white(seeds, (size, size), 1))
    field: Tensor = torch.fft.ifft2(weights * noise).real
    return field.contiguous()


def line_fields(
    size: int, seeds: Iterable[int], gamma: float = 2.5, tau: float = 7.0, sigma: float = 49.0
) -> Tensor:
    r"""Fields on ``size`` nodes of the unit circle, zero mean, (n, size).

    ``sum_(k=1)^(size/2) e_k (xi_k cos 2 pi k x + eta_k sin 2 pi k x)`` with ``e_k = sqrt2 sigma
    ((2 pi k)^2 + tau^2)^(-gamma/2)``. Raises ArgumentError.
    """
    size, gamma, tau = _checked(size, gamma, tau)
    sigma = between("sigma", sigma, 0.0)
    k = torch.arange(1, size // 2 + 1, dtype=torch.float64)
    weights = math.sqrt(2.0) * sigma * ((2.0 * math.pi * k) ** 2 + tau**2).pow(-gamma / 2.0)
    angle = 2.0 * math.pi * k[:, None] * torch.arange(size, dtype=torch.float64) / size
    seeds = tuple(seeds)
    cosines, sines = white(seeds, (len(k),), 0), white(seeds, (len(k),), 1)
    return (weights * cosines) @ angle.cos() + (weights * sines) @ angle.sin()


def karhunen_loeve(size: int, seeds: Iterable[int], ell: float = 0.1, terms: int = 64) -> Tensor:
    r"""Fields ``sum_i sqrt(lambda_i) phi_i xi_i`` over the ``terms`` largest eigenpairs of the
    covariance ``exp(-|x - x'| / ell)`` on size x size nodes of the unit square, boundary included;
    (n, size, size). Raises ArgumentError."""
    values, vectors = eigenpairs(
        integer("size", size, 2, MOST_DENSE), between("ell", ell, 0.0), integer("terms", terms, 1)
    )
    noise = white(seeds, (len(values),))
    return ((noise * values.sqrt()) @ vectors.flatten(1)).reshape(-1, size, size)


@lru_cache(maxsize=4)
def eigenpairs(size: int, ell: float, terms: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues (terms,), falling, and orthonormal eigenvectors (terms, size, size)
    of ``exp(-|x - x'| / ell)`` on the nodes of the unit square; to be read only.

    The covariance commutes with both reflections of the square, so it is diagonalised on even and
    odd fields separately: matrices of a quarter of the nodes. Raises ArgumentError for more terms
    than nodes.
    """
    if terms > size**2:
        raise ArgumentError(f"terms={terms}: a field on {size} x {size} nodes has {size**2}")
    found = [_symmetric_pairs(size, ell, terms, parity) for parity in ((1, 1), (1, -1), (-1, -1))]
    swapped = (found[1][0], found[1][1].transpose(1, 2))
    values = torch.cat([found[0][0], found[1][0], swapped[0], found[2][0]])
    vectors = torch.cat([found[0][1], found[1][1], swapped[1], found[2][1]])
    order = torch.argsort(values, descending=True, stable=True)[:terms]
    return values[order], vectors[order].contiguous()


def _symmetric_pairs(
    size: int, ell: float, terms: int, parity: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Eigenpairs of those fields that the reflection of axis a multiplies by ``parity[a]``."""
    from scipy.linalg import eigh  # type: ignore[import-untyped]

    bases = [_half_basis(size, p) for p in parity]
    if not all(len(basis) for basis in bases):
        return torch.empty(0, dtype=torch.float64), torch.empty(0, size, size, dtype=torch.float64)
    halves = [len(basis) for basis in bases]
    covariance = _quarter_covariance(size, ell)[: halves[0], : halves[1]]
    matrix = torch.einsum("ijxy,kx,ly->ijkl", covariance, *bases)
    for axis, basis in enumerate(bases):
        matrix = matrix / basis.diagonal().reshape([-1 if d == axis else 1 for d in range(4)])
    count = halves[0] * halves[1]
    square = matrix.reshape(count, count).numpy()
    values, vectors = eigh(square, subset_by_index=(max(0, count - terms), count - 1))
    fields = torch.from_numpy(vectors.T.copy()).reshape(-1, *halves)
    fields = torch.einsum("nij,ik,jl->nkl", fields, *bases)
    largest = fields.flatten(1).gather(1, fields.flatten(1).abs().argmax(1, keepdim=True))
    return torch.from_numpy(values.copy()), fields * largest.sign()[:, :, None]


def _quarter_covariance(size: int, ell: float) -> Tensor:
    """Covariance of the nodes of a quarter of the square with all nodes, (half, half, size,
    size)."""
    x = torch.arange(size, dtype=torch.float64) / (size - 1)
    square = (x[: (size + 1) // 2, None] - x).square()
    return torch.exp(-(square[:, None, :, None] + square[None, :, None, :]).sqrt() / ell)


def _half_basis(size: int, parity: int) -> Tensor:
    """Orthonormal basis of the even or odd vectors of length ``size``, (half, size)."""
    half = (size + 1) // 2 if parity > 0 else size // 2
    basis = torch.zeros(half, size, dtype=torch.float64)
    for i in range(half):
        basis[i, i] += 1.0
        basis[i, size - 1 - i] += parity
    return basis / basis.square().sum(1, keepdim=True).sqrt()


def _checked(size: int, exponent: float, tau: float) -> tuple[int, float, float]:
    return (
        integer("size", size, 2, MOST_NODES),
        number("alpha", exponent, 0.0, 64.0),
        between("tau", tau, 0.0),
    )
