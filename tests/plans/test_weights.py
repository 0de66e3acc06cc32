"""Weights of a step against 40-digit quadrature of kernel times Lagrange basis; phi, moments, means
and distances against mpmath.

The oracle shares no formula with the product: it takes the nodes' alpha and sigma as exact numbers
and integrates numerically.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from mpmath import mp, mpf

from fewstep.plans.weights.exponential import Weights, adams, weights
from fewstep.plans.weights.lagrange import Basis, monic
from fewstep.plans.weights.node_distances import angle_gap, lam_gap, rho_gap
from fewstep.plans.weights.noise_scale import NOISE_SCALES, noise_scale_weights
from fewstep.plans.weights.phi import kernel_means, moments, phi
from fewstep.schedules.node import Node
from fewstep.schedules.vp import VPLinear

mp.dps = 40  # for constants made below

VP = VPLinear()
INF = math.inf


@pytest.fixture(autouse=True)
def forty_digits():
    """Other test modules set their own precision."""
    with mp.workdps(40):
        yield


def ve(lam: float, t: float | None = None) -> Node:
    """A node with alpha = 1."""
    return Node(1.0, math.exp(-lam), t)


def vp(lam: float) -> Node:
    """A variance-preserving node."""
    return Node(
        1.0 / math.sqrt(1.0 + math.exp(-2.0 * lam)), 1.0 / math.sqrt(1.0 + math.exp(2.0 * lam))
    )


def exact_lam(n: Node) -> mpf:
    """Half log-SNR of the stored alpha and sigma."""
    if n.sigma == 0.0:
        return mp.inf
    return -mp.inf if n.alpha == 0.0 else mp.log(mpf(n.alpha)) - mp.log(mpf(n.sigma))


def vp_linear_t(lam: mpf) -> mpf:
    """The time of VPLinear, in mpmath."""
    b0, b1 = mpf(VP.beta_min), mpf(VP.beta_max)
    big_l = mp.log1p(mp.exp(-2 * lam))
    return 2 * big_l / (mp.sqrt(b0**2 + 2 * (b1 - b0) * big_l) + b0)


def flow_t(lam: mpf) -> mpf:
    """The time of the straight flow, ``rho / (1 + rho)``."""
    return 1 / (1 + mp.exp(lam))


def oracle(
    s: Node,
    t: Node,
    nodes: Sequence[Node],
    kind: str,
    variable: str = "lam",
    tau: float = 0.0,
    t_of_lam: Callable[[mpf], mpf] | None = None,
) -> list[mpf]:
    """``int_s^t K(v) l_j(q(v)) dv`` by tanh-sinh quadrature on short panels."""
    ls, lt, kappa = exact_lam(s), exact_lam(t), 1 + mpf(tau) ** 2
    at = {"lam": exact_lam, "rho": lambda n: mpf(n.sigma) / mpf(n.alpha), "t": lambda n: mpf(n.t)}[
        variable
    ]
    of_lam = {"lam": lambda v: v, "rho": lambda v: mp.exp(-v), "t": t_of_lam}[variable]
    xs = [at(n) for n in nodes]

    def lagrange(j: int, q: mpf) -> mpf:
        return mp.fprod((q - x) / (xs[j] - x) for i, x in enumerate(xs) if i != j)

    if kind == "velocity":
        return [
            mp.quad(lambda q, j=j: lagrange(j, q), [mpf(s.t), mpf(t.t)]) for j in range(len(xs))
        ]
    if kind == "eps" and lt == mp.inf:  # regular in rho
        rho_s = mpf(s.sigma) / mpf(s.alpha)
        cuts = [rho_s * mpf(c) for c in (1, "0.5", "0.1", "0.01", "1e-4", "1e-8", 0)]
        q_of = (lambda r: r) if variable == "rho" else (lambda r: of_lam(-mp.log(r)))
        return [
            mpf(t.alpha) * kappa * mp.quad(lambda r, j=j: lagrange(j, q_of(r)), cuts)
            for j in range(len(xs))
        ]
    if ls == -mp.inf:
        ls = lt - 110 / kappa
    cuts = mp.linspace(ls, lt, int(abs(lt - ls)) + 2)

    def kernel(v: mpf) -> mpf:
        return mpf(t.alpha) * kappa * (mp.exp(-kappa * (lt - v)) if kind == "x0" else -mp.exp(-v))

    return [
        mp.quad(lambda v, j=j: kernel(v) * lagrange(j, of_lam(v)), cuts) for j in range(len(xs))
    ]


def error(w: Weights, want: Sequence[mpf]) -> float:
    """Largest relative error of a value."""
    return worst(w.values, want)


def worst(found: Sequence[float], want: Sequence[mpf]) -> float:
    """Largest relative error; inf where a value is not finite (``max`` passes over NaN)."""
    errors = [float(abs((mpf(v) - x) / x)) for v, x in zip(found, want, strict=True)]
    return max(errors) if all(map(math.isfinite, errors)) else math.inf


# --- phi and the moments


def exact_phi(k: int, z: float) -> mpf:
    """``phi_k(z) = 1F1(1; k + 1; z) / k!``."""
    with mp.workdps(60):
        return mp.exp(mpf(z)) if k == 0 else mp.hyp1f1(1, k + 1, mpf(z)) / mp.factorial(k)


def around(k: int) -> list[float]:
    """Arguments near 0, on both sides of where the series gives way to the recursion (|z| = (k + 1)
    / 2), and far away."""
    switch = 0.5 * (k + 1)
    near = [
        0.0,
        1e-300,
        1e-12,
        1e-5,
        0.01,
        0.3,
        0.5 * switch,
        0.99 * switch,
        switch,
        1.01 * switch,
        1.5 * switch,
        2.0 * switch,
    ]
    return [sign * z for z in (*near, 9.0, 20.0, 45.0, 110.0, 600.0) for sign in (1.0, -1.0)]


@pytest.mark.parametrize("k", range(8))
def test_phi_to_the_last_places(k: int) -> None:
    for z in around(k):
        want = exact_phi(k, z)
        assert float(abs(mpf(phi(k, z)) - want) / want) <= 1e-14, z


def test_phi_at_its_ends() -> None:
    for k in range(6):
        assert phi(k, 0.0) == pytest.approx(1.0 / math.factorial(k), rel=1e-15)
        assert phi(k, -math.inf) == 0.0
        assert phi(k, math.inf) == phi(k, 1e4) == math.inf
    for k, z in ((-1, 0.0), (1, math.nan)):
        with pytest.raises(ValueError, match="phi"):
            phi(k, z)


def test_moments_on_both_sides_of_every_switch() -> None:
    """``mu_k = k! phi_{k+1} / phi_1``; beyond z = 100 without an exponential, which would overflow
    at 710."""
    for z in (
        -math.inf,
        -700.0,
        -90.0,
        -3.0,
        -1e-9,
        0.0,
        1e-9,
        0.7,
        3.4,
        3.6,
        12.0,
        30.0,
        60.0,
        99.9,
        100.1,
        150.0,
        709.0,
        720.0,
        5000.0,
    ):
        found = moments(6, z)
        if z == -math.inf:
            want = [mpf(1)] * 6
        else:
            with mp.workdps(60):
                want = [mp.factorial(k) * exact_phi(k + 1, z) / exact_phi(1, z) for k in range(6)]
        assert len(found) == 6
        assert found[0] == 1.0
        assert worst(found, want) <= 4e-14, z


def peak(y: np.ndarray) -> np.ndarray:
    """Two functions that sum to 1, one a narrow peak: a panel must be halved several times before
    it is seen."""
    inner = 1.0 / (1.0 + ((y - 0.7) / 0.05) ** 2)
    return np.stack([inner, 1.0 - inner])


def test_means_of_a_kernel_are_refined_until_they_stand() -> None:
    for rate, length in ((0.0, 1.3), (1.0, 1.3), (2.0, 5.0), (30.0, 1.5)):
        cuts = [mpf(c) for c in np.linspace(0.0, length, 60)]
        whole = mp.quad(lambda y, rate=rate: mp.exp(-rate * y), cuts)
        want = (
            mp.quad(
                lambda y, rate=rate: mp.exp(-rate * y) / (1 + ((y - mpf(0.7)) / mpf(0.05)) ** 2),
                cuts,
            )
            / whole
        )
        first, second = kernel_means(peak, rate, length)
        assert abs(first - float(want)) <= 1e-12 * float(want)
        assert first + second == pytest.approx(1.0, abs=1e-15)


def test_means_are_not_refined_below_the_noise_of_the_values() -> None:
    def points(noise: float) -> int:
        seen = []

        def counted(y: np.ndarray) -> np.ndarray:
            seen.append(y.size)
            return peak(y)

        kernel_means(counted, 1.0, 1.3, noise)
        return sum(seen)

    assert points(1e-2) < points(1e-6) < points(0.0)


def test_means_of_a_kink_stop_after_their_halvings() -> None:
    """A table's map has a kink at every entry: nothing converges there, and the work is bounded."""
    first, second = kernel_means(
        lambda y: np.stack([np.abs(y - 0.3) / 2.0, 1.0 - np.abs(y - 0.3) / 2.0]), 0.0, 1.0
    )
    assert first == pytest.approx(0.5 * (0.5 * 0.3**2 + 0.5 * 0.7**2), abs=1e-6)
    assert first + second == pytest.approx(1.0, abs=1e-15)


