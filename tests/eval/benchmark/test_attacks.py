"""Command lines that nobody would write: each ends with a documented code and one sentence, or with
strict JSON."""

from __future__ import annotations

import json
import random

import pytest

from fewstep.cli import main
from fewstep.eval.benchmark.report import saving
from fewstep.eval.benchmark.report.escapes import code, plain, visible
from fewstep.eval.benchmark.report.page import page
from fewstep.eval.benchmark.report.plots import plots
from fewstep.eval.benchmark.report.saving import markdown
from fewstep.eval.benchmark.result import Bench, ModelFacts
from fewstep.eval.benchmark.rows import Row
from fewstep.eval.benchmark.settings import BenchSettings
from fewstep.eval.benchmark.store import Store
from fewstep.samplers import ALIASES, names

CODES = {0, 2, 3, 4, 5}
JUNK = (
    "",
    "0",
    "-1",
    "1.5",
    "1e999",
    "nan",
    "9" * 30,
    "9" * 5000,
    "ü",
    "\udcff",
    "[1,2]",
    "{1}",
    "...",
    "[" * 200,
    "a=b",
    "%s",
    "../x",
)
OPTIONS = (
    "order=3",
    "order=99",
    "order=x",
    "eta=nan",
    "eta=[1]",
    "eta={1}",
    "foo=1",
    "=1",
    "order",
    "afs=5",
    "s_churn=1e999",
    "steps=3",
    "x=1",
)
WORDS = {
    "--model": ("mixture", "empty", "file", "broken"),
    "--steps": ("1", "2"),
    "--nfe": ("2", "4"),
    "--grid": ("karras", "uniform", "auto", "beta"),
    "--final": ("zero", "sigma_min"),
    "--seeds": ("0-3", "2"),
    "--batch": ("2",),
    "--labels": ("none", "cycle", "1,2"),
    "--size": ("4", "8x8"),
    "--cond": ("file", "empty"),
    "--device": ("cpu", "cuda:99", "meta"),
    "--config": ("file", "empty"),
    "--metrics": ("fd", "is"),
    "--ref": ("mnist:test", "file"),
    "--extractor": ("mnist",),
    "--schedule": ("VPLinear", "Flow"),
    "--start": ("0.5",),
    "--samplers": ("ddim", "unipc:order=2"),
    "--grids": ("auto", "karras:rho=-1"),
    "--budget": ("2",),
    "--tolerance": ("0.5",),
    "--resamples": ("2",),
    "--top": ("1", "all"),
}
FLAGS = {
    "generate": (
        "--model",
        "--steps",
        "--nfe",
        "--grid",
        "--final",
        "--seeds",
        "--batch",
        "--labels",
        "--size",
        "--cond",
        "--device",
        "--config",
    ),
    "score": (
        "--ref",
        "--metrics",
        "--extractor",
        "--batch",
        "--resamples",
        "--config",
        "--device",
    ),
    "ref": ("--extractor", "--batch", "--device", "--config"),
    "bench": (
        "--grids",
        "--tolerance",
        "--batch",
        "--resamples",
        "--top",
        "--final",
        "--device",
        "--config",
    ),
    "plan": ("--model", "--schedule", "--steps", "--nfe", "--grid", "--final", "--start"),
}


def lines(seed: int, count: int) -> list[list[str]]:
    """Command lines of existing and of strange words."""
    draw = random.Random(seed)
    samplers = (*names("plan"), *list(ALIASES)[:9])

    def word(*known: str) -> str:
        return draw.choice(known) if draw.random() < 0.7 else draw.choice(JUNK)

    out = []
    for k in range(count):
        command = draw.choice(list(FLAGS))
        argv = [
            command,
            *{
                "plan": [word(*samplers)],
                "score": [word("empty", "file")],
                "ref": [word("file"), "--out", "r.npz"],
            }.get(command, []),
        ]
        if command == "generate":
            argv += [
                "--out",
                f"o{k}",
                "--seeds",
                "0",
                "--model",
                "mixture",
                "--steps",
                "1",
                "--sampler",
                word(*samplers),
            ]
        if command == "bench":
            argv += [
                "--models",
                "mixture",
                "--out",
                f"b{k}",
                "--samplers",
                word("ddim", "heun"),
                "--budget",
                word("2"),
                "--seeds",
                "2",
            ]
        for flag in FLAGS[command]:
            argv += [flag, word(*WORDS[flag])] if draw.random() < 0.25 else []
        if command in ("generate", "plan"):
            argv += ["-o", draw.choice(OPTIONS)] if draw.random() < 0.4 else []
        out.append([*argv, "--json"])
    return out


