"""Discrete diffusion: sequences of tokens on masked and uniform paths, with samplers of their own.

den = discrete.wrap(network, discrete.Masked("linear"), vocabulary=50257, length=128)
x = fewstep.sample(den, sampler="ancestral", steps=64, n=4, seed=0)      # tokens (4, 128)

Names are imported at first use; the samplers, which register themselves, at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...samplers.families import import_all
from . import steps

__all__ = [
    "BaseDiscrete",
    "Cosine",
    "DiscreteCursor",
    "DiscreteDenoiser",
    "DiscretePath",
    "DiscreteTransition",
    "Geometric",
    "Given",
    "IndependentTokens",
    "Linear",
    "MarkovTokens",
    "Masked",
    "Method",
    "NoLogProbError",
    "NoOptions",
    "Now",
    "OrderedTransition",
    "Polynomial",
    "Survival",
    "TableTokens",
    "TokenError",
    "TokenReward",
    "TokenSampler",
    "TokenSamplerError",
    "TokenStep",
    "Uniform",
    "complete",
    "describe",
    "get",
    "load",
    "make_options",
    "method",
    "names",
    "path_log_prob",
    "register",
    "run_tokens",
    "wrap",
    "x0_probs",
]

import_all(steps)

if TYPE_CHECKING:
    from .cursor import DiscreteCursor, Method, TokenStep, method, path_log_prob, run_tokens
    from .denoiser import BaseDiscrete, DiscreteDenoiser, TokenError, complete, x0_probs
    from .exact import IndependentTokens, MarkovTokens, TableTokens
    from .masked import Masked
    from .network import wrap
    from .path import DiscretePath
    from .population import TokenReward
    from .pretrained import load
    from .registry import (
        NoOptions,
        Now,
        TokenSampler,
        TokenSamplerError,
        describe,
        get,
        make_options,
        names,
        register,
    )
    from .survival import Cosine, Geometric, Given, Linear, Polynomial, Survival
    from .transition import DiscreteTransition, NoLogProbError, OrderedTransition
    from .uniform import Uniform
else:
    from ...checks.late_names import late_names

    __getattr__ = late_names(
        __name__,
        {
            **dict.fromkeys(
                ("DiscreteCursor", "Method", "TokenStep", "method", "path_log_prob", "run_tokens"),
                ".cursor",
            ),
            **dict.fromkeys(
                ("BaseDiscrete", "DiscreteDenoiser", "TokenError", "complete", "x0_probs"),
                ".denoiser",
            ),
            **dict.fromkeys(("IndependentTokens", "MarkovTokens", "TableTokens"), ".exact"),
            "Masked": ".masked",
            "wrap": ".network",
            "DiscretePath": ".path",
            "TokenReward": ".population",
            "load": ".pretrained",
            **dict.fromkeys(
                (
                    "NoOptions",
                    "Now",
                    "TokenSampler",
                    "TokenSamplerError",
                    "describe",
                    "get",
                    "make_options",
                    "names",
                    "register",
                ),
                ".registry",
            ),
            **dict.fromkeys(
                ("Cosine", "Geometric", "Given", "Linear", "Polynomial", "Survival"), ".survival"
            ),
            **dict.fromkeys(
                ("DiscreteTransition", "NoLogProbError", "OrderedTransition"), ".transition"
            ),
            "Uniform": ".uniform",
        },
    )
