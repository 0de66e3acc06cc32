"""How commands end: exit codes and sentences, closed streams, terminals without an encoding,
signals, settings and devices."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from fewstep.checks import ArgumentError
from fewstep.checks.answers import (
    BAD_INPUT,
    BUG,
    INTERRUPTED,
    NUMERICAL,
    OK,
    TERMINATED,
    Terminated,
    answer,
)
from fewstep.checks.commands import guarded, tell
from fewstep.cli import main
from fewstep.cli.config_file import read_config
from fewstep.cli.options import parse_options
from fewstep.jobs import devices, processes
from fewstep.jobs.settings import MOST_SEEDS, parse_seeds, parse_size
from fewstep.plans.running.loop import NumericalError

POINTS = ["--model", "mixture", "--seeds", "0-3", "--batch", "2", "--steps", "2"]
FEWSTEP = [sys.executable, "-m", "fewstep"]


def shell(line: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A line of sh in which ``$F`` is the command."""
    given = {
        **os.environ,
        "F": f"{sys.executable} -m fewstep",
        "PYTHONUTF8": "0",
        "PYTHONUNBUFFERED": "",
        **environment,
    }
    return subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=given, capture_output=True, check=False
    )


# --- errors


class Strange(Exception):
    """Nobody's."""


ANSWERS = [
    (ArgumentError("steps=0"), BAD_INPUT, "steps=0"),
    (NumericalError("NaN", 1, 0.5, (0,)), NUMERICAL, "NaN"),
    (
        OSError(errno.ENOSPC, "No space left on device", "a/b.png"),
        BAD_INPUT,
        "No space left on device: 'a/b.png'; make room",
    ),
    (OSError("odd"), BAD_INPUT, "odd"),
    (
        MemoryError("Unable to allocate 7 GiB"),
        BAD_INPUT,
        "out of memory (Unable to allocate 7 GiB)",
    ),
    (torch.OutOfMemoryError("CUDA out of memory. Tried"), BAD_INPUT, "out of memory"),
    (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"
        ),
        BAD_INPUT,
        "out of memory",
    ),
    (SafetensorError("header"), BAD_INPUT, "header"),
    (zipfile.BadZipFile("no zip"), BAD_INPUT, "no zip"),
    (zlib.error("Error -3"), BAD_INPUT, "Error -3"),
    (KeyboardInterrupt(), INTERRUPTED, "interrupted; run the same command again"),
    (Terminated(), TERMINATED, "terminated"),
]


@pytest.mark.parametrize(
    ("error", "code", "text"), ANSWERS, ids=[type(error).__name__ for error, _, _ in ANSWERS]
)
def test_an_error_is_a_code_and_a_sentence(error, code, text, capsys):
    def fail() -> int:
        raise error

    assert guarded(fail, "prog", process=False) == code
    said = capsys.readouterr().err
    assert said.startswith("prog: error: ") and text in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        KeyError("k"),
        AttributeError("a"),
        TypeError("t"),
        ValueError("v"),
        ZeroDivisionError("z"),
        EOFError("e"),
        RecursionError("d"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        AssertionError(),
        Strange("s"),
        RuntimeError("r"),
    ],
)
def test_a_fault_of_the_program_shows_where_it_is(error, capsys):
    def fail() -> int:
        raise error

    assert answer(error) is None
    assert guarded(fail, "prog", process=False) == BUG == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "in fail" in said and "please report it" in said


def test_a_traceback_of_ours_is_shown_when_asked(tmp_path, capsys):
    command = ["generate", "--out", str(tmp_path / "o"), "--model", "mnst"]
    for flags in ([*command, "--traceback"], ["--traceback", *command]):
        assert main(flags) == 3
        said = capsys.readouterr().err
        assert "Traceback" in said and "ModelError" in said
        assert said.splitlines()[-1].startswith("fewstep: error: ") and "report" not in said
    assert main(command) == 3
    assert capsys.readouterr().err.count("\n") == 1


TYPOS = [
    (["generate", "--out", "o", "--stepss", "3"], "--stepss 3; did you mean --steps?"),
    (["generate", "--out", "o", "--sampeler=ddim"], "did you mean --sampler?"),
    (["score", "x", "--skip-corupt"], "did you mean --skip-corrupt?"),
    (["generat", "--out", "o"], "did you mean generate?"),
    (["generate", "--out", "o", "--final", "zeros"], "did you mean zero?"),
    (["plan", "ddim", "--qqqqqqqq"], "unrecognized arguments: --qqqqqqqq\n"),
]


