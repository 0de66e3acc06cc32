"""``Prompted``, the base class of guidance by a condition: a conditional and an unconditional
prediction of one model, and a scale."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...models.denoiser import Condition, Denoiser
from ...models.wrapper import complete
from .branches import Branch
from .conditions import Given, Source, unconditional
from .scales import Scale, scale_of
from .weighted import Weighted


class Prompted(Weighted):
    """Guidance from a conditional prediction ``m_c`` and an unconditional one ``m_u``.

    Channels: ``main``, ``uncond``, ``cond``. The condition is ``cond=`` of the call; it is
    required. A call makes one network call of 2 B rows, in the order (uncond, cond). It makes one
    of B rows where the scale is 1 and nothing reads the other branch.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: Any,
        uncond: Condition,
        interval: Sequence[float] | None,
        kind: str | None,
        source: Source | None = None,
    ) -> None:
        """``kind``: that in which ``mix`` combines; None: the linear combination, which folds into
        the step unless the scale is a tensor. ``source``: of the unconditional branch's condition,
        by default ``uncond`` or the model's own."""
        model = complete(denoiser)
        null = unconditional(model, uncond) if source is None else source
        branches = [
            Branch("uncond", model, null),
            Branch("cond", model, Given(type(self).__name__)),
        ]
        super().__init__(branches, [scale_of(scale, model.schedule, interval)], kind)

    @property
    def scale(self) -> Scale:
        """The guidance scale w."""
        return self.scales[0]

    @override
    def shares(self, scales: Sequence[Any]) -> tuple[Any, ...]:
        (w,) = scales
        return 1.0 - w, w

    @override
    def mix(self, values: Sequence[Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
        uncond, cond = values
        return guided(cond, uncond, self.scale.column(times, x))

    def __repr__(self) -> str:
        shown = [repr(self.denoiser), str(self.scale)]
        if self.scale.interval is not None:
            shown.append(f"interval={self.scale.interval}")
        names = [*inspect.signature(type(self).__init__).parameters][1:]
        shown += [f"{name}={vars(self)[name]!r}" for name in names[1:] if name in self._options]
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def _options(self) -> set[str]:
        """Names of the further options, which are attributes."""
        return vars(self).keys() - {"denoiser", "scale", "interval"}


def guided(cond: Tensor, uncond: Tensor, w: Tensor) -> Tensor:
    """Return ``m_u + w (m_c - m_u)``, in float32 or better; ``w`` broadcasts
    against (B, *shape)."""
    base = uncond.to(w.dtype)
    return base + w * (cond.to(w.dtype) - base)
