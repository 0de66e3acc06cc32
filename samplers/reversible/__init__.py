"""Exactly invertible samplers: a step can be undone from the two states that it carries, so a run
can be undone to rounding (``plans.transforms.undone``). Each file holds one family."""
