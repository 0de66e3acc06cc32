"""What the equations in the plane refuse, and what to give instead."""

from __future__ import annotations

import math

import pytest
import torch

from fewstep.checks import ArgumentError
from fewstep.eval.physics import (
    allen_cahn,
    helmholtz,
    kolmogorov,
    navier_stokes,
    poisson,
    reaction_diffusion,
    wave_plane,
)

WALLED = (poisson, helmholtz)
STEPPED = (navier_stokes, kolmogorov, allen_cahn, reaction_diffusion)
PERIODIC = (*STEPPED, wave_plane)


def name_of(value):
    return value.__name__.rpartition(".")[2] if hasattr(value, "__file__") else None


def refused(module, change, message):
    with pytest.raises(ArgumentError, match=message):
        module.residual(*change(*module.exact(16)))


def with_first(change):
    """A change of the first field alone."""

    def changed(fields, spacing, params):
        name = next(iter(fields))
        return {**fields, name: change(fields[name])}, spacing, params

    return changed


def with_all(change):
    """A change of every field."""
    return lambda f, s, p: ({name: change(value) for name, value in f.items()}, s, p)


@pytest.mark.parametrize("module", [*WALLED, *PERIODIC], ids=name_of)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, s, p: ({**f, "q": next(iter(f.values()))}, s, p), "unknown field 'q'"),
        (lambda f, s, p: ({}, s, p), "missing; needed"),
        (with_all(lambda u: u[0]), r"must be \(B, .*x, y\)"),
        (with_first(lambda u: u[..., 1:]), "one grid"),
        (with_first(lambda u: u[..., :5]), "at least 6 points"),
        (with_first(lambda u: u + 1j), "is complex"),
        (with_first(lambda u: u.long()), "floating point"),
        (lambda f, s, p: (f, {a: h for a, h in s.items() if a != "y"}, p), "spacing 'y' missing"),
        (lambda f, s, p: (f, {**s, "x": -1.0}, p), "must be 0.0 < spacing"),
        (lambda f, s, p: (f, {**s, "z": 1.0}, p), "unknown spacing 'z'"),
        (lambda f, s, p: (f, s, {**p, "colour": 1.0}), "unknown parameter 'colour'"),
    ],
)
def test_bad_fields_and_spacings_are_refused(module, change, message):
    refused(module, change, message)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (helmholtz, "k"),
        (navier_stokes, "nu"),
        (navier_stokes, "forcing"),
        (kolmogorov, "re"),
        (allen_cahn, "eps"),
        (reaction_diffusion, "du"),
        (reaction_diffusion, "dv"),
        (reaction_diffusion, "feed"),
        (reaction_diffusion, "kill"),
        (wave_plane, "c"),
    ],
    ids=name_of,
)
def test_parameters_that_are_missing_or_no_numbers_are_refused(module, name):
    def given(value):
        return lambda f, s, p: (f, s, {**p, name: value})

    refused(module, lambda f, s, p: (f, s, {k: v for k, v in p.items() if k != name}), "missing")
    refused(module, given("high"), "must be a number, or one number a sample; got")
    refused(module, given(torch.ones(16, 16)), "number")
    refused(module, given(math.inf), "must be finite")
    refused(module, given(torch.ones(3)), "one number a sample")
    fields, spacing, params = module.exact(16)
    start = {"f": fields["f"]} if module is helmholtz else first_state(module, fields)
    frames = None if module is helmholtz else 2
    params = {**params, **no_source(params), name: math.nan}
    with pytest.raises(ArgumentError, match="must be finite"):
        module.solve(start, spacing, params, frames=frames)


def first_state(module, fields):
    names = ("u", "u_t") if module is wave_plane else module.FIELDS
    return {name: fields[name][:, 0] for name in names}


def no_source(params):
    return {name: 0.0 for name in params if name.startswith("source")}


@pytest.mark.parametrize("module", PERIODIC, ids=name_of)
def test_fields_without_whole_periods_are_refused(module):
    ramp = torch.linspace(0, 100, 16, dtype=torch.float64)
    refused(module, with_first(lambda u: u + ramp), "not periodic in y")
    refused(module, with_first(lambda u: u + ramp[:, None]), "not periodic in x")
    # every field takes its end point twice: then all lie on one grid
    doubled = with_all(lambda u: torch.cat([u, u[..., :1]], -1))
    refused(module, lambda *a: only(module, doubled(*a)), "leave the end point out")


def only(module, problem):
    fields, spacing, params = problem
    kept = {k: v for k, v in params.items() if not k.startswith("source")}
    return {k: fields[k] for k in reversed(module.FIELDS)}, spacing, kept


@pytest.mark.parametrize("module", PERIODIC, ids=name_of)
def test_the_solvers_need_frames_and_finite_fields(module):
    fields, spacing, params = module.exact(16)
    start, params = first_state(module, fields), {**params, **no_source(params)}
    with pytest.raises(ArgumentError, match="frames= is needed"):
        module.solve(start, spacing, params)
    start = {k: v * math.nan for k, v in start.items()}
    with pytest.raises(ArgumentError, match="is not finite"):
        module.solve(start, spacing, params, frames=2)


@pytest.mark.parametrize("module", STEPPED, ids=name_of)
def test_a_number_of_steps_is_at_least_one(module):
    fields, spacing, params = module.exact(16)
    start, params = first_state(module, fields), {**params, **no_source(params)}
    with pytest.raises(ArgumentError, match="substeps"):
        module.solve(start, spacing, params, frames=2, substeps=0)


@pytest.mark.parametrize("module", WALLED, ids=name_of)
def test_frames_of_an_equation_without_time_are_refused(module):
    fields, spacing, params = module.exact(16)
    with pytest.raises(ArgumentError, match="has no time axis"):
        module.solve({"f": fields["f"]}, spacing, params, frames=2)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (navier_stokes, "nu"),
        (kolmogorov, "re"),
        (kolmogorov, "drag"),
        (reaction_diffusion, "du"),
        (reaction_diffusion, "dv"),
        (wave_plane, "c"),
    ],
    ids=name_of,
)
def test_negative_coefficients_are_refused(module, name):
    refused(module, lambda f, s, p: (f, s, {**p, name: -0.1}), "at least 0")
    if name == "re":
        refused(module, lambda f, s, p: (f, s, {**p, name: 0.0}), "must be > 0")


def test_forces_without_whole_periods_are_refused():
    refused(
        navier_stokes,
        lambda f, s, p: (f, {**s, "x": 0.1}, {**p, "forcing": 0.1}),
        "has the period 1 in x, but the torus the length 1.6",
    )
    refused(
        kolmogorov,
        lambda f, s, p: (f, {**s, "y": 1 / 16}, p),
        "has the period 1.5708 in y, but the torus the length 1",
    )
