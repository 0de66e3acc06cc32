"""Runs as one function of tensors: ``compile=`` and ``capture=`` of ``sample`` and ``run``.

The state, the noises by key and the condition are arguments of the function; the plan, the model
and what a run tells it are constants. So other seeds make neither another graph of
``torch.compile`` nor another recording, unless the model itself draws from the seeds
(``RunFacts.seeds``). Functions are kept for the last few models and plans.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ..checks import ArgumentError, shown, unknown
from ..fused import linear_backend
from ..models.base import BaseDenoiser, RunFacts
from ..models.denoiser import Condition
from ..models.wrapper import original
from ..plans.plan import Plan
from ..plans.running.finiteness import NumericalError, Watch, check_noise
from ..plans.running.loop import Noise, OnStep, noise_source, run_plan
from ..plans.running.lowering import Program, lower
from .heavy_tails import path_noise
from .paths import Named, noise_for
from .recordings import CudaGraphs, Machinery, Recording, Work, listed
from .traced_sampling import constant_run

CAPTURES = ("cuda_graph",)
#: functions kept of each kind
KEPT = 8

_COMPILED: OrderedDict[Hashable, tuple[object, Work]] = OrderedDict()
_RECORDED: OrderedDict[Hashable, tuple[object, Work]] = OrderedDict()


@dataclass(frozen=True, eq=False)
class How:
    """The arguments ``compile`` and ``capture``. ``machinery`` records; None: CUDA graphs."""

    compile: bool | str = False
    capture: str | None = None
    machinery: Machinery | None = None

    def __bool__(self) -> bool:
        return self.compile is not False or self.capture is not None

    def checked(self, given: Mapping[str, Any]) -> How:
        """The same. Raises ArgumentError for values that are not allowed, and for arguments
        ``given`` of the run that do not go with them."""
        if not self:
            return self
        if not isinstance(self.compile, (bool, str)):
            raise ArgumentError(
                f"compile={shown(self.compile)}: must be True, False or a backend of torch.compile"
            )
        if self.capture is not None and self.capture not in CAPTURES:
            raise ArgumentError(unknown("capture", self.capture, CAPTURES))
        word = "capture='cuda_graph'" if self.capture is not None else f"compile={self.compile!r}"
        for name, value in given.items():
            if value is None or value is False or value == ():
                continue
            if name in ("callback", "on_step") and self.capture is None:
                continue  # torch traces the function
            raise ArgumentError(
                f"{name}= with {word}: the run is one piece, which does not come back to Python "
                f"between its steps; leave {name}= out, or run without {word.split('=')[0]}="
            )
        return self

    def refuse_driver(self, name: str) -> None:
        """Raise ArgumentError for the driver ``name``."""
        if self:
            raise ArgumentError(
                f"{name} as one piece ({'compile' if self.capture is None else 'capture'}=): its "
                "steps depend on the data, so no graph holds them; use a sampler with a plan"
            )

    def check_devices(self, denoiser: BaseDenoiser, x: Tensor, cond: Condition) -> None:
        """Raise ArgumentError unless state, model and condition are on one device, one that
        records."""
        if self.capture is None:
            return
        if self.machinery is None and x.device.type != "cuda":
            raise ArgumentError(
                f"capture={self.capture!r}: the state is on {x.device}, and CUDA graphs need a "
                "CUDA device (device='cuda')"
            )
        others = {"the model": denoiser.device}
        if isinstance(cond, Mapping):
            others |= {f"condition {name!r}": value.device for name, value in cond.items()}
        elif cond is not None:
            others["the condition"] = cond.device
        for name, device in others.items():
            if device is not None and not _same(device, x.device):
                raise ArgumentError(
                    f"capture={self.capture!r}: {name} is on {device}, the state on {x.device}; "
                    "a graph is recorded on one device"
                )


def _same(a: torch.device, b: torch.device) -> bool:
    """Whether two devices are one; ``cuda`` without a number is any."""
    return a.type == b.type and (a.index is None or b.index is None or a.index == b.index)


#: step by step
EAGER = How()


def how_of(
    compile: bool | str, capture: str | None, *, record: object, progress: object, callback: object
) -> How:
    """``How`` of the arguments of ``sample``, checked."""
    given = {"record": record, "progress": progress, "callback": callback}
    return How(compile, capture).checked(given)


def run_whole(
    how: How,
    plan: Plan | Program,
    denoiser: BaseDenoiser,
    x: Tensor,
    noise: Noise | Named,
    seeds: tuple[int, ...],
    cond: Condition,
    on_step: OnStep | None,
    check: bool,
) -> Tensor:
    """``run`` as one function. ``how`` and the arguments are checked.

    Raises NumericalError as ``run`` does, after the run, and ArgumentError where torch cannot
    compile it.
    """
    how.check_devices(denoiser, x, cond)
    program = plan if isinstance(plan, Program) else lower(plan, denoiser)
    given = noise_for(program.plan, noise, seeds or None)
    drawn = _drawn(program.plan, path_noise(denoiser.schedule, program.plan, given), x)
    facts = _told(denoiser, RunFacts(seeds, *program.course))
    names = (id(original(denoiser)), id(program), facts.seeds)
    held = (original(denoiser), program, on_step)
    work = _plain(program, denoiser, facts)
    if how.compile is not False:
        key: Hashable = (*names, id(on_step), how.compile)
        work = _kept(
            _COMPILED, key, held, lambda: _compiled(program, denoiser, facts, on_step, how.compile)
        )
    if how.capture is not None:
        key = (*names, how.compile, how.machinery, _form(denoiser, x, drawn, cond))
        machinery = how.machinery or CudaGraphs(x.device)
        work = _kept(_RECORDED, key, held, lambda: Recording(work, machinery, x, drawn, cond))
    out = work(x, drawn, cond)
    if check:
        _check(out, program, lambda: _plain(program, denoiser, facts, True)(x, drawn, cond))
    return out


def forget_runs() -> None:
    """Let go of all compiled and recorded runs, and of the memory that they hold."""
    _COMPILED.clear()
    _RECORDED.clear()


def _drawn(plan: Plan, noise: Noise, x: Tensor) -> tuple[Tensor, ...]:
    """The noise of every draw, by key."""
    source = noise_source(noise)
    if source is None or not plan.draws:
        return ()
    drawn = []
    for key in range(len(plan.draws)):
        z = source(key, x)
        check_noise(z, key, x)
        drawn.append(z.to(x))
    return tuple(drawn)


class _Asked(RunFacts):
    """Facts that remember whether their seeds were read."""

    def __getattribute__(self, name: str) -> Any:
        if name == "seeds":
            object.__getattribute__(self, "__dict__")["read"] = True
        return object.__getattribute__(self, name)


def _told(denoiser: BaseDenoiser, facts: RunFacts) -> RunFacts:
    """``facts``, without seeds where the model does not look at them."""
    asked = _Asked(facts.seeds, facts.steps, facts.inverse)
    denoiser.for_run(asked)
    return facts if "read" in vars(asked) else RunFacts((), facts.steps, facts.inverse)


def _plain(program: Program, denoiser: BaseDenoiser, facts: RunFacts, check: bool = False) -> Work:
    """The run in Python."""

    def work(x: Tensor, noises: Any, cond: Condition) -> Tensor:
        own = denoiser.for_run(facts)
        return run_plan(program, own, x, noise=noises or None, cond=cond, check=check)

    return work


def _compiled(
    program: Program,
    denoiser: BaseDenoiser,
    facts: RunFacts,
    on_step: OnStep | None,
    backend: bool | str,
) -> Work:
    """The run as one graph."""
    seeds = facts.seeds or None

    def work(x: Tensor, noises: Any, cond: Condition) -> Tensor:
        given = noises if len(noises) else None
        return constant_run(program, denoiser, x, given, seeds, cond, on_step, False)

    # torch counts the graphs of a code object, and refuses after some
    code = work.__code__.replace()
    own = FunctionType(code, work.__globals__, work.__name__, None, work.__closure__)
    named: dict[str, Any] = {} if backend is True else {"backend": backend}
    whole: Work = torch.compile(own, fullgraph=True, **named)

    def run(x: Tensor, noises: Any, cond: Condition) -> Tensor:
        try:
            return whole(x, noises, cond)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise ArgumentError(_why(error, backend)) from error

    return run


def _why(error: Exception, backend: bool | str) -> str:
    """The sentence for a run that torch does not compile."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line.partition(":")[2].strip() for line in lines if "raised exception" in line]
    reason = (told or lines or [type(error).__name__])[0]
    return (
        f"compile={backend!r}: torch makes no one graph of this run ({reason}); leave compile= "
        "out, or compile the network alone with torch.compile(network)"
    )


