"""Rank and number of processes, from the environment variables of accelerate, torchrun or mpirun.

No process group is made.
"""

from __future__ import annotations

import os

from ..checks import ArgumentError

#: names of the rank and of the number of processes: torchrun's and accelerate's, Open MPI's,
#: MPICH's, MVAPICH's
NAMES = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
)
#: the number of processes on this machine: torchrun's, Open MPI's
HERE = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")


def place() -> tuple[int, int]:
    """Rank and number of processes; (0, 1) for a single one. Raises ArgumentError for inconsistent
    variables."""
    for rank, world in NAMES:
        if rank in os.environ and world in os.environ:
            found = _count(rank), _count(world)
            if not found[0] < found[1]:
                raise ArgumentError(
                    f"{rank}={found[0]}, {world}={found[1]}: the rank must be "
                    f"from 0 to {max(found[1] - 1, 0)}"
                )
            return found
        there, lacks, alone = (rank, world, 0) if rank in os.environ else (world, rank, 1)
        if there in os.environ and _count(there) != alone:
            raise ArgumentError(
                f"{there}={os.environ[there]!r} without {lacks}: set both or neither"
            )
    return 0, 1


def local_rank() -> int:
    """Number of this process among those of its machine; 0 for a single one. Raises ArgumentError
    for inconsistent variables."""
    return _count("LOCAL_RANK") if "LOCAL_RANK" in os.environ else 0


def machines() -> int:
    """Number of machines, as far as the environment tells. Raises ArgumentError for inconsistent
    variables."""
    world = place()[1]
    for name in HERE:
        if name in os.environ:
            here = _count(name)
            if not 1 <= here <= world:
                raise ArgumentError(
                    f"{name}={here}: must be from 1 to {world}, the number of all processes"
                )
            return world // here
    return 1


def _count(name: str) -> int:
    """The environment variable ``name`` as an integer >= 0."""
    text = os.environ[name]
    if not (text.strip().isdecimal() and len(text) < 10):
        raise ArgumentError(f"{name}={text[:40]!r}: must be an integer >= 0")
    return int(text)
