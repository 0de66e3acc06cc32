"""Training with each loss reaches the optimum of a toy problem that is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from laws import normals
from torch import nn
from torch.distributions import Normal

import fewstep
from fewstep.guidance import policy
from fewstep.schedules import Flow, VPLinear

F64 = torch.float64
STD = 0.5


class Shifted(nn.Module):
    """E[x0 | x] of data N(mean, STD^2) on a path: exact for every value of its one parameter."""

    def __init__(self, schedule, mean=(0.0, 0.0)):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean, dtype=F64))
        self.schedule = schedule

    def forward(self, x, t):
        node = self.schedule.node(float(t.reshape(-1)[0]))
        gain = node.alpha * STD**2 / (node.alpha**2 * STD**2 + node.sigma**2)
        return self.mean + gain * (x - node.alpha * self.mean)

    def denoiser(self):
        return fewstep.models.wrap(self, self.schedule, "x0", shape=(2,))


def train(net, loss_of, iterations, rate):
    """Gradient descent; return the mean of the parameter over the second half."""
    optimiser = torch.optim.SGD(net.parameters(), rate)
    seen = []
    for i in range(iterations):
        for loss in loss_of(i):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        seen.append(net.mean.detach().clone())
    return torch.stack(seen[iterations // 2 :]).mean(0)


@pytest.mark.parametrize(
    ("name", "given", "schedule"),
    [
        ("ddim", {"eta": 1.0}, VPLinear()),
        ("flow_sde", {"form": "euler", "a": 0.7}, Flow()),
        ("flow_sde", {"window": (1, 3)}, Flow()),
    ],
    ids=["ddpo", "flow_grpo", "mixgrpo"],
)
def test_policy_gradients_reach_the_best_mean(name, given, schedule):
    """E[-|x - y|^2] = -|mean - y|^2 - const, so the best mean is y."""
    net, y = Shifted(schedule), torch.tensor([1.0, -0.6], dtype=F64)
    den = net.denoiser()

    def losses(i):
        with torch.no_grad():
            x, info = fewstep.sample(
                den, name, steps=5, n=256, seed=256 * i, dtype=F64, info=True, record=True, **given
            )
            a = policy.group_advantages(-(x - y).square().sum(1), limit=None)
            old = fewstep.transition_log_prob(info.plan, den, info.states)
        for _ in range(2):
            new = fewstep.transition_log_prob(info.plan, den, info.states)
            yield policy.ppo_loss(new, old, a, 0.2)

    found = train(net, losses, 60, 0.15)
    assert float((found - y).abs().max()) < 0.06


@pytest.mark.parametrize("compat", [None, "flow_grpo"])
def test_a_linear_reward_with_a_divergence_has_its_optimum(compat):
    """E[c x_end] = A theta c and KL_k = (m_k theta)^2 / (2 std_k^2) in each element, where A and
    m_k are slopes: theta = A c / (beta sum_k m_k^2 / std_k^2), and with weights -dt_k in the sum
    with the factor of Flow-GRPO's code."""
    schedule, c = Flow(), torch.tensor([0.5, -0.3], dtype=F64)
    beta = 0.1 if compat else 0.02
    times = [1.0, 0.8, 0.55, 0.3, 0.1]
    plan = fewstep.plan("flow_sde", schedule, times=times)
    net, ref, one = Shifted(schedule), Shifted(schedule), Shifted(schedule, (1.0, 1.0))
    den, std = net.denoiser(), [t.std for t in plan.transitions]
    dt = [t.end.sigma - t.start.sigma for t in plan.transitions]
    assert len(std) == plan.nfe  # the reward depends on the parameter through noisy steps only

    def run(model, i, n):
        return fewstep.sample(
            model.denoiser(),
            "flow_sde",
            times=times,
            x=normals(i, n, 2),
            seeds=range(i * n, i * n + n),
            info=True,
            record=True,
        )

    with torch.no_grad():
        (x1, info), (x0, _) = run(one, 0, 2), run(ref, 0, 2)
        slope = float((x1 - x0)[0, 0])
        ends = [
            fewstep.transition_means(plan, m.denoiser(), info.states)[:, 0, 0] for m in (one, ref)
        ]
    pull = (ends[0] - ends[1]) ** 2 / torch.tensor(std, dtype=F64) ** 2
    if compat:
        pull = pull * -torch.tensor(dt, dtype=F64)
    best = slope * c / (beta * float(pull.sum()))
    assert 0.1 < float(best.abs().max()) < 3.0

    def losses(i):
        with torch.no_grad():
            x, info = run(net, i, 512)
            a = policy.group_advantages(x @ c, scale="none", limit=None)
            old = fewstep.transition_log_prob(plan, den, info.states)
            mean_ref = fewstep.transition_means(plan, ref.denoiser(), info.states)
        new = fewstep.transition_log_prob(plan, den, info.states)
        mean = fewstep.transition_means(plan, den, info.states)
        given = {"compat": compat, "dt": dt} if compat else {}
        kl = policy.transition_kl(mean, mean_ref, std, **given).mean()
        yield policy.ppo_loss(new, old, a, 0.2) + beta * kl

    found = train(net, losses, 80, 0.8 / float(pull.mean()) / beta)
    assert float((found - best).abs().max()) < 0.1 * float(best.abs().max())


