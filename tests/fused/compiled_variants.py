"""Compiles triton's kernels for a GPU that need not be there, through the whole path of a launch
but the launch, and prints what came out as JSON. Run by ``test_device_compiles``."""

from __future__ import annotations

import json
import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from fewstep.fused import SeededNoise, devices
from fewstep.fused.linear import device, native, step_kernel
from fewstep.fused.noise import device as noise_device
from fewstep.fused.noise import philox_kernel

F32, BF16, F16, F64 = torch.float32, torch.bfloat16, torch.float16, torch.float64


class Absent:
    """A driver for a GPU that is not there."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """Stands for a kernel: a launch compiles it."""

    def __init__(self, kernel) -> None:
        self.kernel, self.made = kernel, []

    def __getitem__(self, grid):
        return lambda *args, **options: self.made.append(
            self.kernel.run(*args, grid=grid, warmup=True, **options)
        )


def tensors(count, shape, dtype):
    return [torch.zeros(shape, dtype=dtype) for _ in range(count)]


def flat(dtype, k=4, shape=(4, 4, 64, 64)):
    packed = native.pack([[(i, 0.5 + i) for i in range(k)], [(0, 1.0)]])
    assert device.device_step(packed, tensors(k, shape, dtype), tensors(2, shape, dtype))


def other_numbers():
    packed = native.pack([[(i, (0.0, 1.0, 16.0, -2.0)[i] or 3.0) for i in range(4)], [(0, 2.0)]])
    shape = (4, 4, 64, 64)
    assert device.device_step(packed, tensors(4, shape, F32), tensors(2, shape, F32))


def drawn(dtype=F32, shape=(4, 4, 64, 64)):
    x = torch.zeros(shape, dtype=dtype)
    noise = SeededNoise(tuple(range(shape[0])), particles=(1,) * shape[0])
    packed = native.pack([[(0, 1.0), (1, 0.5)], [(0, 1.0), (1, 0.25), (2, 2.0)]])
    outs = tensors(2, shape, dtype)
    assert device.device_step(packed, [x, noise.later(3, x), noise.later(4, x)], outs)


def per_sample(dtype=F32, shape=(8, 3)):
    own = torch.ones(shape[0], 1, dtype=F64 if dtype == F64 else F32)
    rows = [[(0, own), (1, 0.5)]]
    assert device.device_rows(
        rows, tensors(2, shape, dtype), tensors(1, shape, F32), ((-1.0, 1.0),)
    )


def table():
    x = torch.zeros(4, 1024)
    noise = SeededNoise((0, 1, 2, 3)).later(0, x)
    index, draws = torch.zeros(1, dtype=torch.int64), torch.zeros(5, 4, dtype=torch.int64)
    outs = tensors(2, (4, 1024), F32)
    assert device.device_table(outs, [x, x.clone(), noise], torch.ones(5, 3, 2), index, draws)


def fill():
    noise_device._launch(
        devices.tile(4, 4096),
        torch.zeros(4, 4096),
        torch.zeros(2, 4, dtype=torch.int64),
        1,
        2**32 - 1,
        None,
    )


VARIANTS = {
    "float32": lambda: flat(F32),
    "other numbers": other_numbers,
    "bfloat16": lambda: flat(BF16),
    "float16": lambda: flat(F16),
    "float64": lambda: flat(F64),
    "12 inputs": lambda: flat(F32, 12),
    "odd": lambda: flat(F32, 4, (1, 1009)),
    "one element": lambda: flat(F32, 4, (1, 1)),
    "noise": drawn,
    "bfloat16 noise": lambda: drawn(BF16),
    "float64 noise": lambda: drawn(F64),
    "short rows": lambda: drawn(F32, (64, 5)),
    "per sample": per_sample,
    "per sample float64": lambda: per_sample(F64, (8, 2048)),
    "table": table,
}
QUICK = ("float32", "other numbers", "bfloat16", "noise", "table")
WORDS = ("ld.global", "ld.global.v4", "st.global", "st.global.v4", "fma.rn", "add.f32")


def main(which: str, arch: int) -> None:
    driver.set_active(Absent(arch))
    device.trusted = lambda *_: True
    step_kernel.step = steps = Compiled(step_kernel.step)
    philox_kernel.fill = fills = Compiled(philox_kernel.fill)
    found = {}
    for name in QUICK if which == "quick" else VARIANTS:
        VARIANTS[name]()
        found[name] = {word: steps.made[-1].asm["ptx"].count(word) for word in WORDS}
        found[name]["variants"] = len({id(k) for k in steps.made})
    fill()
    found["fill"] = {word: fills.made[-1].asm["ptx"].count(word) for word in WORDS}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
