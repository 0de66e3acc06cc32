"""Measured order of a diffusers scheduler class: its own code in float64, against exact scores.

The class gets a fine table of the VP path (or its flow or EDM grid), predictions of the exact
mixture of ``problem`` at the level of each of its timesteps, and exact states at its first calls,
so that a multistep's history is right. Its state is compared with the exact one at the first
timestep past ``MEASURED_AT`` of its range, before the steps to sigma = 0, whose length in lam does
not shrink.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...checks import ArgumentError, unknown
from ...schedules import DiscreteVP, Flow, VPLinear
from ...schedules.node import Node
from .problem import exact_states, mixture_eps
from .slopes import FLOOR, slope

#: step counts; one more than a multiple of 40, so that evenly spaced tables share nodes
STEPS = (41, 81, 161, 321)
#: entries of the table: evenly spaced times fall on it (the constructor of some classes is
#: quadratic in this)
TRAIN_STEPS = 8_001
MEASURED_AT = 0.1
#: number of first calls with exact states
WARM = 8


@dataclass(frozen=True)
class ThirdParty:
    """Measured order of a diffusers scheduler.

    Attributes:
        claimed: the class's ``solver_order``; None where it has none.
        measured: measured order.
        errors: (steps, error) pairs.
    """

    name: str
    config: Mapping[str, Any]
    claimed: int | None
    measured: float
    errors: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class _Path:
    """Conventions of a family of schedulers.

    Attributes:
        config: extra configuration.
        node: node of a timestep.
        answer: the network's raw output at a node.
        end: timestep past which the error is measured.
    """

    config: Mapping[str, Any]
    node: Callable[[float], Node]
    answer: Callable[[Node, Tensor], Tensor]
    end: float


def certify_diffusers(name: str, **config: Any) -> ThirdParty:
    """Measure the diffusers scheduler class ``name`` with ``config``.

    Raises ArgumentError for an unknown class, for a stochastic one (its states differ from run to
    run), and for options that round or move the times, such as ``use_karras_sigmas``: the network
    is then not evaluated at the level of the state, so there is no order to measure.
    """
    cls = _scheduler(name)
    accepted = inspect.signature(cls).parameters
    for key, value in config.items():
        if key not in accepted:
            raise ArgumentError(f"{name}: " + unknown("configuration key", key, sorted(accepted)))
        if key.startswith("use_") and key.endswith("_sigmas") and value:
            raise ArgumentError(
                f"{key}={value!r}: {name} rounds its timesteps then, so the network is not "
                "evaluated at the level of the state"
            )
    errors = []
    path = _path(cls, accepted)
    off = {
        key: False
        for key in ("lower_order_final", "clip_sample", "thresholding")
        if key in accepted
    }
    with _double(cls):
        try:
            scheduler = cls(**{**path.config, **off, **config})
        except TypeError as error:
            raise ArgumentError(
                f"{name} cannot be made from a table of betas and {dict(config)}: {error}"
            ) from error
        for steps in STEPS:
            first, again = (_error(scheduler, path, steps) for _ in range(2))
            if first != again:
                raise ArgumentError(
                    f"{name} is stochastic with {dict(config)}: only deterministic "
                    "schedulers have a pathwise order here"
                )
            errors.append((steps, first))
    order = slope([(n, e) for n, e in errors if e > FLOOR][-3:])
    default = accepted["solver_order"].default if "solver_order" in accepted else None
    return ThirdParty(name, config, config.get("solver_order", default), order, tuple(errors))


def _scheduler(name: str) -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise ArgumentError(
            "certifying a diffusers scheduler needs diffusers: pip install 'fewstep[diffusers]'"
        ) from error
    known = sorted(n for n in diffusers._import_structure["schedulers"] if n.endswith("Scheduler"))
    if name not in known:
        raise ArgumentError(unknown("diffusers scheduler", name, known))
    return getattr(diffusers, name)


@contextmanager
def _double(cls: Any) -> Iterator[None]:
    """Replace float32 by float64 in the class's module; float32 rounding would hide a third
    order."""
    module = importlib.import_module(cls.__module__)
    kept = {name: getattr(module, name) for name in ("torch", "np") if hasattr(module, name)}
    for name, library in kept.items():
        setattr(module, name, _Doubled(library))
    try:
        yield
    finally:
        for name, library in kept.items():
            setattr(module, name, library)


class _Doubled:
    """A proxy of torch or numpy whose ``float32`` is ``float64``."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, "float64" if name == "float32" else name)


