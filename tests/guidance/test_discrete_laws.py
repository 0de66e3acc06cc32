"""Samplers of tokens against exact laws: all states and all paths are enumerated, so there is no
statistical error."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from discrete_laws import EQUAL_BITS, cursor_at, law, start_law, states

from fewstep.fused.noise.uniforms import SeededUniforms
from fewstep.guidance import discrete as D


def independent(path, seed=0, length=2, size=3):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(length, size, generator=generator, dtype=torch.float64) + 0.1
    return D.IndependentTokens(probs / probs.sum(-1, keepdim=True), path)


def table(path, size=3, length=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = torch.rand((size,) * length, generator=generator, dtype=torch.float64)
    return D.TableTokens(found / found.sum(), path)


def distance(found, den):
    """Total variation between the law of the result and the model's."""
    data = found[(slice(den.vocabulary),) * den.length]
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(data.sum()) == pytest.approx(1.0, abs=1e-12)
    return float((data - den.table).abs().sum()) / 2


@pytest.mark.parametrize("steps", [1, 2, 4, 10, 50])
def test_two_equal_bits_differ_with_probability_one_over_two_steps(steps):
    found = law(D.TableTokens(EQUAL_BITS, D.Masked("linear")), "ancestral", steps)
    assert float(found[0, 1] + found[1, 0]) == pytest.approx(1.0 / (2 * steps), rel=1e-12)
    assert float(found[2].sum() + found[:, 2].sum()) == 0.0


@pytest.mark.parametrize("name", ["ancestral", "rate_euler", "remdm", "confidence"])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_independent_tokens_are_exact_for_any_number_of_steps(name, steps):
    den = independent(D.Masked("linear"))
    options = {"by": "entropy"} if name == "confidence" else {}
    found = law(den, name, steps, **options)[:3, :3]
    torch.testing.assert_close(found, den.probs[0][:, None] * den.probs[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_uniform_path_is_exact_for_independent_tokens_from_its_end(steps):
    den = independent(D.Uniform("linear"))
    found = law(den, "ancestral", steps)
    torch.testing.assert_close(found, den.probs[0][:, None] * den.probs[1], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("path", "name", "options"),
    [
        (D.Masked("linear"), "ancestral", {}),
        (D.Masked("cosine"), "ancestral", {}),
        (D.Masked("linear"), "tau_leaping", {"several": "reject"}),
        (D.Masked("linear"), "tau_leaping", {"several": "first"}),
        (D.Masked("cosine"), "rate_euler", {}),
        (D.Uniform("linear"), "ancestral", {}),
        (D.Uniform(D.Linear(1e-3)), "tau_leaping", {"several": "reject"}),
        (D.Uniform(D.Linear(1e-3)), "tau_leaping", {"several": "first"}),
        (D.Uniform(D.Linear(1e-3)), "rate_euler", {}),
        (D.Uniform(D.Linear(1e-3)), "concrete_score", {}),
    ],
    ids=str,
)
def test_correlated_tokens_converge_with_order_one(path, name, options):
    """Measured slopes of 16 to 64 steps: 0.93 to 1.12."""
    den = table(path)
    errors = [distance(law(den, name, steps, **options), den) for steps in (16, 32, 64)]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(slope - 1.0) < 0.15 for slope in slopes), (errors, slopes)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_euler_of_linear_masking_is_the_exact_step(steps):
    den = table(D.Masked("linear"))
    torch.testing.assert_close(
        law(den, "rate_euler", steps), law(den, "ancestral", steps), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(
    "path", [D.Masked(D.Linear(1e-3)), D.Uniform(D.Geometric(1e-3, 8.0))], ids=str
)
def test_the_concrete_score_step_is_the_ancestral_step(path):
    den = table(path)
    torch.testing.assert_close(
        law(den, "concrete_score", 6), law(den, "ancestral", 6), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (path, name)
        for path in (D.Masked(D.Linear(1e-3)), D.Uniform(D.Linear(1e-3)))
        for name in D.names(path)
        if name not in ("confidence", "entropy_bound")
    ],
    ids=str,
)
def test_the_probabilities_of_all_paths_have_the_sum_one(path, name):
    """L = 2, S = 2, N = 3: every sequence of states, by ``path_log_prob``."""
    den = D.TableTokens([[0.4, 0.1], [0.2, 0.3]], path)
    every = states(path, 2, 2)
    start = start_law(den)
    begin = start.nonzero().flatten()
    indices = torch.cartesian_prod(begin, *[torch.arange(len(every))] * 3)
    steps = D.path_log_prob(den, D.method(name, den, steps=3), every[indices].transpose(0, 1))
    assert steps.shape == (3, len(indices))
    total = (start[indices[:, 0]].log() + steps.sum(0)).exp().sum()
    assert float(total) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"schedule": "cap", "eta": 0.3},
        {"schedule": "rescale", "eta": 0.5},
        {"schedule": "rescale", "eta": 1.0},
    ],
    ids=str,
)
def test_remasking_leaves_the_marginals_of_the_path(options):
    """The law of one position at every time is ``alpha p``, and ``1 - alpha`` of a mask."""
    den = independent(D.Masked("cosine"), length=1)
    how = D.method("remdm", den, steps=6, options=options)
    every, found = states(den.path, 3, 1), start_law(den)
    moved = 0.0
    for index in range(6):
        probs = cursor_at(den, how, every, index).transition().probs[:, 0]
        moved += float(probs[:3, 3].sum())
        found, alpha = found @ probs, den.path.alpha(how.times[index + 1])
        torch.testing.assert_close(found[:3], alpha * den.probs[0], rtol=1e-12, atol=1e-13)
        assert float(found[3]) == pytest.approx(1.0 - alpha, abs=1e-13)
    assert moved > 0.5