# --- the weights of a step

VE_STEP = ([ve(-3.0), ve(-3.6), ve(-4.3), ve(-4.5)], ve(-2.6))
VP_STEP = ([vp(-1.0), vp(-1.7), vp(-2.1), vp(-3.0)], vp(-0.4))
CORRECTOR = ([vp(0.5), vp(-0.1), vp(-0.6)], vp(0.5))
LONG = ([vp(-4.9), vp(-5.1)], vp(4.0))
TO_NOISE = ([vp(1.0), vp(1.8)], vp(-0.5))


def start_of(nodes: Sequence[Node], t: Node) -> Node:
    return nodes[1] if nodes[0] == t else nodes[0]


@pytest.mark.parametrize("variable", ["lam", "rho"])
@pytest.mark.parametrize("kind", ["x0", "eps"])
@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(("nodes", "t"), [VE_STEP, VP_STEP, CORRECTOR, LONG])
def test_exponential_weights_against_quadrature(
    nodes: list[Node], t: Node, tau: float, kind: str, variable: str
) -> None:
    for count in range(2, len(nodes) + 1):
        some, s = nodes[:count], start_of(nodes, t)
        found = weights(s, t, some, kind, variable=variable, tau=tau)
        assert error(found, oracle(s, t, some, kind, variable, tau)) <= 2e-12


