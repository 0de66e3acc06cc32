"""What ``set_timesteps`` leaves for later: the launches, and the tables of ``torch.compile``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, distance, network, noise, ours

from fewstep.checks import ArgumentError
from fewstep.interop.diffusers import compiled
from fewstep.models import wrap
from fewstep.plans.running.lowering import check_lowering, lower
from fewstep.samplers import build, get, make_options, names
from fewstep.schedules import DiscreteVP, Grid
from fewstep.schedules.kinds import ConversionError

pytestmark = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
    "ignore:.*torch.jit.script:DeprecationWarning",
)


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process in which torch has traced no step."""
    monkeypatch.setattr(compiled, "_TRACED", [])
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def driven(s: Any, step: Any) -> torch.Tensor:
    x = noise()
    for t in s.timesteps:
        x = step(network(x, float(t)), t, x, return_dict=False)[0]
    return x


def test_launches_are_made_by_the_first_step() -> None:
    s = ours("DDIM", SD, sampler="dpmpp_2m")
    s.set_timesteps(6)
    run = s._compiled
    vars(run).pop("program", None)  # an earlier test may have run the same steps
    s.set_timesteps(6)
    assert s._compiled is run and "program" not in vars(run)
    s.step(noise(1), s.timesteps[0], noise())
    assert vars(run)["program"].plan is s.plan


@pytest.mark.usefixtures("untraced")
def test_tables_are_made_where_torch_traces_and_from_then_on() -> None:
    s = ours("DDIM", SD, sampler="unipc")
    s.set_timesteps(6)
    assert not hasattr(s._traced, "matrix")
    want = driven(s, s.step)
    assert not hasattr(s._traced, "matrix")
    s.set_timesteps(6)
    other = copy.deepcopy(s)  # waits for its tables too
    step = torch.compile(s.step, backend="eager", fullgraph=True)
    assert distance(driven(s, step), want) < 5e-6
    assert hasattr(s._traced, "matrix") and hasattr(other._traced, "matrix")
    assert distance(driven(other, torch.compile(other.step, backend="eager")), want) < 5e-6
    s.set_timesteps(7)
    assert s._traced.matrix.shape[0] == 7
    assert copy.deepcopy(s)._traced.matrix.shape[0] == 7


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "velocity", "score"])
def test_what_cannot_be_lowered_is_refused_without_lowering(prediction: str) -> None:
    """From alpha = 0 to sigma = 0 many samplers ask for a kind that the network cannot give."""
    table = DiscreteVP.from_betas([1e-4 + 2e-4 * k for k in range(100)], rescale_zero_snr=True)
    den = wrap(lambda x, t: x, table, prediction)
    nodes = [table.node(t) for t in (99.0, 60.0, 30.0, 0.0, -1.0)]
    refused = 0
    for name in names("plan"):
        entry = get(name)
        if entry.guided or entry.on[0] == "flow":
            continue
        try:
            plan = build(name, Grid.from_nodes(nodes, table), make_options(entry, {}))
        except ArgumentError:  # a sampler that cannot take these steps at all
            continue
        said: list[str | None] = []
        for lowered in (lower, check_lowering):
            try:
                lowered(plan, den)
                said.append(None)
            except ConversionError as error:
                said.append(str(error))
        assert said[0] == said[1], name
        refused += said[0] is not None
    assert (refused > 0) == (prediction in ("eps", "velocity", "score"))
