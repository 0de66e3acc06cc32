"""The tables of ``fewstep certify``: what is measured, its columns, and the page of the
documentation that holds it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .options import option_text

if TYPE_CHECKING:
    from ..eval import Certificate
    from ..eval.certificates.drivers import DriverCertificate
    from ..eval.certificates.prediction_types import PredictionTypes
    from ..eval.certificates.strong_orders import StrongCertificate
    from ..eval.certificates.table_floors import FloorCertificate
    from ..eval.certificates.third_party import ThirdParty

ORDERS_PREFACE = """# Order certificates

The declared order of every sampler, compared with two measurements: the *walked* order, found
from the plan without a network, and the *measured* order, the slope of the error against exact
solutions over the finest three step counts N whose error is above rounding. The exact solutions
are a Gaussian mixture for deterministic samplers and the law of Gaussian data for stochastic
ones, whose orders are weak orders. The constant is the error at the finest N times N^declared.
NFE is the number of network calls of 10 steps to sigma = 0, predicted and counted. The verdict is
`pass` where both orders are within 0.15 of the declared one (0.25 above order 3) and the calls
agree; the walked order of a stochastic sampler may be higher. A sampler that declares 0 has no
order, because its noise does not vanish with the step: only its calls are counted. This page is
made by

    fewstep certify --all --markdown > docs/certificates.md
"""
KINDS_PREFACE = """# Orders by prediction type, and rounding

The measured order of every sampler with its default options (weak order for stochastic samplers)
when the exact network predicts x0, eps, v, velocity or score: the slope between 160 and 320 steps
(weak orders: 640 and 1280), or between the next coarser pair where the error is dominated by
rounding. fp32, bf16: the largest difference between a run with states of that dtype and the same
run in float64, over 20 steps to sigma = 0. The verdict is `pass` where the prediction types agree
within 0.05 and all orders are within twice the tolerance of the certificate. This page is made by

    fewstep certify --all --kinds --markdown > docs/certificates_kinds.md
"""
DIFFUSERS_PREFACE = """# Orders of diffusers' schedulers

The measured order of the scheduler classes of diffusers. Their own code is run in float64 against
exact scores, with exact states at the first eight calls and before the steps to sigma = 0.
`claimed` is `solver_order` where a class has one; that of UniPC counts the nodes of the
predictor, and the corrector adds one order. The multistep and singlestep DPM-Solver schedulers
with `solver_order=3` measure as second order; `dpmpp_3m` and `dpmpp_3s` are the third-order
methods (see [certificates](certificates.md)). This page is made by

    fewstep certify --diffusers --all --markdown > docs/certificates_diffusers.md
"""
DRIVERS_PREFACE = """## Drivers

Adaptive samplers have no order in steps. The slope of their error against the tolerance is
measured instead: on the exact mixture, and for the SDE against the exact solution along one
Brownian path. `picard` with tol = 0 and `pc` without a corrector must give the samples of a plan.
"""
FLOORS_PREFACE = """## Steps in t on a table

On a table of noise levels (`DiscreteVP`) the derivative of the path jumps at each entry, so the
error of a sampler that steps in t reaches a floor. The columns are the root mean square error
against the exact flow on a table of 1,000 entries, by the number of steps, and the floor stated
by `describe` and by a warning. The verdict is `pass` where the error at 160 steps is within a
factor of 5 of the stated floor. Samplers that step in rho or lam have no floor.
"""
STRONG_PREFACE = """# Strong orders of stochastic samplers

`strong`: the slope of the root mean square error against the exact solution on the same Brownian
path (`noise="brownian"`), on Gaussian data, over 40 to 320 steps. `independent`: the same slope
with independent noise, as a control. `error`: on the path, at 320 steps. The verdict is `pass`
where the strong order is 0.5 or more and the control does not converge. Samplers whose noise
strength varies with the noise level, or whose noise comes in jumps, are not listed. This page is
made by

    fewstep certify --all --strong --markdown > docs/certificates_strong.md
