"""The benchmark: rows, ranks with ties, resuming, reports that parse, the command line, and its
refusals."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import pickle
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

import fewstep
from fewstep import cli
from fewstep.engine.automatic import facts_of
from fewstep.eval import (
    Bench,
    ScoreError,
    bench,
    doubled_reference,
    reference_states,
    save_report,
    solver_error,
)
from fewstep.eval.benchmark import store as bench_store
from fewstep.eval.benchmark.measurement import call_of
from fewstep.eval.benchmark.report.escapes import plain
from fewstep.eval.benchmark.report.page import page
from fewstep.eval.benchmark.report.plots import STYLES, limits, lines_svg, plots, styles_of
from fewstep.eval.benchmark.report.saving import (
    FILES,
    code_line,
    markdown,
    record_json,
    table_csv,
)
from fewstep.eval.benchmark.report.text import number
from fewstep.eval.benchmark.result import ModelFacts
from fewstep.eval.benchmark.rows import (
    Row,
    paired_ranks,
    place_text,
    ranked,
    ranks,
    root_interval,
    winners,
)
from fewstep.eval.benchmark.settings import (
    PRESETS,
    BenchSettings,
    fitted,
    grid_options,
    named_options,
    sampler_options,
    split_named,
)

QUICK = {"samplers": ["ddim", "heun", "unipc:order=3", "dpmpp_2m_sde"], "nfes": [4, 7], "n": 8}


class Blurred(torch.nn.Module):
    """A small network with weights on grey pictures: E[x0 | x] of a Gaussian, and a bend that makes
    its paths curved."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.25))
        self.calls = 0

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        s = t.view(-1, 1, 1, 1)
        y = self.scale * x / (self.scale + s * s)
        return y + 0.3 * torch.tanh(2.0 * y)


def pictures():
    return fewstep.models.wrap(
        Blurred(), fewstep.schedules.EDM(0.02, 20.0), "x0", time="sigma", shape=(1, 6, 6)
    )


@pytest.fixture(scope="module")
def found():
    """A small table of the exact mixture, with quality."""
    return bench("mixture", samples=200, top=2, **QUICK)


@pytest.fixture(scope="module")
def drawn():
    """A small table of a network on pictures, without quality."""
    return bench(
        {"blurred": pictures()},
        samplers=["ddim", "dpmpp_2m"],
        grids=["auto"],
        nfes=[3, 6],
        n=4,
        tolerance=1e-4,
    )


# --- what is measured


def test_rows_have_the_solver_error_of_the_one_reference(found):
    model = fewstep.models.load("mixture")
    # karras ends at t_min and zero as the reference does
    alone = solver_error(model, "unipc", order=3, nfe=7, grid="karras", n=8)
    row = next(
        row
        for row in found.rows
        if (row.sampler, row.grid, row.budget) == ("unipc:order=3", "karras", 7)
    )
    assert row.rmse == pytest.approx(alone.rmse, rel=1e-6) and row.relative == pytest.approx(
        alone.relative, rel=1e-6
    )
    assert (
        row.rmse_low < row.rmse < row.rmse_high
        and row.nfe == row.steps == 7
        and row.milliseconds > 0.0
    )
    assert 0.0 < found.models["mixture"].reference_error < 1e-6


def test_a_row_states_the_calls_that_it_made(found):
    heun = [row for row in found.rows if row.sampler == "heun"]
    assert {(row.budget, row.nfe, row.steps) for row in heun} == {(4, 3, 2), (7, 7, 4)}
    assert len(found.rows) == 4 * 2 * 2


def test_samplers_that_draw_noise_have_a_quality_only(found):
    for row in found.rows:
        assert row.stochastic == (row.sampler == "dpmpp_2m_sde") == (row.rmse is None)
        assert (row.rank is None) == row.stochastic
        if row.stochastic:
            assert row.quality is not None and row.quality_rank is not None


def test_quality_is_measured_for_the_best_rows_of_each_budget(found):
    for budget in (4, 7):
        here = [row for row in found.rows if row.budget == budget and not row.stochastic]
        best = sorted(here, key=lambda row: row.rmse)[:2]
        assert {row.method for row in here if row.quality is not None} == {
            row.method for row in best
        }
    assert found.models["mixture"].metric == "SW2" and found.models["mixture"].floor > 0.0


