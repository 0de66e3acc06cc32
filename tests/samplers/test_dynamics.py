"""SDEs of flows, stochastic interpolants and mean-reverting paths: formulas written out, and the
laws of exact models."""

import math
from itertools import pairwise

import pytest
import torch
from laws import check_law, from_the_exact_start, gaussian, normals

import fewstep
from fewstep.eval.certificates.gaussian import weak_errors
from fewstep.eval.certificates.problem import smooth_grid
from fewstep.plans.densities import transitions
from fewstep.samplers import build, get, make_options
from fewstep.samplers.singlestep.interpolants import diffusion_of_tau
from fewstep.schedules import VE, Flow, VPLinear, grid

# flow_sde


def test_the_noise_of_flow_grpo_is_constant_tau():
    for t in (0.05, 0.4, 0.9):
        node = Flow().node(t)
        assert 2.0 * diffusion_of_tau(0.7 / math.sqrt(2.0), node, node) == pytest.approx(
            0.49 * t / (1.0 - t), rel=1e-12
        )


def test_the_exact_transition():
    """mean = (sigma_t/sigma_s) e^{-tau^2 h} x + alpha_t (1 - e^{-(1 + tau^2) h}) D, std = sigma_t
    sqrt(1 - e^{-2 tau^2 h})."""
    plan = fewstep.plan("flow_sde", Flow(), times=[0.9, 0.6, 0.3, 0.1], a=0.7)
    found = transitions(plan)
    assert len(found) == 3
    assert plan.exactness == "exact"
    for step, (s, t) in zip(found, zip(plan.nodes, plan.nodes[1:], strict=False), strict=True):
        h, tau2 = t.lam - s.lam, 0.245
        assert (step.start, step.end, step.memory) == (s, t, 1)
        assert step.carry == pytest.approx(t.sigma / s.sigma * math.exp(-tau2 * h), rel=1e-12)
        assert step.terms == (
            (0, "x0", "main", pytest.approx(t.alpha * -math.expm1(-(1.0 + tau2) * h), rel=1e-12)),
        )
        assert step.std == pytest.approx(
            t.sigma * math.sqrt(-math.expm1(-2.0 * tau2 * h)), rel=1e-12
        )


def test_the_euler_form_is_flow_grpos():
    """mean = x (1 + g^2 dt/(2t)) + u (1 + g^2 (1 - t)/(2t)) dt, std = g sqrt(-dt); at t = 1 g has
    the next 1 - t; the last is clean."""
    times = [1.0, 0.75, 0.5, 0.2, 0.0]
    plan = fewstep.plan("flow_sde", Flow(), times=times, a=0.7, form="euler")
    model = gaussian(Flow(), "velocity")
    z = normals(0, 4, 5, 2)
    x = z[0]
    for k, (t, s) in enumerate(pairwise(times)):
        u, dt = model(x, t), s - t
        if s == 0.0:
            x = x - t * u
            continue
        g2 = 0.49 * t / (1.0 - (t if t < 1.0 else s))
        x = (
            x * (1.0 + g2 * dt / (2.0 * t))
            + u * (1.0 + g2 * (1.0 - t) / (2.0 * t)) * dt
            + math.sqrt(-g2 * dt) * z[k + 1]
        )
    torch.testing.assert_close(
        fewstep.run(plan, model, z[0], noise=list(z[1 : 1 + len(plan.draws)])),
        x,
        rtol=1e-12,
        atol=1e-12,
    )
    assert len(plan.draws) == 3


def test_both_forms_meet_as_steps_shrink():
    for h, most in ((1e-2, 4e-2), (1e-4, 4e-4)):
        exact, euler = (
            transitions(fewstep.plan("flow_sde", Flow(), times=[0.5, 0.5 - h], form=form, tau=0.8))[
                0
            ].std
            for form in ("exact", "euler")
        )
        assert abs(euler / exact - 1.0) < most


def test_noise_in_a_window_of_steps():
    path = grid("uniform", Flow(), 6)
    plan = fewstep.plan("flow_sde", Flow(), grid=path, window=(2, 4))
    assert [draw.start for draw in plan.draws] == [path[2], path[3]]
    single = fewstep.plan("flow_sde", Flow(), grid=path, window=(3, 4), form="euler")
    assert [t.index for t in transitions(single)] == [3]
    own = fewstep.plan("flow_sde", Flow(), grid=path, tau=(0.0, 0.0, 0.5, 1.0, 0.0, 0.0))
    assert [t.index for t in transitions(own)] == [2, 3]
    assert own.exactness == "exact"
    model, x = gaussian(Flow(), "velocity"), normals(0, 3, 2)
    none = fewstep.plan("flow_sde", Flow(), grid=path, tau=0.0)
    torch.testing.assert_close(
        fewstep.run(none, model, x), fewstep.run(fewstep.plan("ddim", Flow(), grid=path), model, x)
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": (4, 2)}, "window"),
        ({"window": (1,)}, "window"),
        ({"tau": (0.5,)}, "1 values for 4 steps"),
        ({"tau": -1.0}, "tau"),
        ({"order": 2, "form": "euler"}, "order"),
        ({"form": "em"}, "exact"),
    ],
)
def test_bad_flow_sde_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        fewstep.plan("flow_sde", Flow(), steps=4, **given)


