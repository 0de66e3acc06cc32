"""The other tables of ``fewstep certify``: orders by kind of network, rounding, and other people's
schedulers."""

import argparse
import json
import math

import pytest
import torch

from fewstep.cli import certify
from fewstep.eval.certificates import certification
from fewstep.eval.certificates.drivers import MEASURES, certify_driver
from fewstep.eval.certificates.prediction_types import (
    KINDS,
    PredictionTypes,
    certify_prediction_types,
    law_error,
    path_error,
    rounding,
)
from fewstep.eval.certificates.problem import smooth_grid
from fewstep.eval.certificates.third_party import certify_diffusers
from fewstep.samplers import SamplerError, build, get, make_options, names
from fewstep.schedules import EDM, VE, VPLinear


def call(capsys, *argv):
    parser = argparse.ArgumentParser()
    certify.add_arguments(parser)
    code = certify.execute(parser.parse_args(argv))
    return code, capsys.readouterr().out


def plan(name, steps, **options):
    return build(name, smooth_grid(VPLinear(), steps), make_options(get(name), options))


@pytest.mark.parametrize(
    ("name", "options"), [("ddim", {"tau": 1.0}), ("dpmpp_2m", {}), ("heun", {})]
)
def test_every_kind_of_network_gives_the_same_error(name, options):
    """One plan, five networks: the error is the same to rounding, and not zero."""
    made = plan(name, 20, **options)
    error = law_error if made.stochastic else lambda p, s, k: path_error(p, s, k, 0)
    found = [error(made, VPLinear(), kind) for kind in KINDS]
    assert min(found) > 1e-5
    assert max(found) - min(found) < 1e-11


def test_kinds_of_a_second_order_method():
    k = certify_prediction_types("dpmpp_2m")
    assert list(k.orders) == list(KINDS)
    assert all(abs(order - 2.0) < 0.1 for order in k.orders.values())
    assert 1e-9 < k.rounding["fp32"] < 1e-5 < 1e-3 < k.rounding["bf16"] < 0.2
    assert k.passed


@pytest.mark.parametrize(
    "orders", [{"x0": 2.0, "eps": 1.9}, {"x0": 1.0, "eps": 1.0}, {"x0": 3.0, "eps": 3.0}]
)
def test_kinds_that_disagree_or_miss_do_not_pass(orders):
    assert PredictionTypes("a", {}, False, 2, {"x0": 2.0, "eps": 2.02}, {}).passed
    assert not PredictionTypes("a", {}, False, 2, orders, {}).passed


def test_rounding_is_zero_without_rounding():
    assert rounding(plan("dpmpp_2m", 20), VPLinear(), torch.float64) == 0.0


def test_the_table_of_kinds(capsys):
    code, out = call(capsys, "dpm_solver_1", "--kinds", "--json")
    (row,) = json.loads(out)
    assert (
        code == 0
        and row["sampler"] == "dpm_solver_1"
        and row["passed"]
        and set(row["orders"]) == set(KINDS)
    )


@pytest.fixture
def coarse(monkeypatch):
    """Two step counts of four."""
    monkeypatch.setattr("fewstep.eval.certificates.third_party.STEPS", (161, 321))


@pytest.mark.usefixtures("coarse")
def test_diffusers_third_order_multistep_is_second_order():
    """The defect that ``dpmpp_3m_compat`` reproduces, found in the class itself; its second order
    is what it says."""
    third = certify_diffusers("DPMSolverMultistepScheduler", solver_order=3)
    assert third.claimed == 3 and abs(third.measured - 2.0) < 0.2
    second = certify_diffusers("DPMSolverMultistepScheduler", solver_order=2)
    assert second.claimed == 2 and abs(second.measured - 2.0) < 0.1


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("EulerDiscreteScheduler", 1),
        ("HeunDiscreteScheduler", 2),
        ("FlowMatchHeunDiscreteScheduler", 2),
        ("EDMEulerScheduler", 1),
    ],
)
@pytest.mark.usefixtures("coarse")
def test_diffusers_orders_in_every_coordinate(name, order):
    """Scaled VE states, flow and EDM preconditioning: the exact model is fed and read in the
    class's own coordinates."""
    assert abs(certify_diffusers(name).measured - order) < 0.1


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("DEISMultistepSchedulr", {}, "did you mean 'DEISMultistepScheduler'"),
        ("DDIMScheduler", {"solver_ordr": 2}, "configuration key 'solver_ordr'"),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "rounds its timesteps"),
        ("EulerAncestralDiscreteScheduler", {}, "stochastic"),
        ("IPNDMScheduler", {}, "uses its own timesteps"),
        ("RePaintScheduler", {}, "cannot be made"),
    ],
)
def test_what_cannot_be_certified_is_refused(name, config, message):
    with pytest.raises(ValueError, match=message):
        certify_diffusers(name, **config)


@pytest.mark.usefixtures("coarse")
def test_the_table_of_diffusers(capsys):
    code, out = call(
        capsys, "EDMDPMSolverMultistepScheduler", "--diffusers", "-o", "solver_order=2"
    )
    head, row = out.splitlines()
    assert code == 0 and head.split() == ["scheduler", "claimed", "measured", "error"]
    assert (
        row.split()[:3] == ["EDMDPMSolverMultistepScheduler", "solver_order=2", "2"]
        and abs(float(row.split()[3]) - 2.0) < 0.2
    )


def test_only_stochastic_samplers_have_a_strong_order():
    assert certify.chosen(["ddim"], False, {}, only_stochastic=True) == [
        ("ddim", {"tau": 0.5}),
        ("ddim", {"tau": 1.0}),
    ]
    with pytest.raises(SamplerError, match="nothing of this kind"):
        certify.chosen(["dpm_solver_1"], False, {}, only_stochastic=True)


def test_a_sampler_without_order_is_only_counted():
    from fewstep.eval import certify as measure

    found = measure("lcm")
    assert found.declared == 0 and math.isnan(found.measured) and found.passed
    assert found.nfe == found.counted == 10


@pytest.mark.parametrize("name", ["ode45", "picard", "pc", "dpm_solver_v3_elementwise"])
def test_drivers_have_certificates_of_their_own(name):
    found = certify_driver(name)
    assert found.passed and found.wanted[0] <= found.found <= found.wanted[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ode853", "dpm_adaptive", "adaptive_sde"])
def test_every_driver_has_a_certificate(name):
    assert certify_driver(name).passed


def test_every_driver_is_measured():
    assert set(names("driver")) == set(MEASURES)


def test_plans_and_drivers_in_one_call(capsys):
    code, out = call(capsys, "dpm_solver_1", "pc")
    orders, drivers = out.split("\n\n")
    assert code == 0
    assert (
        orders.splitlines()[1].startswith("dpm_solver_1")
        and drivers.splitlines()[1].split()[0] == "pc"
    )
    rows = json.loads(call(capsys, "pc", "--json")[1])
    assert rows[0]["sampler"] == "pc" and rows[0]["passed"]


@pytest.mark.parametrize("schedule", [EDM(), VE()])
@pytest.mark.parametrize("options", [{}, {"order": 2}, {"tau": 1.0}, {"form": "euler"}])
def test_flow_sde_keeps_its_order_on_paths_with_alpha_one(schedule, options, monkeypatch):
    """Beside its registered paths (``tests/plans/test_order.py``)."""
    monkeypatch.setitem(certification.PATHS, "vp", schedule)
    monkeypatch.setattr(certification, "STEPS", (320, 640, 1280))
    assert certification.certify("flow_sde", on="vp", **options).passed
