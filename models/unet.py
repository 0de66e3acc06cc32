"""A compact class-conditional U-Net, the network of the bundled models.

The image is cut into ``patch x patch`` blocks (pixel-unshuffle), so that the first convolution
already works at a fraction of the resolution. Residual blocks (layer norm over channels, SiLU, 3x3
convolution, twice) are modulated by one embedding ``e`` of the noise level and the class,
``norm(h) (1 + s(e)) + b(e)``; chosen levels and the middle have self-attention. The layout follows
Ho et al. 2020 (arXiv 2006.11239, appendix B) with the adaptive normalisation of Dhariwal & Nichol
2021 (arXiv 2105.05233, section 3).

The network is the raw map ``F(x, c_noise, cond)``; ``fewstep.models.wrap`` applies the scaling by
c_in, c_skip, c_out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import ArgumentError

Condition = Tensor | Mapping[str, Tensor] | None


@dataclass(frozen=True)
class UNetConfig:
    """Architecture of a :class:`UNet`; written to and read from ``config.json``.

    ``widths`` are the channels of each level (each level halves the resolution), ``blocks`` the
    residual blocks of each level on either side, ``attention`` the levels with self-attention (the
    middle always has it), ``classes`` the number of labels. Label ``classes`` is the null label; 0
    classes: no labels at all.
    """

    image_size: int
    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (64, 96)
    blocks: tuple[int, ...] = (2, 2)
    patch: int = 2
    attention: tuple[int, ...] = ()
    embedding: int = 192
    head: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Raise an error for an architecture that cannot be built."""
        factor = self.patch * 2 ** (len(self.widths) - 1)
        if self.image_size % factor:
            raise ArgumentError(
                f"image_size {self.image_size} is not divisible by patch * 2^(levels-1) = {factor}"
            )
        bad = [width for width in self.widths if width % self.head]
        if bad or len(self.blocks) != len(self.widths):
            raise ArgumentError(
                f"widths {self.widths}: must have one number of blocks per width and be multiples "
                f"of head = {self.head}"
            )
        if (
            min(self.channels, *self.blocks, self.patch) < 1
            or self.classes < 0
            or self.embedding % 2
        ):
            raise ArgumentError(
                f"channels, blocks, patch must be positive, classes >= 0 and embedding even: {self}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> UNetConfig:
        """Inverse of :meth:`to_dict`. Raises ValueError for unknown keys."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ArgumentError(f"unknown network settings {unknown}; allowed: {sorted(known)}")
        typed: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**typed)


class PixelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of a channels-last image (GroupNorm takes
    six times as long on a CPU)."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Residual block ``skip(x) + conv(drop(silu(norm(conv(silu(norm x))) (1 + s) + b)))``, (B, cin,
    H, W) -> (B, cout, H, W)."""

    def __init__(self, cin: int, cout: int, embedding: int, dropout: float) -> None:
        """``embedding`` is the width of the conditioning vector."""
        super().__init__()
        self.norm1 = PixelNorm(cin)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * cout)
        self.norm2 = PixelNorm(cout, elementwise_affine=False)
        self.drop = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.skip = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """``x`` (B, cin, H, W), ``e`` (B, embedding)."""
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulate(e)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1.0 + scale))
        return torch.add(self.skip(x), self.conv2(self.drop(h)))


