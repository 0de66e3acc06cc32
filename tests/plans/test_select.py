"""``Cursor.select``: rows of a live run re-ordered, repeated and left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError
from fewstep.models import GaussianMixture
from fewstep.plans.instructions import PlanError
from fewstep.plans.running.loop import Cursor
from fewstep.samplers import registry
from fewstep.schedules import EDM, Flow, VPLinear

F64 = torch.float64
ROWS = torch.tensor([2, 0, 0, 1, 2])


def model(schedule: Any) -> GaussianMixture:
    return GaussianMixture([[-2.0, 1.0], [1.0, 0.5]], [0.3, 0.6], [0.6, 0.4], schedule, "v")


class Noises:
    """Unit normals by key for ``count`` rows, with the keys that were drawn."""

    def __init__(self, count: int, given: dict[int, Tensor] | None = None) -> None:
        self.count, self.given, self.drawn = count, given or {}, {}

    def __call__(self, key: int, like: Tensor) -> Tensor:
        if key in self.given:
            return self.given[key].clone()
        g = torch.Generator().manual_seed(1000 * self.count + key)
        z = torch.randn(self.count, 2, generator=g, dtype=F64)
        self.drawn[key] = z.clone()
        return z


def step(cursor: Cursor, den: Any, edit: Tensor | None = None) -> None:
    call = cursor.call
    further = {} if call.to is None else {"to": call.to.t}
    cursor.step(den.raws(cursor.x_in, call.node.t, **further))
    if edit is not None:
        cursor.replace(cursor.x + edit)


def plans() -> list[str]:
    return [name for name in registry.names("plan") if registry.get(name).channels == ("main",)]


@pytest.mark.parametrize("name", plans())
def test_what_a_row_carries_goes_with_it(name):
    """Selecting rows in the middle is the run of those rows from the start: history, an edit and
    drawn noises follow; later noises are those of the places."""
    entry = registry.get(name)
    schedule = Flow() if entry.on[0] == "flow" else VPLinear()
    if name.startswith(("ouve", "mean_reverting", "pfgmpp")):
        pytest.skip("a sampler of its own schedule")
    den = model(schedule)
    try:
        plan = fewstep.plan(name, schedule, steps=5)
    except ValueError as error:
        pytest.skip(str(error)[:80])
    if any(e.to is not None for e in plan.evaluations):
        pytest.skip("a flow map")
    start = torch.randn(3, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    edit = torch.tensor([[0.1, 0.0], [0.0, -0.2], [0.3, 0.1]], dtype=F64)
    for at in range(1, plan.nfe + 1):
        kept, noise = start.clone(), Noises(3)
        cursor = Cursor(plan, den, kept, noise)
        for k in range(at):
            step(cursor, den, edit if k == 0 else None)
        later = Noises(5)
        cursor.select(ROWS, later)
        assert torch.equal(kept, start)
        drawn = {key: z[ROWS] for key, z in noise.drawn.items()}
        alone = Cursor(plan, den, start[ROWS], Noises(5, drawn))
        for k in range(at):
            step(alone, den, edit[ROWS] if k == 0 else None)
        assert torch.equal(cursor.x, alone.x)
        while not cursor.done:
            step(cursor, den)
            step(alone, den)
            assert torch.equal(cursor.x, alone.x)
        assert torch.equal(cursor.result, alone.result) and torch.equal(kept, start)


def test_copies_part_at_the_next_noisy_step():
    den = model(EDM(0.002, 80.0))
    plan = fewstep.plan("dpmpp_2m_sde", den.schedule, steps=6)
    noise = fewstep.fused.SeededNoise((5,) * 4, particles=(0, 1, 2, 3))
    cursor = Cursor(plan, den, torch.ones(4, 2, dtype=F64), noise)
    step(cursor, den)
    cursor.select(torch.zeros(4, dtype=torch.int64))
    assert float(cursor.x.std(0).max()) == 0.0
    step(cursor, den)
    assert float(cursor.x.std(0).min()) > 1e-2
    # a source whose noise travels with the particle has no spread, for ever
    cursor = Cursor(plan, den, torch.ones(4, 2, dtype=F64), fewstep.fused.SeededNoise((5,) * 4))
    step(cursor, den)
    step(cursor, den)
    assert float(cursor.x.std(0).max()) == 0.0


def test_dead_buffers_are_given_back():
    den = model(EDM(0.002, 80.0))
    plan = fewstep.plan("dpmpp_3m_sde", den.schedule, steps=8)
    noise = fewstep.fused.SeededNoise((0, 1, 2))
    cursor = Cursor(plan, den, torch.ones(3, 2, dtype=F64), noise)
    for _ in range(5):
        step(cursor, den)
    before = cursor.x.clone()
    cursor.select(torch.tensor([1, 1, 0]))
    held = [i for i, slot in enumerate(cursor.state.slots) if slot is not None and i]
    assert set(held) == cursor.program.live[cursor.index] - {0}
    assert torch.equal(cursor.x, before[[1, 1, 0]])


@pytest.mark.parametrize(
    "rows",
    [
        torch.tensor([0, 3]),
        torch.tensor([-1]),
        torch.tensor([], dtype=torch.int64),
        torch.tensor([0.0]),
        torch.tensor([True]),
        torch.tensor([[0]]),
        [0, 1],
    ],
)
def test_rows_are_checked(rows):
    den = model(VPLinear())
    cursor = Cursor(fewstep.plan("ddim", den.schedule, steps=3), den, torch.ones(3, 2, dtype=F64))
    with pytest.raises(ArgumentError, match="rows"):
        cursor.select(rows)


def test_a_source_of_another_batch_is_told_at_the_next_noise():
    den = model(VPLinear())
    plan = fewstep.plan("ddim", den.schedule, steps=3, eta=1.0)
    noise = fewstep.fused.SeededNoise((0, 1))
    cursor = Cursor(plan, den, torch.ones(2, 2, dtype=F64), noise)
    cursor.select(torch.tensor([0, 1, 1]))
    with pytest.raises((ArgumentError, PlanError), match="2 seeds"):
        step(cursor, den)


def test_select_after_the_end_gives_rows_of_the_result():
    den = model(VPLinear())
    plan = fewstep.plan("unipc", den.schedule, steps=3)
    cursor = Cursor(plan, den, torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=F64))
    while not cursor.done:
        step(cursor, den)
    found = cursor.result.clone()
    cursor.select(torch.tensor([1, 0, 1]))
    assert torch.equal(cursor.result, found[[1, 0, 1]])
