"""The ways to compute noise on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fewstep.fused.noise.native import KERNEL, noise_backend


@pytest.fixture(params=KERNEL.backends)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each backend of noise in turn."""
    if request.param == "native" and KERNEL.code is None:
        pytest.skip("the kernel was not built: no C compiler")
    with noise_backend(request.param) as name:
        yield name
