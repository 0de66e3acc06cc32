"""The compiled noise: integers, uniforms and pairs with the bits of the reference, normals within
1e-6 of it, and the same bits however the work is cut."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.checks import ArgumentError
from fewstep.fused import BrownianPath, noise_backend
from fewstep.fused.kernels import Kernel
from fewstep.fused.noise import native
from fewstep.fused.noise.native import KERNEL, NORMALS, UNIFORMS, WORDS, fill
from fewstep.fused.noise.philox import M0, M1, W0, W1, WORD, philox4x32
from fewstep.fused.noise.seeded import SeededNoise, keys_of, normals
from fewstep.fused.noise.uniforms import SeededUniforms

CODE = KERNEL.code
needs_kernel = pytest.mark.skipif(CODE is None, reason="the kernel was not built: no C compiler")
VERSIONS = range(0 if CODE is None else CODE.VERSIONS)
WORDS32 = st.integers(0, WORD)
#: words at the ends, at multiples of a quarter turn, and around the square root of 1/2
EXTREME = sorted(
    {
        min(max(at + k, 0), WORD)
        for at in (0, WORD, 1 << 30, 1 << 31, 3 << 30, 3037000500, 1 << 29, 5 << 29, 7 << 29)
        for k in (-300, -257, -129, -128, -127, -2, -1, 0, 1, 2, 127, 128, 129, 257, 300)
    }
)


def words_of(keys, size, address, last=None):
    """The reference: words of the blocks of each row, (n, size)."""
    last = address[2] if last is None else last[:, None]
    words = philox4x32(
        (torch.arange(-(-size // 4)), *address[:2], last), (keys[0][:, None], keys[1][:, None])
    )
    return torch.stack(torch.broadcast_tensors(*words), dim=-1).flatten(1)[:, :size]


def counter_of(words, key):
    """The counter whose Philox block is ``words``: the rounds backwards."""
    c, inverse = list(words), (pow(M0, -1, 1 << 32), pow(M1, -1, 1 << 32))
    for turn in reversed(range(10)):
        k0, k1 = (key[0] + turn * W0) & WORD, (key[1] + turn * W1) & WORD
        a2, a0 = c[1] * inverse[1] & WORD, c[3] * inverse[0] & WORD
        c = [a0, c[0] ^ (a2 * M1 >> 32) ^ k0, a2, c[2] ^ (a0 * M0 >> 32) ^ k1]
    return c


def normals_at(version, words, key=(3, 5)):
    """The kernel's four normals of the block whose words are ``words``."""
    block, stream, draw, last = counter_of(words, key)
    keys, out = torch.tensor([[key[0]], [key[1]]]), torch.full((4,), torch.nan)
    start = (out.data_ptr() - 16 * block) % (1 << 64)
    CODE.fill(
        version,
        block,
        block + 1,
        NORMALS,
        start,
        keys.data_ptr(),
        0,
        1,
        1 << 34,
        stream,
        draw,
        last,
    )
    return out


def normals_by(words):
    """Normals of words by the documented formula in float64, uniform and angle rounded to fp32."""
    w = np.asarray(words, np.uint64).astype(np.float32)
    u = ((w + np.float32(0.5)) * np.float32(2.0**-32)).reshape(-1, 2, 2)
    radius = np.sqrt(-2.0 * np.log(u[..., 0].astype(np.float64)))
    angle = (u[..., 1] * np.float32(2.0 * math.pi)).astype(np.float64)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1)


@needs_kernel
def test_the_known_answer():
    out = torch.empty(1, 4, dtype=torch.int32)
    assert fill(out, keys_of([0]), WORDS, (0, 0, 0))
    assert [w & WORD for w in out[0].tolist()] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@needs_kernel
