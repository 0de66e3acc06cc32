"""Guidance by a second model (``Contrast``, ``PAG``, ``Perturbed``) against closed forms."""

from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch
from problems import (
    F64,
    GRIDS,
    PATHS,
    SAMPLERS,
    Preconditioned,
    Recorder,
    affine_end,
    linear_end,
)

import fewstep
from fewstep.checks import ArgumentError, ArgumentTypeError
from fewstep.guidance import CFG, PAG, Contrast, Perturbed, Ramp
from fewstep.models import GaussianMixture, complete
from fewstep.plans import lower
from fewstep.schedules import EDM, Flow, VPLinear
from fewstep.schedules.kinds import ConversionError

#: kinds of prediction of the main and of the worse model on each path
KINDS = {"edm": ("eps", "x0"), "vp": ("v", "eps"), "flow": ("velocity", "x0")}
#: mean and variance: the good and the worse model, the unconditional one
GOOD, WORSE, FREE = (1.5, 0.3), (1.2, 0.6), (0.0, 1.0)


def gaussian(name, law, kind):
    """N(mean, variance) for each label."""
    return GaussianMixture([[law[0]]] * 2, math.sqrt(law[1]), [0.5, 0.5], PATHS[name], kind)


def pair(name):
    """The good model, and the worse one of another kind; on EDM with another input scale."""
    good, worse = (
        gaussian(name, law, kind) for law, kind in zip((GOOD, WORSE), KINDS[name], strict=True)
    )
    return good, Preconditioned(worse) if name == "edm" else worse


@pytest.mark.parametrize("name", PATHS)
def test_the_end_of_the_guided_flow(name):
    w = 1.7
    wanted = linear_end(name, [(w, *GOOD), (1.0 - w, *WORSE)])
    den = Contrast(*pair(name), w)
    for sampler in ("dpmpp_2m", "unipc", "heun"):
        assert affine_end(den, sampler, 200, name) == pytest.approx(wanted, rel=1e-3)
    ends = [affine_end(den, "ddim", n, name) for n in (150, 300)]
    assert [2.0 * b - a for a, b in zip(*ends, strict=True)] == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("name", PATHS)
def test_forms_of_the_scale_are_the_same_guidance(name):
    forms = (1.7, torch.tensor([1.7, 1.7], dtype=F64), lambda rho: 1.7)
    ends = [affine_end(Contrast(*pair(name), w), "dpmpp_2m", 30, name) for w in forms]
    for end in ends[1:]:
        assert end == pytest.approx(ends[0], rel=1e-10)


