"""Some of the Fourier coefficients of images: magnetic resonance imaging."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, described, flag, integer, number, tensor
from .fourier_maps import centred_fft, centred_hartley, centred_ifft, opposite
from .images import image_size
from .masks import seeded, sizes
from .operator import Operator
from .spectrum import Spectrum, same


class Fourier(Operator):
    """``A(x) = mask * F x``, the unitary Fourier transform where it is sampled, zero-filled; with
    coils ``mask * F (coil_k x)`` for each. Complex numbers are two real ones.

    - complex images: x (B, 2, H, W), real and imaginary part; y (B, 2, H, W), or with K coils
      (B, 2, K, H, W).
    - real images (``real=True``): x (B, ..., H, W); y (B, 2, ..., H, W).

    The frequency 0 is at (H // 2, W // 2) of y. Without coils there is a singular value
    decomposition: s = 1 where a coefficient is sampled; for real images ``s^2`` is the mean of the
    mask at a frequency and at its opposite. With coils ``prox`` is solved by conjugate gradients.
    """

    def __init__(self, mask: Tensor, coils: Tensor | None = None, real: bool = False) -> None:
        """Args:
            mask: (H, W), True or 1 where a coefficient is sampled, centred.
            coils: sensitivities (K, H, W), complex, for complex images.
            real: whether the images are real.

        Raises ArgumentError for other arguments.
        """
        given = tensor("mask", mask, floating=False)
        if given.ndim != 2 or not bool(((given == 0) | (given == 1)).all()) or not given.any():
            raise ArgumentError(
                f"mask has shape {tuple(given.shape)}: must be (height, width) of True and False, "
                "or 0 and 1, and sample something"
            )
        self.mask = given.detach().cpu().to(torch.bool)
        self.real, self.coils = flag("real", real), None
        both = self.mask.double() + opposite(self.mask).double()
        self._values = (0.5 * both).sqrt() if self.real else self.mask.double()
        self.norm_bound = float(self._values.max())
        if coils is not None:
            self.coils = _coils(coils, self.mask, self.real)
            self.norm_bound = float(self.coils.abs().square().sum(0).max().sqrt())

    @classmethod
    def lines(
        cls,
        size: Sequence[int],
        acceleration: float = 4.0,
        centre: float = 0.08,
        seed: int = 0,
        coils: Tensor | None = None,
        real: bool = False,
    ) -> Self:
        """Whole columns are sampled: of images (H, W) = ``size`` the share ``centre`` in the
        middle, and others by ``seed`` up to W / acceleration columns in all; ``acceleration`` >= 1,
        0 <= ``centre`` <= 1."""
        h, w = sizes("size", size, 2)
        count = max(1, round(w / number("acceleration", acceleration, 1.0)))
        middle = max(1, round(number("centre", centre, 0.0, 1.0) * w))
        columns = torch.zeros(w, dtype=torch.bool)
        first = w // 2 - middle // 2
        columns[first : first + middle] = True
        others = (~columns).nonzero()[:, 0]
        order = torch.randperm(len(others), generator=seeded(seed))
        columns[others[order[: max(0, count - middle)]]] = True
        return cls(columns.expand(h, w), coils, real)

    def __repr__(self) -> str:
        more = ", real=True" if self.real else ""
        more += "" if self.coils is None else f", {len(self.coils)} coils"
        return f"Fourier({int(self.mask.sum())} of {tuple(self.mask.shape)}{more})"

    def _filter(self, k: Tensor) -> Tensor:
        mask = self.stored("mask", k.real, lambda: self.mask)
        return torch.where(mask, k, 0.0)

    def _complex(self, x: Tensor) -> Tensor:
        """Samples as complex images."""
        size, wide = image_size(x, self), self.wide(x)
        if size != tuple(self.mask.shape) or not (self.real or x.shape[1:-2] == (2,)):
            channels = "..." if self.real else 2
            raise ArgumentError(
                f"{self!r} takes samples ({channels}, {self.mask.shape[0]}, {self.mask.shape[1]}); "
                f"they have shape {tuple(x.shape[1:])}"
            )
        return wide if self.real else torch.complex(wide[:, 0], wide[:, 1])

    def _parts(self, z: Tensor) -> Tensor:
        """Complex images as samples."""
        return z.real if self.real else torch.stack([z.real, z.imag], 1)

    @override
    def __call__(self, x: Tensor) -> Tensor:
        z = self._complex(x)
        if self.coils is not None:
            z = z[:, None] * self.stored("coils", x, lambda: self._maps)
        return _split(self._filter(centred_fft(z)))

    @property
    def _maps(self) -> Tensor:
        assert self.coils is not None
        return self.coils

    @override
    def adjoint(self, y: Tensor) -> Tensor:
        z = centred_ifft(self._filter(_joined(self.wide(y))))
        if self.coils is not None:
            z = (z * self.stored("coils", y, lambda: self._maps).conj()).sum(1)
        return self._parts(z)

    @override
    def zero_filled(self, y: Tensor) -> Tensor:
        return torch.where(self.stored("mask", y, lambda: self.mask), y, 0.0)

    @property
    @override
    def svd(self) -> Spectrum | None:
        def values(c: Tensor) -> Tensor:
            return self.stored("values", c, lambda: self._values)

        if self.coils is not None:
            return None
        if not self.real:
            return Spectrum(
                V=lambda c: self._parts(centred_ifft(_joined(c))),
                Vt=lambda x: _split(centred_fft(self._complex(x))),
                U=same,
                Ut=self.wide,
                values=values,
                onto=True,
            )
        return Spectrum(
            V=centred_hartley,
            Vt=lambda x: centred_hartley(self._complex(x)),
            U=lambda c: self._weighed(_split(centred_fft(centred_hartley(c)))),
            Ut=lambda y: centred_hartley(centred_ifft(_joined(self._weighed(self.wide(y)))).real),
            values=values,
        )

    def _weighed(self, y: Tensor) -> Tensor:
        """A coefficient that is sampled and whose opposite is not stands for both."""
        return y * self.stored("weights", y, self._weights)

    def _weights(self) -> Tensor:
        alone = self.mask != opposite(self.mask)
        return torch.where(alone, self.mask.double() * 2.0**0.5, 1.0)


def _split(k: Tensor) -> Tensor:
    """Complex (B, ...) as real (B, 2, ...)."""
    return torch.stack([k.real, k.imag], 1)


def _joined(y: Tensor) -> Tensor:
    """Real (B, 2, ...) as complex (B, ...)."""
    if y.ndim < 4 or y.shape[1] != 2:
        raise ArgumentError(
            f"measurements must be (batch, 2, ..., height, width), real and imaginary part; got "
            f"{tuple(y.shape)}"
        )
    return torch.complex(y[:, 0], y[:, 1])


def _coils(coils: Tensor, mask: Tensor, real: bool) -> Tensor:
    """The sensitivities in complex128. Raises ArgumentError."""
    fits = isinstance(coils, Tensor) and coils.is_complex() and coils.ndim == 3
    if not fits or coils.shape[1:] != mask.shape or not bool(torch.isfinite(coils).all()):
        raise ArgumentError(
            f"coils={described(coils)}: must be a complex tensor (K, {mask.shape[0]}, "
            f"{mask.shape[1]}) of finite numbers"
        )
    if real:
        raise ArgumentError("coils belong to complex images: leave real=False")
    integer("coils", len(coils), 1)
    return coils.detach().cpu().to(torch.complex128)
