"""Makes the table of methods in docs/solve.md: what the registry says of each, and the calls of a
run.

    python tests/guidance/posterior_page.py
"""

from __future__ import annotations

from pathlib import Path

import posterior_cases
from posteriors import GaussianPrior
from problems import F64, PATHS

from fewstep import guidance as G
from fewstep.guidance.posterior import registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "solve.md"
BEGIN = "<!-- table of tests/guidance/posterior_page.py -->"
END = "<!-- end of the table of methods -->"
STEPS = 10
WORDS = {
    "gradients": "gradients of the network",
    "pinverse": "pseudo-inverse",
    "svd": "SVD",
    "noise": "sigma_y > 0",
    "noiseless": "sigma_y = 0",
    "linear": "linear A",
    "losses": "losses",
}


def row(name: str) -> str:
    """The line of one method; the calls are those of 10 steps on 6 numbers, 3 of them measured."""
    method = registry.get(name)
    den = GaussianPrior(PATHS["vp"], "eps")
    options = posterior_cases.options_of(name, den)
    given = {key: options[key] for key in method.required}
    lik = posterior_cases.likelihood(name)
    _, info = G.solve(den, lik, name, steps=STEPS, dtype=F64, info=True, **given)
    counts = info.counts
    calls = (counts.network, counts.vjp, counts.operator, counts.adjoint)
    cost = ", ".join(f"{count / STEPS:g}" for count in calls)
    if info.predicted is None:
        cost = "as many as the data ask for"
    needs = ", ".join(WORDS[need] for need in method.needs if need in WORDS)
    plain = method.form == "denoiser" and method.sampler != registry.OWN
    runs = method.form if plain else f"{method.form}, {method.sampler}"
    return f"| `{name}` | {method.source} | {runs} | {needs} | {method.exact} | {cost} |"


def table() -> str:
    """The table in Markdown."""
    head = (
        "| method | paper | form | needs | exact for | network, VJPs, operator, adjoint a step |\n"
        "|---|---|---|---|---|---|"
    )
    return "\n".join([head, *map(row, G.methods())])


def page_with(made: str) -> str:
    """The page with this table in it."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(table()), encoding="utf-8")
