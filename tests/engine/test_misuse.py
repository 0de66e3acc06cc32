"""Calls that cannot be right end with a sentence of ours that names what is wrong, never with an
error of Python, torch or numpy."""

import math
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import fewstep
from fewstep.checks import FewstepError

S, M, E, P, F = fewstep.schedules, fewstep.models, fewstep.eval, fewstep.plans, fewstep.fused
VP = S.VPLinear()
MODEL = M.GaussianMixture([[0.5, -0.3], [1.0, 1.0]], [0.5, 0.7], [0.5, 0.5], VP)
GRID = fewstep.grid("karras", VP, 3)
PLAN, NOISY = fewstep.plan("ddim", VP, steps=2), fewstep.plan("dpmpp_2m_sde", VP, steps=2)
WRONG = {
    "None": None, "True": True, "nan": math.nan, "inf": math.inf, "-1": -1, "huge": 10**400, "text": "zzz", "path": Path("no/such"),
    "list": [], "dict": {}, "object": object(), "class": int, "complex": 1j, "nested": [[1.0], [2.0, 3.0]], "None inside": [None],
    "array": np.ones((2, 2)), "numbers": np.array([1.0, 2.0]), "texts": np.array(["a"]), "number": np.float32(0.5), "half": Fraction(1, 2),
    "0-d": torch.tensor(1.0), "empty": torch.zeros(0, 2), "integers": torch.ones(2, 2, dtype=torch.int64), "bools": torch.ones(2, 2) > 0,
    "complex tensor": torch.ones(2, 2, dtype=torch.complex64), "meta": torch.ones(2, 2, device="meta"), "sparse": torch.eye(2).to_sparse(),
    "three": torch.ones(3, 5), "NaNs": torch.full((2, 2), math.nan),
}  # fmt: skip


def state():
    return torch.linspace(-1.0, 1.0, 4).reshape(2, 2)


def features(shift=0.0):
    return torch.sin(torch.arange(24.0, dtype=torch.float64) + shift).reshape(12, 2)


def runs(**given):
    return lambda value: fewstep.sample(
        MODEL, **{"steps": 2, "n": 2} | {k: value if v is ... else v for k, v in given.items()}
    )


