"""CFG-Zero*: the optimal scale, and the first steps without a move."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from methods import images, pair
from problems import F64, PATHS, Recorder

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, CFGZero
from fewstep.schedules import EDM, DiscreteVP, Flow, VPLinear

LABELS = torch.tensor([0, 1, 0])


def mixed(cond, uncond, w=3.0):
    return CFGZero(images(Flow()), w).mix([uncond, cond], cond, [0.5])


def test_the_optimal_scale():
    cond, uncond = pair(4, 3, 5, 4)
    s = (cond * uncond).flatten(1).sum(1) / uncond.square().flatten(1).sum(1)
    s = s[:, None, None, None]
    assert torch.allclose(mixed(cond, uncond), s * uncond + 3.0 * (cond - s * uncond), rtol=1e-9)
    # s v_u is the projection of v_c: what is left is orthogonal to v_u
    left = mixed(cond, uncond, 1.0) - mixed(cond, uncond, 0.0)
    assert float((left * uncond).flatten(1).sum(1).abs().max()) < 1e-7
    # v_c = k v_u: s = k and the result is v_c for any w
    for k in (-0.7, 1.0, 2.5):
        for w in (0.0, 3.0, 30.0):
            assert torch.allclose(mixed(k * uncond, uncond, w), k * uncond, rtol=1e-7, atol=1e-8)
    zero = torch.zeros_like(cond)
    assert torch.equal(mixed(zero, zero), zero) and torch.equal(mixed(cond, zero), 3.0 * cond)


@pytest.mark.parametrize("sampler", ["flow_euler", "ddim", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("zero_steps", [1, 2])
def test_the_first_steps_do_not_move(sampler, zero_steps):
    den = images(Flow())
    states = []

    def watch(step):
        states.append(step.x_next.clone())

    x = torch.randn(3, *den.shape, dtype=F64)
    found = fewstep.sample(
        CFGZero(den, 3.0, zero_steps=zero_steps), sampler, steps=5, x=x, cond=LABELS, callback=watch
    )
    for state in states[:zero_steps]:
        assert torch.allclose(state, x, rtol=0, atol=1e-12)
    assert not torch.allclose(states[zero_steps], x, atol=1e-2)
    assert torch.equal(found, states[-1])


def test_the_steps_after_are_those_of_the_optimal_scale():
    den = images(Flow())
    x = torch.randn(3, *den.shape, dtype=F64)
    times = [1.0, 0.8, 0.5, 0.2, 0.0]
    found = fewstep.sample(CFGZero(den, 3.0), "flow_euler", times=times, x=x, cond=LABELS)
    own = x
    for s, t in pairwise(times[1:]):
        v = mixed(den(own, s, LABELS), den(own, s, torch.full((3,), -1)))
        own = own + (t - s) * v
    assert torch.allclose(found, own, rtol=1e-10, atol=1e-10)


def test_heun_stands_still_in_its_first_step_and_not_in_its_second():
    den = images(Flow())
    x = torch.randn(3, *den.shape, dtype=F64)
    moved = []

    def watch(step):
        moved.append(not torch.allclose(step.x_next, x, rtol=0, atol=1e-12))

    fewstep.sample(CFGZero(den, 3.0), "flow_heun", steps=3, x=x, cond=LABELS, callback=watch)
    assert moved[0] is False and moved[-1] is True


def test_zero_steps_hold_where_w_is_1():
    network = Recorder(Flow(), null=0.0)
    x = torch.randn(2, 4, dtype=F64)
    den = CFGZero(network, 3.0, interval=(0.0, 0.3))
    times = [1.0, 0.6, 0.0]
    found, info = fewstep.sample(
        den, "flow_euler", times=times, x=x, cond=torch.ones(2, dtype=F64), info=True
    )
    assert info.rows == network.rows == 4
    # the second step has the conditional velocity
    assert torch.allclose(found, x - 0.6 * torch.tanh(x + 0.3), rtol=0, atol=1e-12)


def test_a_direct_call_is_never_zero():
    den = images(Flow())
    x = torch.randn(3, *den.shape, dtype=F64)
    made = CFGZero(den, 3.0)
    assert torch.equal(made(x, 0.5, LABELS), CFGZero(den, 3.0, zero_steps=0)(x, 0.5, LABELS))
    assert float(made(x, 0.5, LABELS).abs().max()) > 0.1


@pytest.mark.parametrize("path", [EDM(0.002, 80.0), VPLinear(), PATHS["vp"]])
def test_zero_steps_need_the_straight_path(path):
    with pytest.raises(
        ArgumentError, match=r"only a zero velocity on the path Flow .*zero_steps=0"
    ):
        CFGZero(images(path), 3.0)
    assert CFGZero(images(path), 3.0, zero_steps=0).prediction == "velocity"


def test_what_cannot_run_is_refused():
    network = Recorder(Flow(), null=0.0)
    with pytest.raises(ArgumentError, match="in the kind eps"):
        CFGZero(network, 3.0, on="eps")
    with pytest.raises(ArgumentError, match="zero_steps=-1"):
        CFGZero(network, 3.0, zero_steps=-1)
    given = {"shape": (4,), "n": 2, "cond": torch.ones(2)}
    for steps, zero_steps in ((1, 1), (3, 3)):
        with pytest.raises(ArgumentError, match="nothing would move"):
            fewstep.sample(
                CFGZero(network, 3.0, zero_steps=zero_steps), "flow_euler", steps=steps, **given
            )
    den = CFGZero(network, 3.0)
    with pytest.raises(ArgumentError, match="zero_steps=1 needs to know the grid step"):
        fewstep.sample(den, "picard", steps=4, **given)
    with pytest.raises(ArgumentError, match="from data to noise|from noise to data"):
        fewstep.invert(den, torch.ones(2, 4), "flow_euler", steps=3, cond=torch.ones(2))
    assert not network.calls
    with pytest.raises(ArgumentError, match="keeps values between"):
        CFG(den, 2.0)


def test_a_kind_that_the_path_does_not_give_names_the_remedy():
    signal = torch.linspace(0.999, 0.0, 20, dtype=F64)
    path = DiscreteVP.from_alphas_cumprod(signal)
    den = CFGZero(images(path, "v"), 3.0, zero_steps=0)
    given = {"steps": 3, "grid": "trailing", "n": 3, "cond": LABELS}
    with pytest.raises(
        ArgumentError, match=r"CFGZero combines predictions of kind velocity.*on='v'"
    ):
        fewstep.sample(den, "ddim", **given)
    other = CFGZero(images(path, "v"), 3.0, zero_steps=0, on="v")
    assert bool(fewstep.sample(other, "ddim", **given).isfinite().all())
