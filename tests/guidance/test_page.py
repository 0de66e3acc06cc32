"""The table of docs/guidance.md is that of the code."""

from __future__ import annotations

import method_table
import pytest

from fewstep import guidance
from fewstep.guidance.posterior import registry


def test_the_page_has_the_table():
    """Where this fails: python tests/guidance/method_table.py"""
    page = method_table.PAGE.read_text(encoding="utf-8")
    assert method_table.page_with(method_table.table()) == page


def test_every_method_is_in_the_table():
    helpers = {"Levels", "Perturbed", "Ramp", "guide", "names", "policy"}
    helpers |= {
        "Constraint",
        "Gaussian",
        "Loss",
        "LowRank",
        "Poisson",
        "conserved",
        "methods",
        "operators",
        "solve",
    }
    helpers |= {registry.get(name).make.__name__ for name in guidance.methods()}
    helpers |= {
        "Reward",
        "Smoothed",
        "Smoothing",
        "steer",
        "steering_methods",
        "discrete",
        "fit_value",
    }
    listed = {name.split()[0] for name in method_table.METHODS}
    assert listed == set(guidance.__all__) - helpers


@pytest.mark.parametrize("name", method_table.METHODS)
def test_every_method_has_a_source(name):
    assert method_table.source(name)
