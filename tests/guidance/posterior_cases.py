"""Every method of ``solve`` with a likelihood and options that it takes, for tests over the
registry."""

from __future__ import annotations

from typing import Any

import torch
from methods import SHAPE, images
from posteriors import NOISE, SIGMA, A, GaussianPrior, Y
from problems import F64

from fewstep import guidance as G
from fewstep.guidance.posterior import registry
from fewstep.schedules import DiscreteVP, Flow, Schedule, VPLinear

#: options of methods that do not run without, or that are made short here
OPTIONS: dict[str, dict[str, Any]] = {
    "prior_covariance": {"covariance": SIGMA},
    "d_flow": {"iterations": 2, "line_search": False},
}
#: paths that begin without signal, with a kind of prediction that determines x0 there
ZERO: dict[str, tuple[Schedule, str]] = {
    "flow": (Flow(), "velocity"),
    "zero snr": (
        DiscreteVP.from_alphas_cumprod(torch.linspace(0.999, 0.0, 20, dtype=F64)),
        "v",
    ),
}


def options_of(name: str, den: Any) -> dict[str, Any]:
    """The options of the method ``name`` for the model ``den``."""
    if name == "joint":
        noise = GaussianPrior(den.schedule, den.prediction, Y, torch.eye(3, dtype=F64))
        return {"noise": noise}
    return OPTIONS.get(name, {})


def names(form: str | None = None) -> list[str]:
    """The methods, those of one form."""
    return [name for name in G.methods() if form in (None, registry.get(name).form)]


def likelihood(name: str, operator: Any = A, y: Any = Y) -> Any:
    """One for the method ``name``."""
    if "noiseless" in registry.get(name).needs:
        return G.Constraint(operator, y)
    return G.Gaussian(operator, y, NOISE)


def made(name: str, den: Any, **more: Any) -> Any:
    """The method around ``den``."""
    return registry.get(name).make(den, likelihood(name), **{**options_of(name, den), **more})


def pictures(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """An exact model of small images, whose rows do not depend on the batch, a mask on them, and
    the options of the method."""
    den = images(VPLinear())
    keep = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) < 0.5
    operator = G.operators.Inpaint(keep)
    y = operator.zero_filled(0.3 * torch.ones(1, *SHAPE, dtype=F64))[0]
    options = dict(OPTIONS.get(name, {}))
    if name == "prior_covariance":
        options["covariance"] = 0.5 * torch.ones(SHAPE, dtype=F64)
    if name == "joint":
        options["noise"] = images(VPLinear())
    return den, likelihood(name, operator, y), options
