"""``fewstep.sample`` on models of tokens: seeds, costs, states, and what is refused."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

import fewstep
from fewstep import guidance
from fewstep.checks import ArgumentError, FewstepError
from fewstep.engine.token_sampling import REFUSED
from fewstep.fused.noise.philox import philox4x32
from fewstep.fused.noise.uniforms import SeededUniforms
from fewstep.guidance import discrete as D

CHAIN = ([0.6, 0.3, 0.1], [[0.1, 0.8, 0.1], [0.5, 0.0, 0.5], [0.3, 0.3, 0.4]])


def chain(path=None, length=5):
    return D.MarkovTokens(*CHAIN, length, D.Masked("linear") if path is None else path)


class Counted(D.BaseDiscrete):
    """The chain with its calls counted; ``calls`` are (rows, t)."""

    def __init__(self, path=None, length=5, time_free=None):
        self.inner, self.calls = chain(path, length), []
        self.path, self.vocabulary, self.length = self.inner.path, 3, length
        self.time_free = self.inner.time_free if time_free is None else time_free

    def x0_logits(self, x, t, cond=None):
        self.calls.append((len(x), t))
        return self.inner.x0_logits(x, t, cond)


def options_of(name):
    return {} if name == "entropy_bound" else {"steps": 4}


PATHS = {
    "masked": D.Masked(D.Linear(1e-3)),
    "uniform": D.Uniform(D.Linear(1e-3)),
}
RUNS = [(path, name) for path in PATHS for name in D.names(PATHS[path])]


@pytest.mark.parametrize(("path", "name"), RUNS)
def test_a_sample_does_not_depend_on_its_batch(path, name):
    den, options = chain(PATHS[path]), options_of(name)
    whole = fewstep.sample(den, sampler=name, n=64, seed=10, **options)
    assert whole.shape == (64, 5) and whole.dtype == torch.int64
    assert int(whole.min()) >= 0 and int(whole.max()) <= 2
    for first, count in ((0, 1), (7, 7), (57, 7)):
        part = fewstep.sample(den, sampler=name, n=count, seed=10 + first, **options)
        assert torch.equal(part, whole[first : first + count])
    again = fewstep.sample(den, sampler=name, seeds=[40, 12], **options)
    assert torch.equal(again, whole[[30, 2]])
    assert not torch.equal(whole[0], whole[1]) or not torch.equal(whole[2], whole[1])


@pytest.mark.parametrize(("path", "name"), RUNS)
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_predicted_calls_are_counted_calls(path, name, steps):
    """Without reuse of predictions: the model is said to depend on the time."""
    free = D.get(name).free
    den = Counted(PATHS[path], time_free=free)
    steps = {} if free else {"steps": steps}
    how = D.method(name, den, **steps)
    out, info = fewstep.sample(den, sampler=name, n=6, info=True, **steps)
    assert info.nfe == len(den.calls) and info.rows == 6 * info.nfe
    assert info.nfe <= how.calls(5) if free else info.nfe == how.calls(5) == steps["steps"]
    assert out.shape == (6, 5)


def test_predictions_of_an_unchanged_batch_are_used_again():
    den = Counted()
    out, info = fewstep.sample(den, steps=200, n=1, seed=3, info=True)
    assert len(den.calls) == info.nfe <= 6 < 200
    slow = Counted(time_free=False)
    assert torch.equal(fewstep.sample(slow, steps=200, n=1, seed=3), out)
    assert len(slow.calls) == 200


def test_times_and_defaults():
    den = Counted(time_free=False)
    fewstep.sample(den, times=[1.0, 0.5, 1e-5, 0.0])
    assert [t for _, t in den.calls] == [1.0, 0.5, 1e-5]
    den.calls.clear()
    _, info = fewstep.sample(den, nfe=3, info=True)
    assert [t for _, t in den.calls] == [1.0, 2 / 3, 1 / 3]
    assert "ancestral" in info.reason and info.plan is None
    _, info = fewstep.sample(den, info=True)
    assert info.nfe == 20


def test_a_prompt_is_kept_and_filled():
    prompt = torch.tensor([[0, 3, 3, 3, 2], [3, 1, 3, 1, 3]])
    for name in D.names(D.Masked()):
        den = chain(D.Masked(D.Linear(1e-3)), 5)
        out = fewstep.sample(den, sampler=name, x=prompt, seed=1, **options_of(name))
        hidden = prompt == 3
        assert torch.equal(out[~hidden], prompt[~hidden])
        assert int(out.max()) < 3


def test_remasking_never_masks_a_prompt():
    den = chain()
    seen = []
    prompt = torch.tensor([[0, 3, 3, 3, 2]]).repeat(50, 1)
    fewstep.sample(
        den,
        sampler="remdm",
        eta=1.0,
        steps=20,
        x=prompt,
        callback=lambda step: seen.append(step.x_next),
    )
    states = torch.stack(seen)
    assert bool((states[..., [0, 4]] == torch.tensor([0, 2])).all())
    revealed = (states[:-1] != 3) & (states[1:] == 3)
    assert int(revealed[..., 1:4].sum()) > 50


def test_states_callback_and_progress():
    den, seen, told = chain(), [], []
    out, info = fewstep.sample(
        den, steps=4, n=3, info=True, record=True, callback=seen.append,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert info.states.shape == (5, 3, 5) and torch.equal(info.states[-1], out)
    assert bool((info.states[0] == 3).all())
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [(step.index, step.t, step.s) for step in seen] == [
        (0, 1.0, 0.75),
        (1, 0.75, 0.5),
        (2, 0.5, 0.25),
        (3, 0.25, 0.0),
    ]
    steps = D.path_log_prob(den, D.method("ancestral", den, steps=4), info.states)
    assert steps.shape == (4, 3) and bool(torch.isfinite(steps).all())
    for k, step in enumerate(seen):
        torch.testing.assert_close(step.law.log_prob(step.x_next), steps[k])
    # the log-probability of every masked step and of every revealed token, by hand
    fixed = torch.tensor([[0, 1, 0, 2, 2]])
    edited = fewstep.sample(
        den, steps=4, n=1, callback=lambda step: fixed if step.s == 0.0 else None
    )
    assert torch.equal(edited, fixed)


@pytest.mark.parametrize(
    ("path", "name"), [run for run in RUNS if run[1] not in ("confidence", "entropy_bound")]
)
def test_gradients_of_log_probabilities(path, name):
    """Against central differences, in float64; the log-probability of a run is the sum of its
    steps."""
    weights = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights.requires_grad_(True)
    kind = PATHS[path]
    den = D.wrap(lambda x, t: weights[x].cumsum(1), kind, 3, 4)
    _, info = fewstep.sample(den, sampler=name, steps=3, n=5, info=True, record=True)
    how = D.method(name, den, steps=3)
    steps = D.path_log_prob(den, how, info.states)
    assert steps.shape == (3, 5)
    (slope,) = torch.autograd.grad(steps.sum(), weights)
    direction = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    values = []
    with torch.no_grad():
        for sign in (1.0, -1.0):
            weights += sign * 1e-5 * direction
            values.append(float(D.path_log_prob(den, how, info.states).sum()))
            weights -= sign * 1e-5 * direction
    assert float((slope * direction).sum()) == pytest.approx(
        (values[0] - values[1]) / 2e-5, rel=1e-6
    )
    one = D.path_log_prob(den, how, info.states[:, 1:2])
    assert torch.equal(one[:, 0].detach(), steps[:, 1].detach())


def test_recorded_states_are_checked():
    den = chain()
    how = D.method("ancestral", den, steps=2)
    with pytest.raises(ArgumentError, match="2 states were given, a run has 3"):
        D.path_log_prob(den, how, torch.zeros(2, 1, 5, dtype=torch.int64))
    with pytest.raises(ArgumentError, match="a sampler, as discrete.method makes it"):
        D.path_log_prob(den, "ancestral", torch.zeros(3, 1, 5, dtype=torch.int64))
    other = D.method("confidence", den, steps=2)
    with pytest.raises(D.NoLogProbError):
        D.path_log_prob(den, other, torch.full((3, 1, 5), 3))


def test_the_uniform_words_are_those_of_philox():
    noise = SeededUniforms((7, 1 << 40), (0, 5))
    found = noise(3, (2, 3))
    assert found.shape == (2, 2, 3) and found.dtype == torch.float32
    words = philox4x32((1, 6, 3, 5), (0, 1 << 8))
    assert float(found[1, 1, 2]) == ((int(words[1]) >> 9) + 0.5) / 2**23
    many = SeededUniforms(range(2000))(0, (50,))
    assert 0.0 < float(many.min()) < 1e-4 and 1 - 1e-4 < float(many.max()) < 1.0
    assert abs(float(many.mean()) - 0.5) < 4 / math.sqrt(12 * 100_000)
    with pytest.raises(ArgumentError, match="one of each per row"):
        SeededUniforms((1, 2), (0,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tokens_without_probability_are_never_drawn(dtype):
    """At the smallest and the largest uniform numbers, with zeros at both ends and in between, and
    sums that rounding leaves below or above 1."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(500, 1, 400, generator=generator).to(dtype)
    probs = probs * (torch.rand(probs.shape, generator=generator) > 0.5)
    probs[..., :20] = probs[..., -20:] = 0.0
    probs = probs / probs.sum(-1, keepdim=True)
    for k in (0, 1, 2**22, 2**23 - 2, 2**23 - 1):
        u = torch.full((500, 1), (k + 0.5) / 2**23)
        drawn = D.DiscreteTransition(probs, 1.0, 0.5).sample(u)
        assert bool((probs.gather(-1, drawn[..., None]) > 0.0).all())
    certain = torch.zeros(1, 1, 5, dtype=dtype)
    certain[..., 3] = 1.0
    assert (
        D.DiscreteTransition(certain, 1.0, 0.5).sample(torch.tensor([[1 - 2.0**-24]])).item() == 3
    )


