"""Forward models: what is accepted, rows of a batch, derivatives, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_table import DENSE, LINEAR, SHAPE, Decomposed, Physics, draw, laplacian

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import MMPS, Gaussian, operators


class Nonlinear:
    """An object with A alone, like the physics of deepinv that is not linear."""

    def A(self, x: Any) -> Any:
        return x.square()

    def __call__(self, x: Any) -> Any:
        raise AssertionError("the call of physics adds noise")


def test_objects_with_A_are_accepted():
    x = draw(2, *SHAPE)
    physics, made = operators.as_operator(Physics()), operators.as_operator(Decomposed())
    assert physics.linear and not physics.invertible
    assert torch.equal(made.pinverse(made(x)), Decomposed().A_dagger(Physics().A(x)))
    square = operators.as_operator(Nonlinear())
    assert not square.linear and torch.equal(square(x), x.square())


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
    y, rho = draw(1, *SHAPE, seed=1), 0.3
    kept = masks[:1].double()
    assert torch.allclose(
        some.operator.prox(x[:1], y, rho), (kept * y + rho * x[:1]) / (kept + rho)
    )


def test_the_masks_are_what_they_say():
    box = operators.Inpaint.box((6, 8), (2, 3), at=(1, 4)).mask
    assert not box[1:3, 4:7].any() and int((~box).sum()) == 6
    assert not operators.Inpaint.box((6, 6), 2).mask[2:4, 2:4].any()
    random = [operators.Inpaint.random((5, 10), 0.3, seed=s).mask for s in (0, 0, 1)]
    assert torch.equal(random[0], random[1]) and not torch.equal(random[0], random[2])
    assert [int(mask.sum()) for mask in random] == [15] * 3
    halves = {keep: operators.Inpaint.half((4, 5), keep).mask for keep in ("left", "right")}
    assert halves["left"][:, :2].all() and int(halves["left"].sum()) == 8
    assert torch.equal(halves["right"], halves["left"].flip(1))
    assert operators.Inpaint.half((5, 4), "bottom").mask[3:].all()


def test_a_stack_knows_what_its_parts_observe():
    stack = operators.Stack([operators.Inpaint.half((4, 4)), operators.Channels(0, 2)])
    y = stack.simulate(draw(2, *SHAPE), 1.0)
    stack.check_data(y)
    with pytest.raises(ArgumentError, match="zero-filled"):
        stack.check_data(torch.ones_like(y))


def test_an_operator_without_gradient_is_refused():
    rounded = operators.Callable(lambda x: x.round(), differentiable=False)
    with pytest.raises(ArgumentError, match="enkg"):
        rounded.linearise(draw(2, *SHAPE))
    mixture = fewstep.models.load("mixture")
    with pytest.raises(ArgumentError, match="enkg"):
        MMPS(mixture, Gaussian(rounded, torch.zeros(2)))


def inpaint(*size: Any, **more: Any) -> Any:
    return lambda: operators.Inpaint.box(*size, **more)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: operators.Matrix(torch.zeros(3)), "A has shape"),
        (lambda: operators.Matrix(torch.full((2, 2), torch.nan)), "finite"),
        (lambda: operators.Matrix(torch.ones(2, 6), (4,)), "columns"),
        (lambda: operators.Inpaint(torch.tensor([0.5, 1.0])), "True and False"),
        (lambda: operators.Inpaint(torch.zeros(3)), "observes nothing"),
        (inpaint((4, 4), 4), "smaller than the image"),
        (inpaint((4, 4), 2, at=(3, 0)), "at=3"),
        (inpaint((4,), 2), "size="),
        (inpaint(4, 2), "2 positive integers"),
        (lambda: operators.Inpaint.random((4, 4), 0.0), "keep"),
        (lambda: operators.Inpaint.random((4, 4), 0.5, seed=-1), "seed"),
        (lambda: operators.Inpaint.half((4, 4), "lefft"), "left"),
        (lambda: operators.Inpaint.half((4, 1)), "no half"),
        (lambda: operators.Channels([0, 0], 2), "at most once"),
        (lambda: operators.Channels(2, 2), "channels"),
        (lambda: operators.Callable(3), "must be a function"),
        (lambda: operators.Callable(laplacian, linear=False, adjoint=laplacian), "linear=False"),
        (lambda: operators.Stack([]), "0 operators"),
        (lambda: operators.as_operator(3), "must be one of guidance.operators"),
        (lambda: operators.as_operator(Physics), "must be one of guidance.operators"),
        (lambda: LINEAR["inpaint"].operator.simulate(draw(1, *SHAPE), -1.0), "sigma_y"),
        (lambda: operators.as_operator(torch.square).prox(draw(1, 3), draw(1, 3), 1.0), "linear"),
        (lambda: Gaussian(DENSE, torch.tensor([torch.nan] * 5)), "NaN"),
        (lambda: Gaussian(DENSE, torch.zeros(5), 0.0), "sigma_y"),
        (lambda: Gaussian(DENSE, torch.zeros(5), -1.0), "sigma_y"),
        (lambda: Gaussian(DENSE, torch.zeros(4)).samples(SHAPE), "y has shape"),
        (lambda: Gaussian(DENSE, torch.zeros(5)).samples((3,)), "columns"),
        (
            lambda: Gaussian(LINEAR["inpaint"].operator, torch.ones(SHAPE)).samples(SHAPE),
            "zero-filled",
        ),
        (lambda: Gaussian(lambda x: 3, torch.ones(3)).samples(SHAPE), "returned"),
        (lambda: Gaussian(lambda x: x @ DENSE.T, torch.ones(3)).samples((3,)), "does not take"),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
