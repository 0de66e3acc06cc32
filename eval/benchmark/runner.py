"""``bench``: samplers x grids x budgets x models, with solver error, quality and time, resumable.

*Solver error* is the distance to the model's own converged probability-flow end points from the
same noises: the solver's share of what is wrong. *Quality* is the distance of the samples' law to
the data: the solver's and the model's. The end points are computed once a model; a grid that begins
below t_max, or ends above t_min, pays for it as for any other error.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...engine.planning import Request
from ...models.denoiser import Denoiser
from ...samplers import registry
from ..errors import ScoreError
from ..solver.error import refuse_noise
from ..solver.trajectory import Reference
from .report.samples import shown
from .result import Bench, ModelFacts
from .rows import Row, ranked, root_interval
from .settings import BenchSettings, fitted, grid_choice, refuse_options, sampler_choice
from .store import Store
from .subject import Subject, blocks, loaded

Report = Callable[[str], None]


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
        out: folder of finished rows, which are taken from there when the same is asked again; None
            keeps nothing.
        cache: folder of reference end points (``out/cache``).
        report: called with a line on what is being done.
        samplers, grids: names, with options as in ``unipc:order=3``.
        nfes: budgets of network calls. A row has the largest plan that fits; what has none is a row
            that says why.
        n: seeds of the solver error; ``batch``: samples drawn together.
        samples: seeds of the quality, 0 for none. It is measured for the ``top`` rows of least
            solver error at each budget (None: all) of ``quality_nfes`` (None: all), and for the
            samplers that draw noise, which have no other number.
        tolerance: RMS change at which reference end points stand still; 1e-3, of exact models 1e-8.
        labels: ``cycle`` (class = seed modulo classes) or ``none``.
        features: bundled feature network; by default that of the model's name.
        resamples: of the bootstrap of Frechet distances. final: where grids end.

    Raises ScoreError and its kin for unknown names and bad numbers before a network is called.
    """
    denoisers: Mapping[str, Denoiser]
    names = (
        tuple(models)
        if not isinstance(models, str | Denoiser)
        else (models,)
        if isinstance(models, str)
        else ("model",)
    )
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    chosen = BenchSettings(names, **lists)
    denoisers = loaded(models)
    for denoiser in denoisers.values():
        refuse_options(chosen, denoiser.schedule)
    subjects = [Subject(name, denoiser, chosen) for name, denoiser in denoisers.items()]
    store = Store(None if out is None else Path(out), None if cache is None else Path(cache))
    rows: list[Row] = []
    facts: dict[str, ModelFacts] = {}
    for subject in subjects:
        work = _Work(subject, store, report or (lambda line: None))
        rows += work.rows()
        facts[subject.name] = work.facts()
    return Bench(
        ranked(rows, {name: model.reference_error for name, model in facts.items()}), facts, chosen
    )


