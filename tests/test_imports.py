"""Import directions: who may import whom, read from the syntax trees, and what ``import fewstep``
loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from repository import ROOT, rooms, sources

import fewstep

#: room -> the rooms that it may import, beside ``checks``, which every room may
MAY: dict[str, set[str]] = {
    "checks": set(),
    "files": set(),
    "schedules": set(),
    "fused": set(),
    "models": {"schedules", "files"},
    "plans": {"schedules", "fused"},
    "samplers": {"schedules", "plans"},
    "guidance": {"schedules", "fused", "models", "plans", "samplers"},  # fused: its own noise
    "engine": {"schedules", "fused", "models", "plans", "samplers", "guidance", "files"},
    "interop": {"schedules", "fused", "models", "plans", "samplers", "guidance", "engine"},
    "eval": {
        "schedules",
        "fused",
        "models",
        "plans",
        "samplers",
        "guidance",
        "engine",
        "interop",
        "files",
    },
    "train": {"schedules", "models", "files"},
}
MAY["jobs"] = {*MAY} - {"checks", "train"} | {""}
MAY["cli"] = {"", *MAY}
MAY[""] = {"cli", *MAY} - {""}
for _room in set(MAY) - {"checks"}:
    MAY[_room].add("checks")
#: room -> the rooms that it may name in annotations only
TYPES = {"plans": {"models"}}
#: file -> the rooms that it may import against the direction. ``fewstep.guidance.steer`` and
#: ``solve`` are the door to functions of ``engine``, which knows samplers and grids by name; it is
#: opened at first use
DOORS = {"guidance/__init__.py": {"engine"}}
#: what must not be loaded before someone asks for it
HEAVY = (
    "PIL",
    "accelerate",
    "diffusers",
    "matplotlib",
    "scipy",
    "torchmetrics",
    "torchvision",
    "tqdm",
    "triton",
    "yaml",
)


class Edge(NamedTuple):
    """One import: the line, the room that it reaches ("" is the root), and whether only type
    checkers follow it."""

    line: int
    room: str
    types_only: bool


def is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def walk(node: ast.AST, types_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, with whether it stands in the body of ``if TYPE_CHECKING:``."""
    for child in ast.iter_child_nodes(node):
        yield child, types_only
        if isinstance(child, ast.If) and is_type_checking(child.test):
            for part in child.body:
                yield part, True
                yield from walk(part, True)
            for part in child.orelse:
                yield part, types_only
                yield from walk(part, types_only)
        else:
            yield from walk(child, types_only)


def edges(source: str, path: Path) -> list[Edge]:
    """The imports of our own rooms in a file at ``path`` (relative to the root); absolute ones are
    refused."""
    found = []
    for node, types_only in walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            absolute = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            absolute = [(node.module or "").split(".")[0]]
        else:
            absolute = []
            if isinstance(node, ast.ImportFrom):
                found += [Edge(node.lineno, room, types_only) for room in reached(node, path)]
        for name in absolute:
            if name == "fewstep" or name in MAY:
                raise ImportError(
                    f"{path}:{node.lineno} imports {name!r} absolutely; imports inside the "
                    "package are relative"
                )
    return found


def reached(node: ast.ImportFrom, path: Path) -> Iterator[str]:
    """The rooms that a relative import reaches."""
    package = list(path.parts[:-1])
    above = node.level - 1
    if above > len(package):
        raise ImportError(f"{path}:{node.lineno} climbs out of the package")
    target = package[: len(package) - above] + (node.module or "").split(".") * bool(node.module)
    if target:
        yield target[0]
        return
    for alias in node.names:
        yield alias.name if alias.name in MAY else ""


def back_edges(source: str, path: Path) -> list[str]:
    """Imports against the direction, as ``file:line room -> room``."""
    room = path.parts[0] if len(path.parts) > 1 else ""
    wrong = []
    for edge in edges(source, path):
        allowed = MAY[room] | {room} | (TYPES.get(room, set()) if edge.types_only else set())
        allowed = allowed | DOORS.get(path.as_posix(), set())
        if edge.room not in allowed:
            wrong.append(f"{path}:{edge.line} {room or 'root'} -> {edge.room or 'root'}")
    return wrong


def test_every_room_has_a_direction():
    assert set(rooms()) == set(MAY) - {""}


