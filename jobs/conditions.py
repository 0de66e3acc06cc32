"""The conditions of samples: class labels, or the tensors of a safetensors file; checked before the
network is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError
from ..files import file_hash, read_tensors
from .blocks import Block

if TYPE_CHECKING:
    from ..models.denoiser import Condition, Denoiser


class Conditions:
    """The condition of each block. A file's tensors have one row for all samples, or one row a
    sample in the order of the seeds."""

    def __init__(self, file: str | None, blocks: Sequence[Block], denoiser: Denoiser) -> None:
        """Reads the file and checks it with the model. Raises ArgumentError (or the model's own
        error) for conditions that the model does not take."""
        from ..models.wrapper import complete

        self.tensors: dict[str, Any] = {} if file is None else read_tensors(file, "cond")
        self.hashes = {} if file is None else {"cond_sha256": file_hash(file)}
        self.starts = {
            block.index: sum(len(b.seeds) for b in blocks[:k]) for k, block in enumerate(blocks)
        }
        total = sum(len(block.seeds) for block in blocks)
        for name, value in self.tensors.items():
            if value.ndim == 0 or value.shape[0] not in (1, total):
                raise ArgumentError(
                    f"cond={file}: {name!r} has shape {tuple(value.shape)}; its rows are "
                    f"1, or {total}: one a sample"
                )
        if blocks:
            complete(denoiser).check_cond(self.of(blocks[0], "cpu"), len(blocks[0].seeds))

    def of(self, block: Block, device: Any) -> Condition:
        """The condition of ``block``, one row a sample; None if there is none."""
        import torch

        count, first = len(block.seeds), self.starts[block.index]
        if self.tensors:
            rows = {
                k: v.expand(count, *v.shape[1:]) if v.shape[0] == 1 else v[first : first + count]
                for k, v in self.tensors.items()
            }
            return {name: value.to(device) for name, value in rows.items()}
        labels = [k for k in block.labels if k is not None]
        return torch.tensor(labels, device=device) if labels else None
