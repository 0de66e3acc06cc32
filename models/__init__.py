"""Denoisers: networks with their schedule and prediction type, and exact models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import BaseDenoiser, RunFacts
from .denoiser import Condition, Denoiser, ShapeError, convert_prediction
from .empirical import Empirical
from .errors import ModelError
from .mean_reverting import MeanReverted
from .mixture import GaussianMixture
from .pfgmpp import EmpiricalPFGMPP
from .preconditioning import (
    EDMPreconditioning,
    Preconditioning,
    VEPreconditioning,
    VPPreconditioning,
)
from .wrapper import Wrapper, complete
from .wrapping import wrap

if TYPE_CHECKING:
    from .field_maps import FieldMap, FieldMaps, fields_of
    from .loading import load
    from .weights import names

__all__ = [
    "BaseDenoiser",
    "Condition",
    "Denoiser",
    "EDMPreconditioning",
    "Empirical",
    "EmpiricalPFGMPP",
    "FieldMap",
    "FieldMaps",
    "GaussianMixture",
    "MeanReverted",
    "ModelError",
    "Preconditioning",
    "RunFacts",
    "ShapeError",
    "VEPreconditioning",
    "VPPreconditioning",
    "Wrapper",
    "complete",
    "convert_prediction",
    "fields_of",
    "load",
    "names",
    "wrap",
]

#: names imported at first use, because they load file formats and network layers
_LAZY = {
    "FieldMap": "field_maps",
    "FieldMaps": "field_maps",
    "fields_of": "field_maps",
    "load": "loading",
    "names": "weights",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
