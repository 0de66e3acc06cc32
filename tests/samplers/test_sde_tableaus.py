"""Both schemes of the adaptive SDE against the exact solution of a linear equation, order by order
in the step, W and H apart."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.plans import lower, run_plan
from fewstep.samplers.drivers.adaptive_sde import SCHEMES, AdaptiveSDE, stochastic_step
from fewstep.samplers.drivers.driver import Drive
from fewstep.schedules import EDM, Grid, VPLinear


class Linear:
    """``x0 = share y + slope lam``, y = x / alpha."""

    shape, prediction = None, "x0"

    def __init__(self, schedule: object, share: float, slope: float) -> None:
        self.schedule, self.share, self.slope = schedule, share, slope

    def input_scale(self, t: float) -> float:
        return 1.0

    def coefficients(self, t: float) -> tuple[float, tuple[float, ...]]:
        return 0.0, (1.0,)

    def raws(self, x_in: torch.Tensor, t: float, cond: object = None) -> tuple[torch.Tensor, ...]:
        node = self.schedule.node(float(t))
        return (self.share * x_in / node.alpha + self.slope * node.lam,)


def step(
    schedule: object,
    scheme: str,
    tau: float,
    h: float,
    y: float,
    w: float,
    area: float,
    share: float,
    slope: float,
    lam: float = -0.4,
):
    """y_t of one step, and the error that it keeps (in y), for increments W and H given as
    numbers."""
    s, t = schedule.node_at_lam(lam), schedule.node_at_lam(lam + h)
    piece = stochastic_step(
        Grid.from_nodes([s, t], schedule), s, t, AdaptiveSDE(tau=tau, scheme=scheme)
    )
    x = torch.tensor([[y * s.alpha]], dtype=torch.float64)
    units = [
        torch.tensor([[w / math.sqrt(h)]], dtype=torch.float64),
        torch.tensor([[area * math.sqrt(12.0 / h)]], dtype=torch.float64),
    ]
    ran = Drive(Linear(schedule, share, slope), x, s).run(piece, noise=units)
    return float(ran.x) / t.alpha, float(ran.kept[0]) / t.alpha


def order(errors: list[float]) -> float:
    return math.log2(abs(errors[0] / errors[1]))


every = pytest.mark.parametrize(
    ("scheme", "tau"), [(scheme, tau) for scheme in SCHEMES for tau in (0.6, 1.0)]
)


@every
@pytest.mark.parametrize("schedule", [EDM(0.002, 80.0), VPLinear()], ids=lambda s: type(s).__name__)
def test_the_drift_is_of_second_order(scheme: str, tau: float, schedule: object) -> None:
    """Without noise: ``dy = -kappa (y - D) dlam`` with D linear in y and in lam; local errors of
    h^3."""
    kappa, share, slope, lam = 1.0 + tau**2, 0.3, 0.8, -0.4
    rate = kappa * (1.0 - share)
    errors = []
    for h in (0.1, 0.05):
        # y' = -rate y + kappa slope l: the particular solution is a l + b
        a = kappa * slope / rate
        b = -a / rate
        exact = (1.3 - a * lam - b) * math.exp(-rate * h) + a * (lam + h) + b
        errors.append(step(schedule, scheme, tau, h, 1.3, 0.0, 0.0, share, slope)[0] - exact)
    assert order(errors) == pytest.approx(3.0, abs=0.35)


@every
def test_the_noise_is_right_to_order_three_halves(scheme: str, tau: float) -> None:
    """``int e^{-k(t-u)} g(u) dW_u = e^{-kh} (g W + (k g + g') h (W/2 - H)) + O(h^{5/2})``: the
    weights of W and of H, one at a time."""
    schedule, share, lam = EDM(0.002, 80.0), 0.3, -0.4
    k = (1.0 + tau**2) * (1.0 - share)
    g = math.sqrt(2.0) * tau * math.exp(-lam)
    slope = k * g - g  # (e^{k u} g(u))' e^{-k u}: g' = -g
    found = {"w": [], "h": []}
    for h in (0.02, 0.01, 0.005):
        base = step(schedule, scheme, tau, h, 0.0, 0.0, 0.0, share, 0.0)[0]
        found["w"].append(step(schedule, scheme, tau, h, 0.0, 1.0, 0.0, share, 0.0)[0] - base)
        found["h"].append(step(schedule, scheme, tau, h, 0.0, 0.0, 1.0, share, 0.0)[0] - base)
    wanted = {
        "w": [(1.0 - k * h) * g + 0.5 * h * slope for h in (0.02, 0.01, 0.005)],
        "h": [-h * slope for h in (0.02, 0.01, 0.005)],
    }
    for name in ("w", "h"):
        errors = [a - b for a, b in zip(found[name], wanted[name], strict=True)]
        for pair in (errors[:2], errors[1:]):
            assert order(pair) == pytest.approx(2.0, abs=0.3), name


@every
def test_the_area_term_carries_a_change_of_the_strength(scheme: str, tau: float) -> None:
    """With D = y nothing drifts: ``int g dW``, whose H-part is ``-h g'`` and whose W-part is the
    mean of g."""
    schedule = EDM(0.002, 80.0)
    h, lam = 0.1, -0.4
    g_s, g_t = (math.sqrt(2.0) * tau * math.exp(-v) for v in (lam, lam + h))
    assert step(schedule, scheme, tau, h, 0.0, 1.0, 0.0, 1.0, 0.0)[0] == pytest.approx(
        0.5 * (g_s + g_t), rel=1e-10
    )
    assert step(schedule, scheme, tau, h, 0.0, 0.0, 1.0, 1.0, 0.0)[0] == pytest.approx(
        g_s - g_t, rel=1e-10
    )


@every
def test_the_error_is_the_difference_to_euler(scheme: str, tau: float) -> None:
    """``h b_2 (k_2 - k_1)``: of second order where the drift changes, 0 where it does not."""
    schedule = VPLinear()
    errors = [step(schedule, scheme, tau, h, 1.3, 0.0, 0.0, 0.3, 0.8)[1] for h in (0.02, 0.01)]
    assert order(errors) == pytest.approx(2.0, abs=0.2)
    assert step(schedule, scheme, tau, 0.1, 1.3, 0.0, 0.0, 1.0, 0.0)[1] == pytest.approx(
        0.0, abs=1e-12
    )
    kappa, c, b2 = 1.0 + tau**2, SCHEMES[scheme].c, 1.0 - SCHEMES[scheme].b1
    h = 1e-3
    drift = kappa * (0.3 * 1.3 + 0.8 * -0.4 - 1.3)
    change = c * h * kappa * (0.8 - (1.0 - 0.3) * drift)
    assert step(schedule, scheme, tau, h, 1.3, 0.0, 0.0, 0.3, 0.8)[1] == pytest.approx(
        h * b2 * change, rel=1e-6
    )


def test_the_tableaus_as_published() -> None:
    """SRA1: c_2 = 3/4, weights 1/3 and 2/3, noise 3/2 I_(1,0) / h at the second stage (Roessler
    2010); ShARK: eq. 6.1 of 2210.17543."""
    assert tuple(SCHEMES["sra1"]) == (
        0.75,
        0.75,
        1.5,
        0.0,
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    )
    assert tuple(SCHEMES["shark"]) == (
        pytest.approx(5 / 6),
        pytest.approx(5 / 6),
        1.0,
        1.0,
        0.4,
        0.6,
    )
    for name, f in SCHEMES.items():
        assert f.b1 + f.b2 == pytest.approx(1.0) and f.b2 * f.c == pytest.approx(0.5), name
        assert f.b1 * f.first_h + f.b2 * f.h == pytest.approx(1.0), (
            "h sum b H is the integral of the path less W/2"
        )
        assert f.b2 * f.w == pytest.approx(0.5)


def test_a_fragment_runs_in_the_loop() -> None:
    schedule = VPLinear()
    s, t = schedule.node_at_lam(-0.4), schedule.node_at_lam(0.0)
    piece = stochastic_step(Grid.from_nodes([s, t], schedule), s, t, AdaptiveSDE())
    model = Linear(schedule, 0.3, 0.8)
    x, z = torch.ones(2, 3, dtype=torch.float64), [torch.zeros(2, 3, dtype=torch.float64)] * 2
    assert torch.equal(
        run_plan(piece.plan, model, x, noise=z),
        run_plan(lower(piece.plan, model), model, x, noise=z),
    )
    assert len(piece.keep) == 1
    assert [(draw.start, draw.end) for draw in piece.plan.draws] == [(s, t), (s, t)]