def test_branches_at_one_step_reach_the_best_mean():
    """G2RPO: 4 anchors, 32 branches each at one noisy step, finished at strides 1, 2 and 3."""
    schedule, y = Flow(), torch.tensor([0.8, -0.4], dtype=F64)
    times = [1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1, 0.0]
    net = Shifted(schedule)
    den = net.denoiser()

    def solved(times, x):
        return fewstep.run(fewstep.plan("ddim", schedule, times=times), den, x)

    def losses(i):
        branch = policy.branch_times(times, i % 3)
        with torch.no_grad():
            x = normals(i, 4, 2)
            if len(branch.anchor) > 1:
                x = solved(branch.anchor, x)
            x = x.repeat_interleave(32, 0)
            x, info = fewstep.sample(
                den,
                "flow_sde",
                times=branch.noisy,
                a=1.0,
                x=x,
                seeds=range(128 * i, 128 * i + 128),
                info=True,
                record=True,
            )
            ends = [solved(rest, x) for rest in branch.rest]
            rewards = torch.stack([-(end - y).square().sum(1) for end in ends])
            a = policy.combined_advantages(rewards, 32, [1.0 / 3.0] * 3)
            old = fewstep.transition_log_prob(info.plan, den, info.states)
        assert old.shape == (1, 128)
        new = fewstep.transition_log_prob(info.plan, den, info.states)
        yield policy.ppo_loss(new, old, a, 0.2)

    found = train(net, losses, 240, 0.1)
    assert float((found - y).abs().max()) < 0.08


def test_nft_reaches_the_best_mean():
    """Online: samples of the old model, rewards relative to the batch. Where the mean is y,
    E[(2 r - 1)(x0 - y)] = 0 by symmetry."""
    schedule, y = Flow(), torch.tensor([1.0, -0.6], dtype=F64)
    net, old = Shifted(schedule), Shifted(schedule)

    def losses(i):
        with torch.no_grad():
            old.mean.lerp_(net.mean, 1.0 - policy.nft_decay(i))
            x0 = fewstep.sample(old.denoiser(), "dpmpp_2m", steps=4, n=256, seed=256 * i, dtype=F64)
            r = policy.nft_reward(policy.group_advantages(-(x0 - y).square().sum(1)), 2.0)
        for k, t in enumerate((0.3, 0.6, 0.9)):
            x_t = (1.0 - t) * x0 + t * normals(3 * i + k, 256, 2)
            times = torch.full((256,), t, dtype=F64)
            with torch.no_grad():
                before = old(x_t, times)
            yield policy.nft_loss(net(x_t, times), before, x0, r, weighting="adaptive")

    found = train(net, losses, 60, 0.2)
    assert float((found - y).abs().max()) < 0.06


