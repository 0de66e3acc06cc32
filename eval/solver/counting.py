"""A wrapper that counts a denoiser's calls, the rows of their batches, and derivatives through it.

Derivatives are detected by identity autograd functions: at the network's outputs, where a
forward-mode product (jvp) leaves and a reverse pass (vjp) begins, and at its input, where a reverse
pass arrives. A second derivative arrives without having begun, so the number of reverse passes is
the larger of the two counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from ...models.base import MAIN, read_raws
from ...models.denoiser import Condition, Denoiser, Time
from ...models.wrapper import Wrapper

#: cost of a Jacobian product in addition to its forward evaluation, in evaluations: forward mode
#: carries one tangent; a reverse pass costs about two forward passes where weights need gradients,
#: between one and two where only the input does
JVP_WEIGHT, VJP_WEIGHT = 1.0, 2.0


@dataclass(frozen=True)
class Cost:
    """Counts of network evaluations.

    Attributes:
        calls, rows: forward evaluations, and rows of their batches (guidance that joins two
            branches in one batch makes one call with twice the rows).
        jvps, jvp_rows: forward-mode Jacobian products.
        vjps, vjp_rows: reverse passes.
        unconditional_calls, unconditional_rows: forward evaluations without a condition.
    """

    calls: int = 0
    rows: int = 0
    jvps: int = 0
    jvp_rows: int = 0
    vjps: int = 0
    vjp_rows: int = 0
    unconditional_calls: int = 0
    unconditional_rows: int = 0

    def evaluations(self, batch: int) -> float:
        """Forward evaluations per sample, for ``batch`` samples."""
        return self.rows / batch

    def equivalents(self, batch: int, jvp: float = JVP_WEIGHT, vjp: float = VJP_WEIGHT) -> float:
        """Evaluations per sample, for ``batch`` samples, with derivatives at these weights."""
        return (self.rows + jvp * self.jvp_rows + vjp * self.vjp_rows) / batch


class Tally:
    """Counters of passes and rows by kind of pass, filled by ``_Gate``."""

    def __init__(self) -> None:
        self.passes: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()

    def add(self, what: str, rows: int) -> None:
        """One pass over ``rows`` rows."""
        self.passes[what] += 1
        self.rows[what] += rows

    def cost(self) -> Cost:
        """The counts as a ``Cost``."""
        passes, rows = self.passes, self.rows
        return Cost(
            calls=passes["forward"] + passes["unconditional"],
            rows=rows["forward"] + rows["unconditional"],
            jvps=passes["jvp"],
            jvp_rows=rows["jvp"],
            vjps=max(passes["begins"], passes["arrives"]),
            vjp_rows=max(rows["begins"], rows["arrives"]),
            unconditional_calls=passes["unconditional"],
            unconditional_rows=rows["unconditional"],
        )


class _Gate(torch.autograd.Function):
    """Identity on tensors that counts passes; ``names`` are the kinds that a value, a tangent and a
    cotangent count as ("": not counted)."""

    @staticmethod
    def forward(
        tally: Tally, rows: int, names: tuple[str, str, str], *values: Tensor | None
    ) -> Any:
        if names[0]:
            tally.add(names[0], rows)
        return tuple(None if v is None else v.view_as(v) for v in values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.tally, ctx.rows, ctx.names = inputs[:3]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return (None, None, None, *_gate(ctx.tally, ctx.rows, (ctx.names[2], "", ""), *grads))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _gate(ctx.tally, ctx.rows, (ctx.names[1], "", ""), *tangents[3:])

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, tally: Tally, rows: int, names: tuple[str, str, str], *values: Any
    ) -> Any:
        return _gate(tally, rows * info.batch_size, names, *values), tuple(in_dims[3:])


_gate: Any = _Gate.apply


class Counting(Wrapper):
    """``denoiser`` with its calls counted.

    ``calls`` is the number of network evaluations, ``times`` are their times (of the noisiest
    sample; NaN inside ``torch.func.vmap``), ``cost`` holds all counts. Jacobian products batched by
    ``torch.autograd.grad(..., is_grads_batched=True)`` count as one pass, because their number is
    not visible; those of ``torch.func`` count all their rows.
    """

    same_predictions = True

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser)
        self.times: list[float] = []
        self._tally = Tally()

    @property
    def calls(self) -> int:
        """Network evaluations so far."""
        return len(self.times)

    @property
    def cost(self) -> Cost:
        """Counts so far."""
        return self._tally.cost()

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        def ask(x: Tensor, t: Time, cond: Condition) -> tuple[Tensor, ...]:
            return read_raws(self.denoiser, x, t, cond, channels, to)

        return self._counted(ask, x_in, t, cond)

    @override
    def __call__(self, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        return self._counted(lambda *a: (self.denoiser(*a),), x, t, cond)[0]

    def _counted(self, ask: Any, x: Tensor, t: Time, cond: Condition) -> tuple[Tensor, ...]:
        self.times.append(_number(t))
        rows = x.shape[0]
        (x,) = _gate(self._tally, rows, ("", "", "arrives"), x)
        what = "forward" if cond is not None else "unconditional"
        answers: tuple[Tensor, ...] = _gate(
            self._tally, rows, (what, "jvp", "begins"), *ask(x, t, cond)
        )
        return answers


def _number(t: Any) -> float:
    try:
        return float(torch.as_tensor(t).detach().max())
    except RuntimeError:  # a batched tensor of torch.func.vmap has no numbers
        return math.nan
