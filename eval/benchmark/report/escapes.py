"""Escaping for Markdown: names of models, folders, commands and messages are shown as they are and
never act as markup. The page escapes through jinja2."""

from __future__ import annotations

import re

#: characters with a meaning in Markdown; an underscore inside a word has none
_MARKS = re.compile(r"[\\`*<>\[\]~#|&]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")


def visible(text: str) -> str:
    """Return ``text`` in one line; unprintable characters (control characters, lone surrogates) are
    written as Python escapes."""
    return "".join(
        c if c.isprintable() or c == "\u00a0" else c.encode("unicode_escape").decode() for c in text
    )


def plain(text: str) -> str:
    """Return ``text`` escaped for Markdown prose, headings and table cells."""
    return _MARKS.sub(r"\\\g<0>", visible(text))


def code(text: str) -> str:
    """Return ``text`` as Markdown code."""
    shown = visible(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}" if longest else f"`{shown}`"
