"""Settings from a ``--config`` file and from flags, which override it."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..checks import ArgumentError, unknown
from ..jobs.settings import checked
from .config_file import read_config


def defaults_of(function: Callable[..., Any], *left_out: str) -> dict[str, Any]:
    """The parameters of ``function`` that have a default, but for ``left_out``."""
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.default for p in parameters if p.default is not p.empty and p.name not in left_out
    }


def resolve(args: argparse.Namespace, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of ``defaults``: the flag if one was given (not None), else the file's value,
    else the default.

    A null in the file counts as not given. Raises ArgumentError, with the nearest match, for a name
    that is no setting, and for a value that its setting does not take.
    """
    file = read_config(args.config) if args.config else {}
    for key in file:
        if key not in defaults:
            raise ArgumentError(f"{args.config}: {unknown('setting', key, defaults)}")
    try:
        said = {key: checked(key, value) for key, value in file.items() if value is not None}
    except ArgumentError as error:
        raise ArgumentError(f"{args.config}: {error}") from None
    flags = {
        key: checked(key, getattr(args, key))
        for key in defaults
        if getattr(args, key, None) is not None
    }
    return {**defaults, **said, **flags}
