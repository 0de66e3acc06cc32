"""The table of the methods in docs/guidance.md: what each needs, what it costs, and what it is
tested against. The costs are counted here.

    python tests/guidance/method_table.py

writes the table anew.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from methods import images
from repository import ROOT

import fewstep
from fewstep import guidance as G
from fewstep.eval.solver.counting import Counting
from fewstep.models import complete
from fewstep.plans import lower
from fewstep.schedules import Flow, VPLinear

PAGE = ROOT / "docs" / "guidance.md"
BEGIN, END = (
    "<!-- table of tests/guidance/method_table.py -->",
    "<!-- end of the table -->",
)
LABELS = [torch.tensor([0]), torch.tensor([1])]


class Method(NamedTuple):
    """``make(den)`` guides a model; ``needs`` in words, ``tests`` the files that check it and
    ``against`` what; ``cond``: whether the call has a condition."""

    make: Callable[[Any], Any]
    needs: str
    against: str
    tests: str
    cond: bool = True


def log_prob(x: torch.Tensor, t: Any, cond: Any) -> torch.Tensor:
    return -0.5 * x.flatten(1).square().sum(1)


METHODS: dict[str, Method] = {
    "CFG": Method(
        lambda den: G.CFG(den, 4.0),
        "a condition",
        "closed form of the guided flow of Gaussians",
        "test_cfg.py",
    ),
    "CFG with `rescale`": Method(
        lambda den: G.CFG(den, 4.0, rescale=0.7),
        "a condition",
        "its formula; diffusers",
        "test_cfg.py",
    ),
    "APG": Method(
        lambda den: G.APG(den, 4.0, momentum=-0.5, norm=5.0),
        "a condition",
        "identities, hand-written runs; diffusers",
        "test_apg.py",
    ),
    "CFGZero": Method(
        lambda den: G.CFGZero(den, 4.0),
        "a condition; zero steps: a flow and its velocity",
        "identities; diffusers",
        "test_cfg_zero.py",
    ),
    "TCFG": Method(
        lambda den: G.TCFG(den, 4.0),
        "a condition",
        "the singular value decomposition; diffusers",
        "test_tcfg.py",
    ),
    "FDG": Method(
        lambda den: G.FDG(den, (6.0, 3.0)),
        "a condition; images",
        "exact pyramid, equal scales are CFG; its formula",
        "test_fdg.py",
    ),
    "MAMBO": Method(
        lambda den: G.MAMBO(den, 4.0), "a condition", "its formula; diffusers", "test_mambo.py"
    ),
    "ICG": Method(
        lambda den: G.ICG(den, 4.0),
        "a condition, no unconditional training",
        "closed form of Gaussians",
        "test_independent.py",
    ),
    "TSG": Method(
        lambda den: G.TSG(den, 4.0, 0.1),
        "nothing",
        "closed form of Gaussians",
        "test_independent.py",
    ),
    "Contrast": Method(
        lambda den: G.Contrast(den, images(den.schedule), 2.0),
        "a worse model on the same path",
        "closed form of the guided flow; diffusers",
        "test_contrast.py",
    ),
    "PAG with `cfg`": Method(
        lambda den: G.PAG(den, G.Perturbed(den, contextlib.nullcontext), 3.0, cfg=4.0),
        "a perturbed network",
        "closed form of the guided flow; diffusers",
        "test_contrast.py",
    ),
    "Compose": Method(
        lambda den: G.Compose(den, LABELS, [1.0, 1.0]),
        "n conditions (here 2)",
        "closed form of the composed flow",
        "test_compose.py",
        cond=False,
    ),
    "Classifier": Method(
        lambda den: G.Classifier(den, log_prob),
        "a differentiable log-probability",
        "the exact posterior of a Gaussian prior",
        "test_classifier.py",
        cond=False,
    ),
    "BlackScholes": Method(
        lambda den: G.BlackScholes(den, LABELS, lambda x, i: 100.0 + x.flatten(1).mean(1)),
        "conditions and a score of each",
        "prices, put-call parity; the authors' code",
        "test_black_scholes.py",
        cond=False,
    ),
    "Threshold": Method(
        lambda den: G.Threshold(den),
        "data in [-1, 1], no latents",
        "its formula; diffusers",
        "test_threshold.py",
    ),
}


def source(name: str) -> str:
    """The arXiv number in the docstring of the class."""
    text = inspect.getdoc(getattr(G, name.split()[0])) or ""
    found = re.search(r"arXiv (\d{4}\.\d{5})", text.replace("\n", " "))
    assert found, name
    return found[1]


def home(name: str) -> Any:
    return Flow() if name == "CFGZero" else VPLinear()


def cost(name: str) -> tuple[float, bool]:
    """Rows of the network for each sample and call, counted; and whether the method folds into the
    step: the program then reads the network's own outputs."""
    method, schedule = METHODS[name], home(name)
    counted = Counting(images(schedule))
    den = method.make(counted)
    labels = torch.tensor([0, 1]) if method.cond else None
    given = {"steps": 4, "grid": "lam", "final": "sigma_min", "n": 2, "cond": labels}
    if name == "Classifier":
        given["start"], given["x"] = 0.9, torch.zeros(2, *den.shape, dtype=torch.float64)
        given.pop("n")
    _, info = fewstep.sample(den, "ddim", info=True, **given)
    rows = counted.cost.rows / (2 * info.nfe)
    if name == "Contrast":
        rows += 1.0  # the other model's
    assert info.rows == rows * 2 * info.nfe, name
    return rows, complete(den).prediction == counted.prediction and folds(den, schedule)


def folds(den: Any, schedule: Any) -> bool:
    """Whether the combination's weights are among the coefficients of the step."""
    plan = fewstep.plan("ddim", schedule, steps=4, grid="lam", final="sigma_min")
    raws = {o.number for x in lower(plan, den).launches for o in x.operands if o.kind == "raw"}
    return len(raws) > 1


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| method | arXiv | needs | rows a sample and call | folds into the step | tested against |",
        "|---|---|---|---|---|---|",
    ]
    for name, method in METHODS.items():
        rows, folded = cost(name)
        assert (ROOT / "tests" / "guidance" / method.tests).is_file(), name
        lines.append(
            f"| `{name.split()[0]}`{name[len(name.split()[0]) :]} | {source(name)} | "
            f"{method.needs} | {rows:g} | {'yes' if folded else 'no'} | {method.against} |"
        )
    return "\n".join(lines)


def page_with(table_: str) -> str:
    """The page with this table in it."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{table_}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(table()), encoding="utf-8")
