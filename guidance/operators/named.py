"""Forward models by name, made for samples of a shape: what the command line chooses from."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...checks import ArgumentError, UnknownName, unknown
from .blur import Blur
from .colourisation import Colourisation
from .compressed_sensing import CompressedSensing
from .fourier import Fourier
from .hdr import HDR
from .inpainting import Inpaint
from .jpeg import JPEG
from .masks import sizes
from .operator import Operator
from .phase_retrieval import PhaseRetrieval
from .quantisation import Quantisation
from .radon import Radon
from .super_resolution import SuperResolution

Shape = tuple[int, ...]


def names() -> tuple[str, ...]:
    """The names that ``make`` takes."""
    return tuple(sorted(NAMED))


def options_of(name: str) -> tuple[str, ...]:
    """The names of the options of a forward model. Raises UnknownName for another name, with the
    nearest match."""
    if not isinstance(name, str) or name not in NAMED:
        raise UnknownName(unknown("task", name, names()))
    return tuple(inspect.signature(NAMED[name]).parameters)[1:]


def make(name: str, shape: Sequence[int], options: Mapping[str, Any] | None = None) -> Operator:
    """The forward model called ``name`` for samples of ``shape``.

    Args:
        name: of ``names()``: "inpaint-box" (``box``, ``at``), "inpaint-random" (``keep``,
            ``seed``), "inpaint-half" (``keep``), "super-resolution" (``factor``, ``kernel``),
            "blur" (``std``, ``size``, ``boundary``), "motion-blur" (``size``, ``intensity``,
            ``seed``, ``boundary``), "colourisation" (``weights``), "fourier" (``acceleration``,
            ``centre``, ``seed``, ``real``), "compressed-sensing" (``measurements``, ``kind``,
            ``seed``), "ct" (``angles``, ``detectors``), "phase-retrieval" (``oversampling``),
            "hdr" (``gain``, ``low``, ``high``), "quantisation" (``levels``, ``low``, ``high``,
            ``gradient``), "jpeg" (``quality``, ``subsampling``, ``gradient``).
        shape: of one sample; of images (channels, height, width).
        options: by name, see the classes; by default half of each side is hidden, 30 % of the
            places are kept, images are 4 times smaller, the kernel has a standard deviation of 1.5
            pixels, and a quarter of the elements is measured.

    Raises UnknownName and ArgumentError, with the nearest match, for other names, and ArgumentError
    for values and shapes that the model does not take.
    """
    allowed, given, own = options_of(name), dict(options or {}), sizes("shape", tuple(shape))
    for key in given:
        if key not in allowed:
            raise ArgumentError(f"task {name!r}: " + unknown("option", key, allowed))
    try:
        return NAMED[name](own, **given)
    except ArgumentError as error:
        raise ArgumentError(f"task {name!r} for samples of shape {own}: {error}") from error
    except TypeError as error:
        raise ArgumentError(f"task {name!r}: {given} are no options of it: {error}") from error


def _plane(shape: Shape) -> Shape:
    """(H, W) of images."""
    if len(shape) < 2:
        raise ArgumentError("it is for images (channels, height, width)")
    return shape[-2:]


def _box(shape: Shape, box: Any = None, at: Any = None) -> Operator:
    size = _plane(shape)
    half = tuple(max(1, n // 2) for n in size)
    return Inpaint.box(size, half if box is None else box, at)


def _random(shape: Shape, keep: float = 0.3, seed: int = 0) -> Operator:
    return Inpaint.random(shape[-2:] if len(shape) > 2 else shape, keep, seed)


def _half(shape: Shape, keep: str = "left") -> Operator:
    return Inpaint.half(_plane(shape), keep)


def _small(shape: Shape, factor: int = 4, kernel: str = "average") -> Operator:
    _plane(shape)
    return SuperResolution(factor, kernel)


def _blur(
    shape: Shape, std: Any = 1.5, size: int | None = None, boundary: str = "circular"
) -> Operator:
    _plane(shape)
    return Blur.gaussian(std, size, boundary)


def _motion(
    shape: Shape,
    size: int | None = None,
    intensity: float = 0.5,
    seed: int = 0,
    boundary: str = "circular",
) -> Operator:
    side = max(3, min(_plane(shape)) // 4)
    return Blur.motion(side + 1 - side % 2 if size is None else size, intensity, seed, boundary)


def _grey(shape: Shape, weights: Any = None) -> Operator:
    return Colourisation(shape[0] if weights is None else weights)


def _fourier(
    shape: Shape,
    acceleration: float = 4.0,
    centre: float = 0.08,
    seed: int = 0,
    real: bool = True,
) -> Operator:
    return Fourier.lines(_plane(shape), acceleration, centre, seed, real=real)


def _sensing(
    shape: Shape, measurements: int | None = None, kind: str = "hadamard", seed: int = 0
) -> Operator:
    count = max(1, math.prod(shape) // 4) if measurements is None else measurements
    return CompressedSensing(shape, count, kind, seed)


def _tomography(shape: Shape, angles: Any = 30, detectors: int | None = None) -> Operator:
    h, w = _plane(shape)
    if h != w:
        raise ArgumentError("the images must be square")
    return Radon(h, angles, detectors)


def _phases(shape: Shape, oversampling: float = 2.0) -> Operator:
    _plane(shape)
    return PhaseRetrieval(oversampling)


def _exposed(shape: Shape, gain: float = 2.0, low: float = -1.0, high: float = 1.0) -> Operator:
    return HDR(gain, low, high)


def _levels(
    shape: Shape,
    levels: int = 8,
    low: float = -1.0,
    high: float = 1.0,
    gradient: str = "straight-through",
) -> Operator:
    return Quantisation(levels, low, high, gradient)


def _jpeg(
    shape: Shape,
    quality: int = 20,
    subsampling: str = "4:4:4",
    gradient: str = "straight-through",
) -> Operator:
    _plane(shape)
    return JPEG(quality, subsampling, gradient)


#: name -> ``make(shape, **options)``
NAMED: Mapping[str, Callable[..., Operator]] = {
    "blur": _blur,
    "colourisation": _grey,
    "compressed-sensing": _sensing,
    "ct": _tomography,
    "fourier": _fourier,
    "hdr": _exposed,
    "inpaint-box": _box,
    "inpaint-half": _half,
    "inpaint-random": _random,
    "jpeg": _jpeg,
    "motion-blur": _motion,
    "phase-retrieval": _phases,
    "quantisation": _levels,
    "super-resolution": _small,
}
