"""The package as it ships: the list of folders, the wheel, the wheel at work from another folder,
names that mislead no one."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from itertools import chain
from pathlib import Path

import pytest
import yaml
from repository import NOT_SHIPPED, ROOT, files, rooms, sources

import fewstep

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


def settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pip(*arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of what git has, so that nothing lying about gets in and nothing is
    left behind."""
    tree = tmp_path_factory.mktemp("tree") / "any-name"
    for path in files():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tree / path)
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(tree), cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel installed into a folder of its own."""
    target = tmp_path_factory.mktemp("target")
    pip("install", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=target)
    return target


def elsewhere(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in another folder, with nothing but the installed wheel on ``PYTHONPATH``."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )


def test_the_package_list_is_the_folders():
    folders = {
        path.parent
        for path in files()
        if path.name == "__init__.py" and path.parts[0] not in NOT_SHIPPED
    }
    listed = settings()["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(".".join(("fewstep", *folder.parts)) for folder in folders)


def test_every_source_lies_in_a_listed_folder():
    packages = set(settings()["tool"]["setuptools"]["packages"])
    assert not [
        path for path in sources() if ".".join(("fewstep", *path.parts[:-1])) not in packages
    ]


def test_every_imported_distribution_is_declared():
    """What the package imports is named in pyproject.toml, not left to come with another one."""
    project = settings()["project"]
    listed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {re.split(r"[\s<>=!~;\[]", line)[0].replace("-", "_").lower() for line in listed}
    declared |= {"PIL"} if "pillow" in declared else set()
    declared |= {"yaml"} if "pyyaml" in declared else set()
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    assert {"torch", "typing_extensions"} <= found
    assert found - set(sys.stdlib_module_names) <= declared


def test_the_root_holds_two_python_files():
    assert sorted(path.name for path in sources() if len(path.parts) == 1) == [
        "__init__.py",
        "__main__.py",
    ]


def test_the_link_for_type_checkers_is_there():
    link = ROOT / ".typing" / "fewstep"
    assert link.is_symlink()
    assert Path(os.readlink(link)) == Path("..")


def test_the_version_is_set_once():
    assert settings()["project"]["dynamic"] == ["version"]
    assert fewstep.__version__.count(".") == 2
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == fewstep.__version__
    page = (ROOT / "docs/citation.md").read_text(encoding="utf-8")
    assert f"version = {{{fewstep.__version__}}}" in page


def test_the_wheel_holds_the_package_and_no_more(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        assert f"Version: {fewstep.__version__}\n" in archive.read(metadata).decode()
    code = {f"fewstep/{path.as_posix()}" for path in sources()}
    weights = {
        f"fewstep/{path.as_posix()}" for path in files() if path.parts[:2] == ("models", "bundled")
    }
    weights = {name for name in weights if name.endswith((".json", ".safetensors"))}
    templates = {f"fewstep/{path.as_posix()}" for path in files() if "templates" in path.parts}
    texts = {f"fewstep/{path.as_posix()}" for path in files() if "prefaces" in path.parts}
    assert weights and templates and texts
    # compiled where there is a C compiler
    kernels = {name for name in inside if Path(name).name.startswith("_native.")}
    assert {str(Path(name).parent) for name in kernels} <= {
        "fewstep/fused/linear",
        "fewstep/fused/noise",
    }
    assert inside - kernels == code | weights | templates | texts | {"fewstep/py.typed"}


def test_the_installed_wheel_is_what_runs(installed, tmp_path):
    done = elsewhere(
        installed,
        tmp_path,
        "-c",
        "import fewstep; print(fewstep.__file__, *fewstep.models.names())",
    )
    assert done.returncode == 0, done.stderr
    where, *names = done.stdout.split()
    assert Path(where).is_relative_to(installed)
    assert "mnist" in names


@pytest.mark.slow
def test_the_installed_wheel_generates(installed, tmp_path):
    arguments = [
        "generate",
        "--model",
        "mixture",
        "--out",
        str(tmp_path / "out"),
        "--seeds",
        "0-3",
        "--steps",
        "3",
    ]
    done = elsewhere(installed, tmp_path, "-m", "fewstep", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_size
    ]


#: imports every room as a foreign library would, the root on its path, and reports whatever they
#: did beside being imported
FOREIGN = """
import importlib, json, random, sys
import numpy, safetensors.torch, torch
sys.dont_write_bytecode = True
deeds = []
DOING = ("os.mkdir", "os.remove", "os.rename", "os.system", "socket.connect", "subprocess.Popen")
def watch(event, arguments):
    if event in DOING or event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        deeds.append([event, str(arguments[0])])
sys.addaudithook(watch)
def state():
    return [torch.get_default_dtype(), torch.get_num_threads(), torch.random.get_rng_state().tolist(), random.getstate(),
            numpy.random.get_state()[1].tolist(), sys.getrecursionlimit(), list(sys.path), torch.is_grad_enabled()]
before = state()
for room in sys.argv[1:]:
    try:
        importlib.import_module(room)
    except ImportError:
        pass
print(json.dumps({"deeds": deeds, "same": state() == before, "ours": sorted(name for name in sys.modules if "fewstep" in name)}))
"""


def test_a_foreign_import_of_a_room_does_nothing():
    command = [sys.executable, "-B", "-W", "error", "-c", FOREIGN, *rooms()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["deeds"] == []
    assert report["same"]
    assert all(name.startswith("__editable__") for name in report["ours"])
