"""Files of solutions: the fields of the seeds in float32, their provenance, and that the training
reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewstep.eval.physics import darcy, dataset
from fewstep.train.fields import load_fields
from fewstep.train.recipes import RECIPES


def test_the_file_holds_the_solutions_of_its_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "BLOCK", 2)
    out = tmp_path / "darcy.npz"
    assert dataset.main(f"darcy --n 5 --size 8 --seed 3 --out {out}".split()) == 0
    with np.load(out) as found:
        u, text = found["u"], str(found["provenance"])
    wanted = darcy.draw(5, 8, 3).fields["u"].float()
    assert torch.equal(torch.from_numpy(u), wanted)
    assert "darcy.draw, 8 points an axis, seeds 3 .. 7, stored as float32" in text
    data = load_fields(out, RECIPES["darcy"].fields)
    assert data.image.shape == (5, 2, 8, 8) and data.provenance == text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("darzy --n 2", "did you mean 'darcy'"),
        ("darcy --n 0", "--n=0"),
        ("darcy --n 2 --size 3", "3"),
    ],
)
def test_bad_arguments_are_refused(flags, message, tmp_path, capsys):
    assert dataset.main([*flags.split(), "--out", str(tmp_path / "d.npz")]) == 3
    assert message in capsys.readouterr().err
