"""The second value of ``step``, and its further arguments, as each diffusers class has them."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import diffusers
import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, distance, network, noise, ours, theirs
from diffusers_rows import OFFSET

from fewstep.interop.diffusers import arguments
from fewstep.interop.diffusers.config import STYLES
from fewstep.interop.diffusers.output import SECOND, StepOutput
from fewstep.plans import PlanError

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:diffusers", "ignore:__array_wrap__:DeprecationWarning"
)
CONFIGS: dict[str, list[dict[str, Any]]] = {
    "DDIM": [{"clip_sample": False}],
    "DDPM": [
        {"clip_sample": False},
        {"clip_sample": True},
        {"clip_sample": False, "thresholding": True, "sample_max_value": 2.0},
    ],
    "EulerDiscrete": [SD, {"prediction_type": "v_prediction"}],
    "EDMEuler": [{}, {"sigma_data": 1.0, "prediction_type": "v_prediction"}],
    "LCM": [SD, {"set_alpha_to_one": False, **SD}],
    "TCD": [SD],
}
CASES = [(n, c) for n in sorted(SECOND) for c in CONFIGS.get(n.removesuffix("Scheduler"), [SD])]


def pairs(s: Any, steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    s.set_timesteps(steps)
    x, generator, found = (
        noise() * float(getattr(s, "init_noise_sigma", 1.0)),
        torch.Generator().manual_seed(2),
        [],
    )
    drawn = {"generator": generator} if "generator" in inspect.signature(s.step).parameters else {}
    for t in s.timesteps:
        x_in = s.scale_model_input(x, t)
        x, second = s.step(network(x_in, float(t)), t, x, return_dict=False, **drawn)
        found.append((x, second))
    return found


@pytest.mark.parametrize("origin", sorted(STYLES))
def test_an_answer_has_the_values_of_its_class(origin):
    s = getattr(diffusers, origin)()
    s.set_timesteps(4)
    t, x = s.timesteps[0], noise()
    if hasattr(s, "scale_model_input"):
        s.scale_model_input(x, t)
    want = s.step(noise(3), t, x)
    b = ours(origin.removesuffix("Scheduler"), {})
    for as_object in (True, False):
        b.set_timesteps(4)
        got = b.step(noise(3), b.timesteps[0], x, return_dict=as_object)
        assert len(got) == len(want.keys())
        if as_object:
            assert list(got) == list(got.keys()) == list(want.keys()) and all(
                key in got for key in list(want)
            )
            assert got.to_tuple() == tuple(got.values()) == tuple(value for _, value in got.items())
            assert torch.is_tensor(got.pred_original_sample) or origin == "IPNDMScheduler"
        else:
            assert (
                isinstance(got, tuple)
                and len(list(got)) == len(want.keys())
                and torch.is_tensor(got[-1])
            )


@pytest.mark.parametrize(("origin", "config"), CASES, ids=str)
def test_the_second_value_is_theirs(origin, config):
    name = origin.removesuffix("Scheduler")
    want, got = pairs(theirs(name, config), 5), pairs(ours(name, config), 5)
    assert len(want) == len(got)
    for (_, a), (_, b) in zip(want, got, strict=True):
        assert distance(b, a) < 3e-4  # theirs holds sigma / alpha in float32


@pytest.mark.parametrize("sampler", ["unipc", "dpmpp_2m", "heun", "dpmpp_sde"])
def test_x0_of_any_sampler_is_the_networks(sampler):
    s = ours("DDIM", {"clip_sample": False}, sampler=sampler)
    s.set_timesteps(4)
    x = noise().double()
    for t, e in zip(s.timesteps, s.plan.evaluations, strict=True):
        output = torch.tanh(x)
        out = s.step(output, t, x)
        assert torch.allclose(
            out.pred_original_sample, (x - e.node.sigma * output) / e.node.alpha, rtol=1e-9
        )
        assert out["pred_original_sample"] is out[1] is out.pred_original_sample
        x = out.prev_sample


def test_it_is_worked_out_when_it_is_read_and_not_after_an_edit():
    s = ours("DDIM", {"clip_sample": False})
    s.set_timesteps(4)
    x, output = noise(), noise(3)
    pair = s.step(output, s.timesteps[0], x, return_dict=False)
    out = s.step(noise(3), s.timesteps[1], pair[0])
    want = copy.deepcopy(pair)[1]
    assert torch.equal(pair[1], want) and pair[1] is pair[1]
    x.mul_(2.0)
    assert torch.equal(pair[1], want)  # read before
    pair[0].mul_(2.0)
    with pytest.raises(PlanError, match="in place"):
        _ = out.pred_original_sample
    assert out.prev_sample is out[0]


def test_inference_tensors_are_read_at_once():
    s = ours("DDIM", {"clip_sample": False})
    s.set_timesteps(4)
    want = s.step(noise(3), s.timesteps[0], noise()).pred_original_sample
    with torch.inference_mode():
        s.set_timesteps(4)
        x, output = noise(), noise(3)
        out = s.step(output, s.timesteps[0], x)
        output.zero_()
        assert torch.equal(out.pred_original_sample, want)


def test_x0_at_alpha_zero():
    config = {
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "prediction_type": "v_prediction",
    }
    s = ours("DDIM", {"clip_sample": False, **config})
    s.set_timesteps(3)
    # x0 = alpha x - sigma v, alpha = 0
    assert torch.allclose(s.step(noise(3), s.timesteps[0], noise())[1], -noise(3), atol=1e-6)
    s = ours("IPNDM", {})
    s.set_timesteps(3)
    assert torch.allclose(
        s.step(noise(3), s.timesteps[0], noise()).pred_original_sample, -noise(3), atol=1e-6
    )


def test_an_output_survives_a_tree_map():
    s = ours("LCM", SD)
    s.set_timesteps(2)
    out = s.step(noise(3), s.timesteps[0], noise())
    doubled = torch.utils._pytree.tree_map(lambda y: 2 * y, out)
    assert isinstance(doubled, StepOutput) and torch.equal(doubled.denoised, 2 * out.denoised)
    assert not hasattr(doubled, "pred_noised_sample") and len(doubled) == 2


@pytest.mark.parametrize(
    ("name", "config"),
    [("DDIM", {"clip_sample": False}), ("DDPM", {"clip_sample": True}), ("LCM", SD), ("TCD", SD)],
)
def test_it_is_in_the_graph(name, config):
    torch._dynamo.reset()
    s = ours(name, {"set_alpha_to_one": False, **config} if name != "DDPM" else config)
    step = torch.compile(s.step, backend="eager", fullgraph=True)
    with torch.no_grad():
        s.set_timesteps(4)
        want = s.step(noise(3), s.timesteps[0], noise(), return_dict=False)[1]
        for as_object in (True, False):
            s.set_timesteps(4)
            got = step(noise(3), s.timesteps[0], noise(), return_dict=as_object)
            assert len(got) == 2 and distance(got[1], want) < 1e-5
            assert not as_object or got[SECOND[name + "Scheduler"]] is got[1]
    torch._dynamo.reset()


# the end of a consistency sampler


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("named", [None, "lcm", "consistency"])
def test_a_consistency_sampler_ends_at_data(steps, named):
    config = {"clip_sample": False, "set_alpha_to_one": False, **OFFSET, **SD}
    s = (
        ours("LCM", {"set_alpha_to_one": False, **SD})
        if named is None
        else ours("DDIM", config, sampler=named)
    )
    s.set_timesteps(steps)
    assert s.plan.end.sigma == 0.0
    x, generator = noise(), torch.Generator().manual_seed(1)
    for t in s.timesteps:
        before, (x, second) = (
            x,
            s.step(network(x, float(t)), t, x, generator=generator, return_dict=False),
        )
    assert torch.allclose(x, second, atol=1e-5) and not torch.equal(before, x)


# arguments by place


def stepped(s: Any, *more: Any, **named: Any) -> torch.Tensor:
    s.set_timesteps(10)
    torch.manual_seed(0)
    return s.step(0.5 * noise(3), s.timesteps[0], noise(), *more, **named)[0]


@pytest.mark.parametrize(("name", "config"), [("DDIM", {"clip_sample": False}), ("TCD", SD)])
def test_the_fourth_is_eta_where_it_is_theirs(name, config):
    a, b = theirs(name, config), ours(name, config)
    for more in [(1.0,), (0.3,), (0.0,)]:
        assert distance(stepped(b, *more), stepped(a, *more)) < 1e-5
    with_generator = (1.0, *([False] if name == "DDIM" else []), torch.Generator())
    want = stepped(a, *with_generator)
    with_generator[-1].manual_seed(torch.Generator().initial_seed())
    assert distance(stepped(b, *with_generator), want) < 1e-5


@pytest.mark.parametrize("origin", sorted(STYLES))
def test_every_class_takes_its_own_defaults_by_place(origin):
    s = ours(origin.removesuffix("Scheduler"), {})
    parameters = inspect.signature(getattr(diffusers, origin).step).parameters
    own = [p.default for name, p in parameters.items() if name in arguments.places(origin)]
    same = {"eta": parameters["eta"].default} if "eta" in parameters else {}
    assert torch.equal(stepped(s, *own), stepped(s, **same))
    own[arguments.places(origin).index("return_dict")] = False
    s.set_timesteps(10)
    assert isinstance(s.step(noise(3), s.timesteps[0], noise(), *own), tuple)
    for more in [
        (None, False),
        (torch.Generator(), False, None),
        ([torch.Generator(), torch.Generator()],),
    ]:
        s.set_timesteps(10)
        assert isinstance(s.step(noise(3), s.timesteps[0], noise(), *more), tuple) is (
            len(more) > 1
        )


@pytest.mark.parametrize(
    ("name", "given", "word"),
    [
        ("EulerDiscrete", {"s_churn": 1.0}, "s_churn=1.0"),
        ("EulerDiscrete", {"s_noise": 1.01}, "s_noise=1.01"),
        ("EDMEuler", {"s_tmin": 0.1}, "s_tmin=0.1"),
        ("FlowMatchHeunDiscrete", {"s_tmax": 3}, "s_tmax=3"),
        ("EDMEuler", {"pred_original_sample": torch.zeros(1)}, "pred_original_sample=Tensor"),
        ("LMSDiscrete", {"order": 2}, "order=2"),
        ("DDIM", {"s_chrn": 2.0}, "s_churn"),
        ("DDIM", {"generator": 0.5}, "generator=float"),
        ("DDIM", {"eta": "high"}, "eta='high'"),
        ("DDIM", {"variance_noise": torch.zeros(2, 3, 4, 4)}, "variance_noise"),
    ],
)
def test_what_a_plan_cannot_use_is_refused(name, given, word):
    s = ours(name, {})
    with pytest.raises(ValueError, match=word):
        stepped(s, **given)


def test_an_option_of_the_run_may_be_repeated():
    s = ours("EulerDiscrete", SD, sampler="euler", s_churn=2.0)
    assert torch.equal(stepped(s, s_churn=2.0), stepped(s)) and torch.equal(
        stepped(ours("LMSDiscrete", SD), 4), stepped(ours("LMSDiscrete", SD))
    )
    with pytest.raises(ValueError, match="s_churn=3"):
        stepped(s, s_churn=3.0)


@pytest.mark.parametrize(
    "more", [("x",), (0.5, 0.5), (torch.Generator(), False, 0.5, 1, 2, 3, 4, 5, 6)], ids=len
)
def test_values_that_fit_no_signature_are_refused(more):
    with pytest.raises(ValueError, match="by name"):
        stepped(ours("PNDM", {"skip_prk_steps": True}), *more)


def test_an_argument_twice_is_refused():
    with pytest.raises(ValueError, match="eta twice"):
        stepped(ours("DDIM", {}), 0.5, eta=0.5)


def test_a_noise_of_the_callers():
    config = {"clip_sample": False}
    z, found = noise(7), []
    for s in (theirs("DDIM", config), ours("DDIM", config)):
        s.set_timesteps(10)
        found.append(s.step(noise(3), s.timesteps[0], noise(), eta=1.0, variance_noise=z)[0])
    assert distance(found[1], found[0]) < 1e-5


# one time a token


def tokens(s: Any, x: torch.Tensor, clean: torch.Tensor, steps: int = 4) -> torch.Tensor:
    s.set_timesteps(steps)
    for t in s.timesteps:
        own = torch.minimum(t.expand(x.shape[0], 1).float(), 1000.0 * clean)
        velocity = torch.tanh(x) + 0.001 * own.unsqueeze(-1)
        x = s.step(-velocity, t, x, per_token_timesteps=own, return_dict=False)[0]
    return x


@pytest.mark.parametrize(
    "clean",
    [torch.ones(2, 6), torch.tensor([[0.0, 0.3, 0.5, 0.77, 1.0, 1.0]] * 2), torch.ones(2, 1)],
)
def test_tokens_of_their_own_times(clean):
    x = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    config = {"shift": 3.0}
    want = tokens(theirs("FlowMatchEulerDiscrete", config), x, clean)
    assert distance(tokens(ours("FlowMatchEulerDiscrete", config), x, clean), want) < 1e-5


def test_tokens_where_no_sampler_steps_them_apart():
    x = torch.randn(2, 6, 5)
    s = ours("FlowMatchEulerDiscrete", {}, sampler="unipc")
    assert torch.isfinite(tokens(s, x, torch.ones(2, 6))).all()
    with pytest.raises(ValueError, match="unipc"):
        tokens(s, x, torch.zeros(2, 6))
    with pytest.raises(ValueError, match="DiscreteVP"):
        stepped(ours("DDIM", {}), per_token_timesteps=torch.ones(2, 3))
    s.set_timesteps(4)
    with pytest.raises(ValueError, match="shape"):
        s.step(x, s.timesteps[0], x, per_token_timesteps=torch.ones(2, 5))


@pytest.mark.parametrize("name", ["DDPM", "LCM", "TCD"])
def test_the_time_after_a_time(name):
    a, b = theirs(name, {}), ours(name, {})
    assert int(a.previous_timestep(500)) == int(b.previous_timestep(500)) == 499
    for s in (a, b):
        s.set_timesteps(4)
    for t in b.timesteps:
        assert int(a.previous_timestep(t)) == int(b.previous_timestep(t))
