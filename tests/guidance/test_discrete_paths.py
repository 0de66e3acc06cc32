"""Paths of tokens and their conversions against Bayes' rule written out with sums."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.guidance import discrete as D
from fewstep.guidance.discrete.survival import NAMED

SIZE = 4
ALPHAS = [*NAMED, D.Linear(1e-3), D.Polynomial(0.7), D.Geometric(1e-3, 8.0)]
PATHS = [
    D.Masked(D.Linear(1e-3)),
    D.Masked("geometric"),
    D.Uniform(D.Linear(1e-3)),
    D.Uniform(D.Geometric(1e-3, 8.0)),
]
PAIRS = [(1.0, 0.6), (0.7, 0.69), (0.5, 0.1), (0.3, 0.0)]


def laws(batch=6, length=3, seed=0):
    """Random laws of clean tokens, (B, L, S), float64."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.rand(batch, length, SIZE, generator=generator, dtype=torch.float64) ** 3
    return found / found.sum(-1, keepdim=True)


def kernel(path, t, s):
    """``q(x_t = v | x_s = u)`` as a matrix (K, K), row u, from the definition."""
    size = path.states(SIZE)
    a = path.alpha(t) / path.alpha(s)
    noise = torch.zeros(size, dtype=torch.float64)
    if path.name == "masked":
        noise[-1] = 1.0
    else:
        noise[:] = 1.0 / size
    found = a * torch.eye(size, dtype=torch.float64) + (1.0 - a) * noise
    if path.name == "masked":
        found[-1] = noise
    return found


def states_and_laws(path):
    """All tokens as states at one position with random laws ``p`` given them, (K, 1) and
    (K, 1, K); p of a revealed token is one-hot."""
    size = path.states(SIZE)
    x = torch.arange(size)[:, None]
    p = torch.zeros(size, 1, size, dtype=torch.float64)
    p[..., :SIZE] = laws(size, 1)
    if path.name == "masked":
        p[:SIZE] = torch.eye(size, dtype=torch.float64)[:SIZE, None]
    return x, p


def bayes(path, p, x, t, s):
    """``sum_i p(i) q(x_s | x_t, x0 = i)`` by Bayes' rule, term by term."""
    early, step, whole = kernel(path, s, 0.0), kernel(path, t, s), kernel(path, t, 0.0)
    out = torch.zeros_like(p)
    for row, j in enumerate(x[:, 0].tolist()):
        for i in range(SIZE):
            if float(p[row, 0, i]) > 0.0:
                out[row, 0] += p[row, 0, i] * step[:, j] * early[i] / whole[i, j]
    return out


@pytest.mark.parametrize("alpha", ALPHAS, ids=str)
def test_alpha_falls_from_one_and_its_derivative_is_right(alpha):
    path = D.Masked(alpha)
    assert path.alpha(0.0) == 1.0
    times = torch.linspace(0, 1, 101).double().tolist()
    values = [path.alpha(t) for t in times]
    assert all(late < early for early, late in itertools.pairwise(values))
    assert values[-1] < 2e-3
    for t in (0.1, 0.5, 0.9):
        numeric = (path.alpha(t + 1e-5) - path.alpha(t - 1e-5)) / 2e-5
        assert path.dalpha(t) == pytest.approx(numeric, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_the_step_is_bayes_rule(path, t, s):
    x, p = states_and_laws(path)
    found = path.step(p, x, t, s)
    torch.testing.assert_close(found, bayes(path, p, x, t, s), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]), rtol=0, atol=1e-13)