class Attention(nn.Module):
    """Residual self-attention over the pixels, ``x + out(softmax(q k / sqrt(d)) v)``."""

    def __init__(self, channels: int, head: int) -> None:
        """``head`` channels per head."""
        super().__init__()
        self.heads = channels // head
        self.norm = PixelNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        b, c, height, width = x.shape
        qkv = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)
        q, k, v = (
            qkv.reshape(b, height * width, 3, self.heads, c // self.heads)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        h = (
            torch.softmax(q @ k.transpose(-1, -2) * (c // self.heads) ** -0.5, dim=-1).to(v.dtype)
            @ v
        )
        h = h.permute(0, 1, 3, 2).reshape(b, c, height, width)
        return torch.add(x, self.out(h))


class Embedding(nn.Module):
    """Embedding of noise level and class in one vector: sines and cosines of ``c_noise``, plus a
    learned row per class, through two layers."""

    frequencies: Tensor

    def __init__(self, width: int, classes: int) -> None:
        """``classes`` labels and one null label."""
        super().__init__()
        self.classes = classes
        frequencies = (
            torch.logspace(-1.0, 1.5, width // 2, dtype=torch.float32, device="cpu") * math.tau
        )
        # on the CPU even when built on the meta device
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.label = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, c_noise: Tensor, cond: Condition, batch: int) -> Tensor:
        """``c_noise`` 0-dim or (B,) -> (B, width)."""
        angle = c_noise.to(torch.float32).reshape(-1).expand(batch)[:, None] * self.frequencies
        e = self.inner(torch.cat([angle.cos(), angle.sin()], dim=1).to(self.inner.weight.dtype))
        if self.label is not None:
            e = e + self.label(self.labels(cond, batch, e.device))
        return F.silu(self.outer(F.silu(e)))

    def labels(self, cond: Condition, batch: int, device: torch.device) -> Tensor:
        """Return the label of every row; None gives the null label. Raises ValueError for a
        condition of another form."""
        if cond is None:
            return torch.full((batch,), self.classes, dtype=torch.long, device=device)
        if isinstance(cond, Mapping):
            if "label" not in cond:
                raise ArgumentError(
                    f"the condition must have the key 'label'; it has {sorted(cond)}"
                )
            cond = cond["label"]
        if cond.is_floating_point() or cond.numel() not in (1, batch):
            kind = f"{cond.dtype}, shape {tuple(cond.shape)}"
            raise ArgumentError(
                f"labels must be {batch} integers in 0..{self.classes} ({self.classes} = no "
                f"label); got {kind}"
            )
        return cond.to(device=device, dtype=torch.long).reshape(-1).expand(batch)


class Level(nn.Module):
    """One resolution on one side of the U: blocks, each followed by attention if ``attend``, and
    the layer to the next level."""

    def __init__(
        self, cin: int, width: int, blocks: int, config: UNetConfig, attend: bool, resize: nn.Module
    ) -> None:
        """Every block maps ``cin`` channels (with a skip connection: twice the width) to
        ``width``."""
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(cin, width, config.embedding, config.dropout) for _ in range(blocks)
        )
        self.attention = nn.ModuleList(
            Attention(width, config.head) for _ in range(blocks if attend else 0)
        )
        self.resize = resize

    def block(self, i: int, h: Tensor, e: Tensor) -> Tensor:
        """Apply block ``i`` and its attention."""
        h = self.blocks[i](h, e)
        h = self.attention[i](h) if len(self.attention) else h
        return h


class Down(Level):
    """Level of the downward side: stores the output of each block, then halves the resolution."""

    def forward(self, h: Tensor, e: Tensor, skips: list[Tensor]) -> Tensor:
        """Append one tensor per block to ``skips``; return the state for the next level."""
        for i in range(len(self.blocks)):
            h = self.block(i, h, e)
            skips.append(h)
        out: Tensor = self.resize(h)
        return out


class Up(Level):
    """Level of the upward side: each block reads one stored tensor; then the resolution is
    doubled."""

    def forward(self, h: Tensor, e: Tensor, skips: list[Tensor]) -> Tensor:
        """Take one tensor per block from the end of ``skips``; return the state for the level
        above."""
        for i in range(len(self.blocks)):
            h = self.block(i, torch.cat([h, skips.pop()], dim=1), e)
        out: Tensor = (
            h
            if isinstance(self.resize, nn.Identity)
            else self.resize(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        )
        return out


class UNet(nn.Module):
    """U-Net ``F(x, c_noise, cond) -> (B, C, H, W)`` for ``x`` (B, C, H, W); see the module."""

    @property
    def null_label(self) -> int | None:
        """Label that means "no label"; None for a network without classes."""
        return self.config.classes or None

    def __init__(self, config: UNetConfig) -> None:
        """Build the layers of ``config``. The last layer is zero, so that a new network returns
        0."""
        super().__init__()
        self.config = config
        widths, pixels = config.widths, config.channels * config.patch**2
        self.embed = Embedding(config.embedding, config.classes)
        self.enter = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            blocks, attend = config.blocks[level], level in config.attention
            last = level == len(widths) - 1
            lower = (
                nn.Identity()
                if last
                else nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1)
            )
            upper = (
                nn.Identity() if level == 0 else nn.Conv2d(width, widths[level - 1], 3, padding=1)
            )
            self.down.append(Down(width, width, blocks, config, attend, lower))
            self.up.insert(0, Up(2 * width, width, blocks, config, attend, upper))
        self.middle = nn.ModuleList(
            [
                Block(widths[-1], widths[-1], config.embedding, config.dropout),
                Attention(widths[-1], config.head),
            ]
        )
        self.leave_norm = PixelNorm(widths[0])
        self.leave = nn.Conv2d(widths[0], pixels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c_noise: Tensor, cond: Condition = None) -> Tensor:
        """Return F for ``c_noise`` 0-dim or (B,), and ``cond`` None, labels (B,) or {"label":
        labels}.

        The layers compute in the dtype of the weights; the output has the dtype of ``x``. Raises
        ValueError for a wrong image shape.
        """
        c = self.config
        if x.ndim != 4 or tuple(x.shape[1:]) != (c.channels, c.image_size, c.image_size):
            want = ("B", c.channels, c.image_size, c.image_size)
            raise ArgumentError(f"this network takes images of shape {want}; got {tuple(x.shape)}")
        e = self.embed(c_noise, cond, x.shape[0])
        h = self.enter(
            F.pixel_unshuffle(x.to(self.enter.weight.dtype), c.patch).contiguous(
                memory_format=torch.channels_last
            )
        )
        skips: list[Tensor] = []
        for down in self.down:
            h = down(h, e, skips)
        h = self.middle[1](self.middle[0](h, e))
        for up in self.up:
            h = up(h, e, skips)
        h = self.leave(F.silu(self.leave_norm(h)))
        return F.pixel_shuffle(h, c.patch).to(x.dtype)