def test_remasking_without_strength_or_outside_its_times_is_ancestral():
    den = table(D.Masked("linear"))
    wanted = law(den, "ancestral", 5)
    for options in ({"eta": 0.0}, {"eta": 1.0, "end": 0.9, "start": 0.95}):
        torch.testing.assert_close(law(den, "remdm", 5, **options), wanted, rtol=0, atol=1e-15)
    assert not torch.equal(law(den, "remdm", 5, eta=1.0), wanted)


@pytest.mark.parametrize(("schedule", "eta"), [("rescale", 0.0), ("rescale", 0.5), ("cap", 0.2)])
def test_remasking_of_two_equal_bits(schedule, eta):
    """The chain over (no, one, two equal, two unequal) revealed bits, written out by hand."""
    steps, chance = 8, [1.0, 0.0, 0.0, 0.0]
    for k in range(steps):
        late, early = k / steps, (k + 1) / steps
        top = min(1.0, (1 - early) / late) if late else 0.0
        sigma = min(eta, top) if schedule == "cap" else eta * top
        move = (early - (1 - sigma) * late) / (1 - late)
        none, one, equal, unequal = chance
        pair = equal + unequal
        chance = [
            none * (1 - move) ** 2 + one * sigma * (1 - move) + pair * sigma**2,
            none * 2 * move * (1 - move)
            + one * ((1 - sigma) * (1 - move) + sigma * move)
            + pair * 2 * sigma * (1 - sigma),
            none * move**2 / 2 + one * (1 - sigma) * move + equal * (1 - sigma) ** 2,
            none * move**2 / 2 + unequal * (1 - sigma) ** 2,
        ]
    den = D.TableTokens(EQUAL_BITS, D.Masked("linear"))
    found = law(den, "remdm", steps, schedule=schedule, eta=eta)
    assert float(found[0, 1] + found[1, 0]) == pytest.approx(chance[3], rel=1e-12)
    assert float(found[0, 0] + found[1, 1]) == pytest.approx(chance[2], rel=1e-12)


def test_remasking_by_certainty_prefers_unlikely_tokens():
    den = independent(D.Masked("linear"), length=3)
    how = D.method("remdm", den, steps=4, options={"schedule": "conf", "eta": 1.0})
    cursor = cursor_at(den, how, torch.tensor([[0, 1, 3]]), 2)
    cursor.certainty = torch.tensor([[0.9, 0.2, 1.0]])
    probs = cursor.transition().probs[0, :, 3]
    top = (1 - 0.75) / 0.5
    weights = torch.softmax(torch.tensor([-0.9, -0.2], dtype=torch.float64), 0)
    torch.testing.assert_close(probs[:2], top * weights)
    assert float(probs[2]) == pytest.approx((1 - 0.75) / (1 - 0.5), rel=1e-12)


@pytest.mark.parametrize("by", ["probability", "margin", "entropy"])
def test_one_token_a_step_in_an_order_by_the_state_is_exact(by):
    den = table(D.Masked("linear"), length=3)
    assert distance(law(den, "confidence", 3, by=by), den) < 1e-13


def test_an_order_by_drawn_tokens_is_sharper_and_has_no_log_probability():
    den = independent(D.Masked("linear"), length=2)
    how = D.method("confidence", den, steps=2)
    assert not how.has_log_prob
    cursor = D.DiscreteCursor(den, how, torch.full((1, 2), 3), SeededUniforms((0,)))
    step = cursor.transition()
    assert not step.has_log_prob
    with pytest.raises(D.NoLogProbError, match="order is that of drawn tokens"):
        step.log_prob(cursor.x)
    for by in ("probability", "margin", "entropy"):
        assert D.method("confidence", den, steps=2, options={"by": by}).has_log_prob


def run_law(den, how, count):
    """Frequencies of the results of ``count`` runs from all masks."""
    x = torch.full((count, den.length), den.path.mask_of(den.path.states(den.vocabulary)))
    cursor = D.DiscreteCursor(den, how, x, SeededUniforms(range(count)))
    out = D.run_tokens(cursor)
    index = sum(
        out[:, place] * den.vocabulary ** (den.length - 1 - place) for place in range(den.length)
    )
    return torch.bincount(index, minlength=den.vocabulary**den.length).double(), cursor


