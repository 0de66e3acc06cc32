"""Noise from seeds inside ``torch.compile`` and the transforms of ``torch.func``: it is drawn
outside of what they trace. Under ``torch.compile`` on a CPU it is that of the numpy form, which is
within 1e-6 of the compiled noise kernel's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..checks import ArgumentError, host_constant, traced
from ..fused.noise.seeded import SeededNoise, check_seeds
from ..plans.running.loop import NoiseSource


def seeded(seeds: Sequence[int]) -> NoiseSource:
    """``SeededNoise`` of ``seeds``.

    Under ``torch.compile`` each draw is a constant of the graph: it takes memory, and other seeds
    make another graph. Inside vmap every entry of the mapped axis is given the same noise.
    """
    return _DrawnOutside(_checked(tuple(seeds))) if traced() else SeededNoise(check_seeds(seeds))


def refuse_traced(what: str) -> None:
    """ArgumentError where torch traces, for the noise ``what``, which keeps values on the host."""
    if traced():
        raise ArgumentError(
            f"{what} inside torch.compile or a transform of torch.func: its values are made on "
            "the host from draw to draw; give noise= as a function, or as tensors by key"
        )


class _DrawnOutside:
    """``SeededNoise`` where torch traces."""

    def __init__(self, seeds: tuple[int, ...]) -> None:
        self.seeds = seeds

    def __call__(self, key: int, like: Tensor) -> Tensor:
        shape = tuple(like.shape)
        if torch.compiler.is_compiling():
            return _draw(self.seeds, key, shape, like.device, like.dtype)[0]
        with torch._C._DisableFuncTorch():
            return _draw(self.seeds, key, shape, like.device, like.dtype)[0]


@host_constant
def _checked(seeds: tuple[int, ...]) -> tuple[int, ...]:
    return check_seeds(seeds)


@host_constant
def _draw(
    seeds: tuple[int, ...],
    key: int,
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor]:
    # the compiler gives a tuple a name of its own, and all tensors of one function the same name
    like = torch.empty(shape, dtype=dtype, device=device)
    return (SeededNoise(check_seeds(seeds))(key, like),)
