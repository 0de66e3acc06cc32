"""Forward models ``A`` of measurements ``y = A(x0) + noise``, one family a file."""

from __future__ import annotations

from .accepted import as_operator
from .callables import Callable
from .channels import Channels
from .inpainting import Inpaint
from .matrix import Matrix
from .operator import PARTS, Operator
from .spectrum import Spectrum
from .stack import Stack

__all__ = [
    "PARTS",
    "Callable",
    "Channels",
    "Inpaint",
    "Matrix",
    "Operator",
    "Spectrum",
    "Stack",
    "as_operator",
]
