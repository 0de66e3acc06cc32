"""What is rated: fields of one side, samples or true solutions, with the equation that they should
satisfy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ....checks import ArgumentError, described, members, shown
from ...errors import ScoreError
from ..arguments import wide
from ..equation import Equation, Fields, Params, Problem, Spacing, equation_named
from .spectra import Spectrum, spectrum
from .transforms import axes

Residual: TypeAlias = Callable[[Fields, Spacing, Params], Tensor]
#: members of an equation that ratings use
MEMBERS = ("residual", "scale", "boundary_error", "conserved")


@dataclass(frozen=True)
class Rules:
    """An equation, or a residual alone.

    Attributes:
        residual: ``residual(fields, spacing, params)``.
        equation: the equation; None for a residual alone.
        name: for people.
    """

    residual: Residual
    equation: Equation | None
    name: str


def rules_of(given: Equation | Residual | str) -> Rules:
    """The rules of an equation's name, of an object with the members of ``Equation``, or of a
    function ``residual(fields, spacing, params)``.

    Raises UnknownName with the nearest match, ArgumentTypeError for an object without the members.
    """
    if isinstance(given, str):
        found = equation_named(given)
        return Rules(found.residual, found, given)
    if hasattr(given, "residual") or not callable(given):
        members("equation", given, MEMBERS, "a name, an Equation, or a residual function")
        name = getattr(given, "__name__", type(given).__name__).rpartition(".")[2]
        return Rules(given.residual, given, name)  # type: ignore[arg-type]
    return Rules(given, None, getattr(given, "__name__", type(given).__name__))


@dataclass(frozen=True, eq=False)
class Subject:
    """Fields of one side in float64.

    Attributes:
        rules: the equation.
        problem: fields, spacing and parameters.
        reference: fields that the samples are compared with one by one; empty without.
    """

    rules: Rules
    problem: Problem
    reference: Mapping[str, Tensor] = field(default_factory=dict)
    _spectra: dict[tuple[str, bool], Spectrum] = field(default_factory=dict, init=False)

    @classmethod
    def of(
        cls,
        what: str,
        rules: Rules,
        fields: Mapping[str, Tensor],
        spacing: Spacing,
        params: Params,
        reference: Mapping[str, Tensor] | None = None,
    ) -> Subject:
        """Check the fields. Raises ArgumentError for empty, non-tensor or unpaired ones, ScoreError
        for values that are not finite; the equation checks the rest."""
        made = {name: _checked(what, name, value) for name, value in dict(fields).items()}
        if not made or len({len(value) for value in made.values()}) > 1:
            raise ArgumentError(
                f"{what} {[tuple(v.shape) for v in made.values()]}: must be at least one field, "
                "and all of one number of samples"
            )
        against = {} if reference is None else dict(reference)
        for name, value in against.items():
            if name not in made or _checked("reference", name, value).shape != made[name].shape:
                raise ArgumentError(
                    f"the reference {name!r}, {described(value)}, must have the name and the shape "
                    f"of one of the fields { ({k: tuple(v.shape) for k, v in made.items()}) }"
                )
        return cls(rules, Problem(made, dict(spacing), dict(params)), against)

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(next(iter(self.problem.fields.values())))

    @property
    def rated(self) -> dict[str, Tensor]:
        """The fields without time derivatives ``u_t`` of a field ``u``."""
        known = self.problem.fields
        return {k: v for k, v in known.items() if not (k.endswith("_t") and k[:-2] in known)}

    @cached_property
    def paired(self) -> Subject:
        """The reference; fields that it does not have are those of the samples."""
        fields = {k: wide(v.detach()) for k, v in self.reference.items()}
        problem = self.problem._replace(fields={**self.problem.fields, **fields})
        return Subject(self.rules, problem)

    @cached_property
    def residual(self) -> Tensor:
        """The residual, (B, points). Raises ArgumentError where a function returns none."""
        with torch.no_grad():
            found = self.rules.residual(*self.problem)
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != self.count:
            raise ArgumentError(
                f"residual {self.rules.name!r} returned {described(found)}; it must return a "
                f"tensor ({self.count}, points)"
            )
        return wide(found)

    @cached_property
    def walls(self) -> tuple[str, ...]:
        """The axes between walls: those on which the residual has the interior points only."""
        first = next(iter(self.problem.fields.values()))
        if self.residual.ndim != first.ndim:
            return ()
        return tuple(
            axis
            for dim, axis in enumerate(axes(self.problem.spacing), 1)
            if axis != "t" and self.residual.shape[dim] < first.shape[dim]
        )

    def spectrum(self, name: str, odd: bool) -> Spectrum:
        """The spectrum of a field, mean over the times: (B, K); computed once."""
        if (name, odd) not in self._spectra:
            fields, spacing, _ = self.problem
            k, energy, k_max = spectrum(fields[name], spacing, self.walls, odd=odd)
            energy = energy.mean(1) if energy.ndim == 3 else energy
            self._spectra[name, odd] = Spectrum(k, energy, k_max)
        return self._spectra[name, odd]

    def vanishes(self, name: str) -> bool:
        """Whether a field is 0 on all walls, to 1e-6 of its root mean square."""
        value = self.problem.fields[name]
        dims = [d for d, a in enumerate(axes(self.problem.spacing), 1) if a in self.walls]
        ends = [float(value.select(d, i).abs().max()) for d in dims for i in (0, -1)]
        return bool(ends) and max(ends) <= 1e-6 * float(value.abs().square().mean().sqrt())


def _checked(what: str, name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim < 2 or not value.numel():
        raise ArgumentError(
            f"{what} {shown(name)} must be a tensor (B, points), got {described(value)}"
        )
    good = torch.isfinite(value).flatten(1).all(1)
    if not bool(good.all()):
        bad = (~good).nonzero().flatten().tolist()
        raise ScoreError(
            f"{what} {name!r}: NaN or infinity in {len(bad)} of {len(value)} samples, first "
            f"{bad[:5]}"
        )
    return wide(value.detach())
