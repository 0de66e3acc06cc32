"""Cost of a scheduler step, fewstep's and diffusers': time, operators, host reads, and the set-up
of a run.

    python benchmarks/diffusers_step.py [--steps N] [--rounds N] [--only NAME ...]

Float32 latents of shape (1, 4, 64, 64), one thread, and a placeholder for the network that is not
timed. Runs of the two alternate; a time is the mean over the calls of a run of the minimum of each
call over the rounds, with the output object that pipelines use. Bounds: half of the time of
diffusers for samplers of order 2 and higher, its time for order 1 (a step that draws noise is as
slow as torch's generator); 8 operators per call without corrector or noise, 16 for any sampler. The
set-up is that of 50 steps, in processor time, first with empty caches and then again; bound 2 ms
(the first step lowers the plan, see benchmarks/plan_build.py).
"""

from __future__ import annotations

import argparse
import inspect
import logging
import statistics
import time
import warnings
from typing import Any

import diffusers
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fewstep import FewstepScheduler
from fewstep.interop.diffusers import program as diffusers_program
from fewstep.samplers import registry

SHAPE = (1, 4, 64, 64)
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
#: class, config, bound on our time over theirs, bound on operators a call
CASES: list[tuple[str, dict[str, Any], float, int]] = [
    ("DDIM", {"clip_sample": False, **SD}, 1.0, 8),
    ("EulerDiscrete", SD, 1.0, 8),
    ("FlowMatchEulerDiscrete", {"shift": 3.0}, 1.0, 8),
    ("EDMEuler", {}, 1.0, 8),
    ("DDPM", {"clip_sample": False}, 1.0, 16),
    ("EulerAncestralDiscrete", SD, 1.0, 16),
    ("LCM", {}, 1.0, 16),
    ("TCD", {}, 1.0, 16),
    ("PNDM", {"skip_prk_steps": True, **SD}, 0.5, 8),
    ("HeunDiscrete", SD, 0.5, 8),
    ("KDPM2Discrete", SD, 0.5, 8),
    ("KDPM2AncestralDiscrete", SD, 0.5, 16),
    ("FlowMatchHeunDiscrete", {"shift": 3.0}, 0.5, 8),
    ("LMSDiscrete", SD, 0.5, 8),
    ("IPNDM", {}, 0.5, 8),
    ("DPMSolverMultistep", SD, 0.5, 8),
    ("DPMSolverMultistep", {"solver_order": 3, **SD}, 0.5, 8),
    ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++", **SD}, 0.5, 16),
    ("DPMSolverSinglestep", {"lower_order_final": True, **SD}, 0.5, 8),
    ("DEISMultistep", SD, 0.5, 8),
    ("DEISMultistep", {"solver_order": 3, **SD}, 0.5, 8),
    ("EDMDPMSolverMultistep", {}, 0.5, 8),
    ("UniPCMultistep", SD, 0.5, 16),
    ("UniPCMultistep", {"solver_order": 3, **SD}, 0.5, 16),
    ("SASolver", SD, 0.5, 16),
]


class Operators(TorchDispatchMode):
    """Counts the operators that run, and those that read a number back to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        self.reads += "local_scalar" in str(func)
        return func(*args, **(kwargs or {}))


def seconds(scheduler: Any, steps: int, most: list[int] | None = None) -> list[float]:
    """Return the time of each ``step`` of one run; with ``most``, collect the largest (operators,
    host reads) of a call there instead."""
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SHAPE, generator=generator)
    drawn = (
        {"generator": generator}
        if "generator" in inspect.signature(scheduler.step).parameters
        else {}
    )
    spent = []
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = torch.tanh(x_in)  # a network's output has memory of its own
        if most is not None:
            with Operators() as seen:
                x = scheduler.step(output, t, x, **drawn).prev_sample
            most[:] = [max(most[0], seen.count), max(most[1], seen.reads)]
            continue
        start = time.perf_counter()
        x = scheduler.step(output, t, x, **drawn).prev_sample
        spent.append(time.perf_counter() - start)
    return spent


def set_up_ms(scheduler: Any, steps: int, *, fresh: bool) -> float:
    """Return the processor time of ``set_timesteps``, memoised or with fewstep's caches empty."""
    if fresh:
        for memory in (
            diffusers_program.compiled,
            diffusers_program.calls_per_step,
            diffusers_program.fitted,
        ):
            memory.cache_clear()
        registry.forget_plans()
    start = time.thread_time()
    scheduler.set_timesteps(steps)
    return 1e3 * (time.thread_time() - start)


def row(
    name: str, config: dict[str, Any], steps: int, rounds: int
) -> tuple[float, float, list[int], list[int], float, float]:
    """Return the microseconds per call of diffusers and of fewstep, their operators and host reads,
    and the set-up of fewstep with empty caches and again."""
    theirs = getattr(diffusers, name + "Scheduler")(**config)
    ours = FewstepScheduler.from_config({"_class_name": name + "Scheduler", **config})
    counts = ([0, 0], [0, 0])
    for scheduler, most in ((theirs, counts[0]), (ours, counts[1])):
        seconds(scheduler, steps, most)
    taken: tuple[list[list[float]], ...] = ([], [])
    for _ in range(rounds):
        for scheduler, runs in ((theirs, taken[0]), (ours, taken[1])):
            runs.append(seconds(scheduler, steps))
    best = [1e6 * statistics.fmean(map(min, zip(*runs, strict=True))) for runs in taken]
    first = min(set_up_ms(ours, 50, fresh=True) for _ in range(3))
    again = min(set_up_ms(ours, 50, fresh=False) for _ in range(5))
    return best[0], best[1], counts[0], counts[1], first, again


def main() -> None:
    """Print one row per case; a star marks numbers outside their bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", default=[], help="classes whose name begins so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    heads = ("theirs us", "ours us", "ratio", "their ops", "ours", "reads", "set-up ms", "again")
    print(f"{'class':24} " + " ".join(f"{head:>9}" for head in heads))
    for name, config, ratio, operators in CASES:
        if options.only and not any(name.startswith(prefix) for prefix in options.only):
            continue
        a, b, there, here, first, again = row(name, config, options.steps, options.rounds)
        label = name + "".join(
            f" {config[k]}" for k in ("solver_order", "algorithm_type") if k in config
        )
        marks = [
            "*" if bad else " "
            for bad in (b / a > ratio, here[0] > operators, first > 2.0, again > 2.0)
        ]
        print(
            f"{label[:24]:24} {a:9.1f} {b:9.1f} {b / a:8.2f}{marks[0]} {there[0]:9d} "
            f"{here[0]:8d}{marks[1]} {here[1]:9d} "
            f"{first:8.2f}{marks[2]} {again:8.3f}{marks[3]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