@pytest.mark.parametrize("room", sorted(MAY))
def test_arrows_go_one_way(room):
    mine = [path for path in sources() if (path.parts[0] if len(path.parts) > 1 else "") == room]
    assert mine
    wrong = [
        line
        for path in mine
        for line in back_edges((ROOT / path).read_text(encoding="utf-8"), path)
    ]
    assert not wrong, "\n".join(wrong)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package by its ``__init__``."""
    found = {}
    for path in sources():
        parts = path.with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, path: Path, known: Collection[str]) -> set[str]:
    """The modules that a file imports, also inside functions; annotations aside."""
    found = set()
    for node, types_only in walk(ast.parse(source)):
        if types_only or not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = list(path.parts[: len(path.parts) - node.level])
        base += (node.module or "").split(".") * bool(node.module)
        for alias in node.names:
            whole = ".".join([*base, alias.name])
            found.add(whole if whole in known else ".".join(base))
    return found


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """Files on circles: take away, again and again, what imports nothing or is imported by nothing
    that is left."""
    left = {name: set(targets) - {name} for name, targets in graph.items()}
    while True:
        read = set().union(*left.values())
        free = [name for name in left if name not in read or not left[name] & left.keys()]
        if not free:
            return sorted(left)
        for name in free:
            del left[name]


def test_no_circle_of_files():
    known = modules()
    graph = {
        name: imported((ROOT / path).read_text(encoding="utf-8"), path, known)
        for name, path in known.items()
    }
    assert not circles(graph)


def test_a_planted_circle_of_files_is_found():
    known = {"plans.a", "plans.b", "plans.c"}
    a = imported("def f():\n    from .b import g", Path("plans/a.py"), known)
    b = imported("from . import c, a", Path("plans/b.py"), known)
    c = imported("if TYPE_CHECKING:\n    from .a import f", Path("plans/c.py"), known)
    assert circles({"plans.a": a, "plans.b": b, "plans.c": c}) == ["plans.a", "plans.b"]
    assert not circles({"plans.a": a, "plans.b": {"plans.c"}, "plans.c": c})


def test_directions_have_no_cycle():
    order: list[str] = []
    left = {room: targets - {""} for room, targets in MAY.items() if room}
    while left:
        ready = sorted(room for room, targets in left.items() if targets <= set(order))
        assert ready, f"a cycle among {sorted(left)}"
        order += ready
        left = {room: targets for room, targets in left.items() if room not in ready}


@pytest.mark.parametrize(
    "planted",
    [
        "from ..models import load",
        "from ..models.denoiser import Denoiser",
        "from .. import models",
        "from .. import sample",
        "from .. import __version__",
        "def f():\n    from ..engine import sample",
        "if TYPE_CHECKING:\n    from ..models.denoiser import Denoiser",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from ..models.denoiser import Denoiser",
        "try:\n    from ..cli import main\nexcept ImportError:\n    pass",
    ],
)
def test_a_planted_back_edge_is_found(planted):
    assert len(back_edges(planted, Path("samplers/planted.py"))) == 1


@pytest.mark.parametrize(
    "planted",
    [
        "import fewstep",
        "from fewstep.plans import Plan",
        "import samplers",
        "from models import load",
    ],
)
def test_a_planted_absolute_import_is_found(planted):
    with pytest.raises(ImportError, match="absolutely"):
        back_edges(planted, Path("samplers/planted.py"))


def test_a_planted_climb_is_found():
    with pytest.raises(ImportError, match="climbs"):
        back_edges("from ...outside import x", Path("samplers/planted.py"))


@pytest.mark.parametrize(
    ("planted", "path"),
    [
        (
            "from ..schedules.node import Node\nfrom .registry import register\nimport torch",
            "samplers/planted.py",
        ),
        ("if TYPE_CHECKING:\n    from ..models.denoiser import Denoiser", "plans/planted.py"),
        ("from ..schedules import node", "eval/physics.py"),
        ("from ...schedules import node\nfrom ..tables import show", "eval/physics/darcy.py"),
    ],
)
def test_right_imports_pass(planted, path):
    assert back_edges(planted, Path(path)) == []


def test_types_only_holds_for_annotations_alone():
    assert back_edges("from ..models.denoiser import Denoiser", Path("plans/planted.py")) == [
        "plans/planted.py:1 plans -> models"
    ]


def loaded_by(statements: str) -> set[str]:
    """Top-level modules in ``sys.modules`` after ``statements`` in a fresh interpreter."""
    code = (
        f"{statements}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "tests"
    )
    return set(done.stdout.split())


def test_importing_fewstep_loads_not_even_torch():
    assert not loaded_by("import fewstep") & {"torch", "numpy", *HEAVY}


def test_the_door_of_guidance_stays_closed_until_it_is_used():
    closed = "import fewstep.guidance, sys\nfewstep.guidance.CFG\nassert 'fewstep.engine' not in sys.modules"
    assert "torch" in loaded_by(closed)
    assert back_edges("from ..engine.steering import steer", Path("guidance/planted.py"))


def test_touching_every_name_loads_nothing_heavy():
    touch = "import fewstep\nfor name in fewstep.__all__: getattr(fewstep, name)"
    base = loaded_by("import torch, numpy, safetensors.torch")
    assert not (loaded_by(touch) - base) & set(HEAVY)


def test_every_public_name_is_there():
    assert all(getattr(fewstep, name) is not None for name in fewstep.__all__)
    assert dir(fewstep) == sorted(fewstep.__all__)
    assert len(fewstep.__all__) <= 40


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="smaple"):
        _ = fewstep.smaple
