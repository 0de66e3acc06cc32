"""What every driver must hold, and what it is given: budgets, counted calls, edits, noise,
conditions, the door and the command line."""

import json
import math
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
import torch
from golden_cases import index
from golden_drivers import coupled

import fewstep
from fewstep.cli import main
from fewstep.eval.solver.counting import Counting
from fewstep.fused.noise.seeded import SeededNoise
from fewstep.models import GaussianMixture
from fewstep.plans import PlanBuilder, PlanError, lower
from fewstep.plans.running.loop import Cursor
from fewstep.samplers import ALIASES, SamplerError, get, make_options, names
from fewstep.samplers.drivers.driver import BudgetError, Drive, fragment
from fewstep.samplers.drivers.end_points import end_of
from fewstep.schedules import EDM, VE, DiscreteVP, Flow, Grid, SubVP, Trig, VPCosine, VPLinear

BETAS = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
SCHEDULES = {
    "vp": VPLinear(),
    "cosine": VPCosine(),
    "subvp": SubVP(),
    "discrete": DiscreteVP.from_betas(BETAS),
    "ve": VE(0.01, 50.0),
    "edm": EDM(0.002, 80.0),
    "flow": Flow(3.0),
    "trig": Trig(),
}
CASES = [(name, options) for name in names("driver") for options in ({}, *get(name).variants)]
every_driver = pytest.mark.parametrize("name", names("driver"))
#: cheap: a step or two where the driver chooses, two steps where the grid does
QUICK = {
    "ode45": {"rtol": 0.1, "atol": 0.1},
    "ode853": {"rtol": 0.1, "atol": 0.1},
    "adaptive_sde": {"rtol": 0.5, "atol": 0.5, "h0": 1.0},
}
QUICK |= {"dpm_adaptive": {"rtol": 0.3, "atol": 0.1, "h0": 1.0}}


@cache
def mixture(schedule, prediction="v"):
    means = torch.tensor([[1.0, -0.5], [-0.8, 0.6], [0.2, 1.1]], dtype=torch.float64)
    return GaussianMixture(means, [0.3, 0.4, 0.2], [0.5, 0.3, 0.2], schedule, prediction)


class Rows(Counting):
    """Counts rows of the batch too, and takes a time a row."""

    rows = 0

    def raws(self, x_in, t, cond=None):
        self.rows += len(x_in)
        self.times.append(float(torch.as_tensor(t).max()))
        return self.denoiser.raws(x_in, t, cond)


def quick(name):
    return {**QUICK.get(name, {}), **({} if get(name).free else {"steps": 2})}


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[1] else []) for case in CASES],
)
def test_few_steps_on_every_schedule(name, options):
    """Finite, from alpha = 0 where there is one, to both ends, calls counted, never one at sigma =
    0. Variants on two schedules."""
    for schedule in (
        SCHEDULES.values() if not options else (SCHEDULES["discrete"], SCHEDULES["flow"])
    ):
        for final in ("zero", "sigma_min") if not options else ("zero",):
            model = Rows(mixture(schedule))
            out, info = fewstep.sample(
                model,
                name,
                n=2,
                final=final,
                info=True,
                dtype=torch.float64,
                **{**quick(name), **options},
            )
            assert bool(torch.isfinite(out).all()) and out.shape == (2, 2), (schedule, final)
            assert (
                info.plan is None
                and info.nfe * (1 if options.get("per_sample") else 2) == model.rows
            )
            assert info.passes == model.calls <= info.nfe
            assert info.rows == model.rows == 2 * info.calls
            low = schedule.t_zero if schedule.t_zero > -math.inf else schedule.t_min - 1e-9
            assert min(model.times) > low, (schedule, final)


@every_driver
def test_one_step_of_a_grid(name):
    if get(name).free:
        with pytest.raises(SamplerError, match="picks its own step sizes"):
            fewstep.sample(mixture(Flow()), name, steps=1)
        return
    for schedule in (VPLinear(), Flow()):
        out, info = fewstep.sample(mixture(schedule), name, n=2, steps=1, info=True)
        assert bool(torch.isfinite(out).all()) and info.nfe >= 1


@every_driver
def test_the_budget_is_never_exceeded(name):
    for most in (1, 2, 5):
        model = Counting(mixture(VPLinear()))
        given = {"rtol": 1e-9, "atol": 1e-9} if get(name).free else {"steps": 50}
        if name == "picard":
            model, given = Rows(mixture(VPLinear())), {"steps": 50, "tol": 0.0}
        with pytest.raises(BudgetError, match=r"network calls are spent at t=") as stop:
            fewstep.sample(model, name, n=3, max_nfe=most, **given)
        error = stop.value
        assert model.calls <= error.nfe <= most
        assert (
            error.x.shape == (3, 2) and bool(torch.isfinite(error.x).all()) and error.t is not None
        )