def test_what_cannot_be_done_is_a_row_that_says_why():
    made = bench(
        "mixture", samplers=["ddim", "heun", "picard", "ode45"], grids=["auto"], nfes=[1], n=2
    )
    rows = {row.sampler: row for row in made.rows}
    assert rows["ddim"].nfe == 1 and rows["heun"].nfe == 1
    for name, words in (("picard", "calls of picard depend on the data"), ("ode45", "max_nfe=1")):
        assert rows[name].nfe is None and rows[name].rmse is None and rows[name].rank is None
        assert words in rows[name].skipped
    assert "ode45 on auto at 1: max_nfe=1" in markdown(made).replace("\n", " ")


def test_a_networks_pictures_are_shown_and_its_missing_metric_is_noted():
    made = bench(
        {"blurred": pictures()}, samplers=["ddim"], grids=["auto"], nfes=[3], n=4, samples=64
    )
    facts = made.models["blurred"]
    assert facts.metric is None and "no feature network" in facts.note and facts.picture
    assert all(row.quality is None and row.picture for row in made.rows)


def test_doubling_agrees_with_the_adaptive_reference():
    model = fewstep.models.load("mixture")
    grid = fewstep.grid("lam", model.schedule, 2)
    x = 80.0 * torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = reference_states(model, x, grid, tolerance=1e-9, every=False)
    rough = doubled_reference(model, x, tolerance=3e-4)
    apart = float((rough.end - exact.end).square().mean().sqrt())
    assert apart <= 1.5 * rough.error <= 1.5 * 3e-4 and rough.nfe in (96, 224, 480, 992)
    assert (
        torch.equal(rough.nodes[0].sigma * torch.ones(1), grid[0].sigma * torch.ones(1))
        and rough.nodes[-1].sigma == 0.0
    )
    with pytest.raises(ScoreError, match="tolerance=0"):
        doubled_reference(model, x, tolerance=0.0)


# --- ranks


def test_overlapping_intervals_tie():
    assert ranks([(1.0, 2.0), (1.5, 3.0), (2.5, 4.0), (5.0, 6.0)]) == [
        (1, True),
        (1, True),
        (2, False),
        (4, False),
    ]
    assert ranks([(1.0, 1.0)]) == [(1, False)] and ranks([]) == []
    assert (
        place_text(1, True) == "1="
        and place_text(3, False) == "3"
        and place_text(None, False) == "-"
    )


def test_pairs_on_the_same_seeds_tell_apart_what_intervals_do_not():
    generator = torch.Generator().manual_seed(0)
    # some seeds are hard for everybody
    seeds = torch.randn(64, generator=generator, dtype=torch.float64).exp()
    noise = 1.0 + 0.05 * torch.randn(3, 64, generator=generator, dtype=torch.float64)
    squares = seeds * noise * torch.tensor([[1.0], [1.0], [1.2]], dtype=torch.float64)
    _, _, high = root_interval(squares[0], 0.0)
    _, low, _ = root_interval(squares[2], 0.0)
    assert low < high
    assert paired_ranks(squares, 0.0) == [(1, True), (1, True), (3, False)]
    assert paired_ranks(squares, 0.2) == [(1, True)] * 3  # not beyond the reference's own error
    assert paired_ranks(squares[:1], 0.0) == [(1, False)]


def test_winners_are_all_that_tie():
    def row(name, squares, quality):
        ends = {"quality_low": quality - 1, "quality_high": quality + 1} if quality else {}
        return Row(
            "m", name, "g", 8, 8, rmse=squares[0] ** 0.5, squares=squares, quality=quality, **ends
        )

    rows = [
        row("a", (1.1, 1.0), 9.0),
        row("b", (1.0, 1.1), 5.0),
        row("c", (4.0, 4.0), None),
        Row("m", "d", "g", 8, skipped="no"),
    ]
    rows = ranked(rows, {"m": 0.0})
    assert [r.sampler for r in winners(rows, "m", 8, "rmse")] == ["b", "a"]
    assert [r.sampler for r in winners(rows, "m", 8, "quality")] == ["b"]
    assert [(r.rank, r.tied) for r in rows] == [(1, True), (1, True), (3, False), (None, False)]
    assert [(r.quality_rank, r.quality_tied) for r in rows] == [
        (2, False),
        (1, False),
        (None, False),
        (None, False),
    ]
    assert winners(rows, "m", 5, "rmse") == [] and winners(rows, "n", 8, "rmse") == []


def test_the_interval_of_a_root_mean_square_covers_it():
    """95 % of 200 tables of 64 seeds, true root 1; wider by the reference's own error."""
    generator = torch.Generator().manual_seed(1)
    hits = 0
    for _ in range(200):
        _, low, high = root_interval(
            torch.randn(64, generator=generator, dtype=torch.float64).square(), 0.0
        )
        hits += low <= 1.0 <= high
    assert 176 <= hits <= 199
    value, low, high = root_interval(torch.full((8,), 0.04, dtype=torch.float64), 0.05)
    assert (value, low, high) == pytest.approx((0.2, 0.15, 0.25))