def _form(
    denoiser: BaseDenoiser, x: Tensor, drawn: tuple[Tensor, ...], cond: Condition
) -> Hashable:
    """What a recording depends on besides model and plan: the tensors' shapes, where the weights
    are, and what chooses kernels."""
    tensors = listed(x, drawn, cond)
    names = tuple(sorted(cond)) if isinstance(cond, Mapping) else cond is None
    network = denoiser.network
    buffers = network.buffers() if isinstance(network, torch.nn.Module) else ()
    weights = tuple([w.data_ptr() for w in (*denoiser.parameters(), *buffers)])
    kind = x.device.type
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    shapes = tuple([(v.shape, v.dtype, v.device, v.stride()) for v in tensors])
    return shapes, names, weights, cast, linear_backend()


def _kept(
    kept: OrderedDict[Hashable, tuple[object, Work]],
    key: Hashable,
    held: object,
    make: Callable[[], Work],
) -> Work:
    """The function kept under ``key``, else a new one. ``held`` keeps the objects alive whose ids
    are in the key."""
    if key in kept:
        kept.move_to_end(key)
        return kept[key][1]
    made = make()
    kept[key] = held, made
    while len(kept) > KEPT:
        kept.popitem(last=False)
    return made


def _check(out: Tensor, program: Program, again: Callable[[], Tensor]) -> None:
    """NumericalError where the result is not finite; a run in Python then finds the call."""
    try:
        Watch(program.calls, out).close(out)
    except NumericalError:
        again()
        raise
