"""``ModelStatistics``: the functions l, s, b of DPM-Solver-v3 for one model, and their files.

A file is safetensors: the arrays ``lam`` (n,), ``l``, ``s``, ``b`` (n, *shape), ``pooled_l`` and
``pooled_s`` (n,), float64, with the metadata ``format``, ``made_for`` and ``facts`` (JSON).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import ArgumentError, parse_json, shown
from .instructions import PlanError
from .plan_file import MadeFor, made_for_of
from .weights.phi import Array
from .weights.statistics import Curve, Curves

FORMAT = "fewstep.statistics/1"
#: the largest file that is read
MOST_BYTES = 1 << 32
ARRAYS = ("lam", "l", "s", "b", "pooled_l", "pooled_s")


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """The functions l, s and b of a model (Zheng et al. 2023, arXiv 2310.13268, eqs. 8 and 11), as
    values at nodes in lam.

    Attributes:
        lam: half log-SNR of the nodes, (n,), rising.
        l, s, b: one value for each coordinate, (n, *shape), or one for all, (n,).
        pooled_l, pooled_s: l and s as one number for all coordinates, with b = 0, (n,): what a plan
            can use. None: the means of l and s.
        made_for: the model that they were estimated on; None: unknown, not checked.
        facts: how they were estimated, plain JSON.
    """

    lam: Array
    l: Array  # noqa: E741
    s: Array
    b: Array
    pooled_l: Array | None = None
    pooled_s: Array | None = None
    made_for: MadeFor | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ARRAYS:
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, _array(name, value))
        for name, own in (("pooled_l", self.l), ("pooled_s", self.s)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, own.reshape(len(own), -1).mean(1))
        if self.lam.ndim != 1 or len(self.lam) < 2 or not bool((np.diff(self.lam) > 0.0).all()):
            raise ArgumentError("lam: must be at least two rising numbers")
        for name in ARRAYS[1:]:
            value = getattr(self, name)
            wanted = self.lam.shape if name.startswith("pooled") else self.l.shape
            if value.shape != wanted or len(value) != len(self.lam):
                raise ArgumentError(
                    f"{name} has shape {value.shape}; allowed: {wanted} for {len(self.lam)} nodes"
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample, or () for one number for all coordinates."""
        return tuple(self.l.shape[1:])

    @cached_property
    def curves(self) -> Curves:
        """l, s and b as functions."""
        return Curves(*(Curve(self.lam, v) for v in (self.l, self.s, self.b)))

    @cached_property
    def pooled(self) -> Curves:
        """l and s as one number for all coordinates."""
        assert self.pooled_l is not None and self.pooled_s is not None
        return Curves(Curve(self.lam, self.pooled_l), Curve(self.lam, self.pooled_s))

    def to_bytes(self) -> bytes:
        """The content of a file that ``read_statistics`` reads."""
        from safetensors.numpy import save

        body = {
            "format": FORMAT,
            "made_for": json.dumps(None if self.made_for is None else asdict(self.made_for)),
            "facts": json.dumps(dict(self.facts), allow_nan=False),
        }
        return save({name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}, body)


def _array(name: str, value: Any) -> Array:
    """``value`` as finite float64 numbers."""
    try:
        made = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}={shown(value)}: must be an array of numbers") from None
    if made.ndim < 1 or not np.isfinite(made).all():
        raise ArgumentError(f"{name}: must be finite numbers with the nodes as first axis")
    return made


def read_statistics(path: str | Path) -> ModelStatistics:
    """Read a file of statistics; a file that has not changed is read once. Raises PlanError, which
    names the file, for anything else."""
    place = Path(path)
    try:
        facts = os.stat(place)
        if not place.is_file():
            raise PlanError(f"statistics={str(place)!r}: must be a file")
        if facts.st_size > MOST_BYTES:
            raise PlanError(
                f"statistics={str(place)!r} has {facts.st_size} bytes; at most {MOST_BYTES} "
                "are read"
            )
        return _read(str(place.absolute()), facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise PlanError(f"statistics={str(place)!r}: {error.strerror or error}") from error


@lru_cache(maxsize=16)
def _read(path: str, changed: int, size: int) -> ModelStatistics:
    """The content of the file at ``path``, as it was at ``changed``."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
            if about.get("format") != FORMAT or set(file.keys()) != set(ARRAYS):
                raise PlanError(
                    f"statistics={path!r}: not a file that Statistics.save wrote (format "
                    f"{about.get('format')!r}; allowed: {FORMAT!r})"
                )
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
        made, facts = (parse_json(about[k], k, strict=True) for k in ("made_for", "facts"))
        return ModelStatistics(
            **arrays, made_for=None if made is None else made_for_of(made), facts=facts
        )
    except (SafetensorError, LookupError, ArgumentError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(f"statistics={path!r}: {error}") from error
