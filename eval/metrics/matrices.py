"""Feature matrices: conversion to float64 (n, q) with checks, and distances between rows in
blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...checks import ArgumentError, integer, number, shown, tensor
from ..errors import ScoreError

#: entries of a block of a distance matrix
BLOCK = 2**22
#: upper limit on numbers of resamples, subsets or directions
MANY = 10_000_000
#: upper limit on positive numbers: its square is far from overflow in float64
LARGEST = 1e100


def matrix(values: Any, name: str = "features", least: int = 1) -> Tensor:
    """``values`` (tensor or array, (n, ...)) as a float64 matrix (n, q); further dimensions are
    flattened, (n,) becomes (n, 1).

    Raises ScoreError for values that are not finite real numbers, and for fewer than ``least``
    rows.
    """
    given = numbers(values, name)
    if given.ndim == 0 or given.is_complex():
        raise ScoreError(
            f"{name} must be real and (n, q), got shape {tuple(given.shape)}, {given.dtype}"
        )
    if len(given) < least:
        raise ScoreError(f"{name}: {len(given)} rows, must have at least {least}")
    made = given.to(torch.float64).reshape(len(given), -1)
    if not made.shape[1]:
        raise ScoreError(f"{name} has no columns: shape {tuple(given.shape)}")
    if not bool(torch.isfinite(made).all()):
        bad = (~torch.isfinite(made)).any(dim=1).nonzero().flatten().tolist()
        raise ScoreError(
            f"{name} holds NaN or infinity in {len(bad)} of {len(made)} rows, first {bad[:5]}"
        )
    return made


def numbers(values: Any, name: str) -> Tensor:
    """``values`` (tensor, array, list) as a dense tensor that holds data. Raises ScoreError."""
    try:
        given = torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ScoreError(
            f"{name} must be a tensor or an array of numbers: {str(error).partition(chr(10))[0]}"
        ) from error
    return tensor(name, given, floating=False, error=ScoreError)


def couple(
    a: Any, b: Any, names: tuple[str, str] = ("reference", "generated"), least: int = 1
) -> tuple[Tensor, Tensor]:
    """Two matrices with the same number of columns. Raises ScoreError."""
    x, y = matrix(a, names[0], least), matrix(b, names[1], least)
    if x.shape[1] != y.shape[1]:
        raise ScoreError(f"{names[0]} has {x.shape[1]} dimensions, {names[1]} {y.shape[1]}")
    return x, y.to(x.device)


def at_least_one(name: str, value: Any, most: int | None = None) -> int:
    """``value`` if it is an integer from 1 to ``most``. Raises ScoreError."""
    try:
        return integer(name, value, 1, MANY if most is None else most)
    except ArgumentError:
        upper = MANY if most is None else most
        raise ScoreError(f"{name}={shown(value)}: allowed are integers from 1 to {upper}") from None


def positive(name: str, value: Any, low: float = 0.0, high: float = LARGEST) -> float:
    """``value`` as a float. ScoreError unless it is > 0, >= ``low`` and <= ``high``."""
    try:
        found = float(number(name, value, low, high))
    except ArgumentError:
        found = 0.0
    if not found > 0.0:
        bound = "> 0" if low == 0.0 else f">= {low}"
        raise ScoreError(f"{name}={shown(value)}: must be a number {bound} and <= {high}")
    return found


def fraction(name: str, value: Any) -> float:
    """``value`` as a float. ScoreError unless it lies strictly between 0 and 1."""
    try:
        found = float(number(name, value, 0.0, 1.0))
    except ArgumentError:
        found = 0.0
    if not 0.0 < found < 1.0:
        raise ScoreError(f"{name}={shown(value)}: must be between 0 and 1")
    return found


def distance_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Iterate over blocks of rows of ``x``: (slice of the rows, distances ``|x_i - y_j|``).

    Norms of the differences themselves, since the expanded square cancels.
    """
    rows = max(BLOCK // max(len(y), 1), 1)
    for i in range(0, len(x), rows):
        piece = slice(i, min(i + rows, len(x)))
        yield piece, torch.cdist(x[piece], y, compute_mode="donot_use_mm_for_euclid_dist")


def permutation(n: int, generator: torch.Generator) -> Tensor:
    """A random permutation of 0..n-1, on the CPU."""
    return torch.randperm(n, generator=generator)


def seeded(seed: int) -> torch.Generator:
    """A new CPU generator with this seed."""
    return torch.Generator().manual_seed(integer("seed", seed, -(1 << 63), (1 << 64) - 1))