def test_copies_part_at_the_next_step_and_move_with_their_state():
    den = chain(length=6)
    how = D.method("remdm", den, steps=6, options={"schedule": "conf", "eta": 1.0})
    cursor = D.DiscreteCursor(
        den, how, torch.full((8, 6), 3), SeededUniforms((4,) * 8, tuple(range(8)))
    )
    for _ in range(3):
        cursor.advance()
    x, certainty, probs = cursor.x, cursor.certainty, cursor.probs()
    calls = cursor.nfe
    rows = torch.tensor([5, 5, 5, 5, 0, 1, 2, 2])
    other = cursor.fork()
    cursor.select(rows)
    assert torch.equal(cursor.x, x[rows]) and torch.equal(cursor.certainty, certainty[rows])
    assert torch.equal(cursor.probs(), probs[rows]) and cursor.nfe == calls
    cursor.advance()
    assert len({tuple(row) for row in cursor.x[:4].tolist()}) > 1
    assert torch.equal(other.x, x)
    other.advance()
    assert other.index == cursor.index == 4
    with pytest.raises(ArgumentError, match="rows must be"):
        cursor.select(torch.tensor([0]))


def test_clean_tokens_for_rewards():
    den = chain()
    how = D.method("ancestral", den, steps=4)
    cursor = D.DiscreteCursor(
        den, how, torch.tensor([[0, 3, 3, 1, 3]]).repeat(500, 1), SeededUniforms(range(500))
    )
    p = cursor.probs()
    draws = cursor.clean(20)
    assert draws.shape == (20, 500, 5) and bool((draws[..., 0] == 0).all())
    share = (draws[..., 1, None] == torch.arange(3)).double().mean((0, 1))
    wanted = p[0, 1, :3]
    assert bool(((share - wanted).abs() < 4 * (wanted * (1 - wanted) / 10_000).sqrt() + 1e-9).all())
    assert torch.equal(cursor.clean(mode="argmax")[0], p.argmax(-1))
    assert torch.equal(cursor.clean(mode="soft")[0], p)
    assert cursor.nfe == 1
    with pytest.raises(ArgumentError, match="unknown mode .mean.*allowed: argmax, sample, soft"):
        cursor.clean(mode="mean")


