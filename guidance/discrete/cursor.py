"""``DiscreteCursor``, a run of a sampler of tokens that its caller controls, and ``run_tokens``,
which drives one to its end.

    cursor = DiscreteCursor(den, method("ancestral", den, steps=8), x, noise)
    while not cursor.done:
        law = cursor.transition()        # of the next state: .sample, .log_prob, .probs
        cursor.advance()                 # draws it; or advance(x_next)

``select(rows)`` re-orders or repeats the states with all that belongs to them. The uniform numbers
of later draws belong to the place in the batch, so copies of one state part at the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...checks import ArgumentError, choice, described, integer
from ...fused.noise.seeded import GUIDANCE_STREAM
from ...fused.noise.uniforms import SeededUniforms
from .denoiser import (
    BaseDiscrete,
    Condition,
    TokenError,
    check_laws,
    complete,
    law_of_x0,
    lawless,
    read_scores,
)
from .masked import Masked
from .registry import Now, TokenSampler, TokenSamplerError, check_run, get, make_options
from .survival import check_time
from .transition import DiscreteTransition, draws

#: fields of uniform numbers that one step may draw
FIELDS = 2
#: how ``clean`` decodes
MODES = ("sample", "argmax", "soft")


@dataclass(frozen=True)
class Method:
    """A sampler with its options and times, checked for one path. ``times`` is empty for a sampler
    that picks its steps."""

    sampler: TokenSampler
    options: Any
    times: tuple[float, ...]

    @property
    def has_log_prob(self) -> bool:
        """True if every step has an exact log-probability."""
        return not self.sampler.log_prob(self.options)

    def calls(self, length: int) -> int:
        """The number of network calls at most."""
        return self.sampler.calls(len(self.times) - 1, length)


def method(
    name: str,
    denoiser: Any,
    *,
    steps: int | None = None,
    times: Sequence[float] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Method:
    """Return the sampler ``name`` for a model of tokens, with its ``options``.

    ``steps``: equal steps from t = 1 to t = 0. ``times``: the times themselves, falling, with the
    last one 0. Raises TokenSamplerError or ArgumentError for what the sampler or the path cannot
    use.
    """
    denoiser, sampler = complete(denoiser), get(name)
    chosen = make_options(sampler, options or {})
    if sampler.free:
        _check_free(sampler, denoiser, steps, times)
        check_run(sampler, denoiser.path, (), chosen)
        return Method(sampler, chosen, ())
    grid = grid_of(steps, times)
    check_run(sampler, denoiser.path, grid, chosen)
    return Method(sampler, chosen, grid)


def _check_free(sampler: TokenSampler, denoiser: BaseDiscrete, steps: Any, times: Any) -> None:
    if steps is not None or times is not None:
        raise TokenSamplerError(
            f"{sampler.name} picks the number of steps by its options, at most one per position: "
            "leave out steps=, nfe= and times="
        )
    if not denoiser.time_free:
        raise TokenSamplerError(
            f"{sampler.name} has no times, so the model must not depend on t: "
            "guidance.discrete.wrap(..., time=None)"
        )


def grid_of(steps: int | None, times: Sequence[float] | None) -> tuple[float, ...]:
    """The times of a run, falling to 0. Raises ArgumentError for zero steps, both or none of the
    arguments, times that do not fall, or that do not end at 0."""
    if (steps is None) == (times is None):
        raise ArgumentError(f"steps={steps!r} and times={times!r}: give one of them")
    if times is None:
        n = integer("steps", steps, 1)
        return tuple((n - k) / n for k in range(n + 1))
    try:
        found = tuple(check_time(t, "times") for t in times)
    except TypeError:
        raise ArgumentError(f"times must be numbers, got {described(times)}") from None
    if len(found) < 2 or any(s >= t for t, s in pairwise(found)):
        raise ArgumentError(f"times={list(found)[:8]}: must be at least two falling numbers")
    if found[-1] != 0.0:
        raise ArgumentError(f"times end at {found[-1]!r}: the last one must be 0, the data")
    return found


class DiscreteCursor:
    """A run of tokens, from ``x`` (B, L), the state at the first time.

    Attributes:
        x: the current state, (B, L), int64.
        index: number of steps done.
        nfe, rows: network calls made, and rows that the network received in them.
    """

    def __init__(
        self,
        denoiser: Any,
        how: Method,
        x: Tensor,
        noise: SeededUniforms,
        cond: Condition = None,
        *,
        batch: int | None = None,
        reuse: bool = True,
        grad: bool = False,
    ) -> None:
        """``noise``: one seed per row. ``batch``: the most rows of one network call. ``reuse``: use
        a prediction again for an unchanged batch, where the model does not depend on t. ``grad``:
        laws have gradients, where they are enabled. Raises ArgumentError for tokens that are none,
        and another number of seeds."""
        checks.instance("how", how, Method, "a sampler, as discrete.method makes it")
        self.denoiser = complete(denoiser)
        self.how, self.noise, self.cond = how, noise, cond
        self.batch, self.reuse, self.grad = batch, reuse, grad
        path, size = self.denoiser.path, self.denoiser.vocabulary
        self.x = path.check_tokens(x, size)
        if len(noise.seeds) != len(x):
            raise ArgumentError(f"{len(noise.seeds)} seeds were given, the batch is {len(x)}")
        self.denoiser.check_cond(cond, len(x))
        self.index = self.nfe = self.rows = 0
        masked = isinstance(path, Masked)
        self.given = self.x != self._mask if masked else torch.zeros_like(self.x, dtype=torch.bool)
        self.certainty = (
            torch.ones(self.x.shape, device=x.device) if how.sampler.remembers else None
        )
        self._read: tuple[Tensor, Tensor | None] | None = None
        self._law: DiscreteTransition | None = None
        self._bad: Tensor | None = None

    @property
    def _mask(self) -> int:
        path = self.denoiser.path
        assert isinstance(path, Masked)
        return path.mask_of(path.states(self.denoiser.vocabulary))

    @property
    def t(self) -> float:
        """Time of the current state. Of a sampler that picks its steps: 1 less the share of steps
        done, which the model does not read."""
        if self.how.times:
            return self.how.times[self.index]
        return 0.0 if self.done else 1.0 - self.index / self.x.shape[1]

    @property
    def s(self) -> float:
        """Time of the next state. Raises ArgumentError at the end."""
        if self.done:
            raise ArgumentError("the run is over; its state is x")
        if self.how.times:
            return self.how.times[self.index + 1]
        return max(0.0, 1.0 - (self.index + 1) / self.x.shape[1])

    @property
    def done(self) -> bool:
        """True at t = 0; for a sampler that picks its steps, when no mask is left (this waits for
        the device)."""
        if self.how.times:
            return self.index == len(self.how.times) - 1
        return not bool((self.x == self._mask).any())

    def probs(self) -> Tensor:
        """The law ``p`` of the clean tokens given the current state, (B, L, K). The network is
        called once per state; where the model does not depend on t, not again for an unchanged
        batch."""
        return self._predicted()[0]

    def _predicted(self) -> tuple[Tensor, Tensor | None]:
        if self._read is None:
            self.nfe, self.rows = self.nfe + 1, self.rows + len(self.x)
            size = len(self.x) if self.batch is None else min(self.batch, len(self.x))
            with torch.set_grad_enabled(self.grad and torch.is_grad_enabled()):
                parts = [self._ask(a, a + size) for a in range(0, len(self.x), size)]
            self._read = parts[0] if len(parts) == 1 else _joined(parts)
        return self._read

    def _ask(self, first: int, last: int) -> tuple[Tensor, Tensor | None]:
        """One network call, for the rows ``first`` .. ``last - 1``: the law, and the network's
        scores."""
        own, x, cond, scores = self.denoiser, self.x, self.cond, None
        if last - first < len(x):
            rows = torch.arange(first, min(last, len(x)), device=x.device)
            own, x, cond = complete(own.select(rows)), x[rows], _rows_of(cond, rows)
        if own.prediction == "score":
            scores = read_scores(own, x, self.t, cond)
        p = law_of_x0(own, x, self.t, cond, scores)
        if self._checks_at_once:
            check_laws(p, self.t)
        else:
            bad = lawless(p).any()
            self._bad = bad if self._bad is None else self._bad | bad
        return p, scores

    @property
    def _checks_at_once(self) -> bool:
        """Whether a prediction is checked when it is made; on accelerators that would wait for the
        device, and ``close`` checks them all."""
        return self.x.device.type == "cpu"

    def close(self) -> Tensor:
        """The last state, (B, L). Raises TokenError if a prediction of the run was no law of
        tokens."""
        if self._bad is not None and bool(self._bad):
            raise TokenError(
                "a prediction of the network was no law of tokens (NaN, or no token has a "
                "probability); on the CPU the error names the samples and the time"
            )
        return self.x

    def transition(self) -> DiscreteTransition:
        """The law of the next state."""
        if self._law is None:
            s = self.s
            probs, scores = self._predicted()
            now = Now(
                self.denoiser.path, self.x, self.t, s, probs, self.given, self.certainty, scores
            )
            self._law = self.how.sampler.step(now, self.how.options)
        return self._law

    def advance(self, x_next: Tensor | None = None) -> None:
        """Make a step: to ``x_next`` (B, L), or to a draw from ``transition()``."""
        if x_next is None:
            x_next = self.transition().sample(self.uniforms)
        else:
            x_next = self.denoiser.path.check_tokens(x_next, self.denoiser.vocabulary, "x_next")
            if x_next.shape != self.x.shape:
                raise ArgumentError(
                    f"x_next has shape {tuple(x_next.shape)}, the state {tuple(self.x.shape)}"
                )
        if self.done:
            raise ArgumentError("the run is over; its state is x")
        if self.certainty is not None:
            self._remember(x_next)
        if not (self._reusable and torch.equal(x_next, self.x)):
            self._read = None
        self.x, self.index, self._law = x_next, self.index + 1, None

    def uniforms(self, k: int) -> Tensor:
        """The ``k``-th field of uniform numbers (B, L) of the current step."""
        return self.noise(FIELDS * self.index + k, self.x.shape[1:], self.x.device)

    @property
    def _reusable(self) -> bool:
        """Whether the prediction may serve an unchanged batch. On accelerators the comparison waits
        for the device, so it is made only where a step without a change is likely."""
        long = len(self.how.times) - 1 > self.x.shape[1]
        return self.reuse and self.denoiser.time_free and (self.x.device.type == "cpu" or long)

    def _remember(self, x_next: Tensor) -> None:
        """Keep the probability with which each token was drawn."""
        assert self.certainty is not None
        chance = self.probs().gather(-1, x_next[..., None])[..., 0].to(self.certainty)
        new = (self.x == self._mask) & (x_next != self._mask)
        self.certainty = torch.where(new, chance, self.certainty)

    def share(self, cond: Condition, samples: Tensor) -> None:
        """Give row i the condition, and the data in the model, of sample ``samples[i]``."""
        self.denoiser = complete(self.denoiser.select(samples))
        self.cond = _rows_of(cond, samples)

    def select(self, rows: Tensor, noise: SeededUniforms | None = None) -> None:
        """Go on from the states ``rows`` (integers): the state, its prediction and condition move;
        the noise stays, or is ``noise``, which another number of rows needs. Raises ArgumentError
        for rows without a seed."""
        noise = self.noise if noise is None else noise
        if rows.shape != (len(noise.seeds),):
            raise ArgumentError(f"rows must be {(len(noise.seeds),)}, got {described(rows)}")
        self.noise = noise
        self.denoiser = complete(self.denoiser.select(rows))
        self.cond = _rows_of(self.cond, rows)
        self.x, self.given = self.x[rows], self.given[rows]
        self.certainty = None if self.certainty is None else self.certainty[rows]
        if self._read is not None:
            p, scores = self._read
            self._read = p[rows], None if scores is None else scores[rows]
        self._law = None if self._law is None else self._law.select(rows)

    def fork(self) -> DiscreteCursor:
        """A copy of this cursor; the two run on independently."""
        return copy(self)

    def clean(self, k: int = 1, mode: str = "sample") -> Tensor:
        """Clean tokens given the current state, for a reward.

        ``sample``: ``k`` draws with independent positions, (k, B, L); ``argmax``: the most likely
        token of each position, (1, B, L); ``soft``: the law p itself, (1, B, L, K).
        """
        integer("k", k, 1)
        probs = self.probs()
        if choice("mode", mode, MODES) == "soft":
            return probs[None]
        if mode == "argmax":
            return probs.argmax(-1)[None]
        fields = self.noise(self.index, (probs.shape[1], k), probs.device, GUIDANCE_STREAM)
        return draws(probs, fields).permute(2, 0, 1)


def _joined(parts: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """The laws, and the scores, of several calls as those of one."""
    scores = [part for _, part in parts if part is not None]
    return torch.cat([p for p, _ in parts]), torch.cat(scores) if scores else None


def _rows_of(cond: Condition, rows: Tensor) -> Condition:
    if isinstance(cond, Mapping):
        return {name: value[rows] for name, value in cond.items()}
    return None if cond is None else cond[rows]


@dataclass(frozen=True)
class TokenStep:
    """What a callback sees of a step: ``index`` from 0, times ``t`` and ``s``, states ``x`` and
    ``x_next`` (B, L), the ``law`` that x_next was drawn from, and the calls made, ``nfe``."""

    index: int
    t: float
    s: float
    x: Tensor
    x_next: Tensor
    law: DiscreteTransition
    nfe: int


#: may return tokens (B, L) that replace ``x_next``
OnTokens = Callable[[TokenStep], Tensor | None]


def run_tokens(cursor: DiscreteCursor, on_step: OnTokens | None = None) -> Tensor:
    """Make the steps that are left; return the last state (B, L)."""
    while not cursor.done:
        if on_step is None:
            cursor.advance()
            continue
        index, t, s, x, law = cursor.index, cursor.t, cursor.s, cursor.x, cursor.transition()
        x_next = law.sample(cursor.uniforms)
        edited = on_step(TokenStep(index, t, s, x, x_next, law, cursor.nfe))
        cursor.advance(x_next if edited is None else edited)
    return cursor.close()


def path_log_prob(denoiser: Any, how: Method, states: Tensor, cond: Condition = None) -> Tensor:
    """Log-probability of each step of a run, (K, B), for its ``states`` (K + 1, B, L), the start
    state first; differentiable in the network's parameters. Raises NoLogProbError for a sampler
    whose steps have none, and ArgumentError for another number of states."""
    checks.tensor("states", states, floating=False, axes=3)
    if isinstance(how, Method) and how.times and len(states) != len(how.times):
        raise ArgumentError(f"{len(states)} states were given, a run has {len(how.times)}")
    noise = SeededUniforms((0,) * states.shape[1])
    cursor = DiscreteCursor(denoiser, how, states[0], noise, cond, grad=True)
    found = []
    for x_next in states[1:]:
        found.append(cursor.transition().log_prob(x_next))
        cursor.advance(x_next)
    return torch.stack(found)
