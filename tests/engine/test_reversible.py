"""``grad="reversible"``: gradients at a memory that does not grow with the calls, from runs that are
undone."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from test_gradients import F64, PATHS, Net, distance, gradients, inputs, saved_bytes, wrapped
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError, ArgumentTypeError
from fewstep.engine import Reconstruction
from fewstep.engine.gradients import GradientError
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture
from fewstep.plans import lower
from fewstep.plans.running.channels import network_raws
from fewstep.plans.running.loop import Cursor
from fewstep.plans.transforms.gradients import ReconstructionWarning
from fewstep.plans.transforms.undone import Reversal, undone
from fewstep.samplers import get, names
from fewstep.schedules import EDM, Flow, VPLinear
from fewstep.schedules.host_times import device_times

REVERSIBLE = [name for name in names() if get(name).reversible]


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_it_equals_checkpoint(name: str, steps: int) -> None:
    """On a preconditioned network with a condition and parameters, and on a flow from alpha = 0."""
    for path, schedule in PATHS.items():
        if get(name).on == ("flow",) and path != "flow":
            continue
        plan = fewstep.plan(name, schedule, steps=steps, grid="lam" if steps < 40 else "uniform")
        den = wrapped(path)
        wanted = gradients(den, plan, "checkpoint")
        assert distance(gradients(den, plan, "reversible"), wanted) < 1e-8, path
        wanted = gradients(den, plan, "full")
        assert distance(gradients(den, plan, "reversible"), wanted) < 1e-8, path


def test_an_analytic_first_step_and_a_guided_model() -> None:
    net = wrapped("vp")
    for name in ("edict", "belm"):
        plan = fewstep.plan(name, VPLinear(), steps=6, grid="lam", afs=True)
        wanted = gradients(net, plan, "checkpoint")
        assert distance(gradients(net, plan, "reversible"), wanted) < 1e-8
        plan = fewstep.plan(name, VPLinear(), steps=6, grid="lam")
        den = CFG(net, 2.0, torch.zeros(1, 3, dtype=F64))
        wanted = gradients(den, plan, "checkpoint")
        assert distance(gradients(den, plan, "reversible"), wanted) < 1e-8


def test_gradcheck_on_the_exact_mixture() -> None:
    den = GaussianMixture([[1.0, 0.0], [-1.0, 0.5]], 0.6, [0.5, 0.5], VPLinear())
    plan = fewstep.plan("edict", den.schedule, steps=3, grid="lam")
    x = torch.randn(2, 2, dtype=F64, generator=torch.Generator().manual_seed(3))
    assert torch.autograd.gradcheck(
        lambda x: fewstep.run(plan, den, x, grad="reversible"), x.requires_grad_(), atol=1e-7
    )


def test_memory_does_not_grow() -> None:
    few, many = (saved_bytes("reversible", steps, "belm") for steps in (10, 100))
    assert many < 1.1 * few
    # the inputs of two calls, and the two states at the end; the checkpoints of 100 calls are more
    state = 512 * 3 * 8
    assert many - saved_bytes("reversible", 1, "belm") <= 4 * state
    assert many < 0.15 * saved_bytes("checkpoint", 100, "belm")


def test_calls() -> None:
    """One call more for each; the first one is looked at with a graph."""
    for name, calls in (("belm", 20), ("edict", 40)):
        net = Net()
        plan = fewstep.plan(name, VPLinear(), steps=20, grid="lam")
        x, cond = inputs()
        out = fewstep.run(plan, wrapped("vp", net), x, cond=cond, grad="reversible")
        assert net.calls == plan.nfe == calls and net.graphs == 1
        out.sum().backward()
        assert net.calls == 2 * calls


def test_float32_is_near_and_quiet_while_it_is() -> None:
    den, schedule = wrapped("vp"), VPLinear()
    plan = fewstep.plan("belm", schedule, steps=20, grid="lam")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gradients(den, plan, "reversible", torch.float32)
    assert distance(found, gradients(den, plan, "checkpoint", torch.float32)) < 1e-3


def test_what_is_lost_is_measured_and_said() -> None:
    """In bf16 at once; in float64 where EDICT has too many steps."""
    den = wrapped("vp")
    plan = fewstep.plan("belm", VPLinear(), steps=20, grid="lam")
    with pytest.warns(ReconstructionWarning, match=r"belm in bfloat16 .* relative error of .*e"):
        gradients(den, plan, "reversible", torch.bfloat16)
    long = fewstep.plan("edict", VPLinear(), steps=300, grid="lam")
    with pytest.warns(ReconstructionWarning, match=r"fewer steps, or grad='checkpoint'"):
        gradients(den, long, "reversible")
    # what is said is the error that was measured: beyond the largest number it is refused
    endless = fewstep.plan("edict", EDM(0.002, 80.0), steps=400, grid="lam", p=0.5)
    with pytest.raises(GradientError, match="undoing edict"):
        gradients(wrapped("edm"), endless, "reversible", torch.float32)


def measured(plan: fewstep.plans.Plan, den: fewstep.models.BaseDenoiser, x: Tensor) -> float:
    """The round trip by hand: the input of the second call in the run, and when the run is undone."""
    program, cond = lower(plan, den, plan.partners), inputs(x.dtype)[1].detach()
    cursor, first = Cursor(program, den, x.detach().clone(), None), None

    times = device_times([float(call.node.t or 0.0) for call in program.calls], x.device)

    def raws(k: int, x_in: Tensor) -> tuple[Tensor, ...]:
        return network_raws(den, x_in.clone(), times[k], cond, program.calls[k].channels)

    with torch.no_grad():
        while cursor.call is not None:
            k = cursor.call.number
            first = cursor.x_in.clone() if k == 1 else first
            cursor.advance(raws(k, cursor.x_in))
        back = Reversal(undone(program), [cursor.result, *cursor.kept], None, 1)
        while back.due > 1:
            back.step(raws(back.due, back.x_in))
        wide = torch.promote_types(x.dtype, torch.float32)
        lost = back.x_in.to(wide) - first.to(wide)
    return float(lost.norm() / first.to(wide).norm())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("path", "name"), [("vp", "edict"), ("vp", "bdia"), ("flow", "flow_belm")])
def test_the_error_can_be_read_after_the_backward_pass(path: str, name: str, dtype: Any) -> None:
    """It is that of a round trip, bit for bit, and of the last backward pass."""
    den, (x, cond) = wrapped(path), inputs(dtype)
    plan = fewstep.plan(name, PATHS[path], steps=12)
    lost = Reconstruction()
    given = {"cond": cond, "grad": "reversible"}
    out, info = fewstep.sample(den, name, steps=12, x=x, info=True, **given)
    again = fewstep.run(info.plan, den, x, reconstruction=lost, **given)
    assert torch.equal(out, again) and info.reconstruction is None and lost.error is None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        out.sum().backward()
        again.sum().backward()
    assert info.reconstruction == lost.error == measured(info.plan, den, x)
    low, high = {torch.float64: (0.0, 1e-12), torch.float32: (0.0, 1e-3)}.get(dtype, (1e-3, 1e3))
    assert low <= info.reconstruction < high and info.plan.nfe >= plan.nfe
    shown = [w for w in said if issubclass(w.category, ReconstructionWarning)]
    assert len(shown) == (2 if dtype == torch.bfloat16 else 0)
    assert all(f"{info.reconstruction:.1e}" in str(w.message) for w in shown)


def test_the_error_of_one_call_and_of_other_modes() -> None:
    den, (x, cond) = wrapped("vp"), inputs()
    given = {"x": x, "cond": cond, "info": True}
    out, info = fewstep.sample(den, "belm", steps=1, grad="reversible", **given)
    out.sum().backward()
    assert info.nfe == 1 and info.reconstruction == 0.0  # nothing was undone
    out, info = fewstep.sample(den, "belm", steps=3, grad="checkpoint", **given)
    out.sum().backward()
    assert info.reconstruction is None and info.undone is None
    with pytest.raises(ArgumentError, match="only grad='reversible' recovers states"):
        fewstep.run(info.plan, den, x, cond=cond, reconstruction=Reconstruction())
    with pytest.raises(ArgumentTypeError, match="Reconstruction"):
        fewstep.run(info.plan, den, x, cond=cond, grad="reversible", reconstruction=[])


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "heun", "dpmpp_2m_sde"])
def test_samplers_that_cannot_be_undone_are_refused(name: str) -> None:
    net, (x, cond) = Net(), inputs()
    with pytest.raises(GradientError, match=f"{name}.*bdia, belm, edict, flow_belm.*'checkpoint'"):
        fewstep.sample(wrapped("vp", net), name, steps=4, x=x, cond=cond, grad="reversible")
    assert net.calls == 0


def test_a_program_must_keep_the_partners() -> None:
    den, (x, cond) = wrapped("flow"), inputs()
    plan = fewstep.plan("flow_belm", Flow(), steps=4)
    whole = lower(plan, den, plan.partners)
    out = fewstep.run(whole, den, x, cond=cond, grad="reversible")
    (found,) = torch.autograd.grad(out.square().sum(), x)
    torch.testing.assert_close(found, gradients(den, plan, "checkpoint")[0], rtol=1e-9, atol=1e-12)
    with pytest.raises(GradientError, match="do not follow"):
        fewstep.run(lower(plan, den), den, x, cond=cond, grad="reversible")


def test_dropout_and_saved_tensor_hooks() -> None:
    den = wrapped("vp", Net(dropout=0.4))
    plan = fewstep.plan("belm", VPLinear(), steps=6, grid="lam")
    found = {}
    for mode in ("full", "reversible"):
        torch.manual_seed(7)
        with torch.autograd.graph.save_on_cpu():
            found[mode] = gradients(den, plan, mode)
    assert distance(found["reversible"], found["full"]) < 1e-8
