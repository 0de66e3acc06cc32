"""Random fields: their variance and modes against the formula, and the same sample in any batch."""

from __future__ import annotations

import math

import pytest
import scipy.fft
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import random_fields
from fewstep.eval.physics.random_fields import (
    cosine_matrix,
    eigenpairs,
    karhunen_loeve,
    line_fields,
    neumann_fields,
    periodic_fields,
    white,
)

N, COUNT = 16, 4000


def assert_deviations(coefficients, wanted):
    """Root mean squares of normals over COUNT samples, each within 5 standard errors."""
    found = coefficients.square().mean(0).sqrt()
    assert ((found / wanted - 1).abs() < 5 / math.sqrt(2 * COUNT)).all()


def test_the_cosine_matrix_is_the_orthonormal_dct_of_scipy():
    value = white([3], (N, N))[0]
    basis = cosine_matrix(N)
    wanted = torch.from_numpy(scipy.fft.idctn(value.numpy(), norm="ortho"))
    torch.testing.assert_close(basis.T @ value @ basis, wanted)


def test_neumann_modes_have_the_stated_deviations():
    k = torch.arange(N).double()
    wanted = N * 3.0 / (math.pi**2 * (k[:, None] ** 2 + k**2) + 9.0)
    modes = cosine_matrix(N) @ neumann_fields(N, range(COUNT)) @ cosine_matrix(N).T
    assert modes[:, 0, 0].abs().max() < 1e-12
    assert_deviations(modes.flatten(1)[:, 1:], wanted.flatten()[1:])


def test_periodic_modes_have_the_stated_deviations():
    k = torch.fft.fftfreq(N, 1 / N).double()
    wanted = math.sqrt(2) * 7**1.5 * (4 * math.pi**2 * (k[:, None] ** 2 + k**2) + 49.0) ** -1.25
    fields = periodic_fields(N, range(COUNT))
    assert abs(float(fields.mean((1, 2)).abs().max())) < 1e-12
    # the real part of the sum mixes the independent modes k and -k: (z_k + conj z_-k) / 2
    modes = torch.fft.fft2(fields)[:, :, 1 : N // 2] / N**2
    wanted = wanted[:, 1 : N // 2]
    assert_deviations(modes.real, wanted / math.sqrt(2))
    assert_deviations(modes.imag, wanted / math.sqrt(2))


def test_line_modes_have_the_stated_deviations():
    k = torch.arange(1, N // 2).double()
    wanted = math.sqrt(2) * 49 * ((2 * math.pi * k) ** 2 + 49) ** -1.25
    modes = torch.fft.rfft(line_fields(N, range(COUNT)))[:, : N // 2] * 2 / N
    assert modes[:, 0].abs().max() < 1e-12
    assert_deviations(modes[:, 1:].real, wanted)
    assert_deviations(modes[:, 1:].imag, wanted)


@pytest.mark.parametrize("size", [8, 9])
def test_eigenpairs_are_those_of_the_dense_covariance(size):
    nodes = torch.linspace(0, 1, size, dtype=torch.float64)
    points = torch.cartesian_prod(nodes, nodes)
    covariance = torch.exp(-torch.cdist(points, points) / 0.3)
    values, vectors = eigenpairs(size, 0.3, 20)
    vectors = vectors.flatten(1)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(covariance).flip(0)[:20])
    torch.testing.assert_close(vectors @ covariance, values[:, None] * vectors)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(20).double())


def test_all_terms_give_the_covariance_of_the_nodes():
    values, vectors = eigenpairs(6, 0.5, 36)
    covariance = torch.einsum("n,nij,nkl->ijkl", values, vectors, vectors)
    assert abs(float(covariance[1, 2, 1, 2]) - 1) < 1e-12
    distance = math.hypot(3 / 5, 1 / 5)
    assert abs(float(covariance[1, 2, 4, 3]) - math.exp(-distance / 0.5)) < 1e-12
    assert_deviations(
        torch.einsum("bij,nij->bn", karhunen_loeve(6, range(COUNT), 0.5, 36), vectors),
        values.sqrt(),
    )


@pytest.mark.parametrize("field", [neumann_fields, periodic_fields, line_fields, karhunen_loeve])
def test_a_sample_is_the_same_in_any_batch(field):
    alone, batch = field(8, [7]), field(8, [3, 7, 1 << 40])
    torch.testing.assert_close(alone[0], batch[1], rtol=1e-13, atol=1e-13)
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: neumann_fields(1, [0]), "size=1"),
        (lambda: periodic_fields(8, [0], tau=0.0), "tau"),
        (lambda: line_fields(8, [-1]), "out of range"),
        (lambda: karhunen_loeve(500, [0]), "size=500"),
        (lambda: karhunen_loeve(6, [0], terms=37), "has 36"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_the_stream_of_the_data_is_not_that_of_a_sampler():
    assert not torch.equal(white([0], (4,)), random_fields.normals([0], (4,), stream=0, draw=0))
