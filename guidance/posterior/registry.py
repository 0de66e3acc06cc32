"""The methods of ``solve``, by name: a dict, and the decorator ``register`` that adds to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...checks import ArgumentError, UnknownName, unknown

#: "denoiser": the method is a denoiser, for every sampler; "step": it also changes states after a
#: step, for samplers of one call a step; "plan": it also changes states, and its steps are a plan
#: of its own; "loop": it has a loop of its own over the steps of a sampler
FORMS = ("denoiser", "step", "plan", "loop")
#: the sampler of a method that makes its own plan: ``method.plan(grid)``
OWN = "own"
#: what a method may need
NEEDS = (
    "gradients",
    "adjoint",
    "pinverse",
    "svd",
    "noise",
    "noiseless",
    "linear",
    "losses",
)
#: parameters that are arguments of ``solve``
_GIVEN = ("self", "denoiser", "likelihood")


@dataclass(frozen=True)
class Method:
    """One method of ``solve``.

    Attributes:
        name, source: public name; paper, arXiv id.
        make: its class, ``make(denoiser, likelihood, **options)``.
        form: of ``FORMS``.
        needs: of ``NEEDS``: gradients of the model; the adjoint, the pseudo-inverse, the SVD of the
            operator; sigma_y > 0, or = 0; a linear operator; a list of losses instead of a
            likelihood.
        exact: the priors for which it samples from the posterior.
        sampler, options: the sampler where none is named, with its options; ``OWN``: the plan that
            the method makes.
    """

    name: str
    make: Any
    source: str
    form: str
    needs: tuple[str, ...]
    exact: str
    sampler: str
    options: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """First paragraph of the docstring of the class, on one line."""
        return " ".join((self.make.__doc__ or "").strip().partition("\n\n")[0].split())

    @property
    def allowed(self) -> tuple[str, ...]:
        """Names of the method's own options."""
        found = inspect.signature(self.make.__init__).parameters
        return tuple(name for name in found if name not in _GIVEN)

    @property
    def required(self) -> tuple[str, ...]:
        """Those of ``allowed`` that have no default."""
        found = inspect.signature(self.make.__init__).parameters
        return tuple(
            name for name in self.allowed if found[name].default is inspect.Parameter.empty
        )


_METHODS: dict[str, Method] = {}


def register(
    name: str,
    *,
    source: str,
    form: str = "denoiser",
    needs: tuple[str, ...] = (),
    exact: str = "none",
    sampler: str = "dpmpp_2m",
    options: Mapping[str, Any] | None = None,
) -> Callable[[type], type]:
    """Register the decorated class under ``name``; the arguments are attributes of ``Method``."""

    def decorate(made: type) -> type:
        if name in _METHODS:
            raise ArgumentError(f"method {name!r} is registered twice")
        _METHODS[name] = Method(
            name, made, source, form, needs, exact, sampler, dict(options or {})
        )
        return made

    return decorate


def names() -> tuple[str, ...]:
    """The names of the methods of ``solve``, sorted."""
    return tuple(sorted(_METHODS))


def without_gradients() -> str:
    """The names of the methods of ``solve`` that do not differentiate the model, for messages."""
    free = [m.name for m in _METHODS.values() if not {"gradients", "losses"} & set(m.needs)]
    return ", ".join(sorted(free))


def get(name: str) -> Method:
    """Return the method called ``name``. Raises UnknownName with the nearest match."""
    if not isinstance(name, str) or name not in _METHODS:
        raise UnknownName(unknown("method", name, names()))
    return _METHODS[name]


def made(method: Method, denoiser: Any, likelihood: Any, options: Mapping[str, Any]) -> Any:
    """The method around ``denoiser``. Raises ArgumentError for unknown options, with the nearest
    match, and for what the method cannot use."""
    for key in options:
        if key not in method.allowed:
            raise ArgumentError(
                f"{method.name}: " + unknown("option", key, method.allowed or ["none"])
            )
    for key in method.required:
        if key not in options:
            raise ArgumentError(f"{method.name} needs {key}=: see guidance.{method.make.__name__}")
    return method.make(denoiser, likelihood, **options)
