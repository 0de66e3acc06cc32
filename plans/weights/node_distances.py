"""Distances between nodes without cancellation: differences of lam and rho to full relative
precision however close the nodes are.

With ``d = sigma_a alpha_b - sigma_b alpha_a = (sigma_a - sigma_b) alpha_b + sigma_b (alpha_b -
alpha_a)``, where both terms have one sign and differences of close floats are exact,

    lam_b - lam_a = log(1 + d / (sigma_b alpha_a)),    rho_b - rho_a = -d / (alpha_a alpha_b),
    phi_b - phi_a = atan2(-d, alpha_a alpha_b + sigma_a sigma_b),    phi = atan2(sigma, alpha).

A difference of two logarithms would keep only ``h / (1e-16 |lam|)`` of its digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ...checks import ArgumentError
from ...schedules.node import Node

Gap = Callable[[Node, Node], float]


def cross(a: Node, b: Node) -> float:
    """``sigma_a alpha_b - sigma_b alpha_a``, positive from a toward data."""
    return (a.sigma - b.sigma) * b.alpha + b.sigma * (b.alpha - a.alpha)


def lam_gap(a: Node, b: Node) -> float:
    """``lam_b - lam_a``; infinite where one end is."""
    if a is b:
        return 0.0
    alpha_a, sigma_a, alpha_b, sigma_b = a.alpha, a.sigma, b.alpha, b.sigma
    if not (alpha_a and sigma_a and alpha_b and sigma_b):
        return b.lam - a.lam if a != b else 0.0
    d = (sigma_a - sigma_b) * alpha_b + sigma_b * (alpha_b - alpha_a)  # cross(a, b)
    scale = sigma_b * alpha_a if d > 0.0 else sigma_a * alpha_b
    return math.copysign(math.log1p(abs(d) / scale), d) if scale > 1e-290 else b.lam - a.lam


def rho_gap(a: Node, b: Node) -> float:
    """``rho_b - rho_a``, both finite."""
    return -cross(a, b) / a.alpha / b.alpha


def angle_gap(a: Node, b: Node) -> float:
    """``phi_b - phi_a``, finite everywhere."""
    return math.atan2(-cross(a, b), a.alpha * b.alpha + a.sigma * b.sigma)


def time(node: Node) -> float:
    """``node.t``; ValueError where it is unknown."""
    if node.t is None:
        raise ArgumentError(
            f"the node at alpha={node.alpha!r}, sigma={node.sigma!r} has no time t, which an "
            "interpolation in t needs"
        )
    return node.t


def t_gap(a: Node, b: Node) -> float:
    """``t_b - t_a``."""
    return time(b) - time(a)


def finite(node: Node, variable: str) -> bool:
    """Whether ``node`` has a finite ``variable`` (lam, rho, t or angle)."""
    if variable == "angle":
        return True
    if variable == "t":
        return math.isfinite(time(node))
    return node.alpha != 0.0 and (variable == "rho" or node.sigma != 0.0)


GAPS: dict[str, Gap] = {"lam": lam_gap, "rho": rho_gap, "t": t_gap, "angle": angle_gap}
