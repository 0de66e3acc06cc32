"""diffusers' own scheduler tests on ``FewstepScheduler``: what fails there is known, with its
reason (diffusers_suite_table.py).

    FEWSTEP_DIFFUSERS_TESTS=CHECKOUT pytest tests/interop/diffusers/test_diffusers_suite.py

CHECKOUT is a copy of huggingface/diffusers at the release that the table names; its folder
``tests`` is enough. The suite is not part of this repository. It takes about a minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from diffusers_suite_table import REASONS, RELEASE, failures

WHERE = os.environ.get("FEWSTEP_DIFFUSERS_TESTS", "")


def short(name: str) -> str:
    """``file::test`` of a test's whole name."""
    file, group, test = name.split("::")
    file = file.removeprefix("test_scheduler_").removesuffix(".py") + (
        "_1d" if "1DTest" in group else ""
    )
    return f"{file}::{test.removeprefix('test_')}"


def test_every_failure_in_the_table_has_a_reason():
    assert set(failures().values()) == set(REASONS) and all(
        kind and text for kind, text in REASONS.values()
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not WHERE, reason="FEWSTEP_DIFFUSERS_TESTS names no checkout of huggingface/diffusers"
)
def test_what_fails_in_their_suite_is_known(tmp_path):
    outcomes = tmp_path / "outcomes.json"
    here = Path(__file__).parent
    path = os.pathsep.join(
        [str(here), *(p for p in (str(here.parents[1]), os.environ.get("PYTHONPATH", "")) if p)]
    )
    env = {
        **os.environ,
        "FEWSTEP_SUITE_OUTCOMES": str(outcomes),
        "PYTHONPATH": path,
        "HF_HUB_OFFLINE": "1",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "diffusers_suite",
        "-p",
        "no:xdist",
        "-c",
        os.devnull,
        "--tb=no",
    ]
    done = subprocess.run(
        [*command, "--rootdir", WHERE, "tests/schedulers"],
        cwd=WHERE,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcomes.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads(outcomes.read_text(encoding="utf-8"))
    failed = {
        short(name): v["message"].splitlines()[:1]
        for name, v in found.items()
        if v["outcome"] == "failed"
    }
    assert sum(v["outcome"] == "passed" for v in found.values()) > 200
    new = {name: message for name, message in failed.items() if name not in failures()}
    mended = sorted(set(failures()) - set(failed))
    assert not new, f"not in the table (made with {RELEASE}): {new}"
    assert not mended, f"these pass now: {mended}"