@pytest.mark.parametrize("kind", ["x0", "eps"])
def test_weights_of_a_step_toward_noise(kind: str) -> None:
    nodes, t = TO_NOISE
    for variable in ("lam", "rho"):
        assert (
            error(
                weights(nodes[0], t, nodes, kind, variable=variable),
                oracle(nodes[0], t, nodes, kind, variable),
            )
            <= 2e-12
        )


@pytest.mark.parametrize("kind", ["x0", "eps"])
@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_weights_in_t_against_quadrature(kind: str, tau: float) -> None:
    nodes, t = [VP.node_at_lam(lam) for lam in (-1.0, -1.7, -2.1)], VP.node_at_lam(-0.4)
    found = weights(nodes[0], t, nodes, kind, variable="t", tau=tau, t_of_lam=VP.t_of_lam)
    assert error(found, oracle(nodes[0], t, nodes, kind, "t", tau, vp_linear_t)) <= 1e-11


def test_weights_to_sigma_zero() -> None:
    """All of an x0 kernel is at the end: the weights are the basis there, in rho; in lam the newest
    finite node has all."""
    nodes, t = [vp(1.0), vp(0.2), vp(-0.7)], Node(1.0, 0.0, 0.0)
    xs = [mpf(n.sigma) / mpf(n.alpha) for n in nodes]
    basis = [mp.fprod(-x / (xs[j] - x) for i, x in enumerate(xs) if i != j) for j in range(3)]
    in_rho = weights(nodes[0], t, nodes, "x0", variable="rho")
    assert error(in_rho, basis) <= 1e-13
    assert (in_rho.carry, in_rho.noise) == (0.0, 0.0)
    assert weights(nodes[0], t, nodes, "x0").values == (1.0, 0.0, 0.0)
    assert (
        error(
            weights(nodes[0], t, nodes, "eps", variable="rho"),
            oracle(nodes[0], t, nodes, "eps", "rho"),
        )
        <= 1e-12
    )


def test_a_node_at_infinity_has_no_weight() -> None:
    """From alpha = 0 the first step is x0-kind with one node; an older node there is left out of
    the others' interpolant."""
    far, nodes, t = Node(0.0, 1.0, 1.0), [vp(-1.0), vp(-1.7)], vp(-0.4)
    assert weights(far, t, [far], "x0").values == pytest.approx((t.alpha,), rel=1e-15)
    found = weights(nodes[0], t, [*nodes, far], "x0")
    assert found.values[2] == 0.0
    assert found.values[:2] == weights(nodes[0], t, nodes, "x0").values
    assert weights(far, t, [far, nodes[0]], "x0").values == pytest.approx((0.0, t.alpha), rel=1e-15)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["x0", "eps"])
