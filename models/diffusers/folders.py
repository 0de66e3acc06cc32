"""Loads a diffusers folder as a Denoiser: its network, with the schedule, prediction type and time
that its scheduler's config defines.

A pipeline folder lists its parts in ``model_index.json`` (``unet/`` or ``transformer/``,
``scheduler/``); a single model has a ``config.json`` with ``_class_name`` and needs
``scheduler_config.json`` in the same folder or in ``../scheduler``. The supported network classes
are those of ``models.diffusers.networks``. The config is read by ``schedules.diffusers.config``;
tables of betas become ``DiscreteVP`` (Ho et al. 2020, arXiv 2006.11239, eq. 4), flows ``Flow`` with
the shift, EDM classes ``EDM`` with its preconditioning (arXiv 2206.00364, table 1).

diffusers reads the weights, from local safetensors files only. diffusers is imported only when such
a folder is loaded. Samples of a latent model (``latent``) are latents; pipelines scale them to
about unit variance, so ``sigma_data`` is 1 unless the preconditioning has another. That of a model
of pixels is unknown without a preconditioning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from typing_extensions import override

from ...checks import ConfigError
from ...schedules import EDM, Flow, Grid
from ...schedules.diffusers.classes import STYLES, class_defaults
from ...schedules.diffusers.config import Settings, read, shift_of
from ...schedules.diffusers.grids import grid_of
from ...schedules.node import Node
from ...schedules.noise_path import NoisePath
from ..denoiser import Condition
from ..errors import ModelError
from ..preconditioning import EDMPreconditioning, Numbers
from ..weights import CONFIG, check_finite, check_kinds, read_json
from ..wrapping import Label, Wrapped, wrap
from .networks import NETWORKS, Adapter, pair

SCHEDULER = "scheduler_config.json"
INDEX = "model_index.json"
#: names of a pipeline's autoencoder, and parts of the names of its class
AUTOENCODERS, AUTOENCODER_CLASSES = ("vae", "vqvae", "movq"), ("Autoencoder", "VQModel")


@dataclass(frozen=True)
class VelocityPreconditioning(EDMPreconditioning):
    """``EDMPreconditioning`` of a network trained on v: c_out has the opposite sign (diffusers'
    ``prediction_type="v_prediction"``)."""

    def numbers(self, node: Node) -> Numbers:
        """At ``node``."""
        found = super().numbers(node)
        return found._replace(q=-found.q)


@dataclass(frozen=True, eq=False)
class Pretrained(Wrapped):
    """A network from a diffusers folder; made by ``load_pretrained``. ``settings`` is the
    interpreted config of its scheduler."""

    settings: Settings

    @property
    def adapter(self) -> Adapter:
        """The network with the names of its conditions."""
        assert isinstance(self.network, Adapter)
        return self.network

    @property
    @override
    def classes(self) -> int:  # type: ignore[override]
        """Number of class labels that the network takes."""
        return self.adapter.classes

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        """Raise the ConditionError or ShapeError that ``raws`` would raise, without a call of the
        network."""
        self.adapter.given(cond, batch)

    def grid(
        self,
        steps: int,
        times: Sequence[float] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> Grid:
        """Return the grid of ``steps`` steps that diffusers makes with this folder's scheduler
        (spacing, offset, special levels, shift, end), or the grid through the network's ``times``
        or ``sigmas``: for ``fewstep.sample(den, grid=den.grid(8))``. Raises GridError if there is
        none."""
        if times is None and sigmas is None and isinstance(self.schedule, Flow):
            sigmas = self.adapter.levels(steps)
        shift = self.schedule.shift if isinstance(self.schedule, Flow) else 1.0
        mu = (
            None
            if not self.settings.dynamic
            else math.log(shift)
            if self.settings.dynamic == "exponential"
            else shift
        )
        found = grid_of(self.settings, steps, times, sigmas, mu)
        nodes: Sequence[Node] = found.nodes
        if isinstance(self.settings.schedule, NoisePath):
            nodes = [self.schedule.node(self.schedule.time_at_rho(node.rho)) for node in nodes]
        return Grid.from_nodes(nodes, self.schedule)


def load_pretrained(
    folder: str | Path,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    size: int | tuple[int, int] | None = None,
    variant: str | None = None,
) -> Pretrained:
    """Load a Denoiser from a diffusers folder.

    Args:
        device, dtype: of the network (default: CPU, float32); the state keeps its own dtype.
        size: height and width of a sample (of its latents for a latent model); default: the
            configuration's. It determines ``shape``, and the shift of flows with
            ``use_dynamic_shifting``.
        variant: part of the weights' file name, such as ``fp16``.

    Raises ModelError, with the supported alternatives, for folders that cannot be loaded.
    """
    folder = Path(folder)
    where, file = parts(folder)
    kind = str(read_json(where / CONFIG).get("_class_name"))
    if kind not in NETWORKS:
        raise ModelError(
            f"{str(where / CONFIG)!r}: network class {kind!r} cannot be loaded; allowed: "
            f"{', '.join(sorted(NETWORKS))}"
        )
    config = read_json(file)
    try:
        settings = read(known(config))
    except ConfigError as error:
        raise ModelError(f"{str(file)!r}: {error}") from error
    adapter = (
        NETWORKS[kind](read_network(where, kind, dtype or torch.float32, variant))
        .eval()
        .requires_grad_(False)
        .to(device)
    )
    return assemble(adapter, settings, config, pair(size), has_autoencoder(folder))


def assemble(
    adapter: Adapter,
    settings: Settings,
    config: Mapping[str, Any],
    size: tuple[int, int] | None = None,
    latent: bool = False,
) -> Pretrained:
    """Build the Denoiser from a network and a scheduler's config. ``latent``: the samples are
    latents of an autoencoder; always true for some networks."""
    shape, schedule, prediction = adapter.shape(size), settings.schedule, settings.prediction
    time: Label = "t"
    precondition = None
    if isinstance(schedule, NoisePath):
        precondition = (VelocityPreconditioning if prediction == "v" else EDMPreconditioning)(
            schedule.sigma_data
        )
        schedule, prediction, time = EDM(*settings.levels), "x0", "c_noise"
    elif isinstance(schedule, Flow):
        tokens = None if shape is None else adapter.tokens((shape[-2], shape[-1]))
        schedule = Flow(shift_of(config, settings, tokens))
        scale = settings.scale * adapter.unit
        time = "t" if scale == 1.0 else _Scaled(scale)
    elif adapter.settings.get("time_embedding_type") == "learned" or settings.round_times:
        time = "index"  # a table
    latent = latent or adapter.latent
    made = wrap(
        adapter,
        schedule,
        prediction,
        time,
        precondition=precondition,
        shape=shape,
        sigma_data=1.0 if latent and precondition is None else None,
        latent=latent,
    )
    return Pretrained(**{f.name: getattr(made, f.name) for f in fields(made)}, settings=settings)


@dataclass(frozen=True)
class _Scaled:
    """Time label ``t -> scale t``."""

    scale: float

    def __call__(self, t: Any) -> Any:
        return self.scale * t


def parts(folder: Path) -> tuple[Path, Path]:
    """Return the network's folder and the scheduler's configuration file. Raises ModelError."""
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        found = [name for name in ("unet", "transformer") if (index.get(name) or [None])[-1]]
        if not found or "scheduler" not in index:
            names = sorted(name for name in index if not name.startswith("_"))
            raise ModelError(
                f"the pipeline {str(folder)!r} has {', '.join(names)}; it must have a unet or a "
                "transformer, and a scheduler"
            )
        return folder / found[0], folder / "scheduler" / SCHEDULER
    for file in (folder / SCHEDULER, folder.parent / "scheduler" / SCHEDULER):
        if file.is_file():
            return folder, file
    raise ModelError(
        f"no {SCHEDULER} in {str(folder)!r} or {str(folder.parent / 'scheduler')!r}: the "
        "noise schedule is unknown"
    )


def has_autoencoder(folder: Path) -> bool:
    """Whether the pipeline ``folder``, or the pipeline whose network lies in ``folder``, lists an
    autoencoder."""
    file = next((d / INDEX for d in (folder, folder.parent) if (d / INDEX).is_file()), None)
    index = {} if file is None else read_json(file)
    classes = {name: str(entry[-1]) for name, entry in index.items() if is_part(entry)}
    return any(
        name in AUTOENCODERS or any(part in kind for part in AUTOENCODER_CLASSES)
        for name, kind in classes.items()
    )


def is_part(entry: Any) -> bool:
    """Whether an entry of ``model_index.json`` is a part that the pipeline has, ``[library,
    class]``; an absent one is ``[null, null]``."""
    return isinstance(entry, list) and bool(entry) and entry[-1] is not None


def known(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``config``; if its class is unknown but it has a table of betas, completed with the
    defaults of DDPMScheduler. Raises ConfigError if such a config rescales the table
    (``snr_shift_scale``)."""
    name = str(config.get("origin") or config.get("_class_name"))
    if name in STYLES or not (config.get("beta_schedule") or config.get("trained_betas")):
        return config
    if config.get("snr_shift_scale") not in (None, 1.0):
        raise ConfigError(
            f"snr_shift_scale={config['snr_shift_scale']!r} of {name} moves the table of "
            "betas, which is not supported"
        )
    return {**class_defaults("DDPMScheduler"), **config, "origin": "DDPMScheduler"}


