"""Plan files: what is written is read back exactly, and nothing else is read."""

from __future__ import annotations

import json

import pytest

import fewstep
from fewstep.engine import Tuned
from fewstep.plans import PlanError
from fewstep.plans.plan_file import MOST_BYTES, MadeFor, read_plan_file
from fewstep.schedules import EDM, VE, Flow, VPLinear

MADE_FOR = MadeFor("Model", "0" * 64, "VPLinear", "1" * 64, "CFG scale=2.0", "2" * 64)


def saved(tmp_path, plan, report=None):
    path = tmp_path / "plan.json"
    Tuned(plan, MADE_FOR, report or {}).save(path)
    return path


@pytest.mark.parametrize("sampler", ["unipc", "heun", "dpmpp_2m_sde", "dpm_solver_3", "belm"])
@pytest.mark.parametrize(
    "schedule", [VPLinear(), EDM(), VE(0.01, 50.0), Flow()], ids=["vp", "edm", "ve", "flow"]
)
def test_a_plan_is_read_back_exactly(sampler, schedule, tmp_path):
    plan = fewstep.plan(sampler, schedule, steps=6)
    found = Tuned.load(saved(tmp_path, plan, {"nfe": 6, "losses": [0.5, 0.25]}))
    assert found.plan == plan
    assert found.plan.to_json() == plan.to_json()
    assert found.made_for == MADE_FOR
    assert found.report == {"nfe": 6, "losses": [0.5, 0.25]}


def test_a_file_that_changed_is_read_again(tmp_path):
    first, second = (fewstep.plan("ddim", VPLinear(), steps=n) for n in (3, 4))
    assert Tuned.load(saved(tmp_path, first)).plan == first
    assert Tuned.load(saved(tmp_path, second)).plan == second


def changed(path, **fields):
    body = json.loads(path.read_text())
    path.write_text(json.dumps({**body, **fields}))
    return path


def test_what_is_no_plan_file_is_refused(tmp_path):
    path = saved(tmp_path, fewstep.plan("ddim", VPLinear(), steps=3))
    text = path.read_text()
    body = json.loads(text)
    row = body["points"][0]
    cases = {
        "expected the fields": {"more": 1},
        "format 'fewstep.tuned/9'; allowed: fewstep.tuned/1": {"format": "fewstep.tuned/9"},
        "the report must be an object": {"report": []},
        "made_for must have the fields": {"made_for": {"model": "x"}},
        "made_for.model is 3": {"made_for": {**body["made_for"], "model": 3}},
        "points must be a list": {"points": {}},
        "a point must be": {"points": [row[:3]]},
        "is no place in the 1 points": {"points": [row]},
        "must be an object with a list of instructions": {"plan": {}},
        "plan: expected the fields": {"plan": {"code": []}},
        "['E', 1] is no instruction": {"plan": {**body["plan"], "code": [["E", 1]]}},
        "is no instruction": {"plan": {**body["plan"], "code": [["C", 1, [0], [], [], 1]]}},
    }
    for sentence, fields in cases.items():
        path.write_text(text)
        with pytest.raises(PlanError, match="plan file") as caught:
            read_plan_file(changed(path, **fields))
        assert sentence in str(caught.value)


def test_coefficients_that_miss_the_signal_are_refused(tmp_path):
    path = saved(tmp_path, fewstep.plan("ddim", VPLinear(), steps=3))
    body = json.loads(path.read_text())
    combine = next(i for i in body["plan"]["code"] if i[0] == "C")
    combine[3][0] *= 1.5
    with pytest.raises(PlanError, match="plan file"):
        read_plan_file(changed(path, plan=body["plan"]))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(PlanError, match="No such file"):
        read_plan_file(tmp_path / "none.json")
    with pytest.raises(PlanError, match="must be a file"):
        read_plan_file(tmp_path)
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (MOST_BYTES + 1))
    with pytest.raises(PlanError, match=f"at most {MOST_BYTES} are read"):
        read_plan_file(large)
    for content in (b"\x80\x04N.", b"{", b"[" * 5000, b'{"a": NaN}', b"\xff\xfe"):
        large.write_bytes(content)
        with pytest.raises(PlanError, match="plan file"):
            read_plan_file(large)