@pytest.mark.parametrize(("command", "word"), TYPOS, ids=[word for _, word in TYPOS])
def test_a_typo_names_the_nearest(command, word, capsys):
    assert main(command) == 2
    said = capsys.readouterr().err
    assert word in said and said.startswith("usage: fewstep")


@pytest.mark.parametrize(("stop", "code"), [(0, 0), (2, 2), (None, 0), ("words", 2)])
def test_exits_of_argparse_keep_their_code(stop, code):
    def fail() -> int:
        raise SystemExit(stop)

    assert guarded(fail, "prog", process=False) == code


# --- streams


class Full(io.StringIO):
    """A device without room, or a terminal that has gone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


def test_a_full_standard_output_is_an_error_and_a_closed_pipe_is_none(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Full(errno.ENOSPC))
    assert guarded(lambda: OK, "prog", process=False) == BAD_INPUT
    assert "standard output" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdout", Full(errno.EPIPE))
    assert guarded(lambda: OK, "prog", process=False) == OK
    assert guarded(lambda: 5, "prog", process=False) == 5


def test_a_terminal_that_has_gone_stops_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Full(errno.EIO))
    tell("block 1/2")

    def fail() -> int:
        raise ArgumentError("no")

    assert guarded(fail, "prog", process=False) == BAD_INPUT


CLOSED = {"stderr": "2>&-", "all": "<&- >&- 2>&-"}


@pytest.mark.parametrize("closed", CLOSED.values(), ids=CLOSED)
def test_a_run_without_streams_writes_the_same_files(closed, tmp_path):
    done = shell(f"$F generate {' '.join(POINTS)} --out o {closed}", tmp_path)
    assert done.returncode == 0 and done.stderr == b""
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert [row["seed"] for row in manifest["samples"]] == [0, 1, 2, 3]
    assert not [
        path
        for path in (tmp_path / "o").rglob("*")
        if path.is_file() and b"samples of mixture" in path.read_bytes()
    ]


def test_what_is_wrong_is_never_said_on_standard_output(tmp_path):
    done = shell("$F generate --config nope --out o 2>&-", tmp_path)
    assert (done.returncode, done.stdout) == (3, b"")
    done = shell("$F --version >&-; echo $? >&2", tmp_path)
    assert done.stderr.strip() == b"0"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device without room is Linux's")
def test_a_full_device(tmp_path):
    done = shell("$F --version > /dev/full", tmp_path)
    assert (
        done.returncode == 3
        and b"No space left on device" in done.stderr
        and done.stderr.count(b"\n") == 1
    )


def test_a_reader_that_has_gone(tmp_path):
    """Nobody has the other end of the pipe when the command writes."""
    done = shell("{ sleep 0.2; $F --version; echo $? > code; } | true", tmp_path)
    assert (tmp_path / "code").read_text().strip() == "0" and done.stderr == b""


def test_a_terminal_without_the_letters(tmp_path):
    done = shell(f'$F generate {" ".join(POINTS)} --out "ü"', tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"") and rb"\xfc" in done.stdout
    assert (tmp_path / "ü" / "manifest.json").exists()
    done = shell('$F generate --config "ü€" --out o', tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 3 and rb"\u20ac" in done.stderr


# --- signals


@pytest.mark.parametrize(
    ("ready", "number", "code", "word"),
    [
        ("import", signal.SIGINT, 130, b"interrupted"),
        ("import", signal.SIGTERM, 143, b"terminated"),
        ("draw", signal.SIGINT, 130, b"interrupted"),
    ],
)
def test_a_stopped_run_says_so_in_one_line_and_goes_on(number, code, word, ready, tmp_path):
    """Stopped while its modules are imported, or when some blocks are done."""
    flags = [
        "--model",
        "mixture",
        "--seeds",
        "0-4000",
        "--batch",
        "1",
        "--steps",
        "100",
        "--out",
        str(tmp_path / "o"),
    ]
    watched = (
        [sys.executable, "-c", WATCHED, *flags]
        if ready == "import"
        else [*FEWSTEP, "generate", *flags]
    )
    running = subprocess.Popen(
        watched, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    for _ in range(3000):
        if (
            tmp_path / ("importing" if ready == "import" else "o/blocks/00000.json")
        ).exists() or running.poll() is not None:
            break
        time.sleep(0.01)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == code and word in said and said.count(b"\n") == 1
    assert not list(tmp_path.rglob("*.partial"))


#: the command, with a module that takes long to import
WATCHED = """
import sys, pathlib, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            pathlib.Path("importing").touch()
            time.sleep(60)
