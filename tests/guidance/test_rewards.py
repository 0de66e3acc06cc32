"""Black-box rewards: what they take, what they return, what is lost, what is counted."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch

from fewstep import guidance
from fewstep.checks import ArgumentError
from fewstep.guidance.populations.rewards import Lost, Reward, RewardError

X = torch.linspace(-1.0, 1.0, 4 * 3 * 2 * 2).reshape(4, 3, 2, 2)


def mean(x):
    return x.mean((1, 2, 3))


def first_raises(x):
    if bool((x[:, 0, 0, 0] == X[0, 0, 0, 0]).any()):
        raise ValueError("no face found\nsecond line")
    return mean(x)


def test_a_tensor_reward_is_float64_without_a_graph():
    seen = []

    def f(x):
        seen.append(torch.is_grad_enabled())
        return mean(x)

    reward = Reward(f)
    x = X.clone().requires_grad_(True)
    found = reward(x)
    assert found.dtype == torch.float64 and not found.requires_grad and seen == [False]
    assert torch.equal(found, mean(X).double())
    assert (reward.calls, reward.rows, reward.lost) == (1, 4, Lost())


def test_arrays_and_lists_are_answers_too():
    def f(x):
        assert isinstance(x, np.ndarray) and x.dtype == np.float32
        return x.mean((1, 2, 3))

    expected = Reward(mean)(X)
    assert torch.allclose(Reward(f, takes="numpy")(X), expected, atol=1e-7)
    assert torch.equal(Reward(lambda x: [float(v) for v in mean(x)])(X), expected)
    assert torch.equal(Reward(lambda x: list(mean(x)))(X), expected)
    assert torch.equal(
        Reward(lambda x: mean(x) > 0)(X), torch.tensor([0.0, 0.0, 1.0, 1.0]).double()
    )
    assert Reward(f, takes="numpy")(X.bfloat16()).shape == (4,)


def test_integers_are_samples_too():
    tokens = torch.arange(6).reshape(3, 2)
    assert Reward(lambda x: x.sum(1))(tokens).tolist() == [1.0, 5.0, 9.0]


def test_pictures_are_rounded_and_clipped():
    seen = []

    def f(images):
        seen.extend(np.asarray(image) for image in images)
        return [0.0] * len(images)

    x = torch.tensor([-1.0, -2.0, 1.0, 5.0, 0.0, 0.003, 0.004, -1.0 / 3.0]).reshape(1, 1, 2, 4)
    Reward(f, takes="pil")(x)
    assert seen[0].tolist() == [[0, 0, 255, 255], [128, 128, 128, 85]]
    Reward(f, takes="pil")(X)
    assert seen[1].shape == (2, 2, 3)
    assert seen[1][0, 0].tolist() == torch.round((X[0, :, 0, 0] + 1) * 127.5).tolist()


def test_a_jpeg_reward_prefers_flat_pictures():
    def size(images):
        sizes = []
        for image in images:
            out = io.BytesIO()
            image.save(out, format="JPEG")
            sizes.append(-len(out.getvalue()))
        return sizes

    x = torch.zeros(2, 3, 32, 32)
    x[1] = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    flat, noisy = Reward(size, takes="pil")(x).tolist()
    assert flat > noisy + 500


def test_one_that_raises_loses_only_its_sample():
    reward = Reward(first_raises)
    found = reward(X)
    assert found[0] == -math.inf and torch.equal(found[1:], mean(X)[1:].double())
    assert reward.lost == Lost(1, "first_raises raised ValueError: no face found")
    assert (reward.calls, reward.rows) == (5, 8)
    assert bool(reward.lost) and not Lost()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_lose_their_sample(value):
    reward = Reward(lambda x: torch.where(torch.arange(len(x)) == 1, value, mean(x)))
    found = reward(X)
    assert found.isfinite().tolist() == [True, False, True, True] and found[1] == -math.inf
    assert reward.lost == Lost(1, f"<lambda> returned {value}") and reward.calls == 1


def test_minus_infinity_is_a_reward():
    reward = Reward(lambda x: torch.full((len(x),), -math.inf))
    assert reward(X).tolist() == [-math.inf] * 4 and not reward.lost


def test_losing_all_stops_with_the_first_error():
    with pytest.raises(RewardError, match=r"no sample has a reward, 4 of 4: <lambda> returned nan"):
        Reward(lambda x: [math.nan] * len(x))(X)

    def broken(x):
        raise KeyError("weights")

    with pytest.raises(RewardError, match=r"4 of 4: broken raised KeyError: 'weights'"):
        Reward(broken)(X)


def test_a_nan_picture_is_lost_alone():
    x = X.clone()
    x[2, 0, 0, 0] = math.nan
    reward = Reward(lambda images: [1.0] * len(images), takes="pil")
    assert reward(x).tolist() == [1.0, 1.0, -math.inf, 1.0]
    assert "contains NaN" in reward.lost.first


def test_the_samples_are_a_copy():
    x = X.clone()
    for takes in ("tensor", "numpy"):
        Reward(lambda v: [float(u) for u in v.__imul__(0)[:, 0, 0, 0]], takes=takes)(x)
    assert torch.equal(x, X)


def test_a_batch_that_is_half_written_is_not_used_again():
    def f(x):
        x[:] = 0
        if len(x) > 1:
            raise ValueError
        return x.sum((1, 2, 3))

    reward = Reward(f)
    assert reward(X).tolist() == [0.0] * 4 and not reward.lost


def test_chunks_are_calls_and_change_nothing():
    reward = Reward(first_raises, chunk=3)
    assert torch.equal(reward(X), Reward(first_raises)(X))
    assert (reward.calls, reward.rows, reward.lost.count) == (5, 7, 1)
    single = Reward(mean, chunk=1)
    single(X)
    assert (single.calls, single.rows) == (4, 4)


@pytest.mark.parametrize(
    "answer",
    [
        3.0,
        [1.0, 2.0],
        torch.zeros(4, 1),
        np.zeros(5),
        "abcd",
        None,
        torch.zeros(4, dtype=torch.cfloat),
    ],
)
def test_another_number_of_values_is_refused(answer):
    with pytest.raises(ArgumentError, match=r"one real number for each of the 4 samples"):
        Reward(lambda x: answer)(X)


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="function"):
        Reward(3)
    with pytest.raises(ArgumentError, match="did you mean 'numpy'"):
        Reward(mean, takes="nump")
    with pytest.raises(ArgumentError, match="chunk"):
        Reward(mean, chunk=0)
    with pytest.raises(ArgumentError, match="pictures are"):
        Reward(mean, takes="pil").check_shape((2, 4, 4))
    with pytest.raises(ArgumentError, match="pictures are"):
        Reward(mean, takes="pil")(torch.zeros(2, 5))


def test_of_keeps_a_reward():
    reward = Reward(mean, chunk=2)
    assert Reward.of(reward) is reward and Reward.of(mean).function is mean
    assert guidance.Reward is Reward
    assert repr(reward) == "Reward(mean, takes='tensor', chunk=2)"


def test_memory_errors_are_not_losses():
    def f(x):
        raise MemoryError

    with pytest.raises(MemoryError):
        Reward(f)(X)
