"""Gradients of runs, in numbers: every option of every sampler, float32, memory and calls at many
steps, and networks, conditions and passes that are out of the ordinary."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import pairwise

import pytest
import torch
from repository import ROOT
from torch import Tensor, nn

import fewstep
from fewstep.engine.gradients import GradientError
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture, wrap
from fewstep.plans import Combine, Plan, PlanBuilder
from fewstep.samplers import get, names
from fewstep.schedules import EDM, Flow, VPLinear

F64 = torch.float64
PATHS = {"vp": VPLinear(), "edm": EDM(0.002, 80.0), "flow": Flow()}
EXACT = ("checkpoint", "checkpoint:sqrt")
#: gradients smaller than this count as this
SMALL = 1e-12


class Channels(GaussianMixture):
    """The exact model with channels that all read the same."""

    channels = ("main", "cond", "uncond")

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        assert channel in self.channels
        return super().coefficients(t)


class Net(nn.Module):
    """Two layers that read the state (3), the time, and a condition (B, 3) or a mapping."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = (
            nn.Parameter(0.4 * torch.randn(*shape, generator=generator, dtype=F64))
            for shape in ((3, width), (width, 3))
        )
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self.calls += 1
        hidden = torch.tanh(x @ self.first.to(x) + 0.1 * t[:, None].to(x))
        out = hidden @ self.last.to(x)
        return out if cond is None else out + cond * x.sum(1, keepdim=True)


def start(*shape: int, dtype: torch.dtype = F64, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=F64).to(dtype)


