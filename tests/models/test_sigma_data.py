"""What a denoiser says of its data: ``sigma_data``, ``guided`` and ``latent``, of exact models,
wrapped networks and loaded weights."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import fewstep.models.empirical as empirical_module
from fewstep.checks import ArgumentError
from fewstep.jobs.hashes import denoiser_hash
from fewstep.models import (
    EDMPreconditioning,
    Empirical,
    EmpiricalPFGMPP,
    GaussianMixture,
    MeanReverted,
    VEPreconditioning,
    VPPreconditioning,
    load,
    wrap,
)
from fewstep.schedules import EDM, PFGMPP, MeanReverting, VPLinear

F64 = torch.float64
MEANS, STDS, WEIGHTS = (-1.3, 0.4, 1.7), (0.3, 0.2, 0.4), (0.3, 0.5, 0.2)


def normals(*shape):
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape))


def same(x, label):
    """A network."""
    return x


def line(schedule, prediction="eps"):
    """Three components in one dimension."""
    return GaussianMixture([[m] for m in MEANS], STDS, WEIGHTS, schedule, prediction)


def plane(schedule, prediction="eps"):
    """Three components of shape (2, 3) with a standard deviation of every entry."""
    rng = np.random.default_rng(0)
    return GaussianMixture(
        rng.normal(size=(3, 2, 3)), rng.uniform(0.2, 0.6, (3, 2, 3)), WEIGHTS, schedule, prediction
    )


# --- exact models


@pytest.mark.parametrize("make", [line, plane])
def test_sigma_data_of_a_mixture_is_that_of_its_samples(make):
    den = make(VPLinear())
    x = den.sample(100_000, 3)
    of_samples = float(x.var(0, unbiased=False).mean().sqrt())
    assert den.sigma_data == pytest.approx(of_samples, rel=0.01)
    assert make(EDM(), "x0").sigma_data == den.sigma_data, "whatever the path and the prediction"


def test_sigma_data_of_a_mixture_in_closed_form():
    one = GaussianMixture([[3.0, -5.0]], 0.7, [2.0], VPLinear())
    assert one.sigma_data == pytest.approx(0.7, rel=1e-15)
    # +-1 with equal weights and deviation 0.1: variance 1 + 0.01
    two = GaussianMixture([[1.0], [-1.0]], 0.1, [3.0, 3.0], VPLinear())
    assert two.sigma_data == pytest.approx(math.sqrt(1.01), rel=1e-15)
    # weights 1/4, 3/4 at 0 and 4 (variance 3 + s^2) beside an element of variance s^2
    stds = [[0.1, 0.2], [0.3, 0.4]]
    mixed = GaussianMixture([[0.0, 7.0], [4.0, 7.0]], stds, [0.25, 0.75], VPLinear())
    own = [0.25 * stds[0][j] ** 2 + 0.75 * stds[1][j] ** 2 for j in (0, 1)]
    assert mixed.sigma_data == pytest.approx(math.sqrt((3.0 + own[0] + own[1]) / 2), rel=1e-15)
    # a component without weight has no part
    far = GaussianMixture([[1.0], [-1.0], [9.0]], 0.1, [1.0, 1.0, 0.0], VPLinear())
    assert far.sigma_data == pytest.approx(two.sigma_data, rel=1e-15)


@pytest.mark.parametrize("block", [1 << 22, 24])
def test_sigma_data_of_points_is_numpys(block, monkeypatch):
    monkeypatch.setattr(empirical_module, "BLOCK", block)
    for dtype in (torch.float32, F64):
        data = 5.0 + normals(50, 2, 3).to(dtype) * torch.tensor([0.2, 1.0, 3.0], dtype=dtype)
        want = math.sqrt(data.double().numpy().var(axis=0).mean())
        for den in (Empirical(data, VPLinear()), EmpiricalPFGMPP(data, PFGMPP(8))):
            assert den.sigma_data == pytest.approx(want, rel=1e-13)


def test_equal_points_have_no_sigma_data():
    assert Empirical(torch.full((3, 2), 0.7), VPLinear()).sigma_data is None
    assert Empirical(torch.tensor([[0.7, 0.1]]), VPLinear()).sigma_data is None
    almost = torch.tensor([[0.7], [0.7 + 2e-6]], dtype=F64)
    assert Empirical(almost, VPLinear()).sigma_data == pytest.approx(1e-6, rel=1e-6)


def test_sigma_data_of_a_mean_reverting_model_is_that_of_its_inner_model():
    """x - mu has the deviation of x."""
    path, data = MeanReverting(0.6, VPLinear()), normals(20, 3)
    inner = Empirical(data, path)
    made = MeanReverted(inner, torch.tensor([2.0, -1.0, 0.5]))
    want = math.sqrt(((data - made.mu).numpy()).var(axis=0).mean())
    assert made.sigma_data == inner.sigma_data == pytest.approx(want, rel=1e-13)


# --- wrapped networks


def preconditioned(precondition, **given):
    prediction = "x0" if precondition == "edm" else getattr(precondition, "kind", "x0")
    return wrap(same, EDM(), prediction, "c_noise", precondition=precondition, **given)


def test_the_facts_of_a_wrapped_network_are_unknown_unless_given():
    den = wrap(same, VPLinear(), "eps")
    assert den.sigma_data is None and den.guided is False and den.latent is False
    for value in (0.25, 3, np.float32(0.5)):
        found = wrap(same, VPLinear(), "eps", sigma_data=value)
        assert found.sigma_data == value and type(found.sigma_data) is float
        assert torch.equal(found(torch.ones(2, 3), 0.4), den(torch.ones(2, 3), 0.4))
    told = wrap(same, VPLinear(), "eps", guided=True, latent=True)
    assert told.guided is True and told.latent is True and told.sigma_data is None


@pytest.mark.parametrize(("given", "want"), [(None, 0.5), (0.5, 0.5), (1.3, 1.3)])
def test_edm_uses_sigma_data_and_says_so(given, want):
    den = preconditioned("edm", sigma_data=given)
    assert den.sigma_data == den.precondition.sigma_data == want
    assert preconditioned("edm").sigma_data == 0.5


def test_a_preconditioning_says_its_sigma_data():
    assert preconditioned(EDMPreconditioning(0.7)).sigma_data == 0.7
    assert preconditioned(EDMPreconditioning(0.7), sigma_data=0.7).sigma_data == 0.7
    for given in (0.5, 0.7000001):
        with pytest.raises(ArgumentError, match=rf"sigma_data={given}.*sigma_data=0\.7"):
            preconditioned(EDMPreconditioning(0.7), sigma_data=given)
    for other in (VPPreconditioning(VPLinear()), VEPreconditioning()):
        assert preconditioned(other).sigma_data is None
        assert preconditioned(other, sigma_data=0.4).sigma_data == 0.4


def test_a_preconditioning_of_a_users_class():
    @dataclass
    class Own:
        sigma_data: float | None
        kind = "x0"

        def numbers(self, node):
            return EDMPreconditioning(0.5).numbers(node)

        def c_noise(self, rho):
            return rho

    assert preconditioned(Own(1.5)).sigma_data == 1.5
    assert preconditioned(Own(None)).sigma_data is None
    assert preconditioned(Own(None), sigma_data=0.3).sigma_data == 0.3
    with pytest.raises(ArgumentError, match=r"Own\.sigma_data=-1"):
        preconditioned(Own(-1))


@pytest.mark.parametrize("value", [0, -0.5, math.nan, math.inf, True, "0.5"])
def test_a_wrong_sigma_data_is_refused(value):
    for precondition in (None, "edm", EDMPreconditioning(0.5)):
        with pytest.raises(ArgumentError, match=re.escape(f"sigma_data={value!r}")):
            preconditioned(precondition, sigma_data=value)


@pytest.mark.parametrize("name", ["guided", "latent"])
def test_a_fact_that_is_no_flag_is_refused(name):
    for value in ("yes", 1, None):
        with pytest.raises(ArgumentError, match=f"{name}={value!r} must be True or False"):
            wrap(same, VPLinear(), "eps", **{name: value})


def test_the_facts_do_not_change_the_hash():
    """They change no sample of a given plan, and folders of older versions lack them."""
    plain = denoiser_hash(wrap(same, VPLinear(), "eps"))
    facts = {"sigma_data": 0.3, "guided": True, "latent": True}
    assert denoiser_hash(wrap(same, VPLinear(), "eps", **facts)) == plain
    assert denoiser_hash(wrap(same, VPLinear(), "v", **facts)) != plain
    # what the preconditioning uses does
    hashes = {denoiser_hash(preconditioned("edm", sigma_data=s)) for s in (0.3, 0.5, None)}
    assert len(hashes) == 2
    den = plane(VPLinear())
    before = denoiser_hash(den)
    assert den.sigma_data > 0.0 and denoiser_hash(den) == before


# --- bundled models


def test_bundled_models_say_their_sigma_data():
    for name in ("mnist", "cifar10"):
        den = load(name)
        assert den.sigma_data == den.precondition.sigma_data == 0.5
        assert not den.guided and not den.latent
    ring = load("mixture")  # radius 1 and deviation 0.1 in two dimensions
    assert ring.sigma_data == pytest.approx(math.sqrt(0.5 + 0.01), rel=1e-14)
