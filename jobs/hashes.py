"""SHA-256 of what decides the bytes of samples: the plan and the model."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from ..files import pieces, sha256

if TYPE_CHECKING:
    from ..engine.planning import Request
    from ..models.denoiser import Denoiser


def request_hashes(asked: Request) -> dict[str, str]:
    """``plan_sha256``, the hash of the plan; of a driver, which has no plan, ``request_sha256``:
    its name, the options that differ from their defaults, and the times."""
    from .plan_text import plan_text

    if not asked.driver:
        return {"plan_sha256": sha256(plan_text(asked.plan()))}
    default = type(asked.options)()
    options = {
        f.name: getattr(asked.options, f.name)
        for f in fields(asked.options)
        if getattr(asked.options, f.name) != getattr(default, f.name)
    }
    return {"request_sha256": sha256(repr((asked.name, options, asked.grid.times)))}


def model_hash(name_or_folder: str) -> str:
    """The hash of a model's configuration and weights; its name if it has no files."""
    from ..models.loading import files_of

    files = files_of(name_or_folder)
    if not files:
        return name_or_folder
    return sha256(*(chunk for file in files for chunk in pieces(file)))


def denoiser_hash(denoiser: Denoiser) -> str:
    """The hash of a denoiser object (``models.hashes``)."""
    from ..models.hashes import object_hash

    return object_hash(denoiser)