def test_names_describe_and_the_two_registries():
    assert set(D.names()) == {
        "ancestral",
        "concrete_score",
        "confidence",
        "entropy_bound",
        "rate_euler",
        "remdm",
        "tau_leaping",
    }
    assert set(D.names(D.Uniform())) == {"ancestral", "concrete_score", "rate_euler", "tau_leaping"}
    assert not set(D.names()) & (set(fewstep.samplers.names()) | set(fewstep.samplers.ALIASES))
    for name in D.names():
        row = D.describe(name)
        assert (
            row["summary"].endswith(".") and "arXiv" in row["source"] and "\n" not in row["summary"]
        )
        assert row["log_prob"] == (
            "exact" if name != "confidence" else "the order depends on all drawn tokens"
        )


MIXTURE = fewstep.models.load("mixture")
CALLS = {
    "a sampler of real numbers": ({"sampler": "ddim"}, "'ddim' is a sampler of real-valued states"),
    "an alias of one": ({"sampler": "Euler a"}, "sampler of real-valued states"),
    "unknown": ({"sampler": "ancestrl"}, "did you mean 'ancestral'"),
    "no name": ({"sampler": 3}, "unknown sampler of tokens 3"),
    "option": ({"sampler": "remdm", "etta": 1.0}, "did you mean 'eta'"),
    "option value": ({"sampler": "remdm", "eta": 2.0}, "remdm: eta=2.0 must be a number from 0"),
    "option type": ({"sampler": "remdm", "schedule": 1}, "schedule=1 must be a string"),
    "option of none": ({"sampler": "ancestral", "eta": 1.0}, "unknown option 'eta'"),
    "no whole budget": ({"nfe": 2.5}, "nfe=2.5 must be an integer >= 1"),
    "zero steps": ({"steps": 0}, "steps=0 must be an integer >= 1"),
    "both": ({"steps": 3, "nfe": 3}, "give one of them"),
    "steps of a free one": ({"sampler": "entropy_bound", "steps": 3}, "picks the number of steps"),
    "times that rise": ({"times": [0.5, 0.7, 0.0]}, "falling numbers"),
    "times outside": ({"times": [1.5, 0.0]}, "times=1.5 must be a number from 0"),
    "times without an end": ({"times": [1.0, 0.5]}, "the last one must be 0"),
    "times and steps": ({"times": [1.0, 0.0], "steps": 3}, "give one of them"),
    "no number": ({"times": ["a", 0.0]}, "times='a' must be a number"),
    "rates at alpha 0": ({"sampler": "concrete_score"}, r"alpha\(1.0\) = 0: concrete scores do not exist"),
    "grid": ({"grid": "karras"}, "takes equal steps in t, or times="),
    "sigmas": ({"sigmas": [1.0, 0.0]}, "sigmas=.*not an argument for a model of tokens"),
    "init": ({"init": torch.zeros(1, 5), "start": 0.5}, "not an argument for a model of tokens"),
    "noise": ({"noise": "brownian"}, "noise='brownian'"),
    "grad": ({"grad": "full"}, "grad='full'"),
    "float tokens": ({"x": torch.zeros(1, 5)}, "must be tokens, an integer tensor"),
    "bool tokens": ({"x": torch.zeros(1, 5, dtype=torch.bool)}, "must be tokens, an integer tensor"),
    "no batch": ({"x": torch.zeros(5, dtype=torch.int64)}, "must be tokens"),
    "out of range": ({"x": torch.full((1, 5), 4)}, "x holds tokens 4 .. 4; allowed: 0 .. 3"),
    "negative": ({"x": torch.full((1, 5), -1)}, "x holds tokens -1"),
    "length": ({"x": torch.full((1, 4), 3)}, "x has 4 positions, the model takes 5"),
    "shape": ({"shape": (4,)}, r"the shape of one sequence is \(5,\)"),
    "n": ({"n": 0}, "n=0 must be an integer >= 1"),
    "n and seeds": ({"n": 3, "seeds": [1]}, "1 seeds were given, but n is 3"),
    "n and x": ({"n": 3, "x": torch.full((1, 5), 3)}, "1 seeds were given, but n is 3|1 is 3|n is 3"),
    "record": ({"record": True}, "pass info=True"),
    "callback": ({"callback": 3}, "callback=3"),
    "cond": ({"cond": torch.zeros(3), "n": 2}, "the batch is 2"),
    "device": ({"device": "cuda:9"}, "cannot be used"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "words"), CALLS.values(), ids=CALLS)
