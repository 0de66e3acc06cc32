"""``wrap``: a network of tokens as a ``DiscreteDenoiser``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...checks import ArgumentError, ArgumentTypeError, choice, integer, shown, takes
from ...models.calls import forward, warn_of_training
from .denoiser import BaseDiscrete, Condition
from .masked import Masked
from .path import DiscretePath

#: what the network is given as its time
TIMES = ("t", "sigma")
PREDICTIONS = ("x0", "score")
Label = str | Callable[[float], float] | None


class WrappedTokens(BaseDiscrete):
    """A network with its path and vocabulary; made by ``wrap``, which checks the arguments."""

    def __init__(
        self,
        network: Any,
        path: DiscretePath,
        vocabulary: int,
        length: int | None,
        time: Label,
        prediction: str,
        ban: Tensor | None,
    ) -> None:
        self.network, self.path, self.vocabulary = network, path, vocabulary
        self.length, self.time, self.prediction, self.ban = length, time, prediction, ban

    @property
    @override
    def time_free(self) -> bool:  # type: ignore[override]
        """True if the network gets no time and predicts x0 of a masked path."""
        return self.time is None and self.prediction == "x0" and self.path.name == "masked"

    @property
    @override
    def device(self) -> torch.device | None:  # type: ignore[override]
        """Device of the weights; None for a function."""
        if not isinstance(self.network, nn.Module):
            return None
        return next((p.device for p in self.network.parameters()), None)

    @override
    def check_cond(self, cond: Condition, batch: int) -> None:
        """Raise ArgumentError for a condition where the network takes no parameter ``cond``."""
        if cond is not None and not takes(forward(self.network), "cond"):
            raise ArgumentError(
                f"cond= was given, but {type(self.network).__name__} has no parameter cond"
            )

    @override
    def x0_logits(self, x: Tensor, t: float, cond: Condition = None) -> Tensor:
        if self.prediction == "score":
            return self.path.x0_of_scores(self._call(x, t, cond).exp(), x, t).log()
        found = self._call(x, t, cond)
        if found.shape[-1] == self.vocabulary + 1 and self._mask_is_last:
            found = found[..., :-1]
        if self.ban is None or found.shape[-1] != self.vocabulary:
            return found
        return found.masked_fill(self.ban.to(found.device), -math.inf)

    @property
    def _mask_is_last(self) -> bool:
        return isinstance(self.path, Masked) and self.path.mask in (None, self.vocabulary)

    @override
    def log_scores(self, x: Tensor, t: float, cond: Condition = None) -> Tensor:
        return self._call(x, t, cond)

    def _call(self, x: Tensor, t: float, cond: Condition) -> Tensor:
        given: list[Tensor] = [x]
        if self.time is not None:
            given.append(torch.full((len(x),), self._label(t), device=x.device))
        output = self.network(*given) if cond is None else self.network(*given, cond=cond)
        return logits_of(output)

    def _label(self, t: float) -> float:
        if callable(self.time):
            return float(self.time(t))
        return t if self.time == "t" else -math.log(self.path.finite(t, "logarithms of alpha"))


def logits_of(output: Any) -> Tensor:
    """The logits in a network's output: a tensor, its ``.logits``, or the first item of a tuple.
    Raises ArgumentTypeError for other outputs."""
    found = getattr(output, "logits", output)
    found = found[0] if isinstance(found, (tuple, list)) and found else found
    if not isinstance(found, Tensor):
        raise ArgumentTypeError(
            f"the network returned {type(output).__name__}; allowed: a tensor (batch, length, "
            "tokens), an object with such .logits, or a tuple that begins with it"
        )
    return found


def wrap(
    network: Callable[..., Any],
    path: DiscretePath,
    vocabulary: int,
    length: int | None = None,
    *,
    time: Label = "t",
    prediction: str = "x0",
    ban: Sequence[int] = (),
) -> WrappedTokens:
    """Return a network as a denoiser of tokens, for ``fewstep.sample``.

    Args:
        network: ``network(x)`` or ``network(x, time)``, with ``cond=cond`` where a condition is
            given; x (B, L) int64, time (B,). It returns logits (B, L, S), an object with
            ``.logits``, or a tuple. Logits (B, L, S + 1) with the mask last are cut.
        path: ``Masked`` or ``Uniform``.
        vocabulary: number S of tokens of the data.
        length: number of positions, if it is fixed.
        time: what the network gets: ``t``; ``sigma``, ``-log alpha(t)``; a function of t; or None,
            no time at all.
        prediction: ``x0``, logits of the clean tokens; ``score``, logarithms of the concrete scores
            (B, L, K).
        ban: tokens that are never drawn (padding, separators), as logits -inf.

    Raises ArgumentError or ArgumentTypeError for other arguments. A network in training mode whose
    output then depends on chance or on the batch gives a warning.
    """
    if not callable(network):
        raise ArgumentTypeError(f"network={shown(network)}: must be a function or a module")
    if not isinstance(path, DiscretePath):
        raise ArgumentTypeError(f"path={shown(path)}: must be Masked(...) or Uniform(...)")
    vocabulary = integer("vocabulary", vocabulary, 2)
    path.states(vocabulary)
    if time is not None and not callable(time):
        choice("time", time, TIMES)
    choice("prediction", prediction, PREDICTIONS)
    if prediction == "score":
        path.finite(1.0, "concrete scores")
        if len(ban) > 0:
            raise ArgumentError("ban= is for networks that predict x0, not the score")
    if isinstance(network, nn.Module):
        warn_of_training(network)
    size = None if length is None else integer("length", length, 1)
    return WrappedTokens(
        network, path, vocabulary, size, time, prediction, _banned(ban, vocabulary)
    )


def _banned(ban: Sequence[int], vocabulary: int) -> Tensor | None:
    """True (S,) at banned tokens; None if there are none."""
    tokens = sorted({integer("ban", token, 0, vocabulary - 1) for token in ban})
    if len(tokens) >= vocabulary:
        raise ArgumentError(f"ban= holds all {vocabulary} tokens: none could be drawn")
    return (
        torch.zeros(vocabulary, dtype=torch.bool).index_fill(
            0, torch.tensor(tokens, dtype=torch.int64), True
        )
        if tokens
        else None
    )
