"""Solver error, local errors and straightness against closed forms, and the reference's own
error."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

import fewstep
from fewstep.engine.start_states import start_state
from fewstep.eval import (
    ScoreError,
    count_evaluations,
    local_errors,
    reference_states,
    solver_error,
    straightness,
    strong_error,
)
from fewstep.eval.certificates.problem import mixture
from fewstep.models import GaussianMixture
from fewstep.models.precision import InOwnPrecision, own_dtype
from fewstep.schedules import EDM, DiscreteVP, Flow, VPLinear

F64 = torch.float64
MEAN, STD = 0.7, 0.5


def gaussian(schedule, prediction: str = "eps") -> GaussianMixture:
    """One Gaussian in the plane: its probability flow is the affine map that keeps
    ``(x - alpha m) / sqrt(alpha^2 s^2 + sigma^2)``."""
    return GaussianMixture(torch.full((1, 2), MEAN, dtype=F64), STD, [1.0], schedule, prediction)


def moved(x: torch.Tensor, s, t) -> torch.Tensor:
    widths = [math.hypot(n.alpha * STD, n.sigma) for n in (s, t)]
    return t.alpha * MEAN + (x - s.alpha * MEAN) * widths[1] / widths[0]


@pytest.mark.parametrize(
    "schedule", [VPLinear(), EDM(0.002, 80.0), Flow()], ids=["vp", "edm", "flow"]
)
def test_the_reference_is_the_exact_flow(schedule):
    model = gaussian(schedule, "velocity" if isinstance(schedule, Flow) else "eps")
    grid = fewstep.grid("lam", schedule, 6, final="sigma_min")
    if grid[-1].sigma == 0.0:
        grid = type(grid).from_nodes(grid.nodes[:-1], schedule)
    x = start_state(model, grid[0], range(5), dtype=F64)
    found = reference_states(model, x, grid)
    for node, state in zip(found.nodes, found.states, strict=True):
        torch.testing.assert_close(
            state, moved(x, grid[0], node), rtol=0, atol=1e-6 * math.hypot(node.alpha, node.sigma)
        )
    assert found.error < 1e-6
    assert (found.end - moved(x, grid[0], grid[-1])).abs().max() <= 10 * found.error + 1e-9


def test_the_error_is_the_distance_from_the_exact_flow():
    schedule = VPLinear()
    model, grid = gaussian(schedule), fewstep.grid("lam", schedule, 12, final="sigma_min")
    found = solver_error(model, "ddim", grid=grid, n=9, seed=3)
    x = start_state(model, grid[0], range(3, 12), dtype=F64)
    apart = fewstep.sample(model, "ddim", grid=grid, x=x) - moved(x, grid[0], grid[-1])
    assert found.rmse == pytest.approx(float(apart.square().mean().sqrt()), rel=1e-5)
    assert found.largest == pytest.approx(float(apart.abs().max()), rel=1e-5)
    torch.testing.assert_close(
        found.per_sample, apart.square().mean(dim=1).sqrt(), rtol=1e-5, atol=1e-9
    )
    assert found.relative == pytest.approx(
        found.rmse / float(moved(x, grid[0], grid[-1]).square().mean().sqrt()), rel=1e-6
    )
    assert found.nfe == 12 and found.converged


@pytest.mark.parametrize(
    ("sampler", "order", "options"),
    [("ddim", 1, {}), ("heun", 2, {}), ("dpmpp_2m", 2, {}), ("unipc", 3, {"order": 3})],
)
def test_error_falls_with_the_order(sampler, order, options):
    """Between 40 and 80 steps of a grid between finite lam; multistep starts cost at most an
    order's share, hence one side only."""
    schedule = VPLinear()
    reference, errors = None, []
    for steps in (40, 80):
        found = solver_error(
            mixture(schedule),
            sampler,
            steps=steps,
            grid="lam",
            final="sigma_min",
            n=8,
            reference=reference,
            **options,
        )
        reference = found.reference
        errors.append(found.rmse)
    assert math.log2(errors[0] / errors[1]) > order - 0.35
    assert found.converged


def test_the_last_step_to_zero_is_the_samplers_own():
    """At sigma = 0 the same last jump is taken, so a converging sampler's error keeps falling below
    the jump's own."""
    schedule = EDM(0.002, 80.0)
    model = gaussian(schedule, "x0")
    errors = [
        solver_error(model, "heun", grid="karras", steps=steps, n=4).rmse for steps in (20, 80, 320)
    ]
    assert errors[0] > 8 * errors[1] > 64 * errors[2]


def test_a_reference_serves_other_samplers_and_only_its_own_start():
    model = gaussian(VPLinear())
    first = solver_error(model, "ddim", steps=10, n=4, final="sigma_min")
    again = solver_error(model, "heun", steps=7, n=4, final="sigma_min", reference=first.reference)
    assert again.reference is first.reference
    assert again.rmse == solver_error(model, "heun", steps=7, n=4, final="sigma_min").rmse
    for change in ({"seed": 1}, {"n": 5}, {"final": "zero"}):
        with pytest.raises(ScoreError, match="other states"):
            solver_error(
                model,
                "ddim",
                **{
                    "steps": 10,
                    "n": 4,
                    "final": "sigma_min",
                    "reference": first.reference,
                    **change,
                },
            )