def test_gradient_descent_on_nft_reaches_its_minimiser():
    """A prediction for each x_t, by the loss of weighted draws."""
    draws, weights = normals(0, 12, 3, 2), normals(1, 12, 3).square()
    old, r, b = normals(2, 3, 2), torch.sigmoid(normals(3, 12, 3)), 0.5
    p = old.clone().requires_grad_()
    best = policy.nft_minimiser(old, draws, r, b, weights=weights)
    for _ in range(60):
        losses = [policy.nft_loss(p, old, d, s, b, reduction="none") for d, s in zip(draws, r)]  # noqa: B905
        total = ((weights / weights.sum(0)) * torch.stack(losses)).sum()
        (grad,) = torch.autograd.grad(total, p)
        p = (p - 0.8 / b * grad).detach().requires_grad_()
    torch.testing.assert_close(p.detach(), best, rtol=1e-9, atol=1e-9)
    assert float((best - old).abs().max()) > 0.1


def quadrature(mean, std):
    z, w = np.polynomial.hermite_e.hermegauss(80)
    return mean + std * torch.from_numpy(z), torch.from_numpy(w / w.sum())


@pytest.mark.parametrize("a", [1.0, 3.0])
def test_ddo_reaches_the_data(a):
    """log p = quadratic + a constant of its own: the minimum is p = p_data / a."""
    theta = torch.tensor([0.0, 0.0, 0.0], dtype=F64, requires_grad=True)
    ref, data = Normal(0.0, 1.0), Normal(torch.tensor(0.7, dtype=F64), 0.6)
    (x, w), (u, q) = quadrature(0.7, 0.6), quadrature(0.0, 1.0)

    def log_ratio(x):
        mean, log_std, constant = theta
        return Normal(mean, log_std.exp()).log_prob(x) - ref.log_prob(x) + constant

    optimiser = torch.optim.LBFGS([theta], max_iter=200, line_search_fn="strong_wolfe")
    optimiser.param_groups[0]["tolerance_grad"] = 1e-11
    optimiser.param_groups[0]["tolerance_change"] = 1e-14

    def closure():
        optimiser.zero_grad()
        # a mean with weights: the sum of each node's loss
        loss = sum(
            weight * policy.ddo_loss(d[None], torch.zeros(1, dtype=F64), a)
            for weight, d in zip(w, log_ratio(x), strict=True)
        ) + sum(
            weight * policy.ddo_loss(torch.zeros(1, dtype=F64), d[None], a)
            for weight, d in zip(q, log_ratio(u), strict=True)
        )
        loss.backward()
        return loss

    optimiser.step(closure)
    mean, log_std, constant = theta.detach().tolist()
    assert mean == pytest.approx(float(data.loc), abs=1e-5)
    assert log_std == pytest.approx(math.log(0.6), abs=1e-5)
    assert constant == pytest.approx(-math.log(a), abs=1e-5)


def test_ddo_of_denoisers_reaches_the_data():
    """eps predictions, 64 draws of (lam, eps) for each x0 shared by both models; at a = 1 and for
    normalised densities the minimum is the data."""
    net, y = Shifted(VPLinear()), torch.tensor([0.6, -0.3], dtype=F64)
    lam = torch.linspace(-4.0, 4.0, 64, dtype=F64)
    alpha, sigma = torch.sigmoid(2 * lam).sqrt()[:, None], torch.sigmoid(-2 * lam).sqrt()[:, None]
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)

    def log_ratio(x0, seed):
        n = len(x0)
        eps = normals(seed, n, 64, 2)
        x = alpha * x0[:, None] + sigma * eps
        found = [
            ((x - alpha * (m + gain * (x - alpha * m))) / sigma).reshape(-1, 2)
            for m in (net.mean, torch.zeros(2, dtype=F64))
        ]
        drawn = policy.ddo_log_ratio(*found, eps.reshape(-1, 2), weight=8.0)  # lam is uniform
        return drawn.reshape(n, 64).mean(1)

    def losses(i):
        data, drawn = y + STD * normals(4 * i, 256, 2), STD * normals(4 * i + 1, 256, 2)
        yield policy.ddo_loss(log_ratio(data, 4 * i + 2), log_ratio(drawn, 4 * i + 3))

    found = train(net, losses, 100, 0.3)
    assert float((found - y).abs().max()) < 0.06
