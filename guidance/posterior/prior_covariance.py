"""Guidance by the covariance of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError
from ...models.denoiser import Denoiser
from ..likelihoods.likelihood import Likelihood
from ..operators.operator import Operator
from .counts import Counts
from .low_rank import LowRank
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import register

#: most measurements of one sample: each call solves a dense system of this size
MOST = 4096


@register(
    "prior_covariance",
    source="Rissanen et al. 2024, arXiv 2410.11149, with the covariance of the data alone",
    needs=("adjoint", "linear"),
    exact="Gaussian priors with this covariance",
)
class PriorCovariance(Posterior):
    """The likelihood of the state is that of a Gaussian x0 around the prediction, with the
    covariance that Gaussian data of covariance Sigma have; the network is not differentiated.

        D' = D + C A^T (A C A^T + sigma_y^2)^-1 (y - A D),   C = (Sigma^-1 + (alpha / sigma)^2)^-1

    (Rissanen, Heinonen & Solin 2024, arXiv 2410.11149, whose covariance of the data is diagonal in
    a basis of cosines, and is updated along a run; here it is any, and is not.) C knows which
    elements belong together also where the Jacobian of a trained network does not: its errors are
    multiplied by sigma^2 / alpha in MMPS. For Gaussian data with covariance Sigma D' is the
    posterior mean exactly. The measurements' matrix is made once, by r operator and m adjoint calls
    for rank r and m measurements (each sample alone, if the operators differ); a dense system of
    size m is solved in each call, in float64. Cost of a call: 1 network call, 1 operator call.
    """

    differentiates = False

    def __init__(self, denoiser: Denoiser, likelihood: Any, covariance: Any) -> None:
        """Args:
            denoiser: the model.
            likelihood: Gaussian or Constraint with a linear operator.
            covariance: Sigma: a ``LowRank``, such as ``LowRank.from_samples(x)`` of data or of
                samples of the model; a matrix (d, d); or variances shaped like a sample.

        Raises ArgumentError for other arguments, and for more than 4096 measurements.
        """
        self.covariance = covariance
        self._reduced: tuple[_Reduced, ...] = ()
        self._made_for: tuple[int, ...] | None = None
        if not isinstance(covariance, (LowRank, Tensor)):
            raise ArgumentError("covariance must be a LowRank or a tensor")
        super().__init__(denoiser, likelihood)

    @override
    def accepted(self, likelihood: Any) -> Likelihood:
        made: Likelihood = super().accepted(likelihood)
        if not made.operator.linear:
            raise ArgumentError(f"{made.operator!r} is not linear: use mmps, which linearises it")
        return made

    @override
    def samples(self, shape: Sequence[int]) -> int | None:
        found = super().samples(shape)
        if self._made_for != tuple(shape):
            self._made_for = tuple(shape)
            if isinstance(self.covariance, Tensor):
                self.covariance = LowRank.of(self.covariance, tuple(shape))
            if tuple(self.covariance.basis.shape[1:]) != tuple(shape):
                raise ArgumentError(
                    f"the covariance is of samples {tuple(self.covariance.basis.shape[1:])}, "
                    f"the model's are {tuple(shape)}"
                )
            operator = self.likelihood.operator
            own = operator.samples(tuple(shape))
            each = [operator] if own is None else [
                operator.select(torch.tensor([i])) for i in range(own)
            ]  # fmt: skip
            self._reduced = tuple(_Reduced.of(one, self.covariance) for one in each)
        return found

    @override
    def spent(self) -> Counts:
        return Counts(1, 0, 1, 0)

    @override
    def select(self, rows: Tensor) -> Self:
        made = super().select(rows)
        if len(self._reduced) > 1:
            made._reduced = tuple(self._reduced[i] for i in rows.tolist())
        return made

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        data = self.data(p.value)
        p.counts.operator += 1
        value = self.likelihood.operator(data)
        lost = (self.likelihood.data(value) - value).flatten(1)
        made = []
        for i in range(len(data)):
            j = 0 if len(at.alphas) == 1 else i
            own = self._reduced[i if len(self._reduced) > 1 else 0]
            made.append(self._change(own, lost[i], at.alphas[j], at.sigmas[j]))
        return p.value + torch.stack(made).reshape(p.value.shape).to(p.value)

    def _change(self, own: _Reduced, lost: Tensor, alpha: float, sigma: float) -> Tensor:
        """``C A^T (A C A^T + sigma_y^2)^-1 lost`` of one sample, (d,)."""
        cov: LowRank = self.covariance
        s2 = sigma * sigma

        def given(v: Tensor) -> Tensor:  # variances given the state
            return v * s2 / (alpha * alpha * v + s2) if s2 else torch.zeros_like(v)

        like = own.images
        c = given(cov.variances.to(like))
        rest = given(torch.tensor(cov.rest).to(like))
        gram = (like.T * c) @ like - (own.inside.T * (own.shares @ rest)) @ own.inside
        gram = (gram + torch.einsum("k,kij->ij", rest, own.grams)).double()
        gram.diagonal().add_(self.likelihood.sigma_y**2)
        right = lost[own.keep.to(lost.device)].to(gram)
        v, singular = torch.linalg.solve_ex(gram, right)
        if int(singular):  # measurements that repeat others, or sigma = 0
            v = torch.linalg.pinv(gram, hermitian=True) @ right
        v = v.to(like)
        found: Tensor = (c * (like @ v)) @ cov.basis.flatten(1).to(like)
        if own.back.shape[1]:
            span = (cov.basis if cov.span is None else cov.span).flatten(1).to(like)
            found = found - (own.shares @ rest * (own.inside @ v)) @ span
            each = rest[0] if cov.regions is None else rest @ cov.regions.flatten(1).to(like)
            found = found + each * (v @ own.back)
        return found


class _Reduced(NamedTuple):
    """The operator of one sample on what it observes: m measurements, of which ``keep`` are the
    places. ``images`` and ``inside``: A of the basis and of the span, (r, m); ``shares``: the
    region of each direction of the span, (r, K); ``back``: the rows of A, (m, d), empty where the
    covariance has no rest; ``grams``: ``A A^T`` of each region, (K, m, m)."""

    keep: Tensor
    images: Tensor
    inside: Tensor
    shares: Tensor
    back: Tensor
    grams: Tensor

    @classmethod
    def of(cls, operator: Operator, cov: LowRank) -> _Reduced:
        images = operator(cov.basis).flatten(1)
        keep = images.abs().amax(0) > 0.0
        count = int(keep.sum())
        if not 0 < count <= MOST:
            raise ArgumentError(
                f"the operator has {count} measurements of a sample where the covariance is not "
                f"0; allowed are 1 .. {MOST}: use mmps or pigdm, which need no matrix"
            )
        images, k = images[:, keep], len(cov.rest)
        if not any(cov.rest):
            none = images.new_zeros
            return cls(keep, images, images[:0], none(0, k), none(count, 0), none(k, count, count))
        shape = operator(cov.basis[:1]).shape[1:]
        unit = torch.zeros(count, keep.numel(), dtype=images.dtype, device=images.device)
        unit[torch.arange(count), keep.nonzero()[:, 0]] = 1.0
        back = operator.adjoint(unit.reshape(count, *shape)).reshape(count, -1)
        regions = cov.basis.new_ones(1, cov.basis[0].numel())
        regions = regions if cov.regions is None else cov.regions.flatten(1).to(regions)
        span = cov.basis if cov.span is None else cov.span
        shares = span.flatten(1).square() @ regions.T
        grams = torch.stack(
            [
                operator((back * each).reshape(count, *span.shape[1:])).flatten(1)[:, keep]
                for each in regions.to(back)
            ]
        )
        inside = images if cov.span is None else operator(span).flatten(1)[:, keep]
        return cls(keep, images, inside, shares.to(images), back, grams)
