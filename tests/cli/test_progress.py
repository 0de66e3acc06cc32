"""Progress bars: none where stderr is no terminal; one that ends, and a closed terminal that stops
nothing."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest
from repository import ROOT

from fewstep.cli import main
from fewstep.cli.certify_tables import PREFACES, TABLES
from fewstep.cli.progress import BlockProgress


class Terminal(io.StringIO):
    """Stands for a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


class Closed(Terminal):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_bar_counts_the_blocks(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with BlockProgress() as progress:
        for done in range(1, 4):
            progress(done, 3)
    assert "3/3" in stream.getvalue() and stream.getvalue().endswith("\n")


def test_no_bar_where_stderr_is_no_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with BlockProgress() as progress:
        progress(1, 1)
    assert stream.getvalue() == ""


def test_a_closed_terminal_stops_no_job(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stderr", Closed())
    command = ["generate", "--model", "mixture", "--out", str(tmp_path), "--seeds", "0-3"]
    assert main([*command, "--batch", "1", "--steps", "1"]) == 0
    assert (tmp_path / "manifest.json").exists()


def test_a_bar_on_a_terminal_leaves_stdout_alone(monkeypatch, tmp_path, capsys):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    command = ["generate", "--model", "mixture", "--out", str(tmp_path), "--seeds", "0-3"]
    assert main([*command, "--batch", "1", "--steps", "1"]) == 0
    assert "4/4" in stream.getvalue()
    assert capsys.readouterr().out.startswith("4 samples of mixture")


@pytest.mark.parametrize("name", TABLES)
def test_a_page_of_certificates_begins_with_its_preface(name):
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("certificates*.md")]
    assert sum(TABLES[name].preface in page for page in pages) == 1
    assert {path.stem for path in PREFACES.iterdir()} == set(TABLES)
