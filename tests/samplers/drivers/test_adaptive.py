"""Adaptive steps: the flow by embedded pairs, adaptive DPM-Solver, and the SDE on a Brownian
path."""

import math
from statistics import linear_regression

import numpy as np
import pytest
import torch
from golden_cases import SCHEDULES, node
from golden_drivers import coupled, exact_model

import fewstep
from fewstep.eval.certificates.problem import exact_states, mixture
from fewstep.eval.solver.counting import Counting
from fewstep.fused.noise.seeded import SeededNoise
from fewstep.models import GaussianMixture
from fewstep.plans import NumericalError
from fewstep.samplers import SamplerError, get
from fewstep.samplers.drivers import adaptive_sde
from fewstep.samplers.drivers import dpm_adaptive as adaptive
from fewstep.samplers.drivers.dormand_prince import DORMAND_PRINCE_5, DORMAND_PRINCE_8
from fewstep.samplers.drivers.dpm_adaptive import DPMAdaptive, integrate, trial
from fewstep.samplers.drivers.driver import Drive, StepSizeError
from fewstep.samplers.drivers.end_points import end_of
from fewstep.samplers.drivers.ode import embedded_step
from fewstep.samplers.drivers.step_control import PI, PID, Deadbeat
from fewstep.samplers.singlestep.frames import angle, at_angle
from fewstep.schedules import EDM, VE, Flow, Grid, SubVP, Trig, VPCosine, VPLinear
from fewstep.schedules.kinds import ConversionError

ADAPTIVE = {
    case.id: case for case in coupled().values() if case.peer in ("dpm-solver", "k-diffusion")
}


def test_the_pairs_are_scipys():
    from scipy.integrate import RK45
    from scipy.integrate._ivp import dop853_coefficients as dop

    five, eight = DORMAND_PRINCE_5, DORMAND_PRINCE_8
    assert np.array_equal(five.c, RK45.C) and np.array_equal(eight.c, dop.C[:12])
    assert all(np.array_equal(row, RK45.A[i, :i]) for i, row in enumerate(five.a))
    assert all(np.array_equal(row, dop.A[i, :i]) for i, row in enumerate(eight.a))
    assert np.array_equal(five.b, RK45.B) and np.array_equal(eight.b, dop.B)
    # either sign is an error
    np.testing.assert_allclose(five.errors[0], -np.array(RK45.E), rtol=0, atol=1e-16)
    for ours, theirs in zip(eight.errors, (dop.E5, dop.E3), strict=True):
        assert np.array_equal(ours, theirs[:12]) and theirs[12] == 0.0


def flow_error(name, schedule, tol, prediction="v", **options):
    start, end = schedule.node(schedule.t_max), end_of(fewstep.grid("lam", schedule, 3))
    grid = Grid.from_nodes([start, end], schedule)
    model = Counting(mixture(schedule, prediction))
    out, info = fewstep.sample(
        model, name, grid=grid, x=exact_states(start), rtol=tol, atol=tol, info=True, **options
    )
    assert info.nfe == model.calls and info.plan is None
    return float((out - exact_states(end)).abs().max()), info


@pytest.mark.parametrize("name", ["ode45", "ode853"])
def test_the_error_follows_the_tolerance(name):
    tolerances = [10.0**-k for k in (3, 5, 7, 9)]
    errors = [flow_error(name, VPLinear(), tol)[0] for tol in tolerances]
    slope = linear_regression(np.log(tolerances), np.log(errors)).slope
    assert 0.85 < slope < 1.3
    assert all(error < 100.0 * tol for error, tol in zip(errors, tolerances, strict=True))


@pytest.mark.parametrize(
    "schedule",
    [VPCosine(), SubVP(), VE(0.01, 50.0), EDM(0.002, 80.0), Flow(3.0), Trig()],
    ids=lambda s: type(s).__name__,
)
def test_every_path_from_its_very_start(schedule):
    """From alpha = 0 where the path has it: the angle is regular there, so no step out of it is
    left to make an error."""
    for name, tol in (("ode45", 1e-6), ("ode853", 1e-9)):
        assert flow_error(name, schedule, tol)[0] < 100.0 * tol