def test_carry_total_and_noise_in_closed_form(kind: str, tau: float) -> None:
    """What is carried, what a constant prediction gets, and the noise, in 40 digits; x0: the
    marginal is kept whatever tau is."""
    for s, t in pairwise([vp(-5.0), vp(-2.0), vp(0.3), vp(0.3 + 1e-6), vp(4.0)]):
        h = exact_lam(t) - exact_lam(s)
        w = weights(s, t, [s], kind, tau=tau)
        decay = mp.exp(-(mpf(tau) ** 2) * h)
        if kind == "x0":
            carry = mpf(t.sigma) / mpf(s.sigma) * decay
            total, noise = mpf(t.alpha) - carry * mpf(s.alpha), mpf(t.sigma) * mp.sqrt(1 - decay**2)
            total = mpf(t.alpha) * (1 - mp.exp(-(1 + mpf(tau) ** 2) * h))
        else:
            carry = mpf(t.alpha) / mpf(s.alpha)
            total = (1 + mpf(tau) ** 2) * (mpf(t.sigma) - carry * mpf(s.sigma))
            noise = mpf(tau) * mpf(t.sigma) * mp.sqrt(mp.exp(2 * h) - 1)
        for found, want in ((w.carry, carry), (w.values[0], total), (w.noise, noise)):
            assert float(abs(mpf(found) - want)) <= 1e-13 * float(abs(want)), (s, t)


@pytest.mark.parametrize("kind", ["x0", "eps"])
@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_replaced_second_moments(kind: str, tau: float) -> None:
    """``half``, ``bh1`` and ``linear`` are mu_0/2, h/2 and kappa h/2 (x0) in place of mu_1, as
    their papers have them."""
    s, before, t = vp(-1.0), vp(-1.6), vp(-0.5)
    h, kappa = exact_lam(t) - exact_lam(s), 1 + mpf(tau) ** 2 if kind == "x0" else mpf(1)
    total = mpf(weights(s, t, [s], kind, tau=tau).values[0])
    z = -kappa * h if kind == "x0" else h
    mu0 = abs(mp.expm1(z))
    second = {"half": mu0 / 2, "bh1": h / 2, "linear": kappa * h / 2}
    r = (exact_lam(before) - exact_lam(s)) / h
    for moment, mu1 in second.items():
        found = weights(s, t, [s, before], kind, tau=tau, moment=moment)
        want = total * (mu1 / mu0) / r
        assert float(abs(mpf(found.values[1]) - want) / abs(want)) <= 1e-13, moment
        assert sum(found.values) == pytest.approx(float(total), rel=1e-13)


def test_velocities_are_integrated_in_t() -> None:
    """Equal steps in t are Adams-Bashforth; unequal ones against quadrature."""
    node = lambda t: Node(1.0 - t, t, t, -1.0, 1.0)  # noqa: E731
    for p in range(1, 7):
        found = weights(node(0.5), node(0.45), [node(0.5 + 0.05 * i) for i in range(p)], "velocity")
        assert found.values == pytest.approx([-0.05 * c for c in adams(p)], rel=1e-10)
        assert (found.carry, found.noise) == (1.0, 0.0)
    nodes, t = [node(0.6), node(0.71), node(0.9)], node(0.45)
    assert (
        error(weights(nodes[0], t, nodes, "velocity"), oracle(nodes[0], t, nodes, "velocity", "t"))
        <= 1e-13
    )


def test_adams_bashforth_as_tabulated() -> None:
    """Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, III.1."""
    table = {
        1: "1",
        2: "3/2 -1/2",
        3: "23/12 -16/12 5/12",
        4: "55/24 -59/24 37/24 -9/24",
        5: "1901/720 -2774/720 2616/720 -1274/720 251/720",
        6: "4277/1440 -7923/1440 9982/1440 -7298/1440 2877/1440 -475/1440",
    }
    for p, row in table.items():
        assert adams(p) == tuple(float(Fraction(c)) for c in row.split())
    for p in (7, 12):
        integrals = [
            float(sum(Fraction(c) * (-j) ** k for j, c in enumerate(adams(p)))) for k in range(p)
        ]
        assert integrals == pytest.approx([1 / (k + 1) for k in range(p)], rel=1e-3)
    for p in (0, 13):
        with pytest.raises(ValueError, match=str(p)):
            adams(p)


