"""What a method requires of the sampler, checked before the first network call."""

from __future__ import annotations

from ...plans.instructions import MAIN, PlanError
from ...schedules.pfgmpp import PFGMPP
from .population import Setting


def check_predictions(setting: Setting, method: str) -> None:
    """Raise PlanError unless every network call of the plan gives ``E[x0 | x_t]``: a method that
    rates predictions needs it."""
    for k, e in enumerate(setting.plan.evaluations):
        if e.to is not None:
            raise PlanError(
                f"{method} rates the predictions E[x0 | x_t]; call {k} of {setting.sampler} asks a "
                "flow map for another time"
            )
        if MAIN not in e.channels:
            raise PlanError(
                f"{method} rates the predictions E[x0 | x_t]; call {k} of {setting.sampler} reads "
                f"only {', '.join(e.channels)}"
            )


def check_transitions(setting: Setting, method: str) -> None:
    """Raise PlanError if no step of the plan between two network calls is noisy, with the reasons:
    copies of a particle would never part."""
    plan = setting.plan
    if plan.nfe < 2:
        return
    found = plan.transitions
    if not found:
        reasons = "; ".join(dict.fromkeys(f"step {k}: {why}" for k, why in found.none))
        raise PlanError(
            f"{method} needs steps with noise between the network calls, and {setting.sampler} "
            f"has none ({reasons})"
        )


def check_gaussian(setting: Setting, method: str) -> None:
    """Raise PlanError where the noise of a step is not Gaussian, so that a proposal has no
    weight."""
    if isinstance(setting.denoiser.schedule, PFGMPP) and any(
        draw.end.sigma > draw.start.sigma for draw in setting.plan.draws
    ):
        raise PlanError(
            f"{method}: {setting.sampler} adds noise up to a higher level; on a PFGMPP schedule "
            "that noise is not Gaussian, so a proposal has no weights"
        )
