"""``guided``: a diffusers pipeline whose classifier-free guidance is a method of fewstep.

    pipe = fewstep.interop.diffusers.guided(pipe, lambda den: fewstep.guidance.APG(den, scale=5.0))

A call of such a pipeline records the network's conditional and unconditional outputs of each step.
The pipeline mixes them as it always does; its scheduler leaves that mixture out and gives the two
outputs to the guided denoiser, whose coefficients are part of the plan. So every sampler sees
channels, those of the CFG++ family included. Nothing stays on the network or on the scheduler after
a call, however it ends.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffusers import DiffusionPipeline

from ...checks import ArgumentError, ArgumentTypeError, shown
from ...guidance.combinations.named import guide
from ...models.base import BaseDenoiser
from ...models.denoiser import Denoiser
from .config import ConfigError
from .layouts import Layout, layout_of
from .program import network_of
from .recorder import Recorder, recording
from .replay import Guidance, Method
from .scheduler import FewstepScheduler

#: a scale that turns the unconditional prediction of any pipeline on
ON = 2.0


def guided(
    pipe: Any,
    guidance: str | Method | None = None,
    *,
    scale: Any = None,
    interval: Sequence[float] | None = None,
    **options: Any,
) -> Any:
    """Return a copy of ``pipe`` that guides by a method of fewstep; ``pipe`` itself is unchanged.

    The copy shares all parts with ``pipe`` and is of a subclass of its class with the same name. A
    saved copy is loaded without guidance.

    Args:
        pipe: a pipeline of Stable Diffusion 1 and 2, SDXL, SD3, Flux or PixArt
            (``layouts.LAYOUTS``) whose scheduler is a FewstepScheduler.
        guidance: a function from a denoiser to a guided denoiser, such as
            ``lambda den: fewstep.guidance.CFG(den, scale=5.0)``; a name
            (``fewstep.guidance.names()``); or None, which removes the guidance of a guided
            pipeline.
        scale: scale of a named method, where 1 is the conditional prediction. Default: the scale of
            each call, ``guidance_scale=`` (Flux: ``true_cfg_scale=``).
        interval: (lo, hi) of rho = sigma / alpha, of a named method.
        options: further options of a named method.

    The negative prompt of the call is the unconditional condition; Flux must be given one.

    Raises ConfigError for other pipelines and schedulers; UnknownName and ArgumentError for names
    and options, and for methods that ask another network or for further conditions. A call raises
    ArgumentError before the network is called for ``guidance_scale=`` where the method has its
    scale, for a missing negative prompt of Flux, and for arguments that change the pipeline's own
    mixture (``guidance_rescale``, ``skip_guidance_layers``). The first step raises it where the
    pipeline made no unconditional prediction.
    """
    if not isinstance(pipe, DiffusionPipeline):
        raise ArgumentTypeError(f"pipe={shown(pipe)}: must be a diffusers pipeline")
    plain = pipe.without_guidance() if isinstance(pipe, GuidedPipeline) else pipe
    if guidance is None:
        _refuse({"scale": scale, "interval": interval, **options})
        return _copied(plain, type(plain))
    layout = layout_of(plain)
    if isinstance(guidance, str):
        choice = Choice(layout, guidance, scale, interval, options)
    else:
        _refuse({"scale": scale, "interval": interval, **options})
        choice = Choice(layout, _method(guidance))
    choice.try_on(check_scheduler(plain))
    return _chosen(plain, choice)


def _refuse(given: Mapping[str, Any]) -> None:
    """Raise ArgumentError for an argument that only a method by name takes."""
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(
                f"{name}={shown(value)} belongs to a method that is given by name, such as "
                "guided(pipe, 'cfg', scale=5.0); a function has its own"
            )


def _method(guidance: Any) -> Method:
    """Return ``guidance`` if it is a function. Raises ArgumentTypeError for others, such as a
    denoiser that is guided already."""
    made = hasattr(guidance, "raws") and not isinstance(guidance, type)
    if not callable(guidance) or made:
        raise ArgumentTypeError(
            f"guidance={shown(guidance)}: must be a name, or a function from a denoiser to a "
            "guided one, such as lambda den: fewstep.guidance.CFG(den, scale=5.0)"
        )
    method: Method = guidance
    return method


@dataclass(frozen=True)
class Choice:
    """The method of a guided pipeline: a function, or a name with scale, interval and options."""

    layout: Layout
    method: str | Method
    scale: Any = None
    interval: Sequence[float] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def by_call(self) -> bool:
        """True if each call gives the scale."""
        return isinstance(self.method, str) and self.scale is None

    def make(self, scale: Any = None) -> Method:
        """Return the function from a denoiser to a guided one; ``scale`` of the call."""
        name = self.method
        if not isinstance(name, str):
            return name
        scale = self.scale if self.scale is not None else scale

        def named(den: BaseDenoiser) -> Denoiser:
            return guide(den, name, scale, interval=self.interval, options=self.options)

        return named

    def try_on(self, scheduler: FewstepScheduler) -> None:
        """Raise the error of a method that cannot be served."""
        Guidance(self.make(1.0), Recorder(self.layout)).network(network_of(scheduler._settings))

    def arguments(self, call: inspect.Signature, pipe: Any, args: Any, kwargs: Any) -> Any:
        """Return the bound arguments of a call that makes the unconditional prediction, and the
        call's scale. Raises ArgumentError for arguments that would have no effect."""
        layout, bound = self.layout, call.bind(pipe, *args, **kwargs)
        given = bound.arguments
        for name, why in layout.refused.items():
            if given.get(name):
                raise ArgumentError(f"{name}={shown(given[name])} in a guided pipeline: {why}")
        if layout.negatives and all(given.get(name) is None for name in layout.negatives):
            raise ArgumentError(
                f"a guided {type(pipe).__name__} needs an unconditional prompt: pass "
                f"{' or '.join(f'{name}=' for name in layout.negatives)}"
            )
        scale = given.get(layout.scale)
        if scale is not None and not self.by_call:
            raise ArgumentError(
                f"{layout.scale}={shown(scale)} in a guided pipeline: the method has its own "
                f"scale; leave {layout.scale}= out, or guide by a name without scale=, such as "
                "guided(pipe, 'cfg')"
            )
        if scale is None and self.by_call:
            scale = call.parameters[layout.scale].default
            if not scale > 1.0:
                raise ArgumentError(
                    f"no scale: pass {layout.scale}= to the call, or scale= to guided()"
                )
        given[layout.scale] = ON
        return bound, scale


