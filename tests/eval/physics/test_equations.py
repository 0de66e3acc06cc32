"""What every equation offers, and what those of a line share: the order of the residual, draws,
parameters of each sample, and what they refuse."""

from __future__ import annotations

import ast
import inspect
import math

import pytest
import torch

from fewstep.checks import ArgumentError, UnknownName
from fewstep.eval import physics
from fewstep.eval.physics import EQUATIONS, equation_named

#: spectral in x, differences of order 4 in t: two sizes at which the latter show
LINES = {
    "burgers": (48, 96),
    "ginzburg_landau": (16, 32),
    "heat": (16, 32),
    "kuramoto_sivashinsky": (16, 32),
    "nls": (384, 768),
    "wave": (64, 128),
}
#: those with parameters to tell samples apart
OF_SAMPLES = {
    "burgers": {"nu": (0.02, 0.05)},
    "ginzburg_landau": {"b": (0.5, -1.0), "c": (-1.5, 2.0)},
    "heat": {"kappa": (0.1, 0.5)},
    "nls": {"g": (1.0, -0.5)},
    "porous_medium": {"m": (2.0, 3.0)},
    "wave": {"c": (0.7, 1.4)},
}


def rms(value):
    return float(value.abs().square().mean().sqrt())


def without_rates(name, problem):
    module = equation_named(name)
    fields = {field: problem.fields[field] for field in module.FIELDS}
    return fields, problem.spacing, problem.params


def start(name, n):
    """The first state of the exact solution, (B, space), of a line's equation."""
    problem = equation_named(name).exact(n)
    needed = ("u", "u_t") if name == "wave" else equation_named(name).FIELDS
    return {field: problem.fields[field][:, 0] for field in needed}, problem


def test_an_equation_by_name():
    assert equation_named("heat") is physics.heat
    with pytest.raises(UnknownName, match="did you mean 'heat'"):
        equation_named("heta")


def test_the_type_checker_compares_every_module_with_the_interface():
    tree = ast.parse(inspect.getsource(physics))
    tuples = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_SATISFY"
    ]
    assert [ast.unparse(part) for part in tuples[0].elts] == list(EQUATIONS)


@pytest.mark.parametrize("name", LINES)
def test_the_spatial_part_is_exact_and_differences_in_time_have_order_four(name):
    module, errors = equation_named(name), []
    assert module.order == "spectral"
    for n in LINES[name]:
        problem = module.exact(n)
        errors.append(rms(module.residual(*without_rates(name, problem))))
    assert rms(module.residual(*problem)) < 1e-10
    slope = math.log2(errors[0] / errors[1])
    assert abs(slope - 4.0) < 0.2, (slope, errors)


@pytest.mark.parametrize("name", LINES)
def test_scale_is_that_of_the_rate(name):
    problem = equation_named(name).exact(16)
    field = equation_named(name).FIELDS[0]
    rate = problem.fields[f"{field}_tt" if name == "wave" else f"{field}_t"]
    wanted = rate.abs().square().mean((1, 2)).sqrt()
    torch.testing.assert_close(equation_named(name).scale(*problem), wanted)


@pytest.mark.parametrize("name", LINES)
def test_a_line_has_no_walls(name):
    problem = equation_named(name).exact(16)
    found = equation_named(name).boundary_error(*problem)
    assert torch.equal(found, torch.zeros(len(found), dtype=torch.float64))


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_each_sample_has_its_own_parameters(name):
    module = equation_named(name)
    fields, problem = start(name, 16)
    fields = {field: value[:1] for field, value in fields.items()}
    extra = {"t0": 0.2} if name == "porous_medium" else {}
    values = [{key: value[i] for key, value in OF_SAMPLES[name].items()} for i in range(2)]
    alone = [module.solve(fields, problem.spacing, {**extra, **one}, frames=6) for one in values]
    both = {key: torch.tensor(value) for key, value in OF_SAMPLES[name].items()}
    doubled = {field: value.expand(2, -1) for field, value in fields.items()}
    found = module.solve(doubled, problem.spacing, {**extra, **both}, frames=6)
    for field, value in found.items():
        wanted = torch.cat([one[field] for one in alone])
        assert rms(wanted[0] - wanted[1]) > 1e-3 * rms(wanted)
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-8)
    residuals = [
        module.residual(one, problem.spacing, {**extra, **p})
        for one, p in zip(alone, values, strict=True)
    ]
    both_at_once = module.residual(found, problem.spacing, {**extra, **both})
    torch.testing.assert_close(both_at_once, torch.cat(residuals), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*LINES, "porous_medium"])
