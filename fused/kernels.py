"""A compiled kernel of the CPU: whether it was built, whether it is used, and threads for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any

import torch

from ..checks import ArgumentError, unknown

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


class Kernel:
    """The module ``_native`` of ``package``, and the choice between it and ``other``.

    Attributes:
        what: what it computes, for messages and for the environment variable ``FEWSTEP_WHAT``,
            which chooses from the start.
        backends: ``("native", other)``.
        code: the compiled module; None where it was not built.
        backend: the one that is used; ``native`` where it was built.
    """

    def __init__(self, what: str, package: str, other: str) -> None:
        self.what, self.backends = what, ("native", other)
        try:
            self.code: Any = import_module("._native", package)
        except ImportError:  # there was no compiler
            self.code = None
        self.backend = other if self.code is None else "native"
        chosen = os.environ.get(f"FEWSTEP_{what.upper()}")
        if chosen:
            self.choose(chosen)

    @property
    def used(self) -> bool:
        """Whether the kernel computes here: chosen, and no trace of ``torch.compile`` runs."""
        return self.backend == "native" and not torch.compiler.is_compiling()

    def choose(self, name: str) -> AbstractContextManager[str]:
        """Use the backend ``name`` from here on; as a context manager, until it ends. Raises
        ArgumentError for another name, and for ``native`` where it was not built."""
        if name not in self.backends:
            raise ArgumentError(unknown(f"{self.what} backend", name, self.backends))
        if name == "native" and self.code is None:
            raise ArgumentError(
                f"{self.what} backend 'native': its kernel was not built when fewstep was "
                "installed, because there was no C compiler; install one, then reinstall fewstep, "
                f"or use {self.backends[1]!r}"
            )
        before, self.backend = self.backend, name
        return self._until(before)

    @contextmanager
    def _until(self, before: str) -> Iterator[str]:
        try:
            yield self.backend
        finally:
            self.backend = before


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
