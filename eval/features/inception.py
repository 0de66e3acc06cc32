"""InceptionV3 of FID: TensorFlow's graph of 2015-12-05 in torch-fidelity's port, with weights from
a local file.

Its average pools do not count padding, its last block uses a maximum pool, and it has 1008 outputs:
torchvision's InceptionV3 is a different network (Heusel et al. 2017, arXiv 1706.08500;
torch-fidelity, ``weights-inception-2015-12-05-6726825d.pth``). Grey levels enter as
``(x - 128) / 128``; with the rule ``torch`` as ``x / 127.5 - 1``, which is pytorch-fid's
preprocessing, and the extractor is then named ``inception-pytorch-fid``.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...models.errors import ModelError
from .extractors import Device, FeatureExtractor, module_hash, placed, to_signed
from .resizing import check_rule, network_input

SIDE = 299


def inception_extractor(
    path: str | Path,
    rule: str = "tf",
    quantize: str = "round",
    logits: bool = False,
    device: Device = None,
) -> FeatureExtractor:
    """The 2048 pooled features of images of any size, grey or RGB; with ``logits`` the 1008 logits
    without bias, the input of the Inception Score.

    Raises ModelError where the file or torch-fidelity is missing, or the file holds another
    network's weights; ScoreError for an unknown rule.
    """
    check_rule(rule)
    network = inception_network(path)
    digest, where = module_hash(network), placed(network, device)
    *stages, last = network.children()
    weight: Any = last.weight

    def compute(image: Tensor) -> Tensor:
        x = network_input(image, 3, (SIDE, SIDE), rule).to(image.device)
        x = to_signed(x) if rule == "torch" else (x - 128.0) / 128.0
        for stage in stages:
            x = stage(x)
        pooled = x.flatten(1)
        return pooled @ weight.T if logits else pooled

    name = ("inception-pytorch-fid" if rule == "torch" else "inception") + (
        "-logits" if logits else ""
    )
    return FeatureExtractor(compute, name, digest, None, rule, quantize, where)


def inception_network(path: str | Path) -> nn.Module:
    """torch-fidelity's network with the weights of ``path``, in evaluation mode."""
    state = read_state(path)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ModelError(
            f"the Inception network needs torch-fidelity (pip install torch-fidelity): {error}"
        ) from error
    # torch-fidelity unpickles the file it is given, so it gets a copy that holds tensors alone
    plain = io.BytesIO()
    torch.save(state, plain)
    plain.seek(0)
    try:
        made: nn.Module = FeatureExtractorInceptionV3(
            "inception", ["2048"], feature_extractor_weights_path=plain
        )
    except RuntimeError as error:
        what = "; ".join(str(error).split("\n")[1:3]).replace("\t", "")
        raise ModelError(
            f"{str(path)!r} is not a state dict of the 2015-12-05 InceptionV3: {what[:300]}"
        ) from error
    return made.eval().requires_grad_(False)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a PyTorch state dict, read with
    ``weights_only=True``. Raises ModelError."""
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ModelError(
            f"{str(path)!r} {what}: give a file of weights (.pth or .safetensors); none is "
            "ever downloaded"
        )
    try:
        found = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (
        pickle.UnpicklingError,
        SafetensorError,
        BadZipFile,
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        KeyError,
    ) as error:
        raise ModelError(
            f"{str(path)!r} cannot be read as weights alone: "
            f"{str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    if (
        not isinstance(found, Mapping)
        or not found
        or not all(isinstance(v, Tensor) for v in found.values())
    ):
        raise ModelError(
            f"{str(path)!r} holds a {type(found).__name__}, not a state dict (names and tensors)"
        )
    return dict(found)
