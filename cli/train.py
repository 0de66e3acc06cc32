"""Train a model: a bundled recipe on your data, on a CPU or a GPU.

    fewstep train --model mnist --data mnist_train.npz --hours 1
    fewstep train --model darcy --data darcy_train.npz --hours 1 --resume
    fewstep train --model darcy --data darcy_train.npz --residual darcy --estimate ddim
    fewstep train --model darcy --export OUT

Checkpoints and the loss log go to checkpoints/MODEL; a run may be stopped and resumed at any time,
and exported while it runs. With --residual the loss has a term more, the residual of an equation at
an estimate of the clean sample (physics-informed diffusion models, arXiv 2403.14404).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError, UsageError, shown
from ..train.arguments import add_arguments as add_training
from .options import parse_values

if TYPE_CHECKING:
    from ..train.loop import Recipe
    from ..train.residual_loss import ResidualLoss

HELP = "train a model on images or physical fields"
#: flags of the residual loss
OWN = ("residual_weight", "estimate", "estimate_steps", "spacing", "param")
#: of ``--estimate``: the denoiser's answer; any other name is a sampler's
ONE_CALL = "one_call"


def add_arguments(p: argparse.ArgumentParser) -> None:
    """The arguments of ``fewstep train``."""
    add_training(p)
    group = p.add_argument_group("residual of an equation in the loss")
    group.add_argument("--residual", metavar="EQUATION", help="such as darcy")
    group.add_argument("--residual-weight", type=float, help="of the term (default 1e-3)")
    group.add_argument(
        "--estimate",
        help="of the clean sample: one_call, the denoiser's answer (default), or a sampler without "
        "noise, such as ddim",
    )
    group.add_argument("--estimate-steps", type=int, help="of that sampler (default 4)")
    group.add_argument(
        "--spacing",
        action="append",
        metavar="X=H,Y=H",
        help="distance of two points in physical units (default: of the equation's data set)",
    )
    group.add_argument(
        "--param",
        action="append",
        metavar="NAME=VALUE",
        help="of the equation, such as nu=0.01; may be repeated",
    )


def execute(args: argparse.Namespace) -> int:
    """Run the command."""
    from ..train.__main__ import run

    given = [name for name in OWN if getattr(args, name) is not None]
    if args.residual is None:
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')} is about --residual: give that too")
        return run(args)
    if args.export:
        raise UsageError("--residual is about training, and --export does not train")
    estimate = args.estimate or ONE_CALL
    if estimate == ONE_CALL and args.estimate_steps is not None:
        raise UsageError("--estimate-steps: one_call has none; name a sampler with --estimate")
    return run(args, lambda recipe: residual_loss(args, estimate, recipe))


def residual_loss(args: argparse.Namespace, estimate: str, recipe: Recipe) -> ResidualLoss:
    """The residual loss that the flags ask for. Raises ArgumentError for models without physical
    fields, and UnknownName for an unknown equation or sampler."""
    from ..engine.sample_estimate import sample_estimate
    from ..eval.physics import channel_residual, equation_named
    from ..train.residual_loss import ResidualLoss

    equation = equation_named(args.residual)
    if recipe.fields is None:
        raise ArgumentError(f"--model {shown(args.model)} models no physical fields")
    spacing, params = parse_values("--spacing", args.spacing), parse_values("--param", args.param)
    if not spacing:
        found = equation.draw(1, recipe.network.image_size, 0)
        spacing, params = dict(found.spacing), params or _numbers(found.params)
    weight = 1e-3 if args.residual_weight is None else args.residual_weight
    steps = 4 if args.estimate_steps is None else args.estimate_steps
    how = None if estimate == ONE_CALL else sample_estimate(estimate, steps)
    name = f"{args.residual}, weight {weight:g}, {estimate}" + (f" {steps}" if how else "")
    return ResidualLoss(
        channel_residual(equation, recipe.fields, spacing, params), weight, how, name
    )


def _numbers(params: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in params.items() if isinstance(v, int | float | str)}
