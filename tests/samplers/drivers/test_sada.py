"""SADA: against its formulas written out, on a straight problem, without skips, and its counts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

import fewstep
from fewstep.eval.solver.counting import Counting
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture
from fewstep.samplers import SamplerError, get, make_options
from fewstep.samplers.drivers.sada import second_difference
from fewstep.schedules import Flow, VPLinear, grid

LAW = ([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4])
STEPS = 50
#: calls that a straight problem skips of 50: four in a row from step 10, then three of four from 24
ALL = {*range(11, 15), *range(16, 20), *range(21, 25), *(i + 1 for i in range(25, 47) if i % 4)}


def model(path: Any, prediction: str = "eps") -> GaussianMixture:
    return GaussianMixture(*LAW, path, prediction)


class Point:
    """The exact network of data that are one point: the flow runs along straight lines."""

    prediction, shape, schedule = "velocity", (3,), Flow()
    at = torch.tensor([0.4, -0.7, 1.1], dtype=torch.float64)

    def input_scale(self, t: float) -> float:
        return 1.0

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)

    def raws(self, x_in: torch.Tensor, t: Any, cond: Any = None) -> tuple[torch.Tensor, ...]:
        return ((x_in - self.at.to(x_in)) / t,)

    def __call__(self, x: torch.Tensor, t: Any, cond: Any = None) -> torch.Tensor:
        return self.raws(x, t)[0]


class Steps:
    """What a callback sees."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, step: Any) -> None:
        self.seen.append((step.outputs.skipped.clone(), step.outputs.kappa))


