"""What every method that is not linear in the predictions has to hold: paths, samplers, dtypes, few
steps, rows, batches."""

from __future__ import annotations

import pytest
import torch
from methods import METHODS, SHAPE, images
from problems import F64, GRIDS, PATHS, SAMPLERS, Recorder

import fewstep
from fewstep.checks import FewstepError
from fewstep.guidance import APG, MAMBO, TCFG, CFGZero, guide, names
from fewstep.guidance.combinations.sample_sums import halved_sum, inner_products
from fewstep.models import GaussianMixture
from fewstep.schedules import DiscreteVP, Flow, VPLinear
from fewstep.schedules.host_times import device_times

LABELS = torch.tensor([0, 1, 0])
#: refused on other paths than the straight one, and in runs of one step
ZERO = "cfg_zero, zero steps"


def on_path(name, method, prediction=None):
    return METHODS[method](images(PATHS[name], prediction))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PATHS)
def test_it_runs_in_every_dtype_with_few_steps(name, method):
    if method == ZERO and name != "flow":
        with pytest.raises(FewstepError, match="only a zero velocity on the path Flow"):
            on_path(name, method)
        return
    den = on_path(name, method)
    for sampler in SAMPLERS:
        for steps in (1, 2, 3):
            for dtype in (torch.float32, torch.bfloat16):
                given = {"steps": steps, "n": 3, "cond": LABELS, "dtype": dtype}
                if method == ZERO and steps == 1:
                    with pytest.raises(FewstepError, match="nothing would move"):
                        fewstep.sample(den, sampler, grid=GRIDS[name], **given)
                    continue
                out = fewstep.sample(den, sampler, grid=GRIDS[name], **given)
                assert out.dtype == dtype and bool(torch.isfinite(out).all())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_start_without_signal(sampler, method):
    """alpha = 0 at the first call: a velocity on the straight path, v on a discrete path."""
    discrete = DiscreteVP.from_alphas_cumprod(torch.linspace(0.999, 0.0, 20, dtype=F64))
    refused = {
        (1, "cfg_zero"): "kind velocity.*on='v'",
        (1, ZERO): "only a zero velocity on the path Flow",
        (1, "mambo"): "kind velocity.*on='v'",
        (1, "tcfg"): "say nothing about x0.*on='v'",
    }
    for i, (path, kind) in enumerate(((Flow(), "velocity"), (discrete, "v"))):
        given = {"steps": 4, "grid": "trailing", "n": 3, "cond": LABELS, "dtype": F64}

        def door(path=path, kind=kind, given=given):
            return fewstep.sample(METHODS[method](images(path, kind)), sampler, **given)

        if (i, method) in refused:
            with pytest.raises(FewstepError, match=refused[i, method]):
                door()
        else:
            assert bool(door().isfinite().all())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sampler", ["dpmpp_2m_sde", "heun"])
def test_a_row_has_the_same_bits_in_any_batch(sampler, method):
    name = "flow" if method == ZERO else "vp"
    den = on_path(name, method)
    seeds, cond = range(5, 12), torch.tensor([0, 1, 0, 1, 1, 0, 1])
    given = {"steps": 4, "grid": "lam"}
    for dtype in (torch.float32, F64):
        every = fewstep.sample(den, sampler, seeds=seeds, cond=cond, dtype=dtype, **given)
        for i in (0, 3, 6):
            one = fewstep.sample(
                den, sampler, seeds=[seeds[i]], cond=cond[i : i + 1], dtype=dtype, **given
            )
            assert torch.equal(every[i : i + 1], one), (i, dtype)


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_counted_as_they_are_predicted(method):
    path = Flow() if method == ZERO else VPLinear()
    for null, calls in ((0.0, 1), (None, 2)):
        network = Recorder(path, null=null)
        den = METHODS[method](network)
        _, info = fewstep.sample(
            den, "heun", steps=4, grid="lam", n=3, shape=SHAPE, cond=torch.ones(3), info=True
        )
        assert info.rows == network.rows == 6 * info.nfe
        assert len(network.calls) == calls * info.nfe


@pytest.mark.parametrize(
    "make", [APG, MAMBO, TCFG, lambda den, w, **more: CFGZero(den, w, zero_steps=0, **more)]
)
def test_where_w_is_1_it_is_the_conditional_model_from_one_call(make):
    network = Recorder(VPLinear(), null=0.0)
    x, cond = torch.randn(3, 4, dtype=F64), torch.tensor([1.0, -1.0, 2.0], dtype=F64)
    for den in (make(network, 1.0, on="eps"), make(network, 3.0, interval=(0.2, 0.2), on="eps")):
        network.calls.clear()
        assert torch.equal(den(x, 0.5, cond), torch.tanh(x + 0.3 * cond[:, None]))
        assert network.rows == 3 and den.network_rows(0.5) == 1
        given = {"steps": 5, "grid": "lam", "n": 3, "shape": (4,), "cond": cond, "info": True}
        network.calls.clear()
        _, info = fewstep.sample(den, "dpmpp_2m", **given)
        assert info.rows == network.rows == 15


