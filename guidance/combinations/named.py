"""Methods of guidance by a condition, by name: what the command line and pipelines choose from."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from ...checks import ArgumentError, UnknownName, unknown
from ...models.denoiser import Condition, Denoiser
from .apg import APG
from .cfg import CFG
from .cfg_zero import CFGZero
from .mambo import MAMBO
from .prompted import Prompted
from .tcfg import TCFG

#: name -> class; every class takes ``(denoiser, scale, uncond, *, interval, ...)``
NAMED: dict[str, type[Prompted]] = {
    "apg": APG,
    "cfg": CFG,
    "cfg_zero": CFGZero,
    "mambo": MAMBO,
    "tcfg": TCFG,
}
#: parameters that are arguments of ``guide``
_OWN = ("self", "denoiser", "scale", "uncond", "interval")


def names() -> tuple[str, ...]:
    """Return the names of the methods that need only a condition and a scale."""
    return tuple(sorted(NAMED))


def options_of(name: str) -> tuple[str, ...]:
    """Return the names of a method's further options. Raises UnknownName for another name, with the
    nearest match."""
    if not isinstance(name, str) or name not in NAMED:
        raise UnknownName(unknown("guidance", name, names()))
    parameters = inspect.signature(NAMED[name].__init__).parameters
    return tuple(key for key in parameters if key not in _OWN)


def guide(
    denoiser: Denoiser,
    name: str,
    scale: Any,
    uncond: Condition = None,
    *,
    interval: Sequence[float] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Prompted:
    """Return ``denoiser`` guided by the method called ``name``, such as ``cfg``.

    ``scale``, ``uncond`` and ``interval`` as in ``CFG``; ``options`` are the method's further
    options. Raises UnknownName and ArgumentError, with the nearest match, for other names.
    """
    allowed = options_of(name)
    for key in options or {}:
        if key not in allowed:
            raise ArgumentError(f"guidance {name!r}: " + unknown("option", key, allowed))
    make: Any = NAMED[name]
    made: Prompted = make(denoiser, scale, uncond, interval=interval, **dict(options or {}))
    return made
