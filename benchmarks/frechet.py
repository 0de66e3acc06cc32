"""Time and error of the Frechet distance, compared with scipy's matrix square root, at the
dimensions of the usual feature networks.

    python benchmarks/frechet.py [--dims 512 2048] [--cases "power 1" samples] [--threads N]

The pair is ``S_2 = T S_1 T`` with a positive T, for which ``tr (S_1 S_2)^{1/2} = tr(S_1 T)`` is
known; the eigenvalues of S_1 fall as ``1 / i^p`` (``power p``). ``samples`` has covariances of half
as many samples as dimensions; its true value follows from the singular values of the features.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.linalg
import torch

from fewstep.eval.metrics.frechet import gaussian_distance


def pair(
    dim: int, power: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return two covariances and their distance."""
    q, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    p, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    first = (q * torch.arange(1, dim + 1, dtype=torch.float64) ** -power) @ q.T
    stretch = (p * torch.linspace(0.8, 1.25, dim, dtype=torch.float64)) @ p.T
    moved = stretch - torch.eye(dim, dtype=torch.float64)
    second = stretch @ first @ stretch
    return (
        0.5 * (first + first.T),
        0.5 * (second + second.T),
        float((moved @ first @ moved).trace()),
    )


def few(
    dim: int, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return two covariances of ``count`` samples, and their distance from the features."""
    spread = torch.arange(1, dim + 1, dtype=torch.float64) ** -0.5
    parts = [
        torch.randn(count, dim, generator=generator, dtype=torch.float64) * spread for _ in range(2)
    ]
    roots = [(f - f.mean(0)) / (count - 1) ** 0.5 for f in parts]
    first, second = (r.T @ r for r in roots)
    shared = float(torch.linalg.svdvals(roots[0] @ roots[1].T).sum())
    return first, second, float(first.trace() + second.trace()) - 2.0 * shared


def by_sqrtm(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the distance by the real part of scipy's square root of the product, as pytorch-fid
    computes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = scipy.linalg.sqrtm(first.numpy() @ second.numpy())
    return float(np.trace(first.numpy()) + np.trace(second.numpy()) - 2.0 * np.trace(root).real)


def timed(call: Callable[[], float]) -> tuple[float, float]:
    """Return ``(value, seconds)``."""
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began


def main() -> None:
    """Print one row per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--cases", nargs="+", default=["power 1", "power 2", "samples"])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    print(
        f"{'case':>18} {'dims':>5} {'distance':>10} {'rel. error':>11} {'sqrtm error':>12} "
        f"{'seconds':>8} {'sqrtm s':>8} {'ratio':>6}"
    )
    for dim in options.dims:
        for name in options.cases:
            first, second, truth = (
                few(dim, dim // 2, generator)
                if name == "samples"
                else pair(dim, float(name.split()[-1]), generator)
            )
            zero = torch.zeros(dim, dtype=torch.float64)
            mine, seconds = timed(partial(gaussian_distance, zero, first, zero, second))
            theirs, slow = timed(partial(by_sqrtm, first, second))
            errors = [abs(value - truth) / truth for value in (mine, theirs)]
            row = (
                f"{name:>18} {dim:5d} {truth:10.5f} {errors[0]:11.1e} {errors[1]:12.1e} "
                f"{seconds:8.2f} {slow:8.2f} {slow / seconds:6.1f}"
            )
            print(row, flush=True)


if __name__ == "__main__":
    main()
