"""Images to score, in fixed blocks: read from files, or drawn from a model when they are needed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ..checks import ArgumentError
from ..eval.features.image_sources import Batch, ImageSource, open_source
from ..eval.features.value_range import Range, Values, check_range
from ..files.listing import LeftOut
from .drawing import Drawing, DrawingSettings
from .pictures import is_image, to_pixels
from .settings import checked


class Samples(Protocol):
    """Images in blocks.

    Attributes:
        name: for people.
        count, blocks: numbers of images and of blocks.
        shape: (c, h, w) of an image; None if it is not known before reading.
        model: the model that drew the images, if known.
        balanced: True if the labels are evenly distributed over the classes.
        quantize: the rule by which floating point images became uint8 here; None if they were.
        value_range: of floating point images; None is [-1, 1].
        left_out: files of the folder that are no images.
    """

    name: str
    count: int
    blocks: int
    shape: tuple[int, ...] | None
    model: str | None
    balanced: bool
    quantize: str | None
    value_range: Range
    left_out: LeftOut

    def places(self, block: int) -> range:
        """The indices of a block's images among all images."""
        ...

    def read(self, block: int) -> Batch:
        """The images of a block, and those that cannot be read."""
        ...

    def identity(self) -> dict[str, Any]:
        """What decides the images, for JSON; features are kept for it."""
        ...


class FileSamples:
    """The images of a folder or an npz file."""

    def __init__(self, source: ImageSource, batch: int) -> None:
        self.source, self.batch, self.name, self.count = source, batch, source.name, source.count
        self.blocks = math.ceil(self.count / batch)
        self.shape: tuple[int, ...] | None = source.shape
        self.value_range, self.left_out = source.value_range, source.left_out
        made = source.manifest.get("model")
        self.model = made if isinstance(made, str) else None
        self.balanced = balanced([row.get("label") for row in source.manifest.get("samples", ())])
        self.quantize = (
            "round" if any(part.path.suffix.lower() == ".npy" for part in source.parts) else None
        )

    def places(self, block: int) -> range:
        """The indices of a block's images among all images."""
        return range(block * self.batch, min((block + 1) * self.batch, self.count))

    def read(self, block: int) -> Batch:
        """The images of a block, and those that cannot be read."""
        places = self.places(block)
        return self.source.read(places.start, places.stop)

    def identity(self) -> dict[str, Any]:
        """Every file with its size and time of change."""
        limits = {} if self.value_range is None else {"value_range": list(self.value_range)}
        return {"source": self.source.facts(), "batch": self.batch, **limits}


class DrawnSamples:
    """Samples of a model, drawn block by block and not written; their pixels are those that
    ``generate`` would write."""

    def __init__(self, settings: DrawingSettings) -> None:
        """Raises ArgumentError for a model whose samples are no pictures."""
        self.settings, self.batch = settings, settings.batch
        self.drawing = Drawing(settings)
        self.count = sum(len(block.seeds) for block in self.drawing.blocks)
        self.blocks = math.ceil(self.count / self.batch)
        self.shape: tuple[int, ...] | None = self.drawing.shape
        self.model: str | None = settings.model_name
        self.name = f"{self.model} by {self.drawing.asked.name}"
        self.quantize: str | None = "round"
        self.value_range: Range = None
        self.left_out = LeftOut()
        self.balanced = balanced([label for block in self.drawing.blocks for label in block.labels])
        if not is_image(self.drawing.shape):
            raise ArgumentError(
                f"the model {self.model!r} draws samples of shape {self.shape}, which are no "
                "pictures: nothing to score here"
            )

    def places(self, block: int) -> range:
        """The indices of a block's samples among all samples."""
        return range(block * self.batch, min((block + 1) * self.batch, self.count))

    def read(self, block: int) -> Batch:
        """Draw a block."""
        x = torch.as_tensor(self.drawing.draw(self.drawing.blocks[block])[0])
        image = torch.from_numpy(to_pixels(x)).permute(0, 3, 1, 2).contiguous()
        return Batch(image, tuple(self.places(block)), (), Values.of(x))

    def identity(self) -> dict[str, Any]:
        """The settings, and the hashes of plan and weights."""
        record = self.settings.record()
        record.pop("device")
        return {**record, **self.drawing.hashes}


def balanced(labels: Sequence[int | None]) -> bool:
    """True if the labels are of several classes whose counts differ by at most one."""
    counts = Counter(labels)
    return (
        None not in counts and len(counts) > 1 and max(counts.values()) - min(counts.values()) <= 1
    )


def samples_of(
    source: str | Path | None,
    settings: DrawingSettings | None = None,
    *,
    batch: int,
    value_range: Any = None,
) -> Samples:
    """The images of files, or else those that the model of ``settings`` draws. Raises ArgumentError
    if there is neither, or both."""
    model = None if settings is None else settings.model_name
    if source is not None and model is not None:
        raise ArgumentError(f"give the images {str(source)!r} or model={model!r}, not both")
    if source is not None:
        images = open_source(checked("source", str(source)), check_range(value_range))
        return FileSamples(images, checked("batch", batch))
    if value_range is not None:
        raise ArgumentError(
            f"value_range={value_range!r} is about files: what a model draws lies in [-1, 1]"
        )
    if settings is None or model is None:
        raise ArgumentError("nothing to score: give a folder or an npz file of images, or a model")
    return DrawnSamples(settings)
