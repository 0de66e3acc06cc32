"""The losses equal the formulas of the authors' code, read there and written down here: DDPO
(kvablack/ddpo-pytorch), Flow-GRPO (yifan123/flow_grpo), MixGRPO (Tencent-Hunyuan/MixGRPO) and
DiffusionNFT (NVlabs/DiffusionNFT)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laws import gaussian, normals

import fewstep
from fewstep.guidance import policy
from fewstep.schedules import Flow

PROMPTS = np.array(["b", "a", "b", "c", "a", "c", "b", "a", "c"])
LABELS = torch.tensor([ord(prompt) for prompt in PROMPTS])


def whitened(rewards, added):
    """Per prompt: the deviation of numpy, which divides by the count."""
    found = np.empty_like(rewards)
    for prompt in "abc":
        mine = rewards[prompt == PROMPTS]
        found[prompt == PROMPTS] = (mine - mine.mean()) / (mine.std() + added)
    return torch.from_numpy(found)


def surrogate(new, old, advantage, clip):
    ratio = torch.exp(new - old)
    return torch.maximum(
        -advantage * ratio, -advantage * ratio.clamp(1.0 - clip, 1.0 + clip)
    ).mean()


@pytest.mark.parametrize(("name", "added"), [("ddpo-pytorch", 1e-6), ("flow_grpo", 1e-4)])
def test_advantages_equal_the_trackers_of_ddpo_and_flow_grpo(name, added):
    rewards = 30.0 * normals(0, 9)
    found = policy.group_advantages(rewards, LABELS, eps=added, limit=5.0)
    wanted = whitened(rewards.numpy(), added).clamp(-5.0, 5.0)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_advantages_equal_flow_grpo_with_the_global_deviation():
    rewards = normals(1, 9)
    found = policy.group_advantages(rewards, LABELS, scale="batch")
    r, wanted = rewards.numpy(), np.empty(9)
    for prompt in "abc":
        mine = prompt == PROMPTS
        wanted[mine] = (r[mine] - r[mine].mean()) / (np.std(r) + 1e-4)
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-12, atol=1e-12)


def test_advantages_equal_mixgrpo():
    """Groups side by side; the deviation of torch; several rewards, weighted."""
    rewards, weights, wanted = normals(2, 2, 8), (0.7, 1.5), torch.zeros(8, dtype=torch.float64)
    for row, w in zip(rewards, weights, strict=True):
        for group in (slice(0, 4), slice(4, 8)):
            mine = row[group]
            wanted[group] += w * (mine - mine.mean()) / (mine.std() + 1e-8)
    found = policy.combined_advantages(rewards, 4, weights, eps=1e-8, correction=1, limit=5.0)
    torch.testing.assert_close(found, wanted.clamp(-5.0, 5.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("clip", [1e-4, 0.2])
def test_the_clipped_loss_equals_ddpo_and_flow_grpo(clip):
    """They loop over the steps; the mean over (K, B) is the mean of their losses."""
    old, a = normals(3, 6, 50), normals(4, 50).clamp(-5.0, 5.0)
    new = (old + 2.0 * clip * normals(5, 6, 50)).requires_grad_()
    other = new.detach().clone().requires_grad_()
    found = policy.ppo_loss(new, old, a, clip)
    wanted = torch.stack([surrogate(n, o, a, clip) for n, o in zip(other, old, strict=True)]).mean()
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-15)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(new.grad, other.grad, rtol=1e-12, atol=1e-15)
    assert 0 < int((new.grad == 0.0).sum()) < 300


@pytest.fixture
def steps():
    """Flow-GRPO's numbers of each step: t, dt, g, and the states."""
    times = [1.0, 0.8, 0.5, 0.2, 0.0]
    plan = fewstep.plan("flow_sde", Flow(), times=times, a=0.7, form="euler")
    t, s = (torch.tensor(part, dtype=torch.float64) for part in (times[:3], times[1:4]))
    g = 0.7 * torch.sqrt(t / (1.0 - torch.where(t == 1.0, s[0], t)))
    states = normals(6, 5, 4, 2)
    return plan, t, s - t, g, states


def means(plan, states):
    model, other = gaussian(Flow(), "velocity"), gaussian(Flow(), "velocity")
    other.means.add_(0.2)
    return [fewstep.transition_means(plan, m, states) for m in (model, other)], (model, other)


