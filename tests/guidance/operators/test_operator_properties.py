"""Every linear forward model: adjoint, decomposition, pseudo-inverse, proximal map, norm bound and
the dense matrix of each."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from operator_table import LINEAR, NONLINEAR, Case, dense, draw
from problems import F64

from fewstep.checks import ArgumentError
from fewstep.guidance import operators


@pytest.fixture(params=LINEAR)
def case(request: Any) -> Case:
    return LINEAR[request.param]


def test_the_adjoint_is_exact(case):
    x = draw(3, *case.shape)
    y = case.operator(x)
    v = draw(*y.shape, seed=1)
    back = case.operator.adjoint(v).reshape_as(x)
    assert torch.allclose((y * v).flatten(1).sum(1), (x * back).flatten(1).sum(1), atol=1e-10)


def test_a_batch_is_the_dense_matrix(case):
    matrix, x = dense(case), draw(3, *case.shape)
    y = case.operator(x)
    assert torch.allclose(y.flatten(1), x.flatten(1) @ matrix.T, atol=1e-12)
    assert y.shape[1:] == case.operator.measured(case.shape)
    v = draw(*y.shape, seed=1)
    assert torch.allclose(case.operator.adjoint(v).flatten(1), v.flatten(1) @ matrix, atol=1e-12)
    for i in range(3):
        assert torch.allclose(case.operator(x[i : i + 1]), y[i : i + 1], atol=1e-13)


def test_has_says_what_there_is(case):
    assert case.operator.has == case.has
    assert case.operator.solvable == ("prox" in case.has)


def test_the_decomposition_is_the_operator(case):
    spectrum = case.operator.svd
    if "svd" not in case.has:
        assert spectrum is None
        return
    x = draw(3, *case.shape)
    y, c = case.operator(x), spectrum.Vt(x)
    s = spectrum.values(c)
    assert bool((s >= 0.0).all()) and torch.broadcast_shapes(s.shape, c.shape) == c.shape
    assert torch.allclose(spectrum.U(s * c), y, atol=1e-8)
    assert torch.allclose(spectrum.V(s * spectrum.Ut(y)), case.operator.adjoint(y), atol=1e-8)
    c = draw(*c.shape, seed=2)
    for there, back in ((spectrum.V, spectrum.Vt), (spectrum.U, spectrum.Ut)):
        moved = there(c)
        assert torch.allclose(back(moved), c, atol=1e-8)
        assert torch.allclose(moved.flatten(1).norm(dim=1), c.flatten(1).norm(dim=1), atol=1e-8)
    v = draw(*y.shape, seed=3)
    if spectrum.onto:
        assert torch.allclose(spectrum.U(spectrum.Ut(v)), v, atol=1e-8)
    assert torch.allclose(
        (spectrum.Ut(v) * c).flatten(1).sum(1), (spectrum.U(c) * v).flatten(1).sum(1), atol=1e-8
    )


def test_the_pseudo_inverse_is_that_of_moore_and_penrose(case):
    y = draw(*case.operator(draw(3, *case.shape)).shape, seed=2)
    if "pinverse" not in case.has:
        with pytest.raises(ArgumentError, match="no pseudo-inverse"):
            case.operator.pinverse(y)
        return
    back = case.operator.pinverse(y).reshape(3, *case.shape)
    assert torch.allclose(case.operator.pinverse(case.operator(back)).flatten(1), back.flatten(1))
    exact = (y.flatten(1) @ torch.linalg.pinv(dense(case), rtol=1e-10).T).reshape_as(back)
    assert torch.allclose(back, exact, atol=1e-9)


def test_gram_solve_is_the_inverse(case):
    y = draw(*case.operator(draw(3, *case.shape)).shape, seed=3)
    if "prox" not in case.has:
        assert case.operator.gram_solve(y, 1.0, 1.0) is None
        return
    matrix = dense(case)
    scale = torch.tensor([0.5, 1.0, 3.0], dtype=F64).reshape(3, *(1,) * (y.ndim - 1))
    for shift in (0.3, 0.0):
        found = case.operator.gram_solve(y, scale, shift).flatten(1)
        for i, s in enumerate(scale.flatten()):
            inner = s * matrix @ matrix.T + shift * torch.eye(len(matrix), dtype=F64)
            exact = torch.linalg.pinv(inner, rtol=1e-10, hermitian=True) @ y[i].flatten()
            assert torch.allclose(found[i], exact, atol=1e-8)


@pytest.mark.parametrize("rho", [0.7, 0.01, torch.tensor([0.05, 2.0, 30.0], dtype=F64)])
def test_prox_is_the_minimum(case, rho):
    x, op = draw(3, *case.shape), case.operator
    y = draw(*op(x).shape, seed=3)
    own = rho.reshape(3, *(1,) * len(case.shape)) if isinstance(rho, torch.Tensor) else rho
    z = op.prox(x, y, own)
    slope = op.adjoint(op(z) - y).reshape_as(x) + own * (z - x)
    assert z.shape == x.shape and float(slope.abs().max()) < 1e-8


def test_the_norm_bound_holds_and_is_tight(case):
    exact = float(torch.linalg.matrix_norm(dense(case), 2))
    assert case.operator.norm(case.shape) == pytest.approx(exact, rel=1e-2)
    if "norm_bound" in case.has:
        assert exact - 1e-10 <= case.operator.norm_bound <= case.tight * exact + 1e-10
    else:
        assert case.operator.norm_bound is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64])
def test_data_follow_the_state(case, dtype):
    x, op = draw(2, *case.shape).to(dtype), case.operator
    y, wide = op(x), torch.promote_types(dtype, torch.float32)
    assert y.dtype == op.adjoint(y).dtype == op.prox(x, y, 0.5).dtype == wide
    near = 1e-4 * (1.0 + float(y.abs().max()))
    assert torch.allclose(y.double(), op(x.double()), atol=near)
    if "pinverse" in case.has:
        assert op.pinverse(y).dtype == wide
    if "svd" in case.has:
        assert op.gram_solve(y, 1.0, 0.1).dtype == wide


def test_measurements_are_simulated(case):
    x, op = draw(3, *case.shape), case.operator
    y = op.simulate(x, 0.1, seed=4)
    assert torch.equal(y, op.simulate(x, 0.1, seed=4)) and torch.equal(op.simulate(x), op(x))
    assert not torch.equal(y, op.simulate(x, 0.1, seed=5))
    op.check_data(y)


def test_the_table_names_every_operator():
    named = {type(case.operator).__name__ for case in (*LINEAR.values(), *NONLINEAR.values())}
    found = {name: getattr(operators, name) for name in operators.__all__}
    public = {name for name, value in found.items() if inspect.isclass(value)}
    assert named == public - {"Operator", "Spectrum"}
