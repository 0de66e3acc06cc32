"""What ``grid="auto"`` stands for: the grid ``logistic`` by steps, kind and facts; what it was in
version 0.1; and the defaults of a plan."""

from __future__ import annotations

import math
from importlib import import_module
from itertools import pairwise, product

import pytest
from repository import ROOT

import fewstep
from fewstep.samplers import get as get_sampler
from fewstep.samplers import register as register_sampler
from fewstep.schedules import (
    EDM,
    VE,
    DiscreteVP,
    Flow,
    GridError,
    MeanReverting,
    Schedule,
    SubVP,
    Trig,
    VPCosine,
    VPLinear,
    VPSigmoid,
    grid,
)
from fewstep.schedules.grids.auto import (
    FITTED,
    RULE,
    SAMPLER_KINDS,
    DataFacts,
    Kind,
    auto_options,
    auto_reason,
)
from fewstep.schedules.grids.registry import register as register_grid

TABLE = DiscreteVP.from_betas([1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)])
#: what "auto" was in version 0.1
FORMER = [
    (VPLinear(), "power", {"power": 3.0, "drop_last": True}),
    (VPCosine(), "lam", {"drop_last": True}),
    (VPSigmoid(), "lam", {"drop_last": True}),
    (SubVP(), "power", {"power": 2.0, "drop_last": True}),
    (TABLE, "lam", {"drop_last": True}),
    (VE(), "lam", {"drop_last": True}),
    (EDM(), "lam", {"drop_last": True}),
    (Flow(), "quadratic", {}),
    (Trig(), "quadratic", {}),
    (MeanReverting(0.5, VPLinear()), "lam", {"drop_last": True}),
]


@pytest.mark.parametrize(
    ("schedule", "name", "options"), FORMER, ids=[type(s).__name__ for s, _, _ in FORMER]
)
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_auto_of_version_0_1(
    schedule: Schedule, name: str, options: dict[str, object], final: str
) -> None:
    for steps in (1, 2, 7):
        found = grid("auto_0_1", schedule, steps, final=final)
        want = grid(name, schedule, steps, final=final, **options)  # type: ignore[arg-type]
        assert found == want
        plan = fewstep.plan("ddim", schedule, steps=steps, final=final, grid="auto_0_1")
        assert plan.nodes == want.nodes


@pytest.mark.parametrize(
    ("kind", "spatial", "scale"),
    list(product(SAMPLER_KINDS, (None, False, True), (None, 0.25, 1.9))),
)
def test_auto_is_the_logistic_grid(kind: Kind, spatial: bool | None, scale: float | None) -> None:
    facts = DataFacts(scale, spatial)
    for schedule, steps in product((EDM(), Flow(3.0), TABLE), (1, 2, 5, 9, 20, 400)):
        ends = (schedule.rho(schedule.t_max), schedule.rho(schedule.t_min))
        options = auto_options(steps, kind, facts, ends)
        assert options["sigma_data"] == (0.5 if scale is None else scale)
        found = grid("auto", schedule, steps, kind=kind, facts=facts)
        assert found == grid("logistic", schedule, steps, **options)
        scaled = grid("auto", schedule, steps, kind=kind, facts=facts, sigma_data=0.3)
        other = DataFacts(0.3, spatial)
        assert scaled == grid("auto", schedule, steps, kind=kind, facts=other)
        own = grid("auto", schedule, steps, kind=kind, facts=facts, center=3.0)
        assert own == grid("logistic", schedule, steps, **{**options, "center": 3.0})


def test_the_numbers_between_the_rows() -> None:
    """At a row its own; between two rows monotone in log steps; constant beyond the ends."""
    for (key, spatial), rows in RULE.items():
        kind: Kind = key.split()[0]  # type: ignore[assignment]
        facts = DataFacts(1.0, spatial, guided=key.endswith(" guided"))
        for row in rows:
            found = auto_options(row.steps, kind, facts)
            assert (found["center"], found["spread"]) == (row.center, row.spread)
        for low, high in pairwise(rows):
            assert low.steps < high.steps
            middle = math.sqrt(low.steps * high.steps)
            if middle == int(middle):
                found = auto_options(int(middle), kind, facts)
                assert found["center"] == pytest.approx(math.sqrt(low.center * high.center))
                assert found["spread"] == pytest.approx((low.spread + high.spread) / 2.0)
        ends = (auto_options(n, kind, facts) for n in (1, rows[0].steps))
        assert next(ends) == next(ends)
        assert auto_options(rows[-1].steps * 7, kind, facts) == auto_options(
            rows[-1].steps, kind, facts
        )


