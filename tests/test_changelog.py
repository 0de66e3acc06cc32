"""The modules that CHANGELOG.md names as new places exist, and hold the names in brackets."""

from __future__ import annotations

import ast
import re

import pytest
from repository import ROOT

TEXT = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
TABLE = TEXT[TEXT.index("<!-- moved modules -->") : TEXT.index("<!-- end of moved modules -->")]
ROWS = re.findall(r"^\| `([a-z0-9_.]+)` \| (.*) \|$", TABLE, re.MULTILINE)
#: a module, and in brackets the names that it holds
TARGET = re.compile(r"`([a-z0-9_.]+)`(?: \(([^)]*)\))?(?:, |$)")


def names_of(path):
    """The names that a module defines or imports at its top."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def test_the_table_is_read():
    assert len(ROWS) > 120
    assert len(ROWS) == sum(line.startswith("| `") for line in TABLE.splitlines())


@pytest.mark.parametrize(("old", "now"), ROWS, ids=[old for old, _ in ROWS])
def test_a_moved_module_is_where_the_changelog_says(old, now):
    targets = TARGET.findall(now)
    assert targets and "".join(match.group(0) for match in TARGET.finditer(now)) == now
    for module, listed in targets:
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        assert path.is_file(), module
        missing = {name.strip("` ") for name in listed.split(",") if name} - names_of(path)
        assert not missing
