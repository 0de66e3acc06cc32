"""The steering of drawn samples by a reward: method, reward, particles and options, as settings
have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError
from .rewards import load_reward, reward_hash, reward_name
from .settings import checked, plain_option

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.planning import Request
    from ..engine.steering import Steering
    from ..guidance.populations.registry import Method
    from ..guidance.populations.rewards import Reward
    from ..models.base import BaseDenoiser
    from ..schedules.grids.request import GridRequest

#: particles of each sample if no number is given
PARTICLES = 16


@dataclass(frozen=True)
class SteeringSettings:
    """How samples are chosen by a reward; nothing without ``steer``.

    ``steer``: a name of ``fewstep.guidance.steering_methods()``; ``reward``: a function of a batch
    of samples, a ``guidance.Reward``, or the name of one (``jobs.rewards``); ``particles``: of each
    sample (default 16); ``steer_option``: the method's options by name. Raises ArgumentError for a
    value that its setting does not take, for a method without a reward, and for the others without
    a method.
    """

    steer: str | None = None
    reward: Any = None
    particles: int | None = None
    steer_option: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steer", "particles", "steer_option"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checked(name, value))
        given = [name for name in ("reward", "particles") if getattr(self, name) is not None]
        given += ["steer_option"] if self.steer_option else []
        if self.steer is None and given:
            raise ArgumentError(f"{given[0]}= without steer=: name a method, such as 'smc'")
        if self.steer is not None and self.reward is None:
            raise ArgumentError(
                f"steer={self.steer!r} without reward=: a function of a batch of samples, or its "
                "name, such as rewards.py:sharpness"
            )

    def record(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        if self.steer is None:
            return dict.fromkeys(("steer", "reward", "particles")) | {"steer_option": {}}
        return {
            "steer": self.steer,
            "reward": reward_name(self.reward),
            "particles": self.count,
            "steer_option": plain_option(self.steer_option or {}),
        }

    @property
    def facts(self) -> dict[str, Any]:
        """Method, reward and particles, for the manifest; empty without a method."""
        names = ("steer", "reward", "particles")
        return {} if self.steer is None else {name: self.record()[name] for name in names}

    @property
    def count(self) -> int:
        """The particles of each sample."""
        return PARTICLES if self.particles is None else self.particles

    @cached_property
    def loaded(self) -> Reward:
        """The reward. Raises ArgumentError for a name that cannot be loaded."""
        return load_reward(self.reward)

    @property
    def hashes(self) -> dict[str, Any]:
        """The hash of the reward; empty without a method."""
        return {} if self.steer is None else {"reward_sha256": reward_hash(self.loaded)}

    @cached_property
    def method(self) -> tuple[Method, Any]:
        """The method and its options. Raises ArgumentError for unknown ones."""
        from ..guidance.populations import registry

        entry = registry.get(str(self.steer))
        return entry, registry.make_options(entry, self.steer_option or {})

    def request(
        self, denoiser: BaseDenoiser, sampler: str, options: Mapping[str, Any], where: GridRequest
    ) -> Request:
        """The sampler on its grid. Raises ArgumentError for one that the method cannot use."""
        from ..engine.automatic import AUTO
        from ..engine.steering import steered_request

        named = None if sampler == AUTO else sampler
        return steered_request(self.method[0], denoiser, named, dict(options), where)

    def run_of(
        self,
        denoiser: BaseDenoiser,
        asked: Request,
        seeds: tuple[int, ...],
        cond: Any,
        batch: int,
        device: Any,
    ) -> Steering:
        """The checked run of some samples, at most ``batch`` rows a network call."""
        from ..engine.steering import Starts, Steering

        entry, options = self.method
        starts = Starts(denoiser, asked, None, None, device, None)
        return Steering.of(
            entry,
            options,
            self.loaded,
            starts,
            seeds,
            particles=self.count,
            cond=cond,
            batch=batch if denoiser.joinable else None,
        )


def drawn(run: Steering) -> tuple[Tensor, list[dict[str, Any]]]:
    """The samples of a run, and for each of them its reward, and its evidence if there is one."""
    x, info = run.run()
    rows: list[dict[str, Any]] = [{"reward": value} for value in info.rewards.tolist()]
    if info.log_evidence is not None:
        for row, value in zip(rows, info.log_evidence.tolist(), strict=True):
            row["log_evidence"] = value
    return x, rows
