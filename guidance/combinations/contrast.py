"""Guidance by the contrast of a model with a worse one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, shown
from ...models.denoiser import Condition, Denoiser
from ...models.wrapper import complete
from .branches import Branch
from .conditions import Fixed, Passed, Source, Without
from .scales import Scale, scale_of
from .weighted import Weighted

SAME: Literal["same"] = "same"


class Contrast(Weighted):
    """Guidance of one model by another: autoguidance (Karras et al. 2024, arXiv 2406.02507).

        m_w = m_ref + w (m_main - m_ref)

    Both models get the condition of the call, which may be None. ``ref`` is a worse model: smaller,
    less trained, or the same network perturbed (``Perturbed``). It may have another prediction
    kind, input scale and preconditioning than ``main``, on the same schedule. w = 1 is ``main``
    alone, and then ``ref`` is not called. Perturbed-attention guidance and its kin count their
    scale as s = w - 1; ``PAG`` takes s, and adds classifier-free guidance.

    Channels: ``main``, ``model`` (the prediction of ``main``), ``ref``.
    """

    def __init__(
        self,
        main: Denoiser,
        ref: Denoiser,
        w: float | Callable[[float], float] | Tensor,
        *,
        interval: Sequence[float] | None = None,
        ref_cond: Condition | Literal["same"] = SAME,
    ) -> None:
        """Args:
            main, ref: the models, on the same schedule and shape.
            w: a number; a function of ``rho = sigma / alpha`` that returns a number, such as
                ``Ramp``; or a tensor, (B,) with one for each sample or () with a gradient.
            interval: (lo, hi): w = 1 unless ``lo < rho <= hi``.
            ref_cond: condition of ``ref``: "same", that of the call; None, without one; or a
                condition with batch size 1 or B.

        Raises ArgumentError for a scale that is not finite, models on different schedules or
        shapes, sizes that do not fit, and a ``ref`` that is ``main`` itself with the same
        condition.
        """
        own, other = complete(main), complete(ref)
        source = _source(ref_cond)
        if own is other and isinstance(source, Passed):
            raise ArgumentError(
                "main and ref are the same model with the same condition, so there is no contrast; "
                "pass another model, Perturbed(...) or ref_cond="
            )
        branches = [Branch("model", own, Passed()), Branch("ref", other, source)]
        super().__init__(branches, [scale_of(w, own.schedule, interval, "w")])

    @property
    def scale(self) -> Scale:
        """The guidance scale w."""
        return self.scales[0]

    @override
    def shares(self, scales: Sequence[Any]) -> tuple[Any, ...]:
        (w,) = scales
        return w, 1.0 - w


def _source(cond: Condition | str) -> Source:
    """Return the source of the condition of ``ref``."""
    if isinstance(cond, str):
        if cond != SAME:
            raise ArgumentError(
                f"ref_cond={shown(cond)}: must be 'same', None, or a condition (a tensor or a "
                "mapping of tensors)"
            )
        return Passed()
    return Without() if cond is None else Fixed(cond, "ref_cond")
