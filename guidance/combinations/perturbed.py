"""A model whose network is changed for the time of each call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor
from typing_extensions import override

from ...checks import ArgumentTypeError, shown
from ...models.base import MAIN, read_raws
from ...models.denoiser import Condition, Denoiser, Time
from ...models.wrapper import Wrapper


class Perturbed(Wrapper):
    """The same model, called inside a context that perturbs its network.

    ``context()`` is a context manager that changes the network on entry (replaces attention maps,
    skips layers, blurs queries) and restores it on exit. It is entered for each network call. Pass
    the result to ``Contrast`` or ``PAG`` as the worse model.
    """

    def __init__(
        self, denoiser: Denoiser, context: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        """Raises ArgumentTypeError unless ``context`` is a function; a context manager itself
        could be entered once only."""
        super().__init__(denoiser)
        if not callable(context) or (
            hasattr(context, "__enter__") and not isinstance(context, type)
        ):
            raise ArgumentTypeError(
                f"context={shown(context)}: must be a function without arguments that returns a "
                "context manager; it is called for each network call"
            )
        self.context = context

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        with self.context():
            return read_raws(self.denoiser, x_in, t, cond, channels, to)

    def __repr__(self) -> str:
        return f"Perturbed({self.denoiser!r})"
