"""``fewstep solve``: task files, flags, operators of one's own, and a run that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from folder_hashes import tree

import fewstep
from fewstep import guidance as G
from fewstep.cli import main

TASK = """\
model: mixture
operator: scanner.py:Scanner
task-option: {first: 1.0}
method: pigdm
sampler: ddim
option: {eta: 1.0}
steps: 3
sigma_y: 0.2
measurement: y.npy
batch: 2
"""
SCANNER = """\
import torch
from fewstep.guidance.operators import Matrix

class Scanner(Matrix):
    def __init__(self, first, second=0.5):
        super().__init__(torch.tensor([[first, second]]))
"""
Y = torch.tensor([[0.8], [-0.3], [0.1]])


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scanner.py").write_text(SCANNER)
    (tmp_path / "task.yaml").write_text(TASK)
    np.save(tmp_path / "y.npy", Y.numpy())
    return tmp_path


def test_a_task_file_and_flags_that_override_it(task, capsys):
    assert main(["solve", "task.yaml", "--out", "a", "--steps", "4", "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest == json.loads((task / "a" / "manifest.json").read_text())
    operator = G.operators.Matrix(torch.tensor([[1.0, 0.5]]))
    for rows in ([0, 1], [2]):
        law = G.Gaussian(operator, Y[rows], 0.2)
        given = {"sampler": "ddim", "sampler_options": {"eta": 1.0}, "steps": 4, "seeds": rows}
        want = G.solve(fewstep.models.load("mixture"), law, "pigdm", **given)
        found = np.load(task / "a" / manifest["samples"][rows[0]]["file"])["x"]
        assert np.array_equal(found, want.numpy())
    said = json.loads((task / "a" / "settings.json").read_text())
    names = ("steps", "operator", "task_option", "method", "sigma_y", "measurement", "seeds")
    assert [said[name] for name in names] == [
        4,
        "scanner.py:Scanner",
        {"first": 1.0},
        "pigdm",
        0.2,
        "y.npy",
        "0-2",
    ]


def test_what_is_printed(task, capsys):
    assert main(["solve", "task.yaml", "--out", "a"]) == 0
    out, err = capsys.readouterr()
    manifest = json.loads((task / "a" / "manifest.json").read_text())
    lines = out.splitlines()
    assert lines[0] == "3 samples of mixture by pigdm with ddim: a"
    assert lines[1] == (
        "calls a block: 3 of the network, 3 vector-Jacobian products, 3 of the operator, "
        "3 of its adjoint"
    )
    assert f"sqrt(m)): mean {manifest['scores']['residual']:.4g}" in lines[2]
    assert lines[-2:] == ["picture: a/grid.png", "manifest: a/manifest.json"]
    assert err == ""


def test_an_operator_whose_file_changed_is_another(task, capsys):
    assert main(["solve", "task.yaml", "--out", "a"]) == 0
    before = tree(task / "a")
    (task / "scanner.py").write_text(SCANNER.replace("second=0.5", "second=0.6"))
    assert main(["solve", "task.yaml", "--out", "a"]) == 3
    assert "other settings: operator_sha256" in capsys.readouterr().err
    assert tree(task / "a") == before


def test_functions_are_operators_too(task):
    (task / "scanner.py").write_text("def first(x):\n    return x[:, :1] ** 3\n")
    flags = ["--model", "mixture", "--operator", "scanner.py:first", "--measurement", "y.npy"]
    assert main(["solve", *flags, "--method", "dps", "--steps", "2", "--out", "a"]) == 0
    rows = json.loads((task / "a" / "manifest.json").read_text())["samples"]
    x = np.load(task / "a" / rows[0]["file"])["x"]
    want = np.abs(Y.numpy() - x[:, :1] ** 3)[:, 0]
    assert [row["misfit"] for row in rows] == pytest.approx(want.tolist(), rel=1e-5, abs=1e-6)


REFUSED = [
    (["--task", "inpaint-bx"], 3, "exclude each other"),
    (["--method", "pigmd"], 3, "did you mean 'pigdm'"),
    (["-m", "strenght=3"], 3, "unknown option"),
    (["-t", "third=3"], 3, "third"),
    (["--truth", "y.npy"], 3, "exclude each other"),
    (["--noise-seed", "1"], 3, "belongs to truth="),
    (["--operator", "scanner.py:Scaner"], 3, "did you mean 'Scanner'"),
    (["--measurement", "none.npy"], 3, "there is no file"),
    (["--sigma-y", "-1"], 3, "sigma_y=-1.0"),
    (["--seeds", "0-5"], 3, "there are 3 measurements"),
    (["--sigma-y", "much"], 2, "invalid float"),
    (["--measure", "y.npy", "--mehtod", "x"], 2, "did you mean --method"),
]


@pytest.mark.parametrize(
    ("flags", "code", "text"), REFUSED, ids=[" ".join(flags) for flags, _, _ in REFUSED]
)
def test_what_cannot_be_solved_is_refused(task, capsys, flags, code, text):
    assert main(["solve", "task.yaml", "--out", "a", *flags]) == code
    assert text in capsys.readouterr().err
    assert not (task / "a").exists()


def test_a_wrong_name_in_a_task_file(task, capsys):
    (task / "task.yaml").write_text("measurment: y.npy\n")
    assert main(["solve", "task.yaml", "--out", "a"]) == 3
    assert "did you mean 'measurement'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(task):
    """kill -9 when some blocks are done and others are not; the second run ends with the bytes of
    an unbroken one."""
    flags = ["task.yaml", "--steps", "20"]
    np.save("y.npy", np.linspace(-1, 1, 60)[:, None])
    command = [sys.executable, "-m", "fewstep", "solve", "--out", "broken", *flags]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    blocks = task / "broken" / "blocks"
    try:
        for _ in range(12000):
            if len(list(blocks.glob("*.json"))) >= 3 or running.poll() is not None:
                break
            time.sleep(0.01)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert 3 <= len(list(blocks.glob("*.json"))) < 30, "it was to be killed in the middle"
    assert not (task / "broken" / "manifest.json").exists()
    for name in ("broken", "whole"):
        assert main(["solve", "--out", name, *flags]) == 0
    assert tree(task / "broken") == tree(task / "whole")
