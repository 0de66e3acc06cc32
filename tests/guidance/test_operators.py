"""Forward models: adjoint, pseudo-inverse, proximal map, norm bound and the dense matrix of each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from problems import F64

from fewstep.checks import ArgumentError
from fewstep.guidance import Gaussian, operators

SHAPE = (2, 4, 4)
_G = torch.Generator().manual_seed(2)
MASK = torch.rand(4, 4, generator=_G) < 0.4
DENSE = torch.randn(5, 32, generator=_G, dtype=F64)
DENSE[4] = DENSE[0] - 2.0 * DENSE[1]  # rank 4
ONE = torch.randn(3, 16, generator=_G, dtype=F64)


class Physics:
    """An object with A and A_adjoint, like the physics of deepinv."""

    def A(self, x: Any) -> Any:
        return x.cumsum(-1)

    def A_adjoint(self, y: Any) -> Any:
        return y.flip(-1).cumsum(-1).flip(-1)


def laplacian(x: Any) -> Any:
    return 4.0 * x - x.roll(1, -1) - x.roll(-1, -1) - x.roll(1, -2) - x.roll(-1, -2)


MADE = {
    "matrix": operators.Matrix(DENSE, SHAPE),
    "inpaint": operators.Inpaint(MASK),
    "inpaint one channel": operators.Inpaint(torch.stack([MASK, torch.zeros_like(MASK)])),
    "channels": operators.Channels([1], 2),
    "channels of a matrix": operators.Channels(1, 2, operators.Matrix(ONE)),
    "channels inpainted": operators.Channels([1, 0], 2, operators.Inpaint(MASK)),
    "callable": operators.Callable(laplacian, linear=True, shape=SHAPE),
    "physics": operators.as_operator(Physics()),
    "stack": operators.Stack(
        [
            operators.Inpaint(MASK),
            DENSE,
            operators.Callable(laplacian, linear=True, shape=SHAPE),
        ],
        [1.0, 0.5, -2.0],
    ),
}


def draw(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.fixture(params=MADE)
def operator(request: Any) -> Any:
    return MADE[request.param]


def dense(operator: Any) -> Any:
    """The matrix, column by column."""
    unit = torch.eye(32, dtype=F64).reshape(32, *SHAPE)
    return torch.stack([operator(column[None])[0].flatten() for column in unit], 1)


def test_the_adjoint_is_exact(operator):
    x = draw(3, *SHAPE)
    y = operator(x)
    v = draw(*y.shape, seed=1)
    back = operator.adjoint(v).reshape_as(x)
    assert torch.allclose((y * v).flatten(1).sum(1), (x * back).flatten(1).sum(1), atol=1e-10)


def test_a_batch_is_the_dense_matrix(operator):
    matrix, x = dense(operator), draw(3, *SHAPE)
    assert torch.allclose(operator(x).flatten(1), x.flatten(1) @ matrix.T, atol=1e-12)
    v = draw(*operator(x).shape, seed=1)
    assert torch.allclose(operator.adjoint(v).flatten(1), v.flatten(1) @ matrix, atol=1e-12)


def test_the_pseudo_inverse_is_one(operator):
    y = operator(draw(3, *SHAPE))
    if not operator.solvable:
        with pytest.raises(ArgumentError, match="no pseudo-inverse"):
            operator.pinverse(y)
        return
    back = operator.pinverse(y).reshape(3, *SHAPE)
    assert torch.allclose(operator(back), y, atol=1e-10)
    matrix = dense(operator)
    exact = (y.flatten(1) @ torch.linalg.pinv(matrix, rtol=1e-10).T).reshape_as(back)
    assert torch.allclose(back, exact, atol=1e-10)


def test_gram_solve_is_the_inverse(operator):
    if not operator.solvable:
        assert operator.gram_solve(operator(draw(3, *SHAPE)), 1.0, 1.0) is None
        return
    matrix = dense(operator)
    y = draw(*operator(draw(3, *SHAPE)).shape, seed=3)
    scale = torch.tensor([0.5, 1.0, 3.0], dtype=F64).reshape(3, *(1,) * (y.ndim - 1))
    for shift in (0.3, 0.0):
        found = operator.gram_solve(y, scale, shift).flatten(1)
        for i, s in enumerate(scale.flatten()):
            inner = s * matrix @ matrix.T + shift * torch.eye(len(matrix), dtype=F64)
            exact = torch.linalg.pinv(inner, rtol=1e-10, hermitian=True) @ y[i].flatten()
            assert torch.allclose(found[i], exact, atol=1e-9)


def test_prox_is_the_minimum(operator):
    x, rho = draw(3, *SHAPE), 0.7
    y = draw(*operator(x).shape, seed=3)
    if not operator.solvable:
        with pytest.raises(ArgumentError, match="no proximal map"):
            operator.prox(x, y, rho)
        return
    z = operator.prox(x, y, rho)
    slope = operator.adjoint(operator(z) - y).reshape_as(x) + rho * (z - x)
    assert float(slope.abs().max()) < 1e-8


def test_the_norm_bound_holds(operator):
    if operator.norm_bound is not None:
        assert float(torch.linalg.matrix_norm(dense(operator), 2)) <= operator.norm_bound + 1e-10


def test_something_is_known_of_most_operators():
    """The tests above do not pass by leaving everything out."""
    solvable = {name for name, op in MADE.items() if op.solvable}
    assert {"matrix", "inpaint", "channels", "channels of a matrix"} <= solvable
    assert MADE["matrix"].norm_bound is not None and MADE["inpaint"].norm_bound == 1.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64])
def test_data_follow_the_state(operator, dtype):
    y = operator(draw(2, *SHAPE).to(dtype))
    assert y.dtype == torch.promote_types(dtype, torch.float32)


def test_a_function_is_linearised():
    def square(x: Any) -> Any:
        return x.flatten(1)[:, :3] ** 2

    at = operators.as_operator(square).linearise(draw(2, *SHAPE))
    x, u, v = draw(2, *SHAPE), draw(2, *SHAPE, seed=4), draw(2, 3, seed=5)
    assert torch.allclose(at.value, square(x))
    assert torch.allclose(at.forward(u), 2.0 * x.flatten(1)[:, :3] * u.flatten(1)[:, :3])
    assert torch.allclose(at.adjoint(v).flatten(1)[:, :3], 2.0 * x.flatten(1)[:, :3] * v)


def test_masks_and_measurements_follow_the_rows():
    masks = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(8)) < 0.5
    op = operators.Inpaint(masks)
    x = draw(3, *SHAPE)
    likelihood = Gaussian(op, op(x))
    assert likelihood.samples(SHAPE) == 3
    rows = torch.tensor([2, 0])
    some = likelihood.select(rows).select(torch.tensor([1]))
    assert some.samples(SHAPE) == 1
    value = some.operator(x[:1])
    assert torch.equal(value, torch.where(masks[:1], x[:1], 0.0))
    assert torch.equal(some.data(value), op(x)[:1])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: operators.Matrix(torch.zeros(3)), "A has shape"),
        (lambda: operators.Matrix(torch.full((2, 2), torch.nan)), "finite"),
        (lambda: operators.Matrix(torch.ones(2, 6), (4,)), "columns"),
        (lambda: operators.Inpaint(torch.tensor([0.5, 1.0])), "True and False"),
        (lambda: operators.Inpaint(torch.zeros(3)), "observes nothing"),
        (lambda: operators.Channels([0, 0], 2), "at most once"),
        (lambda: operators.Channels(2, 2), "channels"),
        (lambda: operators.Callable(3), "must be a function"),
        (lambda: operators.Callable(laplacian, linear=False, adjoint=laplacian), "linear=False"),
        (lambda: operators.Stack([]), "0 operators"),
        (lambda: operators.as_operator(3), "must be one of guidance.operators"),
        (lambda: Gaussian(DENSE, torch.tensor([torch.nan] * 5)), "NaN"),
        (lambda: Gaussian(DENSE, torch.zeros(5), 0.0), "sigma_y"),
        (lambda: Gaussian(DENSE, torch.zeros(4)).samples(SHAPE), "y has shape"),
        (lambda: Gaussian(DENSE, torch.zeros(5)).samples((3,)), "columns"),
        (lambda: Gaussian(MADE["inpaint"], torch.ones(SHAPE)).samples(SHAPE), "zero-filled"),
        (lambda: Gaussian(lambda x: 3, torch.ones(3)).samples(SHAPE), "returned"),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
