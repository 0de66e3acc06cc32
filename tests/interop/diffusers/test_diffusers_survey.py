"""docs/diffusers.md answers everything that the pipelines of the installed diffusers ask of their
scheduler."""

from __future__ import annotations

import ast

import pytest

pytest.importorskip("diffusers")

import diffusers_survey as survey

from fewstep.interop.diffusers.pipelines import REFUSED

pinned = pytest.mark.skipif(
    survey.installed() != survey.VERSION,
    reason=f"the tables are about diffusers {survey.VERSION}: other versions have other pipelines",
)


@pytest.mark.slow  # parses diffusers' six hundred files
@pinned
def test_the_page_holds_the_tables_of_the_installed_diffusers():
    """Where this fails: python tests/interop/diffusers/diffusers_survey.py, with a verdict for
    whatever is new."""
    assert survey.written() == survey.tables()


@pytest.mark.slow  # parses diffusers' six hundred files
@pinned
def test_every_place_that_asks_for_a_class_has_a_verdict_and_no_verdict_is_stale():
    assert set(survey.places()) == set(survey.BRANCHES) and sum(survey.places().values()) == 37
    assert {name for name in survey.attributes() if not survey.verdict(name)} == set()
    assert set(survey.ATTRIBUTES) <= set(survey.attributes())


@pytest.mark.slow  # parses diffusers' six hundred files
@pinned
def test_refused_pipelines_exist():
    classes = {
        node.name
        for tree in survey.trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    assert set(REFUSED) <= classes


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("isinstance(self.scheduler, A)", {"A": 1}),
        ("isinstance(scheduler, m.A) or isinstance(scheduler, B)", {"A, B": 1}),
        ("not isinstance(scheduler, A) and not isinstance(scheduler, (B, C))", {"A, B, C": 1}),
        ("isinstance(self.scheduler, A) and self.scheduler.config.eta > 0", {"A": 1}),
        ("type(self.scheduler) != A", {"A": 1}),
        ("isinstance(self.unet, A)", {}),
    ],
)
def test_the_survey_sees_each_form_of_the_question(source, found):
    """Else a new form would go unseen."""
    tree = ast.parse(f"if {source}: pass")
    assert {names: n for (_, names), n in survey.found_in({"f.py": tree}).items()} == found