def test_bad_arguments_are_refused_before_the_first_call(given, words):
    den = Counted()
    with pytest.raises(ArgumentError, match=words):
        fewstep.sample(den, **given)
    assert not den.calls


def test_samplers_of_tokens_are_refused_on_real_numbers():
    for name in D.names():
        with pytest.raises(ArgumentError, match="is a sampler of tokens"):
            fewstep.sample(MIXTURE, sampler=name)


def test_models_of_tokens_are_refused_where_states_are_real_numbers():
    den = chain()
    for call in (
        lambda: fewstep.log_prob(den, torch.zeros(1, 5)),
        lambda: fewstep.invert(den, torch.zeros(1, 5), sampler="ddim", steps=3),
        lambda: guidance.CFG(den, 2.0),
        lambda: fewstep.run(
            fewstep.plan("ddim", fewstep.schedules.Flow(), steps=3), den, torch.zeros(1, 5)
        ),
    ):
        with pytest.raises(ArgumentError, match=r"model of tokens, which only fewstep\.sample and"):
            call()
    with pytest.raises(ArgumentError, match="is a sampler of tokens"):
        fewstep.plan("ancestral", fewstep.schedules.Flow(), steps=3)


def test_samplers_of_masks_are_refused_on_the_uniform_path():
    with pytest.raises(D.TokenSamplerError, match="remdm runs on masked paths, not on Uniform"):
        fewstep.sample(chain(D.Uniform()), sampler="remdm")
    with pytest.raises(D.TokenSamplerError, match="must not depend on t"):
        fewstep.sample(Counted(time_free=False), sampler="entropy_bound")


