"""Handles values that scripts change on a scheduler by hand: config values, the lists of times and
noise levels, the table.

diffusers accepts config values as attributes (``scheduler.config.clip_sample = False``), and its
classes step with the current contents of their lists. fewstep's coefficients are in the plan: a
changed config value is applied, a list that was moved to a device or cast is accepted, and a list
with other numbers raises ArgumentError, because no step would read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError
from ...plans.running.tensor_versions import version
from .config import same
from .times import tolerance


def by_hand(config: Any) -> dict[str, Any]:
    """Values that were set as attributes of ``config`` and differ from its items."""
    if not isinstance(config, Mapping) or not hasattr(config, "__dict__"):
        return {}
    return {
        k: v
        for k, v in vars(config).items()
        if not k.startswith("_") and not same(v, config.get(k, ...))
    }


class Listed:
    """A list that a scheduler exposes, as ``tensor``, with the numbers that the plan was built
    from."""

    def __init__(self, tensor: Tensor, numbers: Sequence[float]) -> None:
        self.tensor, self.numbers, self.written = tensor, tuple(numbers), version(tensor)

    def accept(self, name: str, tensor: Tensor, remedy: str) -> None:
        """Accept ``tensor`` as the new list if it holds the same numbers; otherwise raise
        ArgumentError. The numbers on a CUDA device are compared without waiting: a mismatch raises
        RuntimeError later."""
        if tensor is self.tensor and self.written == version(tensor) >= 0:
            return
        words = (
            f"scheduler.{name} was changed by hand after set_timesteps, and no step would read "
            f"that: {remedy}"
        )
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != (len(self.numbers),):
            raise ArgumentError(words)
        fine = _near(tensor, torch.tensor(self.numbers, dtype=torch.float32)).all()
        if fine.device.type == "cuda":
            torch._assert_async(fine, words)
        elif not bool(fine):
            raise ArgumentError(words)
        self.tensor, self.written = tensor, version(tensor)


def _near(given: Tensor, due: Tensor) -> Tensor:
    """Where ``given`` is ``due`` after a cast to its dtype; integers may be cut."""
    due = due.to(given.device, non_blocking=True)
    whole, dtype = not given.dtype.is_floating_point, given.dtype
    given = given.detach().to(torch.float32)
    off = (given - due).abs()
    return (given == due) | (off <= tolerance(dtype) * due.abs()) | ((off < 1.0) & whole)


def same_table(name: str, given: Any, own: Tensor) -> torch.device:
    """The device of ``given``, which holds the numbers of ``own`` (moved or cast). ArgumentError
    for other numbers."""
    remedy = (
        "the table follows from the config: give trained_betas= or rescale_betas_zero_snr=True "
        "to from_config"
    )
    if not isinstance(given, Tensor) or given.shape != own.shape:
        raise ArgumentError(f"scheduler.{name} = {type(given).__name__}: {remedy}")
    if not torch.allclose(
        given.detach().float().cpu(), own.float(), rtol=2.0 * tolerance(given.dtype), atol=1e-6
    ):
        raise ArgumentError(
            f"scheduler.{name} was set to other numbers, and no step would read them: {remedy}"
        )
    return given.device
