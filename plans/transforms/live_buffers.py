"""The buffers that a run needs to go on from a network call."""

from __future__ import annotations

from ..running.program import Program


def live(program: Program, k: int) -> list[int]:
    """The buffers that call k and the launches after it read before they are written."""
    call = program.calls[k]
    written: set[int] = set()
    found = {call.input: None, call.state: None}
    for launch in program.launches[k + 1 :]:
        for operand in launch.operands:
            if operand.kind == "slot" and operand.number not in written:
                found[operand.number] = None
        written |= set(launch.outs)
        after = launch.call
        ends = (program.result, *program.kept)
        lasts = ends if after is None else (after.input, after.state)
        found |= dict.fromkeys(last for last in lasts if last not in written)
    return list(found)