def test_an_adaptive_driver_is_scored_too():
    found = solver_error(gaussian(VPLinear()), "ode45", n=4, rtol=1e-4, atol=1e-4)
    assert found.reference.error < found.rmse < 1e-2
    assert found.nfe > 10


def test_alpha_zero_starts():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    betas[-1] = 1.0
    schedule = DiscreteVP.from_betas(betas.numpy())
    found = solver_error(gaussian(schedule, "v"), "dpmpp_2m", steps=20, n=4)
    assert 0.0 < found.rmse < 0.2 and found.converged


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("ddpm", {"steps": 5}, "draws noise"),
        ("ddim", {"steps": 5, "eta": 0.5}, "draws noise"),
        ("adaptive_sde", {}, "draws noise"),
        ("ddim", {"steps": 5, "tolerance": 0.0}, "tolerance=0.0"),
    ],
)
def test_what_has_no_path_is_refused(sampler, options, message):
    with pytest.raises(ScoreError, match=message):
        solver_error(gaussian(VPLinear()), sampler, n=2, **options)


# --- local errors


@cache
def shared(steps: int):
    return local_errors(
        gaussian(VPLinear()), "ddim", steps=steps, grid="lam", final="sigma_min", n=4
    ).reference


def test_local_errors_of_ddim_by_hand():
    """One DDIM step from the exact state, which is known for a Gaussian."""
    schedule = VPLinear()
    model, grid = gaussian(schedule), fewstep.grid("lam", schedule, 5, final="sigma_min")
    found = local_errors(model, "ddim", grid=grid, n=6)
    x = found.reference.states[0]
    for i, (s, t) in enumerate(grid.pairs()):
        at_s = moved(x, grid[0], s)
        piece = type(grid).from_nodes([s, t], schedule)
        step = fewstep.sample(model, "ddim", grid=piece, x=at_s)
        assert found.error[i] == pytest.approx(
            float((step - moved(x, grid[0], t)).square().mean().sqrt()), rel=1e-4
        )


