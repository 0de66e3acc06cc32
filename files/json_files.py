"""Reading JSON files, and the form in which JSON is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..checks import ArgumentError, parse_json


def dumps(value: Any) -> str:
    """Readable strict JSON with a final newline: the same value gives the same bytes."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in the JSON file ``path``. Raises ArgumentError if the text is not a JSON object,
    OSError if the file cannot be read."""
    found = parse_json(Path(path).read_bytes(), repr(str(path)))
    if not isinstance(found, dict):
        raise ArgumentError(f"{str(path)!r}: must hold a JSON object, found {type(found).__name__}")
    return found
