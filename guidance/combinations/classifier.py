"""Classifier guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import (
    ArgumentError,
    FewstepError,
    UnknownName,
    described,
    flag,
    shown,
    unknown,
)
from ...models.base import MAIN, read_coefficients, read_raws
from ...models.denoiser import Condition, Denoiser, Time, combine, host_times
from ...models.wrapper import Wrapper
from ...schedules.kinds import ConversionError, parts
from .conditions import Null, Passed, Source
from .scales import scale_of

#: ``log_prob(x, t, cond)`` returns log p(cond | x_t = x) of each sample, (B,)
LogProb = Callable[[Tensor, Time, Condition], Tensor]


class LogProbError(FewstepError, ArithmeticError):
    """The gradient of a log-probability is NaN or infinite."""


class Classifier(Wrapper):
    """Classifier guidance (Dhariwal & Nichol 2021, arXiv 2105.05233, algorithm 2).

        score' = score + w g,    g = grad_x log p(c | x_t = x)
        x0' = x0 + w (sigma^2 / alpha) g,    eps' = eps - w sigma g

    p is any differentiable log-probability of a condition given the noisy state: a classifier that
    was trained on noisy data, or a likelihood. g is computed in each call by automatic
    differentiation of ``log_prob`` alone, not of the network; in a run with gradients (``grad=``)
    it is differentiated in turn. It is a further raw output, so that the combination folds into the
    step. w = 1 is Bayes' rule; other w do not sample from ``p(x) p(c | x)^w``.

    At alpha = 0 the term is the product of 0 and infinity: a grid that begins there is refused
    unless ``interval`` leaves the first time out. One network call of B rows, and one forward and
    backward pass of ``log_prob``. Channels: ``main``, ``model`` (without guidance).
    """

    guided = True
    channels = (*MAIN, "model")

    def __init__(
        self,
        denoiser: Denoiser,
        log_prob: LogProb,
        scale: float | Callable[[float], float] | Tensor = 1.0,
        *,
        conditional: bool = False,
        interval: Sequence[float] | None = None,
    ) -> None:
        """Args:
            denoiser: the model.
            log_prob: ``log_prob(x, t, cond)`` returns (B,) for the state ``x`` (B, *shape), in its
                dtype, the time ``t`` (a number, () or (B,)) and the condition of the call, which
                may be None. Data of single samples belong into ``cond``, which follows a batch.
            scale: w: a number; a function of ``rho = sigma / alpha``; or a tensor, (B,) with one
                for each sample.
            conditional: also pass the condition to the model; by default it gets its
                unconditional one.
            interval: (lo, hi): w = 0 unless ``lo < rho <= hi``.

        Raises ArgumentError for a scale that is not finite. A call raises ArgumentError in
        ``torch.inference_mode`` and for a ``log_prob`` whose result has another shape or no
        gradient; LogProbError for a gradient that is not finite (on the CPU; elsewhere the run
        finds it at its end).
        """
        super().__init__(denoiser)
        if not callable(log_prob):
            raise ArgumentError(f"log_prob={shown(log_prob)}: must be a function (x, t, cond)")
        self.log_prob = log_prob
        self.scale = scale_of(scale, self.schedule, interval, outside=0.0)
        self.conditional = flag("conditional", conditional)
        own = self.scale.batch
        if own not in (None, 1):
            if self.denoiser.batch not in (None, own):
                raise ArgumentError(
                    f"scale has {own} values, the model is for {self.denoiser.batch} samples"
                )
            self.batch = own

    @property
    def source(self) -> Source:
        """Origin of the model's condition."""
        return Passed() if self.conditional else Null(self.denoiser)

    @override
    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        """Return those of the model, and that of g. Raises ConversionError at alpha = 0, and
        UnknownName for a channel that this denoiser has not."""
        if channel not in self.channels:
            raise UnknownName(unknown("channel", channel, self.channels))
        p, qs = read_coefficients(self.denoiser, t)
        return p, (*qs, self._factor(t) if channel == "main" else 0.0)

    def _factor(self, t: float) -> float:
        """The coefficient of g in the prediction."""
        w = 1.0 if self.scale.tensor is not None else self.scale.at(t)
        if not w or not self.scale.inside(t):
            return 0.0
        node = self.schedule.node(t)
        x0, eps = parts(self.prediction, node)
        if x0 and node.alpha == 0.0:
            raise ConversionError(
                f"classifier guidance is not defined at alpha = 0 (t={t}), where it is 0 times "
                "infinity; leave the time out with interval=(0, hi), hi finite, or begin the grid "
                "later (times=)"
            )
        added = x0 * node.sigma * node.sigma / node.alpha if x0 else 0.0
        return w * (added - eps * node.sigma)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        times = host_times(t, x_in.shape[0])
        own = self.source.of(cond, x_in.shape[0], times)
        inner = read_raws(self.denoiser, x_in, t, own, MAIN, to)
        if "main" not in channels or not any(self.scale.at(v) for v in times):
            return (*inner, inner[0])  # nothing reads it
        x = combine([x_in], [[1.0 / self.denoiser.input_scale(v) for v in times]])
        g = gradient(self.log_prob, x, t, cond)
        if self.scale.tensor is not None:
            g = g * self.scale.column(times, x)
        return (*inner, g.to(x_in.dtype))

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        _refuse_inference()
        self.scale.check(batch)
        self.denoiser.check_cond(self.source.of(cond, batch), batch)

    @override
    def select(self, rows: Tensor) -> Self:
        made = self._around(self.denoiser.select(rows))
        scale = self.scale.select(rows)
        if scale is self.scale:
            return made
        made = copy(self) if made is self else made
        made.scale, made.batch = scale, len(rows)
        return made

    def __repr__(self) -> str:
        text = f"{self.denoiser!r}, {self.scale}, conditional={self.conditional}"
        return f"Classifier({text}, interval={self.scale.interval})"


def gradient(log_prob: LogProb, x: Tensor, t: Time, cond: Condition) -> Tensor:
    """Return ``grad_x log_prob(x, t, cond)``, shaped like ``x`` (B, *shape), of each sample. It
    has a graph itself where gradients are recorded."""
    _refuse_inference()
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = x
        if not (graph and x.requires_grad):
            leaf = (x.clone() if x.is_inference() else x).detach().requires_grad_(True)
        value = log_prob(leaf, t, cond)
        if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
            raise ArgumentError(
                f"log_prob returned {described(value)}; it must be a tensor of shape "
                f"{tuple(x.shape[:1])}, one number per sample"
            )
        found = None
        if value.requires_grad:
            (found,) = torch.autograd.grad(value.sum(), leaf, create_graph=graph, allow_unused=True)
    if found is None:
        raise ArgumentError(
            "log_prob returned a value that does not depend on x differentiably: do not detach x, "
            "do not compute under torch.no_grad()"
        )
    if found.device.type == "cpu" and not bool(torch.isfinite(found).all()):
        bad = [i for i, row in enumerate(torch.isfinite(found).flatten(1).all(1)) if not row]
        raise LogProbError(
            f"the gradient of log_prob is not finite at t={shown(t)}, samples {bad} of the batch"
        )
    return found


def _refuse_inference() -> None:
    if torch.is_inference_mode_enabled():
        raise ArgumentError(
            "classifier guidance differentiates log_prob, which torch.inference_mode does not "
            "allow; use torch.no_grad()"
        )
