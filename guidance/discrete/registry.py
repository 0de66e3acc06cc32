"""The registry of samplers of tokens. Their names differ from those of ``fewstep.samplers``.

A sampler is a function ``(now, options) -> DiscreteTransition``: the law of the next state, from
what is known at a step (``Now``), with a frozen dataclass of options.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from torch import Tensor

from ...checks import ArgumentError, shown, unknown
from ...checks.option_values import check_types, plainly
from .path import DiscretePath
from .transition import DiscreteTransition

#: kinds of path
PATHS = ("masked", "uniform")


class TokenSamplerError(ArgumentError):
    """An unknown sampler of tokens, or options, times or a path that it cannot use."""


@dataclass(frozen=True)
class NoOptions:
    """Options class of samplers without options."""


@dataclass(frozen=True)
class Now:
    """What a sampler knows at a step.

    Attributes:
        path: of the model.
        x: the state, (B, L).
        t, s: times of the state and of the next one.
        probs: the law p of the clean tokens, (B, L, K).
        network_scores: the concrete scores (B, L, K), where the network predicts them.
        given: (B, L), True where the start state was no mask (a prompt).
        certainty: (B, L), the probability with which each token was drawn when it was revealed; 1
            at given tokens. None for samplers that do not read it.
    """

    path: DiscretePath
    x: Tensor
    t: float
    s: float
    probs: Tensor
    given: Tensor
    certainty: Tensor | None = None
    network_scores: Tensor | None = None

    @cached_property
    def scores(self) -> Tensor:
        """Concrete scores (B, L, K): those of the network, else those of ``probs``."""
        if self.network_scores is not None:
            return self.network_scores
        return self.path.scores(self.probs, self.x, self.t)

    def law(self, probs: Tensor) -> DiscreteTransition:
        """The step with independent positions and this law."""
        return DiscreteTransition(probs, self.t, self.s)


Step = Callable[[Now, Any], DiscreteTransition]


def _exact(options: Any) -> str:
    return ""


@dataclass(frozen=True)
class TokenSampler:
    """One registered method.

    Attributes:
        name, source: public name; paper, arXiv id and equation.
        step: the function.
        options: frozen dataclass of its options.
        paths: kinds of path that it runs on.
        log_prob: what its steps have: a function of the options that returns "" where the
            log-probability of a step is exact, else the reason why there is none.
        free: True if it picks the number of steps; ``steps=`` does not apply, and the model must
            not depend on the time.
        remembers: True if it reads ``Now.certainty``.
        check: ``(path, times, options)``, raises an error for what the sampler cannot use.
    """

    name: str
    step: Step
    options: type
    source: str
    paths: tuple[str, ...] = PATHS
    log_prob: Callable[[Any], str] = _exact
    free: bool = False
    remembers: bool = False
    check: Callable[[DiscretePath, tuple[float, ...], Any], None] | None = None

    @property
    def summary(self) -> str:
        """First paragraph of the docstring of ``step``, on one line."""
        return " ".join((self.step.__doc__ or "").strip().partition("\n\n")[0].split())

    def calls(self, steps: int, length: int) -> int:
        """Number of network calls at most: the steps, or one per position for a sampler that picks
        its steps."""
        return length if self.free else steps


_REGISTRY: dict[str, TokenSampler] = {}


def register(
    name: str,
    *,
    source: str,
    paths: tuple[str, ...] = PATHS,
    log_prob: Callable[[Any], str] = _exact,
    free: bool = False,
    remembers: bool = False,
    check: Callable[[DiscretePath, tuple[float, ...], Any], None] | None = None,
) -> Callable[[Step], Step]:
    """Register the decorated function under ``name``. The annotation of its ``options`` parameter
    is the options class. The other arguments are attributes of ``TokenSampler``."""

    def decorate(step: Step) -> Step:
        if name in _REGISTRY or name == "auto":
            raise TokenSamplerError(f"sampler {name!r} is registered twice")
        options = typing.get_type_hints(step).get("options")
        if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
            raise TokenSamplerError(
                f"sampler {name!r}: the parameter options must be annotated with the frozen "
                "dataclass of its options"
            )
        _REGISTRY[name] = TokenSampler(
            name, step, options, source, paths, log_prob, free, remembers, check
        )
        return step

    return decorate


def names(path: DiscretePath | None = None) -> tuple[str, ...]:
    """All registered names, sorted. ``path``: only samplers that run on it."""
    return tuple(
        sorted(
            name for name, entry in _REGISTRY.items() if path is None or path.name in entry.paths
        )
    )


def get(name: str) -> TokenSampler:
    """Return the sampler called ``name``. Raises TokenSamplerError that names the nearest match."""
    if not isinstance(name, str) or name not in _REGISTRY:
        raise TokenSamplerError(unknown("sampler of tokens", name, names()))
    return _REGISTRY[name]


def make_options(sampler: TokenSampler, given: Mapping[str, Any]) -> Any:
    """Create the sampler's options from ``given``. Raises TokenSamplerError for unknown names, with
    the nearest match, and for invalid values."""
    fields = [f.name for f in dataclasses.fields(sampler.options)]
    for key in given:
        if key not in fields:
            raise TokenSamplerError(f"{sampler.name}: " + unknown("option", key, fields))
    own = plainly(sampler.options, given)
    try:
        check_types(sampler.options, own)
        return sampler.options(**own)
    except ArgumentError as error:
        raise TokenSamplerError(f"{sampler.name}: {error}") from error


def describe(name: str) -> dict[str, Any]:
    """Describe a sampler of tokens: summary, source, paths, options with defaults, and
    ``log_prob``: "exact", or why its default steps have no log-probability."""
    entry = get(name)
    options = entry.options()
    return {
        "name": name,
        "summary": entry.summary,
        "source": entry.source,
        "paths": entry.paths,
        "log_prob": entry.log_prob(options) or "exact",
        "calls": "at most one per position" if entry.free else "one per step",
        "options": {f.name: getattr(options, f.name) for f in dataclasses.fields(options)},
    }


def check_run(
    sampler: TokenSampler, path: DiscretePath, times: tuple[float, ...], options: Any
) -> None:
    """Raise TokenSamplerError for a path that the sampler does not run on, and ArgumentError for
    times that it cannot use."""
    if path.name not in sampler.paths:
        raise TokenSamplerError(
            f"{sampler.name} runs on {' and '.join(sampler.paths)} paths, not on {shown(path)}; "
            f"allowed there: {', '.join(names(path))}"
        )
    for t, s in pairwise(times):
        path.kept(t, s)
    if sampler.check is not None:
        sampler.check(path, times, options)
