"""The multistep core by itself: nodes, correctors, kinds, start-up, filter and noise, with weights
that say which prediction they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from fewstep.plans.builder import PlanBuilder
from fewstep.plans.weights.lagrange import Weights
from fewstep.samplers.multistep.recurrence import Step, multistep
from fewstep.samplers.multistep.weight_rules import Interpolation, UniformAdams
from fewstep.schedules import VPLinear, grid

GRID = grid("lam", VPLinear(), 5, final="sigma_min")


@dataclass(frozen=True)
class Recorded:
    """Another rule, and the nodes that it was asked for, by their index in the grid."""

    rule: Interpolation
    asked: list = field(default_factory=list)

    @property
    def kind(self):
        return self.rule.kind

    @property
    def noisy(self):
        return self.rule.noisy

    def weights(self, s, t, nodes):
        places = {node: i for i, node in enumerate(GRID.nodes)}
        self.asked.append((places[s], places[t], [places[n] for n in nodes]))
        return self.rule.weights(s, t, nodes)


def written(steps, allow="exact", **how):
    return multistep(PlanBuilder(GRID.nodes, allow), GRID, steps, **how)


def test_the_nodes_of_predictor_and_corrector():
    rule = Recorded(Interpolation())
    made = written(Step(rule, 2, corrector=3))
    assert rule.asked == [
        (0, 1, [0]),
        (0, 1, [1, 0]),
        (1, 2, [1, 0]),
        (1, 2, [2, 1, 0]),
        (2, 3, [2, 1]),
        (2, 3, [3, 2, 1]),
        (3, 4, [3, 2]),
        (3, 4, [4, 3, 2]),
        (4, 5, [4]),
    ]
    assert made.nfe == 5


def test_without_lower_order_final_the_last_step_keeps_its_nodes():
    rule = Recorded(Interpolation())
    written(Step(rule, 3), lower_order_final=False)
    assert [nodes for *_, nodes in rule.asked] == [[0], [1, 0], [2, 1, 0], [3, 2, 1], [4, 3, 2]]


def test_a_corrector_may_reach_further_back_than_its_predictor():
    rule = Recorded(Interpolation())
    written(Step(rule, 1, corrector=3), lower_order_final=False)
    assert (2, 3, [3, 2, 1]) in rule.asked and (2, 3, [2]) in rule.asked


def test_pece_evaluates_the_corrected_state_too():
    plain, again = (written(Step(Interpolation(), 1, 2, again=a)) for a in (False, True))
    assert (plain.nfe, again.nfe) == (5, 9)  # nothing is corrected before the first step


def test_steps_of_different_kinds_share_one_call():
    data, noise = Step(Interpolation(), 1), Step(Interpolation("eps"), 2)
    made = written([data, data, noise, data, noise])
    kinds = [[kind for _, kind, *_ in e.outs] for e in made.evaluations]
    assert kinds == [["x0"], ["x0", "eps"], ["eps"], ["x0", "eps"], ["eps"]]


def test_the_start_up_makes_the_first_steps():
    def start_up(b, i, x, m, s, t):
        return (
            b.at(t, x * (t.sigma / s.sigma) + (t.alpha - t.sigma / s.sigma * s.alpha) * m) * 1.0
            if i < 2
            else None
        )

    rule = Recorded(Interpolation())
    made = written(Step(rule, 3), lower_order_final=False, start_up=start_up)
    assert rule.asked == [(2, 3, [2, 1, 0]), (3, 4, [3, 2, 1]), (4, 5, [4, 3, 2])]
    assert made.nfe == 5


def test_the_filter_stores_what_it_gives():
    """A running mean of half and half: the step weighs (e_i + v_(i-1)) / 2."""
    made = written(
        Step(UniformAdams(), 1),
        stored=lambda b, past, s, m: b.value(0.5 * past[0][1] + 0.5 * m) if past else m,
    )
    means = [c for c in made.code if getattr(c, "node", 0) is None]
    assert len(means) == 4 and all([w for _, w in c.terms] == [0.5, 0.5] for c in means)


def test_the_filter_sees_the_nodes_and_the_values_before():
    seen = []

    def stored(b, past, s, m):
        seen.append((s, [node for node, _ in past]))
        return m

    made = written(Step(UniformAdams(), 1), stored=stored, memory=3)
    nodes = made.nodes
    assert seen == [(nodes[i], list(nodes[max(0, i - 3) : i])[::-1]) for i in range(5)]
    assert made == written(Step(UniformAdams(), 1))


def test_predictor_and_corrector_share_one_noise():
    made = written(Step(Interpolation(tau=1.0), 2, corrector=2, s_noise=1.0), "signal")
    assert len(made.draws) == 5
    used = [key for c in made.code for key, _ in getattr(c, "noise", ())]
    assert used == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_s_noise_scales_the_noise_alone():
    plain, half = (
        written(Step(Interpolation(tau=1.0), 1, s_noise=f), "signal") for f in (1.0, 0.5)
    )
    for a, b in zip(plain.code, half.code, strict=True):
        if noise := getattr(a, "noise", ()):
            assert a.terms == b.terms and b.noise[0][1] == 0.5 * noise[0][1]


@pytest.mark.parametrize("count", [4, 6])
def test_one_step_for_each_interval(count):
    with pytest.raises(ValueError, match="zip"):
        written([Step(Interpolation(), 1)] * count)


def test_uniform_adams_is_exact_transfer():
    s, t = GRID[1], GRID[2]
    w = UniformAdams().weights(s, t, [s, GRID[0]])
    assert isinstance(w, Weights) and w.carry == t.alpha / s.alpha
    assert w.values == pytest.approx(
        [1.5 * t.alpha * (t.rho - s.rho), -0.5 * t.alpha * (t.rho - s.rho)]
    )
