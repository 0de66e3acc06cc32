"""Conditions of blocks from a file: the row of a sample is the place of its seed; and which process
does what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fewstep.jobs.blocks import cut
from fewstep.jobs.conditions import Conditions
from fewstep.jobs.processes import NAMES, machines, place
from fewstep.models import BaseDenoiser

BLOCKS = cut((9, 4, 7, 30, 31), (1, 2, 3, 4, 5), 2)


def test_rows_by_place_and_shared_rows(tmp_path: Path) -> None:
    each, shared = torch.arange(10.0).reshape(5, 2), torch.tensor([[7.0, 8.0, 9.0]])
    save_file({"each": each, "shared": shared}, str(tmp_path / "c.safetensors"))
    found = Conditions(str(tmp_path / "c.safetensors"), BLOCKS, BaseDenoiser())
    for block, rows in zip(BLOCKS, (slice(0, 2), slice(2, 4), slice(4, 5)), strict=True):
        cond = found.of(block, "cpu")
        assert torch.equal(cond["each"], each[rows])
        assert torch.equal(cond["shared"], shared.expand(len(block.seeds), 3))
    assert set(found.hashes) == {"cond_sha256"}


def test_labels_where_there_is_no_file() -> None:
    found = Conditions(None, BLOCKS, BaseDenoiser())
    assert found.hashes == {}
    assert [found.of(block, "cpu").tolist() for block in BLOCKS] == [[1, 2], [3, 4], [5]]
    assert (
        Conditions(None, cut((1, 2), (None, None), 2), BaseDenoiser()).of(
            cut((1, 2), (None, None), 2)[0], "cpu"
        )
        is None
    )


@pytest.mark.parametrize("rows", [2, 4, 6])
def test_other_numbers_of_rows_are_refused(rows: int, tmp_path: Path) -> None:
    save_file({"c": torch.zeros(rows, 2)}, str(tmp_path / "c.safetensors"))
    with pytest.raises(ValueError, match="cond="):
        Conditions(str(tmp_path / "c.safetensors"), BLOCKS, BaseDenoiser())


def test_the_model_is_asked_with_the_first_block() -> None:
    asked = []

    class Model(BaseDenoiser):
        def check_cond(self, cond: torch.Tensor, batch: int) -> None:
            asked.append((cond.tolist(), batch))

    Conditions(None, BLOCKS, Model())
    assert asked == [([1, 2], 2)]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (
        *(n for pair in NAMES for n in pair),
        "LOCAL_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(("rank", "world"), NAMES)
def test_the_place_among_processes(rank: str, world: str, alone: pytest.MonkeyPatch) -> None:
    assert (place(), machines()) == ((0, 1), 1)
    alone.setenv(rank, "2")
    with pytest.raises(ValueError, match=rank):  # the number of processes is missing
        place()
    alone.setenv(world, "3")
    assert place() == (2, 3)
    for bad in ("3", "-1", "x"):
        alone.setenv(rank, bad)
        with pytest.raises(ValueError, match=rank):
            place()


def test_machines(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("RANK", "0")
    alone.setenv("WORLD_SIZE", "8")
    assert machines() == 1
    alone.setenv("LOCAL_WORLD_SIZE", "4")
    assert machines() == 2
    alone.setenv("LOCAL_WORLD_SIZE", "0")
    with pytest.raises(ValueError, match="LOCAL_WORLD_SIZE"):
        machines()