@pytest.mark.parametrize(
    ("sampler", "order", "options"),
    [("ddim", 1, {}), ("heun", 2, {}), ("dpmpp_2m", 2, {}), ("unipc", 3, {"order": 2})],
)
def test_local_errors_fall_one_order_faster(sampler, order, options):
    """O(h^{p+1}) in the middle of the range; UniPC-2 with its corrector is of order 3."""
    middle = []
    for steps in (20, 40):
        reference = shared(steps)
        found = local_errors(
            gaussian(VPLinear()),
            sampler,
            steps=steps,
            grid="lam",
            final="sigma_min",
            n=4,
            reference=reference,
            **options,
        )
        middle.append(found.error[steps // 2])
        assert len(found.error) == steps == len(found.nodes) - 1
    assert math.log2(middle[0] / middle[1]) == pytest.approx(order + 1, abs=0.35)


def test_local_errors_add_up_to_the_whole_in_one_step():
    model = gaussian(VPLinear())
    one = local_errors(model, "heun", steps=1, n=4, final="sigma_min")
    assert one.error[0] == pytest.approx(
        solver_error(model, "heun", steps=1, n=4, final="sigma_min").rmse, rel=1e-6
    )
    with pytest.raises(ScoreError, match="other nodes"):
        local_errors(model, "heun", steps=2, n=4, final="sigma_min", reference=one.reference)


# --- straightness


def test_a_point_is_reached_on_a_straight_line():
    """Data of (nearly) one point: x = alpha m + sigma z, straight at constant speed in the
    coordinates of the straight path."""
    for schedule in (VPLinear(), EDM(0.002, 80.0), Flow()):
        nodes = fewstep.grid("lam", schedule, 60, final="sigma_min").nodes
        z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
        found = straightness(nodes, [n.alpha * 0.3 + n.sigma * z for n in nodes])
        assert (
            found.deviation < 1e-20
            and found.length == pytest.approx(1.0, rel=1e-12)
            and found.curvature < 1e-8
        )


def test_a_half_circle():
    """Length pi/2 of the distance; curvature 1/radius = 2 over the distance; deviation of the
    angle's constant speed from the chord's: with y = (-cos, sin)(pi r), |y'|^2 = pi^2, |chord|^2 =
    4, int |chord - y'|^2 = pi^2 - 4, over d = 2."""
    schedule, n = Flow(), 2000
    r = [i / n for i in range(n + 1)]
    nodes = [schedule.node(1.0 - v) for v in r]
    states = [
        torch.tensor([[-math.cos(math.pi * v), math.sin(math.pi * v)]], dtype=F64)
        * (m.alpha + m.sigma)
        for v, m in zip(r, nodes, strict=True)
    ]
    found = straightness(nodes, states)
    assert found.length == pytest.approx(math.pi / 2, rel=1e-5)
    assert found.curvature == pytest.approx(2.0, rel=1e-5)
    assert found.deviation == pytest.approx((math.pi**2 - 4) / 2, rel=1e-5)
    assert found.planarity[1] == pytest.approx(1.0, rel=1e-9) and found.planarity[0] < 0.99


def test_a_mixture_is_not_straight():
    model = fewstep.models.load("mixture")
    grid = fewstep.grid("lam", model.schedule, 30, final="sigma_min")
    x = start_state(model, grid[0], range(8), dtype=F64)
    found = straightness(grid.nodes, reference_states(model, x, grid, tolerance=1e-6).states)
    assert (
        found.length > 1.05
        and found.deviation > 0.05
        and found.planarity[1] == pytest.approx(1.0, abs=1e-6)
    )


def test_bad_trajectories_are_refused():
    nodes = fewstep.grid("lam", VPLinear(), 4, final="sigma_min").nodes
    states = [torch.zeros(2, 3) for _ in nodes]
    for bad in (
        (nodes[:2], states[:2]),
        (nodes, states[1:]),
        (nodes[::-1], states),
        (nodes, [*states[:-1], states[0] * math.nan]),
    ):
        with pytest.raises(ScoreError):
            straightness(*bad)


# --- precision


class UnitGaussian(torch.nn.Module):
    """E[eps | x] = sigma x of a unit Gaussian on VP, in float32: its probability flow stands
    still."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert x.dtype is torch.float32
        return self.scale * x * VPLinear().sigma(t).view(-1, 1).float()


def test_a_float32_network_runs_under_float64_states():
    model = fewstep.models.wrap(UnitGaussian(), VPLinear(), "eps", shape=(2,))
    assert own_dtype(model) is torch.float32
    # a plain function shows no weights
    assert own_dtype(fewstep.models.wrap(lambda x, t: x, VPLinear(), "eps")) is F64
    assert InOwnPrecision(model)(torch.ones(3, 2, dtype=F64), 0.5).dtype is F64
    found = solver_error(model, "heun", steps=20, n=4, final="sigma_min")
    assert found.x.dtype is F64
    torch.testing.assert_close(found.reference.end, found.reference.states[0], rtol=0, atol=1e-5)
    assert 0.0 < found.rmse < 0.05
    local = local_errors(model, "heun", steps=20, n=2, final="sigma_min", tolerance=1e-4)
    assert 0.0 < max(local.error) < 0.05


# --- the default call


def test_the_defaults_are_those_of_sample():
    """Sampler and grid of ``fewstep.sample``, which know the scale and the shape of the data."""
    model = gaussian(EDM(0.02, 20.0))
    found = solver_error(model, nfe=7, n=4, seed=2)
    x, info = fewstep.sample(model, nfe=7, n=4, seed=2, dtype=torch.float64, info=True)
    assert torch.equal(found.x, x) and found.nfe == info.nfe
    assert local_errors(model, nfe=7, n=2).nodes == info.plan.nodes
    assert count_evaluations(model, nfe=7).planned == info.plan.nfe
    unknown = fewstep.plan("auto", model.schedule, nfe=7)
    assert unknown.nodes != info.plan.nodes


def test_the_shape_of_the_given_states_decides():
    """Of a model that has none of its own."""
    schedule = EDM(0.02, 20.0)
    flat = fewstep.models.wrap(
        lambda x, t: 0.2 * x / (0.2 + t.reshape(-1, *[1] * (x.ndim - 1)) ** 2),
        schedule,
        "x0",
        time="sigma",
    )
    for shape in ((3,), (1, 2, 2)):
        z = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        x, info = fewstep.sample(flat, steps=5, x=20.0 * z, info=True)
        assert torch.equal(solver_error(flat, steps=5, x=20.0 * z, tolerance=1e-3).x, x)
        by_shape = solver_error(flat, steps=5, shape=shape, n=2, tolerance=1e-3)
        start = fewstep.sample(flat, steps=5, shape=shape, n=2, dtype=torch.float64)
        assert torch.equal(by_shape.x, start)
        assert local_errors(flat, steps=5, shape=shape, n=2, tolerance=1e-3).nodes == (
            info.plan.nodes
        )


def test_the_grid_of_a_stochastic_sampler_is_that_of_sample():
    model = gaussian(EDM(0.02, 20.0))
    nodes = fewstep.plan("dpmpp_2m_sde", model, steps=4).nodes
    path = fewstep.schedules.Grid.from_nodes(nodes, model.schedule)
    ours, named = (
        strong_error(model, steps=4, n=2, refine=2, **given) for given in ({}, {"grid": path})
    )
    assert torch.equal(ours.x, named.x) and ours.rmse == named.rmse