# --- resuming


class Counted:
    """The exact mixture, counting."""

    def __init__(self) -> None:
        self.model, self.calls = fewstep.models.load("mixture"), 0
        for name in ("schedule", "prediction", "shape", "coefficients", "input_scale"):
            setattr(self, name, getattr(self.model, name))

    def __repr__(self) -> str:
        return "Counted()"

    def raws(self, x_in, t, cond=None):
        self.calls += 1
        return self.model.raws(x_in, t, cond)

    def __call__(self, x, t, cond=None):
        return self.model(x, t, cond)


def test_a_second_run_computes_nothing_and_gives_the_same(tmp_path):
    model = Counted()
    first = bench({"m": model}, out=tmp_path, **QUICK)
    made = model.calls
    assert made > 0
    again = bench({"m": model}, out=tmp_path, **QUICK)
    assert model.calls == made and again == first  # wall times too
    assert (record_json(again), page(again)) == (record_json(first), page(first))


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path):
    whole = bench("mixture", samples=200, top=1, out=tmp_path / "a", **QUICK)

    class Stop(Exception):
        pass

    def stop(line):
        if "block 2" in line or "samples of dpmpp" in line:
            raise Stop

    for _ in range(3):
        with pytest.raises(Stop):
            bench("mixture", samples=200, top=1, out=tmp_path / "b", report=stop, **QUICK)
    files = {path.name: path.read_bytes() for path in (tmp_path / "b" / "rows").iterdir()}
    assert files and not list((tmp_path / "b").rglob("*.partial"))
    resumed = bench("mixture", samples=200, top=1, out=tmp_path / "b", **QUICK)
    assert all(
        (tmp_path / "b" / "rows" / name).read_bytes() == data for name, data in files.items()
    )
    assert timeless(resumed) == timeless(whole)
    assert not list((tmp_path / "b" / "cache").glob("features-*"))


def timeless(result: Bench):
    return [{k: v for k, v in row.numbers().items() if k != "milliseconds"} for row in result.rows]


def test_a_damaged_record_or_reference_is_made_again(tmp_path):
    settings = {"samplers": ["ddim"], "grids": ["auto"], "nfes": [4], "n": 4}
    first = bench("mixture", out=tmp_path, **settings)
    for path in [*(tmp_path / "rows").iterdir(), *(tmp_path / "cache").iterdir()]:
        path.write_bytes(path.read_bytes()[:40])
    assert timeless(bench("mixture", out=tmp_path, **settings)) == timeless(first)


def test_other_settings_make_other_rows(tmp_path):
    few = bench("mixture", samplers=["ddim"], grids=["auto"], nfes=[4], n=4, out=tmp_path)
    more = bench("mixture", samplers=["ddim"], grids=["auto"], nfes=[4], n=8, out=tmp_path)
    assert few.rows[0].rmse != more.rows[0].rmse
    both = bench("mixture", samplers=["heun", "ddim"], grids=["auto"], nfes=[4], n=4, out=tmp_path)
    assert both.rows[1].milliseconds == few.rows[0].milliseconds  # the row of the first table
    assert len(list((tmp_path / "cache").glob("reference-*"))) == 2


def test_the_reference_cache_may_lie_elsewhere(tmp_path):
    model = Counted()
    settings = {
        "samplers": ["ddim"],
        "grids": ["auto"],
        "nfes": [4],
        "n": 4,
        "cache": tmp_path / "cache",
    }
    bench({"m": model}, **settings)
    first = model.calls
    bench({"m": model}, **settings)
    assert model.calls - first <= 8  # the row and its warm-up


def test_the_key_is_all_that_decides():
    assert (
        bench_store.key_of({"a": 1, "b": 2})
        == bench_store.key_of({"b": 2, "a": 1})
        != bench_store.key_of({"a": 1, "b": 3})
    )


# --- reports