def test_calls_are_counted_and_shared():
    """The last slope of an accepted step is the first of the next; a rejected step keeps its
    first."""
    _, info = flow_error("ode45", VPLinear(), 1e-6)
    assert info.rejected >= 1
    assert info.nfe == 1 + 6 * (info.accepted + info.rejected)
    _, info = flow_error("ode853", VPLinear(), 1e-6)
    assert info.nfe == 12 * info.accepted + 11 * info.rejected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ode45", "ode853"])
def test_the_error_follows_every_tolerance(name):
    tolerances = [10.0 ** (-k / 2) for k in range(6, 19)]
    for schedule in (VPLinear(), EDM(0.002, 80.0), Trig()):
        errors = [flow_error(name, schedule, tol)[0] for tol in tolerances]
        assert 0.85 < linear_regression(np.log(tolerances), np.log(errors)).slope < 1.3
        assert all(error < 100.0 * tol for error, tol in zip(errors, tolerances, strict=True))


def test_one_denoise_step_ends_at_zero():
    schedule = VPLinear()
    model = Counting(mixture(schedule, "eps"))
    short, a = fewstep.sample(
        model, "ode45", n=5, final="sigma_min", dtype=torch.float64, info=True
    )
    whole, b = fewstep.sample(model, "ode45", n=5, dtype=torch.float64, info=True)
    # the evaluation at t_min is there already
    assert b.nfe == a.nfe and b.accepted == a.accepted + 1
    assert torch.allclose(whole, mixture(schedule, "x0")(short, 1e-3), rtol=0, atol=1e-12)


def test_a_step_is_a_plan_of_the_declared_order():
    """Local error of one step of the exact model against the exact flow: h^6 and h^9."""
    schedule = VPLinear()
    model = mixture(schedule, "v")
    for pair, wanted in ((DORMAND_PRINCE_5, 6), (DORMAND_PRINCE_8, 9)):
        errors = []
        for h in (0.24, 0.12):
            s = schedule.node_at_rho(math.tan(1.0))
            grid = Grid.from_nodes([s, schedule.node(1e-3)], schedule)
            t = at_angle(grid, angle(s) - h)
            ran = Drive(model, exact_states(s), s).run(embedded_step(grid, s, t, pair))
            errors.append(float((ran.x - exact_states(t)).abs().max()))
        assert math.log2(errors[0] / errors[1]) > wanted - 0.8


def test_an_eps_network_cannot_start_at_alpha_zero():
    with pytest.raises(ConversionError, match="use a v, velocity or x0 network"):
        fewstep.sample(mixture(Flow(), "eps"), "ode45", n=2)


@pytest.mark.parametrize("name", ["ode45", "dpm_adaptive", "adaptive_sde"])
def test_per_sample_steps_do_not_depend_on_the_batch(name):
    model, options = (
        mixture(VPLinear(), "v"),
        {"rtol": 0.3, "atol": 0.1} if name == "adaptive_sde" else {"rtol": 0.05, "atol": 0.05},
    )
    whole = fewstep.sample(model, name, n=3, seed=3, per_sample=True, **options)
    assert torch.equal(
        fewstep.sample(model, name, n=1, seed=4, per_sample=True, **options), whole[1:2]
    )
    assert torch.equal(fewstep.sample(model, name, n=1, seed=4, **options), whole[1:2])
    assert not torch.equal(fewstep.sample(model, name, n=3, seed=3, **options), whole), (
        "the batch shares its steps"
    )
    with pytest.raises(ValueError, match="no state of the batch"):
        fewstep.sample(model, name, n=2, per_sample=True, callback=lambda step: None)


def test_a_network_without_a_limit_has_no_steps():
    """Answers of alternating sign: no step is small enough, and it is said so, with the state that
    was reached."""

    class Flip(GaussianMixture):
        sign = 1e13

        def raws(self, x_in, t, cond=None):
            self.sign = -self.sign
            return (torch.full_like(x_in, self.sign),)

    with pytest.raises(
        StepSizeError, match="no step from t=1.0 meets the tolerance in torch.float32"
    ) as stop:
        fewstep.sample(Flip([[0.0]], [1.0], [1.0], VPLinear(), "v"), "ode45", n=1)
    assert stop.value.t == 1.0 and stop.value.x.shape == (1, 1) and stop.value.nfe > 20


