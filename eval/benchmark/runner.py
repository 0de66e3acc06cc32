"""``bench``: samplers x grids x budgets x models, with solver error, quality and time, resumable.

*Solver error* is the distance to the model's own converged probability-flow end points from the
same noises: the error of the solver alone. *Quality* is the distance of the samples' distribution
to the data: the error of solver and model together. The end points are computed once per model, so
a grid that begins below t_max, or ends above t_min, has a larger error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...models.denoiser import Denoiser
from .measurement import Measurement, Report
from .result import Bench, ModelFacts
from .rows import Row, ranked
from .settings import BenchSettings, refuse_options
from .store import Store
from .subject import Subject, loaded


def bench(
    models: str | Denoiser | Sequence[str] | Mapping[str, Denoiser],
    *,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    report: Report | None = None,
    **settings: Any,
) -> Bench:
    """Measure samplers on models.

    Args:
        models: bundled names, ``mixture``, folders, or denoisers by name.
        out: folder of finished rows. A row that is there is not measured again. None: no folder.
        cache: folder of reference end points (default ``out/cache``).
        report: called with a line of progress.
        samplers, grids: names, with options as in ``unipc:order=3``.
        nfes: budgets of network calls. A row is the largest plan that fits its budget; if none
            does, the row says why.
        n: seeds of the solver error; ``batch``: samples drawn together.
        samples: seeds of the quality, 0 for none. It is measured for the ``top`` rows of least
            solver error at each budget (None: all) of ``quality_nfes`` (None: all), and for the
            samplers that draw noise, which have no solver error.
        tolerance: RMS change at which the reference counts as converged; 1e-3, and 1e-8 for exact
            models.
        labels: ``cycle`` (class = seed modulo number of classes) or ``none``.
        features: bundled feature network; by default that of the model's name.
        resamples: bootstrap resamples of a Frechet distance. final: where grids end.

    Returns the rows with ranks. A case that fewstep refuses, or that runs out of memory, is a row
    that says why.

    Raises:
        ScoreError (or a kin of it) for unknown names and bad numbers, before a network is called.
        Any other exception is a bug, of fewstep or of the network; rows finished before it are in
        ``out``.
    """
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    chosen = BenchSettings(_names(models), **lists)
    denoisers = loaded(models)
    for denoiser in denoisers.values():
        refuse_options(chosen, denoiser.schedule)
    subjects = [Subject(name, denoiser, chosen) for name, denoiser in denoisers.items()]
    store = Store(None if out is None else Path(out), None if cache is None else Path(cache))
    rows: list[Row] = []
    facts: dict[str, ModelFacts] = {}
    for subject in subjects:
        work = Measurement(subject, store, report or (lambda line: None))
        rows += work.rows()
        facts[subject.name] = work.facts()
    errors = {name: model.reference_error for name, model in facts.items()}
    return Bench(ranked(rows, errors), facts, chosen)


def _names(models: str | Denoiser | Sequence[str] | Mapping[str, Denoiser]) -> tuple[str, ...]:
    """The names of models: those given, or ``model`` for one denoiser."""
    if isinstance(models, str):
        return (models,)
    return ("model",) if isinstance(models, Denoiser) else tuple(models)
