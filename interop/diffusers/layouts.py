"""How diffusers pipelines ask their network for a conditional and an unconditional prediction.

A layout says which network a pipeline calls, in how many calls a step, and which argument turns the
unconditional prediction on. Pipelines that are not listed are not guided: the order of their rows,
or further rows, would be a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .config import ConfigError

_RESCALE = "it rescales the pipeline's own mixture, which is not used; pass rescale= to the method"
_SKIP = "its third prediction, of a network without these layers, is not served"


@dataclass(frozen=True)
class Layout:
    """How one family of pipelines calls its network.

    ``network``: attribute that holds it. ``calls``: 1, one call of 2 B rows in the order (uncond,
    cond); 2, two calls of B rows, cond first. ``scale``: the argument that turns the unconditional
    prediction on where it is above 1. ``negatives``: arguments, one of which the pipeline needs for
    it. ``refused``: arguments that change the pipeline's mixture -> why they are refused.
    ``packed``: the state is a list of tokens, without spatial axes.
    """

    network: str
    calls: int = 1
    scale: str = "guidance_scale"
    negatives: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    packed: bool = False


_UNET = Layout("unet", refused={"guidance_rescale": _RESCALE})
_SD3 = Layout("transformer", refused={"skip_guidance_layers": _SKIP})
_FLUX = Layout(
    "transformer",
    calls=2,
    scale="true_cfg_scale",
    negatives=("negative_prompt", "negative_prompt_embeds"),
    packed=True,
)
#: pipeline class -> its layout; subclasses have it too
LAYOUTS: dict[str, Layout] = {
    **dict.fromkeys(
        (
            "StableDiffusionPipeline",
            "StableDiffusionImg2ImgPipeline",
            "StableDiffusionInpaintPipeline",
            "StableDiffusionControlNetPipeline",
            "StableDiffusionXLPipeline",
            "StableDiffusionXLImg2ImgPipeline",
            "StableDiffusionXLInpaintPipeline",
        ),
        _UNET,
    ),
    **dict.fromkeys(
        (
            "StableDiffusion3Pipeline",
            "StableDiffusion3Img2ImgPipeline",
            "StableDiffusion3InpaintPipeline",
        ),
        _SD3,
    ),
    **dict.fromkeys(("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline"), _FLUX),
    **dict.fromkeys(("PixArtAlphaPipeline", "PixArtSigmaPipeline"), Layout("transformer")),
}


def layout_of(pipe: Any) -> Layout:
    """Return the layout of a pipeline. Raises ConfigError, with the listed pipelines, for
    others."""
    for kind in type(pipe).__mro__:
        if kind.__name__ in LAYOUTS:
            return LAYOUTS[kind.__name__]
    raise ConfigError(
        f"{type(pipe).__name__} cannot be guided: the order of its network's rows is not known; "
        f"served are {', '.join(sorted(LAYOUTS))}"
    )
