"""Import of all modules of a package, so that each can register what it defines."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules


def import_all(package: str, path: Iterable[str]) -> tuple[str, ...]:
    """Import the modules directly inside ``package`` in alphabetical order; return their names.

    ``path`` is the package's ``__path__``. Sub-packages are left out.
    """
    names = sorted(module.name for module in iter_modules(path) if not module.ispkg)
    for name in names:
        import_module(f"{package}.{name}")
    return tuple(names)