def test_a_draw_depends_on_its_own_seed_only(name):
    module = equation_named(name)
    both, one = module.draw(2, 12, seed=5), module.draw(1, 12, seed=6)
    for field, value in both.fields.items():
        assert value.shape == (2, 12, 12)
        torch.testing.assert_close(value[1:], one.fields[field], rtol=1e-10, atol=1e-12)
        assert rms(value[0] - value[1]) > 1e-2 * rms(value)
    assert set(both.fields) <= {*module.FIELDS, *module.OPTIONAL}
    assert torch.isfinite(module.residual(*both)).all()


@pytest.mark.parametrize("name", EQUATIONS)
def test_the_residual_is_differentiable_in_every_field(name):
    """The gradient of its square against a central difference along a smooth direction."""
    module = equation_named(name)
    given, spacing, params = module.exact(16)

    def loss(fields):
        return module.residual(fields, spacing, params).abs().square().sum()

    fields = {key: (1.1 + 0.2 * i) * given[key] for i, key in enumerate(given)}
    leaves = {key: value.clone().requires_grad_() for key, value in fields.items()}
    found = torch.autograd.grad(loss(leaves), list(leaves.values()), allow_unused=True)
    for key, slope in zip(fields, found, strict=True):
        if slope is None:  # a rate that a later one takes the place of
            assert (key, "u_tt" in fields) == ("u_t", True)
            continue
        along, h = fields[key] + fields[key].roll(1, -1), 1e-6
        ends = [loss({**fields, key: fields[key] + sign * h * along}) for sign in (1, -1)]
        wanted = float((ends[0] - ends[1]) / (2 * h))
        slope_along = float((slope.conj() * along).real.sum())
        assert abs(slope_along - wanted) < 1e-5 * abs(wanted), (key, slope_along, wanted)


BAD = {
    "a field that is not known": (lambda f, s, p: ({"q": 0, **f}, s, p), "unknown field 'q'"),
    "no fields": (lambda f, s, p: ({}, s, p), "missing"),
    "fields of no batch": (lambda f, s, p: ({k: v[0] for k, v in f.items()}, s, p), "must be"),
    "no spacing": (lambda f, s, p: (f, {}, p), "spacing .*'x'.* missing"),
    "spacing zero": (lambda f, s, p: (f, {**s, "x": 0.0}, p), "spacing.*must be"),
    "an unknown parameter": (lambda f, s, p: (f, s, {**p, "zeta": 1.0}), "parameter 'zeta'"),
}


@pytest.mark.parametrize("name", EQUATIONS)
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(name, case):
    change, message = BAD[case]
    module = equation_named(name)
    with pytest.raises(ArgumentError, match=message):
        module.residual(*change(*module.exact(16)))


@pytest.mark.parametrize("name", EQUATIONS)
def test_parameters_without_default_are_asked_for(name):
    module = equation_named(name)
    fields, spacing, _ = module.exact(16)
    asked = [key for key, default in module.PARAMS.items() if str(default) == "REQUIRED"]
    if asked:
        with pytest.raises(ArgumentError, match=f"'{asked[0]}'.* missing"):
            module.residual(fields, spacing, {})
    else:
        assert set(module.exact(16).params) <= set(module.PARAMS)


@pytest.mark.parametrize("name", LINES)
def test_what_is_not_periodic_is_refused(name):
    module = equation_named(name)
    fields, spacing, params = module.exact(16)
    ramp = torch.linspace(0, 1, 16).expand_as(fields[module.FIELDS[0]].real)
    with pytest.raises(ArgumentError, match="not periodic in x"):
        module.residual({module.FIELDS[0]: ramp}, spacing, params)
    with pytest.raises(ArgumentError, match="frames= is needed"):
        module.solve(
            start(name, 16)[0], spacing, {**params, "source": 0.0} if "source" in params else params
        )


@pytest.mark.parametrize(
    "name", ["burgers", "heat", "kuramoto_sivashinsky", "wave", "porous_medium"]
)
def test_complex_values_of_real_fields_are_refused(name):
    fields, spacing, params = equation_named(name).exact(16)
    with pytest.raises(ArgumentError, match="'u' is complex"):
        equation_named(name).residual({"u": fields["u"] + 0j}, spacing, params)
