"""Butcher tableaus verify themselves: rooted trees, order conditions, error estimates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fewstep.checks import ArgumentError
from fewstep.samplers.drivers.dormand_prince import DORMAND_PRINCE_5, DORMAND_PRINCE_8
from fewstep.samplers.singlestep.exponential_rk import FOURTH_ORDER, second_order, third_order
from fewstep.samplers.singlestep.tableau import TABLEAUS, Tableau, density, rooted_trees


def test_the_numbers_of_rooted_trees():
    """OEIS A000081."""
    assert [len(rooted_trees(n)) for n in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]


def test_the_densities_of_the_trees_of_four_nodes():
    """Hairer, Norsett & Wanner, table II.2.1: 4, 8, 12, 24."""
    assert sorted(density(tree) for tree in rooted_trees(4)) == [4, 8, 12, 24]


@pytest.mark.parametrize("name", TABLEAUS)
def test_the_declared_order_is_the_largest(name):
    """One more than declared is refused."""
    tableau = TABLEAUS[name]
    with pytest.raises(ArgumentError, match=f"has actual order {tableau.order}"):
        replace(tableau, order=tableau.order + 1)


def test_the_error_estimates_have_the_published_powers():
    """5(4): of order h^5; 8(5,3): |e5|^2 / |e3| of order h^(2 * 6 - 4)."""
    assert DORMAND_PRINCE_5.power == 5
    assert DORMAND_PRINCE_8.power == 8
    e5, e3 = DORMAND_PRINCE_8.errors
    assert [DORMAND_PRINCE_8.order_of(row, 8, 0) for row in (e5, e3)] == [5, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c": (0.0, 0.4, 0.5, 1.0)}, "row 1 sums to 0.5, must be c=0.4"),
        ({"b": (1 / 6, 3 / 6, 1 / 6, 1 / 6)}, "declared order 4 has actual order 2"),
        ({"b": (0.5, 0.5)}, "not an explicit tableau of 4 stages"),
        ({"a": ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 0.0, 1.0))}, "not an explicit tableau"),
        ({"errors": ((1.0, -1.0),)}, "not an explicit tableau"),
    ],
)
def test_a_wrong_tableau_is_refused(change, message):
    with pytest.raises(ArgumentError, match=message):
        replace(TABLEAUS["rk4"], **change)


def test_a_slip_in_one_digit_is_found():
    rows = list(DORMAND_PRINCE_8.a)
    rows[7] = (*rows[7][:3], rows[7][3] + 1e-9, rows[7][4] - 1e-9, *rows[7][5:])
    with pytest.raises(ArgumentError, match="has actual order"):
        replace(DORMAND_PRINCE_8, a=tuple(rows))


def test_exponential_tableaus_become_classical_ones():
    """At z = 0: Krogstad's is Kutta's rule, RES-2S the midpoint rule."""
    krogstad, kutta = FOURTH_ORDER["krogstad"].classical(), TABLEAUS["rk4"]
    assert krogstad.b == pytest.approx(kutta.b, abs=1e-15)
    assert second_order(0.5).classical() == TABLEAUS["midpoint"]
    assert third_order(0.5, 1.0).classical().order == 3
    assert third_order(0.4, 0.8, power=3).classical().order == 2


def test_an_exponential_tableau_of_lower_order_is_refused():
    good = third_order(0.4, 0.8, power=3)
    with pytest.raises(ArgumentError, match="declared order 3 has actual order 2"):
        replace(good, order=3)


def test_a_sparse_tableau_is_the_dense_one():
    heun = Tableau.sparse(2, (0.0, 1.0), ({}, {0: 1.0}), {0: 0.5, 1: 0.5}, (), fsal=False)
    assert heun == TABLEAUS["heun"]
