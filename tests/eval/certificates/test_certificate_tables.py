"""The cells, records and verdicts of ``fewstep certify``, from certificates made by hand."""

from __future__ import annotations

import json
import math

import pytest

from fewstep.cli.certify_tables import TABLES, finite, shown, title
from fewstep.eval import Certificate
from fewstep.eval.certificates.certification import tolerance
from fewstep.eval.certificates.drivers import DriverCertificate
from fewstep.eval.certificates.prediction_types import PredictionTypes
from fewstep.eval.certificates.strong_orders import StrongCertificate
from fewstep.eval.certificates.third_party import ThirdParty


def certificate(
    declared: float, walked: float, measured: float, counted: int = 10, stochastic: bool = False
) -> Certificate:
    errors = ((40, 1e-3), (80, 2.5e-4))
    return Certificate(
        "unipc",
        {"order": 3},
        stochastic,
        declared,
        walked,
        measured,
        0.0125,
        10,
        counted,
        errors,
        "exact",
    )


def test_a_row_of_orders() -> None:
    table, made = TABLES["orders"], certificate(3, 2.96, 3.044)
    assert table.cells(made) == (
        "unipc order=3",
        "3",
        "2.96",
        "3.04",
        "1.25e-02",
        "10",
        "exact",
        "pass",
    )
    assert table.cells(certificate(3, 2.96, 3.04, 11))[5:] == ("10 != 11", "exact", "FAIL")
    record = table.record(made)
    numbers = (
        "declared",
        "walked",
        "measured",
        "error_constant",
        "nfe",
        "counted",
        "tolerance",
        "passed",
    )
    assert [record[key] for key in numbers] == [3, 2.96, 3.044, 0.0125, 10, 10, 0.15, True]
    assert record["errors"] == [[40, 1e-3], [80, 2.5e-4]] and record["options"] == {"order": 3}
    assert len(table.heads) == len(table.widths) == len(table.cells(made))


@pytest.mark.parametrize(("order", "allowed"), [(1, 0.15), (3, 0.15), (3.5, 0.25), (4, 0.25)])
def test_how_far_an_order_may_be_off(order: float, allowed: float) -> None:
    """On both sides, walked and measured; a stochastic sampler may walk above what it declares."""
    assert tolerance(order) == allowed
    for off, passed in ((0.9 * allowed, True), (1.1 * allowed, False)):
        for sign in (1.0, -1.0):
            assert certificate(order, order + sign * off, order).passed is passed
            assert certificate(order, order, order + sign * off).passed is passed
            assert certificate(order, order, order + sign * off, stochastic=True).passed is passed
    assert certificate(order, order + 1.0, order, stochastic=True).passed
    assert not certificate(order, order - 1.0, order, stochastic=True).passed
    assert (
        certificate(0, math.nan, math.nan).passed
        and not certificate(0, math.nan, math.nan, 9).passed
    )


def test_rows_of_the_other_tables() -> None:
    strong = StrongCertificate("ddim", {"eta": 1.0}, 1.03, -0.02, ((40, 0.1), (320, 0.0126)))
    assert TABLES["strong"].cells(strong) == ("ddim eta=1.0", "1.03", "-0.02", "1.3e-02", "pass")
    for measured, independent, passed in (
        (0.5, 0.0, True),
        (0.49, 0.0, False),
        (1.0, 0.26, False),
        (1.0, -0.26, False),
        (1.0, 0.24, True),
    ):
        assert StrongCertificate("ddim", {}, measured, independent, ((40, 0.1),)).passed is passed
    assert TABLES["strong"].record(strong)["errors"] == [[40, 0.1], [320, 0.0126]]
    driver = DriverCertificate("ode45", "slope", 1.04, (0.85, 1.3))
    assert TABLES["drivers"].cells(driver) == ("ode45", "slope", "1", "0.85 to 1.3", "pass")
    for found, passed in ((0.85, True), (1.3, True), (0.84, False), (1.31, False)):
        assert DriverCertificate("ode45", "slope", found, (0.85, 1.3)).passed is passed
    third = ThirdParty("DDIMScheduler", {"eta": 0.0}, None, 1.02, ((40, 0.2), (80, 0.1)))
    assert TABLES["diffusers"].cells(third) == ("DDIMScheduler eta=0.0", "-", "1.02", "1.0e-01")
    assert TABLES["diffusers"].cells(ThirdParty("X", {}, 3, 2.0, ((40, 0.2),)))[1] == "3"
    kinds = PredictionTypes(
        "heun",
        {},
        False,
        2.0,
        {"x0": 2.01, "eps": 1.99, "v": 2.0, "velocity": 2.0, "score": 2.02},
        {"fp32": 1e-6, "bf16": 0.013},
    )
    assert TABLES["kinds"].cells(kinds) == (
        "heun",
        "2",
        "2.01",
        "1.99",
        "2.00",
        "2.00",
        "2.02",
        "1.0e-06",
        "1.3e-02",
        "pass",
    )
    for low, high, passed in (
        (2.0, 2.04, True),
        (2.0, 2.06, False),
        (2.29, 2.29, True),
        (2.31, 2.31, False),
        (1.69, 1.69, False),
    ):
        assert (
            PredictionTypes("heun", {}, False, 2.0, {"x0": low, "eps": high}, {}).passed is passed
        )
    for name, row in (
        ("strong", strong),
        ("drivers", driver),
        ("diffusers", third),
        ("kinds", kinds),
    ):
        table = TABLES[name]
        assert len(table.heads) == len(table.widths) == len(table.cells(row))
        assert json.loads(json.dumps(table.record(row), allow_nan=False))


def test_numbers_that_are_none() -> None:
    assert (shown(math.nan, ".2f"), shown(1.234, ".2f")) == ("-", "1.23")
    assert finite({"a": 1.5, "b": math.inf, "c": math.nan}) == {"a": 1.5, "b": "inf", "c": "nan"}
    assert (title("unipc", {}), title("unipc", {"order": 3, "variant": "bh1"})) == (
        "unipc",
        "unipc order=3 variant=bh1",
    )