@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5),
    st.one_of(st.integers(0, 12), st.integers(230, 270), st.integers(1000, 1100)),
    st.tuples(WORDS32, WORDS32, WORDS32),
    st.booleans(),
    st.sampled_from(VERSIONS or [0]),
)
def test_words_have_the_bits_of_the_reference(seeds, size, address, particles, version):
    keys, n = keys_of(seeds), len(seeds)
    last = torch.arange(n) * 0x12345678 % (1 << 32) if particles else None
    out = torch.zeros(n, size, dtype=torch.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_VERSION", version)
        assert fill(out, keys, WORDS, address, last)
    assert torch.equal(out.long() & WORD, words_of(keys, size, address, last))


@needs_kernel
@pytest.mark.parametrize("version", VERSIONS)
def test_a_million_normals_are_those_of_the_formula(version, monkeypatch):
    monkeypatch.setattr(native, "_VERSION", version)
    size, keys = 1 << 20, keys_of([77])
    out = torch.empty(1, size)
    assert fill(out, keys, NORMALS, (1, 2, 0))
    error = np.abs(out[0].numpy() - normals_by(words_of(keys, size, (1, 2, 0))[0].numpy()))
    assert 1e-8 < error.max() < 7e-7  # 5.9e-7, of numpy too: angles of fp32
    with noise_backend("numpy"):
        reference = normals([77], (size,), stream=1, draw=2)
    assert 0.0 < float((out - reference).abs().max()) < 1e-6  # 4.8e-7


@needs_kernel
@pytest.mark.parametrize("version", VERSIONS)
def test_normals_of_extreme_words(version):
    pairs = [(a, b) for a in [*EXTREME[::3], 0, WORD] for b in EXTREME]
    quads = [(*one, *two) for one, two in zip(pairs[::2], pairs[1::2], strict=False)]
    found = torch.cat([normals_at(version, words) for words in quads])
    wanted = normals_by(quads)
    assert bool(torch.isfinite(found).all())
    assert np.abs(found.numpy() - wanted).max() < 1e-6
    assert float(found.abs().max()) == pytest.approx(math.sqrt(66.0 * math.log(2.0)), abs=1e-6)
    # next to u = 1 the radius is small, and still right to a few units in the last place
    near = np.array([(WORD - 300 * k, 0, WORD - 127 - 7 * k, 0) for k in range(8)])
    found = torch.stack([normals_at(version, words) for words in near.tolist()])[:, ::2].numpy()
    wanted = normals_by(near).reshape(-1, 4)[:, ::2]
    assert np.all(np.abs(found - wanted) <= 4e-7 * wanted)


@needs_kernel
@pytest.mark.parametrize("kind", [WORDS, NORMALS, UNIFORMS])
def test_instruction_sets_agree_to_the_bit(kind, monkeypatch):
    for n, size in ((1, 40_001), (3, 1029), (100, 6)):
        found = []
        for version in VERSIONS:
            monkeypatch.setattr(native, "_VERSION", version)
            out = torch.zeros(n, size, dtype=torch.int32)
            assert fill(out, keys_of(range(n)), kind, (1, 2, 3))
            found.append(out)
        assert all(torch.equal(found[0], other) for other in found[1:])
        assert int(found[0].unique().numel()) > 0.9 * n * size


@needs_kernel
@pytest.mark.parametrize("kind", [WORDS, NORMALS, UNIFORMS])
@pytest.mark.parametrize(("n", "size"), [(1, 1 << 14), (5, 1029), (7, 255), (3000, 3)])
def test_bits_depend_on_neither_threads_nor_parts(kind, n, size, monkeypatch):
    keys, places = keys_of(range(n)), torch.arange(n)
    whole = torch.zeros(n, size, dtype=torch.int32)
    fill(whole, keys, kind, (1, 2, 0), places)
    blocks = n * -(-size // 4)
    monkeypatch.setattr(native, "_LEAST", 1)
    for threads in (2, 3, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        out = torch.zeros_like(whole)
        fill(out, keys, kind, (1, 2, 0), places)
        assert torch.equal(out, whole), threads
    out = torch.zeros_like(whole)
    pointers = out.data_ptr(), keys.data_ptr(), places.data_ptr()
    ends = [0, 1, 3, 66, 257, blocks]
    for begin, end in sorted(pairwise(ends), reverse=True):
        CODE.fill(0, begin, end, kind, *pointers, n, size, 1, 2, 0)
    assert torch.equal(out, whole)


@needs_kernel
def test_tails_have_the_bits_of_the_whole():
    whole = normals([5], (2000,), stream=1, draw=0)[0]
    for base in (0, 16, 64, 256, 1024):
        for tail in range(10):
            z = normals([9, 5], (base + tail,), stream=1, draw=0)[1]
            assert torch.equal(z, whole[: base + tail])


@needs_kernel
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5, 5), (4100,)])
def test_uniforms_have_the_bits_of_the_reference(shape):
    noise, found = SeededUniforms((3, 3, 2**60), particles=(0, 9, WORD)), {}
    for name in KERNEL.backends:
        with noise_backend(name):
            found[name] = noise(4, shape)
    assert torch.equal(found["native"], found["numpy"])
    assert found["native"].shape == (3, *shape)