def test_a_budget_of_calls_is_the_most():
    """``nfe=`` limits a driver that chooses its own steps."""
    with pytest.raises(BudgetError) as stop:
        fewstep.sample(mixture(VPLinear()), "ode45", nfe=20)
    assert stop.value.nfe == 20 and 0.0 < stop.value.t < 1.0
    assert fewstep.sample(mixture(VPLinear()), "ode45", nfe=2000, info=True)[1].nfe < 100
    with pytest.raises(ValueError, match="depend on the data"):
        fewstep.sample(mixture(VPLinear()), "picard", nfe=20)


@every_driver
def test_a_driver_has_no_plan(name):
    with pytest.raises(SamplerError, match=f"{name} is a driver"):
        fewstep.plan(name, VPLinear())


@every_driver
def test_it_is_described(name):
    entry = fewstep.samplers.describe(name)
    assert (
        entry["form"] == "driver"
        and entry["source"]
        and entry["summary"].endswith(".")
        and entry["order"] >= 1
    )
    assert entry["options"]["max_nfe"] >= 1


@every_driver
def test_the_same_seeds_give_the_same_samples(name):
    model = mixture(VPLinear())
    a = fewstep.sample(model, name, n=3, seed=9, **quick(name))
    assert torch.equal(a, fewstep.sample(model, name, seeds=[9, 10, 11], **quick(name)))
    assert not torch.equal(a, fewstep.sample(model, name, n=3, seed=10, **quick(name)))


@every_driver
def test_dtypes(name):
    model = mixture(VPLinear())
    # a step is accepted or not by the last bits too: two runs are as far apart as their tolerance
    # allows
    random = name == "adaptive_sde"
    options = quick(name) | ({"rtol": 1e-2, "atol": 1e-2} if random else {})
    exact = fewstep.sample(model, name, n=2, dtype=torch.float64, **options)
    for dtype, tolerance in ((torch.float32, 5e-2 if random else 2e-2), (torch.bfloat16, 0.6)):
        out = fewstep.sample(model, name, n=2, dtype=dtype, **options)
        assert out.dtype == dtype
        assert float((out.double() - exact).abs().max()) < tolerance


@every_driver
def test_start_in_the_middle(name):
    init = torch.tensor([[1.0, -0.5]], dtype=torch.float64).repeat(2, 1)
    out, info = fewstep.sample(
        mixture(VPLinear()), name, init=init, start=0.1, seed=5, info=True, **quick(name)
    )
    assert info.nfe >= 1 and float((out - init).norm(dim=1).max()) < 1.5
    assert len(info.seeds) == 2


@every_driver
def test_steps_are_seen_and_edited(name):
    """Accepted steps in order, each from where the one before ended; an edit is where the next one
    begins."""
    seen = []

    def edit(step):
        seen.append(step)
        return torch.full_like(step.x_next, 0.25) if len(seen) == 2 else None

    given = {"rtol": 0.05, "atol": 0.05} if get(name).free else {"steps": 6}
    plain = fewstep.sample(mixture(VPLinear()), name, n=2, seed=1, **given)
    out = fewstep.sample(mixture(VPLinear()), name, n=2, seed=1, callback=edit, **given)
    assert [step.index for step in seen] == list(range(len(seen))) and len(seen) >= 3
    assert all(a.next_node == b.node for a, b in pairwise(seen))
    assert all(a.nfe <= b.nfe for a, b in pairwise(seen))
    if name != "pc":  # there the corrector moves the state before it is seen
        assert torch.equal(seen[2].x, torch.full_like(plain, 0.25))
    assert not torch.equal(out, plain)
    watched = fewstep.sample(
        mixture(VPLinear()), name, n=2, seed=1, callback=lambda step: None, **given
    )
    assert torch.equal(watched, plain), "watching changes nothing"


@every_driver
def test_progress_is_reported(name):
    seen = []
    fewstep.sample(
        mixture(VPLinear()),
        name,
        n=1,
        progress=lambda done, total: seen.append((done, total)),
        **quick(name),
    )
    assert seen and all(done == total for done, total in seen)


