"""``FewstepScheduler``: any sampler of the registry as a diffusers scheduler.

    pipe.scheduler = FewstepScheduler.from_config(pipe.scheduler.config, sampler="unipc",
        solver_order=3)

The config's conventions (betas, prediction, spacing, special levels, shift) are kept; without
``sampler=`` it does what the config's own class does. The state is in the coordinates of the
network's input, so ``scale_model_input`` changes nothing and ``init_noise_sigma`` is near 1 for
every path. A run is a ``Cursor`` over a plan: ``step`` executes one launch, computes no
coefficient, and waits for no device. The class is found again by
``DiffusionPipeline.from_pretrained`` in a process that has imported fewstep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import SchedulerMixin
from diffusers.configuration_utils import ConfigMixin, FrozenDict
from torch import Tensor

from ...checks import ArgumentError, integer
from ...checks import device as usable
from ...schedules import DiscreteVP, Flow
from ...schedules.diffusers.named_grids import OURS
from ...schedules.noise_path import NoisePath
from .choice import check_direct_order, check_order, choose, split_options, trial
from .compiled import Traced
from .config import OWN, STYLES, ConfigError, Settings, complete, defaults, read
from .edits import Listed, by_hand
from .origin import UNSET, given, origin_of, source
from .pipelines import refuse_caller
from .program import (
    Compiled,
    as_tuple,
    calls_per_step,
    compile_run,
    compiled,
    fitted,
    mismatch,
    report,
)
from .replay import Guidance
from .signal import add_noise, levels, velocity
from .stepping import Run
from .steps import Steps
from .surface import Surface, skipped_times, training_levels
from .times import Times

#: more steps than any run of a network takes
MOST = 10_000

__all__ = ["ConfigError", "FewstepScheduler", "SchedulerMixin"]


class FewstepScheduler(Surface, Steps, SchedulerMixin, ConfigMixin):
    """A diffusers scheduler whose steps come from a plan; made by ``from_config``.

    Args:
        sampler: a registered name or another program's name for it (``fewstep.samplers.ALIASES``);
            "auto": a robust choice (docs/diffusers.md); None: what ``origin`` does.
        solver_order: the ``order`` of samplers that have one (``.order`` is diffusers' word for
            network calls a step).
        sampler_options: the sampler's other options; ``from_config`` takes them as keywords of
            their own.
        grid: a named grid of fewstep in place of the config's spacing; "auto" is the rule of
            docs/grids.md.
        round_timesteps: feed the network the nearest entry of its table, for networks that look
            time up; the others get the exact time.
        noise_seed: seeds the noises where a pipeline hands ``step`` no generator (SD3, Flux, DiT);
            None: torch's own state.
        origin: the diffusers class whose conventions hold.
        grid_options: the options of the named grid.
        config: the keys of that class.

    Raises ConfigError for keys and values that would change results and are not understood,
    SamplerError for unknown samplers and options.
    """

    _compatibles: ClassVar[list[str]] = list(STYLES)

    def __init__(
        self,
        sampler: str | None = None,
        solver_order: int | None = None,
        sampler_options: Mapping[str, Any] | None = None,
        grid: str | None = None,
        round_timesteps: bool = False,
        noise_seed: int | None = None,
        origin: str | None = None,
        grid_options: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> None:
        first = (sampler, solver_order, sampler_options, grid, round_timesteps, noise_seed)
        own = dict(zip(OWN, (*first, origin, grid_options), strict=True))
        told = {k: v for k, v in own.items() if v is not None and v is not False and v != {}}
        whole = {**own, "sampler_options": {}, "grid_options": {}, **config, **told}
        if solver_order is None:
            del whole["solver_order"]  # the class's own
        origin = origin_of(whole)
        made = complete(whole, origin)
        check_direct_order(made, solver_order)
        unset = sorted(
            key for key in made if key not in config and key not in told and key != "origin"
        )
        self.register_to_config(**made, **({UNSET: unset} if unset else {}))  # type: ignore[no-untyped-call]
        self._read: tuple[Any, Settings] | None = None
        self._shift: float | None = None
        self._compiled: Compiled | None = None
        self._run: Run | None = None
        self._traced: Traced | None = None
        self._times: Times | None = None
        self._shown: tuple[Listed, Listed] | None = None
        self._asked: dict[str, Any] = {}
        self._begin: int | None = None
        self._guidance: Guidance | None = None
        trial(self.config, self._settings)
        self.num_inference_steps: int | None = None
        self.timesteps, self.sigmas = training_levels(self._settings)

    @classmethod
    def from_config(
        cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any
    ) -> Any:
        """The scheduler that keeps the meaning of ``config``; keywords change it.

        Args:
            config: a scheduler (any class that is served, or this one), or its config. A scheduler
                made by its constructor has no class name in its config, and some classes have the
                same keys: pass the scheduler itself, or ``origin=``.
            return_unused_kwargs: give ``(scheduler, {})``.
            kwargs: config keys, the arguments of this class, or options of the named sampler.

        Raises ConfigError for a config whose class is unknown or not certain, and for keys and
        values that are not understood.
        """
        found = source(config)
        kept, origin = given(
            {**found, **{k: v for k, v in kwargs.items() if k == "sampler"}}, kwargs.get("origin")
        )
        if "grid" in kwargs and kwargs["grid"] != kept.get("grid"):
            kept.pop("grid_options", None)
        keys, options = split_options(kept, kwargs)
        if "sampler" in kwargs and kwargs["sampler"] != found.get("sampler"):
            kept.pop("sampler_options", None)
            if "solver_order" not in defaults(origin):
                kept.pop("solver_order", None)
        made = {
            **kept,
            **{k: v for k, v in keys.items() if not k.startswith("_")},
            "origin": origin,
        }
        if options:
            made["sampler_options"] = {**(made.get("sampler_options") or {}), **options}
        check_order(made, kwargs)
        scheduler = cls(**made)
        scheduler._inherit(config, made)
        return (scheduler, {}) if return_unused_kwargs else scheduler

    def _inherit(self, config: Any, made: Mapping[str, Any]) -> None:
        """As diffusers' classes do: no key that was given is listed as unset, and the ``_`` keys of
        a saved config of this class stay."""
        saved = isinstance(config, Mapping) and config.get("_class_name") == OURS
        said = {k: v for k, v in config.items() if k.startswith("_")} if saved else {}
        whole = {
            **self.config,
            **said,
            UNSET: [key for key in self.config.get(UNSET, ()) if key not in made],
        }
        kept = FrozenDict({k: v for k, v in whole.items() if k != UNSET or v})  # type: ignore[no-untyped-call]
        setattr(self, "_internal_dict", kept)  # noqa: B010 - diffusers' own, of no type

    @classmethod
    def _get_compatibles(cls) -> list[Any]:
        """The classes whose configs are read here, and this one, which diffusers would look for
        among its own."""
        return [*super()._get_compatibles(), cls]  # type: ignore[misc]

    @property
    def _settings(self) -> Settings:
        """The config's meaning, read again where a pipeline has replaced the config."""
        now = self.config
        if self._read is None or self._read[0] is not now:
            self._read = (now, self._reshifted(read(now)))
        return self._read[1]

    # what a run is

    @property
    def order(self) -> int:
        """Network calls a step where that is one number, else 1: then ``num_inference_steps``
        counts network calls."""
        return self._each or 1

    @property
    def _each(self) -> int | None:
        sampler, options, settings = choose(
            self.config, self._settings, self.num_inference_steps or 20
        )
        return calls_per_step(settings, sampler, options)

    @property
    def init_noise_sigma(self) -> float:
        """The scale of the start noise. Classes that start from the noise alone keep that; the
        others add the signal's share."""
        settings = self._settings
        if settings.style == "edm" and isinstance(settings.schedule, NoisePath):
            top, d = settings.levels[1], settings.schedule.sigma_data
            return float(((top * top + 1.0) / (top * top + d * d)) ** 0.5)
        if settings.style != "sigmas" or settings.spacing == "leading" or settings.grid is not None:
            return 1.0
        return (
            self._compiled.grid[0].sigma
            if self._compiled
            else settings.schedule.sigma(settings.schedule.t_max)
        )

    @property
    def nfe(self) -> int:
        """Network calls of a whole run."""
        return self._ready.plan.nfe

    @property
    def plan(self) -> Any:
        """The plan of the whole run."""
        return self._ready.plan

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: Sequence[float] | Tensor | None = None,
        sigmas: Sequence[float] | Tensor | None = None,
        mu: float | None = None,
        *,
        original_inference_steps: int | None = None,
        strength: float = 1.0,
    ) -> None:
        """Set up a run of ``num_inference_steps``, or through the given times of the network, or
        through ``sigmas``.

        ``timesteps`` then lists one time a network call. ``sigmas`` are sigma / alpha with the end
        as the last one, on flows sigma before the shift. ``original_inference_steps`` and
        ``strength`` (below which times are taken) are for distilled models (LCM, TCD). Raises
        ValueError (GridError, SamplerError) for both lists, none, or lists that do not fall;
        ConfigError in a pipeline that works on its own scheduler's inner state (docs/diffusers.md).
        """
        if timesteps is not None and sigmas is not None:
            raise ArgumentError(
                "timesteps= and sigmas= were both given: give one of them, the other follows "
                "from it"
            )
        refuse_caller()
        self._take_config()
        place = usable(device) or torch.device("cpu")
        self._asked = {
            "num_inference_steps": num_inference_steps,
            "device": device,
            "timesteps": timesteps,
            "sigmas": sigmas,
            "mu": mu,
            "original_inference_steps": original_inference_steps,
            "strength": strength,
        }
        times, levels_given = as_tuple("timesteps", timesteps), as_tuple("sigmas", sigmas)
        count = _count(num_inference_steps, times, levels_given)
        self._check_count(count)
        times = skipped_times(self._settings, count, times, original_inference_steps, strength)
        count = count if times is None else len(times)
        made, count = self._compile(count, times, levels_given, mu)
        self.num_inference_steps = (
            count if num_inference_steps is None else int(num_inference_steps)
        )
        self._begin_at_the_start(made, place)

    def _check_count(self, count: int) -> None:
        """ArgumentError for more steps than the table of the training has entries."""
        settings = self._settings
        if isinstance(settings.schedule, DiscreteVP) and count > settings.train_steps:
            raise ArgumentError(
                f"{count} steps of a model trained on {settings.train_steps}: give at most "
                "that many"
            )

    def _compile(
        self,
        count: int,
        times: tuple[float, ...] | None,
        given: tuple[float, ...] | None,
        mu: float | None,
    ) -> tuple[Compiled, int]:
        """The run of ``count`` steps and its number of steps, which is smaller where ``count``
        counts network calls."""
        sampler, options, settings = choose(self.config, self._settings, count)
        mu = mu if settings.dynamic else None
        by_calls = times is None and given is None
        if by_calls and calls_per_step(settings, sampler, options) is None:
            asked = count
            count, options = fitted(settings, sampler, options, asked, mu)
            # whose one step would begin next to the data
            if count == 1 < asked and settings.spacing == "leading":
                settings = dataclasses.replace(settings, spacing="trailing")
        if self._guidance is None:
            made = compiled(settings, sampler, options, count, times, given, mu)
        else:
            made = compile_run(settings, sampler, options, count, times, given, mu, self._guidance)
        if settings.round_times and (gap := mismatch(settings, made)) > 0.0:
            report(made.sampler, len(made.labels), gap)
        return made, count

    def _begin_at_the_start(self, made: Compiled, place: torch.device) -> None:
        """Publish ``timesteps`` and ``sigmas`` of a run and go to its start."""
        settings = self._settings
        whole = all(label == int(label) for label in made.labels)
        whole = whole and settings.style not in ("flow", "flow_levels", "edm", "trig")
        listed = torch.tensor(made.labels, dtype=torch.int64 if whole else torch.float32)
        self._compiled, self._begin = made, None
        self.timesteps = listed.to(place)
        self._times = Times(self.timesteps, listed.tolist(), tuple(made.starts))
        self._anew()
        self.sigmas = torch.tensor(made.sigmas, dtype=torch.float32).to(
            place if isinstance(settings.schedule, Flow) else "cpu"
        )
        self._shown = (Listed(self.timesteps, listed.tolist()), Listed(self.sigmas, made.sigmas))

    def _take_config(self) -> None:
        """Take over the values that were set as attributes of the config, as diffusers' classes
        read them. ConfigError as for a config."""
        if set_since := by_hand(self.config):
            made = complete({**self.config, **set_since}, self._settings.origin)
            trial(made, read(made))
            unset = [
                key for key in self.config.get("_use_default_values", ()) if key not in set_since
            ]
            self.register_to_config(
                **{key: made[key] for key in set_since}, _use_default_values=unset
            )  # type: ignore[no-untyped-call]

    @property
    def time_mismatch(self) -> float:
        """The largest distance between a state's time and what the network is told, in table
        entries; 0 unless ``round_timesteps``."""
        return mismatch(self._settings, self._ready)

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """``sample``: it is what the network wants."""
        return sample

    # signal and noise

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """``alpha(t) x0 + sigma(t) noise`` at the network's times ``timesteps``, one a sample or
        one for all.

        Nothing waits for a device. Times must be ones that the network knows: entries of the table
        in [0, num_train_timesteps - 1], on flows [0, num_train_timesteps], for EDM log(sigma) / 4
        (no integers), or times of the run that is set up. ArgumentError for others, and for their
        number; on a device, or under ``torch.compile``, an asynchronous assertion."""
        alpha, sigma = levels(self._settings, self._compiled, timesteps, original_samples)
        return add_noise(original_samples, noise, alpha, sigma)

    def scale_noise(self, sample: Tensor, timestep: Any, noise: Tensor) -> Tensor:
        """``add_noise`` by its name on flows."""
        return self.add_noise(sample, noise, timestep)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """``alpha(t) noise - sigma(t) x0`` for a clean ``sample``; times as in ``add_noise``."""
        return velocity(sample, noise, *levels(self._settings, self._compiled, timesteps, sample))

    def __len__(self) -> int:
        return self._settings.train_steps


#: where diffusers looks for it when a saved pipeline is loaded
FewstepScheduler.__module__ = __name__.split(".")[0]


def _count(steps: Any, times: Sequence[float] | None, sigmas: Sequence[float] | None) -> int:
    """The number of steps, checked against a list."""
    given = times if times is not None else sigmas
    asked = (
        None
        if steps is None and given is not None
        else integer("num_inference_steps", steps, 1, MOST)
    )
    if given is None:
        return asked or 1
    if not given:
        raise ArgumentError("an empty list of timesteps or sigmas: give one a step")
    inner = len(given) - (sigmas is not None and given[-1] == 0.0)
    if asked is not None and asked not in (len(given), inner, len(given) - 1):
        raise ArgumentError(
            f"num_inference_steps={asked}, but the list has {len(given)}: leave one of them out"
        )
    return max(1, inner)