class Links(HTMLParser):
    """What a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.found += [
            (tag, value or "")
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "data", "action", "srcset")
        ]
        assert tag not in ("script", "link", "iframe", "object")


SVG = "{http://www.w3.org/2000/svg}"


def figures(text: str) -> list[ET.Element]:
    """The plots of a page, which are SVG in data URIs."""
    head = "data:image/svg+xml;base64,"
    images = ET.fromstring(text.partition("\n")[2]).iter("img")
    found = [image.get("src") for image in images if image.get("src").startswith(head)]
    return [ET.fromstring(base64.b64decode(uri[len(head) :])) for uri in found]


def words(figure: ET.Element) -> list[str]:
    return [element.text for element in figure.iter(f"{SVG}text")]


def references(figure: ET.Element) -> set[str]:
    """Everything that an SVG refers to."""
    values = [value for element in figure.iter() for value in element.attrib.values()]
    links = [v for e in figure.iter() for k, v in e.attrib.items() if k.endswith("href")]
    return {*links, *(found for value in values for found in re.findall(r"url\((.*?)\)", value))}


@pytest.mark.parametrize("which", ["found", "drawn"])
def test_the_page_is_well_formed_and_needs_nothing_else(which, request):
    text = page(request.getfixturevalue(which), "fewstep bench <&> 'x'")
    assert text.startswith("<!DOCTYPE html>\n")
    ET.fromstring(text.partition("\n")[2])
    links = Links()
    links.feed(text)
    own = ("data:image/png;base64,", "data:image/svg+xml;base64,", "#")
    assert links.found and all(value.startswith(own) for _, value in links.found)
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert "&lt;&amp;&gt;" in text and "prefers-color-scheme:dark" in text
    assert (which == "drawn") == ("data:image/png" in text)
    for figure in figures(text):
        assert all(reference.startswith("#") for reference in references(figure))
        assert not list(figure.iter(f"{SVG}script"))


def test_the_page_shows_every_row_and_the_settings(found):
    text = page(found)
    root = ET.fromstring(text.partition("\n")[2])
    cells = [cell.text for cell in root.iter("td")]
    for name in QUICK["samplers"]:
        assert name in cells
    assert json.loads(root.find(".//pre").text) == json.loads(record_json(found))["settings"]
    best = [cell.text for cell in root.iter("td") if "best" in cell.get("class").split()]
    assert {number(row.rmse) for row in found.rows if row.rank == 1} <= set(best)
    quality, error, *clouds = figures(text)
    assert "SW2 [unit of x]" in words(quality) and "solver error: RMSE to the" in words(error)
    assert len(clouds) == 2  # samples at two budgets
    converged = [words(cloud) for cloud in clouds]
    assert all("converged" in text and "first coordinate of x" in text for text in converged)


def test_pictures_stand_side_by_side(drawn):
    from PIL import Image

    for data in [*(row.picture for row in drawn.rows), drawn.models["blurred"].picture]:
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == (4 * 7 - 1, 6) and image.mode == "L"


def test_csv_and_json_hold_the_same_numbers(found):
    rows = list(csv.DictReader(io.StringIO(table_csv(found))))
    record = json.loads(record_json(found, "cmd"))
    assert record["command"] == "cmd" and len(rows) == len(record["rows"]) == len(found.rows)
    for a, b, row in zip(rows, record["rows"], found.rows, strict=True):
        assert a["sampler"] == b["sampler"] == row.sampler and int(a["nfe"]) == b["nfe"] == row.nfe
        assert (float(a["rmse"]) if a["rmse"] else None) == b["rmse"] == row.rmse
        assert (float(a["quality"]) if a["quality"] else None) == b["quality"] == row.quality


def test_markdown_marks_ties_and_what_has_no_error(found):
    text = markdown(found, "fewstep bench")
    assert text.startswith("Written by `fewstep bench`.")
    assert "| dpmpp_2m_sde | auto | - | - |" in text
    best = next(row for row in found.rows if row.rank == 1 and row.budget == 7)
    assert f"**{number(best.rmse)}**" in text
    assert all(
        line.count("|") == text.splitlines()[k - 1].count("|")
        for k, line in enumerate(text.splitlines())
        if line.startswith("| ---")
    )
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 140


def test_reports_are_written_whole(found, tmp_path):
    paths = save_report(found, tmp_path / "new", "fewstep bench")
    assert [path.name for path in paths] == [
        "bench.md",
        "bench.csv",
        "bench.json",
        "index.html",
        "plots.svg",
    ]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in paths}


@pytest.mark.parametrize(
    ("absent", "lost"),
    [
        (["matplotlib"], ["index.html", "plots.svg"]),
        (["jinja2"], ["index.html"]),
        (["jinja2", "matplotlib"], ["index.html", "plots.svg"]),
    ],
)
def test_without_the_libraries_the_tables_are_written(absent, lost, found, tmp_path, monkeypatch):
    for name in absent:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.warns(UserWarning, match=f"{' and '.join(lost)} not written: {absent[0]}"):
        paths = save_report(found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
    assert {path.name for path in paths} == set(FILES) - set(lost)
    assert {"bench.md", "bench.csv", "bench.json"} <= {path.name for path in paths}
    said = []
    save_report(found, tmp_path, notify=said.append)
    assert len(said) == 1 and "fewstep[report]" in said[0] and all(n in said[0] for n in absent)


@pytest.mark.slow
def test_plots_have_the_same_bytes_whatever_the_settings_are(found):
    import matplotlib

    first = plots(found)
    with matplotlib.rc_context({"font.size": 30.0, "svg.fonttype": "path", "axes.grid": True}):
        assert plots(found) == first
        assert matplotlib.rcParams["font.size"] == 30.0
    made = "import sys, pickle; from fewstep.eval.benchmark.report.plots import plots; "
    made += "sys.stdout.buffer.write(plots(pickle.load(sys.stdin.buffer)).encode())"
    again = subprocess.run(
        [sys.executable, "-c", made], input=pickle.dumps(found), capture_output=True, check=True
    )
    assert again.stdout.decode() == first
    assert "<metadata" not in first and "dc:date" not in first


def axes_of(figure: ET.Element) -> list[ET.Element]:
    return [g for g in figure.iter(f"{SVG}g") if re.fullmatch(r"axes_\d+", g.get("id", ""))]


def test_the_picture_holds_every_panel_of_the_page(found):
    whole = ET.fromstring(plots(found))
    single = [ET.fromstring(lines_svg(found, "mixture", m)) for m in ("quality", "rmse")]
    assert len(axes_of(whole)) == sum(len(axes_of(figure)) for figure in single) == 6
    titles = [text for text in words(whole) if text.startswith("grid ")]
    assert titles == ["grid auto", "grid karras"] * 2
    assert words(whole).count("network calls per sample") == 4


def test_lines_differ_in_marker_and_dash_too(found):
    for k in range(3):
        assert len({str(style[k]) for style in STYLES}) == len(STYLES) == 6
    styles = styles_of(found, found.rows)
    assert sorted(styles.values()) == [0, 1, 2, 3] and styles["dpmpp_2m_sde"] == 3
    legend = words(ET.fromstring(lines_svg(found, "mixture", "rmse")))[-3:]
    assert legend == sorted(("ddim", "heun", "unipc:order=3"), key=styles.get)


def made_rows(values, low=0.5, high=2.0):
    return tuple(
        Row("m", "ddim", "auto", b, b, rmse=v, rmse_low=v * low, rmse_high=v * high, rank=1)
        for b, v in values.items()
    )


def bench_of(rows, metric=None, floor=None):
    settings = BenchSettings(("m",), samplers=("ddim",), grids=("auto",), nfes=(5, 10))
    return Bench(rows, {"m": ModelFacts(metric, floor, 0.0, 2, None)}, settings)


def test_error_bars_end_at_the_intervals():
    """Two values with an interval each: two vertical lines, as long as the intervals are on a
    logarithmic axis."""
    result = bench_of(made_rows({5: 1.0, 10: 0.1}))
    low, high = limits(result.rows, "rmse", None)
    assert (low, high) == pytest.approx((0.05 / 1.15, 2.0 * 1.15))
    figure = ET.fromstring(lines_svg(result, "m", "rmse"))
    (bars,) = (g for g in figure.iter(f"{SVG}g") if g.get("id", "").startswith("LineCollection"))
    ends = [
        [float(v) for v in re.findall(r"[ML] [\d.]+ ([\d.]+)", path.get("d"))]
        for path in bars.iter(f"{SVG}path")
    ]
    panel = next(axes_of(figure)[0].iter(f"{SVG}path")).get("d")
    down, up = (f([float(v) for v in re.findall(r"[\d.]+ ([\d.]+)", panel)]) for f in (max, min))
    per_factor = (down - up) / math.log(high / low)
    for a, b in ends:
        assert a - b == pytest.approx(per_factor * math.log(4.0), rel=1e-3)
    assert len(ends) == 2


def test_limits_of_an_axis():
    assert limits((), "rmse", None) == (0.1, 1.0)
    rows = made_rows({5: 1.0, 10: 0.5}, low=0.0)
    assert limits(rows, "rmse", None) == pytest.approx((0.5 / 1.15, 2.0 * 1.15))  # 0 is far below
    assert limits(rows, "rmse", 0.2) == pytest.approx((0.2 / 1.15, 2.0 * 1.15))


def test_a_value_below_a_logarithmic_axis_is_a_hollow_marker():
    ends = {"quality_low": -0.3, "quality_high": 0.1}
    rated = [
        Row("m", "ddim", "auto", 5, 5, quality=1.0, quality_low=0.5, quality_high=2.0),
        Row("m", "ddim", "auto", 10, 10, quality=-0.1, **ends),
    ]
    text = words(ET.fromstring(lines_svg(bench_of(tuple(rated), "FD-m"), "m", "quality")))
    assert "hollow: below the axis" in text
    text = words(ET.fromstring(lines_svg(bench_of(tuple(rated[:1]), "FD-m"), "m", "quality")))
    assert "hollow: below the axis" not in text


def test_real_data_are_a_line(found):
    marked = bench_of(made_rows({5: 1.0}), floor=0.7)
    assert "real data" not in words(ET.fromstring(lines_svg(marked, "m", "rmse")))
    assert "real data" in words(ET.fromstring(lines_svg(found, "mixture", "quality")))


def test_numbers_have_three_digits():
    shown = {
        None: "-",
        0.0: "0",
        0.123456: "0.123",
        12345.0: "12345",
        1.234e-5: "1.23e-05",
        999.6: "1000",
        3.14159: "3.14",
        -0.02: "-0.02",
    }
    assert {value: number(value) for value in shown} == shown


def test_the_line_of_code_draws_what_was_measured(found):
    row = next(row for row in found.rows if row.sampler == "unipc:order=3" and row.budget == 7)
    scope = {"fewstep": fewstep}
    exec(code_line(row, n=3), scope)
    assert scope["x"].shape == (3, 2)
    other = bench("mixture", samplers=["heun"], grids=["karras:rho=5"], nfes=[6], n=2).rows[0]
    exec(code_line(other, n=2), scope)
    assert scope["grid"].params == (("rho", 5.0),) and other.nfe == 5


@pytest.mark.parametrize("sampler", ["auto", "heun", "auto:afs=True"])
@pytest.mark.parametrize("grid", ["auto", "auto:spread=1.1", "karras", "karras:rho=5"])
def test_the_line_of_code_of_an_automatic_choice(sampler, grid):
    """It runs the plan of the row, which knows the model's data."""
    model = fewstep.models.load("mixture")
    asked = fitted(
        sampler_options(sampler), grid_options(grid), model.schedule, 8, facts=facts_of(model)
    )
    (row,) = bench("mixture", samplers=[sampler], grids=[grid], nfes=[8], n=2).rows
    assert (row.call, row.nfe) == (call_of(asked), asked.plan().nfe)
    plans = []
    scope = {"fewstep": Spied(plans)}
    exec(code_line(row, n=2), scope)
    assert plans == [asked.plan()]
    assert ("'auto'" in code_line(row).partition("grid=")[0]) == grid.startswith("auto:")