@needs_kernel
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1,), (13,), (2, 257), (70_001,)])
def test_paths_have_the_bits_of_the_reference(shape, dtype, threads, monkeypatch):
    found, like = {}, torch.empty(3, *shape, dtype=dtype)
    for name in KERNEL.backends:
        monkeypatch.setattr(native, "_LEAST", 1)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        with noise_backend(name):
            path = BrownianPath((3, 2**40, 5), 0.0, 3.0, 2.0**-9, cells=3)
            found[name] = torch.stack(path.levy(0.3, 1.7, like) + path.levy(1.7, 2.9, like))
    assert torch.equal(found["native"], found["numpy"])
    assert float(found["native"].abs().max()) > 0.0


@needs_kernel
def test_pairs_of_every_instruction_set(monkeypatch):
    found = []
    for version in VERSIONS:
        monkeypatch.setattr(native, "_VERSION", version)
        path = BrownianPath((3, 2**40), 0.0, 1.0, 2.0**-9)
        found.append(path.increment(0.3, 0.7, torch.empty(2, 1003)))
    assert all(torch.equal(found[0], other) for other in found[1:])


@needs_kernel
def test_moments_and_correlations():
    z = SeededNoise(tuple(range(64)))(0, torch.empty(64, 16384)).double()
    n = z.numel()
    for power, mean, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(float((z**power).mean()) - mean) < 4.5 * math.sqrt(variance / n)
    for a, b in ((z[:, ::2], z[:, 1::2]), (z[:, :-4], z[:, 4:]), (z[:-1], z[1:])):
        assert abs(float((a * b).mean())) < 4.5 / math.sqrt(a.numel())


@needs_kernel
def test_a_version_that_the_processor_lacks_is_refused():
    keys, out = keys_of([0]), torch.zeros(1, 4)
    for version in (-1, CODE.VERSIONS):
        with pytest.raises(ValueError, match="version"):
            CODE.fill(version, 0, 1, 0, out.data_ptr(), keys.data_ptr(), 0, 1, 4, 0, 0, 0)
    assert bool((out == 0.0).all())


def test_the_backend_is_chosen_and_restored(monkeypatch):
    before = noise_backend()
    with noise_backend("numpy") as name:
        assert name == noise_backend() == "numpy"
        assert not fill(torch.empty(1, 4), keys_of([0]), NORMALS, (0, 0, 0))
    assert noise_backend() == before
    with pytest.raises(ArgumentError, match="did you mean 'native'"):
        noise_backend("nativ")
    monkeypatch.setattr(KERNEL, "code", None)
    with pytest.raises(ArgumentError, match="no C compiler"):
        noise_backend("native")


def test_a_kernel_that_was_not_built(monkeypatch):
    monkeypatch.delenv("FEWSTEP_NOTHING", raising=False)
    kernel = Kernel("nothing", "fewstep.checks", "numpy")
    assert kernel.code is None and kernel.backend == "numpy" and not kernel.used
    monkeypatch.setattr(native, "KERNEL", kernel)
    with noise_backend("numpy"):
        wanted = normals([1], (9,), stream=1, draw=0)
    assert torch.equal(normals([1], (9,), stream=1, draw=0), wanted)


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("FEWSTEP_NOISE", "numpy")
    assert Kernel("noise", "fewstep.fused.noise", "numpy").backend == "numpy"
    monkeypatch.setenv("FEWSTEP_NOISE", "cuda")
    with pytest.raises(ArgumentError, match="noise backend"):
        Kernel("noise", "fewstep.fused.noise", "numpy")
