"""Doors that few walk through: numbers at the end of what commands and tables take, plans that name
noise twice, odd pictures."""

from __future__ import annotations

import io
import json
import math
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fewstep
import fewstep.eval as E
from fewstep.checks import ArgumentError, FewstepError
from fewstep.checks.commands import Stops
from fewstep.checks.devices import device, present_devices
from fewstep.eval.benchmark.settings import BenchSettings
from fewstep.eval.benchmark.subject import features_for
from fewstep.eval.scoring.features import chosen_places
from fewstep.eval.scoring.scores import metric_names
from fewstep.files.atomic import create
from fewstep.files.pictures import read_picture
from fewstep.fused.brownian.path import BrownianPath
from fewstep.jobs.settings import checked, parse_seeds, parse_size
from fewstep.plans import Plan
from fewstep.plans.densities import transitions
from fewstep.plans.instructions import PlanError
from fewstep.schedules import VPLinear

#: setting of a command -> (least, largest); None: any larger one is taken
SETTINGS: dict[str, tuple[float, float | None]] = {
    **dict.fromkeys(("steps", "nfe"), (1, 100_000)),
    **dict.fromkeys(("batch", "keep", "pairs"), (1, None)),
    "resamples": (0, 1_000_000),
    "seed": (0, 2**63 - 1),
    "level": (0.0, 1.0),
}


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_at_its_ends(key: str) -> None:
    low, high = SETTINGS[key]
    assert checked(key, low) == low and checked(key, 10**18 if high is None else high) == (
        10**18 if high is None else high
    )
    beyond = (
        [math.nextafter(low, -1.0), math.nextafter(high or 1.0, 2.0)]
        if key == "level"
        else [low - 1, *([] if high is None else [high + 1])]
    )
    for value in beyond:
        with pytest.raises(ArgumentError, match=f"{key}="):
            checked(key, value)


def test_sizes_and_seeds_at_their_ends() -> None:
    assert (parse_size("65536"), parse_size("1x65536"), parse_size(1)) == (65536, (1, 65536), 1)
    for text in ("65537", "1x65537", "0"):
        with pytest.raises(ArgumentError, match="of at most 65536"):
            parse_size(text)
    assert parse_seeds(f"{2**64 - 1}") == (2**64 - 1,)
    with pytest.raises(ArgumentError, match="more than 64 bits"):
        parse_seeds(f"{2**64}")
    with pytest.raises(ArgumentError, match="10000001 samples; at most 10000000"):
        parse_seeds("0-9999999,10000000")
    with pytest.raises(ArgumentError, match="named twice"):
        parse_seeds("4-6,6-8")
    assert parse_seeds("4-6,7-8,0-3") == (4, 5, 6, 7, 8, 0, 1, 2, 3)


BENCH: dict[str, tuple[int, int | None]] = {
    "n": (2, 1_000_000),
    "samples": (0, 10_000_000),
    "resamples": (2, 1_000_000),
    "batch": (1, None),
    "top": (1, None),
}


@pytest.mark.parametrize("key", BENCH)
def test_a_setting_of_the_bench_at_its_ends(key: str) -> None:
    low, high = BENCH[key]
    for value in (low, high or 10**12):
        assert getattr(BenchSettings(**{"models": ("mixture",), key: value}), key) == value
    for value in (low - 1, *(() if high is None else (high + 1,))):
        with pytest.raises(E.ScoreError, match=f"{key}="):
            BenchSettings(**{"models": ("mixture",), key: value})


def test_tolerances_and_budgets_of_the_bench() -> None:
    for value in (1e-12, 1.0):
        assert BenchSettings(models=("mixture",), tolerance=value).tolerance == value
    for value in (math.nextafter(1e-12, 0.0), math.nextafter(1.0, 2.0), math.nan):
        with pytest.raises(E.ScoreError, match="tolerance="):
            BenchSettings(models=("mixture",), tolerance=value)
    assert BenchSettings(models=("mixture",), nfes=(1, 100_000), quality_nfes=(1,)).nfes == (
        1,
        100_000,
    )
    for nfes in ((0,), (100_001,)):
        with pytest.raises(E.ScoreError, match="nfe="):
            BenchSettings(models=("mixture",), nfes=nfes)


def test_seeds_and_labels_are_no_flags() -> None:
    for key in ("seeds", "labels", "size"):
        assert checked(key, 3) == 3 and checked(key, "3") == "3"
        for value in (True, "", 1.5, None, [3]):
            with pytest.raises(ArgumentError, match=f"{key}="):
                checked(key, value)


def test_a_device_that_is_not_here_is_told_with_those_that_are() -> None:
    here = present_devices()
    assert ("cpu" in here) and ("mps" in here) == torch.backends.mps.is_available()
    with pytest.raises(ArgumentError) as error:
        device("no such device\nat all")
    assert (
        str(error.value).endswith(f"allowed: {', '.join(here)}")
        and "\n" not in str(error.value).partition("; allowed")[2]
    )


def test_no_grid_is_the_default_one() -> None:
    plain = fewstep.plan("dpmpp_2m", VPLinear(), steps=4)
    assert fewstep.plan("dpmpp_2m", VPLinear(), steps=4, grid=None) == plain
    with pytest.raises(ArgumentError, match=r"grid=\[1\.0, 0\.5\]"):
        fewstep.plan("dpmpp_2m", VPLinear(), steps=4, grid=[1.0, 0.5])


