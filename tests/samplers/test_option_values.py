"""Options with values that mean nothing are refused, by the library and not only by the command
line; numpy's numbers are Python's."""

import dataclasses
import inspect
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import fewstep
from fewstep import FewstepScheduler
from fewstep.checks import FewstepError
from fewstep.models import wrap
from fewstep.samplers import SamplerError, get, make_options, names
from fewstep.schedules import (
    EDM,
    PFGMPP,
    VE,
    DiscreteVP,
    Flow,
    SubVP,
    Trig,
    VPCosine,
    VPLinear,
    VPSigmoid,
    grid,
)
from fewstep.schedules.grids.registry import GRIDS

NONSENSE = (
    math.nan,
    math.inf,
    -math.inf,
    "nonsense",
    "",
    -1e9,
    10**400,
    ("a",),
    (math.nan,),
    object(),
    np.float64("nan"),
    np.zeros((2, 2)),
    1j,
)


def options_of(name):
    sampler = get(name)
    return [f.name for f in dataclasses.fields(sampler.options)] + (
        ["afs"] if sampler.form == "plan" else []
    )


@pytest.mark.parametrize("name", names())
def test_nonsense_is_refused_for_every_option(name):
    for option in options_of(name):
        for value in NONSENSE:
            if option == "s_tmax" and type(value) is float and value == math.inf:  # no upper limit
                assert make_options(get(name), {option: value}) == make_options(get(name), {})
                continue
            with pytest.raises(SamplerError, match=name):
                make_options(get(name), {option: value})


@pytest.mark.parametrize("name", names())
def test_defaults_are_hashable_and_json(name):
    options = get(name).options()
    hash(options)
    json.dumps(dataclasses.asdict(options))


def test_no_option_has_the_name_of_an_argument():
    taken = set()
    for function in (
        fewstep.sample,
        fewstep.plan,
        fewstep.run,
        fewstep.invert,
        FewstepScheduler.set_timesteps,
        FewstepScheduler.step,
    ):
        taken |= set(inspect.signature(function).parameters)
    taken |= set(inspect.signature(FewstepScheduler.__init__).parameters)
    taken -= {"eta"}  # of ``step``: it is an alias of the option tau
    for name in names():
        assert not taken & set(options_of(name)), name


@pytest.mark.parametrize("name", ["er_sde", "er_sde_compat"])
def test_the_diffusion_has_a_name_of_its_own(name):
    den = fewstep.models.load("mixture")
    assert not fewstep.plan(name, den.schedule, steps=3, diffusion="ode").stochastic
    out = fewstep.sample(den, name, steps=3, n=2, diffusion="ode")
    assert torch.equal(
        out, fewstep.sample(den, name, steps=3, n=2, diffusion="ode", noise="brownian")
    )
    with pytest.raises(FewstepError, match="diffusion"):
        fewstep.plan(name, den.schedule, steps=3, noise="ode")
    with pytest.raises(FewstepError, match="diffusion"):
        fewstep.sample(den, name, steps=3, n=2, noise="ode")


def test_numbers_of_numpy_are_pythons():
    plan = fewstep.plan(
        "unipc", VPLinear(), steps=np.int64(3), order=np.int64(2), skip_corrector=np.array([0])
    )
    assert plan == fewstep.plan("unipc", VPLinear(), steps=3, order=2, skip_corrector=(0,))
    options = make_options(get("ddim"), {"eta": np.float32(0.5)})
    assert type(options.tau) is float and options == make_options(get("ddim"), {"eta": 0.5})
    den = fewstep.models.load("mixture")
    a = fewstep.sample(den, "ddim", steps=np.int32(2), n=np.int64(3), seed=np.uint8(4))
    assert torch.equal(a, fewstep.sample(den, "ddim", steps=2, n=3, seed=4))
    made = grid("karras", EDM(np.float64(0.002), np.int64(80)), np.int64(4), rho=np.float64(7))
    assert made == grid("karras", EDM(0.002, 80), 4, rho=7.0)
    json.dumps(dict(made.params))
    assert type(EDM(sigma_max=np.int64(80)).sigma_max) is int


@pytest.mark.parametrize("skip", [("a",), (99,), (-1,), (True,), 3])
def test_a_corrector_is_skipped_at_steps_that_are_there(skip):
    with pytest.raises(FewstepError, match="skip_corrector"):
        fewstep.plan("unipc", VPLinear(), steps=6, skip_corrector=skip)


