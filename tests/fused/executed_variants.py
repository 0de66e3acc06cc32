"""Runs what triton compiles for a GPU, instruction by instruction, in the place of the GPU, with
the check that a GPU gets: ``launch.wrong``. Prints what failed. Run by ``test_device_compiles``."""

from __future__ import annotations

import sys

import compiled_variants as variants
import numpy as np
import torch
from ptx_machine import Machine
from triton.runtime import driver

from fewstep.fused import devices, noise_backend
from fewstep.fused.linear import step_kernel
from fewstep.fused.noise import device, philox_kernel
from fewstep.fused.noise.native import KERNEL
from fewstep.fused.noise.seeded import keys_of, normals_of_keys

INTEGERS = {"i32": np.int32, "i64": np.int64, "u32": np.uint32, "u64": np.uint64}


def flattened(kind, value):
    """(type, value) of every argument that a launch passes."""
    if kind == "constexpr":
        return []
    if isinstance(kind, tuple):
        return [pair for k, v in zip(kind, value, strict=True) for pair in flattened(k, v)]
    return [(kind, value)]


class Executed(variants.Compiled):
    """Stands for a kernel: a launch compiles it and runs it in a machine."""

    def __getitem__(self, grid):
        def launch(*args, **options):
            made = self.kernel.run(*args, grid=grid, warmup=True, **options)
            self.made.append(made)
            self.run(made, dict(zip(self.kernel.arg_names, args, strict=True)), grid[0])

        return launch

    def run(self, made, args, programs):
        machine, arguments, held = Machine(made.asm["ptx"]), [], {}
        for name, kind in made.src.signature.items():
            for own, value in flattened(kind, args[name]):
                if own[0] == "*":
                    if value.data_ptr() not in held:
                        flat = value.view(torch.int16) if value.dtype == torch.bfloat16 else value
                        off = value.data_ptr() % 16  # as the tensor is aligned
                        held[value.data_ptr()] = (machine.place(flat.numpy(), off), flat)
                    arguments.append(np.uint64(held[value.data_ptr()][0]))
                else:
                    arguments.append(INTEGERS.get(own, np.float32)(value))
        machine.run(programs, [*arguments, np.uint64(0), np.uint64(0)])
        for at, flat in held.values():
            flat.copy_(torch.from_numpy(machine.read(at, flat.numpy()).copy()))


def main(arch: int, names: list[str]) -> None:
    driver.set_active(variants.Absent(arch))
    step_kernel.step = Executed(step_kernel.step)
    philox_kernel.fill = Executed(philox_kernel.fill)
    for name in names or variants.VARIANTS:
        variants.VARIANTS[name]()
        print(name, devices.failure(torch.device("cpu")) or "right")
        devices.forget()
    keys, out = keys_of((3, 2**40 + 1), "cpu"), torch.zeros(2, 300)
    device._launch(devices.tile(2, 300), out, keys, 1, 2**32 - 1, None)
    with noise_backend("numpy" if KERNEL.code is None else "native"):
        far = (out - normals_of_keys(keys, (300,), stream=1, draw=2**32 - 1)).abs().max()
    print("fill", "right" if float(far) <= (1e-6 if KERNEL.code is None else 0.0) else float(far))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
