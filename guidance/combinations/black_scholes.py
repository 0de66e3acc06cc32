"""Black-Scholes concept blending: the prompt of each step is chosen by the price of an option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Self, override

from ...checks import ArgumentError, between, choice, described, is_finite, number, shown
from ...models.base import MAIN, RunFacts, read_coefficients, read_raws
from ...models.denoiser import Condition, Denoiser, Time, combine, host_times
from ...models.exact import wide
from ...models.wrapper import Wrapper
from ...schedules.kinds import convert
from .conditions import Fixed, joined, where
from .prices import PRICINGS, call_price, path_volatility

#: ``scorer(x0, i)`` returns the score of concept i for each sample, (B,)
Scorer = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Progress:
    """State of a run: the grid step of each call, the number of calls made, and the concept of each
    sample (B,), None in the first step."""

    steps: tuple[int, ...]
    calls: int = 0
    concepts: Tensor | None = None


class BlackScholes(Wrapper):
    """Black-Scholes concept blending (Kothandaraman et al. 2024, arXiv 2405.13685).

    Each step has the condition of one concept. After step i of N, each concept has a score S, which
    says how well the predicted x0 fits it, and a price: that of a call option (``call_price``) with
    spot S, strike K, tau = N - i, rate R = 1 / N and the path's volatility. The next step takes the
    concept with the lowest price, for each sample: what the picture lacks most. The first step
    takes concept 1; of equal prices the last wins.

    With ``pricing="phi"`` the price grows with the score, so the concept with the lowest score is
    taken; with "code" (the authors' code, which has exp(-d^2/2) in the place of the distribution
    function) it is not so. One network call of B rows, and one scorer call for each concept and
    step except the last.

    A step with several calls (stages) keeps its concept, and is scored by its last call. After a
    change, multistep samplers go on with a history of predictions for another concept; ddim and the
    singlestep samplers have none. Samplers whose steps are not known beforehand (drivers) and calls
    outside a run are refused. The model may be guided, for example ``CFG(...)``.
    """

    #: values are kept from call to call
    joinable = False

    def __init__(
        self,
        denoiser: Denoiser,
        conds: Sequence[Condition],
        scorer: Scorer | Sequence[Callable[[Tensor], Tensor]],
        *,
        pricing: str = "phi",
        strike: float = 100.0,
        rate: float | None = None,
        volatility: float | Callable[[float], float] | None = None,
    ) -> None:
        """Args:
            denoiser: the model.
            conds: a condition for each concept, at least two of one form, with batch size 1 or B;
                ``cond=`` of the call is refused.
            scorer: ``scorer(x0, i)`` with the prediction ``x0`` (B, *shape) and the number of the
                concept from 0 returns positive scores (B,); or one function of x0 for each concept.
                The authors take 100 times the cosine similarity of CLIP.
            pricing: "phi" or "code", see ``call_price``.
            strike: K, in the units of the scores; 100 in the authors' code.
            rate: R; by default 1 / N.
            volatility: a number, or a function of t; by default ``path_volatility``.

        Raises ArgumentError for values that are not finite and for conditions that do not fit. A
        call raises ArgumentError for scores of another shape, and on the CPU for scores that are
        not positive and finite (elsewhere they are not read).
        """
        super().__init__(denoiser)
        self.sources = _sources(conds)
        self.batch = _batch(self.sources, self.denoiser.batch)
        self.scorers = _scorers(scorer, len(self.sources))
        self.pricing = choice("pricing", pricing, PRICINGS)
        self.strike = between("strike", strike, 0.0)
        self.rate = None if rate is None else number("rate", rate)
        if volatility is not None and not callable(volatility):
            between("volatility", volatility, 0.0)
        self.volatility = volatility
        self.progress: Progress | None = None

    @override
    def for_run(self, facts: RunFacts) -> Self:
        """Return a copy for one run. Raises ArgumentError if the steps are not known."""
        if facts.steps is None:
            raise ArgumentError(
                "BlackScholes chooses a condition for each step, so it needs to know the steps "
                "beforehand: use a sampler with a plan (fewstep samplers lists them)"
            )
        if facts.inverse:
            raise ArgumentError(
                "BlackScholes chooses in the direction from noise to data; this run goes from data "
                "to noise"
            )
        made = copy(self)
        made.denoiser = self.denoiser.for_run(facts)
        made.progress = Progress(facts.steps)
        return made

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        if cond is not None:
            raise ArgumentError("cond= of the call with BlackScholes, which has its conditions")
        for source in self.sources:
            self.denoiser.check_cond(source.of(None, batch), batch)

    @override
    def network_rows(self, t: float, channels: Sequence[str] = MAIN) -> int:
        return self.denoiser.network_rows(t, _with_main(channels))

    @override
    def raws(
        self,
        x_in: Tensor,
        t: Time,
        cond: Condition = None,
        channels: Sequence[str] = MAIN,
        to: Time | None = None,
    ) -> tuple[Tensor, ...]:
        if cond is not None:
            self.check_cond(cond, x_in.shape[0])
        if self.progress is None or self.progress.calls == len(self.progress.steps):
            raise ArgumentError(
                "BlackScholes chooses by the step of a run: call it through fewstep.sample or "
                "fewstep.run, which make a copy for each run"
            )
        steps, k, concepts = self.progress.steps, self.progress.calls, self.progress.concepts
        own = self._condition(concepts, x_in.shape[0])
        raws = read_raws(self.denoiser, x_in, t, own, _with_main(channels), to)
        if k + 1 < len(steps) and steps[k + 1] > steps[k]:
            concepts = self._chosen(self._x0(x_in, t, raws), t, steps[k], steps[-1] + 1)
        self.progress = Progress(steps, k + 1, concepts)
        return raws

    def _condition(self, concepts: Tensor | None, batch: int) -> Condition:
        """The condition of each sample's concept."""
        own = self.sources[0].of(None, batch)
        if concepts is None:
            return own
        for i, source in enumerate(self.sources[1:], 1):
            own = where(concepts == i, source.of(None, batch), own)
        return own

    def _x0(self, x_in: Tensor, t: Time, raws: Sequence[Tensor]) -> Tensor:
        """The prediction of x0, (B, *shape), in the units of the data."""
        times = host_times(t, x_in.shape[0])
        x = combine([x_in], [[1.0 / self.denoiser.input_scale(v) for v in times]])
        columns = []
        for v in times:
            p, qs = read_coefficients(self.denoiser, v)
            a, b = convert(self.prediction, "x0", self.schedule.node(v))
            columns.append([a + b * p, *(b * q for q in qs)])
        x0 = combine([x, *raws], list(zip(*columns, strict=True))).detach()
        return x0 if self.offset is None else x0 + self.offset.to(x0)

    def _chosen(self, x0: Tensor, t: Time, step: int, count: int) -> Tensor:
        """The concept of each sample (B,) for the step after ``step`` of ``count``."""
        when = host_times(t, x0.shape[0])[0]
        rate = 1.0 / count if self.rate is None else self.rate
        numbers = self.strike, rate, self._volatility(when), float(count - step), self.pricing
        best = concepts = None
        with torch.no_grad():
            for i, scorer in enumerate(self.scorers):
                price = call_price(self._scores(scorer(x0), i, x0), *numbers)
                if best is None or concepts is None:
                    best, concepts = price, torch.zeros_like(price, dtype=torch.int64)
                    continue
                keep = best < price
                concepts = torch.where(keep, concepts, i)
                best = torch.where(keep, best, price)
        assert concepts is not None
        return concepts

    def _scores(self, found: Tensor, i: int, x0: Tensor) -> Tensor:
        """The scores (B,) of concept ``i``, checked, in float64 where the device has it."""
        if not isinstance(found, Tensor) or found.shape != x0.shape[:1]:
            raise ArgumentError(
                f"the scorer returned {described(found)} for concept {i}; it must be a tensor of "
                f"shape {tuple(x0.shape[:1])}, one score per sample"
            )
        scores = found.to(x0.device, wide(x0.device))
        if scores.device.type == "cpu" and not bool((scores.isfinite() & (scores > 0.0)).all()):
            raise ArgumentError(
                f"the scores of concept {i} are {shown(scores.tolist())}: they must be positive "
                "and finite, because the price takes their logarithm"
            )
        return scores

    def _volatility(self, t: float) -> float:
        """The volatility at ``t``. Raises ArgumentError unless it is positive and finite."""
        if self.volatility is None:
            found = path_volatility(self.schedule, t)
        else:
            found = self.volatility(t) if callable(self.volatility) else self.volatility
        if not is_finite(found) or not found > 0.0:
            raise ArgumentError(f"volatility(t={t:.6g}) is {shown(found)}: must be positive")
        return float(found)

    @override
    def select(self, rows: Tensor) -> Self:
        """Return the model of the samples ``rows``, with the concepts that they have now."""
        made = copy(self)
        made.denoiser = self.denoiser.select(rows)
        made.sources = [source.select(rows) for source in self.sources]
        made.batch = _batch(made.sources, made.denoiser.batch)
        if self.progress is not None and self.progress.concepts is not None:
            now = self.progress.concepts
            made.progress = Progress(
                self.progress.steps, self.progress.calls, now[rows.to(now.device)]
            )
        return made

    def __repr__(self) -> str:
        return (
            f"BlackScholes({self.denoiser!r}, {len(self.sources)} concepts, "
            f"pricing={self.pricing!r}, strike={self.strike}, rate={self.rate}, "
            f"volatility={self.volatility})"
        )


