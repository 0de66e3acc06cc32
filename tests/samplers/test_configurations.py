"""Configurations drawn at random: each gives finite samples within its budget, or an error of
fewstep."""

import dataclasses
import random

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import FewstepError
from fewstep.models import GaussianMixture
from fewstep.samplers import get, names
from fewstep.schedules import EDM, VE, DiscreteVP, Flow, SubVP, Trig, VPCosine, VPLinear, VPSigmoid
from fewstep.schedules.grids.construction import grid_names

PATHS = (
    *(
        VPLinear(),
        VPCosine(),
        VPSigmoid(),
        SubVP(),
        VE(),
        EDM(),
        Flow(),
        Flow(3.0),
        Trig(),
        fewstep.schedules.PFGMPP(64.0),
    ),
    DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000)),
    DiscreteVP.from_betas(np.linspace(0.05, 0.3, 12)),
    DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000), rescale_zero_snr=True),
)
VALUES = (
    0,
    1,
    2,
    3,
    4,
    0.5,
    1.5,
    -1,
    True,
    False,
    "x0",
    "eps",
    "v",
    "velocity",
    "lam",
    "t",
    "exact",
    None,
    (),
    (1, 2),
    (3, 2, 1),
    (0,),
    7,
    100,
)


class Counted(GaussianMixture):
    """The exact model, counting its calls."""

    def __init__(self, schedule, prediction):
        super().__init__([[0.5, -0.3], [1.0, 1.0]], [0.5, 0.7], [0.5, 0.5], schedule, prediction)
        self.calls = 0

    def raws(self, x_in, t, cond=None):
        self.calls += 1
        return super().raws(x_in, t, cond)


def drawn(rng):
    sampler = get(rng.choice(names()))
    options = dict(rng.choice(({}, *sampler.variants)))
    fields = dataclasses.fields(sampler.options)
    if fields and rng.random() < 0.4:
        options[rng.choice(fields).name] = rng.choice(VALUES)
    if sampler.form == "plan" and rng.random() < 0.15:
        options["afs"] = rng.choice((True, "unit", "zero"))
    if rng.random() < 0.5 and not sampler.free:
        options["steps"] = rng.randint(1, 6)
    else:
        options["nfe"] = rng.randint(1, 200) if sampler.free else rng.randint(1, 12)
    if rng.random() < 0.6:
        options["grid"] = rng.choice(grid_names())
    options |= {"final": rng.choice(("zero", "sigma_min")), "n": rng.randint(1, 3)}
    options["dtype"] = rng.choice(
        (None, torch.float64, torch.float32, torch.bfloat16, torch.float16)
    )
    return sampler.name, options


@pytest.mark.parametrize("block", range(10))
def test_a_configuration_runs_or_is_refused(block):
    rng, ran = random.Random(block), 0
    for _ in range(20):
        name, options = drawn(rng)
        model = Counted(rng.choice(PATHS), rng.choice(("x0", "eps", "v", "velocity", "score")))
        try:
            x, info = fewstep.sample(model, name, info=True, **options)
        except FewstepError:
            continue
        ran += 1
        assert bool(torch.isfinite(x).all()), (name, options)
        assert max(info.nfe, model.calls) <= options.get("nfe", 10**9), (name, options)
        assert info.plan is None or info.plan.nfe == model.calls
    assert ran >= 4
