"""Every sampler has the order that it declares: walked without a network, and measured against
exact scores, on both sides."""

import math

import pytest

from fewstep.checks import ArgumentError
from fewstep.eval import certify
from fewstep.eval.certificates import certification
from fewstep.plans import walked_order
from fewstep.samplers import build, get, names
from fewstep.schedules import VPLinear

#: step counts of the quick measurement; weak errors are cheap, and reach their slope later where
#: start-up steps count
QUICK, QUICK_WEAK = (160, 320, 640), (640, 1280)
CASES = [(name, options) for name in names("plan") for options in ({}, *get(name).variants)]
IDS = [name + "".join(f"-{k}={v}" for k, v in options.items()) for name, options in CASES]


def agrees(c):
    assert c.passed
    if not c.declared:  # claims no order: its calls are what it promises
        return
    assert abs(c.measured - c.declared) <= c.tolerance, c
    if not c.stochastic:
        assert abs(c.walked - c.declared) <= c.tolerance, c
    elif get(c.name).walks or math.isfinite(c.walked):
        assert c.walked >= c.declared - c.tolerance, c


@pytest.mark.parametrize("name", names("plan"))
def test_order(name, monkeypatch):
    """Default options, on three step counts of the asymptotic range, not on all."""
    weak = get(name).tau_of(get(name).options()) > 0.0
    monkeypatch.setattr(certification, "STEPS", QUICK_WEAK if weak else QUICK)
    agrees(certify(name))


@pytest.mark.parametrize("options", [{}, *get("flow_sde").variants], ids=str)
def test_flow_sde_on_its_further_paths(options, monkeypatch):
    monkeypatch.setattr(certification, "STEPS", QUICK_WEAK)
    assert get("flow_sde").on == ("flow", "vp")
    for path in get("flow_sde").on[1:]:
        made = certify("flow_sde", on=path, **options)
        agrees(made)
        assert made.options == {**options, "on": path}


def test_a_sampler_of_flows_has_no_certificate_elsewhere():
    with pytest.raises(ArgumentError, match="on"):
        certify("flow_heun", on="vp")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_certificate(name, options):
    agrees(certify(name, **options))


def test_the_walk_finds_the_halved_difference():
    """The third-order multistep of the peers: exact for the type check, second order for the
    walk."""
    from fewstep.eval.certificates.problem import smooth_grid

    def plan(name):
        options = get(name).options(lower_order_final=False)
        return lambda n: build(name, smooth_grid(VPLinear(), n), options)

    assert plan("dpmpp_3m_compat")(10).exactness == "exact"
    assert abs(walked_order(plan("dpmpp_3m_compat")) - 2.0) < 0.1
    assert abs(walked_order(plan("dpmpp_3m")) - 3.0) < 0.1