def test_a_nan_is_named():
    class Broken(GaussianMixture):
        def raws(self, x_in, t, cond=None):
            out = super().raws(x_in, t, cond)[0]
            return (torch.where(torch.arange(len(out))[:, None] == 1, math.nan, out),)

    model = Broken([[0.0]], [1.0], [1.0], VPLinear(), "v")
    for name in ("ode45", "dpm_adaptive", "adaptive_sde", "pc"):
        with pytest.raises(NumericalError, match=r"samples \[1\] of the batch, seeds \[8\]"):
            fewstep.sample(model, name, n=3, seed=7)


def golden_difference(case):
    settings, library = case.settings, case.peer == "k-diffusion"
    schedule = SCHEDULES[case.schedule]
    grid = Grid.from_nodes([node(schedule, case.start.rho), node(schedule, case.end.rho)], schedule)
    options = {name: settings[name] for name in ("order", "rtol", "atol") if name in settings}
    options |= {"control": "pid", "coupling": "mean"} if library else {}
    options["kind"] = "x0" if "++" in settings.get("algorithm_type", "") else "eps"
    model = Counting(exact_model(schedule, "x0" if library else "eps"))
    out, info = fewstep.sample(model, "dpm_adaptive", grid=grid, x=case.x, info=True, **options)
    levels = [float(schedule.rho(t)) for t in model.times]
    return out - case.out, info, levels


def check_calls(case, info, levels):
    """The same trials; the first evaluation of one after a rejection is not made again."""
    theirs = [
        call.rho
        for i, call in enumerate(case.calls)
        if call.rho not in [c.rho for c in case.calls[:i]]
    ]
    assert settings_order(case) * (info.accepted + info.rejected) == len(case.calls)
    assert info.nfe == len(case.calls) - info.rejected
    assert len(levels) == info.nfe and len(theirs) <= info.nfe


def settings_order(case):
    return case.settings["order"]


@pytest.mark.parametrize(
    "name", sorted(k for k, case in ADAPTIVE.items() if case.peer == "k-diffusion")
)
def test_k_diffusion_dpm_adaptive(name):
    difference, info, levels = golden_difference(ADAPTIVE[name])
    assert float(difference.abs().max()) <= 1e-9
    check_calls(ADAPTIVE[name], info, levels)


OFFICIAL = sorted(k for k, case in ADAPTIVE.items() if case.peer == "dpm-solver")


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=[pytest.mark.slow] if ".tight." in k else []) for k in OFFICIAL]
)
def test_dpm_solver_official_adaptive(name, monkeypatch):
    """The peer rounds ``E^{-1/order}`` to float32: with that, to 1e-9; without, to what the
    rounding does."""
    case = ADAPTIVE[name]
    difference, info, levels = golden_difference(case)
    assert float(difference.abs().max()) <= 1e-6
    check_calls(case, info, levels)

    class Rounded(Deadbeat):
        def next(self, error):
            return error <= 1.0, self.theta * float(
                np.float32(max(error, 1e-12) ** (-1.0 / self.order))
            )

    monkeypatch.setattr(adaptive, "Deadbeat", Rounded)
    assert float(golden_difference(case)[0].abs().max()) <= 1e-9


def test_the_two_solutions_have_the_two_orders():
    schedule = VPLinear()
    model = mixture(schedule, "eps")
    for kind in ("eps", "x0"):
        for order in (2, 3):
            errors = []
            for h in (0.2, 0.1):
                s, t = schedule.node_at_lam(-0.5), schedule.node_at_lam(-0.5 + h)
                grid = Grid.from_nodes([s, t], schedule)
                ran = Drive(model, exact_states(s), s).run(trial(grid, s, t, order, kind))
                errors.append(
                    [float((v - exact_states(t)).abs().max()) for v in (ran.x, *ran.kept)]
                )
            high, low = (math.log2(a / b) for a, b in zip(*errors, strict=True))
            assert high > order + 0.6 and low > order - 0.4, (kind, order, high, low)
            assert low < order + 0.4


