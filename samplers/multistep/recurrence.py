"""The multistep core: one loop for all methods that combine stored predictions.

A step from s to t is linear in the state and in the last p predictions,

    x_t = carry x_s + sum_j values_j m_j + noise z,

with weights from a rule (``weight_rules``, ``compat``). A corrector repeats the step with the
prediction at its end among the nodes, and keeps that prediction: it needs no further network call
(PEC), unless the corrected state is evaluated as well (PECE). Predictor and corrector of a step
share one noise z. The correlation between predictions and the noise within a step is neglected, so
the weak order is at most 2 for any number of nodes.

The number of nodes grows from 1 as predictions become available (or a ``StartUp`` makes the first
steps), and ``lower_order_final`` reduces it to 1 at the end. A published method is one ``Step`` for
all steps of the grid, or one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ...plans.builder import Expression, PlanBuilder, dot
from ...plans.plan import Plan
from ...plans.weights.lagrange import Weights
from ...schedules.grids.construction import Grid
from ...schedules.node import Node


class Rule(Protocol):
    """Protocol of weight rules.

    ``kind`` is the kind of prediction that the weights apply to; ``noisy`` is True if steps draw
    noise.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102

    @property
    def noisy(self) -> bool: ...  # noqa: D102

    def weights(self, s: Node, t: Node, nodes: Sequence[Node]) -> Weights:
        """Weights of the step from s to t for predictions at ``nodes``, newest first. In a
        corrector ``nodes[0]`` is t."""
        ...


@dataclass(frozen=True)
class Step:
    """Description of one step.

    Attributes:
        rule: its weights.
        order: number of past predictions that the predictor uses.
        corrector: number of predictions that the corrector uses, including the new one; 0: none.
        again: evaluate the corrected state as well (PECE).
        s_noise: factor on the noise.
    """

    rule: Rule
    order: int
    corrector: int = 0
    again: bool = False
    s_noise: float = 1.0

    @property
    def reach(self) -> int:
        """Number of stored predictions that the step may use."""
        return max(self.order, self.corrector - 1)


#: ``(builder, i, x, m, s, t)`` -> the state at t after step i from ``x`` at s, with the prediction
#: ``m`` at s; None: the multistep recurrence makes the step
StartUp = Callable[[PlanBuilder, int, Expression, Expression, Node, Node], "Expression | None"]
#: ``(builder, past, s, m)`` -> the value to store in place of the prediction ``m`` at s; ``past``:
#: the nodes before and the values stored there, newest first
Filter = Callable[[PlanBuilder, Sequence[tuple[Node, Expression]], Node, Expression], Expression]
#: ``(builder, x, node, m)`` -> the value to store in place of the prediction ``m``, made at
#: the state ``x`` at ``node``; it stays when the state is corrected
Formed = Callable[[PlanBuilder, Expression, Node, Expression], Expression]


class Past(NamedTuple):
    """A node and the predictions made there, by kind."""

    node: Node
    by_kind: dict[str, Expression]


class _Made(NamedTuple):
    """A predicted step from ``x`` at ``s`` with its noise, kept for the corrector; ``corrector`` is
    the number of nodes that the corrector uses."""

    step: Step
    x: Expression
    s: Node
    z: Expression | None
    corrector: int

    def to(self, t: Node, nodes: Sequence[Past]) -> Expression:
        """State at ``t`` from the predictions in ``nodes``."""
        rule = self.step.rule
        w = rule.weights(self.s, t, [past.node for past in nodes])
        y = w.carry * self.x + dot(w.values, [past.by_kind[rule.kind] for past in nodes])
        if self.z is None or w.noise == 0.0:
            return y
        return y + (w.noise * self.step.s_noise) * self.z


def multistep(
    b: PlanBuilder,
    grid: Grid,
    steps: Step | Sequence[Step],
    *,
    lower_order_final: bool = True,
    start_up: StartUp | None = None,
    stored: Filter | None = None,
    memory: int = 1,
    formed: Formed | None = None,
) -> Plan:
    """Build the plan that makes ``steps`` along ``grid``: one ``Step`` for all, or one for each
    step.

    ``lower_order_final``: use at most as many predictions as there are steps left. ``start_up`` may
    make the first steps. ``stored`` is applied to each prediction before it is stored; it is given
    the last ``memory`` values, where there are so many. ``formed`` is applied to each prediction
    and its state.
    """
    plans = [steps] * grid.steps if isinstance(steps, Step) else list(steps)
    reach = max(memory, *(step.reach for step in plans))
    x = b.start(grid[0])
    history: list[Past] = []
    made: _Made | None = None
    alike = plans[0] if all(step is plans[0] for step in plans) else None
    for i, ((s, t), step) in enumerate(zip(grid.pairs(), plans, strict=True)):
        kinds = _kinds(plans, i, reach) if alike is None else (alike.rule.kind,)
        now = _evaluate(b, x, s, kinds, formed)
        if made is not None and made.corrector:
            x = b.at(s, made.to(s, [now, *history][: made.corrector]))
            now = _evaluate(b, x, s, kinds, formed) if made.step.again else now
        if stored is not None:
            now = _filtered(b, history, now, stored)
        history = [now, *history[: reach - 1]]
        left = grid.steps - i if lower_order_final else len(history)
        z = b.noise(s, t) if step.rule.noisy and t.sigma > 0.0 else None
        made = _Made(step, x, s, z, min(step.corrector, len(history) + 1, left + 1))
        first = None if start_up is None else start_up(b, i, x, now.by_kind[kinds[0]], s, t)
        x = b.at(t, made.to(t, history[: min(step.order, left)])) if first is None else first
    return b.finish(x)


def _kinds(steps: Sequence[Step], i: int, reach: int) -> tuple[str, ...]:
    """Kinds of prediction at node i that are used: by step i, by later steps that reach back to it
    (at most ``reach``), and by the corrector of the previous step."""
    ahead = enumerate(steps[i : i + reach])
    used = [step.rule.kind for distance, step in ahead if distance < step.reach]
    if i and steps[i - 1].corrector:
        used.append(steps[i - 1].rule.kind)
    return tuple(dict.fromkeys(used))


def _evaluate(
    b: PlanBuilder, x: Expression, s: Node, kinds: tuple[str, ...], formed: Formed | None
) -> Past:
    """Make one network call and convert its output to ``kinds``, then by ``formed``."""
    made = b.evaluate_kinds(x, s, kinds)
    if formed is not None:
        made = tuple([formed(b, x, s, m) for m in made])
    return Past(s, dict(zip(kinds, made, strict=True)))


def _filtered(b: PlanBuilder, history: Sequence[Past], now: Past, stored: Filter) -> Past:
    """Apply ``stored`` to the predictions of ``now``."""
    made = {}
    for kind, m in now.by_kind.items():
        past = [(p.node, p.by_kind[kind]) for p in history if kind in p.by_kind]
        made[kind] = stored(b, past, now.node, m)
    return Past(now.node, made)
