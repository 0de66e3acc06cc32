"""Measurements of one model: the solver error of every row, and the quality of the best.

Every row is a case (budget, sampler, grid). A case that fewstep refuses, or for which memory is too
small, becomes a row that says why; any other exception is a bug and stops the benchmark. Finished
rows are in the store by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...checks import FewstepError
from ...checks.answers import short_of_memory
from ...engine.automatic import facts_of
from ...engine.planning import Request
from ...models.wrapper import complete
from ...samplers import registry
from ..errors import ScoreError
from ..solver.error import refuse_noise
from ..solver.trajectory import TrajectoryReference
from .calibration import SEEDS, skips, steps_within
from .report.samples import shown
from .result import ModelFacts
from .rows import Kind, Row, columns, root_interval
from .selection import NAME, BestOf
from .settings import fitted, grid_options, sampler_options
from .store import Store, missing
from .subject import Subject, blocks

Report = Callable[[str], None]
Record = dict[str, Any]


class Case(NamedTuple):
    """One row: a budget of network calls, a sampler and a grid with their options as text."""

    budget: int
    sampler: str
    grid: str


class Measurement:
    """The rows of one model. Making it computes the reference end points."""

    def __init__(self, subject: Subject, store: Store, report: Report) -> None:
        self.subject, self.store, self.report = subject, store, report
        self.settings = subject.settings
        self.known = facts_of(complete(subject.denoiser))
        self.tell(f"reference end points of {self.settings.n} seeds")
        self.reference: TrajectoryReference = subject.reference(store)
        self.warm = False
        #: steps of the drivers that skip calls
        self.steps: dict[Case, int] = {}

    def tell(self, text: str) -> None:
        """Report a line about this model."""
        self.report(f"{self.subject.name}: {text}")

    def facts(self) -> ModelFacts:
        """Return the facts that hold for all rows."""
        s, ref = self.subject, self.reference
        return ModelFacts(s.metric, s.floor, ref.error, ref.nfe, s.note, **shown(ref.end))

    def rows(self) -> list[Row]:
        """Measure every case; rows in the order budget, sampler, grid, without ranks."""
        s = self.settings
        cases = [Case(b, sampler, g) for b in s.nfes for sampler in s.samplers for g in s.grids]
        found: dict[Case, Record] = {}
        for k, case in enumerate(cases, 1):
            self.tell(f"{k}/{len(cases)} {case.sampler} {case.grid} nfe={case.budget}")
            found[case] = self._or_why(self._error, case)
        for case in self._rated(found):
            self.tell(f"{s.samples} samples of {case.sampler} {case.grid} nfe={case.budget}")
            found[case] |= self._or_why(self._quality, case, "quality: ")
        return [
            Row(self.subject.name, case.sampler, case.grid, case.budget, **record)
            for case, record in found.items()
        ]

    def _or_why(self, measure: Callable[[Case], Record], case: Case, head: str = "") -> Record:
        """What ``measure`` finds, or why fewstep or the memory refused it; other errors pass."""
        try:
            return measure(case)
        except FewstepError as error:
            return {"skipped": f"{head}{error}"}
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
            first = next(iter(str(error).splitlines()), "")
            return {"skipped": f"{head}out of memory{f': {first}' if first else ''}"}

    def _rated(self, found: Mapping[Case, Record]) -> list[Case]:
        """The cases whose quality is measured: those of least solver error at each budget, and
        those that draw noise."""
        s = self.settings
        if self.subject.metric is None:
            return []
        out: list[Case] = []
        for budget in s.nfes if s.quality_nfes is None else s.quality_nfes:
            here = [
                case
                for case, row in found.items()
                if case.budget == budget and row.get("skipped") is None
            ]
            paths = [case for case in here if not found[case]["stochastic"]]
            paths.sort(key=lambda case: float(found[case]["rmse"]))
            out += [*paths[: s.top], *(case for case in here if found[case]["stochastic"])]
        return out

    def _request(self, case: Case) -> Request:
        """The largest plan that fits the budget; of a driver that skips calls, the most steps whose
        measured mean number of calls does."""
        sampler, spacing = sampler_options(case.sampler), grid_options(case.grid)
        more = (self.subject.denoiser.schedule, case.budget, self.settings.final, self.known)
        asked = fitted(sampler, spacing, *more)
        if not skips(asked):
            return asked
        if case not in self.steps:
            self.steps[case] = self._calibrated(
                case.budget, lambda steps: fitted(sampler, spacing, *more, steps)
            )
        return fitted(sampler, spacing, *more, self.steps[case])

    def _calibrated(self, budget: int, of: Callable[[int], Request]) -> int:
        """The steps of a driver that skips calls, from the cache if they are there."""
        facts = self._facts_of("error", of(budget), {"n": self.settings.n, "calls": budget})
        kept = self.store.arrays("steps", facts)
        if kept is not None:
            return int(kept[0]["steps"])

        def calls(steps: int) -> float:
            seeds = range(min(self.settings.n, self.settings.batch, SEEDS))
            self.tell(f"calls of {of(steps).name} with {steps} steps")
            return self.subject.draw(of(steps), seeds, torch.float64)[1].calls

        found = steps_within(budget, calls)
        self.store.keep_arrays("steps", facts, {"steps": torch.tensor(found)}, {})
        return found

    def _error(self, case: Case) -> Record:
        s, asked = self.settings, self._request(case)
        if isinstance(asked, BestOf) and self.subject.metric is None:
            raise ScoreError(
                "draws are chosen by a reward, so only their quality can be measured: "
                "set samples, for a model that has a metric"
            )
        more = {"n": s.n, "tolerance": s.tolerance, "squares": True}
        return self._kept("error", asked, more, self._draw_error)

    def _quality(self, case: Case) -> Record:
        more = {"samples": self.settings.samples, "resamples": self.settings.resamples}
        return self._kept("quality", self._request(case), more, self._draw_quality)

    def _kept(
        self,
        kind: Kind,
        asked: Request,
        more: Mapping[str, Any],
        measure: Callable[[Request, Mapping[str, Any]], Record],
    ) -> Record:
        """The record of the store, completed by the columns that it lacks, or a new one."""
        facts = self._facts_of(kind, asked, more)
        record = self.store.record(kind, facts)
        if record is None or missing(kind, record):
            if not self.warm:  # the first call of a network allocates, chooses kernels
                self.subject.draw(asked, range(min(self.settings.n, self.settings.batch)))
                self.warm = True
            record = {**dict.fromkeys(columns(kind)), **measure(asked, facts), **(record or {})}
            self.store.keep(kind, facts, record)
        return {key: _tuples(value) for key, value in record.items()}

    def _facts_of(self, kind: Kind, asked: Request, more: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that decides a record; the metric decides those of the quality alone.

        The plan is here, not the names of sampler and grid, without the reason of its choice.
        """
        plan = (
            repr((asked.name, asked.options, asked.grid.times))
            if asked.driver
            else replace(asked, reason="").plan().to_json()
        )
        s, own = self.settings, dict(self.subject.facts)
        if isinstance(asked, BestOf):
            own["best_of_n"] = asked.particles
        if kind == "error":
            own.pop("metric", None)
        return {**own, **more, "plan": plan, "batch": s.batch, "final": s.final}

    def _draw_error(self, asked: Request, facts: Mapping[str, Any]) -> Record:
        """Draw the seeds of the solver error."""
        n, noisy = self.settings.n, draws_noise(asked)
        began, parts, nfe, calls = time.perf_counter(), [], 0, 0.0
        for seeds in blocks(range(n), self.settings.batch):
            x, info = self.subject.draw(asked, seeds, None if noisy else torch.float64)
            parts.append(x)
            nfe, calls = max(nfe, info.nfe), calls + info.calls * len(seeds)
        spent = time.perf_counter() - began
        x = torch.cat(parts)
        out: Record = {
            "nfe": nfe,
            "calls": calls / n,
            "steps": asked.grid.steps,
            "call": call_of(asked),
            "stochastic": noisy,
            "milliseconds": 1e3 * spent / n,
            **shown(x),
        }
        return out if noisy else out | self._distances(x)

    def _distances(self, x: Tensor) -> Record:
        """The solver error of the end points ``x`` (n, *shape)."""
        end = self.reference.end
        squares = (x.double() - end).flatten(1).square().mean(dim=1)
        rmse, low, high = root_interval(squares, self.reference.error)
        return {
            "rmse": rmse,
            "rmse_low": low,
            "rmse_high": high,
            "squares": tuple(squares.tolist()),
            "relative": rmse / max(float(end.square().mean().sqrt()), 1e-300),
        }

    def _draw_quality(self, asked: Request, facts: Mapping[str, Any]) -> Record:
        """Draw the seeds of the quality; features are kept block by block until the row is done."""
        parts: list[Tensor] = []
        pieces: Sequence[Sequence[int]] = blocks(range(self.settings.samples), self.settings.batch)
        for k, seeds in enumerate(pieces):
            self.tell(f"{asked.name} block {k + 1}/{len(pieces)}")
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


def _tuples(value: Any) -> Any:
    """Lists, which JSON has, as tuples, which rows have."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def call_of(asked: Request) -> str:
    """Return the sampler and the options that are not its defaults: ``'unipc', order=3``."""
    plain = registry.get(asked.name).options()
    values = {f.name: getattr(asked.options, f.name) for f in fields(asked.options)}
    own = [
        f"{key}={value!r}"
        for key, value in values.items()
        if not hasattr(plain, key) or getattr(plain, key) != value
    ]
    if isinstance(asked, BestOf):
        return ", ".join(
            [repr(NAME), f"particles={asked.particles}", f"sampler={asked.name!r}", *own]
        )
    return ", ".join([repr(asked.name), *own])


def draws_noise(asked: Request) -> bool:
    """Return whether a sampler draws noise, or chooses among draws, so that it has no path to
    converge to."""
    if isinstance(asked, BestOf):
        return True
    try:
        refuse_noise(asked)
    except ScoreError:
        return True
    return False