class Spied:
    """The package, whose ``sample`` keeps its plan."""

    def __init__(self, plans: list) -> None:
        self.plans = plans
        self.models, self.grid = fewstep.models, fewstep.grid

    def sample(self, *given, **named):
        x, info = fewstep.sample(*given, info=True, **named)
        self.plans.append(info.plan)
        return x


# --- what is asked


@pytest.mark.parametrize("nfe", [5, 8, 20])
@pytest.mark.parametrize("model", ["mixture", "blurred"])
def test_auto_on_auto_is_the_default_call(nfe, model):
    den = pictures() if model == "blurred" else fewstep.models.load("mixture")
    settings = {"samplers": ["auto"], "grids": ["auto"], "nfes": [nfe], "n": 4, "tolerance": 0.1}
    (row,) = bench({model: den}, **settings).rows
    asked = fitted(
        sampler_options("auto"), grid_options("auto"), den.schedule, nfe, facts=facts_of(den)
    )
    _, info = fewstep.sample(den, nfe=nfe, info=True)
    assert asked.plan() == info.plan and asked.reason == info.reason
    assert (row.nfe, row.steps, row.call) == (info.nfe, info.plan.steps, call_of(asked))
    assert row.sampler == "auto" and row.ran.startswith(f"auto ({info.plan.name}")
    told = replace(facts_of(den), sigma_data=3.0)
    other = fitted(sampler_options("auto"), grid_options("auto"), den.schedule, nfe, facts=told)
    assert other.plan() != info.plan


