"""What a network may do to its inputs: it gets copies, so the sampler's state, ``cond`` and the
caller's ``x=`` stay as they are."""

import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fewstep
from fewstep.fused import linear_backend
from fewstep.interop import kdiffusion
from fewstep.models import GaussianMixture, complete, wrap
from fewstep.samplers.drivers.driver import Drive
from fewstep.schedules import EDM, VPLinear

EXACT = GaussianMixture([[0.5, -0.3], [1.0, 1.0]], [0.5, 0.7], [0.5, 0.5], VPLinear(), "eps")


def clean(x, t):
    return EXACT.predict("eps", x, t)


def written(how):
    """The same network, which then uses its input as scratch."""

    def network(x, t):
        y = clean(x.clone(), t)
        if how == "in place":
            x.clamp_(-0.5, 0.5)
        elif how == "data":
            x.data.fill_(3.0)
        else:
            x.detach().numpy()[:] = 7.0
        return y

    return network


def model(network):
    return wrap(network, VPLinear(), "eps", shape=(2,))


class Bare:
    """A denoiser that is not made by ``wrap``."""

    schedule, prediction, shape = VPLinear(), "eps", (2,)

    def __init__(self, network):
        self.network = network

    def raws(self, x_in, t, cond=None):
        return (self.network(x_in, t),)

    def coefficients(self, t):
        return 0.0, (1.0,)

    def input_scale(self, t):
        return 1.0

    def __call__(self, x, t, cond=None):
        return self.raws(x.clone(), t)[0]


HOW = ("in place", "data", "numpy")
SAMPLERS = (
    "ddim",
    "unipc",
    "heun",
    "dpmpp_2m_sde",
    "pndm",
    "restart",
    "ode45",
    "adaptive_sde",
    "picard",
    "pc",
    "dmcmc",
    "sada",
)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("make", [model, Bare])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_network_that_writes_into_its_input_changes_nothing(name, make, how):
    options = {} if name in ("ode45", "adaptive_sde") else {"steps": 4}
    want = fewstep.sample(make(clean), name, n=3, **options)
    assert torch.equal(fewstep.sample(make(written(how)), name, n=3, **options), want)


@pytest.mark.parametrize("how", HOW)
def test_the_state_of_the_caller_is_kept_at_every_door(how):
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    keep, a, b = x.clone(), model(clean), model(written(how))
    plan = fewstep.plan("unipc", a.schedule, steps=3)
    doors = (
        lambda m: fewstep.sample(m, "heun", steps=3, x=x),
        lambda m: fewstep.sample(m, "ddim", steps=3, init=x, start=0.5),
        lambda m: fewstep.run(plan, m, x),
        lambda m: fewstep.invert(m, x, steps=3),
        lambda m: fewstep.log_prob(m, x, steps=2),
        lambda m: m(x, 0.4),
        lambda m: m.raws(x, 0.4)[0],
    )
    for door in doors:
        want = door(a)
        # numpy() of a tensor that requires grad is another tensor's business
        if how != "numpy" or door is not doors[4]:
            assert torch.equal(door(b), want)
        assert torch.equal(x, keep)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_under_no_grad_and_inference_mode(mode):
    with mode():
        assert torch.equal(
            fewstep.sample(model(written("in place")), steps=4, n=2),
            fewstep.sample(model(clean), steps=4, n=2),
        )


def test_a_condition_is_a_copy_too():
    cond = {"label": torch.ones(2, 1)}

    def network(x, t, cond):
        y = x * cond["label"]
        cond["label"].zero_()
        return y

    out = fewstep.sample(
        wrap(network, VPLinear(), "x0", shape=(2,)), "ddim", steps=3, n=2, cond=cond
    )
    assert torch.equal(cond["label"], torch.ones(2, 1)) and float(out.abs().max()) > 0.0


@pytest.mark.parametrize("name", ["unipc", "heun", "dpmpp_3m"])
def test_a_network_that_returns_its_own_scaled_input(name):
    """The input is a buffer of its own until the launch that reads the answer is done."""

    class Own(Bare):
        schedule, prediction = EDM(), "x0"

        def input_scale(self, t):
            return 1.0 / (1.0 + t)

    x = 80.0 * torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plan = fewstep.plan(name, EDM(), steps=5)
    want = fewstep.run(plan, Own(lambda x, t: x.clone()), x)
    assert torch.equal(fewstep.run(plan, Own(lambda x, t: x), x), want)


def module(*parts):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = torch.nn.Sequential(*parts)

        def forward(self, x, label):
            return self.parts(x)

    return Net()


@pytest.mark.parametrize("part", [torch.nn.Dropout(0.3), torch.nn.BatchNorm1d(2)])
def test_a_network_in_training_mode_is_reported_once(part):
    network = module(torch.nn.Linear(2, 2), part)
    den = wrap(network, VPLinear(), "x0", shape=(2,))
    with pytest.warns(UserWarning, match=type(part).__name__) as seen:
        fewstep.sample(den, steps=3, n=4)
    assert len(seen) == 1
    fewstep.sample(den, steps=3, n=4)  # warnings are errors here


def test_who_is_not_reported():
    for network in (
        module(torch.nn.Linear(2, 2)),
        module(torch.nn.Dropout(0.0)),
        module(torch.nn.Dropout(0.3)).eval(),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fewstep.sample(wrap(network, VPLinear(), "x0", shape=(2,)), steps=2, n=2)


class Copies(TorchDispatchMode):
    """Counts copies of tensors as large as the state."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.clone.default and args[0].shape == (3, 2):
            self.count += 1
        return func(*args, **(kwargs or {}))


def copies_of(call, *args, **kwargs):
    # in torch operations, which can be counted
    with linear_backend("torch"), Copies() as counted:
        call(*args, **kwargs)
    return counted.count


def test_one_copy_a_call():
    """The input of a network call is copied once, by the wrapped network or by the adapter."""
    x = torch.ones(3, 2)

    def still(x_in, t):
        return torch.zeros_like(x_in)

    for make in (model, Bare):
        made = make(still)
        assert copies_of(fewstep.sample, made, "ddim", x=x, steps=5) == 5
        three, eight = (copies_of(fewstep.sample, made, "ddim", x=x, steps=n) for n in (3, 8))
        assert eight - three == 5
        drives = [
            copies_of(
                Drive(complete(made), x, VPLinear().node(1.0)).evaluate, x, VPLinear().node(1.0)
            )
            for _ in range(2)
        ]
        assert drives == [1, 1]
    levels = torch.tensor([10.0, 5.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    # the new states of three steps begin as a copy of a term
    assert copies_of(kdiffusion.sample_dpmpp_2m, still, x, levels) == 4 + 3
