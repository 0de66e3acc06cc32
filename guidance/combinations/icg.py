"""Independent-condition guidance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...checks import ArgumentError, between, integer, shown
from ...models.base import LABELS, RunFacts
from ...models.denoiser import Condition, Denoiser
from ...models.wrapper import complete
from .conditions import batch_of
from .prompted import Prompted
from .seeds import Seeds


class ICG(Prompted):
    """Independent-condition guidance (Sadat et al. 2024, arXiv 2407.02687).

        m = m_r + w (m_c - m_r)

    m_c is the prediction for the condition ``cond=`` of the call, m_r that for a random condition,
    drawn independently of the state and afresh at each noise level. It takes the place of the
    unconditional prediction in classifier-free guidance, for models that were trained without one.

    Integers (labels, tokens) are drawn uniformly from 0 .. classes - 1. Floating-point conditions
    (embeddings) are drawn from N(0, s^2), s the standard deviation of the sample's own condition.
    The draws depend on the sample's seed and the noise level only (``seeds``), not on the batch;
    outside a run, and in a run without seeds, sample i counts as seed i.

    One network call of 2 B rows. Channels: ``main``, ``uncond`` (m_r), ``cond``.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: float | Callable[[float], float] | Tensor,
        *,
        classes: int | None = None,
        std: float | None = None,
        names: Sequence[str] | None = None,
        interval: Sequence[float] | None = None,
    ) -> None:
        """Args:
            denoiser: the model.
            scale: w, as in ``CFG``.
            classes: number of values of integer conditions; by default the model's classes.
            std: standard deviation of random embeddings; by default that of each sample's own.
            names: of a mapping, the tensors to draw; by default the labels ("label",
                "class_labels") and all floating-point tensors. The others are those of ``cond``.
            interval: (lo, hi): w = 1 unless ``lo < rho <= hi``.

        Raises ArgumentError as ``CFG`` does, and before the first call for a condition of integers
        whose number of values is unknown, and for one with a single element without ``std``.
        """
        model = complete(denoiser)
        count = model.classes if classes is None else integer("classes", classes, 1)
        spread = None if std is None else between("std", std, 0.0)
        if names is not None and (
            isinstance(names, str) or not names or not all(isinstance(n, str) for n in names)
        ):
            raise ArgumentError(f"names={shown(names)}: must be a list of names of conditions")
        self.drawn = Drawn(count, spread, None if names is None else tuple(names))
        super().__init__(model, scale, None, interval, None, self.drawn)

    def __repr__(self) -> str:
        own = self.drawn
        drawn = f"classes={own.classes}, std={own.std}, names={own.names}"
        return f"ICG({', '.join([repr(self.denoiser), *self._settings(), drawn])})"


@dataclass(frozen=True, eq=False)
class Drawn:
    """A random condition in the form of that of the call, see ``ICG``."""

    classes: int
    std: float | None
    names: tuple[str, ...] | None
    seeds: Seeds = field(default_factory=Seeds)

    def of(self, cond: Condition, batch: int, times: Sequence[float] = ()) -> Condition:
        """Return a condition for ``batch`` samples. Raises ArgumentError if ``cond`` is None or
        nothing of it can be drawn."""
        if cond is None:
            raise ArgumentError("cond=None: ICG needs a condition; pass cond=")
        if batch_of(cond) != batch:
            raise ArgumentError(f"cond has batch size {batch_of(cond)}, the samples are {batch}")
        when = times or (0.0,)
        if not isinstance(cond, Mapping):
            return self._like("cond", cond, when)
        names = self._names(cond)
        return {
            name: self._like(f"cond[{name!r}]", value, when) if name in names else value
            for name, value in cond.items()
        }

    def _names(self, cond: Mapping[str, Tensor]) -> tuple[str, ...]:
        """The names of the tensors to draw."""
        if self.names is None:
            found = tuple(n for n, v in cond.items() if n in LABELS or v.is_floating_point())
            if not found:
                raise ArgumentError(
                    f"cond has {sorted(cond)}, none of which is a label or an embedding; name the "
                    "tensors to draw with names="
                )
            return found
        missing = [name for name in self.names if name not in cond]
        if missing:
            raise ArgumentError(f"names={list(self.names)}: cond has only {sorted(cond)}")
        return self.names

    def _like(self, name: str, value: Tensor, times: Sequence[float]) -> Tensor:
        """Return a random tensor with shape, dtype and device of ``value``."""
        batch, shape = value.shape[0], value.shape[1:]
        if not value.is_floating_point():
            if value.dtype == torch.bool or value.is_complex() or not self.classes:
                raise ArgumentError(
                    f"{name} is {value.dtype}, and the model says no number of classes: ICG draws "
                    "integers below classes=, and floating-point embeddings"
                )
            made = self.seeds.integers(times, batch, shape, self.classes, value.device)
            return made.to(value.dtype)
        z = self.seeds.normals(times, batch, shape, value.device)
        if self.std is not None:
            return (z * self.std).to(value.dtype)
        if shape.numel() < 2:
            raise ArgumentError(
                f"{name} has one element per sample, which has no standard deviation: pass std="
            )
        wide = torch.promote_types(value.dtype, torch.float32)
        spread = value.to(wide).flatten(1).std(1)
        return (z * spread.reshape(-1, *(1,) * len(shape))).to(value.dtype)

    def select(self, rows: Tensor) -> Drawn:
        """Return the source for the samples ``rows``."""
        return replace(self, seeds=self.seeds.select(rows))

    def for_run(self, facts: RunFacts) -> Drawn:
        """Return the source with the seeds of the run."""
        return replace(self, seeds=Seeds(facts.seeds)) if facts.seeds else self