def lagrange_integral(nodes: Sequence[int], j: int) -> Fraction:
    """``int_0^1`` of the basis polynomial ``j`` through whole numbers, in fractions."""
    others = [q for i, q in enumerate(nodes) if i != j]
    coefficients = [Fraction(1)]
    for q in others:
        coefficients = [
            a - q * b
            for a, b in zip([Fraction(0), *coefficients], [*coefficients, Fraction(0)], strict=True)
        ]
    return sum((c / (k + 1) for k, c in enumerate(coefficients)), Fraction(0)) / math.prod(
        nodes[j] - q for q in others
    )


@pytest.mark.parametrize("p", [6, 7, 8, 12, 19, 32])
def test_polynomials_of_many_nodes_in_fractions(p: int) -> None:
    """Adams-Bashforth with up to 32 nodes, in rho and in t, against exact fractions."""
    places = [-k for k in range(p)]
    exact = [lagrange_integral(places, j) for j in range(p)]
    nodes = [Node(1.0, 40.0 + k, 40.0 + k) for k in range(p)]
    end = Node(1.0, 39.0, 39.0)
    for found in (
        weights(nodes[0], end, nodes, "eps", variable="rho"),
        weights(nodes[0], end, nodes, "velocity"),
    ):
        assert all(
            abs(v + float(e)) < 1e-13 * float(max(map(abs, exact)))
            for v, e in zip(found.values, exact, strict=True)
        )


def test_more_nodes_than_a_step_takes_are_refused() -> None:
    many = [Node(1.0, 40.0 + k, 40.0 + k) for k in range(33)]
    with pytest.raises(ValueError, match="1 to 32 nodes, got 33"):
        weights(many[0], Node(1.0, 39.0, 39.0), many, "eps", variable="rho")
    with pytest.raises(ValueError, match="1 to 6 nodes, got 7"):
        weights(many[0], Node(1.0, 39.0, 39.0), many[:7], "eps", variable="lam")


def test_the_basis_is_lagranges() -> None:
    nodes, s, t = [ve(-2.0), ve(-2.7), ve(-3.1), ve(-4.0)], ve(-2.0), ve(-1.2)
    for count in (1, 2, 3, 4):
        basis = Basis.of(s, t, nodes[:count], "lam")
        values = basis.at(np.array(basis.theta))
        assert np.allclose(values, np.eye(count), rtol=0, atol=1e-13)
        assert np.allclose(basis.at(np.array([0.123, 1.0])).sum(axis=0), 1.0, rtol=0, atol=1e-12)
        mu = [0.4**k for k in range(count)]  # the means of a point mass at 0.4
        assert basis.means(mu) == pytest.approx(basis.at(np.array([0.4]))[:, 0].tolist(), rel=1e-12)
    assert monic([2.0, -3.0]) == [-6.0, 1.0, 1.0]


def test_nodes_too_close_for_an_interpolant_are_refused() -> None:
    s, t = ve(0.0), ve(1.0)
    for apart, refused in ((1e-8, False), (1e-10, True)):
        nodes = [s, Node(1.0, s.sigma * (1.0 + apart))]
        if refused:
            with pytest.raises(ValueError, match="nodes 0 and 1"):
                Basis.of(s, t, nodes, "lam")
        else:
            assert abs(Basis.of(s, t, nodes, "lam").theta[1]) == pytest.approx(apart, rel=1e-6)


def test_distances_keep_their_digits() -> None:
    """Differences of lam, rho and angle of nodes that are close or far, either way round."""
    near = Node(0.8, 0.6), Node(math.nextafter(0.8, 1.0), math.nextafter(0.6, 0.0))
    for a, b in (
        near,
        (ve(3.0), ve(3.0 + 1e-9)),
        (vp(-8.0), vp(9.0)),
        (ve(-4.0), ve(5.0)),
        (vp(0.1), ve(-0.2)),
    ):
        for s, t in ((a, b), (b, a)):
            lam, rho = (
                exact_lam(t) - exact_lam(s),
                mpf(t.sigma) / mpf(t.alpha) - mpf(s.sigma) / mpf(s.alpha),
            )
            angle = mp.atan2(mpf(t.sigma), mpf(t.alpha)) - mp.atan2(mpf(s.sigma), mpf(s.alpha))
            for found, want in (
                (lam_gap(s, t), lam),
                (rho_gap(s, t), rho),
                (angle_gap(s, t), angle),
            ):
                assert float(abs(mpf(found) - want) / abs(want)) <= 1e-15
        assert lam_gap(a, a) == rho_gap(a, a) == angle_gap(a, a) == 0.0
    tiny = Node(1.0, 1e-300), Node(1.0, 3e-300)
    assert lam_gap(tiny[1], tiny[0]) == pytest.approx(math.log(3.0), rel=1e-12)
    assert lam_gap(Node(0.0, 1.0), vp(0.0)) == math.inf
    assert lam_gap(Node(0.0, 1.0), Node(0.0, 1.0)) == lam_gap(Node(1.0, 0.0), Node(1.0, 0.0)) == 0.0


