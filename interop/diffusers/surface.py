"""Attributes and methods that pipelines read on a scheduler besides ``step``: the table of betas, a
flow's shift, and others.

Attributes that hold a class's internal state (histories, variances) have no counterpart, because
the plan's coefficients replace them. Reading one raises an AttributeError that explains this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...checks import ArgumentError, integer, number
from ...schedules import DiscreteVP, Flow
from ...schedules.diffusers.grids import distilled_times, grid_of, shifted
from .config import ConfigError, Settings
from .edits import same_table

_HISTORY = (
    "the history of a run lies in the plan's buffers; scheduler.plan.explain() prints what each "
    "step does with it"
)
_FORMULA = (
    "a step's coefficients lie in scheduler.plan; there is no formula of one step apart from it"
)
#: attributes of diffusers' classes that some pipeline uses -> why they are not here
NOT_SERVED = {
    "model_outputs": _HISTORY,
    "last_sample": _HISTORY,
    "lower_order_nums": _HISTORY,
    "_get_variance": _FORMULA,
    "_sigma_to_alpha_sigma_t": _FORMULA,
    "convert_model_output": _FORMULA,
    "dpm_solver_first_order_update": _FORMULA,
    "batch_step_no_noise": _FORMULA,
    "undo_step": "going back to more noise is the sampler 'restart', or guidance on an "
    "inpainting operator",
    "step_correct": "a corrector is part of the plan (unipc, sa_solver), or of the sampler (pc, in "
    "fewstep.sample)",
    "step_pred": "a predictor is part of the plan",
    "add_noise_to_input": "churn is an option of the samplers euler and heun",
    "set_sigmas": "levels are given as set_timesteps(sigmas=...)",
    "schedule": "the levels of a run are scheduler.sigmas",
    "ori_start_sigmas": "the levels of a run are scheduler.sigmas; stages of a pyramid are "
    "not served",
    "_get_conditioning_c_in": "the state is the network's input here, so there is no c_in",
}

#: classes whose constructor lays out a run of the whole training table, so that they step before
#: ``set_timesteps``
WHOLE = tuple(
    name + "Scheduler"
    for name in (
        *(
            "DDPM",
            "EulerDiscrete",
            "EulerAncestralDiscrete",
            "HeunDiscrete",
            "KDPM2Discrete",
            "KDPM2AncestralDiscrete",
            "LMSDiscrete",
        ),
        *("IPNDM", "EDMEuler", "FlowMatchEulerDiscrete"),
    )
)
#: those of them that give each entry of the table its own step, whatever spacing and special levels
#: the config asks for
PLAIN = tuple(name + "Scheduler" for name in ("DDPM", "EulerDiscrete", "EulerAncestralDiscrete"))


class Surface:
    """Attributes of a scheduler that follow from its config and its times; a part of
    ``FewstepScheduler``."""

    timesteps: Tensor
    num_inference_steps: int | None
    _shift: float | None
    _read: tuple[Any, Settings] | None

    if TYPE_CHECKING:

        @property
        def config(self) -> Any:
            """The scheduler's config."""

        @property
        def _settings(self) -> Settings: ...

    def __getattr__(self, name: str) -> Any:
        why = NOT_SERVED.get(name) or _missing(name, self.__dict__)
        if why:
            raise AttributeError(f"FewstepScheduler has no {name}: {why}")
        return super().__getattr__(name)  # type: ignore[misc]

    # the table

    @property
    def alphas_cumprod(self) -> Tensor:
        """``alpha^2`` of the training table, one number an entry. AttributeError for paths without
        a table.

        A script may put the table on another device, as training loops do; ArgumentError for one
        with other numbers.
        """
        return _table(self._discrete)[0].to(self.__dict__.get("_table_device", "cpu"), copy=True)

    @alphas_cumprod.setter
    def alphas_cumprod(self, table: Tensor) -> None:
        self._table_device = same_table("alphas_cumprod", table, _table(self._discrete)[0])

    @property
    def alphas(self) -> Tensor:
        """``1 - betas``. AttributeError for paths without a table."""
        return 1.0 - self.betas

    @alphas.setter
    def alphas(self, table: Tensor) -> None:
        self._table_device = same_table("alphas", table, 1.0 - _table(self._discrete)[1])

    @property
    def betas(self) -> Tensor:
        """The noise that each entry of the training table adds:
        ``1 - alphas_cumprod[t] / alphas_cumprod[t - 1]``."""
        return _table(self._discrete)[1].to(self.__dict__.get("_table_device", "cpu"), copy=True)

    @betas.setter
    def betas(self, table: Tensor) -> None:
        self._table_device = same_table("betas", table, _table(self._discrete)[1])

    @property
    def final_alpha_cumprod(self) -> Tensor:
        """``alpha^2`` where a run ends: 1, or the first entry of the table with
        ``set_alpha_to_one=False``."""
        table = self.alphas_cumprod
        return torch.tensor(1.0) if self.config.get("set_alpha_to_one", True) else table[0]

    @property
    def _discrete(self) -> DiscreteVP:
        schedule = self._settings.schedule
        if not isinstance(schedule, DiscreteVP):
            raise AttributeError("no table")  # __getattr__ gives the sentence
        return schedule

    # a flow's shift

    @property
    def shift(self) -> float:
        """How far a flow's times are moved toward noise. AttributeError for other paths, and where
        ``mu`` of the call decides it."""
        if self._settings.style not in ("flow", "flow_levels") or self._settings.dynamic:
            raise AttributeError("no shift")
        return self._settings.shift

    def set_shift(self, shift: float) -> None:
        """Change a flow's ``shift``: ``sigma -> shift sigma / (1 + (shift - 1) sigma)`` from the
        next ``set_timesteps`` on.

        As in diffusers (FlowMatchEulerDiscreteScheduler) the config keeps the shift that the
        scheduler was made with, and the lowest level is laid out with that one. ConfigError for
        other paths and with ``use_dynamic_shifting``; ArgumentError for a value that is no positive
        number.
        """
        settings = self._settings
        if settings.style not in ("flow", "flow_levels"):
            raise ConfigError(
                f"set_shift({shift!r}): a shift is of flows, and this path is "
                f"{type(settings.schedule).__name__}"
            )
        if settings.dynamic:
            raise ConfigError(
                f"set_shift({shift!r}): with use_dynamic_shifting=True the shift comes from "
                "the mu= of each call; "
                "for a shift of your own make the scheduler with use_dynamic_shifting=False"
            )
        self._shift, self._read = float(number("shift", shift, 1e-6, 1e6)), None

    def _reshifted(self, settings: Settings) -> Settings:
        """``settings`` with the shift of ``set_shift``."""
        if self._shift is None:
            return settings
        return dataclasses.replace(settings, shift=self._shift, laid_shift=settings.shift)