def distance(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Largest relative difference."""
    pairs = zip(found, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=SMALL)) for a, b in pairs)


def gradients(plan: Plan, den: fewstep.models.BaseDenoiser, mode: str, x: Tensor, **more):
    """Gradients of a weighted sum of the result, by the start, the conditions and the
    parameters."""
    x = x.clone().requires_grad_()
    cond = more.get("cond")
    given = cond.values() if isinstance(cond, dict) else [] if cond is None else [cond]
    leaves = [x, *(c for c in given if c.requires_grad), *den.parameters()]
    out = fewstep.run(plan, den, x, seeds=list(range(len(x))), grad=mode, **more)
    weights = start(*out.shape, dtype=out.dtype, seed=5)
    return list(torch.autograd.grad((out * weights).sum(), leaves))


@pytest.mark.parametrize("name", names("plan"))
def test_every_option_on_the_exact_model(name):
    """The registry's defaults and variants, on their own path."""
    path = PATHS[get(name).on[0]]
    den = Channels([[0.7, -0.4], [-0.5, 0.3]], 0.5, [0.4, 0.6], path, "v")
    for options in ({}, *get(name).variants):
        try:
            plan = fewstep.plan(name, path, steps=4, grid="lam", **options)
        except fewstep.checks.ArgumentError:
            assert name in ("mr_ode", "mr_sde", "pfgmpp")
            continue
        wanted = gradients(plan, den, "full", start(2, 2))
        zero = forgets(plan)
        assert zero == (float(wanted[0].abs().max()) < 1e-16), options
        for mode in EXACT:
            found = gradients(plan, den, mode, start(2, 2))
            if zero:  # terms of size 1 that cancel: half a unit of rounding
                assert float(found[0].abs().max()) < 1e-16, (options, mode)
            else:
                assert distance(found, wanted) < 1e-10, (options, mode)


def forgets(plan: Plan) -> bool:
    """Whether a run from alpha = 0 goes on from the data prediction there alone, which is the mean for
    every state, and fresh noise. Then the gradient by the start is 0."""
    read = {value for i in plan.code if isinstance(i, Combine) for value, _ in i.terms}
    return plan.start.alpha == 0.0 and 0 not in read


@pytest.mark.parametrize("name", ["ddim", "unipc", "heun", "dpmpp_3m", "dpmpp_2m_sde", "seeds_3"])
def test_float32_is_as_good_as_its_rounding(name):
    """Both modes and autograd are within 1e-5 of the gradient in float64."""
    plan = fewstep.plan(name, PATHS["edm"], steps=8, grid="lam")

    def found(mode: str, dtype: torch.dtype) -> list[Tensor]:
        den = wrap(Net(), PATHS["edm"], "x0", "c_noise", precondition="edm", shape=(3,))
        noise = [start(2, 3, dtype=dtype, seed=k) for k in range(len(plan.draws))]
        x = (80.0 * start(2, 3)).to(dtype).requires_grad_()
        out = fewstep.run(plan, den, x, noise=noise, grad=mode)
        return list(torch.autograd.grad(out.sum(), [x, *den.parameters()]))

    exact = found("full", F64)
    for mode in (*EXACT, "full"):
        single = [g.to(F64) for g in found(mode, torch.float32)]
        assert distance(single, exact) < 1e-5, mode


class Meter:
    """Bytes of the distinct storages that autograd holds, the parameters' aside: now, and at
    most."""

    def __init__(self, net: nn.Module) -> None:
        self.own = {p.untyped_storage().data_ptr() for p in net.parameters()}
        self.held: Counter[int] = Counter()
        self.now = self.peak = 0

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        return torch.autograd.graph.saved_tensors_hooks(
            lambda t: Held(self, t.detach()), lambda held: held.tensor
        )


class Held:
    def __init__(self, meter: Meter, tensor: Tensor) -> None:
        self.meter, self.tensor = meter, tensor
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in meter.own:
            meter.now += 0 if meter.held[storage.data_ptr()] else storage.nbytes()
            meter.held[storage.data_ptr()] += 1
            meter.peak = max(meter.peak, meter.now)

    def __del__(self) -> None:
        storage, meter = self.tensor.untyped_storage(), self.meter
        if storage.data_ptr() not in meter.own:
            meter.held[storage.data_ptr()] -= 1
            meter.now -= 0 if meter.held[storage.data_ptr()] else storage.nbytes()


def memory(mode: str, steps: int) -> tuple[int, int, int]:
    """Bytes kept between the passes, the largest sum over both, and what is left afterwards. The
    graph of one call is some 660 times a state."""
    net = Net(width=2000)
    den = wrap(net, PATHS["vp"], "eps", shape=(3,))
    plan = fewstep.plan("dpmpp_2m", PATHS["vp"], steps=steps, grid="lam", final="sigma_min")
    meter = Meter(net)
    with meter.hooks():
        x = start(64, 3).requires_grad_()
        out = fewstep.run(plan, den, x, grad=mode)
        kept = meter.now
        out.sum().backward()
    assert x.grad is not None and net.first.grad is not None
    del out
    return kept, meter.peak, meter.now


def test_memory_at_100_steps_and_at_10():
    """``checkpoint`` keeps N states and at most one graph beside them; ``full`` grows with N."""
    state = 64 * 3 * 8
    full = [memory("full", n) for n in (10, 100)]
    assert full[1][1] / full[0][1] == pytest.approx(10.0, rel=0.05)
    kept, peak, left = zip(*(memory("checkpoint", n) for n in (10, 100)), strict=True)
    assert kept[0] == 10 * state and kept[1] == 100 * state
    graph = full[0][0] // 10
    assert graph > 600 * state
    assert all(p < 1.1 * graph + k for p, k in zip(peak, kept, strict=True))
    assert peak[1] < 1.3 * peak[0] and left == (0, 0)
    kept, peak, _ = zip(*(memory("checkpoint:sqrt", n) for n in (10, 100)), strict=True)
    assert kept[1] <= 3 * 10 * state and peak[1] < 1.1 * peak[0]
    kept, peak, _ = zip(*(memory("truncated:5", n) for n in (10, 100)), strict=True)
    assert kept == (5 * state, 5 * state) and peak[0] == peak[1]
    kept, peak, _ = zip(*(memory("adjoint", n) for n in (10, 100)), strict=True)
    assert kept[0] == kept[1] <= 2 * state and peak[0] == peak[1]


@pytest.mark.parametrize(
    ("sampler", "steps", "calls"),
    [("dpmpp_2m", 40, 40), ("unipc", 40, 40), ("heun", 20, 39), ("dpmpp_2m_sde", 40, 40)],
)
def test_each_call_is_made_once_more(sampler, steps, calls):
    net = Net()
    den = wrap(net, PATHS["vp"], "eps", shape=(3,))
    plan = fewstep.plan(sampler, PATHS["vp"], steps=steps, grid="lam")
    out = fewstep.run(plan, den, start(2, 3).requires_grad_(), seeds=[1, 2], grad="checkpoint")
    assert net.calls == plan.nfe == calls
    out.sum().backward()
    assert 2 * calls - 1 <= net.calls <= 2 * calls


def cfg_pp(schedule: VPLinear, times: list[float]) -> Plan:
    """Data part guided, noise part unconditional (CFG++, arXiv 2406.08070, alg. 2)."""
    nodes = [schedule.node(t) for t in times]
    b = PlanBuilder(nodes, name="cfg_pp")
    x = b.start(nodes[0])
    for s, t in pairwise(nodes):
        data, noise = b.evaluate_kinds(x, s, ("x0", ("eps", "uncond")))
        x = b.at(t, t.alpha * data + t.sigma * noise)
    return b.finish(x)


@pytest.mark.parametrize("trained", [False, True])
def test_a_plan_that_reads_two_channels(trained):
    """With a scale that folds into the step, and with one that requires grad."""
    plan = cfg_pp(VPLinear(), [1.0, 0.7, 0.4, 0.1, 0.0])
    net = wrap(Net(), VPLinear(), "eps", shape=(3,))
    w = torch.tensor([1.5, 3.0], dtype=F64, requires_grad=True) if trained else 2.0
    den = CFG(net, w, torch.zeros(1, 3, dtype=F64))
    cond = start(2, 3, seed=2).requires_grad_()
    wanted = gradients(plan, den, "full", start(2, 3), cond=cond)
    assert len(wanted) == 4 + trained and all(bool((g != 0.0).any()) for g in wanted)
    for mode in EXACT:
        assert distance(gradients(plan, den, mode, start(2, 3), cond=cond), wanted) < 1e-10


@pytest.mark.parametrize("end", [0.0, 0.05])
@pytest.mark.parametrize("prediction", ["velocity", "x0", "eps"])
@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc", "flow_heun"])
def test_both_ends_of_a_flow(name, prediction, end):
    """From alpha = 0, to sigma = 0 and to a larger sigma. An x0 or eps that is not defined at an end is
    refused as it is without ``grad``."""
    path = PATHS["flow"]
    plan = fewstep.plan(name, path, times=[1.0, 0.8, 0.5, 0.2, end])
    assert plan.start.alpha == 0.0 and plan.end.sigma == end
    den = wrap(Net(), path, prediction, shape=(3,))
    try:
        fewstep.run(plan, den, start(2, 3))
    except fewstep.checks.ArgumentError as error:
        for mode in ("full", *EXACT):
            with pytest.raises(type(error)):
                gradients(plan, den, mode, start(2, 3))
        return
    wanted = gradients(plan, den, "full", start(2, 3))
    for mode in EXACT:
        assert distance(gradients(plan, den, mode, start(2, 3)), wanted) < 1e-10


@pytest.mark.parametrize("mode", EXACT)
def test_a_mapping_with_integers_masks_and_a_tensor_twice(mode):
    """Gradients go to the floating tensors that require grad, through what made them too."""
    embedding = nn.Parameter(start(4, 3))

    def network(x: Tensor, t: Tensor, cond: dict[str, Tensor]) -> Tensor:
        shift = cond["text"] + cond["again"].square() * cond["mask"] + cond["fixed"]
        return torch.tanh(x + shift) * (1.0 + cond["label"][:, None])

    den = wrap(network, PATHS["vp"], "eps", shape=(3,))
    plan = fewstep.plan("dpmpp_2m", PATHS["vp"], steps=4, grid="lam")
    found = []
    for each in ("full", mode):
        text = 0.5 * embedding[torch.tensor([2, 0])]  # made before the run, by a graph of its own
        cond = {
            "text": text,
            "again": text,
            "mask": torch.tensor([[True], [False]]),
            "label": torch.tensor([1, 2]),
            "fixed": torch.ones(2, 3, dtype=F64),
        }
        x = start(2, 3).requires_grad_()
        out = fewstep.run(plan, den, x, cond=cond, grad=each)
        found.append(list(torch.autograd.grad(out.square().sum(), [x, embedding])))
    assert distance(found[1], found[0]) < 1e-12
    assert bool((found[0][1][1] == 0.0).all()) and bool((found[0][1][2] != 0.0).all())


def test_a_network_that_works_in_place():
    """It may write into its input and into its own values: a call gets a copy of the state."""
    linear = nn.Linear(3, 3, dtype=F64)

    def network(x: Tensor, t: Tensor) -> Tensor:
        x.mul_(0.5)
        return linear(x).tanh_()

    den = wrap(network, PATHS["vp"], "eps", shape=(3,))
    plan = fewstep.plan("dpmpp_2m", PATHS["vp"], steps=4, grid="lam")
    given = {"parameters": [*linear.parameters()]}
    found = []
    for mode in ("full", *EXACT):
        x = start(2, 3).requires_grad_()
        out = fewstep.run(plan, den, x, grad=mode, **given)
        assert torch.equal(x.detach(), start(2, 3))
        found.append(list(torch.autograd.grad(out.square().sum(), [x, *linear.parameters()])))
    assert distance(found[1], found[0]) < 1e-12 and distance(found[2], found[0]) < 1e-12


@pytest.mark.parametrize("mode", EXACT)
def test_backward_passes_in_threads(mode):
    """Of runs of one network, and of one result by several threads at once."""
    den = wrap(Net(), PATHS["vp"], "eps", shape=(3,))
    plan = fewstep.plan("dpmpp_2m_sde", PATHS["vp"], steps=12, grid="lam")
    wanted = [gradients(plan, den, mode, start(2, 3, seed=k)) for k in range(4)]
    found: dict[int, list[Tensor]] = {}
    x = start(2, 3, seed=0).requires_grad_()
    out = fewstep.run(plan, den, x, seeds=[0, 1], grad=mode)
    loss = (out * start(2, 3, seed=5)).sum()

    def work(k: int) -> None:
        if k < 4:
            found[k] = gradients(plan, den, mode, start(2, 3, seed=k))
        else:
            leaves = [x, *den.parameters()]
            found[k] = list(torch.autograd.grad(loss, leaves, retain_graph=True))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(8):
        assert distance(found[k], wanted[k if k < 4 else 0]) < 1e-12


@pytest.mark.parametrize("mode", [*EXACT, "adjoint"])
def test_second_derivatives_and_torch_func_need_the_whole_graph(mode):
    den = wrap(Net().requires_grad_(False), PATHS["vp"], "eps", shape=(3,))
    plan = fewstep.plan("ddim", PATHS["vp"], steps=3, grid="lam", final="sigma_min")

    def loss(x: Tensor, mode: str) -> Tensor:
        return fewstep.run(plan, den, x, grad=mode).square().sum()

    x = start(2, 3).requires_grad_()
    with pytest.raises(GradientError, match="use grad='full' for second derivatives"):
        torch.autograd.grad(loss(x, mode), x, create_graph=True)
    with pytest.raises(GradientError, match=r"torch\.func.*needs grad='full'"):
        torch.func.grad(loss)(x.detach(), mode)
    (first,) = torch.autograd.grad(loss(x, "full"), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    step = 1e-5
    sides = [
        torch.autograd.grad(loss(y.requires_grad_(), mode), y)[0]
        for y in (x.detach() + step, x.detach() - step)
    ]
    if mode != "adjoint":  # the Hessian is symmetric
        assert torch.allclose(second, (sides[0] - sides[1]) / (2.0 * step), rtol=1e-6, atol=1e-8)
        assert torch.allclose(torch.func.grad(loss)(x.detach(), "full"), first, rtol=1e-12)


def test_a_noise_that_requires_grad_is_followed_or_refused():
    den = wrap(Net(), PATHS["vp"], "eps", shape=(3,))
    plan = fewstep.plan("ddpm", PATHS["vp"], steps=3, grid="lam")
    noise = [start(2, 3, seed=k).requires_grad_() for k in range(len(plan.draws))]
    for mode in (*EXACT, "truncated:1"):
        with pytest.raises(GradientError, match="noise 0 requires grad"):
            fewstep.run(plan, den, start(2, 3), noise=noise, grad=mode)
    out = fewstep.run(plan, den, start(2, 3), noise=noise, grad="full")
    assert all(bool((g != 0.0).any()) for g in torch.autograd.grad(out.sum(), noise))


@pytest.mark.parametrize("mode", ["full", *EXACT])
def test_a_network_without_gradients_is_refused(mode):
    """Its first call shows it, in ``full`` too, where the rest of the graph would hide it."""
    linear = nn.Linear(3, 3, dtype=F64)
    plan = fewstep.plan("ddim", PATHS["vp"], steps=3, grid="lam")

    @torch.no_grad()
    def switched(x: Tensor, t: Tensor) -> Tensor:
        return linear(x)

    def detached(x: Tensor, t: Tensor) -> Tensor:
        return linear(x.detach())

    for network in (switched, detached):
        den = wrap(network, PATHS["vp"], "eps", shape=(3,))
        for x in (start(2, 3).requires_grad_(), 2.0 * start(2, 3).requires_grad_()):
            with pytest.raises(GradientError, match="does not depend on its input"):
                fewstep.run(plan, den, x, grad=mode, parameters=[*linear.parameters()])


@pytest.mark.parametrize("mode", EXACT)
def test_a_weight_that_changed_between_the_passes_is_refused(mode):
    net = Net()
    den = wrap(net, PATHS["vp"], "eps", shape=(3,))
    plan = fewstep.plan("ddim", PATHS["vp"], steps=3, grid="lam")
    out = fewstep.run(plan, den, start(2, 3).requires_grad_(), grad=mode)
    with torch.no_grad():
        net.first.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_the_measured_table_is_within_its_bounds():
    """The table of docs/gradients.md, as benchmarks/gradients.py wrote it."""
    page = (ROOT / "docs" / "gradients.md").read_text(encoding="utf-8")
    text = page.split("<!-- table of benchmarks/gradients.py -->")[1].split("<!-- end")[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    found = {(row[0].strip("`"), int(row[1])): dict(zip(head, row, strict=True)) for row in rows}
    assert {n for _, n in found} == {10, 50, 100}

    def value(mode: str, steps: int, column: str) -> float:
        return float(found[mode, steps][column])

    assert value("full", 100, "peak MB") > 9.5 * value("full", 10, "peak MB")
    assert value("checkpoint", 100, "peak MB") < 1.3 * value("checkpoint", 10, "peak MB")
    for n in (10, 50, 100):
        for column in ("time", "time, start alone"):
            assert value("checkpoint", n, column) <= 1.6
            assert value("checkpoint:sqrt", n, column) <= 2.0
        assert found["checkpoint", n]["calls"] == f"{n} + {n}"
