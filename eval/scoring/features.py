"""Accumulates moments of all samples and keeps the features of at most ``keep`` of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ScoreError
from ..features.moments import FeatureStats, Moments, Provenance
from ..metrics.matrices import at_least_one

#: default number of features kept: 400 MB at 2048 dimensions
KEEP = 50_000


class Collected:
    """Moments in float64 of all samples; features (and logits) in float32 of at most ``keep``.

    The kept samples are a pseudo-random subset, those with the smallest hash of their index in the
    source, so any number of shards keeps the same ones. Batches added in the order of the source
    give bit-identical sums.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self.keep = at_least_one("keep", keep)
        self.moments = Moments()
        self._index: list[Tensor] = []
        self._rows: list[tuple[Tensor, Tensor | None]] = []

    @property
    def count(self) -> int:
        """Number of samples added."""
        return self.moments.count

    def add(
        self, features: Tensor, logits: Tensor | None = None, index: Sequence[int] | None = None
    ) -> None:
        """Add a batch: features (n, q), logits (n, classes) of the same samples, and their indices
        in the source (default: the next ones)."""
        if not len(features):
            return
        bad = (~torch.isfinite(features)).flatten(1).any(dim=1).nonzero().flatten().tolist()
        if bad:
            raise ScoreError(
                f"the features of {len(bad)} samples hold NaN or infinity, first the batch's "
                f"{bad[:5]}"
            )
        places = range(self.count, self.count + len(features)) if index is None else index
        self.moments.update(features)
        self._index.append(torch.tensor(list(places), dtype=torch.int64))
        self._rows.append(
            (features.to(torch.float32), None if logits is None else logits.to(torch.float32))
        )
        if sum(len(part) for part in self._index) > 2 * self.keep:
            self._prune()

    def stats(self, provenance: Provenance | None = None) -> FeatureStats:
        """Mean and covariance of all samples."""
        return self.moments.stats(provenance)

    def features(self) -> Tensor:
        """The kept features, in the order of their indices."""
        self._prune()
        return self._rows[0][0] if self._rows else torch.empty(0, 0)

    def logits(self) -> Tensor | None:
        """The kept logits; None where none were added."""
        self._prune()
        return self._rows[0][1] if self._rows else None

    def _prune(self) -> None:
        if not self._rows:
            return
        index = torch.cat(self._index)
        chosen = chosen_places(index, self.keep)
        with_logits = [row[1] for row in self._rows if row[1] is not None]
        logits = torch.cat(with_logits)[chosen] if len(with_logits) == len(self._rows) else None
        self._rows = [(torch.cat([row[0] for row in self._rows])[chosen], logits)]
        self._index = [index[chosen]]


def chosen_places(index: Tensor, most: int) -> Tensor:
    """Positions of the ``most`` entries of ``index`` with the smallest hash (finalizer of
    SplitMix64), sorted by index."""
    if len(index) > most:
        z = index.numpy().astype(np.uint64) + np.uint64(1)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        kept = torch.from_numpy(np.argsort(z ^ (z >> np.uint64(31)), kind="stable")[:most].copy())
    else:
        kept = torch.arange(len(index))
    return kept[torch.argsort(index[kept], stable=True)]
