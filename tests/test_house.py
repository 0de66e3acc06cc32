"""House rules that no linter knows: sizes, names, no hard-wired paths, no hidden state in the core.

Each rule that reads source is tried on a planted offence too.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest
from repository import NOT_SHIPPED, ROOT, files, rooms, sources

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

#: a longer file holds two nouns; a file of one noun that comes near is left whole
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 40
MOST_BYTES_OF_A_FILE = 20 * 1024 * 1024
#: file names that say nothing about what is inside
NO_NOUNS = {
    "common",
    "core",
    "functions",
    "helper",
    "helpers",
    "misc",
    "shared",
    "stuff",
    "tools",
    "util",
    "utils",
}
#: the rooms that compute: no global random state, no choice of a device (ruff's T20 keeps them
#: silent)
CORE = {"schedules", "models", "fused", "plans", "samplers", "guidance", "engine"}
#: calls that draw from, or set, random state which is not an argument
GLOBAL_RNG = re.compile(
    r"(torch\.)?(cuda\.)?manual_seed(_all)?|torch\.seed|random\.\w+|"
    r"(np|numpy)\.random\.(?!(default_rng|Generator|SeedSequence|Philox|PCG64)\b)\w+"
)
DRAWS = {
    f"torch.{name}"
    for name in (
        "rand",
        "randn",
        "rand_like",
        "randn_like",
        "randint",
        "normal",
        "randperm",
        "bernoulli",
    )
}
#: an absolute path of some machine
MACHINE_PATH = re.compile(
    r"(?<![\w.$}~/-])/(?:home|root|tmp|work|Users|mnt|opt|var|data|scratch)/\w"
)
#: public functions that hand further keywords on as the options of a sampler or a config
DOORS = {
    "engine/arguments.py",
    "engine/inversion.py",
    "engine/likelihood.py",
    "engine/planning.py",
    "engine/sampling.py",
    "engine/solving.py",
    "engine/steering.py",
    "eval/benchmark/runner.py",
    "eval/certificates/certification.py",
    "eval/certificates/prediction_types.py",
    "eval/certificates/strong_orders.py",
    "eval/certificates/third_party.py",
    "eval/solver/accounting.py",
    "eval/solver/error.py",
    "eval/solver/pathwise.py",
    "eval/solver/weak.py",
    "interop/diffusers/guided_pipelines.py",
    "interop/diffusers/recorder.py",
    "interop/diffusers/scheduler.py",
    "interop/diffusers/steps.py",
    "interop/kdiffusion/arguments.py",
    "interop/kdiffusion/definition.py",
    "interop/kdiffusion/sample_functions.py",
    "jobs/generation.py",
    "jobs/inversion.py",
    "jobs/scoring.py",
    "schedules/grids/construction.py",
}
BINARY = {".safetensors", ".npz", ".npy", ".png", ".jpg", ".gif", ".pt", ".gz", ".parquet"}


def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1


def long_functions(source: str) -> list[str]:
    return [
        f"{f.name} has {length(f)} lines"
        for f in functions(ast.parse(source))
        if length(f) > MOST_LINES_OF_A_FUNCTION
    ]


def open_doors(source: str) -> list[str]:
    """Functions that catch arbitrary keywords."""
    return [
        f"{f.name} takes **{f.args.kwarg.arg}" for f in functions(ast.parse(source)) if f.args.kwarg
    ]


def hidden_state(source: str) -> list[str]:
    """Calls that use the global random state or ask which devices there are."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        drawn = name in DRAWS and not any(keyword.arg == "generator" for keyword in node.keywords)
        if drawn or GLOBAL_RNG.fullmatch(name) or name == "torch.cuda.is_available":
            found.append(f"{name} in line {node.lineno}")
    return found


def machine_paths(source: str) -> list[str]:
    return [line.strip() for line in source.splitlines() if MACHINE_PATH.search(line)]


def offences(paths: list[Path], rule: Callable[[str], list[str]]) -> str:
    return "\n".join(f"{path}: {offence}" for path in paths for offence in rule(read(path)))


def code() -> list[Path]:
    """The package and the benchmarks."""
    return [path for path in files() if path.suffix == ".py" and path.parts[0] != "tests"]


def core() -> list[Path]:
    return [path for path in sources() if path.parts[0] in CORE]


def text() -> list[Path]:
    return [path for path in files() if path.suffix not in BINARY]


