"""``load``: a masked language model in a folder of transformers as a denoiser of tokens."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...checks import ArgumentError, floating_dtype
from ...checks import device as checked_device
from ...models.errors import ModelError
from .masked import Masked
from .network import WrappedTokens, logits_of, wrap
from .survival import Survival

#: files that hold a tokenizer's special tokens
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")


class MaskedLanguageModel(nn.Module):
    """A network of transformers that takes ``input_ids``, with the entries of ``cond`` (tensors by
    name, such as ``attention_mask``) as further inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, x: Tensor, cond: Any = None) -> Tensor:
        """Return the logits (B, L, S)."""
        return logits_of(self.network(input_ids=x, **({} if cond is None else dict(cond))))


def load(
    folder: str | Path,
    *,
    keep: Survival | str = "linear",
    mask: int | None = None,
    ban: tuple[int, ...] | None = None,
    length: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> WrappedTokens:
    """Load a masked language model (BERT, RoBERTa, ModernBERT, ESM, ...) from a local folder, on
    the path ``Masked(keep, mask)``.

    Args:
        folder: as ``save_pretrained`` of transformers writes it, with weights in safetensors.
        keep: alpha(t); the network does not know the time.
        mask: the mask token; default: that of the folder's tokenizer.
        ban: tokens that are never drawn; default: the tokenizer's special tokens.
        length: number of positions, if it is to be fixed.
        device, dtype: of the network; default CPU and the dtype of the weights.

    Such a model was trained on about 15 % masks, so its law of whole sequences is only approximate.
    Raises ModelError where transformers is not installed (``pip install "fewstep[text]"``), for a
    folder that holds no such model, and where no mask token is known.
    """
    where, place = Path(folder), checked_device(device)
    floating_dtype(dtype)
    if not (where / "config.json").is_file():
        raise ModelError(
            f"{str(folder)!r}: must be a folder with config.json and model.safetensors"
        )
    if find_spec("transformers") is None:
        raise ModelError('masked language models need transformers: pip install "fewstep[text]"')
    models = import_module("transformers")
    try:
        network = models.AutoModelForMaskedLM.from_pretrained(
            where, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().partition("\n")[0]
        raise ModelError(f"{str(folder)!r} holds no masked language model: {first}") from error
    found, special = _special(models, where) if mask is None or ban is None else (mask, ())
    mask, ban = found if mask is None else mask, special if ban is None else ban
    if mask is None:
        raise ModelError(f"{str(folder)!r} has no tokenizer with a mask token: give mask=")
    size = int(network.config.vocab_size)
    if not 0 <= mask < size:
        raise ArgumentError(f"mask={mask}: must be a token of the network, 0 .. {size - 1}")
    inner = MaskedLanguageModel(network.to(device=place, dtype=dtype)).eval()
    return wrap(inner, Masked(keep, mask), size, length, time=None, ban=ban)


def _special(models: Any, folder: Path) -> tuple[int | None, tuple[int, ...]]:
    """The mask token of the folder's tokenizer, and all its special tokens; (None, ()) without a
    tokenizer."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        return None, ()
    tokenizer = models.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer.mask_token_id, tuple(tokenizer.all_special_ids)
