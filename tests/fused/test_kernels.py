"""Work shared out to threads: every part once, and one set of threads."""

from __future__ import annotations

import threading

import pytest
import torch

from fewstep.fused import kernels
from fewstep.fused.kernels import share


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("least", [0, 1, 5, 100])
def test_the_parts_are_the_whole(threads, least, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for size in (0, 1, 2, 3, 10, 11, 99, 1000):
        parts: list[tuple[int, int]] = []
        share(lambda begin, end, into=parts: into.append((begin, end)), size, least)
        ends = [at for part in sorted(parts) for at in part]
        assert ends[0] == 0 and ends[-1] == size and ends[1:-1:2] == ends[2:-1:2]
        assert len(parts) <= max(1, min(threads, size // max(1, least)))
        if size == 1000 and least <= 100:
            assert len(parts) == threads


def test_threads_are_kept_whatever_the_size(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    share(lambda begin, end: None, 8, 1)
    pool, seen = dict(kernels._pools), set()
    for size in (2, 8, 3, 40):
        share(lambda begin, end: seen.add(threading.get_ident()), size, 1)
    assert kernels._pools == pool and 1 < len(seen) <= 4


def test_an_error_of_a_part_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def run(begin, end):
        if begin:
            raise ValueError("second part")

    with pytest.raises(ValueError, match="second part"):
        share(run, 10, 1)
