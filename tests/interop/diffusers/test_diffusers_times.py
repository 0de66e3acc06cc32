"""The ``timestep`` that ``step`` is given: what is due, what begins another run, what goes by the
time given, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, distance, network, noise, ours, theirs
from diffusers_rows import OFFSET, PLMS

from fewstep.samplers import names

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
TABLE = ("DDIM", {"clip_sample": False, **OFFSET, **SD})
FLOW = ("FlowMatchEulerDiscrete", {"shift": 3.0})
STEPS = 8
#: samplers whose step needs nothing of the steps before, by the registry's names
FREE = (
    "ddim",
    "euler",
    "euler_ancestral",
    "ddpm",
    "heun",
    "dpm2",
    "midpoint",
    "lcm",
    "consistency",
    "res_2s",
    "euler_maruyama",
)
MEMORY = ("dpmpp_2m", "unipc", "deis", "lms", "ipndm", "plms", "er_sde", "sa_solver")


def made(sampler: str | None, path: tuple[str, dict[str, Any]] = TABLE, **changes: Any) -> Any:
    s = ours(*path, sampler=sampler, noise_seed=0, **changes)
    s.set_timesteps(STEPS)
    return s


def step(s: Any, x: torch.Tensor, t: Any) -> torch.Tensor:
    return s.step(network(x, float(torch.as_tensor(t).flatten()[0])), t, x, return_dict=False)[0]


def drawn(s: Any, told: Any = lambda t: t, x: torch.Tensor | None = None) -> torch.Tensor:
    """A run on the exact times, the step being told ``told(t)``."""
    x = noise() if x is None else x
    for t in s.timesteps:
        x = s.step(network(x, float(t)), told(t), x, return_dict=False)[0]
    return x


FORMS = {
    "expanded": lambda t: t.expand(2),
    "repeated": lambda t: t.repeat(2),
    "number": lambda t: t.item(),
    "float": float,
    "numpy": lambda t: np.float64(float(t)),
    "array": lambda t: t.numpy(),
    "copy": lambda t: t.clone(),
    "double": lambda t: t.double(),
    "half": lambda t: t.half(),
    "bfloat16": lambda t: t.to(torch.bfloat16),
    "reshaped": lambda t: t[None, None],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("sampler", "path"),
    [("unipc", TABLE), ("ddim", TABLE), ("heun", TABLE), ("unipc", FLOW), ("flow_heun", FLOW)],
)
def test_every_form_of_the_time_that_is_due(form, sampler, path):
    s = made(sampler, path)
    want = drawn(s)
    s.set_timesteps(STEPS)
    assert torch.equal(drawn(s, FORMS[form]), want)


def test_times_that_are_no_integers_may_be_cut_to_them():
    s = ours("UniPCMultistep", {"use_karras_sigmas": True, **SD})
    s.set_timesteps(STEPS)
    want = drawn(s)
    for told in (lambda t: int(t), lambda t: t.long(), lambda t: round(float(t))):
        s.set_timesteps(STEPS)
        assert torch.equal(drawn(s, told), want)


def test_a_list_of_another_type_or_place_is_followed():
    for change in (lambda t: t.float(), lambda t: t.half(), lambda t: t.clone()):
        s = made("unipc")
        want = drawn(s)
        s.set_timesteps(STEPS)
        s.timesteps = change(s.timesteps)
        assert distance(drawn(s), want) < 1e-2 and s.step_index == len(s.timesteps)
    s = copy.deepcopy(made("unipc"))
    assert torch.equal(drawn(s), want)


@pytest.mark.parametrize("sampler", names("plan"))
def test_a_skipped_or_repeated_time_goes_by_the_time_or_is_refused(sampler):
    path = FLOW if sampler.startswith(("flow", "interpolant")) else TABLE
    try:
        s = made(sampler, path)
        alone = made(sampler, path)
    except ValueError:
        pytest.skip("not on these paths")
    starts = sorted(s._compiled.starts)
    if len(starts) < 3:
        pytest.skip("too short")
    for first, then in ((0, starts[-1]), (0, starts[2]), (starts[1], starts[1])):
        s.set_timesteps(STEPS)
        x = noise()
        for t in s.timesteps[: first + 1]:
            x = step(s, x, t)
        given = s.timesteps[then]
        if given == s.timesteps[s.step_index]:
            continue
        if s._compiled.free(then):
            alone.set_timesteps(STEPS)
            alone.set_begin_index(then)
            output = network(x, 100.0)
            generators = [torch.Generator().manual_seed(5) for _ in range(2)]
            a = s.step(output, given, x, generator=generators[0], return_dict=False)[0]
            assert torch.equal(
                a, alone.step(output, given, x, generator=generators[1], return_dict=False)[0]
            )
            assert s.step_index == then + 1
        else:
            with pytest.raises(
                ValueError, match=f"{float(given):.6g}, but {float(s.timesteps[s.step_index]):.6g}"
            ):
                step(s, x, given)
    assert sampler not in FREE or s._compiled.free(starts[2])
    assert sampler not in MEMORY or not s._compiled.free(starts[2])


@pytest.mark.parametrize("name", ["DDIM", "DDPM"])
def test_any_order_of_times_is_theirs(name):
    config = {"clip_sample": False}
    a, b = theirs(name, config), ours(name, config)
    for s in (a, b):
        s.set_timesteps(5)
    x = y = noise()
    for k in (0, 3, 1, 4, 4, 2, 0, 2):
        if name == "DDIM":  # whose next time is t - T // N, an entry where N divides T
            x, y = step(a, x, a.timesteps[k]), step(b, y, b.timesteps[k])
            assert distance(y, x) < 1e-5
        else:
            generators = [torch.Generator().manual_seed(k) for _ in range(2)]
            output = network(x, 3.0)
            x = a.step(output, a.timesteps[k], x, generator=generators[0], return_dict=False)[0]
            y = b.step(output, b.timesteps[k], y, generator=generators[1], return_dict=False)[0]
            assert distance(y, x) < 1e-5


@pytest.mark.parametrize(
    "sampler",
    [
        None,
        "ddim",
        "unipc",
        "heun",
        "dpmpp_2m",
        "euler_ancestral",
        "plms",
        "sa_solver",
        "dpmpp_sde",
    ],
)
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("begin", [None, 0, 4])
def test_a_run_that_was_stopped_is_begun_again(sampler, reset, begin):
    def fresh() -> Any:
        s = made(sampler)
        if begin is not None:
            s.set_begin_index(begin)
        return s

    def loop(s: Any, x: torch.Tensor, most: int) -> torch.Tensor:
        for t in s.timesteps[begin or 0 :][:most]:
            x = step(s, x, t)
        return x

    want, s = loop(fresh(), noise(9), 99), fresh()
    for stopped in (1, 3, 99):
        loop(s, noise(), stopped)
        if reset:
            s._step_index = None
            assert s.step_index is None
        assert torch.equal(loop(s, noise(9), 99), want)


def test_what_begin_index_says_is_compared_with_the_time():
    s = made("unipc")
    s.set_begin_index(3)
    with pytest.raises(ValueError, match="entry 3"):
        step(s, noise(), s.timesteps[5])
    s._begin_index = 5
    step(s, noise(), s.timesteps[5])
    assert s.begin_index == 5 and s.step_index == 6
    s._begin_index = None
    step(s, noise(), s.timesteps[0])
    assert s.begin_index is None and s.step_index == 1
    s._step_index = 1
    with pytest.raises(ValueError, match="_step_index=4"):
        s._step_index = 4


@pytest.mark.parametrize("sampler", ["ddim", "unipc"])
def test_one_time_a_sample_is_refused(sampler):
    s = made(sampler)
    for t in (s.timesteps[:2], s.timesteps[[1, 2]], [1.0, 2.0], torch.tensor([])):
        with pytest.raises(ValueError, match="values"):
            s.step(noise(), t, noise())
    for t in ("late", None, object()):
        with pytest.raises(ValueError, match="timestep"):
            s.step(noise(), t, noise())
    step(s, noise(), s.timesteps[0])
    for t in (123.4, float("nan"), float("inf"), -1):
        with pytest.raises(ValueError, match="timestep"):
            s.step(noise(), t, noise())


@pytest.mark.parametrize("begin", [-1, 1.9, 8, 100, None, "2", True, float("nan"), np.float64(2.0)])
def test_begin_indices_that_are_none(begin):
    s = made("ddim")
    with pytest.raises(ValueError, match="begin_index"):
        s.set_begin_index(begin)
    s.set_begin_index(np.int64(2))
    assert s.begin_index == 2 and type(s.begin_index) is int


# the times of a tail


@pytest.mark.parametrize("sampler", names("plan"))
@pytest.mark.parametrize("steps", [5, 8])
def test_the_network_is_told_the_time_of_the_tails_states(sampler, steps):
    path = FLOW if sampler.startswith(("flow", "interpolant")) else TABLE
    try:
        s = ours(*path, sampler=sampler)
        s.set_timesteps(steps)
    except ValueError:
        pytest.skip("not on these paths")
    accepted = []
    for begin in range(len(s.timesteps)):
        try:
            s.set_begin_index(begin)
        except ValueError:
            continue
        accepted.append(begin)
        states = [
            s._settings.scale * float(e.node.t) for e in s._compiled.tail(begin).plan.evaluations
        ]
        assert torch.allclose(s.timesteps[begin:].float(), torch.tensor(states), atol=1e-3)
    assert 0 in accepted


@pytest.mark.parametrize("config", [PLMS, {"steps_offset": 1}], ids=["plms", "prk"])
def test_pndm_in_its_start_up_waits_for_the_next_time(config):
    """With the first entry left out the same time comes twice; the state has to stay at it, and the
    rest is the run from there."""
    s = ours("PNDM", {**config, **SD})
    s.set_timesteps(12)
    twice = [
        k for k in range(len(s.timesteps) - 1) if s.timesteps[k] == s.timesteps[k + 1] and k > 0
    ]
    if config is PLMS:
        assert twice == [1]
        s.set_begin_index(1)
        x = y = noise()
        x = s.step(network(x, 3.0), s.timesteps[1], x).prev_sample
        assert torch.equal(x, y)
        found = []
        for begin in (1, 2):
            s.set_timesteps(12)
            s.set_begin_index(begin)
            x = noise()
            for t in s.timesteps[begin:]:
                x = step(s, x, t)
            found.append(x)
        assert torch.equal(*found)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_few_calls_of_pndm_begin_with_noise(offset, calls):
    s = ours("PNDM", {**PLMS, **SD, "steps_offset": offset})
    s.set_timesteps(calls)
    assert s.nfe == len(s.timesteps) == calls
    assert calls == 1 or s.plan.evaluations[0].node.sigma > 0.7
    for name in ("plms", "pndm"):
        s = ours("DDIM", {"clip_sample": False, **SD, **OFFSET}, sampler=name)
        if calls >= (2 if name == "plms" else 4):
            s.set_timesteps(calls)
            assert 1 <= s.nfe <= calls and s.plan.evaluations[0].node.sigma > 0.7


# counts


@pytest.mark.parametrize(
    "count", [0, -3, 2.5, "8", True, float("nan"), float("inf"), 10**12, np.float32(4.0), [4]]
)
@pytest.mark.parametrize("path", [TABLE, FLOW, ("EDMEuler", {})], ids=lambda p: p[0])
def test_counts_that_are_none(count, path):
    with pytest.raises(ValueError, match="steps"):
        ours(*path).set_timesteps(count)


@pytest.mark.parametrize("path", [TABLE, FLOW, ("EDMEuler", {})], ids=lambda p: p[0])
def test_lists_that_are_none(path):
    s = ours(*path)
    for given in ({"timesteps": []}, {"sigmas": []}, {"timesteps": torch.tensor([])}, {}):
        with pytest.raises(ValueError, match="num_inference_steps|empty"):
            s.set_timesteps(**given)
    for value in (float("nan"), float("inf"), "x", None):
        for name in ("timesteps", "sigmas"):
            with pytest.raises(ValueError, match=name):
                s.set_timesteps(**{name: [0.9, value, 0.1]})
    for given in ("abc", 3.0, [[0.9, 0.1]]):
        with pytest.raises(ValueError, match="timesteps"):
            s.set_timesteps(timesteps=given)


@pytest.mark.parametrize("path", [TABLE, FLOW], ids=lambda p: p[0])
def test_numpy_counts_and_lists(path):
    s = ours(*path)
    for count in (np.int64(4), np.uint8(4)):
        s.set_timesteps(count)
        assert s.num_inference_steps == 4 and type(s.num_inference_steps) is int and s.nfe == 4
    listed = s.timesteps.numpy()
    s.set_timesteps(timesteps=listed)
    assert s.timesteps.tolist() == pytest.approx(listed.tolist())
    s.set_timesteps(timesteps=list(listed))
    assert s.nfe == 4


# graphs


@pytest.mark.parametrize("sampler", ["ddim", "unipc"])
def test_a_graph_refuses_a_time_that_is_not_due(sampler):
    torch._dynamo.reset()
    s = ours(*TABLE, sampler=sampler)
    step = torch.compile(s.step, backend="eager", fullgraph=True)
    with torch.no_grad():
        for given in (2, 0):
            s.set_timesteps(STEPS)
            x = step(noise(3), s.timesteps[0], noise())[0]
            with pytest.raises(RuntimeError, match="due"):
                step(noise(3), s.timesteps[given], x)
        s._step_index = None
        step(noise(3), s.timesteps[0].half().expand(2), noise())
        assert s.step_index == 1
        with pytest.raises(RuntimeError, match="due"):
            step(noise(3), s.timesteps[:2], noise())
    torch._dynamo.reset()


def test_a_device_checks_a_copy_of_a_time_without_being_asked_for_its_value(monkeypatch):
    """The check that a CUDA tensor gets, run where there is none."""
    s = made("unipc")
    want = drawn(s)
    monkeypatch.setattr(type(s._times), "far", lambda self, timestep: self.place(timestep) is None)
    for begin in (None, 0):
        s.set_timesteps(STEPS)
        if begin is not None:
            s.set_begin_index(begin)
        assert torch.equal(drawn(s, lambda t: t.half().expand(2)), want)
    s.set_timesteps(STEPS)
    x = step(s, noise(), s.timesteps[0])
    with pytest.raises(RuntimeError, match="due"):
        s.step(noise(3), s.timesteps[4].clone(), x)