def read_network(where: Path, kind: str, dtype: torch.dtype, variant: str | None = None) -> Any:
    """Load the network of class ``kind`` from the folder ``where``. Raises ModelError if weights
    are missing or left over."""
    try:
        loader = getattr(import_module("diffusers"), kind).from_pretrained
    except ImportError as error:
        raise ModelError(
            f"{str(where)!r} is a diffusers folder and diffusers is not installed: pip "
            "install diffusers"
        ) from error
    options = {
        "local_files_only": True,
        "use_safetensors": True,
        "low_cpu_mem_usage": find_spec("accelerate") is not None,
    }
    try:
        network, info = loader(
            str(where), torch_dtype=dtype, variant=variant, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"the network in {str(where)!r} cannot be read: {error}{_weights_hint(where, variant)}"
        ) from error
    wrong = [f"{key} is missing" for key in info["missing_keys"]] + [
        f"{key} is not part of it" for key in info["unexpected_keys"]
    ]
    if wrong:
        raise ModelError(
            f"the weights in {str(where)!r} do not fit {kind}: {'; '.join(wrong[:3])} "
            f"({len(wrong)} in all)"
        )
    tensors = network.state_dict()
    for file in where.glob("*.safetensors"):
        if ({variant} if variant else set()) == set(file.name.split(".")[1:-1]):
            check_kinds(tensors, kinds_in(file), file)
    check_finite(tensors, where)
    return network


def _weights_hint(where: Path, variant: str | None) -> str:
    """Hint for weights in ``where`` that cannot be loaded: pickled files to convert, variants to
    name; empty if there is none."""
    pickled = [
        file.name
        for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt")
        for file in where.glob(pattern)
    ]
    hint = (
        f"; {', '.join(pickled)} is pickled and never opened: convert it to safetensors"
        if pickled
        else ""
    )
    others = sorted({file.name.split(".")[1] for file in where.glob("*.*.safetensors")} - {variant})
    if others:
        hint += f"; there are variants: give variant={' or '.join(map(repr, others))}"
    return hint


#: dtypes by their names in a safetensors header
_KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
}
_KINDS |= {
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
}
_KINDS |= {"C64": torch.complex64, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def kinds_in(file: Path) -> dict[str, torch.dtype]:
    """Dtype of each tensor in a safetensors file, read from its header."""
    with safe_open(file, framework="pt") as found:
        keys = list(found.keys())
        return {key: _KINDS.get(found.get_slice(key).get_dtype(), torch.float32) for key in keys}
