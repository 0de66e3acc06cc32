"""The exact denoiser of a Gaussian mixture.

Data ``p(x0) = sum_k w_k N(mu_k, diag s_k^2)``. With ``v_k = alpha^2 s_k^2 + sigma^2`` the noised
density is ``p_t(x) = sum_k w_k N(x; alpha mu_k, v_k)``, and with the responsibilities ``r_k(x)`` of
its components

    E[x0 | x]       = sum_k r_k (sigma^2 mu_k + alpha s_k^2 x) / v_k
    E[eps | x]      = sigma sum_k r_k (x - alpha mu_k) / v_k
    grad log p_t(x) = -E[eps | x] / sigma                              (Tweedie; Efron 2011, doi
                                                                       10.1198/jasa.2011.tm11181)

Both means are regular at alpha = 0 and at sigma = 0, where eps is 0 and x0 is x / alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ..checks import ArgumentError, integer, shown, tensor
from ..schedules.base import Schedule
from .base import labels_like
from .denoiser import Condition, Time, check_kind
from .exact import Exact, Levels, blend, chosen, deviation, fold, levels, softmax, wide

Values = Tensor | Sequence[Any] | float


#: largest number of draws of ``sample``
MAX_SAMPLES = 1 << 28


def _numbers(name: str, values: Values) -> Tensor:
    """Convert ``values`` to a float64 tensor."""
    try:
        found = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ArgumentError(
            f"{name}={shown(values)}: must be numbers ({str(error).partition(chr(10))[0]})"
        ) from None
    if isinstance(values, Tensor) and values.is_complex():
        raise ArgumentError(f"{name} must be real, got {values.dtype}")
    return found


class GaussianMixture(Exact):
    """Denoiser of ``sum_k w_k N(mu_k, diag s_k^2)`` on ``schedule``; differentiable in x, computed
    in float64.

    ``cond`` (B,) integers select one component for each sample; -1 selects the whole mixture.
    """

    def __init__(
        self,
        means: Values,
        stds: Values,
        weights: Values,
        schedule: Schedule,
        prediction: str = "eps",
    ) -> None:
        """Args:
            means: (K, *shape).
            stds: positive; one number, (K,) with one per component, or (K, *shape).
            weights: (K,), not negative; divided by their sum.
            schedule: the noising path.
            prediction: kind of the raw output, any of KINDS.

        Raises ValueError for shapes and values that do not define a mixture.
        """
        given = (("means", means), ("stds", stds), ("weights", weights))
        m, s, w = (
            tensor(name, _numbers(name, v), floating=False).detach().cpu().clone()
            for name, v in given
        )
        if m.ndim < 2 or m.numel() == 0:
            raise ArgumentError(
                f"means have shape {tuple(m.shape)}; allowed (K, *shape) with at least one "
                "component and one axis"
            )
        if s.shape not in (torch.Size([]), m.shape[:1], m.shape):
            raise ArgumentError(
                f"stds have shape {tuple(s.shape)}; allowed (), ({m.shape[0]},) or {tuple(m.shape)}"
            )
        if w.shape != m.shape[:1]:
            raise ArgumentError(f"weights have shape {tuple(w.shape)}; allowed ({m.shape[0]},)")
        if not (bool(torch.isfinite(m).all()) and bool(((s > 0.0) & torch.isfinite(s)).all())):
            raise ArgumentError("means must be finite, stds positive and finite")
        if not (bool(((w >= 0.0) & torch.isfinite(w)).all()) and float(w.sum()) > 0.0):
            raise ArgumentError(
                f"weights must be finite, not negative, and not all zero; got {w.tolist()}"
            )
        super().__init__(schedule, prediction, tuple(m.shape[1:]))
        self.means, self.stds, self.weights = m, s, w / w.sum()
        spread = s.reshape(-1, 1).expand(m.shape[0], 1) if s.ndim < 2 else s.reshape(m.shape[0], -1)
        self._numbers = (m.reshape(m.shape[0], -1), spread * spread, torch.log(self.weights))
        self.classes = m.shape[0]
        self._placed: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def __repr__(self) -> str:
        return (
            f"GaussianMixture(K={self.means.shape[0]}, shape={self.shape}, {self.schedule!r}, "
            f"prediction={self.prediction!r})"
        )

    @cached_property
    def sigma_data(self) -> float | None:  # type: ignore[override]
        """Standard deviation of the whole mixture: ``Var(x0_j) = sum_k w_k (s_kj^2 + (mu_kj -
        m_j)^2)``, ``m = sum_k w_k mu_k``."""
        means, variances, _ = self._numbers
        w = self.weights[:, None]
        away = means - (w * means).sum(0)
        return deviation(float((w * (variances + away * away)).sum(0).mean()))

    @override
    def null_cond(self, cond: Condition, batch: int) -> Condition:
        return labels_like(cond, -1, batch, torch.device("cpu"))

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return means (K, d), variances (K, d) or (K, 1) and log weights (K,) on ``device``."""
        if device not in self._placed:
            means, variances, logs = (
                v.to(device=device, dtype=wide(device)) for v in self._numbers
            )
            self._placed[device] = (means, variances, logs)
        return self._placed[device]

    def _components(
        self, flat: Tensor, at: Levels, cond: Condition
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``log(w_k N(x; alpha mu_k, v_k))`` (B, K), ``(x - alpha mu_k) / v_k`` (B, K, d)
        and ``v_k`` (n, K, d or 1)."""
        means, variances, logs = self._on(flat.device)
        a, s = at.alpha[:, :, None], at.sigma[:, :, None]
        v = a * a * variances + s * s
        difference = flat[:, None, :] - a * means
        z = difference / v
        volume = fold(torch.log(2.0 * math.pi * v), -1) * (means.shape[1] / v.shape[-1])
        index = chosen(cond, flat, means.shape[0], "components")
        if index is not None:
            own = torch.where(
                torch.arange(means.shape[0], device=flat.device) == index[:, None], 0.0, -math.inf
            ).to(logs)
            logs = torch.where(index[:, None] < 0, logs, own)
        return logs - 0.5 * (fold(difference * z, -1) + volume), z, v

    def predict(self, kind: str, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        """Return the exact prediction of ``kind`` at ``x`` (B, *shape) and ``t``, in the dtype of
        ``x``.

        Raises UnknownName for kinds other than KINDS, and ConversionError for a velocity where the
        path has none. The score exists at sigma = 0 too.
        """
        check_kind(kind)
        flat = self.rows(x)
        at = levels(self.schedule, t, x, kind == "velocity")
        logits, z, v = self._components(flat, at, cond)
        r = softmax(logits)[:, :, None]
        x0 = rz = flat
        if kind != "x0":
            rz = fold(r * z, 1)
        if kind in ("x0", "v", "velocity"):
            means, variances, _ = self._on(flat.device)
            a, s = at.alpha[:, :, None], at.sigma[:, :, None]
            x0 = fold(r * ((s * s * means + a * variances * flat[:, None, :]) / v), 1)
        value = -rz if kind == "score" else blend(kind, x0, at.sigma * rz, at)
        return value.reshape(x.shape).to(x.dtype)

    def score(self, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        """Score ``grad log p_t(x)``, (B, *shape), in the dtype of ``x``."""
        return self.predict("score", x, t, cond)

    def log_prob(self, x: Tensor, t: Time, cond: Condition = None) -> Tensor:
        """Log density ``log p_t(x)`` (B,), float64 (float32 on devices without it), of the
        component that ``cond`` selects or of the mixture."""
        logits, _, _ = self._components(self.rows(x), levels(self.schedule, t, x, False), cond)
        top = logits.detach().amax(-1, keepdim=True)
        return top[:, 0] + torch.log(fold(torch.exp(logits - top), -1))

    def sample(self, n: int, seed: int, component: int | None = None) -> Tensor:
        """Draw ``n`` exact samples of x0, (n, *shape) float64 on the CPU, of one component if
        given. The first m draws do not depend on n."""
        count = self.means.shape[0]
        n, seed = integer("n", n, 0, MAX_SAMPLES), integer("seed", seed, 0)
        if component is not None:
            component = integer("component", component, 0, count - 1)
        which, noise = (
            np.random.Generator(np.random.PCG64(child))
            for child in np.random.SeedSequence(seed).spawn(2)
        )
        edges = torch.cumsum(self.weights, 0).numpy()
        found = np.searchsorted(edges / edges[-1], which.random(n), side="right")
        k = torch.as_tensor(found if component is None else np.full(n, component))
        z = torch.from_numpy(noise.standard_normal((n, self.means[0].numel())))
        means, variances, _ = self._numbers
        return (means[k] + torch.sqrt(variances)[k] * z).reshape(n, *self.shape)
