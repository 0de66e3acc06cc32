"""More diffusers pipelines, small and with random weights: how each is made, how it is called, and
the scheduler that it ships with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from diffusers_loops import SD
from diffusers_pipelines import EMBEDS, noise, seeded, unet, vae

LCM = {**SD, "original_inference_steps": 50}
FLOW = ("FlowMatchEulerDiscrete", {"shift": 3.0})
DYNAMIC = ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True})
SMALL = {"height": 16, "width": 16}
WIDE = {"height": 32, "width": 32}


@dataclass(frozen=True)
class Case:
    """One pipeline. ``own``: the class (without ``Scheduler``) and config of its scheduler;
    ``call``: the arguments of a call."""

    make: Callable[[Any], Any]
    own: tuple[str, dict[str, Any]]
    call: Callable[[], dict[str, Any]]
    steps: int | None = 4
    more: dict[str, Any] = field(default_factory=dict)


def built(kind: str, scheduler: Any, **parts: Any) -> Any:
    """The pipeline ``kind`` of ``parts``; those that it wants beside are None."""
    import inspect

    maker = getattr(diffusers, kind)
    wanted = [
        n
        for n, p in inspect.signature(maker.__init__).parameters.items()
        if p.default is p.empty and n != "self"
    ]
    return maker(**{**dict.fromkeys(wanted), "scheduler": scheduler, **parts})


def picture(side: int = 16, seed: int = 3) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def half(side: int = 16) -> torch.Tensor:
    mask = torch.zeros(1, 1, side, side)
    mask[..., side // 2 :] = 1.0
    return mask


def both(
    width: int, tokens: int = 4, masks: tuple[str, str] | None = None, dtype: Any = torch.long
) -> dict[str, Any]:
    """Embeddings of a prompt and of a negative prompt, with their masks by these names."""
    made: dict[str, Any] = {
        "prompt_embeds": noise(1, tokens, width),
        "negative_prompt_embeds": noise(1, tokens, width, seed=6),
    }
    return {**made, **{name: torch.ones(1, tokens, dtype=dtype) for name in masks or ()}}


MASKS = ("prompt_attention_mask", "negative_prompt_attention_mask")


def consistency(kind: str) -> Callable[[Any], Any]:
    def make(scheduler: Any) -> Any:
        return built(
            kind,
            scheduler,
            vae=vae(),
            unet=unet(time_cond_proj_dim=8),
            requires_safety_checker=False,
        )

    return make


def pixart_alpha(scheduler: Any) -> Any:
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
    return built("PixArtAlphaPipeline", scheduler, vae=vae(), transformer=net)


def ltx_coder() -> Any:
    fours, fives, no = (8,) * 4, (1,) * 5, (False,) * 4
    sizes = {"latent_channels": 8, "block_out_channels": fours, "layers_per_block": fives}
    sizes["decoder_block_out_channels"] = fours
    decoder = {
        "decoder_layers_per_block": fives,
        "decoder_inject_noise": (False,) * 5,
        "upsample_residual": no,
    }
    scales = {
        "spatio_temporal_scaling": (True, True, False, False),
        "decoder_spatio_temporal_scaling": (True, True, False, False),
    }
    return seeded(
        diffusers.AutoencoderKLLTXVideo,
        patch_size=1,
        patch_size_t=1,
        upsample_factor=(1,) * 4,
        **sizes,
        **decoder,
        **scales,
    )


def ltx(kind: str) -> Callable[[Any], Any]:
    def make(scheduler: Any) -> Any:
        sizes = {
            "in_channels": 8,
            "out_channels": 8,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": 1,
        }
        net = seeded(
            diffusers.LTXVideoTransformer3DModel,
            cross_attention_dim=16,
            caption_channels=16,
            **sizes,
        )
        return built(kind, scheduler, vae=ltx_coder(), transformer=net)

    return make


def kandinsky3(scheduler: Any) -> Any:
    sizes = {
        "time_embedding_dim": 4,
        "groups": 2,
        "attention_head_dim": 4,
        "layers_per_block": 3,
        "block_out_channels": (32, 64),
    }
    net = seeded(
        diffusers.Kandinsky3UNet, in_channels=4, cross_attention_dim=4, encoder_hid_dim=16, **sizes
    )
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }
    coder = seeded(
        diffusers.VQModel, block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, **blocks
    )
    return built("Kandinsky3Pipeline", scheduler, unet=net, movq=coder)


def deep_floyd(scheduler: Any) -> Any:
    net = unet(in_channels=3, out_channels=6)
    return built("IFPipeline", scheduler, unet=net, requires_safety_checker=False)


def cascade_prior(scheduler: Any) -> Any:
    ones = {
        "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1),
        "num_attention_heads": (2, 2),
    }
    texts = {
        "clip_image_in_channels": 8,
        "clip_text_in_channels": 16,
        "clip_text_pooled_in_channels": 16,
    }
    sizes = {
        "conditioning_dim": 16,
        "block_out_channels": (16, 16),
        "switch_level": (False,),
        "dropout": (0.0, 0.0),
    }
    net = seeded(diffusers.models.unets.StableCascadeUNet, **ones, **texts, **sizes)
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    words = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "projection_dim": 8,
    }
    text = seeded(
        CLIPTextModelWithProjection,
        config=CLIPTextConfig(
            vocab_size=10, bos_token_id=0, eos_token_id=2, pad_token_id=1, **words
        ),
    )
    # read for its dtype alone
    return built("StableCascadePriorPipeline", scheduler, prior=net, text_encoder=text)


def cascade(scheduler: Any) -> Any:
    ones = {
        "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1),
        "num_attention_heads": (-1, 2),
    }
    blocks = [
        ["SDCascadeResBlock", "SDCascadeTimestepBlock"],
        ["SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"],
    ]
    more = {
        "down_blocks_repeat_mappers": (1, 1),
        "up_blocks_repeat_mappers": (1, 1),
        "block_types_per_layer": blocks,
    }
    sizes = {
        "conditioning_dim": 16,
        "block_out_channels": (8, 16),
        "clip_text_pooled_in_channels": 16,
        "effnet_in_channels": 4,
    }
    net = seeded(
        diffusers.models.unets.StableCascadeUNet,
        in_channels=4,
        out_channels=4,
        dropout=(0.0, 0.0),
        **ones,
        **more,
        **sizes,
    )
    return built("StableCascadeDecoderPipeline", scheduler, decoder=net)


def marigold(scheduler: Any) -> Any:
    pipe = built(
        "MarigoldDepthPipeline",
        scheduler,
        unet=unet(in_channels=8),
        vae=vae(),
        prediction_type="depth",
    )
    pipe.empty_text_embedding = noise(1, 2, 16)
    return pipe


def wan_coder() -> Any:
    return seeded(
        diffusers.AutoencoderKLWan, base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1
    )


def wan_net(kind: str = "WanTransformer3DModel", **more: Any) -> Any:
    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 1,
    }
    kinds = {"text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "rope_max_seq_len": 32}
    return seeded(getattr(diffusers, kind), **{**sizes, **kinds, **more})


def chrono_edit(scheduler: Any) -> Any:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    net = wan_net("ChronoEditTransformer3DModel", in_channels=36, image_dim=4)
    sizes = {
        "hidden_size": 4,
        "projection_dim": 4,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
    }
    eye = seeded(
        CLIPVisionModelWithProjection,
        config=CLIPVisionConfig(intermediate_size=8, patch_size=4, **sizes),
    )
    parts = {"image_encoder": eye, "image_processor": CLIPImageProcessor(crop_size=16, size=16)}
    return built("ChronoEditPipeline", scheduler, vae=wan_coder(), transformer=net, **parts)


def wan_two(scheduler: Any) -> Any:
    return built(
        "WanPipeline",
        scheduler,
        vae=wan_coder(),
        transformer=wan_net(),
        transformer_2=wan_net(),
        boundary_ratio=0.9,
    )


def cosmos_coder() -> Any:
    blocks = {
        "encoder_block_out_channels": (8, 8, 8, 8),
        "decode_block_out_channels": (8, 8, 8, 8),
        "attention_resolutions": (8,),
    }
    return seeded(
        diffusers.AutoencoderKLCosmos,
        latent_channels=16,
        num_layers=1,
        resolution=64,
        patch_size=4,
        **blocks,
    )


class Safe:
    """A guard that finds everything safe, in place of Cosmos' own, which is a large model."""

    def to(self, *_: Any) -> Safe:
        return self

    def check_text_safety(self, _: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def cosmos(kind: str, channels: int = 16) -> Callable[[Any], Any]:
    def make(scheduler: Any) -> Any:
        sizes = {
            "in_channels": channels,
            "out_channels": 16,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "num_layers": 1,
        }
        kinds = {
            "mlp_ratio": 2,
            "text_embed_dim": 16,
            "adaln_lora_dim": 4,
            "max_size": (4, 32, 32),
            "patch_size": (1, 2, 2),
        }
        net = seeded(diffusers.CosmosTransformer3DModel, **sizes, **kinds)
        coder = wan_coder() if kind.startswith("Cosmos2") else cosmos_coder()
        return built(kind, scheduler, vae=coder, transformer=net, safety_checker=Safe())

    return make


def latent_upscaler(scheduler: Any) -> Any:
    net = unet(in_channels=8, out_channels=5, time_cond_proj_dim=136)
    return built("StableDiffusionLatentUpscalePipeline", scheduler, vae=vae(), unet=net)


def sdxl(kind: str) -> Callable[[Any], Any]:
    def make(scheduler: Any) -> Any:
        net = unet(
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=32,
        )
        return built(kind, scheduler, vae=vae(), unet=net, add_watermarker=False)

    return make


def flux(kind: str) -> Callable[[Any], Any]:
    def make(scheduler: Any) -> Any:
        sizes = {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 16,
        }
        more = {
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 32,
            "axes_dims_rope": [4, 4, 8],
        }
        net = seeded(diffusers.FluxTransformer2DModel, **sizes, **more)
        return built(
            kind, scheduler, transformer=net, vae=vae(1, shift_factor=0.06, scaling_factor=1.5)
        )

    return make


def hunyuan(scheduler: Any) -> Any:
    sizes = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 10,
        "num_layers": 1,
    }
    more = {
        "num_single_layers": 1,
        "num_refiner_layers": 1,
        "patch_size": 1,
        "patch_size_t": 1,
        "text_embed_dim": 16,
    }
    net = seeded(
        diffusers.HunyuanVideoTransformer3DModel,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
        **sizes,
        **more,
    )
    ups, downs = ("HunyuanVideoUpBlock3D",) * 4, ("HunyuanVideoDownBlock3D",) * 4
    blocks = {
        "down_block_types": downs,
        "up_block_types": ups,
        "block_out_channels": (8,) * 4,
        "norm_num_groups": 4,
    }
    coder = seeded(
        diffusers.AutoencoderKLHunyuanVideo, latent_channels=4, layers_per_block=1, **blocks
    )
    return built("HunyuanVideoPipeline", scheduler, transformer=net, vae=coder)


