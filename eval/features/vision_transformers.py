"""DINOv2 and CLIP as feature extractors, from local folders written by transformers; nothing is
downloaded.

DINOv2 gives the class token after the last normalisation (Oquab et al. 2023, arXiv 2304.07193;
FD-DINOv2: Stein et al. 2023, arXiv 2306.04675), CLIP the projected image embedding (Radford et al.
2021, arXiv 2103.00020; CMMD: arXiv 2401.09603). The rule ``processor`` resizes, crops and
normalises according to the folder's ``preprocessor_config.json``, and the provenance lists these
steps; any other rule resizes the whole image to the network's size and keeps that file's mean and
standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models.errors import ModelError
from ...models.weights import CONFIG, read_json
from ..errors import ScoreError
from .extractors import Device, FeatureExtractor, module_hash, placed
from .resizing import check_rule, network_input

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor"
#: kind -> accepted ``model_type`` values of config.json
TYPES = {"dinov2": ("dinov2", "dinov2_with_registers"), "clip": ("clip", "clip_vision_model")}
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


def vision_extractor(
    kind: str,
    folder: str | Path,
    rule: str = PROCESSOR,
    quantize: str = "round",
    logits: bool = False,
    device: Device = None,
) -> FeatureExtractor:
    """The extractor ``kind`` (``dinov2`` or ``clip``) from ``folder``, for images of any size, grey
    or RGB.

    Raises ModelError where the folder, a file in it, or transformers is missing, and where the
    folder holds another model; ScoreError for an unknown rule, and for ``logits``, since these
    networks have none.
    """
    check_rule(rule, (PROCESSOR,))
    if logits:
        raise ScoreError(f"{kind} has no class logits, so no Inception Score")
    folder = _checked_folder(kind, Path(folder))
    network, processor = _network(kind, folder), _processor(folder)
    digest, where = module_hash(network), placed(network, device)
    shape = _size(processor)
    mean, std = (
        torch.tensor(list(values)).view(1, -1, 1, 1)
        for values in (processor.image_mean, processor.image_std)
    )

    def prepare(image: Tensor) -> Tensor:
        if rule != PROCESSOR:
            return (network_input(image, 3, shape, rule).cpu() / 255.0 - mean) / std
        colour = image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image
        pictures = [picture.permute(1, 2, 0).cpu().numpy() for picture in colour]
        found: Tensor = processor(
            images=pictures, return_tensors="pt", input_data_format="channels_last"
        )["pixel_values"]
        return found

    read: Callable[[Any], Tensor] = (
        (lambda out: out.image_embeds)
        if kind == "clip"
        else (lambda out: out.last_hidden_state[:, 0])
    )
    said = described(processor) if rule == PROCESSOR else rule
    return FeatureExtractor(
        lambda image: read(network(pixel_values=prepare(image).to(where))),
        kind,
        digest,
        None,
        said,
        quantize,
        where,
    )


def _checked_folder(kind: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelError(
            f"no folder {str(folder)!r} for {kind}: give one that save_pretrained wrote; "
            "nothing is ever downloaded"
        )
    found = read_json(folder / CONFIG).get("model_type")
    if found not in TYPES[kind]:
        raise ModelError(
            f"{str(folder / CONFIG)!r} describes model_type {found!r}; {kind} is "
            f"{' or '.join(TYPES[kind])}"
        )
    read_json(folder / PREPROCESSOR)
    return folder


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ModelError(
            f"DINOv2 and CLIP need transformers (pip install transformers): {error}"
        ) from error
    return transformers


def _network(kind: str, folder: Path) -> nn.Module:
    transformers = _transformers()
    maker = transformers.CLIPVisionModelWithProjection if kind == "clip" else transformers.AutoModel
    try:
        with _silent(transformers.utils.logging):
            made, info = maker.from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # transformers lets many kinds through
        raise ModelError(
            f"{str(folder)!r} cannot be read as {kind}: "
            f"{str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{str(folder)!r} lacks {len(missing)} weights of {kind}, first {missing[:3]}"
        )
    network: nn.Module = made.float().eval().requires_grad_(False)
    return network


@contextmanager
def _silent(logging: Any) -> Iterator[None]:
    """Silence transformers: no progress bar, no report of the unused text weights of CLIP."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _processor(folder: Path) -> Any:
    """The folder's image processor with the Pillow backend, so that the pixels do not depend on
    whether torchvision is installed."""
    transformers = _transformers()
    how: dict[str, Any] = (
        {"backend": "pil"}
        if int(transformers.__version__.split(".")[0]) >= 5
        else {"use_fast": False}
    )
    try:
        return transformers.AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, **how
        )
    except Exception as error:
        raise ModelError(
            f"{str(folder / PREPROCESSOR)!r} cannot be read: "
            f"{str(error).splitlines()[0] if str(error) else error!r}"
        ) from error


def _size(processor: Any) -> tuple[int, int]:
    """Height and width of the network's input."""
    size = _plain(
        processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
    )
    side = size.get("shortest_edge")
    return (side, side) if side else (size["height"], size["width"])


def _plain(size: Any) -> dict[str, int]:
    return {key: int(size[key]) for key in ("shortest_edge", "height", "width") if size.get(key)}


def described(processor: Any) -> str:
    """Text listing the processor's steps, for the provenance."""
    steps = []
    if getattr(processor, "do_resize", False):
        size = _plain(processor.size)
        target = (
            f"shortest edge {size['shortest_edge']}"
            if "shortest_edge" in size
            else f"{size['height']}x{size['width']}"
        )
        steps.append(
            f"{target} {RESAMPLE.get(int(processor.resample), processor.resample)} (Pillow, "
            "grey levels)"
        )
    if getattr(processor, "do_center_crop", False):
        steps.append("centre crop {}x{}".format(*_size(processor)))
    if getattr(processor, "do_normalize", False):
        steps.append(
            f"mean {[round(v, 6) for v in processor.image_mean]} std "
            f"{[round(v, 6) for v in processor.image_std]}"
        )
    return "processor: " + ", ".join(steps)
