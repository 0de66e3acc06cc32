"""``Metric``: the loss on end states that a plan is distilled to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...checks import shown
from ...models.denoiser import Condition
from .losses import short
from .trajectories import Model, TuneError, rows_of

#: bootstrap resamples of a loss per sample, and of a loss of the whole batch
_RESAMPLES, _FEW = 400, 40


Loss = Callable[[Tensor, Condition], Any]


class Metric:
    """A loss ``function(x, cond)`` of end states (B, *shape), in the model's dtype, and their
    conditions: a tensor () for all of them, or (B,), whose mean counts; lower is better.

    TuneError where it returns anything else.
    """

    def __init__(self, function: Any, model: Model) -> None:
        if not callable(function):
            raise TuneError(f"loss={shown(function)}: must be a function of samples and conditions")
        self.function: Loss = function
        self.dtype = model.dtype
        self.calls = 0

    @property
    def name(self) -> str:
        """The name of the function."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def values(self, end: Tensor, cond: Condition) -> Tensor:
        """The loss () or (B,) of the end states."""
        self.calls += 1
        made = self.function(end.to(self.dtype), cond)
        if not isinstance(made, Tensor):
            made = torch.as_tensor(made)
        if made.shape not in ((), (len(end),)) or made.is_complex():
            raise TuneError(
                f"loss={self.name}: returned shape {tuple(made.shape)} for {len(end)} samples; "
                f"allowed: one number, or one for each sample, ({len(end)},)"
            )
        return made.double()

    def value(self, end: Tensor, cond: Condition) -> float:
        """The loss as a number, inf where it is none."""
        with torch.no_grad():
            found = float(self.values(end, cond).mean())
        return found if math.isfinite(found) else math.inf

    def refuse_nan(self, end: Tensor, cond: Condition) -> None:
        """TuneError where the loss of converged end states is no number."""
        if self.value(end, cond) == math.inf:
            raise TuneError(
                f"distill: loss={self.name} is no number for the model's own converged samples, "
                "so nothing can be distilled to it"
            )

    def slope(self, end: Tensor, cond: Condition) -> Tensor | None:
        """The derivative of the loss by the end states; None where autograd finds none."""
        with torch.enable_grad():
            x = end.detach().clone().requires_grad_()
            found = self.values(x, cond).mean()
            if not found.requires_grad:
                return None
            (slope,) = torch.autograd.grad(found, x, allow_unused=True)
        return slope

    def compared(self, ends: dict[str, Tensor], cond: Condition) -> dict[str, Any]:
        """The loss of each of ``ends`` with a 95 % bootstrap interval (``low``, ``high``), centred
        on it, and that of ``gain``, the first less the second, over the same resamples."""
        whole = {name: self._detached(end, cond) for name, end in ends.items()}
        single = any(v.ndim == 0 for v in whole.values())
        count = len(next(iter(ends.values())))
        draws = torch.Generator().manual_seed(0)
        picks = torch.randint(count, (_FEW if single else _RESAMPLES, count), generator=draws)
        found = {}
        for name, values in whole.items():
            if single:
                rows = [
                    self._detached(ends[name][p.to(ends[name].device)], rows_of(cond, p)).mean()
                    for p in picks
                ]
                found[name] = torch.stack(rows).cpu()
            else:
                found[name] = values.cpu()[picks].mean(1)
        centres = {name: float(values.mean()) for name, values in whole.items()}
        (a, b) = ends
        found["gain"], centres["gain"] = found[a] - found[b], centres[a] - centres[b]
        return {name: _interval(centres[name], found[name]) for name in found}

    def _detached(self, end: Tensor, cond: Condition) -> Tensor:
        with torch.no_grad():
            return self.values(end, cond)


def _interval(centre: float, draws: Tensor) -> dict[str, float | None]:
    if not bool(torch.isfinite(draws).all()):
        return {"loss": told(centre), "low": None, "high": None}
    low, middle, high = draws.quantile(torch.tensor([0.025, 0.5, 0.975]).to(draws)).tolist()
    return {
        "loss": told(centre),
        "low": told(centre + low - middle),
        "high": told(centre + high - middle),
    }


def told(value: float) -> float | None:
    """A number of a report; None for none."""
    return short(value) if math.isfinite(value) else None
