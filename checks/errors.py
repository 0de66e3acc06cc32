"""The errors that fewstep raises on purpose, and their common base."""

from __future__ import annotations


class FewstepError(Exception):
    """Base of fewstep's own errors. Each is also a ValueError or an ArithmeticError."""


class ArgumentError(FewstepError, ValueError):
    """An argument, or a file, whose value cannot be used."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a type that cannot be used."""


class UsageError(ArgumentError):
    """A command line whose arguments do not fit together; commands end with exit code 2."""


class UnknownName(ArgumentError):
    """A name (of a schedule, kind, sampler, ...) that does not exist."""


class GridError(ArgumentError):
    """A time grid that cannot be built: an unknown name or option, a wrong number of steps,
    times that do not fall."""


class ScheduleError(ArgumentError):
    """A configuration that describes no schedule, or a schedule whose functions do not fit each
    other."""


class ConfigError(ScheduleError):
    """A diffusers scheduler config, or a keyword that changes one, that is not supported."""
