"""``torch.compile`` of ``run``, ``sample`` and a cursor's loop: one graph, no break, no
recompilation; and the transforms of ``torch.func``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import grad, jacfwd, jacrev, jvp, vmap

import fewstep
from fewstep import guidance, models, schedules
from fewstep.checks import ArgumentError
from fewstep.plans.running.loop import Cursor

Function = Callable[[Tensor], Tensor]


class Net(torch.nn.Module):
    """A network of states of 6 numbers with a label of 3 classes, and one for none."""

    null_label = 3

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(6, 16), torch.nn.Linear(16, 6)
        self.label = torch.nn.Embedding(4, 16)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        hidden = self.first(x) + t.to(x.dtype)[:, None] * 0.01
        if cond is not None:
            hidden = hidden + self.label(cond)
        out: Tensor = self.last(torch.tanh(hidden))
        return out


def network(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net().eval().requires_grad_(False)


def states(batch: int = 4) -> Tensor:
    return torch.randn(batch, 6, generator=torch.Generator().manual_seed(batch))


VP = schedules.VPLinear()
TABLE = schedules.DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000))
LABELS = torch.tensor([0, 1, 2, 0])
WRAPS: dict[str, tuple[schedules.Schedule, str, dict[str, Any]]] = {
    "eps": (VP, "eps", {}),
    "v": (VP, "v", {}),
    "callable time": (VP, "eps", {"time": lambda t: 1000 * t}),
    "table": (TABLE, "eps", {"time": "index"}),
    "edm": (schedules.EDM(), "x0", {"precondition": "edm", "time": "c_noise"}),
    "velocity": (schedules.Flow(), "velocity", {}),
}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def graphs(function: Function, backend: str = "eager", tolerance: float = 1e-6) -> int:
    """The graphs of two calls of ``function`` with other states; both give what it gives without
    the compiler, and the second one compiles nothing."""
    made: list[object] = []
    real = torch._dynamo.lookup_backend(backend)

    def counted(module: Any, inputs: Any) -> Any:
        made.append(module)
        return real(module, inputs)

    whole = torch.compile(function, backend=counted, fullgraph=True)
    for x in (states(), states() * 0.5 + 0.1):
        expected, found = function(x), whole(x)
        assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())
    return len(made)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] if kind in ("v", "callable time") else [])
        for kind in WRAPS
    ],
)
def test_run_is_one_graph(kind: str) -> None:
    schedule, prediction, options = WRAPS[kind]
    den = models.wrap(network(), schedule, prediction, **options)
    plan = fewstep.plan("unipc", schedule=schedule, steps=3)
    assert graphs(lambda x: fewstep.run(plan, den, x)) == 1


def test_the_first_call_needs_no_run_before_it() -> None:
    den = models.wrap(network(), VP, "eps")
    plan = fewstep.plan("heun", schedule=VP, steps=3)
    whole = torch.compile(lambda x: fewstep.run(plan, den, x), backend="eager", fullgraph=True)
    found = whole(states())
    assert torch.equal(found, fewstep.run(plan, den, states()))


def test_gradients_off_and_functionalised() -> None:
    den = models.wrap(network(), VP, "eps")
    plan = fewstep.plan("dpmpp_2m_sde", schedule=VP, steps=4)
    seeds = [3, 4, 5, 6]
    assert graphs(lambda x: fewstep.run(plan, den, x, seeds=seeds), "aot_eager") == 1


@pytest.mark.parametrize(
    "edit",
    ["returned", *(pytest.param(edit, marks=pytest.mark.slow) for edit in ("none", "in place"))],
)
def test_callbacks_and_guidance(edit: str) -> None:
    den = guidance.CFG(models.wrap(network(), VP, "eps"), scale=2.0)
    plan = fewstep.plan("dpmpp_2m", schedule=VP, steps=3)

    def on_step(step: Any) -> Tensor | None:
        if edit == "in place":
            step.x_next.mul_(0.9)
            return None
        return step.x_next * 0.9 if edit == "returned" else None

    assert graphs(lambda x: fewstep.run(plan, den, x, cond=LABELS, on_step=on_step)) == 1


def test_a_loop_over_a_cursor_is_one_graph() -> None:
    den = models.wrap(network(), VP, "eps")
    plan = fewstep.plan("dpmpp_2m", schedule=VP, steps=3)

    def loop(x: Tensor) -> Tensor:
        cursor = Cursor(plan, den, x)
        while not cursor.done:
            cursor.step(den.raws(cursor.x_in, cursor.node.t))
        return cursor.result

    assert graphs(loop) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampler": "auto", "nfe": 3},
        {"sampler": "dpmpp_2m_sde", "seed": 3, "steps": 3},
        pytest.param({"sampler": "unipc", "order": 3, "grid": "karras"}, marks=pytest.mark.slow),
    ],
)
def test_sample_is_one_graph(arguments: dict[str, Any]) -> None:
    den = models.wrap(network(), VP, "eps", shape=(6,))
    given = {"steps": 4, **arguments}
    if "nfe" in given:
        del given["steps"]
    assert graphs(lambda x: fewstep.sample(den, x=x, **given)) == 1


def test_sample_begins_from_noise_and_from_data() -> None:
    den = models.wrap(network(), VP, "eps", shape=(6,))
    made = graphs(lambda x: x + fewstep.sample(den, "ddim", steps=2, n=4, seed=7), "aot_eager")
    assert made == 1
    assert graphs(lambda x: fewstep.sample(den, "ddim", steps=2, init=x, start=0.5)) == 1


def test_other_plans_networks_and_batches_make_other_graphs_with_their_own_numbers() -> None:
    plans = [
        fewstep.plan("ddim", schedule=VP, steps=n, grid=g)
        for n, g in ((2, "lam"), (2, "quadratic"))
    ]
    dens = [models.wrap(network(s), VP, "eps", time=lambda t: 1000 * t) for s in (0, 1)]
    run = torch.compile(
        lambda plan, den, x: fewstep.run(plan, den, x), backend="eager", fullgraph=True
    )
    for plan in plans:
        for den in dens:
            for x in (states(4), states(5)):
                assert torch.equal(run(plan, den, x), fewstep.run(plan, den, x))


def test_numbers_that_are_not_finite_stop_a_compiled_run() -> None:
    den = models.wrap(network(), VP, "eps")
    plan = fewstep.plan("ddim", schedule=VP, steps=3)
    run = torch.compile(
        lambda x, check: fewstep.run(plan, den, x, check=check), backend="eager", fullgraph=True
    )
    bad = states()
    bad[2, 1] = torch.nan
    with pytest.raises(RuntimeError, match="the network output is not finite at evaluation 0"):
        run(bad, True)
    assert run(bad, False).isnan().any(1).tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda den, plan, x: fewstep.run(plan, den, x, grad="full"), "grad= under torch.compile"),
        (lambda den, plan, x: fewstep.sample(den, "dpm_adaptive", x=x), "depend on the data"),
        (lambda den, plan, x: fewstep.sample(den, "dpmpp_2n", x=x), "did you mean"),
        (lambda den, plan, x: fewstep.sample(den, x=x, progress=True), "progress= under torch"),
        (
            lambda den, plan, x: fewstep.sample(den, "dpmpp_2m_sde", x=x, noise="brownian"),
            "noise='brownian' inside torch.compile",
        ),
    ],
)
def test_what_leaves_the_graph_is_refused(function: Any, words: str) -> None:
    den, plan = models.wrap(network(), VP, "eps"), fewstep.plan("ddim", schedule=VP, steps=3)
    whole = torch.compile(lambda x: function(den, plan, x), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match=words):
        whole(states())


@pytest.mark.slow
# torch's own compiler uses what torch deprecates
@pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")
def test_run_by_the_default_backend() -> None:
    """Inductor needs a C++ compiler."""
    den = models.wrap(network(), VP, "eps")
    plan = fewstep.plan("dpmpp_2m", schedule=VP, steps=3)
    assert graphs(lambda x: fewstep.run(plan, den, x), "inductor") == 1


# transforms of torch.func


def double(kind: str, sampler: str) -> Callable[..., Tensor]:
    """``run`` in float64, with noise from two seeds."""
    schedule, prediction, options = WRAPS[kind]
    den = models.wrap(network().double(), schedule, prediction, **options)
    plan = fewstep.plan(sampler, schedule=schedule, steps=3)
    return lambda x, cond=None, **more: fewstep.run(plan, den, x, cond=cond, seeds=[1, 2], **more)


CASES = [("eps", "dpmpp_2m"), ("edm", "unipc"), ("velocity", "heun"), ("eps", "dpmpp_2m_sde")]


@pytest.mark.parametrize(("kind", "sampler"), CASES)
def test_vmap_over_states_and_conditions_equals_a_loop(kind: str, sampler: str) -> None:
    run = double(kind, sampler)
    x = states(6).double().view(3, 2, 6)
    cond = torch.tensor([[0, 1], [1, 2], [2, 2]])
    pairs = [
        (vmap(run)(x), [run(v) for v in x]),
        (vmap(lambda c: run(x[0], c))(cond), [run(x[0], c) for c in cond]),
        (vmap(run)(x, cond), [run(v, c) for v, c in zip(x, cond, strict=True)]),
    ]
    for found, each in pairs:
        expected = torch.stack(each)
        assert float((found - expected).abs().max()) <= 1e-13 * float(expected.abs().max())


def test_vmap_of_a_run_with_edits() -> None:
    run = double("eps", "unipc")
    x = states(6).double().view(3, 2, 6)

    def edited(v: Tensor) -> Tensor:
        return run(v, on_step=lambda step: step.x_next * 0.9)

    torch.testing.assert_close(vmap(edited)(x), torch.stack([edited(v) for v in x]))


@pytest.mark.parametrize(("kind", "sampler"), CASES)
def test_derivatives_of_a_run(kind: str, sampler: str) -> None:
    """Against the gradient of ``grad="full"``, whose own tests compare it with differences."""
    run = double(kind, sampler)
    x, v = states(2).double(), states(2).double().flip(0)
    leaf = x.clone().requires_grad_()
    out = run(leaf, grad="full")
    jacobian = torch.stack(
        [torch.autograd.grad(o, leaf, retain_graph=True)[0] for o in out.flatten()]
    ).view(2, 6, 2, 6)
    top = float(jacobian.abs().max())
    found = {
        "jvp": (jvp(run, (x,), (v,))[1], torch.einsum("abcd,cd->ab", jacobian, v)),
        "jacrev": (jacrev(run)(x), jacobian),
        "jacfwd": (jacfwd(run)(x), jacobian),
        "grad": (grad(lambda x: run(x).sum())(x), jacobian.sum((0, 1))),
        "vmap of grad": (vmap(grad(lambda x: run(x).sum()))(x[None])[0], jacobian.sum((0, 1))),
    }
    for name, (made, expected) in found.items():
        assert float((made - expected).abs().max()) <= 1e-12 * 12 * top, name


def test_no_grad_inside_a_transform_is_respected() -> None:
    run = double("eps", "dpmpp_2m")

    def quiet(x: Tensor) -> Tensor:
        with torch.no_grad():
            return run(x).sum()

    assert not grad(lambda x: quiet(x) + x.sum())(states(2).double()).sub(1.0).any()


def test_a_brownian_path_inside_a_transform_is_refused() -> None:
    run = double("eps", "dpmpp_2m_sde")
    with pytest.raises(ArgumentError, match="noise='brownian' inside torch.compile or a transform"):
        vmap(lambda x: run(x, noise="brownian"))(states(6).double().view(3, 2, 6))
