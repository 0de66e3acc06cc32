"""Solver steps on a GPU: Triton's kernel, torch operations and diffusers, against copies.

    python benchmarks/gpu_step.py [--rounds 7] [--write docs/step.md]

A run of 10 steps with a network that returns a tensor made beforehand, so that the solver alone is
timed, by CUDA events. Per step:

    tensors    that the step must read or write: every input and output of its launch once, the
               noise not, which the launch draws
    launches   kernels of a step: fewstep with Triton, diffusers (operators that compute)
    copy       time of copies that move as many bytes, rotating through as many buffers, by that of
               the step: the share of the copy bandwidth that the step reaches
    recorded   the same where the run is replayed from a CUDA graph, without the host
    torch      fewstep's step in torch operations, by that with Triton
    diffusers  the step of diffusers' scheduler, by fewstep's with Triton

All alternate in one process; a time is the minimum over the rounds. ``--write`` puts the table
between the markers of a page. With ``TRITON_INTERPRET=1`` and ``--dry`` it runs on the CPU, one
small size, to see that it works; the numbers then mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fewstep
from fewstep.fused import SeededNoise, linear_backend, noise_backend
from fewstep.fused.linear import device as kernel
from fewstep.models import wrap
from fewstep.plans import Program, lower
from fewstep.plans.running.loop import Cursor, run_plan
from fewstep.schedules import DiscreteVP, Flow, Schedule

BEGIN, END = "<!-- table of benchmarks/gpu_step.py -->", "<!-- end of the table of the GPU -->"
STEPS = 10
SHAPES = ((1, 4, 64, 64), (4, 4, 128, 128), (16, 3, 256, 256), (64, 3, 256, 256))
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SDE = {"algorithm_type": "sde-dpmsolver++", **SD}
VP = DiscreteVP.from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)
HEADS = ["solver", "size", "dtype", "tensors", "launches", "copy", "recorded", "torch", "diffusers"]


class Case(NamedTuple):
    """A sampler of fewstep and its path; the class of diffusers with its config; whether the
    network's output is guided (two outputs, combined in the step)."""

    sampler: str
    schedule: Schedule
    kind: str
    config: dict[str, Any]
    guided: bool = False


CASES = {
    "Euler": Case("ddim", VP, "EulerDiscrete", SD),
    "flow Euler": Case("flow_euler", Flow(3.0), "FlowMatchEulerDiscrete", {"shift": 3.0}),
    "DPM++ 2M": Case("dpmpp_2m", VP, "DPMSolverMultistep", SD),
    "DPM++ 2M, guided": Case("dpmpp_2m", VP, "DPMSolverMultistep", SD, True),
    "DPM++ 3M": Case("dpmpp_3m", VP, "DPMSolverMultistep", {"solver_order": 3, **SD}),
    "UniPC": Case("unipc", VP, "UniPCMultistep", SD),
    "SDE-DPM++ 2M": Case("dpmpp_2m_sde", VP, "DPMSolverMultistep", SDE),
}


class Work(TorchDispatchMode):
    """Counts the operators that compute: views are free."""

    VIEWS = ("view", "expand", "slice", "select", "unsqueeze", "squeeze", "detach", "alias", "t.")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not any(f"aten.{name}" in str(func) for name in self.VIEWS)
        return func(*args, **(kwargs or {}))


def moved(program: Program) -> float:
    """Tensors that a step must read or write, the mean over the launches between two calls."""
    inner = program.launches[1:]
    tensors = [[o for o in x.operands if o.kind != "noise"] for x in inner]
    return sum(len(t) + len(x.outs) for t, x in zip(tensors, inner, strict=True)) / len(inner)


def copies(like: Tensor, tensors: float) -> Callable[[], None]:
    """Copies that move ``tensors`` tensors a step, for the steps of a run."""
    pool = [torch.zeros_like(like) for _ in range(max(2, math.ceil(tensors)))]
    count = round(tensors * STEPS / 2)

    def run() -> None:
        for i in range(count):
            pool[(2 * i + 1) % len(pool)].copy_(pool[2 * i % len(pool)])

    return run


def theirs(case: Case, x: Tensor, raws: tuple[Tensor, ...]) -> Callable[[], None]:
    """A run of diffusers' scheduler."""
    scheduler = getattr(diffusers, case.kind + "Scheduler")(**case.config)

    def run() -> None:
        scheduler.set_timesteps(STEPS, device=x.device)
        state = x
        for t in scheduler.timesteps:
            raw = raws[0] if not case.guided else raws[1] + 2.0 * (raws[0] - raws[1])
            state = scheduler.step(raw, t, state, return_dict=False)[0]

    return run


