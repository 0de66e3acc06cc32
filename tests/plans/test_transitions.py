"""Transition densities: equal to the joint normal law of the recorded states on Gaussian data, for
every sampler that draws noise; differentiable, reproducible, and the same on a live cursor."""

from __future__ import annotations

import dataclasses
import math
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import transition_table as table
from laws import gaussian, normals
from torch import Tensor
from transition_table import CASES, Case

import fewstep
from fewstep.checks import ArgumentError, ArgumentTypeError
from fewstep.engine import StateError
from fewstep.engine.memory import check_room
from fewstep.models import GaussianMixture, MeanReverted, RunFacts, Wrapper
from fewstep.plans import Cursor, PlanBuilder, PlanError, lower, transitions
from fewstep.plans.densities import NO_NOISE
from fewstep.plans.running.channels import network_raws
from fewstep.plans.running.state_law import next_state
from fewstep.samplers import names
from fewstep.schedules import EDM, PFGMPP, Flow, MeanReverting, VPLinear

VP = VPLinear()


@pytest.mark.parametrize("case", CASES, ids=[case.label for case in CASES])
def test_densities_are_those_of_the_joint_law(case: Case) -> None:
    wrong, count = table.error(case)
    assert wrong < 1e-9
    assert 0 < count <= case.plan.nfe


def test_every_sampler_that_draws_noise_is_served() -> None:
    served = {case.name for case in CASES}
    assert len(served) >= 28
    assert served == {
        name
        for name in names("plan")
        for options in ({}, *fewstep.samplers.get(name).variants)
        if fewstep.plan(name, Case(name, {}).path, steps=4, **options).draws
    }


def test_the_page_has_the_table() -> None:
    """Where this fails: python tests/plans/transition_table.py"""
    assert table.written() == table.text()


@pytest.mark.parametrize(
    ("path", "times"),
    [(EDM(0.002, 80.0), [80.0, 10.0, 1.0, 0.1, 0.01]), (Flow(3.0), [1.0, 0.9, 0.6, 0.3, 0.05])],
)
@pytest.mark.parametrize(
    ("name", "given"),
    [("dpmpp_2m_sde", {}), ("seeds_2", {}), ("flow_sde", {"order": 2}), ("dpm2_ancestral", {})],
)
def test_on_other_paths_with_noise_in_the_last_step(
    path: Any, times: Any, name: str, given: Any
) -> None:
    plan = fewstep.plan(name, path, times=times, **given)
    assert plan.transitions[-1].end == plan.end
    wrong, _ = table.distance(plan, path)
    assert wrong < 1e-9


def test_a_later_state_may_read_one_of_several_noises_again() -> None:
    """Two noises in one state, one of them again in the next: the state tells a part of it."""
    b = PlanBuilder(nodes := [EDM(0.002, 80.0).node(t) for t in (8.0, 4.0, 2.0, 1.0)], "asymptotic")
    z = [b.noise(nodes[0], nodes[1]) for _ in range(3)]
    x = b.start(nodes[0])
    D = b.evaluate(x, nodes[0], "x0")
    x = b.at(nodes[1], 0.4 * x + 0.6 * D + 1.5 * z[0] + 0.7 * z[1])
    D = b.evaluate(x, nodes[1], "x0")
    x = b.at(nodes[2], 0.4 * x + 0.6 * D + 0.3 * z[0])
    D = b.evaluate(x, nodes[2], "x0")
    x = b.at(nodes[3], 0.3 * x + 0.7 * D + 0.2 * z[0] - 0.1 * z[1] + 0.3 * z[2])
    plan = b.finish(x)
    found = plan.transitions
    assert [t.draws for t in found] == [(0, 1), (), (2,)]
    assert found[0].std == pytest.approx(math.hypot(1.5, 0.7), rel=1e-14)
    assert found[1].std == pytest.approx(0.3 * 0.7 / math.hypot(1.5, 0.7), rel=1e-12)
    assert found[2].std == pytest.approx(0.3, rel=1e-12)
    with pytest.raises(PlanError, match=r"noises \(0, 1\)"):
        found[0].draw  # noqa: B018
    wrong, count = table.distance(plan, EDM(0.002, 80.0))
    assert wrong < 1e-9 and count == 3


