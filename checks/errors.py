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


class GridError(ArgumentError):
    """A time grid that cannot be built: an unknown name or option, a wrong number of steps, times
    that are not a descent."""


class ScheduleError(ArgumentError):
    """A configuration that describes no schedule."""


class ConfigError(ScheduleError):
    """A diffusers scheduler config, or a keyword that changes one, that cannot be honoured."""
