"""Problems and cases for the methods that do not differentiate the model."""

from __future__ import annotations

from typing import Any

import torch
from posteriors import TRUTH, D, GaussianPrior, errors, posterior
from problems import F64
from torch import Tensor

import fewstep.guidance as G
from fewstep.schedules import Schedule, VPLinear

#: the first half of the coordinates is observed
MASK = torch.tensor([1, 1, 1, 0, 0, 0])
#: circular blur with the weights 0.2, 0.6, 0.2
BLUR = 0.6 * torch.eye(D, dtype=F64) + 0.2 * (
    torch.eye(D, dtype=F64).roll(1, 0) + torch.eye(D, dtype=F64).roll(-1, 0)
)
NOISE = 0.1
#: two coordinates with correlation 0.9
PAIR = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=F64)
#: name -> (options of a quick run, "exact" or "noisy": the likelihoods that it takes)
METHODS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "score_sde": ({}, ("exact",)),
    "ilvr": ({"stop": 0.6}, ("exact",)),
    "repaint": ({"length": 1, "repeats": 2}, ("exact",)),
    "ddnm": ({"repeats": 2}, ("exact",)),
    "ddnm_plus": ({}, ("exact", "noisy")),
    "ddrm": ({"eta_b": 0.8}, ("exact", "noisy")),
    "diffpir": ({}, ("noisy",)),
    "dds": ({"iterations": 2}, ("exact", "noisy")),
    "red_diff": ({}, ("exact", "noisy")),
    "daps": ({"calls": 3}, ("noisy",)),
    "pnp_dm": ({"calls": 3, "stay": 1}, ("noisy",)),
    "mpgd": ({"share": 0.5}, ("exact", "noisy")),
}


def prior(schedule: Schedule | None = None, prediction: str = "eps") -> GaussianPrior:
    return GaussianPrior(VPLinear() if schedule is None else schedule, prediction)


def masked(noise: float = 0.0, batch: int = 0) -> Any:
    """The observed half of the truth; ``batch``: one measurement for each sample."""
    y = MASK * (TRUTH + (noise * _noise() if noise else 0.0))
    y = y + torch.arange(batch).double()[:, None] * MASK if batch else y
    operator = G.operators.Inpaint(MASK)
    return G.Gaussian(operator, y, noise) if noise else G.Constraint(operator, y)


def blurred(noise: float = NOISE) -> Any:
    y = BLUR @ TRUTH + noise * _noise()
    operator = G.operators.Matrix(BLUR)
    return G.Gaussian(operator, y, noise) if noise else G.Constraint(operator, y)


def _noise() -> Tensor:
    return torch.randn(D, generator=torch.Generator().manual_seed(11), dtype=F64)


def law(likelihood: Any) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the posterior."""
    noise, y = likelihood.sigma_y, likelihood.y
    if isinstance(likelihood.operator, G.operators.Matrix):
        return posterior(likelihood.operator.matrix, y, noise)
    return posterior(torch.eye(D, dtype=F64)[:3], y[:3], noise)


def measured(
    likelihood: Any,
    method: str,
    steps: int | None,
    hidden: bool = False,
    n: int = 2000,
    schedule: Schedule | None = None,
    **options: Any,
) -> tuple[float, float, float]:
    """e_m, e_C and q of n samples, of the coordinates 3 to 5 where ``hidden``; the cost is
    checked."""
    if schedule is None:
        options = {"grid": "uniform", **options}
    elif steps is not None:
        options = {"grid": "karras", **options}
    x, info = G.solve(
        prior(schedule, "x0" if schedule else "eps"), likelihood, method, steps=steps, n=n,
        dtype=F64, info=True, **options,
    )  # fmt: skip
    assert info.counts == info.predicted
    part = slice(3, 6) if hidden else slice(None)
    mean, cov = law(likelihood)
    return errors(x[:, part].mean(0), torch.cov(x[:, part].T), (mean[part], cov[part, part]))


def pair(schedule: Schedule | None = None) -> GaussianPrior:
    """The model of two correlated coordinates."""
    return GaussianPrior(schedule or VPLinear(), "eps", torch.zeros(2, dtype=F64), PAIR)
