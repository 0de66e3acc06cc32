"""Names of metrics for people: with the network that a distance is measured in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..eval.features.moments import Provenance


def title(metric: str, provenance: Provenance) -> str:
    """The name of a metric: FD-mnist with the bundled network fd-mnist; FID only with InceptionV3
    and the resizing of its graph."""
    from ..eval.scoring.rated_metrics import METRICS

    network, rule = (provenance.extractor or "features").partition(" ")[0], provenance.resize
    name = METRICS[metric].title
    head, _, rest = name.partition(" ")
    if network.startswith("fd-") and head.isupper():
        return f"{head}-{network.removeprefix('fd-')} {rest}".strip()
    if network.startswith("inception") and head.isupper():
        plain = network == "inception" and rule in (None, "tf")
        return name.replace("FD", "FID") + ("" if plain else f" ({network}, {rule})")
    return f"{name} ({network})"
