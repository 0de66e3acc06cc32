"""The tables of ``fewstep certify``: what is measured, the columns, rows as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import option_text

if TYPE_CHECKING:
    from ..eval import Certificate
    from ..eval.certificates.drivers import DriverCertificate
    from ..eval.certificates.prediction_types import PredictionTypes
    from ..eval.certificates.strong_orders import StrongCertificate
    from ..eval.certificates.table_floors import FloorCertificate
    from ..eval.certificates.third_party import ThirdParty

#: the texts that begin the pages
PREFACES = Path(__file__).parent / "prefaces"


@dataclass(frozen=True)
class Table:
    """One kind of certificate.

    Attributes:
        heads, widths: the columns.
        name: of the text that begins its page, ``cli/prefaces/NAME.md``.
        measure: makes a certificate from a name and options.
        cells: the certificate as a row.
        record: the certificate as strict JSON.
        passed: its verdict.
    """

    heads: tuple[str, ...]
    widths: tuple[int, ...]
    name: str
    measure: Callable[[str, dict[str, Any]], Any]
    cells: Callable[[Any], tuple[str, ...]]
    record: Callable[[Any], dict[str, Any]]
    passed: Callable[[Any], bool]

    @property
    def preface(self) -> str:
        """The text that begins the page of the documentation."""
        return (PREFACES / f"{self.name}.md").read_text(encoding="utf-8")


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
        "orders",
        _orders,
        order_cells,
        order_record,
        lambda c: bool(c.passed),
    ),
    "kinds": Table(
        ("sampler", "declared", "x0", "eps", "v", "velocity", "score", "fp32", "bf16", "verdict"),
        (46, 8, 5, 5, 5, 8, 5, 7, 7, 7),
        "kinds",
        _kinds,
        prediction_types_cells,
        prediction_types_record,
        lambda k: bool(k.passed),
    ),
    "diffusers": Table(
        ("scheduler", "claimed", "measured", "error"),
        (60, 7, 8, 8),
        "diffusers",
        _third_party,
        third_party_cells,
        third_party_record,
        _always,
    ),
    "drivers": Table(
        ("driver", "quantity", "measured", "required", "verdict"),
        (20, 34, 8, 14, 7),
        "drivers",
        _driver,
        driver_cells,
        driver_record,
        lambda c: bool(c.passed),
    ),
    "floors": Table(
        ("sampler", "declared", "40 steps", "160 steps", "640 steps", "stated", "verdict"),
        (20, 8, 9, 9, 9, 7, 7),
        "floors",
        _floor,
        floor_cells,
        floor_record,
        lambda c: bool(c.passed),
    ),
    "strong": Table(
        ("sampler", "strong", "independent", "error", "verdict"),
        (46, 6, 11, 8, 7),
        "strong",
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
