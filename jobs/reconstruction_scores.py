"""Scores of reconstructions: how well they explain the measurement, and how near they are to the
truth where it is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError
from .pictures import is_image

if TYPE_CHECKING:
    from torch import Tensor

    from ..guidance.likelihoods.likelihood import Likelihood
    from ..guidance.posterior.counts import Counts

#: names in the manifest, in their order
SCORES = ("misfit", "residual", "rmse", "psnr", "ssim", "lpips")


class ReconstructionScores:
    """Scores of samples of ``shape``; those of pictures are of values cut to [-1, 1]."""

    def __init__(self, shape: tuple[int, ...], lpips: str | None) -> None:
        """``lpips``: file of AlexNet's weights. Raises FewstepError where they cannot be used."""
        from ..eval.metrics.image_pairs import WINDOW
        from ..eval.metrics.perceptual import load_lpips

        self.image = is_image(shape)
        self.windowed = self.image and min(shape[-2:]) >= WINDOW
        self.lpips = None if lpips is None else load_lpips(lpips)
        if self.lpips is not None and not (self.image and min(shape[-2:]) >= self.lpips.least):
            raise ArgumentError(
                f"lpips={lpips!r} is for pictures with sides of at least {self.lpips.least} "
                f"pixels; the samples have shape {shape}"
            )

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of the weights."""
        return {} if self.lpips is None else {"lpips_sha256": self.lpips.digest}

    def notes(
        self, x: Tensor, likelihood: Likelihood, truth: Tensor | None, counts: Counts
    ) -> list[dict[str, Any]]:
        """Facts of each sample of x (B, *shape) for the manifest; ``calls`` are those of its
        block."""
        columns = fit(x, likelihood)
        if truth is not None:
            columns |= self.distances(x.detach().cpu(), truth)
        rows: list[dict[str, Any]] = [
            dict(zip(columns, (v if math.isfinite(v) else None for v in row), strict=True))
            for row in zip(*columns.values(), strict=True)
        ]
        return [{**row, "calls": asdict(counts)} for row in rows]

    def distances(self, x: Tensor, truth: Tensor) -> dict[str, list[float]]:
        """Distances to the truth, on the CPU."""
        import torch

        from ..eval.metrics.image_pairs import psnr, ssim

        x, truth = x.to(torch.float64), truth.to(torch.float64)
        found = {"rmse": (x - truth).square().flatten(1).mean(1).sqrt()}
        if self.image:
            cut, true = x.clamp(-1.0, 1.0), truth.clamp(-1.0, 1.0)
            found["psnr"] = psnr(cut, true, data_range=2.0)
            if self.windowed:
                found["ssim"] = ssim(cut, true, data_range=2.0)
            if self.lpips is not None:
                found["lpips"] = self.lpips(cut, true)
        return {name: values.tolist() for name, values in found.items()}


def fit(x: Tensor, likelihood: Likelihood) -> dict[str, list[float]]:
    """``misfit``: |y - A(x)| of each sample; ``residual``: the same over ``sigma_y sqrt(m)``, for m
    observed numbers, about 1 for samples of the posterior."""
    import torch

    misfit = likelihood.misfit(x)
    found = {"misfit": misfit.tolist()}
    if likelihood.sigma_y:
        with torch.no_grad():
            value = likelihood.operator(x)
            seen = likelihood.operator.zero_filled(torch.ones_like(value)).flatten(1).sum(1)
        scale = likelihood.sigma_y * seen.to(misfit).clamp_min(1.0).sqrt()
        found["residual"] = (misfit / scale).tolist()
    return found


def summary(notes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each score over the samples that have it, and the largest number of calls that a
    block needed."""
    rows = list(notes)
    scores = {name: _mean([row.get(name) for row in rows]) for name in SCORES}
    kinds = rows[0]["calls"] if rows else {}
    return {
        "scores": {name: value for name, value in scores.items() if value is not None},
        "calls": {kind: max(row["calls"][kind] for row in rows) for kind in kinds},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
