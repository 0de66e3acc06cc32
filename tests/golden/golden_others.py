"""What the settings of azula are called here.

Runs that are no fixed program (predictor-corrector, adaptive steps) depend on the whole batch; they
are kept by ``golden/extract_drivers.py`` and replayed in ``test_adaptive`` and
``test_predictor_corrector``.
"""

from __future__ import annotations

from golden_cases import Case
from golden_kinds import LeftOut, Recipe, each


def azula(case: Case) -> Recipe:
    """probabilists/azula; no step is of lower order at the end."""
    if case.sampler == "PCSampler":
        raise LeftOut("predictor-corrector")
    if case.sampler in ("DDIMSampler", "DDPMSampler"):
        return Recipe(
            "ddim",
            {"eta": 1.0 if case.sampler == "DDPMSampler" else case.settings["eta"]},
            each(case),
        )
    if case.sampler == "HeunSampler":
        return Recipe("heun", {}, each(case, 2))
    order = case.settings["order"]
    if case.sampler == "xEABSampler":
        return Recipe(
            f"dpmpp_{order}m", {"correction": "taylor", "lower_order_final": False}, each(case)
        )
    return Recipe(
        "deis",
        {"variant": "rhoab" if case.sampler == "zABSampler" else "logrho", "order": order},
        each(case),
    )


def nothing(case: Case) -> Recipe:
    """Peers whose samplers we do not have."""
    raise LeftOut(case.sampler)
