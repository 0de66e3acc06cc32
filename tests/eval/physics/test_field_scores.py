"""Scores of physical fields: every metric beside the value of true solutions."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from fewstep.checks import ArgumentError, ArgumentTypeError, UnknownName
from fewstep.eval import ScoreError, physics

KAPPA = {"kappa": 0.1}
SPACING = {"t": 0.01, "x": 2.0 * math.pi / 16}


def solutions(n, seed):
    """``n`` solutions of the heat equation in float32."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.arange(16).double() * SPACING["x"]
    modes = torch.stack([torch.sin(k * x + k) / k**2 for k in range(1, 5)])
    start = torch.randn(n, 4, generator=generator).double() @ modes
    return {"u": physics.heat.solve({"u": start}, SPACING, KAPPA, frames=9)["u"].float()}


def data(n=40):
    return physics.Problem(solutions(n, 0), SPACING, KAPPA)


def noisy(fields, size):
    generator = torch.Generator().manual_seed(9)
    return {k: v + size * torch.randn(v.shape, generator=generator) for k, v in fields.items()}


def test_true_solutions_score_like_the_data():
    scores = physics.rate("heat", solutions(30, 100), SPACING, KAPPA, data=data())
    assert (scores.equation, scores.count, scores.data_count) == ("heat", 30, 40)
    assert set(scores.ratings) == {
        "mean_residual",
        "rms_residual",
        "relative_residual",
        "drift[mass]",
        "log_spectral_distance[u]",
        "high_k_ratio[u]",
        "energy_distance",
        "spread",
    }
    for name in ("mean_residual", "rms_residual", "relative_residual", "drift[mass]"):
        assert 0.6 < scores[name].ratio < 1.7, name
    assert scores["high_k_ratio[u]"].data.value == pytest.approx(1.0)
    energy = scores["energy_distance"]
    assert energy.ratio is None and scores["spread"].ratio > 0.0
    assert energy.low < 0.1 and abs(energy.value) < 4.0 * energy.std


def test_the_statistics_are_those_of_the_values_of_the_samples():
    fields = noisy(solutions(20, 1), 1e-3)
    scores = physics.rate("heat", fields, SPACING, KAPPA)
    residual = physics.heat.residual(fields, SPACING, KAPPA)
    values, rating = scores.values["rms_residual"], scores["rms_residual"]
    torch.testing.assert_close(values, residual.square().mean((1, 2)).sqrt())
    assert (rating.value, rating.std) == (float(values.mean()), float(values.std()))
    assert rating.median == float(values.quantile(0.5))
    half = 1.959964 * rating.std / math.sqrt(20)
    assert (rating.low, rating.high) == pytest.approx((rating.value - half, rating.value + half))
    assert rating.data is None and rating.ratio is None
    assert "no baseline" in scores.notes[0]


def test_noise_raises_the_residual_and_a_collapse_the_distance():
    rough = physics.rate("heat", noisy(solutions(30, 1), 1e-3), SPACING, KAPPA, data=data())
    assert rough["relative_residual"].ratio > 100.0
    one = {"u": solutions(1, 1)["u"].expand(30, 9, 16)}
    same = physics.rate("heat", one, SPACING, KAPPA, data=data())
    assert same["relative_residual"].ratio < 3.0
    assert same["energy_distance"].low > 2.0 * same["energy_distance"].data.high
    assert same["spread"].value < 1e-6


def test_paired_metrics_have_another_solution_beside_them():
    true = solutions(20, 1)
    fields = {"u": 1.01 * true["u"].double()}
    scores = physics.rate("heat", fields, SPACING, KAPPA, true, data())
    rating = scores["relative_l2[u]"]
    assert rating.value == pytest.approx(0.01)
    assert 0.8 < rating.data.value < 4.0
    assert rating.note == "data: of another true solution"
    assert scores["correlation_time[u]"].value == pytest.approx(0.09)
    assert scores["log_spectral_distance[u]"].value < 2.0 * math.log10(1.01) + 1e-6
    assert scores["energy_distance"].note is None


class Poisson:
    """``u_xx = f`` on nodes between walls where u is 0, by central differences."""

    def residual(self, fields, spacing, params):
        u = fields["u"]
        return (u[:, 2:] - 2 * u[:, 1:-1] + u[:, :-2]) / spacing["x"] ** 2 - params["f"]

    def scale(self, fields, spacing, params):
        return torch.full((len(fields["u"]),), abs(params["f"])).double()

    def boundary_error(self, fields, spacing, params):
        return fields["u"][:, [0, -1]].abs().amax(1)

    def conserved(self, fields, spacing, params):
        return {}