def _missing(name: str, own: Mapping[str, Any]) -> str | None:
    """Why one of ``Surface``'s properties has no value for this config."""
    if "_internal_dict" not in own:
        return None
    if name in ("betas", "alphas", "alphas_cumprod", "final_alpha_cumprod", "_discrete"):
        return (
            "its path has no table of betas; flows and EDM paths have noise levels alone "
            "(scheduler.sigmas)"
        )
    if name == "shift":
        return (
            "only flows have a shift, and with use_dynamic_shifting=True it comes from the mu= "
            "of each call"
        )
    return None


@lru_cache(maxsize=16)
def _table(schedule: DiscreteVP) -> tuple[Tensor, Tensor]:
    """``alphas_cumprod`` and ``betas``."""
    with torch.inference_mode(False):
        wide = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)
        before = torch.cat([wide.new_ones(1), wide[:-1]])
        return wide.float(), (1.0 - wide / before).float()


def skipped_times(
    settings: Settings,
    steps: int,
    times: tuple[float, ...] | None,
    original: int | None,
    strength: float,
) -> tuple[float, ...] | None:
    """The times of a distilled run whose table has ``original`` entries, or its part below
    ``strength``; None: as the config says.

    ArgumentError for arguments that the config's class does not have.
    """
    if original is None and strength == 1.0:
        return times
    given = (
        f"original_inference_steps={original!r}"
        if original is not None
        else f"strength={strength!r}"
    )
    if settings.style != "distilled":
        raise ArgumentError(
            f"{given} is for distilled models (LCM, TCD), and the config is of "
            f"{settings.origin}: leave it out"
        )
    part = number("strength", strength, 0.0, 1.0)
    if times is not None:
        return times[len(times) - min(int(len(times) * part), len(times)) :]
    entries = integer(
        "original_inference_steps", settings.skipping if original is None else original, 1
    )
    if entries > settings.train_steps:
        raise ArgumentError(
            f"original_inference_steps={entries}: the table has {settings.train_steps} entries"
        )
    if steps > entries:
        raise ArgumentError(
            f"{steps} steps with original_inference_steps={entries}: at most that many"
        )
    if original is not None and settings.origin == "TCDScheduler":
        entries = settings.train_steps  # as there: a number of one's own opens the whole table
    return tuple(distilled_times(settings.train_steps, entries, steps, part))


def training_levels(settings: Settings) -> tuple[Tensor, Tensor]:
    """``timesteps`` and ``sigmas`` before ``set_timesteps``: all that the model was trained on, as
    training loops read them.

    Flows: 1000 sigma and the shifted sigma (unshifted where ``mu`` of a call decides), as in
    diffusers. Tables: the entries from the last to 0, and sigma / alpha there with the end, 0, as
    in EulerDiscreteScheduler. Paths without a table: a run of as many steps.
    """
    total, schedule = settings.train_steps, settings.schedule
    if isinstance(schedule, Flow):
        plain = [(total - k) / total for k in range(total)]
        sigmas = torch.tensor(
            plain if settings.dynamic else [shifted(settings, s, None) for s in plain]
        )
        return total * sigmas, sigmas
    if not isinstance(schedule, DiscreteVP):
        nodes = grid_of(dataclasses.replace(settings, grid=None, end="zero"), total).nodes
        labels = torch.tensor([settings.label(float(node.t or 0.0)) for node in nodes[:-1]])
        return labels, torch.tensor([node.rho for node in nodes])
    bars = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)
    return torch.arange(total - 1, -1, -1), torch.cat(
        [((1.0 - bars) / bars).sqrt().flip(0), bars.new_zeros(1)]
    ).float()


def whole_table(settings: Settings) -> dict[str, Any]:
    """The arguments of ``set_timesteps`` for the run that the classes of ``WHOLE`` have before
    it."""
    total = settings.train_steps
    # a mu that changes nothing: only a call knows the right one
    if isinstance(settings.schedule, Flow):
        return {
            "sigmas": [(total - k) / total for k in range(total)],
            "mu": 1.0 if settings.dynamic == "linear" else 0.0,
        }
    if settings.origin in PLAIN and isinstance(settings.schedule, DiscreteVP):
        return {"timesteps": range(total - 1, -1, -1)}
    return {"num_inference_steps": total}
