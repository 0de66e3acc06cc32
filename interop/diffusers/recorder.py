"""Records the outputs of a pipeline's network between two steps of its scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ...checks import ArgumentError, ArgumentTypeError
from .layouts import Layout

#: a conditional and an unconditional output, by the names of the channels
Branches = dict[str, Tensor]


class Recorder:
    """The network's outputs since the last step; ``take`` gives them as branches."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.outputs: list[Tensor] = []

    def note(self, answer: Any) -> None:
        """Record the answer of one network call: a tensor, a tuple that begins with one, or an
        object with ``sample``."""
        if not isinstance(answer, Tensor):
            answer = answer[0] if isinstance(answer, tuple) else answer.sample
        self.outputs.append(answer)

    def take(self, sample: Tensor) -> Branches:
        """Return the two branches, each of the shape of ``sample``, and forget them.

        A learned variance (twice the channels) is cut off. Raises ArgumentError where other rows
        were recorded than the pipeline's layout has.
        """
        found, self.outputs = self.outputs, []
        rows, batch = [each.shape[0] for each in found], sample.shape[0]
        if self.layout.calls == 1 and rows == [2 * batch]:
            uncond, cond = found[0].chunk(2)
        elif self.layout.calls == 2 and rows == [batch, batch]:
            cond, uncond = found
        else:
            raise ArgumentError(self._refusal(rows, batch))
        return {"uncond": _cut(uncond, sample), "cond": _cut(cond, sample)}

    def _refusal(self, rows: list[int], batch: int) -> str:
        due = f"one call of {2 * batch}" if self.layout.calls == 1 else f"two calls of {batch}"
        if not rows:
            return (
                "no output of the network was recorded since the last step: guidance works in a "
                "call of the pipeline that guided() returned, whose network is pipe."
                f"{self.layout.network}"
            )
        words = (
            f"the network was called with {', '.join(map(str, rows))} rows for {batch} samples, "
            f"and guidance needs {due} (unconditional and conditional)"
        )
        if rows == [batch]:
            words += (
                ": the pipeline made no unconditional prediction (a network with an embedded "
                f"scale, or {self.layout.scale} set to 1 or below in the middle of the run?); to "
                "guide some noise levels only, pass interval= to the method"
            )
        return words


def _cut(output: Tensor, sample: Tensor) -> Tensor:
    """``output`` in the shape of ``sample``."""
    if output.shape == sample.shape:
        return output
    shape, wanted = tuple(output.shape), tuple(sample.shape)
    if shape == (wanted[0], 2 * wanted[1], *wanted[2:]):
        return output[:, : wanted[1]]
    raise ArgumentError(
        f"the network's output has shape {shape} a branch, the sample {wanted}: they must be equal"
    )


@contextmanager
def recording(pipe: Any, recorder: Recorder) -> Iterator[None]:
    """Record the calls of the pipeline's network; at the end nothing is left on the network.

    A module that was compiled in place (``network.compile()``) is recorded around its compiled
    call, so that no graph changes. Raises ArgumentTypeError unless the network is a torch module.
    """
    network = getattr(pipe, recorder.layout.network)
    if not isinstance(network, nn.Module):
        raise ArgumentTypeError(
            f"pipe.{recorder.layout.network} is a {type(network).__name__}: it must be a "
            "torch.nn.Module, whose outputs are recorded"
        )
    compiled: Any = network._compiled_call_impl
    if compiled is None:
        hook = network.register_forward_hook(lambda module, given, answer: recorder.note(answer))
        try:
            yield
        finally:
            hook.remove()
        return

    def noted(*args: Any, **kwargs: Any) -> Any:
        answer = compiled(*args, **kwargs)
        recorder.note(answer)
        return answer

    network._compiled_call_impl = noted
    try:
        yield
    finally:
        network._compiled_call_impl = compiled
