"""The training loop: Adam on the EDM loss, an exponential moving average of the weights, and
checkpoints that can be exported at any time.

The learning rate depends on the elapsed time: a short warm-up, a plateau, then half a cosine to
zero at the end of the given hours, so that every run ends with annealed weights however fast the
machine is. The average is ``ema += (1 - beta) (w - ema)`` with ``beta = (1 - 1/step)^(gamma + 1)``
(the power-function profile of Karras et al. 2023, arXiv 2312.02696, section 3): its length grows
with training, so it needs no tuning for short runs.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..checks import ArgumentError, parse_json
from ..files import write_tensors
from ..models.field_maps import FieldMaps
from ..models.unet import UNet, UNetConfig
from .augmentation import mirrored, square_symmetry
from .data import Images, to_unit
from .fields import Fields
from .loss import draw_sigma, edm_loss
from .loss_log import write_row
from .residual_loss import ResidualLoss

STATE = "state.safetensors"
#: seconds between checkpoints, and between rows of the loss log
SAVE_EVERY, LOG_EVERY = 180.0, 20.0


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    ``dropout_label`` is the fraction of images trained without their label, ``gamma`` the exponent
    of the moving average, ``plateau`` the fraction of the run before the learning rate falls,
    ``labels`` the names of the classes. ``flip`` mirrors half of the images, ``square`` applies one
    of the eight symmetries of the square to each. ``weights``: of the channels in the loss, of any
    sum (empty: all equal). ``fields``: the maps of a model of physical fields. ``residual``: a term
    that is added to the loss.
    """

    network: UNetConfig
    lr: float = 1e-3
    batch: int = 128
    warmup: int = 200
    plateau: float = 0.3
    flip: bool = False
    square: bool = False
    dropout_label: float = 0.12
    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_data: float = 0.5
    gamma: float = 16.0
    labels: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    fields: FieldMaps | None = None
    residual: ResidualLoss | None = None

    def __post_init__(self) -> None:
        """Raise ArgumentError for weights or fields that do not fit the network's channels."""
        channels = self.network.channels
        for name, found in (
            ("weights", self.weights),
            ("fields", self.fields and self.fields.maps),
        ):
            if found and len(found) != channels:
                raise ArgumentError(
                    f"{name}={found}: must be one for each of the {channels} channels"
                )
        if self.weights and not (min(self.weights) >= 0.0 < sum(self.weights) < math.inf):
            raise ArgumentError(f"weights={self.weights}: must be >= 0, finite, not all 0")


@dataclass
class State:
    """State of a run: the trained network, its average, the optimizer, the progress,
    ``provenance``, a text that says how the data were made, and ``residual``, one that names the
    residual loss of the last run."""

    network: UNet
    ema: UNet
    optimizer: torch.optim.Adam
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    provenance: str = ""
    residual: str = ""


