"""``wrap``: makes a Denoiser from a network, ``value = p x + q network(input_scale x, label)``.

Without preconditioning ``input_scale = 1, p = 0, q = 1`` and the network's output is the prediction
itself; with preconditioning see ``preconditioning``. A network whose time runs from noise to data,
``t' = t_max - t``, predicts ``dx/dt' = -dx/dt``, so its velocity has ``q = -1`` (Lipman et al.
2022, arXiv 2210.02747, use that direction).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from ..checks import (
    ArgumentError,
    ArgumentTypeError,
    UnknownName,
    between,
    flag,
    host_constant,
    immutable,
    integer,
    shown,
    tensor,
    unknown,
)
from ..schedules.base import Real, Schedule, host_number
from .base import MAIN, BaseDenoiser, labels_like, network_classes
from .calls import Passing, copied, first_tensor, passing, warn_of_training
from .denoiser import Condition, ShapeError, Time, check_kind, host_times
from .preconditioning import EDMPreconditioning, HasSigmaData, Numbers, Preconditioning, scaled_log

#: named time labels of a network
TIMES = ("t", "index", "sigma", "c_noise")
PRECONDITIONS = ("edm",)
#: number of times whose coefficients and labels are cached
MOST_KEPT = 4096

Label = Literal["t", "index", "sigma", "c_noise"] | Callable[[Real], Real]


@dataclass(frozen=True, eq=False)
class Wrapped(BaseDenoiser):
    """A network as a Denoiser; made by ``wrap``, whose arguments are its fields."""

    network: Callable[..., Any] = field()
    schedule: Schedule = field()
    prediction: str = field()
    time: Label
    flip_time: bool
    precondition: Preconditioning | None
    shape: tuple[int, ...] | None = field()
    passing: Passing
    # not hashed: they change no sample of a given plan, and folders of older versions lack them
    sigma_data: float | None = field(default=None, kw_only=True, metadata={"hashed": False})
    guided: bool = field(default=False, kw_only=True, metadata={"hashed": False})
    latent: bool = field(default=False, kw_only=True, metadata={"hashed": False})

    #: ``raws`` passes a copy of its input to the network
    preserves_input = True

    @property
    def device(self) -> torch.device | None:  # type: ignore[override]
        """Device of the network's weights; None for a plain function."""
        if not isinstance(self.network, torch.nn.Module):
            return None
        tensors: Iterator[Tensor] = chain(self.network.parameters(), self.network.buffers())
        return next((tensor.device for tensor in tensors), None)

    @property
    def classes(self) -> int:  # type: ignore[override]
        """Number of class labels in the network's configuration."""
        return network_classes(self.network)

    @override
    def null_cond(self, cond: Condition, batch: int) -> Condition:
        """Return the label ``network.null_label`` for every sample, or None if the network has no
        such label."""
        label = getattr(self.network, "null_label", None)
        return labels_like(cond, label, batch, self.device) if isinstance(label, int) else None

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """Return the coefficients ``(p, (q,))`` at time ``t``; both change sign for a velocity in
        flipped time."""
        sign = -1.0 if self.flip_time and self.prediction == "velocity" else 1.0
        if self.precondition is None:
            return 0.0, (sign,)
        numbers = self._numbers(t)
        return sign * numbers.p, (sign * numbers.q,)

    def input_scale(self, t: float) -> float:
        """Return 1, or the input scale of the preconditioning."""
        return 1.0 if self.precondition is None else self._numbers(t).input_scale

    def exact_label(self, t: Real) -> Real:
        """Return the network's time label at the schedule's time ``t`` before rounding, in the type
        of ``t`` (float, array or tensor)."""
        own = self.schedule.t_max - t if self.flip_time else t
        if not isinstance(self.time, str):
            return self.time(own)
        if self.time in ("t", "index"):
            return own
        rho = self.schedule.rho(t)
        if self.time == "sigma":
            return rho
        return (
            scaled_log(rho, 0.25) if self.precondition is None else self.precondition.c_noise(rho)
        )

    def time_mismatch(self, t: float) -> float:
        """Return ``|label - exact label|`` at time ``t``: the rounding error of a table index, 0
        for other labels."""
        if self.time != "index":
            return 0.0
        exact = float(self.exact_label(host_number(t)))
        return abs(min(max(round(exact), 0), round(self.schedule.t_max)) - exact)

    def labels(self, t: Time, like: Tensor) -> Tensor:
        """Return the network's time labels at ``t`` (a number, 0-dim or (B,)): (B,) on the device
        of ``like`` (B, ...).

        The dtype is int64 for ``time="index"`` and for callables that return integers; otherwise
        float32, or float64 if ``like`` is. Labels are computed in float64 on the host, unless ``t``
        is a tensor on an accelerator, which is not waited for. Raises ValueError if a label on the
        host is not finite.
        """
        batch = like.shape[0]
        if torch.compiler.is_compiling() and not isinstance(t, Tensor):
            label = _constant_label(self, t)
            whole = torch.int64 if isinstance(label, int) else wide_or_single(like.dtype)
            return torch.full((batch,), label, dtype=whole, device=like.device)
        if isinstance(self.time, str) and (not isinstance(t, Tensor) or (t.ndim == 0 and t.is_cpu)):
            label = self._label(t.item() if isinstance(t, Tensor) else host_number(t))
            whole = torch.int64 if isinstance(label, int) else wide_or_single(like.dtype)
            return torch.full((batch,), label, dtype=whole, device=like.device)
        if isinstance(t, Tensor) and t.device.type != "cpu":
            found: Tensor = self.exact_label(
                t.to(torch.float32 if t.device.type == "mps" else torch.float64)
            )
        else:
            found = host_tensor([self.exact_label(v) for v in host_times(t, batch)], t)
        if self.time == "index":
            found = found.round().clamp(0.0, self.schedule.t_max).to(torch.int64)
        elif found.is_floating_point():
            found = found.to(wide_or_single(like.dtype))
        if found.device.type == "cpu" and found.numel() == 1:  # a fill needs no transfer
            return torch.full((batch,), found.item(), dtype=found.dtype, device=like.device)
        return found.to(like.device).reshape(-1).expand(batch).contiguous()

    def _label(self, t: float) -> float | int:
        """Label at one time on the host, for the named kinds of ``time``: an integer for "index".
        Raises ArgumentError if it is not finite."""
        kept = None if self._kept is None else self._kept[1]
        if kept is not None and t in kept:
            return kept[t]
        label: float | int = host_tensor([self.exact_label(t)], t).item()
        if self.time == "index":
            label = int(min(max(round(label), 0), self.schedule.t_max))
        if kept is not None and len(kept) < MOST_KEPT:
            kept[t] = label
        return label

    @cached_property
    def _kept(self) -> tuple[dict[float, Numbers], dict[float, float | int]] | None:
        """Cache of preconditioning coefficients and labels by time; None if the schedule or the
        preconditioning is mutable."""
        return ({}, {}) if immutable(self.schedule) and immutable(self.precondition) else None

    def _numbers(self, t: float) -> Numbers:
        """Coefficients of the preconditioning at ``t``."""
        assert self.precondition is not None
        kept = None if self._kept is None else self._kept[0]
        if kept is not None and t in kept:
            return kept[t]
        found = self.precondition.numbers(self.schedule.node(t))
        if kept is not None and len(kept) < MOST_KEPT:
            kept[t] = found
        return found

    def raws(
        self, x_in: Tensor, t: Time, cond: Condition = None, channels: Sequence[str] = MAIN
    ) -> tuple[Tensor, ...]:
        """Call the network once with ``x_in`` (B, *shape). Raises ShapeError if its output has
        another shape.

        The network receives copies of ``x_in`` and of the tensors in ``cond``, because it may write
        into its inputs (in-place activations do); the state, ``cond`` and the caller's ``x=`` are
        not changed. Copying at every call needs no comparison, so nothing waits for a device; it
        costs one pass over the state, of which a network makes many.
        """
        if isinstance(self.network, torch.nn.Module) and self.network.training:
            warn_of_training(self.network)
        tensor("x_in", x_in, axes=1, meta=True)
        label, how = self.labels(t, x_in), self.passing
        own, cond = x_in.clone(), copied(cond)
        if how.style == "none" and cond is not None:
            raise ArgumentError(
                "a condition was given, and this network takes only (x, label); wrap one "
                "that takes (x, label, cond)"
            )
        if how.style == "none" or (cond is None and not how.always):
            output = self.network(own, label)
        else:
            output = (
                self.network(own, label, cond=cond)
                if how.style == "keyword"
                else self.network(own, label, cond)
            )
        raw = first_tensor(output)
        if raw.shape != x_in.shape:
            raise ShapeError(
                f"the network returned shape {tuple(raw.shape)} for a state of shape "
                f"{tuple(x_in.shape)}"
            )
        return (raw,)


