"""Text of others (names of models, folders, commands, messages) in Markdown, HTML and SVG: it is
shown as it is, and marks nothing up."""

from __future__ import annotations

import html
import re

#: what means something to Markdown; an underscore inside a word does not
_MARKS = re.compile(r"[\\`*<>\[\]~#|&]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")


def visible(text: str) -> str:
    """``text`` in one line, with what cannot be printed (control characters, bytes that are no
    UTF-8) as Python's escapes."""
    return "".join(
        c if c.isprintable() or c == "\u00a0" else c.encode("unicode_escape").decode() for c in text
    )


def escape(text: str) -> str:
    """``text`` for HTML and SVG, in elements and in attributes."""
    return html.escape(visible(text))


def plain(text: str) -> str:
    """``text`` for Markdown, in prose, headings and cells of tables."""
    return _MARKS.sub(r"\\\g<0>", visible(text))


def code(text: str) -> str:
    """``text`` as code in Markdown."""
    shown = visible(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}" if longest else f"`{shown}`"
