"""Physics: one module an equation, with its residual in physical units, a reference solver and an
exact solution, and the metrics of generated fields.

Modules and names are imported at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

#: the equations, each a module of this package
EQUATIONS = (
    "darcy",
    "darcy_neumann",
    "heat",
    "helmholtz",
    "kolmogorov",
    "navier_stokes",
    "poisson",
)

__all__ = [
    "EQUATIONS",
    "Equation",
    "Problem",
    "darcy",
    "darcy_neumann",
    "equation_named",
    "heat",
    "helmholtz",
    "kolmogorov",
    "navier_stokes",
    "poisson",
]

if TYPE_CHECKING:
    from . import (
        darcy,
        darcy_neumann,
        heat,
        helmholtz,
        kolmogorov,
        navier_stokes,
        poisson,
    )
    from .equation import Equation, Problem, equation_named
else:
    _NAMES = {"equation": ("Equation", "Problem", "equation_named")}
    #: name -> the module that it comes from
    _HOME = {name: module for module, names in _NAMES.items() for name in names}

    # PEP 562; out of the checkers' sight, which would take it for "any name exists"
    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in EQUATIONS:
            return import_module(f".{name}", __name__)
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