@pytest.mark.parametrize("name", PATHS)
def test_pag_with_cfg_is_the_papers_sum(name):
    """``m_c + s (m_c - m_p) + (w - 1) (m_c - m_u)``, and the composition of two contrasts that is
    equal to it."""
    s, w = 1.5, 2.0
    kind = KINDS[name][0]
    means, stds = [[GOOD[0]], [FREE[0]]], [math.sqrt(GOOD[1]), math.sqrt(FREE[1])]
    model = GaussianMixture(means, stds, [0.0, 1.0], PATHS[name], kind)
    _, worse = pair(name)
    parts = [(s + w, *GOOD), (-s, *WORSE), (1.0 - w, *FREE)]
    den = PAG(model, worse, s, cfg=w)
    assert affine_end(den, "unipc", 200, name) == pytest.approx(linear_end(name, parts), rel=2e-3)
    nested = Contrast(CFG(model, (s + w) / (s + 1.0)), worse, s + 1.0)
    x, label = torch.randn(3, 1, dtype=F64), torch.zeros(3, dtype=torch.int64)
    t = float(PATHS[name].t_of_lam(0.3))
    null = torch.full((3,), -1)
    c, u = model(x, t, label), model(x, t, null)
    p = fewstep.models.convert_prediction(
        worse(x, t, label), x, t, worse.prediction, kind, PATHS[name]
    )
    wanted = c + s * (c - p) + (w - 1.0) * (c - u)
    for made in (den, nested, PAG(model, worse, torch.full((3,), s, dtype=F64), cfg=w)):
        assert torch.allclose(made(x, t, label), wanted, rtol=0, atol=1e-12)
        assert made.network_rows(t) == 3
    plain = PAG(model, worse, s)
    assert torch.allclose(
        plain(x, t, label), Contrast(model, worse, s + 1.0)(x, t, label), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("name", PATHS)
def test_rows_are_counted_as_they_are_predicted(name):
    schedule = PATHS[name]
    middle = float(schedule.rho(schedule.t_of_lam(0.0)))
    cond = torch.tensor([1.0, -1.0, 2.0])
    cases = [
        (lambda a, b: Contrast(a, b, 2.0), 2.0),
        (lambda a, b: Contrast(a, b, 1.0), 1.0),
        (lambda a, b: Contrast(a, b, 2.0, interval=(0.0, middle)), None),
        (lambda a, b: Contrast(a, b, lambda rho: 2.0), 2.0),
        (lambda a, b: Contrast(a, b, Ramp("linear_down", 2.0)), None),
        (lambda a, b: Contrast(CFG(a, 1.5), b, 2.0), 3.0),
        (lambda a, b: PAG(a, b, 2.0), 2.0),
        (lambda a, b: PAG(a, b, 2.0, cfg=3.0), 3.0),
        (lambda a, b: PAG(a, b, 0.0, cfg=3.0), 2.0),
        (lambda a, b: PAG(a, b, 2.0, cfg=3.0, interval=(0.0, middle)), None),
        (lambda a, b: PAG(a, b, torch.tensor([0.0, 1.0, 2.0]), cfg=3.0, interval=(0.0, 1.0)), None),
    ]
    for make, share in cases:
        networks = [Recorder(schedule, shift, null=0.0) for shift in (0.3, 0.1)]
        den = make(*networks)
        _, info = fewstep.sample(
            den, "heun", steps=6, grid="lam", n=3, shape=(4,), cond=cond, info=True
        )
        assert info.rows == sum(network.rows for network in networks)
        if share is not None:
            assert info.rows == 3 * share * info.nfe
        else:
            assert 3 * info.nfe < info.rows <= 9 * info.nfe


def test_guidance_folds_into_the_step():
    for name, schedule in PATHS.items():
        for sampler in SAMPLERS:
            plan = fewstep.plan(sampler, schedule, steps=8, grid=GRIDS[name])
            good, worse = pair(name)
            plain = lower(plan, complete(good))
            den = PAG(good, worse, 1.5, cfg=2.0)
            for made, more in ((Contrast(good, worse, 1.7), 1), (den, 2)):
                guided = lower(plan, made)
                assert len(guided.launches) == len(plain.launches)
                for a, b in zip(plain.launches, guided.launches, strict=True):
                    assert a.outs == b.outs
                    read = sum(o.kind == "raw" for o in a.operands)
                    assert len(b.operands) <= len(a.operands) + more * read + 1


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", PATHS)
def test_each_sample_is_what_it_is_alone(name, sampler):
    good, worse = pair(name)
    w, s = torch.tensor([1.0, 2.0, 3.5], dtype=F64), torch.tensor([0.0, 1.0, 0.5], dtype=F64)
    cond = torch.tensor([0, 1, 0])
    z = PATHS[name].prior_scale * torch.randn(3, 1, dtype=F64)
    given = {"steps": 5, "grid": GRIDS[name]}
    for make in (
        lambda w, s: Contrast(good, worse, w),
        lambda w, s: PAG(good, worse, s, cfg=w),
    ):
        every = fewstep.sample(make(w, s), sampler, x=z, cond=cond, seeds=[3, 4, 5], **given)
        for i in range(3):
            one = fewstep.sample(
                make(float(w[i]), float(s[i])), sampler, x=z[i : i + 1], cond=cond[i : i + 1],
                seeds=[3 + i], **given,
            )  # fmt: skip
            assert torch.allclose(every[i : i + 1], one, rtol=0, atol=1e-11)
        chosen = make(w, s).select(torch.tensor([2, 0]))
        assert chosen.batch == 2 and chosen.scales[0].tensor.shape == (2,)
    assert CFG(good, torch.tensor([2.0])).select(torch.tensor([1, 0])).scale.tensor.tolist() == [
        2.0
    ]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_runs_in_every_dtype(name, dtype):
    good, worse = pair(name)
    cond = torch.tensor([0, 1])
    made = (
        Contrast(good, worse, 2.0),
        PAG(good, worse, 2.0, cfg=1.5),
        Contrast(good, worse, torch.ones(2) * 2.0),
        PAG(good, worse, torch.ones(2), cfg=1.5, interval=(0.1, 1.0)),
    )
    for den in made:
        for sampler in SAMPLERS:
            for steps in (1, 2, 3):
                out = fewstep.sample(
                    den, sampler, steps=steps, n=2, cond=cond, dtype=dtype, grid=GRIDS[name]
                )
                assert out.dtype == dtype and bool(torch.isfinite(out).all())


def test_a_perturbed_network():
    """The context is entered for each call of the perturbed branch only, and left on errors."""
    shift = [0.0]
    inside = []

    def network(x, t, cond):
        inside.append(shift[0])
        if cond is not None and bool((cond > 8.0).any()):
            raise RuntimeError("no")
        return 0.1 * x + shift[0]

    @contextmanager
    def perturbation():
        shift[0] = 1.0
        try:
            yield
        finally:
            shift[0] = 0.0

    model = fewstep.models.wrap(network, VPLinear(), "eps", shape=(2,))
    den = PAG(model, Perturbed(model, perturbation), 3.0)
    x = torch.randn(2, 2, dtype=F64)
    assert torch.allclose(den(x, 0.5), 0.1 * x - 3.0, rtol=0, atol=1e-12)
    assert inside == [0.0, 1.0] and shift == [0.0]
    unconditional = fewstep.sample(den, "dpmpp_2m", steps=3, n=2, grid="lam")
    assert bool(torch.isfinite(unconditional).all()) and inside == [0.0, 1.0] * 4
    with pytest.raises(RuntimeError, match="no"):
        den(x, 0.5, torch.full((2,), 9.0))
    assert shift == [0.0]
    rows = torch.tensor([1, 0])
    assert isinstance(den.select(rows).branches[1].denoiser, Perturbed)
    for wrong in (perturbation(), None, 3.0):
        with pytest.raises(ArgumentTypeError, match="must be a function without arguments"):
            Perturbed(model, wrong)


def test_a_worse_model_with_its_own_condition():
    """The guidance of EDM2: an unconditional worse model; and a fixed condition."""
    good, worse = Recorder(VPLinear(), null=0.0), Recorder(VPLinear(), 0.1)
    x, cond = torch.randn(2, 4, dtype=F64), torch.tensor([1.0, 2.0], dtype=F64)
    for given, value in ((None, 0.0), (torch.tensor([5.0], dtype=F64), 0.5)):
        made = Contrast(good, worse, 2.0, ref_cond=given)(x, 0.5, cond)
        wanted = 2.0 * torch.tanh(x + 0.3 * cond[:, None]) - torch.tanh(x + value)
        assert torch.allclose(made, wanted, rtol=0, atol=1e-14)
    same = Contrast(good, good, 2.0, ref_cond=None)
    assert torch.allclose(same(x, 0.5, cond), CFG(good, 2.0)(x, 0.5, cond), rtol=0, atol=1e-14)


def test_a_worse_model_that_says_nothing_at_the_start_is_refused():
    good, worse = gaussian("flow", GOOD, "velocity"), gaussian("flow", WORSE, "eps")
    with pytest.raises(ConversionError, match="alpha=0"):
        fewstep.sample(
            Contrast(good, worse, 2.0), "ddim", steps=3, n=2, cond=torch.zeros(2, dtype=torch.int64)
        )


def test_wrong_arguments_are_refused():
    a, b = Recorder(VPLinear()), Recorder(VPLinear())
    wrong = [
        (lambda: Contrast(a, b, math.nan), "w=nan: must be a finite number"),
        (lambda: Contrast(a, b, "2"), "w='2'"),
        (lambda: Contrast(a, a, 2.0), "are the same model with the same condition"),
        (lambda: Contrast(a, Recorder(EDM()), 2.0), "must be on the same schedule"),
        (lambda: Contrast(a, b, 2.0, interval=(2.0, 1.0)), "interval="),
        (lambda: Contrast(a, b, 2.0, ref_cond="other"), "must be 'same', None"),
        (lambda: Contrast(a, b, torch.ones(2), ref_cond=torch.ones(3)), "2 values.* 3 samples"),
        (lambda: PAG(a, a, 2.0), "perturbed is the denoiser itself"),
        (lambda: PAG(a, b, 2.0, uncond=torch.ones(1)), "uncond= without cfg="),
        (lambda: PAG(a, b, 2.0, cfg=math.inf), "cfg=inf"),
        (lambda: PAG(a, b, torch.ones(2), cfg=torch.ones(3)), "cfg has 3 values"),
    ]
    for make, message in wrong:
        with pytest.raises(ArgumentError, match=message):
            make()
    for den, message in (
        (PAG(a, b, 2.0, cfg=2.0), "PAG needs a condition; pass cond="),
        (Contrast(a, b, torch.ones(3)), "w has 3 values for 2 samples"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fewstep.sample(den, "ddim", steps=2, x=torch.zeros(2, 4), grid="lam")
    assert not a.calls and not b.calls
    one, two = (GaussianMixture([[0.0] * n], 1.0, [1.0], Flow(), "velocity") for n in (1, 2))
    with pytest.raises(ArgumentError, match=r"samples of shape \(1,\) and \(2,\)"):
        Contrast(one, two, 2.0)
