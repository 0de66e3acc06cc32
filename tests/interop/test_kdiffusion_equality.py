"""k-diffusion's functions give its numbers: ``golden/kdiffusion.npz`` holds what the public package
did in each call.

Compared are the result, the levels of the network calls, every call of the callback, every question
to the noise_sampler, and the state that torch's generator is left in.
"""

import inspect
import json

import numpy as np
import pytest
from kdiffusion_cases import ARRAYS, LISTED, cases, record
from repository import ROOT

from fewstep.interop import kdiffusion

GOLDEN = ROOT / "tests" / "golden" / "kdiffusion.npz"
CASES = list(cases())
FUNCTIONS = (*LISTED, "sample_dpm_fast", "sample_dpm_adaptive")


def recorded():
    """What the package did, by the call's name; and its signatures."""
    with np.load(GOLDEN) as stored:
        facts = json.loads(str(stored["facts"]))
        flat = {name: stored[name] for name in ARRAYS}
    found, at = {}, dict.fromkeys(ARRAYS, 0)
    for entry in facts["cases"]:
        found[entry["id"]] = {"keys": entry["keys"]}
        for name in ARRAYS:
            size = int(np.prod(entry[name]))
            found[entry["id"]][name] = flat[name][at[name] : at[name] + size].reshape(entry[name])
            at[name] += size
    return found, facts["signatures"]


THEIRS, SIGNATURES = recorded()


def test_every_call_is_recorded():
    assert list(THEIRS) == [case.id for case in CASES] and len(CASES) > 300
    assert {case.function for case in CASES} == set(FUNCTIONS) == set(kdiffusion.NAMES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_theirs(name):
    parameters = inspect.signature(getattr(kdiffusion, name)).parameters.values()
    assert [[p.name, p.kind.name, repr(p.default)] for p in parameters] == SIGNATURES[name]
    # so that the signatures compare equal
    assert all(p.annotation is inspect.Parameter.empty for p in parameters)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_calls_are_theirs(name):
    """Every recorded call of the function, to 1e-9 of each array's largest number."""
    differ = []
    for case in CASES:
        if case.function != name:
            continue
        ours, theirs = record(getattr(kdiffusion, name), case), THEIRS[case.id]
        if ours["keys"] != theirs["keys"]:
            differ.append((case.id, "keys", ours["keys"], theirs["keys"]))
        for what in ARRAYS:
            a, b = ours[what], theirs[what]
            if a.shape != b.shape or not np.allclose(
                a, b, rtol=1e-9, atol=1e-9 * (1.0 + np.abs(b).max(initial=0.0))
            ):
                differ.append((case.id, what))
    assert not differ


def test_a_wrong_call_is_found():
    """The comparison sees another step, another noise and a callback more."""
    case = next(
        c for c in CASES if c.function == "sample_euler_ancestral" and c.sampler and c.options == {}
    )
    right, other = (
        THEIRS[case.id],
        record(kdiffusion.sample_euler_ancestral, case._replace(options={"eta": 0.99})),
    )
    assert np.abs(right["out"] - other["out"]).max() > 1e-4
    plain = record(kdiffusion.sample_euler_ancestral, case._replace(sampler=False))
    assert plain["after"] != right["after"]
