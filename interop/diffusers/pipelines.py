"""diffusers pipelines that work only with their own scheduler, each with the reason.

A pipeline that modifies its scheduler's state directly (in that class's coordinates, or through
private attributes) would produce a wrong picture or fail in the middle of a run. ``refuse_caller``
finds the pipeline that calls ``set_timesteps`` and raises ConfigError before the first network
call.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

from .config import ConfigError

_OWN_STATE = (
    "it computes with its scheduler's own state x0 + sigma eps; the state here is the network's "
    "input, alpha x0 + sigma eps"
)
_PRIVATE = "it reads private attributes of its scheduler"
_PREV = (
    "its scheduler's step takes prev_timestep=, the time of the next state; here the plan holds "
    "that"
)
_COSMOS = (
    "it steps twice from one state, the first time for x0 alone, and sets its scheduler back "
    "between"
)


@dataclass(frozen=True)
class Refusal:
    """The reason why a pipeline is not supported. ``argument``: it is unsupported only if the call
    sets this argument."""

    reason: str
    argument: str = ""


#: pipeline class -> why it is refused; subclasses are refused too
REFUSED = {
    "StableDiffusionLatentUpscalePipeline": Refusal(_OWN_STATE),
    "CosmosTextToWorldPipeline": Refusal(f"{_COSMOS}; {_OWN_STATE}"),
    "CosmosVideoToWorldPipeline": Refusal(f"{_COSMOS}; {_OWN_STATE}"),
    "Cosmos2TextToImagePipeline": Refusal(
        f"its flow scheduler holds noise levels of EDM up to 80; {_OWN_STATE}"
    ),
    "Cosmos2VideoToWorldPipeline": Refusal(
        f"its flow scheduler holds noise levels of EDM up to 80; {_OWN_STATE}"
    ),
    "ChronoEditPipeline": Refusal(
        "it drops frames from its scheduler's history in the middle of a run",
        "enable_temporal_reasoning",
    ),
    "LTXI2VLongMultiPromptPipeline": Refusal(
        "it leaves out the last of its scheduler's times, which it takes for the end of the run"
    ),
    "LEditsPPPipelineStableDiffusion": Refusal(
        f"{_PRIVATE} (its inversion replaces the noise of DDIM or SDE-DPM-Solver++)"
    ),
    "LEditsPPPipelineStableDiffusionXL": Refusal(
        f"{_PRIVATE} (its inversion replaces the noise of DDIM or SDE-DPM-Solver++)"
    ),
    "CycleDiffusionPipeline": Refusal(
        f"{_PRIVATE} (it finds the noises of DDIM and hands them to step as variance_noise=)"
    ),
    "StableDiffusionParadigmsPipeline": Refusal(
        f"{_PRIVATE} (Picard iteration; in fewstep.sample: sampler='picard')"
    ),
    "AudioDiffusionPipeline": Refusal(
        "it inverts DDIM with its own formulas and default steps, and asserts that its "
        "scheduler is a DDIM"
    ),
    "RePaintPipeline": Refusal(
        "it goes back to noise with undo_step, and step takes the mask; here: guidance on an "
        "inpainting operator"
    ),
    "UnCLIPPipeline": Refusal(_PREV),
    "UnCLIPImageVariationPipeline": Refusal(_PREV),
    "KandinskyPriorPipeline": Refusal(_PREV),
    "KandinskyV22PriorPipeline": Refusal(_PREV),
    "KandinskyV22PriorEmb2EmbPipeline": Refusal(_PREV),
    "ScoreSdeVePipeline": Refusal(
        "it calls step_correct and step_pred; here: in fewstep.sample: sampler='pc' on a VE network"
    ),
    "KarrasVePipeline": Refusal(
        "it calls add_noise_to_input and step_correct; in fewstep.sample: the churn options "
        "of sampler='heun'"
    ),
}


def refuse_caller() -> None:
    """ConfigError where the pipeline that called ``set_timesteps`` is one of ``REFUSED``."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(6):
        if frame is None:
            return
        pipe = frame.f_locals.get("self")
        names = [kind.__name__ for kind in type(pipe).__mro__]
        if "DiffusionPipeline" in names:
            _check(names, frame.f_locals)
            return
        frame = frame.f_back


def _check(names: list[str], arguments: dict[str, Any]) -> None:
    for name in names:
        found = REFUSED.get(name)
        if found is not None and (not found.argument or arguments.get(found.argument)):
            what = (
                f"{name} with {found.argument}={arguments[found.argument]!r}"
                if found.argument
                else name
            )
            raise ConfigError(
                f"{what} is not served by FewstepScheduler: {found.reason}; give it its own "
                "scheduler"
            )
