"""Magnitudes of Fourier coefficients."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from ...checks import number
from .fourier_maps import centred_fft
from .images import image_size
from .operator import Operator


class PhaseRetrieval(Operator):
    """``A(x) = |F P x|``: magnitudes of the unitary Fourier transform of real images (B, ..., H,
    W), each channel by itself, with zeros P around them; y (B, ..., H', W'), the frequency 0 in the
    middle.

    Not linear; differentiated by automatic differentiation, with 0 for the slope of |0|. A does not
    change when x changes its sign, or is moved within the zeros, or turned by 180 degrees: compare
    with the best of those. |A(x) - A(z)| <= |x - z|.
    """

    linear = False
    norm_bound = 1.0

    def __init__(self, oversampling: float = 2.0) -> None:
        """``oversampling``: H' / H and W' / W, >= 1, up to rounding to whole pixels; 2 determines
        most images, up to the changes above. What DPS (arXiv 2209.14687) calls 2.0 is 1.5 here: 64
        pixels on each side of 256. Raises ArgumentError for other numbers."""
        self.oversampling = float(number("oversampling", oversampling, 1.0))

    def __repr__(self) -> str:
        return f"PhaseRetrieval({self.oversampling})"

    @override
    def __call__(self, x: Tensor) -> Tensor:
        margins = [round(0.5 * (self.oversampling - 1.0) * n) for n in image_size(x, self)]
        (top, left) = margins
        k = centred_fft(torch.nn.functional.pad(self.wide(x), (left, left, top, top)))
        power = k.real.square() + k.imag.square()
        lit = power > 0.0
        return torch.where(lit, torch.where(lit, power, 1.0).sqrt(), 0.0)
