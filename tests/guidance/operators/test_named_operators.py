"""Forward models by name: each is the one of its class, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fewstep import guidance as G
from fewstep.checks import ArgumentError, UnknownName

ops = G.operators
SHAPE = (3, 16, 16)
#: name, options, the same by its class
SAME: list[tuple[str, dict[str, Any], Any]] = [
    ("inpaint-box", {}, ops.Inpaint.box((16, 16), 8)),
    ("inpaint-box", {"box": (4, 6), "at": (0, 2)}, ops.Inpaint.box((16, 16), (4, 6), (0, 2))),
    ("inpaint-random", {"seed": 3}, ops.Inpaint.random((16, 16), 0.3, 3)),
    ("inpaint-half", {"keep": "top"}, ops.Inpaint.half((16, 16), "top")),
    ("super-resolution", {}, ops.SuperResolution(4)),
    ("super-resolution", {"factor": 2, "kernel": "bicubic"}, ops.SuperResolution(2, "bicubic")),
    ("blur", {"std": 2.0, "boundary": "zero"}, ops.Blur.gaussian(2.0, boundary="zero")),
    ("motion-blur", {}, ops.Blur.motion(5)),
    ("motion-blur", {"size": 7, "intensity": 0.0, "seed": 2}, ops.Blur.motion(7, 0.0, 2)),
    ("colourisation", {}, ops.Colourisation(3)),
    ("colourisation", {"weights": (0.3, 0.6, 0.1)}, ops.Colourisation((0.3, 0.6, 0.1))),
    ("fourier", {"acceleration": 2}, ops.Fourier.lines((16, 16), 2, real=True)),
    ("compressed-sensing", {}, ops.CompressedSensing(SHAPE, 192)),
    ("ct", {"angles": 5}, ops.Radon(16, 5)),
    ("phase-retrieval", {}, ops.PhaseRetrieval()),
    ("hdr", {"gain": 3.0}, ops.HDR(3.0)),
    ("quantisation", {"levels": 4}, ops.Quantisation(4)),
    ("jpeg", {}, ops.JPEG(20)),
]


@pytest.mark.parametrize(
    ("name", "options", "own"), SAME, ids=[f"{name}-{i}" for i, (name, _, _) in enumerate(SAME)]
)
def test_a_name_is_its_class(name, options, own):
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    made = ops.make(name, SHAPE, options)
    assert type(made) is type(own)
    assert torch.equal(made(x), own(x))


def test_every_name_is_tried():
    assert {name for name, _, _ in SAME} == set(ops.names())


def test_samples_that_are_no_images():
    assert ops.make("inpaint-random", (5,), {"keep": 0.6}).measured((5,)) == (5,)
    assert ops.make("compressed-sensing", (2,)).measured((2,)) == (1,)


REFUSED: list[tuple[str, dict[str, Any], tuple[int, ...], str]] = [
    ("inpaint-bix", {}, SHAPE, "did you mean 'inpaint-box'"),
    ("colorization", {}, SHAPE, "did you mean 'colourisation'"),
    ("inpaint-box", {"boks": 3}, SHAPE, "did you mean 'box'"),
    ("inpaint-box", {"box": 16}, SHAPE, "smaller than the image"),
    ("inpaint-box", {"at": 3}, SHAPE, "must be (row, column)"),
    ("inpaint-box", {}, (2,), "for images"),
    ("super-resolution", {"factor": 1}, SHAPE, "factor=1"),
    ("blur", {"std": None}, SHAPE, "no options"),
    ("ct", {}, (1, 8, 16), "square"),
    ("compressed-sensing", {"measurements": 9999}, SHAPE, "measurements=9999"),
]


@pytest.mark.parametrize(("name", "options", "shape", "text"), REFUSED)
def test_what_does_not_fit_is_refused(name, options, shape, text):
    with pytest.raises(ArgumentError) as raised:
        ops.make(name, shape, options)
    assert text in str(raised.value)
    assert isinstance(raised.value, UnknownName) == (name not in ops.names())
