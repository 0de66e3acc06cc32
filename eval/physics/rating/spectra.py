"""Energy spectra of fields, binned by the magnitude of the wave number."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from ....checks import ArgumentError, between
from ..arguments import wide
from ..equation import Spacing
from .residuals import ratio
from .transforms import Parity, fourier, space

#: energies below this share of the reference's total count as this share: rounding of float32
FLOOR = 1e-14


class Spectrum(NamedTuple):
    """Energy by wave number.

    Attributes:
        k: magnitudes of the wave numbers of the shells (K,), multiples of the largest ``2 pi / L``
            of the axes (between walls ``pi / L``).
        energy: (B, [T,] K), in squared units of the field; the sum over the shells is the mean
            square of the field.
        k_max: the smallest Nyquist wave number ``pi / h`` of the axes; shells beyond, of corners in
            two dimensions, are incomplete.
    """

    k: Tensor
    energy: Tensor
    k_max: float

    @property
    def resolved(self) -> Tensor:
        """Which shells have ``0 < k <= k_max``, (K,)."""
        return (self.k > 0.0) & (self.k <= self.k_max * (1.0 + 1e-9))


def spectrum(
    field: Tensor, spacing: Spacing, walls: Collection[str] = (), *, odd: bool = False
) -> Spectrum:
    """``E(k) = sum |f_k|^2`` over the modes of each shell, those whose ``|k|`` is nearest to k.

    ``field`` is real or complex (B, [T,] space). Along ``walls``, whose two end points the field
    holds, it is continued evenly (cosine transform); with ``odd=True`` oddly (sine transform), for
    fields that are 0 there.
    """
    parity: Parity = "odd" if odd else "even"
    power, wave, distance = fourier(wide(field), spacing, walls, parity)
    step = max(distance.values())
    shell = (wave / step).round().long().flatten()
    power = power.flatten(-len(distance))
    energy = power.new_zeros(*power.shape[:-1], int(shell.max()) + 1)
    energy.index_add_(-1, shell, power)
    k = step * torch.arange(energy.shape[-1], dtype=energy.dtype, device=energy.device)
    k_max = min(torch.pi / float(spacing[axis]) for axis in space(spacing))
    return Spectrum(k, energy, k_max)


def log_spectral_distance(found: Spectrum, reference: Spectrum, floor: float = FLOOR) -> Tensor:
    """``sqrt(mean_k (log10 E - log10 E*)^2)`` over the resolved shells, (B,) or (B, T).

    Energies below ``floor`` times the reference's total count as that much. Energies of the
    reference may be (K,), one for all samples. Raises ArgumentError for other shells.
    """
    energy, true = _couple(found, reference)
    least = between("floor", floor, 0.0, 1.0) * true.sum(-1, keepdim=True)
    shells = found.resolved
    apart = [torch.maximum(e, least)[..., shells].log10() for e in (energy, true)]
    return (apart[0] - apart[1]).square().mean(-1).sqrt()


def high_k_ratio(found: Spectrum, reference: Spectrum) -> Tensor:
    """Energy of the resolved shells above ``k_max / 2`` over that of the reference, (B,) or (B, T):
    above 1 where a field is noisy, below 1 where it is too smooth."""
    energy, true = _couple(found, reference)
    high = found.resolved & (found.k > 0.5 * found.k_max)
    return ratio(energy[..., high].sum(-1), true[..., high].sum(-1).expand(energy.shape[:-1]))


def _couple(found: Spectrum, reference: Spectrum) -> tuple[Tensor, Tensor]:
    if found.k.shape != reference.k.shape or not torch.allclose(found.k, reference.k.to(found.k)):
        raise ArgumentError(
            f"spectra of {len(found.k)} and {len(reference.k)} shells cannot be compared: both "
            "fields must lie on one grid"
        )
    return found.energy, reference.energy.to(found.energy)
