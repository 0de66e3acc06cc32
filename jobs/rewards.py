"""Reward functions by name: ``package.module:function`` or ``file.py:function``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, shown, unknown

if TYPE_CHECKING:
    from ..guidance.populations.rewards import Reward

FORM = "must be package.module:function or file.py:function, or a function of a batch of samples"


def load_reward(given: Any) -> Reward:
    """Return the reward ``given``: a function, a ``guidance.Reward``, or the name of one.

    The module or file of a name is imported, which runs its code. Raises ArgumentError where it
    cannot be, or has no such function.
    """
    from ..guidance.populations.rewards import Reward

    return Reward.of(_named(given) if isinstance(given, str) else given)


def reward_name(given: Any) -> str:
    """The name of a reward, for records."""
    if isinstance(given, str):
        return given
    function = getattr(given, "function", given)
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{getattr(function, '__module__', type(function).__module__)}:{name}"


def reward_hash(reward: Reward) -> str:
    """SHA-256 of the function's name and first line, of the file that defines it (if there is one),
    and of what it takes. Values that a callable object holds are not seen."""
    function: Any = reward.function
    named = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    try:
        source = Path(inspect.getsourcefile(named) or "").read_bytes()
    except (OSError, TypeError):
        source = b""
    name = getattr(named, "__qualname__", type(function).__name__)
    line = getattr(getattr(named, "__code__", None), "co_firstlineno", 0)  # tells lambdas apart
    said = f"{name}:{line}:{reward.takes}".encode()
    return hashlib.sha256(said + b"\0" + source).hexdigest()


def _named(text: str) -> Any:
    where, colon, name = text.rpartition(":")
    if not (colon and where and name.isidentifier()):
        raise ArgumentError(f"reward={shown(text)}: {FORM}")
    module = _from_file(Path(where)) if where.endswith(".py") else _imported(where)
    if not hasattr(module, name):
        names = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise ArgumentError(
            f"reward={shown(text)}: " + unknown("function", name, names or ["none"])
        )
    return getattr(module, name)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ArgumentError(f"reward: there is no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(f"fewstep_reward_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # classes of the file find their module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise ArgumentError(f"reward: {str(path)!r} cannot be run: {error!r}") from error
    return module


def _imported(name: str) -> ModuleType:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ArgumentError(f"reward: module {name!r} cannot be imported: {error!r}") from error
    finally:
        if added:
            sys.path.remove(here)
