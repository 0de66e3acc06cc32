"""Samples of a model in a folder: one file a sample (or one npz file a block), a grid picture and a
manifest. ``jobs.blocks`` describes the folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError
from .blocks import Folder
from .drawing import Drawing, DrawingSettings
from .guidance import GuidanceSettings
from .pictures import is_image
from .processes import place
from .settings import checked
from .steering import SteeringSettings

if TYPE_CHECKING:
    from ..models.denoiser import Denoiser
    from ..schedules.grids.construction import Grid

#: called with the number of finished blocks of this process and the number of all its blocks
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class GenerationResult:
    """Result of ``generate``.

    Attributes:
        folder: where the samples are.
        manifest: model, the sampler that ran, calls, hashes, and of every sample its seed, label,
            file and SHA-256; ``reason`` where sampler or grid were chosen automatically. None while
            other processes have blocks left.
    """

    folder: Path
    manifest: dict[str, Any] | None

    @property
    def finished(self) -> bool:
        """True if all samples are there."""
        return self.manifest is not None

    @property
    def picture(self) -> Path:
        """The grid picture of the first samples."""
        return self.folder / "grid.png"

    @property
    def files(self) -> list[Path]:
        """The files of the samples in the order of the seeds, each once."""
        rows = self.manifest["samples"] if self.manifest is not None else []
        return [self.folder / name for name in dict.fromkeys(row["file"] for row in rows)]


def generate(
    model: Denoiser | str | Path,
    out: str | Path,
    *,
    seeds: str | int | Iterable[int] = range(64),
    batch: int = 64,
    sampler: str = "auto",
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    final: str = "zero",
    labels: str | int | Sequence[int] | None = "cycle",
    cond: str | Path | None = None,
    size: str | int | tuple[int, int] | None = None,
    guidance: str | None = None,
    guidance_scale: float | None = None,
    guidance_interval: str | Sequence[float] | None = None,
    guidance_option: Mapping[str, Any] | None = None,
    steer: str | None = None,
    reward: Any = None,
    particles: int | None = None,
    steer_option: Mapping[str, Any] | None = None,
    format: str | None = None,
    device: Any = "auto",
    progress: Progress | None = None,
    **options: Any,
) -> GenerationResult:
    """Draw samples into a folder; a second call goes on where the first one stopped.

    Example::

        den = fewstep.models.load("mnist")
        made = fewstep.jobs.generate(den, "digits", seeds=range(1000), sampler="unipc", steps=8)
        made.manifest["samples"][0]["file"]

    Args:
        model: a denoiser, a bundled name, or a folder. A denoiser object is recorded by its class
            and by a hash of its numbers and tensors, not of its code.
        out: the folder. It is refused if it holds samples made with other settings; seeds may be
            added after those that it holds.
        seeds: one a sample: integers, or a text such as ``"0-63"`` or ``"1,4,10-12"``.
        batch: samples drawn together. A network's rounding depends on it, so it decides the bytes:
            seeds are cut into blocks of this size, and a block is drawn whole or not at all.
        sampler, steps, nfe, grid, final, options: see ``fewstep.plan``; the defaults are those of
            ``fewstep.sample``, and draw what it draws.
        labels: class labels: ``"cycle"`` (seed modulo classes), ``"random"``, ``"none"``, or
            numbers that repeat in the order of the seeds.
        cond: safetensors file of the model's conditions by name, one row for all samples or one a
            sample; replaces ``labels``.
        size: height and width of a sample for networks of diffusers that take several.
        guidance, guidance_scale: guidance by the conditions: method by name
            (``fewstep.guidance.names()``) and its scale.
        guidance_interval: (lo, hi) of rho = sigma / alpha, outside of which the scale is 1.
        guidance_option: the method's further options by name.
        steer: choose samples by a reward: a method by name
            (``fewstep.guidance.steering_methods()``). The manifest has the reward of each sample;
            ``sampler="auto"`` is the method's own sampler.
        reward: function of a batch of samples, a ``guidance.Reward``, or a name, such as
            ``"package.module:function"`` or ``"file.py:function"``.
        particles: runs for each sample (default 16); a network call has at most ``batch`` rows.
        steer_option: the method's options by name.
        format: ``"png"`` (one file a sample) or ``"npz"`` (one a block); default png for pictures.
        device: where the network runs; ``"auto"`` is this process's GPU, or the CPU.
        progress: called as ``progress(done, total)`` after each block of this process.

    Raises FewstepError for arguments that cannot be used, before the folder is written, and
    NumericalError for NaN in a sample; blocks that are finished stay.
    """
    settings = DrawingSettings(
        model,
        seeds,
        batch,
        sampler,
        steps,
        nfe,
        grid,
        final,
        options,
        labels,
        cond,
        size,
        device,
        GuidanceSettings(guidance, guidance_scale, guidance_interval, guidance_option or {}),
        SteeringSettings(steer, reward, particles, steer_option or {}),
    )
    run = Generation(Drawing(settings), out, format)
    return run.run(progress or (lambda done, total: None))


class Generation:
    """One run of ``generate``: the drawing and the folder, which is taken before the network is
    called."""

    def __init__(self, drawing: Drawing, out: str | Path, format: str | None) -> None:
        """Raises FewstepError for settings that are not those of the folder."""
        self.drawing = drawing
        root, shape = Path(out), drawing.shape
        if not str(out).strip() or root == Path():
            raise ArgumentError("out is empty: must be the name of a folder")
        kind = checked("format", format) if format else ("png" if is_image(shape) else "npz")
        if kind == "png" and not is_image(shape):
            raise ArgumentError(
                f"format='png': samples of shape {shape} are no pictures; allowed: npz"
            )
        self.folder = Folder(root, kind, shape, drawing.noted)
        record = {**drawing.record(), "format": kind}
        self.folder.open(record, drawing.same_request, drawing.former)

    def run(self, progress: Progress) -> GenerationResult:
        """Draw the missing blocks of this process; if all blocks are there, write the manifest."""
        rank, world = place()
        blocks = self.drawing.blocks
        mine = blocks[rank::world]
        for done, block in enumerate(mine, 1):
            if self.folder.record(block) is None:
                self.folder.save(block, *self.drawing.draw(block))
            progress(done, len(mine))
        records = [self.folder.record(block) for block in blocks]
        whole = [record for record in records if record is not None]
        if len(whole) < len(blocks):
            return GenerationResult(self.folder.root, None)
        facts = {**self.drawing.facts, **self.drawing.finished(self.folder, whole)}
        manifest = self.folder.finish(blocks, whole, facts)
        return GenerationResult(self.folder.root, manifest)
