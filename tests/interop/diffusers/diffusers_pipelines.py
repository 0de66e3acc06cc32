"""Small diffusers pipelines with random weights, built from configs; prompts are embeddings, so no
text encoder is needed."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDPMPipeline,
    DiTPipeline,
    DiTTransformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
)


def seeded(make: Any, **config: Any) -> Any:
    """A network whose random weights do not depend on what was built before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(**config).eval()


def vae(channels: int = 4, **config: Any) -> Any:
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    sizes = {
        "block_out_channels": (8, 8),
        "norm_num_groups": 4,
        "latent_channels": channels,
        "sample_size": 16,
    }
    return seeded(AutoencoderKL, **blocks, **sizes, **config)


def unet(**config: Any) -> Any:
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    sizes = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    heads = {"cross_attention_dim": 16, "attention_head_dim": 4}
    return seeded(UNet2DConditionModel, **{**blocks, **sizes, **heads, **config})


def ddpm(scheduler: Any) -> Any:
    blocks = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    net = seeded(
        UNet2DModel,
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        **blocks,
    )
    return DDPMPipeline(net, scheduler)


def dit(scheduler: Any) -> Any:
    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 2,
        "patch_size": 2,
        "num_embeds_ada_norm": 1000,
    }
    net = seeded(
        DiTTransformer2DModel,
        sample_size=8,
        in_channels=4,
        out_channels=8,
        norm_type="ada_norm_zero",
        **sizes,
    )
    return DiTPipeline(net, vae(), scheduler)


def stable_diffusion(scheduler: Any, kind: str = "StableDiffusionPipeline", **more: Any) -> Any:
    import diffusers

    parts = {
        "text_encoder": None,
        "tokenizer": None,
        "safety_checker": None,
        "feature_extractor": None,
    }
    made = getattr(diffusers, kind)(
        vae=vae(), unet=unet(), scheduler=scheduler, requires_safety_checker=False, **parts, **more
    )
    return made


def control_net() -> Any:
    import diffusers

    sizes = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "conditioning_embedding_out_channels": (4, 8),
    }
    heads = {
        "cross_attention_dim": 16,
        "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    }
    return seeded(diffusers.ControlNetModel, **sizes, **heads)


def sdxl(scheduler: Any, kind: str = "StableDiffusionXLPipeline") -> Any:
    import diffusers

    net = unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=32,
    )
    parts = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    return getattr(diffusers, kind)(
        vae=vae(), unet=net, scheduler=scheduler, add_watermarker=False, **parts
    )


def sd3(scheduler: Any, kind: str = "StableDiffusion3Pipeline") -> Any:
    import diffusers

    sizes = {
        "sample_size": 8,
        "patch_size": 1,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 1,
        "pos_embed_max_size": 32,
    }
    heads = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "joint_attention_dim": 16,
        "caption_projection_dim": 16,
    }
    net = seeded(diffusers.SD3Transformer2DModel, pooled_projection_dim=8, **sizes, **heads)
    names = (
        "text_encoder",
        "text_encoder_2",
        "text_encoder_3",
        "tokenizer",
        "tokenizer_2",
        "tokenizer_3",
    )
    shifted = vae(shift_factor=0.06, scaling_factor=1.5)
    return getattr(diffusers, kind)(
        transformer=net, vae=shifted, scheduler=scheduler, **dict.fromkeys(names)
    )


def flux(scheduler: Any) -> Any:
    import diffusers

    sizes = {
        "patch_size": 1,
        "in_channels": 4,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
    }
    net = seeded(
        diffusers.FluxTransformer2DModel,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        **sizes,
    )
    names = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    coded = vae(1, shift_factor=0.06, scaling_factor=1.5)
    return diffusers.FluxPipeline(
        transformer=net, vae=coded, scheduler=scheduler, **dict.fromkeys(names)
    )


def pixart(scheduler: Any) -> Any:
    import diffusers

    sizes = {
        "sample_size": 8,
        "num_layers": 1,
        "patch_size": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": 4,
    }
    kinds = {
        "cross_attention_dim": 16,
        "caption_channels": 16,
        "norm_type": "ada_norm_single",
        "num_embeds_ada_norm": 1000,
    }
    net = seeded(
        diffusers.PixArtTransformer2DModel,
        out_channels=8,
        use_additional_conditions=False,
        **sizes,
        **kinds,
    )
    return diffusers.PixArtSigmaPipeline(
        tokenizer=None, text_encoder=None, vae=vae(), transformer=net, scheduler=scheduler
    )


def noise(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


#: arguments of a call, beside the number of steps
EMBEDS = {"prompt_embeds": noise(1, 4, 16), "negative_prompt_embeds": noise(1, 4, 16, seed=6)}
POOLED_SD3 = {
    "pooled_prompt_embeds": noise(1, 8),
    "negative_pooled_prompt_embeds": noise(1, 8, seed=6),
}
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddpm": (ddpm, {"batch_size": 1}),
    "dit": (dit, {"class_labels": [3]}),
    "sd": (stable_diffusion, {**EMBEDS, "height": 16, "width": 16}),
    "sdxl": (
        sdxl,
        {
            **EMBEDS,
            "pooled_prompt_embeds": noise(1, 8),
            "negative_pooled_prompt_embeds": noise(1, 8, seed=6),
            "height": 16,
            "width": 16,
        },
    ),
    "sd3": (sd3, {**EMBEDS, **POOLED_SD3, "height": 16, "width": 16}),
    "flux": (
        flux,
        {
            "prompt_embeds": noise(1, 4, 32),
            "pooled_prompt_embeds": noise(1, 32),
            "height": 16,
            "width": 16,
        },
    ),
    "pixart": (
        pixart,
        {
            **EMBEDS,
            "prompt_attention_mask": torch.ones(1, 4),
            "negative_prompt_attention_mask": torch.ones(1, 4),
            "height": 16,
            "width": 16,
            "negative_prompt": None,
            "use_resolution_binning": False,
        },
    ),
}
FLOWS = ("sd3", "flux")


class Counted:
    """A pipeline's network with a count of its calls."""

    def __init__(self, pipe: Any) -> None:
        self.pipe, self.calls = pipe, 0
        net = pipe.transformer if hasattr(pipe, "transformer") else pipe.unet
        self.hook = net.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def close(self) -> None:
        """Stop counting."""
        self.hook.remove()


def draw(
    name: str, scheduler: Any, steps: int, seed: int = 0, **more: Any
) -> tuple[torch.Tensor, int]:
    """The image of a small pipeline, and the number of network calls."""
    make, arguments = CALLS[name]
    return run(make(scheduler), steps, seed, **{**arguments, **more})


def run(
    pipe: Any, steps: int | None, seed: int = 0, output: str = "np", **arguments: Any
) -> tuple[torch.Tensor, int]:
    pipe.set_progress_bar_config(disable=True)
    counted = Counted(pipe)
    try:
        made = pipe(
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            output_type=output,
            **arguments,
        )
    finally:
        counted.close()
    return torch.as_tensor(made.images), counted.calls
