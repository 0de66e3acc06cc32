"""One vocabulary for the options of all samplers, with the words of other programs as aliases.

    correction    how a step with two predictions weights their difference: ``exact`` (the
                  integral of the line through both), ``midpoint``, ``bh1``, ``linear``
                  (``plans.weights.exponential``); elsewhere solver_type, variant
    tau           diffusion strength, 0 for the probability-flow ODE, 1 for the reversed forward
                  SDE; elsewhere eta (in DPM-Solver++ SDE the square of tau), a (tau sqrt(2))
    s_noise       factor on the noise that is drawn; 1 keeps the marginal
    diffusion     tau as a function of the noise level
    r1, r2        positions of the stages in lam, as fractions of the step; elsewhere r, c2, c3

``option`` declares a field with such aliases, and other programs' words for its values. ``current``
translates given options. Names from an earlier version of this package are accepted with a
DeprecationWarning, or silently when saved files are read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, TypeVar

from ..checks import ArgumentError
from ..checks.caller_warnings import warn_caller

T = TypeVar("T")
Convert = Callable[[Any], Any]
Aliases = Sequence[str] | Mapping[str, Convert]

#: word for the two-node correction in other programs -> word here
CORRECTIONS = {
    "heun": "exact",
    "taylor": "exact",
    "vary_coeff": "exact",
    "bh2": "midpoint",
    "dpmsolver": "midpoint",
}


@dataclass(frozen=True)
class Names:
    """The other names of an option, each with the function that converts its value.

    ``also``: names in other programs; ``was``: names in an earlier version of this package;
    ``words``: other words for its values; ``ranked``: several names may be given at once; then a
    ``was`` name has priority over the option's own name, which has priority over ``also``, and
    values None and () are ignored.
    """

    also: Mapping[str, Convert]
    was: Mapping[str, Convert]
    words: Mapping[str, str]
    ranked: bool


class Meaning(NamedTuple):
    """The option that another name refers to. ``former``: the name is from an earlier version."""

    option: str
    convert: Convert
    former: bool


def option(
    default: T,
    *,
    also: Aliases = (),
    was: Aliases = (),
    words: Mapping[str, str] | None = None,
    ranked: bool = False,
) -> T:
    """Declare a field of an options dataclass with aliases (see ``Names``)."""
    names = Names(_converted(also), _converted(was), dict(words or {}), ranked)
    made: T = field(default=default, metadata={"names": names})
    return made


def _converted(aliases: Aliases) -> dict[str, Convert]:
    return dict(aliases) if isinstance(aliases, Mapping) else dict.fromkeys(aliases, _same)


def _same(value: Any) -> Any:
    return value


@cache
def _names(options: type) -> dict[str, Names]:
    """Map options to their other names, for those that have any."""
    found = {f.name: f.metadata.get("names") for f in dataclasses.fields(options)}
    return {name: names for name, names in found.items() if names is not None}


@cache
def meanings(options: type) -> dict[str, Meaning]:
    """Map each other name to the option that it refers to."""
    out: dict[str, Meaning] = {}
    for name, names in _names(options).items():
        out |= {key: Meaning(name, convert, False) for key, convert in names.also.items()}
        out |= {key: Meaning(name, convert, True) for key, convert in names.was.items()}
    return out


def aliases(options: type) -> dict[str, str]:
    """Map names in other programs to options."""
    return {key: m.option for key, m in meanings(options).items() if not m.former}


def current(options: type, given: Mapping[str, Any], *, warn: bool = True) -> dict[str, Any]:
    """Translate ``given`` to the current names and words; unknown names are kept.

    Raises ArgumentError if one option is given under two names.
    """
    out: dict[str, Any] = {}
    said: dict[str, str] = {}
    known = meanings(options)
    for key, value in _ordered(options, given):
        meaning = known.get(key)
        name = key if meaning is None else meaning.option
        if meaning is not None and meaning.former and warn:
            text = f"the option {key!r} is now called {name!r}; the former name will be removed"
            warn_caller(text, DeprecationWarning)
        if name in said:
            if _names(options)[name].ranked:
                continue
            raise ArgumentError(
                f"{said[name]}= and {key}= name the same option: give only one of them"
            )
        said[name] = key
        out[name] = value if meaning is None else meaning.convert(value)
    return {name: _worded(options, name, value) for name, value in out.items()}


def as_given(options: type, given: Mapping[str, Any], text: str) -> str:
    """Rewrite an error message to use the names of options as in ``given``."""
    known = meanings(options)
    for key in given:
        if key in known:
            text = re.sub(rf"\b{known[key].option}=", f"{key}=", text)
    return text


def _ordered(options: type, given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Items of ``given``, sorted by priority for ranked options, without their empty values."""
    known = meanings(options)

    def rank(key: str) -> int:
        return 1 if key not in known else 0 if known[key].former else 2

    def counts(key: str, value: Any) -> bool:
        name = known[key].option if key in known else key
        names = _names(options).get(name)
        empty = value is None or (isinstance(value, (tuple, list)) and not value)
        return names is None or not names.ranked or not empty

    return sorted(
        ((key, value) for key, value in given.items() if counts(key, value)),
        key=lambda item: rank(item[0]),
    )


def _worded(options: type, name: str, value: Any) -> Any:
    """Translate ``value`` to the current words."""
    names = _names(options).get(name)
    if names is None or not names.words:
        return value
    if isinstance(value, (tuple, list)):
        return tuple(names.words.get(v, v) if isinstance(v, str) else v for v in value)
    return names.words.get(value, value) if isinstance(value, str) else value
