"""Brownian paths: the law from the coefficients (exactly), the bits from the tensors, the plans
that run on them."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
import pytest
import torch

import fewstep
from fewstep.engine.paths import LamPath, PlanPath, layers, noise_for
from fewstep.eval.certificates.problem import mixture, smooth_grid
from fewstep.eval.certificates.slopes import slope
from fewstep.eval.certificates.strong import strong_errors
from fewstep.fused.brownian.path import PATH_STREAM, BrownianPath
from fewstep.fused.brownian.tree import Piece, interval
from fewstep.fused.noise import normal_pairs
from fewstep.fused.noise.normal_pairs import add_pairs, draw_words, pair_table
from fewstep.fused.noise.philox import philox4x32
from fewstep.fused.noise.seeded import SeededNoise
from fewstep.plans.instructions import Draw, PlanError
from fewstep.plans.running.loop import run_plan
from fewstep.samplers import registry
from fewstep.schedules import Flow, VPLinear

SEEDS = (3, 11, 2**40 + 1)


def doubles(n: int = 3, *shape: int) -> torch.Tensor:
    return torch.empty(n, *(shape or (5,)), dtype=torch.float64)


def covariance(p: Piece, q: Piece) -> np.ndarray:
    """Covariance of (W, B) of one piece with (W, B) of another, from the coefficients of their
    independent z."""
    out = np.zeros((2, 2))
    for atom in p.form.keys() & q.form.keys():
        a, b = np.reshape(p.form[atom], (2, 2)), np.reshape(q.form[atom], (2, 2))
        out += a @ b.T
    return out


def exact_covariance(s: float, t: float, u: float, v: float) -> np.ndarray:
    """The same for Brownian motion: ``W = int 1 dW, B = int (mid - r) dW`` over each interval."""
    low, high = max(s, u), min(t, v)
    if low >= high:
        return np.zeros((2, 2))
    r = np.array([low, 0.5 * (low + high), high])
    weights = (high - low) * np.array([1, 4, 1]) / 6  # Simpson: exact for the products
    f, g = np.stack([np.ones(3), 0.5 * (s + t) - r]), np.stack([np.ones(3), 0.5 * (u + v) - r])
    return (f * weights) @ g.T


@pytest.mark.parametrize("levels", [0, 1, 2, 5, 12, 40])
def test_the_law_is_exact_for_all_intervals_longer_than_a_leaf(levels: int) -> None:
    rng = random.Random(levels)
    for _ in range(60):
        s, u = sorted(rng.uniform(0.0, 3.0) for _ in range(2))
        t, v = (rng.uniform(x, 3.0) for x in (s, u))
        ends = sorted({s, t, u, v})
        if min(b - a for a, b in pairwise(ends)) < 2.0**-levels:
            continue
        p, q = (interval((int(a), a % 1.0), (int(b), b % 1.0), levels) for a, b in ((s, t), (u, v)))
        assert p.length == pytest.approx(t - s, rel=1e-12)
        for a, b, want in (
            (p, q, exact_covariance(s, t, u, v)),
            (p, p, exact_covariance(s, t, s, t)),
        ):
            scale = np.sqrt(
                np.outer(
                    *[
                        np.diag(exact_covariance(*ij))
                        for ij in ((s, t, s, t), (s, t, s, t) if b is p else (u, v, u, v))
                    ]
                )
            )
            assert np.abs(covariance(a, b) - want).max() <= 1e-9 * scale.max()


def test_two_times_in_one_leaf_are_approximate_and_each_of_them_is_exact() -> None:
    p, q = interval((0, 0.0), (0, 0.3), 1), interval((0, 0.3), (0, 0.34), 1)
    assert covariance(p, p) == pytest.approx(exact_covariance(0.0, 0.3, 0.0, 0.3), abs=1e-15)
    assert abs(covariance(q, q)[0, 0] - 0.04) > 1e-3


def test_refinement_of_an_interval_joins_to_it_by_chens_relation() -> None:
    path = BrownianPath(SEEDS, -1.0, 2.0, 1e-4, cells=3)
    rng = random.Random(1)
    for _ in range(40):
        times = sorted(rng.uniform(-1.0, 2.0) for _ in range(4))
        like = doubles()
        w, h = path.levy(times[0], times[-1], like)
        length, total, area = 0.0, torch.zeros_like(w), torch.zeros_like(w)
        for (a, b), (wk, hk) in zip(
            pairwise(times), path.levies(list(pairwise(times)), like), strict=True
        ):
            area = area + (b - a) * hk + 0.5 * ((b - a) * total - length * wk)
            total, length = total + wk, length + b - a
        assert (total - w).abs().max() < 1e-13
        assert (area / length - h).abs().max() < 1e-12


def test_moments_over_many_seeds_and_elements() -> None:
    path = BrownianPath(tuple(range(64)), 0.0, 1.0, 2.0**-8)
    a, b = 0.211, 0.734
    (w, h), (w2, h2) = path.levies([(a, b), (0.5, 0.9)], doubles(64, 1024))
    n, length = w.numel(), b - a
    z, y = w / math.sqrt(length), h / math.sqrt(length / 12.0)
    for values, moments in ((z, (0.0, 1.0, 0.0, 3.0)), (y, (0.0, 1.0, 0.0, 3.0))):
        for k, want in enumerate(moments, 1):
            spread = math.sqrt({1: 1.0, 2: 2.0, 3: 15.0, 4: 96.0}[k] / n)
            assert abs(float((values**k).mean()) - want) < 4.5 * spread + (2e-3 if k > 2 else 0.0)
    assert abs(float((z * y).mean())) < 4.5 / math.sqrt(n)
    for one, other, want in ((w, w2, (0, 0)), (w, h2, (0, 1)), (h, w2, (1, 0)), (h, h2, (1, 1))):
        exact = exact_covariance(a, b, 0.5, 0.9)[want] / (length ** want[0] * 0.4 ** want[1])
        assert abs(float((one * other).mean()) - exact) < 4.5 * float(
            one.std() * other.std()
        ) / math.sqrt(n)


@pytest.mark.usefixtures("backend")
def test_bits_do_not_depend_on_the_order_of_queries() -> None:
    rng = random.Random(5)
    spans = [tuple(sorted(rng.uniform(-1.0, 1.0) for _ in range(2))) for _ in range(300)]
    spans += list(pairwise(sorted(rng.uniform(-1.0, 1.0) for _ in range(301))))
    like = torch.empty(2, 3)

    def path() -> BrownianPath:
        return BrownianPath((7, 8), -1.0, 1.0, 2.0**-8, cells=2)

    together = path().increments(spans, like)
    order = list(range(600))
    rng.shuffle(order)
    one = path()
    for k in order:
        assert torch.equal(one.increment(*spans[k], like), together[k])
    for k in order[:20]:
        w, h = one.levy(*spans[k], like)
        fresh = path().levy(*spans[k], like)
        assert torch.equal(w, together[k]) and torch.equal(h, fresh[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_bits_do_not_depend_on_the_batch_or_its_size(dtype: torch.dtype) -> None:
    # 14 samples of it are above the size where sums go through a table, one is below
    shape = (3, 40, 41)
    seeds = tuple(range(14))
    whole = BrownianPath(seeds, 0.0, 1.0, 1e-3).levy(
        0.1, 0.77, torch.empty(14, *shape, dtype=dtype)
    )
    for k in (0, 13):
        alone = BrownianPath((seeds[k],), 0.0, 1.0, 1e-3).levy(
            0.1, 0.77, torch.empty(1, *shape, dtype=dtype)
        )
        assert all(
            a.dtype == dtype and torch.equal(a[k], b[0]) for a, b in zip(whole, alone, strict=True)
        )


def test_the_words_of_a_node_are_those_of_its_counter_and_the_same_on_a_device() -> None:

    path = BrownianPath((9 + (5 << 32),), 0.0, 1.0, 2.0**-40, layer=3)
    address = (PATH_STREAM + (3 << 16), (1 << 36) + 5 & 0xFFFFFFFF, (1 << 36) + 5 >> 32)
    keys = torch.tensor([[9], [5]])
    (words,) = draw_words(keys, 21, [address])
    found = philox4x32((2, *address), (9, 5))  # elements 16 .. 23
    assert (
        words[0, 16:21].tolist()
        == [int(w) >> 16 * half & 0xFFFF for w in found for half in (0, 1)][:5]
    )
    device = normal_pairs._draw_device(keys, 21, address)
    assert device.tolist() == words.tolist()
    a, b = torch.zeros(1, 21), torch.zeros(1, 21)
    add_pairs(a, [(words, 0.3, -1.7), (words, 0.1, 0.2)])
    add_pairs(b, [(device, 0.3, -1.7), (device, 0.1, 0.2)])
    assert torch.equal(a, b) and float(a.abs().max()) > 0.0
    assert path.levels == 40


def test_no_address_is_used_twice() -> None:
    path = BrownianPath((0,), 0.0, 4.0, 2.0**-60, cells=4)
    assert path.levels == 60
    seen: dict[tuple[int, int], tuple[int, float]] = {}
    for x in (0.3, 0.30000001, 0.7, 0.999):
        for cell, number in interval((2, 0.0), (2, x), 60).form:
            level = number.bit_length() - 1
            if number >= 1 << 63:
                continue
            inside = (level, math.floor(math.ldexp(x, level)))
            assert seen.setdefault((cell, number), inside) == inside
            assert number < 1 << 61


def test_layers_and_cells_are_independent_and_the_table_is_a_normal_one() -> None:
    z = pair_table()
    assert abs(z.mean(axis=1)).max() < 1e-15 and abs(z @ z.T / z.shape[1] - np.eye(2)).max() < 1e-14
    assert abs((z**4).mean(axis=1) - 3.0).max() < 5e-3 and abs((z**3).mean(axis=1)).max() < 5e-3
    like = doubles(3, 4096)
    a, b = (LamPath(SEEDS, layer=k)(-0.3, 0.2, like)[0] for k in (0, 1))
    c = LamPath(SEEDS)(0.7, 1.2, like)[0]
    for other in (b, c):
        assert abs(float((a * other).mean()) / 0.5) < 4.5 / math.sqrt(a.numel())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BrownianPath(SEEDS, 1.0, 1.0, 0.1), "start < end"),
        (lambda: BrownianPath(SEEDS, 0.0, 1.0, 0.0), "tol"),
        (lambda: BrownianPath(SEEDS, 0.0, 1.0, 2.0**-61), "61 halvings"),
        (lambda: BrownianPath(SEEDS, 0.0, 1.0, 0.1, cells=0), "cells"),
        (lambda: BrownianPath(SEEDS, 0.0, 1.0, 0.1, layer=-1), "layer"),
        (
            lambda: BrownianPath(SEEDS, 0.0, 1.0, 0.1).increment(0.5, 1.1, doubles()),
            "leaves this path",
        ),
        (lambda: BrownianPath(SEEDS, 0.0, 1.0, 0.1).levy(-0.1, 0.1, doubles()), "leaves this path"),
        (lambda: BrownianPath(SEEDS, 0.0, 1.0, 0.1).increment(0.5, 0.4, doubles()), "s <= t"),
        (
            lambda: BrownianPath(SEEDS, 0.0, 1.0, 0.1).increment(0.5, 0.6, doubles(2)),
            "one seed per sample",
        ),
        (lambda: LamPath(SEEDS).unit(0.0, 1e-4, doubles()), "shorter than the path's tol"),
    ],
)
def test_what_is_out_of_range_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_an_empty_interval_is_zero() -> None:
    w, h = BrownianPath(SEEDS, 0.0, 1.0, 0.1).levy(0.3, 0.3, doubles())
    assert not w.any() and not h.any()


def test_layers_of_a_plan_with_churn() -> None:
    S = VPLinear()
    a, b, c = (S.node_at_lam(v) for v in (-1.0, 0.0, 1.0))
    assert layers([Draw(a, b), Draw(b, a), Draw(a, b), Draw(b, c)]) == (0, None, 1, 1)
    assert layers([Draw(a, b), Draw(a, b), Draw(a, c)]) == (0, None, 0)


def test_draws_of_a_plan_are_unit_normals_of_one_path() -> None:
    S = VPLinear()
    fine, coarse = (
        registry.build("ddim", smooth_grid(S, n), registry.get("ddim").options(tau=1.0))
        for n in (16, 8)
    )
    seeds, like = tuple(range(8)), doubles(8, 512)
    f, c = PlanPath(fine, seeds), PlanPath(coarse, seeds)
    for key in (5, 0, 7):
        h = [fine.draws[2 * key + k].end.lam - fine.draws[2 * key + k].start.lam for k in (0, 1)]
        joined = sum(math.sqrt(h[k] / sum(h)) * f(2 * key + k, like) for k in (0, 1))
        assert (joined - c(key, like)).abs().max() < 1e-11
        assert float(c(key, like).square().mean()) == pytest.approx(
            1.0, abs=4.5 * math.sqrt(2.0 / like.numel())
        )


def test_strong_order_on_the_path_and_none_without_it() -> None:
    S = VPLinear()
    for name, options in (("ddim", {"eta": 1.0}), ("dpmpp_2m_sde", {"lower_order_final": False})):
        entry = registry.get(name)
        chosen = registry.make_options(entry, options)

        def plan_of(n: int, name: str = name, chosen: object = chosen) -> fewstep.plans.Plan:
            return registry.build(name, smooth_grid(S, n), chosen)

        tau = entry.tau_of(chosen)
        found = strong_errors(plan_of, S, tau, steps=(40, 80, 160), seeds=range(6))
        assert 0.85 < found.slope < 1.45 and found.errors[-1][1] < 1e-2  # 0.97 and 1.25
    apart = strong_errors(plan_of, S, tau, steps=(40, 80, 160), seeds=range(6), noise="independent")
    assert abs(apart.slope) < 0.1 and apart.errors[-1][1] > 0.3


def test_grids_of_n_and_2n_steps_approach_a_fine_one_on_the_mixture() -> None:
    S = VPLinear()
    chosen = registry.make_options(registry.get("dpmpp_2m_sde"), {"lower_order_final": False})
    x = SeededNoise(tuple(range(16))).start((1,), dtype=torch.float64) * 0.99 + 0.1
    ends = {}
    for n in (20, 40, 80, 320):
        plan = registry.build("dpmpp_2m_sde", smooth_grid(S, n), chosen)
        ends[n] = run_plan(plan, mixture(S), x, noise=PlanPath(plan, range(16), tol=2.0**-12))
    errors = [(n, float((ends[n] - ends[320]).square().mean().sqrt())) for n in (20, 40, 80)]
    assert slope(errors) > 0.8 and errors[-1][1] < 0.02


def test_brownian_noise_at_the_front_door() -> None:
    den = mixture(Flow(), "v")
    common = {"sampler": "dpmpp_2m_sde", "n": 4, "seed": 5, "dtype": torch.float64}
    a, b, c = (fewstep.sample(den, steps=n, noise="brownian", **common) for n in (40, 80, 80))
    assert torch.equal(b, c)
    independent = [fewstep.sample(den, steps=n, **common) for n in (40, 80)]
    assert (a - b).abs().max() < 0.2 < (independent[0] - independent[1]).abs().max()
    row = fewstep.sample(
        den, steps=40, noise="brownian", seeds=[7], sampler="dpmpp_2m_sde", dtype=torch.float64
    )
    assert torch.equal(row[0], a[2])


def test_a_noise_list_of_the_wrong_length_is_refused_before_the_network() -> None:
    from fewstep.eval.solver.counting import Counting

    den = Counting(mixture(VPLinear(), "v"))
    plan = fewstep.plan("dpmpp_2m_sde", den.schedule, steps=4)
    x = torch.zeros(1, 1)
    wanted = len(plan.draws)
    for given in (
        [x] * (wanted - 1),
        [x] * (wanted + 1),
        {0: x},
        dict.fromkeys(range(wanted + 2), x),
        None,
        "brownian",
        "pink",
    ):
        with pytest.raises(ValueError, match="noise"):
            fewstep.run(plan, den, x, noise=given)
        assert den.calls == 0
    fewstep.run(plan, den, x, noise=[x] * wanted)
    assert den.calls == plan.nfe
    assert noise_for(plan, None, (3,)) == SeededNoise((3,))
    with pytest.raises(PlanError, match="lacks"):
        noise_for(plan, {k + 1: x for k in range(wanted)}, None)
