"""Inversion by its methods: the measured reconstruction, exact round trips, and a sampler's own steps
solved backwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_inversion import data, model

import fewstep
from fewstep.checks import ArgumentError
from fewstep.engine.arguments import StateError
from fewstep.eval.solver.counting import Counting
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture
from fewstep.models.mean_reverting import MeanReverted
from fewstep.samplers import SamplerError
from fewstep.schedules import EDM, Flow, MeanReverting, VPLinear

PATHS = {"vp": VPLinear(), "edm": EDM(), "flow": Flow()}
GRIDS = {"vp": "lam", "edm": "lam", "flow": "uniform"}


def inverted(path: str, sampler: str, **given: Any):
    den = model(PATHS[path])
    x0 = data(den)
    given = {"steps": 50, "grid": GRIDS[path], **given}
    z, info = fewstep.invert(den, x0, sampler, info=True, **given)
    return den, x0, z, info


@pytest.mark.parametrize(
    ("path", "sampler"),
    [(p, s) for p in ("vp", "edm") for s in ("edict", "bdia", "belm", "reversible_heun")]
    + [("flow", "flow_belm")],
)
def test_exact_round_trips_at_50_steps(path: str, sampler: str) -> None:
    den, x0, z, info = inverted(path, sampler)
    assert info.method == "exact" and info.largest < 1e-10
    again = fewstep.run(info.plan, den, z, partners=info.partners)
    assert torch.equal(again, info.reconstruction) and again.shape == x0.shape
    # one state alone leads back with the error of the method
    assert float((fewstep.run(info.plan, den, z) - x0).abs().max()) > 1e-6
    assert len(info.partners) == 1 and not torch.equal(info.partners[0], z)


@pytest.mark.parametrize("sampler", ["ddim", "heun", "flow_heun"])
@pytest.mark.parametrize("path", PATHS)
def test_newton_solves_the_steps(path: str, sampler: str) -> None:
    *_, info = inverted(path, sampler, inversion="newton")
    assert info.largest < 1e-6 and info.partners == ()
    # 3 iterations of one step and four products; the result needs no further call
    assert info.nfe == 15 * info.plan.nfe


def test_fixed_points_converge_with_the_iterations() -> None:
    errors = [
        inverted("vp", "ddim", inversion="fixed_point", iterations=k)[-1].largest
        for k in (5, 20, 80)
    ]
    assert errors[0] > 10.0 * errors[1] > 1e3 * errors[2] and errors[2] < 1e-10
    info = inverted("vp", "ddim", inversion="fixed_point")[-1]
    assert info.largest == errors[1] and info.nfe == 20 * 50


def test_the_noise_of_an_exact_inverse_is_that_of_a_fine_one() -> None:
    """The root found is the state that the sampler's run passes through: sampling from it with the
    same steps, and from the noise that it was sampled from."""
    den = model(VPLinear())
    noise = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    given = {"steps": 12, "grid": "lam", "final": "sigma_min"}
    x0 = fewstep.sample(den, "ddim", x=noise, **given)
    found = fewstep.invert(den, x0, "ddim", inversion="newton", iterations=6, **given)
    assert float((found - noise).abs().max()) < 1e-6
    far = fewstep.invert(den, x0, "ddim", inversion="reversed", **given)
    assert float((far - noise).abs().max()) > 0.01


def test_reconstruction_is_measured_by_sampling() -> None:
    den, x0, z, info = inverted("vp", "dpm_solver_2m")
    again = fewstep.sample(den, "dpm_solver_2m", x=z, steps=50, grid="lam", final="sigma_min")
    assert info.method == "reversed" and info.nfe == 50
    assert torch.equal(again, info.reconstruction)
    assert info.largest == pytest.approx(float((again - x0).abs().max()))
    wanted = (again - x0).square().mean(1).sqrt()
    torch.testing.assert_close(info.errors, wanted)
    assert torch.equal(z, fewstep.invert(den, x0, steps=50, grid="lam"))


def test_calls_are_counted() -> None:
    for sampler, method, calls in (
        ("edict", None, 19),
        ("belm", None, 10),
        ("reversible_heun", None, 10),
        ("flow_belm", None, 10),
        ("ddim", "fixed_point", 40),
        ("ddim", "newton", 20 * 5),
        ("ddim", None, 10),
    ):
        iterations = None if method is None else 4 if method == "fixed_point" else 2
        den, seen = Counting(model(VPLinear())), []
        x0 = data(model(VPLinear()))
        options = {"inversion": method, "iterations": iterations, "steps": 10, "grid": "lam"}
        fewstep.invert(den, x0, sampler, progress=lambda *n, seen=seen: seen.append(n), **options)
        assert den.calls == calls, sampler
        assert seen[-1] == (calls, calls)


def test_editing_with_another_condition_from_the_states_found() -> None:
    """With the same condition the data come back; with another one they change."""
    den = model(VPLinear())
    guided = CFG(den, 1.5)
    x0 = data(den)
    label = torch.zeros(len(x0), dtype=torch.long)
    z, info = fewstep.invert(guided, x0, "edict", steps=20, grid="lam", cond=label, info=True)
    assert info.largest < 1e-9
    other = fewstep.run(info.plan, guided, z, partners=info.partners, cond=label + 1)
    assert float((other - x0).abs().mean()) > 0.1


def test_states_with_an_input_scale_in_float32_and_callbacks() -> None:
    den = fewstep.models.load("mnist")
    x0 = fewstep.sample(den, "heun", steps=4, n=2)
    z, info = fewstep.invert(den, x0, "belm", steps=6, info=True)
    assert info.largest < 1e-3 * float(x0.abs().max())
    seen: list[int] = []
    fewstep.run(info.plan, den, z, partners=info.partners, on_step=lambda s: seen.append(s.index))
    assert seen == list(range(1, 6))  # the call of the first step is not made again


def test_offsets_of_mean_reverting_paths() -> None:
    """The result is x, as ``sample`` takes it; partners are differences, as ``run`` takes them."""
    path = MeanReverting(0.5, VPLinear())
    mu = torch.tensor([0.7, -0.4], dtype=torch.float64)
    den = MeanReverted(GaussianMixture([[0.5, -0.2]], 0.6, [1.0], path), mu)
    x0 = mu + 0.3 * torch.randn(4, 2, dtype=torch.float64)
    given = {"steps": 10, "grid": "lam"}
    z, info = fewstep.invert(den, x0, "edict", info=True, **given)
    assert info.largest < 1e-9
    torch.testing.assert_close(info.reconstruction, x0, rtol=1e-9, atol=1e-9)
    back = mu + fewstep.run(info.plan, den, z - mu, partners=info.partners)
    torch.testing.assert_close(back, x0, rtol=1e-9, atol=1e-9)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("ddim", {"inversion": "exact"}, "not exactly invertible; these are: bdia, belm, edict"),
    ("ddim", {"inversion": "newtn"}, "did you mean 'newton'"),
    ("ddim", {"iterations": 3}, "only fixed_point and newton iterate"),
    ("ddim", {"inversion": "newton", "iterations": 0}, "iterations"),
    ("dpmpp_2m", {"inversion": "newton"}, "uses predictions of earlier steps"),
    ("belm", {"inversion": "newton"}, "uses predictions of earlier steps"),
    ("edict", {"callback": lambda s: None}, "callback= with inversion='exact'"),
    ("ddpm", {"inversion": "newton"}, "draws noise"),
    ("dpm_adaptive", {"inversion": "exact", "steps": None}, "driver"),
    ("bdia", {"steps": 1}, "two steps or more"),
    ("ddim", {"info": 1}, "info"),
]


@pytest.mark.parametrize(("sampler", "given", "message"), WRONG)
def test_wrong_arguments_are_refused_before_the_first_call(
    sampler: str, given: dict[str, Any], message: str
) -> None:
    den = Counting(model(VPLinear()))
    given = {"steps": 5, **given}
    with pytest.raises((SamplerError, ArgumentError), match=message):
        fewstep.invert(
            den, torch.zeros(1, 2), sampler, **{k: v for k, v in given.items() if v is not None}
        )
    assert den.calls == 0


def test_alpha_zero_and_partners_that_do_not_fit_are_refused() -> None:
    den = Counting(model(Flow()))
    for sampler in ("edict", "bdia", "belm"):
        with pytest.raises(SamplerError, match=r"alpha = 0; begin later.*flow_belm"):
            fewstep.invert(den, torch.zeros(1, 2), sampler, steps=5)
    plan = fewstep.plan("belm", VPLinear(), steps=4)
    x = torch.zeros(1, 2)
    den = Counting(model(VPLinear()))
    for partners, message in (
        ((x, x), "carries 1 states"),
        ((x.double(),), "like the state"),
        ((x[:, :1],), "like the state"),
    ):
        with pytest.raises(StateError, match=message):
            fewstep.run(plan, den, x, partners=partners)
    with pytest.raises(StateError, match="carries 0 states"):
        fewstep.run(fewstep.plan("ddim", VPLinear(), steps=4), den, x, partners=(x,))
    with pytest.raises(StateError, match="grad='full'"):
        fewstep.run(plan, den, x.requires_grad_(), partners=(torch.zeros(1, 2),), grad="full")
    assert den.calls == 0
