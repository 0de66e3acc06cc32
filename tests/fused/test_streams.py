"""Where noise comes from: the addresses of start, solver, probes and paths, which never meet, and
the normals of whole runs by address."""

from __future__ import annotations

import torch

import fewstep
from fewstep.engine.heavy_tails import TAIL_STREAM
from fewstep.engine.likelihood import PROBE_STREAM, probe_vectors
from fewstep.eval.diagnostics.derivatives import DATA_STREAM
from fewstep.eval.diagnostics.dimension import CLOUD_STREAM
from fewstep.fused.brownian.path import PATH_STREAM
from fewstep.fused.noise.seeded import SOLVER_STREAM, START_STREAM, SeededNoise, normals
from fewstep.models import GaussianMixture
from fewstep.schedules import EDM, VPLinear

SEEDS = (3, 11)
MODEL = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4], VPLinear(), "x0")


def z(stream: int, draw: int) -> torch.Tensor:
    return normals(SEEDS, (2,), stream=stream, draw=draw, dtype=torch.float64)


def test_addresses_are_what_they_were() -> None:
    """Samples of earlier versions are reproduced by their seeds: none of these may change, and no
    two may be one."""
    streams = (
        START_STREAM,
        SOLVER_STREAM,
        TAIL_STREAM,
        PROBE_STREAM,
        DATA_STREAM,
        CLOUD_STREAM,
        PATH_STREAM,
    )
    assert streams == (0, 1, 0x7A11, 2**30, 2**30 + 1, 2**30 + 2, 2**31)
    assert SeededNoise(SEEDS).stream == 1


def test_a_run_written_out_with_its_noises() -> None:
    """Ancestral steps: the start is draw 0 of stream 0, step k adds draw k of stream 1."""
    for schedule, scale in ((VPLinear(), 1.0), (EDM(0.01, 5.0), 5.0)):
        model = GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4], schedule, "x0")
        grid = fewstep.grid("lam", schedule, 4, final="sigma_min")
        out = fewstep.sample(model, "ddpm", grid=grid, seeds=SEEDS, dtype=torch.float64)
        x = scale * z(0, 0)
        for k, (s, t) in enumerate(grid.pairs()):
            fresh2 = t.sigma**2 * (1.0 - (t.rho / s.rho) ** 2)
            e = (t.sigma**2 - fresh2) ** 0.5 / s.sigma
            data = model(x, s.t)
            x = e * x + (t.alpha - e * s.alpha) * data + fresh2**0.5 * z(1, k)
        torch.testing.assert_close(out, x, rtol=1e-9, atol=1e-9)


def test_an_image_to_image_run_starts_with_the_same_noise() -> None:
    init = torch.tensor([[0.4, -0.2], [1.0, 0.3]], dtype=torch.float64)
    seen = []
    fewstep.sample(
        MODEL,
        "ddim",
        steps=3,
        init=init,
        start=0.5,
        seeds=SEEDS,
        callback=lambda s: seen.append(s.x),
    )
    node = VPLinear().node(0.5)
    torch.testing.assert_close(
        seen[0], node.alpha * init + node.sigma * z(0, 0), rtol=1e-12, atol=1e-12
    )


def test_seeds_from_a_first_one() -> None:
    a, b = (
        fewstep.sample(MODEL, "ddim", steps=3, **given)
        for given in ({"n": 4, "seed": 9}, {"seeds": (9, 10, 11, 12)})
    )
    assert torch.equal(a, b)
    assert torch.equal(fewstep.sample(MODEL, "ddim", steps=3, seed=9), a[:1]), (
        "one sample where nothing is said"
    )


def test_probes() -> None:
    like = torch.empty(2, 2, dtype=torch.float64)
    gaussian, signs = (probe_vectors(SEEDS, like, 2, kind) for kind in ("gaussian", "rademacher"))
    for k in range(2):
        assert torch.equal(gaussian[k], z(2**30, k))
        assert torch.equal(signs[k], torch.where(z(2**30, k) < 0.0, -1.0, 1.0).double())


def test_drivers_number_their_draws() -> None:
    """The predictor-corrector without a corrector draws what its plan draws."""
    grid = fewstep.grid("lam", VPLinear(), 4, final="sigma_min")
    a = fewstep.sample(MODEL, "pc", grid=grid, seeds=SEEDS, corrector="none", dtype=torch.float64)
    b = fewstep.sample(MODEL, "reverse_diffusion", grid=grid, seeds=SEEDS, dtype=torch.float64)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
