"""Several readings of one network call, and the second time of two-time networks."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from repository import ROOT
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentTypeError
from fewstep.eval.certificates.gaussian import last_state
from fewstep.eval.solver.counting import Counting
from fewstep.eval.solver.error import defects
from fewstep.plans import (
    Evaluate,
    Plan,
    PlanBuilder,
    PlanError,
    local_defects,
    lower,
    run_plan,
    transitions,
)
from fewstep.plans.running.program import Launch
from fewstep.plans.transforms.analytic_first_step import analytic_first_step
from fewstep.samplers import get, names
from fewstep.schedules import EDM, DiscreteVP, Flow, Schedule, VPLinear

VP = VPLinear()
PATHS: dict[str, Schedule] = {
    "vp": VP,
    "edm": EDM(0.002, 80.0),
    "flow": Flow(),
    "table": DiscreteVP.from_betas([1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]),
}
Numbers = tuple[float, tuple[float, ...]]


class Network:
    """A small network of one channel, with the members of the Denoiser protocol alone."""

    prediction, shape = "v", None

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.calls: list[dict[str, Any]] = []

    def raws(self, x_in: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:
        self.calls.append({})
        return (torch.tanh(x_in + float(t) * 1e-3),)

    def coefficients(self, t: float) -> Numbers:
        return 0.1, (0.7,)

    def input_scale(self, t: float) -> float:
        return 0.5

    def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
        (p, (q,)), (raw,) = self.coefficients(float(t)), self.raws(0.5 * x, t, cond)
        return p * x + q * raw


class Twice(Network):
    """The same network with a second channel, which equals the first."""

    channels = ("main", "again")

    def coefficients(self, t: float, channel: str = "main") -> Numbers:
        assert channel in self.channels
        return super().coefficients(t)


class Guided:
    """An eps network with raw outputs ``a x`` (conditional) and ``b x``, and their guided sum."""

    schedule, prediction, shape = VP, "eps", None
    channels = ("main", "cond", "uncond")

    def __init__(self, scale: float, a: float, b: float) -> None:
        self.scale, self.a, self.b = scale, a, b
        self.read: list[tuple[str, ...]] = []

    def raws(
        self, x_in: Tensor, t: Any, cond: Any = None, channels: tuple[str, ...] = ("main",)
    ) -> tuple[Tensor, ...]:
        self.read.append(channels)
        return (self.a * x_in, self.b * x_in)

    def coefficients(self, t: float, channel: str = "main") -> Numbers:
        weights = {
            "main": (self.scale, 1.0 - self.scale),
            "cond": (1.0, 0.0),
            "uncond": (0.0, 1.0),
        }
        return 0.0, weights[channel]

    def input_scale(self, t: float) -> float:
        return 1.0

    def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
        raise AssertionError("plans ask for raw outputs")


class Untold(Guided):
    """The same network; ``raws`` gives all outputs and is not told what is read."""

    def raws(self, x_in: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().raws(x_in, t, cond, ())


class FlowMap:
    """The exact flow map of the data N(mean, std^2) from t to a second time, as the x0 with which
    one DDIM step lands on it."""

    schedule, prediction, shape = VP, "x0", None
    mean, std = 0.7, 0.5

    def moved(self, x: Tensor, t: float, to: float) -> Tensor:
        (m, v), (m_, v_) = self.law(t), self.law(to)
        return m_ + math.sqrt(v_ / v) * (x - m)

    def law(self, t: float) -> tuple[float, float]:
        node = VP.node(t)
        return node.alpha * self.mean, (node.alpha * self.std) ** 2 + node.sigma**2

    def raws(self, x_in: Tensor, t: Any, cond: Any = None, *, to: Any) -> tuple[Tensor, ...]:
        s, e = VP.node(float(t)), VP.node(float(to))
        ratio = e.sigma / s.sigma
        moved = self.moved(x_in, float(t), float(to))
        return ((moved - ratio * x_in) / (e.alpha - ratio * s.alpha),)

    def coefficients(self, t: float) -> Numbers:
        return 0.0, (1.0,)

    def input_scale(self, t: float) -> float:
        return 1.0

    def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
        raise AssertionError("a flow map has two times")


def read_again(plan: Plan, every: int = 1) -> Plan:
    """``plan`` with every so-manieth call read from the channel ``again``."""
    code, calls = [], 0
    for i in plan.code:
        if isinstance(i, Evaluate):
            if calls % every == 0:
                outs = tuple((value, kind, "again") for value, kind, _ in i.outs)
                i = dataclasses.replace(i, outs=outs)
            calls += 1
        code.append(i)
    return dataclasses.replace(plan, code=tuple(code))


def main_only(launches: tuple[Launch, ...]) -> tuple[Launch, ...]:
    """The launches without the channels that their calls read."""
    return tuple(
        launch
        if launch.call is None
        else dataclasses.replace(launch, call=dataclasses.replace(launch.call, channels=("main",)))
        for launch in launches
    )


def plan_of(name: str, **options: Any) -> tuple[Plan, Schedule]:
    """A plan of three steps, and the first of the paths that the sampler runs on."""
    for path in PATHS.values():
        try:
            return fewstep.plan(name, path, steps=3, **options), path
        except ValueError:
            continue
    raise AssertionError(name)


def cfg_pp(times: list[float]) -> Plan:
    """CFG++ (arXiv 2406.08070, alg. 2): the data part is guided, the noise part unconditional."""
    nodes = [VP.node(t) for t in times]
    b = PlanBuilder(nodes, name="cfg_pp")
    x = b.start(nodes[0])
    for s, t in pairwise(nodes):
        D, e = b.evaluate_kinds(x, s, ("x0", ("eps", "uncond")))
        x = b.at(t, t.alpha * D + t.sigma * e)
    return b.finish(x)


def flow_map(times: list[float]) -> Plan:
    nodes = [VP.node(t) for t in times]
    b = PlanBuilder(nodes, name="flow map")
    x = b.start(nodes[0])
    for s, t in pairwise(nodes):
        e = t.sigma / s.sigma
        x = b.at(t, e * x + (t.alpha - e * s.alpha) * b.evaluate(x, s, "x0", to=t))
    return b.finish(x)


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("name", [n for n in names("plan") if get(n).channels == ("main",)])
def test_equal_channels_change_nothing(name: str) -> None:
    """Every sampler on a network of two equal channels: the same launches and the same bits."""
    for options in ({}, *get(name).variants):
        plan, path = plan_of(name, **options)
        one, two = Network(path), Twice(path)
        generator = torch.Generator().manual_seed(2)
        noise = [torch.randn(3, 4, generator=generator) for _ in plan.draws]
        program, out = lower(plan, one), run_plan(plan, one, start(torch.float32), noise=noise)
        other = read_again(plan, 2)
        assert Plan.from_json(other.to_json()) == other != plan
        assert main_only(lower(other, two).launches) == program.launches
        assert main_only(lower(read_again(plan), two).launches) == program.launches
        assert torch.equal(run_plan(other, two, start(torch.float32), noise=noise), out)


def test_samplers_read_what_they_declare() -> None:
    for name in names("plan"):
        assert set(plan_of(name)[0].channels) <= set(get(name).channels)
    assert get("ddim").channels == ("main",)


@pytest.mark.parametrize("kind", [Guided, Untold])
@pytest.mark.parametrize("scale", [1.0, 3.5])
def test_channels_that_differ(kind: type[Guided], scale: float) -> None:
    """Every step of CFG++ on a linear network is a factor."""
    times = [1.0, 0.6, 0.3, 0.05, 0.0]
    plan = cfg_pp(times)
    a, b = 0.9, 0.6
    denoiser = kind(scale, a, b)
    assert (plan.nfe, plan.exactness, plan.channels) == (4, "exact", ("main", "uncond"))
    factor = 1.0
    for t, t_next in pairwise(times):
        s, e = VP.node(t), VP.node(t_next)
        guided = scale * a + (1.0 - scale) * b
        factor *= e.alpha * (1.0 - s.sigma * guided) / s.alpha + e.sigma * b
    out = run_plan(plan, denoiser, start())
    torch.testing.assert_close(out, factor * start(), rtol=1e-12, atol=1e-12)
    wrapped = fewstep.models.Wrapper(Counting(kind(scale, a, b)))  # type: ignore[arg-type]
    assert torch.equal(fewstep.run(plan, wrapped, start()), out)
    assert denoiser.read == [("main", "uncond") if kind is Guided else ()] * 4
    # one launch reads both raw outputs once
    launch = lower(plan, denoiser).launches[1]
    assert [o.kind for o in launch.operands].count("raw") == 2 and len(launch.outs) == 1
    # the guided noise part is another sampler
    other = fewstep.plan("ddim", VP, times=times)
    assert not torch.allclose(run_plan(other, denoiser, start()), out) or scale == 1.0


def test_outputs_by_channel() -> None:
    seen: list[Any] = []
    denoiser = Guided(2.0, 0.9, 0.6)
    run_plan(cfg_pp([1.0, 0.5, 0.0]), denoiser, start(), on_step=lambda s: seen.append(s))  # type: ignore[func-returns-value]
    step = seen[0]
    assert step.outputs.channels == ("main", "uncond")
    torch.testing.assert_close(step.outputs["eps"], 1.2 * step.x)
    assert torch.equal(step.outputs["eps"], step.outputs["eps", "main"])
    torch.testing.assert_close(step.outputs["eps", "uncond"], 0.6 * step.x)
    for key in (("eps", "cond"), "epsilon", ("epsilon", "main")):
        with pytest.raises(KeyError):
            step.outputs[key]


def test_a_missing_channel_is_refused_before_any_call() -> None:
    denoiser = Network(VP)
    with pytest.raises(PlanError, match=r"cfg_pp.*channel 'uncond'.*main"):
        run_plan(cfg_pp([1.0, 0.5, 0.0]), denoiser, start())
    with pytest.raises(PlanError, match="again"):
        run_plan(cfg_pp([1.0, 0.5, 0.0]), Twice(VP), start())
    with pytest.raises(PlanError, match=r"second time.*to="):
        run_plan(flow_map([1.0, 0.0]), denoiser, start())
    with pytest.raises(PlanError, match=r"second time.*to="):
        fewstep.run(flow_map([1.0, 0.0]), fewstep.models.Wrapper(denoiser), start())
    nodes = (VP.node(1.0), VP.node(0.5))
    timeless = dataclasses.replace(nodes[1], t=None)
    b = PlanBuilder(nodes)
    x = b.start(nodes[0])
    D, e = b.evaluate_kinds(x, nodes[0], ("x0", "eps"), timeless)
    plan = b.finish(b.at(nodes[1], nodes[1].alpha * D + nodes[1].sigma * e))
    with pytest.raises(PlanError, match="must have a t"):
        lower(plan, FlowMap())  # type: ignore[arg-type]
    assert not denoiser.calls


@pytest.mark.parametrize("times", [[1.0, 0.0], [1.0, 0.4, 0.0], [1.0, 0.3]])
def test_an_exact_flow_map_reaches_the_end(times: list[float]) -> None:
    """However few its calls; read at one time it is no sampler that does."""
    denoiser = FlowMap()
    wanted = denoiser.moved(start(), times[0], times[-1])
    plan = flow_map(times)
    assert plan.nfe == len(times) - 1
    out = run_plan(plan, denoiser, start())  # type: ignore[arg-type]
    torch.testing.assert_close(out, wanted, rtol=1e-12, atol=1e-12)
    # through the public function, and through wrappers
    wrapped = fewstep.models.Wrapper(Counting(denoiser))  # type: ignore[arg-type]
    assert torch.equal(fewstep.run(plan, denoiser, start()), out)  # type: ignore[arg-type]
    assert torch.equal(fewstep.run(plan, wrapped, start()), out)
    assert wrapped.two_times and wrapped.denoiser.calls == plan.nfe
    model = fewstep.models.GaussianMixture([[0.7]], [0.5], [1.0], VP, "x0")
    one_time = run_plan(fewstep.plan("ddim", VP, times=times), model, start()[:, :1])
    assert (one_time - wanted[:, :1]).abs().max() > 0.05


def test_plans_with_channels_are_saved_compared_and_printed() -> None:
    for plan in (cfg_pp([1.0, 0.5, 0.0]), flow_map([1.0, 0.5, 0.0])):
        again = Plan.from_json(plan.to_json())
        assert again == plan and plan.close(again) and hash(again) == hash(plan)
    plan = cfg_pp([1.0, 0.5, 0.0])
    assert "D1, eps2 = network(x0) as x0/eps[uncond]" in plan.explain()
    mapped = flow_map([1.0, 0.5, 0.0])
    assert "D1 = network(x0, to t=0.5) as x0" in mapped.explain()
    other = PlanBuilder(mapped.nodes)
    x = other.start(mapped.nodes[0])
    for s, t in zip(mapped.nodes, mapped.nodes[1:], strict=False):
        e = t.sigma / s.sigma
        D = other.evaluate(x, s, "x0", to=mapped.nodes[-1])
        x = other.at(t, e * x + (t.alpha - e * s.alpha) * D)
    assert not mapped.close(other.finish(x))
    assert not mapped.close(fewstep.plan("ddim", VP, times=[1.0, 0.5, 0.0]))
    assert mapped.close(flow_map([1.0, 0.5, 0.0]))


def test_texts_of_calls_are_strict() -> None:
    text = cfg_pp([1.0, 0.5, 0.0]).to_json()
    assert json.loads(text)["format"] == "fewstep.plan/2"
    for change in (
        lambda call: call["evaluate"][0].pop(),
        lambda call: call["evaluate"][0].append("main"),
        lambda call: call["evaluate"][0].__setitem__(2, ""),
        lambda call: call["evaluate"][0].__setitem__(2, 3),
        lambda call: call.pop("to"),
        lambda call: call.__setitem__("to", 0.5),
        lambda call: call["evaluate"].append(call["evaluate"][0]),
    ):
        body = json.loads(text)
        change(body["code"][0])
        with pytest.raises(PlanError):
            Plan.from_json(json.dumps(body))


def test_what_reads_a_plan_takes_channels_as_predictions_at_the_node() -> None:
    """Order walk, certificate on Gaussian data, local errors, transitions and the analytic first
    step of a plan do not depend on which channel it reads."""
    plan = fewstep.plan("dpmpp_2m", VP, grid="lam", steps=6, final="sigma_min")
    other = read_again(plan, 2)
    assert (local_defects(plan, 3) == local_defects(other, 3)).all()
    assert last_state(plan) == last_state(other)
    states = [start() * node.sigma for node in plan.nodes]
    assert defects(plan, Network(VP), states) == defects(other, Twice(VP), states)
    assert analytic_first_step(read_again(plan)) == read_again(analytic_first_step(plan))
    with pytest.raises(PlanError, match="two times"):
        analytic_first_step(flow_map([1.0, 0.5, 0.0]))
    noisy = fewstep.plan("ddim", VP, times=[1.0, 0.6, 0.3], eta=1.0)
    (first, _), (again, _) = transitions(noisy), transitions(read_again(noisy))
    x, value = start(), torch.ones(3, 4, dtype=torch.float64)
    assert torch.equal(first.mean(x, {"x0": value}), again.mean(x, {("x0", "again"): value}))  # type: ignore[dict-item]


def test_channels_are_names() -> None:
    b = PlanBuilder((VP.node(1.0), VP.node(0.5)))
    x = b.start(VP.node(1.0))
    for channel in (None, 0, ""):
        with pytest.raises(ArgumentTypeError, match="channel"):
            b.evaluate(x, VP.node(1.0), "x0", channel)  # type: ignore[arg-type]
    assert "channel" in inspect.signature(b.evaluate).parameters


GOLDEN = json.loads((ROOT / "tests" / "golden" / "version_0_1" / "plans.json").read_text())


@pytest.mark.parametrize("key", GOLDEN)
def test_plans_of_version_0_1_are_read(key: str) -> None:
    """Format 1: channel main, one time, ``consistency`` for ``exactness``; equal to what is built
    from the same times."""
    name, path, options = key.split(" ", 2)
    body = GOLDEN[key]
    assert body["format"] == "fewstep.plan/1"
    plan = Plan.from_json(json.dumps(body))
    assert plan.channels == ("main",) and plan.exactness == body["consistency"]
    times = [float(node["t"]) for node in body["nodes"]]
    assert plan == fewstep.plan(name, PATHS[path], times=times, **json.loads(options))
    assert Plan.from_json(plan.to_json()) == plan
    body = {**body, "format": "fewstep.plan/2"}
    with pytest.raises(PlanError):
        Plan.from_json(json.dumps(body))
