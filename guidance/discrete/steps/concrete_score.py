"""The analytic step of concrete scores."""

from __future__ import annotations

from ..path import DiscretePath
from ..registry import NoOptions, Now, register
from ..transition import DiscreteTransition


def _check(path: DiscretePath, times: tuple[float, ...], options: NoOptions) -> None:
    for t in times[:-1]:
        path.finite(t, "concrete scores")


@register("concrete_score", source="Lou et al. 2023, arXiv 2310.16834, alg. 2", check=_check)
def concrete_score(now: Now, options: NoOptions) -> DiscreteTransition:
    """``P(v) prop [e^{-ds Q} score]_v q(x_t | x_s = v)``, the step of networks that predict scores.

    With the exact score it is the ancestral step. Negative values, which only a network with an
    error gives, are set to 0. The last step, to t = 0, never leaves a mask. It needs alpha(t) > 0.
    """
    return now.law(now.path.score_step(now.scores, now.x, now.t, now.s))
