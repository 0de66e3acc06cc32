"""Which of several processes this one is, from the environment that accelerate, torchrun or mpirun gives it; no process group is made."""

from __future__ import annotations

import os

from ..checks import ArgumentError

#: names of the rank and of the number of processes: torchrun's and accelerate's, Open MPI's, MPICH's, MVAPICH's
NAMES = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
)


def place() -> tuple[int, int]:
    """Rank and number of processes, (0, 1) for one alone. ValueError where the environment makes no sense."""
    for rank, world in NAMES:
        if rank in os.environ and world in os.environ:
            try:
                found = int(os.environ[rank]), int(os.environ[world])
            except ValueError:
                raise ArgumentError(f"{rank}={os.environ[rank]!r}, {world}={os.environ[world]!r}: integers are wanted") from None
            if not 0 <= found[0] < found[1]:
                raise ArgumentError(f"{rank}={found[0]}, {world}={found[1]}: a rank from 0 to {max(found[1] - 1, 0)} is wanted")
            return found
    return 0, 1


def machines() -> int:
    """How many machines take part, as far as the environment tells."""
    here = os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", ""))
    return place()[1] // int(here) if here.isdecimal() and int(here) > 0 else 1