@every_driver
def test_conditions_go_through(name):
    """Also where calls are made as one batch, or sample by sample."""
    model = mixture(VPLinear())
    label = torch.tensor([0, 2, 1])
    options = [
        o for o in ({}, {"per_sample": True}) if not o or hasattr(get(name).options(), "per_sample")
    ]
    for extra in options if name != "adaptive_sde" else ({"per_sample": True},):
        given = (
            {"rtol": 0.02, "atol": 0.1 if name == "adaptive_sde" else 0.01}
            if get(name).free
            else {"steps": 12}
        )
        out = fewstep.sample(
            model, name, n=3, cond={"label": label}, dtype=torch.float64, **given, **extra
        )
        assert float((out - model.means[label]).norm(dim=1).max()) < 2.0
        other = fewstep.sample(
            model, name, n=3, cond={"label": label.flip(0)}, dtype=torch.float64, **given, **extra
        )
        assert not torch.allclose(out[0], other[0])


def test_a_fragment_keeps_values():
    """The result and two further values, one of them a state, from one run; the last network call
    is handed back."""
    schedule = VPLinear()
    s, t = schedule.node(0.6), schedule.node(0.4)
    model = Counting(mixture(schedule, "eps"))
    b = PlanBuilder((s, t))
    x = b.start(s)
    e = b.evaluate(x, s, "eps")
    low = b.at(t, t.alpha / s.alpha * x + (t.sigma - t.alpha / s.alpha * s.sigma) * e)
    d = b.evaluate(low, t, "eps")
    high = b.at(
        t, t.alpha / s.alpha * x + (t.sigma - t.alpha / s.alpha * s.sigma) * (0.5 * e + 0.5 * d)
    )
    piece = fragment(b, high, low, b.value(high - low))
    start = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drive = Drive(model, start, s)
    ran = drive.run(piece)
    assert torch.allclose(ran.kept[1], ran.x - ran.kept[0], rtol=0, atol=1e-14)
    assert torch.allclose(
        ran.last[0], mixture(schedule, "eps")(ran.kept[0], 0.4), rtol=0, atol=1e-14
    )
    again = drive.run(piece, known=ran.first)
    assert drive.nfe == model.calls == 3 and torch.equal(again.x, ran.x)
    assert torch.equal(drive.x, start), "nothing is accepted yet"
    with pytest.raises(PlanError, match="cannot keep expressions"):
        fragment(b, high, high - low)


def test_what_is_kept_survives_later_launches():
    """A value that no instruction reads again has a buffer of its own till the end."""
    schedule = VPLinear()
    nodes = [schedule.node(t) for t in (0.9, 0.7, 0.5, 0.3)]
    b = PlanBuilder(nodes)
    x, early = b.start(nodes[0]), None
    for s, t in pairwise(nodes):
        d = b.evaluate(x, s, "x0")
        early = d if early is None else early
        x = b.at(t, (t.sigma / s.sigma) * x + (t.alpha - s.alpha * t.sigma / s.sigma) * d)
    piece = fragment(b, x, early)
    model = mixture(schedule, "eps")
    start = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ran = Drive(model, start, nodes[0]).run(piece)
    assert torch.allclose(ran.kept[0], mixture(schedule, "x0")(start, 0.9), rtol=0, atol=1e-12)
    assert lower(piece.plan, model).slots < lower(piece.plan, model, piece.keep).slots


@pytest.mark.parametrize("name", ["ode45", "ode853", "dpm_adaptive", "adaptive_sde", "picard"])
def test_a_network_may_reuse_its_memory(name):
    """Answers in one buffer that every call overwrites, as a captured graph gives them: kept
    answers are copies."""

    class Static(GaussianMixture):
        buffer = None

        def raws(self, x_in, t, cond=None):
            out = super().raws(x_in, t, cond)[0]
            if self.buffer is None or self.buffer.shape != out.shape:
                self.buffer = torch.empty_like(out)
            return (self.buffer.copy_(out),)

    plain = mixture(VPLinear())
    model = Static(plain.means, plain.stds, [0.5, 0.3, 0.2], VPLinear(), "v")
    given = (
        {"rtol": 0.05, "atol": 0.02, "h0": 2.0}
        if name.endswith(("sde", "adaptive"))
        else {"rtol": 1e-6, "atol": 1e-6}
    )
    given = given if get(name).free else {"steps": 9}
    a, info = fewstep.sample(model, name, n=4, seed=3, info=True, **given)
    assert name == "picard" or info.rejected >= 1
    assert torch.equal(a, fewstep.sample(plain, name, n=4, seed=3, **given))


def test_draws_are_numbered_through_the_run():
    asked = []

    def noise(key, like):
        asked.append(key)
        return torch.zeros_like(like)

    fewstep.sample(mixture(VPLinear()), "pc", steps=4, final="sigma_min", n=1, noise=noise)
    assert asked == list(range(8))


