"""``steer``: draw samples with a large reward, by choosing among particles. The reward may be any
function; no gradient is needed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import checks
from ..checks import ArgumentError
from ..fused.noise.seeded import SeededNoise
from ..guidance.discrete.denoiser import DiscreteDenoiser
from ..guidance.populations import registry
from ..guidance.populations.population import Rows, Setting
from ..guidance.populations.registry import Cost, Method
from ..guidance.populations.requirements import check_predictions, check_transitions
from ..guidance.populations.rewards import Lost, Reward
from ..models.base import BaseDenoiser
from ..models.wrapper import complete
from ..models.wrapping import shape_of
from ..plans.plan import Plan
from ..plans.running.lowering import lower
from ..plans.running.noise_sources import NoiseSource, noise_source
from ..samplers import registry as samplers
from ..schedules.grids.construction import Grid
from ..schedules.grids.request import GridRequest
from .arguments import StateError, check_cond, check_given, check_state
from .automatic import AUTO, facts_of
from .heavy_tails import path_noise
from .planning import Request, request
from .sampling import Cond, Model
from .start_states import chosen_seeds, start_state
from .token_steering import refuse_token_reward, token_run

#: the sampler of methods that need noise, and its options
ANCESTRAL: tuple[str, Mapping[str, Any]] = ("ddim", {"eta": 1.0})


@dataclass(frozen=True)
class SteerInfo:
    """Summary of a finished ``steer``; S samples, P particles each. Numbers are float64 on the CPU.

    Attributes:
        method: its name; ``options`` its options.
        plan: the plan that every particle ran (of tokens a TokenPlan: ``how`` is the sampler with
            its times); ``nfe`` its network calls.
        seeds: one per sample.
        seconds: wall time.
        rows: rows that the network received in all; ``predicted`` what was expected before the run.
        reward_rows: samples that the reward was given, in ``reward_calls`` calls of the function;
            ``lost``: how many of them had no reward, and why the first had none.
        rewards: of the samples that were returned, (S,).
        log_evidence: ``log E[exp(reward / temperature)]``, estimated, (S,); None where the method
            has no estimate.
        particles: the last population (S, P, *shape), ``particle_rewards`` (S, P) and normalised
            ``log_weights`` (S, P), where the method has them.
        ess: effective number of particles at each weighting, (K, S).
        notes: facts of the method by name.
        reason: what the automatic choices took, and why.
    """

    method: str
    options: Any
    plan: Plan
    nfe: int
    seeds: tuple[int, ...]
    seconds: float
    rows: int
    predicted: Cost
    reward_rows: int
    reward_calls: int
    lost: Lost
    rewards: Tensor
    log_evidence: Tensor | None = None
    particles: Tensor | None = None
    particle_rewards: Tensor | None = None
    log_weights: Tensor | None = None
    ess: Tensor | None = None
    notes: Mapping[str, Any] | None = None
    reason: str = ""


def steer(
    denoiser: Model,
    reward: Any,
    *,
    method: str = "smc",
    sampler: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
    steps: int | None = None,
    nfe: int | None = None,
    grid: str | Grid = "auto",
    times: Sequence[float] | None = None,
    sigmas: Sequence[float] | None = None,
    final: str = "zero",
    start: float | None = None,
    particles: int = 16,
    n: int | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    x: Tensor | None = None,
    shape: Sequence[int] | None = None,
    cond: Cond = None,
    batch: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> tuple[Tensor, SteerInfo]:
    """Draw samples from about ``p(x0) exp(reward(x0) / temperature)``, by ``particles`` runs per
    sample among which a method chooses.

    Args:
        denoiser: the model, guided or not; or a model of tokens (``guidance.discrete``), with a
            sampler of tokens, and a ``guidance.discrete.TokenReward`` where predictions are to be
            rated by several draws.
        reward: a function of a batch of samples (B, *shape) that returns B numbers, large for good
            samples; or a ``guidance.Reward``, which may take arrays or pictures. It need not be
            differentiable, and may fail for some samples.
        method: see ``guidance.steering_methods()``; ``options`` are its options.
        sampler, sampler_options: see ``fewstep.plan``. Default: ``ddim`` with ``eta=1`` for methods
            that need noise, else the automatic choice.
        steps, nfe, grid, times, sigmas, final, start: see ``fewstep.plan``; ``nfe`` is the budget
            of one particle.
        particles: number of runs for each sample.
        n, seed: sample i has seed ``seed + i``; or ``seeds``, one per sample. The same seed gives
            the same numbers in any batch. Default: the model's own number of samples, else 1.
        x: the state at the grid's first time, already scaled, (n, *shape): all particles of a
            sample begin there.
        shape: of one sample; required if the model does not define it.
        cond: condition of the n samples, batch first.
        batch: the most rows of one network call.

    Returns the samples (n, *shape) and a SteerInfo. Raises ArgumentError for arguments that cannot
    be used, before the first network call; RewardError where no particle of a sample has a reward.
    """
    if isinstance(denoiser, DiscreteDenoiser):
        given = token_run(denoiser, dict(locals()))
        token = Steering(given.entry, given.options, given.reward, given.setting, given.reason)
        return token.checked().run()
    began = time.perf_counter()
    entry = registry.get(method)
    chosen = registry.make_options(entry, options)
    made = Reward.of(reward)
    refuse_token_reward(made)
    denoiser = complete(denoiser)
    check_given(x=x)
    checks.floating_dtype(dtype)
    size = tuple(x.shape[1:]) if x is not None else None if shape is None else shape_of(shape)
    where = GridRequest(
        steps, nfe, grid, times, sigmas, final, start, facts=facts_of(denoiser, size)
    )
    asked = steered_request(entry, denoiser, sampler, dict(sampler_options or {}), where)
    if start is not None and x is None:
        raise StateError(f"start={start}: pass x=, the state at that time, to begin in the middle")
    n = denoiser.batch if n is None and seeds is None and x is None else n
    own = chosen_seeds(None if n is None else checks.integer("n", n, 1), seed, seeds, x)
    run = Steering.of(
        entry,
        chosen,
        made,
        Starts(denoiser, asked, x, shape, checks.device(device), dtype),
        own,
        particles=checks.integer("particles", particles, 1),
        cond=cond,
        batch=None if batch is None else checks.integer("batch", batch, 1),
    )
    out, facts = run.run()
    return out, replace(facts, seconds=time.perf_counter() - began)


def steered_request(
    entry: Method,
    denoiser: BaseDenoiser,
    sampler: str | None,
    options: dict[str, Any],
    where: GridRequest,
) -> Request:
    """The sampler on its grid, checked for what the method needs."""
    if sampler is None:
        sampler = entry.sampler or AUTO
        if "noise" in entry.needs:
            sampler, own = ANCESTRAL
            options = {**own, **options}
    asked = request(sampler, denoiser.schedule, options, where)
    asked.check_model(denoiser)
    if asked.driver:
        raise ArgumentError(
            f"sampler={asked.name!r} chooses its steps as it runs, so a population cannot go "
            "through it together: use a sampler with a fixed plan"
        )
    if "noise" in entry.needs:
        found = samplers.get(asked.name)
        if not found.tau_of(asked.options) > 0.0 and not asked.plan().draws:
            raise ArgumentError(
                f"{entry.name} chooses among copies that part by noise, and "
                f"{asked.name} adds none: use a stochastic sampler: {_stochastic()}"
            )
    return asked


def _stochastic() -> str:
    """The samplers with fixed plans that add noise, for a message."""
    found = ["ddim with eta=1"]
    for name in samplers.names("plan"):
        entry = samplers.get(name)
        try:
            tau = entry.tau_of(entry.options())
        except (TypeError, ValueError):
            continue  # an option without a default
        if tau > 0.0 and not entry.guided:
            found.append(name)
    return ", ".join(found)


@dataclass(frozen=True)
class Starts:
    """Start states and noises of the rows of a population."""

    denoiser: BaseDenoiser
    asked: Request
    x: Tensor | None
    shape: Sequence[int] | None
    device: torch.device | None
    dtype: torch.dtype | None

    def __call__(self, rows: Rows) -> Tensor:
        """The start states of these rows, (rows, *shape)."""
        if self.x is None:
            return start_state(
                self.denoiser,
                self.asked.grid[0],
                rows.seeds,
                shape=self.shape,
                device=self.device,
                dtype=self.dtype,
                particles=rows.particles,
            )
        x = self.x.to(device=self.device or self.x.device, dtype=self.dtype or self.x.dtype)
        shift = self.denoiser.offset
        x = x if shift is None else x - shift.to(x)
        return x.index_select(0, torch.tensor(rows.samples).to(x.device))

    def noise(self, rows: Rows) -> NoiseSource:
        """The noises of these rows."""
        source = SeededNoise(rows.seeds, particles=rows.particles)
        made = noise_source(path_noise(self.denoiser.schedule, self.asked.plan(), source))
        assert made is not None
        return made

    def check(self, seeds: Sequence[int], reward: Reward, cond: Cond) -> None:
        """Check the state, the condition and the shape of a sample before the first call."""
        shape = self.denoiser.shape if self.shape is None else shape_of(self.shape)
        if self.x is not None:
            check_state(self.x, self.denoiser)
            shape = tuple(self.x.shape[1:])
        if shape is None:
            raise StateError("the model does not define the shape of a sample: pass shape=")
        reward.check_shape(shape)
        if self.denoiser.batch not in (None, len(seeds)):
            raise StateError(
                f"the model is for {self.denoiser.batch} samples, and {len(seeds)} are asked for"
            )
        check_cond(cond, len(seeds))
        self.denoiser.check_cond(cond, len(seeds))
        lower(self.asked.plan(), self.denoiser)


@dataclass(frozen=True)
class Steering:
    """A method with its options, its reward and what it runs on, checked."""

    entry: Method
    options: Any
    reward: Reward
    setting: Setting
    reason: str = ""

    @classmethod
    def of(
        cls,
        entry: Method,
        options: Any,
        reward: Reward,
        starts: Starts,
        seeds: Sequence[int],
        *,
        particles: int,
        cond: Cond = None,
        batch: int | None = None,
    ) -> Steering:
        """Make and check the run of the samples ``seeds``. Raises ArgumentError for what the method
        cannot use; no network call is made."""
        asked = starts.asked
        plan = asked.plan()
        setting = Setting(
            plan,
            starts.denoiser,
            tuple(seeds),
            particles,
            starts,
            starts.noise,
            cond,
            batch,
            asked.name,
        )
        starts.check(setting.seeds, reward, cond)
        return cls(entry, options, reward, setting, asked.reason).checked()

    def checked(self) -> Steering:
        """Itself, once the setting was found to have what the method needs."""
        entry, setting = self.entry, self.setting
        if "noise" in entry.needs:
            check_transitions(setting, entry.name)
        if "x0" in entry.needs:
            check_predictions(setting, entry.name)
        if entry.check is not None:
            entry.check(setting, self.reward, self.options)
        return self

    @torch.no_grad()
    def run(self) -> tuple[Tensor, SteerInfo]:
        """Draw the samples."""
        began, reward, setting = time.perf_counter(), self.reward, self.setting
        before = reward.calls, reward.rows, reward.lost.count
        predicted = self.entry.cost(setting, self.options)
        found = self.entry.run(setting, reward, self.options)
        info = SteerInfo(
            self.entry.name,
            self.options,
            setting.plan,
            setting.plan.nfe,
            setting.seeds,
            time.perf_counter() - began,
            found.rows,
            predicted,
            reward.rows - before[1],
            reward.calls - before[0],
            Lost(reward.lost.count - before[2], reward.lost.first),
            found.rewards,
            found.log_evidence,
            found.particles,
            found.particle_rewards,
            found.log_weights,
            found.ess,
            found.notes,
            self.reason,
        )
        return found.samples, info
