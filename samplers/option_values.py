"""The values of options against the types of their fields: numpy's numbers become Python's, lists
become tuples, all else is refused.

What range a number may have is for each options class to say; here a ``float`` is a finite number,
an ``int`` an integer, a ``bool`` True or False, and a ``str`` a text. So every option can be
hashed, compared and written as JSON.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from ..checks import ArgumentError, flag, number, plain

#: integers beyond this mean nothing anywhere
_MOST = 2**63 - 1


@cache
def types_of(options: type) -> dict[str, Any]:
    """Field name -> annotated type."""
    return typing.get_type_hints(options)


def plainly(options: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with numpy's numbers as Python's, and lists and arrays as tuples where a tuple is
    declared."""
    wanted = types_of(options)
    return {name: _plain_of(value, _tuples(wanted[name])) for name, value in given.items()}


def _tuples(wanted: Any) -> bool:
    return tuple in (
        typing.get_origin(wanted),
        *(typing.get_origin(a) for a in typing.get_args(wanted)),
    )


def _plain_of(value: Any, tuples: bool) -> Any:
    value = plain(value)
    if tuples and (isinstance(value, (list, tuple)) or hasattr(value, "tolist")):
        items = value.tolist() if hasattr(value, "tolist") else value
        return (
            tuple(_plain_of(item, tuples) for item in items)
            if isinstance(items, (list, tuple))
            else items
        )
    return value


def check_types(options: type, given: Mapping[str, Any]) -> None:
    """ArgumentError, naming the option, where a value is not of the type that ``options``
    declares."""
    wanted = types_of(options)
    for name, value in given.items():
        value_of(name, value, wanted[name])


def value_of(name: str, value: Any, wanted: Any) -> Any:
    """``value`` as the type ``wanted``."""
    value = plain(value)
    if wanted in _SCALARS:
        return _SCALARS[wanted](name, value)
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        return _of_union(name, value, arguments)
    if origin is tuple:
        return _of_tuple(name, value, arguments)
    return value


def _of_union(name: str, value: Any, arguments: tuple[Any, ...]) -> Any:
    if value is None and type(None) in arguments:
        return None
    some = [a for a in arguments if a is not type(None)]
    many = [a for a in some if typing.get_origin(a) is tuple]
    if many and (isinstance(value, (list, tuple)) or hasattr(value, "tolist")):
        return value_of(name, value, many[0])
    return value_of(name, value, next((a for a in some if a not in many), some[0]))


def _of_tuple(name: str, value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise ArgumentError(f"{name}={value!r}: a tuple is wanted")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(value_of(name, item, arguments[0]) for item in value)
    if len(value) != len(arguments):  # what the values are is for the options class to say
        return tuple(plain(item) for item in value)
    return tuple(value_of(name, item, kind) for item, kind in zip(value, arguments, strict=True))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"{name}={value!r}: a text is wanted")
    return value


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MOST:
        raise ArgumentError(f"{name}={value!r}: an integer is wanted")
    return value


_SCALARS: dict[Any, Any] = {
    float: number,
    int: _whole,
    bool: flag,
    str: _text,
}


def pairs(name: str, value: Any) -> tuple[tuple[str, Any], ...]:
    """Options of another sampler, a mapping or (name, value) pairs, as sorted pairs."""
    try:
        items = {} if isinstance(value, str) else dict(value)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}={value!r}: a mapping from names to values is wanted") from None
    if isinstance(value, str) or not all(isinstance(key, str) for key in items):
        raise ArgumentError(f"{name}={value!r}: the names must be texts")
    return tuple(
        sorted((key, tuple(v) if isinstance(v, list) else plain(v)) for key, v in items.items())
    )
