"""A plan, or a plan file, instead of a sampler: the same samples, and only for what it was tuned
for."""

from __future__ import annotations

import pytest
import torch

import fewstep
from fewstep.checks import ArgumentTypeError
from fewstep.engine import Tuned
from fewstep.engine.provenance import made_for
from fewstep.eval.solver.counting import Counting
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture
from fewstep.plans import PlanError
from fewstep.samplers import SamplerError
from fewstep.schedules import VPCosine, VPLinear

F64 = torch.float64


def mixture(schedule=None, mean=1.0):
    means = torch.tensor([[-mean, 0.5], [1.0, -0.3]], dtype=F64)
    weights, stds = torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([0.3, 0.7], dtype=F64)
    return GaussianMixture(means, stds, weights, schedule or VPLinear())


@pytest.fixture
def tuned(tmp_path):
    den = mixture()
    made = Tuned(fewstep.plan("unipc", den, nfe=6), made_for(den))
    made.save(tmp_path / "6.json")
    return den, made, f"file:{tmp_path / '6.json'}"


def test_every_way_to_use_a_plan_gives_the_same_samples(tuned):
    den, made, name = tuned
    wanted = fewstep.sample(den, "unipc", nfe=6, n=3, seed=5)
    ways = [{"plan": made}, {"plan": made.plan}, {"sampler": name}, {"sampler": name, "nfe": 6}]
    for way in ways:
        found, info = fewstep.sample(den, n=3, seed=5, info=True, **way)
        assert torch.equal(found, wanted)
        assert info.nfe == 6
        assert info.plan == made.plan
    assert fewstep.plan(name, den) == made.plan


def test_gradients_and_recorded_states_of_a_given_plan(tuned):
    den, made, _ = tuned
    x = torch.ones(2, 2, dtype=F64, requires_grad=True)
    fewstep.sample(den, plan=made, x=x, grad="checkpoint").sum().backward()
    given = x.grad.clone()
    x.grad = None
    fewstep.sample(den, "unipc", nfe=6, x=x, grad="checkpoint").sum().backward()
    assert torch.equal(given, x.grad)
    _, info = fewstep.sample(den, plan=made, n=2, info=True, record=True)
    assert info.states.shape == (7, 2, 2)


@pytest.mark.parametrize(
    ("way", "given", "sentence"),
    [
        ("plan", {"sampler": "ddim"}, "sampler='ddim' cannot be used"),
        ("plan", {"order": 3}, "order=3 cannot be used"),
        ("plan", {"steps": 6}, "steps=6 cannot be used"),
        ("plan", {"nfe": 7}, "6 network calls, not of nfe=7"),
        ("plan", {"grid": "karras"}, "grid='karras' cannot be used"),
        ("plan", {"final": "sigma_min"}, "final='sigma_min' cannot be used"),
        ("sampler", {"sigmas": [3.0, 1.0, 0.0]}, "sigmas=(3.0, 1.0, 0.0) cannot be used"),
        ("sampler", {"times": [1.0, 0.5, 0.0]}, "times=(1.0, 0.5, 0.0) cannot be used"),
        ("sampler", {"order": 3}, "unknown option 'order'"),
        ("sampler", {"afs": True}, "own first step"),
    ],
)
def test_arguments_that_the_plan_would_ignore_are_refused(tuned, way, given, sentence):
    den, made, name = tuned
    with pytest.raises(SamplerError) as caught:
        fewstep.sample(den, **{"plan": made} if way == "plan" else {"sampler": name}, **given)
    assert sentence in str(caught.value)


def test_another_schedule_model_or_guidance_is_refused_unless_forced(tuned):
    den, made, name = tuned
    guided = CFG(den, 2.0)
    others = {
        "another schedule (VPLinear)": mixture(VPCosine()),
        "another schedule (VPLinear with other numbers)": mixture(VPLinear(0.1, 15.0)),
        "another model (GaussianMixture, hash": mixture(mean=1.1),
        "with no guidance, and it has CFG scale=2.0": guided,
    }
    for sentence, other in others.items():
        for way in ({"plan": made}, {"sampler": name}):
            with pytest.raises(PlanError) as caught:
                fewstep.sample(other, **way)
            assert sentence in str(caught.value)


def test_a_forced_plan_runs_as_it_is(tuned):
    den, made, name = tuned
    other = mixture(mean=1.1)
    x = torch.ones(2, 2, dtype=F64)
    wanted = fewstep.run(made.plan, other, x)
    assert torch.equal(fewstep.sample(other, name, force=True, x=x), wanted)
    assert torch.equal(fewstep.sample(other, plan=made.plan, x=x), wanted)
    assert not torch.equal(fewstep.sample(den, plan=made, x=x), wanted)


def test_a_plan_of_a_guided_model_is_for_its_scale(tmp_path):
    den = mixture()
    made = Tuned(fewstep.plan("ddim", den, nfe=3), made_for(CFG(den, 2.0)))
    labels = torch.tensor([0, 1])
    found = fewstep.sample(CFG(den, 2.0), plan=made, n=2, cond=labels)
    wanted = fewstep.sample(CFG(den, 2.0), plan=made.plan, n=2, cond=labels)
    assert torch.equal(found, wanted)
    with pytest.raises(PlanError, match=r"with CFG scale=2.0, and it has CFG scale=3.0"):
        fewstep.sample(CFG(den, 3.0), plan=made, n=2, cond=labels)
    with pytest.raises(PlanError, match=r"with CFG scale=2.0, and it has no guidance"):
        fewstep.sample(den, plan=made, n=2)


def test_a_wrapper_that_keeps_the_predictions_is_the_same_model(tuned):
    den, made, _ = tuned
    assert made_for(Counting(den)) == made_for(den)
    assert torch.equal(
        fewstep.sample(Counting(den), plan=made, n=2), fewstep.sample(den, plan=made, n=2)
    )


def test_weights_that_were_written_to_are_another_model():
    class Network(torch.nn.Linear):
        def forward(self, x, t):
            return super().forward(x)

    network = Network(2, 2)
    den = fewstep.models.wrap(network, VPLinear(), "eps", shape=(2,))
    before = made_for(den)
    assert made_for(den) == before
    with torch.no_grad():
        network.weight += 1.0
    assert made_for(den).model_sha256 != before.model_sha256


def test_a_bare_plan_of_another_path_is_refused():
    plan = fewstep.plan("ddim", VPCosine(), steps=3)
    with pytest.raises(PlanError, match=r"fewstep.run takes any plan"):
        fewstep.sample(mixture(), plan=plan, n=2)
    with pytest.raises(ArgumentTypeError, match="plan='ddim' must be a plan"):
        fewstep.sample(mixture(), plan="ddim", n=2)
