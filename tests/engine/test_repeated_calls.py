"""What the front door keeps between calls: the same answers, and nothing stale."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch

import fewstep
from fewstep.engine.named_grids import LONGEST, forget_grids, grid_for
from fewstep.models import BaseDenoiser, Wrapper, complete, wrap
from fewstep.schedules import EDM, DiscreteVP, Flow, VPLinear
from fewstep.schedules.grids.registry import GRIDS
from fewstep.schedules.grids.request import GridRequest

F64 = torch.float64


def named_grid(name, schedule, steps, final, start):
    return grid_for(GridRequest(steps, grid=name, final=final, start=start), schedule)


@pytest.fixture(autouse=True)
def empty():
    forget_grids()
    yield
    forget_grids()


class Scaled(BaseDenoiser):
    """A denoiser whose numbers can be set."""

    schedule, prediction, shape, preserves_input = VPLinear(), "x0", (2,), True

    def __init__(self, weight=1.0, scale=1.0):
        self.weight, self.scale = weight, scale

    def raws(self, x_in, t, cond=None, channels=("main",)):
        return (x_in.tanh(),)

    def coefficients(self, t, channel="main"):
        return 0.1, (self.weight,)

    def input_scale(self, t):
        return self.scale


def drawn(den, **arguments):
    return fewstep.sample(den, "dpmpp_2m", steps=4, n=3, dtype=F64, **arguments)


@pytest.mark.parametrize(
    "change",
    [{"weight": 2.0}, {"scale": 0.5}, {"prediction": "v"}],
    ids=["coefficients", "input_scale", "prediction"],
)
def test_a_denoiser_whose_numbers_changed_is_lowered_anew(change):
    den = Scaled()
    before = drawn(den)
    for name, value in change.items():
        setattr(den, name, value)
    found, fresh = drawn(den), Scaled()
    for name, value in change.items():
        setattr(fresh, name, value)

    forget_grids()
    assert torch.equal(found, drawn(fresh)) and not torch.equal(found, before)


def test_wrappers_with_other_numbers_are_told_apart():
    class Double(Wrapper):
        def coefficients(self, t, channel="main"):
            p, qs = self.denoiser.coefficients(t)
            return p, tuple(2.0 * q for q in qs)

    den = Scaled()
    once, twice = drawn(den), drawn(Double(den))
    assert torch.equal(twice, drawn(Scaled(2.0))) and not torch.equal(once, twice)


def test_no_network_is_kept_alive():
    network = torch.nn.Linear(2, 2).requires_grad_(False)
    den = wrap(lambda x, t, net=network: net(x), VPLinear(), "eps", shape=(2,))
    fewstep.sample(den, "ddim", steps=3)
    gone = weakref.ref(network)
    del network, den
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("schedule", [VPLinear(), EDM(), Flow(), DiscreteVP.from_betas([0.1] * 9)])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_a_named_grid_is_the_grid(schedule, final):
    found = named_grid("karras", schedule, 4, final, None)
    assert found == fewstep.grid("karras", schedule, 4, final=final)
    assert named_grid("karras", schedule, 4, final, None) is found
    assert named_grid("karras", schedule, 5, final, None) is not found


def test_a_grid_that_is_registered_again_is_another_one(monkeypatch):
    before = fewstep.plan("ddim", VPLinear(), grid="lam", steps=4).nodes
    monkeypatch.setitem(
        GRIDS,
        "lam",
        replace(GRIDS["lam"], layout=GRIDS["karras"].layout, options=GRIDS["karras"].options),
    )
    after = fewstep.plan("ddim", VPLinear(), grid="lam", steps=4).nodes
    assert before != after


def test_a_schedule_that_may_change_is_laid_out_anew():
    class Changing(VPLinear):
        """A subclass without the decorator: its instances could be given other numbers."""

    made = Changing()
    first = named_grid("lam", made, 4, "zero", None).nodes
    object.__setattr__(made, "beta_max", 7.0)
    found = named_grid("lam", made, 4, "zero", None).nodes
    assert found == fewstep.grid("lam", made, 4).nodes != first


def test_errors_of_grids_are_the_same():
    for wrong in ("karas", "lam"):
        with pytest.raises(fewstep.FewstepError) as kept:
            named_grid(wrong, VPLinear(), 4, "zerro", None)
        with pytest.raises(type(kept.value)) as plain:
            fewstep.grid(wrong, VPLinear(), 4, final="zerro")
        assert str(kept.value) == str(plain.value)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "dpmpp_2m_sde", "heun", "restart"])
@pytest.mark.parametrize(
    "make",
    [
        Scaled,
        lambda: complete(
            wrap(lambda x, t: x / (1.0 + t[:, None]), VPLinear(), "eps", flip_time=True, shape=(2,))
        ),
    ],
)
def test_the_second_call_gives_the_bits_of_the_first(sampler, make):
    first = fewstep.sample(make(), sampler, steps=4, n=3)
    assert torch.equal(fewstep.sample(make(), sampler, steps=4, n=3), first)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, F64])
def test_the_label_of_one_time_is_that_of_many(flip, dtype):
    den = wrap(lambda x, t: x, VPLinear(), "eps", flip_time=flip, shape=(2,))
    x = torch.zeros(3, 2, dtype=dtype)
    for t in (0.1, 1.0 / 3.0, 1.0):
        one = den.labels(torch.tensor(t, dtype=F64), x)
        many = den.labels(torch.full((3,), t, dtype=F64), x)
        assert torch.equal(one, many) and one.dtype == many.dtype and one.shape == (3,)
    with pytest.raises(ValueError, match="nan at t=nan"):
        den.labels(torch.tensor(float("nan")), x)


def test_a_long_grid_is_not_kept():
    first, again = (named_grid("lam", VPLinear(), LONGEST + 1, "zero", None) for _ in range(2))
    assert first == again and first is not again
