"""The contract of a denoiser: an identity wrapper changes no bit, and six members are enough."""

from __future__ import annotations

import ast
import math
import re
from itertools import product

import numpy as np
import pytest
import torch
from repository import ROOT, sources

import fewstep
from fewstep.checks import ArgumentError, FewstepError
from fewstep.eval.benchmark.runner import bench
from fewstep.eval.solver.counting import Counting
from fewstep.models import (
    BaseDenoiser,
    Empirical,
    EmpiricalPFGMPP,
    GaussianMixture,
    MeanReverted,
    Wrapper,
    complete,
    wrap,
)
from fewstep.models.denoiser import MEMBERS
from fewstep.models.loading import classes_of
from fewstep.models.unet import UNet, UNetConfig
from fewstep.schedules import EDM, PFGMPP, DiscreteVP, Flow, MeanReverting, VPLinear

F64 = torch.float64
POINTS = torch.tensor([[0.5, -1.0], [-0.3, 0.2], [1.0, 0.8]])


class Identity(Wrapper):
    """Changes nothing."""


class Delegating:
    """A user's class: six members and the rest by delegation."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __call__(self, x, t, cond=None):
        return self.inner(x, t, cond)


class Minimal:
    """A user's class with the six members of the protocol and nothing else."""

    def __init__(self, inner):
        self._inner = inner
        self.schedule, self.prediction, self.shape = inner.schedule, inner.prediction, inner.shape

    def raws(self, x_in, t, cond=None):
        return self._inner.raws(x_in, t, cond)

    def coefficients(self, t):
        return self._inner.coefficients(t)

    def input_scale(self, t):
        return self._inner.input_scale(t)

    def __call__(self, x, t, cond=None):
        return self._inner(x, t, cond)


def mixture(schedule=None, prediction="v"):
    means = [[1.0, -0.5], [-0.7, 0.3]]
    return GaussianMixture(means, 0.4, [0.6, 0.4], schedule or VPLinear(), prediction)


def network(x, label, cond=None):
    label = label.to(x).reshape(-1, *(1,) * (x.ndim - 1))
    return torch.tanh(0.7 * x + 0.1 * label / (1.0 + label))


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([0.4, 0.6]), requires_grad=False)

    def forward(self, x, label):
        return self.scale * x


def unet(classes=3):
    torch.manual_seed(0)
    config = UNetConfig(8, 1, classes, (8,), (1,), embedding=8, head=4)
    made = UNet(config).eval().requires_grad_(False)
    for parameter in made.parameters():  # the last layers begin at zero
        parameter.copy_(0.1 * torch.randn(parameter.shape))
    return made


def mean_reverted(per_sample=False, velocity="own"):
    path = MeanReverting(0.6, VPLinear())
    kind = "v" if velocity == "mr_v" else "eps"
    mu = torch.tensor([[0.5, -2.0]] * 3) if per_sample else torch.tensor([0.5, -2.0])
    inner = wrap(network, path, kind, shape=(2,))
    return MeanReverted(inner, mu, per_sample=per_sample, velocity=velocity)


KINDS = {
    "network": lambda: wrap(network, VPLinear(), "eps", shape=(2,)),
    "module": lambda: wrap(Module(), VPLinear(), "eps", shape=(2,)),
    "edm": lambda: wrap(network, EDM(), "x0", "c_noise", precondition="edm", shape=(2,)),
    "table": lambda: wrap(
        network, DiscreteVP.from_betas([0.01] * 50), "eps", time="index", shape=(2,)
    ),
    "flow": lambda: wrap(network, Flow(), "velocity", flip_time=True, shape=(2,)),
    "unet": lambda: wrap(unet(), EDM(), "x0", "c_noise", precondition="edm", shape=(1, 8, 8)),
    "mixture": mixture,
    "empirical": lambda: Empirical(POINTS, VPLinear()),
    "pfgmpp": lambda: EmpiricalPFGMPP(POINTS, PFGMPP(8)),
    "mean-reverting": mean_reverted,
    "mean-reverting, per sample": lambda: mean_reverted(per_sample=True),
    "mean-reverting velocity": lambda: mean_reverted(velocity="mr_v"),
    "guided latents": lambda: wrap(
        network, VPLinear(), "eps", shape=(2,), sigma_data=0.8, guided=True, latent=True
    ),
}
#: what a wrapper forwards by value
VALUES = (
    "schedule", "prediction", "shape", "device", "batch", "classes", "channels",
    "sigma_data", "guided", "latent", "joinable",
)  # fmt: skip
WRAPPERS = {
    "identity": Identity,
    "delegating": Delegating,
    "counting": Counting,
    "twice": lambda den: Identity(Delegating(Identity(den))),
}
#: plan ODEs and SDEs, multistep, several stages, jumps, and every driver
SAMPLERS = {
    "dpmpp_2m": {"steps": 5},
    "unipc": {"steps": 5, "order": 3},
    "heun": {"steps": 4},
    "ddim": {"steps": 4, "eta": 0.7},
    "dpmpp_2m_sde": {"steps": 5},
    "restart": {"steps": 6},
    "ode45": {"max_nfe": 300},
    "ode853": {"max_nfe": 300},
    "dpm_adaptive": {"max_nfe": 300},
    "adaptive_sde": {"max_nfe": 2000, "tolerance": 0.1},
    "pc": {"steps": 3},
    "picard": {"steps": 4},
    "dpm_solver_v3_elementwise": {"steps": 4, "corrector": "full"},
    "dmcmc": {"steps": 3},
    "sada": {"steps": 20},
}


