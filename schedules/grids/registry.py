"""Registry of grid families: name, layout function, options class, aliases.

A family is a function ``(frame, options) -> times`` in a module of ``families``; its ``options``
annotation names a frozen dataclass that checks its own values. All modules of ``families`` are
imported, in alphabetical order, by that package.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...checks import GridError, unknown
from ...checks.option_values import check_types, plainly
from .frame import Frame

Layout = Callable[[Frame, Any], list[float]]


@dataclass(frozen=True)
class NoOptions:
    """A grid family without options."""


@dataclass(frozen=True)
class Family:
    """One registered grid family.

    Attributes:
        name: public name.
        layout: returns the ``steps + 1`` times of a ``Frame``.
        options: frozen dataclass of its options.
        in_t: the shift of a flow applies to it (spaced in t, or meant for a flow's own levels).
    """

    name: str
    layout: Layout
    options: type
    in_t: bool = False

    @property
    def option_names(self) -> tuple[str, ...]:
        """Names of its options; ``shift`` is one of them where it applies."""
        own = tuple(f.name for f in dataclasses.fields(self.options))
        return (*own, "shift") if self.in_t else own


#: names that stand for a grid chosen by the schedule, see ``auto``
AUTOMATIC = ("auto", "auto_0_1")
#: name -> family
GRIDS: dict[str, Family] = {}
#: another name -> name
ALIASES: dict[str, str] = {}


def register(
    name: str, *, in_t: bool = False, aliases: tuple[str, ...] = ()
) -> Callable[[Layout], Layout]:
    """Register the decorated layout function under ``name`` and ``aliases``.

    ``in_t``: the shift of a flow applies. Raises GridError where
    a name is registered twice.
    """

    def decorate(layout: Layout) -> Layout:
        for word in (name, *aliases):
            if word in GRIDS or word in ALIASES or word in AUTOMATIC:
                raise GridError(f"grid {word!r} is registered twice")
        options = typing.get_type_hints(layout).get("options")
        if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
            raise GridError(
                f"grid {name!r}: annotate the argument options of {layout.__name__} with its "
                "options dataclass (NoOptions where it has none)"
            )
        GRIDS[name] = Family(name, layout, options, in_t)
        ALIASES.update(dict.fromkeys(aliases, name))
        return layout

    return decorate


def get(name: Any) -> Family:
    """The family called ``name``, or of which it is an alias. Raises GridError with the nearest
    match."""
    if not isinstance(name, str) or ALIASES.get(name, name) not in GRIDS:
        raise GridError(unknown("grid", name, [*GRIDS, *ALIASES, *AUTOMATIC]))
    return GRIDS[ALIASES.get(name, name)]


def option_names() -> tuple[str, ...]:
    """Names of the options of all families, sorted."""
    return tuple(sorted({key for family in GRIDS.values() for key in family.option_names}))


def check_option_names(family: Family, given: Mapping[str, Any]) -> None:
    """Raise GridError for an option that ``family`` does not have, naming the families that
    do."""
    for key in given:
        if key in family.option_names:
            continue
        if key not in option_names():
            raise GridError(f"grid {family.name!r}: {unknown('option', key, option_names())}")
        takers = sorted(name for name, other in GRIDS.items() if key in other.option_names)
        raise GridError(f"grid {family.name!r} takes no {key}=; {', '.join(takers)} do")


def make_options(family: Family, given: Mapping[str, Any]) -> Any:
    """The options object of ``family`` filled from ``given``. Raises GridError for a value of the
    wrong type or out of range."""
    own = plainly(family.options, given)
    try:
        check_types(family.options, own)
        return family.options(**own)
    except ValueError as error:
        raise GridError(f"grid {family.name!r}: {error}") from None
