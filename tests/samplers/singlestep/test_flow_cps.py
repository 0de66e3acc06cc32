"""Samplers for reinforcement learning of flows: Flow-CPS and Precise by the formulas of their
authors' code, and noise in a window of steps."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from laws import gaussian, normals

import fewstep
from fewstep.eval.certificates.gaussian import last_state, law_differences
from fewstep.samplers import SamplerError
from fewstep.schedules import EDM, Flow, VPLinear, grid

TIMES = [1.0, 0.8, 0.5, 0.2, 0.0]


def by_hand(std_of: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The start, and where ``sde_step_with_logprob`` of both codes leads from it: the velocity gives
    data and noise, the next state is ``(1 - s) data + sqrt(s^2 - std^2) noise + std z``."""
    model, z = gaussian(Flow(), "velocity"), normals(0, 5, 3, 2)
    x = z[0]
    for k, (t, s) in enumerate(pairwise(TIMES)):
        v, std = model(x, t), std_of(t, s) if s else 0.0
        data, noise = x - t * v, x + (1.0 - t) * v
        x = (1.0 - s) * data + math.sqrt(s * s - std * std) * noise + std * z[k + 1]
    return z, x


def test_the_step_of_flow_cps() -> None:
    """IamCreateAI/FlowCPS."""
    plan = fewstep.plan("flow_cps", Flow(), times=TIMES, noise_level=0.7)
    z, x = by_hand(lambda t, s: s * math.sin(0.7 * math.pi / 2.0))
    found = fewstep.run(plan, gaussian(Flow(), "velocity"), z[0], noise=list(z[1:4]))
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)
    assert plan == fewstep.plan("flow_cps", Flow(), times=TIMES)
    assert plan == fewstep.plan("flow_cps", Flow(), times=TIMES, eta=0.7)
    with pytest.raises(SamplerError, match="eta=1.1"):
        fewstep.plan("flow_cps", Flow(), times=TIMES, eta=1.1)
    stds = [0.8, 0.5, 0.2]
    for step, s in zip(plan.transitions, stds, strict=True):
        assert step.std == pytest.approx(s * math.sin(0.35 * math.pi), rel=1e-14)


@pytest.mark.parametrize("eta", [0.5, 1.5])
def test_precise_is_flow_sde(eta: float) -> None:
    """Tencent-Hunyuan/Precise: ``std = s sqrt(1 - ratio^{eta^2})``, ratio of the levels rho; from
    t = 1 all noise is fresh."""

    def std(t: float, s: float) -> float:
        ratio = s * (1.0 - t) / (t * (1.0 - s))
        return s * math.sqrt(1.0 - ratio ** (eta * eta))

    plan = fewstep.plan("flow_sde", Flow(), times=TIMES, a=eta)
    z, x = by_hand(std)
    found = fewstep.run(plan, gaussian(Flow(), "velocity"), z[0], noise=list(z[1:4]))
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)
    assert [step.std for step in plan.transitions] == pytest.approx(
        [std(t, s) for t, s in pairwise(TIMES[:-1])], rel=1e-12
    )
    assert plan.transitions[0].carry == 0.0


@pytest.mark.parametrize("path", [Flow(), VPLinear(), EDM(0.002, 80.0)])
def test_every_step_keeps_signal_and_noise(path: Any) -> None:
    nodes = grid("lam", path, 6)
    plan = fewstep.plan("flow_cps", path, grid=nodes)
    assert plan.exactness == "exact"
    deterministic = fewstep.plan("flow_cps", path, grid=nodes, eta=0.0)
    assert deterministic.close(fewstep.plan("ddim", path, grid=nodes))
    fresh = fewstep.plan("flow_cps", path, grid=nodes, eta=1.0)
    assert fresh.close(fewstep.plan("consistency", path, grid=nodes))


def test_the_full_noise_of_ddnm_on_vp() -> None:
    """x_t = alpha_t D + sigma_t (eta z + sqrt(1 - eta^2) eps), eta = 0.85."""
    path, model, z = VPLinear(), gaussian(VPLinear(), "eps"), normals(0, 4, 3, 2)
    plan = fewstep.plan("flow_cps", path, times=[1.0, 0.6, 0.3, 0.0], share=0.85)
    x = z[0]
    for k, (s, t) in enumerate(pairwise(plan.nodes)):
        eps = model(x, s.t)
        data = (x - s.sigma * eps) / s.alpha
        x = t.alpha * data + t.sigma * (0.85 * z[k + 1] + math.sqrt(1.0 - 0.85**2) * eps)
    found = fewstep.run(plan, model, z[0], noise=list(z[1 : 1 + len(plan.draws)]))
    torch.testing.assert_close(found, x, rtol=1e-11, atol=1e-11)


def test_its_law_stays_off_where_flow_sde_converges() -> None:
    """The variance of the samples of N(m, 0.5^2) is too small by a part that does not fall with the
    number of steps; that of ``flow_sde`` falls as 1 / N."""

    def defect(name: str, steps: int) -> float:
        plan = fewstep.plan(name, Flow(), grid="lam", steps=steps)
        return law_differences(last_state(plan), plan.start, plan.end)[1] / 0.25

    off = [defect("flow_cps", n) for n in (50, 200, 800)]
    assert all(d < -0.25 for d in off) and abs(off[2] - off[1]) < 0.1 * abs(off[1])
    few, many = (abs(defect("flow_sde", n)) for n in (200, 800))
    assert many < 0.01 and few / many == pytest.approx(4.0, rel=0.2)


# windows


@pytest.mark.parametrize(
    ("name", "given"), [("flow_cps", {}), ("flow_sde", {}), ("ddim", {"eta": 1.0})]
)
def test_noise_in_a_window_alone(name: str, given: Any) -> None:
    """The steps inside are those of the sampler, the others DDIM's."""
    path = grid("uniform", Flow(), 6)
    every = fewstep.plan(name, Flow(), grid=path, **given)
    plan = fewstep.plan(name, Flow(), grid=path, window=(2, 4), **given)
    assert [draw.start for draw in plan.draws] == [path[2], path[3]]
    assert [t.index for t in plan.transitions] == [2, 3]
    for step in plan.transitions:
        whole = every.transitions[step.index]
        assert (step.std, step.carry) == pytest.approx((whole.std, whole.carry), rel=1e-12)
    none = fewstep.plan("ddim", Flow(), grid=path)
    model, x = gaussian(Flow(), "velocity"), normals(0, 3, 2)
    seen: list[torch.Tensor] = []
    other: list[torch.Tensor] = []
    fewstep.run(plan, model, x, seeds=range(3), on_step=lambda s: seen.append(s.x_next))
    fewstep.run(none, model, x, on_step=lambda s: other.append(s.x_next))
    torch.testing.assert_close(seen[1], other[1], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(seen[2], other[2])


@pytest.mark.parametrize("name", ["flow_cps", "flow_sde", "ddim"])
@pytest.mark.parametrize(
    ("window", "message"),
    [
        ((4, 2), "0 <= first < stop"),
        ((1,), "two integers"),
        ((0.0, 2.0), "two integers|window"),
        ((4, 6), "must begin before 4"),
    ],
)
def test_bad_windows_are_refused(name: str, window: Any, message: str) -> None:
    given = {"eta": 1.0} if name == "ddim" else {}
    with pytest.raises(ValueError, match=message):
        fewstep.plan(name, Flow(), steps=4, window=window, **given)


def test_a_window_without_noise_is_refused() -> None:
    with pytest.raises(SamplerError, match="give tau"):
        fewstep.plan("ddim", VPLinear(), steps=4, window=(1, 2))
