"""Frequent mistakes are answered with the call that was meant."""

import pytest
import torch

import fewstep
from fewstep.checks import FewstepError
from fewstep.plans.expressions import Expression
from fewstep.samplers import NoOptions, registry
from fewstep.samplers.aliases import find, nearest
from fewstep.schedules import EDM, VPLinear

MODEL = fewstep.models.GaussianMixture([[0.5, -0.3]], 0.5, [1.0], VPLinear())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fewstep.sample(torch.nn.Linear(2, 2)), ["fewstep.models.wrap(network"]),
        (lambda: fewstep.sample(lambda x, t: x), ["fewstep.models.wrap(network"]),
        (lambda: fewstep.run(None, torch.nn.Linear(2, 2), None), ["fewstep.models.wrap(network"]),
        (lambda: fewstep.sample(3), ["3", "fewstep.models.wrap(...)"]),
        (lambda: fewstep.models.wrap(abs, "vp", "eps"), ["'vp'", "schedules.VPLinear()", "EDM()"]),
        (lambda: fewstep.models.wrap(abs, "edm", "eps"), ["'edm'", "fewstep.schedules.EDM()"]),
        (lambda: fewstep.models.wrap(abs, "VP_cosine", "x0"), ["fewstep.schedules.VPCosine()"]),
        (lambda: fewstep.models.wrap(abs, EDM, "x0"), ["not its class: EDM(...)"]),
        (
            lambda: fewstep.sample(MODEL, stepss=3),
            ["'stepss'", "did you mean the argument steps=3"],
        ),
        (lambda: fewstep.sample(MODEL, num_steps=10), ["did you mean the argument steps=10?"]),
        (lambda: fewstep.sample(MODEL, num_inference_steps=10), ["the argument steps=10?"]),
        (lambda: fewstep.plan("ddim", VPLinear(), step=4), ["did you mean the argument steps=4?"]),
        (lambda: fewstep.sample(MODEL, gird="lam"), ["did you mean the argument grid='lam'?"]),
        (
            lambda: fewstep.sample(MODEL, guidance_scale=7.5),
            ["fewstep.guidance.CFG(denoiser, scale=7.5)"],
        ),
        (
            lambda: fewstep.sample(MODEL, grid="karras", rho=5),
            ["fewstep.grid('karras', denoiser.schedule, steps, rho=5)"],
        ),
        (lambda: fewstep.sample(MODEL, dtype="float16"), ["dtype=torch.float16"]),
        (lambda: fewstep.sample(MODEL, dtype="torch.bfloat16"), ["dtype=torch.bfloat16"]),
        (lambda: fewstep.sample(MODEL, dtype="half precision"), ["such as torch.float32"]),
        (lambda: fewstep.sample(MODEL, dtype="nn"), ["such as torch.float32"]),
        (lambda: fewstep.models.load("mixture", dtype="float32"), ["dtype=torch.float32"]),
        (lambda: fewstep.sample(MODEL, n=2, cond=[0, 1]), ["cond=[0, 1]", "torch.tensor([0, 1])"]),
        (lambda: fewstep.sample(MODEL, n=2, cond="dog"), ["cond='dog'", "must be a tensor"]),
        (lambda: fewstep.sample(MODEL, "DPM++ 2M Karas"), ["'DPM++ 2M Karras' (dpmpp_2m)"]),
        (lambda: fewstep.sample(MODEL, "dpm++ 2m karras"), ["'DPM++ 2M Karras' (dpmpp_2m)"]),
    ],
)
def test_the_message_says_what_was_meant(call, words):
    with pytest.raises(FewstepError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_option_that_is_near_nothing_has_no_hint():
    with pytest.raises(FewstepError, match="no option 'zzz'") as caught:
        fewstep.sample(MODEL, zzz=1)
    assert "did you mean the argument" not in str(caught.value)


def test_an_option_of_the_sampler_keeps_its_own_message():
    with pytest.raises(FewstepError, match="order") as caught:
        fewstep.sample(MODEL, "unipc", order="many")
    assert "argument" not in str(caught.value)


def test_aliases_are_found_with_a_wrong_letter():
    assert nearest("DPM++ 2M Karas") == "DPM++ 2M Karras" and nearest("nothing like it") is None
    assert "DPM++ 2M Karras" in find("dpm++ 2m karras") and find("nothing like it") == {}


def test_values_of_a_plan_cannot_be_multiplied():
    x, y = Expression({0: 1.0}), Expression({1: 2.0})
    for wrong in (lambda: x * y, lambda: x / y):
        with pytest.raises(FewstepError, match="a plan is linear"):
            wrong()
    assert (2.0 * x).terms == {0: 2.0}


def test_a_sampler_is_registered_with_its_options_and_a_description():
    def bare(b, grid, options):
        """One."""

    def silent(b, grid, options: NoOptions):
        pass

    def numbers(b, grid, options: int):
        """One."""

    for build, words in (
        (bare, r"options of bare\(\) must be annotated"),
        (numbers, "must be annotated"),
        (silent, r"silent\(\) must have a docstring"),
    ):
        with pytest.raises(registry.SamplerError, match=words):
            registry.register("planted", order=1, source="none")(build)
    assert "planted" not in registry.names()
