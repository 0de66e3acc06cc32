"""Samples of the posterior of an inverse problem in a folder, with scores and a picture of before
and after. ``jobs.blocks`` describes the folder, which has besides

    OUT/measurement.safetensors   y, and truth where it is known
    OUT/comparison.png            of pictures: measurement, reconstruction, truth
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .drawing import DrawingSettings
from .generation import Generation, GenerationResult, Progress
from .guidance import GuidanceSettings
from .posterior_drawing import PosteriorDrawing
from .problem import ProblemSettings

if TYPE_CHECKING:
    from ..models.denoiser import Denoiser
    from ..schedules.grids.construction import Grid


class SolutionResult(GenerationResult):
    """Result of ``solve``: as that of ``generate``; the manifest has the mean ``scores``, the
    ``calls`` of a block, and both for each sample."""

    @property
    def comparison(self) -> Path:
        """The picture of before and after; there for samples of three axes."""
        return self.folder / "comparison.png"


def solve(
    model: Denoiser | str | Path,
    out: str | Path,
    *,
    task: str | None = None,
    task_option: Mapping[str, Any] | None = None,
    operator: Any = None,
    method: str = "mmps",
    method_option: Mapping[str, Any] | None = None,
    sigma_y: float = 0.1,
    measurement: Any = None,
    truth: Any = None,
    noise_seed: int | None = None,
    lpips: str | None = None,
    seeds: str | int | Iterable[int] | None = None,
    batch: int = 64,
    sampler: str = "auto",
    option: Mapping[str, Any] | None = None,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    final: str = "zero",
    labels: str | int | Sequence[int] | None = "none",
    cond: str | Path | None = None,
    size: str | int | tuple[int, int] | None = None,
    guidance: str | None = None,
    guidance_scale: float | None = None,
    guidance_interval: str | Sequence[float] | None = None,
    guidance_option: Mapping[str, Any] | None = None,
    format: str | None = None,
    device: Any = "auto",
    progress: Progress | None = None,
) -> SolutionResult:
    """Draw samples of about ``p(x0 | y)`` into a folder; a second call goes on where the first one
    stopped. The samples are those of ``guidance.solve``.

    Example::

        made = fewstep.jobs.solve("mnist", "filled", task="inpaint-box", truth="digits",
                                  method="pigdm", steps=20)
        made.manifest["scores"]

    Args:
        model, out, batch, steps, nfe, grid, final, labels, cond, size, guidance, guidance_scale,
            guidance_interval, guidance_option, format, device, progress: see ``generate``.
        task, task_option: the forward model by name and its options, see
            ``guidance.operators.make``.
        operator: in its place, a forward model (see ``guidance.Gaussian``) or the name of one, such
            as ``"file.py:name"``; a class is called with ``task_option``.
        method, method_option: see ``guidance.methods()``.
        sigma_y: standard deviation of the noise; 0 is an exact constraint.
        measurement: y, shaped like ``A(x0)[0]``, or with one for each seed: a tensor, or a file
            (.npy, .npz, .safetensors, or a picture, whose values become -1 to 1).
        truth: in its place, true samples from which measurements are simulated, one for all seeds
            or one for each: a tensor, a file, a folder of pictures or npz files, or one of
            ``generate``. They are scored against.
        noise_seed: of the simulated noise (default 0): that of sample k is of ``noise_seed + k``.
        lpips: file of torchvision's weights of AlexNet; the manifest then has LPIPS too.
        seeds: one a sample; default one for each measurement, from 0.
        sampler, option: the sampler and its options; ``"auto"`` is the method's own.

    Raises FewstepError for arguments that cannot be used, before the folder is written, and
    NumericalError for NaN in a sample; blocks that are finished stay.
    """
    settings = DrawingSettings(
        model,
        0 if seeds is None else seeds,
        batch,
        sampler,
        steps,
        nfe,
        grid,
        final,
        option or {},
        labels,
        cond,
        size,
        device,
        GuidanceSettings(guidance, guidance_scale, guidance_interval, guidance_option or {}),
    )
    asks = ProblemSettings(
        task,
        task_option or {},
        operator,
        method,
        method_option or {},
        sigma_y,
        measurement,
        truth,
        noise_seed,
        lpips,
    )
    drawing = PosteriorDrawing(settings, asks, seeds is not None)
    made = Generation(drawing, out, format).run(progress or (lambda done, total: None))
    return SolutionResult(made.folder, made.manifest)
