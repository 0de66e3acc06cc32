"""The steps of ``FewstepScheduler``: where a run begins, which network call is due, and ``step``
itself.

A pipeline passes the time of each step. The time that is due continues the run; the time that the
run began with begins a new run, also after a run that was interrupted; any other time is accepted
if the sampler uses no earlier steps (DDIM, Euler), and raises an error otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from ...checks import ArgumentError, integer
from ...plans.instructions import PlanError
from . import arguments, token_times
from .compiled import Traced
from .edits import Listed, by_hand
from .output import SECOND, TRACED, Pair, StepOutput
from .program import Compiled
from .replay import GuidedNetwork
from .stepping import Run
from .surface import WHOLE, whole_table
from .times import Times, told

if TYPE_CHECKING:
    from .config import Settings

#: what diffusers' ``eta`` of a step is called here; its other schedulers have none
ETA = {"ddim": "tau", "tcd": "gamma"}


class Steps:
    """The part of the scheduler that follows a pipeline through the run that ``set_timesteps``
    made."""

    config: Any
    timesteps: Tensor
    sigmas: Tensor
    _shown: tuple[Listed, Listed] | None
    _asked: dict[str, Any]
    _compiled: Compiled | None
    _run: Run | None
    _traced: Traced | None
    _times: Times | None
    _begin: int | None

    if TYPE_CHECKING:
        set_timesteps: Callable[..., None]

    @property
    def _settings(self) -> Settings:
        raise NotImplementedError("the scheduler reads its config")

    @property
    def _ready(self) -> Compiled:
        if self._compiled is None:
            raise PlanError("no run is set up: call set_timesteps first")
        return self._compiled

    def _open(self) -> None:
        """Set up what some classes run before ``set_timesteps``, their whole table; PlanError in
        ``_ready`` for the others, and with a sampler or grid of one's own."""
        if self._compiled is not None:
            return
        settings = self._settings
        if settings.origin in WHOLE and self.config["sampler"] is None and settings.grid is None:
            self.set_timesteps(**whole_table(settings))

    @property
    def step_index(self) -> int | None:
        """The network call that is due, None before the first step."""
        run = self._run or self._traced
        return None if run is None else run.index

    @property
    def begin_index(self) -> int | None:
        """The network call that a run begins with, where ``set_begin_index`` was called."""
        return self._begin

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin at this entry of ``timesteps``; the plan is then the one of the remaining steps.
        ValueError inside a step."""
        begin = integer("begin_index", begin_index, 0, len(self._ready.labels) - 1)
        self._ready.tail(begin)
        self._begin = begin
        self._anew()

    def _anew(self) -> None:
        """No step taken of the run that is set up."""
        self._run, begin = None, self._begin or 0
        run, device = self._ready.tail(begin), self.timesteps.device
        self._traced = (
            None  # the recorder of a guided pipeline is outside of graphs
            if isinstance(run.network, GuidedNetwork)
            else Traced(run, begin, device, learned=self._settings.learned)
        )

    @property
    def _step_index(self) -> int | None:
        """As in diffusers' classes, which pipelines and scripts set to None for another run of the
        same times."""
        return self.step_index

    @_step_index.setter
    def _step_index(self, index: int | None) -> None:
        due = self.step_index
        if index is None:
            self._anew()
        elif index != due:
            raise ArgumentError(
                f"_step_index={index!r}, where {due} is due: None begins again, "
                "set_begin_index(k) at entry k"
            )

    @property
    def _begin_index(self) -> int | None:
        """As in diffusers' classes."""
        return self._begin

    @_begin_index.setter
    def _begin_index(self, index: int | None) -> None:
        if index is None:
            self._begin = None
            self._anew()
        else:
            self.set_begin_index(index)

    def previous_timestep(self, timestep: Any) -> Tensor:
        """The entry of ``timesteps`` after ``timestep``, -1 after the last; before
        ``set_timesteps`` that of training, one less."""
        if self._compiled is None:
            return torch.as_tensor(timestep) - 1
        k = self._clock.begin(timestep)
        return self.timesteps[k + 1] if k + 1 < len(self.timesteps) else torch.tensor(-1)

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        *more: Any,
        generator: Any = None,
        return_dict: bool = True,
        eta: float | None = None,
        per_token_timesteps: Tensor | None = None,
        **rest: Any,
    ) -> SchedulerOutput | tuple[Tensor, ...]:
        """Take the network's output at ``sample`` and give the next state. ``generator`` (one, or
        one a sample) draws the noises.

        A ``sample`` that is not the tensor of the last step is an edit, and later corrections keep
        it. ``eta`` is what a pipeline's call was given (0 unless its user says otherwise): as in
        diffusers it is for ddim and tcd alone; that of the first step holds for the run, and one
        among the ``sampler_options`` goes before it. Before ``set_timesteps`` the run is that of
        the whole training table where the config's class has one then (DDPM, Euler, Heun, KDPM2,
        LMS, IPNDM, EDM Euler, flows), else PlanError; so past the end.

        The answer has the second value of the config's class where that has one
        (``pred_original_sample``; LCM ``denoised``, TCD ``pred_noised_sample``), and the attribute
        ``pred_original_sample`` for all: the x0 of this evaluation, worked out when it is read.
        Further values go by the signature of that class; those that a plan has no use for
        (``s_churn``) are refused.
        """
        if more or rest or per_token_timesteps is not None:
            self._open()
            named = {
                "generator": generator,
                "return_dict": return_dict,
                "eta": eta,
                "per_token_timesteps": per_token_timesteps,
                **rest,
            }
            own = {k: v for k, v in named.items() if k in rest or (v is not None and v is not True)}
            return self._step(
                model_output,
                timestep,
                sample,
                **arguments.read(self._settings.origin, self._ready.options, more, own),
            )
        if torch.compiler.is_compiling():
            return self._step(model_output, timestep, sample, generator, return_dict, eta)
        return self._eager(model_output, timestep, sample, generator, return_dict, eta)

    def _step(
        self,
        output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
        eta: float | None = None,
        noise: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> SchedulerOutput | tuple[Tensor, ...]:
        if torch.compiler.is_compiling():
            self._open()
            name = SECOND.get(self._settings.origin)
            plain = (
                self._run is None
                and generator is None
                and self.config["noise_seed"] is None
                and not self._turned_by(eta)
            )
            if plain and self._traced is not None and noise is None and tokens is None:
                x, second = self._traced.step(output, timestep, sample, second=name is not None)
                if name is None:
                    return SchedulerOutput(prev_sample=x) if return_dict else (x,)
                return TRACED[name](x, second) if return_dict else (x, second)  # type: ignore[return-value]
            return self._apart(output, timestep, sample, generator, return_dict, eta, noise, tokens)  # type: ignore[no-any-return]
        return self._eager(output, timestep, sample, generator, return_dict, eta, noise, tokens)

    def _turned_by(self, eta: float | None) -> bool:
        """Whether a call's ``eta`` makes another plan."""
        if eta is None:
            return False
        run, stated = self._ready, self.config["sampler_options"] or ()
        option = ETA.get(run.sampler)
        return (
            option is not None
            and not {option, "eta"} & set(stated)
            and bool(eta != getattr(run.options, option))
        )

    def _eager(
        self,
        output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any,
        return_dict: bool,
        eta: float | None,
        noise: Tensor | None = None,
        tokens: Tensor | None = None,
    ) -> SchedulerOutput | tuple[Tensor, ...]:
        """A step outside of graphs."""
        if tokens is not None:
            if isinstance(self._ready.network, GuidedNetwork):
                raise ArgumentError("per_token_timesteps in a guided pipeline: not served")
            token_times.check(self._ready, tokens, sample)
            output = -output
        run = self._run
        if run is None:
            run = self._begun(timestep, sample, eta)
        elif (place := self._clock.place(timestep)) != run.index:
            run = self._turned(run, place, timestep, sample, eta)
        x, seen = run.step(output, sample, generator, noise)
        if tokens is not None:
            due = self._ready.labels[run.index - 1]
            x = token_times.state(self._ready, tokens, self._settings.scale, output, sample, x, due)
        name = SECOND.get(self._ready.origin)
        if return_dict:
            return StepOutput(x, seen=seen, name=name)
        return (x,) if name is None else Pair(x, seen)

    @property
    def _clock(self) -> Times:
        """The times of the run, where they are now: pipelines put others in the place of
        ``timesteps`` (of another type, on a device)."""
        times = self._times
        if times is None:
            raise PlanError("no run is set up: call set_timesteps first")
        if times.tensor is not self.timesteps and self.timesteps.shape == times.tensor.shape:
            self._follow()
            times = self._times = Times(self.timesteps, times.labels, tuple(times.starts))
        return times

    def _follow(self) -> None:
        """Take lists that were moved or cast. ArgumentError where somebody put other numbers into
        them."""
        if self._shown is None:
            return
        times, levels = self._shown
        # else a part of the list, whose entries are found one by one
        if self.timesteps.shape == times.tensor.shape:
            times.accept("timesteps", self.timesteps, "give set_timesteps(timesteps=...)")
        levels.accept("sigmas", self.sigmas, "give set_timesteps(sigmas=...)")

    def _renew(self) -> None:
        """Set up the run again with what was set on the config since ``set_timesteps``; the lists
        stay the caller's."""
        begin, times, levels = self._begin, self.timesteps, self.sigmas
        self.set_timesteps(**self._asked)
        self.timesteps, self.sigmas = times, levels
        if begin is not None:
            self.set_begin_index(begin)

    def _begun(
        self, timestep: Any, sample: Tensor, eta: float | None, begin: int | None = None
    ) -> Run:
        """A new run, from entry ``begin``, else from ``begin_index``, else from where ``timestep``
        is."""
        self._open()
        if by_hand(self.config):
            self._renew()
        self._follow()
        if self._turned_by(eta):
            self._compiled = self._ready.with_option(self._settings, "eta", eta)
        if self._traced is not None and self._traced.buffers is not None:
            raise PlanError(
                "this run was begun under torch.compile: call set_timesteps for another one"
            )
        ready, times, said = self._ready, self._clock, self._begin
        if begin is None and said is not None and times.far(timestep):
            times.demand(timestep, begin := said)
        elif begin is None and said is not None:
            begin = said if said in times.entries(timestep, said) else None
            if begin is None and not ready.free(begin := times.begin(timestep)):
                raise ArgumentError(
                    f"timestep {told(timestep)}, but the run begins with "
                    f"{times.labels[said]:.6g}, entry {said} (begin_index)"
                )
        begin = times.begin(timestep) if begin is None else begin
        self._run = Run(
            ready.tail(begin), begin, sample, self._settings.learned, self.config["noise_seed"]
        )
        return self._run

    def _turned(
        self, run: Run, place: int | None, timestep: Any, sample: Tensor, eta: float | None
    ) -> Run:
        """The run that a ``timestep`` belongs to which is no view of the entry that is due: this
        one, a new one, or one from there on."""
        times, due, first = self._clock, run.index, self._begin
        over = due == len(times.labels)
        if place is None and not over and times.far(timestep):
            times.demand(timestep, due)
            return run
        found = times.entries(timestep, None if over else due)
        if due in found:
            return run
        for begin in (run.begin, 0) if first is None else (first,):
            if begin in found:
                return self._begun(timestep, sample, eta, begin)
        for entry in found:
            if self._ready.free(entry):
                own, self._run = run.own, Run(self._ready.tail(entry), entry, sample, run.learned)
                self._run.own = own
                return self._run
        if over:
            raise PlanError(
                f"the run of {len(times.labels) - run.begin} network calls is over: call "
                "set_timesteps for another one"
            )
        raise ArgumentError(
            f"timestep {told(timestep)}, but {times.labels[due]:.6g}, entry {due}, is due, "
            f"and {self._ready.sampler} goes on from its "
            "earlier steps: iterate over scheduler.timesteps; set_timesteps or "
            "set_begin_index begin another run"
        )

    _apart = torch.compiler.disable(_eager)  # type: ignore[no-untyped-call]
