"""``operators.check`` passes every forward model of the table, and finds planted faults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_table import LINEAR, NONLINEAR, draw
from typing_extensions import override

from fewstep.checks import ArgumentError
from fewstep.guidance import operators
from fewstep.guidance.operators import PARTS, Callable, Operator, Spectrum, check


@pytest.mark.parametrize("name", LINEAR)
def test_linear_operators_pass(name):
    case = LINEAR[name]
    found = check(case.operator, case.shape, 1e-8)
    assert set(found) == {"rows", "linear", "adjoint", *(p for p in PARTS if p in case.has)}
    assert found["adjoint"] < 1e-14


@pytest.mark.parametrize("name", NONLINEAR)
def test_other_operators_pass(name):
    case = NONLINEAR[name]
    found = check(case.operator, case.shape, 1e-8)
    derivative = {"adjoint"} if case.operator.differentiable else set()
    assert set(found) == {"rows"} | derivative | ({"pinverse"} & set(case.has))


class Double(Operator):
    """``A(x) = 2 x``; subclasses break one part."""

    norm_bound = 2.0

    def __call__(self, x: Any) -> Any:
        return 2.0 * x

    def adjoint(self, y: Any) -> Any:
        return 2.0 * y

    @property
    @override
    def svd(self) -> Spectrum:
        keep: Any = lambda x: x  # noqa: E731
        return Spectrum(keep, keep, keep, keep, lambda c: torch.full_like(c, 2.0), onto=True)


class Affine(Double):
    def __call__(self, x: Any) -> Any:
        return 2.0 * x + 1.0


class Mixed(Double):
    def __call__(self, x: Any) -> Any:
        return x + x.mean(0)


class WrongAdjoint(Double):
    def adjoint(self, y: Any) -> Any:
        return 2.0 * y.flip(-1)


class ShortAdjoint(Double):
    def adjoint(self, y: Any) -> Any:
        return y[:, 1:]


class WrongInverse(Double):
    def pinverse(self, y: Any) -> Any:
        return y


class WrongValues(Double):
    @property
    @override
    def svd(self) -> Spectrum:
        keep: Any = lambda x: x  # noqa: E731
        return Spectrum(keep, keep, keep, keep, lambda c: torch.full_like(c, 2.1), onto=True)

    def pinverse(self, y: Any) -> Any:
        return y / 2.0


class WrongProx(Double):
    def prox(self, x: Any, y: Any, rho: Any) -> Any:
        return x


class WrongBound(Double):
    norm_bound = 1.9


def test_the_sound_one_passes():
    assert max(check(Double(), (4,)).values()) < 1e-12


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (Affine, "is not 2 A"),
        (Mixed, "other samples"),
        (WrongAdjoint, "adjoint is another"),
        (ShortAdjoint, "fails on samples of shape"),
        (WrongInverse, "is not A"),
        (WrongValues, "U diag"),
        (WrongProx, "not the minimum"),
        (WrongBound, "longer than norm_bound"),
    ],
)
def test_planted_faults_are_found(kind, match):
    with pytest.raises(ArgumentError, match=match):
        check(kind(), (4,))


def test_functions_are_tried_too():
    assert set(check(torch.tanh, (3,))) == {"rows", "adjoint"}
    summed = Callable(lambda x: x.cumsum(1), linear=True, shape=(5,))
    assert set(check(summed, (5,))) == {"rows", "linear", "adjoint"}
    masks = operators.Inpaint(draw(4, 3) > 0.0)
    assert "rows" not in check(masks, (3,))
    with pytest.raises(ArgumentError, match="shape"):
        check(summed, 5)
    with pytest.raises(ArgumentError, match="tolerance"):
        check(summed, (5,), -1.0)
