"""Every forward model at a small size: the property tests run over this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from problems import F64

from fewstep.guidance import operators

SHAPE = (2, 4, 4)
_G = torch.Generator().manual_seed(2)
MASK = torch.rand(4, 4, generator=_G) < 0.4
DENSE = torch.randn(5, 32, generator=_G, dtype=F64)
DENSE[4] = DENSE[0] - 2.0 * DENSE[1]  # rank 4
ONE = torch.randn(3, 16, generator=_G, dtype=F64)


@dataclass(frozen=True)
class Case:
    """An operator for samples of ``shape``; its ``norm_bound`` is at most ``tight`` times its norm,
    and ``has`` names the parts in closed form."""

    operator: Any
    has: tuple[str, ...]
    shape: tuple[int, ...] = SHAPE
    tight: float = 1.0


class Physics:
    """An object with A and A_adjoint, like the linear physics of deepinv, whose call adds noise."""

    def A(self, x: Any) -> Any:
        return x.cumsum(-1)

    def A_adjoint(self, y: Any) -> Any:
        return y.flip(-1).cumsum(-1).flip(-1)

    def __call__(self, x: Any) -> Any:
        raise AssertionError("the call of physics adds noise")

    forward = __call__


class Decomposed(Physics):
    """With the pseudo-inverse of deepinv's name."""

    def A_dagger(self, y: Any) -> Any:
        return torch.diff(y, dim=-1, prepend=torch.zeros_like(y[..., :1]))


def laplacian(x: Any) -> Any:
    return 4.0 * x - x.roll(1, -1) - x.roll(-1, -1) - x.roll(1, -2) - x.roll(-1, -2)