class Bad:
    """A user's own object: four members."""

    path, vocabulary, length = D.Masked(), 3, 2

    def __init__(self, logits):
        self.logits = logits

    def x0_logits(self, x, t, cond=None):
        return self.logits.expand(len(x), *self.logits.shape)


def test_a_users_object_runs():
    assert fewstep.sample(Bad(torch.zeros(2, 3)), steps=2, n=4).shape == (4, 2)


def test_a_users_object_with_data_of_single_rows_follows_them():
    class Rows(Bad):
        time_free = True

        def x0_logits(self, x, t, cond=None):
            return self.logits[:, None].expand(len(x), 2, 3)

        def select(self, rows):
            return Rows(self.logits[rows])

    den = Rows(torch.tensor([[9.0, -9.0, -9.0], [-9.0, -9.0, 9.0]]))
    assert fewstep.sample(den, sampler="entropy_bound", n=2).tolist() == [[0, 0], [2, 2]]
    for batch in (None, 3):
        x, _ = guidance.steer(
            den, lambda x: x.sum(1), method="smc", steps=2, n=2, particles=4, batch=batch
        )
        assert x.tolist() == [[0, 0], [2, 2]]


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (torch.zeros(2, 4), r"logits must be floating point \(2, 2, 3\), got Tensor torch.float32 \(2, 2, 4\)"),
        (torch.zeros(2, 3, dtype=torch.int64), "logits must be floating point"),
        (torch.tensor([[0.0, 0.0, 0.0], [0.0, math.nan, 0.0]]), r"t=1 is no law of tokens .* positions \[1\]"),
        (torch.full((2, 3), -math.inf), "no token has a probability"),
    ],
)  # fmt: skip
def test_predictions_that_are_no_law(logits, words):
    with pytest.raises(FewstepError, match=words):
        fewstep.sample(Bad(logits), steps=2, n=2)


