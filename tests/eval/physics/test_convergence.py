"""The refinement test of residuals, also of wrong ones."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval import physics


def exact(n):
    """``u = sin(pi x)`` with ``-u'' = f`` on n nodes of [0, 1]."""
    x = torch.linspace(0.0, 1.0, n, dtype=torch.float64)
    u = torch.sin(math.pi * x)
    return {"u": u[None]}, {"x": 1.0 / (n - 1)}, {"f": math.pi**2 * u[1:-1]}


def curvature(fields):
    u = fields["u"]
    return u[:, 2:] - 2.0 * u[:, 1:-1] + u[:, :-2]


def right(fields, spacing, params):
    return curvature(fields) / spacing["x"] ** 2 + params["f"]


def without_h(fields, spacing, params):
    return curvature(fields) + params["f"]


def divided_twice(fields, spacing, params):
    return curvature(fields) / spacing["x"] ** 4 + params["f"]


def in_units_of_the_field(fields, spacing, params):
    return curvature(fields) + params["f"] * spacing["x"] ** 2


def first_order(fields, spacing, params):
    return right(fields, spacing, params) + spacing["x"]


def test_the_order_of_a_residual_is_measured():
    found = physics.refinement(right, exact, sizes=(17, 33, 65), expected=2)
    assert found.ok and abs(found.order - 2.0) < 0.02
    assert [row.n for row in found.rows] == [17, 33, 65]
    assert found.rows[0].slope is None
    error = math.pi**4 / 12.0 / 64**2 * math.sqrt(0.5 * 64 / 63)
    assert found.rows[-1].rms == pytest.approx(error, rel=1e-3)
    text = found.table()
    assert len(text.splitlines()) == 5
    assert text.endswith("order 2.01 between the finest grids above rounding, stated 2: as stated")


@pytest.mark.parametrize(
    ("residual", "order", "message"),
    [
        (without_h, 0.0, r"stays at 6\.9.*not divided by its spacing \(1/h, 1/h\^2"),
        (divided_twice, -2.0, "grows as the grid is refined: a term is divided by h too often"),
        (in_units_of_the_field, 4.0, r"faster than stated by h\^2: .* as a whole is not divided"),
        (first_order, 1.0, "more slowly than stated: look for one-sided or first-order"),
    ],
)
def test_wrong_units_are_found(residual, order, message):
    found = physics.refinement(residual, exact, sizes=(65, 129, 257), expected=2.0)
    assert found.ok is False
    assert found.order == pytest.approx(order, abs=0.1)
    assert "OFF" in found.message
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found.message)


def test_a_residual_that_does_not_fall_is_told_without_a_stated_order():
    found = physics.refinement(without_h, exact, sizes=(65, 129))
    assert found.ok is None and "stays at" in found.message
    assert physics.refinement(right, exact, sizes=(65, 129)).message.startswith("order 2.01")


def test_rounding_is_left_out_of_the_order():
    found = physics.refinement(right, exact, sizes=(1025, 2049, 4097, 65537), expected=2.0)
    assert found.ok, found.table()
    assert found.rows[-1].exact and found.rows[-1].slope is None
    assert not found.rows[0].exact


def test_a_spectral_residual_is_down_to_rounding():
    found = physics.refinement("heat", sizes=(16, 32))
    assert found.ok and found.expected == "spectral" and found.order == math.inf
    assert "rounding" in found.table().splitlines()[1]


def rough_heat(n):
    fields, spacing, params = physics.heat.exact(n)
    return {"u": fields["u"]}, spacing, params  # differences in time


def test_differences_are_no_spectral_residual():
    found = physics.refinement("heat", rough_heat, (16, 32, 64), expected="spectral")
    assert found.ok is False
    assert found.order == pytest.approx(4.0, abs=0.2)
    assert "falls to rounding: look for" in found.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exact": None}, "exact= is needed"),
        ({"sizes": (32, 16)}, "rising"),
        ({"sizes": (16,)}, "at least two"),
        ({"expected": -1.0}, "expected"),
        ({"exact": lambda n: exact(17)}, "not below"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_unusable_arguments_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        physics.refinement(**{"equation": right, "exact": exact, "sizes": (17, 33), **arguments})


def parabola(n):
    x = torch.linspace(0.0, 1.0, n, dtype=torch.float64)
    return {"u": (0.5 * x * x)[None]}, {"x": 1.0 / (n - 1)}, {"f": -1.0}


def test_an_order_that_rounding_hides_is_neither_right_nor_wrong():
    found = physics.refinement(right, parabola, (17, 33), expected=2.0)
    assert found.ok is None and found.order == math.inf
    assert "a less simple solution" in found.message
