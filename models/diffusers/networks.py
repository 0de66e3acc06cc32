"""Adapters for diffusers' network classes: the arguments of each class, and the tensor in its
output.

An adapter is a function ``network(x, label, cond)`` with named conditions, which are keyword
arguments of the network itself, batch first. Conditions are checked before the network is called.
The state keeps its dtype; the network computes in its own. A learned variance (twice the channels;
Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 15) is cut off.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...checks import ArgumentError, unknown
from ..denoiser import Condition, ShapeError
from ..errors import ModelError

Given = dict[str, Tensor]
#: conditions cast to the network's dtype; sizes, guidance scales and masks keep their own
FLOATS = ("encoder_hidden_states", "pooled_projections", "text_embeds", "image_embeds", "hint")
#: other names for a condition
ALSO = {"label": "class_labels"}
#: ``addition_embed_type`` of a UNet2DConditionModel -> the conditions that it adds
ADDED: dict[str | None, tuple[str, ...]] = {
    None: (),
    "text": (),
    "text_time": ("text_embeds", "time_ids"),
    "text_image": ("text_embeds", "image_embeds"),
    "image": ("image_embeds",),
    "image_hint": ("image_embeds", "hint"),
}


class ConditionError(ArgumentError):
    """A condition is missing or is not one of the network's."""


