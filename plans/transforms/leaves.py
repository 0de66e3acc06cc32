"""Leaf copies of a network's input and condition, which one call is differentiated by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

Cond = Tensor | Mapping[str, Tensor] | None


class Leaves:
    """Inputs of one network call without history.

    Attributes:
        x: copy of the state or the network's input.
        cond: the condition with copies of the tensors that gradients are wanted for.
        all: x, these copies, and the parameters.
    """

    def __init__(
        self, x: Tensor, cond: Cond, wanted: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> None:
        self.x = x.detach().clone().requires_grad_()
        copies = {id(c): c.detach().clone().requires_grad_() for c in wanted}
        given: Any = cond
        if isinstance(given, Mapping):
            given = {key: copies.get(id(value), value) for key, value in given.items()}
        elif given is not None:
            given = copies.get(id(given), given)
        self.cond: Cond = given
        self.all = [self.x, *copies.values(), *parameters]


def wanted(cond: Cond) -> list[Tensor]:
    """The tensors of a condition that require grad, each once."""
    values = cond.values() if isinstance(cond, Mapping) else [] if cond is None else [cond]
    return list({id(v): v for v in values if isinstance(v, Tensor) and v.requires_grad}.values())
