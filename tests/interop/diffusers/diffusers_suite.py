"""A pytest plugin that runs diffusers' own scheduler tests on ``FewstepScheduler``.

Each test class there lists the classes under test in ``scheduler_classes``. Every class that is
known here is replaced by one that makes a ``FewstepScheduler`` from that class's config; tests of
classes that are not known run on nothing of ours and are left out. The outcome of every test goes
to the file that ``FEWSTEP_SUITE_OUTCOMES`` names.
"""

from __future__ import annotations

import inspect
import json
import os
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput

from fewstep.interop.diffusers.config import STYLES

OUTCOMES: dict[str, dict[str, str]] = {}


def replaced(original: Any) -> Any:
    """A FewstepScheduler whose constructor takes the arguments of ``original`` and whose state is
    in that class's coordinates."""
    from fewstep import FewstepScheduler

    if issubclass(original, FewstepScheduler):  # by way of a test class that this one inherits from
        return original
    names = [name for name in inspect.signature(original.__init__).parameters if name != "self"]

    def make(self: Any, *values: Any, **config: Any) -> None:
        config.setdefault("origin", original.__name__)
        FewstepScheduler.__init__(self, **dict(zip(names, values, strict=False)), **config)

    scaled = STYLES.get(original.__name__) in ("sigmas", "edm")
    return type(
        "FewstepScheduler",
        (FewstepScheduler,),
        {"__init__": make, **(own_coordinates() if scaled else {})},
    )


def own_coordinates() -> dict[str, Any]:
    """Methods of the classes that keep ``x0 + sigma eps``: their state is ours divided by alpha."""
    from fewstep import FewstepScheduler as Ours

    def alpha(self: Any, k: int) -> float:
        nodes = [*(e.node for e in self.plan.evaluations), self.plan.end]
        return float(nodes[k].alpha)

    def due(self: Any, timestep: Any) -> int:
        if self.step_index is not None:
            return int(self.step_index)
        return int(
            self.begin_index
            or (
                self.timesteps.tolist().index(float(timestep))
                if float(timestep) in self.timesteps.tolist()
                else 0
            )
        )

    def start(self: Any) -> Any:
        schedule = self._settings.schedule
        first = schedule.alpha(schedule.t_max) if self._compiled is None else alpha(self, 0)
        return torch.tensor(float(Ours.init_noise_sigma.fget(self) / first))

    def scale(self: Any, sample: Any, timestep: Any = None) -> Any:
        return sample if self._compiled is None else sample * alpha(self, due(self, timestep))

    def step(
        self: Any,
        model_output: Any,
        timestep: Any,
        sample: Any,
        generator: Any = None,
        return_dict: bool = True,
        **named: Any,
    ) -> Any:
        if self._compiled is None:
            self._open()
        k = due(self, timestep)
        made = Ours.step(
            self,
            model_output,
            timestep,
            sample * alpha(self, k),
            generator=generator,
            return_dict=False,
            **named,
        )
        x = made[0] / alpha(self, k + 1)
        return SchedulerOutput(prev_sample=x) if return_dict else (x,)

    def add_noise(self: Any, original_samples: Any, noise: Any, timesteps: Any) -> Any:
        return Ours.add_noise(self, original_samples, noise, timesteps) / alpha(
            self, due(self, timesteps.flatten()[0])
        )

    return {
        "init_noise_sigma": property(start),
        "scale_model_input": scale,
        "step": step,
        "add_noise": add_noise,
    }


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Replace the classes under test; leave out the tests of others."""
    kept, made = [], {}
    for item in items:
        group = item.cls
        names = [c.__name__ for c in getattr(group, "scheduler_classes", ())]
        if group not in made:
            made[group] = bool(names) and all(
                name in (*STYLES, "FewstepScheduler") for name in names
            )
            if made[group]:
                group.scheduler_classes = tuple(replaced(c) for c in group.scheduler_classes)
        if made[group]:
            kept.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_runtest_logreport(report: Any) -> None:
    """Keep the outcome of each test with the last line of its error."""
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        name = "::".join(report.nodeid.split("/")[-1].split("::"))
        OUTCOMES[name] = {
            "outcome": report.outcome,
            "message": "" if crash is None else str(crash.message),
        }


def pytest_sessionfinish() -> None:
    """Write the outcomes."""
    with open(os.environ["FEWSTEP_SUITE_OUTCOMES"], "w", encoding="utf-8") as file:
        json.dump(OUTCOMES, file)
