"""Forward models ``A`` of measurements ``y = A(x0) + noise``, one family a file."""

from __future__ import annotations

from .accepted import as_operator
from .blur import Blur
from .callables import Callable
from .channels import Channels
from .colourisation import Colourisation
from .compressed_sensing import CompressedSensing
from .fourier import Fourier
from .hdr import HDR
from .inpainting import Inpaint
from .jpeg import JPEG
from .matrix import Matrix
from .named import make, names
from .operator import PARTS, Operator
from .phase_retrieval import PhaseRetrieval
from .quantisation import Quantisation
from .radon import Radon
from .spectrum import Spectrum
from .stack import Stack
from .super_resolution import SuperResolution
from .trial import check

__all__ = [
    "HDR",
    "JPEG",
    "PARTS",
    "Blur",
    "Callable",
    "Channels",
    "Colourisation",
    "CompressedSensing",
    "Fourier",
    "Inpaint",
    "Matrix",
    "Operator",
    "PhaseRetrieval",
    "Quantisation",
    "Radon",
    "Spectrum",
    "Stack",
    "SuperResolution",
    "as_operator",
    "check",
    "make",
    "names",
]
