"""Samples of a model in blocks: settings, checks before the network is called, and the call."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, FewstepError
from ..checks.answers import short_of_memory
from .blocks import Block, Folder, cut
from .conditions import Conditions
from .devices import device_named, move
from .folder_settings import FORMER_GRIDS, FORMER_SAMPLER
from .guidance import GuidanceSettings
from .hashes import denoiser_hash, model_hash, request_hashes
from .labels import labels_of
from .memory import refuse_large
from .processes import place
from .settings import (
    checked,
    labels_text,
    parse_seeds,
    parse_size,
    plain_option,
    read_option,
    seeds_text,
    size_text,
)
from .steering import SteeringSettings, drawn

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.planning import Request
    from ..engine.steering import Steering
    from ..models.denoiser import Denoiser
    from ..schedules.grids.construction import Grid

#: the settings that a checker of the same name takes as they are
CHECKED = ("batch", "sampler", "steps", "nfe", "final", "option")


@dataclass(frozen=True)
class DrawingSettings:
    """Which samples are drawn, from which model and how; see ``jobs.generate``.

    ``seeds``, ``labels`` and ``size`` are kept as texts. Raises ArgumentError for a value that its
    setting does not take.
    """

    model: Denoiser | str | Path | None
    seeds: str | int | Iterable[int]
    batch: int = 64
    sampler: str = "auto"
    steps: int | None = None
    nfe: int | None = None
    grid: str | Grid = "auto"
    final: str = "zero"
    option: Mapping[str, Any] = field(default_factory=dict)
    labels: str | int | Sequence[int] | None = "cycle"
    cond: str | Path | None = None
    size: str | int | tuple[int, int] | None = None
    device: Any = "auto"
    guide: GuidanceSettings = field(default_factory=GuidanceSettings)
    steering: SteeringSettings = field(default_factory=SteeringSettings)

    def __post_init__(self) -> None:
        texts = {"seeds": seeds_text, "labels": labels_text, "size": size_text}
        plain = {name: form(getattr(self, name)) for name, form in texts.items()}
        for name in CHECKED:
            value = getattr(self, name)
            plain[name] = None if value is None else checked(name, value)
        for name in ("model", "cond"):
            value = getattr(self, name)
            if isinstance(value, (str, Path)):
                plain[name] = checked(name, str(value))
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def model_name(self) -> str | None:
        """The name or folder of the model; of a denoiser object, the name of its class."""
        if self.model is None or isinstance(self.model, str):
            return self.model
        return type(self.model).__name__

    def record(self) -> dict[str, Any]:
        """The settings as JSON has them, ``device`` last."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        guide, device, steering = (found.pop(name) for name in ("guide", "device", "steering"))
        found = {**found, **guide.record(), **steering.record(), "device": device}
        found["model"] = self.model_name
        found["option"] = plain_option(self.option)
        found["grid"] = self.grid if isinstance(self.grid, str) else self.grid.name
        found["device"] = str(self.device)
        return found


