"""Ancestral sampling: the exact posterior step."""

from __future__ import annotations

from ..registry import NoOptions, Now, register
from ..transition import DiscreteTransition


@register(
    "ancestral",
    source="Austin et al. 2021, arXiv 2107.03006, eq. 3-4; Sahoo et al. 2024, 2406.07524, eq. 7",
)
def ancestral(now: Now, options: NoOptions) -> DiscreteTransition:
    """Each position is drawn from its exact posterior ``sum_i p(i) q(x_s | x_t, x0 = i)``.

    Masked: a mask becomes a token of p with probability ``(alpha_s - alpha_t)/(1 - alpha_t)``, and
    at the end every mask left is drawn from p (not its arg-max). Exact for any number of steps
    where the tokens are independent; otherwise the error is that of revealing several at once.
    """
    return now.law(now.path.step(now.probs, now.x, now.t, now.s))
