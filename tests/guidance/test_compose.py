"""Composition of conditions against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from problems import F64, GRIDS, PATHS, SAMPLERS, Recorder, affine_end, linear_end

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, Compose
from fewstep.models import GaussianMixture, complete, wrap
from fewstep.plans import lower
from fewstep.schedules import VPLinear

#: mean and variance of the two conditions and of the unconditional law
FIRST, SECOND, FREE = (-1.0, 0.5), (1.5, 0.3), (0.0, 2.0)
ONE, TWO, NONE = (torch.tensor([k]) for k in (0, 1, 2))


def three(name, kind="velocity"):
    laws = (FIRST, SECOND, FREE)
    means, stds = [[m] for m, _ in laws], [math.sqrt(v) for _, v in laws]
    return GaussianMixture(means, stds, [0.0, 0.0, 1.0], PATHS[name], kind)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.5, -0.4)])
@pytest.mark.parametrize("name", PATHS)
def test_the_end_of_the_composed_flow(name, weights):
    parts = [(1.0 - sum(weights), *FREE), (weights[0], *FIRST), (weights[1], *SECOND)]
    wanted = linear_end(name, parts)
    den = Compose(three(name), [ONE, TWO], weights)
    for sampler in ("dpmpp_2m", "unipc", "heun"):
        found = affine_end(den, sampler, 200, name, None)
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    ends = [affine_end(den, "ddim", n, name, None) for n in (150, 300)]
    found = [2.0 * b - a for a, b in zip(*ends, strict=True)]
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_the_composed_flow_does_not_end_at_the_product():
    mean, variance = affine_end(
        Compose(three("edm"), [ONE, TWO], [1, 1]), "unipc", 200, "edm", None
    )
    assert (mean, variance) == pytest.approx((0.499, 0.074), abs=1.5e-3)
    precision = 1 / FIRST[1] + 1 / SECOND[1] - 1 / FREE[1]
    product = (FIRST[0] / FIRST[1] + SECOND[0] / SECOND[1]) / precision, 1 / precision
    assert product == pytest.approx((0.621, 0.207), abs=1e-3)


def test_one_condition_is_classifier_free_guidance():
    network = Recorder(VPLinear(), null=0.0)
    x, cond = torch.randn(3, 4, dtype=F64), torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    guided = CFG(network, 2.5)(x, 0.5, cond)
    made = Compose(network, [None], [2.5])(x, 0.5, cond)
    assert torch.allclose(made, guided, rtol=0, atol=1e-14)
    fixed = Compose(network, [cond], [2.5])(x, 0.5)
    assert torch.equal(fixed, made)
    mapping = Compose(network, [{"c": cond}], [2.5])(x, 0.5)  # the null in the form of the first
    assert torch.equal(mapping, made) and len(network.calls) == 4


def test_the_order_of_the_rows_and_the_negation():
    network = Recorder(VPLinear(), null=0.0)
    x, cond = torch.randn(2, 4, dtype=F64), torch.tensor([1.0, 2.0], dtype=F64)
    den = Compose(network, [None, torch.tensor([-3.0], dtype=F64)], [2.0, -0.5])
    made = den(x, 0.5, cond)
    ((x_in, _, given),) = network.calls
    assert torch.equal(x_in, torch.cat([x] * 3)) and given.tolist() == [0, 0, 1, 2, -3, -3]
    u, a, b = torch.tanh(x), torch.tanh(x + 0.3 * cond[:, None]), torch.tanh(x - 0.9)
    assert torch.allclose(made, u + 2.0 * (a - u) - 0.5 * (b - u), rtol=0, atol=1e-14)
    assert den.channels == ("main", "uncond", "cond_1", "cond_2")


@pytest.mark.parametrize("name", PATHS)
def test_rows_are_counted_as_they_are_predicted(name):
    schedule = PATHS[name]
    conds = [torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([-1.0])]
    per_sample = torch.tensor([1.0, 2.0, 0.5])
    cases = [
        ([1.0, 2.0, -1.0], 4),
        ([1.0, 0.0, -1.0], 3),
        ([1.0, 0.0, 0.0], 1),
        ([0.0, 0.0, 0.0], 1),
        ([per_sample, 0.0, -1.0], 3),
        ([per_sample, lambda rho: 0.0, lambda rho: 1.0], 3),
    ]
    for weights, share in cases:
        network = Recorder(schedule, null=0.0)
        _, info = fewstep.sample(
            Compose(network, conds, weights), "heun", steps=5, grid="lam", n=3, shape=(4,),
            info=True,
        )  # fmt: skip
        assert info.rows == network.rows == 3 * share * info.nfe
        assert len(network.calls) == info.nfe


@pytest.mark.parametrize("name", PATHS)
def test_weights_in_every_form_are_the_same_composition(name):
    forms = (
        [1.5, -0.4],
        [lambda rho: 1.5, -0.4],
        [torch.tensor([1.5, 1.5], dtype=F64), -0.4],
        [1.5, torch.tensor([-0.4, -0.4], dtype=F64)],
    )
    ends = [
        affine_end(Compose(three(name), [ONE, TWO], w, NONE), "dpmpp_2m", 30, name, None)
        for w in forms
    ]
    for end in ends[1:]:
        assert end == pytest.approx(ends[0], rel=1e-10)


def test_composition_folds_into_the_step():
    for name, schedule in PATHS.items():
        for sampler in SAMPLERS:
            plan = fewstep.plan(sampler, schedule, steps=8, grid=GRIDS[name])
            plain = lower(plan, complete(three(name)))
            composed = lower(plan, Compose(three(name), [ONE, TWO], [1.0, 1.0]))
            assert len(composed.launches) == len(plain.launches)
            for a, b in zip(plain.launches, composed.launches, strict=True):
                assert a.outs == b.outs
                read = sum(o.kind == "raw" for o in a.operands)
                assert len(b.operands) == len(a.operands) + 2 * read


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", PATHS)
def test_each_sample_is_what_it_is_alone(name, sampler):
    w = torch.tensor([1.0, 2.0, -0.5], dtype=F64)
    first, cond = torch.tensor([0, 1, 0]), torch.tensor([1, 1, 0])
    z = PATHS[name].prior_scale * torch.randn(3, 1, dtype=F64)
    given = {"steps": 5, "grid": GRIDS[name]}
    den = Compose(three(name), [first, None], [w, 0.7], NONE)
    every = fewstep.sample(den, sampler, x=z, cond=cond, seeds=[3, 4, 5], **given)
    for i in range(3):
        own = Compose(three(name), [first[i : i + 1], None], [float(w[i]), 0.7], NONE)
        one = fewstep.sample(
            own, sampler, x=z[i : i + 1], cond=cond[i : i + 1], seeds=[3 + i], **given
        )
        assert torch.allclose(every[i : i + 1], one, rtol=0, atol=1e-11)
    chosen = den.select(torch.tensor([2, 0]))
    assert chosen.batch == 2 and chosen.scales[0].tensor.tolist() == [-0.5, 1.0]
    assert chosen.branches[1].source.value.tolist() == [0, 0]
    fixed = Compose(three(name), [first, TWO], [0.5, 0.7]).select(torch.tensor([2, 0]))
    assert fixed.batch == 2 and fixed(z[:2], 0.5).shape == (2, 1)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_runs_in_every_dtype(name, dtype):
    for weights in ([1.0, -0.5], [torch.ones(2), 0.5]):
        den = Compose(three(name), [ONE, TWO], weights)
        for sampler in SAMPLERS:
            for steps in (1, 2, 3):
                out = fewstep.sample(den, sampler, steps=steps, n=2, dtype=dtype, grid=GRIDS[name])
                assert out.dtype == dtype and bool(torch.isfinite(out).all())


def test_wrong_arguments_are_refused():
    network = Recorder(VPLinear())
    one = torch.ones(1)
    wrong = [
        (([], []), "must be a list of conditions"),
        ((one, [1.0]), "must be a list of conditions"),
        (([one], [1.0, 2.0]), "2 scales for 1 conditions"),
        (([one], 1.0), "must be a list with one weight"),
        (([None, None], [1.0, 1.0]), "more than one None"),
        ((["cat"], [1.0]), r"conds\[0\]='cat': must be a tensor"),
        (([one], [math.nan]), r"scales\[0\]=nan: must be a finite number"),
        (([torch.ones(2), torch.ones(3)], [1.0, 1.0]), r"batch sizes \[2, 3\]"),
        (([torch.ones(2)], [torch.ones(3)]), r"scales\[0\] has 3 values"),
    ]
    for given, message in wrong:
        with pytest.raises(ArgumentError, match=message):
            Compose(network, *given)
    start = {"steps": 2, "grid": "lam", "x": torch.zeros(2, 4)}
    refused = [
        (Compose(network, [one], [1.0]), {"cond": torch.ones(2)}, "cond= of the call with Compose"),
        (Compose(network, [None], [1.0]), {}, "Compose needs a condition; pass cond="),
        (Compose(network, [torch.ones(3)], [1.0]), {}, r"conds\[0\] has batch size 3"),
        (Compose(network, [one], [lambda rho: math.nan]), {}, r"scales\[0\]\(rho=.*finite"),
    ]
    for den, more, message in refused:
        with pytest.raises(ArgumentError, match=message):
            fewstep.sample(den, "ddim", **start, **more)
    with pytest.raises(ArgumentError, match="cond= of the call with Compose"):
        Compose(network, [one], [1.0])(torch.zeros(2, 4), 0.5, torch.ones(2))
    assert not network.calls


def test_a_network_that_refuses_none_is_told_about_uncond():
    den = wrap(lambda x, t, cond: x * cond.reshape(-1, 1), VPLinear(), "eps", shape=(4,))
    for conds, more in (([torch.ones(1)], {}), ([None], {"cond": torch.ones(2)})):
        with pytest.raises(ArgumentError, match=r"takes no cond=None .*: pass uncond="):
            fewstep.sample(Compose(den, conds, [2.0]), "ddim", steps=2, n=2, **more)
