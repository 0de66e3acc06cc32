"""The noise of images in a folder: inverts a sampler on them, samples back, and measures the
difference.

    OUT/settings.json           settings that decide the numbers, and hashes; written first
    OUT/noise/block-00003.npz   of one block: `noise` float32 (B, *shape), `partner` for an exactly
                                invertible sampler, `reconstruction`, and `error` (B,), the root
                                mean square difference from the data in [-1, 1]
    OUT/reconstruction/*.png    the reconstructions of pictures
    OUT/inversion.json          the errors by image, and their summary; written last

A second call goes on where the first one stopped: blocks whose npz file is there are not made
again.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import ArgumentError
from ..files import dumps, read_json, write
from ..files.arrays import npz_names, read_npz
from . import pictures
from .blocks import Block, cut
from .conditions import Conditions
from .data_source import DataSource
from .devices import device_named, move
from .guidance import GuidanceSettings
from .hashes import denoiser_hash, model_hash
from .inverse_schedulers import check_scheduler, config_of, invert_by_scheduler
from .labels import labels_of
from .settings import checked, labels_text, plain_option

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.inversion import InversionInfo
    from ..models.base import BaseDenoiser
    from ..models.denoiser import Denoiser

#: called with the number of finished blocks and of all blocks
Progress = Callable[[int, int], None]
ARRAYS = ("noise", "partner", "reconstruction", "error")


@dataclass(frozen=True)
class InversionResult:
    """Result of ``invert``.

    ``folder``: where the noises are; ``record``: model, sampler, method, network calls, the error
    of each image, and the largest and root mean square of them.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        """The npz files of the blocks, in order."""
        return [self.folder / name for name in self.record["files"]]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of all blocks, by name: ``noise``, ``reconstruction``, ``error`` and, where
        there is one, ``partner``."""
        found = [_read(path) for path in self.files]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


@dataclass(frozen=True)
class InversionSettings:
    """How data are inverted; see ``invert``."""

    sampler: str = "dpm_solver_2m"
    inversion: str | None = None
    iterations: int | None = None
    prior: float | None = None
    steps: int | None = None
    nfe: int | None = None
    grid: str = "auto"
    final: str = "sigma_min"
    option: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Any = None

    def __post_init__(self) -> None:
        for name in ("sampler", "steps", "nfe", "grid", "final", "option"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checked(name, value))
        if self.scheduler is not None:
            object.__setattr__(self, "scheduler", config_of(self.scheduler))
            self._check_alone()

    def _check_alone(self) -> None:
        """Raise ArgumentError for settings that do not go with a scheduler."""
        for name, spec in self.__dataclass_fields__.items():
            free = {} if name == "option" else spec.default
            if name not in ("scheduler", "steps") and getattr(self, name) != free:
                raise ArgumentError(
                    f"{name}={getattr(self, name)!r} with scheduler=: the scheduler has its own; "
                    "give steps= alone"
                )
        if self.steps is None:
            raise ArgumentError("scheduler= needs steps=, its num_inference_steps")

    @property
    def name(self) -> str:
        """What is inverted: the sampler, or the scheduler's class."""
        return self.sampler if self.scheduler is None else str(self.scheduler["_class_name"])

    def keywords(self) -> dict[str, Any]:
        """The keywords of ``fewstep.invert``."""
        left_out = ("option", "scheduler")
        own = {n: getattr(self, n) for n in self.__dataclass_fields__ if n not in left_out}
        return {**own, **self.option}

    def check(self, denoiser: BaseDenoiser, shape: Sequence[int]) -> None:
        """Raise what ``inverted`` would raise, without a network call."""
        if self.scheduler is None:
            from ..engine.inversion import check_inversion

            check_inversion(denoiser, shape, **self.keywords())
        else:
            check_scheduler(self.scheduler, denoiser, self.steps)

    def inverted(
        self, denoiser: BaseDenoiser, x0: Tensor, cond: Any
    ) -> tuple[Tensor, InversionInfo]:
        """The noise of ``x0`` (B, *shape), and the measured reconstruction."""
        if self.scheduler is None:
            from ..engine.inversion import invert as invert_data

            return invert_data(denoiser, x0, cond=cond, info=True, **self.keywords())
        return invert_by_scheduler(self.scheduler, denoiser, x0, self.steps, cond)

    def record(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain = {name: plain_option(own[name]) for name in ("option", "scheduler")}
        return {**own, **plain}


def invert(
    model: Denoiser | str | Path,
    source: str | Path,
    out: str | Path,
    *,
    batch: int = 64,
    sampler: str = "dpm_solver_2m",
    inversion: str | None = None,
    iterations: int | None = None,
    prior: float | None = None,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str = "auto",
    final: str = "sigma_min",
    scheduler: Any = None,
    labels: str | int | Sequence[int] | None = "source",
    guidance: str | None = None,
    guidance_scale: float | None = None,
    guidance_interval: str | Sequence[float] | None = None,
    guidance_option: Mapping[str, Any] | None = None,
    device: Any = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> InversionResult:
    """Invert a sampler on the images of ``source`` into a folder, and measure the reconstruction.

    Args:
        model: a denoiser, a bundled name, or a folder.
        source: a folder of pictures or npz files, or a folder of ``generate``.
        out: the folder. It is refused if it holds what was made with other settings.
        batch: images inverted together.
        sampler, inversion, iterations, prior, steps, nfe, grid, final, options: see
            ``fewstep.invert``.
        scheduler: in place of a sampler, an inverse scheduler of diffusers, its config, or the JSON
            file or folder that holds it; with ``steps``.
        labels: class labels: ``"source"`` (those of a folder of ``generate``, else none),
            ``"none"``, or numbers that repeat in the order of the images.
        guidance, guidance_scale, guidance_interval, guidance_option: see ``generate``.
        device: where the network runs; ``"auto"`` is a GPU, or the CPU.
        progress: called as ``progress(done, total)`` after each block.

    Raises FewstepError for arguments that cannot be used, before the folder is written.
    """
    how = InversionSettings(
        sampler, inversion, iterations, prior, steps, nfe, grid, final, options, scheduler
    )
    guide = GuidanceSettings(guidance, guidance_scale, guidance_interval, guidance_option or {})
    run = _Inversion(model, source, out, how, guide, batch, labels, device)
    return run.run(progress or (lambda done, total: None))


class _Inversion:
    """One run of ``invert``: everything is checked before the folder is written."""

    def __init__(
        self,
        model: Denoiser | str | Path,
        source: str | Path,
        out: str | Path,
        how: InversionSettings,
        guide: GuidanceSettings,
        batch: int,
        labels: Any,
        device: Any,
    ) -> None:
        from ..models.denoiser import check_denoiser
        from ..models.loading import classes_of, load
        from ..models.wrapper import complete

        if not str(out).strip() or Path(out) == Path():
            raise ArgumentError("out is empty: must be the name of a folder")
        named = isinstance(model, (str, Path))
        loaded: Any = load(model) if isinstance(model, (str, Path)) else model
        check_denoiser(loaded)
        self.how, self.root, self.device = how, Path(out), device_named(str(device))
        self.denoiser: BaseDenoiser = complete(guide.guided(loaded))
        self.data = DataSource(Path(checked("source", str(source))))
        self.data.check(self.denoiser)
        known = self.data.labels if labels == "source" else None
        given = labels_of(
            "none" if labels == "source" else str(labels_text(labels)),
            range(self.data.count),
            classes_of(self.denoiser),
        )
        places = range(self.data.count)
        self.blocks = cut(places, given if known is None else known, checked("batch", batch))
        self.conditions = Conditions(None, self.blocks, self.denoiser)
        self.record = {
            "model": str(model) if named else type(model).__name__,
            "model_sha256": model_hash(str(model)) if named else denoiser_hash(loaded),
            "source": self.data.identity(),
            "labels": None if known is None and labels == "source" else str(labels_text(labels)),
            "batch": batch,
            **how.record(),
            **guide.record(),
        }
        self._check()

    def _check(self) -> None:
        """Refuse what cannot be inverted, and a folder of other settings."""
        self.how.check(self.denoiser, self.data.shape)
        path = self.root / "settings.json"
        if path.exists():
            there, mine = read_json(path), self.record
            other = [key for key in {*there, *mine} if there.get(key) != mine.get(key)]
            if other:
                raise ArgumentError(
                    f"{self.root} holds an inversion with other settings "
                    f"({', '.join(sorted(other))}); give another folder"
                )
        elif self.root.exists() and any(self.root.iterdir()):
            raise ArgumentError(f"{self.root} holds other files; give another folder")

    def run(self, progress: Progress) -> InversionResult:
        """Invert the blocks that are missing, and write the record."""
        shown = ("reconstruction",) if pictures.is_image(self.data.shape) else ()
        for name in ("noise", *shown):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        write(self.root / "settings.json", dumps(self.record).encode())
        move(self.denoiser, self.device)
        for done, block in enumerate(self.blocks, 1):
            path = self._path(block)
            if not path.exists():
                self._invert(block, path)
            progress(done, len(self.blocks))
        return InversionResult(self.root, self._finish())

    def _path(self, block: Block) -> Path:
        return self.root / "noise" / f"block-{block.index:05d}.npz"

    def _invert(self, block: Block, path: Path) -> None:
        import torch

        x0 = torch.as_tensor(self.data.read(block), dtype=torch.float32, device=self.device)
        cond = self.conditions.of(block, self.device)
        noise, info = self.how.inverted(self.denoiser, x0, cond)
        back = info.reconstruction.float().cpu().numpy()
        arrays = {"noise": noise.float().cpu().numpy(), "reconstruction": back}
        for partner in info.partners:
            arrays["partner"] = partner.float().cpu().numpy()
        arrays["error"] = info.errors.float().cpu().numpy()
        if pictures.is_image(self.data.shape):
            for place, pixels in zip(block.seeds, pictures.to_pixels(back), strict=True):
                name = self.root / "reconstruction" / f"{place:06d}.png"
                write(name, pictures.png(pictures.picture(pixels)))
        write(path, _npz({**arrays, **_facts(info)}))

    def _finish(self) -> dict[str, Any]:
        found = [_read(self._path(block)) for block in self.blocks]
        facts = read_npz(self._path(self.blocks[0]), ("method", "nfe"))
        errors = np.concatenate([part["error"] for part in found]).astype(np.float64)
        record = {
            "model": self.record["model"],
            "sampler": self.how.name,
            "method": str(facts["method"]),
            "nfe": int(facts["nfe"]),
            "count": self.data.count,
            "largest_error": float(errors.max()),
            "error": float(np.sqrt(np.mean(errors**2))),
            "files": [str(self._path(b).relative_to(self.root).as_posix()) for b in self.blocks],
            "images": [
                {"image": name, "error": float(error)}
                for name, error in zip(self.data.names(), errors, strict=True)
            ],
        }
        write(self.root / "inversion.json", dumps(record).encode())
        return record


def _facts(info: InversionInfo) -> dict[str, np.ndarray]:
    return {"method": np.array(info.method), "nfe": np.array(info.nfe)}


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    return out.getvalue()


def _read(path: Path) -> dict[str, np.ndarray]:
    names = [name for name in ARRAYS if name in npz_names(path)]
    return read_npz(path, names)