def chi2_p(counts, law_):
    from scipy.stats import chisquare

    wanted = law_.flatten() * counts.sum()
    return float(chisquare(counts.numpy(), wanted.numpy()).pvalue)


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_the_order_by_drawn_tokens_has_its_law(temperature):
    """Two independent tokens, two steps: the one whose drawn token a, or b, is likelier is kept
    first, with Gumbel noise the first with probability ``1 / (1 + (q(b)/p(a))^(1/T))``; the other is
    drawn anew."""
    p, q = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.35, 0.15]], dtype=torch.float64)
    first = torch.zeros(3, 3, dtype=torch.float64)
    for a, b in itertools.product(range(3), range(3)):
        ratio = float(q[b] / p[a])
        first[a, b] = (ratio <= 1.0) if temperature == 0.0 else 1 / (1 + ratio ** (1 / temperature))
    drawn = p[:, None] * q
    wanted = (drawn * first).sum(1)[:, None] * q + p[:, None] * (drawn * (1 - first)).sum(0)
    assert float(wanted.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float((wanted - drawn).abs().max()) > 0.02
    den = D.IndependentTokens(torch.stack([p, q]), D.Masked("linear"))
    how = D.method("confidence", den, steps=2, options={"temperature": temperature})
    counts, _ = run_law(den, how, 20_000)
    assert chi2_p(counts, wanted) > 1e-3
    assert chi2_p(counts, drawn) < 1e-6


def test_the_entropy_bound_of_zero_is_exact():
    den = table(D.Masked("linear"), length=3)
    counts, cursor = run_law(den, D.method("entropy_bound", den, options={"gamma": 0.0}), 8_000)
    assert chi2_p(counts, den.table) > 1e-3
    assert cursor.nfe == 3


def test_the_entropy_bound_limits_what_is_revealed():
    den = independent(D.Masked("linear"), length=4)
    entropies = torch.special.entr(den.probs).sum(-1).sort().values
    x = torch.full((1, 4), 3)
    for gamma, wanted in (
        (0.0, 1),
        (float(entropies[0]) + 1e-9, 2),
        (float(entropies[:2].sum()) + 1e-9, 3),
        (None, 4),
    ):
        how = D.method("entropy_bound", den, options={"gamma": gamma})
        probs = D.DiscreteCursor(den, how, x, SeededUniforms((0,))).transition().probs
        assert int((probs[0, :, 3] == 0.0).sum()) == wanted


def test_certain_tokens_cost_no_further_calls():
    den = D.TableTokens(EQUAL_BITS, D.Masked("linear"))
    counts, cursor = run_law(den, D.method("entropy_bound", den, options={"gamma": 0.0}), 2_000)
    assert counts[1] == counts[2] == 0.0
    assert abs(float(counts[0]) - 1000.0) < 3 * math.sqrt(500.0)
    assert cursor.nfe == 2


@pytest.mark.parametrize("path", [D.Masked("cosine"), D.Uniform("cosine")], ids=str)
def test_draws_of_independent_tokens_have_the_exact_law(path):
    """1e5 draws, 3 steps."""
    den = independent(path)
    how = D.method("ancestral", den, steps=3)
    fields = SeededUniforms(range(100_000), stream=0)(0, (2,))
    cursor = D.DiscreteCursor(den, how, path.start(fields, 3), SeededUniforms(range(100_000)))
    out = D.run_tokens(cursor)
    for place in range(2):
        assert chi2_p(torch.bincount(out[:, place], minlength=3).double(), den.probs[place]) > 1e-3


def test_the_last_step_draws_and_does_not_take_the_most_likely_token():
    den = D.IndependentTokens([[0.9, 0.1]], D.Masked("linear"))
    counts, _ = run_law(den, D.method("ancestral", den, steps=1), 10_000)
    assert abs(float(counts[1]) / 10_000 - 0.1) < 4 * math.sqrt(0.09 / 10_000)


def test_a_markov_chain_is_its_table():
    initial, matrix = [0.6, 0.3, 0.1], [[0.1, 0.8, 0.1], [0.5, 0.0, 0.5], [0.3, 0.3, 0.4]]
    for path in (D.Masked("linear"), D.Uniform("linear")):
        chain = D.MarkovTokens(initial, matrix, 3, path)
        every = torch.tensor(list(itertools.product(range(3), repeat=3)))
        whole = D.TableTokens(chain.log_prob(every).exp().reshape(3, 3, 3), path)
        x = states(path, 3, 3)
        possible = whole.posterior(path.likelihood(x, 0.4, 3)).sum((1, 2)) > 0
        a, b = (D.x0_probs(den, x[possible], 0.4) for den in (chain, whole))
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        assert chain.entropy == pytest.approx(
            float(torch.special.entr(whole.table).sum()), rel=1e-12
        )
