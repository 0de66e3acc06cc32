"""What every test shares: derandomized properties, and one thread (the tensors are tiny), a CUDA
mark that skips with a reason, and triton's interpreter where there is no CUDA device."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("fewstep", derandomize=True, deadline=None)
settings.load_profile("fewstep")
torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
