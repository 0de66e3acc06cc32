"""The conversions between kinds of predictions, against ``x = alpha x0 + sigma eps`` with numbers
put in."""

from __future__ import annotations

import math

import pytest

from fewstep.schedules import EDM, Flow, Trig, VPLinear
from fewstep.schedules.kinds import KINDS, ConversionError, convert, parts
from fewstep.schedules.node import Node

NODES = [
    VPLinear().node(0.3),
    EDM().node(7.0),
    Flow().node(0.2),
    Trig().node(0.9),
    Node(0.3, 1.7, 0.5, -0.4, 0.9),
]
X0, EPS = 0.83, -1.37


def value(kind: str, node: Node) -> float:
    """A kind from its definition."""
    assert node.dalpha is not None and node.dsigma is not None
    return {
        "x0": X0,
        "eps": EPS,
        "v": node.alpha * EPS - node.sigma * X0,
        "velocity": node.dalpha * X0 + node.dsigma * EPS,
        "score": -EPS / node.sigma,
    }[kind]


@pytest.mark.parametrize("node", NODES)
def test_every_kind_from_every_other(node: Node) -> None:
    x = node.alpha * X0 + node.sigma * EPS
    for src in KINDS:
        u, w = parts(src, node)
        assert u * X0 + w * EPS == pytest.approx(value(src, node), rel=1e-12)
        for dst in KINDS:
            p, q = convert(src, dst, node)
            assert p * x + q * value(src, node) == pytest.approx(value(dst, node), rel=1e-10), (
                src,
                dst,
            )


def test_the_ends_of_a_path() -> None:
    """At alpha = 0 the state is the noise and at sigma = 0 the data: v and velocity say the rest,
    x0 and eps say nothing of it."""
    noise, data = Flow().node(1.0), Flow().node(0.0)
    assert convert("v", "x0", noise) == (0.0, -1.0) and convert("velocity", "x0", noise) == (
        1.0,
        -1.0,
    )
    assert convert("v", "eps", data) == (0.0, 1.0) and convert("velocity", "eps", data) == (
        1.0,
        1.0,
    )
    assert convert("x0", "v", noise) == (0.0, -1.0) and convert("x0", "eps", noise) == (1.0, 0.0)
    assert convert("eps", "v", data) == (0.0, 1.0) and convert("eps", "x0", data) == (1.0, 0.0)
    for src, dst, node in (
        ("eps", "x0", noise),
        ("eps", "v", noise),
        ("x0", "eps", data),
        ("x0", "v", data),
        ("score", "x0", data),
    ):
        with pytest.raises(ConversionError):
            convert(src, dst, node)
    # the score and the noise are both told by the state
    for far in (Node(0.0, 1.0), Node(0.0, 2.0)):
        assert convert("eps", "score", far) == (-1.0 / far.sigma**2, 0.0)
        assert convert("score", "eps", far) == (1.0 / far.sigma, 0.0)
        assert convert("x0", "x0", far) == (0.0, 1.0)
    with pytest.raises(ConversionError):
        parts("velocity", Node(0.6, 0.8, 0.5))


def test_level_of_a_node() -> None:
    node = Node(0.6, 0.8)
    assert (node.lam, node.rho) == (pytest.approx(math.log(0.75)), pytest.approx(4.0 / 3.0))
    assert (Node(0.0, 1.0).lam, Node(0.0, 1.0).rho) == (-math.inf, math.inf)
    assert (Node(1.0, 0.0).lam, Node(1.0, 0.0).rho) == (math.inf, 0.0)