def cogvideo(scheduler: Any) -> Any:
    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 2,
    }
    more = {
        "text_embed_dim": 16,
        "num_layers": 1,
        "sample_width": 2,
        "sample_height": 2,
        "sample_frames": 9,
        "max_text_seq_length": 4,
    }
    net = seeded(diffusers.CogVideoXTransformer3DModel, patch_size=2, **sizes, **more)
    blocks = {
        "down_block_types": ("CogVideoXDownBlock3D",) * 4,
        "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    }
    coder = seeded(
        diffusers.AutoencoderKLCogVideoX,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        **blocks,
    )
    return built("CogVideoXPipeline", scheduler, transformer=net, vae=coder)


def sana(scheduler: Any) -> Any:
    heads = {
        "num_attention_heads": 2,
        "attention_head_dim": 4,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 4,
    }
    sizes = {
        "patch_size": 1,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 1,
        "cross_attention_dim": 8,
        "caption_channels": 16,
    }
    net = seeded(diffusers.SanaTransformer2DModel, sample_size=8, **heads, **sizes)
    blocks = {"encoder_block_types": ("ResBlock",) * 2, "decoder_block_types": ("ResBlock",) * 2}
    layers = {"encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1)}
    widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    scales = {
        "encoder_qkv_multiscales": ((), (5,)),
        "decoder_qkv_multiscales": ((), (5,)),
        "attention_head_dim": 2,
    }
    coder = seeded(
        diffusers.AutoencoderDC, latent_channels=4, **blocks, **layers, **widths, **scales
    )
    return built("SanaPipeline", scheduler, transformer=net, vae=coder)


def auraflow(scheduler: Any) -> Any:
    sizes = {
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 4,
        "num_mmdit_layers": 1,
        "num_single_dit_layers": 1,
        "out_channels": 4,
    }
    more = {
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "caption_projection_dim": 16,
        "joint_attention_dim": 16,
    }
    net = seeded(diffusers.AuraFlowTransformer2DModel, pos_embed_max_size=64, **sizes, **more)
    return built("AuraFlowPipeline", scheduler, transformer=net, vae=vae())


def qwen(kind: str) -> Callable[[Any], Any]:
    def make(scheduler: Any) -> Any:
        sizes = {
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 1,
            "attention_head_dim": 16,
        }
        net = seeded(
            diffusers.QwenImageTransformer2DModel,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
            **sizes,
        )
        means = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
        coder = seeded(
            diffusers.AutoencoderKLQwenImage,
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            **means,
        )
        return built(kind, scheduler, transformer=net, vae=coder)

    return make


def lumina2(scheduler: Any) -> Any:
    sizes = {
        "sample_size": 4,
        "patch_size": 2,
        "in_channels": 4,
        "hidden_size": 8,
        "num_layers": 1,
        "num_attention_heads": 1,
    }
    more = {
        "num_kv_heads": 1,
        "multiple_of": 16,
        "axes_dim_rope": [4, 2, 2],
        "axes_lens": [32, 32, 32],
        "cap_feat_dim": 16,
    }
    net = seeded(diffusers.Lumina2Transformer2DModel, **sizes, **more)
    return built(
        "Lumina2Pipeline",
        scheduler,
        transformer=net,
        vae=vae(shift_factor=0.06, scaling_factor=1.5),
    )


def hidream(scheduler: Any) -> Any:
    sizes = {
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 8,
    }
    more = {
        "num_attention_heads": 4,
        "caption_channels": [16, 16],
        "text_emb_dim": 8,
        "num_routed_experts": 2,
        "num_activated_experts": 1,
    }
    net = seeded(
        diffusers.HiDreamImageTransformer2DModel,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32),
        llama_layers=(0, 1),
        **sizes,
        **more,
    )
    return built(
        "HiDreamImagePipeline",
        scheduler,
        transformer=net,
        vae=vae(scaling_factor=0.36, shift_factor=0.1),
    )


def stable(kind: str, **config: Any) -> Callable[[Any], Any]:
    def make(scheduler: Any) -> Any:
        return built(kind, scheduler, vae=vae(), unet=unet(**config), requires_safety_checker=False)

    return make


POOLED = {"pooled_prompt_embeds": noise(1, 8), "negative_pooled_prompt_embeds": noise(1, 8, seed=6)}
FLUX_TEXT = {"prompt_embeds": noise(1, 4, 32), "pooled_prompt_embeds": noise(1, 32)}
DDIM = ("DDIM", {"clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False, **SD})
EULER = ("EulerDiscrete", {"timestep_spacing": "leading", "steps_offset": 1, **SD})
UNIPC_FLOW = (
    "UniPCMultistep",
    {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
)
IF_DDPM = (
    "DDPM",
    {
        "beta_schedule": "squaredcos_cap_v2",
        "variance_type": "learned_range",
        "thresholding": True,
        "sample_max_value": 1.5,
    },
)
PAINT = {"image": picture(), "mask_image": half(), **SMALL}
VIDEO = {"height": 16, "width": 16, "num_frames": 5}

#: pipelines that draw what their own scheduler draws
EQUAL: dict[str, Case] = {
    "LatentConsistencyModelPipeline": Case(
        consistency("LatentConsistencyModelPipeline"),
        ("LCM", LCM),
        lambda: {"prompt_embeds": EMBEDS["prompt_embeds"], **SMALL},
    ),
    "LatentConsistencyModelPipeline original_inference_steps=20": Case(
        consistency("LatentConsistencyModelPipeline"),
        ("LCM", LCM),
        lambda: {"prompt_embeds": EMBEDS["prompt_embeds"], "original_inference_steps": 20, **SMALL},
    ),
    "LatentConsistencyModelImg2ImgPipeline": Case(
        consistency("LatentConsistencyModelImg2ImgPipeline"),
        ("LCM", LCM),
        lambda: {"prompt_embeds": EMBEDS["prompt_embeds"], "image": picture(), "strength": 0.6},
    ),
    "PixArtAlphaPipeline timesteps=[400]": Case(
        pixart_alpha,
        ("DDPM", {"clip_sample": False}),
        lambda: {
            **both(16, masks=MASKS, dtype=torch.float32),
            "negative_prompt": None,
            "use_resolution_binning": False,
            "guidance_scale": 1.0,
            "timesteps": [400],
            **SMALL,
        },
        1,
    ),
    "LTXPipeline": Case(
        ltx("LTXPipeline"), DYNAMIC, lambda: {**both(16, masks=MASKS), **WIDE, "num_frames": 9}
    ),
    "LTXConditionPipeline": Case(
        ltx("LTXConditionPipeline"),
        ("FlowMatchEulerDiscrete", {}),
        lambda: {**both(16, masks=MASKS), **WIDE, "num_frames": 9, "image": picture(32)},
    ),
    "Kandinsky3Pipeline": Case(
        kandinsky3,
        ("DDPM", {"beta_schedule": "squaredcos_cap_v2", "clip_sample": True}),
        lambda: {**both(16, masks=("attention_mask", "negative_attention_mask")), **SMALL},
    ),
    "StableCascadePriorPipeline": Case(
        cascade_prior,
        (
            "DDPM",
            {
                "beta_schedule": "squaredcos_cap_v2",
                "prediction_type": "epsilon",
                "clip_sample": False,
            },
        ),
        lambda: {
            **both(16),
            "prompt_embeds_pooled": noise(1, 1, 16),
            "negative_prompt_embeds_pooled": noise(1, 1, 16, seed=6),
            "height": 128,
            "width": 128,
        },
    ),
    "StableCascadeDecoderPipeline": Case(
        cascade,
        ("DDPM", {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}),
        lambda: {
            **both(16),
            "image_embeddings": noise(1, 4, 2, 2),
            "prompt_embeds_pooled": noise(1, 1, 16),
            "negative_prompt_embeds_pooled": noise(1, 1, 16, seed=6),
        },
    ),
    "MarigoldDepthPipeline": Case(
        marigold,
        DDIM,
        lambda: {"image": picture(), "processing_resolution": 16, "output_latent": True},
        more={"output_type": "pt"},
    ),
    "MarigoldDepthPipeline LCM": Case(
        marigold,
        ("LCM", {**LCM, "set_alpha_to_one": False, "prediction_type": "v_prediction"}),
        lambda: {"image": picture(), "processing_resolution": 16, "output_latent": True},
        more={"output_type": "pt"},
    ),
    "ChronoEditPipeline": Case(
        chrono_edit,
        ("FlowMatchEulerDiscrete", {"shift": 7.0}),
        lambda: {**both(16), "image": picture(), **VIDEO},
    ),
    "WanPipeline boundary_ratio=0.9": Case(wan_two, FLOW, lambda: {**both(16), **VIDEO}),
    "StableDiffusionXLImg2ImgPipeline": Case(
        sdxl("StableDiffusionXLImg2ImgPipeline"),
        EULER,
        lambda: {**EMBEDS, **POOLED, "image": picture(), "strength": 0.6},
    ),
    "StableDiffusionXLInpaintPipeline": Case(
        sdxl("StableDiffusionXLInpaintPipeline"),
        EULER,
        lambda: {**EMBEDS, **POOLED, **PAINT, "strength": 0.7},
    ),
    "FluxImg2ImgPipeline": Case(
        flux("FluxImg2ImgPipeline"),
        DYNAMIC,
        lambda: {**FLUX_TEXT, **SMALL, "image": picture(), "strength": 0.6},
    ),
    "FluxInpaintPipeline": Case(
        flux("FluxInpaintPipeline"), DYNAMIC, lambda: {**FLUX_TEXT, **PAINT, "strength": 0.7}
    ),
    "HunyuanVideoPipeline": Case(
        hunyuan,
        ("FlowMatchEulerDiscrete", {"shift": 7.0}),
        lambda: {
            "prompt_embeds": noise(1, 4, 16),
            "pooled_prompt_embeds": noise(1, 8),
            "prompt_attention_mask": torch.ones(1, 4),
            **VIDEO,
        },
    ),
    "CogVideoXPipeline": Case(
        cogvideo,
        ("DDIM", {"prediction_type": "v_prediction", "clip_sample": False, **SD}),
        lambda: {**both(16), **SMALL, "num_frames": 9},
    ),
    "SanaPipeline": Case(
        sana,
        FLOW,
        lambda: {
            **both(16, masks=MASKS),
            **WIDE,
            "negative_prompt": None,
            "use_resolution_binning": False,
        },
    ),
    "AuraFlowPipeline": Case(
        auraflow,
        ("FlowMatchEulerDiscrete", {"shift": 1.73}),
        lambda: {**both(16, masks=MASKS), **SMALL},
    ),
    "QwenImagePipeline": Case(
        qwen("QwenImagePipeline"),
        ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True, "shift_terminal": 0.02}),
        lambda: {**both(16, masks=("prompt_embeds_mask", "negative_prompt_embeds_mask")), **SMALL},
    ),
    "QwenImageImg2ImgPipeline": Case(
        qwen("QwenImageImg2ImgPipeline"),
        ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True, "shift_terminal": 0.02}),
        lambda: {
            **both(16, masks=("prompt_embeds_mask", "negative_prompt_embeds_mask")),
            **SMALL,
            "image": picture(),
            "strength": 0.6,
        },
    ),
    "Lumina2Pipeline": Case(
        lumina2, FLOW, lambda: {**both(16, masks=MASKS, dtype=torch.bool), **SMALL}
    ),
    "HiDreamImagePipeline": Case(
        hidream,
        FLOW,
        lambda: {
            "prompt_embeds_t5": noise(1, 4, 16),
            "prompt_embeds_llama3": noise(2, 1, 4, 16),
            "pooled_prompt_embeds": noise(1, 8),
            "negative_prompt_embeds_t5": noise(1, 4, 16, seed=6),
            "negative_prompt_embeds_llama3": noise(2, 1, 4, 16, seed=6),
            "negative_pooled_prompt_embeds": noise(1, 8, seed=6),
            **SMALL,
        },
    ),
    **{
        f"{kind} over {views}": Case(
            stable(kind), DDIM, lambda width=width: {**EMBEDS, "height": 16, "width": width}
        )
        for kind, views, width in (
            ("StableDiffusionPanoramaPipeline", "3 views", 640),
            ("StableDiffusionSAGPipeline", "1 view", 16),
            ("StableDiffusionPAGPipeline", "1 view", 16),
        )
    },
}