def test_reports_name_the_sampler_that_auto_took():
    made = bench("mixture", samplers=["auto", "ddim"], grids=["auto"], nfes=[6], n=4)
    row = made.rows[0]
    said = " ".join(markdown(made).split())
    assert row.rank == 1 and plain(row.ran) in said and made.rows[1].ran == "ddim"
    assert json.loads(record_json(made))["rows"][0]["call"] == row.call
    assert row.ran in page(made)
    for text, word in (("auto:order=3", "order"), ("auto:afs=2", "afs")):
        with pytest.raises(ScoreError, match=word):
            bench("mixture", samplers=[text], n=2)


def test_choices_are_parsed():
    assert named_options("ddim").options == {}
    found = named_options("unipc:order=3,skip_corrector=(0, 1),variant=bh1")
    assert (found.name, found.options) == (
        "unipc",
        {"order": 3, "skip_corrector": (0, 1), "variant": "bh1"},
    )
    text = "ddim,unipc:order=3,variant=bh1,heun"
    assert split_named(text) == ["ddim", "unipc:order=3,variant=bh1", "heun"]
    for bad in ("unipc:", "unipc:order", "unipc:order=3,order=2", "unipc:=3"):
        with pytest.raises(ScoreError, match="is no option"):
            named_options(bad)