@pytest.mark.parametrize("name", GRIDS)
def test_nonsense_in_grids(name):
    table = DiscreteVP.from_betas(np.linspace(0.01, 0.1, 50))
    for schedule in (VPLinear(), Flow(), table):
        for option in (*GRIDS[name].option_names, "shift", "start", "steps", "final"):
            for value in NONSENSE:
                with pytest.raises(FewstepError):
                    grid(name, schedule, **{"steps": 4, option: value})
    for value in ("nonsense", 3.0, ["a", "b"], [True, False], [0.5, math.nan], [None]):
        for word in ("times", "sigmas"):
            with pytest.raises(FewstepError, match=word):
                grid(None, VPLinear(), **{word: value})


@pytest.mark.parametrize("offset", [2.5, True, -1, "1"])
def test_an_offset_is_an_index(offset):
    with pytest.raises(FewstepError, match="offset"):
        grid("leading", DiscreteVP.from_betas([0.1] * 9), 3, offset=offset)


def test_a_flag_is_a_flag():
    with pytest.raises(FewstepError, match="drop_last"):
        grid("uniform", Flow(), 3, drop_last="yes")


@pytest.mark.parametrize("cls", [VPLinear, SubVP, VPSigmoid, VE, EDM, Flow, PFGMPP])
def test_nonsense_in_schedules(cls):
    for field in dataclasses.fields(cls):
        for value in (*NONSENSE, True, None):
            given = (
                {field.name: value}
                if cls is not PFGMPP or field.name == "D"
                else {"D": 64.0, field.name: value}
            )
            with pytest.raises(FewstepError):
                cls(**given)


@pytest.mark.parametrize(
    "schedule",
    [
        VPLinear(),
        VPCosine(),
        VPSigmoid(),
        SubVP(),
        VE(),
        EDM(),
        Flow(),
        Trig(),
        DiscreteVP.from_betas([0.1] * 9),
    ],
)
def test_a_time_is_a_number(schedule):
    for name in ("alpha", "sigma", "dalpha", "dsigma", "lam", "rho", "t_of_lam", "node"):
        for value in (math.nan, np.float64("nan"), "0.5", None):
            with pytest.raises(FewstepError):
                getattr(schedule, name)(value)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("prediction", ("x1", 3, None, math.nan)),
        ("time", ("T", 3, None, math.nan, ())),
        ("flip_time", ("yes", 1, None)),
        ("precondition", ("adm", 3, True)),
        ("sigma_data", (-1.0, 0, math.nan, math.inf, "x", True)),
        ("shape", ("x", 3, (0,), (1.5,), (True,))),
        ("schedule", ("edm", None)),
    ],
)
def test_nonsense_in_wrap(option, values):
    for value in values:
        with pytest.raises(FewstepError):
            wrap(
                lambda x, t: x,
                **{"schedule": EDM(), "prediction": "x0", "precondition": "edm", option: value},
            )


@pytest.mark.parametrize(
    "argument",
    [
        "steps",
        "nfe",
        "grid",
        "times",
        "sigmas",
        "final",
        "n",
        "seed",
        "seeds",
        "x",
        "init",
        "start",
        "shape",
        "cond",
        "noise",
        "dtype",
    ],
)
def test_nonsense_in_sample(argument):
    den = fewstep.models.load("mixture")
    for value in (-3, math.nan, "nonsense", object(), [None], np.array([[1.5, math.nan]])):
        with pytest.raises(FewstepError):
            fewstep.sample(den, "ddim" if argument != "noise" else "ddpm", **{argument: value})
    for name in ("callback", "progress", "device", "sampler"):
        with pytest.raises(FewstepError):
            fewstep.sample(den, **{name: "nonsense"})


def test_a_former_name_warns_at_the_line_of_the_caller(tmp_path):
    """Python shows a DeprecationWarning by default only where ``__main__`` is at fault."""
    script = tmp_path / "script.py"
    script.write_text(
        "import fewstep\n"
        "schedule = fewstep.schedules.VPLinear()\n"
        "fewstep.plan('er_sde', schedule, steps=3, noise_scale='sde_3')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "script.py:3: DeprecationWarning: the option 'noise_scale'" in done.stderr