@pytest.mark.parametrize("steps", [14, 20, 30, 50, 100, 1000])
@pytest.mark.parametrize("spatial", [False, True])
def test_the_last_node_of_a_multistep_sampler_is_not_below_the_least_level(
    steps: int, spatial: bool
) -> None:
    """The last node of the rule on a path that goes on to sigma = 0 is nearly the least level of a
    path that does not, or above; samplers of other kinds are not changed."""
    facts = DataFacts(0.5, spatial)
    plain = auto_options(steps, "multistep", facts)
    table = (TABLE.rho(TABLE.t_max), TABLE.rho(TABLE.t_min))
    found = auto_options(steps, "multistep", facts, table)

    def last(options: dict[str, float]) -> float:
        center = options["center"] * options["sigma_data"]
        first = 1.0 / (1.0 + (center / table[0]) ** (1.0 / options["spread"]))
        return center * (first / (steps - first)) ** options["spread"]

    if last(plain) >= table[1]:
        assert found == plain
    else:
        assert last(found) == pytest.approx(table[1], rel=1e-3)
        assert found["center"] > plain["center"] and found["spread"] < plain["spread"]
    for kind in ("multistep_x0", "singlestep", "stochastic"):
        assert auto_options(steps, kind, facts, table) == auto_options(steps, kind, facts)
    ended = grid("auto", TABLE, steps, facts=facts, final="sigma_min")
    assert ended == grid("logistic", TABLE, steps, final="sigma_min", **plain)


def test_a_singlestep_sampler_keeps_the_former_grid_on_a_path_from_a_huge_level() -> None:
    cosine = DiscreteVP.from_betas([0.02] * 999 + [0.999999])
    assert 2000.0 * 0.5 < cosine.rho(cosine.t_max) < math.inf
    for kind in SAMPLER_KINDS:
        found = grid("auto", cosine, 5, kind=kind)
        assert (found == grid("auto_0_1", cosine, 5)) == (kind == "singlestep")
        assert grid("auto", EDM(), 5, kind=kind).name == "logistic"
        assert grid("auto", cosine.rescale_zero_snr(), 5, kind=kind).name == "logistic"
        assert grid("auto", cosine, 5, kind=kind, center=2.0).name == "logistic"
    plan = fewstep.plan("heun", cosine, steps=5)
    assert plan.reason.startswith("grid auto: lam, as auto_0_1 (a huge first level); for 5 steps")


@pytest.mark.parametrize("kind", SAMPLER_KINDS)
def test_the_numbers_of_an_unknown_shape_are_midway(kind: Kind) -> None:
    for steps in (3, 7, 20):
        vector, spatial, unknown = (
            auto_options(steps, kind, DataFacts(None, space)) for space in (False, True, None)
        )
        assert unknown["center"] == pytest.approx(math.sqrt(vector["center"] * spatial["center"]))
        assert unknown["spread"] == pytest.approx((vector["spread"] + spatial["spread"]) / 2.0)
        assert vector["center"] < unknown["center"] < spatial["center"]


@pytest.mark.parametrize("spatial", [None, False, True])
def test_guided_models_and_latents_have_their_own_numbers(spatial: bool | None) -> None:
    """For multistep samplers; other kinds do not depend on them."""
    plain = DataFacts(None, spatial)
    for facts in (DataFacts(None, spatial, guided=True), DataFacts(None, spatial, latent=True)):
        assert (
            auto_options(8, "multistep", facts)["spread"]
            < (auto_options(8, "multistep", plain)["spread"])
        )
        for kind in ("singlestep", "stochastic"):
            assert auto_options(8, kind, facts) == auto_options(8, kind, plain)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match="sigma_data"):
        DataFacts(value)


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(GridError, match="unknown kind 'multi'; did you mean 'multistep'"):
        grid("auto", EDM(), 5, kind="multi")  # type: ignore[arg-type]


def test_the_reason_names_the_grid_and_the_facts() -> None:
    options = {"sigma_data": 0.25, "center": 2.0, "spread": 1.5}
    text = auto_reason(EDM(), 8, "multistep", DataFacts(0.25, False), options)
    assert "grid auto: logistic" in text and "sigma_data 0.25 (given by the model)" in text
    assert "8 steps of a multistep sampler and vectors" in text and "not fitted" not in text
    options["sigma_data"] = 0.5
    path = MeanReverting(0.5, VPLinear())
    text = auto_reason(path, 8, "singlestep", DataFacts(), options)
    assert "sigma_data 0.5 (unknown, assumed)" in text and "samples of any shape" in text
    assert "not fitted on MeanReverting" in text