def test_an_equation_of_the_user_between_walls():
    x = torch.linspace(0.0, 1.0, 33, dtype=torch.float64)
    true = {"u": (0.5 * x * (x - 1.0)).expand(12, 33) * torch.linspace(1.0, 1.1, 12)[:, None]}
    lifted = {"u": true["u"] + 0.5}
    problem = physics.Problem(true, {"x": 1 / 32}, {"f": 1.0})
    scores = physics.rate(Poisson(), lifted, {"x": 1 / 32}, {"f": 1.0}, data=problem, metrics=None)
    assert scores.equation == "Poisson"
    assert scores["boundary_error"].value == pytest.approx(0.5)
    assert scores["boundary_error"].data.value == 0.0
    # sine transforms of both, since the data vanish at the walls
    assert scores["log_spectral_distance[u]"].data.value < 0.1
    assert scores["log_spectral_distance[u]"].value > 1.0
    chosen = physics.rate(Poisson(), true, {"x": 1 / 32}, {"f": 1.0}, metrics="negative_norm")
    assert list(chosen.ratings) == ["negative_norm"]


def test_the_forward_error_of_pairs_without_a_residual():
    pair = {"u": solutions(3, 0)["u"][:, ::8].double()}
    pair["u"][:, 1] *= 1.02
    spacing = {**SPACING, "t": 8 * SPACING["t"]}
    scores = physics.rate("heat", pair, spacing, KAPPA, metrics="forward_error")
    assert scores["forward_error"].value == pytest.approx(0.02, rel=1e-4)
    with pytest.raises(ArgumentError, match="an equation with FIELDS, AXES and solve"):
        physics.rate(Poisson(), pair, spacing, {"f": 1.0}, metrics="forward_error")


def test_a_residual_alone_has_the_metrics_that_need_no_more():
    scores = physics.rate(physics.heat.residual, solutions(3, 0), SPACING, KAPPA)
    assert list(scores.ratings) == ["mean_residual", "rms_residual"]
    assert scores.equation == "residual"
    with pytest.raises(ArgumentError, match="needs an equation with scale"):
        physics.rate(
            physics.heat.residual, solutions(3, 0), SPACING, KAPPA, metrics="relative_residual"
        )


def test_the_record_is_strict_json():
    import json

    scores = physics.rate("heat", solutions(2, 0), SPACING, KAPPA, data=data(5))
    record = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert record["metrics"]["rms_residual"]["data"]["count"] == 5
    assert record["notes"] == ["no coverage: it needs 3 samples and 32 true solutions"]
    assert "energy_distance" not in record["metrics"]


def test_the_wrong_share_of_a_field_with_levels():
    true = solutions(2, 0)
    scores = physics.rate(
        "heat", {"u": 1.0 - true["u"]}, SPACING, KAPPA, true, levels={"u": (0.0, 1.0)}
    )
    expected = ((1.0 - true["u"] >= 0.5) != (true["u"] >= 0.5)).double().mean()
    assert scores["wrong_share[u]"].value == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"equation": "haet"}, UnknownName, "did you mean 'heat'"),
        ({"equation": SimpleNamespace(residual=1)}, ArgumentTypeError, "no scale, boundary_error"),
        ({"equation": lambda f, s, p: 1.0}, ArgumentError, r"must return a tensor \(3, points\)"),
        ({"metrics": "rms_residal"}, ArgumentError, "did you mean 'rms_residual'"),
        ({"metrics": "spread"}, ArgumentError, "spread needs data=, true solutions"),
        ({"metrics": ["relative_l2"]}, ArgumentError, "relative_l2 needs reference="),
        ({"params": None}, ArgumentError, "'kappa'"),
        ({"spacing": {"x": 0.1}}, ArgumentError, "spacing 't' missing"),
        ({"fields": {}}, ArgumentError, "at least one field"),
        ({"fields": {"u": torch.full((3, 9, 16), math.nan)}}, ScoreError, "in 3 of 3 samples"),
        ({"reference": {"v": torch.zeros(3, 9, 16)}}, ArgumentError, "reference 'v'"),
        ({"reference": {"u": torch.zeros(3, 9, 8)}}, ArgumentError, "the shape"),
        ({"levels": {"u": (0, 1)}}, ArgumentError, "no such field"),
        ({"data": physics.Problem({}, SPACING, KAPPA)}, ArgumentError, "on the same grid"),
        ({"data": data()._replace(spacing={"t": 0.01, "x": 1.0})}, ArgumentError, "the same"),
        ({"level": 1.0}, ArgumentError, "level"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    given = {
        "equation": "heat",
        "fields": solutions(3, 0),
        "spacing": SPACING,
        "params": KAPPA,
        **arguments,
    }
    with pytest.raises(error, match=message):
        physics.rate(**given)
