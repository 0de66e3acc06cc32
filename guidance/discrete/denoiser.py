"""``DiscreteDenoiser``, a network (or an exact model) that predicts clean tokens, and ``x0_probs``,
its checked prediction.

    den.x0_logits(x, t, cond)    (B, L, S), logits of P(x0_l = i | x_t = x) for the S tokens of data

for the state ``x``, int64 (B, L), at time t in [0, 1], a number. A state of a ``Masked`` path may
hold the mask token; logits of the mask are never read, and a revealed token is copied (the rules
"SUBS" of Sahoo et al. 2024, arXiv 2406.07524, sec. 3.2.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ...checks import ArgumentError, ArgumentTypeError, FewstepError, described, members
from .masked import Masked
from .path import DiscretePath

#: condition of a network, batch first; None is unconditional
Condition = Tensor | Mapping[str, Tensor] | None
#: members of a denoiser of tokens
MEMBERS = ("path", "vocabulary", "length", "x0_logits")
#: members that a user's object may have too
OPTIONAL = (
    "device", "time_free", "classes", "prediction", "log_scores", "check_cond", "select",
)  # fmt: skip


class TokenError(FewstepError, ArithmeticError):
    """A network's prediction is no law of tokens: NaN, or no token has a probability."""


@runtime_checkable
class DiscreteDenoiser(Protocol):
    """Protocol of a model of token sequences."""

    @property
    def path(self) -> DiscretePath:
        """Path that the network was trained on."""

    @property
    def vocabulary(self) -> int:
        """Number S of tokens of the data, the mask token left out unless it lies among them."""

    @property
    def length(self) -> int | None:
        """Number of positions; None if any length is accepted."""

    def x0_logits(self, x: Tensor, t: float, cond: Condition = None) -> Tensor:
        """Return logits (B, L, S) of the clean tokens for the state ``x`` (B, L) at ``t``."""


class BaseDiscrete:
    """Base class with a default for every member but ``path``, ``vocabulary`` and ``x0_logits``.

    Attributes:
        device: of the network; None: that of the state.
        time_free: True if the prediction does not depend on t.
        prediction: ``x0``, or ``score`` where ``log_scores`` is the network's own output.
        classes: number of class labels, 0 for none.
    """

    path: DiscretePath
    vocabulary: int
    length: int | None = None
    device: torch.device | None = None
    time_free: bool = False
    prediction: str = "x0"
    classes: int = 0

    def x0_logits(self, x: Tensor, t: float, cond: Condition = None) -> Tensor:
        """Return logits (B, L, S) of the clean tokens for the state ``x`` (B, L) at ``t``."""
        raise NotImplementedError

    def log_scores(self, x: Tensor, t: float, cond: Condition = None) -> Tensor:
        """Return the log of the concrete scores (B, L, K), for ``prediction="score"``."""
        raise NotImplementedError

    def check_cond(self, cond: Condition, batch: int) -> None:
        """Raise the error that ``x0_logits`` would raise for this condition; the default accepts
        everything."""

    def select(self, rows: Tensor) -> BaseDiscrete:
        """Return the model for the rows of its batch; ``self`` if it holds no data of single
        rows."""
        return self


class _Completed(BaseDiscrete):
    """A user's object with the defaults of BaseDiscrete."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.path, self.vocabulary, self.length = given.path, given.vocabulary, given.length
        for name in OPTIONAL:
            if hasattr(given, name):
                setattr(self, name, getattr(given, name))

    def x0_logits(self, x: Tensor, t: float, cond: Condition = None) -> Tensor:
        """Return the logits of the user's object."""
        found: Tensor = self.given.x0_logits(x, t, cond)
        return found


def complete(denoiser: Any) -> BaseDiscrete:
    """Return ``denoiser`` with all members of BaseDiscrete: itself, or in an adapter. Raises
    ArgumentTypeError if it is no model of tokens, and ArgumentError for a path without its
    vocabulary."""
    members(
        "denoiser", denoiser, MEMBERS, "a model of tokens, such as guidance.discrete.wrap makes"
    )
    if not isinstance(denoiser.path, DiscretePath):
        raise ArgumentTypeError(
            f"denoiser.path={denoiser.path!r}: must be Masked(...) or Uniform(...)"
        )
    denoiser.path.states(denoiser.vocabulary)
    return denoiser if isinstance(denoiser, BaseDiscrete) else _Completed(denoiser)


