"""Nonlinear Schroedinger: soliton, invariants, collision, modulation instability."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import nls
from fewstep.eval.physics.solitons import breather, phase_shift, soliton


def line(n, length=40.0):
    return torch.arange(n).double() * length / n - length / 2


def drifts(psi, spacing):
    kept = nls.conserved({"psi": psi}, spacing, {})
    return {name: float((q - q[:, :1]).abs().max()) for name, q in kept.items()}


def test_invariants_of_the_soliton():
    a, v = 1.7, math.pi / 20
    kept = nls.conserved(*nls.exact(384))
    for name, wanted in {
        "mass": 2 * a,
        "momentum": 2 * a * v,
        "energy": a * v**2 - a**3 / 3,
    }.items():
        torch.testing.assert_close(
            kept[name], torch.full_like(kept[name], wanted), rtol=0, atol=1e-9
        )


@pytest.mark.parametrize(
    ("form", "dealias"),
    [("integrating_factor", False), ("direct", False), ("integrating_factor", True)],
)
def test_the_solver_carries_a_soliton(form, dealias):
    x, t, spacing = line(256), torch.arange(6).double() / 3, {"t": 1 / 3, "x": 40 / 256}
    wanted = soliton(x, t, 1.2, 0.8)
    found = nls.solve({"psi": wanted[:1]}, spacing, {}, frames=6, form=form, dealias=dealias)["psi"]
    # two thirds of the modes hold the soliton to exp(-pi k / (2 A))
    assert (found[0] - wanted).abs().max() < (1e-6 if dealias else 1e-8)
    for name, drift in drifts(found, spacing).items():
        assert drift < 1e-9, (name, drift)


@pytest.mark.slow
def test_a_soliton_at_rest_over_ten_periods():
    """Issue: mass to 1e-12, energy to 1e-9, 512 points, rtol 1e-13."""
    period = 4 * math.pi / 1.5**2
    x, t, spacing = line(512), period * torch.arange(11).double(), {"t": period, "x": 40 / 512}
    wanted = soliton(x, t, 1.5)
    found = nls.solve({"psi": wanted[:1]}, spacing, {}, frames=11, rtol=1e-13)["psi"]
    kept = drifts(found, spacing)
    assert kept["mass"] < 1e-12
    assert kept["energy"] < 1e-9
    assert kept["momentum"] < 1e-12
    assert (found[0] - wanted).abs().max() < 1e-10


def test_solitons_pass_through_each_other_with_their_phase_shifts():
    (a1, v1), (a2, v2), start, time = (1.2, 1.0), (0.8, -1.0), 8.0, 16.0
    x, zero = line(256, 48.0), torch.zeros(1).double()
    psi = soliton(x, zero, a1, v1, -start) + soliton(x, zero, a2, v2, start)
    spacing = {"t": time, "x": 48 / 256}
    end = nls.solve({"psi": psi}, spacing, {}, frames=2, rtol=1e-9)["psi"][0, 1].abs()
    # a high power leaves only the soliton of its side
    places = [float((x * w).sum() / w.sum()) for w in (end**8 * (x > 0), end**8 * (x < 0))]
    shifts = phase_shift((a1, v1), (a2, v2))
    assert abs(places[0] - (v1 * time - start) - shifts[0]) < 2e-4
    assert abs(places[1] - (start + v2 * time) - shifts[1]) < 2e-4
    assert shifts == pytest.approx((0.54494, -0.81741), abs=5e-6)


def test_a_plane_wave_is_unstable_at_the_rate_of_its_modulation():
    """psi = (1 + a cos k x) exp(i t): rate k sqrt(1 - k^2 / 4), 1 at k = sqrt 2."""
    k = math.sqrt(2.0)
    spacing = {"t": 5.0, "x": 2 * math.pi / k / 16}
    x = torch.arange(16).double() * spacing["x"]
    start = 1.0 + 1e-6 * (1 + 1j) * (k * x).cos()
    psi = nls.solve({"psi": start[None]}, spacing, {}, frames=2, rtol=1e-12)["psi"][0]
    size = torch.fft.fft(psi)[:, 1].abs()
    assert abs(math.log(size[1] / size[0]) / 5.0 - 1.0) < 1e-5


def test_the_solver_carries_a_breather():
    """Of period 2 pi / k, which the line holds twice: from before its peak to after it."""
    a, n = 0.3, 128
    length = 2 * math.pi / math.sqrt(1 - 2 * a)
    x, t = torch.arange(n).double() * length / n, torch.arange(-20, 21).double() / 10
    wanted, spacing = breather(x, t, a), {"t": 0.1, "x": length / n}
    found = nls.solve({"psi": wanted[:1]}, spacing, {}, frames=41, rtol=1e-12)["psi"]
    assert (found[0] - wanted).abs().max() < 1e-10
    for name, drift in drifts(wanted[None], spacing).items():
        assert drift < 1e-11, (name, drift)
    peak = wanted[20].abs().max()
    torch.testing.assert_close(
        peak, torch.tensor(1 + 2 * math.sqrt(2 * a)).double(), rtol=1e-6, atol=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", nls.FAMILIES)
def test_families_of_draws_are_solutions_of_their_own_seed(family):
    psi = nls.draw(2, 64, seed=3, family=family).fields["psi"]
    finer = nls.draw(1, 128, seed=4, family=family)
    assert nls.draw(1, 64, seed=4, family=family).fields["psi"].equal(psi[1:])
    # the same solution at other points: start and end are times of both
    for time in (0, -1):
        torch.testing.assert_close(
            finer.fields["psi"][:, time, ::2], psi[1:, time], rtol=0, atol=1e-6
        )
    mass = nls.conserved(*finer)["mass"]
    assert (mass / mass[:, :1] - 1).abs().max() < (1e-3 if family == "modulation" else 1e-5)
    assert float((psi[0] - psi[1]).abs().mean()) > 1e-2 * float(psi.abs().mean())


def test_a_defocusing_wave_turns_the_other_way():
    psi = nls.solve({"psi": torch.full((1, 8), 2.0)}, {"t": 1.0, "x": 1.0}, {"g": -1.0}, frames=2)
    wanted = 2 * torch.tensor(-4j, dtype=torch.complex128).exp().expand(8)
    torch.testing.assert_close(psi["psi"][0, 1], wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "integrating"}, "did you mean 'integrating_factor'"),
        ({"rtol": 1e-15}, "rtol=1e-15"),
        ({"dealias": 1}, "dealias=1 must be True or False"),
    ],
)
def test_bad_options_are_refused(options, message):
    fields, spacing, params = nls.exact(16)
    with pytest.raises(ArgumentError, match=message):
        nls.solve({"psi": fields["psi"][:, 0]}, spacing, params, **{"frames": 2, **options})


def test_an_unknown_family_is_refused():
    with pytest.raises(ArgumentError, match="did you mean 'soliton'"):
        nls.draw(1, 16, family="solitons")
    with pytest.raises(ArgumentError, match="a=0.5"):
        breather(line(8), torch.zeros(1), 0.5)
