"""``Stepped``, the base class of prompted guidance that depends on the step of the run: it knows to
which step of the grid each network call belongs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError
from ...models.base import MAIN, RunFacts
from ...models.denoiser import Condition, Denoiser, Time
from .prompted import Prompted


class Stepped(Prompted):
    """Guidance by a condition that may depend on the step of the run.

    ``for_run`` returns a copy for one run, which counts the calls of ``raws``; ``step`` is then the
    grid step of the last call. Outside of a run ``step`` is None. The copy is made only if
    ``option`` is given.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        scale: Any,
        uncond: Condition,
        interval: Sequence[float] | None,
        kind: str,
        option: str = "",
    ) -> None:
        """``option``: the argument that needs the steps, as the user wrote it (``momentum=-0.5``);
        empty if nothing needs them."""
        super().__init__(denoiser, scale, uncond, interval, kind)
        self.option = option
        self.joinable = self.joinable and not option
        self._steps: tuple[int, ...] | None = None
        self._calls = 0

    @property
    def step(self) -> int | None:
        """Grid step of the last network call; None outside of a run."""
        return None if self._steps is None or not self._calls else self._steps[self._calls - 1]

    @override
    def for_run(self, facts: RunFacts) -> Self:
        """Return a copy for one run. Raises ArgumentError if ``option`` needs the steps and the run
        does not know them, or goes from data to noise."""
        made = super().for_run(facts)
        if not self.option:
            return made
        name = type(self).__name__
        if facts.steps is None:
            raise ArgumentError(
                f"{name} with {self.option} needs to know the grid step of each network call "
                "beforehand: use a sampler with a plan (fewstep samplers lists them), or leave "
                f"{self.option.partition('=')[0]} out"
            )
        if facts.inverse:
            raise ArgumentError(
                f"{name} with {self.option} depends on the steps of a run from noise to data; "
                "this one goes from data to noise"
            )
        made = made.copied() if made is self else made
        made._steps, made._calls = facts.steps, 0
        return made

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        if self._steps is not None:
            if self._calls == len(self._steps):
                raise ArgumentError(
                    f"this {type(self).__name__} serves one run of {self._calls} network calls, "
                    "which is over"
                )
            self._calls += 1
        return super().raws(x_in, t, cond, channels, to)
