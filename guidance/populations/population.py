"""``Population``, S samples of P particles each that run through one plan together, and
``Setting``, what such a run is made of.

Every method of this folder is a loop over a population:

    population = Population(setting)                  # (S P, *shape): row = sample P + particle
    while not population.done:
        population.evaluate()                         # one network call for every particle
        value = rated(rewards, population.x0)         # of the predictions E[x0 | x_t]; (S, P)
        population.select(choice)                     # choice (S, P'): which particles go on
        population.step()                             # with fresh noise for every place
    rated(rewards, population.result)

``select`` moves whatever a particle carries (multistep history, edits, noises drawn already, the
predictions just made); noise drawn later belongs to the place: (seed of the sample, draw, number
of the particle) address it. Copies therefore part at the next noisy step, particle 0 of a run
without any selection is the sample that ``fewstep.sample`` draws from that seed, and the same
seeds give the same numbers however samples are split into runs and rows into network calls.

Rewards are objects with ``rewards(x0 (B, *shape)) -> (B,)`` and counters (``rewards.Reward``).
Weights and choices are made on the CPU in float64 (``resampling``), on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import ArgumentError, described
from ...models.base import BaseDenoiser, RunFacts
from ...models.denoiser import Condition
from ...plans.instructions import PlanError
from ...plans.plan import Plan
from ...plans.running.channels import network_raws
from ...plans.running.finiteness import NumericalError, Watch, check_raws
from ...plans.running.loop import Cursor
from ...plans.running.lowering import Call, lower
from ...plans.running.noise_sources import NoiseSource
from ...plans.running.state_law import StateLaw, innovation, next_state
from ...plans.running.step_state import Outputs
from ...schedules.host_times import device_times
from ..combinations.sample_sums import inner_products
from .rows import Rows as Rows
from .rows import joined, rows_of
from .slopes import gradient


@dataclass(frozen=True)
class Setting:
    """What a run of a population is made of, the same for every method.

    Attributes:
        plan: the plan that every particle runs through.
        denoiser: the model, for a batch of the S samples.
        seeds: one per sample.
        particles: number of particles of each sample, P.
        start: the state at the plan's first node for given rows, (rows, *shape).
        noise: the source of the noises of given rows.
        cond: condition of the S samples, batch first.
        batch: the most rows of one network call; None: all rows in one.
        sampler: name of the sampler, for messages.
        draws: samples that the reward is given for one prediction; 1 but for tokens.
    """

    plan: Plan
    denoiser: BaseDenoiser
    seeds: tuple[int, ...]
    particles: int
    start: Callable[[Rows], Tensor]
    noise: Callable[[Rows], NoiseSource]
    cond: Condition = None
    batch: int | None = None
    sampler: str = ""
    draws: int = 1

    @property
    def samples(self) -> int:
        """Number of samples, S."""
        return len(self.seeds)

    def population(self, numbers: Sequence[int] | None = None) -> Population:
        """The particles of these ``numbers`` (None: 0 .. P - 1) at the start of their runs."""
        return Population(self, numbers)

    def noisy_calls(self) -> tuple[int, ...]:
        """The network calls after which copies of a particle part by fresh noise."""
        return lower(self.plan, self.denoiser).noisy_calls

    def rows(self, numbers: Sequence[int]) -> Rows:
        """The rows of a population whose samples have particles with these ``numbers`` each."""
        each = range(self.samples)
        return Rows(
            tuple(s for s in each for _ in numbers),
            tuple(self.seeds[s] for s in each for _ in numbers),
            tuple(p for _ in each for p in numbers),
        )

    def network_rows(self, calls: Sequence[int] | None = None) -> int:
        """Rows that the network receives for one particle in these ``calls`` of the plan (None:
        all)."""
        evaluations = self.plan.evaluations
        chosen = range(len(evaluations)) if calls is None else calls
        reads = [(evaluations[k].node.t or 0.0, evaluations[k].channels) for k in chosen]
        return sum(self.denoiser.network_rows(t, channels) for t, channels in reads)


class Population:
    """S samples of P particles each, at one point of their runs."""

    def __init__(self, setting: Setting, numbers: Sequence[int] | None = None) -> None:
        """Args:
        setting: what the run is made of.
        numbers: the numbers of the particles of each sample; None: 0 .. P - 1.
        """
        self.setting = setting
        self.numbers = tuple(range(setting.particles) if numbers is None else numbers)
        rows = setting.rows(self.numbers)
        facts = RunFacts(setting.seeds, setting.plan.call_steps)
        self._model = setting.denoiser.for_run(facts)
        self._spread(torch.tensor(rows.samples))
        self._sources: dict[int, NoiseSource] = {}
        x = setting.start(rows)
        self.cursor = Cursor(setting.plan, self._model, x, setting.noise(rows))
        #: rows that the network received until now
        self.network_rows = 0
        self._raws: tuple[Tensor, ...] | None = None
        calls = self.cursor.program.calls
        self._times = device_times([call.node.t or 0.0 for call in calls], x.device)
        self._ends = device_times(
            [call.to.t or 0.0 if call.to else 0.0 for call in calls], x.device
        )
        self._watch = Watch(calls, x)
        self._closed = False

    @property
    def samples(self) -> int:
        """Number of samples, S."""
        return self.setting.samples

    @property
    def particles(self) -> int:
        """Number of particles of each sample, P."""
        return len(self.numbers)

    @property
    def size(self) -> int:
        """Number of rows, S P."""
        return self.samples * self.particles

    @property
    def done(self) -> bool:
        """True when no network call is left."""
        return self.cursor.done

    @property
    def index(self) -> int:
        """Number of steps made: the network call that is due, from 0."""
        return self.cursor.index

    @property
    def call(self) -> Call:
        """The network call that is due; PlanError at the end."""
        if (call := self.cursor.call) is None:
            raise PlanError("the run is over; its state is in result")
        return call

    @property
    def t(self) -> float:
        """Time of the current state; PlanError at the end."""
        return float(self.call.node.t or 0.0)

    @property
    def state(self) -> Tensor:
        """The current state (S P, *shape), in the coordinates of the data: a copy."""
        return self._shifted(self.cursor.x.clone())

    @property
    def result(self) -> Tensor:
        """The samples (S P, *shape) at the end of the run: a copy. NumericalError where one is not
        finite."""
        x = self.cursor.result
        if not self._closed:
            self._seen(lambda: self._watch.close(x))
            self._closed = True
        return self._shifted(x.clone())

    def _shifted(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """``x``, all rows or some, in the coordinates of the data: on a mean-reverting path the
        state is x - mu."""
        shift = self.setting.denoiser.offset
        if shift is None:
            return x
        if shift.ndim == x.ndim and shift.shape[0] == self.samples > 1:
            each = torch.arange(self.size) if rows is None else rows
            shift = shift.index_select(0, (each // self.particles).to(shift.device))
        return x + shift.to(x)

    def evaluate(self) -> Outputs:
        """Make the network call that is due, in chunks of ``batch`` rows, unless it was made.
        Returns the predictions, as any kind."""
        call = self.call
        if self._raws is None:
            parts = [self._ask(call, rows) for rows in self._chunks()]
            self._raws = joined(parts)
            self._received(call, self._raws)
        return Outputs(self._model, call.node, self.cursor.x, self._raws, call.channels)

    @property
    def x0(self) -> Tensor:
        """The predictions ``E[x0 | x_t]`` (S P, *shape) of the call that is due, in the coordinates
        of the data."""
        return self._shifted(self.evaluate()["x0"])

    def differentiate(self, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Make the network call that is due, and differentiate ``function(x0)`` (rows,) of the
        predictions (rows, *shape), in the coordinates of the data, with respect to the states, in
        chunks of ``batch`` rows. Returns values (S P,) and gradients (S P, *shape)."""
        call, found, parts = self.call, [], []
        for rows in self._chunks():
            first, last = int(rows[0]), int(rows[-1]) + 1
            with torch.enable_grad():
                x = self.cursor.x[first:last].clone().requires_grad_(True)
                raws = self._ask(call, rows, x if call.scale == 1.0 else x * call.scale)
                check_raws(raws, x, self.cursor.program.raws)
                outputs = Outputs(self._model, call.node, x, raws, call.channels)
                value, slope = gradient(function, self._shifted(outputs["x0"], rows), x)
            parts.append(tuple(raw.detach() for raw in raws))
            found.append((value, slope))
        self._raws = joined(parts)
        self._received(call, self._raws)
        return torch.cat([v for v, _ in found]), torch.cat([g for _, g in found])

    @property
    def law(self) -> StateLaw:
        """The normal law ``N(mean, std^2)`` of the next state, given all that the run keeps; in the
        coordinates of the plan."""
        self.evaluate()
        return next_state(self.cursor, self._raws or ())

    def step(self) -> None:
        """Go to the next state; the network call is made where it was not."""
        self.evaluate()
        raws, self._raws = self._raws or (), None
        self.cursor.advance(raws)

    def proposed_step(self, change: Tensor) -> Tensor:
        """Go to the next state as if the prediction of x0 were larger by ``change`` (S P, *shape).
        Returns ``log p(x_next) - log q(x_next)`` (S, P), float64 on the CPU, p the law of the
        sampler's own step and q that of this one.

        The mean of the step's new noises z is moved from 0 to ``m``, so whatever else the run makes
        of them (history, later states) is that of the sampler, and log p - log q is ``sum |z - m|^2
        / 2 - |z|^2 / 2``. A step that draws no noise is the sampler's own, the ratio 0.
        """
        self.evaluate()
        noises, gain = innovation(self.cursor)
        square = sum(c * c for c in noises.values())
        if square == 0.0 or gain == 0.0:
            self.step()
            return torch.zeros(self.samples, self.particles, dtype=torch.float64)
        moves = {key: change * (gain * c / square) for key, c in noises.items()}
        ratios: list[Tensor] = []
        source = self.cursor.state.noise
        assert source is not None

        def moved(key: int, like: Tensor) -> Tensor:
            z = source(key, like)
            if key not in moves:
                return z
            m = moves[key].to(z)
            along, size = inner_products((z, m), (m, m))
            ratios.append(-along - 0.5 * size)
            return z + m

        self.cursor.state.noise = moved
        try:
            self.step()
        finally:
            self.cursor.state.noise = source
        total = sum(ratios, torch.zeros_like(ratios[0]))
        return total.to("cpu", torch.float64).reshape(self.samples, self.particles)

    def select(self, choice: Tensor) -> Tensor:
        """Go on with ``choice`` (S, P') integers: place p of sample s gets a copy of its particle
        ``choice[s, p]``. P' may be another number than P; the places are then 0 .. P' - 1.

        Returns the rows that were taken, (S P'), for what the caller keeps of each row. Raises
        ArgumentError for another shape or for numbers that are no particles.
        """
        rows, noise = self._flat(choice), None
        if choice.shape[1] != self.particles:
            self.numbers = tuple(range(choice.shape[1]))
            noise = self._noise_of(choice.shape[1])
        self.cursor.select(rows, noise)
        self._spread(rows)
        if self._raws is not None:
            where = rows.to(self.cursor.x.device)
            self._raws = tuple(raw.index_select(0, where) for raw in self._raws)
        return rows

    def _noise_of(self, count: int) -> NoiseSource:
        """The noises of ``count`` particles of each sample, made once: a method may go back and
        forth between two numbers at every step."""
        if count not in self._sources:
            self._sources[count] = self.setting.noise(self.setting.rows(range(count)))
        return self._sources[count]

    def replace(self, x: Tensor) -> None:
        """Replace the current states by ``x`` (S P, *shape), in the coordinates of the plan (an
        edit); the call that is due is made anew."""
        self.cursor.replace(x)
        self._raws = None

    def fork(self) -> Population:
        """A copy with its own buffers and counters; the two run on independently."""
        other = copy(self)
        other.cursor = self.cursor.fork()
        other._watch = self._watch.fork()
        return other

    def _flat(self, choice: Tensor) -> Tensor:
        """``choice`` as rows of the whole population, checked."""
        whole = isinstance(choice, Tensor) and not (
            choice.is_floating_point() or choice.is_complex() or choice.dtype == torch.bool
        )
        if not whole or choice.ndim != 2 or choice.shape[0] != self.samples or not choice.numel():
            raise ArgumentError(
                f"choice must be integers ({self.samples}, particles), got {described(choice)}"
            )
        own = choice.to("cpu", torch.int64)
        if not 0 <= int(own.min()) <= int(own.max()) < self.particles:
            raise ArgumentError(f"choice must be particles, 0 .. {self.particles - 1}")
        return (own + self.particles * torch.arange(self.samples)[:, None]).flatten()

    def _spread(self, rows: Tensor) -> None:
        """Let model and condition follow the rows of the batch."""
        setting = self.setting
        self._model = self._model.select(rows)
        size = len(setting.seeds) * len(self.numbers)
        most = size if setting.batch is None else setting.batch
        if most < size and not self._model.joinable:
            raise ArgumentError(
                f"batch={most}: the model keeps values between the calls of a run, so its "
                f"{size} rows must be one call: leave batch out, or draw fewer samples at a time"
            )
        self._limits = [(a, min(a + most, size)) for a in range(0, size, most)]

    def _chunks(self) -> list[Tensor]:
        return [torch.arange(a, b) for a, b in self._limits]

    def _ask(self, call: Call, rows: Tensor, given: Tensor | None = None) -> tuple[Tensor, ...]:
        """One network call for some rows; ``given``: their input, instead of the run's."""
        first, last = int(rows[0]), int(rows[-1]) + 1
        whole = last - first == self.size
        model = self._model if whole else self._model.select(rows)
        cond = rows_of(self.setting.cond, rows // self.particles)
        to = None if call.to is None else self._ends[call.number]
        x_in = self.cursor.x_in[first:last] if given is None else given
        t = self._times[call.number]
        return network_raws(model, x_in, t, cond, call.channels, to)

    def _received(self, call: Call, raws: tuple[Tensor, ...]) -> None:
        check_raws(raws, self.cursor.x, self.cursor.program.raws)
        rows = self._model.network_rows(call.node.t or 0.0, call.channels)
        self.network_rows += self.size * rows
        self._seen(lambda: self._watch.see(raws))

    def _seen(self, look: Callable[[], None]) -> None:
        """Look for numbers that are not finite; NumericalError with the seeds of the samples."""
        try:
            look()
        except NumericalError as error:
            found = sorted({row // self.particles for row in error.samples})
            seeds = [self.setting.seeds[s] for s in found if s < self.samples]
            error.args = (f"{error.args[0]} (rows of {self.particles} particles), seeds {seeds}",)
            raise
