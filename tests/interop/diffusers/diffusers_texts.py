"""Small pipelines that read prompts: the networks of ``diffusers_pipelines`` with random text
encoders and tokenizers that spell."""

from __future__ import annotations

import string
from typing import Any

import diffusers
import transformers
from diffusers_pipelines import flux, sd3, sdxl, seeded, stable_diffusion
from tokenizers import Tokenizer, models, pre_tokenizers

ENDS = ("<|startoftext|>", "<|endoftext|>")


def letters() -> Any:
    """A CLIP tokenizer that spells: its merges are none."""
    words = [
        *string.ascii_lowercase,
        *(letter + "</w>" for letter in string.ascii_lowercase),
        *ENDS,
    ]
    return transformers.CLIPTokenizer(
        vocab={word: k for k, word in enumerate(words)}, merges=[], model_max_length=77
    )


def clip(width: int, projected: int | None = None) -> Any:
    """A CLIP text encoder of that width; with ``projected`` its pooled output has that length."""
    sizes = {
        "hidden_size": width,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 54,
    }
    config = transformers.CLIPTextConfig(
        **sizes,
        projection_dim=projected or width,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )
    return seeded(
        transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel,
        config=config,
    )


def t5(width: int) -> tuple[Any, Any]:
    """A T5 encoder of that width, and a tokenizer that spells."""
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((letter, -1.0) for letter in string.ascii_lowercase + "\u2581"),
    ]
    plain = Tokenizer(models.Unigram(pieces, unk_id=2))
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = transformers.T5TokenizerFast(
        tokenizer_object=plain, extra_ids=0, model_max_length=64
    )
    sizes = {
        "d_model": width,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
        "vocab_size": 32,
    }
    return seeded(transformers.T5EncoderModel, config=transformers.T5Config(**sizes)), tokenizer


def sd_text() -> Any:
    pipe = stable_diffusion(
        diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1, beta_schedule="scaled_linear")
    )
    pipe.register_modules(text_encoder=clip(16), tokenizer=letters())
    return pipe


def sdxl_text() -> Any:
    pipe = sdxl(
        diffusers.EulerDiscreteScheduler(
            timestep_spacing="leading", steps_offset=1, beta_schedule="scaled_linear"
        )
    )
    pipe.register_modules(
        text_encoder=clip(8), tokenizer=letters(), text_encoder_2=clip(8, 8), tokenizer_2=letters()
    )
    return pipe


def sd3_text() -> Any:
    pipe = sd3(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0))
    encoder, tokenizer = t5(16)
    clips = {
        "text_encoder": clip(8, 4),
        "tokenizer": letters(),
        "text_encoder_2": clip(8, 4),
        "tokenizer_2": letters(),
    }
    pipe.register_modules(**clips, text_encoder_3=encoder, tokenizer_3=tokenizer)
    return pipe


def flux_text() -> Any:
    pipe = flux(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))
    encoder, tokenizer = t5(32)
    pipe.register_modules(
        text_encoder=clip(32), tokenizer=letters(), text_encoder_2=encoder, tokenizer_2=tokenizer
    )
    return pipe


#: name -> pipeline
TEXTS = {"sd": sd_text, "sdxl": sdxl_text, "sd3": sd3_text, "flux": flux_text}
