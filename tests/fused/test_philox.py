"""Philox4x32-10 against its published answers and against the paper's round in unbounded
integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewstep.fused.noise.philox import M0, M1, W0, W1, WORD, philox4x32, philox4x32_host

ALL = 0xFFFFFFFF
#: the known answers published with Random123: counter, key, output
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL, ALL, ALL, ALL), (ALL, ALL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def words_of(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """The paper's round in unbounded Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = M0 * c[0], M1 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & WORD, (p0 >> 32) ^ c[3] ^ k[1], p0 & WORD]
        k = [(k[0] + W0) & WORD, (k[1] + W1) & WORD]
    return tuple(c)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(
    counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]
) -> None:
    assert words_of(counter, key) == answer
    assert tuple(int(w) for w in philox4x32(counter, key)) == answer
    tensors = philox4x32([torch.tensor([c, c]) for c in counter], [torch.tensor([k]) for k in key])
    assert all(
        w.dtype == torch.int64 and w.tolist() == [a, a]
        for w, a in zip(tensors, answer, strict=True)
    )
    for shape in ((), (1,), (2, 3)):
        host = philox4x32_host(
            [np.full(shape, c, np.uint64) for c in counter],
            [np.full(shape, k, np.uint64) for k in key],
        )
        assert all(w.shape == shape and (w == a).all() for w, a in zip(host, answer, strict=True))


def test_forms_agree_on_random_words_and_broadcast_any_word() -> None:
    rng = np.random.default_rng(7)
    # one word varies along the last axis, one along the first, the others are shared
    for varying in range(6):
        shapes = [(1, 1)] * 6
        shapes[varying], shapes[(varying + 2) % 6] = (1, 5), (3, 1)
        words = [rng.integers(0, 2**32, shape).astype(np.uint64) for shape in shapes]
        host = philox4x32_host(words[:4], words[4:])
        inputs = [torch.from_numpy(w.astype(np.int64)) for w in words]
        device = philox4x32(inputs[:4], inputs[4:])
        full = [np.broadcast_to(w, (3, 5)) for w in words]
        for place in np.ndindex(3, 5):
            want = words_of(
                tuple(int(w[place]) for w in full[:4]), tuple(int(w[place]) for w in full[4:])
            )
            assert tuple(int(w[place]) for w in host) == want
            assert tuple(int(w[place]) for w in device) == want


def test_philox_leaves_its_inputs_alone() -> None:
    words = [np.arange(6, dtype=np.uint64) + np.uint64(i) for i in range(6)]
    copies = [w.copy() for w in words]
    philox4x32_host(words[:4], words[4:])
    tensors = [torch.arange(6) + i for i in range(6)]
    philox4x32(tensors[:4], tensors[4:])
    assert all((a == b).all() for a, b in zip(words, copies, strict=True))
    assert all((t == torch.arange(6) + i).all() for i, t in enumerate(tensors))


def test_philox_counts_its_words() -> None:
    with pytest.raises(ValueError, match="4 counter words and 2 key words, got 3 and 2"):
        philox4x32((0, 0, 0), (0, 0))