"""


@dataclass(frozen=True)
class Table:
    """One kind of certificate: its columns, what measures a row, the row as cells and as a JSON
    record, and the verdict."""

    heads: tuple[str, ...]
    widths: tuple[int, ...]
    preface: str
    measure: Callable[[str, dict[str, Any]], Any]
    cells: Callable[[Any], tuple[str, ...]]
    record: Callable[[Any], dict[str, Any]]
    passed: Callable[[Any], bool]


def finite(numbers: dict[str, float]) -> dict[str, float | str]:
    """Strict JSON: infinities and NaN are strings."""
    return {
        key: value if abs(value) < float("inf") else str(value) for key, value in numbers.items()
    }


def verdict(passed: bool) -> str:
    """The last cell of a row."""
    return "pass" if passed else "FAIL"


def shown(value: float, form: str) -> str:
    """A number, or a dash for one that was not measured."""
    return "-" if math.isnan(value) else format(value, form)


def title(name: str, options: Any) -> str:
    """The first cell of a row."""
    return f"{name} {option_text(options)}".rstrip()


def order_cells(c: Certificate) -> tuple[str, ...]:
    """One row of the table of orders."""
    numbers = (
        f"{c.declared:g}",
        *(
            shown(v, f)
            for v, f in ((c.walked, ".2f"), (c.measured, ".2f"), (c.error_constant, ".2e"))
        ),
    )
    calls = str(c.nfe) if c.nfe == c.counted else f"{c.nfe} != {c.counted}"
    return (title(c.name, c.options), *numbers, calls, c.exactness, verdict(c.passed))


def order_record(c: Certificate) -> dict[str, Any]:
    """A certificate as strict JSON."""
    numbers = finite(
        {key: getattr(c, key) for key in ("declared", "walked", "measured", "error_constant")}
    )
    out: dict[str, Any] = {
        "sampler": c.name,
        "options": dict(c.options),
        "stochastic": c.stochastic,
        **numbers,
    }
    out |= {
        "nfe": c.nfe,
        "counted": c.counted,
        "exactness": c.exactness,
        "tolerance": c.tolerance,
        "passed": c.passed,
    }
    return {**out, "errors": [list(pair) for pair in c.errors]}


def prediction_types_cells(k: PredictionTypes) -> tuple[str, ...]:
    """One row of the table by kind."""
    orders = tuple(f"{order:.2f}" for order in k.orders.values()) or ("-",) * 5
    return (
        title(k.name, k.options),
        f"{k.declared:g}",
        *orders,
        *(f"{e:.1e}" for e in k.rounding.values()),
        verdict(k.passed),
    )


def prediction_types_record(k: PredictionTypes) -> dict[str, Any]:
    """The same as strict JSON."""
    return {
        "sampler": k.name,
        "options": dict(k.options),
        "stochastic": k.stochastic,
        "declared": k.declared,
        "orders": finite(dict(k.orders)),
        "rounding": finite(dict(k.rounding)),
        "passed": k.passed,
    }


def third_party_cells(c: ThirdParty) -> tuple[str, ...]:
    """One row of the table of somebody else's schedulers."""
    claimed = "-" if c.claimed is None else str(c.claimed)
    return (title(c.name, c.config), claimed, f"{c.measured:.2f}", f"{c.errors[-1][1]:.1e}")


def third_party_record(c: ThirdParty) -> dict[str, Any]:
    """The same as strict JSON."""
    out = {
        "scheduler": c.name,
        "config": dict(c.config),
        "claimed": c.claimed,
        "measured": c.measured,
    }
    return {**out, "errors": [list(pair) for pair in c.errors]}


def strong_cells(c: StrongCertificate) -> tuple[str, ...]:
    """One row of the table of strong orders."""
    return (
        title(c.name, c.options),
        f"{c.measured:.2f}",
        f"{c.independent:.2f}",
        f"{c.errors[-1][1]:.1e}",
        verdict(c.passed),
    )


def strong_record(c: StrongCertificate) -> dict[str, Any]:
    """The same as strict JSON."""
    found = {"measured": c.measured, "independent": c.independent, "passed": c.passed}
    return {
        "sampler": c.name,
        "options": dict(c.options),
        **found,
        "errors": [list(pair) for pair in c.errors],
    }


def floor_cells(c: FloorCertificate) -> tuple[str, ...]:
    """One row of the table of floors."""
    return (
        c.name,
        f"{c.order:g}",
        *(f"{error:.1e}" for _, error in c.errors),
        f"{c.stated:.0e}",
        verdict(c.passed),
    )


def floor_record(c: FloorCertificate) -> dict[str, Any]:
    """The same as strict JSON."""
    out = {
        "sampler": c.name,
        "quantity": "error floor on a table",
        "declared": c.order,
        "stated": c.stated,
        "passed": c.passed,
    }
    return {**out, "errors": [list(pair) for pair in c.errors]}


def driver_cells(c: DriverCertificate) -> tuple[str, ...]:
    """One row of the table of drivers."""
    return (
        c.name,
        c.quantity,
        f"{c.found:.2g}",
        f"{c.wanted[0]:g} to {c.wanted[1]:g}",
        verdict(c.passed),
    )


