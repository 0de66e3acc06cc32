"""Guidance by a perturbed network, with or without classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError
from ...models.denoiser import Condition, Denoiser
from ...models.wrapper import complete
from .branches import Branch
from .conditions import Given, Passed, unconditional
from .scales import scale_of
from .weighted import Weighted

Value = float | Callable[[float], float] | Tensor


class PAG(Weighted):
    """Perturbed-attention guidance (Ahn et al. 2024, arXiv 2403.17377), with classifier-free
    guidance if ``cfg`` is given.

        m = m_c + s (m_c - m_p) + (w - 1) (m_c - m_u)

    m_c is the prediction for the condition ``cond=`` of the call, m_u the unconditional one, and
    m_p that of a perturbed network for ``cond=``. The formula is also that of smoothed-energy
    guidance (Hong 2024, arXiv 2408.00760), skip-layer guidance, spatio-temporal skip guidance
    (Hyung et al. 2024, arXiv 2411.18664): they differ in what is perturbed. The perturbation is
    yours (``Perturbed``): PAG replaces the maps of some self-attention layers by the identity, SEG
    blurs their queries, SLG and STG skip layers.

    s = 0 is no guidance by the perturbed network; without ``cfg`` the result is that of
    ``Contrast(denoiser, perturbed, s + 1)``. Channels: ``main``, ``cond``, ``perturbed``, and with
    ``cfg`` ``uncond``, whose prediction comes from one call together with ``cond``.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        perturbed: Denoiser,
        scale: Value,
        *,
        cfg: Value | None = None,
        uncond: Condition = None,
        interval: Sequence[float] | None = None,
    ) -> None:
        """Args:
            denoiser, perturbed: the model and the perturbed one.
            scale: s: a number (3 in both papers); a function of ``rho = sigma / alpha``; or a
                tensor, (B,) with one for each sample or () with a gradient.
            cfg: w of classifier-free guidance, like ``scale``; 1 is no guidance. None: there is no
                unconditional prediction, and ``cond=`` may be None.
            uncond: the unconditional condition, as in ``CFG``; only with ``cfg``.
            interval: (lo, hi): s = 0 unless ``lo < rho <= hi``.

        Raises ArgumentError for a scale that is not finite, models that do not fit together, sizes
        that do not fit, and ``uncond`` without ``cfg``.
        """
        own, other = complete(denoiser), complete(perturbed)
        if own is other:
            raise ArgumentError(
                "perturbed is the denoiser itself: pass another model, such as Perturbed(...)"
            )
        if cfg is None and uncond is not None:
            raise ArgumentError("uncond= without cfg=: there is no unconditional prediction")
        source = Passed() if cfg is None else Given(type(self).__name__)
        branches = [Branch("cond", own, source), Branch("perturbed", other, source)]
        scales = [scale_of(scale, own.schedule, interval, outside=0.0)]
        if cfg is not None:
            branches.insert(0, Branch("uncond", own, unconditional(own, uncond)))
            scales.append(scale_of(cfg, own.schedule, name="cfg"))
        super().__init__(branches, scales)

    @override
    def shares(self, scales: Sequence[Any]) -> tuple[Any, ...]:
        s, *cfg = scales
        if not cfg:
            return 1.0 + s, -s
        (w,) = cfg
        return 1.0 - w, w + s, -s
