"""``transition_log_prob`` and ``transition_means``: log-densities and means of the noisy steps of a
recorded run, the likelihood that policy gradients and importance weights are made of (DDPO, Black
et al. 2023, arXiv 2305.13301; Flow-GRPO, Liu et al. 2025, arXiv 2505.05470)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import checks
from ..checks import ArgumentError
from ..fused.noise.seeded import check_seeds
from ..models.base import BaseDenoiser, RunFacts
from ..models.denoiser import Denoiser
from ..models.wrapper import complete
from ..plans.instructions import PlanError
from ..plans.plan import Plan
from ..plans.running.channels import network_raws
from ..plans.running.finiteness import check_raws
from ..plans.running.lowering import Program, lower
from ..plans.running.step_state import Outputs
from ..plans.transition import Transition
from ..schedules.host_times import device_times
from ..schedules.pfgmpp import PFGMPP
from .arguments import StateError, check_cond, check_state

REDUCTIONS = ("sum", "mean")
Cond = Tensor | Mapping[str, Tensor] | None


def transition_log_prob(
    plan: Plan | Program,
    denoiser: Denoiser,
    states: Tensor,
    cond: Cond = None,
    *,
    reduction: str = "sum",
    steps: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """Return ``log p(x_{k+1} | x_0, ..., x_k)`` (K, B) of the K noisy steps of ``plan`` in order,
    at the recorded ``states``.

    The density of a step is ``N(mean, std^2)``, ``plan.transitions[k]``. The network is called at
    the states, and the result is differentiable in its parameters, in ``cond`` and in ``states``.
    Predictions of earlier calls that a multistep method reads are part of the mean and carry
    gradients too. A state without noise is taken as it was recorded: no gradient goes through it.

    Args:
        plan: the plan that made the states, ``info.plan``.
        denoiser: the model, with the parameters to rate the states by.
        states: (nfe + 1, B, *shape), ``info.states`` of ``sample(..., record=True, info=True)``,
            in the coordinates of the plan (on a mean-reverting path x - mu).
        cond: tensor or mapping of tensors, batch first.
        reduction: over the elements of a sample, ``"sum"`` or ``"mean"``. The mean is what public
            code of Flow-GRPO uses: its ratio is the d-th root of the likelihood ratio. A sum of d
            elements has a resolution of about d / 10^7 in float32.
        steps: which of the K steps, by their positions 0 .. K-1; None: all. The network is called
            for those predictions only that the chosen steps read: a loop over single steps with
            ``backward()`` inside holds the graph of one step at a time. A model that keeps values
            from call to call is called for every call before as well.
        seeds: of the run (``info.seeds``), for models that draw from them.

    Computed in float32 or better, whatever the dtype of ``states``. The noises must have been
    independent unit normals. Raises PlanError for a plan without noisy steps, or with a state that
    has no density; StateError for states of another shape.
    """
    checks.choice("reduction", reduction, REDUCTIONS)
    rows = _rows(plan, denoiser, states, cond, steps, seeds)
    total = torch.stack([r.step.log_prob(r.next, r.states, *r.outputs) for r in rows])
    return total / states[0, 0].numel() if reduction == "mean" else total


def transition_means(
    plan: Plan | Program,
    denoiser: Denoiser,
    states: Tensor,
    cond: Cond = None,
    *,
    steps: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """Return the means ``E[x_{k+1} | x_0, ..., x_k]`` (K, B, *shape) of the K noisy steps of
    ``plan`` in order, at the recorded ``states``.

    Their standard deviations are ``[t.std for t in plan.transitions]``. With the means of two
    models at the same states, ``guidance.policy.transition_kl`` is the divergence of their steps.
    Arguments, gradients, precision and errors are those of ``transition_log_prob``.
    """
    rows = _rows(plan, denoiser, states, cond, steps, seeds)
    return torch.stack([r.step.mean(r.states, *r.outputs) for r in rows])


class _Row(NamedTuple):
    """A noisy step with what its density reads: the next state, and the states and predictions
    before, newest first."""

    step: Transition
    next: Tensor
    states: Sequence[Tensor]
    outputs: Sequence[Mapping[str, Tensor]]


def _rows(
    plan: Plan | Program,
    denoiser: Denoiser,
    states: Tensor,
    cond: Cond,
    steps: Sequence[int] | None,
    seeds: Sequence[int] | None,
) -> list[_Row]:
    """Check the arguments, call the network, and return the chosen steps."""
    denoiser = complete(denoiser)
    checks.instance("plan", plan, (Plan, Program), "a plan, as fewstep.plan makes it,")
    bare = plan.plan if isinstance(plan, Program) else plan
    _check_states(states, bare, denoiser)
    check_cond(cond, states.shape[1])
    chosen = _chosen(bare, denoiser, steps)
    program = lower(bare, denoiser)
    denoiser.check_cond(cond, states.shape[1])
    facts = RunFacts(() if seeds is None else check_seeds(seeds), bare.call_steps)
    if states.is_inference() and not torch.is_inference_mode_enabled():
        states = states.clone()  # autograd takes no tensor made in inference mode
    outputs = _outputs(program, denoiser, facts, chosen, states, cond)
    return [
        _Row(
            t,
            states[t.index + 1],
            [states[t.index - age] for age in range(t.depth)],
            [outputs.get(t.index - age, _NOTHING) for age in range(t.memory)],
        )
        for t in chosen
    ]


#: for a call whose predictions a step does not read
_NOTHING: Mapping[str, Tensor] = {}


class _Once(Mapping[str, Tensor]):
    """Predictions of one call, each computed once."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs, self._made = outputs, dict[Any, Tensor]()

    def __getitem__(self, key: Any) -> Tensor:
        if key not in self._made:
            self._made[key] = self._outputs[key]
        return self._made[key]

    def __iter__(self) -> Any:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)