def test_tighter_is_nearer():
    errors = [
        flow_error("dpm_adaptive", VPLinear(), tol, "eps", order=3)[0] for tol in (1e-2, 1e-3, 1e-4)
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_step_rules():
    assert Deadbeat(2).next(4.0) == (False, 0.45) and Deadbeat(3).next(1.0) == (True, 0.9)
    rule = PI(5)
    accepted, factor = rule.next(32.0)
    assert not accepted and factor == pytest.approx(0.45)
    assert rule.next(1e-9)[1] == 1.0, "no growth right after a rejection"
    assert rule.next(1e-9)[1] > 1.0
    rule = PID(2)
    assert rule.next(1.0) == (True, pytest.approx(1.0, abs=1e-7))
    accepted, factor = rule.next(4.0)
    assert not accepted and factor == pytest.approx(1.0 + math.atan(-0.5), abs=1e-7)


GAUSS = GaussianMixture([[0.7, -0.3]], [0.5], [1.0], VPLinear(), "eps")


INNER = Grid.from_nodes([VPLinear().node_at_lam(v) for v in (-1.5, 1.5)], VPLinear())


def law(n, **options):
    """z scores of mean, variance and covariance of the last states against the exact marginal, from
    that at the first."""
    mean, (start, end) = torch.tensor([0.7, -0.3], dtype=torch.float64), INNER.nodes
    before, after = ((v.alpha * 0.5) ** 2 + v.sigma**2 for v in (start, end))
    x = start.alpha * mean + math.sqrt(before) * SeededNoise(tuple(range(n))).start(
        (2,), dtype=torch.float64
    )
    out, info = fewstep.sample(
        GAUSS, "adaptive_sde", grid=INNER, x=x, seed=50_000, info=True, **options
    )
    centred = (out - end.alpha * mean) / math.sqrt(after)
    shift = centred.mean(0) * math.sqrt(n)
    spread = (centred.square().mean(0) - 1.0) * math.sqrt(n / 2)
    return [
        *shift.tolist(),
        *spread.tolist(),
        float((centred[:, 0] * centred[:, 1]).mean() * math.sqrt(n)),
    ], info


@pytest.mark.parametrize("options", [{}, {"scheme": "sra1"}, {"tau": 0.5}], ids=str)
def test_the_law_of_a_gaussian(options):
    """Mean and covariance within 3 standard errors, after a first step that is far too long."""
    scores, info = law(800, rtol=0.1, atol=0.05, h0=2.0, **options)
    assert info.rejected >= 1
    assert max(map(abs, scores)) < 3.0, scores


def test_rejections_do_not_bias(monkeypatch):
    """Every second trial is refused for no reason and asked again at a part of its length: the same
    law, from half of the trials."""

    class Fussy(PI):
        turn = 0

        def next(self, error):
            self.turn += 1
            return (False, 0.6) if self.turn % 2 else super().next(error)

    monkeypatch.setattr(adaptive_sde, "PI", Fussy)
    scores, info = law(500, rtol=0.2, atol=0.1)
    assert info.rejected >= info.accepted - 1 > 8
    assert max(map(abs, scores)) < 3.0, scores


def test_runs_follow_one_path():
    """Other tolerances, other steps, other rejections: the same path, so the same samples in the
    limit."""
    model, x = mixture(VPLinear(), "eps"), exact_states(INNER[0])
    runs = [
        fewstep.sample(model, "adaptive_sde", grid=INNER, x=x, seed=1, rtol=tol, atol=tol, h0=h0)
        for tol, h0 in ((0.3, 1.0), (0.03, 0.3), (0.004, 0.05))
    ]
    far, near = (float((v - runs[2]).square().mean().sqrt()) for v in runs[:2])
    other = fewstep.sample(model, "adaptive_sde", grid=INNER, x=x, seed=100, rtol=0.3, atol=0.3)
    assert near < 0.5 * far and far < 0.4
    assert float((other - runs[2]).square().mean().sqrt()) > 2.0 * far


def test_the_path_is_a_callable():
    """A driver asks ``path(s, t, like)`` for W and H: any bridge will do. Here W = H = 0, which
    leaves the drift alone."""
    schedule = VPLinear()
    nodes = [schedule.node_at_lam(v) for v in (-2.0, 1.5)]
    grid = Grid.from_nodes(nodes, schedule)
    asked = []

    def path(s, t, like):
        asked.append((s, t))
        return torch.zeros_like(like), torch.zeros_like(like)

    entry = get("adaptive_sde")
    drive = Drive(GAUSS, torch.ones(3, 2, dtype=torch.float64), nodes[0], path=path)
    out = entry.build(drive, grid, entry.options(tau=1.0, rtol=1e-3, atol=1e-3))
    # dy/dlam = -2 (y - D) with D - m = s^2 / (s^2 + rho^2) (y - m): y - m is proportional to s^2 +
    # rho^2
    m = torch.tensor([0.7, -0.3], dtype=torch.float64)
    wanted = m + (1.0 / nodes[0].alpha - m) * (0.25 + nodes[1].rho ** 2) / (
        0.25 + nodes[0].rho ** 2
    )
    assert torch.allclose(out[0], nodes[1].alpha * wanted, rtol=0, atol=2e-3)
    assert asked[0][0] == nodes[0].lam and asked[-1][1] == nodes[-1].lam


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ode45", {"rtol": 0.0}, "rtol=0.0 must be a number from"),
        ("ode45", {"atol": -1.0}, "atol"),
        ("ode853", {"max_nfe": 0}, "max_nfe=0 must be an integer from 1"),
        ("ode853", {"rtoll": 1e-3}, "did you mean 'rtol'"),
        ("ode45", {"steps": 5}, "picks its own step sizes"),
        ("dpm_adaptive", {"order": 4}, "order=4 must be an integer from 2 to 3"),
        ("dpm_adaptive", {"atol": 0.0}, "atol=0.0"),
        ("dpm_adaptive", {"control": "pdi"}, "did you mean 'pid'"),
        ("dpm_adaptive", {"kind": "v"}, "kind"),
        ("adaptive_sde", {"tau": 0.0}, "tau=0.0"),
        ("adaptive_sde", {"scheme": "srk"}, "shark"),
    ],
)
def test_bad_options_are_refused_before_the_network(name, options, message):
    model = Counting(mixture(VPLinear(), "v"))
    with pytest.raises(SamplerError, match=message):
        fewstep.sample(model, name, n=1, **options)
    assert model.calls == 0