#: pipelines that refuse every scheduler but their own
OWN_ONLY: dict[str, Case] = {
    "StableDiffusionLatentUpscalePipeline": Case(
        latent_upscaler,
        ("EulerDiscrete", {"prediction_type": "sample", **SD}),
        lambda: {**EMBEDS, **POOLED, "image": noise(1, 4, 8, 8)},
    ),
    "CosmosTextToWorldPipeline": Case(
        cosmos("CosmosTextToWorldPipeline"),
        (
            "EDMEuler",
            {
                "sigma_min": 0.002,
                "sigma_max": 80,
                "sigma_data": 0.5,
                "final_sigmas_type": "sigma_min",
            },
        ),
        lambda: {**both(16), **WIDE, "num_frames": 9},
    ),
    "Cosmos2TextToImagePipeline": Case(
        cosmos("Cosmos2TextToImagePipeline"),
        ("FlowMatchEulerDiscrete", {"use_karras_sigmas": True}),
        lambda: {**both(16), **WIDE},
    ),
    "ChronoEditPipeline": Case(
        chrono_edit,
        UNIPC_FLOW,
        lambda: {
            **both(16),
            "image": picture(),
            "enable_temporal_reasoning": True,
            "num_temporal_reasoning_steps": 2,
            **VIDEO,
        },
    ),
}