@pytest.mark.parametrize(
    ("sampler", "nfe"),
    [("heun", 7), ("unipc:order=3", 8), ("dpm_solver_3", 8), ("ddim:afs=True", 8)],
)
def test_budgets_are_met_exactly_or_from_below(sampler, nfe):
    schedule, choice = fewstep.models.load("mixture").schedule, sampler_options(sampler)
    asked = fitted(choice, grid_options("karras"), schedule, 8)
    assert asked.plan() == fewstep.plan(
        choice.name, schedule, nfe=8, grid="karras", **choice.options
    )
    spaced = fitted(choice, grid_options("karras:rho=5"), schedule, 8)
    own = fewstep.grid("karras", schedule, asked.grid.steps, rho=5.0)
    scope = {"fewstep": fewstep, "schedule": schedule, "own": own}
    assert spaced.plan() == eval(
        f"fewstep.plan({call_of(spaced)}, schedule=schedule, grid=own)", scope
    )
    assert asked.plan().nfe == spaced.plan().nfe == nfe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samplers": ["dimm"]}, "did you mean 'ddim'"),
        ({"samplers": ["unipc:ordr=3"]}, "did you mean 'order'"),
        ({"samplers": ["unipc:order=0"]}, "order=0"),
        ({"samplers": []}, "at least one name"),
        ({"samplers": ["ddim", "ddim"]}, "duplicate"),
        ({"grids": ["karas"]}, "did you mean 'karras'"),
        ({"nfes": [0]}, "nfe=0"),
        ({"nfes": [8.5]}, "nfe=8.5"),
        ({"nfes": []}, "nfes is empty"),
        ({"nfes": [8, 8]}, "duplicate"),
        ({"quality_nfes": [9]}, r"quality_nfes=\[9\]"),
        ({"n": 1}, "n=1"),
        ({"samples": -1}, "samples=-1"),
        ({"samples": 20}, "at least 200"),
        ({"top": 0}, "top=0"),
        ({"labels": "all"}, "unknown labels"),
        ({"final": "one"}, "unknown final"),
        ({"tolerance": 2.0}, "tolerance=2.0"),
    ],
)
def test_bad_settings_are_refused_before_the_network_runs(settings, message):
    model = Counted()
    source = {"m": fewstep.models.load("mixture")} if "samples" in settings else {"m": model}
    with pytest.raises(ValueError, match=message):
        bench(source, **settings)
    assert model.calls == 0


def test_a_feature_network_that_was_asked_for_must_be_there():
    with pytest.raises(ValueError, match="mnist"):
        bench({"blurred": pictures()}, samples=500, features="mnst", n=2)


def test_models_without_a_shape_are_refused():
    with pytest.raises(ScoreError, match="shape"):
        bench({"m": fewstep.models.wrap(lambda x, t: x, fewstep.schedules.VPLinear(), "eps")}, n=2)
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        bench("mnst")


def test_presets_are_valid():
    made = {name: BenchSettings(("mnist",), **values) for name, values in PRESETS.items()}
    docs, full = made["docs"], made["full"]
    assert all(each.samplers[0] == "auto" for each in made.values())
    deterministic = [text for text in docs.samplers if text not in ("auto", "dpmpp_2m_sde")]
    assert len(deterministic) >= 12 and len(docs.grids) == 2 and docs.nfes == (5, 8, 10, 20)
    assert (docs.n, docs.samples, docs.top) == (64, 2000, 5)
    assert (len(full.grids), full.n, full.samples, full.top) == (4, 256, 50_000, None) and (
        min(full.nfes),
        max(full.nfes),
    ) == (4, 50)