def test_predictions_that_are_no_law_are_found_at_the_end_on_accelerators(monkeypatch):
    monkeypatch.setattr(D.DiscreteCursor, "_checks_at_once", False)
    assert fewstep.sample(Bad(torch.zeros(2, 3)), steps=2, n=2).shape == (2, 2)
    with pytest.raises(D.TokenError, match="a prediction of the network was no law"):
        fewstep.sample(Bad(torch.full((2, 3), math.nan)), steps=2, n=2)
    with pytest.raises(D.TokenError, match="a prediction of the network was no law"):
        guidance.steer(Bad(torch.full((2, 3), math.nan)), len, method="best_of_n", steps=2)


@pytest.mark.cuda
@pytest.mark.parametrize(("path", "name"), RUNS)
def test_the_same_tokens_on_both_devices(path, name):
    probs = torch.softmax(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), -1)
    den = D.wrap(lambda x, t: probs.log().to(x.device).expand(len(x), 6, 5), PATHS[path], 5, 6)
    if D.get(name).free:
        den = D.wrap(
            lambda x: probs.log().to(x.device).expand(len(x), 6, 5), PATHS[path], 5, 6, time=None
        )
    a, b = (
        fewstep.sample(den, sampler=name, n=500, device=d, **options_of(name))
        for d in ("cpu", "cuda")
    )
    assert float((a != b.cpu()).double().mean()) < 1e-3


def test_laws_of_exact_models_are_checked():
    with pytest.raises(ArgumentError, match="must have the sum 1"):
        D.IndependentTokens([[0.5, 0.6]], D.Masked())
    with pytest.raises(ArgumentError, match="finite numbers >= 0"):
        D.IndependentTokens([[1.5, -0.5]], D.Masked())
    with pytest.raises(ArgumentError, match="finite numbers >= 0"):
        D.TableTokens([[math.nan, 1.0], [0.0, 0.0]], D.Masked())
    with pytest.raises(ArgumentError, match=r"table must be \(S, .., S\)"):
        D.TableTokens([[0.5, 0.25, 0.25]], D.Masked())
    with pytest.raises(ArgumentError, match="transition must be"):
        D.MarkovTokens([0.5, 0.5], [[1.0]], 3, D.Masked())


def test_what_is_no_model_of_tokens():
    with pytest.raises(ArgumentError, match="a model of tokens"):
        D.complete(object())
    bad = Bad(torch.zeros(2, 3))
    bad.path = "masked"
    with pytest.raises(ArgumentError, match="must be Masked"):
        fewstep.sample(bad)


def test_tokens_of_transitions_are_checked():
    den = chain()
    cursor = D.DiscreteCursor(
        den, D.method("ancestral", den, steps=1), torch.full((1, 5), 3), SeededUniforms((0,))
    )
    with pytest.raises(ArgumentError, match="x_next must be tokens"):
        cursor.transition().log_prob(torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(ArgumentError, match="x_next holds tokens 9"):
        cursor.advance(torch.full((1, 5), 9))
    cursor.advance()
    with pytest.raises(ArgumentError, match="the run is over"):
        cursor.advance()


def test_every_argument_of_sample_is_used_or_refused():
    used = {
        "denoiser",
        "sampler",
        "steps",
        "nfe",
        "grid",
        "times",
        "n",
        "seed",
        "seeds",
        "x",
        "shape",
        "cond",
        "device",
        "callback",
        "progress",
        "info",
        "record",
        "options",
    }
    assert set(inspect.signature(fewstep.sample).parameters) - used == set(REFUSED)
