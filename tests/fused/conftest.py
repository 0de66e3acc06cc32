"""The ways to compute noise on the CPU, and the places where triton's kernels run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fewstep.fused import devices
from fewstep.fused.noise.native import KERNEL, noise_backend


@pytest.fixture(params=KERNEL.backends)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend of noise in turn."""
    if request.param == "native" and KERNEL.code is None:
        pytest.skip("the kernel was not built: no C compiler")
    with noise_backend(request.param) as name:
        yield name


@pytest.fixture(
    params=[pytest.param("cuda", marks=pytest.mark.cuda)]
    if torch.cuda.is_available()
    else ["interpreter"]
)
def place(request: pytest.FixtureRequest) -> torch.device:
    """Where triton's kernels run: a CUDA device, or the CPU in the interpreter."""
    if not devices.installed():
        pytest.skip("triton is not installed")
    return torch.device("cuda", 0) if request.param == "cuda" else torch.device("cpu")
