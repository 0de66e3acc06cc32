"""Gradients of runs: against autograd through the whole run, against differences, and what is
refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine.gradients import MODES, GradientError
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture, wrap
from fewstep.plans.transforms.live_buffers import live
from fewstep.samplers import get, names
from fewstep.schedules import EDM, Flow, VPLinear

F64 = torch.float64
PATHS = {"vp": VPLinear(), "edm": EDM(0.002, 80.0), "flow": Flow()}
EXACT = ("checkpoint", "checkpoint:sqrt")


class Net(nn.Module):
    """A network of two layers with a condition (B, 3) and a time."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def weights(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.5 * torch.randn(*shape, generator=generator, dtype=F64))

        self.first, self.last, self.embed = weights(3, 8), weights(8, 3), weights(3, 3)
        self.dropout = dropout
        self.calls, self.graphs = 0, 0

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        self.calls += 1
        self.graphs += torch.is_grad_enabled()
        hidden = torch.tanh(x @ self.first.to(x) + 0.1 * t[:, None].to(x))
        hidden = nn.functional.dropout(hidden, self.dropout, training=self.dropout > 0.0)
        return hidden @ self.last.to(x) + cond @ self.embed.to(x)


def wrapped(path: str, net: Net | None = None) -> fewstep.models.BaseDenoiser:
    net = Net() if net is None else net
    if path == "flow":
        return wrap(net, PATHS[path], "velocity", shape=(3,))
    return wrap(net, PATHS[path], "x0", "c_noise", precondition="edm", shape=(3,))


def inputs(dtype: torch.dtype = F64) -> tuple[Tensor, Tensor]:
    """A start state and a condition that require grad."""
    generator = torch.Generator().manual_seed(1)
    x, cond = (torch.randn(2, 3, generator=generator, dtype=F64).to(dtype) for _ in range(2))
    return x.requires_grad_(), cond.requires_grad_()


def gradients(den, plan, mode, dtype=F64, **more) -> list[Tensor]:
    """Gradients of the sum of squares of the result, by x, cond and the parameters."""
    x, cond = inputs(dtype)
    out = fewstep.run(plan, den, x, seeds=[1, 2], cond=cond, grad=mode, **more)
    wanted = [x, cond, *den.parameters()]
    found = torch.autograd.grad(out.square().sum(), wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, wanted, strict=True)]