# the function


def recorded(name: str = "flow_sde", path: Any = VP, **given: Any) -> tuple[Any, Any]:
    """A model, and what a recorded run of it returned."""
    model = gaussian(path)
    arguments = {"steps": 5, "grid": "lam", "n": 4, "dtype": torch.float64, **given}
    x, info = fewstep.sample(model, name, info=True, record=True, **arguments)
    assert torch.equal(info.states[-1], x)
    return model, info


def test_the_sum_is_that_of_torch_and_the_mean_divides() -> None:
    model, info = recorded("er_sde")
    found = fewstep.transition_log_prob(info.plan, model, info.states)
    assert found.shape == (4, 4) and found.dtype == torch.float64
    x = info.states
    for k, step in enumerate(info.plan.transitions):
        outputs = [
            {"x0": model.predict("x0", x[step.index - age], info.plan.nodes[step.index - age].t)}
            for age in range(step.memory)
        ]
        normal = torch.distributions.Normal(step.mean(x[step.index], *outputs), step.std)
        wanted = normal.log_prob(x[step.index + 1]).sum(1)
        torch.testing.assert_close(found[k], wanted, rtol=1e-12, atol=1e-12)
    mean = fewstep.transition_log_prob(info.plan, model, x, reduction="mean")
    torch.testing.assert_close(mean, found / 2)


def test_states_are_the_start_every_evaluated_state_and_the_result() -> None:
    model, info = recorded("dpmpp_2s_ancestral", seed=3)
    plan = info.plan
    assert info.states.shape == (plan.nfe + 1, 4, 2)
    seen: list[Tensor] = []

    def keep(step: Any) -> None:
        seen.append(step.x)

    x = fewstep.sample(
        model, plan.name, steps=5, grid="lam", n=4, seed=3, dtype=torch.float64, callback=keep
    )
    assert torch.equal(info.states, torch.stack([*seen, x]))
    assert recorded("ddim")[1].states.shape == (6, 4, 2)
    _, info = fewstep.sample(model, "ddim", steps=2, n=1, info=True)
    assert info.states is None