def test_a_fork_leaves_the_cursor_alone():
    schedule = VPLinear()
    model = mixture(schedule, "eps")
    plan = fewstep.plan("dpmpp_2m_sde", schedule, steps=5)
    x = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    cursor = Cursor(plan, model, x, SeededNoise((1, 2)))
    wanted = fewstep.run(plan, model, x, seeds=(1, 2))
    while not cursor.done:
        other = cursor.fork()
        other.step((torch.full_like(x, 7.0),))
        cursor.step(model.raws(cursor.x_in, cursor.node.t))
    assert torch.equal(cursor.result, wanted)


PLANS = [("ddim", {}), ("ddpm", {}), ("dpmpp_2m", {}), ("unipc", {"order": 3}), ("heun", {})]


@pytest.mark.parametrize(("method", "arguments"), PLANS, ids=[name for name, _ in PLANS])
def test_picard_is_the_plan_in_the_limit(method, arguments):
    """With tol = 0 bit for bit, in fewer passes than calls; the error falls with tol."""
    for schedule in (VPLinear(), EDM(0.002, 80.0), Flow()):
        model = mixture(schedule)
        given = {"steps": 24, "n": 3, "dtype": torch.float64, "grid": "auto_0_1"}
        wanted, plan = fewstep.sample(model, method, info=True, **given, **arguments)
        errors = []
        for tol in (0.0, 1e-3, 0.1):
            out, info = fewstep.sample(
                model, "picard", method=method, arguments=arguments, tol=tol, info=True, **given
            )
            errors.append(float((out - wanted).abs().max()))
            # ddpm, tol = 0: 16 to 20 of 24 passes over ten seeds, by the last bits of the noise
            most = 0.85 if tol == 0.0 else 0.6
            assert info.accepted == plan.nfe and info.passes <= most * plan.nfe
        assert errors[0] == 0.0 and errors[1] < 5e-3 and errors[2] < 0.2


def test_picard_has_the_automatic_grid_of_its_method():
    model = mixture(VPLinear())
    for method, arguments in PLANS:
        wanted = fewstep.sample(model, method, steps=5, n=3, **arguments)
        found = fewstep.sample(
            model, "picard", method=method, arguments=arguments, tol=0.0, steps=5, n=3
        )
        assert torch.equal(found, wanted), method


def test_picard_with_a_window_of_one_is_the_plan():
    model = Rows(mixture(VPLinear()))
    out, info = fewstep.sample(model, "picard", window=1, steps=7, n=2, info=True)
    assert info.passes == info.nfe == 7 and torch.equal(
        out, fewstep.sample(mixture(VPLinear()), "ddim", steps=7, n=2)
    )


def test_picard_converges_in_as_many_passes_as_calls():
    """A network whose answers vary wildly: nothing converges early, and still the plan's result
    comes out."""

    class Wild(GaussianMixture):
        def raws(self, x_in, t, cond=None):
            return (
                torch.sin(
                    1e3 * x_in.sum(1, keepdim=True) + 50.0 * torch.as_tensor(t).reshape(-1, 1)
                )
                * torch.ones_like(x_in),
            )

    model = Wild([[0.0, 0.0]], [1.0], [1.0], VPLinear(), "v")
    wanted = fewstep.sample(model, "ddim", steps=9, n=2, dtype=torch.float64)
    out, info = fewstep.sample(
        model, "picard", steps=9, n=2, dtype=torch.float64, tol=0.0, info=True
    )
    assert torch.equal(out, wanted) and info.passes <= 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0"),
        ({"tol": -0.1}, "tol=-0.1"),
        ({"method": "ode45"}, "is a driver"),
        ({"method": "dimm"}, "did you mean 'ddim'"),
        ({"arguments": {"eta": 3.0}}, "eta=3.0"),
        ({"arguments": {"etta": 0.5}}, "did you mean 'eta'"),
    ],
)
def test_picard_refuses(options, message):
    model = Counting(mixture(VPLinear()))
    with pytest.raises(ValueError, match=message):
        fewstep.sample(model, "picard", steps=2, **options)
    assert model.calls == 0


def test_ends():
    """The grid's own last level, or the schedule's, whichever has less noise; lam_end where t_min
    is sigma = 0."""
    vp, flow = VPLinear(), Flow()
    assert end_of(fewstep.grid("lam", vp, 3)) == vp.node(vp.t_min)
    assert end_of(fewstep.grid("lam", vp, 3, final="sigma_min")) == vp.node(vp.t_min)
    assert end_of(fewstep.grid(None, vp, times=[1.0, 1e-4, 0.0])) == vp.node(1e-4)
    assert end_of(fewstep.grid(None, vp, times=[1.0, 0.5])) == vp.node(0.5)
    assert end_of(fewstep.grid("uniform", flow, 3)).lam == pytest.approx(flow.lam_end)