@pytest.mark.parametrize("make", [APG, MAMBO, TCFG, lambda den, w: CFGZero(den, w, zero_steps=0)])
def test_scales_of_single_samples(make):
    plain = images(VPLinear())
    w = torch.tensor([1.0, 2.0, 3.5], dtype=F64)
    x = torch.randn(3, *plain.shape, dtype=F64)
    every = make(plain, w)(x, 0.5, LABELS)
    for i in range(3):
        one = make(plain, float(w[i]))(x[i : i + 1], 0.5, LABELS[i : i + 1])
        assert torch.allclose(every[i : i + 1], one, rtol=1e-13, atol=1e-13)
    assert make(plain, w).select(torch.tensor([2, 0])).scale.tensor.tolist() == [3.5, 1.0]


@pytest.mark.parametrize("make", [APG, MAMBO, TCFG, lambda den, w: CFGZero(den, w, zero_steps=0)])
def test_a_scale_with_a_gradient(make):
    plain, x = images(VPLinear()), torch.randn(3, *SHAPE, dtype=F64)
    w = torch.tensor(2.0, dtype=F64, requires_grad=True)
    make(plain, w)(x, 0.5, LABELS).sum().backward()
    ends = [float(make(plain, v)(x, 0.5, LABELS).sum()) for v in (1.5, 2.5)]
    assert float(w.grad) == pytest.approx(ends[1] - ends[0], rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_state(method):
    den = on_path("flow", method)
    x = torch.randn(2, *SHAPE, dtype=F64, requires_grad=True)
    cond = torch.tensor([0, 1])
    (found,) = torch.autograd.grad(den(x, 0.4, cond).square().sum(), x)
    direction = torch.randn_like(x)
    with torch.no_grad():
        ends = [float(den(x + h * direction, 0.4, cond).square().sum()) for h in (1e-5, -1e-5)]
    assert float((found * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_times_on_another_device_are_not_read_back(method):
    """The numbers of a tensor on ``meta`` cannot be read; those that a run makes are known."""
    network = Recorder(Flow() if method == ZERO else VPLinear())
    network.null_cond = lambda cond, batch: torch.zeros(batch, device="meta")
    den = METHODS[method](network)
    x, cond = torch.zeros(2, 3, 6, 5, device="meta"), torch.zeros(2, device="meta")
    (t,) = device_times([0.4], torch.device("meta"))
    assert all(raw.is_meta for raw in den.raws(x, t, cond))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_rounds_once(method, dtype):
    """Outputs of a network in half precision are combined in float32 or better: the result is that
    of the same outputs in float64, rounded once."""
    path = Flow() if method == ZERO else VPLinear()
    den = METHODS[method](Recorder(path, null=0.0))
    x = torch.randn(3, *SHAPE).to(dtype)
    cond = torch.tensor([1.0, -1.0, 2.0])

    class Same(Recorder):  # the outputs of the network in half precision
        def raws(self, x_in, t, cond=None, channels=("main",)):
            return tuple(raw.to(F64) for raw in super().raws(x_in.to(dtype), t, cond))

    exact = METHODS[method](Same(path, null=0.0))
    found = den.raws(x, 0.4, cond)[0]
    wanted = exact.raws(x.to(F64), 0.4, cond)[0]
    assert found.dtype == dtype and wanted.dtype == F64
    assert torch.allclose(found.to(F64), wanted, rtol=1.01 * torch.finfo(dtype).eps / 2, atol=1e-5)


def test_sums_of_samples():
    for count in (1, 2, 3, 60, 1001):
        values = torch.randn(4, count, dtype=F64)
        assert torch.allclose(halved_sum(values), values.sum(1), rtol=0, atol=1e-12)
    # a float32 sum of a million elements keeps the accuracy of pairwise summation
    many = torch.full((1, 1_000_003), 0.1)
    assert float(halved_sum(many)) == pytest.approx(100_000.3, rel=1e-6)
    a, b = torch.randn(5, 3, 7, 9), torch.randn(5, 3, 7, 9)
    (whole, square) = inner_products((a, b), (a, a))
    assert whole.shape == (5, 1, 1, 1) and whole.dtype == F64
    wanted = (a.to(F64) * b.to(F64)).sum((1, 2, 3), keepdim=True)
    assert torch.allclose(whole, wanted, rtol=0, atol=1e-12)
    assert torch.allclose(square.flatten(), a.to(F64).flatten(1).norm(dim=1) ** 2, rtol=1e-12)


def test_sums_of_samples_have_the_same_bits_in_any_batch():
    """With several threads a library's own sum adds in another order for one sample than for
    five."""
    values = torch.randn(5, 3 * 129 * 128, dtype=F64)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            every = halved_sum(values)
            assert all(
                torch.equal(halved_sum(values[i : i + 1]), every[i : i + 1]) for i in range(5)
            )
    finally:
        torch.set_num_threads(before)


def test_methods_by_name():
    plain = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.3, [0.5, 0.5], VPLinear())
    assert {"apg", "cfg", "cfg_zero", "mambo", "tcfg"} <= set(names())
    made = guide(plain, "apg", 3.0, interval=(0.1, 5.0), options={"momentum": -0.5, "norm": 4.0})
    assert isinstance(made, APG) and (made.momentum, made.norm) == (-0.5, 4.0)
    with pytest.raises(FewstepError, match=r"moment.*momentum"):
        guide(plain, "apg", 3.0, options={"moment": 1.0})
