r"""DiffusionNFT: fine-tuning by rewards on the forward process, without log-probabilities.

Zheng et al. 2025, arXiv 2509.16117. Samples x0 of the old model, by any sampler, with
rewards r in [0, 1] are noised again, ``x_t = alpha x0 + sigma eps``. With the prediction m of the
model in training, m_old of the old one, and the target m* of the same kind (velocity, x0 or eps),

    m+ = b m + (1 - b) m_old           m- = (1 + b) m_old - b m
    L  = r |m+ - m*|^2 + (1 - r) |m- - m*|^2

Given x_t, the minimiser is

    m = m_old + (1 / b) E[(2 r - 1)(m* - m_old) | x_t]

so r = 1/2 changes nothing, and rewards above and below it pull and push. The authors' code takes
the squares in x0 space, divides each by its mean absolute error (``weighting="adaptive"``) and the
loss by b. All kinds give the same loss but for a factor of the noise level, since the weights of
m+ and m- sum to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import checks
from ...checks import ArgumentError
from ...models.exact import wide
from .arguments import alike, constant, finite, reduced, widened

WEIGHTINGS = ("unit", "adaptive")


def nft_reward(advantage: Tensor, limit: float = 5.0) -> Tensor:
    """Return ``r = clip(advantage / limit, -1, 1) / 2 + 1/2`` in [0, 1], for ``nft_loss``.

    ``advantage``: of any shape, finite, as ``group_advantages(rewards, groups)`` makes it.
    """
    checks.between("limit", limit, 0.0)
    return (finite("advantage", advantage) / limit).clamp(-1.0, 1.0) / 2.0 + 0.5


def nft_loss(
    prediction: Tensor,
    old: Tensor,
    target: Tensor,
    r: Tensor,
    b: float = 1.0,
    *,
    weighting: str = "unit",
    reduction: str = "mean",
) -> Tensor:
    """Return ``(r |m+ - m*|^2 w+ + (1 - r) |m- - m*|^2 w-) / b``, the squares averaged over the
    elements of a sample, the result over the batch.

    Args:
        prediction: (B, *shape), the model in training at x_t: velocity, x0 or eps.
        old: of the model that drew the samples, at the same x_t and t, without gradients.
        target: of the same kind, made of x0 and eps: eps - x0 for the velocity of ``Flow``.
        r: (B,), rewards in [0, 1], as ``nft_reward`` makes them.
        b: the beta of the paper, positive: how far m+ and m- are from m_old. 1 and 0.1 are theirs.
        weighting: ``"unit"``: w = 1, the loss of the paper. ``"adaptive"``: w the inverse of the
            mean absolute error of m+ (of m-), at least 1e-5, taken as a constant, as in the
            authors' code; give x0 predictions for their loss. Its minimiser has no closed form.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, which gives (B,).

    The authors' code multiplies by the limit of the advantages, and adds ``1e-4 |v - v_ref|^2``
    for a reference model.
    """
    checks.between("b", b, 0.0)
    checks.choice("weighting", weighting, WEIGHTINGS)
    m, m_old = widened("prediction", prediction), constant("old", old)
    wanted = constant("target", target)
    alike("prediction", m, "old", m_old)
    alike("prediction", m, "target", wanted)
    share = _share(r, 1, m)
    positive = _error(b * m + (1.0 - b) * m_old, wanted, weighting)
    negative = _error((1.0 + b) * m_old - b * m, wanted, weighting)
    return reduced((share * positive + (1.0 - share) * negative) / b, reduction)


def nft_minimiser(
    old: Tensor,
    targets: Tensor,
    r: Tensor,
    b: float = 1.0,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the minimiser ``m_old + (1 / b) E[(2 r - 1)(m* - m_old) | x_t]`` (B, *shape) of the
    unit-weighted ``nft_loss``, the expectation as a mean over S draws of ``x0 | x_t``.

    Args:
        old: (B, *shape), the old prediction at x_t.
        targets: (S, B, *shape), the target of each draw, of the same kind.
        r: (S, B), its reward in [0, 1].
        b: as in ``nft_loss``.
        weights: (S, B), non-negative weights of the draws, such as ``p(x_t | x0)`` of draws of
            x0, or those of a quadrature; they are divided by their sum. None: equal.
    """
    checks.between("b", b, 0.0)
    m_old, wanted = constant("old", old), constant("targets", targets, 2)
    if wanted.shape[1:] != m_old.shape:
        raise ArgumentError(
            f"targets has shape {tuple(wanted.shape)}: must be (draws, *{tuple(m_old.shape)}), by "
            "the shape of old"
        )
    share = _share(r, 2, wanted)
    w = torch.ones_like(share) if weights is None else finite("weights", weights, 2)
    alike("weights", w, "r", share)
    if not bool((w >= 0.0).all() and (w.sum(0) > 0.0).all()):
        raise ArgumentError("weights must be non-negative, with a positive sum for each sample")
    pull = (2.0 * share - 1.0) * w / w.sum(0)
    pull = pull.reshape(*pull.shape, *(1,) * (wanted.ndim - 2))
    return m_old + (pull * (wanted - m_old)).sum(0) / b


def nft_decay(step: int, *, flat: int = 0, rate: float = 0.001, most: float = 0.5) -> float:
    """Return the decay of the old model's parameters after ``step`` steps: 0 before ``flat``, then
    ``min((step - flat) rate, most)``; ``old = decay old + (1 - decay) new``.

    The authors' code has (0, 0, 0), the old model is always the last one; (0, 0.001, 0.5), the
    default; and (75, 0.0075, 0.999).
    """
    checks.integer("step", step, 0)
    checks.integer("flat", flat, 0)
    checks.number("rate", rate, 0.0)
    checks.number("most", most, 0.0, 1.0)
    return 0.0 if step < flat else min((step - flat) * rate, most)


def _share(r: Tensor, axes: int, like: Tensor) -> Tensor:
    """Return ``r`` if it is in [0, 1] and has the first ``axes`` axes of ``like``."""
    found = finite("r", r)
    if found.shape != like.shape[:axes]:
        raise ArgumentError(
            f"r has shape {tuple(found.shape)}: must be {tuple(like.shape[:axes])}, for "
            f"predictions of shape {tuple(like.shape)}"
        )
    if not bool(((found >= 0.0) & (found <= 1.0)).all()):
        raise ArgumentError(
            f"r must be in [0, 1], got values from {float(found.min())} to {float(found.max())}; "
            "nft_reward makes it of advantages"
        )
    return found


def _error(mixed: Tensor, target: Tensor, weighting: str) -> Tensor:
    """Return the weighted mean square (B,) of ``mixed - target``."""
    difference = (mixed - target).flatten(1)
    square = difference.square().mean(1)
    if weighting == "unit":
        return square
    size = difference.detach().to(wide(difference.device)).abs().mean(1).clamp(min=1e-5)
    return square / size.to(square.dtype)