def test_no_file_is_long():
    long = {
        str(path): lines
        for path in code()
        if (lines := read(path).count("\n")) > MOST_LINES_OF_A_FILE
    }
    assert not long


def test_no_function_is_long():
    found = offences(code(), long_functions)
    assert not found, found


def test_a_planted_long_function_is_found():
    body = "\n".join(["    x = 1"] * MOST_LINES_OF_A_FUNCTION)
    head = 'def f(\n    a,\n    b,\n):\n    """One.\n\n    Two.\n    """\n'
    assert long_functions(head + body) == []
    assert long_functions(head + body + "\n    x = 2") == ["f has 41 lines"]


def test_every_file_is_named_by_a_noun():
    assert not [str(path) for path in code() if path.stem in NO_NOUNS or path.parts[0] in NO_NOUNS]


def packages() -> list[str]:
    """Every folder of the package, the root as ""."""
    return sorted({path.parent.as_posix().removeprefix(".") for path in sources()})


@pytest.mark.parametrize("folder", packages())
def test_no_function_shares_its_modules_name(folder):
    """``fewstep.eval.certify`` next to ``certify.py`` would turn into the module as soon as someone
    imports that."""
    package = import_module(f"fewstep.{folder.replace('/', '.')}".rstrip("."))
    here = [path.relative_to(folder) for path in sources() if path.is_relative_to(folder)]
    modules = {path.stem if len(path.parts) == 1 else path.parts[0] for path in here}
    shared = set(getattr(package, "__all__", ())) & (modules - {"__init__", "__main__"})
    assert all(inspect.ismodule(getattr(package, name)) for name in shared), shared


def dependencies() -> set[str]:
    """Import names of what pyproject.toml names, and of the standard library."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    named = {re.split(r"[\s<>=!~;\[]", line)[0].replace("-", "_").lower() for line in listed}
    return named | {"yaml", "PIL", "numpy"}


def test_no_file_has_the_name_of_a_dependency():
    """Only the folders ``diffusers`` may: they hold no top-level module."""
    names = [(path, part) for path in code() for part in (path.stem, *path.parts[:-1])]
    shared = {str(path) for path, part in names if part in dependencies() and part != "diffusers"}
    assert not shared
    assert not [path for path in code() if path.stem == "diffusers"]
    assert {"torch", "scipy", "transformers", "matplotlib"} & dependencies() >= {"torch", "scipy"}


def test_no_open_keywords_below_the_door():
    found = offences([path for path in sources() if path.as_posix() not in DOORS], open_doors)
    assert not found, found
    assert open_doors("def f(x, **options): ...") == ["f takes **options"]


def test_the_core_has_no_hidden_state():
    found = offences(core(), hidden_state)
    assert not found, found


@pytest.mark.parametrize(
    "planted",
    [
        "torch.manual_seed(0)",
        "np.random.seed(0)",
        "x = torch.randn(3)",
        "x = random.random()",
        "torch.cuda.is_available()",
    ],
)
def test_planted_hidden_state_is_found(planted):
    assert len(hidden_state(planted)) == 1


def test_a_generator_is_no_hidden_state():
    assert (
        hidden_state(
            "torch.randn(3, "
            "generator=g)\nnp.random.default_rng(0)\nnp.random.SeedSequence(0)\nrng.normal(3)"
        )
        == []
    )


def test_no_machine_path_is_written_down():
    found = offences(text(), machine_paths)
    assert not found, found


def test_a_planted_machine_path_is_found():
    slash = "/"
    assert machine_paths(f'open("{slash}tmp{slash}x")') and machine_paths(
        f"cd {slash}work{slash}main"
    )
    assert not machine_paths(
        "https://example.org/work/x ../tmp/x ./data/y #!/usr/bin/env bash $HOME/opt/x"
    )


def test_no_file_is_large():
    assert not [
        str(path) for path in files() if (ROOT / path).stat().st_size > MOST_BYTES_OF_A_FILE
    ]


def test_every_module_says_what_it_is():
    bare = [str(path) for path in code() if not ast.get_docstring(ast.parse(read(path)))]
    assert not bare


def test_every_folder_is_known():
    """A new top-level folder is a decision: it is a room (tests/test_imports.py), or it is named
    here."""
    tops = {
        path.parts[0]
        for path in files()
        if len(path.parts) > 1 and not path.parts[0].startswith(".")
    }
    assert tops == set(rooms()) | NOT_SHIPPED