def _outputs(
    program: Program,
    denoiser: BaseDenoiser,
    facts: RunFacts,
    chosen: Sequence[Transition],
    states: Tensor,
    cond: Cond,
) -> dict[int, Mapping[str, Tensor]]:
    """Call the network at the states; return the predictions that the ``chosen`` steps read, by
    call."""
    needed = {t.index - age for t in chosen for age, _, _, _ in t.terms}
    model = denoiser.for_run(facts)
    # a model that keeps values between calls needs the calls before
    made = sorted(needed) if model is denoiser else range(max(needed, default=-1) + 1)
    wide = torch.promote_types(states.dtype, torch.float32)
    times = _times(program, states.device)
    found: dict[int, Mapping[str, Tensor]] = {}
    for k in made:
        call, x = program.calls[k], states[k]
        x_in = x if call.scale == 1.0 else (call.scale * x.to(wide)).to(x.dtype)
        t, to = times[k]
        raws = network_raws(model, x_in, t, cond, call.channels, None if call.to is None else to)
        check_raws(raws, x, program.raws)
        wider = [raw.to(wide) for raw in raws]
        found[k] = _Once(Outputs(model, call.node, x.to(wide), wider, call.channels))
    return found


def _times(program: Program, device: torch.device) -> Sequence[tuple[Tensor, Tensor]]:
    """Return the time of each call, and its second time (0 where it has none)."""
    starts = [float(call.node.t or 0.0) for call in program.calls]
    ends = [0.0 if call.to is None else float(call.to.t or 0.0) for call in program.calls]
    made = device_times([*starts, *ends], device)
    return list(zip(made[: len(starts)], made[len(starts) :], strict=True))


def _check_states(states: Tensor, plan: Plan, denoiser: BaseDenoiser) -> None:
    """Raise StateError unless ``states`` are floating point (nfe + 1, B, *shape)."""
    if not isinstance(states, Tensor) or states.ndim < 3 or states.shape[0] != plan.nfe + 1:
        found = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise StateError(
            f"states must be ({plan.nfe + 1}, batch, *shape), the start, every evaluated state and "
            f"the result of {plan.nfe} network calls; got {found}"
        )
    checks.tensor("states", states, error=StateError)
    check_state(states[0], denoiser)


def _chosen(
    plan: Plan, denoiser: BaseDenoiser, steps: Sequence[int] | None
) -> tuple[Transition, ...]:
    """Return the transitions at the positions ``steps``. Raises PlanError if there are none, or
    their noise is not normal, and ArgumentError for other positions."""
    found = plan.transitions
    if not found:
        raise PlanError(
            f"{plan.name or 'plan'} has no noisy step, so its states have no densities: use a "
            "stochastic sampler, such as flow_sde, or ddim with eta=1"
        )
    if steps is None:
        chosen = found.steps
    else:
        given: Any = steps
        if isinstance(given, str) or not isinstance(given, Sequence) or not given:
            raise ArgumentError(
                f"steps={checks.shown(steps)}: must list one or more positions of 0 .. "
                f"{len(found) - 1}"
            )
        chosen = tuple(found[checks.integer("steps", k, 0, len(found) - 1)] for k in steps)
    if isinstance(denoiser.schedule, PFGMPP):
        for t in chosen:
            if any(plan.draws[key].end.sigma > plan.draws[key].start.sigma for key in t.draws):
                raise PlanError(
                    f"{plan.name or 'plan'} adds noise up to a higher level at step {t.index}; on "
                    "a PFGMPP schedule that noise is not Gaussian"
                )
    return chosen