# --- the command line


def test_the_command_writes_the_reports_and_answers(tmp_path, capsys):
    out = tmp_path / "out"
    argv = [
        "bench",
        "--models",
        "mixture",
        "--samplers",
        "ddim,unipc:order=3",
        "heun",
        "--budget",
        "8",
        "--seeds",
        "8",
        "--out",
        str(out),
    ]
    assert cli.main(argv) == 0
    text, quiet = capsys.readouterr()
    assert quiet == ""
    assert text.startswith("mixture, 8 network calls: ") and "solver error" in text
    assert "x = fewstep.sample(den, " in text and "nfe=8" in text
    assert {"bench.md", "bench.csv", "bench.json", "index.html", "plots.svg", "rows", "cache"} == {
        path.name for path in out.iterdir()
    }
    assert "--samplers ddim,unipc:order=3 heun" in (out / "bench.md").read_text(encoding="utf-8")
    assert cli.main([*argv, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((out / "bench.json").read_text(encoding="utf-8"))
    assert record["settings"]["nfes"] == [8] and len(record["rows"]) == 6


def test_flags_override_the_file_and_the_file_the_preset(tmp_path, capsys):
    config = tmp_path / "bench.yaml"
    config.write_text(
        "preset: quick\nmodels: [mixture]\nsamplers: ddim, unipc:order=3\nseeds: 4\nsamples: "
        "0\nnfe: [3, 4]\ntop: all\n"
    )
    argv = [
        "bench",
        "--config",
        str(config),
        "--seeds",
        "6",
        "--tolerance",
        "1e-6",
        "--grids",
        "auto",
        "--out",
        str(tmp_path / "o"),
        "--json",
    ]
    assert cli.main(argv) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (
        settings["samplers"] == ["ddim", "unipc:order=3"]
        and settings["nfes"] == [3, 4]
        and settings["n"] == 6
    )
    assert (
        settings["top"] is None and settings["tolerance"] == 1e-6 and settings["resamples"] == 100
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--preset", "quik"], "did you mean 'quick'"),
        (["--samplers", "dimm"], "did you mean 'ddim'"),
        (["--grids", "karas"], "did you mean 'karras'"),
        (["--models", "mnst"], "did you mean 'mnist'"),
        (["--budget", "0"], "nfe=0"),
        (["--nfe", "five"], "'five' is not a whole number"),
        (["--top", "some"], "'some' is not a whole number"),
        (["--device", "gpu0"], "device='gpu0'"),
    ],
)
def test_the_command_refuses_with_3(argv, message, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["bench", "--out", str(out), *argv]) == 3
    assert message in capsys.readouterr().err
    assert not (out / "bench.md").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--samplers", "unipc:ordr=3"], "did you mean 'order'"),
        (["--samplers", "unipc:order=9"], "order=9"),
        (["--samplers", "unipc:order"], "is no option"),
        (["--grids", "karras:rh=7"], "did you mean 'rho'"),
        (
            [
                "--models",
                "mixture",
                "--grids",
                "karras:rho=nan",
                "--budget",
                "5",
                "--samplers",
                "ddim",
            ],
            "rho=nan",
        ),
    ],
)
def test_a_bad_option_of_a_sampler_or_a_grid_is_usage(argv, message, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["bench", "--out", str(out), *argv]) == 2
    assert message in capsys.readouterr().err
    assert not (out / "bench.md").exists()


def test_an_unknown_setting_of_the_file_is_named(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("sampler: ddim\n")
    assert cli.main(["bench", "--config", str(config), "--out", str(tmp_path)]) == 3
    assert "did you mean 'samplers'" in capsys.readouterr().err


def test_usage_is_2():
    assert cli.main(["bench", "--seeds", "many"]) == 2


# --- slow


@pytest.mark.slow
def test_digits_have_a_frechet_distance():
    made = bench(
        "mnist",
        samplers=["ddim", "dpmpp_2m"],
        grids=["auto"],
        nfes=[5],
        n=4,
        samples=128,
        top=1,
        resamples=20,
        tolerance=0.02,
    )
    rows = {row.sampler: row for row in made.rows}
    facts = made.models["mnist"]
    assert facts.metric == "FD-mnist" and 0.0 < facts.floor < 0.1
    rated = [row for row in rows.values() if row.quality is not None]
    assert len(rated) == 1 and rated[0].quality_low < rated[0].quality < rated[0].quality_high
    assert math.isfinite(rated[0].quality_plain) and rated[0].quality_plain > rated[0].quality