def test_the_fitted_paths_are_those_of_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    paths = import_module("grid_problems").PATHS.values()
    assert {type(path).__name__ for path in paths} == set(FITTED)
    for path in (VE(), SubVP(), Trig()):
        assert "not fitted" in fewstep.plan("auto", path, nfe=5).reason
    for path in (VPLinear(), TABLE, EDM(), Flow()):
        assert "not fitted" not in fewstep.plan("auto", path, nfe=5).reason


def test_an_option_of_the_grid_is_said_to_be_one() -> None:
    facts = DataFacts(0.25, False)
    for given, word in ((0.25, "given by the model"), (0.3, "given as an option")):
        options = {"sigma_data": given, "center": 2.0, "spread": 1.5}
        assert f"({word})" in auto_reason(EDM(), 8, "multistep", facts, options)


@pytest.mark.parametrize("name", ["karras", "auto_0_1", "logistic"])
def test_other_grids_refuse_what_only_auto_uses(name: str) -> None:
    for more in ({"kind": "multistep"}, {"facts": DataFacts()}):
        with pytest.raises(GridError, match=f"grid '{name}': only grid 'auto' takes kind="):
            grid(name, EDM(), 5, **more)  # type: ignore[arg-type]
    with pytest.raises(GridError, match="only grid 'auto'"):
        grid("custom", EDM(), times=[1.0, 0.5], facts=DataFacts())


def test_nobody_registers_the_automatic_names() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        register_sampler("auto", order=1, source="none")(get_sampler("ddim").build)
    for name in ("auto", "auto_0_1"):
        with pytest.raises(GridError, match="registered twice"):
            register_grid(name)(lambda frame, options: [])


@pytest.mark.parametrize("value", ["vp", None, 3])
def test_what_is_neither_a_schedule_nor_a_model_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="schedule"):
        fewstep.plan("ddim", value, steps=3)  # type: ignore[arg-type]


def test_defaults_of_a_plan() -> None:
    """20 steps to sigma = 0 on the automatic grid; ``nfe`` is the most that fits."""
    made = fewstep.plan("dpmpp_2m", VPLinear())
    assert made == fewstep.plan("dpmpp_2m", VPLinear(), steps=20, grid="auto", final="zero")
    assert (made.steps, made.nfe, made.end.sigma) == (20, 20, 0.0)
    for nfe, steps in ((7, 4), (8, 4), (9, 5)):  # Heun's last step to sigma = 0 is Euler's
        assert fewstep.plan("heun", VPLinear(), nfe=nfe).steps == steps
    own = grid("karras", VPLinear(), 5)
    assert fewstep.plan("ddim", VPLinear(), grid=own).nodes == own.nodes
    assert fewstep.plan("ddim", VPLinear(), sigmas=[3.0, 1.0, 0.2]).steps == 2
    for bad in (
        {"steps": 4, "grid": own},
        {"grid": own, "start": 0.5},
        {"grid": own, "times": [0.5, 0.1]},
        {"steps": 3, "times": [0.5, 0.1]},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            fewstep.plan("ddim", VPLinear(), **bad)
    with pytest.raises(ValueError, match="belongs"):
        fewstep.plan("ddim", EDM(), grid=own)


@pytest.mark.parametrize("sigma_inf", [0.5, 2.0])
def test_a_mean_reverting_path_moves_its_base_in_lam(sigma_inf: float) -> None:
    """``lam = lam_base - log sigma_inf``: the cut of infinite ends too, so that its grids in lam
    are those of the base."""
    zero = TABLE.rescale_zero_snr()
    for base in (VPLinear(), VPCosine(), TABLE, zero):
        path = MeanReverting(sigma_inf, base)
        shift = math.log(sigma_inf)
        assert (path.lam_start, path.lam_end) == (base.lam_start - shift, base.lam_end - shift)
        for t in (0.3 * base.t_max, 0.9 * base.t_max):
            assert path.lam(t) == pytest.approx(base.lam(t) - shift, rel=1e-12)
            assert path.t_of_lam(path.lam(t)) == pytest.approx(t, rel=1e-9)
            assert path.dlam(t) == pytest.approx(base.dlam(t), rel=1e-12)
            assert path.g2(t) == pytest.approx(
                2.0 * path.sigma(t) * path.dsigma(t) - 2.0 * path.f(t) * path.sigma(t) ** 2,
                rel=1e-9,
            )
        for name in ("lam", "karras"):
            found, want = grid(name, path, 6), grid(name, base, 6)
            if name == "lam":
                assert found.times == pytest.approx(want.times, rel=1e-9)
            assert found[0].t == base.t_max