def network_of(pipe: Any) -> Any:
    """The pipeline's network."""
    return next(
        pipe.components[name]
        for name in ("transformer", "unet", "prior", "decoder")
        if pipe.components.get(name) is not None
    )


def drawn(
    case: Case, *schedulers: Any, seed: int = 0, inferred: int = 0
) -> list[tuple[torch.Tensor, int]]:
    """The first output of a call (latents) and the number of calls of the networks, for one
    pipeline with each scheduler in turn.

    The last ``inferred`` of them run under ``torch.inference_mode()``, as in servers: tensors there
    keep no count of edits.
    """
    pipe = case.make(schedulers[0])
    pipe.set_progress_bar_config(disable=True)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    second = getattr(pipe, "transformer_2", None)
    for net in (network_of(pipe), *(() if second is None else (second,))):
        net.register_forward_pre_hook(count)
    made = []
    for k, scheduler in enumerate(schedulers):
        pipe.scheduler, calls = scheduler, 0
        arguments = {
            "output_type": "latent",
            "generator": torch.Generator().manual_seed(seed),
            **case.more,
            **case.call(),
        }
        with torch.inference_mode(len(schedulers) - k <= inferred):
            out = pipe(num_inference_steps=case.steps, return_dict=False, **arguments)
        made.append(
            (torch.as_tensor(out[-1] if "output_latent" in arguments else out[0]).clone(), calls)
        )
    return made
