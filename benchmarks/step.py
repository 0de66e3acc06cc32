"""Time of solver steps against the least that memory allows, and against other programs.

    python benchmarks/step.py [--threads 1] [--rounds 7] [--peers FOLDER] [--write docs/step.md]

A run of 10 steps with a network that returns a tensor made beforehand, so that the solver alone is
timed. Per step:

    floor     copies that move as many bytes as the step must read and write: every input and output
              of its launch once. They rotate through as many buffers as the step touches
    native    ``fewstep.run`` with the compiled kernel, by the floor
    torch     the same in torch operations, by the floor
    check     native with the check for NaN and infinity, by native without
    diffusers the step of diffusers' scheduler, by native
    k-diffusion, azula  the step of their loops, by ours with the check

All alternate in one process; a time is the minimum over the rounds, of the processor where there is
one thread. k-diffusion and azula are read from the installed packages or from FOLDER, which holds
``k_diffusion/`` or ``azula/``; a cell is empty where the package or the method is missing.
``--write`` puts the table between the markers of a page.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from step_peers import peers, run_of
from torch import Tensor

import fewstep
from fewstep.fused import BACKENDS, linear_backend
from fewstep.models import wrap
from fewstep.plans import Program, lower
from fewstep.plans.running.loop import run_plan
from fewstep.schedules import DiscreteVP, Flow, Schedule

PEERS = ("k-diffusion", "azula")
BEGIN, END = "<!-- table of benchmarks/step.py -->", "<!-- end of the table -->"
STEPS = 10
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPES = ((1, 4, 64, 64), (4, 4, 128, 128), (16, 3, 256, 256))
VP = DiscreteVP.from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)


class Case(NamedTuple):
    """A sampler of fewstep with its options and path; the class of diffusers with its config."""

    sampler: str
    options: dict[str, Any]
    schedule: Schedule
    kind: str
    config: dict[str, Any]


CASES = {
    "Euler": Case("ddim", {}, VP, "EulerDiscrete", SD),
    "Heun": Case("heun", {}, VP, "HeunDiscrete", SD),
    "DPM++ 2M": Case("dpmpp_2m", {}, VP, "DPMSolverMultistep", SD),
    "DPM++ 3M": Case("dpmpp_3m", {}, VP, "DPMSolverMultistep", {"solver_order": 3, **SD}),
    "UniPC": Case("unipc", {}, VP, "UniPCMultistep", SD),
    "flow Euler": Case("flow_euler", {}, Flow(3.0), "FlowMatchEulerDiscrete", {"shift": 3.0}),
}


def moved(program: Program) -> float:
    """Tensors that one step must read or write, the mean over the launches between two calls."""
    inner = program.launches[1:]
    return sum(len(x.operands) + len(x.outs) for x in inner) / len(inner)


def floor(shape: tuple[int, ...], dtype: torch.dtype, tensors: float) -> Callable[[], None]:
    """Copies that move ``tensors`` tensors a step, for the calls of a run."""
    pool = [torch.zeros(shape, dtype=dtype) for _ in range(max(2, math.ceil(tensors)))]
    copies = round(tensors * STEPS / 2)

    def run() -> None:
        for i in range(copies):
            pool[(2 * i + 1) % len(pool)].copy_(pool[2 * i % len(pool)])

    return run


def theirs(kind: Any, config: dict[str, Any], x: Tensor, raw: Tensor) -> Callable[[], None]:
    """A run of diffusers' scheduler."""
    scheduler = kind(**config)

    def run() -> None:
        scheduler.set_timesteps(STEPS)
        state = x
        for t in scheduler.timesteps:
            state = scheduler.step(raw, t, state, return_dict=False)[0]

    return run


def ours(program: Program, den: Any, x: Tensor, backend: str, check: bool) -> Callable[[], None]:
    """A run of fewstep."""

    def run() -> None:
        with linear_backend(backend):
            run_plan(program, den, x, check=check)

    return run


def row(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, rounds: int, others: dict[str, Any]
) -> str:
    """One line of the table."""
    case = CASES[name]
    x, raw = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    prediction = "velocity" if isinstance(case.schedule, Flow) else "eps"
    den = wrap(lambda x_in, t: raw, case.schedule, prediction)
    program = lower(fewstep.plan(case.sampler, case.schedule, steps=STEPS, **case.options), den)
    kind = getattr(diffusers, case.kind + "Scheduler")
    runs: dict[str, Callable[[], object]] = {
        "floor": floor(shape, dtype, moved(program)),
        **{backend: ours(program, den, x, backend, False) for backend in BACKENDS},
        "check": ours(program, den, x, BACKENDS[0], True),
        "diffusers": theirs(kind, case.config, x, raw),
    }
    for peer in PEERS:
        found = run_of(peer, others[peer], name, STEPS, x, raw) if peer in others else None
        runs |= {peer: found} if found is not None else {}
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for key, run in runs.items():
            began = clock()
            run()
            best[key] = min(best[key], clock() - began)
    size = "x".join(map(str, shape))
    cells = [
        f"{best['native'] / best['floor']:.1f}",
        f"{best['torch'] / best['floor']:.1f}",
        f"{best['check'] / best['native']:.2f}",
        f"{best['diffusers'] / best['native']:.1f}",
        *(f"{best[peer] / best['check']:.1f}" if peer in best else "" for peer in PEERS),
    ]
    return (
        f"| {name} | {size} | {str(dtype)[6:]} | {moved(program):.0f} | " + " | ".join(cells) + " |"
    )


def main() -> None:
    """Print the table, and write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", type=Path, help="a folder with k_diffusion/ or azula/")
    parser.add_argument("--write", type=Path, help="a page with the markers of the table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    diffusers.utils.logging.set_verbosity_error()
    lines = [
        "| solver | size | dtype | tensors | native | torch | check | diffusers "
        "| k-diffusion | azula |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    others = peers(options.peers)
    print("\n".join(lines), flush=True)
    for shape in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            for name in CASES:
                lines.append(row(name, shape, dtype, options.rounds, others))
                print(lines[-1], flush=True)
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        head, tail = text.split(BEGIN)[0], text.split(END, 1)[1]
        body = "\n".join(lines)
        options.write.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
