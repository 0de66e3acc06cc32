"""Composition of several conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, shown
from ...models.base import MAIN
from ...models.denoiser import Condition, Denoiser, Time
from ...models.wrapper import complete
from .branches import Branch
from .conditions import Fixed, Given, Null, Source, unconditional
from .scales import scale_of
from .weighted import Weighted


class Compose(Weighted):
    """Composition of conditions (Liu et al. 2022, arXiv 2206.01714).

        m = m_u + sum_i w_i (m_i - m_u)

    m_i is the prediction for the i-th condition, m_u the unconditional one. w_i > 0 asks for a
    condition, w_i < 0 for its absence (negation), w_i = 0 leaves it out. At t = 0 the score is that
    of ``p_u prod_i (p_i / p_u)^w_i``; at other times it is not that of the noised product, so the
    samples are not those of the product.

    The n + 1 predictions come from one network call of (n + 1) B rows, in the order (uncond,
    cond_1, ...); a condition whose weight is 0 at a noise level is left out. Channels: ``main``,
    ``uncond``, ``cond_1``, ``cond_2``, ...
    """

    def __init__(
        self,
        denoiser: Denoiser,
        conds: Sequence[Condition],
        scales: Sequence[float | Callable[[float], float] | Tensor],
        uncond: Condition = None,
    ) -> None:
        """Args:
            denoiser: the model.
            conds: the conditions, each with batch size 1 or B. None, once at most, stands for the
                condition ``cond=`` of the call; without it ``cond=`` is refused.
            scales: the weights w_i, one for each condition: a number; a function of ``rho = sigma /
                alpha``; or a tensor, (B,) with one for each sample or () with a gradient.
            uncond: the unconditional condition, with batch size 1 or B. Default: the model's own.

        Raises ArgumentError for weights that are not finite, another number of weights than
        conditions, and sizes that do not fit.
        """
        model = complete(denoiser)
        sources = _sources(conds)
        if not isinstance(scales, (list, tuple)):
            raise ArgumentError(
                f"scales={shown(scales)}: must be a list with one weight for each condition"
            )
        if len(scales) != len(sources):
            raise ArgumentError(
                f"{len(scales)} scales for {len(sources)} conditions: pass one for each"
            )
        self.open = any(isinstance(source, Given) for source in sources)
        null = unconditional(model, uncond)
        if isinstance(null, Null) and not self.open:
            null = Null(model, sources[0])
        branches = [Branch("uncond", model, null)]
        branches += [Branch(f"cond_{i}", model, s) for i, s in enumerate(sources, 1)]
        own = [scale_of(w, model.schedule, name=f"scales[{i}]") for i, w in enumerate(scales)]
        super().__init__(branches, own)

    @override
    def shares(self, scales: Sequence[Any]) -> tuple[Any, ...]:
        return 1.0 - sum(scales), *scales

    def _refuse(self, cond: Condition) -> None:
        if cond is not None and not self.open:
            raise ArgumentError(
                "cond= of the call with Compose, which has its conditions: leave it out, or put "
                "None into conds where it belongs"
            )

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        self._refuse(cond)
        super().check_cond(cond, batch)

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        self._refuse(cond)
        return super().raws(x_in, t, cond, channels, to)


def _sources(conds: Sequence[Condition]) -> list[Source]:
    """Return the sources of the conditions; None is that of the call."""
    if not isinstance(conds, (list, tuple)) or not conds:
        raise ArgumentError(
            f"conds={shown(conds)}: must be a list of conditions, each a tensor, a mapping of "
            "tensors, or None for the condition of the call"
        )
    if sum(cond is None for cond in conds) > 1:
        raise ArgumentError("conds has more than one None: the call has one condition")
    return [
        Given("Compose") if cond is None else Fixed(cond, f"conds[{i}]")
        for i, cond in enumerate(conds)
    ]
