"""``Operator``, the base class of forward models.

    y = A(x0) + noise,    A: (B, *shape) -> (B, *measured)

Data of an operator follow the dtype and the device of what it is given, in float32 or better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor
from typing_extensions import Self

from ...checks import ArgumentError, integer, number
from .conjugate_gradients import conjugate_gradients
from .derivatives import Linearised, linearised, no_gradient
from .spectrum import Spectrum, largest

#: what an operator may have, beside ``__call__``
PARTS = ("adjoint", "pinverse", "svd", "prox", "norm_bound")
#: most conjugate gradient steps of a ``prox`` without closed form
MOST_STEPS = 2000


class Operator:
    """A forward model. A linear one defines ``__call__`` and ``adjoint``, and ``svd`` where there
    is one: ``pinverse``, ``gram_solve`` and ``prox`` follow from it (or are defined in its place).
    Without it ``prox`` is solved by conjugate gradients. One that is not linear defines
    ``__call__`` only, of differentiable operations of torch; ``has`` says what there is.
    """

    #: whether ``A(a x + b z) = a A(x) + b A(z)``
    linear: bool = True
    #: whether automatic differentiation goes through ``__call__``
    differentiable: bool = True
    #: of one sample, where the operator is for one shape only
    shape: tuple[int, ...] | None = None
    #: an upper bound of the spectral norm (of the derivative, if A is not linear); None: unknown
    norm_bound: float | None = None

    @property
    def svd(self) -> Spectrum | None:
        """``A = U diag(s) V^T``; None where it is not known."""
        return None

    @property
    def solvable(self) -> bool:
        """Whether ``gram_solve`` has a closed form."""
        return self.svd is not None or type(self).gram_solve is not Operator.gram_solve

    @property
    def invertible(self) -> bool:
        """Whether ``pinverse`` has a closed form."""
        return self.svd is not None or type(self).pinverse is not Operator.pinverse

    @property
    def has(self) -> tuple[str, ...]:
        """Those of ``PARTS`` that are exact or in closed form."""
        known = {
            "adjoint": self.linear,
            "pinverse": self.invertible,
            "svd": self.svd is not None,
            "prox": self.linear and self.solvable,
            "norm_bound": self.norm_bound is not None,
        }
        return tuple(name for name in PARTS if known[name])

    def __call__(self, x: Tensor) -> Tensor:
        """A(x), (B, *measured), of x (B, *shape)."""
        raise NotImplementedError

    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y`` of y (B, *measured), with the elements of (B, *shape) in their order."""
        raise ArgumentError(f"{self!r} has no adjoint")

    def pinverse(self, y: Tensor) -> Tensor:
        """``A^+ y``, the pseudo-inverse; of an A that is not linear, a map with ``A A^+ A = A``.
        ArgumentError where there is none in closed form."""
        if self.svd is None:
            raise ArgumentError(f"{self!r} has no pseudo-inverse in closed form")
        return self.svd.pinverse(y)

    def prox(self, x: Tensor, y: Tensor, rho: Tensor | float) -> Tensor:
        """``argmin_z |y - A z|^2 + rho |z - x|^2``, shaped like ``x``; rho > 0, a number or (B, 1,
        ..., 1). For noise sigma_y and a prior of standard deviation r, ``rho = (sigma_y / r)^2``.

        Where there is no closed form: conjugate gradients in float32 or better, as many steps as
        the norm of A and rho ask for, at most 2000; rho is then read from the device. ArgumentError
        for an operator that is not linear.
        """
        if not self.linear:
            raise ArgumentError(f"{self!r} is not linear: it has no proximal map in closed form")
        left = y - self(x)
        found: Tensor | None
        if not self.solvable:
            found = self._iterated(left, x, rho)
        elif isinstance(rho, Tensor):
            own = rho.reshape(-1, *(1,) * (left.ndim - 1)).to(left)
            found = self.gram_solve(left / own, 1.0 / own, 1.0)
        else:
            found = self.gram_solve(left, 1.0, rho)
        assert found is not None
        return x + self.adjoint(found).reshape_as(x)

    def _iterated(self, left: Tensor, x: Tensor, rho: Tensor | float) -> Tensor:
        """``(A A^T + rho)^-1 left`` by conjugate gradients, to the rounding of the dtype."""
        own = rho.reshape(-1, *(1,) * (left.ndim - 1)).to(left) if isinstance(rho, Tensor) else rho
        least = float(own.min()) if isinstance(own, Tensor) else own
        # the error falls by (1 - 2 / sqrt(condition)) a step; digits run out at eps
        bound = self._bound(tuple(x.shape[1:]))
        condition = (bound * bound + least) / least
        digits = math.log(2.0 / torch.finfo(left.dtype).eps)
        steps = math.ceil(0.5 * math.sqrt(condition) * digits)
        steps = min(steps, MOST_STEPS, 3 * left[0].numel())

        def product(v: Tensor) -> Tensor:
            back = self.adjoint(v).reshape(left.shape[0], *x.shape[1:])
            return self(back) + own * v

        return conjugate_gradients(product, left, steps)

    def _bound(self, shape: tuple[int, ...]) -> float:
        """The norm bound, or a little more than the norm."""
        if self.norm_bound is not None:
            return self.norm_bound
        known: dict[tuple[int, ...], float] = self.__dict__.setdefault("_norms", {})
        if shape not in known:
            known[shape] = 1.1 * self.norm(shape, iterations=20)
        return known[shape]

    def gram_solve(self, y: Tensor, scale: Tensor | float, shift: float) -> Tensor | None:
        """``(scale A A^T + shift)^+ y`` in closed form, or None where there is none. ``scale``: a
        number, or (B, 1, ..., 1)."""
        return None if self.svd is None else self.svd.gram_solve(y, scale, shift)

    def norm(self, shape: Sequence[int], iterations: int = 100, seed: int = 0) -> float:
        """The spectral norm for samples of this shape, in float64 on the CPU: the largest singular
        value where there is an SVD, else an estimate from below by ``iterations`` power
        iterations."""
        if not self.linear:
            raise ArgumentError(f"{self!r} is not linear: it has no spectral norm")
        generator = torch.Generator().manual_seed(seed)
        own = self.samples(shape) or 1
        x = torch.randn((own, *shape), generator=generator, dtype=torch.float64)
        if self.svd is not None:
            return largest(self.svd, x)
        size = 0.0
        for _ in range(integer("iterations", iterations, 1)):
            length = torch.linalg.vector_norm(x.flatten(1), dim=1)
            x = x / length.clamp_min(1e-300).reshape(-1, *(1,) * len(shape))
            y = self(x)
            size = float(torch.linalg.vector_norm(y.flatten(1), dim=1).max())
            x = self.adjoint(y).reshape_as(x)
        return size

    def linearise(self, x: Tensor, graph: bool = False) -> Linearised:
        """The operator and its derivative at ``x`` (B, *shape). ``graph``: the results can be
        differentiated themselves."""
        if self.linear:
            return Linearised(self(x), self, lambda v: self.adjoint(v).reshape_as(x))
        if not self.differentiable:
            raise no_gradient(repr(self))
        return linearised(self, x, graph)

    def samples(self, shape: Sequence[int]) -> int | None:
        """Number of samples of this shape that the operator is for; None: any."""
        return None

    def measured(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the measurement of a sample of this shape, which is that of its noise, by
        one call. Raises ArgumentError where the operator does not take such samples."""
        with torch.no_grad():
            return tuple(self(torch.zeros((self.samples(shape) or 1, *shape))).shape[1:])

    def zero_filled(self, y: Tensor) -> Tensor:
        """``y`` (B, *measured) with 0 where nothing is observed."""
        return y

    def simulate(self, x: Tensor, sigma_y: float = 0.0, seed: int = 0) -> Tensor:
        """``A(x) + sigma_y n``, n normal by ``seed``, 0 where nothing is observed."""
        number("sigma_y", sigma_y, 0.0)
        value = self(x)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        return value + sigma_y * self.zero_filled(noise.to(value))

    def check_data(self, y: Tensor) -> None:
        """Raise ArgumentError for measurements y (B, *measured) that are none of this operator."""
        if bool((self.zero_filled(y) != y).any()):
            raise ArgumentError(
                "y has values where nothing is observed; give it zero-filled: "
                "operator.zero_filled(y)"
            )

    def select(self, rows: Tensor) -> Self:
        """The operator for the samples ``rows`` (integers) of its batch; itself if all samples have
        the same one."""
        return self

    def to(self, like: Tensor, values: Tensor) -> Tensor:
        """``values``, real or complex, in the precision and on the device of ``like``, in float32
        or better; integers keep their dtype."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        if values.is_complex():
            values = values.to(dtype.to_complex())
        elif values.is_floating_point():
            values = values.to(dtype)
        return values.to(like.device)

    def stored(self, name: Hashable, like: Tensor, build: Callable[[], Tensor]) -> Tensor:
        """``to(like, build())``, kept for each name, precision and device."""
        store: dict[Hashable, Tensor] = self.__dict__.setdefault("_store", {})
        key = (name, torch.promote_types(like.dtype, torch.float32), like.device)
        if key not in store:
            with torch.inference_mode(False):  # what is kept may be differentiated later
                store[key] = self.to(like, build())
        return store[key]

    def wide(self, x: Tensor) -> Tensor:
        """``x`` in float32 or better."""
        return x.to(torch.promote_types(x.dtype, torch.float32))
