"""What a network may predict, and the affine conversions between those kinds.

With ``x = alpha x0 + sigma eps`` every kind is ``u x0 + w eps``:

    x0        (1, 0)
    eps       (0, 1)
    v         (-sigma, alpha)           Salimans & Ho 2022, arXiv 2202.00512, appendix D
    velocity  (dalpha/dt, dsigma/dt)    dx/dt of the path, t toward noise
    score     (0, -1/sigma)             grad log p_t(x)

so one kind follows from another and the state: ``dst = p x + q src``.
"""

from __future__ import annotations

from ..checks import ArgumentError, instance, unknown
from .node import Node

KINDS = ("x0", "eps", "v", "velocity", "score")


class ConversionError(ArgumentError):
    """A prediction says nothing about the wanted quantity at this point of the path."""


def parts(kind: str, node: Node) -> tuple[float, float]:
    """``(u, w)`` with ``kind = u x0 + w eps`` at ``node``."""
    if not isinstance(kind, str):
        raise ArgumentError(unknown("prediction kind", kind, KINDS))
    if kind == "x0":
        return 1.0, 0.0
    if kind == "eps":
        return 0.0, 1.0
    if kind == "v":
        return -node.sigma, node.alpha
    if kind == "velocity":
        if node.dalpha is None or node.dsigma is None:
            raise ConversionError(
                f"a velocity needs d alpha/dt and d sigma/dt, unknown at t={node.t}"
            )
        return node.dalpha, node.dsigma
    if kind == "score":
        if node.sigma == 0.0:
            raise ConversionError(
                "the score is not defined at sigma = 0; end the grid at sigma_min"
            )
        return 0.0, -1.0 / node.sigma
    raise ArgumentError(unknown("prediction kind", kind, KINDS))


def convert(src: str, dst: str, node: Node) -> tuple[float, float]:
    """Coefficients ``(p, q)`` of ``dst = p x + q src`` at ``node``.

    Raises ConversionError where ``src`` carries no information about ``dst`` (eps asked for x0 at
    alpha = 0, x0 asked for eps at sigma = 0), with the remedy.
    """
    if not (isinstance(src, str) and isinstance(dst, str)):
        raise ArgumentError(unknown("prediction", src if isinstance(dst, str) else dst, KINDS))
    instance("node", node, Node, "a Node of a schedule")
    if src == dst:
        return 0.0, 1.0
    (us, ws), (ud, wd) = parts(src, node), parts(dst, node)
    det = node.alpha * ws - node.sigma * us
    tied = node.alpha * wd - node.sigma * ud
    if det != 0.0:
        return (ud * ws - wd * us) / det, tied / det
    if tied == 0.0:
        return (ud / node.alpha if node.alpha else wd / node.sigma), 0.0
    raise ConversionError(
        f"a network that predicts {src} says nothing about {dst} at alpha={node.alpha:.6g}, "
        f"sigma={node.sigma:.6g} (t={node.t}); "
        f"use a v, velocity{' or x0' if node.alpha == 0.0 else ' or eps'} network, or a grid that "
        f"{'starts after alpha = 0' if node.alpha == 0.0 else 'ends before sigma = 0 (final=' + repr('sigma_min') + ')'}"
    )
