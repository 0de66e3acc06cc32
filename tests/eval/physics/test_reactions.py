"""Allen-Cahn and Gray-Scott: manufactured solutions, laws, growth rates, and the solvers."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.eval.physics import allen_cahn, reaction_diffusion
from fewstep.eval.physics.norms import rms

BOTH = pytest.mark.parametrize(
    "module", [allen_cahn, reaction_diffusion], ids=["allen_cahn", "reaction_diffusion"]
)
K = 2.0 * math.pi


def unit(n, dt):
    return {"t": dt, "x": 1.0 / n, "y": 1.0 / n}


def without_rates(module, problem):
    fields = {name: problem.fields[name] for name in module.FIELDS}
    return fields, problem.spacing, problem.params


def drift(module, problem):
    (values,) = module.conserved(*problem).values()
    return float((values - values[:, :1]).abs().max())


@BOTH
def test_the_spatial_part_is_exact(module):
    assert module.order == "spectral"
    for n in (16, 32):
        assert module.residual(*module.exact(n)).abs().max() < 1e-12


@BOTH
def test_differences_in_time_have_order_four(module):
    errors = [rms(module.residual(*without_rates(module, module.exact(n)))).max() for n in (32, 64)]
    assert abs(math.log2(errors[0] / errors[1]) - 4.0) < 0.2


def test_both_parts_of_the_reaction_are_returned():
    problem = reaction_diffusion.exact(16)
    assert reaction_diffusion.residual(*problem).shape == (1, 2, 17, 16, 16)
    fields, spacing, params = problem
    lacking = {k: v for k, v in params.items() if k != "source_v"}
    found = reaction_diffusion.residual(fields, spacing, lacking)
    assert found[:, 0].abs().max() < 1e-12
    torch.testing.assert_close(found[:, 1], params["source_v"], rtol=0, atol=1e-12)


@BOTH
def test_the_solver_has_order_four_and_solves_the_equation(module):
    fields, spacing, params = module.draw(2, 16, frames=6)
    start = {name: fields[name][:, 0] for name in module.FIELDS}
    spacing = {**spacing, "t": 40 * spacing["t"]}

    def end(substeps):
        found = module.solve(start, spacing, params, frames=2, substeps=substeps)
        return torch.stack([found[name][:, -1] for name in module.FIELDS], 1)

    fine = end(640)
    errors = [rms(end(s) - fine) / rms(fine) for s in (80, 160)]
    assert ((errors[0] / errors[1]).log2() - 4.0).abs().max() < 0.2
    assert (rms(end(None) - fine) / rms(fine)).max() < 2e-5
    problem = module.draw(1, 16, frames=12)
    assert rms(module.residual(*problem)) < 2e-4 * module.scale(*problem)


@BOTH
def test_a_sample_depends_on_its_own_seed_only(module):
    two, one = module.draw(2, 8, seed=3, frames=6), module.draw(1, 8, seed=4, frames=6)
    for name in module.FIELDS:
        torch.testing.assert_close(two.fields[name][1:], one.fields[name], rtol=0, atol=1e-14)
        assert two.fields[name].shape == (2, 6, 8, 8)
    assert module.boundary_error(*two).tolist() == [0.0, 0.0]


def test_an_even_state_follows_the_logistic_law():
    u0 = torch.tensor([0.1, -0.5, 1.5], dtype=torch.float64)
    start = {"u": u0[:, None, None].expand(3, 8, 8)}
    found = allen_cahn.solve(start, unit(8, 0.25), {"eps": 0.1}, frames=9)["u"]
    t = 0.25 * torch.arange(9).double()
    wanted = u0[:, None] / (u0[:, None] ** 2 + (1 - u0[:, None] ** 2) * torch.exp(-2 * t)).sqrt()
    torch.testing.assert_close(found, wanted[..., None, None].expand(3, 9, 8, 8), rtol=3e-6, atol=0)


def test_modes_of_the_phase_minus_one_decay_with_the_eps_of_their_sample():
    x = torch.arange(8).double() / 8
    mode = torch.cos(K * x)[:, None] * torch.cos(K * x)
    eps = torch.tensor([0.05, 0.2], dtype=torch.float64)
    start = {"u": (-1.0 + 1e-7 * mode).expand(2, 8, 8)}
    found = allen_cahn.solve(start, unit(8, 0.5), {"eps": eps}, frames=2, substeps=40)
    u = found["u"][:, -1]
    size = ((u + 1.0) * mode).mean((1, 2)) / mode.square().mean()
    rate = (size / 1e-7).log() / 0.5
    torch.testing.assert_close(rate, -2.0 - 2.0 * K**2 * eps**2, rtol=1e-5, atol=0)


def test_free_energy_falls_and_fields_keep_to_the_phases():
    problem = allen_cahn.draw(2, 32, frames=121)
    energy = allen_cahn.free_energy(*problem)
    assert energy.shape == (2, 121)
    assert energy.diff(dim=1).max() < 1e-13
    assert (energy[:, 0] > 0.2).all()
    assert (energy[:, -1] < 0.15).all()
    assert allen_cahn.excess(*problem).max() == 0.0
    doubled = {"u": 1.5 * problem.fields["u"] / problem.fields["u"].abs().max()}
    torch.testing.assert_close(
        allen_cahn.excess(doubled, problem.spacing, problem.params).max(),
        torch.tensor(0.5, dtype=torch.float64),
    )
    assert drift(allen_cahn, problem) < 1e-4


def test_free_energy_of_a_wave():
    # u = a cos(kx): <|grad u|^2> = a^2 k^2 / 2, <u^2> = a^2 / 2, <u^4> = 3 a^4 / 8
    u = 0.8 * torch.cos(K * torch.arange(8).double() / 8)[:, None].expand(1, 6, 8, 8)
    found = allen_cahn.free_energy({"u": u}, unit(8, 0.1), {"eps": 0.3})
    wanted = 0.3**2 * 0.64 * K**2 / 4 + (3 * 0.8**4 / 8 - 0.64 + 1) / 4
    torch.testing.assert_close(found, torch.full((1, 6), wanted, dtype=torch.float64))


def test_the_balance_of_the_free_energy_converges_at_order_four():
    sizes = [drift(allen_cahn, allen_cahn.exact(n)) for n in (16, 64)]
    assert abs(math.log2(sizes[0] / sizes[1]) / 2 - 4.0) < 0.2, sizes


def steady(feed, kill):
    """The steady state with more v: ``u v = feed + kill``, ``feed (1 - u) = (feed + kill) v``."""
    v = (1 + math.sqrt(1 - 4 * (feed + kill) ** 2 / feed)) * feed / (2 * (feed + kill))
    return (feed + kill) / v, v


def test_an_even_steady_state_stays():
    params = {"du": 2e-5, "dv": 1e-5, "feed": 0.04, "kill": 0.05}
    u, v = steady(0.04, 0.05)
    even = torch.ones(1, 8, 8, dtype=torch.float64)
    start = {"u": u * even, "v": v * even}
    found = reaction_diffusion.solve(start, unit(8, 2.0), params, frames=11)
    assert (found["u"] - u).abs().max() < 1e-13
    assert (found["v"] - v).abs().max() < 1e-13
    assert reaction_diffusion.residual(found, unit(8, 2.0), params).abs().max() < 1e-13


def test_a_mode_grows_by_the_eigenvalues_of_the_jacobian():
    u, v = steady(0.04, 0.05)
    du = torch.tensor([1e-3, 4e-3], dtype=torch.float64)
    params = {"du": du, "dv": 1e-4, "feed": 0.04, "kill": 0.05}
    wave = torch.cos(K * torch.arange(8).double() / 8)[:, None].expand(8, 8)
    jacobian = torch.tensor(
        [[-(v**2) - 0.04, -2 * u * v], [v**2, 2 * u * v - 0.09]], dtype=torch.float64
    )
    for i in range(2):
        matrix = jacobian - K**2 * torch.diag(torch.stack([du[i], du.new_tensor(1e-4)]))
        push = 1e-7 * torch.tensor([1.0, 0.3], dtype=torch.float64)
        start = {
            "u": (u + push[0] * wave).expand(2, 8, 8),
            "v": (v + push[1] * wave).expand(2, 8, 8),
        }
        found = reaction_diffusion.solve(start, unit(8, 5.0), params, frames=2)
        wanted = torch.linalg.matrix_exp(5.0 * matrix) @ push
        for name, at_rest, size in (("u", u, wanted[0]), ("v", v, wanted[1])):
            torch.testing.assert_close(
                found[name][i, -1] - at_rest, size * wave, rtol=0, atol=1e-5 * 1e-7
            )


def test_the_mass_that_was_supplied_balances():
    problem = reaction_diffusion.draw(2, 16, frames=21)
    mass = (problem.fields["u"] + problem.fields["v"]).mean((2, 3))
    assert (mass - mass[:, :1]).abs().max() > 1e-2
    assert drift(reaction_diffusion, problem) < 1e-6
    assert drift(reaction_diffusion, reaction_diffusion.exact(16)) < 1e-12
