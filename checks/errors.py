"""The base of every error that fewstep raises on purpose."""

from __future__ import annotations


class FewstepError(Exception):
    """Base of fewstep's own errors. Each of them is a ValueError or an ArithmeticError too."""


class ArgumentError(FewstepError, ValueError):
    """An argument, or a file, whose value cannot be used."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a type that cannot be used."""


class UsageError(ArgumentError):
    """A command line that asks for what cannot be done; commands end with exit code 2."""


class UnknownName(ArgumentError):
    """A name (schedule, kind, sampler, ...) that is not in its list."""
