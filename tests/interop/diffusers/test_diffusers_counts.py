"""Every scheduler class through a real pipeline at 1, 2, 3, 5, 10, 20 and 50 steps: the latents of
its counterpart are the same.

One tiny pipeline a path (Stable Diffusion, Stable Diffusion 3), its scheduler exchanged. Where
theirs deviates is said in ``test_diffusers_equality``; rows here are of configs that do not.
"""

from __future__ import annotations

import copy
import importlib.util
from functools import cache
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
if importlib.util.find_spec("transformers") is None:
    pytest.skip("needs transformers", allow_module_level=True)

from diffusers_loops import SD, ours, theirs
from diffusers_pipelines import EMBEDS, POOLED_SD3, run, sd3, stable_diffusion
from diffusers_rows import COUNTS, LEAST, LOW, OFFSET, PLMS, Row, calls_of, tolerance

from fewstep.interop.diffusers import stepping as diffusers_run
from fewstep.interop.diffusers.config import STYLES

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers",
    "ignore::UserWarning:diffusers",
    "ignore:__array_wrap__:DeprecationWarning",
    # of tokenizers' and sentencepiece's compiled types
    "ignore::DeprecationWarning:importlib._bootstrap",
)
DDIM = {"clip_sample": False, "set_alpha_to_one": False, **OFFSET, **SD}
ROWS = [
    Row("DDIM", DDIM),
    Row("DDPM", {"clip_sample": False}),
    Row("PNDM", {**PLMS, **SD}),
    Row("DPMSolverMultistep", SD),
    Row(
        "DPMSolverMultistep",
        {"solver_order": 3, "algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"},
    ),
    Row("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++", **SD}),
    Row("DPMSolverSinglestep", {**LOW, **SD}),
    Row("DPMSolverSinglestep", {"solver_order": 3, **LOW, **SD}),
    Row("DEISMultistep", SD),
    Row("UniPCMultistep", {"solver_order": 3, **SD}),
    Row("HeunDiscrete", SD),
    Row("EulerDiscrete", {**OFFSET, **SD}),
    Row("EulerAncestralDiscrete", SD),
    Row("KDPM2Discrete", SD),
    Row("KDPM2AncestralDiscrete", SD),
    Row("LMSDiscrete", SD),
    Row("EDMEuler", {}),
    Row("EDMEuler", {"sigma_schedule": "exponential"}, {1: LEAST}),
    Row("EDMDPMSolverMultistep", {}),
    Row("LCM", SD),
    Row("TCD", SD),
    Row("FlowMatchEulerDiscrete", {"shift": 3.0}),
    Row("FlowMatchHeunDiscrete", {"shift": 3.0}),
]
QUICK = (1, 2, 3, 5)
#: at these the quick suite goes to 50 steps too
LONG = ("DDIM", "UniPCMultistep", "FlowMatchEulerDiscrete")


@cache
def pipeline(flow: bool) -> Any:
    """A tiny pipeline whose scheduler is put in later."""
    return (
        sd3(theirs("FlowMatchEulerDiscrete", {}))
        if flow
        else stable_diffusion(theirs("DDIM", DDIM))
    )


def latents(scheduler: Any, row: Row, steps: int) -> tuple[torch.Tensor, int]:
    """The latents of a call, without guidance, and the number of network calls."""
    flow = row.name.startswith("Flow")
    pipe = pipeline(flow)
    pipe.scheduler = scheduler
    embeds = {"prompt_embeds": EMBEDS["prompt_embeds"]}
    embeds |= {"pooled_prompt_embeds": POOLED_SD3["pooled_prompt_embeds"]} if flow else {}
    return run(pipe, steps, guidance_scale=0.0, height=16, width=16, output="latent", **embeds)


def compare(row: Row, counts: tuple[int, ...]) -> None:
    made, b = theirs(row.name, row.config), ours(row.name, row.config)
    for steps in counts:
        if steps in row.apart:
            continue
        a = copy.deepcopy(made)
        x, calls = latents(a, row, steps)
        y, mine = latents(b, row, calls_of(row, steps, calls))
        assert mine == calls == b.nfe
        assert float((y - x).abs().max() / x.abs().max()) < 2.0 * tolerance(row, a, steps), steps


def test_every_class_is_here():
    """IPNDM's first step is other than theirs (test_diffusers_deviations); SASolver is below."""
    assert {row.name + "Scheduler" for row in ROWS} | {
        "IPNDMScheduler",
        "SASolverScheduler",
    } == set(STYLES)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_latents_of_a_pipeline(row):
    compare(row, (*QUICK, 50) if row.name in LONG else QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_latents_of_a_pipeline_at_many_steps(row):
    compare(row, tuple(n for n in COUNTS if n not in QUICK))


def sa_solver(counts: tuple[int, ...], monkeypatch: Any) -> None:
    import diffusers.schedulers.scheduling_sasolver as module

    drawn = iter(())

    def draw(shape: Any, **_: Any) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(next(drawn)))

    monkeypatch.setattr(module, "randn_tensor", draw)
    monkeypatch.setattr(
        diffusers_run.Run,
        "_draw",
        lambda self, key, like: torch.randn(
            like.shape, generator=torch.Generator().manual_seed(self.index - 1)
        ),
    )
    row = Row("SASolver", SD)
    for steps in counts:
        drawn = iter(range(steps))
        x, calls = latents(theirs(row.name, row.config), row, steps)
        y, mine = latents(ours(row.name, row.config), row, steps)
        assert mine == calls and float((y - x).abs().max() / x.abs().max()) < 4e-5, steps


def test_sa_solver_with_the_noise_of_each_step(monkeypatch):
    sa_solver(QUICK, monkeypatch)


@pytest.mark.slow
def test_sa_solver_at_many_steps(monkeypatch):
    sa_solver((10, 20, 50), monkeypatch)
