"""Public names of a package that are imported when they are first asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def late_names(package: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` (PEP 562) of ``package``.

    ``homes``: public name -> the module that has it, relative to ``package``, such as ``.tuned`` or
    ``..engine.solving``. A name that is itself a module maps to that module and is the module.
    """

    def found(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(homes[name], package)
        value = getattr(module, name) if homes[name] != f".{name}" else module
        setattr(sys.modules[package], name, value)
        return value

    return found
