"""Metrics of physical fields against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval import ScoreError, physics

TAU = 2.0 * math.pi


def line(n=32, length=TAU):
    return torch.arange(n).double() * length / n


def nodes(n=33):
    return torch.linspace(0.0, 1.0, n, dtype=torch.float64)


def test_sizes_of_a_residual():
    residual = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    assert physics.mean_absolute_residual(residual).tolist() == [3.5, 0.0]
    assert physics.rms_residual(residual).tolist() == [math.sqrt(12.5), 0.0]
    assert physics.mean_absolute_residual(residual).dtype == torch.float64
    assert physics.rms_residual(torch.tensor([[3.0 + 4.0j]])).tolist() == [5.0]
    scale = torch.tensor([2.0, 0.0])
    assert physics.relative_residual(residual, scale).tolist() == [math.sqrt(12.5) / 2.0, 0.0]
    assert physics.relative_residual(residual + 1.0, scale)[1] == math.inf


def test_the_negative_norm_divides_every_mode_by_its_wave_number():
    x = line()
    residual = (torch.sin(x) + torch.sin(3 * x) + 7.0)[None]
    spacing = {"x": TAU / 32}
    expected = math.sqrt(0.5 + 0.5 / 9.0)
    torch.testing.assert_close(float(physics.negative_norm(residual, spacing)), expected)
    twice = math.sqrt(0.5 + 0.5 / 81.0)
    torch.testing.assert_close(float(physics.negative_norm(residual, spacing, order=2)), twice)


def test_the_negative_norm_between_walls_uses_the_interior_points():
    mode = torch.sin(math.pi * nodes()[1:-1])
    residual = (mode[:, None] * mode)[None, None].expand(1, 3, 31, 31)  # at three times
    found = physics.negative_norm(residual, {"t": 0.1, "x": 1 / 32, "y": 1 / 32}, ("x", "y"))
    torch.testing.assert_close(float(found), 0.5 / math.sqrt(2.0 * math.pi**2))


def test_relative_errors():
    true = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    field = torch.tensor([[3.0, 4.5], [0.0, 0.0]])
    assert physics.relative_l2(field, true).tolist() == [0.1, 0.0]
    torch.testing.assert_close(physics.relative_l1(field, true)[0].item(), 0.5 / 7.0)
    with pytest.raises(ArgumentError, match=r"\(2, 2\) and reference of shape \(1, 2\)"):
        physics.relative_l2(field, true[:1])


def test_the_wrong_share_of_a_two_valued_coefficient():
    true = torch.tensor([[3.0, 12.0, 12.0, 3.0]])
    field = torch.tensor([[7.4, 7.6, 7.4, -9.0]])
    assert physics.wrong_share(field, true, (3.0, 12.0)).tolist() == [0.25]
    with pytest.raises(ArgumentError, match="two different values"):
        physics.wrong_share(field, true, (3.0, 3.0))


def test_the_spectrum_of_a_mode_is_in_its_shell():
    k, energy, k_max = physics.spectrum(2.0 * torch.sin(3 * line())[None], {"x": TAU / 32})
    torch.testing.assert_close(k, torch.arange(17).double())
    assert k_max == pytest.approx(16.0)
    expected = torch.zeros(1, 17, dtype=torch.float64)
    expected[0, 3] = 2.0
    torch.testing.assert_close(energy, expected)
    wave = torch.exp(-4j * line())[None]
    assert physics.spectrum(wave, {"x": TAU / 32}).energy[0, 4] == pytest.approx(1.0)


def test_shells_are_radial_and_hold_the_mean_square():
    x, y = line(16)[:, None], line(16)
    mode = torch.sin(3 * x) * torch.cos(4 * y)
    spacing = {"y": TAU / 16, "x": TAU / 16}  # in any order
    found = physics.spectrum(mode[None], spacing)
    assert found.energy[0, 5] == pytest.approx(0.25)
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    energy = physics.spectrum(noise, {"t": 1.0, **spacing}).energy
    torch.testing.assert_close(energy.sum(-1), noise.square().mean((2, 3)))
    odd_sized = physics.spectrum(noise[:, 0, :15, :15], spacing).energy
    torch.testing.assert_close(odd_sized.sum(-1), noise[:, 0, :15, :15].square().mean((1, 2)))
    assert found.resolved.tolist() == [False] + 8 * [True] + 3 * [False]


@pytest.mark.parametrize(("odd", "mode"), [(False, torch.cos), (True, torch.sin)])
def test_modes_between_walls_have_half_periods(odd, mode):
    field = mode(3 * math.pi * nodes())[None]
    k, energy, k_max = physics.spectrum(field, {"x": 1 / 32}, ("x",), odd=odd)
    assert energy[0, 3] == pytest.approx(0.5)
    assert energy.sum() == pytest.approx(0.5)
    assert k[3] == pytest.approx(3 * math.pi)
    assert k_max == pytest.approx(32 * math.pi)


def test_distances_of_spectra():
    x = line()
    field = sum(torch.sin(k * x) for k in range(1, 16))[None]
    spacing = {"x": TAU / 32}
    once, tenfold = physics.spectrum(field, spacing), physics.spectrum(10.0 * field, spacing)
    # the highest of 16 resolved shells is empty in both
    distance = physics.log_spectral_distance(tenfold, once)
    torch.testing.assert_close(distance.item(), 2.0 * math.sqrt(15 / 16), rtol=1e-6, atol=0)
    mean = physics.Spectrum(once.k, once.energy[0], once.k_max)
    assert physics.log_spectral_distance(once, mean).tolist() == [0.0]
    rough = physics.spectrum(field + 2.0 * torch.sin(12 * x), spacing)
    assert physics.high_k_ratio(rough, once).item() == pytest.approx((6 + 9) / 7)
    with pytest.raises(ArgumentError, match="one grid"):
        physics.high_k_ratio(once, physics.spectrum(field[:, :16], spacing))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: physics.spectrum(f, {"x": 1.0}), r"must be \(B, x\)"),
        (lambda f: physics.spectrum(f, {"t": 1.0}), "no axis of space"),
        (lambda f: physics.spectrum(f, {"x": 1.0, "u": 1.0}), "unknown axis 'u'"),
        (lambda f: physics.spectrum(f, {"x": 1.0, "y": 0.0}), r"spacing\['y'\]"),
        (lambda f: physics.spectrum(f, {"x": 1.0, "y": 1.0}, ("z",)), "unknown wall 'z'"),
    ],
)
def test_unusable_grids_are_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(torch.zeros(1, 8, 8))


def mass(fields):
    return {"mass": fields["u"].sum(2) * TAU / 32}


def test_the_drift_of_a_vanishing_mass_is_relative_to_the_integral_of_the_size():
    u = torch.stack([torch.sin(line()), torch.sin(line()) + 0.1])[None]
    scale = physics.quantity_scale(mass, {"u": u[:, :1]})["mass"]
    absolute = u[:, 0].abs().sum(1) * TAU / 32
    torch.testing.assert_close(scale, absolute)
    drift = physics.conserved_drift(mass({"u": u})["mass"], scale)
    torch.testing.assert_close(drift, 0.1 * TAU / absolute)


def test_the_scale_of_a_quadratic_quantity_is_twice_its_integral():
    psi = torch.exp(3j * line())[None, None].expand(1, 2, 32)
    found = physics.quantity_scale(
        lambda f: {"mass": f["psi"].abs().square().sum(2), "count": f["psi"].real.sum(2)},
        {"psi": psi},
    )
    assert found["mass"].item() == pytest.approx(64.0)
    with pytest.raises(ArgumentError, match="not differentiable"):
        physics.quantity_scale(lambda f: {"m": f["psi"].detach().real.sum(2)}, {"psi": psi})


def test_correlation_of_shifted_waves_is_the_cosine_of_the_phase():
    t = torch.arange(16).double()[:, None] * 0.1
    true, moved = torch.sin(line())[None, None].expand(1, 16, 32), torch.sin(line() - t)[None] + 3.0
    torch.testing.assert_close(physics.correlation(moved, true)[0], torch.cos(t[:, 0]))
    found = physics.correlation_time(moved, true, 0.1)  # arccos 0.8 = 0.6435
    assert found.tolist() == pytest.approx([0.7])
    assert physics.correlation_time(true, true, 0.1).tolist() == pytest.approx([1.6])


def drawn(n, seed):
    generator = torch.Generator().manual_seed(seed)
    modes = torch.stack([torch.sin(k * line()) / k for k in range(1, 6)])
    return {"u": torch.randn(n, 5, generator=generator).double() @ modes}


def test_coverage_sees_a_collapsed_distribution():
    data = drawn(200, 0)
    fair, own = physics.field_coverage(drawn(100, 1), data)
    assert abs(fair.energy) < 3.0 * (fair.energy_error + own.energy_error)
    assert fair.spread == pytest.approx(1.0, abs=0.35)
    one = {"u": drawn(1, 2)["u"] + 1e-6 * drawn(100, 3)["u"]}
    collapsed, _ = physics.field_coverage(one, data)
    assert collapsed.energy > 10.0 * (fair.energy_error + own.energy_error)
    assert collapsed.spread < 1e-9
    half, _ = physics.field_coverage({"u": 0.5 * drawn(200, 0)["u"]}, data)
    assert half.spread == pytest.approx(0.25, abs=0.06)


def test_coverage_needs_samples_and_solutions():
    with pytest.raises(ScoreError, match="needs at least 32"):
        physics.field_coverage(drawn(10, 0), drawn(31, 1))
    with pytest.raises(ScoreError, match="needs at least 3"):
        physics.field_coverage(drawn(2, 0), drawn(32, 1))
