"""The methods of ``steer``, by name: a dict, and the decorator ``register`` that adds to it.

A method is a function ``(setting, rewards, options) -> Outcome`` with a frozen dataclass of
options, in a file of its own. The first paragraph of its docstring describes it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...checks import ArgumentError, UnknownName, unknown
from ...checks.option_values import check_types, plainly
from .population import Setting
from .rewards import Reward


@dataclass(frozen=True)
class Cost:
    """Cost of a run: ``rows`` that the network receives, and ``rewards``, samples that the reward
    function is given."""

    rows: int
    rewards: int


@dataclass(frozen=True)
class Outcome:
    """What a method returns; S samples of P particles. Tensors of numbers are float64 on the CPU.

    Attributes:
        samples: one of each population, (S, *shape), in the coordinates of the data.
        rewards: of ``samples``, (S,).
        rows: rows that the network received.
        log_evidence: ``log E[exp(reward / temperature)]``, estimated, (S,); or None.
        particles: the last population (S, P, *shape), with its rewards ``particle_rewards`` (S, P)
            and its normalised ``log_weights`` (S, P); or None.
        ess: effective number of particles at each point where they were weighted, (K, S); or None.
        notes: facts of the method by name.
    """

    samples: Tensor
    rewards: Tensor
    rows: int
    log_evidence: Tensor | None = None
    particles: Tensor | None = None
    particle_rewards: Tensor | None = None
    log_weights: Tensor | None = None
    ess: Tensor | None = None
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


#: what a method may need: a sampler that adds noise, predictions of x0, gradients of the model
NEEDS = ("noise", "x0", "gradients")
Run = Callable[[Setting, Reward, Any], Outcome]
Costs = Callable[[Setting, Any], Cost]


@dataclass(frozen=True)
class Method:
    """One method of ``steer``.

    Attributes:
        name, source: public name; paper, arXiv id.
        run: the method.
        options: frozen dataclass of its options.
        cost: predicts the cost of a run, ``(setting, options) -> Cost``, without a network call.
        needs: of ``NEEDS``; checked before the first network call.
        sampler: the sampler where none is given; None: ddim with eta = 1 for methods that need
            noise, else the automatic choice.
        check: further checks before the first network call, ``(setting, rewards, options)``.
    """

    name: str
    run: Run
    options: type
    cost: Costs
    source: str
    needs: tuple[str, ...] = ()
    sampler: str | None = None
    check: Callable[[Setting, Reward, Any], None] | None = None

    @property
    def summary(self) -> str:
        """First paragraph of the docstring of ``run``, on one line."""
        return " ".join((self.run.__doc__ or "").strip().partition("\n\n")[0].split())


_METHODS: dict[str, Method] = {}


def register(
    name: str,
    *,
    cost: Costs,
    source: str,
    needs: tuple[str, ...] = (),
    sampler: str | None = None,
    check: Callable[[Setting, Reward, Any], None] | None = None,
) -> Callable[[Run], Run]:
    """Register the decorated function under ``name``; the annotation of its parameter ``options``
    is the class of its options. The other arguments are attributes of ``Method``."""

    def decorate(run: Run) -> Run:
        if name in _METHODS:
            raise ArgumentError(f"method {name!r} is registered twice")
        options = typing.get_type_hints(run)["options"]
        _METHODS[name] = Method(name, run, options, cost, source, needs, sampler, check)
        return run

    return decorate


def names() -> tuple[str, ...]:
    """The names of the methods of ``steer``, sorted."""
    return tuple(sorted(_METHODS))


def get(name: str) -> Method:
    """Return the method called ``name``. Raises UnknownName with the nearest match."""
    if not isinstance(name, str) or name not in _METHODS:
        raise UnknownName(unknown("method", name, names()))
    return _METHODS[name]


def make_options(method: Method, given: Mapping[str, Any]) -> Any:
    """The options of ``method`` from ``given``. Raises ArgumentError for unknown names, with the
    nearest match, and for values that are not allowed."""
    allowed = [field.name for field in dataclasses.fields(method.options)]
    for key in given:
        if key not in allowed:
            raise ArgumentError(f"{method.name}: " + unknown("option", key, allowed or ["none"]))
    own = plainly(method.options, given)
    try:
        check_types(method.options, own)
        return method.options(**own)
    except ArgumentError as error:
        raise ArgumentError(f"{method.name}: {error}") from error
