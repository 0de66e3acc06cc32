"""A plan as a printed table."""

from __future__ import annotations

from ..schedules.node import Node
from .instructions import MAIN, Combine, Evaluate, PlanData


def explain_plan(plan: PlanData, backend: bool = False) -> str:
    """One line for each instruction, after the t, lam and sigma of its node. The reasons of
    automatic choices come first; with ``backend``, what computes the steps here comes last.

    ``x`` are states, ``D`` and the names of kinds are predictions, ``a`` auxiliary values, ``z``
    noises.
    """
    head = (
        f"{plan.name or 'plan'}: {plan.steps} steps, {plan.nfe} evaluations, {plan.exactness} "
        f"(defect {plan.defect:.1e})"
    )
    lines = [
        head,
        *(plan.reason.splitlines()),
        f"{'t':>12} {'lam':>9} {'sigma':>11}  instruction",
        f"{_place(plan.start)}  x0 = start",
    ]
    names = {0: "x0"}
    for i in plan.code:
        if isinstance(i, Evaluate):
            for value, kind, _ in i.outs:
                names[value] = f"{kind}{value}" if kind != "x0" else f"D{value}"
            lines.append(f"{_place(i.node)}  {_call(i, names)}")
        else:
            names[i.out] = f"x{i.out}" if i.node is not None else f"a{i.out}"
            lines.append(f"{_place(i.node)}  {names[i.out]} = {_sum(i, names)}")
    lines.append(f"{_place(plan.end)}  return {names[plan.result]}")
    if backend:
        from ..fused.linear.dispatch import backends_described

        lines.append(backends_described())
    return "\n".join(lines)


def _call(i: Evaluate, names: dict[int, str]) -> str:
    outs = ", ".join(names[value] for value, _, _ in i.outs)
    reads = "/".join(
        kind if channel == MAIN else f"{kind}[{channel}]" for _, kind, channel in i.outs
    )
    to = "" if i.to is None else f", to t={'?' if i.to.t is None else f'{i.to.t:.6g}'}"
    return f"{outs} = network({names[i.state]}{to}) as {reads}"


def _place(node: Node | None) -> str:
    if node is None:
        return " " * 34
    t = "?" if node.t is None else f"{node.t:.6g}"
    return f"{t:>12} {node.lam:>9.4f} {node.sigma:>11.6g}"


def _sum(i: Combine, names: dict[int, str]) -> str:
    terms = [(c, names[v]) for v, c in i.terms] + [(c, f"z{k}") for k, c in i.noise]
    if not terms:
        return "0"
    text = " ".join(f"{'-' if c < 0 else '+'} {abs(c):.8g} {name}" for c, name in terms)
    return text[2:] if text.startswith("+ ") else text