def draw(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def dense(case: Case) -> Any:
    """The matrix, column by column."""
    size = torch.Size(case.shape).numel()
    unit = torch.eye(size, dtype=F64).reshape(size, *case.shape)
    return torch.stack([case.operator(column[None])[0].flatten() for column in unit], 1)


op = operators
NONE = ("adjoint",)
BOUNDED = ("adjoint", "norm_bound")
SOLVED = ("adjoint", "pinverse", "svd", "prox")
ALL = operators.PARTS
SKEW = torch.rand(3, 5, generator=_G, dtype=F64) - 0.2
OUTER = torch.outer(torch.tensor([0.2, 0.5, 0.4], dtype=F64), torch.tensor([0.7, 0.3], dtype=F64))
SMALL = (1, 8, 6)
FREQUENCIES = torch.rand(4, 6, generator=_G) < 0.5
ODD = torch.rand(5, 3, generator=_G) < 0.5
COILS = torch.randn(3, 4, 6, generator=_G, dtype=torch.complex128)
LINEAR = {
    "matrix": Case(op.Matrix(DENSE, SHAPE), ALL),
    "inpaint": Case(op.Inpaint(MASK), ALL),
    "inpaint, a mask for each channel": Case(
        op.Inpaint(torch.stack([MASK, torch.zeros_like(MASK)])), ALL
    ),
    "inpaint, box": Case(op.Inpaint.box((4, 4), (2, 3)), ALL),
    "inpaint, random": Case(op.Inpaint.random((4, 4), 0.3, seed=1), ALL),
    "inpaint, half": Case(op.Inpaint.half((4, 4), "top"), ALL),
    "channels": Case(op.Channels([1], 2), ALL),
    "channels of a matrix": Case(op.Channels(1, 2, op.Matrix(ONE)), ALL),
    "channels inpainted": Case(op.Channels([1, 0], 2, op.Inpaint(MASK)), ALL),
    "callable": Case(op.Callable(laplacian, linear=True, shape=SHAPE), NONE),
    "physics": Case(op.as_operator(Physics()), NONE),
    "physics with a pseudo-inverse": Case(op.as_operator(Decomposed()), ("adjoint", "pinverse")),
    "stack": Case(
        op.Stack(
            [
                op.Inpaint(MASK),
                DENSE,
                op.Callable(laplacian, linear=True, shape=SHAPE),
            ],
            [1.0, 0.5, -2.0],
        ),
        NONE,
    ),
    "stack of bounded ones": Case(
        op.Stack([op.Inpaint(MASK), DENSE], [-2.0, 0.5]), BOUNDED, tight=1.5
    ),
    "super-resolution, average": Case(op.SuperResolution(2), ALL, SMALL),
    "super-resolution, bicubic": Case(op.SuperResolution(2, "bicubic"), ALL, SMALL, 1.6),
    "super-resolution, bicubic 4": Case(op.SuperResolution(4, "bicubic"), ALL, (8, 12), 1.6),
    "blur, circular": Case(op.Blur(SKEW), ALL, SMALL, 1.2),
    "blur, circular and larger than the image": Case(
        op.Blur.motion(9, 1.0, seed=1), ALL, (1, 8, 5)
    ),
    "blur, zero": Case(op.Blur(SKEW, "zero"), BOUNDED, SMALL, 1.6),
    "blur, zero, larger than the image": Case(op.Blur.gaussian(0.8, 9, "zero"), ALL, (6, 5), 2.0),
    "blur, reflect": Case(op.Blur(SKEW, "reflect"), BOUNDED, SMALL, 2.5),
    "blur, separable zero": Case(op.Blur(OUTER, "zero"), ALL, SMALL, 1.6),
    "blur, separable reflect": Case(op.Blur(OUTER, "reflect"), ALL, SMALL, 2.1),
    "blur, Gaussian reflect": Case(
        op.Blur.gaussian((0.6, 1.0), boundary="reflect"), ALL, (1, 8, 6), 2.1
    ),
    "blur, motion": Case(op.Blur.motion(5, seed=3), ALL, SMALL),
    "colourisation": Case(op.Colourisation(), ALL, (3, 2, 3)),
    "colourisation, weights": Case(op.Colourisation((0.299, 0.587, 0.114)), ALL, (3, 2, 3)),
    "fourier": Case(op.Fourier(FREQUENCIES), ALL, (2, 4, 6)),
    "fourier, odd": Case(op.Fourier(ODD), ALL, (2, 5, 3)),
    "fourier, lines": Case(op.Fourier.lines((4, 6), 2.0), ALL, (2, 4, 6)),
    "fourier, real": Case(op.Fourier(FREQUENCIES, real=True), ALL, (4, 6)),
    "fourier, real, odd, channels": Case(op.Fourier(ODD, real=True), ALL, (2, 5, 3)),
    "fourier, coils": Case(op.Fourier(FREQUENCIES, COILS), BOUNDED, (2, 4, 6), 1.5),
    "compressed sensing": Case(op.CompressedSensing((2, 4, 3), 7), ALL, (2, 4, 3)),
    "compressed sensing, all": Case(op.CompressedSensing((2, 8), 16), ALL, (2, 8)),
    "compressed sensing, Gaussian": Case(
        op.CompressedSensing((1, 3, 3), 5, "gaussian"), ALL, (1, 3, 3)
    ),
    "radon": Case(op.Radon(6, 5), BOUNDED, (1, 6, 6), 1.001),
    "radon, few detectors": Case(op.Radon(5, (0.3, 1.1), 4), BOUNDED, (5, 5), 1.1),
}
#: forward models that are not linear
NONLINEAR = {
    "callable": Case(op.Callable(torch.tanh), (), SHAPE),
    "phase retrieval": Case(op.PhaseRetrieval(), ("norm_bound",), SHAPE),
    "phase retrieval, odd": Case(op.PhaseRetrieval(1.5), ("norm_bound",), (5, 3)),
    "hdr": Case(op.HDR(), ("pinverse", "norm_bound"), SHAPE),
    "quantisation": Case(op.Quantisation(5), ("pinverse",), SHAPE),
    "quantisation, no gradient": Case(op.Quantisation(4, -0.5, 2.0, "none"), ("pinverse",), SHAPE),
    "jpeg, grey": Case(op.JPEG(30), ("pinverse",), (1, 8, 16)),
    "jpeg": Case(op.JPEG(50), ("pinverse",), (3, 8, 8)),
    "jpeg, 4:2:0": Case(op.JPEG(50, "4:2:0"), ("pinverse",), (3, 16, 16)),
    "jpeg, no gradient": Case(op.JPEG(90, gradient="none"), ("pinverse",), (1, 8, 8)),
}
