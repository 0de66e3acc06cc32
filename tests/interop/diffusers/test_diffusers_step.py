"""What ``FewstepScheduler.step`` costs: operators, host reads, graphs of ``torch.compile``; and the
report of rounded times."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers.schedulers.scheduling_utils import SchedulerOutput
from diffusers_loops import SD, distance, network, noise, ours, sample
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

import fewstep
from fewstep.interop.diffusers import program as diffusers_program
from fewstep.interop.diffusers.network import Network
from fewstep.interop.diffusers.output import StepOutput
from fewstep.plans import Cursor, PlanError
from fewstep.plans.running.compiled_step import table_step, tabulate
from fewstep.plans.running.lowering import Operand, lower
from fewstep.samplers import get, names

#: samplers that read one prediction; for the others see ``test_diffusers_guided``
PLAIN = [n for n in names("plan") if not get(n).guided]

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array_wrap__:DeprecationWarning",  # diffusers hands numpy functions a torch tensor
    "ignore:.*torch.jit.script:DeprecationWarning",  # inductor imports what torch deprecates
    # dynamo looks at every input's .grad
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)

CLEAN = {"clip_sample": False}
FLOW = ("FlowMatchEulerDiscrete", {"shift": 3.0})
#: classes with the most operators a call: 8 without corrector or noise, else 16
MOST = {
    ("DDIM", 8): {**CLEAN, **SD},
    ("EulerDiscrete", 8): SD,
    ("FlowMatchEulerDiscrete", 8): {},
    ("HeunDiscrete", 8): SD,
    ("KDPM2Discrete", 8): SD,
    ("FlowMatchHeunDiscrete", 8): {},
    ("LMSDiscrete", 8): SD,
    ("PNDM", 8): {"skip_prk_steps": True, **SD},
    ("IPNDM", 8): {},
    ("DPMSolverMultistep", 8): {"solver_order": 3, **SD},
    ("DPMSolverSinglestep", 8): {"lower_order_final": True, **SD},
    ("DEISMultistep", 8): {"solver_order": 3, **SD},
    ("EDMDPMSolverMultistep", 8): {},
    ("EulerAncestralDiscrete", 16): SD,
    ("DDPM", 16): CLEAN,
    ("LCM", 16): {},
    ("TCD", 16): {},
    ("UniPCMultistep", 16): {"solver_order": 3, **SD},
    ("SASolver", 16): SD,
}
COMPILED = [
    "ddim",
    "euler",
    "dpmpp_2m",
    "unipc",
    "heun",
    "euler_ancestral",
    "dpmpp_2m_sde",
    "flow_euler",
]


class Calls(TorchDispatchMode):
    """The names of the operators that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def dynamo() -> Iterator[Any]:
    torch._dynamo.reset()
    yield torch._dynamo
    torch._dynamo.reset()


def on_flow(sampler: str) -> bool:
    return get(sampler).on[0] == "flow"


def made(sampler: str, **changes: Any) -> Any:
    return (
        ours(*FLOW, sampler=sampler)
        if on_flow(sampler)
        else ours("DDIM", {**CLEAN, **changes}, sampler=sampler)
    )


