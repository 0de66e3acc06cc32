"""Make ``schedulers.json`` from sources of diffusers:
``python tests/golden/extract_schedulers.py FOLDER ...``.

Each FOLDER holds one version, as ``pip install --no-deps --target FOLDER diffusers==0.31.0`` leaves
it. Nothing of it is imported: the signatures are read from the text, so a version that today's
torch or transformers cannot import is read too. The file maps version -> class -> key -> default;
infinities are the strings ``"inf"`` and ``"-inf"``.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: classes that are served, or have the same keys as one that is
WANTED = (
    *(
        "DDIM",
        "DDIMParallel",
        "DDPM",
        "DDPMParallel",
        "PNDM",
        "DPMSolverMultistep",
        "DPMSolverSinglestep",
        "DEISMultistep",
    ),
    *(
        "UniPCMultistep",
        "SASolver",
        "EulerDiscrete",
        "EulerAncestralDiscrete",
        "HeunDiscrete",
        "KDPM2Discrete",
        "KDPM2AncestralDiscrete",
    ),
    *(
        "LMSDiscrete",
        "EDMEuler",
        "EDMDPMSolverMultistep",
        "FlowMatchEulerDiscrete",
        "FlowMatchHeunDiscrete",
        "FlowMapEulerDiscrete",
    ),
    *("LCM", "TCD", "IPNDM", "CogVideoXDDIM", "CogVideoXDPM", "FlowMatchLCM"),
)


def value(node: ast.expr) -> Any:
    """A default as JSON; ``float("inf")`` is the one call that is understood."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Call):
        return "-inf"
    return "inf" if isinstance(node, ast.Call) else ast.literal_eval(node)


def signature(init: ast.FunctionDef) -> dict[str, Any]:
    """Key -> default of a constructor."""
    names = [argument.arg for argument in init.args.args[1:]]
    return dict(zip(names, map(value, init.args.defaults), strict=True))


def classes(folder: Path) -> dict[str, dict[str, Any]]:
    """Class -> key -> default of the version in ``folder``."""
    wanted, found = {f"{name}Scheduler" for name in WANTED}, {}
    for file in sorted((folder / "diffusers" / "schedulers").glob("scheduling_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in wanted:
                init = next(
                    f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"
                )
                found[node.name] = signature(init)
    return dict(sorted(found.items()))


def version(folder: Path) -> str:
    """As the package says it."""
    text = (folder / "diffusers" / "__init__.py").read_text(encoding="utf-8")
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith("__version__"))


def main(folders: list[Path]) -> None:
    """Read the folders and write the file here."""
    found = {version(folder): classes(folder) for folder in folders}
    lines = []
    for name, made in found.items():
        rows = ",\n".join(
            f"  {json.dumps(key)}: {json.dumps(values)}" for key, values in made.items()
        )
        lines.append(f"{json.dumps(name)}: {{\n{rows}\n}}")
    (HERE / "schedulers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print({name: len(made) for name, made in found.items()})


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
