"""Settings of a comparison of samplers on physical fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ....checks import choice, integer
from ...benchmark.settings import BenchSettings

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {
        "samplers": ("ddim", "heun", "dpmpp_2m", "unipc:order=3"),
        "nfes": (8, 16, 32),
        "samples": 32,
        "reference": 512,
    },
    "docs": {"samples": 256},
    "full": {"nfes": (5, 8, 12, 16, 24, 32, 64, 128), "samples": 2048, "reference": 4096},
}
#: seeds of the data that the samples are compared with; those of the baseline row follow
REFERENCE_SEED = 1 << 40


@dataclass(frozen=True)
class TaskSettings:
    """Settings of ``runner.bench_task``.

    Attributes:
        samplers, grids: names, with options as in ``unipc:order=3``.
        nfes: budgets of network calls.
        samples: of each row, from the seeds 0, 1, ...; ``batch`` of them are drawn together.
        reference: number of solutions of the equation that the samples are compared with.
        final: where grids end, ``zero`` or ``sigma_min``.

    Raises ScoreError (or a kin of it) for values out of range and unknown names.
    """

    samplers: tuple[str, ...] = (
        "auto",
        "ddim",
        "heun",
        "dpmpp_2m",
        "dpmpp_3m",
        "unipc:order=3",
        "deis",
        "dpmpp_2m_sde",
    )
    grids: tuple[str, ...] = ("auto",)
    nfes: tuple[int, ...] = (8, 16, 32, 64)
    samples: int = 128
    reference: int = 1024
    batch: int = 32
    final: str = "zero"

    def __post_init__(self) -> None:
        integer("samples", self.samples, 8, 1 << 20)
        integer("reference", self.reference, 64, 1 << 16)
        choice("final", self.final, ("zero", "sigma_min"))
        BenchSettings(  # refuses unknown samplers and grids, and bad numbers
            ("model",),
            samplers=self.samplers,
            grids=self.grids,
            nfes=self.nfes,
            batch=self.batch,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings with tuples as lists, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
