"""What ``score`` and ``ref`` read, in blocks: the places of a block, balanced classes, and the
folder in which features are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.cli.score_table import table
from fewstep.eval import Provenance
from fewstep.eval.features.image_sources import Batch, Unreadable
from fewstep.eval.features.value_range import Values
from fewstep.jobs.drawing import DrawingSettings
from fewstep.jobs.feature_blocks import Work
from fewstep.jobs.metric_names import title
from fewstep.jobs.samples import balanced, samples_of


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 64])
def test_blocks_of_files_cover_every_place_once(batch: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", image=pixels)
    samples = samples_of(str(tmp_path / "x.npz"), batch=batch)
    assert (samples.count, samples.blocks) == (10, -(-10 // batch))
    places = [list(samples.places(block)) for block in range(samples.blocks)]
    assert [p for block in places for p in block] == list(range(10))
    assert all(len(block) == batch for block in places[:-1]) and 1 <= len(places[-1]) <= batch
    read = torch.cat([samples.read(block).image for block in range(samples.blocks)])
    assert torch.equal(read.permute(0, 2, 3, 1), torch.from_numpy(pixels))
    assert [i for block in range(samples.blocks) for i in samples.read(block).index] == list(
        range(10)
    )


def test_balanced_classes() -> None:
    """As even as can be: counts that differ by one at most, of several classes, every sample with
    one."""
    assert balanced([0, 1, 2, 0, 1]) and balanced([0, 1])
    for labels in ([0, 0, 0, 1], [0, 1, None], [1, 1], [], [None]):
        assert not balanced(labels)


@pytest.mark.parametrize(("source", "model"), [("x", "mnist"), (None, None)])
def test_one_source_is_wanted(source: str | None, model: str | None) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        samples_of(source, DrawingSettings(model, "0-3"), batch=4)


def test_a_block_of_features_counts_where_it_is_whole(tmp_path: Path) -> None:
    work = Work(tmp_path, True)
    tensors = {
        "features": torch.arange(6.0).reshape(3, 2),
        "index": torch.tensor([4, 5, 7]),
        "digest": torch.zeros(3, dtype=torch.int64),
    }
    bad, values = (Unreadable(6, "six.png", "damaged"),), Values(30, 3, -1.5, 1.25)
    batch = Batch(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), (4, 5, 7), bad, values)
    work.save(1, tensors, batch)
    found = work.load(1, range(4, 8), False)
    assert found is not None and found.bad == bad and found.values == values
    assert torch.equal(found.tensors["features"], tensors["features"])
    for places in (range(4, 9), range(3, 8), range(5, 8)):
        assert work.load(1, places, False) is None
    assert work.load(1, range(4, 8), True) is None, "logits were not kept"
    assert work.load(0, range(4), False) is None
    work.save(1, {**tensors, "logits": torch.zeros(3, 10)}, batch)
    assert work.load(1, range(4, 8), True) is not None
    path = work.file(1)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes(b ^ 255 for b in whole[-3:]))
    assert work.load(1, range(4, 8), False) is None


@pytest.mark.parametrize(
    ("extractor", "resize", "name"),
    [
        ("fd-mnist 1", None, "FD-mnist"),
        ("inception 3", "tf", "FID"),
        ("inception 3", None, "FID"),
        ("inception 3", "clean", "FID (inception, clean)"),
    ],
)
def test_a_distance_is_named_by_its_network(extractor: str, resize: str | None, name: str) -> None:
    assert title("fd", Provenance(extractor=extractor, resize=resize)).startswith(name)


def test_the_table_of_scores() -> None:
    from fewstep.eval import Rating, Scores

    rating = Rating(
        12.3456, corrected=11.5, low=10.25, high=13.75, level=0.9, n_gen=2000, method="bootstrap"
    )
    row = (
        table(Scores({"fd": rating}, 2000, Provenance(extractor="fd-mnist")))
        .splitlines()[1]
        .split()
    )
    assert [
        part
        for part in ("12.35", "11.5", "10.25", "13.75", "(90", "2000", "bootstrap")
        if part not in row
    ] == []