@host_constant
def _constant_label(wrapped: Wrapped, t: float) -> float | int:
    """The label at the number ``t``, for ``torch.compile``."""
    if isinstance(wrapped.time, str):
        return wrapped._label(host_number(t))
    label: float | int = host_tensor([wrapped.exact_label(host_number(t))], t).item()
    return label


def wide_or_single(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64, float32 for all other dtypes."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def host_tensor(labels: Sequence[Any], t: Time) -> Tensor:
    """Return labels (numbers or one-element tensors) as one tensor on the CPU, int64 or float64.
    Raises ValueError if one is not finite."""
    values = [v.item() if hasattr(v, "item") else v for v in labels]
    bad = next((v for v in values if not math.isfinite(v)), None)
    if bad is not None:
        raise ArgumentError(
            f"the network's label is {bad} at t={t}; use a grid that stays where the label "
            "is finite"
        )
    return torch.tensor(
        values, dtype=torch.int64 if all(isinstance(v, int) for v in values) else torch.float64
    )


def wrap(
    network: Callable[..., Any],
    schedule: Schedule,
    prediction: str,
    time: Label = "t",
    flip_time: bool = False,
    precondition: Literal["edm"] | Preconditioning | None = None,
    shape: Sequence[int] | None = None,
    sigma_data: float | None = None,
    *,
    guided: bool = False,
    latent: bool = False,
) -> Wrapped:
    """Make a Denoiser from ``network(x_in, label)`` or ``network(x_in, label, cond)``.

    Args:
        network: takes (B, *shape) and a label (B,); returns a tensor (B, *shape), an object with
            ``.sample``, or a tuple or list whose first item is the tensor. Whether it takes
            ``cond`` is read from its signature once: see ``passing``.
        schedule: the noising path that the network was trained on.
        prediction: prediction type: x0, eps, v, velocity or score. ``velocity`` is along t of
            ``schedule``.
        time: the label: ``"t"`` the schedule's time; ``"index"`` the nearest index of the
            schedule's table (int64; the rounding error is ``time_mismatch(t)``); ``"sigma"``
            rho = sigma / alpha; ``"c_noise"`` log(rho) / 4, or the preconditioning's own; or a
            callable from t to the label, which receives a float or a float64 tensor and returns
            the same type.
        flip_time: the network's time runs from noise (0) to data (t_max): it receives
            ``t_max - t`` (so does a callable), and its velocity is d/d(t_max - t).
        precondition: ``"edm"`` for ``D = c_skip y + c_out F(c_in y)`` with ``sigma_data``
            (prediction must be x0), or a Preconditioning.
        shape: of one sample, without the batch; None if any shape is accepted.
        sigma_data: standard deviation of the data, in the units of the state; None if it is
            unknown. ``"edm"`` uses it, or 0.5 for None. The member ``sigma_data`` is this number,
            else the one that the preconditioning uses.
        guided: the network's prediction is that of a guided model (classifier-free guidance, say).
        latent: the samples are latents of an autoencoder.

    Raises UnknownName (with the nearest match) for names, ValueError for settings that exclude each
    other, and for a ``sigma_data`` that is not positive and finite or that differs from the
    preconditioning's, TypeError for a network that cannot be called.
    """
    if not callable(network):
        raise ArgumentTypeError(
            f"the network is a {type(network).__name__}, which cannot be called"
        )
    check_kind(prediction)
    if not isinstance(schedule, Schedule):
        raise ArgumentTypeError(f"schedule={shown(schedule)}: {_schedule_hint(schedule)}")
    if not callable(time) and not (isinstance(time, str) and time in TIMES):
        raise UnknownName(unknown("time", time, TIMES) + "; or a callable from t to the label")
    flag("flip_time", flip_time)
    if time == "index" and schedule.t_zero != -1.0:
        raise ArgumentError(
            f"time='index' needs a schedule made of a table (DiscreteVP), not {schedule!r}; "
            "give a callable from t to the label"
        )
    if flip_time and time in ("sigma", "c_noise"):
        raise ArgumentError(
            f"flip_time=True with time={time!r}: a noise level has no direction; allowed "
            "with 't', 'index' or a callable"
        )
    chosen, deviation = preconditioner(precondition, sigma_data)
    if chosen is not None and chosen.kind != prediction:
        raise ArgumentError(
            f"prediction={prediction!r}, but {chosen!r} predicts {chosen.kind!r} from the "
            "network's output"
        )
    size = None if shape is None else shape_of(shape)
    return Wrapped(
        network,
        schedule,
        prediction,
        time,
        flip_time,
        chosen,
        size,
        passing(network),
        sigma_data=deviation,
        guided=flag("guided", guided),
        latent=flag("latent", latent),
    )


#: short names of paths, and how their schedules are made
SCHEDULES = {
    "vp": "VPLinear()",
    "linear": "VPLinear()",
    "cosine": "VPCosine()",
    "sigmoid": "VPSigmoid()",
    "subvp": "SubVP()",
    "ddpm": "DiscreteVP.from_betas(betas)",
    "discrete": "DiscreteVP.from_betas(betas)",
    "ve": "VE()",
    "edm": "EDM()",
    "karras": "EDM()",
    "flow": "Flow()",
    "rectified": "Flow()",
    "trig": "Trig()",
}


def _schedule_hint(given: Any) -> str:
    """Suggest a replacement for ``given``, which is not a schedule."""
    if isinstance(given, type) and issubclass(given, Schedule):
        return f"must be a schedule, not its class: {given.__name__}(...)"
    word = given.lower().replace("_", "").replace("-", "") if isinstance(given, str) else ""
    near = next((made for name, made in SCHEDULES.items() if name == word), None) or next(
        (made for name, made in SCHEDULES.items() if word and word in made.lower()), "VPLinear()"
    )
    every = ", ".join(dict.fromkeys(SCHEDULES.values()))
    return f"must be a schedule, such as fewstep.schedules.{near}; allowed: {every}"


def preconditioner(
    precondition: str | Preconditioning | None, sigma_data: float | None
) -> tuple[Preconditioning | None, float | None]:
    """Return the Preconditioning of that name, and the standard deviation of the data:
    ``sigma_data``, else that of the Preconditioning. Raises UnknownName, and ArgumentError if
    either is not positive and finite or both differ."""
    given = None if sigma_data is None else float(between("sigma_data", sigma_data, 0.0))
    if precondition is None:
        return None, given
    if not isinstance(precondition, Preconditioning):
        if not isinstance(precondition, str) or precondition not in PRECONDITIONS:
            raise UnknownName(unknown("precondition", precondition, PRECONDITIONS))
        precondition = EDMPreconditioning(0.5 if sigma_data is None else sigma_data)
    own = precondition.sigma_data if isinstance(precondition, HasSigmaData) else None
    if own is None:
        return precondition, given
    own = float(between(f"{type(precondition).__name__}.sigma_data", own, 0.0))
    if given is not None and given != own:
        raise ArgumentError(
            f"sigma_data={shown(sigma_data)}, but {precondition!r} has sigma_data={own}: give one "
            "of them, or the same number"
        )
    return precondition, own


def shape_of(shape: Any) -> tuple[int, ...]:
    """Return ``shape`` of one sample as a tuple of integers. Raises ArgumentError unless it is a
    list of positive integers."""
    if isinstance(shape, str) or not isinstance(shape, Iterable) or getattr(shape, "ndim", 1) != 1:
        raise ArgumentError(f"shape={shape!r}: must be a tuple of integers, without the batch")
    return tuple(integer("shape", size, 1) for size in shape)