class GuidedPipeline:
    """Base class, beside the pipeline's own, of what ``guided`` returns."""

    def without_guidance(self) -> Any:
        """Return a copy of the pipeline of its own class."""
        return _copied(self, type(self).__mro__[2])

    def __reduce_ex__(self, protocol: Any) -> Any:
        choice: Choice = self.__dict__["_guidance_choice"]
        return _chosen, (self.without_guidance(), choice)


def _chosen(plain: Any, choice: Choice) -> Any:
    """A copy of the pipeline ``plain`` that guides by ``choice``."""
    kind: Any = type(plain)
    made = _copied(plain, _guided_class(kind))
    made.__dict__["_guidance_choice"] = choice
    return made


def _copied(pipe: Any, kind: Any) -> Any:
    """A pipeline of class ``kind`` with the parts of ``pipe``."""
    made: Any = object.__new__(kind)
    made.__dict__.update(pipe.__dict__)
    made.__dict__.pop("_guidance_choice", None)
    return made


@functools.cache
def _guided_class(kind: Any) -> Any:
    """The class of guided pipelines of class ``kind``: same name, same signature of the call."""
    own: Callable[..., Any] = kind.__call__
    signature = inspect.signature(own)

    @functools.wraps(own)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        choice: Choice = self.__dict__["_guidance_choice"]
        scheduler = check_scheduler(self)
        bound, scale = choice.arguments(signature, self, args, kwargs)
        recorder = Recorder(choice.layout)
        guidance = Guidance(choice.make(scale), recorder)
        guidance.network(network_of(scheduler._settings))  # raises before the first network call
        before, scheduler._guidance = scheduler._guidance, guidance
        try:
            with recording(self, recorder):
                return own(*bound.args, **bound.kwargs)
        finally:
            scheduler._guidance = before
            recorder.outputs.clear()

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__call__": call}
    return type(kind.__name__, (GuidedPipeline, kind), names)


def check_scheduler(pipe: Any) -> FewstepScheduler:
    """Return the pipeline's scheduler. Raises ConfigError if it is not a FewstepScheduler."""
    scheduler = pipe.scheduler
    if not isinstance(scheduler, FewstepScheduler):
        raise ConfigError(
            f"pipe.scheduler is a {type(scheduler).__name__}, which has no channels; first "
            "pipe.scheduler = FewstepScheduler.from_config(pipe.scheduler.config, "
            "sampler='dpmpp_2m')"
        )
    return scheduler