def by_hand(den: Any, nodes: Any, x: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """One sample by DDIM with the published rules, y = -beta/2 x + beta/(2 sigma) eps on VP; and the
    steps where the network was called."""
    times = [node.t for node in nodes]
    beta = [0.1 + (20.0 - 0.1) * t for t in times]
    ys: list[torch.Tensor] = []
    anchors: list[tuple[int, torch.Tensor]] = []
    skip, guess, row, called = "", x, 0, []
    eps = x
    for i, (s, t) in enumerate(pairwise(nodes)):
        if not skip:
            eps, called = den(x, s.t), [*called, i]
            D = (x - s.sigma * eps) / s.alpha
        elif skip == "step":
            D = (guess - s.sigma * eps) / s.alpha
        else:
            D = torch.zeros_like(x)
            for j, a in anchors:
                w = 1.0
                for k, _ in anchors:
                    w = w * ((i - k) / (j - k) if k != j else 1.0)
                D = D + w * a
        if i % 4 == 1:
            anchors = [*anchors, (i, D)][-4:]
        ys.append(-0.5 * beta[i] * x + 0.5 * beta[i] / s.sigma * eps)
        e = t.sigma / s.sigma
        after = e * x + (t.alpha - e * s.alpha) * D
        skip = ""
        if i >= 2:
            h = times[i] - times[i + 1]
            guess = x - h * (0.625 * ys[i] + 0.75 * ys[i - 1] - 0.375 * ys[i - 2])
            kappa = (after - guess) * (ys[i] - 2.0 * ys[i - 1] + ys[i - 2])
            if row >= 4:
                pass
            elif 10 <= i < 24 and float(kappa.mean()) <= 0.0:
                skip = "step"
            elif 24 <= i < 47 and i % 4 != 0:
                skip = "late"
        row = row + 1 if skip else 0
        x = after
    return x, called


def test_the_formulas_by_hand():
    """On a grid uniform in t, where the second difference is the published one."""
    path = VPLinear()
    den = model(path)
    given = {"grid": "uniform", "steps": STEPS, "final": "sigma_min", "method": "ddim"}
    nodes = grid("uniform", path, STEPS, final="sigma_min").nodes
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    steps = Steps()
    out = fewstep.sample(den, "sada", x=x, callback=steps, **given)
    patterns = set()
    for row in range(len(x)):
        want, called = by_hand(den, nodes, x[row : row + 1])
        torch.testing.assert_close(out[row : row + 1], want, rtol=1e-9, atol=1e-9)
        assert [i for i, (skipped, _) in enumerate(steps.seen) if not skipped[row]] == called
        patterns.add(tuple(called))
    assert len(patterns) > 1, "samples decide for themselves"
    plain = fewstep.sample(den, "ddim", x=x, **{k: v for k, v in given.items() if k != "method"})
    assert float((out - plain).abs().max()) > 1e-4


@pytest.mark.parametrize("spacing", ["uniform", "lam"])
@pytest.mark.parametrize("method", ["ddim", "dpmpp_2m"])
def test_a_straight_problem_skips_all_it_may_and_is_exact(spacing, method):
    den, steps = Counting(Point()), Steps()
    out, info = fewstep.sample(
        den, "sada", method=method, grid=spacing, steps=STEPS, n=4, dtype=torch.float64,
        info=True, callback=steps,
    )  # fmt: skip
    torch.testing.assert_close(out, Point.at.expand(4, 3), rtol=0, atol=1e-10)
    assert {i for i, (skipped, _) in enumerate(steps.seen) if skipped.any()} == ALL
    assert info.nfe == den.calls == STEPS - len(ALL) == 21
    assert info.calls == 21.0 and info.rows == 4 * 21


@pytest.mark.parametrize("method", ["ddim", "dpmpp_2m", "unipc"])
def test_without_skips_it_is_the_plan(method):
    given = {"steps": 12, "n": 3, "dtype": torch.float64}
    want = fewstep.sample(model(VPLinear()), method, **given)
    for none in ({"first": 1.0, "anchors": 0}, {"most": 0}, {"last": 0.0}):
        out, info = fewstep.sample(
            model(VPLinear()), "sada", method=method, info=True, **none, **given
        )
        torch.testing.assert_close(out, want, rtol=0, atol=1e-12)
        assert info.nfe == 12 and info.calls == 12.0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_call_at_every_step(steps):
    out, info = fewstep.sample(model(VPLinear()), "sada", steps=steps, n=2, info=True)
    assert info.nfe == steps and bool(torch.isfinite(out).all())


def test_the_error_falls_with_the_steps():
    """To the base solver's end point: every step is consistent of first order at least."""
    path = VPLinear()
    exact = fewstep.sample(model(path), "dpmpp_3m", steps=1000, n=8, dtype=torch.float64)
    errors = [
        float((out - exact).square().mean().sqrt())
        for out in (
            fewstep.sample(model(path), "sada", steps=n, n=8, dtype=torch.float64)
            for n in (50, 100, 200, 400)
        )
    ]
    assert all(b < 0.75 * a for a, b in pairwise(errors)), errors


def test_bits_do_not_depend_on_the_batch():
    given = {"steps": 30, "grid": "uniform", "method": "ddim"}
    whole, info = fewstep.sample(model(VPLinear()), "sada", n=64, seed=100, info=True, **given)
    for count, first in ((1, 131), (7, 140)):
        part = fewstep.sample(model(VPLinear()), "sada", n=count, seed=first, **given)
        assert torch.equal(part, whole[first - 100 : first - 100 + count])
    assert info.calls < info.nfe <= 30, "some calls are of some samples"


def test_rows_are_counted():
    """Each call gets the samples that need it; the condition follows them."""
    sizes = []

    class Seen(GaussianMixture):
        def raws(self, x_in, t, cond=None):
            sizes.append(len(x_in))
            assert cond is not None and len(cond["label"]) == len(x_in)
            return super().raws(x_in, t, cond)

    label = torch.arange(8) % 2
    _, info = fewstep.sample(
        Seen(*LAW, VPLinear(), "eps"), "sada", steps=50, grid="uniform", n=8,
        cond={"label": label}, info=True,
    )  # fmt: skip
    assert len(sizes) == info.nfe == info.passes and sum(sizes) == info.rows
    assert info.calls == sum(sizes) / 8 < info.nfe


def test_a_guided_model_is_selected_with_its_rows():
    label = torch.arange(6) % 2
    scale = torch.linspace(1.0, 3.0, 6, dtype=torch.float64)
    given = {"steps": 30, "grid": "uniform", "dtype": torch.float64}
    whole, info = fewstep.sample(
        CFG(model(VPLinear()), scale=scale), "sada", n=6, seed=5, cond={"label": label},
        info=True, **given,
    )  # fmt: skip
    assert info.calls < info.nfe
    one = fewstep.sample(
        CFG(model(VPLinear()), scale=scale[4:5]), "sada", seed=9, n=1,
        cond={"label": label[4:5]}, **given,
    )  # fmt: skip
    torch.testing.assert_close(one, whole[4:5], rtol=0, atol=1e-12)


def test_one_decision_for_the_batch():
    steps = Steps()
    _, info = fewstep.sample(
        model(VPLinear()), "sada", decide="batch", steps=50, grid="uniform", n=16, info=True,
        callback=steps,
    )  # fmt: skip
    assert all(bool(skipped.all()) or not bool(skipped.any()) for skipped, _ in steps.seen)
    assert info.calls == info.nfe < 50
    for (_, kappa), (skips, _) in zip(steps.seen[10:14], steps.seen[11:15], strict=True):
        assert not bool(skips.any()) or float(kappa.mean()) <= 1e-6


def test_the_second_difference():
    assert second_difference(0.9, 0.8, 0.7) == pytest.approx((1.0, -2.0, 1.0))
    a, b, c = second_difference(1.0, 0.7, 0.2)
    assert a + b + c == pytest.approx(0.0, abs=1e-12)
    assert a * 1.0 + b * 0.7 + c * 0.2 == pytest.approx(0.0, abs=1e-12)
    assert a * 1.0 + b * 0.49 + c * 0.04 == pytest.approx(2.0 * 0.4**2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "ddpm"}, "method='ddpm': must be .* draws no noise"),
        ({"method": "sada"}, "method='sada'"),
        ({"method": "heun"}, "method='heun' makes"),
        ({"most": -1}, "most=-1"),
        ({"interval": 1}, "interval=1"),
        ({"first": 1.5}, "first=1.5"),
        ({"decide": "token"}, "sample"),
        ({"begin": 0.5}, "begin"),
    ],
)
def test_it_refuses(options, words):
    den = Counting(model(VPLinear()))
    with pytest.raises(SamplerError, match=words):
        fewstep.sample(den, "sada", steps=4, n=1, **options)
    assert den.calls == 0


def test_the_published_range():
    assert make_options(get("sada"), {}).range_of(50) == (10, 24, 47)
    assert make_options(get("sada"), {"anchors": 0}).range_of(50) == (10, 50, 47)
    assert make_options(get("sada"), {}).range_of(5)[0] == 3
