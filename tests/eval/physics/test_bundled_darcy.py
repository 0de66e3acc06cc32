"""The bundled model of Darcy flow: its samples solve the equation, and have the data's two
values."""

from __future__ import annotations

import fewstep
from fewstep.eval.physics import darcy
from fewstep.models.weights import BUNDLED


def test_eight_calls_give_solutions_to_three_percent():
    den = fewstep.models.load("darcy")
    x = fewstep.sample(den, sampler="dpmpp_2m", nfe=8, n=4, seed=0)
    fields = fewstep.models.fields_of("darcy").physical(x.double())
    a = darcy.nearest_phase(fields["a"])
    solved = darcy.solve({"a": a}, {"x": 1 / 63, "y": 1 / 63}, {})["u"]
    error = (fields["u"] - solved).flatten(1).norm(dim=1) / solved.flatten(1).norm(dim=1)
    assert error.max() < 0.03
    assert ((fields["a"] - a).abs() > 1.5).double().mean() < 0.02
    assert 0.2 < float((a == darcy.HIGH).double().mean()) < 0.8


def test_the_weights_are_small():
    assert (BUNDLED / "darcy" / "model.safetensors").stat().st_size < 6_000_000
