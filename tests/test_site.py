"""The documentation site: it builds from an installed wheel without a warning, loads nothing from
the network, and documents every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from operator import attrgetter

import pytest
from repository import ROOT

import fewstep
from fewstep.samplers import names

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
        reason="needs the dependency group docs",
    ),
]
#: element -> the attributes from which a browser loads by itself
LOADS = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
}
REMOTE = re.compile(r"\s*(https?:)?//", re.IGNORECASE)


def build(site):
    environment = {**os.environ, "PYTHON": sys.executable, "SITE": str(site)}
    return subprocess.run(
        [str(ROOT / ".ci/docs")], capture_output=True, text=True, check=False, env=environment
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    # mkdocs counts only the warnings that it prints: with --quiet, --strict would find none
    assert "Building documentation" in done.stderr
    return folder


class Loads(HTMLParser):
    """Collects what a browser would load from another host."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in LOADS.get(tag, ()) and value and REMOTE.match(value):
                self.found.append(value)
            if name == "class" and value and "mermaid" in value.split():
                self.found.append("mermaid, which the theme loads from a content network")


def remote_loads(text):
    parser = Loads()
    parser.feed(text)
    styles = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", text)
    return parser.found + [url for pair in styles for url in pair if REMOTE.match(url)]


def test_nothing_is_loaded_from_the_network(site):
    pages = [path for path in site.rglob("*") if path.suffix in (".html", ".css", ".svg")]
    assert len(pages) > 20
    found = {path.name: remote_loads(path.read_text(encoding="utf-8")) for path in pages}
    assert not {name: loads for name, loads in found.items() if loads}


@pytest.mark.parametrize(
    "planted",
    [
        '<script src="https://example.org/x.js"></script>',
        '<link rel="stylesheet" href="//example.org/x.css">',
        "<style>@font-face { src: url('https://example.org/x.woff2') }</style>",
        '<pre class="mermaid">graph</pre>',
    ],
)
def test_a_planted_load_is_found(planted):
    assert len(remote_loads(planted)) == 1
    assert not remote_loads('<a href="https://example.org"><img src="../x.png"></a>')


@pytest.mark.parametrize(
    "room", ["engine", "schedules", "models", "samplers", "plans", "jobs", "eval", "eval.physics"]
)
def test_every_public_name_has_an_entry(site, room):
    page = room.rpartition(".")[2]
    text = (site / "api" / page / "index.html").read_text(encoding="utf-8")
    wanted = attrgetter(room)(fewstep).__all__
    own = [name for name in wanted if name != "physics"]  # a page of its own
    assert not [name for name in own if f'id="fewstep.{room}.{name}"' not in text]


def test_every_sampler_has_a_row(site):
    text = (site / "api/all_samplers/index.html").read_text(encoding="utf-8")
    assert not [name for name in names() if f"<td><code>{name}</code></td>" not in text]
