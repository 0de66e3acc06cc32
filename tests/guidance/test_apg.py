"""Adaptive projected guidance: identities, and its momentum over real runs."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
import torch
from methods import Spy, images, pair
from problems import F64, PATHS, Recorder, scalar_pair

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import APG, CFG, Threshold
from fewstep.models import MeanReverted, RunFacts, convert_prediction, wrap
from fewstep.plans.call_steps import call_steps
from fewstep.schedules import EDM, Flow, MeanReverting, VPLinear

LABELS = torch.tensor([0, 1, 0])
KINDS = ("x0", "eps", "v", "prediction")


def dots(a, b):
    return (a * b).flatten(1).sum(1)


def mixed(cond, uncond, **given):
    """The combination of two predictions."""
    den = APG(images(VPLinear()), **{"scale": 3.0, **given})
    return den.mix([uncond, cond], cond, [0.5])


@pytest.mark.parametrize("on", KINDS)
@pytest.mark.parametrize("name", PATHS)
def test_without_its_parts_it_is_classifier_free_guidance(name, on):
    den = images(PATHS[name])
    x = torch.randn(3, *den.shape, dtype=F64)
    plain = CFG(den, 3.0)(x, 0.4, LABELS)
    for given in ({}, {"norm": 1e9}):
        made = APG(den, 3.0, eta=1.0, on=on, **given)
        value = convert_prediction(
            made(x, 0.4, LABELS), x, 0.4, made.prediction, den.prediction, PATHS[name]
        )
        assert torch.allclose(value, plain, rtol=1e-12, atol=1e-12)


def test_the_update_is_orthogonal_to_the_conditional_prediction():
    cond, uncond = pair(4, 3, 5, 4)
    update = mixed(cond, uncond) - cond
    scale = update.flatten(1).norm(dim=1) * cond.flatten(1).norm(dim=1)
    assert float((dots(update, cond) / scale).abs().max()) < 1e-14
    # eta adds its share of the part along m_c
    half = mixed(cond, uncond, eta=0.5) - cond
    whole = 2.0 * (cond - uncond)
    assert torch.allclose(dots(half, cond), 0.5 * dots(whole, cond), rtol=1e-12)
    assert torch.allclose(dots(half, update), dots(whole, update), rtol=1e-12)


def test_the_norm_limits_the_update_of_each_sample():
    cond, uncond = pair(4, 3, 5, 4)
    uncond = cond - torch.tensor([1e-3, 0.1, 1.0, 10.0], dtype=F64)[:, None, None, None] * uncond
    d = (cond - uncond).flatten(1).norm(dim=1)
    for norm in (0.05, 1.0, 4.0):
        update = mixed(cond, uncond, eta=1.0, norm=norm) - cond
        size = update.flatten(1).norm(dim=1) / 2.0
        assert torch.allclose(size, d.clamp(max=norm), rtol=1e-12)
    assert bool((d > 4.0).any()) and bool((d < 0.05).any())


def test_predictions_without_a_direction():
    cond, uncond = pair(3, 4)
    zero = torch.zeros_like(cond)
    assert torch.equal(mixed(zero, uncond, norm=1.0, eta=0.0).isfinite(), cond == cond)
    assert torch.equal(mixed(cond, cond, norm=1.0), cond)
    assert torch.equal(mixed(zero, zero, norm=1.0), zero)


def recursion(seen, steps, beta, w, norm, eta):
    """The combinations, from the predictions of each call and its step, as written on paper."""
    made, before, latest, last = [], None, None, None
    for (_, _, cond, uncond), step in zip(seen, steps, strict=True):
        if last is not None and step != last:
            before = latest
        d = cond - uncond if before is None else cond - uncond + beta * before
        if step != last:
            latest, last = d, step
        size = d.flatten(1).norm(dim=1)[:, None, None, None]
        clipped = d * (norm / size).clamp(max=1.0)
        along = (dots(clipped, cond) / dots(cond, cond))[:, None, None, None] * cond
        made.append(cond + (w - 1.0) * (clipped - along + eta * along))
    return made


RUNS = {
    "ddim": {}, "dpmpp_2m": {}, "unipc": {"order": 3}, "heun": {}, "dpmpp_2s_ancestral": {},
    "restart": {}, "euler": {"s_churn": 8.0}, "dpmpp_2m_sde": {}, "deis": {}, "dpmpp_3s": {},
}  # fmt: skip


@pytest.mark.parametrize("sampler", RUNS)
def test_momentum_is_added_once_in_a_step(sampler):
    spy = Spy(APG(images(EDM(0.002, 80.0)), 4.0, momentum=-0.6, norm=6.0, eta=0.3))
    _, info = fewstep.sample(
        spy, sampler, steps=6, grid="karras", n=3, cond=LABELS, dtype=F64, info=True,
        **RUNS[sampler],
    )  # fmt: skip
    steps = call_steps(info.plan)
    wanted = recursion(spy.seen, steps, -0.6, 4.0, 6.0, 0.3)
    assert len(spy.seen) == info.nfe and len(set(steps)) > 3
    for (_, found, _, _), value in zip(spy.seen, wanted, strict=True):
        assert torch.allclose(found, value, rtol=1e-11, atol=1e-11)
    plain = recursion(spy.seen, steps, 0.0, 4.0, 6.0, 0.3)
    assert not torch.allclose(plain[-1], wanted[-1], rtol=1e-3, atol=1e-3)


def by_hand(x, sigmas, predict, heun):
    """Euler's or Heun's method of EDM by hand, with guidance by projection and momentum."""
    before = latest = None
    w, beta = 4.0, -0.6

    def denoised(x, sigma, new):
        nonlocal before, latest
        cond, uncond = predict(x, sigma)
        if new:
            before = latest
        d = cond - uncond + (0.0 if before is None else beta * before)
        if new:
            latest = d
        along = (dots(d, cond) / dots(cond, cond))[:, None, None, None] * cond
        return cond + (w - 1.0) * (d - along)

    new = True
    for s, t in pairwise(sigmas):
        slope = (x - denoised(x, s, new)) / s
        ahead = x + (t - s) * slope
        new = True
        if heun and t > 0.0:
            # the step to t is over when t is first reached: its call is the first of the next step
            slope = 0.5 * (slope + (ahead - denoised(ahead, t, True)) / t)
            ahead, new = x + (t - s) * slope, False
        x = ahead
    return x


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_a_run_with_momentum_is_the_loop_written_by_hand(sampler):
    path = EDM(0.002, 80.0)
    den = images(path, "x0")
    x = 80.0 * torch.randn(3, *den.shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    plan = fewstep.plan(sampler, path, steps=6, grid="karras")

    def predict(x, sigma):
        return den(x, sigma, LABELS), den(x, sigma, torch.full((3,), -1))

    wanted = by_hand(x, [node.sigma for node in plan.nodes], predict, sampler == "heun")
    found = fewstep.run(plan, APG(den, 4.0, momentum=-0.6), x, cond=LABELS)
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_where_w_is_1_the_momentum_stays():
    path = EDM(0.002, 80.0)
    spy = Spy(APG(images(path), 4.0, momentum=-0.6, norm=6.0, interval=(0.5, 5.0)))
    _, info = fewstep.sample(
        spy, "dpmpp_2m", steps=9, grid="karras", n=3, cond=LABELS, dtype=F64, info=True
    )
    inside = [0.5 < t <= 5.0 for t, *_ in spy.seen]
    assert 1 < sum(inside) < 9 and info.rows == 3 * (9 + sum(inside))
    guided = [each for each, within in zip(spy.seen, inside, strict=True) if within]
    wanted = recursion(guided, range(len(guided)), -0.6, 4.0, 6.0, 0.0)
    for (_, found, _, _), value in zip(guided, wanted, strict=True):
        assert torch.allclose(found, value, rtol=1e-11, atol=1e-11)
    for (_, found, cond, _), within in zip(spy.seen, inside, strict=True):
        assert within or torch.equal(found, cond)


def test_every_run_begins_without_momentum():
    den = APG(images(VPLinear()), 4.0, momentum=-0.6)
    given = {"steps": 5, "grid": "lam", "n": 3, "cond": LABELS, "dtype": F64}
    first = fewstep.sample(den, "dpmpp_2m", **given)
    assert torch.equal(fewstep.sample(den, "dpmpp_2m", **given), first)
    # a direct call is a first step
    x = torch.randn(3, *den.shape, dtype=F64)
    value = den(x, 0.5, LABELS)
    assert torch.equal(den(x, 0.5, LABELS), value)
    assert torch.equal(APG(images(VPLinear()), 4.0)(x, 0.5, LABELS), value)
    # a copy for a run serves that run
    own = den.for_run(RunFacts((), (0, 1)))
    for _ in range(2):
        own.raws(x, 0.5, LABELS)
    with pytest.raises(ArgumentError, match="serves one run of 2 network calls, which is over"):
        own.raws(x, 0.5, LABELS)
    assert APG(images(VPLinear()), 4.0).for_run(RunFacts((), None)).step is None


def test_runs_in_several_threads_do_not_share_momentum():
    den = APG(images(VPLinear()), 4.0, momentum=-0.6)
    given = {"steps": 6, "grid": "lam", "cond": LABELS, "dtype": F64}
    alone = [fewstep.sample(den, "heun", n=3, seed=10 * i, **given) for i in range(4)]
    found: dict[int, torch.Tensor] = {}
    barrier = threading.Barrier(4)

    def wait(step):
        barrier.wait(20)  # every thread stops after every call until all are there

    def work(i):
        found[i] = fewstep.sample(den, "heun", n=3, seed=10 * i, callback=wait, **given)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], alone[i]) for i in range(4))


def test_select_takes_the_momentum_of_the_rows():
    den = APG(images(VPLinear()), 4.0, momentum=-0.6)
    g = torch.Generator().manual_seed(3)
    xs = [torch.randn(3, *den.shape, dtype=F64, generator=g) for _ in range(3)]
    rows = torch.tensor([2, 0, 0, 1])
    facts = RunFacts((), (0, 1, 2))
    whole, part = den.for_run(facts), den.for_run(facts)
    for x, t in zip(xs[:2], (0.7, 0.6), strict=True):
        whole(x, t, LABELS)
        part(x, t, LABELS)
    chosen = part.select(rows)
    found = chosen(xs[2][rows], 0.5, LABELS[rows])
    assert torch.equal(found, whole(xs[2], 0.5, LABELS)[rows])
    assert torch.equal(part(xs[2], 0.5, LABELS)[rows], found)  # unchanged by its copy


def test_log_densities_of_a_run_with_momentum():
    den = APG(images(Flow()), 3.0, momentum=-0.5)
    x, info = fewstep.sample(
        den, "flow_sde", steps=5, n=3, cond=LABELS, dtype=F64, info=True, record=True
    )
    every = fewstep.transition_log_prob(info.plan, den, info.states, cond=LABELS)
    again = fewstep.transition_log_prob(info.plan, den, info.states, cond=LABELS, steps=[3])
    assert torch.equal(again[0], every[3]) and bool(every.isfinite().all())
    assert torch.equal(info.states[-1], x)


def test_runs_without_known_steps_are_refused_before_the_first_call():
    network = Recorder(VPLinear(), null=0.0)
    den = APG(network, 2.0, momentum=-0.5)
    given = {"n": 2, "shape": (4,), "cond": torch.ones(2)}
    for wrapped in (den, Threshold(den), Threshold(Threshold(den), "static")):
        for sampler in ("picard", "pc"):
            with pytest.raises(ArgumentError, match=r"momentum=-0\.5 needs to know the grid step"):
                fewstep.sample(wrapped, sampler, steps=4, **given)
        with pytest.raises(ArgumentError, match=r"needs to know .*or leave momentum out"):
            fewstep.log_prob(wrapped, torch.ones(2, 4), cond=torch.ones(2))
        with pytest.raises(ArgumentError, match="this one goes from data to noise"):
            fewstep.invert(wrapped, torch.ones(2, 4), "ddim", steps=3, cond=torch.ones(2))
    assert not network.calls
    plain = APG(network, 2.0)
    assert fewstep.sample(plain, "picard", steps=4, **given).isfinite().all()
    assert network.calls


def test_a_model_with_momentum_answers_one_branch():
    inner = APG(scalar_pair(VPLinear()), 2.0, momentum=-0.5)
    for wrapped in (inner, Threshold(inner)):
        assert not wrapped.joinable
        with pytest.raises(ArgumentError, match="keeps values between the calls of a run"):
            CFG(wrapped, 2.0)
    assert CFG(APG(scalar_pair(VPLinear()), 2.0), 2.0).joinable


def test_projection_is_on_the_data_of_a_mean_reverting_path():
    """The state is x - mu, the data are x0: <D~ - D_c, D_c> = 0 for D_c = x0."""
    path = MeanReverting(0.6, VPLinear())
    mu = torch.randn(2, 6, dtype=F64)
    network = wrap(lambda x, t, cond: torch.tanh(x + 0.3 * cond[:, None]), path, "eps", shape=(6,))
    den = APG(MeanReverted(network, mu, per_sample=True), 3.0, torch.zeros(1, dtype=F64))
    x, cond = torch.randn(2, 6, dtype=F64), torch.ones(2, dtype=F64)
    main, _, conditional = den.raws(x, 0.5, cond)
    data = conditional + mu
    assert float(dots(main - conditional, data).abs().max()) < 1e-12
    assert float(dots(main - conditional, conditional).abs().min()) > 1e-6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eta": float("nan")}, "eta=nan"),
        ({"norm": 0.0}, "norm=0.0"),
        ({"norm": -1.0}, "norm=-1.0"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"momentum": "fast"}, "momentum='fast'"),
        ({"on": "x1"}, "x1"),
        ({"scale": float("inf")}, "scale=inf"),
    ],
)
def test_wrong_arguments_are_refused(given, message):
    with pytest.raises(ArgumentError, match=message):
        APG(Recorder(VPLinear()), **{"scale": 2.0, **given})


def test_the_text_names_its_settings():
    text = repr(APG(scalar_pair(VPLinear()), 2.0, momentum=-0.5, norm=3.0))
    for part in ("scale=2.0", "eta=0.0", "norm=3.0", "momentum=-0.5", "on='x0'"):
        assert part in text
