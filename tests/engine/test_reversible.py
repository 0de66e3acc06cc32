"""``grad="reversible"``: gradients at a memory that does not grow with the calls, from runs that are
undone."""

from __future__ import annotations

import warnings

import pytest
import torch
from test_gradients import F64, PATHS, Net, distance, gradients, inputs, saved_bytes, wrapped

import fewstep
from fewstep.engine.gradients import GradientError
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture
from fewstep.plans import lower
from fewstep.plans.transforms.gradients import ReconstructionWarning
from fewstep.samplers import get, names
from fewstep.schedules import EDM, Flow, VPLinear

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