@pytest.mark.parametrize("order", [1, 2])
def test_log_probabilities(order):
    """What ran is replayed: every recorded next state is mean + std z, and its density is the
    normal's."""
    plan = fewstep.plan("flow_sde", Flow(), steps=5, grid="uniform", order=order)
    model, z = gaussian(Flow(), "velocity"), normals(0, 6, 7, 2)
    seen = []
    fewstep.run(
        plan,
        model,
        z[0],
        noise=list(z[1 : 1 + len(plan.draws)]),
        on_step=lambda step: seen.append(step) and None,
    )
    found = transitions(plan)
    assert len(found) == 4
    assert max(t.memory for t in found) == order
    for step in found:
        outputs = [seen[step.index - age].outputs for age in range(step.memory)]
        state = seen[step.index]
        mean = step.mean(state.x, *outputs)
        torch.testing.assert_close(
            state.x_next, mean + step.std * z[1 + step.draw], rtol=1e-10, atol=1e-10
        )
        wanted = torch.distributions.Normal(mean, step.std).log_prob(state.x_next).sum(1)
        torch.testing.assert_close(step.log_prob(state.x_next, state.x, *outputs), wanted)
    if order == 2:
        with pytest.raises(ValueError, match="newest first"):
            found[-1].mean(z[0])


def test_log_probabilities_are_differentiable():
    step = transitions(fewstep.plan("flow_sde", Flow(), times=[0.8, 0.5, 0.0]))[0]
    data = normals(0, 3, 2).requires_grad_()
    x, y = normals(1, 3, 2), normals(2, 3, 2)
    step.log_prob(y, x, {"x0": data}).sum().backward()
    c = step.terms[0][3]
    torch.testing.assert_close(
        data.grad, c * (y - step.mean(x, {"x0": data.detach()})) / step.std**2
    )


@pytest.mark.parametrize("schedule", [Flow(), VPLinear(), VE(0.01, 50.0)])
@pytest.mark.parametrize(
    "given", [{"order": 2, "tau": 1.0}, {"order": 2, "tau": 1.0, "window": (20, 60)}]
)
def test_the_law_of_flow_sde(schedule, given):
    model = gaussian(schedule)
    plan = fewstep.plan("flow_sde", schedule, grid=grid("lam", schedule, 80), **given)
    check_law(from_the_exact_start(plan, model), [0.7, -0.4], [0.5, 0.3])


# interpolants


@pytest.mark.parametrize("method", ["em", "heun"])
@pytest.mark.parametrize(
    "diffusion", ["constant", "sigma", "linear", "decreasing", "increasing_decreasing"]
)
def test_every_diffusion_has_the_same_law(method, diffusion):
    def error(n):
        options = make_options(
            get("interpolant_sde"), {"diffusion": diffusion, "scale": 0.5, "method": method}
        )
        return max(weak_errors(build("interpolant_sde", smooth_grid(Flow(), n), options)))

    few, many = error(320), error(640)
    assert many < 2e-3
    assert abs(math.log2(few / many) - 1.0) < 0.1


def test_the_schemes_of_sit():
    """Euler-Maruyama and Heun of the authors' code, with w = sigma and the noise-free last step
    along the drift."""
    times, model = [0.9, 0.7, 0.4, 0.04, 0.0], gaussian(Flow(), "velocity")
    z = normals(0, 4, 5, 2)

    def drift(x, t):
        u = model(x, t)
        return u + (x + (1.0 - t) * u)  # u - w score, score = -eps / t, w = t

    for method in ("em", "heun"):
        plan = fewstep.plan(
            "interpolant_sde", Flow(), times=times, diffusion="sigma", method=method, last="mean"
        )
        x = z[0]
        for k, (t, s) in enumerate(pairwise(times)):
            noise = math.sqrt(2.0 * t * (t - s)) * z[k + 1] if s else 0.0
            if method == "em" or not s:
                x = x + (s - t) * drift(x, t) + noise
            else:
                noisy = x + noise
                first = drift(noisy, t)
                x = noisy + 0.5 * (s - t) * (first + drift(noisy + (s - t) * first, s))
        torch.testing.assert_close(
            fewstep.run(plan, model, z[0], noise=list(z[1 : 1 + len(plan.draws)])),
            x,
            rtol=1e-11,
            atol=1e-11,
        )


def test_interpolants_with_constant_tau_are_flow_sde():
    path = grid("uniform", Flow(), 5)
    a = fewstep.plan("interpolant_sde", Flow(), grid=path, scale=0.245)
    assert a.close(fewstep.plan("flow_sde", Flow(), grid=path, a=0.7, form="euler"))
    ode = fewstep.plan("interpolant_ode", Flow(), grid=path, method="euler")
    assert ode == fewstep.plan("flow_euler", Flow(), grid=path)