def outcome(den, door):
    """The tensor that comes out, or the error of the package."""
    try:
        return door(den)
    except FewstepError as error:
        return type(error)


def assert_same(make, door, named=False):
    """``door`` gives the same bits, or the same error, for the denoiser and for its wrappers.
    ``named``: it names its grid."""
    plain = make()
    want = outcome(plain, door)
    wrappers = dict(WRAPPERS)
    # what an object of six members cannot say about the data decides the grid auto
    same = named or (plain.sigma_data is None and not plain.guided and not plain.latent)
    own = isinstance(plain, BaseDenoiser) and plain.offset is None
    if same and own and not plain.classes:
        wrappers["minimal"] = Minimal
    for name, wrapper in wrappers.items():
        found = outcome(wrapper(make()), door)
        if isinstance(want, torch.Tensor):
            assert isinstance(found, torch.Tensor) and torch.equal(found, want), name
        else:
            assert found == want, name
    return want


#: samplers of many calls: with most models they are slow tests
MANY_CALLS = ("ode45", "ode853", "dpm_adaptive", "dmcmc")
QUICK = ("network", "mixture", "mean-reverting, per sample")


@pytest.mark.parametrize(
    ("sampler", "kind"),
    [
        pytest.param(s, k, marks=[pytest.mark.slow] * (s in MANY_CALLS and k not in QUICK))
        for s, k in product(SAMPLERS, KINDS)
    ],
)
def test_an_identity_wrapper_changes_no_bit(sampler, kind):
    def door(den):
        return fewstep.sample(den, sampler, seeds=(3, 4, 9), **SAMPLERS[sampler])

    assert_same(KINDS[kind], door)


@pytest.mark.parametrize("kind", ["mixture", "empirical", "pfgmpp", "guided latents"])
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "heun", "restart", "pc", "picard"])
def test_an_object_of_six_members_gives_the_same_bits_on_a_named_grid(sampler, kind):
    def door(den):
        return fewstep.sample(den, sampler, seeds=(3, 4, 9), grid="lam", **SAMPLERS[sampler])

    assert_same(KINDS[kind], door, named=True)


