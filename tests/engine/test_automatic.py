"""``sampler="auto"`` and ``grid="auto"``: what a call without names runs, and what it says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import fewstep
from fewstep.checks import FewstepError
from fewstep.engine.automatic import choices
from fewstep.models import GaussianMixture, wrap
from fewstep.models.base import BaseDenoiser
from fewstep.models.wrapper import Wrapper
from fewstep.plans import Plan
from fewstep.samplers import get, make_options, names
from fewstep.samplers.kinds import kind_of
from fewstep.schedules import EDM, Flow, MeanReverting, Schedule, VPLinear
from fewstep.schedules.grids.auto import SAMPLER_KINDS, DataFacts


def mixture(schedule: Schedule, *shape: int) -> GaussianMixture:
    """Two components of ``shape``."""
    source = torch.Generator().manual_seed(3)
    means = torch.randn(2, *shape, generator=source, dtype=torch.float64)
    return GaussianMixture(means, [0.3, 0.5], [0.6, 0.4], schedule, "x0")


class Guided(Wrapper):
    """A model that says that it is guided."""

    guided = True


VECTORS = mixture(EDM(), 4)
IMAGES = mixture(EDM(), 1, 2, 2)
MODELS: dict[str, BaseDenoiser] = {
    "vectors": VECTORS,
    "samples with spatial axes": IMAGES,
    "vectors of a guided model": Guided(VECTORS),
    "samples with spatial axes of a guided model": Guided(IMAGES),
}


def chosen(samples: str, calls: int) -> tuple[str, dict[str, Any]]:
    """The sampler and its options in the table of choices."""
    rows = [row for row in choices() if row["samples"] == samples and calls <= row["calls"]]
    return rows[0]["sampler"], rows[0]["options"]


@pytest.mark.parametrize("samples", MODELS)
@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5, 6, 8, 10, 14, 15, 20, 33])
def test_the_default_is_the_call_with_its_names(samples: str, calls: int) -> None:
    model = MODELS[samples]
    name, options = chosen(samples, calls)
    x, info = fewstep.sample(model, nfe=calls, n=3, dtype=torch.float64, info=True)
    named, told = fewstep.sample(
        model, name, nfe=calls, n=3, dtype=torch.float64, info=True, **options
    )
    assert torch.equal(x, named) and info.plan == told.plan and info.nfe == calls
    assert info.plan == fewstep.plan("auto", model, nfe=calls)
    assert f"sampler auto: {name}" in info.reason and f"{calls} network calls" in info.reason
    assert "sampler auto" not in told.reason and "grid auto: logistic" in told.reason
    by_steps = fewstep.sample(model, steps=calls, n=3, dtype=torch.float64)
    assert torch.equal(x, by_steps)


def test_every_choice_is_a_sampler_of_one_call_a_step() -> None:
    for row in choices():
        plan = fewstep.plan(row["sampler"], EDM(), steps=7, **row["options"])
        assert plan.nfe == 7 and not plan.stochastic


def test_the_plan_says_what_was_chosen_and_why() -> None:
    _, info = fewstep.sample(VECTORS, nfe=8, n=2, info=True)
    assert info.plan is not None and info.plan.reason == info.reason
    first, second = info.reason.splitlines()
    assert first.startswith("sampler auto: ") and "8 network calls and vectors" in first
    assert second.startswith("grid auto: logistic, center ") and "(given by the model)" in second
    assert info.plan.explain().splitlines()[1:3] == [first, second]
    again = Plan.from_json(info.plan.to_json())
    assert again == info.plan and again.reason == info.reason
    bare = fewstep.plan("ddim", EDM(), steps=3, grid="karras")
    assert bare.reason == "" and '"reason"' not in bare.to_json()


def test_the_same_call_has_the_same_plan_object() -> None:
    """The program of a plan is kept by the plan's identity."""
    infos = [fewstep.sample(VECTORS, nfe=8, n=2, info=True)[1] for _ in range(2)]
    assert infos[0].plan is infos[1].plan
    assert fewstep.plan("heun", VECTORS, nfe=8) is fewstep.plan("heun", VECTORS, nfe=8)


def test_a_reason_that_is_no_text_is_refused() -> None:
    text = fewstep.plan("auto", EDM(), steps=2).to_json()
    broken = text.replace('"reason": "', '"reason": 5, "x": "')
    with pytest.raises(FewstepError, match="plan"):
        Plan.from_json(broken)


@pytest.mark.parametrize("grid", ["karras", "lam", "auto_0_1"])
def test_a_named_grid_is_kept(grid: str) -> None:
    _, info = fewstep.sample(VECTORS, nfe=7, n=2, grid=grid, info=True)
    name, options = chosen("vectors", 7)
    assert info.plan == fewstep.plan(name, EDM(), steps=7, grid=grid, **options)
    assert "sampler auto" in info.reason and "grid auto" not in info.reason


def test_a_named_sampler_is_kept() -> None:
    for name in ("ddim", "heun", "euler_ancestral", "DPM++ 2M Karras"):
        _, info = fewstep.sample(VECTORS, name, nfe=7, n=2, info=True)
        assert info.plan is not None and "sampler auto" not in info.reason
        assert info.plan == fewstep.plan(name, VECTORS, nfe=7)
        assert ("grid auto" in info.reason) == (name != "DPM++ 2M Karras")


def test_given_times_count_as_calls() -> None:
    times = [80.0, 10.0, 3.0, 1.0, 0.3, 0.0]
    _, info = fewstep.sample(VECTORS, times=times, n=2, info=True)
    name, options = chosen("vectors", 5)
    assert info.plan == fewstep.plan(name, EDM(), times=times, **options)