def driver_record(c: DriverCertificate) -> dict[str, Any]:
    """The same as strict JSON."""
    out = {
        "sampler": c.name,
        "quantity": c.quantity,
        "found": c.found,
        "wanted": list(c.wanted),
        "passed": c.passed,
    }
    return {**out, "errors": [list(pair) for pair in c.errors]}


def _driver(name: str, options: dict[str, Any]) -> Any:
    from ..eval.certificates.drivers import certify_driver

    return certify_driver(name)


def _floor(name: str, options: dict[str, Any]) -> Any:
    from ..eval.certificates.table_floors import certify_floor

    return certify_floor(name)


def _orders(name: str, options: dict[str, Any]) -> Any:
    from ..eval import certify

    return certify(name, **options)


def _kinds(name: str, options: dict[str, Any]) -> Any:
    from ..eval.certificates.prediction_types import certify_prediction_types

    return certify_prediction_types(name, **options)


def _third_party(name: str, options: dict[str, Any]) -> Any:
    from ..eval.certificates.third_party import certify_diffusers

    return certify_diffusers(name, **options)


def _strong(name: str, options: dict[str, Any]) -> Any:
    from ..eval.certificates.strong_orders import certify_strong

    return certify_strong(name, **options)


def _always(found: Any) -> bool:
    return True


TABLES = {
    "orders": Table(
        ("sampler", "declared", "walked", "measured", "constant", "NFE", "exactness", "verdict"),
        (46, 8, 7, 8, 9, 7, 11, 7),
        ORDERS_PREFACE,
        _orders,
        order_cells,
        order_record,
        lambda c: bool(c.passed),
    ),
    "kinds": Table(
        ("sampler", "declared", "x0", "eps", "v", "velocity", "score", "fp32", "bf16", "verdict"),
        (46, 8, 5, 5, 5, 8, 5, 7, 7, 7),
        KINDS_PREFACE,
        _kinds,
        prediction_types_cells,
        prediction_types_record,
        lambda k: bool(k.passed),
    ),
    "diffusers": Table(
        ("scheduler", "claimed", "measured", "error"),
        (60, 7, 8, 8),
        DIFFUSERS_PREFACE,
        _third_party,
        third_party_cells,
        third_party_record,
        _always,
    ),
    "drivers": Table(
        ("driver", "quantity", "found", "wanted", "verdict"),
        (20, 34, 8, 14, 7),
        DRIVERS_PREFACE,
        _driver,
        driver_cells,
        driver_record,
        lambda c: bool(c.passed),
    ),
    "floors": Table(
        ("sampler", "declared", "40 steps", "160 steps", "640 steps", "stated", "verdict"),
        (20, 8, 9, 9, 9, 7, 7),
        FLOORS_PREFACE,
        _floor,
        floor_cells,
        floor_record,
        lambda c: bool(c.passed),
    ),
    "strong": Table(
        ("sampler", "strong", "independent", "error", "verdict"),
        (46, 6, 11, 8, 7),
        STRONG_PREFACE,
        _strong,
        strong_cells,
        strong_record,
        lambda c: bool(c.passed),
    ),
}

_TO_SIGMA_MIN = {"final_sigmas_type": "sigma_min"}
#: what ``--diffusers --all`` measures
DIFFUSERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("DDIMScheduler", {}),
    ("EulerDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("KDPM2DiscreteScheduler", {}),
    ("LMSDiscreteScheduler", {}),
    ("PNDMScheduler", {"skip_prk_steps": True}),
    *(("DPMSolverMultistepScheduler", {"solver_order": k}) for k in (1, 2, 3)),
    *(
        (
            "DPMSolverMultistepScheduler",
            {"solver_order": k, "algorithm_type": "dpmsolver", **_TO_SIGMA_MIN},
        )
        for k in (2, 3)
    ),
    *(("DPMSolverSinglestepScheduler", {"solver_order": k}) for k in (1, 2, 3)),
    *(("DEISMultistepScheduler", {"solver_order": k}) for k in (1, 2, 3)),
    *(("UniPCMultistepScheduler", {"solver_order": k}) for k in (1, 2, 3)),
    ("EDMEulerScheduler", {}),
    *(("EDMDPMSolverMultistepScheduler", {"solver_order": k}) for k in (2, 3)),
    ("FlowMatchEulerDiscreteScheduler", {}),
    ("FlowMatchHeunDiscreteScheduler", {}),
)