def test_every_form_of_sampler_is_in_the_table():
    drivers = {n for n in fewstep.samplers.names() if fewstep.samplers.get(n).form == "driver"}
    assert drivers <= set(SAMPLERS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sampler_runs_on_some_kind(kind):
    """An error on both sides is no proof: each kind runs the plan samplers."""
    want = outcome(KINDS[kind](), lambda den: fewstep.sample(den, "heun", steps=4, seeds=(1, 2, 3)))
    assert isinstance(want, torch.Tensor) and bool(torch.isfinite(want).all())


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_doors_give_the_same_bits(kind):
    shape = KINDS[kind]().shape
    x = 0.3 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    doors = (
        lambda den: fewstep.run(fewstep.plan("heun", den.schedule, steps=3), den, x),
        lambda den: fewstep.invert(den, x, steps=3),
        lambda den: fewstep.log_prob(den, x, steps=2, prior=lambda z: z.flatten(1).square().sum(1)),
        lambda den: fewstep.sample(den, "heun", steps=3, init=x, start=den.schedule.t_max / 2),
        lambda den: den(x, 0.4 * den.schedule.t_max),
    )
    ran = [isinstance(assert_same(KINDS[kind], door), torch.Tensor) for door in doors]
    assert ran[0] and ran[-1]


@pytest.mark.parametrize("kind", ["module", "mixture", "mean-reverting, per sample"])
def test_the_solver_error_of_a_wrapper(kind):
    """A network of float32 computes in float32, wrapped or not."""
    plain = KINDS[kind]()
    errors = [
        fewstep.eval.solver_error(den, "heun", steps=3, n=3, tolerance=1e-3).per_sample
        for den in (plain, Identity(plain), Delegating(plain))
    ]
    assert torch.equal(errors[0], errors[1]) and torch.equal(errors[0], errors[2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapper_forwards_every_member(kind):
    plain = KINDS[kind]()
    for wrapper in WRAPPERS.values():
        made = complete(wrapper(plain))
        for name in VALUES:
            assert getattr(made, name) == getattr(plain, name), name
        assert made.network is plain.network and made.offset is plain.offset
        assert made.time_mismatch(3.3) == plain.time_mismatch(3.3)
        assert [id(p) for p in made.parameters()] == [id(p) for p in plain.parameters()]
        assert bool([*made.parameters()]) == (kind in ("module", "unet"))
        null, own = made.null_cond(None, 3), plain.null_cond(None, 3)
        assert (null is None and own is None) or torch.equal(null, own)
        assert made.preserves_input


def test_the_defaults_of_six_members():
    found = complete(Minimal(mixture()))
    assert found.device is None and found.offset is None and found.batch is None
    assert found.classes == 0 and found.channels == ("main",) and found.network is None
    assert found.sigma_data is None and not found.guided and not found.latent
    assert found.time_mismatch(0.5) == 0.0 and found.null_cond(None, 2) is None
    assert found.check_cond(torch.zeros(1), 5) is None
    assert list(found.parameters()) == [] and found.select(torch.tensor([0])) is found
    assert complete(found) is found
    assert set(MEMBERS) == {
        "schedule", "prediction", "shape", "raws", "coefficients", "input_scale"
    }  # fmt: skip


def test_six_members_run_in_the_bench_and_the_evaluation():
    plain, x0 = mixture(VPLinear(), "eps"), 0.3 * torch.ones(2, 2, dtype=F64)
    own = Minimal(plain)
    for measure in (
        lambda den: fewstep.eval.flipd(den, x0, 0.2),
        lambda den: fewstep.eval.fokker_planck_residual(den, x0, [0.4]).per_sample,
        lambda den: fewstep.eval.score_asymmetry(den, x0, [0.4]).per_sample,
        lambda den: fewstep.eval.intrinsic_dimension(den, x0, 0.1).dimension,
    ):
        assert torch.equal(measure(own), measure(plain))
    asked = {"samplers": ("heun",), "grids": ("lam",), "nfes": (4,), "samples": 0, "n": 4}
    tables = [
        bench({"model": den}, labels="none", **asked) for den in (own, Identity(plain), plain)
    ]
    errors = [[row.rmse for row in table.rows] for table in tables]
    assert errors[0] and errors[0] == errors[1] == errors[2]


def test_a_user_object_on_a_mean_reverting_path_must_say_its_offset():
    with pytest.raises(ArgumentError, match=r"offset.*fewstep\.models\.Wrapper"):
        fewstep.sample(Minimal(mean_reverted()), steps=3)

    class Difference(Minimal):
        offset = None

    path = MeanReverting(0.6, VPLinear())
    assert torch.equal(
        fewstep.sample(Difference(mixture(path, "eps")), steps=3, n=2, grid="lam"),
        fewstep.sample(mixture(path, "eps"), steps=3, n=2, grid="lam"),
    )


def test_members_of_another_type_are_not_taken():
    class Own(Minimal):
        channels, classes, batch, offset, select = 3, "many", "big", "none", 7

    found = complete(Own(mixture()))
    assert found.channels == ("main",) and found.classes == 0 and found.batch is None
    assert found.offset is None and found.select(torch.tensor([1])) is found


@pytest.mark.parametrize("wrong", [0.0, -0.5, math.nan, math.inf, True, "0.5", [0.5]])
def test_a_user_object_with_a_wrong_sigma_data_is_refused(wrong):
    class Own(Minimal):
        sigma_data = wrong

    for door in (complete, Identity, fewstep.sample):
        with pytest.raises(ArgumentError, match=re.escape(f"Own.sigma_data={wrong!r}")):
            door(Own(mixture()))


@pytest.mark.parametrize("value", [None, 2, 0.3, np.float32(0.25), np.float64(1.5)])
def test_the_facts_of_a_user_object(value):
    class Own(Minimal):
        sigma_data, guided, latent = value, True, True

    found = complete(Own(mixture()))
    assert found.sigma_data == value and type(found.sigma_data) in (float, type(None))
    assert found.guided is True and found.latent is True
    assert complete(Identity(Own(mixture()))).sigma_data == value

    class Other(Minimal):
        guided, latent = "yes", 1

    assert complete(Other(mixture())).guided is False and complete(Other(mixture())).latent is False


class Two(BaseDenoiser):
    """Two linear readings of one call."""

    channels = ("main", "other")
    shape = (2,)
    prediction = "x0"
    schedule = VPLinear()

    def __init__(self):
        self.asked = []

    def raws(self, x_in, t, cond=None, channels=("main",)):
        self.asked.append(tuple(channels))
        return (0.5 * x_in,)

    def coefficients(self, t, channel="main"):
        return 0.0, (1.0 if channel == "main" else 3.0,)


@pytest.mark.parametrize("wrapper", [Identity, Delegating, Counting])
def test_channels_pass_through_wrappers(wrapper):
    plain = Two()
    made = complete(wrapper(plain))
    assert made.channels == ("main", "other")
    assert made.coefficients(0.3) == (0.0, (1.0,))
    assert made.coefficients(0.3, "other") == (0.0, (3.0,))
    made.raws(torch.ones(1, 2), 0.3)
    made.raws(torch.ones(1, 2), 0.3, None, ("main", "other"))
    assert plain.asked == [("main",), ("main", "other")]


def test_a_base_denoiser_may_write_into_its_input():
    class Writing(Two):
        def raws(self, x_in, t, cond=None, channels=("main",)):
            return (x_in.mul_(0.5),)

    x = torch.ones(3, 2)
    want = fewstep.sample(Two(), "heun", steps=3, x=x)
    assert torch.equal(fewstep.sample(Writing(), "heun", steps=3, x=x), want)
    assert torch.equal(x, torch.ones(3, 2))


def test_select_follows_the_rows():
    mu = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    path = MeanReverting(0.6, VPLinear())
    plain = MeanReverted(wrap(network, path, "eps", shape=(2,)), mu, per_sample=True)
    rows = torch.tensor([2, 0])
    for made in (plain, Identity(plain), complete(Delegating(plain))):
        chosen = made.select(rows)
        assert torch.equal(chosen.offset, mu[rows]) and chosen.batch == 2
        assert torch.equal(made.offset, mu)
    free = mixture()
    assert free.select(rows) is free
    same = Identity(free)
    assert same.select(rows) is same


def test_null_conditions():
    edm = wrap(unet(classes=3), EDM(), "x0", "c_noise", precondition="edm", shape=(1, 8, 8))
    cases = ((edm, 3), (mixture(), -1), (Empirical(POINTS, EDM(), labels=torch.arange(3)), -1))
    for den, label in cases:
        assert den.null_cond(None, 2).tolist() == [label] * 2
        assert den.null_cond(torch.tensor([1, 0]), 2).tolist() == [label] * 2
        assert den.null_cond({"label": torch.tensor([1, 0])}, 2)["label"].tolist() == [label] * 2
        x = torch.ones(2, *den.shape)
        assert torch.equal(den(x, 0.5, den.null_cond(None, 2)), den(x, 0.5))
    for den in (wrap(network, EDM(), "x0"), Empirical(POINTS, EDM()), wrap(unet(0), EDM(), "x0")):
        assert den.null_cond(None, 2) is None
    assert classes_of(mixture()) == 2 and classes_of(edm) == classes_of(Minimal(edm)) + 3 == 3


# --- nobody guesses members

#: members beyond the protocol; ``ADAPTERS`` alone read them from foreign objects
FURTHER = {
    "batch",
    "channels",
    "check_cond",
    "classes",
    "copies",
    "device",
    "for_run",
    "guided",
    "joinable",
    "latent",
    "network",
    "network_rows",
    "null_cond",
    "offset",
    "parameters",
    "preserves_input",
    "select",
    "sigma_data",
    "time_mismatch",
}


#: where objects of a user get the members that they do not have
ADAPTERS = ("models/base.py", "models/wrapper.py", "guidance/discrete/denoiser.py")


def guesses(source: str) -> list[str]:
    """``getattr`` and ``hasattr`` of a further member by its name."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("getattr", "hasattr")
        and isinstance(node.args[1], ast.Constant)
        and node.args[1].value in FURTHER
    ]


def test_no_member_is_guessed_outside_of_the_adapter():
    found = {
        str(path): wrong
        for path in sources()
        if path.as_posix() not in ADAPTERS
        and (wrong := guesses((ROOT / path).read_text(encoding="utf-8")))
    }
    assert not found
    assert guesses('x = getattr(den, "offset", None)') and not guesses("x = den.offset")
