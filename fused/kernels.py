"""Which kernels compute, on the CPU and on CUDA, and threads for those of the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

import torch

from ..checks import ArgumentError, traced, unknown
from .devices import failure, missing, triton_on

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


class Kernel:
    """The kernels of one kind of work and the choice between them: the module ``_native`` of
    ``package`` on the CPU, triton on CUDA, and forms without a kernel.

    Attributes:
        what: what they compute, for messages and for the environment variable ``FEWSTEP_WHAT``,
            which chooses from the start.
        backends: those of the CPU, ``("native", other)``.
        code: the compiled module; None where it was not built.
        backend: the one of the CPU that is used; ``native`` where it was built.
        device: the one that is chosen on CUDA, ``triton`` or ``torch``; None: triton where it is
            installed and passes its check.
    """

    def __init__(self, what: str, package: str, other: str) -> None:
        self.what, self.backends = what, ("native", other)
        try:
            self.code: Any = import_module("._native", package)
        except ImportError:  # there was no compiler
            self.code = None
        self.backend = self._automatic = other if self.code is None else "native"
        self.device: str | None = None
        chosen = os.environ.get(f"FEWSTEP_{what.upper()}")
        if chosen:
            self.choose(chosen)

    @property
    def used(self) -> bool:
        """Whether the kernel computes on the CPU: chosen, and no trace of ``torch.compile``
        runs."""
        return self.backend == "native" and not torch.compiler.is_compiling()

    def on(self, device: torch.device) -> str:
        """The backend that computes on ``device``."""
        if self.by_triton(device):
            return "triton"
        return self.backend if device.type == "cpu" else "torch"

    def by_triton(self, device: torch.device) -> bool:
        """Whether triton computes on ``device``, and torch traces nothing."""
        if device.type == "cpu" and self.device != "triton":
            return False
        if self.device == "torch" or not triton_on(device) or traced():
            return False
        if (reason := failure(device)) is not None and self.device == "triton":
            raise ArgumentError(
                f"{self.what} backend 'triton' cannot be used on {device}: {reason}"
            )
        return reason is None

    def choose(self, name: str) -> AbstractContextManager[str]:
        """Use the backend ``name`` from here on; as a context manager, until it ends. ``triton``
        leaves the CPU as it is by default, ``native`` CUDA; the other one has no kernel anywhere.
        Raises ArgumentError for another name, for ``native`` where it was not built, and for
        ``triton`` where it is not installed or there is no CUDA device."""
        if name not in (*self.backends, "triton"):
            raise ArgumentError(unknown(f"{self.what} backend", name, (*self.backends, "triton")))
        if name == "native" and self.code is None:
            raise ArgumentError(
                f"{self.what} backend 'native': its kernel was not built when fewstep was "
                "installed, because there was no C compiler; install one, then reinstall fewstep, "
                f"or use {self.backends[1]!r}"
            )
        if name == "triton" and (reason := missing()) is not None:
            raise ArgumentError(f"{self.what} backend 'triton': {reason}")
        before = self.backend, self.device
        self.backend = self._automatic if name == "triton" else name
        self.device = {"native": None, "triton": "triton"}.get(name, "torch")
        return self._until(name, before)

    @contextmanager
    def _until(self, name: str, before: tuple[str, str | None]) -> Iterator[str]:
        try:
            yield name
        finally:
            self.backend, self.device = before


def share(run: Callable[[int, int], object], size: int, least: int) -> None:
    """``run(begin, end)`` on parts of ``range(size)``, one a thread of torch's number of threads;
    on this thread alone where there would be less than ``least`` for each. ``run`` must give up
    the interpreter's lock."""
    most = torch.get_num_threads()
    each = -(-size // max(1, min(most, size // max(1, least))))
    if each >= size:
        run(0, size)
        return
    pool = _pools.get((os.getpid(), most))
    if pool is None:
        _pools.clear()  # those of a parent process do not live on in a fork
        pool = _pools[os.getpid(), most] = ThreadPoolExecutor(most - 1, "fewstep")
    others = [pool.submit(run, at, min(at + each, size)) for at in range(each, size, each)]
    run(0, each)
    for other in others:
        other.result()