@pytest.fixture
def no_plots(monkeypatch):
    """Benchmarks write their tables only: plots take a second each."""
    tables = {name: needs for name, needs in saving.FILES.items() if not needs}
    monkeypatch.setattr(saving, "FILES", tables)


@pytest.fixture
def place(tmp_path, monkeypatch, no_plots):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text(
        '{"format": "fewstep-unet", "network": 5, "edm": []}'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("seed", range(4))
def test_strange_command_lines_end_in_order(seed, place, capsys):
    ends = set()
    for argv in lines(seed, 60):
        code = main(argv)
        text, said = capsys.readouterr()
        assert code in CODES and "Traceback" not in said, argv
        if code == 0:
            json.loads(text, parse_constant=pytest.fail)
            assert said == "", argv
        elif code in (3, 4):
            assert (
                text == ""
                and said.startswith("fewstep: error: ")
                and said.count("\n") == 1
                and len(said) < 9000
            ), argv
        ends.add(code)
    assert {0, 2, 3} <= ends, "some of these lines are right, some are not"


# --- the benchmark


QUICK = ["bench", "--models", "mixture", "--seeds", "2", "--tolerance", "0.5", "--grids", "auto"]


@pytest.mark.parametrize(
    ("flags", "code", "word"),
    [
        (["--samplers", "ddim", "--grids", "karras:rho=-1", "--nfe", "2"], 2, "rho=-1"),
        (
            ["--samplers", "ddim", "--grids", "karras:foo=1", "--nfe", "2"],
            2,
            "unknown option 'foo'",
        ),
        (["--samplers", "ddim", "--grids", "uniform:rho=7", "--nfe", "2"], 2, "uniform"),
        (["--samplers", "ddim", "--grids", "karras:rho=x", "--nfe", "2"], 2, "karras:rho=x"),
        (["--samplers", "unipc:order=99", "--nfe", "2"], 2, "order=99"),
        (["--samplers", "midpoint", "--nfe", "1"], 3, "no row could be measured"),
        (["--samplers", "ddim", "--budget", "2", "--nfe", "3"], 3, "one of them"),
        (["--samplers", "ddim", "--budget", "1000000000"], 3, "at most"),
        (["--samplers", "ddim", "--budget", "2", "--seeds", "1000000000"], 3, "at most"),
        (["--samplers", "ddim", "--budget", "2", "--final", "Zero"], 3, "did you mean 'zero'"),
        (
            [
                "--samplers",
                "ddim",
                "--budget",
                "2",
                "--features",
                "mnst",
                "--models",
                "mnist",
                "--samples",
                "1",
            ],
            3,
            "mnst",
        ),
        (["--samplers", "ddim", "--budget", "2.5"], 2, "invalid int"),
        (["--sampler-options", "x"], 2, "unrecognized"),
        (["--samplers"], 2, "expected at least one"),
    ],
)
def test_a_benchmark_of_nothing_is_no_success(flags, code, word, tmp_path, capsys):
    assert main([*QUICK, "--out", str(tmp_path / "b"), *flags]) == code
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("preset: [quick]", "preset"),
        ("preset: quik", "did you mean 'quick'"),
        ("tolerance: x", "tolerance: 'x' is not a number"),
        ("seeds: 2.5", "seeds: 2.5"),
        ("samplers: [{a: 1}]", "samplers"),
        ("labels: 5", "unknown labels '5'"),
        ("nfe: true", "nfe"),
        ("final: Zero", "did you mean 'zero'"),
        ("a: &a [1]\nb: *a", "alias"),
    ],
)
def test_a_config_of_the_benchmark_is_checked(text, word, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(text)
    assert (
        main([*QUICK[:1], "--out", str(tmp_path / "b"), "--config", str(tmp_path / "c.yaml")]) == 3
    )
    assert word in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_rows_of_another_form_are_measured_again(tmp_path, capsys, no_plots):
    argv = [*QUICK, "--samplers", "ddim", "--nfe", "2", "--out", str(tmp_path), "--json"]
    assert main(argv) == 0
    wanted = json.loads(capsys.readouterr().out)["rows"][0]["rmse"]
    (row,) = (tmp_path / "rows").iterdir()
    good = json.loads(row.read_text())
    for damage in (
        {"record": {}},
        {"record": {**good["record"], "strange": 1}},
        {"record": {**good["record"], "rmse": "0"}},
        {**good, "record": {**good["record"], "rmse": 0.0}},
        {"record": [1]},
        {},
    ):
        row.write_text(json.dumps(damage))
        assert Store(tmp_path).record("error", good["facts"]) is None
        assert main(argv) == 0
        assert json.loads(capsys.readouterr().out)["rows"][0]["rmse"] == wanted
    (cache,) = (tmp_path / "cache").iterdir()
    cache.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    assert main(argv) == 0 and json.loads(capsys.readouterr().out)["rows"][0]["rmse"] == wanted


NAME = "<b>|*x*_y_`z`&\n\x1b[1m\udcff"


def test_the_name_of_a_model_marks_nothing_up():
    settings = BenchSettings((NAME,), samplers=("ddim",), grids=("auto",), nfes=(2,))
    row = Row(
        NAME,
        "ddim",
        "auto",
        2,
        nfe=2,
        steps=2,
        call="'ddim'",
        rmse=0.1,
        rmse_low=0.1,
        rmse_high=0.2,
        rank=1,
        squares=(0.01,),
    )
    lost = Row(NAME, "ddim", "auto", 2, skipped=f"no {NAME}")
    result = Bench(
        (row, lost), {NAME: ModelFacts(None, None, 0.0, 2, f"no features for {NAME}")}, settings
    )
    text, whole, drawing = (
        markdown(result, f"fewstep bench --models '{NAME}'"),
        page(result, NAME),
        plots(result),
    )
    import xml.etree.ElementTree as tree

    marked = r"\<b\>\|\*x\*\_y\_\`z\`\&" + r"\\n\\x1b\[1m\\udcff"
    assert (
        f"## {marked}\n" in text
        and f"no {marked}" in text
        and "<b>" not in text.replace("`` ", "").split("\n", 1)[1]
    )
    assert text.startswith("Written by `` fewstep bench --models '<b>|*x*_y_`z`&\\n")
    assert "&lt;b&gt;" in whole and "<b>|" not in whole
    tree.fromstring(whole.partition("\n")[2])
    tree.fromstring(drawing)
    whole.encode(), text.encode(), drawing.encode()


@pytest.mark.parametrize(
    "name",
    [
        "</title><script>alert(1)</script>",
        "' onload='alert(1)",
        '"><img src=x onerror=alert(1)>',
        "{{ 7 * 7 }}{% include 'bench.css' %}",
        "]]><!--",
        "$\\frac{1}{$ _hidden",
        "\u4e2d\u6587 \U0001f600",
        "\x00\x1b[1m\n\udcff",
    ],
)
def test_hostile_names_are_text_on_the_page_and_in_plots(name):
    """Models are named by their owners; every name is printed and none acts as markup, template or
    formula."""
    import xml.etree.ElementTree as tree

    settings = BenchSettings(
        (name, "other"), samplers=("ddim",), grids=("auto",), nfes=(2,), samples=300
    )
    done = {"rmse": 0.1, "rmse_low": 0.1, "rmse_high": 0.2, "rank": 1, "picture": None}
    rated = {"quality": 1.0, "quality_low": 0.5, "quality_high": 2.0, "quality_rank": 1}
    facts = ModelFacts(name, 0.1, 0.0, 2, f"note {name}", points=((0.0, 1.0), (1.0, 2.0)))
    rows = [
        Row(model, "ddim", "auto", 2, nfe=2, points=((0.0, 1.0),), **done, **rated)
        for model in (name, "other")
    ]
    rows.append(Row(name, "heun", "auto", 2, skipped=f"why {name}"))
    result = Bench(tuple(rows), {name: facts, "other": facts}, settings)
    root = tree.fromstring(page(result, f"fewstep bench --models {name}").partition("\n")[2])
    tags = {element.tag for element in root.iter()}
    assert not tags & {"script", "link", "iframe", "object", "form"}
    assert all(not k.startswith("on") for element in root.iter() for k in element.attrib)
    shown = visible(name)
    assert root.find(".//h2").text == shown and shown in root.find(".//title").text
    assert any(f"why {shown}" in (item.text or "") for item in root.iter("li"))
    assert {image.get("src").partition(",")[0] for image in root.iter("img")} == {
        "data:image/svg+xml;base64"
    }
    drawn = tree.fromstring(plots(result))
    texts = [e.text for e in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert f"{shown}, grid auto" in texts
    assert any(text.startswith(f"{shown} [") for text in texts)
    assert not list(drawn.iter("{http://www.w3.org/2000/svg}script"))


def test_escapes():
    assert (
        plain("dpmpp_2m:order=3") == "dpmpp_2m:order=3"
        and plain("_a_") == r"\_a\_"
        and plain("a|b") == r"a\|b"
    )
    assert code("a") == "`a`" and code("a`b``c") == "``` a`b``c ```"
    assert visible('<"\x00') == '<"\\x00'