def test_the_uniform_step_of_a_known_token_is_the_posterior():
    path, size = D.Uniform(), SIZE
    t, s = 0.7, 0.4
    a, late, early = path.alpha(t) / path.alpha(s), path.alpha(t), path.alpha(s)
    for i in range(size):
        for j in range(size):
            p = torch.eye(size, dtype=torch.float64)[i][None, None]
            found = path.step(p, torch.tensor([[j]]), t, s)[0, 0]
            for k in range(size):
                top = (a * (j == k) + (1 - a) / size) * (early * (k == i) + (1 - early) / size)
                assert float(found[k]) == pytest.approx(
                    top / (late * (i == j) + (1 - late) / size), rel=1e-12
                )


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize(("t", "s"), PAIRS)
def test_the_score_step_of_the_exact_score_is_the_exact_step(path, t, s):
    x, p = states_and_laws(path)
    scores = path.scores(p, x, t)
    torch.testing.assert_close(
        path.score_step(scores, x, t, s), path.step(p, x, t, s), rtol=1e-9, atol=1e-12
    )
    torch.testing.assert_close(path.x0_of_scores(scores, x, t), p, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_scores_are_ratios_of_marginals(path):
    """For a prior that does not depend on the state, the score is ``q_t(v) / q_t(x)``."""
    t, prior = 0.6, laws(1, 1)[0, 0]
    marginal = (prior[:, None] * kernel(path, t, 0.0)[:SIZE]).sum(0)
    x = torch.arange(path.states(SIZE))[:, None]
    p = torch.zeros(len(x), 1, len(x), dtype=torch.float64)
    p[..., :SIZE] = (prior * path.likelihood(x, t, SIZE)) / (
        prior * path.likelihood(x, t, SIZE)
    ).sum(-1, keepdim=True)
    scores = path.scores(p, x, t)
    for row in range(len(x)):
        for v in range(len(x)):
            if path.name == "masked" and row != SIZE and v != row:
                assert float(scores[row, 0, v]) == 0.0
            else:
                assert float(scores[row, 0, v]) == pytest.approx(
                    float(marginal[v] / marginal[row]), rel=1e-12
                )


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_rates_are_the_derivative_of_the_exact_step(path):
    """``P(v, t - h) / h`` tends to the rate; by Richardson its error is of order h^2."""
    t, h = 0.6, 1e-4
    x, p = states_and_laws(path)
    coarse, fine = (path.step(p, x, t, t - step) / step for step in (h, h / 2))
    limit = (2.0 * fine - coarse).scatter(-1, x[..., None], 0.0)
    torch.testing.assert_close(path.rates(p, x, t), limit, rtol=1e-5, atol=1e-8)


def test_rates_of_linear_masking():
    path = D.Masked("linear")
    x, p = states_and_laws(path)
    found = path.rates(p, x, 0.4)
    torch.testing.assert_close(found[SIZE], p[SIZE] / 0.4)
    assert float(found[:SIZE].abs().max()) == 0.0


@pytest.mark.parametrize(
    "path", [D.Masked("cosine"), D.Uniform("cosine"), D.Masked("linear", mask=2)], ids=str
)
def test_noised_tokens_have_the_law_of_the_path(path):
    count, t = 40_000, 0.35
    generator = torch.Generator().manual_seed(1)
    keeps, values = torch.rand(2, count, 1, generator=generator)
    x = path.noised(torch.ones(count, 1, dtype=torch.int64), t, keeps, values, SIZE)
    size, alpha = path.states(SIZE), path.alpha(t)
    wanted = torch.zeros(size, dtype=torch.float64)
    wanted[1] = alpha
    if path.name == "masked":
        wanted[path.mask_of(size)] += 1 - alpha
    else:
        wanted += (1 - alpha) / size
    found = torch.bincount(x[:, 0], minlength=size) / count
    assert bool(((found - wanted).abs() <= 4 * (wanted * (1 - wanted) / count).sqrt()).all())


def test_a_mask_inside_the_vocabulary():
    assert D.Masked(mask=2).states(SIZE) == SIZE
    assert D.Masked(mask=SIZE).states(SIZE) == D.Masked().states(SIZE) == SIZE + 1
    with pytest.raises(ArgumentError, match="mask=7: must be at most 4"):
        D.Masked(mask=7).states(SIZE)


@pytest.mark.parametrize("t", [-0.1, 1.5, math.nan, "now", torch.tensor(0.5)])
def test_times_outside_are_refused(t):
    with pytest.raises(ArgumentError):
        D.Masked().alpha(t)


def test_arguments_of_paths():
    with pytest.raises(ArgumentError, match="did you mean 'cosine'"):
        D.Masked("cosin")
    with pytest.raises(ArgumentError, match="must be a name"):
        D.Masked(3.0)
    with pytest.raises(ArgumentError, match="0 <= eps < 1"):
        D.Linear(1.0)
    with pytest.raises(ArgumentError, match="alpha must be larger at s"):
        D.Masked().kept(0.3, 0.3)
    with pytest.raises(ArgumentError, match=r"alpha\(0\)"):
        D.Masked(lambda t: 0.5).alpha(0.0)
    with pytest.raises(ArgumentError, match="needs d alpha/dt"):
        D.Masked(lambda t: 1 - t).dalpha(0.5)
    given = D.Masked(D.Given(lambda t: 1 - t * t, lambda t: -2 * t))
    assert (given.alpha(0.5), given.dalpha(0.5)) == (0.75, -1.0)
