"""Losses for fine-tuning: closed forms of advantages, the clipped ratio, divergences, the minimum of
DiffusionNFT and of DDO; what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from laws import gaussian, normals
from torch.distributions import Normal, kl_divergence

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import policy
from fewstep.schedules import Flow, VPLinear

F64 = torch.float64


def tensor(*values, **given):
    return torch.tensor(values, dtype=F64, **given)


def test_advantages_have_mean_zero_and_deviation_one_in_each_group():
    rewards, labels = normals(0, 12), torch.tensor([7, 3, 3, 7, 1, 1, 1, 7, 3, 1, 3, 7])
    found = policy.group_advantages(rewards, labels, eps=0.0, limit=None)
    for label in (1, 3, 7):
        mine = found[labels == label]
        assert abs(float(mine.mean())) < 1e-15
        assert float(mine.std(correction=0)) == pytest.approx(1.0, abs=1e-14)
    order = labels.argsort()
    by_size = policy.group_advantages(rewards[order], 4, eps=0.0, limit=None)
    torch.testing.assert_close(by_size, found[order], rtol=1e-14, atol=1e-15)


def test_advantages_of_equal_rewards_are_zero_exactly():
    rewards = tensor(*[0.7123] * 49, *[1e6 + 0.1] * 49)
    for scale in ("group", "batch", "none"):
        found = policy.group_advantages(rewards, 49, scale=scale, eps=0.0)
        assert bool((found == 0.0).all())
    assert bool((policy.group_advantages(rewards[:49], scale="batch", eps=0.0) == 0.0).all())


def test_scales_and_limit_of_advantages():
    rewards = tensor(0.0, 2.0, 10.0, 30.0)
    plain = policy.group_advantages(rewards, 2, scale="none", limit=None)
    assert plain.tolist() == [-1.0, 1.0, -10.0, 10.0]
    batch = policy.group_advantages(rewards, 2, scale="batch", eps=0.5, limit=None)
    torch.testing.assert_close(batch, plain / (rewards.std(correction=0) + 0.5))
    assert policy.group_advantages(rewards, 2, scale="none").tolist() == [-1.0, 1.0, -5.0, 5.0]
    one = policy.group_advantages(rewards, 2, correction=1, eps=0.0)
    torch.testing.assert_close(one, tensor(-1.0, 1.0, -1.0, 1.0) / math.sqrt(2.0))


def test_combined_advantages_are_the_weighted_sum():
    rewards = normals(1, 3, 8)
    rows = [policy.group_advantages(row, 4, limit=None) for row in rewards]
    found = policy.combined_advantages(rewards, 4, [1.0, 0.0, -2.0], limit=None)
    torch.testing.assert_close(found, rows[0] - 2.0 * rows[2])
    torch.testing.assert_close(policy.combined_advantages(rewards, 4, limit=None), sum(rows))
    assert float(policy.combined_advantages(rewards, 4, limit=0.3).abs().max()) == 0.3


def test_the_gradient_at_the_old_policy_is_the_policy_gradient():
    old, a = normals(2, 5, 8), normals(3, 8)
    new = old.clone().requires_grad_()
    loss = policy.ppo_loss(new, old, a, 0.2)
    assert float(loss.detach()) == pytest.approx(-float(a.mean()), abs=1e-14)
    loss.backward()
    torch.testing.assert_close(new.grad, -(a / 40.0).expand(5, 8), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("a", [2.0, -2.0])
def test_beyond_the_interval_only_one_side_has_a_gradient(a):
    """A positive advantage stops at 1 + clip, a negative one at 1 - clip."""
    change = torch.linspace(-0.5, 0.5, 101, dtype=F64).requires_grad_()
    losses = policy.ppo_loss(
        change, torch.zeros(101, dtype=F64), torch.full((101,), a, dtype=F64), 0.1, reduction="none"
    )
    losses.sum().backward()
    ratio = change.detach().exp()
    stopped = ratio > 1.1 if a > 0 else ratio < 0.9
    assert 0 < int(stopped.sum()) < 101
    wanted = torch.where(stopped, -a * (1.1 if a > 0 else 0.9), -a * ratio)
    torch.testing.assert_close(losses.detach(), wanted)
    torch.testing.assert_close(change.grad, torch.where(stopped, 0.0, -a * ratio))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_ratio_that_overflows_has_gradient_zero_and_no_nan(dtype):
    new = torch.tensor([500.0, -500.0, 500.0], dtype=dtype, requires_grad=True)
    loss = policy.ppo_loss(new, torch.zeros(3), torch.tensor([1.0, -1.0, 0.0]), 0.1)
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx((-1.1 + 0.9) / 3.0, abs=1e-6)
    assert new.grad.tolist() == [0.0, 0.0, 0.0]


def test_ratios_are_clipped_at_the_width_in_double_precision():
    """1 + 1e-4 in float32 is off by 1e-8."""
    new = tensor(math.log1p(1e-4 + 1e-12), requires_grad=True)
    loss = policy.ppo_loss(new, tensor(0.0), torch.ones(1), 1e-4)
    assert float(loss.detach()) == -1.0 - 1e-4
    loss.backward()
    assert float(new.grad) == 0.0


def test_the_divergence_is_that_of_torch():
    mean, ref, std = normals(4, 3, 5, 2), normals(5, 3, 5, 2), [0.3, 1.0, 2.5]
    found = policy.transition_kl(mean, ref, std)
    s = tensor(*std)[:, None, None]
    wanted = kl_divergence(Normal(mean, s), Normal(ref, s)).sum(2)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(policy.transition_kl(mean, ref, std, reduction="mean"), wanted / 2)


def test_the_divergence_is_the_mean_of_the_log_ratio():
    """Over next states of the model itself: E[log p - log p_ref] = KL."""
    plan = fewstep.plan("ddim", VPLinear(), steps=4, eta=1.0)
    model, other = gaussian(VPLinear()), gaussian(VPLinear())
    other.means.add_(0.3)
    states = normals(6, 5, 20000, 2)
    k = plan.transitions[1]
    mean = fewstep.transition_means(plan, model, states, steps=[1])
    states[k.index + 1] = mean[0] + k.std * normals(7, 20000, 2)
    ratio = fewstep.transition_log_prob(plan, model, states, steps=[1])
    ratio = ratio - fewstep.transition_log_prob(plan, other, states, steps=[1])
    ref = fewstep.transition_means(plan, other, states, steps=[1])
    kl = policy.transition_kl(mean, ref, k.std)
    error = (ratio - kl)[0]
    assert abs(float(error.mean())) < 4.0 * float(error.std()) / math.sqrt(20000.0)
    assert float(kl.mean()) > 8.0 * float(error.std()) / math.sqrt(20000.0)


def test_means_are_those_of_the_transitions():
    plan = fewstep.plan("dpmpp_2m_sde", VPLinear(), grid="lam", steps=5)
    model = gaussian(VPLinear())
    states = normals(8, plan.nfe + 1, 3, 2)
    means = fewstep.transition_means(plan, model, states)
    found = fewstep.transition_log_prob(plan, model, states)
    for k, step in enumerate(plan.transitions):
        wanted = Normal(means[k], step.std).log_prob(states[step.index + 1]).sum(1)
        torch.testing.assert_close(found[k], wanted, rtol=1e-12, atol=1e-12)
    one = fewstep.transition_means(plan, model, states, steps=[2])
    assert torch.equal(one[0], means[2])


def posterior(x_t, t, nodes=60):
    """Draws x0 and weights of N(0.4, 0.7^2) given ``x_t = (1 - t) x0 + t eps``, by quadrature."""
    mean, var = 0.4, 0.49
    gain = (1 - t) * var / ((1 - t) ** 2 * var + t**2)
    centre, spread = mean + gain * (x_t - (1 - t) * mean), math.sqrt(var * (1 - gain * (1 - t)))
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    z, w = torch.from_numpy(z), torch.from_numpy(w / w.sum())
    return centre + spread * z[:, None, None], w[:, None].expand(nodes, len(x_t))


@pytest.mark.parametrize("b", [1.0, 0.1])
def test_the_minimum_of_nft_in_closed_form(b):
    """Gaussian x0, the reward a Gaussian bump: E[r | x_t] and E[r x0 | x_t] are known."""
    t, y, tau = 0.6, 1.0, 0.5
    x_t = tensor(-1.0, 0.2, 1.5)[:, None]
    x0, w = posterior(x_t, t)
    v = (x_t - x0) / t
    old = (v * w[..., None]).sum(0)  # the velocity of the old model is exact
    r = torch.exp(-0.5 * ((x0 - y) / tau) ** 2)[..., 0]
    found = policy.nft_minimiser(old, v, r, b, weights=w)
    # the product of two Gaussians
    m = x_t - t * old
    var = ((x0 - m) ** 2 * w[..., None]).sum(0)
    share = torch.sqrt(tau**2 / (tau**2 + var)) * torch.exp(-0.5 * (m - y) ** 2 / (tau**2 + var))
    pulled = (m * tau**2 + y * var) / (tau**2 + var)
    wanted = old + 2.0 / b * share * ((x_t - pulled) / t - old)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)
    # and it is where the mean loss has no slope
    p = found.clone().requires_grad_()
    losses = [
        policy.nft_loss(p, old, v[i], r[i], b, reduction="none") * w[i] for i in range(len(w))
    ]
    sum(losses).sum().backward()
    assert float(p.grad.abs().max()) < 1e-12
    below = float(sum(losses).sum().detach())
    for push in (-0.01, 0.01):
        q = found + push
        moved = [policy.nft_loss(q, old, v[i], r[i], b, reduction="none") * w[i] for i in range(60)]
        # a parabola of curvature b in each of three samples
        assert float(sum(moved).sum()) - below == pytest.approx(3 * b * 1e-4, rel=1e-6)


def test_a_reward_of_one_half_changes_nothing():
    old, v = normals(9, 4, 3), normals(10, 6, 4, 3)
    half = torch.full((6, 4), 0.5, dtype=F64)
    assert torch.equal(policy.nft_minimiser(old, v, half), old)
    for weighting in ("unit", "adaptive"):
        p = old.clone().requires_grad_()
        policy.nft_loss(p, old, v[0], half[0], 0.3, weighting=weighting).backward()
        assert float(p.grad.abs().max()) < 1e-16


def test_reward_one_is_flow_matching():
    """At b = 1 the old model does not matter; the minimum is E[v | x_t]."""
    p, v, one = normals(11, 4, 3), normals(12, 4, 3), torch.ones(4, dtype=F64)
    loss = policy.nft_loss(p, normals(13, 4, 3), v, one, reduction="none")
    torch.testing.assert_close(loss, (p - v).square().mean(1))
    draws = normals(14, 5, 4, 3)
    found = policy.nft_minimiser(p, draws, torch.ones(5, 4, dtype=F64))
    torch.testing.assert_close(found, draws.mean(0))


def test_nft_is_the_same_in_every_kind_of_prediction():
    """The weights of m+ and m- sum to 1, so the squares differ by t^2 only."""
    t, x_t = 0.3, normals(15, 4, 3)
    v, old, target, r = (
        normals(16, 4, 3),
        normals(17, 4, 3),
        normals(18, 4, 3),
        tensor(0, 0.2, 0.9, 1),
    )
    in_v = policy.nft_loss(v, old, target, r, 0.4)
    in_x0 = policy.nft_loss(x_t - t * v, x_t - t * old, x_t - t * target, r, 0.4)
    assert float(in_x0) == pytest.approx(t**2 * float(in_v), rel=1e-12)


def test_rewards_and_decays_of_nft():
    found = policy.nft_reward(tensor(-9.0, -5.0, 0.0, 2.5, 7.0))
    assert found.tolist() == [0.0, 0.0, 0.5, 0.75, 1.0]
    assert [policy.nft_decay(s) for s in (0, 100, 9000)] == [0.0, 0.1, 0.5]
    late = [policy.nft_decay(s, flat=75, rate=0.0075, most=0.999) for s in (74, 75, 175, 900)]
    assert late == [0.0, 0.0, 0.75, 0.999]


def test_ddo_starts_at_twice_log_two_with_the_gradient_of_the_likelihood():
    data, drawn = torch.zeros(6, dtype=F64), torch.zeros(3, dtype=F64)
    data.requires_grad_()
    drawn.requires_grad_()
    loss = policy.ddo_loss(data, drawn, 2.0)
    assert float(loss.detach()) == pytest.approx(3.0 * math.log(2.0), rel=1e-15)
    loss.backward()
    torch.testing.assert_close(data.grad, torch.full((6,), -1 / 12, dtype=F64))
    torch.testing.assert_close(drawn.grad, torch.full((3,), 1 / 3, dtype=F64))


def test_ddo_of_large_log_ratios_is_linear():
    found = policy.ddo_loss(torch.tensor([-300.0]), torch.tensor([200.0]))
    assert float(found) == 500.0
    assert float(policy.ddo_loss(torch.tensor([300.0]), torch.tensor([-200.0]))) == 0.0


def eps_of(mean, std, x, alpha, sigma):
    """E[eps | x] of data N(mean, std^2)."""
    return sigma * (x - alpha * mean) / (alpha**2 * std**2 + sigma**2)


def test_the_mean_error_of_exact_models_is_the_log_ratio():
    """Over lam with w = 1, and the noise of both models the same; both by quadrature."""
    x0 = tensor(-0.7, 0.3, 1.9)
    lam = torch.linspace(-14.0, 14.0, 2801, dtype=F64)
    z, w = np.polynomial.hermite_e.hermegauss(40)
    z, w = torch.from_numpy(z), torch.from_numpy(w / w.sum())
    alpha, sigma = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
    alpha, sigma, eps, start = (
        a.expand(3, len(lam), len(z))
        for a in (alpha[:, None], sigma[:, None], z[None, :], x0[:, None, None])
    )
    x = alpha * start + sigma * eps
    new, old = eps_of(0.6, 0.8, x, alpha, sigma), eps_of(-0.2, 1.3, x, alpha, sigma)
    flat = [a.reshape(-1, 1) for a in (new, old, eps)]
    found = policy.ddo_log_ratio(*flat, weight=1.0).reshape(x.shape)
    found = torch.trapezoid((found * w).sum(2), lam, dim=1)
    wanted = Normal(0.6, 0.8).log_prob(x0) - Normal(-0.2, 1.3).log_prob(x0)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_the_log_ratio_of_close_models_does_not_cancel():
    eps, ref = 1e3 * torch.ones(1, 4), torch.zeros(1, 4)
    step = torch.full((1, 4), 2.0**-20)
    found = policy.ddo_log_ratio(ref + step, ref, eps, torch.tensor([0.5]), 2.0)
    wanted = -4 * ((2.0**-20 - 1e3) ** 2 - 1e6)
    assert float(found) == pytest.approx(wanted, rel=1e-6)


def test_times_of_branches():
    found = policy.branch_times([1.0, 0.9, 0.7, 0.4, 0.3, 0.1, 0.0], 1)
    assert found.anchor == (1.0, 0.9) and found.noisy == (0.9, 0.7)
    assert found.rest == (
        (0.7, 0.4, 0.3, 0.1, 0.0),
        (0.7, 0.3, 0.0),
        (0.7, 0.1, 0.0),
    )
    assert policy.branch_times([3, 2, 1, 0], 0, [9]).rest == ((2.0, 0.0),)
    assert policy.branch_times([3, 2, 1, 0], 0).anchor == (3.0,)


def test_the_window_slides_to_the_last_noisy_step():
    found = [policy.sliding_window(i, 6, 3, every=2) for i in range(8)]
    assert found == [(0, 3), (0, 3), (1, 4), (1, 4), (2, 5), (2, 5), (0, 3), (0, 3)]
    assert policy.sliding_window(99, 6, 3, every=2, restart=False) == (2, 5)
    for window in set(found):
        plan = fewstep.plan("flow_sde", Flow(), steps=6, window=window)
        assert [t.index for t in plan.transitions] == list(range(*window))


def test_constants_made_in_inference_mode_are_taken():
    """Sampling and rewards are often computed there; autograd saves no such tensor."""
    m, one = torch.ones(2, 3, requires_grad=True), torch.ones(2, requires_grad=True)
    means = torch.ones(1, 2, 3, requires_grad=True)
    with torch.inference_mode():
        a = policy.group_advantages(torch.tensor([1.0, 2.0]))
        old, target, r, w = torch.zeros(2), torch.zeros(2, 3), policy.nft_reward(a), torch.ones(2)
        ref = torch.zeros(1, 2, 3)
    policy.ppo_loss(one, old, a, 2.0).backward()
    policy.transition_kl(means, ref, torch.ones(1)).sum().backward()
    policy.nft_loss(m, target, target, r, weighting="adaptive").backward()
    policy.ddo_log_ratio(m, target, target, w).sum().backward()
    for value in (m, one, means):
        assert bool(torch.isfinite(value.grad).all()) and bool((value.grad != 0.0).any())


ONE, TWO = torch.ones(1), torch.ones(2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: policy.group_advantages(torch.tensor([1.0, math.nan])), "not finite.*at \\(1,\\)"),
        (lambda: policy.group_advantages(torch.tensor([1, 2])), "floating point"),
        (lambda: policy.group_advantages([1.0, 2.0]), "rewards must be a floating point tensor"),
        (lambda: policy.group_advantages(ONE), "one sample only"),
        (lambda: policy.group_advantages(TWO, 1), "one sample only"),
        (lambda: policy.group_advantages(torch.ones(3), 2), "no multiple"),
        (lambda: policy.group_advantages(torch.ones(3), torch.tensor([0, 0, 1])), "one sample"),
        (lambda: policy.group_advantages(TWO, torch.tensor([0.0, 0.0])), "integers"),
        (lambda: policy.group_advantages(TWO, torch.tensor([0])), "must be \\(2,\\)"),
        (lambda: policy.group_advantages(torch.ones(2, 2)), "must be \\(batch,\\)"),
        (lambda: policy.group_advantages(torch.ones(0)), "no elements"),
        (lambda: policy.group_advantages(TWO, limit=0.0), "limit"),
        (lambda: policy.group_advantages(TWO, scale="groups"), "'group'"),
        (lambda: policy.group_advantages(TWO, eps=-1.0), "eps"),
        (lambda: policy.group_advantages(TWO.clone().requires_grad_()), "requires grad"),
        (lambda: policy.combined_advantages(TWO), "must be \\(rewards, batch\\)"),
        (lambda: policy.combined_advantages(torch.ones(2, 2), weights=[1.0]), "1 weights"),
        (lambda: policy.ppo_loss(TWO, TWO, TWO, 0.0), "clip=0.0"),
        (lambda: policy.ppo_loss(TWO, TWO, TWO, -0.1), "clip=-0.1"),
        (lambda: policy.ppo_loss(TWO, ONE, TWO), "must be equal"),
        (lambda: policy.ppo_loss(torch.ones(3, 2), torch.ones(3, 2), torch.ones(3)), "advantage"),
        (lambda: policy.ppo_loss(TWO, TWO.clone().requires_grad_(), TWO), "old_log_prob requires"),
        (lambda: policy.ppo_loss(TWO, TWO, TWO * math.inf), "advantage has 2 of 2"),
        (lambda: policy.ppo_loss(TWO, TWO, TWO, reduction="avg"), "reduction"),
        (lambda: policy.transition_kl(torch.ones(1, 2), torch.ones(1, 2), 1.0), "3 axes"),
        (lambda: policy.transition_kl(*[torch.ones(1, 2, 2)] * 2, 0.0), "positive"),
        (lambda: policy.transition_kl(*[torch.ones(3, 2, 2)] * 2, [1.0, 2.0]), "2 numbers for 3"),
        (lambda: policy.transition_kl(*[torch.ones(1, 2, 2)] * 2, 1.0, compat="x"), "compat"),
        (lambda: policy.transition_kl(*[torch.ones(1, 2, 2)] * 2, 1.0, dt=-0.1), "compat="),
        (
            lambda: policy.transition_kl(*[torch.ones(1, 2, 2)] * 2, 1.0, compat="flow_grpo"),
            "needs dt",
        ),
        (
            lambda: policy.transition_kl(
                *[torch.ones(1, 2, 2)] * 2, 1.0, compat="flow_grpo", dt=0.1
            ),
            "negative",
        ),
        (lambda: policy.nft_reward(TWO, 0.0), "limit"),
        (lambda: policy.nft_reward(TWO * math.nan), "not finite"),
        (lambda: policy.nft_loss(*[torch.ones(2, 3)] * 3, TWO, 0.0), "b=0.0"),
        (lambda: policy.nft_loss(*[torch.ones(2, 3)] * 3, 1.5 * TWO), "in \\[0, 1\\]"),
        (lambda: policy.nft_loss(*[torch.ones(2, 3)] * 3, torch.ones(3)), "r has shape \\(3,\\)"),
        (lambda: policy.nft_loss(*[torch.ones(2, 3)] * 2, TWO, TWO), "must be equal"),
        (lambda: policy.nft_loss(*[torch.ones(2, 3)] * 3, TWO, weighting="adapt"), "'adaptive'"),
        (lambda: policy.nft_minimiser(TWO, torch.ones(4, 3), torch.ones(4, 3)), "by the shape"),
        (
            lambda: policy.nft_minimiser(
                TWO, torch.ones(4, 2), torch.ones(4, 2), weights=-torch.ones(4, 2)
            ),
            "non-negative",
        ),
        (lambda: policy.nft_decay(-1), "step"),
        (lambda: policy.ddo_loss(TWO, TWO, 0.0), "a=0.0"),
        (lambda: policy.ddo_loss(torch.ones(2, 2), TWO), "must be \\(batch,\\)"),
        (lambda: policy.ddo_log_ratio(*[torch.ones(2, 3)] * 3, torch.ones(3)), "weight has shape"),
        (lambda: policy.ddo_log_ratio(*[torch.ones(2, 3)] * 3, -1.0), "non-negative"),
        (lambda: policy.branch_times([1.0, 0.0], 0), "3 or more"),
        (lambda: policy.branch_times([0.0, 0.5, 1.0], 0), "must fall"),
        (lambda: policy.branch_times([1.0, 0.5, 0.0], 1), "k=1"),
        (lambda: policy.branch_times([1.0, 0.5, 0.0], 0, [0]), "strides=0"),
        (lambda: policy.sliding_window(0, 4, 4), "3 that can be noisy"),
    ],
)
def test_what_is_refused(call, says):
    with pytest.raises(ArgumentError, match=says):
        call()
