"""Class labels of samples: one a seed, by the seed or from a list."""

from __future__ import annotations

from collections.abc import Sequence

from ..checks import ArgumentError


def labels_of(text: str, seeds: Sequence[int], classes: int) -> list[int | None]:
    """One label a seed; None for no class.

    ``text`` is ``cycle`` (seed modulo classes), ``random`` (a hash of the seed), ``none``, or
    numbers such as ``7`` or ``0,1``, which repeat in the order of the seeds. Raises ArgumentError
    for anything else and for a label that is not below ``classes``.
    """
    if text == "none" or (text in ("cycle", "random") and classes == 0):
        return [None] * len(seeds)
    if text == "cycle":
        return [seed % classes for seed in seeds]
    if text == "random":
        return [mixed(seed) % classes for seed in seeds]
    if classes == 0:
        raise ArgumentError(f"labels={text!r}: the model takes no classes; allowed: none")
    try:
        given = [int(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentError(
            f"labels={text!r}: allowed are cycle, random, none, or numbers below {classes} "
            "such as 0,1,2"
        ) from None
    if not all(0 <= k < classes for k in given):
        raise ArgumentError(f"labels={text!r}: allowed are 0 to {classes - 1}")
    return [given[i % len(given)] for i in range(len(seeds))]


def mixed(seed: int) -> int:
    """A 64-bit hash of ``seed``: SplitMix64's output (Steele, Lea & Flood 2014, doi
    10.1145/2660193.2660195)."""
    mask = 2**64 - 1
    z = ((seed + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)