def test_the_divergence_equals_flow_grpos_paper(steps):
    """In velocities: (-dt) / 2 (g (1 - t) / (2 t) + 1 / g)^2 |v - v_ref|^2."""
    plan, t, dt, g, states = steps
    (mean, ref), models = means(plan, states)
    found = policy.transition_kl(mean, ref, [step.std for step in plan.transitions])
    for k in range(3):
        v, v_ref = (m(states[k], float(t[k])) for m in models)
        factor = -dt[k] / 2.0 * (g[k] * (1.0 - t[k]) / (2.0 * t[k]) + 1.0 / g[k]) ** 2
        wanted = factor * (v - v_ref).square().sum(1)
        torch.testing.assert_close(found[k], wanted, rtol=1e-10, atol=1e-14)


def test_the_divergence_equals_flow_grpos_code_with_compat(steps):
    """Their code divides the mean over elements by 2 g^2: std^2 without its factor -dt."""
    plan, _, dt, g, states = steps
    (mean, ref), _ = means(plan, states)
    ends = [step.end.sigma - step.start.sigma for step in plan.transitions]
    assert ends == pytest.approx(dt.tolist(), rel=1e-12)
    found = policy.transition_kl(
        mean,
        ref,
        [step.std for step in plan.transitions],
        reduction="mean",
        compat="flow_grpo",
        dt=ends,
    )
    wanted = (mean - ref).square().mean(2) / (2.0 * g[:, None] ** 2)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-14)
    exact = policy.transition_kl(mean, ref, [s.std for s in plan.transitions], reduction="mean")
    torch.testing.assert_close(found, exact * -torch.tensor(ends, dtype=torch.float64)[:, None])


@pytest.mark.parametrize("b", [1.0, 0.1])
def test_nft_equals_the_code_of_diffusion_nft(b):
    x0, eps, t = (
        normals(7, 5, 3, 4, 4),
        normals(8, 5, 3, 4, 4),
        torch.linspace(0.1, 0.9, 5, dtype=torch.float64),
    )
    time = t.reshape(-1, 1, 1, 1)
    x_t, limit, advantage = (1.0 - time) * x0 + time * eps, 5.0, 4.0 * normals(9, 5)
    v_old = normals(10, 5, 3, 4, 4)
    v = normals(11, 5, 3, 4, 4).requires_grad_()
    other = v.detach().clone().requires_grad_()

    r = torch.clamp((advantage.clamp(-limit, limit) / limit) / 2.0 + 0.5, 0.0, 1.0)
    total = torch.zeros(5, dtype=torch.float64)
    for share, mixed in (
        (r, b * other + (1.0 - b) * v_old),
        (1.0 - r, (1.0 + b) * v_old - b * other),
    ):
        error = x_t - time * mixed - x0
        size = error.detach().abs().mean(dim=(1, 2, 3), keepdim=True).clip(min=1e-5)
        total = total + share * (error**2 / size).mean(dim=(1, 2, 3)) / b
    wanted = (total * limit).mean()

    found = limit * policy.nft_loss(
        x_t - time * v,
        x_t - time * v_old,
        x0,
        policy.nft_reward(advantage, limit),
        b,
        weighting="adaptive",
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    found.backward()
    wanted.backward()
    torch.testing.assert_close(v.grad, other.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("roll_back", [True, False])
def test_windows_equal_mixgrpo_while_they_are_whole(roll_back):
    """Its progressive strategy with overlap, over sampling_steps - 2 positions."""
    steps, size, every = 10, 3, 2
    most = steps - 2
    first = since = 0
    wanted = []
    for _ in range(40):
        wanted.append((first, min(first + size, most)))
        since += 1
        if since == every:
            first, since = first + 1, 0
        if first > most:
            first = 0 if roll_back else most
    whole = [w for w in wanted[: every * (most - size + 1)] if w[1] - w[0] == size]
    assert len(whole) == every * (most - size + 1)
    found = [
        policy.sliding_window(i, steps - 1, size, every=every, restart=roll_back)
        for i in range(len(whole))
    ]
    assert found == whole
    assert any(w[1] - w[0] < size for w in wanted)
