"""ProbConserv: projection onto linear conservation laws."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentError, flag, instance, shown, tensor
from ...models.denoiser import Denoiser
from ..likelihoods.likelihood import Likelihood
from .counts import Counts
from .posterior import Levels, Posterior
from .prediction import Prediction
from .registry import register

#: eigenvalues of ``G C G^T`` below this part of the largest belong to laws that repeat others
CUT = 1e-13


class Conserved(NamedTuple):
    """Mean and covariance of a Gaussian given the law; the covariance has the form of what was
    given: variances shaped like a sample, or a matrix (d, d)."""

    mean: Tensor
    covariance: Tensor


@register(
    "probconserv",
    source="Hansen et al. 2023, arXiv 2302.11002, equations 5 and 6",
    needs=("linear",),
    exact='Gaussian priors with covariance="model"',
)
class ProbConserv(Posterior):
    """Linear laws ``G u = b``, such as a conserved mass, kept by every prediction and by the
    samples.

        D' = D - C G^T (s^2 + G C G^T)^-1 (G D - b)

    (Hansen et al. 2023, arXiv 2302.11002, equations 5 and 6, inside a sampler.) s = sigma_y of the
    likelihood: a ``Constraint`` is kept exactly, a ``Gaussian`` softly. C is the identity (the
    least change), given variances (uncertain points move more), or the model's own covariance
    ``(sigma^2 / alpha) J``, which is MMPS with a full solve. Several laws are kept together, laws
    that repeat others included. Cost of a call for k laws: 1 network call and 1 operator call;
    with the model's covariance also k vector-Jacobian products and k operator calls. G^T is read
    once, when the method is made, by k adjoint calls in one batch.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        likelihood: Any,
        covariance: Tensor | str = "identity",
        inside: bool = True,
        end: bool | None = None,
    ) -> None:
        """Args:
            denoiser: the model.
            likelihood: Constraint or Gaussian with a linear operator, the same for all samples; b
                may differ.
            covariance: "identity", "model", or variances shaped like a sample, >= 0.
            inside: change the predictions.
            end: also change the samples of ``solve``; None: where the law is exact. With "model"
                the samples are changed by the identity.

        Raises ArgumentError for other arguments.
        """
        self.inside, self.model = flag("inside", inside), covariance == "model"
        self.variances = None
        if isinstance(covariance, Tensor):
            self.model = False
            self.variances = _variances(covariance)
        elif covariance not in ("identity", "model"):
            raise ArgumentError(
                f'covariance={shown(covariance)}: must be "identity", "model" or a tensor'
            )
        self._laws: _Laws | None = None
        super().__init__(denoiser, likelihood)
        self.differentiates = self.model
        exact = not self.likelihood.sigma_y
        self.end = exact if end is None else flag("end", end)
        if not (self.inside or self.end):
            raise ArgumentError("inside=False and end=False: the law is used nowhere")

    @override
    def accepted(self, likelihood: Any) -> Likelihood:
        made: Likelihood = super().accepted(likelihood)
        if not made.operator.linear:
            raise ArgumentError(f"{made.operator!r} is not linear")
        return made

    @override
    def samples(self, shape: Any) -> int | None:
        found = super().samples(shape)
        if self._laws is None or self._laws.shape != tuple(shape):
            self._laws = _Laws(self.likelihood, tuple(shape), self.variances)
        return found

    @override
    def spent(self) -> Counts:
        if not self.inside:
            return Counts(1)
        assert self._laws is not None
        k = self._laws.count if self.model else 0
        return Counts(1, k, 1 + k, 0)

    @override
    def corrected(self, p: Prediction, at: Levels) -> Tensor:
        if not self.inside:
            return p.value
        assert self._laws is not None
        data = self.data(p.value)
        p.counts.operator += 1
        if not self.model:
            return p.value + (self._laws.changed(data, self.likelihood) - data)
        back = [
            at.factor * p.vjp(row.to(data).expand(data.shape)) for row in self._laws.rows
        ]  # C G^T
        p.counts.operator += len(back)
        own = self.likelihood.operator
        gram = torch.stack([own(column).flatten(1).to(torch.float64) for column in back], 2)
        lost = self._laws.residual(data, self.likelihood)
        v = _solved(gram, self.likelihood.sigma_y**2, lost).to(data)
        for j, column in enumerate(back):
            data = data + column * v[:, j].reshape(-1, *(1,) * (data.ndim - 1))
        return p.value + (data - self.data(p.value))

    @override
    def finish(self, x: Tensor) -> Tensor:
        if not self.end:
            return x
        assert self._laws is not None
        return self._laws.changed(x, self.likelihood).to(x.dtype)


