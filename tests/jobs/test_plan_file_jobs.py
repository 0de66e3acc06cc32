"""``--sampler file:PATH`` in ``generate`` and ``bench``."""

from __future__ import annotations

import pytest

import fewstep
from fewstep.checks import FewstepError
from fewstep.cli import main
from fewstep.engine import Tuned
from fewstep.engine.provenance import made_for
from fewstep.eval import bench


@pytest.fixture
def named(tmp_path):
    den = fewstep.models.load("mixture")
    made = Tuned(fewstep.plan("unipc", den, nfe=5, order=3), made_for(den))
    made.save(tmp_path / "5.json")
    return f"file:{tmp_path / '5.json'}"


def test_generate_draws_what_the_plan_draws(named, tmp_path):
    assert main(["generate", "--model", "mixture", "--sampler", named, "--seeds", "0-3", "--out",
                 str(tmp_path / "a")]) == 0  # fmt: skip
    den = fewstep.models.load("mixture")
    fewstep.jobs.generate(den, tmp_path / "b", sampler="unipc", order=3, nfe=5, seeds="0-3")
    a, b = ((tmp_path / n / "samples" / "block-00000.npz").read_bytes() for n in "ab")
    assert a == b
    with pytest.raises(FewstepError, match="steps=7 cannot be used"):
        fewstep.jobs.generate(den, tmp_path / "c", sampler=named, steps=7, seeds="0-3")
    assert not (tmp_path / "c").exists()


def test_bench_has_a_row_at_the_calls_of_the_plan(named):
    found = bench("mixture", samplers=["unipc:order=3", named], grids=["auto"], nfes=[4, 5], n=8)
    rows = {(row.sampler, row.budget): row for row in found.rows}
    assert rows[named, 5].rmse == rows["unipc:order=3", 5].rmse
    assert rows[named, 5].nfe == 5
    assert "5 network calls, not of nfe=4" in rows[named, 4].skipped


def test_bench_refuses_a_file_that_is_none_before_any_model(tmp_path):
    with pytest.raises(FewstepError, match="No such file"):
        bench("mixture", samplers=[f"file:{tmp_path / 'no.json'}"], nfes=[4], n=4)
