"""Classifier-free guidance against closed forms, and the contract of every combination."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from problems import F64, GRIDS, PATHS, SAMPLERS, Recorder, affine_end, linear_end, scalar_pair

import fewstep
from fewstep.checks import ArgumentError
from fewstep.eval.solver.counting import Counting
from fewstep.guidance import CFG, Ramp
from fewstep.models import GaussianMixture, complete, wrap
from fewstep.plans import lower
from fewstep.schedules import EDM, Flow, VPLinear
from fewstep.schedules.host_times import device_times, known_times

#: mean and variance of the guided flow of ``scalar_pair`` at w = 1 and w = 2, by quadrature of the
#: linear ODE (the issue's figures for w = 2)
ENDS = {
    ("edm", 2.0): (2.1395171, 0.0900056),
    ("vp", 2.0): (2.1448525, 0.0900054),
    ("flow", 2.0): (2.1507671, 0.09),
}


def forms(name: str, w: float) -> dict[str, CFG]:
    """Four ways to say the same guidance."""
    pair = scalar_pair(PATHS[name], "velocity" if name == "flow" else "eps")

    class NoNull(type(complete(pair))):  # a model without an unconditional label: two calls
        def null_cond(self, cond: object, batch: int) -> None:
            return None

    two = copy.copy(pair)
    two.__class__ = NoNull
    return {
        "two calls": CFG(two, scale=w),
        "one call": CFG(pair, scale=w, uncond=torch.tensor([1])),
        "per sample": CFG(pair, scale=torch.tensor([w, w], dtype=F64)),
        "by level": CFG(pair, scale=lambda rho: w),
    }


@pytest.mark.parametrize("w", [1.0, 2.0])
@pytest.mark.parametrize("name", PATHS)
def test_the_end_of_the_guided_flow(name, w):
    mean, variance = linear_end(name, [(1.0 - w, 0.0, 1.0), (w, 1.5, 0.3)])
    if (name, w) in ENDS:
        assert ENDS[name, w] == pytest.approx((mean, variance), rel=2e-6)
    den = CFG(scalar_pair(PATHS[name]), scale=w) if name != "flow" else forms(name, w)["one call"]
    for sampler in ("dpmpp_2m", "unipc", "heun"):
        assert affine_end(den, sampler, 400, name) == pytest.approx((mean, variance), rel=1e-3)
    ends = [affine_end(den, "ddim", n, name) for n in (400, 800)]
    found = [2.0 * b - a for a, b in zip(*ends, strict=True)]
    assert found == pytest.approx([mean, variance], rel=1e-3)


@pytest.mark.parametrize("name", PATHS)
def test_four_forms_are_the_same_guidance(name):
    made = forms(name, 2.0)
    ends = {form: affine_end(den, "dpmpp_2m", 40, name) for form, den in made.items()}
    for form in ends:
        assert ends[form] == pytest.approx(ends["one call"], rel=1e-10), form


@pytest.mark.parametrize("name", PATHS)
def test_rows_are_counted_as_they_are_predicted(name):
    schedule = PATHS[name]
    middle = float(schedule.rho(schedule.t_of_lam(0.0)))
    cases = {
        "guided": ({"scale": 2.0}, None),
        "w = 1": ({"scale": 1.0}, None),
        "interval": ({"scale": 2.0, "interval": (0.0, middle)}, None),
        "per sample": ({"scale": torch.tensor([2.0, 3.0, 1.0])}, None),
        "function": ({"scale": lambda rho: 1.0 + (rho > middle)}, None),
        "two calls": ({"scale": 2.0}, "none"),
    }
    for case, (given, null) in cases.items():
        network = Recorder(schedule, null=None if null else 0.0)
        den = CFG(network, **given)
        cond = torch.tensor([1.0, -1.0, 2.0])
        _, info = fewstep.sample(
            den, "heun", steps=6, grid="lam", n=3, shape=(4,), cond=cond, info=True
        )
        assert info.rows == network.rows, case
        calls = {"guided": 1, "w = 1": 1, "two calls": 2}.get(case, 1)
        assert len(network.calls) == calls * info.nfe
        share = info.rows / (3 * info.nfe)
        if case in ("guided", "per sample", "two calls"):
            assert share == 2.0
        elif case == "w = 1":
            assert share == 1.0
        else:
            assert 1.0 < share < 2.0


def test_the_order_of_the_rows_and_of_two_calls():
    network = Recorder(VPLinear())
    x, cond = torch.randn(3, 4, dtype=F64), torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    for uncond in (torch.tensor([-5.0], dtype=F64), torch.tensor([-5.0] * 3, dtype=F64)):
        network.calls.clear()
        made = CFG(network, 3.0, uncond)(x, 0.5, cond)
        ((x_in, _, given),) = network.calls
        assert torch.equal(x_in, torch.cat([x, x]))
        assert given.tolist() == [-5.0, -5.0, -5.0, 1.0, 2.0, 3.0]
        u, c = torch.tanh(x - 1.5), torch.tanh(x + 0.3 * cond[:, None])
        assert torch.allclose(made, u + 3.0 * (c - u), rtol=0, atol=1e-14)
    network.calls.clear()
    CFG(network, 3.0)(x, 0.5, cond)
    assert [given is None for _, _, given in network.calls] == [False, True]
    mapping = CFG(network, 3.0, {"c": torch.tensor([-5.0], dtype=F64)})
    network.calls.clear()
    assert torch.equal(mapping(x, 0.5, {"c": cond}), made) and len(network.calls) == 1
    # conditions of other forms cannot be one batch
    network.calls.clear()
    assert torch.equal(
        CFG(network, 3.0, torch.tensor([-5.0], dtype=F64))(x, 0.5, {"c": cond}), made
    )
    assert len(network.calls) == 2


def test_the_second_branch_is_skipped_only_where_no_one_reads_it():
    network = Recorder(VPLinear(), null=0.0)
    x, cond = torch.randn(2, 4), torch.ones(2)
    den = CFG(network, 1.0)
    raws = den.raws(x, 0.5, cond)
    assert len(raws) == 2 and network.rows == 2 and den.network_rows(0.5) == 1
    raws = den.raws(x, 0.5, cond, ("main", "uncond"))
    assert len(raws) == 2 and network.rows == 6
    assert den.network_rows(0.5, ("main", "uncond")) == 2
    assert torch.equal(raws[0], torch.tanh(x)) and not torch.equal(raws[0], raws[1])
    den = CFG(network, 2.0, interval=(0.1, 0.5))
    assert den.network_rows(float(VPLinear().t_of_lam(-math.log(0.3)))) == 2
    assert den.network_rows(float(VPLinear().t_of_lam(-math.log(0.7)))) == 1


def test_an_empty_interval_is_the_conditional_model_bit_for_bit():
    plain = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [0.5, 0.5], VPLinear())
    cond = torch.tensor([0, 1, 1])
    given = {"steps": 7, "grid": "lam", "n": 3, "cond": cond}
    for sampler in SAMPLERS:
        own = fewstep.sample(plain, sampler, **given)
        for den in (CFG(plain, 4.0, interval=(0.3, 0.3)), CFG(plain, 1.0)):
            assert torch.equal(fewstep.sample(den, sampler, **given), own)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", PATHS)
def test_scales_of_single_samples(name, sampler):
    """Each row of a batch with its own scale is what it is alone; and ``select`` follows rows."""
    plain = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [0.5, 0.5], PATHS[name], "velocity")
    w = torch.tensor([1.0, 2.0, 3.5], dtype=F64)
    cond = torch.tensor([0, 1, 0])
    z = PATHS[name].prior_scale * torch.randn(3, 2, dtype=F64)
    given = {"steps": 5, "grid": GRIDS[name]}
    every = fewstep.sample(CFG(plain, w), sampler, x=z, cond=cond, seeds=[3, 4, 5], **given)
    for i in range(3):
        one = fewstep.sample(
            CFG(plain, float(w[i])), sampler, x=z[i : i + 1], cond=cond[i : i + 1], seeds=[3 + i],
            **given,
        )  # fmt: skip
        assert torch.allclose(every[i : i + 1], one, rtol=0, atol=1e-11)
    rows = torch.tensor([2, 0])
    chosen = CFG(plain, w).select(rows)
    assert chosen.batch == 2 and chosen.scale.tensor.tolist() == [3.5, 1.0]
    assert CFG(plain, 2.0).select(rows).batch is None


def test_a_scale_with_a_gradient():
    plain = scalar_pair(EDM(0.002, 80.0))
    x, cond = torch.randn(3, 1, dtype=F64), torch.zeros(3, dtype=torch.int64)
    w = torch.tensor(2.0, dtype=F64, requires_grad=True)
    CFG(plain, w)(x, 1.0, cond).sum().backward()
    difference = plain(x, 1.0, cond) - plain(x, 1.0, torch.full((3,), -1))
    assert float(w.grad) == pytest.approx(float(difference.sum()), rel=1e-12)


def test_guidance_folds_into_the_step():
    """CFG adds no launch and no output; one more input for each launch that reads a prediction."""
    for name, schedule in PATHS.items():
        for sampler in SAMPLERS:
            plan = fewstep.plan(sampler, schedule, steps=8, grid=GRIDS[name])
            plain = lower(plan, complete(scalar_pair(schedule, "velocity")))
            guided = lower(plan, CFG(scalar_pair(schedule, "velocity"), 2.0))
            assert len(guided.launches) == len(plain.launches)
            for a, b in zip(plain.launches, guided.launches, strict=True):
                assert a.outs == b.outs
                read = sum(o.kind == "raw" for o in a.operands)
                assert len(b.operands) == len(a.operands) + read


def test_the_scale_as_a_ramp():
    u = torch.linspace(0.0, 1.0, 20_001, dtype=F64)[1:-1]
    for shape in ("linear", "linear_down", "cosine", "cosine_down"):
        values = [Ramp(shape, 4.0)(float(1.0 / v - 1.0)) for v in u]
        assert sum(values) / len(values) == pytest.approx(4.0, rel=1e-4)
    assert Ramp("power_cosine", 4.0, 2.0)(0.0) == 4.0
    assert Ramp("power_cosine", 4.0, 2.0)(math.inf) == 1.0
    assert Ramp("linear", 3.0)(1.0) == 3.0 and Ramp("cosine", 3.0)(1.0) == pytest.approx(3.0)
    network = Recorder(Flow(), null=0.0)
    den = CFG(network, Ramp("linear", 3.0))
    assert den.coefficients(0.25)[1] == pytest.approx((-3.0, 4.0))
    with pytest.raises(ArgumentError, match="'power_cosine' only"):
        Ramp("linear", 2.0, 3.0)
    with pytest.raises(ArgumentError, match=r"lineer.*linear"):
        Ramp("lineer", 2.0)


@pytest.mark.parametrize("on", ["prediction", "x0", "v"])
def test_rescale(on):
    torch.manual_seed(0)
    network = Recorder(VPLinear(), null=0.0)
    x, cond = torch.randn(3, 4, 4, dtype=F64), torch.tensor([1.0, 2.0, -2.0], dtype=F64)
    kind = "eps" if on == "prediction" else on
    plain, node = CFG(network, 5.0), VPLinear().node(0.6)

    def of(den, channel="main"):  # the prediction as the kind that is rescaled
        raws = den.raws(x, 0.6, cond, ("main", "cond", "uncond"))
        p, qs = den.coefficients(0.6, channel)
        value = p * x + sum(q * r for q, r in zip(qs, raws, strict=True))
        return fewstep.models.convert_prediction(value, x, 0.6, den.prediction, kind, VPLinear())

    for share in (0.7, 1.0):
        den = CFG(network, 5.0, rescale=share, on=on)
        assert den.prediction == kind and node.sigma > 0.0
        guided, conditional = of(plain), of(plain, "cond")
        std = conditional.flatten(1).std(1) / guided.flatten(1).std(1)
        wanted = guided * (share * std + 1.0 - share)[:, None, None]
        assert torch.allclose(of(den), wanted, rtol=1e-12, atol=1e-12)
        assert torch.allclose(of(den, "cond"), conditional, rtol=0, atol=1e-12)
    assert torch.allclose(of(den).flatten(1).std(1), of(den, "cond").flatten(1).std(1), rtol=1e-12)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_guidance_runs_in_every_dtype(name, sampler, dtype):
    plain = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [0.5, 0.5], PATHS[name], "velocity")
    for den in (CFG(plain, 2.0), CFG(plain, 2.0, rescale=0.7), CFG(plain, torch.ones(2) * 2.0)):
        for steps in (1, 2, 3):
            out = fewstep.sample(
                den, sampler, steps=steps, n=2, cond=torch.tensor([0, 1]), dtype=dtype,
                grid=GRIDS[name],
            )  # fmt: skip
            assert out.dtype == dtype and bool(torch.isfinite(out).all())


def test_drivers_that_join_calls_keep_the_scale_of_each_sample():
    plain = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [0.5, 0.5], VPLinear())
    w, cond = torch.tensor([1.0, 2.0, 3.5]), torch.tensor([0, 1, 0])
    given = {"steps": 6, "grid": "lam", "n": 3, "cond": cond, "dtype": F64}
    counting = Counting(plain)
    found, info = fewstep.sample(
        CFG(counting, w), "picard", info=True, **given
    )  # fmt: skip
    assert info.rows == counting.cost.rows
    assert bool(torch.isfinite(found).all())


def test_times_on_another_device_are_not_read_back():
    """The numbers of a tensor on ``meta`` cannot be read; those that a run makes are known."""
    network = wrap(lambda x, t, cond: x * 0.1, VPLinear(), "eps", time=lambda t: 0 * t, shape=(4,))
    den = CFG(network, 2.0, torch.zeros(1, device="meta"), interval=(0.0, 1.0), rescale=0.5)
    x, cond = torch.zeros(2, 4, device="meta"), torch.zeros(2, device="meta")
    inside, outside = device_times([0.2, 0.9], torch.device("meta"))
    assert inside.is_meta and known_times(inside) == [0.2]
    assert known_times(torch.zeros((), device="meta")) is None
    for t, rows in ((inside, 4), (outside, 2)):
        counted = Counting(network)
        made = CFG(counted, 2.0, torch.zeros(1, device="meta"), interval=(0.0, 1.0), rescale=0.5)
        out = made.raws(x, t, cond)
        assert [raw.is_meta for raw in out] == [True] * 3 and counted.cost.rows == rows
    with pytest.raises(RuntimeError):
        den.raws(x, torch.tensor(0.2, device="meta"), cond)


WRONG = [
    ({"scale": math.nan}, "scale=nan: must be a finite number"),
    ({"scale": math.inf}, "finite"),
    ({"scale": "7.5"}, "scale='7.5'"),
    ({"scale": True}, "scale=True"),
    ({"scale": torch.ones(2, 2)}, r"shape \(2, 2\); allowed: \(\) or \(B,\)"),
    ({"scale": torch.tensor([1.0, math.nan])}, "must be finite"),
    ({"scale": 2.0, "uncond": "cat"}, "uncond='cat': must be a tensor"),
    ({"scale": 2.0, "uncond": {}}, "uncond={}"),
    ({"scale": 2.0, "uncond": torch.tensor(1.0)}, "uncond must be"),
    ({"scale": 2.0, "interval": (2.0, 1.0)}, r"interval=\(2.0, 1.0\): must be \(lo, hi\)"),
    ({"scale": 2.0, "interval": 3.0}, "interval=3.0"),
    ({"scale": 2.0, "interval": (0.0, math.nan)}, "interval="),
    ({"scale": 2.0, "rescale": 1.5}, "rescale=1.5"),
    ({"scale": 2.0, "on": "x0"}, "without rescale="),
    ({"scale": 2.0, "rescale": 0.5, "on": "x1"}, "x1"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_arguments_are_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        CFG(Recorder(VPLinear()), **given)


def test_what_cannot_run_is_refused_before_the_first_call():
    network = Recorder(VPLinear())
    given = {"steps": 3, "grid": "lam", "shape": (4,)}

    def refused(den, message, **more):
        with pytest.raises(ArgumentError, match=message):
            fewstep.sample(den, "ddim", **{**given, **more})
        assert not network.calls

    refused(CFG(network, 2.0), "CFG needs a condition; pass cond=", n=2)
    refused(
        CFG(network, 2.0, torch.zeros(3)), r"uncond has batch size 3, the samples are 2",
        x=torch.zeros(2, 4), cond=torch.zeros(2),
    )  # fmt: skip
    refused(
        CFG(network, 2.0, torch.zeros(1, device="meta")),
        "uncond is on meta, the condition on cpu",
        n=2, cond=torch.zeros(2),
    )  # fmt: skip
    refused(
        CFG(network, torch.ones(3)), "scale has 3 values for 2 samples",
        x=torch.zeros(2, 4), cond=torch.zeros(2),
    )  # fmt: skip
    refused(
        CFG(network, lambda rho: math.nan), "must return a finite number", n=2,
        cond=torch.zeros(2),
    )  # fmt: skip
    with pytest.raises(
        ArgumentError, match="2 values, the models and conditions are for 3 samples"
    ):
        CFG(CFG(network, torch.ones(3)), torch.ones(2))


def test_a_network_that_refuses_none_is_told_about_uncond():
    def network(x, t, cond):
        return x * cond.reshape(-1, 1)

    den = CFG(wrap(network, VPLinear(), "eps", shape=(4,)), 2.0)
    with pytest.raises(ArgumentError, match=r"takes no cond=None .*: pass uncond="):
        fewstep.sample(den, "ddim", steps=2, n=2, cond=torch.ones(2))

    class Asked(Recorder):
        def check_cond(self, cond, batch):
            if cond is None:
                raise ArgumentError("give text")

    asked = Asked(VPLinear())
    with pytest.raises(ArgumentError, match=r"give text.*pass uncond="):
        fewstep.sample(
            CFG(asked, 2.0), "ddim", steps=2, n=2, shape=(4,), cond=torch.ones(2), grid="lam"
        )
    assert not asked.calls


def test_the_text_of_a_guided_model_names_its_settings():
    made = CFG(scalar_pair(VPLinear()), 2.0, interval=(0.1, 2.0), rescale=0.5)
    assert repr(made).startswith("CFG(GaussianMixture(K=2")
    assert repr(made).endswith("scale=2.0, interval=(0.1, 2.0), rescale=0.5)")
    assert "tensor(2,)" in repr(CFG(scalar_pair(VPLinear()), torch.ones(2)))
