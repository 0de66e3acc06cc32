"""Memory and time of gradients through a run, by mode of ``grad=`` and number of network calls.

    python benchmarks/gradients.py [--rounds 3] [--write docs/gradients.md]

The network is fewstep's U-Net with 3.75M parameters on a batch of 4 colour images of 16 x 16, one
call a step, float32, one thread. Gradients are those of the start state and of all parameters; the
last columns are those of the start state alone.

    kept MB      what autograd holds between forward and backward pass: distinct storages that
                 saved-tensor hooks see, without the parameters
    peak MB      the largest such sum over forward and backward pass
    RSS MB       growth of the resident memory of a process that makes this run alone (Linux)
    calls        network calls in the forward pass and in the backward pass
    time         processor time of both passes by that of ``full``. The modes alternate, and the
                 time of a mode is the minimum over the rounds

``--write`` puts the table between the markers of a page.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import fewstep
from fewstep.models import BaseDenoiser, wrap
from fewstep.models.unet import UNet, UNetConfig
from fewstep.schedules import EDM

#: mode -> sampler; all end at sigma_min, where the continuous adjoint can begin
MODES = {
    "full": "dpmpp_2m",
    "checkpoint": "dpmpp_2m",
    "checkpoint:sqrt": "dpmpp_2m",
    "reversible": "belm",
    "truncated:5": "dpmpp_2m",
    "adjoint": "dpmpp_2m",
}
STEPS = (10, 50, 100)
BATCH, SIDE, MB = 4, 16, 2.0**20
BEGIN, END = "<!-- table of benchmarks/gradients.py -->", "<!-- end of the table -->"


class Meter:
    """Adds up the distinct storages that autograd holds, through saved-tensor hooks."""

    def __init__(self, without: list[Tensor]) -> None:
        self.without = {t.untyped_storage().data_ptr() for t in without}
        self.held: Counter[int] = Counter()
        self.now = self.peak = 0

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        """The hooks, as a context of both passes."""
        return torch.autograd.graph.saved_tensors_hooks(
            lambda t: Held(self, t), lambda held: held.tensor
        )

    def count(self, storage: torch.UntypedStorage, change: int) -> None:
        """Register one more (+1) or one less (-1) holder of a storage."""
        place = storage.data_ptr()
        if place in self.without:
            return
        before = self.held[place]
        self.held[place] += change
        if min(before, before + change) == 0:
            self.now += change * storage.nbytes()
            self.peak = max(self.peak, self.now)


class Held:
    """A tensor that autograd holds."""

    def __init__(self, meter: Meter, tensor: Tensor) -> None:
        self.meter, self.tensor = meter, tensor.detach()  # without its graph: no cycle
        meter.count(tensor.untyped_storage(), 1)

    def __del__(self) -> None:
        self.meter.count(self.tensor.untyped_storage(), -1)


class Case(NamedTuple):
    """One run."""

    mode: str
    steps: int
    train: bool = True  # whether the parameters require grad


class Setting:
    """A network that counts its calls, and its denoiser."""

    def __init__(self, train: bool) -> None:
        torch.manual_seed(0)
        config = UNetConfig(SIDE, 3, 0, (96, 128), (2, 2), 2, (1,))
        self.network = UNet(config).requires_grad_(train)
        with torch.no_grad():  # a new network returns 0
            self.network.leave.weight.normal_(0.0, 0.02)
        self.calls = 0
        self.network.register_forward_pre_hook(self._count)
        shape = (3, SIDE, SIDE)
        path = EDM(0.002, 80.0)
        self.denoiser: BaseDenoiser = wrap(
            self.network, path, "x0", "c_noise", precondition="edm", shape=shape
        )
        noise = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(1))
        self.start = 80.0 * noise

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def forward(self, case: Case) -> Tensor:
        """The sum of squares of a result."""
        x = self.start.clone().requires_grad_()
        plan = fewstep.plan(
            MODES[case.mode],
            self.denoiser.schedule,
            steps=case.steps,
            grid="lam",
            final="sigma_min",
        )
        out = fewstep.run(plan, self.denoiser, x, seeds=list(range(BATCH)), grad=case.mode)
        return out.square().sum()

    def seconds(self, case: Case) -> float:
        """Processor time of both passes."""
        self.network.zero_grad(set_to_none=True)
        began = time.process_time()
        self.forward(case).backward()
        return time.process_time() - began


def resident(field: str) -> float:
    """``VmRSS``, the resident memory of this process, or ``VmHWM``, its maximum so far; in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (found,) = (line for line in lines if line.startswith(f"{field}:"))
    return int(found.split()[1]) / 1024.0


def memory(case: Case) -> dict[str, float]:
    """Memory and calls of one run; for a process of its own."""
    setting = Setting(case.train)
    # what the first pass through the network loads is not counted
    setting.network(setting.start[:1].clone().requires_grad_(), torch.zeros(1)).sum().backward()
    setting.network.zero_grad(set_to_none=True)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before, setting.calls = resident("VmRSS"), 0
    loss = setting.forward(case)
    forward = setting.calls
    loss.backward()
    growth = resident("VmHWM") - before
    found = {"rss": growth, "forward": forward, "backward": setting.calls - forward}
    del loss
    meter = Meter(list(setting.network.parameters()))
    with meter.hooks():
        loss = setting.forward(case)
        found["kept"] = meter.now / MB
        loss.backward()
    return found | {"peak": meter.peak / MB}


def apart(case: Case) -> dict[str, float]:
    """``memory`` in a new process."""
    command = [sys.executable, __file__, "--one", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def times(steps: int, rounds: int, train: bool) -> dict[str, float]:
    """Best processor time of every mode, side by side."""
    setting = Setting(train)
    modes = [m for m in MODES if train or not m.startswith("truncated")]
    best = dict.fromkeys(modes, float("inf"))
    for _ in range(rounds):
        for mode in modes:
            best[mode] = min(best[mode], setting.seconds(Case(mode, steps, train)))
    return best


def table(rounds: int) -> list[str]:
    """The rows of the table."""
    rows = [
        "| mode | steps | kept MB | peak MB | RSS MB | calls | time | time, start alone |",
        "|---|---|---|---|---|---|---|---|",
    ]
    spent = {(n, train): times(n, rounds, train) for n in STEPS for train in (True, False)}
    for mode in MODES:
        for n in STEPS:
            found = apart(Case(mode, n))
            ratio = spent[n, True][mode] / spent[n, True]["full"]
            alone = spent[n, False].get(mode)
            last = "" if alone is None else f"{alone / spent[n, False]['full']:.2f}"
            rows.append(
                f"| `{mode}` | {n} | {found['kept']:.1f} | {found['peak']:.1f} "
                f"| {found['rss']:.0f} | {found['forward']:.0f} + {found['backward']:.0f} "
                f"| {ratio:.2f} | {last} |"
            )
    return rows


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="the page with the markers")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one is not None:
        print(json.dumps(memory(Case(*json.loads(options.one)))))
        return
    text = "\n".join(table(options.rounds))
    print(text)
    if options.write is not None:
        page = options.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        options.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
