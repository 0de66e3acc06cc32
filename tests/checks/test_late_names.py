"""Public names that are imported at first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fewstep
from fewstep.checks.late_names import late_names

ROOMS = (fewstep.engine, fewstep.guidance, fewstep.guidance.discrete)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_every_public_name_is_there(room: object) -> None:
    names = room.__all__  # type: ignore[attr-defined]
    found = {name: getattr(room, name) for name in names}
    # a name that is kept is not looked for again
    assert all(vars(room)[name] is value for name, value in found.items())


def test_a_name_is_taken_from_its_module_and_a_module_is_itself() -> None:
    find = late_names("fewstep.guidance", {"CFG": ".combinations.cfg", "operators": ".operators"})
    assert find("CFG") is fewstep.guidance.CFG
    assert find("operators") is sys.modules["fewstep.guidance.operators"]
    with pytest.raises(AttributeError, match="'fewstep.guidance' has no attribute 'CFGG'"):
        find("CFGG")


def test_the_main_functions_leave_guidance_and_tuning_alone() -> None:
    code = (
        "import sys, fewstep; fewstep.sample, fewstep.models, fewstep.samplers; "
        "print(sorted(m for m in sys.modules if m.startswith('fewstep.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fewstep.engine.sampling" in done.stdout
    for room in (
        "guidance.posterior",
        "guidance.combinations.cfg",
        "engine.tuning",
        "engine.steering",
    ):
        assert f"'fewstep.{room}'" not in done.stdout
