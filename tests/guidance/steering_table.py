"""The table of the methods in docs/steering.md: what each needs, its cost, and what it is tested
against. Names, sources, needs and costs come from the registry.

    python tests/guidance/steering_table.py

writes the table anew.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
from repository import ROOT

from fewstep import guidance as G
from fewstep.guidance.populations import registry
from fewstep.models import GaussianMixture
from fewstep.schedules import VPLinear

PAGE = ROOT / "docs" / "steering.md"
BEGIN, END = (
    "<!-- table of tests/guidance/steering_table.py -->",
    "<!-- end of the table -->",
)
WORDS = {"noise": "noise", "x0": "predictions of x0", "gradients": "gradients of the model"}
PARTICLES, STEPS = 16, 10


class Row(NamedTuple):
    """What a method is tested against, and the file that does so."""

    against: str
    test: str


def reward(x: torch.Tensor) -> torch.Tensor:
    return -(x[:, 0] - 1.0).square()


ROWS: dict[str, Row] = {
    "best_of_n": Row("the law of the maximum", "test_steering.py"),
    "smc": Row("evidence and weights on an exact mixture", "test_smc.py"),
    "tds": Row(
        "evidence and posterior of a linear Gaussian problem",
        "test_tds.py",
    ),
    "svdd": Row("the tilted law of an exact mixture", "test_svdd.py"),
    "scg": Row("svdd at temperature 0; the first steps", "test_svdd.py"),
    "dsearch": Row("the plain search written out", "test_dsearch.py"),
    "enkg": Row("its covariance formula; the residual of a linear problem", "test_enkg.py"),
}


def counted(name: str) -> tuple[int, int]:
    """Network rows and rewards of one sample, counted."""
    den = GaussianMixture([[-1.0], [1.0]], [0.5, 0.5], [0.5, 0.5], VPLinear())
    _, info = G.steer(den, reward, method=name, particles=PARTICLES, steps=STEPS, n=1)
    assert (info.rows, info.reward_rows) == tuple(vars(info.predicted).values())
    return info.rows, info.reward_rows


def table() -> str:
    """The table in Markdown."""
    lines = [
        f"| method | arXiv | needs | network rows ({PARTICLES} particles, {STEPS} steps) | rewards | tested against |",
        "|---|---|---|---|---|---|",
    ]
    for name in G.steering_methods():
        method = registry.get(name)
        number = re.search(r"\d{4}\.\d{5}", method.source)
        assert number, name
        needs = ", ".join(WORDS[need] for need in method.needs) or "nothing"
        rows, rewards = counted(name)
        lines.append(
            f"| `{name}` | {number[0]} | {needs} | {rows} | {rewards} | {ROWS[name].against} |"
        )
    return "\n".join(lines)


def page_with(text: str) -> str:
    """The page with ``text`` as its table."""
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(table()), encoding="utf-8")
