"""Functions of the user by name: ``package.module:function`` or ``file.py:function``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ..checks import ArgumentError, shown, unknown

FORM = "must be package.module:function or file.py:function, or a function of a batch of samples"


def named_function(key: str, text: str, form: str = FORM) -> Any:
    """The function ``text``. The module or file is imported, which runs its code. ArgumentError,
    which names the setting ``key``, where it cannot be, or has no such function; ``form``: what is
    allowed."""
    where, colon, name = text.rpartition(":")
    if not (colon and where and name.isidentifier()):
        raise ArgumentError(f"{key}={shown(text)}: {form}")
    module = _from_file(key, Path(where)) if where.endswith(".py") else _imported(key, where)
    if not hasattr(module, name):
        names = [word for word, value in vars(module).items() if callable(value) and word[0] != "_"]
        raise ArgumentError(f"{key}={shown(text)}: " + unknown("function", name, names or ["none"]))
    return getattr(module, name)


def source_of(text: str) -> bytes:
    """The bytes of the file, or of the file of the imported module, of the name ``text``; none for
    a module without a file."""
    where = text.rpartition(":")[0]
    file = where if where.endswith(".py") else getattr(sys.modules[where], "__file__", None)
    return b"" if file is None else Path(file).read_bytes()


def function_name(given: Any) -> str:
    """The name of a function, for records."""
    if isinstance(given, str):
        return given
    function = getattr(given, "function", given)
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{getattr(function, '__module__', type(function).__module__)}:{name}"


def function_hash(function: Any, said: str = "") -> str:
    """SHA-256 of the function's name and first line, of the file that defines it (if there is one),
    and of ``said``. Values that a callable object holds are not seen."""
    named = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    try:
        source = Path(inspect.getsourcefile(named) or "").read_bytes()
    except (OSError, TypeError):
        source = b""
    name = getattr(named, "__qualname__", type(function).__name__)
    line = getattr(getattr(named, "__code__", None), "co_firstlineno", 0)  # tells lambdas apart
    return hashlib.sha256(f"{name}:{line}:{said}".encode() + b"\0" + source).hexdigest()


def _from_file(key: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise ArgumentError(f"{key}: there is no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(f"fewstep_{key}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # classes of the file find their module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise ArgumentError(f"{key}: {str(path)!r} cannot be run: {error!r}") from error
    return module


def _imported(key: str, name: str) -> ModuleType:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ArgumentError(f"{key}: module {name!r} cannot be imported: {error!r}") from error
    finally:
        if added:
            sys.path.remove(here)
