"""Calls of a network: detects whether it takes a condition, finds the tensor in its output, and
warns if the network is in training mode."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from ..checks import ArgumentTypeError
from .denoiser import Condition


@dataclass(frozen=True)
class Passing:
    """How a condition is passed to a network.

    ``style``: "positional", "keyword" or "none". ``always``: pass it even if it is None.
    """

    style: str
    always: bool


def passing(network: Callable[..., Any]) -> Passing:
    """Read from the signature how ``network`` takes a condition besides ``(x, label)``.

    A parameter called ``cond`` is always passed, by name. Otherwise a third positional parameter
    without a default, or with the default None, is always passed, by position. With ``*args``,
    ``**kwargs`` or a signature that cannot be read, a condition is passed only if there is one.
    """
    try:
        parameters = list(inspect.signature(forward(network)).parameters.values())
    except (TypeError, ValueError):
        return Passing("positional", False)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.name == "cond" and p.kind is not p.POSITIONAL_ONLY for p in named[2:]) or any(
        p.name == "cond" and p.kind is p.KEYWORD_ONLY for p in parameters
    ):
        return Passing("keyword", True)
    if len(named) > 2 and named[2].default in (inspect.Parameter.empty, None):
        return Passing("positional", True)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return Passing("positional", False)
    return (
        Passing("keyword", False)
        if any(p.kind is p.VAR_KEYWORD for p in parameters)
        else Passing("none", False)
    )


def forward(network: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function whose signature applies: a module's ``forward``, inside compilation and
    data-parallel wrappers."""
    if not isinstance(network, torch.nn.Module):
        return network
    for shell in ("_orig_mod", "module"):
        inner = getattr(network, shell, None)
        if isinstance(inner, torch.nn.Module) and type(network).__module__.startswith("torch."):
            return forward(inner)
    return network.forward


def first_tensor(output: Any) -> Tensor:
    """Return the tensor in a network's output: the output itself, its ``.sample``, or the first
    item of a tuple or list. Raises TypeError for other outputs."""
    if isinstance(output, Tensor):
        return output
    inner = (
        output[0]
        if isinstance(output, (tuple, list)) and output
        else getattr(output, "sample", None)
    )
    if isinstance(inner, Tensor):
        return inner
    raise ArgumentTypeError(
        f"the network returned {type(output).__name__}; allowed: a tensor, an object with a "
        "tensor .sample, or a tuple or list "
        "whose first item is a tensor"
    )


def copied(cond: Condition) -> Condition:
    """Return ``cond`` with copies of its tensors."""
    if isinstance(cond, Mapping):
        return {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in cond.items()
        }
    return cond.clone() if isinstance(cond, Tensor) else cond


#: networks in training mode that were inspected already, so that each is reported once
_LOOKED_AT: WeakSet[torch.nn.Module] = WeakSet()
_RANDOM = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._BatchNorm)


def warn_of_training(network: torch.nn.Module) -> None:
    """Warn (UserWarning, once per network) if the network is in training mode and that changes its
    output.

    Reported are modules in training mode that are a dropout with p > 0 (random output) or a batch
    norm (the output depends on the batch, and the running statistics change). Only modules are
    inspected: a network that calls ``torch.nn.functional.dropout(x, training=self.training)`` in
    its ``forward`` is not detected. Call ``network.eval()`` yourself.
    """
    if torch.compiler.is_compiling() or network in _LOOKED_AT:
        return
    _LOOKED_AT.add(network)
    found = (
        m
        for m in network.modules()
        if isinstance(m, _RANDOM) and m.training and getattr(m, "p", 1.0) > 0.0
    )
    part = next(found, None)
    if part is not None:
        warnings.warn(
            f"the network {type(network).__name__} is in training mode and has "
            f"{type(part).__name__}: its outputs are random or depend "
            "on the batch; call network.eval() before sampling",
            UserWarning,
            stacklevel=3,
        )
