"""Exact laws of samplers of tokens, by enumeration of all states: no draws, no statistics."""

from __future__ import annotations

import itertools

import torch

from fewstep.fused.noise.uniforms import SeededUniforms
from fewstep.guidance import discrete as D

#: two equal bits, each value with probability 1/2
EQUAL_BITS = [[0.5, 0.0], [0.0, 0.5]]


def states(path, vocabulary, length):
    """All states, (K^L, L)."""
    return torch.tensor(list(itertools.product(range(path.states(vocabulary)), repeat=length)))


def cursor_at(den, how, x, index):
    """A cursor whose states ``x`` are those before step ``index``; no token is a prompt."""
    cursor = D.DiscreteCursor(den, how, x, SeededUniforms((0,) * len(x)))
    cursor.index, cursor.given = index, torch.zeros_like(cursor.given)
    return cursor


def kernel(den, how, index):
    """Transition matrix of step ``index`` between all states, (K^L, K^L)."""
    every = states(den.path, den.vocabulary, den.length)
    law = cursor_at(den, how, every, index).transition()
    repeated = every.repeat_interleave(len(every), 0)
    next_states = every.repeat(len(every), 1)
    rows = torch.arange(len(every)).repeat_interleave(len(every))
    return law.select(rows).log_prob(next_states).exp().reshape(len(every), len(every)), repeated


def start_law(den):
    """Law of the state at t = 1 over all states, (K^L,)."""
    every = states(den.path, den.vocabulary, den.length)
    if den.path.name == "uniform":
        return torch.full((len(every),), 1.0 / len(every), dtype=torch.float64)
    mask = den.path.mask_of(den.path.states(den.vocabulary))
    return (every == mask).all(1).to(torch.float64)


def law(den, name, steps=None, times=None, **options):
    """Law of the result over all states, (K, .., K): the exact propagation of all steps."""
    how = D.method(name, den, steps=steps, times=times, options=options)
    found = start_law(den)
    for index in range(len(how.times) - 1):
        found = found @ kernel(den, how, index)[0]
    return found.reshape((den.path.states(den.vocabulary),) * den.length)