sys.meta_path.insert(0, Slow())
sys.argv[1:1] = ["generate"]
from fewstep.cli import main
sys.exit(main())
"""


# --- settings


CONFIGS = {
    "format: PNG": "did you mean 'png'",
    "format: jpg": "did you mean 'png'",
    "final: Zero": "did you mean 'zero'",
    "final: [zero]": "final",
    "batch: -1": "batch=-1",
    "batch: true": "batch=True",
    "steps: 2.5": "steps=2.5",
    "steps: .inf": "steps=inf",
    "steps: .nan": "steps=nan",
    "steps: [2]": "steps=[2]",
    "steps: 2020-01-01": "steps=datetime.date(2020, 1, 1)",
    "steps: 1000000000": "at most",
    "nfe: 1000000000": "at most",
    "steps: 1\nsteps: 2": "'steps' is given twice",
    "de-vice: x\nde_vice: y": "'de_vice' is given twice",
    "option: [1]": "option=[1]",
    "option: {order: {a: 1}}": "'order'",
    "option: {order: 1, order: 2}": "'order' is given twice",
    "labels: [1, 2]": "labels=[1, 2]",
    "labels: yes": "labels=True",
    "model: 5": "model=5",
    "seeds: 0.5": "seeds=0.5",
    "ste: 1": "did you mean 'steps'",
    "5: 1": "'5'",
    "a: &a [x]\nb: *a": "alias *a",
    "&a [*a]": "alias *a",
    "- 1": "holds a list",
    "5": "holds a int",
    "": "holds a NoneType",
    "a: [1": "YAML",
    "a: !!python/name:os.system x": "YAML",
    "a: !!timestamp x": "YAML",
    "a: !!int ''": "YAML",
    "a: 2020-13-45": "YAML",
    "[a]: 1": "YAML",
    "a: " + "9" * 5000: "YAML",
    "a: " + "[" * 700 + "]" * 700: "nested too deeply",
    '{"a": ' * 700: "nested too deeply",
    "#" * (1 << 20) + "\na: 1": "larger than",
}


#: settings that a command has not
LACKS = {
    "generate": (),
    "score": ("format",),
    "ref": ("format", "final", "steps", "nfe", "option", "labels", "model", "seeds", "ste"),
}
CASES = [
    (command, text)
    for command, lacks in LACKS.items()
    for text in CONFIGS
    if not text.startswith(lacks)
]


@pytest.mark.parametrize(
    ("command", "text"), CASES, ids=[f"{command} {text[:24]}" for command, text in CASES]
)
def test_a_config_is_checked_as_flags_are(command, text, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(text)
    out = tmp_path / ("o.npz" if command == "ref" else "o")
    assert main([command, "--out", str(out), "--config", str(tmp_path / "c.yaml")]) == 3
    said = capsys.readouterr().err
    assert CONFIGS[text] in said and "c.yaml" in said and said.count("\n") == 1 and len(said) < 1000
    assert not out.exists()


def test_a_config_that_is_no_text_or_not_there(tmp_path, capsys):
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "c.yaml", tmp_path / "none.yaml", tmp_path):
        assert main(["generate", "--out", str(tmp_path / "o"), "--config", str(path)]) == 3
        assert str(path) in capsys.readouterr().err
    (tmp_path / "d.yaml").write_text("steps: null\nheld-out: a\n")
    assert read_config(tmp_path / "d.yaml") == {"steps": None, "held_out": "a"}


SEEDS = {
    f"0-{10**12}": "1000000000001 samples",
    "0-3,2": "twice",
    "18446744073709551616": "64 bits",
    "9" * 5000: "none",
    "1-": "none",
    "": "none",
}


@pytest.mark.parametrize("text", SEEDS, ids=lambda text: text[:20])
def test_seeds_that_cannot_be_are_refused_before_memory_goes(text):
    with pytest.raises(ArgumentError, match=SEEDS[text]) as error:
        parse_seeds(text)
    assert len(str(error.value)) < 400
    assert (
        parse_seeds("18446744073709551615") == (2**64 - 1,)
        and len(parse_seeds(f"0-{MOST_SEEDS // 100 - 1}")) == MOST_SEEDS // 100
    )


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--model", "mnist", "--seeds", "0-99999", "--batch", "100000"], "smaller batch"),
        (["--model", "mixture", "--steps", "1000000000"], "steps=1000000000"),
        (["--model", "mixture", "--size", "99999x99999"], "99999x99999"),
        (["--model", "mixture", "--size", "8"], "size=8"),
    ],
)
def test_absurd_sizes_are_a_sentence(flags, word, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fewstep.jobs.memory.memory", lambda: 1 << 30)
    assert main(["generate", "--out", str(tmp_path / "o"), *flags]) == 3
    assert word in capsys.readouterr().err and not (tmp_path / "o").exists()
    with pytest.raises(ArgumentError, match="65536"):
        parse_size("65537")


def test_options_that_no_file_can_hold():
    for text in (
        "order={1: 2}",
        "order={1}",
        "order=1j",
        "order=b'x'",
        "order=...",
        "order=((((1,),),),)",
    ):
        with pytest.raises(ArgumentError, match="'order'"):
            parse_options([text])
    assert parse_options([r"a='\d'", "b=1if", "c=[1, 2]"]) == {"a": r"\d", "b": "1if", "c": (1, 2)}


# --- devices and processes


@pytest.mark.parametrize(
    "name",
    ["gpu", "cuda:999", "meta", "mps:99", "xla", "vulkan", "CPU", "cpu:5", "", "cuda:-1", "ü"],
)
def test_a_device_that_is_not_there_is_refused_before_the_folder_is_taken(name, tmp_path, capsys):
    assert main(["generate", "--out", str(tmp_path / "o"), *POINTS, f"--device={name}"]) == 3
    said = capsys.readouterr().err
    assert (f"device={name!r}" in said or not name) and said.count("\n") == 1
    assert not (tmp_path / "o").exists()
    with pytest.raises(ArgumentError, match="allowed: (auto, )?cpu"):
        devices.device_named(name)


BROKEN = [
    {"RANK": "x", "WORLD_SIZE": "2"},
    {"RANK": "2", "WORLD_SIZE": "2"},
    {"RANK": "-1", "WORLD_SIZE": "2"},
    {"RANK": "0", "WORLD_SIZE": "0"},
    {"RANK": "", "WORLD_SIZE": "2"},
    {"RANK": "0", "WORLD_SIZE": "9" * 5000},
    {"RANK": "1"},
    {"WORLD_SIZE": "4"},
    {"LOCAL_RANK": "x"},
    {"LOCAL_RANK": "-1"},
    {"OMPI_COMM_WORLD_RANK": "1.5", "OMPI_COMM_WORLD_SIZE": "2"},
]


@pytest.fixture
def alone(monkeypatch):
    for name in (
        *(name for pair in processes.NAMES for name in pair),
        *processes.HERE,
        "LOCAL_RANK",
    ):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "environment", BROKEN, ids=lambda e: " ".join(f"{k}={v[:9]}" for k, v in e.items())
)
def test_an_environment_without_sense_is_refused(environment, alone, tmp_path, capsys):
    for name, value in environment.items():
        alone.setenv(name, value)
    assert main(["generate", "--out", str(tmp_path / "o"), *POINTS]) == 3
    said = capsys.readouterr().err
    assert any(f"{name}=" in said for name in environment) and len(said) < 300
    assert not (tmp_path / "o").exists()


def test_processes_on_machines(alone):
    assert (processes.place(), processes.local_rank(), processes.machines()) == ((0, 1), 0, 1)
    for name, value in {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        alone.setenv(name, value)
    assert (processes.place(), processes.local_rank(), processes.machines()) == ((3, 4), 1, 2)
    alone.setenv("LOCAL_WORLD_SIZE", "5")
    with pytest.raises(ArgumentError, match="LOCAL_WORLD_SIZE=5"):
        processes.machines()
