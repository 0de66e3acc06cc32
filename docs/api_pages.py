"""Write the API pages, one a public room; the table of all samplers; the changelog.

mkdocs runs this file at each build (plugin gen-files). The names are those of each room's
``__all__``, so that a new public name or sampler is on its page without an edit here.
"""

from __future__ import annotations

import ast
import os
import sys
from importlib import import_module
from pathlib import Path

import mkdocs_gen_files

PACKAGE = Path(os.environ.get("FEWSTEP_PACKAGE", ".typing")).resolve()
#: page -> (title, room below fewstep, first sentence)
ROOMS = {
    "engine": ("Sampling", "engine", "Draw samples, run plans, invert and rate data."),
    "schedules": ("Schedules and grids", "schedules", "Noise schedules and time grids."),
    "models": ("Models", "models", "Networks and exact models as denoisers."),
    "samplers": ("The registry", "samplers", "The registry of samplers and their options."),
    "guidance": ("Guidance", "guidance", "Wrappers that guide a model by conditions or rewards."),
    "operators": (
        "Forward models",
        "guidance.operators",
        "Forward models of measurements, for inverse problems.",
    ),
    "discrete": (
        "Sequences of tokens",
        "guidance.discrete",
        "Discrete diffusion: paths, samplers and models of sequences of tokens.",
    ),
    "steering": (
        "Steering",
        "guidance.populations",
        "Methods that choose among samples by a reward: their options, and rewards.",
    ),
    "plans": ("Plans", "plans", "Solvers as data: build them, inspect them, run them."),
    "policy": (
        "Fine-tuning losses",
        "guidance.policy",
        "Losses that fine-tune a model by rewards, or by its own samples.",
    ),
    "jobs": ("Jobs", "jobs", "Resumable work in folders."),
    "eval": ("Evaluation", "eval", "Certificates, solver error, metrics, scores, benchmarks."),
    "physics": (
        "Physics",
        "eval.physics",
        "Equations with their residuals, solvers and data, and ratings of physical fields.",
    ),
    "diffusers": ("diffusers", "interop.diffusers", "The scheduler for pipelines of diffusers."),
    "kdiffusion": ("k-diffusion", "interop.kdiffusion", "The functions of k-diffusion."),
    "errors": ("Errors", "checks", "The errors that fewstep raises."),
}
#: the rooms inside ``fewstep.eval`` -> the heading of their names
EVAL = {
    "benchmark": "Benchmarks",
    "certificates": "Certificates",
    "solver": "Solver error and cost",
    "diagnostics": "Diagnostics of a score",
    "scoring": "Scores",
    "metrics": "Metrics",
    "features": "Images and features",
    "errors": "Errors",
}
#: names that a room re-exports; each is documented in its own room
ELSEWHERE = {
    "guidance": {"policy", "discrete", "operators", "Reward", "solve", "steer", "steering_methods"},
    "eval": {"physics"},
    "interop.diffusers": {"ConfigError", "SchedulerMixin"},
}


def tree_of(room: str) -> ast.Module:
    """The syntax tree of a room's ``__init__.py``."""
    path = PACKAGE.joinpath("fewstep", *room.split("."), "__init__.py")
    return ast.parse(path.read_text(encoding="utf-8"))


def exported(room: str) -> list[str]:
    """The public names of a room. ``checks`` has no ``__all__``: its public names are errors."""
    if room == "checks":
        return sorted(name for name in homes(room) if name.endswith("Error") or "Unknown" in name)
    for node in tree_of(room).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = set(ast.literal_eval(node.value)) - ELSEWHERE.get(room, set())
            return sorted(names, key=str.lower)
    raise ValueError(f"fewstep.{room} has no __all__")


def homes(room: str) -> dict[str, str]:
    """Name -> the module that the room imports it from, relative to the room."""
    return {
        alias.asname or alias.name: node.module or ""
        for node in ast.walk(tree_of(room))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }


def grouped(room: str) -> dict[str, list[str]]:
    """Heading -> names: rooms of ``eval``, and the modules of ``eval.physics`` apart; one heading,
    an empty one, elsewhere."""
    if room == "eval.physics":
        equations = [name for name in exported(room) if homes(room).get(name) == ""]
        others = [name for name in exported(room) if name not in equations]
        return {"Ratings and data": others, "Equations": equations}
    if room != "eval":
        return {"": exported(room)}
    found: dict[str, list[str]] = {heading: [] for heading in EVAL.values()}
    where = homes(room)
    for name in exported(room):
        found[EVAL[where[name].partition(".")[0]]].append(name)
    return {heading: names for heading, names in found.items() if names}


def page(title: str, room: str, first: str) -> str:
    """One API page."""
    lines = [f"# {title}", "", f"`fewstep.{room}`. {first}", ""]
    for heading, names in grouped(room).items():
        lines += [f"## {heading}", ""] if heading else []
        for name in names:
            lines += [f"::: fewstep.{room}.{name}", ""]
    return "\n".join(lines)


def sampler_table() -> str:
    """Every registered sampler with its order, options and source."""
    sys.path.insert(0, str(PACKAGE))
    samplers = import_module("fewstep.samplers")
    lines = [
        "# All samplers",
        "",
        "`fewstep samplers NAME` prints one of these rows, `fewstep samplers --find NAME` finds a",
        "sampler by another program's name for it. Order 0: no order is declared. Noise: the",
        "sampler draws noise with its default options.",
        "",
        "| sampler | order | noise | summary | options | source |",
        "|---|---|---|---|---|---|",
    ]
    for name in samplers.names():
        row = samplers.describe(name)
        options = ", ".join(f"`{key}={value!r}`" for key, value in row["options"].items())
        noise = "yes" if row["stochastic"] else ""
        cells = [f"`{name}`", f"{row['order']:g}", noise, row["summary"], options, row["source"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def write() -> None:
    """Write all pages, and a copy of CHANGELOG.md."""
    for name, (title, room, first) in ROOMS.items():
        if PACKAGE.joinpath("fewstep", *room.split("."), "__init__.py").exists():
            with mkdocs_gen_files.open(f"api/{name}.md", "w") as file:
                file.write(page(title, room, first))
    with mkdocs_gen_files.open("api/all_samplers.md", "w") as file:
        file.write(sampler_table())
    changes = Path(__file__).resolve().parent.parent / "CHANGELOG.md"
    with mkdocs_gen_files.open("changelog.md", "w") as file:
        file.write(changes.read_text(encoding="utf-8"))


write()
