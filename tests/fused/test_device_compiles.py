"""Triton's kernels compile for a GPU, down to its machine code, on a machine without one. The
interpreter takes code that the compiler refuses, so this is a test of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fewstep.fused import devices

if not devices.installed():
    pytest.skip("triton is not installed", allow_module_level=True)


def printed(script, tmp_path, *words):
    """What a script beside this file prints."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / script), *map(str, words)],
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def compiled(which, arch, tmp_path):
    """What ``compiled_variants`` prints for the architecture ``sm_arch``."""
    return json.loads(printed("compiled_variants.py", tmp_path, which, arch))


def test_kernels_compile(tmp_path):
    found = compiled("quick", 90, tmp_path)
    # 4 inputs, 2 outputs, 8 elements a thread: every one is read once and written once, 16 bytes
    # at a time, and the sum of one output is a product and 3 fused operations
    one = {"ld.global": 8, "ld.global.v4": 8, "st.global": 4, "st.global.v4": 4, "fma.rn": 24}
    assert one.items() <= found["float32"].items()
    half = {"ld.global": 4, "ld.global.v4": 4, "st.global": 2, "st.global.v4": 2, "fma.rn": 24}
    assert half.items() <= found["bfloat16"].items()
    # other coefficients, 0 and 1 among them, make no other variant
    assert found["float32"]["variants"] == found["other numbers"]["variants"] == 1
    # the noise costs reads of keys and particles alone, and nothing in it is fused but the sum
    assert found["noise"]["ld.global.v4"] == 2 and found["noise"]["ld.global"] == 5
    assert found["noise"]["st.global.v4"] == 4 and found["noise"]["fma.rn"] == 24
    assert found["fill"]["fma.rn"] == 0 and found["fill"]["st.global.v4"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("arch", [75, 80, 89, 90, 100, 120])
def test_every_kernel_compiles(arch, tmp_path):
    found = compiled("all", arch, tmp_path)
    assert len(found) == 16 and found["float32"]["variants"] == 1
    if arch == 90:
        assert found["12 inputs"]["ld.global.v4"] == 24 == found["12 inputs"]["ld.global"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90])
def test_what_was_compiled_computes_the_step(arch, tmp_path):
    """The code for the GPU, run instruction by instruction, passes the check that a GPU gets, and
    its normals have the bits of the compiled kernel of the CPU."""
    lines = printed("executed_variants.py", tmp_path, arch).splitlines()
    assert len(lines) == 16 and all(line.endswith(" right") for line in lines), lines