def _path(cls: Any, accepted: Mapping[str, Any]) -> _Path:
    if "trained_betas" in accepted:
        path = VPLinear()
        bars = np.array([float(path.alpha(t)) ** 2 for t in np.linspace(0.0, 1.0, TRAIN_STEPS + 1)])
        betas = 1.0 - bars[1:] / bars[:-1]
        table = DiscreteVP.from_betas(betas)
        return _Path(
            {"num_train_timesteps": TRAIN_STEPS, "trained_betas": betas.tolist()},
            table.node,
            _eps,
            TRAIN_STEPS * MEASURED_AT,
        )
    if cls.__name__.startswith("FlowMatch"):
        flow = Flow()
        return _Path({}, lambda t: flow.node(t / 1000.0), _velocity, 1000.0 * MEASURED_AT)
    if cls.__name__.startswith("EDM"):
        return _Path(
            {},
            lambda t: Node(1.0, math.exp(4.0 * t), math.exp(4.0 * t)),
            _edm,
            0.25 * math.log(0.5),
        )
    raise ArgumentError(
        f"{cls.__name__} has neither a table of betas nor a flow or EDM grid: no exact model "
        "fits it"
    )


def _eps(node: Node, x_in: Tensor) -> Tensor:
    return torch.from_numpy(mixture_eps(node, x_in.numpy()))


def _velocity(node: Node, x_in: Tensor) -> Tensor:
    """``eps - x0`` with ``x0 = (x - t eps) / (1 - t)``; at t = 1 the x0 prediction is the mean of
    the data."""
    eps = _eps(node, x_in)
    return (eps - x_in) / node.alpha if node.alpha else eps - _mean_of_data()


def _edm(node: Node, x_in: Tensor) -> Tensor:
    """``F = (D - c_skip x) / c_out`` from ``c_in x`` (Karras et al. 2022, arXiv 2206.00364, table
    1, sigma_data = 1/2)."""
    s, d = node.sigma, 0.5
    x = x_in * math.hypot(s, d)
    data = x - s * _eps(node, x)
    return (data - d * d / (s * s + d * d) * x) * (math.hypot(s, d) / (s * d))


def _mean_of_data() -> float:
    from .problem import MEANS, WEIGHTS

    return sum(w * m for w, m in zip(WEIGHTS, MEANS, strict=True)) / sum(WEIGHTS)


def _error(scheduler: Any, path: _Path, steps: int) -> float:
    """Largest error of the scheduler's state at the timestep of measurement."""
    scheduler.set_timesteps(steps)
    labels = list(scheduler.timesteps)
    landing = next((t for t in map(float, labels) if t <= path.end), float(labels[-1]))
    last = max(k for k, t in enumerate(labels) if float(t) == landing)
    if last <= WARM:
        raise ArgumentError(
            f"{type(scheduler).__name__} uses its own timesteps ({labels[0]:.4g}, "
            f"{labels[1]:.4g}, ...), not those of the path"
        )
    grows = (
        "trained_betas" in path.config
        and float(_scaled(scheduler, torch.ones(1, 1, dtype=torch.float64), labels[0])) != 1.0
    )

    def exact(node: Node) -> Tensor:
        """The exact states in the class's coordinates: VE where it scales the network's input."""
        return exact_states(node) / node.alpha if grows else exact_states(node)

    x = exact(path.node(float(labels[0])))
    for k, label in enumerate(labels[:last]):
        node = path.node(float(label))
        if k < WARM:
            x = exact(node)
        x = scheduler.step(
            path.answer(node, _scaled(scheduler, x, label)), label, x, return_dict=False
        )[0]
    error = float((x - exact(path.node(landing))).abs().max())
    if not math.isfinite(error):
        raise ArgumentError(f"{type(scheduler).__name__} is not finite after {last} calls")
    return error


def _scaled(scheduler: Any, x: Tensor, label: Any) -> Tensor:
    scaled: Tensor = (
        scheduler.scale_model_input(x, label) if hasattr(scheduler, "scale_model_input") else x
    )
    return scaled