def distance(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Largest relative difference."""
    pairs = zip(found, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)


def guided(den, plan):
    """The model that has the channels of the plan."""
    return CFG(den, 2.0, torch.zeros(1, 3, dtype=F64)) if "uncond" in plan.channels else den


@pytest.mark.parametrize("name", names("plan"))
def test_the_adjoint_is_the_gradient_of_autograd(name):
    """For every sampler with a plan, stochastic ones with their own noise, on three paths."""
    ran = 0
    for path, schedule in PATHS.items():
        if get(name).on == ("flow",) and path != "flow":
            continue
        try:
            plan = fewstep.plan(name, schedule, steps=4, grid="lam")
        except ArgumentError:
            continue  # made for another path: the registry's tests cover its refusal
        den = guided(wrapped(path), plan)
        wanted = gradients(den, plan, "full")
        for mode in EXACT:
            assert distance(gradients(den, plan, mode), wanted) < 1e-10, (path, mode)
        ran += 1
    assert ran or name in ("mr_ode", "mr_sde", "pfgmpp")


@pytest.mark.parametrize("path", PATHS)
def test_float32(path):
    den = wrapped(path)
    plan = fewstep.plan("dpmpp_2m", PATHS[path], steps=6, grid="lam")
    wanted = gradients(den, plan, "full", torch.float32)
    for mode in EXACT:
        assert distance(gradients(den, plan, mode, torch.float32), wanted) < 1e-5


@pytest.mark.parametrize("name", ["ddim", "unipc", "heun", "dpmpp_2m_sde"])
def test_gradcheck_on_the_exact_mixture(name):
    den = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.6, [0.5, 0.5], VPLinear())
    plan = fewstep.plan(name, den.schedule, steps=3, grid="lam")
    for mode in (*EXACT, "full"):
        x = torch.randn(2, 2, dtype=F64, generator=torch.Generator().manual_seed(3))
        assert torch.autograd.gradcheck(
            lambda x, mode=mode: fewstep.run(plan, den, x, seeds=[1, 2], grad=mode),
            x.requires_grad_(),
            atol=1e-7,
        )


def test_the_flow_map_of_a_gaussian_has_its_closed_form_gradient():
    """Data N(0, s^2) on alpha = 1: dx_0/dx_T tends to s / sqrt(s^2 + sigma_max^2)."""
    den = GaussianMixture([[0.0]], 0.7, [1.0], EDM(0.002, 80.0))
    x = torch.tensor([[30.0]], dtype=F64, requires_grad=True)
    out = fewstep.sample(den, "dpmpp_3m", steps=160, grid="karras", x=x, grad="checkpoint")
    out.backward()
    assert float(x.grad) == pytest.approx(0.7 / math.sqrt(0.49 + 6400.0), rel=1e-4)


def test_the_gradient_by_a_clean_start():
    den = wrapped("vp")
    init = torch.randn(2, 3, dtype=F64, generator=torch.Generator().manual_seed(2))
    init.requires_grad_()
    given = {"steps": 4, "start": 0.5, "seeds": [1, 2], "cond": torch.ones(2, 3, dtype=F64)}
    found = [
        torch.autograd.grad(fewstep.sample(den, "ddim", init=init, grad=mode, **given).sum(), init)[
            0
        ]
        for mode in ("full", "checkpoint")
    ]
    assert torch.allclose(found[0], found[1], rtol=1e-12) and bool((found[0] != 0).all())


def test_a_guidance_scale_is_trained_through_the_sampler():
    net, (x, cond) = wrapped("vp"), inputs()
    grads = {}
    for mode in ("full", *EXACT):
        w = torch.tensor(2.0, dtype=F64, requires_grad=True)
        den = CFG(net, w, torch.zeros(1, 3, dtype=F64))
        out = fewstep.sample(den, "dpmpp_2m", steps=5, x=x, cond=cond, grad=mode)
        (grads[mode],) = torch.autograd.grad(out.square().sum(), w)
    step, value = 1e-5, {}
    for side in (-1, 1):
        den = CFG(net, 2.0 + side * step, torch.zeros(1, 3, dtype=F64))
        given = {"steps": 5, "grid": "auto", "x": x.detach(), "cond": cond.detach()}
        value[side] = float(fewstep.sample(den, "dpmpp_2m", **given).square().sum())
    difference = (value[1] - value[-1]) / (2.0 * step)
    for mode, found in grads.items():
        assert float(found) == pytest.approx(difference, rel=1e-7), mode


def test_calls_and_graphs():
    """Checkpoint calls the network once more for each call, and sqrt at most twice; the forward
    pass records one graph, to look at it."""
    for mode, most in (("full", 20), ("checkpoint", 40), ("checkpoint:sqrt", 60)):
        net = Net()
        den = wrapped("vp", net)
        plan = fewstep.plan("dpmpp_2m", VPLinear(), steps=20, grid="lam")
        x, cond = inputs()
        out = fewstep.run(plan, den, x, cond=cond, grad=mode)
        assert net.calls == plan.nfe == 20
        assert net.graphs == (20 if mode == "full" else 1)
        out.sum().backward()
        assert net.calls <= most and net.calls >= most - 5


def saved_bytes(mode: str, steps: int, sampler: str = "dpmpp_2m") -> int:
    """Bytes that are kept for the backward pass, by saved-tensor hooks."""
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no memory is used twice

    def pack(t: Tensor) -> Tensor:
        alive.append(t.detach())
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    net = Net()
    den = wrapped("vp", net)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, 3, generator=generator, dtype=F64).requires_grad_()
    end = "sigma_min" if mode == "adjoint" else "zero"
    plan = fewstep.plan(sampler, VPLinear(), steps=steps, grid="lam", final=end)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        given = {"cond": torch.zeros(512, 3, dtype=F64), "grad": mode}
        out = fewstep.run(plan, den, x, **given)
    assert out.requires_grad
    return sum(sizes.values())


def test_what_is_kept():
    state = 512 * 3 * 8
    assert saved_bytes("checkpoint", 40) == pytest.approx(40 * state, rel=0.15)
    # dpmpp_2m has two or three live buffers; the first call is looked at with a graph
    assert saved_bytes("checkpoint:sqrt", 100) < 10 * 3.2 * state + 60_000
    assert saved_bytes("full", 40) > 3.0 * saved_bytes("checkpoint", 40)


def test_the_live_buffers_are_those_that_are_read():
    from fewstep.plans import lower

    plan = fewstep.plan("dpmpp_3m", VPLinear(), steps=8, grid="lam")
    program = lower(plan, wrapped("vp"))
    assert all(1 <= len(live(program, k)) <= 5 for k in range(len(program.calls)))


@pytest.mark.parametrize("last", [1, 2, 4, 9])
@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp_2m"])
def test_truncated(name, last):
    """The gradient through the last K grid steps, earlier states being constants; all steps for a
    K beyond their number."""
    net = Net()
    den, (x, cond) = wrapped("vp", net), inputs()
    plan = fewstep.plan(name, VPLinear(), steps=4, grid="lam")
    found = gradients(den, plan, f"truncated:{last}")
    if last >= 4:
        assert distance(found, gradients(den, plan, "checkpoint")) < 1e-12
        return
    assert bool((found[0] == 0.0).all())

    # by hand: the run up to there without a graph, and the rest with one
    calls = 0
    begin = len(plan.evaluations) - {"ddim": last, "dpmpp_2m": last, "heun": 2 * last - 1}[name]
    ask = net.forward

    def counted(*given: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        with torch.set_grad_enabled(calls > begin):
            return ask(*given)

    net.forward = counted  # type: ignore[method-assign]
    den = wrapped("vp", net)
    out = fewstep.run(plan, den, x.detach(), cond=cond, grad="full", parameters=[*net.parameters()])
    wanted = torch.autograd.grad(out.square().sum(), [cond, *net.parameters()])
    assert distance(found[1:], list(wanted)) < 1e-10


def test_dropout_draws_again_what_it_drew():
    net = Net(dropout=0.4)
    den = wrapped("vp", net)
    plan = fewstep.plan("dpmpp_2m", VPLinear(), steps=6, grid="lam")
    grads, after = {}, {}
    for mode in ("full", *EXACT):
        torch.manual_seed(7)
        grads[mode] = gradients(den, plan, mode)
        after[mode] = torch.rand(2)
    for mode in EXACT:
        assert distance(grads[mode], grads["full"]) < 1e-10
        assert torch.equal(after[mode], after["full"])  # the generator goes on as without it


def test_autocast_is_restored():
    linear = nn.Linear(3, 3)
    den = wrap(lambda x, t: linear(x), VPLinear(), "eps", shape=(3,))
    plan = fewstep.plan("ddim", VPLinear(), steps=3, grid="lam")
    found = {}
    for mode in ("full", "checkpoint"):
        x = inputs(torch.float32)[0]
        with torch.autocast("cpu", torch.bfloat16):
            out = fewstep.run(plan, den, x, grad=mode, parameters=[*linear.parameters()])
        found[mode] = torch.autograd.grad(out.float().sum(), [x, linear.weight])
    assert distance(list(found["checkpoint"]), list(found["full"])) < 2e-2


def test_saved_tensors_go_through_hooks():
    """``save_on_cpu`` sees what is kept; it gives copies back."""
    den = wrapped("vp")
    plan = fewstep.plan("ddim", VPLinear(), steps=3, grid="lam", final="sigma_min")
    for mode in (*EXACT, "adjoint"):
        with torch.autograd.graph.save_on_cpu():
            found = gradients(den, plan, mode)
        assert distance(found, gradients(den, plan, mode)) < 1e-14, mode


def test_a_callback_in_a_run_with_a_graph():
    den, (x, cond) = wrapped("vp"), inputs()
    given = {"steps": 3, "grid": "lam", "cond": cond, "grad": "full"}
    plain = fewstep.sample(den, "ddim", x=x, **given)
    halved = fewstep.sample(den, "ddim", x=x, callback=lambda s: 0.5 * s.x_next, **given)
    grads = [torch.autograd.grad(v.sum(), x)[0] for v in (plain, halved)]
    assert not torch.allclose(*grads)


def test_without_grad_nothing_is_recorded():
    den, (x, cond) = wrapped("vp"), inputs()
    assert not fewstep.sample(den, "ddim", steps=3, x=x, cond=cond).requires_grad


ADJOINTS = [
    ("edm", "dpmpp_3m", "adjoint", 2.0),
    ("edm", "dpmpp_3m", "adjoint:heun", 2.0),
    ("edm", "dpmpp_3m", "adjoint:ddim", 1.0),
    ("vp", "dpmpp_3m", "adjoint:flow_heun", 2.0),
    ("flow", "flow_heun", "adjoint", 2.0),
    ("flow", "flow_euler", "adjoint:flow_euler", 1.0),
]


@pytest.mark.parametrize(("path", "sampler", "mode", "order"), ADJOINTS)
def test_the_continuous_adjoint_converges_at_the_order_of_its_solver(path, sampler, mode, order):
    """To the gradient of the exact flow map of Gaussian data, s_end / s_start."""
    schedule = PATHS[path]
    kind = "velocity" if path == "flow" else "eps"
    den = GaussianMixture([[0.4]], 0.6, [1.0], schedule, kind)
    first, last = schedule.node(schedule.t_max), schedule.node(schedule.t_min)
    exact = math.hypot(0.6 * last.alpha, last.sigma) / math.hypot(0.6 * first.alpha, first.sigma)
    errors = []
    for steps in (160, 320):
        x = torch.tensor([[0.7 * schedule.prior_scale]], dtype=F64, requires_grad=True)
        grid = "uniform" if path == "flow" else "lam"
        given = {"steps": steps, "grid": grid, "final": "sigma_min", "grad": mode}
        out = fewstep.sample(den, sampler, x=x, **given)
        (found,) = torch.autograd.grad(out.sum(), x)
        errors.append(abs(float(found) / exact - 1.0))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("path", ["edm", "flow"])
def test_the_continuous_adjoint_of_conditions_and_parameters(path):
    """It tends to the gradient of autograd for the condition and the parameters too."""
    mode, sampler = ("adjoint", "flow_heun") if path == "flow" else ("adjoint:heun", "heun")
    net = Net()
    den = (
        wrapped(path, net)
        if path == "flow"
        else wrap(net, PATHS[path], "eps", "c_noise", shape=(3,))
    )
    distances = []
    for steps in (40, 80):
        given = {"steps": steps, "start": PATHS[path].t_max if path == "flow" else 2.0}
        plan = fewstep.plan(
            sampler, PATHS[path], grid="uniform" if path == "flow" else "lam", final="sigma_min",
            **given,
        )  # fmt: skip
        full, own = (gradients(den, plan, m) for m in ("full", mode))
        distances.append(distance(own, full))
    assert distances[1] < 0.02 and distances[0] / distances[1] > 2.5


def test_the_continuous_adjoint_keeps_the_result_only():
    state = 512 * 3 * 8
    assert saved_bytes("adjoint", 40) < 4 * state


def test_the_continuous_adjoint_is_refused_where_it_has_no_meaning():
    den, (x, cond) = wrapped("vp"), inputs()
    given = {"steps": 4, "x": x, "cond": cond}
    with pytest.raises(GradientError, match="draws noise"):
        fewstep.sample(den, "dpmpp_2m_sde", grad="adjoint", **given)
    with pytest.raises(ArgumentError, match="says nothing about eps"):
        fewstep.sample(den, "ddim", grad="adjoint", **given)  # x0 at sigma = 0
    with pytest.raises(ArgumentError, match="unknown sampler 'hein'"):
        fewstep.sample(den, "ddim", grad="adjoint:hein", final="sigma_min", **given)
    with pytest.raises(ArgumentError, match="draws noise"):
        fewstep.sample(den, "ddim", grad="adjoint:ddpm", final="sigma_min", **given)
    flow = wrapped("flow")
    with pytest.raises(ArgumentError, match=r"alpha = 0|from t=0.0"):
        fewstep.sample(flow, "flow_euler", grad="adjoint:dpm_solver_2m", **given)


WRONG = [
    ({"grad": "chekpoint"}, "did you mean 'checkpoint'"),
    ({"grad": "truncated:0"}, "K is a number of grid steps"),
    ({"grad": "truncated"}, "truncated:K"),
    ({"grad": True}, "grad"),
    ({"grad": "checkpoint", "callback": lambda s: None}, "with a callback"),
    ({"grad": "checkpoint", "progress": lambda a, b: None}, "progress report"),
    ({"parameters": []}, "parameters= without grad="),
    ({"grad": "checkpoint", "parameters": [torch.zeros(2)]}, "leaf tensors that require grad"),
    ({"grad": "checkpoint", "sampler": "dpm_adaptive", "steps": None}, "dpm_adaptive is a driver"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_wrong_arguments_are_refused_before_the_first_call(given, message):
    net = Net()
    den, (x, cond) = wrapped("vp", net), inputs()
    every = {"sampler": "ddim", "steps": 3, "x": x, "cond": cond, **given}
    with pytest.raises((ArgumentError, GradientError), match=message):
        fewstep.sample(den, **{k: v for k, v in every.items() if v is not None})
    assert net.calls == 0


def test_what_has_no_gradient_is_refused():
    net, (x, cond) = Net(), inputs()
    den = wrapped("vp", net)
    with torch.no_grad(), pytest.raises(GradientError, match=r"inside torch\.no_grad"):
        fewstep.sample(den, "ddim", steps=3, x=x, cond=cond, grad="checkpoint")
    frozen = wrapped("vp", Net().requires_grad_(False))
    given = {"steps": 3, "x": x.detach(), "cond": cond.detach()}
    for mode in ("full", "checkpoint"):
        with pytest.raises(GradientError, match="nothing requires grad"):
            fewstep.sample(frozen, "ddim", grad=mode, **given)
    with pytest.raises(GradientError, match="only the start state requires grad"):
        fewstep.sample(frozen, "ddim", grad="truncated:1", **{**given, "x": x})
    assert net.calls == 0


@pytest.mark.parametrize("mode", EXACT)
def test_a_gradient_that_would_be_lost_is_refused_at_the_first_call(mode):
    x, _ = inputs()
    detached = wrap(lambda x, t: torch.tanh(x.detach()), VPLinear(), "eps", shape=(3,))
    with pytest.raises(GradientError, match="does not depend on its input for autograd"):
        fewstep.sample(detached, "ddim", steps=3, x=x, grad=mode)
    weight = torch.ones(3, dtype=F64, requires_grad=True)
    closure = wrap(lambda x, t: torch.tanh(x * weight), VPLinear(), "eps", shape=(3,))
    with pytest.raises(GradientError, match=r"shape \(3,\).*pass it in parameters="):
        fewstep.sample(closure, "ddim", steps=3, x=x, grad=mode)
    out = fewstep.sample(closure, "ddim", steps=3, x=x, grad=mode, parameters=[weight])
    full = fewstep.sample(closure, "ddim", steps=3, x=x, grad="full")
    found, wanted = (torch.autograd.grad(v.sum(), [x, weight]) for v in (out, full))
    assert distance(list(found), list(wanted)) < 1e-12


def test_the_modes_are_listed():
    with pytest.raises(ArgumentError, match=", ".join(sorted(MODES))):
        fewstep.sample(wrapped("vp"), "ddim", steps=3, x=inputs()[0], grad="x")