def test_metrics_by_name() -> None:
    assert metric_names(" kid, fd,kid") == ("kid", "fd")
    for none in ((), []):
        with pytest.raises(E.ScoreError, match="metrics is empty"):
            metric_names(none)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        *(
            ({"start": 1.0, "end": 1.0}, "start < end"),
            ({"end": math.inf}, "start < end"),
            ({"start": 2.0}, "start < end"),
        ),
        *(
            ({"tol": 0.0}, "tol = 0.0"),
            ({"tol": math.nextafter(1.0, 2.0)}, "tol = "),
            ({"tol": -1.0}, "tol = "),
        ),
        *(
            ({"cells": 0}, "cells=0"),
            ({"layer": -1}, "layer=-1"),
            ({"tol": 2.0**-61}, "61 halvings"),
        ),
    ],
)
def test_paths_that_cannot_be(given: dict[str, Any], words: str) -> None:
    whole: dict[str, Any] = {"start": 0.0, "end": 1.0, "tol": 0.25}
    with pytest.raises(ArgumentError, match=words):
        BrownianPath((1, 2), **{**whole, **given})
    assert (
        BrownianPath((1, 2), 0.0, 1.0, 1.0).levels == 0
        and BrownianPath((1, 2), 0.0, 1.0, 2.0**-60).levels == 60
    )
    path, like = BrownianPath((1, 2), **whole), torch.zeros(2, 3)
    for s, t in ((-0.1, 0.5), (0.5, 1.1), (0.6, 0.5)):
        with pytest.raises(ArgumentError, match="must be"):
            path.increment(s, t, like)
    with pytest.raises(ArgumentError, match="2 seeds"):
        path.increment(0.0, 1.0, torch.zeros(3, 3))
    assert all(float(v.abs().max()) == 0.0 for v in path.levy(0.5, 0.5, like))


def changed(change: Callable[[dict[str, Any]], None], **options: Any) -> str:
    body = json.loads(fewstep.plan("ddim", VPLinear(), steps=3, **options).to_json())
    change(body)
    return json.dumps(body)


def drawing(body: dict[str, Any]) -> dict[str, Any]:
    return next(i for i in body["code"] if i.get("noise"))


def test_noise_that_a_plan_does_not_have() -> None:
    def beyond(body: dict[str, Any]) -> None:
        drawing(body)["noise"][0][0] = len(body["draws"])

    def twice(body: dict[str, Any]) -> None:
        drawing(body)["noise"] *= 2

    for change, words in (
        (beyond, "draw 2 is not in the plan's list of 2"),
        (twice, "reads draw 0 twice"),
    ):
        with pytest.raises(PlanError, match=words):
            Plan.from_json(changed(change, eta=1.0))


def test_transitions_want_what_they_read() -> None:
    plan = fewstep.plan("ddim", VPLinear(), steps=3, eta=1.0)
    first, second = transitions(plan)
    assert (first.index, second.index, first.memory, first.draw, second.draw) == (0, 1, 1, 0, 1)
    x, m = torch.randn(2, 3), {kind: torch.randn(2, 3) for kind in ("eps", "x0")}
    with pytest.raises(ArgumentError, match="0 outputs given"):
        first.mean(x)
    with pytest.raises(ArgumentError, match=r"x_next has shape \(2, 1\)"):
        first.log_prob(x[:, :1], x, m)
    wide = first.mean(x.half(), {k: v.half() for k, v in m.items()})
    assert wide.dtype == torch.float32


def test_a_name_is_given_once(tmp_path: Any) -> None:
    assert create(tmp_path / "a" / "x", b"one") is True
    assert create(tmp_path / "a" / "x", b"two") is False
    assert (tmp_path / "a" / "x").read_bytes() == b"one" and [
        p.name for p in (tmp_path / "a").iterdir()
    ] == ["x"]


def test_a_damaged_orientation_turns_nothing() -> None:
    image = np.arange(12 * 8 * 3, dtype=np.uint8).reshape(12, 8, 3)
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG", exif=b"Exif\0\0no TIFF at all")
    assert np.array_equal(read_picture(out.getvalue()), np.moveaxis(image, -1, 0))


def test_levels_of_pictures_and_rules_of_sizes() -> None:
    with pytest.raises(FewstepError, match="quantize='ceil'"):
        E.to_uint8(torch.zeros(1, 1, 4, 4), quantize="ceil")
    with pytest.raises(FewstepError, match="value_range="):
        E.to_uint8(torch.zeros(1, 1, 4, 4), value_range=(1.0, 0.0))
    with pytest.raises(FewstepError, match="two rules"):
        E.load_extractor("mnist@none", resize="tf")


def test_signals_that_are_ignored_stay_ignored() -> None:
    """``nohup`` ignores one before the program begins; a handler of someone else's stays too."""

    def own(number: int, frame: object) -> None:
        raise AssertionError

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, own)
        Stops().watch()
        assert (
            signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            and signal.getsignal(signal.SIGTERM) is own
        )
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stops = Stops()
        stops.watch()
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == stops._stop
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def test_a_subset_of_places_goes_by_their_hash() -> None:
    """The least hashes, by SplitMix64 of the place, in order of place: the same subset in whatever
    order the samples came."""

    def mixed(place: int) -> int:
        z = (place + 1) * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    index = torch.randperm(200, generator=torch.Generator().manual_seed(0)) * 7
    for most in (1, 50, 199, 200, 300):
        want = sorted(sorted(index.tolist(), key=mixed)[:most])
        assert index[chosen_places(index, most)].tolist() == want


def test_the_floor_of_a_bundled_feature_network() -> None:
    """The distance of its training set to its test set, which no model is asked to beat."""
    found = features_for("mnist")
    assert found is not None and found[2] is not None and 0.0 < found[2] < 20.0
    assert features_for("no such network") is None
    with pytest.raises(FewstepError):
        features_for("no such network", strict=True)