def drive(
    s: Any, step: Any, steps: int = 10, *, edit: bool = False, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """A run without generators, seeded; ``edit`` scales each state that will be evaluated, every
    other one in place."""
    s.set_timesteps(steps)
    torch.manual_seed(0)
    x = noise().to(dtype)
    for k, t in enumerate(s.timesteps):
        output = (
            network_double(x) if dtype == torch.float64 else network(x.float(), float(t)).to(dtype)
        )
        x = step(output, t, x, return_dict=False)[0]
        if edit and k < len(s.timesteps) - 1:
            x = x.mul_(0.9) if k % 2 else 0.9 * x
    return x


# operators


@pytest.mark.parametrize("case", list(MOST), ids=[name for name, _ in MOST])
def test_a_step_is_few_operators_and_reads_nothing_back(case: tuple[str, int]) -> None:
    name, most = case
    s = ours(name, MOST[case])
    s.set_timesteps(12)
    x, output, generator = noise(), noise(3), torch.Generator().manual_seed(0)
    for t in s.timesteps:
        with Calls() as calls:
            x = s.step(output, t, x, generator=generator, return_dict=False)[0]
        assert len(calls.names) <= most, calls.names
        assert not [name for name in calls.names if "local_scalar" in name or "item" in name]


def test_weights_that_rounding_left_of_zero_are_no_terms() -> None:
    """DPM-Solver-2 at its midpoint weighs the first evaluation by 1 - 1: nothing of it is kept for
    the end of the step."""
    s = ours("KDPM2Discrete", SD)
    s.set_timesteps(8)
    assert any(0.0 < abs(c) < 1e-14 for i in s.plan.code if hasattr(i, "terms") for _, c in i.terms)
    assert all(len(launch.operands) == 2 for launch in s._compiled.program.launches[1:])


def test_the_output_is_theirs_without_its_checks() -> None:
    x = noise()
    out = StepOutput(x)
    assert isinstance(out, SchedulerOutput) and out.prev_sample is x is out[0] is out["prev_sample"]
    assert list(out.keys()) == ["prev_sample"] and out.to_tuple() == (x,)
    doubled = torch.utils._pytree.tree_map(lambda y: 2 * y, out)
    assert torch.equal(doubled.prev_sample, 2 * x)


def test_gradients_pass_a_step() -> None:
    s = ours("UniPCMultistep", SD)
    s.set_timesteps(5)
    start = x = noise().double().requires_grad_()
    for t in s.timesteps:
        x = s.step(network_double(x), t, x).prev_sample
    (gradient,) = torch.autograd.grad(x.sum(), start)
    h = 1e-6 * noise(9).double()
    with torch.no_grad():
        values = []
        for sign in (1.0, -1.0):
            s.set_timesteps(5)
            y = start + sign * h
            for t in s.timesteps:
                y = s.step(network_double(y), t, y).prev_sample
            values.append(y.sum())
    assert torch.isclose((gradient * h).sum(), (values[0] - values[1]) / 2, rtol=1e-6)


@pytest.mark.parametrize("sampler", ["ddim", "heun", "unipc"])
def test_an_edit_leaves_alone_what_was_given_out(sampler: str) -> None:
    s, kept = made(sampler), []
    s.set_timesteps(6)
    x = noise()
    for t in s.timesteps:
        given = s.step(network(x, float(t)), t, x).prev_sample
        kept.append((given, given.clone()))
        x = 0.9 * given
        kept.append((x, x.clone()))
    assert all(torch.equal(a, b) for a, b in kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sampler", ["ddim", "unipc", "heun", "flow_euler"])
def test_new_tensors_hold_the_bits_of_buffers(sampler: str, dtype: torch.dtype) -> None:
    """With gradients recorded or not, and for a sample alone as in its batch."""
    s = made(sampler)
    s.set_timesteps(6)
    program, x = s._compiled.program, noise(n=3).to(dtype)
    raws = [noise(20 + k, 3).to(dtype) for k in range(program.plan.nfe)]
    found = []
    for fresh, grad, rows in (
        (False, False, slice(3)),
        (True, False, slice(3)),
        (True, True, slice(3)),
        (True, False, slice(1, 2)),
    ):
        with torch.set_grad_enabled(grad):
            cursor = Cursor(program, s._compiled.network, x[rows], fresh=fresh)
            for raw in raws:
                cursor.step((raw[rows],))
            found.append(cursor.result.clone())
    assert (
        torch.equal(found[0], found[1])
        and torch.equal(found[0], found[2])
        and torch.equal(found[0][1:2], found[3])
    )


def network_double(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(1.1 * x)


def test_a_run_set_up_again_is_not_made_again() -> None:
    for name, config in (("UniPCMultistep", SD), ("PNDM", {"skip_prk_steps": True, **SD})):
        s = ours(name, config)
        s.set_timesteps(9)
        first, counts = s._compiled, diffusers_program.compiled.cache_info().misses
        s.set_timesteps(9)
        assert s._compiled is first and diffusers_program.compiled.cache_info().misses == counts
        assert s.plan == fewstep.plan(
            first.sampler, s._settings.schedule, grid=first.grid, **vars(first.options)
        )


# the loop as one function


@pytest.mark.parametrize("edit", [False, True])
@pytest.mark.parametrize("sampler", [n for n in PLAIN if n not in ("mr_ode", "mr_sde", "pfgmpp")])
def test_the_table_is_the_loop(sampler: str, edit: bool) -> None:
    """Both executors of a program, in float64, states edited on the way or not."""
    schedule = fewstep.schedules.Flow() if on_flow(sampler) else fewstep.schedules.VPLinear()
    plan = fewstep.plan(sampler, schedule, grid="uniform" if on_flow(sampler) else "lam", steps=7)
    program = lower(
        plan,
        Network(schedule, "velocity" if on_flow(sampler) else "eps"),
    )
    if program.launches[0].outs:
        with pytest.raises(PlanError, match="begins with its network call"):
            tabulate(program)
        return
    table = tabulate(program)
    matrix, targets = torch.tensor(table.matrix, dtype=torch.float64), torch.tensor(table.targets)
    z = {key: noise(50 + key).double() for key in program.noise_until}
    x = y = noise().double()
    cursor = Cursor(program, program, x, z, fresh=True)  # type: ignore[arg-type]
    buffers, place = (
        torch.zeros(table.buffers, *x.shape, dtype=x.dtype),
        torch.zeros(1, dtype=torch.int64),
    )
    read: set[Operand] = set()
    for k, call in enumerate(program.calls):
        fresh = sorted({o for o in program.launches[k + 1].operands if o.kind == "noise"} - read)
        read |= set(fresh)
        noises = [z[o.number] for o in fresh] + [torch.zeros_like(x)] * (table.noises - len(fresh))
        raw, other = network_double(cursor.x_in), network_double(y * call.scale)
        cursor.step((raw,))
        with torch.no_grad():
            y, buffers = table_step(buffers, place, matrix, targets, y, other, noises)
        place += 1
        if edit and not cursor.done:
            cursor.replace(0.9 * cursor.x)
            y = 0.9 * y
        assert torch.allclose(y, cursor.x, rtol=1e-11, atol=1e-11 * float(cursor.x.abs().max()))


# torch.compile


@pytest.mark.parametrize("sampler", COMPILED)
def test_a_compiled_step_is_two_graphs_and_no_break(sampler: str, dynamo: Any) -> None:
    s, wide = made(sampler), torch.float64
    with torch.no_grad():
        want, edited = drive(s, s.step, dtype=wide), drive(s, s.step, edit=True, dtype=wide)
        counter = CompileCounterWithBackend("eager")
        step = torch.compile(s.step, backend=counter, fullgraph=True)
        assert (
            distance(drive(s, step, dtype=wide), want) < 1e-11
            and counter.frame_count == 2
            and s.step_index == s.nfe
        )
        assert distance(drive(s, step, edit=True, dtype=wide), edited) < 1e-11
        drive(s, step, 6, dtype=wide)
        drive(s, step, 15, dtype=wide)
        assert counter.frame_count == 2


def test_the_graph_of_a_step_is_the_same_under_aot(dynamo: Any) -> None:
    s = made("unipc")
    want = drive(s, s.step)
    counter = CompileCounterWithBackend("aot_eager")
    with torch.no_grad():
        assert (
            distance(drive(s, torch.compile(s.step, backend=counter, fullgraph=True)), want) < 5e-6
        )
    assert counter.frame_count == 2


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddim", "unipc"])
def test_inductor_makes_two_kernels_of_it(sampler: str, dynamo: Any) -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        pytest.skip(f"no C++ compiler: {error}")
    s = made(sampler)
    want = drive(s, s.step)
    counter = CompileCounterWithBackend("inductor")
    with torch.no_grad():
        assert (
            distance(drive(s, torch.compile(s.step, backend=counter, fullgraph=True)), want) < 5e-6
        )
    assert counter.frame_count == 2


@pytest.mark.parametrize(
    "clip",
    [{"clip_sample": True}, {"thresholding": True, "sample_max_value": 2.0, "clip_sample": False}],
)
def test_clipping_is_in_the_graph(clip: dict[str, Any], dynamo: Any) -> None:
    s = ours("DDPM", {**SD, **clip}, sampler="dpmpp_2m")
    want = drive(s, s.step)
    with torch.no_grad():
        assert (
            distance(drive(s, torch.compile(s.step, backend="eager", fullgraph=True)), want) < 5e-6
        )


def test_half_precision_keeps_its_accuracy_in_a_graph(dynamo: Any) -> None:
    s = made("unipc")
    with torch.no_grad():
        exact, want = drive(s, s.step), drive(s, s.step, dtype=torch.bfloat16)
        got = drive(s, torch.compile(s.step, backend="eager", fullgraph=True), dtype=torch.bfloat16)
    assert (
        got.dtype == torch.bfloat16
        and distance(got.float(), exact) < 1.5 * distance(want.float(), exact) + 4e-3
    )


def test_a_whole_loop_is_one_graph(dynamo: Any) -> None:
    s = made("dpmpp_2m")

    def denoise(x: torch.Tensor) -> torch.Tensor:
        for t in s.timesteps:
            x = s.step(torch.tanh(x) + 0.1 * torch.cos(0.003 * t), t, x).prev_sample
        return x

    counter = CompileCounterWithBackend("eager")
    graph = torch.compile(denoise, backend=counter, fullgraph=True)
    with torch.no_grad():
        for _ in range(2):
            s.set_timesteps(5)
            s.set_begin_index(0)
            got = graph(noise())
            assert s.step_index == 5
            s.set_timesteps(5)
            assert distance(got, denoise(noise())) < 5e-6
    assert counter.frame_count == 1


def test_gradients_pass_a_compiled_step(dynamo: Any) -> None:
    s, found = made("unipc"), []
    for step in (s.step, torch.compile(s.step, backend="eager", fullgraph=True)):
        s.set_timesteps(4)
        start = x = noise().requires_grad_()
        for t in s.timesteps:
            x = step(torch.tanh(1.1 * x), t, x, return_dict=False)[0]
        found.append(torch.autograd.grad(x.square().sum(), start)[0])
    assert distance(found[1], found[0]) < 1e-5


def test_a_compiled_run_begins_where_it_is_told(dynamo: Any) -> None:
    s = made("unipc")
    step = torch.compile(s.step, backend="eager", fullgraph=True)
    with torch.no_grad():
        s.set_timesteps(6)
        with pytest.raises(RuntimeError, match="set_begin_index"):
            step(noise(3), s.timesteps[2], noise())
        found = []
        for one in (s.step, step):
            s.set_timesteps(6)
            s.set_begin_index(2)
            x = noise()
            for t in s.timesteps[2:]:
                x = one(network(x, float(t)), t, x, return_dict=False)[0]
            found.append(x)
            assert s.step_index == 6
        assert distance(found[1], found[0]) < 5e-6
        with pytest.raises(RuntimeError, match="over"):
            step(noise(3), s.timesteps[5], noise())
        with pytest.raises(PlanError, match=r"torch\.compile"):
            s.step(noise(3), s.timesteps[5], noise())


def test_a_generator_steps_outside_the_graph(dynamo: Any) -> None:
    """torch takes no generator into a graph; the bits are then those of the step itself."""
    s, found = made("euler_ancestral"), []
    for step in (s.step, torch.compile(s.step, backend="eager")):
        s.set_timesteps(5)
        x, generator = noise(), torch.Generator().manual_seed(3)
        for t in s.timesteps:
            x = step(network(x, float(t)), t, x, generator=generator, return_dict=False)[0]
        found.append(x)
    assert torch.equal(found[0], found[1])


# the time that the network is told


def test_the_network_is_told_the_time_of_its_state() -> None:
    for name, config in (
        ("UniPCMultistep", {"use_karras_sigmas": True, **SD}),
        FLOW,
        ("HeunDiscrete", SD),
    ):
        s = ours(name, config)
        s.set_timesteps(7)
        scale = 1000.0 if name == FLOW[0] else 1.0
        want = torch.tensor([scale * e.node.t for e in s.plan.evaluations])
        assert s.time_mismatch == 0.0 and torch.equal(s.timesteps.float(), want.float())


def test_rounded_times_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    diffusers_program.report.cache_clear()
    config = {"use_karras_sigmas": True, **SD}
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    try:
        s = ours("UniPCMultistep", config, round_timesteps=True)
        for _ in range(2):
            sample(s, 7)
        assert (
            len(caplog.records) == 1
            and "7 network calls of unipc" in caplog.records[0].getMessage()
        )
        assert 0.0 < s.time_mismatch <= 0.5
        sample(ours("UniPCMultistep", config, round_timesteps=True), 7)
        sample(ours("DDIM", CLEAN, round_timesteps=True), 5)  # whole times already
        sample(ours("UniPCMultistep", config), 7)
        assert len(caplog.records) == 1
        sample(s, 9)
        assert len(caplog.records) == 2
    finally:
        logger.removeHandler(caplog.handler)