def test_bad_states_and_noises_are_refused():
    model = Counting(mixture(VPLinear()))
    for options, message in (
        ({"x": torch.zeros(2, 3)}, "the model takes"),
        ({"noise": "brwnian"}, "did you mean 'brownian'"),
        ({"start": 0.5}, "init="),
    ):
        with pytest.raises(ValueError, match=message):
            fewstep.sample(model, "ode45", **options)
    with pytest.raises(ValueError, match="pc draws its noises one after another"):
        fewstep.sample(model, "pc", noise="brownian")
    assert fewstep.sample(mixture(VPLinear()), "ode45", noise="brownian", rtol=0.1).shape == (1, 2)
    entry, path = get("adaptive_sde"), fewstep.grid("lam", VPLinear(), 2)
    drive = Drive(model, torch.zeros(1, 2), path[0])
    with pytest.raises(PlanError, match="follows a Brownian path"):
        entry.build(drive, path, entry.options())
    assert model.calls == 0


def test_aliases_of_drivers():
    for alias in (a for a in ALIASES.values() if get(a.sampler).form == "driver"):
        make_options(get(alias.sampler), alias.options)
    assert fewstep.samplers.find("DPM adaptive")["DPM adaptive"].sampler == "dpm_adaptive"
    a = fewstep.sample(mixture(EDM(0.002, 80.0)), "sample_dpm_adaptive", n=2)
    assert torch.equal(
        a,
        fewstep.sample(
            mixture(EDM(0.002, 80.0)), "dpm_adaptive", n=2, control="pid", coupling="mean"
        ),
    )


def test_generate_draws_with_a_driver(tmp_path, capsys):
    """Blocks are reproducible: a run again keeps them, a redone block has the same bytes."""
    argv = [
        "generate",
        "--model",
        "mixture",
        "--sampler",
        "ode45",
        "-o",
        "rtol=0.01",
        "--seeds",
        "0-6",
        "--batch",
        "3",
        "--labels",
        "none",
    ]
    assert main([*argv, "--out", str(tmp_path / "a")]) == 0
    assert "its own number of network calls" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["sampler"] == "ode45" and manifest["nfe"] is None and manifest["count"] == 7
    assert main([*argv, "--out", str(tmp_path / "b")]) == 0
    block = tmp_path / "b" / "samples" / "block-00001.npz"
    whole = block.read_bytes()
    block.unlink()
    (tmp_path / "b" / "blocks" / "00001.json").unlink()
    assert main([*argv, "--out", str(tmp_path / "b")]) == 0
    assert (
        block.read_bytes() == whole == (tmp_path / "a" / "samples" / "block-00001.npz").read_bytes()
    )
    capsys.readouterr()
    assert main([*argv, "-o", "atol=0.01", "--out", str(tmp_path / "b")]) == 3
    assert "other settings" in capsys.readouterr().err
    assert main([*argv, "-o", "max_nfe=3", "--out", str(tmp_path / "c")]) == 4
    assert "max_nfe=3" in capsys.readouterr().err


def test_every_coupled_run_of_a_peer_is_replayed():
    """What ``peers.json`` leaves out because it is no fixed program is replayed in
    ``test_adaptive`` and ``test_predictor_corrector``."""
    kinds = Counter(case.peer for case in coupled().values())
    assert kinds == {"dpm-solver": 16, "k-diffusion": 4, "azula": 2, "score_sde_pytorch": 7}
    left = {
        reason: count
        for reason, count in index()["left_out"].items()
        if reason.partition(":")[0] in kinds
    }
    of_drivers = {"adaptive step size", "predictor-corrector", "get_pc_sampler"}
    assert sum(
        count for reason, count in left.items() if reason.partition(": ")[2] in of_drivers
    ) == sum(kinds.values())


def test_a_path_of_its_own_schedule():
    """The end that a driver reaches is the grid's: here between two levels of a table."""
    schedule = SCHEDULES["discrete"]
    grid = Grid.from_nodes([schedule.node(900.0), schedule.node(33.0)], schedule)
    x = torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    a = fewstep.sample(mixture(schedule), "ode853", grid=grid, x=x, rtol=1e-8, atol=1e-8)
    b = fewstep.sample(mixture(schedule), "ode45", grid=grid, x=x, rtol=1e-9, atol=1e-9)
    assert torch.allclose(a, b, rtol=0, atol=1e-7)
