"""``fewstep score --physics EQUATION``: flags, and the scores as text."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..checks import UsageError
from ..files import dumps
from .config_file import read_config
from .options import parse_values
from .settings import defaults_of, resolve

if TYPE_CHECKING:
    from ..eval.physics.rating.scores import FieldRating
    from ..jobs import PhysicsResult

#: flags of physical fields
OWN = ("fields", "field_map", "spacing", "param", "data", "truth", "levels", "threshold")
#: those that are read as NAME=VALUE
PAIRS = ("field_map", "spacing", "param", "levels")
HEADS = ("metric", "mean", "+-", "median", "interval", "true solutions", "ratio")


def add_physics(p: argparse.ArgumentParser) -> None:
    """What physical fields are rated by."""
    group = p.add_argument_group("physical fields, instead of images")
    group.add_argument(
        "--physics", metavar="EQUATION", help="rate fields by this equation; an unknown name lists"
    )
    group.add_argument(
        "--fields", metavar="A,U", help="the channels in order (default: those of the model)"
    )
    group.add_argument(
        "--field-map",
        action="append",
        metavar="A=SCALE,SHIFT",
        help="channel = scale value + shift (default: those of the model, else 1,0)",
    )
    group.add_argument(
        "--spacing",
        action="append",
        metavar="X=H,Y=H",
        help="distance of two points in physical units (default: that of the file, or of the "
        "equation's data set)",
    )
    group.add_argument(
        "--param",
        action="append",
        metavar="NAME=VALUE",
        help="of the equation, such as nu=0.01; may be repeated",
    )
    _add_true(group)


def _add_true(group: argparse._ArgumentGroup) -> None:
    """What samples are compared with."""
    group.add_argument(
        "--data",
        type=_number_or_file,
        metavar="FILE|N",
        help="true solutions: an npz file, or so many draws of the equation's data set",
    )
    group.add_argument("--truth", metavar="FILE", help="npz file of the true fields of each sample")
    group.add_argument(
        "--levels",
        action="append",
        metavar="A=LOW,HIGH",
        help="the two values of a coefficient: share of wrong points against --truth",
    )
    group.add_argument(
        "--threshold", type=float, help="that ends the correlation time (default 0.8)"
    )


def _number_or_file(text: str) -> str | int:
    return int(text) if text.isdecimal() and len(text) < 10 else text


def asked(args: argparse.Namespace) -> bool:
    """Whether fields are rated, by the flag or the file of settings. Raises UsageError for flags of
    fields without an equation."""
    if args.physics is not None or (args.config and "physics" in read_config(args.config)):
        return True
    given = [name for name in OWN if getattr(args, name) is not None]
    if given:
        raise UsageError(f"--{given[0].replace('_', '-')} is about physical fields: give --physics")
    return False


def execute_physics(args: argparse.Namespace, of_images: dict[str, Any]) -> int:
    """Rate fields. Raises UsageError for flags of ``of_images``, the settings of the other job."""
    from ..jobs import score_physics

    defaults = {"physics": None, "source": None, **defaults_of(score_physics, "out")}
    given = [k for k in of_images if k not in defaults and getattr(args, k, None) is not None]
    if given:
        raise UsageError(
            f"--{given[0].replace('_', '-')} is about images, and --physics rates fields"
        )
    for name in PAIRS:
        texts = getattr(args, name)
        setattr(args, name, parse_values(f"--{name.replace('_', '-')}", texts) if texts else None)
    settings = resolve(args, defaults)
    if settings["source"] is None:
        raise UsageError("--physics: give a folder or an npz file of fields")
    result = score_physics(out=args.out, **settings)
    print(dumps(result.record()) if args.json else text(result), end="" if args.json else "\n")
    return 0


def text(result: PhysicsResult) -> str:
    """The result for people: two sentences, the table, the notes."""
    scores, grid = result.scores, result.grid
    by = "" if result.model is None else f" by {result.model}"
    beside = f", beside {scores.data_count} true solutions" if scores.data_count else ""
    steps = ", ".join(f"{axis} {h:.4g}" for axis, h in grid.spacing.items())
    numbers = {k: v for k, v in grid.params.items() if isinstance(v, int | float | str)}
    values = "".join(f", {k} {v}" for k, v in numbers.items())
    lines = [
        f"{scores.count} samples of {result.source}{by}: {scores.equation}{beside}",
        f"spacing {steps}{values} ({grid.origin})",
        *_table([HEADS, *(_row(name, rating) for name, rating in scores.ratings.items())]),
    ]
    notes = {rating.note for rating in scores.ratings.values() if rating.note}
    return "\n".join([*lines, *sorted(notes), *scores.notes])


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(name: str, rating: FieldRating) -> tuple[str, ...]:
    interval = "" if rating.low is None else f"{_number(rating.low)} to {_number(rating.high)}"
    own = rating.data
    return (
        name,
        _number(rating.value),
        _number(rating.std),
        _number(rating.median),
        interval,
        "" if own is None else _number(own.value),
        _number(rating.ratio),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
