"""The code of README.md and docs runs: Python blocks as they stand, `fewstep` lines through the
command line."""

from __future__ import annotations

import re
import shlex

import pytest
from repository import ROOT

from fewstep.cli import main
from fewstep.samplers import names, registry

#: the tables under docs/bench hold no code and link to nothing
PAGES = [
    "README.md",
    *(
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if "bench" not in path.relative_to(ROOT).parts
    ),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (page, i, *found)
    for page in PAGES
    for i, found in enumerate(FENCE.findall((ROOT / page).read_text(encoding="utf-8")))
]
#: pages whose blocks need a pipeline on disk -> the test that runs them, one after another
CHAINED = {"docs/diffusers.md": "interop/diffusers/test_diffusers_examples.py"}
PYTHON = [
    (f"{page}-{i}", text)
    for page, i, language, text in BLOCKS
    if language == "python" and page not in CHAINED
]
COMMANDS = [
    line
    for page, _, language, text in BLOCKS
    if page == "README.md" and not language
    for line in text.splitlines()
]
COMMANDS = [line for line in COMMANDS if line.startswith("fewstep ")]


def test_there_is_something_to_run():
    assert len(PYTHON) >= 4
    assert {line.split()[1] for line in COMMANDS} >= {
        "generate",
        "score",
        "plan",
        "samplers",
        "certify",
    }
    for page, test in CHAINED.items():
        assert page in (ROOT / "tests" / test).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "text"), PYTHON, ids=[name for name, _ in PYTHON])
def test_python_block(name, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # what a block registers goes with it
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    exec(compile(text, name, "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("line", COMMANDS)
def test_command(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out.strip()


def test_links_and_pictures_are_there():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page} points to {target}"


def test_the_readmes_benchmark_is_that_of_the_page():
    page = (ROOT / "docs/bench/mnist/bench.md").read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [
        line
        for line in readme[
            readme.index("<!-- bench: ") : readme.index("<!-- end of bench")
        ].splitlines()
        if line.startswith("|")
    ]
    assert len(rows) > 20
    assert set(rows) <= set(page)


def test_the_readmes_certificates_are_those_of_the_page():
    """The table in README.md is cut from docs/certificates.md, not typed by hand; every registered
    sampler is there and passes."""
    page = (ROOT / "docs/certificates.md").read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("<!-- certificates") : readme.index("<!-- end of certificates")]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) > 15
    assert set(rows) <= set(page)
    certified = [line.split("|")[1].strip() for line in page if line.endswith("| pass |")]
    assert set(names("plan")) <= set(certified)
    assert not [line for line in page if "FAIL" in line]
