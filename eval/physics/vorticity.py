r"""Vorticity of an incompressible flow on a torus, shared by its equations:

    w_t + u . grad w = nu Laplace w - drag w + force,
    Laplace psi = -w,  u = (psi_y, -psi_x).

Products are formed without aliasing: the advection is ``P div(P u P w)`` with the projection P on
the modes of index below a third of the points in each direction (the 2/3 rule). Residual and solver
share it, and it conserves energy and enstrophy. Modes outside of P feel the linear terms and the
force alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError
from .derivatives.differences import difference, running_integral
from .derivatives.spectral import resolved, wave_numbers
from .norms import largest, rms
from .periodic_plane import inverse, mean, square_wave_numbers
from .stepping.exponential import etdrk4, substeps_for

#: steps are this long, in units of 1 / (max|u_x| + max|u_y|) / (largest wave number of P)
COURANT = 1.0
#: so many points of a batch are solved together on the CPU: 32 samples of 64 x 64
TOGETHER = 1 << 17
#: the mean of a vorticity is taken for zero below this fraction of its root mean square
MEAN = 1e-3


@dataclass(frozen=True)
class Modes:
    """Wave numbers of ``torch.fft.rfft2`` of a field (..., X, Y), and what is made of them.

    Attributes:
        ddx, ddy: ``i k`` of the first derivatives, zero outside of P, (X, Y/2 + 1).
        square: ``k_x^2 + k_y^2``.
        inverse: ``1 / square``, zero for the mean.
        kept: 1 inside of P, else 0.
    """

    ddx: Tensor
    ddy: Tensor
    square: Tensor
    inverse: Tensor
    kept: Tensor

    @classmethod
    def of(cls, w: Tensor, spacing: dict[str, float]) -> Modes:
        """The modes of the grid of ``w``, on its device."""
        n, m = w.shape[-2:]
        kx = wave_numbers(n, spacing["x"], like=w)[:, None]
        ky = wave_numbers(m, spacing["y"], like=w)[: m // 2 + 1].abs()
        kept = resolved(n, w)[:, None] * resolved(m, w)[: m // 2 + 1]
        square = square_wave_numbers(w, spacing)
        over = torch.where(square == 0.0, 0.0, 1.0 / torch.where(square == 0.0, 1.0, square))
        return cls(1j * kx * kept, 1j * ky * kept, square, over, kept)

    def velocity(self, spectrum: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """``P (psi_y, -psi_x)`` on the grid of ``shape``, of the spectrum of a vorticity."""
        psi = self.inverse * spectrum
        return inverse(self.ddy * psi, shape), inverse(-self.ddx * psi, shape)

    def advection(self, spectrum: Tensor, shape: torch.Size) -> Tensor:
        """Spectrum of ``P div(P u P w)``."""
        u, v = self.velocity(spectrum, shape)
        w = inverse(self.kept * spectrum, shape)
        flux: Tensor = self.ddx * torch.fft.rfft2(u * w) + self.ddy * torch.fft.rfft2(v * w)
        return flux


@dataclass(frozen=True)
class Flow:
    """A vorticity in space and time, with what acts on it.

    Attributes:
        w: (B, [T,] X, Y).
        spacing: axis -> distance.
        nu, drag: numbers, or one a sample as (B, 1, ...), ready to be multiplied with ``w``.
        force: a number, or values that broadcast with ``w``.
        w_t: the time derivative, or None for differences of order 4 in time.
    """

    w: Tensor
    spacing: dict[str, float]
    nu: Tensor | float
    drag: Tensor | float
    force: Tensor | float
    w_t: Tensor | None = None

    def terms(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """``w_t``, ``u . grad w``, ``nu Laplace w``, ``drag w`` and the force, (B, T, X, Y)."""
        w, modes = self.w, Modes.of(self.w, self.spacing)
        w_t = difference(w, self.spacing["t"], 1) if self.w_t is None else self.w_t
        spectrum = torch.fft.rfft2(w)
        advection = inverse(modes.advection(spectrum, w.shape), w.shape)
        laplacian = inverse(-modes.square * spectrum, w.shape)
        return w_t, advection, self.nu * laplacian, self.drag * w, self.force + torch.zeros_like(w)

    def residual(self) -> Tensor:
        """``w_t + u . grad w - nu Laplace w + drag w - force``."""
        w_t, advection, diffusion, drag, force = self.terms()
        return w_t + advection - diffusion + drag - force

    def scale(self) -> Tensor:
        """Root mean square of the largest term, (B,)."""
        return largest(*self.terms())

    def conserved(self) -> dict[str, Tensor]:
        """Quantities that the equation keeps constant, each the mean over the torus, (B, T):

        ``circulation``: ``<w>``, zero on a torus. ``energy_balance`` and ``enstrophy_balance``:
        ``E = <|u|^2>/2`` and ``Z = <w^2>/2`` less what viscosity, drag and force have put in since
        the first time,

            dE/dt = -nu <w^2> - drag <|u|^2> + <force psi>,
            dZ/dt = -nu <|grad w|^2> - drag <w^2> + <force w>,

        integrated in time at order 4. Without these three they are E and Z.
        """
        w, modes = self.w, Modes.of(self.w, self.spacing)
        spectrum = torch.fft.rfft2(w)
        psi = inverse(modes.inverse * spectrum, w.shape)
        curl = inverse(-modes.square * spectrum, w.shape)
        energy, enstrophy = mean(psi * w) / 2.0, mean(w * w) / 2.0
        acting = self.nu * curl - self.drag * w + self.force
        dt = self.spacing["t"]
        return {
            "circulation": mean(w),
            "energy_balance": energy - running_integral(mean(psi * acting), dt, 1),
            "enstrophy_balance": enstrophy - running_integral(mean(w * acting), dt, 1),
        }

    def rows(self, start: int, stop: int) -> Flow:
        """The samples ``start .. stop - 1`` of a batch of more than one."""
        batch = len(self.w)

        def cut(value: Tensor | float) -> Tensor | float:
            if not isinstance(value, Tensor) or value.ndim != self.w.ndim or len(value) != batch:
                return value
            return value[start:stop]

        w_t = None if self.w_t is None else self.w_t[start:stop]
        nu, drag, force = cut(self.nu), cut(self.drag), cut(self.force)
        return Flow(self.w[start:stop], self.spacing, nu, drag, force, w_t)

    def solve(self, frames: int, substeps: int | None = None) -> Tensor:
        """``frames`` states ``spacing["t"]`` apart from the first, ``w`` (B, X, Y), by ETDRK4:
        (B, frames, X, Y).

        ``substeps`` is the number of steps between two of them. By default it is chosen anew for
        each interval, for the samples that are solved together, so that a step is at most
        ``COURANT`` in units of ``1 / ((max|u_x| + max|u_y|) k)``, k the largest wave number of P
        and u the velocity at the interval's start with that which the force adds in it. On the CPU
        samples of ``TOGETHER`` points in all are, so that they stay in the cache; elsewhere the
        whole batch.

        Raises ArgumentError where the mean of ``w`` or of the force is not zero.
        """
        check_mean("field 'w'", self.w)
        check_mean("the force", self.force + torch.zeros_like(self.w))
        batch = len(self.w)
        group = max(1, TOGETHER // self.w[0].numel()) if self.w.device.type == "cpu" else batch
        parts = [self.rows(i, min(i + group, batch)) for i in range(0, batch, group)]
        return torch.cat([part._solve(frames, substeps) for part in parts])

    def _solve(self, frames: int, substeps: int | None) -> Tensor:
        force = self.force + torch.zeros_like(self.w)
        modes = Modes.of(self.w, self.spacing)
        shape, force = self.w.shape, torch.fft.rfft2(force)
        rate = -self.nu * modes.square - self.drag * torch.ones_like(modes.square)

        def nonlinear(v: Tensor, t: float) -> Tensor:
            change: Tensor = force - modes.advection(v, shape)
            return change

        start, dt = torch.fft.rfft2(self.w), self.spacing["t"]
        if substeps is not None:
            states = etdrk4(start, rate, nonlinear, dt, frames=frames, substeps=substeps)
        else:
            found = [start]
            for _ in range(frames - 1):
                steps = substeps_for(dt, self._step(found[-1], force, modes))
                found.append(etdrk4(found[-1], rate, nonlinear, dt, frames=2, substeps=steps)[:, 1])
            states = torch.stack(found, 1)
        later = inverse(states[:, 1:], shape)
        return torch.cat([self.w[:, None], later], 1)

    def _step(self, spectrum: Tensor, force: Tensor, modes: Modes) -> float:
        """The longest step from the state ``spectrum`` that ``COURANT`` allows."""
        dt = self.spacing["t"]
        now, added = (
            sum(float(part.detach().abs().max()) for part in modes.velocity(s, self.w.shape))
            for s in (spectrum, force)
        )
        k = max(float(modes.ddx.abs().max()), float(modes.ddy.abs().max()))
        return COURANT / max((now + dt * added) * k, COURANT / dt)


def velocity(w: Tensor, spacing: dict[str, float]) -> tuple[Tensor, Tensor]:
    """The velocity ``(psi_y, -psi_x)`` with ``Laplace psi = -w`` of a vorticity (..., X, Y), its
    mean left out: every mode, the Nyquist modes of odd derivatives apart."""
    n, m = w.shape[-2:]
    spectrum = torch.fft.rfft2(w) * Modes.of(w, spacing).inverse
    kx = wave_numbers(n, spacing["x"], odd=True, like=w)[:, None]
    ky = wave_numbers(m, spacing["y"], odd=True, like=w)[: m // 2 + 1]
    return inverse(1j * ky * spectrum, w.shape), inverse(-1j * kx * spectrum, w.shape)


def check_mean(what: str, value: Tensor) -> None:
    """Raise ArgumentError if the mean of a sample's ``value`` (B, X, Y) is not zero."""
    found, size = mean(value).abs(), rms(value)
    bad = found > MEAN * size
    if bool(bad.any()):
        i = int(bad.nonzero()[0])
        raise ArgumentError(
            f"{what} has the mean {float(found[i]):.3g} in sample {i} (root mean square "
            f"{float(size[i]):.3g}); on a torus it must be 0: subtract "
            "mean((-2, -1), keepdim=True)"
        )


def check_whole(name: str, axis: str, length: float, period: float, forced: bool = True) -> None:
    """Raise ArgumentError if ``forced`` and ``length`` is no whole number of periods of the force
    that the parameter ``name`` sets."""
    turns = length / period
    if forced and (round(turns) < 1 or abs(turns - round(turns)) > 1e-6 * turns):
        raise ArgumentError(
            f"{name}: its force has the period {period:.6g} in {axis}, but the torus the length "
            f"{length:.6g}; give the spacing length / points, or your own force as source"
        )