def test_a_fragment_is_written_with_the_builder():
    schedule = VPLinear()
    s, t = schedule.node(0.6), schedule.node(0.5)
    piece = trial(Grid.from_nodes([s, t], schedule), s, t, 3, "x0")
    assert piece.plan.nfe == 3 and piece.plan.end == t and piece.plan.exactness == "exact"
    assert len(piece.keep) == 1


def test_pid_keeps_its_own_step_where_a_trial_was_cut_at_the_end():
    """h starts at 5 on a range of 3 in lam: the first trial is cut to 3, rejected, and the next
    step is ``factor`` times 5 (k-diffusion's ``h *= factor``), not times 3, so it may be cut
    again."""
    schedule = VPLinear()
    s, t = schedule.node_at_lam(-1.5), schedule.node_at_lam(1.5)
    grid = Grid.from_nodes([s, t], schedule)
    steps = {}
    for control in ("pid", "dpm"):
        trials = []
        drive = Drive(mixture(schedule, "eps"), exact_states(s), s, on_trial=trials.append)
        integrate(drive, grid, DPMAdaptive(control=control, h0=5.0, rtol=1e-3, atol=1e-4))
        assert (
            not trials[0].accepted
            and trials[0].start == s
            and len(trials) == drive.accepted + drive.rejected
        )
        steps[control] = trials[0].h, float(trials[0].error.max())
    h, error = steps["pid"]
    assert h == pytest.approx(5.0 * PID(3).next(error)[1], rel=1e-12)
    h, error = steps["dpm"]
    assert h == pytest.approx(3.0 * Deadbeat(3).next(error)[1], rel=1e-12)


@pytest.mark.parametrize("control", ["pid", "dpm"])
def test_eta_keeps_the_marginal(control):
    """On one Gaussian the ODE solved tightly and the fresh noise leave mean and variance as the
    path has them."""
    n, (start, end) = 20_000, INNER.nodes
    mean, stds = (
        torch.tensor([0.7, -0.3], dtype=torch.float64),
        [math.hypot(v.alpha * 0.5, v.sigma) for v in INNER.nodes],
    )
    x = start.alpha * mean + stds[0] * SeededNoise(tuple(range(n))).start((2,), dtype=torch.float64)
    options = {"control": control, "eta": 1.0, "rtol": 1e-3, "atol": 1e-4, "coupling": "mean"}
    out = fewstep.sample(GAUSS, "dpm_adaptive", grid=INNER, x=x, seed=50_000, **options)
    assert float((out - end.alpha * mean).mean(0).abs().max()) < 5.0 * stds[1] / math.sqrt(n)
    assert float((out.std(0) / stds[1] - 1.0).abs().max()) < 5.0 / math.sqrt(2.0 * n)
    # fresh noise did come in
    assert float(torch.corrcoef(torch.stack([x[:, 0], out[:, 0]]))[0, 1]) < 0.95