class _Work:
    """The rows of one model."""

    def __init__(self, subject: Subject, store: Store, report: Report) -> None:
        self.subject, self.store, self.report, self.settings = (
            subject,
            store,
            report,
            subject.settings,
        )
        self.report(f"{subject.name}: reference end points of {self.settings.n} seeds")
        self.reference: Reference = subject.reference(store)
        self.warm = False

    def facts(self) -> ModelFacts:
        s, ref = self.subject, self.reference
        return ModelFacts(s.metric, s.floor, ref.error, ref.nfe, s.note, **shown(ref.end))

    def rows(self) -> list[Row]:
        s = self.settings
        asked = [
            (budget, sampler, spacing)
            for budget in s.nfes
            for sampler in s.samplers
            for spacing in s.grids
        ]
        plans = {}
        found: dict[Any, dict[str, Any]] = {}
        for k, (budget, sampler, spacing) in enumerate(asked, 1):
            self.report(f"{self.subject.name}: {k}/{len(asked)} {sampler} {spacing} nfe={budget}")
            case = budget, sampler, spacing
            try:
                request = fitted(
                    sampler_choice(sampler),
                    grid_choice(spacing),
                    self.subject.denoiser.schedule,
                    budget,
                    s.final,
                )
                plans[case] = request
                found[case] = self._measured(
                    "error",
                    request,
                    {"n": s.n, "tolerance": s.tolerance, "squares": True},
                    self._error,
                )
            except (ValueError, ArithmeticError) as error:
                found[case] = {"skipped": str(error)}
        for case in self._rated(found):
            self.report(
                f"{self.subject.name}: {s.samples} samples of {case[1]} {case[2]} nfe={case[0]}"
            )
            try:
                more = {"samples": s.samples, "resamples": s.resamples}
                found[case] |= self._measured("quality", plans[case], more, self._quality)
            except ArithmeticError as error:
                found[case] |= {"skipped": f"quality: {error}"}
        return [
            Row(self.subject.name, sampler, spacing, budget, **found[budget, sampler, spacing])
            for budget, sampler, spacing in asked
        ]

    def _rated(self, found: Mapping[Any, Mapping[str, Any]]) -> list[Any]:
        """The cases whose quality is measured: the best of each budget, and those that draw
        noise."""
        s = self.settings
        if self.subject.metric is None:
            return []
        out = []
        for budget in s.nfes if s.quality_nfes is None else s.quality_nfes:
            here = [
                case
                for case, row in found.items()
                if case[0] == budget and row.get("skipped") is None
            ]
            paths = sorted(
                (case for case in here if not found[case]["stochastic"]),
                key=lambda case: float(found[case]["rmse"]),
            )
            out += [*paths[: s.top], *(case for case in here if found[case]["stochastic"])]
        return out

    def _measured(
        self,
        kind: str,
        asked: Request,
        more: Mapping[str, Any],
        measure: Callable[..., dict[str, Any]],
    ) -> dict[str, Any]:
        """A record of the store, or a new one that goes there."""
        plan = (
            repr((asked.name, asked.options, asked.grid.times))
            if asked.driver
            else asked.plan().to_json()
        )
        facts = {
            **self.subject.facts,
            **more,
            "plan": plan,
            "batch": self.settings.batch,
            "final": self.settings.final,
        }
        record = self.store.record(kind, facts)
        if record is None:
            if not self.warm:  # the first call of a network allocates, chooses kernels
                self.subject.draw(asked, range(min(self.settings.n, self.settings.batch)))
                self.warm = True
            record = measure(asked, facts)
            self.store.keep(kind, facts, record)
        tuples = {"points": lambda v: tuple(map(tuple, v)), "squares": tuple}
        return {k: tuples[k](v) if k in tuples and v is not None else v for k, v in record.items()}

    def _error(self, asked: Request, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the seeds of the solver error."""
        n, noisy = self.settings.n, draws_noise(asked)
        began, parts, nfe = time.perf_counter(), [], 0
        for seeds in blocks(range(n), self.settings.batch):
            x, info = self.subject.draw(asked, seeds, None if noisy else torch.float64)
            parts.append(x)
            nfe = max(nfe, info.nfe)
        spent = time.perf_counter() - began
        x = torch.cat(parts)
        out: dict[str, Any] = {
            "nfe": nfe,
            "steps": asked.grid.steps,
            "call": call_of(asked),
            "stochastic": noisy,
            "milliseconds": 1e3 * spent / n,
            **shown(x),
        }
        if not noisy:
            apart = (x.double() - self.reference.end).flatten(1).square().mean(dim=1)
            out["rmse"], out["rmse_low"], out["rmse_high"] = root_interval(
                apart, self.reference.error
            )
            out["squares"] = tuple(apart.tolist())
            out["relative"] = out["rmse"] / max(
                float(self.reference.end.square().mean().sqrt()), 1e-300
            )
        return out

    def _quality(self, asked: Request, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Draw the seeds of the quality; features are kept block by block until the row is done."""
        parts: list[Tensor] = []
        pieces = blocks(range(self.settings.samples), self.settings.batch)
        for k, seeds in enumerate(pieces):
            self.report(f"{self.subject.name}: {asked.name} block {k + 1}/{len(pieces)}")
            place = {**facts, "block": k}
            kept = self.store.arrays("features", place)
            if kept is None:
                made = self.subject.material(self.subject.draw(asked, seeds)[0])
                self.store.keep_arrays("features", place, {"features": made}, {})
            parts.append(made if kept is None else kept[0]["features"])
        rating = asdict(self.subject.rate(torch.cat(parts)))
        for k in range(len(pieces)):
            self.store.forget_arrays("features", {**facts, "block": k})
        return {
            "quality" if key == "value" else f"quality_{key}": value
            for key, value in rating.items()
        }


def call_of(asked: Request) -> str:
    """``'unipc', order=3``: the sampler and the options that are not its defaults."""
    plain = registry.get(asked.name).options()
    values = {f.name: getattr(asked.options, f.name) for f in dataclasses.fields(asked.options)}
    own = [
        f"{key}={value!r}"
        for key, value in values.items()
        if not hasattr(plain, key) or getattr(plain, key) != value
    ]
    return ", ".join([repr(asked.name), *own])


def draws_noise(asked: Request) -> bool:
    """Whether a run has no path to converge to."""
    try:
        refuse_noise(asked)
    except ScoreError:
        return True
    return False
