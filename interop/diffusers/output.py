"""Return values of ``FewstepScheduler.step``: the next state and, as in diffusers' classes, a
second value.

Few callers read the second value, so it is computed on first access: the object keeps the state and
the network's output until then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.schedulers.scheduling_lcm import LCMSchedulerOutput
from diffusers.schedulers.scheduling_tcd import TCDSchedulerOutput
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor

from ...fused.linear.eager import linear_combination
from ...plans.instructions import PlanError
from ...plans.running.tensor_versions import edited

DATA = "pred_original_sample"
_DATA = (
    "DDIM",
    "DDPM",
    "EulerDiscrete",
    "EulerAncestralDiscrete",
    "HeunDiscrete",
    "KDPM2Discrete",
    "KDPM2AncestralDiscrete",
)
#: class -> the name of its second value: x0, LCM's x0 after its boundary scaling, TCD's state
#: before the noise. The others have none.
SECOND = {
    **{name + "Scheduler": DATA for name in (*_DATA, "LMSDiscrete", "EDMEuler")},
    "LCMScheduler": "denoised",
    "TCDScheduler": "pred_noised_sample",
}
#: what stands for a :class:`StepOutput` in a graph
TRACED = {
    DATA: DDIMSchedulerOutput,
    "denoised": LCMSchedulerOutput,
    "pred_noised_sample": TCDSchedulerOutput,
}


class Prediction:
    """One evaluation: ``x0 = p x + sum_i q_i output_i``, and the second value of the step
    ``a x + b x0``.

    Args:
        x, outputs: the evaluated state and the network's output, or the raw outputs of guidance;
            with (p, q) = (0, 1) the output is x0 itself.
        to_data: (p, q_1, ...), or the error that explains why x0 is not defined.
        second: (a, b).
    """

    __slots__ = ("outputs", "second", "to_data", "tracked", "versions", "x")

    def __init__(
        self,
        x: Tensor,
        outputs: tuple[Tensor, ...],
        to_data: tuple[float, ...] | Exception,
        second: tuple[float, float],
    ) -> None:
        self.x, self.outputs, self.to_data, self.second = x, outputs, to_data, second
        self.tracked = True  # whether a change in place would be noticed
        try:
            self.versions: tuple[int, ...] = (x._version, *(each._version for each in outputs))
        except RuntimeError:  # inference tensors do not tell
            self.tracked, self.versions = False, ()

    def data(self) -> Tensor:
        """x0. PlanError where state or output were changed in place, ConversionError at alpha =
        0."""
        return self._mix(0.0, 1.0)

    def value(self) -> Tensor:
        """The second value."""
        return self._mix(*self.second)

    def _mix(self, a: float, b: float) -> Tensor:
        if isinstance(self.to_data, Exception):
            raise self.to_data
        if self.tracked and any(map(edited, (self.x, *self.outputs), self.versions)):
            raise PlanError(
                "the state or the network's output was changed in place since the step: read "
                "its second value before that"
            )
        p, *qs = self.to_data
        numbers = [a + b * p, *(b * q for q in qs)]
        if numbers[:2] == [0.0, 1.0] and not any(numbers[2:]):
            return self.outputs[0]
        return linear_combination([self.x, *self.outputs], numbers, self.x.dtype)


class StepOutput(SchedulerOutput):
    """The output object of a step, constructed without diffusers' checks (which take as long as a
    small step).

    ``prev_sample`` is the next state; the second value has the class's own name.
    ``pred_original_sample``, the x0 of this evaluation, is an attribute for all classes.
    """

    def __init__(
        self,
        prev_sample: Tensor,
        pred_original_sample: Tensor | None = None,
        denoised: Tensor | None = None,
        pred_noised_sample: Tensor | None = None,
        *,
        seen: Prediction | None = None,
        name: str | None = None,
    ) -> None:
        OrderedDict.__setitem__(self, "prev_sample", prev_sample)
        own = self.__dict__  # (their __setattr__ is slow)
        own["prev_sample"], own["_seen"], own["_name"] = prev_sample, seen, name
        if seen is None:
            for key, value in zip(
                TRACED, (pred_original_sample, denoised, pred_noised_sample), strict=True
            ):
                if value is not None:
                    self._put(key, value)
        elif not seen.tracked and not isinstance(seen.to_data, Exception):
            own[DATA] = seen.data()
            self._fill()

    def _put(self, key: str, value: Tensor) -> None:
        OrderedDict.__setitem__(self, key, value)
        self.__dict__[key] = value

    def _fill(self) -> StepOutput:
        """Itself, with the second value of its class."""
        name, seen = self._name, self._seen
        if name is not None and seen is not None and not OrderedDict.__contains__(self, name):
            self._put(name, seen.value())
        return self

    def __getattr__(self, name: str) -> Any:
        seen = self.__dict__.get("_seen")
        if seen is not None and name == self._name:
            return getattr(self._fill(), name)
        if seen is not None and name == DATA:
            self.__dict__[DATA] = seen.data()
            return self.__dict__[DATA]
        raise AttributeError(f"a step's output has no {name!r}")

    def __getitem__(self, key: Any) -> Any:
        return (
            self.prev_sample
            if key in (0, "prev_sample")
            else super(StepOutput, self._fill()).__getitem__(key)
        )

    def __iter__(self) -> Iterator[str]:
        return super(StepOutput, self._fill()).__iter__()

    def __len__(self) -> int:
        return super(StepOutput, self._fill()).__len__()

    def __contains__(self, key: object) -> bool:
        return key == "prev_sample" or super(StepOutput, self._fill()).__contains__(key)

    def keys(self) -> Any:
        """The names of its values."""
        return super(StepOutput, self._fill()).keys()

    def values(self) -> Any:
        """The values."""
        return super(StepOutput, self._fill()).values()

    def items(self) -> Any:
        """Names and values."""
        return super(StepOutput, self._fill()).items()

    def to_tuple(self) -> tuple[Any, ...]:
        """The values."""
        return tuple(self.values())


class Pair(tuple[Any, ...]):
    """The two return values of a step as a tuple; the second is computed on first access."""

    seen: Prediction | None
    made: tuple[Tensor, Tensor] | None

    def __new__(cls, x: Tensor, seen: Prediction) -> Pair:
        """The pair of the next state and what is worked out from ``seen``."""
        made = tuple.__new__(cls, (x, None))
        made.seen, made.made = seen, None
        if not seen.tracked and not isinstance(seen.to_data, Exception):
            made.whole()
        return made

    def whole(self) -> tuple[Tensor, Tensor]:
        """Both values."""
        if self.made is None:
            assert self.seen is not None
            self.made, self.seen = (tuple.__getitem__(self, 0), self.seen.value()), None
        return self.made

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, 0) if key == 0 else self.whole()[key]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.whole())

    def __add__(self, other: Any) -> tuple[Any, ...]:
        return self.whole() + tuple(other)

    def __repr__(self) -> str:
        return repr(self.whole())

    def __reduce__(self) -> Any:
        return tuple, (self.whole(),)
