r"""DDO, direct discriminative optimisation: a model fine-tuned as its own discriminator.

Zheng et al. 2025, arXiv 2503.01103, who published no training code. With a fixed reference model,
the log-ratio ``Delta(x) = log p(x) - log p_ref(x)`` is the logit of a discriminator of data and
samples of the reference, and the loss is that of a GAN's discriminator:

    L = -E_data log sigmoid(Delta) - a E_ref log(1 - sigmoid(Delta))

At a = 1 the minimum over all p is p = p_data. For a diffusion model the log-ratio is a mean over
(t, eps), the same for both models, of

    -b w(t) (|eps_hat - eps|^2 - |eps_ref - eps|^2)

For exact models this mean is the log-ratio itself, at b = 1 and w = |dlam/dt| / p(t) for times
drawn with the density p(t), lam = log(alpha/sigma).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ... import checks
from ...checks import ArgumentError
from .arguments import alike, constant, reduced, widened


def ddo_log_ratio(
    prediction: Tensor,
    reference: Tensor,
    target: Tensor,
    weight: float | Tensor = 1.0,
    b: float = 1.0,
) -> Tensor:
    """Return ``-b w (|prediction - target|^2 - |reference - target|^2)`` (B,), an estimate of
    ``log p(x0) - log p_ref(x0)``, the squares summed over the elements of a sample.

    Computed as ``-b w <prediction - reference, prediction + reference - 2 target>``, which does
    not cancel where the two models are close.

    Args:
        prediction: (B, *shape), eps of the model in training at ``alpha x0 + sigma eps``.
        reference: eps of the reference model at the same state and time, without gradients.
        target: the eps that was drawn.
        weight: w(t), non-negative, one number or one per sample (B,). With eps predictions
            ``|dlam/dt| / p(t)``; with x0 predictions that times ``(alpha/sigma)^2``.
        b: the beta of the paper, positive; it also stands for a mean over elements instead of the
            sum.

    Average over several draws of (t, eps) of one x0 before ``ddo_loss``, for a closer estimate:
    the logarithm of the sigmoid of one draw is a bound in the mean only.
    """
    checks.between("b", b, 0.0)
    m, m_ref = widened("prediction", prediction), constant("reference", reference)
    wanted = constant("target", target)
    alike("prediction", m, "reference", m_ref)
    alike("prediction", m, "target", wanted)
    if isinstance(weight, Tensor):
        w = constant("weight", weight, 0)
        if w.ndim and w.shape != m.shape[:1]:
            raise ArgumentError(
                f"weight has shape {tuple(w.shape)}: must be one number or ({len(m)},)"
            )
    else:
        w = torch.tensor(checks.number("weight", weight), dtype=m.dtype, device=m.device)
    if not bool((w >= 0.0).all()):
        raise ArgumentError("weight must be non-negative")
    change = ((m - m_ref) * ((m - wanted) + (m_ref - wanted))).flatten(1).sum(1)
    return -b * w * change


def ddo_loss(data: Tensor, samples: Tensor, a: float = 1.0, *, reduction: str = "mean") -> Tensor:
    """Return ``-log sigmoid(data) - a log(1 - sigmoid(samples))``, each averaged over its batch.

    Args:
        data: (B,), log-ratios ``log p - log p_ref`` of data: by ``ddo_log_ratio``, or exact ones
            by ``fewstep.log_prob``.
        samples: (B',), log-ratios of samples of the reference model.
        a: the alpha of the paper, positive: the weight of the samples.
        reduction: ``"mean"``, or ``"sum"`` over each batch.

    With both log-ratios 0, where training starts, it is ``(1 + a) log 2``.
    """
    checks.between("a", a, 0.0)
    checks.choice("reduction", reduction, ("mean", "sum"))
    real, drawn = widened("data", data), widened("samples", samples)
    for name, value in (("data", real), ("samples", drawn)):
        if value.ndim != 1:
            raise ArgumentError(f"{name} must be (batch,), got {tuple(value.shape)}")
    positive = reduced(functional.logsigmoid(real), reduction)
    negative = reduced(functional.logsigmoid(-drawn), reduction)
    return -positive - a * negative