def denoiser(case: Case, x: Tensor, raws: tuple[Tensor, ...]) -> tuple[Any, Any]:
    """The denoiser whose network costs nothing, and its condition."""
    prediction = "velocity" if isinstance(case.schedule, Flow) else "eps"
    if not case.guided:
        return wrap(lambda x_in, t: raws[0], case.schedule, prediction), None
    both, cond = torch.cat([raws[1], raws[0]]), torch.zeros(len(x), 1, device=x.device)
    den = wrap(lambda x_in, t, cond: both, case.schedule, prediction)
    return fewstep.guidance.CFG(den, scale=2.0, uncond=cond[:1]), cond


def ours(program: Program, den: Any, cond: Any, x: Tensor, backend: str) -> Callable[[], None]:
    """A run of fewstep."""
    noise = SeededNoise(tuple(range(len(x))))
    fill = "triton" if backend == "triton" else "numpy"

    def run() -> None:
        with linear_backend(backend), noise_backend(fill):
            run_plan(program, den, x, noise=noise, cond=cond, check=False)

    return run


def recorded(program: Program, den: Any, cond: Any, x: Tensor) -> Callable[[], None]:
    """The steps of a run from a CUDA graph; the network's outputs are made beforehand."""

    def cursor() -> Cursor:
        return Cursor(program, den, x, SeededNoise(tuple(range(len(x)))))

    def steps(own: Cursor) -> None:
        for _ in range(STEPS):
            own.advance(raws)

    with torch.no_grad(), linear_backend("triton"), noise_backend("triton"):
        raws = den.raws(x, torch.tensor(program.times[0], device=x.device), cond)
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            steps(cursor())
        torch.cuda.synchronize()
        own, graph = cursor(), torch.cuda.CUDAGraph()
        own.state.noise(0, x)  # the keys go to the device once
        with torch.cuda.graph(graph):
            steps(own)
    return lambda: (own, graph)[1].replay()  # the graph reads the buffers of the cursor


def seconds(run: Callable[[], None], place: str) -> float:
    """The time of ``run``."""
    if place != "cuda":
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def launches(run: Callable[[], None]) -> float:
    """Triton's launches a step."""
    seen = []
    launch = kernel.launch
    kernel.launch = lambda *args: seen.append(launch(*args))  # type: ignore[assignment]
    try:
        run()
    finally:
        kernel.launch = launch
    return len(seen) / STEPS


def row(name: str, shape: tuple[int, ...], dtype: torch.dtype, rounds: int, place: str) -> str:
    """One line of the table."""
    case = CASES[name]
    x, *raws = (torch.randn(shape, device=place).to(dtype) for _ in range(3))
    den, cond = denoiser(case, x, tuple(raws))
    program = lower(fewstep.plan(case.sampler, case.schedule, steps=STEPS), den)
    runs: dict[str, Callable[[], None]] = {
        "copy": copies(x, moved(program)),
        "triton": ours(program, den, cond, x, "triton"),
        "torch": ours(program, den, cond, x, "torch"),
        "diffusers": theirs(case, x, tuple(raws)),
    }
    runs["triton"]()
    runs["recorded"] = recorded(program, den, cond, x) if place == "cuda" else runs["triton"]
    with Work() as work:
        runs["diffusers"]()
    best = dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for key, run in runs.items():
            best[key] = min(best[key], seconds(run, place))
    cells = [
        name,
        "x".join(map(str, shape)),
        str(dtype)[6:],
        f"{moved(program):.0f}",
        f"{launches(runs['triton']):.0f} / {work.count / STEPS:.0f}",
        f"{best['copy'] / best['triton']:.0%}",
        f"{best['copy'] / best['recorded']:.0%}",
        f"{best['torch'] / best['triton']:.1f}",
        f"{best['diffusers'] / best['triton']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table, and write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", type=Path, help="a page with the markers of the table")
    parser.add_argument("--dry", action="store_true", help="one small size in the interpreter")
    options = parser.parse_args()
    if not (options.dry or torch.cuda.is_available()):
        parser.error("there is no CUDA device; --dry with TRITON_INTERPRET=1 tries the script")
    if options.dry and options.write:
        parser.error("--write takes measured numbers, --dry has none")
    diffusers.utils.logging.set_verbosity_error()
    place = "cpu" if options.dry else "cuda"
    lines = ["| " + " | ".join(HEADS) + " |", "|---" * len(HEADS) + "|"]
    name = "the interpreter" if options.dry else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}\n\n" + "\n".join(lines), flush=True)
    for shape in ((1, 1, 8, 8),) if options.dry else SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            for case in CASES:
                with contextlib.suppress(torch.cuda.OutOfMemoryError):
                    lines.append(row(case, shape, dtype, options.rounds, place))
                    print(lines[-1], flush=True)
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        head, tail = text.split(BEGIN)[0], text.split(END, 1)[1]
        body = f"{name}, torch {torch.__version__}.\n\n" + "\n".join(lines)
        options.write.write_text(f"{head}{BEGIN}\n\n{body}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