DOORS = {
    "sample denoiser": lambda v: fewstep.sample(v, steps=2),
    "sample x": runs(x=..., n=None),
    "sample init": runs(init=..., start=0.5, n=None),
    "sample info": runs(info=...),
    "sample cond": runs(cond=...),
    "sample noise": runs(sampler="dpmpp_2m_sde", noise=...),
    "sample shape": lambda v: fewstep.sample(M.wrap(lambda x, t: x, VP, "eps"), steps=1, shape=v),
    "callback": lambda v: fewstep.sample(MODEL, steps=2, n=2, callback=lambda step: v),
    "callback of a driver": lambda v: fewstep.sample(
        MODEL, "picard", steps=2, n=2, callback=lambda step: v
    ),
    "noise function": lambda v: fewstep.sample(
        MODEL, "dpmpp_2m_sde", steps=2, n=2, noise=lambda key, like: v
    ),
    "noise of a driver": lambda v: fewstep.sample(
        MODEL, "pc", steps=2, n=2, noise=lambda key, like: v
    ),
    "network": lambda v: fewstep.sample(
        M.wrap(lambda x, t: v, VP, "eps", shape=(2,)), steps=2, n=2
    ),
    "run plan": lambda v: fewstep.run(v, MODEL, state()),
    "run denoiser": lambda v: fewstep.run(PLAN, v, state()),
    "run noise": lambda v: fewstep.run(NOISY, MODEL, state(), noise=v),
    "run check": lambda v: fewstep.run(PLAN, MODEL, state(), check=v),
    "plan schedule": lambda v: fewstep.plan("ddim", v, steps=2),
    "invert x0": lambda v: fewstep.invert(MODEL, v, steps=2),
    "log_prob prior": lambda v: fewstep.log_prob(MODEL, state(), steps=1, prior=lambda x: v),
    "bits_per_dim nats": lambda v: fewstep.engine.bits_per_dim(v, 2),
    "grid name": lambda v: fewstep.grid(v, VP, 3),
    "grid schedule": lambda v: fewstep.grid("karras", v, 3),
    "grid times": lambda v: fewstep.grid(None, VP, times=v),
    "grid tail": GRID.tail,
    "from_betas": S.DiscreteVP.from_betas,
    "from_config": S.from_config,
    "VPCosine.lam": S.VPCosine().lam,
    "VPSigmoid.alpha": S.VPSigmoid().alpha,
    "t_of_rho": VP.t_of_rho,
    "time_at_rho": VP.time_at_rho,
    "shifted": lambda v: VP.shifted(0.5, v),
    "convert": lambda v: S.convert("eps", "x0", v),
    "mixture means": lambda v: M.GaussianMixture(v, 1.0, [1.0], VP),
    "mixture x": lambda v: MODEL(v, 0.5),
    "mixture t": lambda v: MODEL(state(), v),
    "empirical data": lambda v: M.Empirical(v, VP),
    "Cursor denoiser": lambda v: P.Cursor(PLAN, v, state()),
    "Cursor step": lambda v: P.Cursor(PLAN, MODEL, state()).step(v),
    "Cursor replace": lambda v: P.Cursor(PLAN, MODEL, state()).replace(v),
    "builder node": lambda v: P.PlanBuilder(GRID).start(v),
    "builder value": lambda v: P.PlanBuilder(GRID).at(GRID[0], v),
    "describe": fewstep.samplers.describe,
    "samplers.build options": lambda v: fewstep.samplers.build("ddim", GRID, v),
    "normals shape": lambda v: F.normals([1], v, stream=0, draw=0),
    "normals draw": lambda v: F.normals([1], (2,), stream=0, draw=v),
    "brownian tol": lambda v: F.BrownianPath((1, 2), 0.0, 1.0, v),
    "linear inputs": lambda v: F.linear_combination([v], [1.0], torch.float32),
    "frechet a": lambda v: E.frechet_distance(v, features()),
    "frechet strict": lambda v: E.frechet_distance(features(), features(1.0), strict=v),
    "kernel subsets": lambda v: E.kernel_distance(
        features(), features(1.0), subsets=v, subset_size=4
    ),
    "kernel seed": lambda v: E.kernel_distance(
        features(), features(1.0), subsets=2, subset_size=4, seed=v
    ),
    "cmmd sigma": lambda v: E.cmmd(features(), features(1.0), sigma=v),
    "mmd bandwidths": lambda v: E.mmd(features(), features(1.0), bandwidths=v),
    "sliced order": lambda v: E.sliced_wasserstein(
        features(), features(1.0), directions=4, order=v
    ),
    "interval level": lambda v: E.frechet_interval(features(), features(1.0), resamples=2, level=v),
    "psnr a": lambda v: E.psnr(v, torch.zeros(2, 2), data_range=1.0),
    "psnr range": lambda v: E.psnr(torch.zeros(2, 2), torch.ones(2, 2), data_range=v),
    "moments count": lambda v: E.FeatureStats.from_moments([0.0], [[1.0]], v),
    "stats path": E.load_stats,
}


@pytest.mark.parametrize("door", DOORS)
def test_wrong_values_are_refused_in_words(door):
    """Each wrong value gives a result or a FewstepError, and at least half of them an error."""
    refused = 0
    for name, value in WRONG.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy's, where an array leaves a path's range
                DOORS[door](value)
        except FewstepError as error:
            refused += isinstance(error, (ValueError, ArithmeticError)) and bool(str(error))
        except Exception as error:
            raise AssertionError(f"{door} of {name}: {type(error).__name__}: {error}") from error
    assert 2 * refused >= len(WRONG), refused


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (
            lambda: fewstep.sample(MODEL, steps=2, n=2, callback=lambda step: 3),
            "callback returns.*int 3",
        ),
        (
            lambda: fewstep.sample(MODEL, "dpmpp_2m_sde", steps=2, n=2, noise=lambda key, like: 3),
            "returned int 3 for key 0",
        ),
        (lambda: fewstep.sample(None, steps=2), "denoiser=None"),
        (lambda: fewstep.grid("karras", None, 3), "schedule=None"),
        (lambda: S.VPSigmoid().alpha(2.0), r"alpha\(2.0\) has no value.*0.0 to 0.9999"),
        (
            lambda: E.kernel_distance(features(), features(), subsets=10**12, subset_size=4),
            "subsets=1000000000000",
        ),
    ],
)
def test_what_is_wrong_is_named(call, named):
    with pytest.raises(FewstepError, match=named):
        call()


def test_a_nan_in_the_state_stops_the_run():
    with pytest.raises(ArithmeticError, match=r"samples \[0, 1\]"):
        fewstep.sample(MODEL, steps=2, x=torch.full((2, 2), math.nan))