def begin(recipe: Recipe, seed: int, device: str = "cpu") -> State:
    """Return the state of a new run; the initial weights depend on ``seed`` only."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, ema = UNet(recipe.network), UNet(recipe.network)
    ema.requires_grad_(False).eval()
    ema.load_state_dict(network.state_dict())
    for module in (network, ema):
        module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return State(
        network,
        ema,
        torch.optim.Adam(network.parameters(), lr=recipe.lr, betas=(0.9, 0.99), fused=True),
    )


def save(state: State, folder: Path) -> None:
    """Write weights, average, optimizer and counters to one file in ``folder``, atomically."""
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in state.ema.state_dict().items()}
    for name, parameter in state.network.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value.reshape(-1) if key == "step" else value
    counters = json.dumps({"step": state.step, "images": state.images, "seconds": state.seconds})
    config = json.dumps(state.network.config.to_dict())
    texts = {"provenance": state.provenance, "residual": state.residual}
    write_tensors(folder / STATE, tensors, {"counters": counters, "network": config, **texts})


def network_of(folder: Path) -> UNetConfig:
    """Return the network's architecture from ``folder``'s checkpoint. Raises ValueError if it is
    missing or damaged."""
    with _checkpoint(folder) as (meta, _):
        return UNetConfig.from_dict(_object(meta, "network"))


def resume(state: State, folder: Path) -> None:
    """Load ``state`` in place from :func:`save`'s file. Raises ValueError if it is damaged or
    belongs to another network."""
    with _checkpoint(folder) as (meta, tensors):
        if UNetConfig.from_dict(_object(meta, "network")) != state.network.config:
            raise ArgumentError(
                f"it was made by another network: {meta['network']}, not "
                f"{state.network.config.to_dict()}"
            )
        counters = _object(meta, "counters")
        step, images, seconds = (
            int(counters["step"]),
            int(counters["images"]),
            float(counters["seconds"]),
        )
        for part, module in (("network.", state.network), ("ema.", state.ema)):
            module.load_state_dict(
                {key[len(part) :]: value for key, value in tensors.items() if key.startswith(part)}
            )
        for name, parameter in state.network.named_parameters():
            if f"optimizer.step.{name}" in tensors:
                moments = {
                    key: tensors[f"optimizer.{key}.{name}"] for key in ("exp_avg", "exp_avg_sq")
                }
                moments = {
                    key: torch.empty_like(parameter).copy_(value) for key, value in moments.items()
                }
                state.optimizer.state[parameter] = {
                    "step": tensors[f"optimizer.step.{name}"].reshape(()),
                    **moments,
                }
        state.step, state.images, state.seconds = step, images, seconds
        state.provenance, state.residual = meta.get("provenance", ""), meta.get("residual", "")


@contextmanager
def _checkpoint(folder: Path) -> Iterator[tuple[dict[str, str], dict[str, Tensor]]]:
    """Read metadata and tensors of the checkpoint. Errors inside are raised as ArgumentError with
    the file's name."""
    path = folder / STATE
    if not path.is_file():
        raise ArgumentError(f"no checkpoint at {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as archive:
            keys = list(archive.keys())
            found = (archive.metadata() or {}, {key: archive.get_tensor(key) for key in keys})
        yield found
    except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        lacks = f"it lacks {error}" if isinstance(error, KeyError) else str(error).split("\n\t")[0]
        raise ArgumentError(f"the checkpoint {str(path)!r} cannot be used: {lacks}") from error


def _object(meta: dict[str, str], key: str) -> dict[str, Any]:
    found = parse_json(meta[key], f"its {key!r}")
    if not isinstance(found, dict):
        raise ArgumentError(f"its {key!r} must be an object, found {type(found).__name__}")
    return found


def rate(recipe: Recipe, step: int, progress: float) -> float:
    """Learning rate after ``step`` steps of this run, ``progress`` in 0..1 of its time."""
    down = max(0.0, (progress - recipe.plateau) / (1.0 - recipe.plateau))
    return (
        recipe.lr
        * min(1.0, (step + 1) / recipe.warmup)
        * 0.5
        * (1.0 + math.cos(math.pi * min(1.0, down)))
    )


def average(state: State, gamma: float) -> None:
    """Update the moving average once."""
    beta = (1.0 - 1.0 / max(1, state.step)) ** (gamma + 1.0)
    with torch.no_grad():
        torch._foreach_lerp_(
            list(state.ema.parameters()), list(state.network.parameters()), 1.0 - beta
        )


def fast_bfloat16(device: torch.device) -> bool:
    """True if autocast to bfloat16 is faster: on accelerators, and on CPUs with AVX-512 (on other
    CPUs it is tens of times slower)."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability().startswith(
        ("AVX512", "AMX")
    )


def augmented(image: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Return the batch with the recipe's random mirror images or symmetries of the square."""
    if recipe.flip:
        image = mirrored(image, torch.rand(image.shape[0], generator=generator) < 0.5)
    if recipe.square:
        image = square_symmetry(image, generator)
    return image


def train_step(
    state: State, recipe: Recipe, image: Tensor, label: Tensor, generator: torch.Generator
) -> Tensor:
    """Make one optimizer step on a batch (uint8 images or float32 channels, labels); return the
    loss, a 0-dim tensor."""
    device = next(state.network.parameters()).device
    n = image.shape[0]
    image = augmented(image, recipe, generator)
    null = torch.rand(n, generator=generator) < recipe.dropout_label
    label = torch.where(null, torch.full_like(label, recipe.network.classes), label)
    x0, noise = to_unit(image), torch.randn(image.shape, generator=generator)
    sigma = draw_sigma(n, recipe.p_mean, recipe.p_std, generator)
    x0, noise, sigma, label = (
        value.to(device, non_blocking=True) for value in (x0, noise, sigma, label)
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device)):
        loss = edm_loss(
            state.network,
            x0,
            sigma,
            noise,
            label if recipe.network.classes else None,
            recipe.sigma_data,
            recipe.weights,
            recipe.residual,
        ).mean()
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    state.images += n
    average(state, recipe.gamma)
    return loss.detach()


class Batches:
    """Endless batches of ``data`` in random order, every image once per epoch (the last incomplete
    batch of an epoch is dropped)."""

    def __init__(self, data: Images | Fields, size: int, generator: torch.Generator) -> None:
        """``size`` is limited to the number of images."""
        self.data, self.size, self.generator = data, min(size, len(data)), generator
        self.order, self.cursor = torch.empty(0, dtype=torch.long), 0

    def next(self) -> tuple[Tensor, Tensor]:
        """Return uint8 images or float32 channels (B, c, h, w), and labels (B,)."""
        if self.cursor + self.size > len(self.order):
            self.order, self.cursor = torch.randperm(len(self.data), generator=self.generator), 0
        pick = self.order[self.cursor : self.cursor + self.size]
        self.cursor += self.size
        return self.data.image[pick], self.data.label[pick]


def train(
    state: State,
    recipe: Recipe,
    data: Images | Fields,
    seconds: float,
    folder: Path,
    seed: int = 0,
    steps: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> State:
    """Train for ``seconds`` (or ``steps``, whichever ends first), saving to ``folder`` every three
    minutes and at the end.

    A row (step, images, seconds, learning rate, mean loss since the last row) is added to
    ``folder/loss.csv`` every 20 seconds.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + state.step)
    batches = Batches(data, recipe.batch, generator)
    start = logged = saved = time.monotonic()
    before, first, lr = state.seconds, state.step, 0.0
    losses: list[Tensor] = []
    state.residual = "" if recipe.residual is None else recipe.residual.name
    while True:
        now = time.monotonic()
        state.seconds = before + now - start
        done = now - start >= seconds or (steps is not None and state.step - first >= steps)
        if losses and (done or now - logged >= LOG_EVERY):
            logged, mean, losses = now, float(torch.stack(losses).mean()), []
            write_row(
                folder / "loss.csv",
                (state.step, state.images, round(state.seconds, 1), lr, round(mean, 5)),
            )
            report(
                f"step {state.step} images {state.images} seconds {state.seconds:.0f} lr "
                f"{lr:.2e} loss {mean:.4f}"
            )
        if done or now - saved >= SAVE_EVERY:
            saved = now
            save(state, folder)
        if done:
            return state
        progress = max((now - start) / seconds, (state.step - first) / steps if steps else 0.0)
        lr = rate(recipe, state.step - first, progress)
        state.optimizer.param_groups[0]["lr"] = lr
        losses.append(train_step(state, recipe, *batches.next(), generator))
