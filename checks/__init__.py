"""Errors, their messages and checks of arguments, used by all packages; ``answers`` and
``commands``: exit codes and error sentences of commands."""

from __future__ import annotations

from .arguments import between as between
from .arguments import choice as choice
from .arguments import flag as flag
from .arguments import integer as integer
from .arguments import is_finite as is_finite
from .arguments import number as number
from .arguments import plain as plain
from .arguments import takes as takes
from .devices import device as device
from .devices import present_devices as present_devices
from .dtypes import floating_dtype as floating_dtype
from .errors import ArgumentError as ArgumentError
from .errors import ArgumentTypeError as ArgumentTypeError
from .errors import ConfigError as ConfigError
from .errors import FewstepError as FewstepError
from .errors import GridError as GridError
from .errors import ScheduleError as ScheduleError
from .errors import UnknownName as UnknownName
from .errors import UsageError as UsageError
from .immutability import immutable as immutable
from .json_text import parse_json as parse_json
from .messages import shown as shown
from .messages import unknown as unknown
from .tensors import described as described
from .tensors import instance as instance
from .tensors import members as members
from .tensors import tensor as tensor
from .tracing import host_constant as host_constant
from .tracing import traced as traced
from .tracing import transformed as transformed
