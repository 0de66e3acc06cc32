"""Detects whether a tensor was written into since an earlier moment.

torch counts the writes to a tensor, except to one made under ``torch.inference_mode``, which has
no version counter and raises when it is read.
"""

from __future__ import annotations

import torch
from torch import Tensor


def version(x: Tensor) -> int:
    """The number of writes to ``x`` so far; -1 for an inference tensor."""
    return -1 if x.is_inference() else x._version


def edited(x: Tensor, before: int, kept: Tensor | None = None) -> bool:
    """Whether ``x`` was written into since ``version`` said ``before``.

    An inference tensor is compared with ``kept``, what it was then, which waits for the device;
    without one the answer is True.
    """
    if before < 0 or x.is_inference():
        return kept is None or not torch.equal(x, kept)
    return x._version != before
