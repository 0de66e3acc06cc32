"""Calls of k-diffusion's functions, and what is recorded of a call: by
``golden/extract_kdiffusion.py`` of the public package, by ``test_kdiffusion_equality`` of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

F64 = torch.float64
X = 14.6 * torch.tensor([[0.3, -1.2, 0.7], [1.6, 0.1, -0.4]], dtype=F64)
LEVELS = {
    "to zero": (14.6, 9.0, 4.5, 1.3, 0.2, 0.0),
    "above zero": (14.6, 6.0, 2.0, 0.5),
    "uneven": (14.0, 13.9, 2.0, 1.99, 0.4, 0.0),
    "two": (14.6, 5.0),
    "three": (14.6, 3.0, 0.0),
    "one": (14.6,),
    "long": (14.6, 11.0, 8.0, 5.5, 3.6, 2.2, 1.3, 0.7, 0.3, 0.1, 0.0),
}
#: sigma_min and sigma_max of the functions of a range; the end of ``near`` is 5e-6 in log sigma
#: behind a first step of 0.05
RANGES = {
    "range": (0.03, 14.6),
    "rising": (14.6, 0.03),
    "near": (14.6 * math.exp(-0.050005), 14.6),
    "equal": (2.0, 2.0),
}
CHURN: tuple[dict[str, Any], ...] = (
    {},
    {"s_churn": 2.0},
    {"s_churn": 40.0, "s_noise": 1.1},
    {"s_churn": 3.0, "s_tmin": 0.5, "s_tmax": 9.0},
    {"s_churn": 3.0, "s_tmin": 5.0, "s_tmax": 1.0},
    {"s_churn": math.inf},
)
ETA: tuple[dict[str, Any], ...] = ({}, {"eta": 0.0}, {"eta": 0.5, "s_noise": 1.1}, {"s_noise": 0.0})
LISTED: dict[str, tuple[dict[str, Any], ...]] = {
    "sample_euler": CHURN,
    "sample_heun": CHURN,
    "sample_dpm_2": CHURN,
    "sample_lms": ({}, {"order": 1}, {"order": 3}, {"order": 100}),
    "sample_euler_ancestral": (*ETA, {"eta": 1.5}),
    "sample_dpm_2_ancestral": ETA,
    "sample_dpmpp_2s_ancestral": (*ETA, {"eta": 1.5}),
    "sample_dpmpp_sde": (*ETA, {"eta": 1.5}, {"r": 0.3}, {"r": 1.0}),
    "sample_dpmpp_2m": ({},),
    "sample_dpmpp_2m_sde": (*ETA, {"solver_type": "heun"}, {"solver_type": "heun", "eta": 0.3}),
    "sample_dpmpp_3m_sde": (*ETA, {"eta": 1.5}),
}
#: functions whose default noise is torchsde's: they are always given a noise_sampler here
SDE = ("sample_dpmpp_sde", "sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde")
PID = {"pcoeff": 0.3, "icoeff": 0.4, "dcoeff": 0.1}
ADAPTIVE: tuple[dict[str, Any], ...] = (
    {},
    {"order": 2},
    {"rtol": 0.01, "atol": 1e-3, "h_init": -0.5},
    {"accept_safety": 0.85},
    {"accept_safety": 0.95, "h_init": 3.0},
    {**PID, "rtol": 0.02},
    {"eta": 0.5},
    {"eta": 1.0, "s_noise": 1.1, "order": 2, "h_init": 1.0},
)


class Case(NamedTuple):
    """One call. ``edit``: what the callback writes to in steps 1, 3, ... (``x``, ``denoised`` or
    nothing); ``sampler``: with a ``noise_sampler``; ``levels``: a name of ``LEVELS`` or ``RANGES``;
    ``n``: calls of ``sample_dpm_fast``."""

    function: str
    levels: str
    options: dict[str, Any]
    sampler: bool = False
    edit: str = ""
    n: int = 0

    @property
    def id(self) -> str:
        """Its name."""
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return " ".join(
            str(part)
            for part in (self.function, self.levels, self.n, options, self.sampler, self.edit)
        )


def cases() -> Iterator[Case]:
    """All of them."""
    for name, options in LISTED.items():
        for o in options:
            yield from (
                Case(name, levels, o, name in SDE) for levels in ("to zero", "above zero", "uneven")
            )
        for levels in ("two", "three"):
            if not (levels == "three" and name in SDE):
                yield Case(name, levels, {}, name in SDE)
        if name not in SDE:
            yield Case(name, "one", {})
        if "ancestral" in name:
            yield from (
                Case(name, levels, o, True) for levels in ("to zero", "above zero") for o in ETA
            )
        yield from (
            Case(name, levels, options[-1], name in SDE, edit)
            for levels in ("to zero", "above zero")
            for edit in ("x", "denoised")
        )
    for n in (1, 2, 3, 4, 6, 8):
        yield from (
            Case("sample_dpm_fast", "range", o, sampler, n=n)
            for o in ({}, {"eta": 0.6, "s_noise": 1.1})
            for sampler in (False, True)
        )
        yield from (
            Case("sample_dpm_fast", "range", {}, edit=edit, n=n) for edit in ("x", "denoised")
        )
    for o in ADAPTIVE:
        yield from (Case("sample_dpm_adaptive", "range", o, sampler) for sampler in (False, True))
        yield Case("sample_dpm_adaptive", "range", o, edit="x")
    yield from (Case("sample_lms", "long", {"order": order}) for order in (6, 7, 9, 100))
    yield from (
        Case("sample_dpmpp_sde", levels, {"r": 1.5}, True) for levels in ("to zero", "above zero")
    )
    for n in (3, 4, 7):
        yield from (
            Case("sample_dpm_fast", "rising", {}, sampler, n=n) for sampler in (False, True)
        )
        yield Case("sample_dpm_fast", "rising", {}, edit="x", n=n)
    for o in ADAPTIVE[:6]:
        yield from (Case("sample_dpm_adaptive", "rising", o, sampler) for sampler in (False, True))
    yield from (Case("sample_dpm_adaptive", levels, {}) for levels in ("near", "equal"))


def model(x: torch.Tensor, sigma: torch.Tensor, gain: float = 0.3) -> torch.Tensor:
    """A smooth prediction of x0, not linear in the state."""
    s = sigma.view(-1, *[1] * (x.ndim - 1))
    return x / (1.0 + s * s) + gain * torch.sin(x / torch.sqrt(1.0 + s * s))


@contextmanager
def float64_default() -> Iterator[None]:
    """k-diffusion makes tensors of the default dtype; with float64 it computes in float64
    throughout."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(F64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Recorder:
    """The model, the callback and the noise_sampler of a call, which write down what they are
    given."""

    def __init__(self, edit: str) -> None:
        self.edit, self.calls, self.rows, self.asked = edit, [], [], []
        self.keys: set[str] = set()
        self.generator = torch.Generator().manual_seed(3)

    def model(self, x: torch.Tensor, sigma: torch.Tensor, **extra: float) -> torch.Tensor:
        """The model; it leaves its input alone."""
        assert sigma.shape == (2,) and sigma.dtype == x.dtype == F64
        self.calls.append(float(sigma[0]))
        return model(x, sigma, **extra)

    def callback(self, shown: dict[str, Any]) -> None:
        """One row a call: numbers in the order of their names, then the state and the
        prediction."""
        self.keys = set(shown)
        numbers = [float(shown[key]) for key in sorted(shown) if key not in ("x", "denoised")]
        self.rows.append(
            [*numbers, *shown["x"].flatten().tolist(), *shown["denoised"].flatten().tolist()]
        )
        if self.edit and shown["i"] % 2:
            shown[self.edit].mul_(0.9)

    def noise(self, sigma: torch.Tensor, sigma_next: torch.Tensor) -> torch.Tensor:
        """A noise_sampler."""
        self.asked.append([float(sigma), float(sigma_next)])
        return torch.randn(X.shape, generator=self.generator, dtype=F64)