class Adapter(nn.Module):
    """A diffusers network as ``network(x, label, cond)``: ``x`` (B, *shape), times ``label`` (B,),
    conditions ``cond`` as described in ``given``."""

    #: change of the network's time label per thousandth of a flow's time
    unit: ClassVar[float] = 1.0
    #: True if the state is latents of an autoencoder whatever the folder holds
    latent: ClassVar[bool] = False
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    #: number of class labels that ``cond`` may hold, 0 for none
    classes: int = 0
    #: label that means "no label", if the network was trained with one
    null_label: int | None = None

    def __init__(self, network: Any) -> None:
        """``network`` must be of the class that the adapter serves. Raises ModelError for an
        unsupported configuration."""
        super().__init__()
        self.network, self.settings = network, network.config
        self.channels = int(self.settings["in_channels"])
        made = int(self.settings.get("out_channels") or self.channels)
        if made not in (self.channels, 2 * self.channels):
            raise ModelError(
                f"{type(network).__name__} of {self.channels} channels in and {made} out: "
                "its input is not the state alone (inpainting, "
                "editing or depth), so it is not a Denoiser; use the pipeline with FewstepScheduler"
            )

    def shape(self, size: tuple[int, int] | None) -> tuple[int, ...] | None:
        """Shape of a state of height and width ``size``, by default the configuration's; None if
        neither defines it."""
        size = size or pair(self.settings.get("sample_size"))
        return None if size is None else (self.channels, *size)

    def tokens(self, size: tuple[int, int]) -> int:
        """Number of tokens that the network makes of a state of that size."""
        patch = int(self.settings.get("patch_size") or 1)
        return (size[0] // patch) * (size[1] // patch)

    def levels(self, steps: int) -> list[float] | None:
        """Sigmas that the network's pipeline passes to its scheduler; None if the scheduler chooses
        them."""
        return None

    def given(self, cond: Condition, batch: int) -> Given:
        """Return ``cond`` as a mapping with the network's names.

        A single tensor is taken as the only required condition, or the only possible one; None
        means no condition. Raises ConditionError for a missing or unknown condition, ShapeError for
        another batch size.
        """
        allowed = (*self.required, *self.optional)
        if isinstance(cond, Tensor):
            one = self.required or allowed
            if len(one) != 1:
                raise ConditionError(
                    f"cond is one tensor, and {self.name} takes {self.wanted}: give a "
                    "mapping of names to tensors"
                )
            cond = {one[0]: cond}
        found = {ALSO.get(k, k) if k not in allowed else k: v for k, v in (cond or {}).items()}
        for name in found:
            if name not in allowed:
                raise ConditionError(
                    f"{unknown('condition', name, allowed)}{' none' * (not allowed)}; "
                    f"{self.name} takes {self.wanted}"
                )
        missing = [name for name in self.required if name not in found]
        if missing:
            lacks = "cond=None" if cond is None else f"cond lacks {', '.join(missing)}"
            raise ConditionError(f"{lacks}, but {self.name} requires {self.wanted}")
        for name, value in found.items():
            if value.ndim == 0 or value.shape[0] != batch:
                raise ShapeError(
                    f"condition {name!r} has shape {tuple(value.shape)}; its first dimension "
                    f"must be the batch size {batch}"
                )
        return found

    @property
    def name(self) -> str:
        """Class name of the network."""
        return type(self.network).__name__

    @property
    def wanted(self) -> str:
        """The conditions that the network takes, in words."""
        optional = (
            f"{' and' * bool(self.required)} optionally {', '.join(self.optional)}"
            if self.optional
            else ""
        )
        return f"{', '.join(self.required)}{optional}".strip() or "no condition"

    def forward(self, x: Tensor, label: Tensor, cond: Condition = None) -> Tensor:
        """Return the network's output in the shape and dtype of ``x``."""
        given, dtype = self.given(cond, x.shape[0]), self.network.dtype
        cast = {k: v.to(x.device, dtype if k in FLOATS else v.dtype) for k, v in given.items()}
        return self.ask(x.to(dtype), label, cast)[:, : self.channels].to(x.dtype)

    def ask(self, x: Tensor, label: Tensor, given: Given) -> Tensor:
        """Call the network."""
        raise NotImplementedError


class PlainUNet(Adapter):
    """UNet2DModel: pixels, with class labels if ``num_class_embeds`` or ``class_embed_type`` is
    set."""

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        if self.settings.get("time_embedding_type") == "fourier":
            raise ModelError("time_embedding_type='fourier': score networks are not supported")
        if network.class_embedding is not None:
            self.required = ("class_labels",)
            self.classes = (
                int(self.settings.get("num_class_embeds") or 0)
                if self.settings.get("class_embed_type") is None
                else 0
            )

    def ask(self, x: Tensor, label: Tensor, given: Given) -> Tensor:
        """``network(sample, timestep, class_labels)``."""
        answer: Tensor = self.network(
            x, label, class_labels=given.get("class_labels"), return_dict=False
        )[0]
        return answer


class TextUNet(Adapter):
    """UNet2DConditionModel: Stable Diffusion 1 and 2, and SDXL with its ``text_embeds`` and
    ``time_ids``."""

    optional: tuple[str, ...] = ("encoder_attention_mask",)

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        kind = self.settings.get("addition_embed_type")
        if kind not in ADDED:
            raise ModelError(unknown("addition_embed_type", kind, [k for k in ADDED if k]))
        self.added = ADDED[kind]
        if (
            str(self.settings.get("encoder_hid_dim_type")).endswith("image_proj")
            and "image_embeds" not in self.added
        ):
            self.added = (*self.added, "image_embeds")
        labels = ("class_labels",) if network.class_embedding is not None else ()
        self.required = ("encoder_hidden_states", *self.added, *labels)
        # the guidance scale's embedding of a consistency model
        if self.settings.get("time_cond_proj_dim") is not None:
            self.optional = (*self.optional, "timestep_cond")

    def ask(self, x: Tensor, label: Tensor, given: Given) -> Tensor:
        """``network(sample, timestep, encoder_hidden_states, added_cond_kwargs={...})``."""
        added = {name: given[name] for name in self.added}
        rest = {name: value for name, value in given.items() if name not in added}
        answer: Tensor = self.network(x, label, added_cond_kwargs=added, return_dict=False, **rest)[
            0
        ]
        return answer


class LabelTransformer(Adapter):
    """DiTTransformer2DModel: class labels. Without labels it uses the null class that it was
    trained with (one past the last class)."""

    latent = True
    optional: tuple[str, ...] = ("class_labels",)

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.classes = self.null_label = int(self.settings["num_embeds_ada_norm"])

    def ask(self, x: Tensor, label: Tensor, given: Given) -> Tensor:
        """``network(hidden_states, timestep, class_labels)``."""
        labels = given.get("class_labels")
        if labels is None:
            labels = torch.full((x.shape[0],), self.classes, device=x.device)
        answer: Tensor = self.network(x, timestep=label, class_labels=labels, return_dict=False)[0]
        return answer


class CaptionTransformer(Adapter):
    """PixArtTransformer2DModel: encoded text, and image sizes if the network takes them."""

    latent = True
    required: tuple[str, ...] = ("encoder_hidden_states",)
    optional: tuple[str, ...] = ("encoder_attention_mask",)

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.sizes = ("resolution", "aspect_ratio") if network.use_additional_conditions else ()
        self.required = (*self.required, *self.sizes)

    def ask(self, x: Tensor, label: Tensor, given: Given) -> Tensor:
        """``network(hidden_states, encoder_hidden_states, timestep, added_cond_kwargs)``."""
        added: dict[str, Tensor | None] = {name: given[name] for name in self.sizes} or {
            "resolution": None,
            "aspect_ratio": None,
        }
        rest = {name: value for name, value in given.items() if name not in added}
        answer: Tensor = self.network(
            x, timestep=label, added_cond_kwargs=added, return_dict=False, **rest
        )[0]
        return answer


class JointTransformer(Adapter):
    """SD3Transformer2DModel: text tokens and their pooled vector."""

    latent = True
    required: tuple[str, ...] = ("encoder_hidden_states", "pooled_projections")

    def ask(self, x: Tensor, label: Tensor, given: Given) -> Tensor:
        """``network(hidden_states, encoder_hidden_states, pooled_projections, timestep)``."""
        answer: Tensor = self.network(x, timestep=label, return_dict=False, **given)[0]
        return answer


class PackedTransformer(Adapter):
    """FluxTransformer2DModel: the state is the image's latents (B, C, H, W); the adapter packs 2 x
    2 patches into tokens and computes their positions.

    The time is the flow's own, in [0, 1]. A guidance-distilled network needs ``guidance`` (B,).
    """

    unit = 1e-3
    latent = True
    required: tuple[str, ...] = ("encoder_hidden_states", "pooled_projections")

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        if self.channels % 4:
            raise ModelError(
                f"in_channels={self.channels}: must be a multiple of 4 (tokens are 2 x 2 patches)"
            )
        self.channels //= 4
        if self.settings.get("guidance_embeds"):
            self.required = (*self.required, "guidance")

    def tokens(self, size: tuple[int, int]) -> int:
        """One token per 2 x 2 latents."""
        return (size[0] // 2) * (size[1] // 2)

    def levels(self, steps: int) -> list[float]:
        """1, ..., 1 / steps."""
        return [1.0 - k / steps for k in range(steps)]

    def ask(self, x: Tensor, label: Tensor, given: Given) -> Tensor:
        """``network(hidden_states, encoder_hidden_states, pooled_projections, timestep, img_ids,
        txt_ids, guidance)``."""
        if x.ndim != 4 or x.shape[1] != self.channels or x.shape[2] % 2 or x.shape[3] % 2:
            raise ShapeError(
                f"the state has shape {tuple(x.shape)}; must be (batch, {self.channels}, "
                "height, width), both even"
            )
        batch, channels, height, width = x.shape[0], self.channels, x.shape[2] // 2, x.shape[3] // 2
        tokens = (
            x.reshape(batch, channels, height, 2, width, 2)
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(batch, height * width, 4 * channels)
        )
        places = torch.zeros(height, width, 3, device=x.device, dtype=x.dtype)
        places[..., 1] = torch.arange(height, device=x.device, dtype=x.dtype)[:, None]
        places[..., 2] = torch.arange(width, device=x.device, dtype=x.dtype)
        words = torch.zeros(
            given["encoder_hidden_states"].shape[1], 3, device=x.device, dtype=x.dtype
        )
        ids = {"img_ids": places.flatten(0, 1), "txt_ids": words}
        answer: Tensor = self.network(tokens, timestep=label, return_dict=False, **ids, **given)[0]
        return (
            answer.reshape(batch, height, width, channels, 2, 2)
            .permute(0, 3, 1, 4, 2, 5)
            .reshape(x.shape)
        )


def pair(size: Any) -> tuple[int, int] | None:
    """Return (height, width) from one or two numbers; None stays None."""
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


#: class of the network -> its adapter
NETWORKS: dict[str, type[Adapter]] = {
    "UNet2DModel": PlainUNet,
    "UNet2DConditionModel": TextUNet,
    "DiTTransformer2DModel": LabelTransformer,
    "PixArtTransformer2DModel": CaptionTransformer,
    "SD3Transformer2DModel": JointTransformer,
    "FluxTransformer2DModel": PackedTransformer,
}
