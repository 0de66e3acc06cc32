"""fewstep: samplers for diffusion and flow models, as data.

    x_t = alpha(t) x0 + sigma(t) eps

A solver on a time grid is a plan: a straight-line program of network calls and linear combinations
whose coefficients are known in float64 beforehand. One loop runs every plan. Names are imported at
first use, so ``import fewstep`` loads nothing, not even torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "FewstepError",
    "__version__",
    "engine",
    "eval",
    "fused",
    "grid",
    "guidance",
    "interop",
    "invert",
    "jobs",
    "log_prob",
    "models",
    "plan",
    "plans",
    "run",
    "sample",
    "samplers",
    "schedules",
    "train",
    "transition_log_prob",
    "transition_means",
    "tune",
]

if TYPE_CHECKING:
    from . import (
        engine,
        eval,
        fused,
        guidance,
        interop,
        jobs,
        models,
        plans,
        samplers,
        schedules,
        train,
    )
    from .checks import FewstepError as FewstepError
    from .engine import (
        invert,
        log_prob,
        plan,
        run,
        sample,
        transition_log_prob,
        transition_means,
        tune,
    )
    from .interop.diffusers import FewstepScheduler as FewstepScheduler
    from .schedules import grid
else:
    #: name -> the room it comes from; every other public name is itself a room
    _HOME = {
        "FewstepError": "checks",
        "grid": "schedules",
        **dict.fromkeys(
            (
                "invert",
                "log_prob",
                "plan",
                "run",
                "sample",
                "transition_log_prob",
                "transition_means",
                "tune",
            ),
            "engine",
        ),
    }
    #: names that need diffusers, which looks for both here when it loads a saved pipeline; not in
    #: ``__all__``, so that ``*`` leaves them
    _DIFFUSERS = ("FewstepScheduler", "SchedulerMixin")
    _HOME |= dict.fromkeys(_DIFFUSERS, "interop.diffusers")

    # PEP 562; out of the checkers' sight, which would take it for "any name exists"
    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name not in __all__ and name not in _DIFFUSERS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        room = import_module(f".{_HOME.get(name, name)}", __name__)
        value = globals()[name] = getattr(room, name) if name in _HOME else room
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)
