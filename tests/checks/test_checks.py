"""``checks``: one base of all errors, messages with the nearest match, numbers of numpy taken as
Python's."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from repository import ROOT, sources

import fewstep
from fewstep.checks import (
    ArgumentError,
    ArgumentTypeError,
    FewstepError,
    choice,
    flag,
    integer,
    number,
    parse_json,
    plain,
    unknown,
)


def test_every_error_class_of_ours_has_the_base():
    """Each class that ends in Error, or derives from an exception of Python, derives from
    FewstepError too."""
    python = {
        "ValueError",
        "TypeError",
        "ArithmeticError",
        "RuntimeError",
        "Exception",
        "OSError",
        "KeyError",
        "LookupError",
    }
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base) for base in node.bases]
                if (
                    set(bases) & python
                    and not set(bases) & {"FewstepError", "ArgumentError"}
                    and node.name != "FewstepError"
                ):
                    wrong.append(f"{path}: {node.name}")
    assert not wrong


def test_no_bare_value_error_is_raised():
    found = [
        str(path)
        for path in sources()
        if "raise ValueError(" in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert not found


def test_errors_are_what_they_were_before():
    assert issubclass(ArgumentError, ValueError) and issubclass(ArgumentTypeError, TypeError)
    assert issubclass(fewstep.plans.NumericalError, FewstepError) and issubclass(
        fewstep.plans.NumericalError, ArithmeticError
    )
    assert fewstep.FewstepError is FewstepError
    with pytest.raises(FewstepError, match="did you mean 'unipc'"):
        fewstep.samplers.describe("unipcc")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_integers_of_numpy_are_integers(value):
    assert (
        integer("n", value, 1, 5) == 3
        and type(integer("n", value, 1)) is int
        and type(plain(value)) is int
    )


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), 3.0, np.float64(3.0), "3", None, 0, 6, np.array([3])]
)
def test_what_is_no_integer_in_range(value):
    with pytest.raises(ArgumentError, match="n="):
        integer("n", value, 1, 5)


@pytest.mark.parametrize("value", [1.5, 1, np.float32(1.5), np.int64(1)])
def test_numbers_of_numpy_are_numbers(value):
    found = number("x", value, 0.0, 2.0)
    assert found == value and type(found) in (int, float)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), -0.1, 2.1, "1", None, 1j])
def test_what_is_no_number_in_range(value):
    with pytest.raises(ArgumentError, match="x="):
        number("x", value, 0.0, 2.0)


def test_choices_and_flags():
    assert choice("kind", "eps", ("eps", "x0")) == "eps" and flag("f", np.bool_(False)) is False
    for value in ("EPS", None, 3, ["eps"]):
        with pytest.raises(ArgumentError, match="unknown kind"):
            choice("kind", value, ("eps", "x0"))
    with pytest.raises(ArgumentError, match="True or False"):
        flag("f", 1)


def test_the_message_names_value_nearest_and_allowed():
    assert (
        unknown("grid", "karas", ["lam", "karras"])
        == "unknown grid 'karas'; did you mean 'karras'? allowed: karras, lam"
    )
    assert "did you mean" not in unknown("grid", "zzz", ["lam", "karras"])


@pytest.mark.parametrize("text", ["[" * 100_000, "{", b"\xff", 5, None, "[1,]"])
def test_json_errors_are_of_one_kind(text):
    with pytest.raises(ArgumentError, match="the plan"):
        parse_json(text, "the plan")
