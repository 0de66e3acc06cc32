"""``tune``: tuned plans for several numbers of network calls, one file each, in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, integer
from .devices import device_named, move
from .drawing import _denoiser
from .guidance import GuidanceSettings
from .labels import labels_of
from .settings import labels_text, parse_size, plain_option, size_text
from .user_functions import function_hash, function_name, named_function

if TYPE_CHECKING:
    from ..engine import Tuned
    from ..models.denoiser import Condition, Denoiser
    from ..plans.plan_file import MadeFor

#: called with the file of a plan, the plan, and whether it was there before
Told = Callable[[Path, "Tuned", bool], None]


def tune(
    model: Denoiser | str | Path,
    out: str | Path,
    *,
    nfes: Sequence[int] = (8,),
    what: str = "all",
    budget: float | str = 300.0,
    sampler: str | None = None,
    grid: str = "auto",
    option: Mapping[str, Any] | None = None,
    trajectories: int | None = None,
    test: int | None = None,
    fine_steps: int | None = None,
    labels: str | int | Sequence[int] | None = "cycle",
    loss: Any = None,
    seed: int = 0,
    size: str | int | tuple[int, int] | None = None,
    guidance: str | None = None,
    guidance_scale: float | None = None,
    guidance_interval: str | Sequence[float] | None = None,
    guidance_option: Mapping[str, Any] | None = None,
    device: Any = "auto",
    told: Told | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Tuned]:
    """Tune a plan for each of ``nfes`` network calls into ``out/NFE.json``; a second call goes on
    where the first one stopped.

    Args:
        model: a denoiser, a bundled name, or a folder.
        out: the folder. A plan that is there with the same settings for the same model is kept.
        what, budget, sampler, grid, trajectories, test, fine_steps, seed: see ``fewstep.tune``;
            ``budget`` is for each plan; ``option``: the sampler's options by name.
        labels: class labels of the trajectories by their seeds, as for ``generate``.
        loss: distil the plans to this loss on their end states: a function ``loss(x, cond)``, or
            the name of one, ``file.py:function`` or ``package.module:function``.
        size, guidance, guidance_scale, guidance_interval, guidance_option, device: as for
            ``generate``.
        told: called with each file, its plan, and True if it was there.
        progress: called with lines of progress.

    Raises ArgumentError where a file of the folder was made with other settings or for another
    model, before anything is tuned.
    """
    from ..engine import tune as tuned_plan
    from ..engine.provenance import made_for

    guide = GuidanceSettings(guidance, guidance_scale, guidance_interval, guidance_option or {})
    denoiser = guide.guided(_denoiser(model, parse_size(size_text(size))))
    named = str(labels_text(labels))
    cond = _conditions(denoiser, named, device_named(str(device)))
    given: dict[str, Any] = {"what": what, "sampler": sampler, "grid": grid, "seed": seed}
    given |= {"trajectories": trajectories, "test": test, "fine_steps": fine_steps}
    metric = named_function("loss", loss) if isinstance(loss, str) else loss
    settings = {**given, "labels": named, "option": plain_option(option or {})}
    if metric is not None:
        settings["loss"] = [function_name(loss), function_hash(metric)]
    given |= {"cond": cond, "loss": metric}
    files = {nfe: Path(out) / f"{nfe}.json" for nfe in _calls(nfes)}
    now = made_for(denoiser)
    there = {nfe: _there(file, settings, now) for nfe, file in files.items()}
    move(denoiser, device_named(str(device)))
    for nfe, file in files.items():
        found = there[nfe]
        if found is None:
            made = tuned_plan(
                denoiser, nfe, budget=budget, options=option, report=progress, **given
            )
            there[nfe] = found = replace(made, report={**made.report, "settings": settings})
            found.save(file)
            if told is not None:
                told(file, found, False)
        elif told is not None:
            told(file, found, True)
    return [found for found in there.values() if found is not None]


def _calls(nfes: Sequence[int]) -> list[int]:
    """The numbers of network calls. ArgumentError for none, or one that is given twice."""
    found = [integer("nfes", nfe, 1, 1000) for nfe in nfes]
    if not found or len(set(found)) < len(found):
        raise ArgumentError(f"nfes={found}: must be numbers of network calls, each once")
    return found


def _there(file: Path, settings: Mapping[str, Any], now: MadeFor) -> Tuned | None:
    """The plan in ``file``; None if there is no file. ArgumentError for a plan of other settings or
    of another model."""
    from ..engine import Tuned

    if not file.exists():
        return None
    found = Tuned.load(file)
    was = found.report.get("settings")
    was = was if isinstance(was, dict) else {}
    differ = sorted(key for key in {*settings, *was} if was.get(key) != settings.get(key))
    if found.made_for != now:
        differ = ["model", *differ]
    if differ:
        raise ArgumentError(
            f"{str(file)!r} was tuned with another {', '.join(differ)}: choose another folder, or "
            "delete the file"
        )
    return found


def _conditions(
    denoiser: Denoiser, labels: str, device: Any
) -> Callable[[Sequence[int]], Condition] | None:
    """The labels of trajectories by their seeds; None for a model without classes."""
    import torch

    from ..models.loading import classes_of

    classes = classes_of(denoiser)
    if labels_of(labels, (0,), classes) == [None]:
        return None

    def made(seeds: Sequence[int]) -> Condition:
        return torch.tensor(labels_of(labels, seeds, classes), device=device)

    return made