#: what ``record`` gives as numbers
ARRAYS = ("out", "calls", "rows", "asked", "after", "info")


def record(function: Callable[..., Any], case: Case) -> dict[str, Any]:
    """Make the call ``case`` of ``function``: its result, the levels that the model was called at,
    the callback's rows and the names in its dictionary (``keys``), the noises asked for, the first
    number that torch's global generator gives afterwards, and the counts of ``return_info``."""
    seen = Recorder(case.edit)
    arguments: tuple[Any, ...] = RANGES.get(case.levels, ())
    if case.levels in LEVELS:
        arguments = (torch.tensor(LEVELS[case.levels], dtype=F64),)
    if case.n:
        arguments = (*arguments, case.n)
    given = {**case.options, **({"noise_sampler": seen.noise} if case.sampler else {})}
    if case.function == "sample_dpm_adaptive":
        given["return_info"] = True
    with float64_default():
        torch.manual_seed(7)
        out = function(
            seen.model,
            X.clone(),
            *arguments,
            extra_args={"gain": 0.4},
            callback=seen.callback,
            disable=True,
            **given,
        )
        after = torch.rand((), dtype=F64)
    info: dict[str, int] = {}
    if isinstance(out, tuple):
        out, info = out
    return {
        "out": out.numpy(),
        "calls": np.array(seen.calls),
        "rows": np.array(seen.rows),
        "asked": np.array(seen.asked),
        "after": after.numpy(),
        "info": np.array([info[key] for key in sorted(info)]),
        "keys": sorted(seen.keys),
    }