def x0_probs(denoiser: BaseDiscrete, x: Tensor, t: float, cond: Condition = None) -> Tensor:
    """The law of the clean tokens ``p`` (B, L, K), in float32 or better: one call of the network.

    K is the number of tokens of a state; the mask has probability 0 and a revealed token of a
    masked path 1. Raises ArgumentError for logits of another shape, and TokenError for NaN and for
    a position where no token has a probability.
    """
    p = law_of_x0(denoiser, x, t, cond)
    check_laws(p, t)
    return p


def law_of_x0(
    denoiser: BaseDiscrete,
    x: Tensor,
    t: float,
    cond: Condition = None,
    scores: Tensor | None = None,
) -> Tensor:
    """``x0_probs`` without the check of its values, which waits for the device. ``scores``: those
    of the network, if they were read already."""
    path, size = denoiser.path, denoiser.path.states(denoiser.vocabulary)
    if denoiser.prediction == "score":
        scores = read_scores(denoiser, x, t, cond) if scores is None else scores
        p = path.x0_of_scores(scores, x, t)
    else:
        logits = denoiser.x0_logits(x, t, cond)
        check_output("logits", logits, x, denoiser.vocabulary)
        wide = torch.promote_types(logits.dtype, torch.float32)
        p = torch.softmax(_without_mask(path, logits.to(wide), size), dim=-1)
    if isinstance(path, Masked):
        known = (x != path.mask_of(size))[..., None]
        # one-hot where the token is known; at a mask this writes the 0 of the mask token
        p = p.masked_fill(known, 0.0).scatter(-1, x[..., None], known.to(p))
    return p


def _without_mask(path: DiscretePath, logits: Tensor, size: int) -> Tensor:
    """Logits (B, L, K) in which the mask has -inf."""
    if not isinstance(path, Masked):
        return logits
    if size > logits.shape[-1]:
        return torch.nn.functional.pad(logits, (0, 1), value=-torch.inf)
    banned = torch.arange(size, device=logits.device) == path.mask_of(size)
    return logits.masked_fill(banned, -torch.inf)


def read_scores(denoiser: BaseDiscrete, x: Tensor, t: float, cond: Condition = None) -> Tensor:
    """Concrete scores (B, L, K) of a network that predicts their logarithms."""
    found = denoiser.log_scores(x, t, cond)
    check_output("scores", found, x, denoiser.path.states(denoiser.vocabulary))
    return found.to(torch.promote_types(found.dtype, torch.float32)).exp()


def check_output(what: str, found: Any, x: Tensor, width: int) -> None:
    """Raise ArgumentError unless ``found`` is a floating point tensor (B, L, width)."""
    wanted = (*x.shape, width)
    if (
        not isinstance(found, Tensor)
        or not found.is_floating_point()
        or tuple(found.shape) != wanted
    ):
        raise ArgumentError(
            f"the network's {what} must be floating point {wanted}, got {described(found)}"
        )


def lawless(p: Tensor) -> Tensor:
    """True (B, L) where ``p`` (B, L, K) is NaN, which is also the softmax of logits that are all
    -inf, or where its sum is not 1."""
    return ~((p.sum(-1) - 1.0).abs() < 1e-3)


def check_laws(p: Tensor, t: float) -> None:
    """Raise TokenError, which names the rows, where ``p`` (B, L, K) is ``lawless``."""
    bad = lawless(p)
    if bool(bad.any()):
        rows = bad.any(1).nonzero().flatten().tolist()
        where = bad[rows[0]].nonzero().flatten().tolist()
        raise TokenError(
            f"the network's prediction at t={t:.6g} is no law of tokens (NaN, or no token has a "
            f"probability), samples {rows[:8]}, positions {where[:8]} of the first"
        )