class Policy(torch.nn.Module):
    """x0 = a x + b + c cond, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.b = torch.nn.Parameter(torch.tensor([0.1, -0.2], dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        shift = 0.0 if cond is None else cond[:, None]
        return self.a * x + self.b * torch.cos(x) + shift


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("flow_sde", {}),
        ("dpmpp_3m_sde", {}),
        ("sa_solver", {}),
        ("seeds_2", {}),
        ("dpm2_ancestral", {}),
        ("heun", {"s_churn": 3.0}),
    ],
)
def test_gradients_in_parameters_condition_and_states(name: str, given: Any) -> None:
    net = Policy()
    model = fewstep.models.wrap(net, VP, "x0", shape=(2,))
    plan = fewstep.plan(name, VP, grid="lam", steps=3, **given)
    cond = torch.tensor([0.2, -0.4], dtype=torch.float64)
    _, info = fewstep.sample(
        model,
        name,
        grid="lam",
        steps=3,
        n=2,
        cond=cond,
        dtype=torch.float64,
        info=True,
        record=True,
        **given,
    )
    assert info.plan == plan

    def density(a: Tensor, b: Tensor, cond: Tensor, states: Tensor) -> Tensor:
        network = torch.nn.utils.stateless._reparametrize_module(net, {"a": a, "b": b})
        with network:
            return fewstep.transition_log_prob(plan, model, states, cond)

    inputs = [v.detach().clone().requires_grad_() for v in (net.a, net.b, cond, info.states)]
    assert torch.autograd.gradcheck(density, inputs, rtol=1e-5, atol=1e-6)


def test_evaluated_again_the_bits_are_the_same() -> None:
    model, info = recorded("sa_solver", dtype=torch.float32)
    with torch.no_grad():
        old = fewstep.transition_log_prob(info.plan, model, info.states)
    new = fewstep.transition_log_prob(info.plan, model, info.states.clone().requires_grad_())
    assert torch.equal(old, new) and old.dtype == torch.float32
    program = lower(info.plan, model)
    assert torch.equal(old, fewstep.transition_log_prob(program, model, info.states))
    for n in (1, 3):  # a sample does not depend on its batch
        part = fewstep.transition_log_prob(info.plan, model, info.states[:, :n])
        assert torch.equal(part, old[:, :n])


@pytest.mark.parametrize(
    ("name", "steps", "calls"),
    [("flow_sde", [2], 1), ("flow_sde", [3, 0], 2), ("dpmpp_3m_sde", [2], 3), ("seeds_2", [5], 2)],
)
def test_chosen_steps_and_the_calls_that_they_need(name: str, steps: Any, calls: int) -> None:
    model, info = recorded(name)
    every = fewstep.transition_log_prob(info.plan, model, info.states)
    made: list[Any] = []
    raws = model.raws
    model.raws = lambda *given, **named: made.append(given) or raws(*given, **named)
    part = fewstep.transition_log_prob(info.plan, model, info.states, steps=steps)
    assert len(made) == calls
    assert torch.equal(part, every[steps])


def test_ratios_have_mean_one_and_scores_mean_zero() -> None:
    """Under the policy that sampled: E p_new / p_old = 1, E grad log p = 0; within five standard
    errors, for a multistep method with the parameter of each sample in ``cond``."""
    count, net = 4000, Policy()
    model = fewstep.models.wrap(net, VP, "x0", shape=(2,))
    zero = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    _, info = fewstep.sample(
        model,
        "dpmpp_2m_sde",
        grid="lam",
        steps=4,
        n=count,
        cond=zero.detach(),
        dtype=torch.float64,
        info=True,
        record=True,
    )
    old = fewstep.transition_log_prob(info.plan, model, info.states, zero).sum(0)
    (score,) = torch.autograd.grad(old.sum(), zero)
    with torch.no_grad():
        moved = fewstep.transition_log_prob(info.plan, model, info.states, zero + 0.02)
    ratio = (moved.sum(0) - old.detach()).exp()
    for value, mean in ((score, 0.0), (ratio, 1.0)):
        error = float(value.std()) / math.sqrt(count)
        assert error > 0.0 and abs(float(value.mean()) - mean) < 5.0 * error
    # a check that can fail: the samples of another policy
    assert abs(float((score * ratio).mean())) > 5.0 * float((score * ratio).std()) / count**0.5


def test_the_steps_of_flow_grpo() -> None:
    """Mean and standard deviation of ``sde_step_with_logprob`` (yifan123/flow_grpo), the
    log-density averaged over the elements."""
    plan = fewstep.plan("flow_sde", Flow(), times=[1.0, 0.8, 0.5, 0.2, 0.0], a=0.7, form="euler")
    model, z = gaussian(Flow(), "velocity"), normals(0, 5, 3, 2)
    states = table.recorded(plan, model, z[0], range(3))
    found = fewstep.transition_log_prob(plan, model, states, reduction="mean")
    assert len(found) == 3
    for k, (t, s) in enumerate(((1.0, 0.8), (0.8, 0.5), (0.5, 0.2))):
        x, v, dt = states[k], model(states[k], t), s - t
        g = 0.7 * math.sqrt(t / (1.0 - (0.8 if t == 1.0 else t)))
        mean = x * (1.0 + g**2 / (2.0 * t) * dt) + v * (1.0 + g**2 * (1.0 - t) / (2.0 * t)) * dt
        std = g * math.sqrt(-dt)
        wanted = (
            -((states[k + 1] - mean) ** 2) / (2.0 * std**2)
            - math.log(std)
            - math.log(math.sqrt(2.0 * math.pi))
        )
        torch.testing.assert_close(found[k], wanted.mean(1), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rated_in_float32(dtype: torch.dtype) -> None:
    model, info = recorded("ddim", eta=1.0, dtype=dtype)
    found = fewstep.transition_log_prob(info.plan, model, info.states)
    assert info.states.dtype == dtype and found.dtype == torch.float32
    wide = fewstep.transition_log_prob(info.plan, model, info.states.double())
    torch.testing.assert_close(found.double(), wide, rtol=0.05, atol=0.05)


def test_states_of_inference_mode_are_rated_with_gradients() -> None:
    net = Policy()
    model = fewstep.models.wrap(net, VP, "x0", shape=(2,))
    with torch.inference_mode():
        _, info = fewstep.sample(
            model, "ddpm", steps=3, n=2, dtype=torch.float64, info=True, record=True
        )
    fewstep.transition_log_prob(info.plan, model, info.states).sum().backward()
    assert net.a.grad is not None and float(net.a.grad) != 0.0


def test_watching_in_inference_mode_is_no_edit() -> None:
    """torch counts no writes there: the state is compared with what it was."""
    given = {"steps": 3, "n": 2, "dtype": torch.float64, "info": True, "record": True}

    def push(step: Any) -> None:
        if step.index == 0:
            step.x_next += 1.0

    with torch.inference_mode():
        _, info = fewstep.sample(gaussian(VP), "sa_solver", callback=lambda step: None, **given)
        with pytest.raises(ArgumentError, match="replaced the state of call 1"):
            fewstep.sample(gaussian(VP), "sa_solver", callback=push, **given)
    _, plain = fewstep.sample(gaussian(VP), "sa_solver", **given)
    assert torch.equal(info.states, plain.states)


def test_other_channels_are_read() -> None:
    class Guided(type(gaussian(VP))):  # type: ignore[misc]
        channels = ("main", "uncond")

        def raws(self, x_in: Tensor, t: Any, cond: Any = None, channels: Any = ("main",)) -> Any:
            (raw,) = super().raws(x_in, t, cond)
            return raw, 0.5 * raw

        def coefficients(self, t: float, channel: str = "main") -> Any:
            return (0.0, (1.0, 0.0)) if channel == "main" else (0.0, (0.0, 2.0))

    plan = fewstep.plan("dpmpp_2m_sde", VP, grid="lam", steps=4)
    code = tuple(
        dataclasses.replace(i, outs=tuple((v, kind, "uncond") for v, kind, _ in i.outs))
        if hasattr(i, "outs")
        else i
        for i in plan.code
    )
    other, model = dataclasses.replace(plan, code=code), gaussian(VP)
    guided = Guided(model.means, model.stds, [1.0], VP, "v")
    states = table.recorded(plan, model, normals(0, 3, 2), range(3))
    wanted = fewstep.transition_log_prob(plan, model, states)
    for p in (plan, other):
        found = fewstep.transition_log_prob(p, guided, states)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    with pytest.raises(PlanError, match="uncond"):
        fewstep.transition_log_prob(other, model, states)


def test_a_guided_model_is_rated_as_it_ran() -> None:
    model = GaussianMixture([[0.7, -0.4], [-0.6, 0.2]], 0.4, [0.5, 0.5], VP, "v")
    guided, cond = fewstep.guidance.CFG(model, scale=2.0), torch.tensor([0, 1, 1])
    given = {"steps": 4, "grid": "lam", "dtype": torch.float64, "cond": cond, "n": 3}
    _, info = fewstep.sample(guided, "er_sde", info=True, record=True, **given)
    found = fewstep.transition_log_prob(info.plan, guided, info.states, cond)
    draws = fewstep.fused.SeededNoise(info.seeds)
    for row, step in zip(found, info.plan.transitions, strict=True):
        z = draws(step.draw, info.states[0])
        wanted = -0.5 * (z**2).sum(1) - 2.0 * math.log(step.std * math.sqrt(2.0 * math.pi))
        torch.testing.assert_close(row, wanted, rtol=1e-9, atol=1e-9)


def test_a_model_that_keeps_values_is_called_in_order() -> None:
    """Its predictions depend on the calls before and on the seeds: all of them are made again."""

    class Momentum(Wrapper):
        sum: Any = 0.0

        def for_run(self, facts: RunFacts) -> Any:
            own = copy(self)
            assert facts.steps == (0, 1, 2, 3)
            own.sum = torch.tensor(facts.seeds, dtype=torch.float64)[:, None]
            return own

        def raws(self, *given: Any) -> Any:
            (raw,) = super().raws(*given)
            self.sum = 0.5 * self.sum + raw
            return (self.sum,)

    model = Momentum(gaussian(VP))
    given = {"steps": 4, "grid": "lam", "dtype": torch.float64, "n": 3, "info": True}
    _, info = fewstep.sample(model, "ddpm", record=True, **given)
    rate = partial(fewstep.transition_log_prob, info.plan, model, info.states, seeds=info.seeds)
    found, draws = rate(), fewstep.fused.SeededNoise(info.seeds)
    for k, step in enumerate(info.plan.transitions):
        z = draws(step.draw, info.states[0])
        wanted = -0.5 * (z**2).sum(1) - 2.0 * math.log(step.std * math.sqrt(2.0 * math.pi))
        torch.testing.assert_close(found[k], wanted, rtol=1e-9, atol=1e-9)
        assert torch.equal(rate(steps=[k])[0], found[k])


def test_states_of_a_mean_reverting_path_are_those_of_the_plan() -> None:
    """x - mu: the samples are the last states plus mu, and a step is ``mean + std z`` there."""
    path, mu = MeanReverting(0.4, VP), torch.tensor([0.5, -1.2], dtype=torch.float64)
    net = fewstep.models.wrap(lambda x, t: torch.tanh(x), path, "x0")
    model = MeanReverted(net, mu)
    plan = fewstep.plan("mr_sde", path, steps=4, grid="lam")
    noise = dict(enumerate(normals(0, len(plan.draws), 3, 2)))
    x, info = fewstep.sample(
        model,
        "mr_sde",
        steps=4,
        grid="lam",
        n=3,
        noise=noise,
        dtype=torch.float64,
        info=True,
        record=True,
    )
    torch.testing.assert_close(info.states[-1] + mu, x)
    found = fewstep.transition_log_prob(info.plan, model, info.states)
    for k, step in enumerate(plan.transitions):
        z = noise[step.draw]
        wanted = -0.5 * (z**2).sum(1) - 2.0 * math.log(step.std * math.sqrt(2.0 * math.pi))
        torch.testing.assert_close(found[k], wanted, rtol=1e-9, atol=1e-9)


# edits


def test_states_are_recorded_after_edits() -> None:
    """``euler_ancestral`` reads nothing but its state: the law at the edited states is that of the
    run."""
    model = gaussian(VP)

    def push(step: Any) -> Tensor | None:
        return step.x_next + 0.25 if step.index == 1 else None

    given = {"steps": 4, "n": 2, "seed": 5, "dtype": torch.float64, "info": True, "record": True}
    _, plain = fewstep.sample(model, "euler_ancestral", **given)
    _, edited = fewstep.sample(model, "euler_ancestral", callback=push, **given)
    difference = edited.states - plain.states
    torch.testing.assert_close(difference[2], torch.full((2, 2), 0.25, dtype=torch.float64))
    assert not difference[:2].any() and bool((difference[3:] != 0.0).all())
    old, new = (fewstep.transition_log_prob(i.plan, model, i.states) for i in (plain, edited))
    torch.testing.assert_close(old[2], new[2], rtol=1e-9, atol=1e-9)  # the same z from there on
    assert not torch.allclose(old[1], new[1])

    def in_place(step: Any) -> None:
        if step.index == 1:
            step.x_next += 0.25

    _, again = fewstep.sample(model, "euler_ancestral", callback=in_place, **given)
    assert torch.equal(again.states, edited.states)


@pytest.mark.parametrize(
    ("name", "options", "at"),
    [("sa_solver", {}, 0), ("seeds_2", {}, 0), ("heun", {"s_churn": 3.0}, 0)],
)
def test_edits_that_the_states_do_not_tell_are_refused(name: str, options: Any, at: int) -> None:
    def push(step: Any) -> Tensor | None:
        return step.x_next + 1.0 if step.index == at else None

    given = {"steps": 3, "n": 2, "dtype": torch.float64, "callback": push, **options}
    fewstep.sample(gaussian(VP), name, **given)
    with pytest.raises(ArgumentError, match=f"replaced the state of call {at + 1}.*{name}"):
        fewstep.sample(gaussian(VP), name, info=True, record=True, **given)


# a live run


@pytest.mark.parametrize("case", CASES, ids=[case.label for case in CASES])
def test_a_cursor_says_the_law_of_its_next_state(case: Case) -> None:
    """Without drawing the noise, at every step of every sampler; the densities are those of the
    recorded states."""
    plan, model = case.plan, table.model(case.path)
    drawn: list[int] = []

    def noise(key: int, like: Tensor) -> Tensor:
        drawn.append(key)
        return normals(100 + key, *like.shape)

    cursor = Cursor(plan, model, normals(0, 3, 2), noise, fresh=True)
    states, laws = [cursor.x], []
    while cursor.call is not None:
        call, before = cursor.call, len(drawn)
        raws = network_raws(model, cursor.x_in, call.node.t, None, call.channels)
        mean, std = next_state(cursor, raws)
        laws.append(next_state(cursor, raws))
        assert len(drawn) == before
        cursor.step(raws)
        fresh = drawn[before:]
        states.append(cursor.x)
        if std == 0.0:
            torch.testing.assert_close(mean, states[-1], rtol=1e-9, atol=1e-12)
        elif len(fresh) == 1:
            z = (states[-1] - mean) / std
            torch.testing.assert_close(z.abs(), normals(100 + fresh[0], 3, 2).abs())
    found = fewstep.transition_log_prob(plan, model, torch.stack(states))
    for row, step in zip(found, plan.transitions, strict=True):
        law = laws[step.index]
        assert law.std == pytest.approx(step.std, rel=1e-9)
        torch.testing.assert_close(law.log_prob(states[step.index + 1]), row, rtol=1e-8, atol=1e-8)
    assert sum(law.std > 0.0 for law in laws) == len(found)
    with pytest.raises(PlanError, match="the run is over"):
        next_state(cursor, raws)


def test_the_law_of_a_cursor_has_its_edits_and_its_gradients() -> None:
    plan, model = fewstep.plan("interpolant_sde", Flow(), steps=3, method="heun"), gaussian(Flow())
    cursor = Cursor(plan, model, normals(0, 3, 2), lambda key, like: torch.zeros_like(like))
    for edit in (None, 0.5, None):
        call = cursor.call
        assert call is not None
        (raw,) = network_raws(model, cursor.x_in, call.node.t, None)
        raw = raw.detach().requires_grad_()
        law = next_state(cursor, (raw,))
        (slope,) = torch.autograd.grad(law.mean.sum(), raw)
        assert bool(slope.any())
        cursor.step((raw.detach(),))
        torch.testing.assert_close(law.mean, cursor.x, rtol=1e-12, atol=1e-12)
        if edit is not None:
            cursor.replace(cursor.x + edit)
    with pytest.raises(ArgumentError, match="std=0"):
        law._replace(std=0.0).log_prob(cursor.x)
    with pytest.raises(ArgumentTypeError, match="Cursor"):
        next_state(plan, (raw,))  # type: ignore[arg-type]


# what is none, and what is refused


def test_why_other_steps_are_none() -> None:
    plan = fewstep.plan("heun", EDM(0.002, 80.0), times=[10.0, 1.0, 0.1], s_churn=0.5)
    assert plan.transitions.none[0] == (
        -1,
        "its noise is drawn before the first network call: it belongs to the start",
    )
    assert dict(plan.transitions.none)[0] == NO_NOISE
    assert [t.index for t in plan.transitions] == [1]
    assert plan.transitions is plan.transitions and plan.transitions == transitions(plan)
    wrong, _ = table.distance(plan, EDM(0.002, 80.0))
    assert wrong < 1e-9


def test_a_noise_before_the_first_call_that_later_states_contain() -> None:
    plan = fewstep.plan("dpmpp_3m_sde", VP, steps=4, afs=True)
    with pytest.raises(PlanError, match="drawn before the first network call"):
        plan.transitions  # noqa: B018
    model = gaussian(VP)
    _, info = fewstep.sample(
        model, "dpmpp_3m_sde", steps=4, n=2, afs=True, dtype=torch.float64, info=True, record=True
    )
    with pytest.raises(PlanError, match="no density"):
        fewstep.transition_log_prob(info.plan, model, info.states)


def test_an_analytic_first_step_of_an_ode_window_is_served() -> None:
    plan = fewstep.plan("flow_sde", VP, steps=5, grid="lam", order=2, window=(2, 4), afs=True)
    assert len(plan.transitions) == 2
    wrong, _ = table.distance(plan, VP)
    assert wrong < 1e-9


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"states": torch.zeros(5, 2, 2)}, StateError, r"states must be \(4, batch"),
        ({"states": torch.zeros(4, 2)}, StateError, r"states must be \(4, batch"),
        ({"states": [1.0]}, StateError, "got list"),
        ({"states": torch.zeros(4, 2, 2, dtype=torch.int64)}, ValueError, "floating"),
        ({"states": torch.zeros(4, 2, 3)}, StateError, "the model takes"),
        ({"cond": torch.zeros(3)}, StateError, "batch is 2"),
        ({"reduction": "none"}, ValueError, "allowed: mean, sum"),
        ({"steps": [2]}, ArgumentError, "from 0 to 1"),
        ({"steps": []}, ArgumentError, "one or more positions"),
        ({"steps": 1}, ArgumentError, "one or more positions"),
        ({"steps": [True]}, ArgumentError, "integer"),
        ({"plan": "ddim"}, ArgumentTypeError, "a plan"),
        ({"plan": fewstep.plan("ddim", VP, steps=3)}, PlanError, "no noisy step"),
        ({"denoiser": torch.nn.Linear(2, 2)}, ArgumentTypeError, "denoiser"),
    ],
)
def test_bad_arguments(change: Any, error: type[Exception], message: str) -> None:
    model = gaussian(VP)
    model.raws = lambda *_: pytest.fail("the network was called")
    given = {
        "plan": fewstep.plan("ddim", VP, steps=3, eta=1.0),
        "denoiser": model,
        "states": torch.zeros(4, 2, 2),
        **change,
    }
    with pytest.raises(error, match=message):
        fewstep.transition_log_prob(**given)


def test_states_that_cannot_be_recorded() -> None:
    model = gaussian(VP)
    model.raws = lambda *_: pytest.fail("the network was called")
    for given, message in (
        ({"record": True}, "needs info=True"),
        ({"record": 1, "info": True}, "True or False"),
        (
            {"sampler": "picard", "record": True, "info": True},
            "record=True: picard is a driver",
        ),
        (
            {
                "sampler": "dpmpp_sde",
                "noises": "overlapping",
                "noise": "brownian",
                "record": True,
                "info": True,
            },
            "overlapping intervals",
        ),
    ):
        arguments: dict[str, Any] = {"sampler": "ddpm", "steps": 3, "n": 2, **given}
        with pytest.raises(ArgumentError, match=message):
            fewstep.sample(model, **arguments)
    with pytest.raises(ArgumentError, match="11 states of each"):
        check_room((1 << 20, 1 << 20), "cpu", torch.float32, copies=11)


def test_a_brownian_path_without_overlaps_is_recorded() -> None:
    model, info = recorded("dpmpp_2m_sde", noise="brownian")
    law = table.distance_of(info.plan, VP, info.states)
    assert law[0] < 1e-9
    assert model.schedule == VP


def test_jumps_of_a_heavy_tailed_path_are_refused() -> None:
    path = PFGMPP(128, 0.01, 50.0)
    plan = fewstep.plan("heun", path, times=[40.0, 4.0, 0.4, 0.04], s_churn=1.0)
    model = gaussian(path)
    with pytest.raises(PlanError, match="not Gaussian"):
        fewstep.transition_log_prob(plan, model, torch.zeros(plan.nfe + 1, 2, 2))


def test_means_want_the_states_that_they_read() -> None:
    step = fewstep.plan("dpm2_ancestral", VP, steps=3).transitions[0]
    assert (step.depth, step.carry, step.index) == (2, 0.0, 1)
    x = normals(0, 2, 3, 2)
    kinds = {"eps": x[0], "x0": x[1]}
    with pytest.raises(ArgumentError, match="1 states given: this step needs the last 2"):
        step.mean(x[0], kinds, kinds)
    mean = step.mean([x[0], x[1]], kinds, kinds)
    assert torch.allclose(
        mean,
        sum(c * x[age] for age, c in step.states) + sum(c * kinds[k] for _, k, _, c in step.terms),
    )
    assert np.isfinite(mean.numpy()).all()
