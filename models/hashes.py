"""SHA-256 of a denoiser, or of a schedule: its classes, numbers and tensors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..files import sha256

#: hashed as they print
PLAIN = (bool, int, float, complex, str, bytes, Path)


def object_hash(value: Any) -> str:
    """The hash of a denoiser, or of a schedule: its classes, numbers and tensors, through all
    objects that it holds. Not hashed are code, devices, cached properties, private mappings
    (caches), and fields of dataclasses with the metadata ``{"hashed": False}``."""
    return sha256(*_parts(value, {}))


def _parts(value: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """The pieces that are hashed, in a fixed order. ``seen`` keeps every object that was met: a
    second time it is hashed by its number."""
    if isinstance(value, torch.device):
        return
    if value is None or isinstance(value, (*PLAIN, torch.dtype)):
        yield f"{type(value).__name__} {value!r};"
        return
    if id(value) in seen:
        yield f"object {list(seen).index(id(value))};"
        return
    seen[id(value)] = value
    yield f"{type(value).__module__}.{type(value).__qualname__};"
    if isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous()
        yield f"{data.dtype} {tuple(data.shape)};"
        yield data.reshape(-1).view(torch.uint8).numpy() if data.numel() else b""
    elif hasattr(value, "tobytes") and hasattr(value, "dtype"):  # numpy
        yield f"{value.dtype} {getattr(value, 'shape', ())};"
        yield value.tobytes()
    elif isinstance(value, torch.nn.Module):
        yield f"{value!r};"
        for name, tensor in value.state_dict().items():
            yield f"{name};"
            yield from _parts(tensor, seen)
    else:
        for name, inner in _members(value):
            yield f"{name};"
            yield from _parts(inner, seen)


def _members(value: Any) -> list[tuple[str, Any]]:
    """What an object holds: the items of a container, the attributes of anything else, the
    enclosed values of a function."""
    if isinstance(value, Mapping):
        return [(repr(key), inner) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return [(str(i), inner) for i, inner in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [("", repr(inner)) for inner in sorted(value, key=repr)]
    if callable(value) and hasattr(value, "__code__"):
        cells = value.__closure__ or ()
        return [
            ("function", value.__qualname__),
            *((str(i), c) for i, c in enumerate(_held(cells))),
        ]
    if hasattr(value, "__self__"):
        return [("method", value.__name__), ("self", value.__self__)]
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    names = {*getattr(value, "__dict__", {}), *slots} - {"__dict__", "__weakref__"}
    held = [(name, getattr(value, name)) for name in sorted(names) if hasattr(value, name)]
    return [(name, inner) for name, inner in held if not _kept(type(value), name, inner)]


def _kept(kind: type, name: str, value: Any) -> bool:
    """True for what an object keeps after its first use and what follows from the rest (a cached
    property, or a private mapping), and for a field whose metadata say that it is not hashed."""
    if name.startswith("_") and isinstance(value, Mapping):
        return True
    if is_dataclass(kind) and any(
        f.name == name and not f.metadata.get("hashed", True) for f in fields(kind)
    ):
        return True
    return isinstance(inspect.getattr_static(kind, name, None), cached_property)


def _held(cells: Any) -> list[Any]:
    """The contents of closure cells that have one."""
    found = []
    for cell in cells:
        try:
            found.append(cell.cell_contents)
        except ValueError:
            continue
    return found