class Drawing:
    """The samples of some settings, block by block.

    Everything is checked here, before the network is called: the model is loaded, the plan is
    built, the seeds are cut into blocks.
    """

    #: whether every sample has notes for the manifest
    noted = False

    def __init__(self, settings: DrawingSettings) -> None:
        """Raises FewstepError for settings that cannot be drawn."""
        from ..models.loading import classes_of

        place()  # an environment that makes no sense is refused before anything is written
        self.device = device_named(str(settings.device))
        size = parse_size(size_text(settings.size))
        self.denoiser = settings.guide.guided(_denoiser(settings.model, size))
        shape = self.denoiser.shape
        if shape is None:
            raise ArgumentError(
                f"the model {settings.model_name!r} does not know the shape of a sample: give size="
            )
        self.shape = tuple(shape)
        self.settings = settings = self.completed(settings)
        self.asked = self.request(settings)
        self.check()
        seeds = parse_seeds(seeds_text(settings.seeds))
        refuse_large(self.shape, min(settings.batch, len(seeds)))
        labels = "none" if settings.cond else str(settings.labels)
        self.blocks = cut(
            seeds, labels_of(labels, seeds, classes_of(self.denoiser)), settings.batch
        )
        cond = None if settings.cond is None else str(settings.cond)
        self.conditions = Conditions(cond, self.blocks, self.denoiser)
        self.hashes = {
            **request_hashes(self.asked),
            "model_sha256": _model_hash(settings.model),
            **self.conditions.hashes,
            **settings.steering.hashes,
        }
        self.moved = False
        if settings.steering.steer is not None and self.blocks:
            self._steering(self.blocks[0])

    def completed(self, settings: DrawingSettings) -> DrawingSettings:
        """The settings with what follows from the model, whose shape is known here."""
        return settings

    def request(self, settings: DrawingSettings) -> Request:
        """The sampler on its grid. Raises FewstepError."""
        return _asked(settings, self.denoiser)

    def check(self) -> None:
        """Raise FewstepError for a model that does not give what the plan reads."""
        from ..models.wrapper import complete

        self.asked.check_model(complete(self.denoiser))

    def record(self) -> dict[str, Any]:
        """What decides the bytes, as JSON has it."""
        chosen = {key: value for key, value in self.settings.record().items() if key != "device"}
        return {**chosen, **self.hashes}

    @property
    def facts(self) -> dict[str, Any]:
        """Model, sampler and hashes, for the manifest; ``nfe`` is None for a driver, whose steps
        depend on the data of the block. ``reason`` is there where something was chosen."""
        reason = {"reason": self.asked.reason} if self.asked.reason else {}
        return {
            "model": self.settings.model_name,
            "sampler": self.asked.name,
            **reason,
            "nfe": None if self.asked.driver else self.asked.plan().nfe,
            **self.settings.steering.facts,
            **self.hashes,
        }

    def same_request(self, record: Mapping[str, Any]) -> bool:
        """True if the settings of a folder, ``record``, ask for this sampler, with these options
        at these times."""
        there = self._recorded(record)
        return there is not None and (there.name, there.options, there.grid.times) == (
            self.asked.name,
            self.asked.options,
            self.asked.grid.times,
        )

    def former(self, record: Mapping[str, Any]) -> str | None:
        """The settings that draw what the folder of ``record`` holds, as a sentence, if they were
        the defaults of version 0.1; None for other folders."""
        said = {name: record.get(name) for name in ("sampler", "grid")}
        was = {
            "sampler": said["sampler"],
            "grid": FORMER_GRIDS.get(str(said["grid"]), said["grid"]),
        }
        if was == said and (said["sampler"], self.settings.sampler) != (FORMER_SAMPLER, "auto"):
            return None
        there = self._recorded({**record, **was})
        if there is None or not _has_hash_of(there, record):
            return None
        names = ["sampler"] + ["grid"] * (was != said)
        what = "grid 'auto' was another rule" if was != said else "the default sampler was another"
        python = ", ".join(f"{name}={was[name]!r}" for name in names)
        flags = " ".join(f"--{name} {was[name]}" for name in names)
        return f"{what} in version 0.1: {python} ({flags}) draws as it did"

    def _recorded(self, record: Mapping[str, Any]) -> Request | None:
        """What the settings of a folder ask for of this model; None if it refuses them."""
        names: dict[str, Any] = {
            name: record.get(name) for name in ("sampler", "steps", "nfe", "grid", "final")
        }
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # former names of options
                option = read_option(record.get("option") or {})
                return self.request(replace(self.settings, **names, option=option))
        except FewstepError:
            return None

    def finished(self, folder: Folder, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Write what a finished folder has beside samples and manifest; further facts for the
        manifest. ``records``: of all blocks."""
        return {}

    def _steering(self, block: Block) -> Steering:
        from ..models.wrapper import complete

        given = self.settings
        cond = self.conditions.of(block, self.device)
        model = complete(self.denoiser)
        return given.steering.run_of(model, self.asked, block.seeds, cond, given.batch, self.device)

    def _drawn(self, block: Block) -> tuple[Tensor, list[dict[str, Any]] | None]:
        from ..engine.sampling import execute
        from ..engine.start_states import start_state

        if self.settings.steering.steer is not None:
            return drawn(self._steering(block))
        cond = self.conditions.of(block, self.device)
        x = start_state(self.denoiser, self.asked.grid[0], block.seeds, device=self.device)
        return execute(self.asked, self.denoiser, x, seeds=block.seeds, cond=cond)[0], None

    def draw(self, block: Block) -> tuple[Any, list[dict[str, Any]] | None]:
        """The samples of a block, a float array (B, *shape) on the host; and facts of each sample
        for the manifest, if there are any."""
        if not self.moved:
            move(self.denoiser, self.device)
            self.moved = True
        try:
            out, notes = self._drawn(block)
        except RuntimeError as error:
            if isinstance(
                error, FewstepError | NotImplementedError | RecursionError
            ) or short_of_memory(error):
                raise
            raise ArgumentError(
                f"the model does not take samples of shape {self.shape}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return out.cpu().numpy(), notes


def _denoiser(model: Denoiser | str | Path | None, size: int | tuple[int, int] | None) -> Denoiser:
    from .. import models
    from ..models.denoiser import check_denoiser

    if isinstance(model, (str, Path)):
        return models.load(model) if size is None else models.load(model, size=size)
    if model is None:
        raise ArgumentError("model=None: must be a denoiser, a bundled name or a folder")
    check_denoiser(model)
    if size is not None:
        raise ArgumentError(f"size={size}: only a model that is loaded by name takes a size")
    return model


def _model_hash(model: Denoiser | str | Path | None) -> str:
    if model is None or isinstance(model, (str, Path)):
        return model_hash(str(model))
    return denoiser_hash(model)


def _has_hash_of(asked: Request, record: Mapping[str, Any]) -> bool:
    """True if ``record`` has the hash of this plan; of a driver, whose hash in version 0.1 was of
    the names of its options, if it is a record of that version."""
    if asked.driver:
        return "plan_sha256" in record
    return request_hashes(asked).items() <= record.items()


def _asked(settings: DrawingSettings, denoiser: Denoiser) -> Request:
    from ..engine.automatic import facts_of
    from ..engine.planning import request
    from ..models.wrapper import complete
    from ..schedules.grids.request import GridRequest

    where = GridRequest(
        settings.steps,
        settings.nfe,
        settings.grid,
        final=settings.final,
        facts=facts_of(complete(denoiser)),
    )
    if settings.steering.steer is not None:
        model = complete(denoiser)
        return settings.steering.request(model, settings.sampler, settings.option, where)
    return request(settings.sampler, denoiser.schedule, settings.option, where)
