"""The linear step by a compiled kernel: one pass over memory, on the CPU.

``native.c`` is built when the package is installed, if there is a C compiler; without one the
torch form runs, with the same bits on processors that fuse multiply and add. ``linear_backend``
says which one is used and changes it; the environment variable ``FEWSTEP_LINEAR`` (``torch`` or
``native``) does so from the start.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, unknown

#: names of the ways to compute a step on the CPU
BACKENDS = ("native", "torch")
#: dtype -> its number in native.c
_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}
#: from this many terms times elements on, the elements are shared out to threads
_SHARED = 1 << 20
#: most tensors of one step
_MOST = 64


def _load() -> Any:
    try:
        return import_module("._native", __package__)
    except ImportError:  # there was no compiler
        return None


_kernel: Any = _load()
_chosen: list[str] = [BACKENDS[0] if _kernel is not None else BACKENDS[1]]
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _choose(name: str) -> None:
    if name not in BACKENDS:
        raise ArgumentError(unknown("linear backend", name, BACKENDS))
    if name == "native" and _kernel is None:
        raise ArgumentError(
            "linear backend 'native': its kernel was not built when fewstep was installed, because "
            "there was no C compiler; install one, then reinstall fewstep, or use 'torch'"
        )
    _chosen[0] = name


if os.environ.get("FEWSTEP_LINEAR"):
    _choose(os.environ["FEWSTEP_LINEAR"])


@contextmanager
def _restored(before: str) -> Iterator[str]:
    try:
        yield _chosen[0]
    finally:
        _chosen[0] = before


def linear_backend(name: str | None = None) -> Any:
    """Return the name of the backend of linear steps on the CPU, ``"native"`` or ``"torch"``; with
    ``name``, use that one from here on. The result of the latter is a context manager that
    restores the former one: ``with linear_backend("torch"): ...``.

    Raises ArgumentError for another name, and for ``native`` where the kernel was not built.
    """
    if name is None:
        return _chosen[0]
    before = _chosen[0]
    _choose(name)
    return _restored(before)


def pack(rows: Sequence[Sequence[tuple[int, float]]]) -> bytes:
    """The (input, number) pairs of each output, as native.c reads them."""
    terms = [term for row in rows for term in ((-1, 0.0), *row)]
    return b"".join(struct.pack("=iid", i, 0, c) for i, c in terms)


def native_step(
    packed: bytes, inputs: Sequence[Tensor], outputs: Sequence[Tensor], dtype: torch.dtype
) -> bool:
    """Overwrite ``outputs``, all of ``dtype``; False, with nothing done, where the kernel is not
    used or does not take the tensors: another device, a layout that is not contiguous, a subclass,
    an input wider than the outputs.

    No gradient is recorded. Outputs may not share memory with another tensor.
    """
    if _chosen[0] != "native" or torch.compiler.is_compiling() or not outputs:
        return False
    if len(inputs) + len(outputs) > _MOST or (dtype == torch.float16 and not _kernel.HALF):
        return False
    arguments = _arguments(inputs, outputs, dtype)
    if arguments is None:
        return False
    count, size = len(inputs), outputs[0].numel()
    threads = torch.get_num_threads()
    if threads > 1 and size * len(packed) // 16 >= _SHARED:
        _shared(packed, size, count, arguments, threads)
    else:
        _kernel.step(packed, 0, size, count, *arguments)
    torch.autograd.graph.increment_version(outputs)
    return True


def _arguments(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], dtype: torch.dtype
) -> list[int] | None:
    """Address and type of every tensor; None where the kernel does not take one."""
    found: list[int] = []
    try:
        for t in (*inputs, *outputs):
            kind = _TYPES.get(t.dtype)
            if kind is None or type(t) is not Tensor or not (t.is_cpu and t.is_contiguous()):
                return None
            if (kind == 3) > (dtype == torch.float64) or (kind == 2 and not _kernel.HALF):
                return None
            if t.is_neg():
                return None
            found += (t.data_ptr(), kind)
    except RuntimeError:  # inside a transform of torch.func a tensor has no memory of its own
        return None
    return found


def _shared(packed: bytes, size: int, count: int, arguments: list[int], threads: int) -> None:
    """The step with its elements shared out to threads; the kernel gives up the interpreter's
    lock."""
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools.clear()  # those of a parent process do not live on in a fork
        _pools[key] = ThreadPoolExecutor(threads - 1, "fewstep-linear")
    each = -(-size // threads)
    parts = [(at, min(at + each, size)) for at in range(0, size, each)]
    step = _kernel.step
    others = [
        _pools[key].submit(step, packed, begin, end, count, *arguments) for begin, end in parts[1:]
    ]
    step(packed, *parts[0], count, *arguments)
    for other in others:
        other.result()
