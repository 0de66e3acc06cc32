"""Imports the modules of sampler families, which registers their samplers."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def import_all(folder: ModuleType) -> None:
    """Import every module of the package ``folder``, in alphabetical order."""
    for name in sorted(module.name for module in pkgutil.iter_modules(folder.__path__)):
        import_module(f"{folder.__name__}.{name}")
