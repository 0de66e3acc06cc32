"""Which of several processes this one is, from the environment that accelerate, torchrun or mpirun
gives it; no process group is made."""

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
    """Rank and number of processes, (0, 1) for one alone. ArgumentError where the environment makes
    no sense."""
    for rank, world in NAMES:
        if rank in os.environ and world in os.environ:
            found = _count(rank), _count(world)
            if not found[0] < found[1]:
                raise ArgumentError(
                    f"{rank}={found[0]}, {world}={found[1]}: a rank from 0 to "
                    f"{max(found[1] - 1, 0)} is wanted"
                )
            return found
        there, lacks, alone = (rank, world, 0) if rank in os.environ else (world, rank, 1)
        if there in os.environ and _count(there) != alone:
            raise ArgumentError(
                f"{there}={os.environ[there]!r} without {lacks}: both are wanted, or neither"
            )
    return 0, 1


def local_rank() -> int:
    """This process's number among those of its machine; 0 for one alone. ArgumentError where the
    environment makes no sense."""
    return _count("LOCAL_RANK") if "LOCAL_RANK" in os.environ else 0


def machines() -> int:
    """How many machines take part, as far as the environment tells. ArgumentError where it makes no
    sense."""
    world = place()[1]
    for name in HERE:
        if name in os.environ:
            here = _count(name)
            if not 1 <= here <= world:
                raise ArgumentError(
                    f"{name}={here}: a number from 1 to {world}, the number of all "
                    "processes, is wanted"
                )
            return world // here
    return 1


def _count(name: str) -> int:
    """The environment variable ``name`` as a number of at least 0."""
    text = os.environ[name]
    if not (text.strip().isdecimal() and len(text) < 10):
        raise ArgumentError(f"{name}={text[:40]!r}: an integer of at least 0 is wanted")
    return int(text)
