"""An inverse problem of a job: the forward model, the measurements of all samples, and the truth
where it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, shown
from ..files import sha256
from .measurements import given_name, read_measurement, read_truth, tensor_hash
from .settings import checked, plain_option
from .user_functions import named_function, source_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..guidance.likelihoods.likelihood import Likelihood
    from ..guidance.operators.operator import Operator

FORM = (
    "must be package.module:name or file.py:name of a forward model: an object of "
    "guidance.operators, one with A and A_adjoint, a class of them, or a function of a batch"
)
#: settings that have names, and those that are options
_NAMED = ("task", "method", "sigma_y", "noise_seed", "lpips", "task_option", "method_option")


@dataclass(frozen=True)
class ProblemSettings:
    """What was measured, and the method that solves it; see ``jobs.solve``.

    Raises ArgumentError for a value that its setting does not take, for a forward model, or a
    measurement, that is given twice or not at all, and for settings that are not used.
    """

    task: str | None = None
    task_option: Mapping[str, Any] = field(default_factory=dict)
    operator: Any = None
    method: str = "mmps"
    method_option: Mapping[str, Any] = field(default_factory=dict)
    sigma_y: float = 0.1
    measurement: Any = None
    truth: Any = None
    noise_seed: int | None = None
    lpips: str | None = None

    def __post_init__(self) -> None:
        for name in _NAMED:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checked(name, value))
        self._check_pair("task", "operator", "a forward model: task=, by name, or operator=")
        self._check_pair(
            "measurement", "truth", "the data: measurement=, or truth= to simulate one"
        )
        if self.truth is None:
            for name in ("noise_seed", "lpips"):
                if getattr(self, name) is not None:
                    raise ArgumentError(
                        f"{name}={getattr(self, name)!r} belongs to truth=, and a measurement is "
                        "given"
                    )

    def _check_pair(self, first: str, second: str, what: str) -> None:
        given = [name for name in (first, second) if getattr(self, name) is not None]
        if len(given) == 2:
            raise ArgumentError(f"{first}= and {second}= exclude each other: give one of them")
        if not given:
            raise ArgumentError(f"give {what}")

    def record(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        own = isinstance(self.operator, str) or self.operator is None
        return {
            "task": self.task,
            "task_option": plain_option(self.task_option),
            "operator": self.operator if own else type(self.operator).__name__,
            "method": self.method,
            "method_option": plain_option(self.method_option),
            "sigma_y": self.sigma_y,
            "measurement": given_name(self.measurement),
            "truth": given_name(self.truth),
            "noise_seed": (self.noise_seed or 0) if self.truth is not None else None,
        }


class Problem:
    """The problem of ``settings`` for samples of ``shape``.

    Attributes:
        operator: the forward model.
        truth: (K, *shape), K = 1 or one for each sample; None if it is not known.
        likelihood: of all samples.
        count: the number of samples that the data are for; None: any.
    """

    def __init__(self, settings: ProblemSettings, shape: tuple[int, ...]) -> None:
        """Reads, or simulates, the measurements. Raises ArgumentError for those that do not fit."""
        from ..guidance.likelihoods import Constraint, Gaussian

        self.settings, self.shape = settings, shape
        self.operator, self._hash = operator_of(settings, shape)
        self.truth: Tensor | None = None
        if settings.truth is None:
            y = read_measurement(settings.measurement)
        else:
            self.truth = read_truth(settings.truth, shape)
            y = self._simulated(self.truth)
        sigma_y = settings.sigma_y
        self.likelihood: Likelihood = (
            Gaussian(self.operator, y, sigma_y) if sigma_y else Constraint(self.operator, y)
        )
        self.count = self.likelihood.samples(shape)

    def _simulated(self, truth: Tensor) -> Tensor:
        """The measurements (K, *measured) of the truth; the noise of the k-th is that of the seed
        ``noise_seed + k``, whatever the others are."""
        import torch

        from ..guidance.likelihoods.likelihood import probed

        own, seed = self.operator.samples(self.shape), self.settings.noise_seed or 0
        if own not in (None, len(truth)):
            raise ArgumentError(f"the operator is for {own} samples, the truth has {len(truth)}")
        probed(self.operator, truth[:1].new_zeros(own or 1, *self.shape))
        parts = []
        for k, x in enumerate(truth):
            one = self.operator.select(torch.tensor([k]))
            with torch.no_grad():
                parts.append(one.simulate(x[None], self.settings.sigma_y, seed + k))
        return torch.cat(parts)

    def of(self, rows: Sequence[int]) -> Likelihood:
        """The likelihood of the samples ``rows``."""
        import torch

        if self.count is None:
            return self.likelihood
        return self.likelihood.select(torch.tensor(list(rows)))

    def truth_of(self, rows: Sequence[int]) -> Tensor | None:
        """The true samples ``rows``; None if they are not known."""
        if self.truth is None:
            return None
        return (
            self.truth.expand(len(rows), *self.shape)
            if len(self.truth) == 1
            else (self.truth[list(rows)])
        )

    @cached_property
    def hashes(self) -> dict[str, str]:
        """What decides the data."""
        own = {} if self._hash is None else {"operator_sha256": self._hash}
        more = {} if self.truth is None else {"truth_sha256": tensor_hash(self.truth)}
        return {**own, "measurement_sha256": tensor_hash(self.likelihood.y), **more}


def operator_of(settings: ProblemSettings, shape: tuple[int, ...]) -> tuple[Operator, str | None]:
    """The forward model, and the hash of one of the user's own. Raises ArgumentError."""
    from ..guidance import operators
    from ..models.hashes import object_hash

    if settings.task is not None:
        return operators.make(settings.task, shape, settings.task_option), None
    value, digest = settings.operator, ""
    if isinstance(value, str):
        value, digest = named_function("operator", value, FORM), sha256(source_of(value))
    if isinstance(value, type):
        try:
            value = value(**settings.task_option)
        except TypeError as error:
            raise ArgumentError(f"operator={shown(settings.operator)}: {error}") from error
    elif settings.task_option:
        raise ArgumentError(
            f"task_option={dict(settings.task_option)}: operator={shown(settings.operator)} is no "
            "class, and takes no options"
        )
    return operators.as_operator(value), digest or object_hash(value)
