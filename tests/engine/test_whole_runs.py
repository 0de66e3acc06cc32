"""``compile=`` and ``capture=`` of ``sample`` and ``run``: one piece for all steps, used again for
other seeds, states and conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from test_compiled_runs import LABELS, TABLE, VP, network, states
from torch import Tensor
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fewstep
from fewstep import guidance, models, schedules
from fewstep.checks import ArgumentError
from fewstep.engine import whole_runs
from fewstep.engine.recordings import WARM_UP, CudaGraphs, Recording
from fewstep.engine.whole_runs import How, forget_runs, run_whole
from fewstep.fused import linear_backend
from fewstep.plans import NumericalError
from fewstep.schedules import host_times

aten = torch.ops.aten


class Tape(TorchDispatchMode):
    """Operators with the tensors that they read and write, as a CUDA graph has kernels with
    addresses. A number that follows from a tensor of the recording cannot be read on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        known = any(v.untyped_storage().data_ptr() in self.made for v in given)
        if known and func is aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        if known:
            self.made |= {v.untyped_storage().data_ptr() for v in tree_leaves(out)}
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            found = func(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(found), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Tapes:
    """Machinery of ``Recording`` on the CPU."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        for _ in range(WARM_UP):
            work()
        tape = Tape()
        tape.made = self.inputs(work)
        with tape:
            out = work()
        out.fill_(torch.nan)  # a recording computes nothing
        self.tapes.append(tape)
        return tape.replay, out

    @staticmethod
    def inputs(work: Any) -> set[int]:
        """Where the tensors are that ``work`` is given."""
        cells = [c.cell_contents for c in work.__closure__]
        leaves = [v for v in tree_leaves(cells) if isinstance(v, Tensor)]
        return {v.untyped_storage().data_ptr() for v in leaves}


class Counted(torch.nn.Module):
    """A network that counts its calls."""

    null_label = 3

    def __init__(self) -> None:
        super().__init__()
        self.own, self.calls = network(), 0

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self.calls += 1
        out: Tensor = self.own(x, t, cond)
        return out


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    forget_runs()
    torch._dynamo.reset()
    counters.clear()
    with linear_backend("torch"):  # whose operators a tape sees
        yield
    forget_runs()
    torch._dynamo.reset()


NET = Counted().eval().requires_grad_(False)
DEN = models.wrap(NET, VP, "eps", shape=(6,))
MODELS: dict[str, Any] = {
    "eps": DEN,
    "table": models.wrap(NET, TABLE, "v", time="index", shape=(6,)),
    "edm": models.wrap(NET, schedules.EDM(), "x0", precondition="edm", time="c_noise"),
    "cfg": guidance.CFG(DEN, 2.0, interval=(0.3, 3.0)),
    "apg": guidance.APG(DEN, 3.0),
    "icg": guidance.ICG(DEN, 2.0, classes=3),
}
#: torch makes another graph where a number of a network changes, such as a count of its calls
PLAIN = models.wrap(network(), VP, "eps", shape=(6,))
SEEDS = (3, 4, 5, 6)


def recorded(
    tapes: Tapes, plan: Any, den: Any, x: Tensor, seeds: tuple[int, ...] = SEEDS, cond: Any = LABELS
) -> Tensor:
    """``run`` with ``capture=`` and tapes for CUDA graphs."""
    how = How(capture="cuda_graph", machinery=tapes)
    return run_whole(how, plan, den, x, None, seeds, cond, None, True)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sampler", ["unipc", "dpmpp_2m_sde", "heun"])
def test_a_replay_is_the_run(name: str, sampler: str) -> None:
    den, tapes = MODELS[name], Tapes()
    plan = fewstep.plan(sampler, den.schedule, steps=4)
    for x, seeds, cond in (
        (states(), SEEDS, LABELS),
        (states() * 0.5 + 0.1, (9, 8, 7, 6), LABELS),
        (states(), SEEDS, LABELS.flip(0)),
    ):
        want = fewstep.run(plan, den, x, seeds=seeds, cond=cond)
        before = x.clone()
        assert torch.equal(recorded(tapes, plan, den, x, seeds, cond), want)
        assert torch.equal(x, before)
    # what the model itself draws from the seeds is a constant of the recording
    assert len(tapes.tapes) == (2 if name == "icg" else 1)


def test_a_replay_calls_no_python() -> None:
    plan, tapes = fewstep.plan("dpmpp_2m", VP, steps=4), Tapes()
    first = recorded(tapes, plan, DEN, states())
    NET.calls = 0
    second = recorded(tapes, plan, DEN, states() * 2.0)
    assert NET.calls == 0 and not torch.equal(first, second)
    first.fill_(0.0)  # the caller's own
    assert recorded(tapes, plan, DEN, states() * 2.0).equal(second) and NET.calls == 0


def test_what_changes_the_kernels_is_recorded_anew() -> None:
    plan, tapes = fewstep.plan("ddim", VP, steps=2), Tapes()
    den = models.wrap(network(), VP, "eps")
    calls: list[tuple[Tensor, Any, tuple[int, ...]]] = [
        (states(4), LABELS, SEEDS),
        (states(4), None, SEEDS),
        (states(5), None, (1, 2, 3, 4, 5)),
        (states(4).double(), None, SEEDS),
    ]
    for k, (x, cond, seeds) in enumerate(calls):
        if x.dtype == torch.float64:
            den.network.double()  # other memory of the weights
        for _ in range(2):
            want = fewstep.run(plan, den, x, cond=cond)
            assert torch.equal(recorded(tapes, plan, den, x, seeds, cond), want)
        assert len(tapes.tapes) == k + 1
    assert len(whole_runs._RECORDED) == len(calls)


def test_weights_that_are_trained_on_are_followed() -> None:
    plan, tapes = fewstep.plan("ddim", VP, steps=2), Tapes()
    den = models.wrap(network(), VP, "eps")
    recorded(tapes, plan, den, states())
    with torch.no_grad():
        for weight in den.network.parameters():
            weight.mul_(0.5)
    want = fewstep.run(plan, den, states(), cond=LABELS)
    assert torch.equal(recorded(tapes, plan, den, states()), want) and len(tapes.tapes) == 1


def test_conditions_by_name_and_states_with_gradients() -> None:
    plan, tapes = fewstep.plan("ddim", VP, steps=2), Tapes()
    den = models.wrap(lambda x, t, cond: x * cond["b"] + cond["a"], VP, "eps")
    for scale in (1.0, 2.0):
        cond = {"b": torch.full((4, 1), scale), "a": torch.ones(4, 6, requires_grad=True)}
        x = states().requires_grad_()
        want = fewstep.run(plan, den, x, cond=cond)
        assert torch.equal(recorded(tapes, plan, den, x, cond=cond), want)
    assert len(tapes.tapes) == 1


def test_a_network_that_reads_its_state_on_the_host_is_not_recorded() -> None:
    plan = fewstep.plan("ddim", VP, steps=2)
    den = models.wrap(lambda x, t: x * (2.0 if float(x.sum()) > 0.0 else 1.0), VP, "eps")
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        recorded(Tapes(), plan, den, states(), cond=None)


@pytest.mark.parametrize("capture", [True, False])
def test_numbers_that_are_not_finite_are_found_in_a_second_run(capture: bool) -> None:
    plan = fewstep.plan("ddim", VP, steps=3)
    how = How(capture="cuda_graph", machinery=Tapes()) if capture else How("eager")
    den = models.wrap(lambda x, t: torch.where(t[:, None] < 0.7, x / 0.0, x), VP, "eps")
    x = torch.where(torch.arange(4)[:, None] == 2, 1.0, torch.zeros(4, 6))
    with pytest.raises(NumericalError, match=r"network output .* evaluation 1 .* samples \[0, 1"):
        run_whole(how, plan, den, x, None, (), None, None, True)
    assert not run_whole(how, plan, den, x, None, (), None, None, False).isfinite().all()


def test_only_the_last_runs_are_kept() -> None:
    tapes = Tapes()
    for steps in range(1, whole_runs.KEPT + 3):
        recorded(tapes, fewstep.plan("ddim", VP, steps=steps), DEN, states())
    assert len(whole_runs._RECORDED) == whole_runs.KEPT
    forget_runs()
    assert not whole_runs._RECORDED


# compile=


def test_one_graph_serves_other_seeds_states_and_conditions() -> None:
    given: dict[str, Any] = {"sampler": "dpmpp_2m_sde", "steps": 3, "n": 4}
    for seed, cond in ((0, LABELS), (7, LABELS), (7, LABELS.flip(0))):
        want = fewstep.sample(PLAIN, **given, seed=seed, cond=cond)
        found = fewstep.sample(PLAIN, **given, seed=seed, cond=cond, compile="eager")
        assert torch.equal(found, want)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"] and not counters["recompile_limit"]


def test_a_run_is_compiled_with_its_callback_and_guidance() -> None:
    plan, guided = fewstep.plan("dpmpp_2m", VP, steps=2), guidance.APG(PLAIN, 3.0)

    def on_step(step: Any) -> Tensor:
        out: Tensor = step.x_next * 0.9
        return out

    for x in (states(), states() * 0.5):
        given: dict[str, Any] = {"cond": LABELS, "on_step": on_step}
        want = fewstep.run(plan, guided, x, **given)
        found = fewstep.run(plan, guided, x, **given, compile="eager")
        assert torch.allclose(found, want, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


def test_more_plans_than_torch_compiles_of_one_function() -> None:
    x = states()
    with torch._dynamo.config.patch(recompile_limit=1):
        for steps in (1, 2):
            plan = fewstep.plan("ddim", VP, steps=steps)
            found = fewstep.run(plan, PLAIN, x, compile="eager")
            assert torch.equal(found, fewstep.run(plan, PLAIN, x))


def test_a_model_of_six_members_is_compiled() -> None:
    class Six:
        schedule, prediction, shape = VP, "eps", (6,)

        def raws(self, x_in: Tensor, t: Any, cond: Any = None) -> tuple[Tensor, ...]:
            return (x_in.mul_(0.5),)

        def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
            return 0.0, (1.0,)

        def input_scale(self, t: float) -> float:
            return 1.0

        def __call__(self, x: Tensor, t: Any, cond: Any = None) -> Tensor:
            return x * 0.5

    den = Six()
    want = fewstep.sample(den, "ddim", steps=2, n=2)
    for _ in range(2):
        assert torch.equal(fewstep.sample(den, "ddim", steps=2, n=2, compile="eager"), want)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")
def test_compile_with_the_default_backend() -> None:
    """Inductor needs a C++ compiler."""
    for seed in (0, 1):
        given: dict[str, Any] = {"sampler": "dpmpp_2m", "steps": 3, "n": 4, "seed": seed}
        found = fewstep.sample(PLAIN, **given, compile=True)
        assert torch.allclose(found, fewstep.sample(PLAIN, **given), atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


# what is refused


def broken(x: Tensor, t: Tensor) -> Tensor:
    torch._dynamo.graph_break()
    return x


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"capture": "cuda_graphs"}, "did you mean 'cuda_graph'"),
        ({"capture": "cuda_graph"}, "the state is on cpu, and CUDA graphs need a CUDA device"),
        ({"capture": "cuda_graph", "callback": print}, "callback= with capture='cuda_graph'"),
        ({"capture": "cuda_graph", "progress": True}, "does not come back to Python"),
        ({"capture": "cuda_graph", "sampler": "ode45"}, "ode45 as one piece .capture=.: its steps"),
        ({"capture": "cuda_graph", "grad": "full"}, "grad= with capture='cuda_graph'"),
        ({"compile": 3}, "compile=3: must be True, False or a backend"),
        ({"compile": True, "progress": True}, "progress= with compile=True"),
        ({"compile": True, "record": True, "info": True}, "record= with compile=True"),
        ({"compile": True, "grad": "full"}, "grad= with compile=True"),
        ({"compile": "eager", "sampler": "ode45"}, "ode45 as one piece .compile=.: its steps"),
        ({"compile": "eager", "noise": 3}, "noise=3: allowed are"),
    ],
)
def test_what_does_not_go_together_is_refused_before_the_first_call(
    given: dict[str, Any], words: str
) -> None:
    NET.calls = 0
    with pytest.raises(ArgumentError, match=words):
        fewstep.sample(DEN, **{"sampler": "dpmpp_2m", "n": 2, **given})
    assert NET.calls == 0


def test_a_network_that_is_no_one_graph_is_refused_in_a_sentence() -> None:
    den = models.wrap(broken, VP, "eps", shape=(6,))
    with pytest.raises(ArgumentError, match="torch makes no one graph of this run"):
        fewstep.sample(den, "ddim", steps=2, compile="eager")
    with pytest.raises(ArgumentError, match="TSG under torch.compile: the times of"):
        fewstep.sample(guidance.TSG(DEN, 2.0, 0.1), "ddim", steps=2, compile="eager")


def test_tensors_on_other_devices_are_refused() -> None:
    plan, how = fewstep.plan("ddim", VP, steps=2), How(capture="cuda_graph", machinery=Tapes())
    den = models.wrap(lambda x, t: x, VP, "eps")
    for cond in (LABELS.to("meta"), {"a": LABELS, "b": LABELS.to("meta")}):
        with pytest.raises(ArgumentError, match=r"condition( 'b')? is on meta, the state on cpu"):
            run_whole(how, plan, den, states(), None, (), cond, None, True)
    with torch.device("meta"):
        far = models.wrap(torch.nn.Linear(6, 6), VP, "eps")
    with pytest.raises(ArgumentError, match="the model is on meta, the state on cpu"):
        run_whole(how, plan, far, states(), None, (), None, None, True)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [("cuda", "cuda:1", True), ("cuda:0", "cuda:1", False), ("cpu", "cuda", False)],
)
def test_a_device_without_a_number_is_any_of_its_kind(a: str, b: str, same: bool) -> None:
    assert whole_runs._same(torch.device(a), torch.device(b)) == same


def test_inside_torch_compile_the_arguments_are_refused() -> None:
    whole = torch.compile(
        lambda x: fewstep.sample(DEN, "ddim", steps=2, x=x, compile=True),
        backend="eager",
        fullgraph=True,
    )
    with pytest.raises(Exception, match="compile= under torch.compile"):
        whole(states())


def test_tokens_are_refused() -> None:
    den = guidance.discrete.wrap(
        lambda x, t: torch.zeros(*x.shape, 4), guidance.discrete.Masked(), 4, length=5
    )
    with pytest.raises(ArgumentError, match="compile=True: not an argument for a model of tokens"):
        fewstep.sample(den, steps=2, compile=True)


# CUDA


def test_times_of_a_recording_are_fills() -> None:
    numbers, cpu = (0.1, 1.0 / 3.0, 2.0), torch.device("cpu")
    with Tape() as tape:
        filled = host_times._filled(numbers, torch.float64, cpu)
    assert {str(call[0]) for call in tape.calls} - {"aten.detach.default"} == {"aten.full.default"}
    sent = host_times._sent(numbers, torch.float64, cpu)
    assert all(torch.equal(a, b) for a, b in zip(filled, sent, strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "dpmpp_2m_sde"])
def test_a_cuda_graph_is_the_run(sampler: str) -> None:
    den = models.wrap(network().cuda(), VP, "eps", shape=(6,))
    given: dict[str, Any] = {"sampler": sampler, "steps": 4, "n": 4, "device": "cuda"}
    for seed in (0, 1):
        want = fewstep.sample(den, **given, seed=seed)
        found = fewstep.sample(den, **given, seed=seed, capture="cuda_graph")
        assert torch.allclose(found, want, atol=1e-5)
    assert len(whole_runs._RECORDED) == 1
    (kept,) = whole_runs._RECORDED.values()
    assert isinstance(kept[1], Recording)
    assert isinstance(
        CudaGraphs(torch.device("cuda")).record(lambda: torch.ones(2).cuda())[1], Tensor
    )
