"""Kinds of prediction of a network, and the affine conversions between them.

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
    """A prediction does not determine the requested kind at this point of the path."""


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

    Raises ConversionError, with the remedy, where ``src`` does not determine ``dst``: x0 from eps
    at alpha = 0, eps from x0 at sigma = 0.
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
    noisy = node.alpha == 0.0
    other = "x0" if noisy else "eps"
    ends = "starts after alpha = 0" if noisy else "ends before sigma = 0 (final='sigma_min')"
    raise ConversionError(
        f"a network that predicts {src} says nothing about {dst} at alpha={node.alpha:.6g}, "
        f"sigma={node.sigma:.6g} (t={node.t}); use a v, velocity or {other} network, or a grid "
        f"that {ends}"
    )