def conserved(mean: Tensor, likelihood: Likelihood, covariance: Tensor | None = None) -> Conserved:
    """Mean and covariance of ``N(mean, C)`` given ``G u = b`` (with noise, for a Gaussian):

        m' = m - C G^T (s^2 + G C G^T)^-1 (G m - b),    C' = C - C G^T (s^2 + G C G^T)^-1 G C

    (Hansen et al. 2023, arXiv 2302.11002, equations 5 and 6.)

    Args:
        mean: (B, *shape), for instance finished samples.
        likelihood: the law, Constraint or Gaussian with a linear operator.
        covariance: None, the identity; variances (*shape); or a matrix (d, d) with d elements of a
            sample. Of all samples.

    Returns the mean in its dtype, and the covariance in float64 in the form of what was given
    (variances for None). Raises ArgumentError for other shapes.
    """
    tensor("mean", mean, axes=2)
    instance("likelihood", likelihood, Likelihood, "a likelihood, such as guidance.Constraint,")
    shape = tuple(mean.shape[1:])
    size = mean[0].numel()
    dense = covariance is not None and tuple(covariance.shape) == (size, size) != shape
    if covariance is not None and not dense:
        covariance = _variances(covariance)
    likelihood.samples(shape)
    laws = _Laws(likelihood, shape, covariance)
    change = laws.back @ torch.linalg.pinv(
        laws.gram + likelihood.sigma_y**2 * torch.eye(laws.count, dtype=torch.float64),
        hermitian=True,
    )
    taken = change @ laws.back.T
    if dense:
        assert covariance is not None
        left = covariance.to("cpu", torch.float64) - taken
    else:
        own = torch.ones(shape) if covariance is None else covariance
        left = own.to("cpu", torch.float64) - taken.diagonal().reshape(shape)
    return Conserved(laws.changed(mean, likelihood).to(mean.dtype), left)


def _variances(given: Tensor) -> Tensor:
    """Variances >= 0, not all 0. Raises ArgumentError."""
    found = tensor("covariance", given, axes=1).detach()
    if not bool((torch.isfinite(found) & (found >= 0.0)).all()) or not bool(found.any()):
        raise ArgumentError("covariance must hold finite variances >= 0, not all of them 0")
    return found


class _Laws:
    """The rows of G as a matrix (k, d) in float64 on the CPU, and ``C G^T``."""

    def __init__(
        self, likelihood: Likelihood, shape: tuple[int, ...], covariance: Tensor | None
    ) -> None:
        operator = likelihood.operator
        if operator.samples(shape) is not None:
            raise ArgumentError("the operator must be the same for all samples; b may differ")
        zero = torch.zeros((1, *shape), dtype=torch.float64)
        measured = tuple(operator(zero).shape[1:])
        self.shape, self.count = shape, torch.Size(measured).numel()
        unit = torch.eye(self.count, dtype=torch.float64).reshape(self.count, *measured)
        self.rows = operator.adjoint(unit).reshape(self.count, *shape).detach()
        g = self.rows.flatten(1)
        if covariance is None:
            self.back = g.T
        elif covariance.ndim == 2 and tuple(covariance.shape) == (g.shape[1],) * 2 != shape:
            self.back = covariance.to("cpu", torch.float64) @ g.T
        else:
            if tuple(covariance.shape) != shape:
                raise ArgumentError(
                    f"covariance has shape {tuple(covariance.shape)}, a sample {shape}"
                )
            self.back = covariance.to("cpu", torch.float64).reshape(-1, 1) * g.T
        self.gram = g @ self.back

    def residual(self, x: Tensor, likelihood: Likelihood) -> Tensor:
        """``b - G x``, (B, k) float64."""
        value = likelihood.operator(x.to(torch.float64 if x.device.type != "mps" else x.dtype))
        return (likelihood.data(value) - value).flatten(1)

    def changed(self, x: Tensor, likelihood: Likelihood) -> Tensor:
        """The samples moved onto the law."""
        lost = self.residual(x, likelihood)
        gram = self.gram.to(lost)[None].expand(lost.shape[0], -1, -1)
        v = _solved(gram, likelihood.sigma_y**2, lost)
        moved = x.to(lost) + (v @ self.back.to(lost).T).reshape(x.shape)
        return moved.to(torch.promote_types(x.dtype, torch.float32))


def _solved(gram: Tensor, noise: float, lost: Tensor) -> Tensor:
    """``(noise + gram)^+ lost`` of each sample, (B, k), in float64."""
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    inverse = torch.linalg.pinv(gram + noise * identity, rtol=CUT)
    found: Tensor = (inverse @ lost.to(gram)[..., None])[..., 0]
    return found
