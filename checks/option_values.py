"""Option values checked against the field types of an options dataclass.

Numpy scalars become Python numbers and lists become tuples; a ``float`` must be a finite number, an
``int`` an integer, a ``bool`` True or False and a ``str`` a string. So every option can be hashed,
compared and written as JSON. The range of a number is checked by the options class itself.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from .arguments import flag, number, plain
from .errors import ArgumentError

#: the largest absolute value of an integer option
_MOST = 2**63 - 1


@cache
def types_of(options: type) -> dict[str, Any]:
    """Field name -> annotated type."""
    return typing.get_type_hints(options)


def plainly(options: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with numpy scalars as Python numbers, and with lists and arrays as tuples where a
    field is declared as one."""
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
    """Check each value against the type of its field. Raises ArgumentError that names the
    option."""
    wanted = types_of(options)
    for name, value in given.items():
        value_of(name, value, wanted[name])


def value_of(name: str, value: Any, wanted: Any) -> Any:
    """``value`` converted to the annotated type ``wanted``. Raises ArgumentError."""
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
        raise ArgumentError(f"{name}={value!r} must be a tuple")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(value_of(name, item, arguments[0]) for item in value)
    if len(value) != len(arguments):  # the options class reports the wrong length
        return tuple(plain(item) for item in value)
    return tuple(value_of(name, item, kind) for item, kind in zip(value, arguments, strict=True))


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ArgumentError(f"{name}={value!r} must be a string")
    return value


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MOST:
        raise ArgumentError(f"{name}={value!r} must be an integer")
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
        raise ArgumentError(f"{name}={value!r} must be a mapping from names to values") from None
    if isinstance(value, str) or not all(isinstance(key, str) for key in items):
        raise ArgumentError(f"{name}={value!r}: the names must be strings")
    return tuple(
        sorted((key, tuple(v) if isinstance(v, list) else plain(v)) for key, v in items.items())
    )
