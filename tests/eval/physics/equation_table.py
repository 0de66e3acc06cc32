"""The table of equations of docs/physics.md, from the modules.

PYTHONPATH=..:tests/eval/physics python tests/eval/physics/equation_table.py
"""

from __future__ import annotations

from pathlib import Path

from fewstep.eval import physics
from fewstep.eval.physics.arguments import REQUIRED

PAGE = Path(__file__).resolve().parents[3] / "docs/physics.md"
BEGIN = "<!-- table of tests/eval/physics/equation_table.py -->"
END = "<!-- end of the table -->"
HEADINGS = ("equation", "fields", "axes", "parameters", "order", "conserved")


def row(name: str) -> str:
    """The equation's line."""
    module = physics.equation_named(name)
    params = [k if v is REQUIRED else f"{k}={v}" for k, v in module.PARAMS.items()]
    kept = module.conserved(*module.exact(16))
    order = module.order if isinstance(module.order, str) else f"{module.order:g}"
    cells = (
        f"`{name}`",
        ", ".join(module.FIELDS),
        ", ".join(module.AXES),
        ", ".join(params) or "-",
        order,
        ", ".join(kept).replace("_", " ") or "-",
    )
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """The lines between the marks."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|---|---|---|---|---|---|"]
    return "\n".join([BEGIN, *lines, *map(row, physics.EQUATIONS), END])


def page_with(text: str) -> str:
    """The page with ``text`` in place of its table."""
    page = PAGE.read_text(encoding="utf-8")
    start = page.index(BEGIN)
    stop = page.index(END, start) + len(END)
    return page[:start] + text + page[stop:]


if __name__ == "__main__":
    PAGE.write_text(page_with(table()), encoding="utf-8")