def _with_main(channels: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*MAIN, *channels)))


def _sources(conds: Sequence[Condition]) -> list[Fixed]:
    """The conditions of the concepts. Raises ArgumentError unless there are two or more, of one
    form."""
    if not isinstance(conds, (list, tuple)) or len(conds) < 2 or any(c is None for c in conds):
        raise ArgumentError(
            f"conds={shown(conds)}: must be a list of two or more conditions, each a tensor or a "
            "mapping of tensors"
        )
    sources = [Fixed(cond, f"conds[{i}]") for i, cond in enumerate(conds) if cond is not None]
    fits, _ = joined([source.of(None, source.batch) for source in sources])
    if not fits:
        raise ArgumentError(
            "conds differ in names, dtypes or shapes (without the batch): samples of one batch may "
            "have different concepts, so their conditions must have one form"
        )
    return sources


def _batch(sources: Sequence[Fixed], own: int | None) -> int | None:
    """The only batch size that conditions and model allow; None for any."""
    sizes = {source.batch for source in sources} - {1} | ({own} if own is not None else set())
    if len(sizes) > 1:
        raise ArgumentError(f"conds and model have batch sizes {sorted(sizes)}: they must agree")
    return next(iter(sizes), None)


def _scorers(
    scorer: Scorer | Sequence[Callable[[Tensor], Tensor]], count: int
) -> list[Callable[[Tensor], Tensor]]:
    """One function of x0 for each concept."""
    if callable(scorer):
        return [_one(scorer, i) for i in range(count)]
    if not isinstance(scorer, (list, tuple)) or not all(callable(each) for each in scorer):
        raise ArgumentError(
            f"scorer={shown(scorer)}: must be a function (x0, i), or a list of functions of x0"
        )
    if len(scorer) != count:
        raise ArgumentError(f"{len(scorer)} scorers for {count} concepts: pass one for each")
    return list(scorer)


def _one(scorer: Scorer, i: int) -> Callable[[Tensor], Tensor]:
    return lambda x0: scorer(x0, i)
