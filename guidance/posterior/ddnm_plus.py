"""DDNM+: DDNM for noisy measurements."""

from __future__ import annotations

from .registry import OWN, register
from .spectral import Spectral


@register(
    "ddnm_plus",
    source="Wang et al. 2022, arXiv 2212.00490, equation 17 and appendix",
    form="plan",
    needs=("svd", "linear"),
    exact="means of Gaussian data with sharp measurements, nearly",
    sampler=OWN,
)
class DDNMPlus(Spectral):
    """DDNM for noisy measurements: each direction of the SVD takes as much of the measurement as
    leaves the noise of the state at its level.

        D' = D - V diag(l) V^T A^+ (A D - y),   x_t = alpha_t D' + noise
        l = S sigma_t sqrt(1 - eta^2) / (alpha_t sigma_y),  noise eta sigma_t xi
                                                      where sigma_t < alpha_t sigma_y / S
        l = 1,  noise sqrt(sigma_t^2 - (alpha_t sigma_y / S)^2) xi                  elsewhere
        l = 0,  noise sigma_t (eta xi + sqrt(1 - eta^2) eps)                    where S = 0

    (Wang, Yu & Zhang 2022, arXiv 2212.00490, equation 17 and its general form.) An exact constraint
    is kept exactly. For Gaussian data and sharp measurements (S times the spread of the data far
    above sigma_y) the mean is near that of the posterior, and the covariance about 30 % too small
    for any number of steps; in directions that are measured weakly, many steps draw the samples to
    the measurement, noise included. A plan of its own, one call a step; cost of a step: 1
    network call, 3 products with V^T and 2 with V and U^T.
    """