def test_the_scale_and_the_shape_decide_the_grid() -> None:
    """The scale of the data scales the levels; vectors and images have other numbers."""
    one, four = (
        fewstep.plan("auto", GaussianMixture([[0.0, 0.0]], [s], [1.0], Flow(), "x0"), nfe=8)
        for s in (0.5, 2.0)
    )
    assert [n.rho for n in four.nodes[1:-1]] == pytest.approx(
        [4.0 * n.rho for n in one.nodes[1:-1]], rel=1e-12
    )
    vectors, images = (fewstep.plan("dpmpp_2m", m, nfe=8).nodes for m in (VECTORS, IMAGES))
    assert vectors != images
    assert fewstep.plan("dpmpp_2m", Guided(IMAGES), nfe=8).nodes != images


def test_the_shape_of_the_call_counts_where_the_model_has_none() -> None:
    """And what the model says is used where ``wrap`` was told."""

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return 0.0 * x

    def model(**facts: Any) -> Any:
        return wrap(network, EDM(), "x0", **facts)

    def nodes(**arguments: Any) -> Any:
        facts = arguments.pop("facts", {})
        _, info = fewstep.sample(model(**facts), "dpmpp_2m", nfe=6, info=True, **arguments)
        return info.plan.nodes

    def wanted(facts: DataFacts) -> Any:
        return fewstep.grid("auto", EDM(), 6, kind="multistep_x0", facts=facts).nodes

    assert nodes(n=1, shape=(4,)) == wanted(DataFacts(None, False))
    assert nodes(n=1, shape=(1, 2, 2)) == wanted(DataFacts(None, True))
    assert nodes(x=80.0 * torch.ones(1, 4)) == wanted(DataFacts(None, False))
    scaled = nodes(x=80.0 * torch.ones(1, 4), facts={"sigma_data": 2.0})
    assert scaled == wanted(DataFacts(2.0, False))
    latent = nodes(n=1, shape=(4, 2, 2), facts={"sigma_data": 1.0, "latent": True})
    assert latent == wanted(DataFacts(1.0, True, latent=True))


def test_a_path_that_was_not_fitted_says_so() -> None:
    path = MeanReverting(0.5, VPLinear())
    _, info = fewstep.sample(mixture(path, 3), nfe=6, n=2, info=True)
    assert info.reason.count("not fitted on MeanReverting") == 2
    assert "not fitted" not in fewstep.plan("auto", VECTORS, nfe=6).reason


def test_a_driver_tells_its_reason() -> None:
    _, info = fewstep.sample(VECTORS, "picard", steps=5, n=2, info=True)
    assert info.plan is None and "5 steps of a multistep" in info.reason
    _, info = fewstep.sample(VECTORS, "ode45", n=2, rtol=1e-2, atol=1e-2, info=True)
    assert info.reason == ""  # its steps do not come from a grid


@pytest.mark.parametrize("key", ["order", "eta", "lower_order_final"])
def test_options_need_a_named_sampler(key: str) -> None:
    with pytest.raises(FewstepError, match=f"sampler='auto' takes no option '{key}'"):
        fewstep.sample(VECTORS, nfe=5, **{key: 1})


def test_the_analytic_first_step_is_an_option_of_every_plan() -> None:
    made = fewstep.plan("auto", VECTORS, steps=6, afs=True)
    assert made.nfe == 5 and "sampler auto" in made.reason


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("ddim", {}, "multistep_x0"),
        ("euler", {}, "multistep_x0"),
        ("unipc", {}, "multistep_x0"),
        ("ghvb", {}, "multistep"),
        ("heun", {}, "singlestep"),
        ("dpmpp_2s", {}, "singlestep_x0"),
        ("dpm_solver_3", {}, "singlestep"),
        ("flow_heun", {}, "singlestep"),
        ("ddim", {"eta": 1.0}, "stochastic"),
        ("dpmpp_2m_sde", {}, "stochastic"),
        ("pc", {}, "stochastic"),
        ("ode45", {}, "singlestep"),
        ("picard", {"method": "heun"}, "singlestep"),
        ("picard", {"method": "ddpm"}, "stochastic"),
        ("picard", {"method": "dpmpp_2m"}, "multistep_x0"),
    ],
)
def test_the_kind_of_a_sampler(name: str, options: dict[str, Any], kind: str) -> None:
    assert kind_of(name, make_options(get(name), options)) == kind


def test_every_sampler_has_a_kind() -> None:
    found = {name: kind_of(name, make_options(get(name), {})) for name in names()}
    assert set(found.values()) == set(SAMPLER_KINDS)
    for name, kind in found.items():
        if kind == "stochastic" and get(name).form == "plan":
            assert fewstep.plan(name, _path(name), steps=4, grid="lam").stochastic


def _path(name: str) -> Schedule:
    return Flow() if get(name).on[0] == "flow" else EDM()


def test_the_budget_is_kept() -> None:
    for calls in range(1, 40):
        assert fewstep.plan("auto", VECTORS, nfe=calls).nfe == calls
    assert math.isinf(choices()[-1]["calls"])


def test_latents_are_treated_as_guided() -> None:
    class Latent(Wrapper):
        latent = True

    for calls in (4, 9, 20):
        plan, guided = (fewstep.plan("auto", m(IMAGES), nfe=calls) for m in (Latent, Guided))
        assert plan == guided and "samples with spatial axes, latents" in plan.reason
