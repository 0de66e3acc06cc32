"""Noise by a compiled kernel on the CPU: Philox words, normals, uniforms and sums of normal pairs.

``native.c`` is built when the package is installed, if there is a C compiler; without one numpy
computes the same. Words, uniforms and pairs have the same bits; normals differ by 1e-6 at most,
because the kernel has polynomials for log, sine and cosine. Within the kernel a normal is the same
bits in any batch, at any place, on any number of threads and with any instruction set.
``noise_backend`` says which of the two is used and changes it; the environment variable
``FEWSTEP_NOISE`` (``numpy`` or ``native``) does so from the start.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..kernels import Kernel, share

KERNEL = Kernel("noise", __package__, "numpy")
#: what ``fill`` puts into a tensor
WORDS, NORMALS, UNIFORMS = range(3)
#: which of the instruction sets that the kernel was compiled for is used: the last one that this
#: processor has
_VERSION = 0 if KERNEL.code is None else KERNEL.code.VERSIONS - 1
#: threads share the work where each gets as many Philox blocks
_LEAST = 1 << 14


def noise_backend(name: str | None = None) -> Any:
    """Return the name of the backend of noise on the CPU, ``"native"`` or ``"numpy"``; with
    ``name``, use that one from here on. The result of the latter is a context manager that
    restores the former one: ``with noise_backend("numpy"): ...``.

    The two agree to 1e-6 in a normal, not to the bit. Raises ArgumentError for another name, and
    for ``native`` where the kernel was not built.
    """
    return KERNEL.backend if name is None else KERNEL.choose(name)


def fill(
    flat: Tensor, keys: Tensor, kind: int, address: tuple[int, int, int], last: Tensor | None = None
) -> bool:
    """Overwrite ``flat`` (n, size), 4 bytes a number, with what the blocks at counters
    ``(e div 4, *address)`` of the ``keys`` (``noise.keys_of``) hold; ``last`` (n,) takes the place
    of the third number of ``address``. False, with nothing done, where the kernel is not used."""
    if not KERNEL.used or not flat.is_cpu:
        return False
    (n, size), keys = flat.shape, keys.contiguous()
    last = None if last is None else last.contiguous()
    pointers = flat.data_ptr(), keys.data_ptr(), 0 if last is None else last.data_ptr()
    code = KERNEL.code

    def run(begin: int, end: int) -> None:
        code.fill(_VERSION, begin, end, kind, *pointers, n, size, *address)

    share(run, n * -(-size // 4), _LEAST)
    return True


def add_native_pairs(
    flat: Tensor,
    keys: Tensor,
    pairs: Tensor,
    terms: Sequence[tuple[int, tuple[int, int, int], float, float]],
) -> bool:
    """``flat[k] += c1 z1 + c2 z2`` for each (k, (stream, draw, last), c1, c2) in order: ``flat`` is
    (sums, n, size), float32 or float64, and ``pairs`` (2^16, 2) the table in the same dtype. False,
    with nothing done, where the kernel is not used."""
    if not KERNEL.used or not flat.is_cpu:
        return False
    (_, n, size), wide, keys = flat.shape, flat.dtype == torch.float64, keys.contiguous()
    packed = b"".join(struct.pack("=IIIIdd", *at, k, c1, c2) for k, at, c1, c2 in terms)
    pointers, code = (flat.data_ptr(), keys.data_ptr(), pairs.data_ptr()), KERNEL.code

    def run(begin: int, end: int) -> None:
        code.add_pairs(_VERSION, begin, end, wide, *pointers, n, size, packed)

    share(run, n * -(-size // 8), _LEAST // max(1, len(terms)))
    return True