# --- a strength that is a function of the noise level


def published(name: str, rho: mpf) -> mpf:
    """``Phi(rho)`` as the authors print it (Cui et al. 2023, arXiv 2309.06169, and the er_sde
    code)."""
    return {
        "ode": lambda: rho,
        "sde": lambda: rho**2,
        "sde_1": lambda: rho * (mp.exp(-1 / rho) + 10),
        "sde_2": lambda: rho ** mpf("1.5"),
        "sde_3": lambda: rho ** mpf("2.5"),
        "sde_4": lambda: rho ** mpf("0.9") * mp.log(1 + 100 * rho ** mpf("1.5"), 10),
        "sde_5": lambda: rho * (mp.exp(rho ** mpf("0.3")) + 10),
    }[name]()


def integrals(name: str, t: Node, nodes: Sequence[Node]) -> list[mpf]:
    """``alpha_t Phi_t int l_j d(-1 / Phi)`` from the end to the first node, in rho."""
    xs = [mpf(n.sigma) / mpf(n.alpha) for n in nodes]
    end = mpf(t.sigma) / mpf(t.alpha)

    def integrand(r: mpf, j: int) -> mpf:
        slope = mp.diff(lambda q: published(name, q), r) / published(name, r) ** 2
        return slope * mp.fprod((r - x) / (xs[j] - x) for i, x in enumerate(xs) if i != j)

    cuts = [mp.exp(v) for v in mp.linspace(mp.log(end), mp.log(xs[0]), 5)]
    with mp.workdps(25):
        found = [mp.quad(lambda r, j=j: integrand(r, j), cuts, maxdegree=4) for j in range(len(xs))]
        return [mpf(t.alpha) * published(name, end) * v for v in found]


@pytest.mark.parametrize("name", NOISE_SCALES)
def test_weights_of_a_noise_scale_against_quadrature(name: str) -> None:
    """``carry = alpha_t Phi_t / (alpha_s Phi_s)``,
    ``noise^2 = alpha_t^2 (rho_t^2 - rho_s^2 (Phi_t / Phi_s)^2)``, and the integrals."""
    for rhos, end in (((1.0, 1.6, 3.0), 0.4), ((40.0, 80.0), 9.0), ((0.02, 0.05), 0.004)):
        nodes, t = [vp(-math.log(r)) for r in rhos], vp(-math.log(end))
        w = noise_scale_weights(nodes[0], t, nodes, NOISE_SCALES[name])
        rho_s, rho_t = (mpf(n.sigma) / mpf(n.alpha) for n in (nodes[0], t))
        fall = published(name, rho_t) / published(name, rho_s)
        assert w.carry == pytest.approx(float(mpf(t.alpha) / mpf(nodes[0].alpha) * fall), rel=1e-12)
        assert w.noise == pytest.approx(
            float(mpf(t.alpha) * mp.sqrt(abs(rho_t**2 - (rho_s * fall) ** 2))), rel=1e-9, abs=1e-12
        )
        assert error(w, integrals(name, t, nodes)) <= 1e-9


def test_a_noise_scale_stops_where_its_slope_would_fall() -> None:
    """Beyond rho = 1021 ``sde_4`` puts in nothing: a step there is that of the ODE."""
    s, t = ve(-math.log(3000.0)), ve(-math.log(1500.0))
    found, ode = noise_scale_weights(s, t, [s], NOISE_SCALES["sde_4"]), weights(s, t, [s], "x0")
    assert (found.carry, *found.values, found.noise) == pytest.approx(
        (ode.carry, *ode.values, 0.0), rel=1e-12
    )
    assert noise_scale_weights(t, ve(-math.log(900.0)), [t], NOISE_SCALES["sde_4"]).noise > 0.0
