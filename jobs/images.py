"""What both jobs that read images share: the features of a source, checked, and what a reader must
know of the images."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..checks import ArgumentError
from ..files.listing import printable

if TYPE_CHECKING:
    from ..eval.features.extractors import FeatureExtractor
    from ..eval.features.image_sources import Unreadable
    from ..eval.features.moments import Provenance
    from ..eval.features.value_range import Range, Values
    from ..files.listing import LeftOut
    from .feature_blocks import Found
    from .samples import Samples


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """What is known of the images of a source after they were read.

    Attributes:
        name: the source.
        model: the model that drew the images, if known.
        balanced: True if the labels are evenly distributed over the classes; with few samples this
            lowers a distance to the reference.
        skipped: the images that could not be read.
        values, value_range: the range of floating point images.
        left_out: files of the folder that are no images.
    """

    name: str
    model: str | None
    balanced: bool
    skipped: tuple[Unreadable, ...]
    values: Values
    value_range: Range
    left_out: LeftOut

    @classmethod
    def of(cls, samples: Samples, found: Found) -> ImageFacts:
        """Those of ``samples``, whose features were ``found``."""
        return cls(
            samples.name,
            samples.model,
            samples.balanced,
            found.bad,
            found.values,
            samples.value_range,
            samples.left_out,
        )

    def notes(self) -> list[str]:
        """Sentences about clamped values and files that are no images; empty if there are none."""
        found = (self.values.text(self.value_range), self.left_out.text())
        return [text for text in found if text]

    def values_record(self) -> dict[str, Any] | None:
        """The range of floating point images for JSON; None for uint8 images."""
        return self.values.to_dict(self.value_range)

    def skipped_record(self) -> list[dict[str, str]]:
        """The images that could not be read, for JSON."""
        return [{"file": one.name, "why": one.why} for one in self.skipped]


def check_shape(samples: Samples, network: FeatureExtractor) -> None:
    """Raise ArgumentError for images that the network cannot take, before any is read."""
    if (
        network.shape is not None
        and network.resize == "none"
        and samples.shape is not None
        and tuple(samples.shape) != tuple(network.shape)
    ):
        raise ArgumentError(
            f"{network.name} takes images of {tuple(network.shape)}, those of "
            f"{samples.name!r} are {tuple(samples.shape)}"
        )


def feature_rules(network: FeatureExtractor) -> dict[str, Any]:
    """What decides the features beside the images, for JSON, and the version, which is not
    compared."""
    made = asdict(network.provenance())
    return {
        **{key: made[key] for key in ("extractor", "resize", "quantize", "dtype")},
        "fewstep": __version__,
    }


def provenance_of(
    network: FeatureExtractor, samples: Samples, found: Found, note: str
) -> Provenance:
    """Where the features come from: images, network, rules."""
    return replace(network.provenance(found.data, note), quantize=samples.quantize)


def refuse_corrupt(found: Found, samples: Samples, skip: bool) -> None:
    """Raise ArgumentError that names the images that cannot be read, unless they are skipped."""
    if found.bad and not skip:
        named = "; ".join(f"{printable(one.name)}: {one.why}" for one in found.bad[:5])
        more = f" (and {len(found.bad) - 5} more)" if len(found.bad) > 5 else ""
        raise ArgumentError(
            f"{len(found.bad)} of {samples.count} images cannot be read: {named}{more}; "
            "skip_corrupt=True (--skip-corrupt) leaves them out"
        )
