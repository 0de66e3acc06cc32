"""The classifier two-sample test (Lopez-Paz & Oquab 2017, arXiv 1610.06545): held-out accuracy of a
small network that separates two samples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import ScoreError
from .intervals import Estimate
from .matrices import at_least_one, couple, permutation, seeded

#: full-batch AdamW steps of a fold, their learning rate and weight decay
STEPS, RATE, DECAY = 200, 1e-2, 1e-3
#: largest hidden width
WIDEST = 256


def classifier_test(reference: Any, generated: Any, *, folds: int = 5, seed: int = 0) -> Estimate:
    """Held-out accuracy of a network with two hidden layers (width 10 q, ReLU), mean and standard
    deviation over ``folds``; 0.5 means that the samples cannot be told apart.

    The larger sample is cut to the smaller one's size (a multiple of ``folds``), and coordinates
    are standardised by the training folds. The best accuracy for two unit normals whose means are m
    apart is ``Phi(m / 2)``. ScoreError for fewer than two rows a fold.
    """
    x, y = couple(reference, generated, least=2)
    at_least_one("folds", folds, min(len(x), len(y)) // 2)
    if folds < 2:
        raise ScoreError("folds=1: must be >= 2, one fold is held out for the test")
    n = min(len(x), len(y)) // folds * folds
    generator = seeded(seed)
    parts = torch.stack(
        [v[permutation(len(v), generator)[:n]].reshape(folds, n // folds, -1) for v in (x, y)],
        dim=1,
    )
    others = torch.stack(
        [
            torch.cat([parts[:fold], parts[fold + 1 :]]).transpose(0, 1).flatten(1, 2)
            for fold in range(folds)
        ]
    )
    # (folds, rows, q), the reference's rows first
    train, test = others.flatten(1, 2), parts.flatten(1, 2)
    mean, std = train.mean(dim=1, keepdim=True), train.std(dim=1, keepdim=True).clamp_min(1e-12)
    guess = _trained_logits((train - mean) / std, (test - mean) / std, generator)
    half = n // folds
    found = 0.5 * (
        (guess[:, :half] <= 0.0).double().mean(dim=1) + (guess[:, half:] > 0.0).double().mean(dim=1)
    )
    return Estimate(
        float(found.mean()), std=float(found.std(correction=0)), n_ref=n, n_gen=n, seed=seed
    )


def _trained_logits(x: Tensor, test: Tensor, generator: torch.Generator) -> Tensor:
    """Train one network per fold on ``x`` (folds, rows, q), whose second half has label 1, and
    return its logits on ``test``."""
    x, test = x.float(), test.float()
    folds, rows, width = x.shape
    label = (torch.arange(rows) >= rows // 2).float().expand(folds, rows)
    hidden = min(10 * width, WIDEST)
    sizes = ((width, hidden), (hidden, hidden), (hidden, 1))
    weights = [
        (torch.randn(folds, *size, generator=generator) * (2.0 / size[0]) ** 0.5).requires_grad_()
        for size in sizes
    ]
    offsets = [torch.zeros(folds, 1, size[1], requires_grad=True) for size in sizes]

    def logits(v: Tensor) -> Tensor:
        for weight, offset in zip(weights[:-1], offsets[:-1], strict=True):
            v = torch.relu(torch.baddbmm(offset, v, weight))
        return torch.baddbmm(offsets[-1], v, weights[-1]).squeeze(2)

    with torch.enable_grad():
        optimizer = torch.optim.AdamW([*weights, *offsets], lr=RATE, weight_decay=DECAY)
        for _ in range(STEPS):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits(x), label) * folds
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        return logits(test)
