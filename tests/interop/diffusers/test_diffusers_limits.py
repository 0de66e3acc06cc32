"""Edges of the scheduler's arguments: what a rounded time may be off by, which steps draw noise,
tokens in half precision, short tables."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from diffusers_loops import SD, distance, noise, ours, theirs

from fewstep.interop.diffusers.times import Times, tolerance

EPS = 2.0**-23


def times(*labels: float, whole: bool = False) -> Times:
    return Times(torch.tensor(labels, dtype=torch.int64 if whole else torch.float32), labels, (0,))


def least(value: float, to: float) -> float:
    return math.nextafter(value, to)


@pytest.mark.parametrize(
    ("dtype", "off"),
    [
        (torch.float64, 4.0 * EPS),
        (torch.float32, 4.0 * EPS),
        (torch.float16, 2.0**-10),
        (torch.bfloat16, 2.0**-7),
    ],
)
def test_what_a_rounded_time_may_be_off_by(dtype: torch.dtype, off: float) -> None:
    """The rounding of its type, at least four of float32, in parts of the time."""
    assert tolerance(dtype) == off and tolerance(torch.int64) == 4.0 * EPS
    clock = times(512.0, 256.0)
    for k, label in enumerate((512.0, 256.0)):
        for sign in (-1.0, 1.0):
            edge = label * (1.0 + sign * off)
            assert clock.near(edge, dtype, k) and not clock.near(
                least(edge, label + sign * 1e9), dtype, k
            )
            assert clock.near(label, dtype, k)


def test_an_integer_is_a_time_that_was_cut_or_rounded() -> None:
    """Within 1 of a time where times run over more than 50 and are no integers themselves."""
    wide, narrow, whole = times(900.5, 50.5), times(50.0, 0.5), times(900, 50, whole=True)
    assert (wide.wide, narrow.wide, whole.whole, wide.whole) == (True, False, True, False)
    assert times(50.0 + 1e-6, 1.0).wide and times(20.0, -30.5).wide and not times(20.0, -30.0).wide
    for kind in (None, torch.int64):
        assert (
            wide.near(900, kind, 0)
            and wide.near(901, kind, 0)
            and not wide.near(902, kind, 0)
            and not wide.near(899, kind, 0)
        )
        assert not times(900.0, 0.0).near(901, kind, 0)
        assert not narrow.near(1, kind, 1) and narrow.near(50, kind, 0)
        assert whole.near(900, kind, 0) and not whole.near(899, kind, 0)


def test_the_entries_of_a_time() -> None:
    """The due one alone where it is among them; else all whose time it is exactly; else all that it
    rounds to."""
    clock = times(900.0, 900.0, 500.25, 500.0)
    assert (
        clock.entries(900.0) == [0, 1]
        and clock.entries(900.0, 1) == [1]
        and clock.entries(900.0, 3) == [0, 1]
    )
    assert (
        clock.entries(500.25) == [2] and clock.entries(500, 2) == [2] and clock.entries(500) == [3]
    )
    assert (
        clock.entries(torch.tensor(500.25, dtype=torch.bfloat16)) == [3]
        and clock.entries(7.0) == []
    )
    assert Times(clock.tensor, clock.labels, (1, 2, 3)).begin(900.0) == 1 and clock.begin(500) == 3
    with pytest.raises(ValueError, match="timestep 7 is none"):
        clock.begin(7.0)


def test_what_a_device_is_asked_is_what_the_host_is_asked() -> None:
    clock = times(900.5, 50.5)
    clock.demand(torch.tensor([900, 901]), 0)
    clock.demand(torch.tensor(900.5 * (1.0 + 3.0 * EPS)), 0)
    clock.demand(torch.tensor(900.5, dtype=torch.float16), 0)
    for wrong in (
        torch.tensor([900, 902]),
        torch.tensor(900.5 * (1.0 + 8.0 * EPS)),
        torch.tensor(903.0, dtype=torch.float16),
    ):
        with pytest.raises(RuntimeError, match="due"):
            clock.demand(wrong, 0)
    with pytest.raises(RuntimeError, match="due"):
        times(900, 50, whole=True).demand(torch.tensor(899), 0)


def test_a_noise_of_the_callers_is_for_steps_that_draw() -> None:
    """All of DDIM's with eta but the last, whose end has no noise: there it is refused, where
    diffusers adds nothing."""
    z = noise(7)
    a, b = theirs("DDIM", {**SD, "clip_sample": False}), ours("DDIM", {**SD, "clip_sample": False})
    xs = [noise(), noise()]
    for s in (a, b):
        s.set_timesteps(4)
    for k, t in enumerate(b.timesteps):
        outputs = [torch.tanh(x) for x in xs]
        given = {"eta": 1.0, "variance_noise": z} if k < 3 else {"eta": 1.0}
        if k == 3:
            with pytest.raises(ValueError, match="draws 0 noises"):
                b.step(outputs[1], t, xs[1], eta=1.0, variance_noise=z)
        xs = [
            s.step(output, int(t), x, return_dict=False, **given)[0]
            for s, output, x in zip((a, b), outputs, xs, strict=True)
        ]
        assert distance(xs[1], xs[0]) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_token_is_stepped_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    """``x - (sigma_i - next lower sigma) v``, for a token between two levels, at one, at the end,
    and for the whole sample."""
    s = ours("FlowMatchEulerDiscrete", {"shift": 1.0})
    s.set_timesteps(4)
    levels = [float(v) for v in s.sigmas]
    assert levels == pytest.approx([1.0, 0.667, 0.334, 0.001, 0.0], abs=1e-6)
    own = torch.tensor([[levels[0], 0.5, levels[2], 0.0, levels[3], levels[1] + 5e-7]])
    lower = torch.tensor(
        [levels[1], levels[2], levels[3], 0.0, 0.0, levels[2]], dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(1)
    x, v = (
        torch.randn(2, 6, 5, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)
    )
    got = s.step(
        -v, s.timesteps[0], x, per_token_timesteps=1000.0 * own.expand(2, -1), return_dict=False
    )[0]
    want = x.double() - (own.double()[0] - lower)[:, None] * v.double()
    assert got.dtype == dtype
    assert torch.allclose(
        got.double(),
        want,
        atol=2e-6,
        rtol=0.51 * torch.finfo(dtype).eps if dtype != torch.float64 else 1e-6,
    )


def test_tokens_in_float64_have_its_digits() -> None:
    """A token within 1e-6 of a level is at that level, and goes on to the next; one further above
    it goes to it."""
    s = ours("FlowMatchEulerDiscrete", {"shift": 1.0})
    s.set_timesteps(4)
    own = torch.tensor([[1.0, 0.5, 0.2, 0.667 + 0.95e-6, 0.667 + 1.05e-6]], dtype=torch.float64)
    lower = torch.tensor([0.667, 0.334, 0.001, 0.334, 0.667], dtype=torch.float64)
    x, v = (
        torch.randn(1, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        for k in (1, 2)
    )
    got = s.step(-v, s.timesteps[0], x, per_token_timesteps=1000.0 * own, return_dict=False)[0]
    assert torch.allclose(got, x - (own[0] - lower)[:, None] * v, atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("made_so", ["neither", "state", "output", "both"])
def test_the_second_value_where_a_tensor_counts_no_writes(made_so: str) -> None:
    """A tensor made under ``inference_mode`` cannot tell that it was written to: the value is then
    worked out at once."""
    x, out = noise(), noise(3)
    with torch.inference_mode():
        x, out = (
            (x.clone() if made_so in ("state", "both") else x),
            (out.clone() if made_so in ("output", "both") else out),
        )
    s, same = ours("DDIM", SD), ours("DDIM", SD)
    for scheduler in (s, same):
        scheduler.set_timesteps(3)
    want = same.step(noise(3), same.timesteps[0], noise()).pred_original_sample
    assert torch.equal(s.step(out, s.timesteps[0], x).pred_original_sample, want)


def test_one_number_is_one_sample() -> None:
    s, x = ours("DDIM", SD), torch.tensor(0.5)
    assert float(s.add_noise(x, x, torch.tensor(0))) == pytest.approx(
        float(theirs("DDIM", SD).add_noise(x, x, torch.tensor([0]))), abs=1e-6
    )
    with pytest.raises(ValueError, match="for 1 samples"):
        s.add_noise(x, x, torch.tensor([3, 5]))


@pytest.mark.parametrize("shape", [(2, 6), (1, 6), (2, 1), (1, 1), (2,), (1,)])
def test_times_of_tokens_broadcast(shape: tuple[int, ...]) -> None:
    s, x = ours("FlowMatchEulerDiscrete", {}), torch.randn(2, 6, 5)
    s.set_timesteps(3)
    plain = s.step(x, s.timesteps[0], x, return_dict=False)[0]
    s.set_timesteps(3)
    told = s.step(
        -x, s.timesteps[0], x, per_token_timesteps=torch.full(shape, 1000.0), return_dict=False
    )[0]
    assert torch.allclose(told, plain, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 5), (3, 6), (2, 6, 5), (2, 6, 5, 1), (6, 2)])
def test_times_of_tokens_that_do_not(shape: tuple[int, ...]) -> None:
    s, x = ours("FlowMatchEulerDiscrete", {}), torch.randn(2, 6, 5)
    s.set_timesteps(3)
    with pytest.raises(ValueError, match="one time a token"):
        s.step(-x, s.timesteps[0], x, per_token_timesteps=torch.full(shape, 1000.0))


@pytest.mark.parametrize("name", ["LCM", "TCD"])
def test_a_distilled_table_of_one_entry(name: str) -> None:
    s: Any = ours(name, SD)
    s.set_timesteps(1, original_inference_steps=1)
    assert s.timesteps.tolist() == [999]
    s.set_timesteps(50, original_inference_steps=50)
    s.set_timesteps(2, original_inference_steps=1000)
    for given in (
        {"original_inference_steps": 0},
        {"original_inference_steps": 1001},
        {"strength": -0.1},
        {"strength": 1.1},
    ):
        with pytest.raises(ValueError, match=next(iter(given))):
            s.set_timesteps(1, **given)
    with pytest.raises(ValueError, match="strength 0"):
        s.set_timesteps(1, strength=0.0)
    with pytest.raises(ValueError, match="original_inference_steps=3"):
        s.set_timesteps(4, original_inference_steps=3)


def test_a_learned_variance_is_left_out_and_nothing_else() -> None:
    """Twice the channels with ``variance_type="learned_range"``: the first half is the prediction.
    Otherwise shapes must agree."""
    x, out = noise(), noise(3)
    both = torch.cat([out, torch.full_like(out, 9.0)], 1)
    learned, plain = (
        ours("DDIM", {**SD, **more}) for more in ({"variance_type": "learned_range"}, {})
    )
    for s in (learned, plain):
        s.set_timesteps(3)
    want = plain.step(out, plain.timesteps[0], x).prev_sample
    assert torch.equal(learned.step(both, learned.timesteps[0], x).prev_sample, want)
    learned.set_timesteps(3)
    assert torch.equal(learned.step(out, learned.timesteps[0], x).prev_sample, want)
    for s, bad in (
        (plain, both),
        (learned, torch.cat([both, out], 1)),
        (learned, out[:1]),
        (learned, both[:, :4]),
    ):
        s.set_timesteps(3)
        with pytest.raises(ValueError, match="model_output has shape"):
            s.step(bad, s.timesteps[0], x)


def test_generators_are_one_or_one_a_sample() -> None:
    s, x = ours("DDIM", SD), noise()
    for count in (1, 2):
        s.set_timesteps(3)
        s.step(
            noise(3),
            s.timesteps[0],
            x,
            eta=1.0,
            generator=[torch.Generator().manual_seed(k) for k in range(count)],
        )
    for given, words in (
        ([torch.Generator()] * 3, "3 generators for 2"),
        ([], "0 generators"),
        ([1, 2], "list"),
        ("seed", "str"),
    ):
        s.set_timesteps(3)
        with pytest.raises(ValueError, match=words):
            s.step(noise(3), s.timesteps[0], x, eta=1.0, generator=given)


def test_keys_of_diffusers_own_bookkeeping_are_no_options() -> None:
    s = ours("DDIM", SD, _diffusers_version="0.31.0", _use_default_values=["eta"])
    s.set_timesteps(2)
    with pytest.raises(ValueError, match="betta_start"):
        ours("DDIM", SD, betta_start=0.1)


@pytest.mark.parametrize(("name", "second"), [("DPMSolverMultistep", False), ("DDIM", True)])
def test_a_graph_answers_in_the_form_that_was_asked_for(name: str, second: bool) -> None:
    s, x, out = ours(name, SD), noise(), noise(3)
    s.set_timesteps(4)
    want = s.step(out, s.timesteps[0], x, return_dict=False)[0]
    for return_dict in (True, False):
        torch._dynamo.reset()
        s.set_timesteps(4)
        step = torch.compile(
            lambda o, t, y, form=return_dict: s.step(o, t, y, return_dict=form), backend="eager"
        )
        with torch.no_grad():
            made = step(out, s.timesteps[0], x)
        assert isinstance(made, tuple) != return_dict and len(made) == 1 + second
        assert torch.allclose(made.prev_sample if return_dict else made[0], want, atol=1e-6)
    torch._dynamo.reset()


@pytest.mark.parametrize("said", [0.0, 0.5])
def test_an_eta_of_the_sampler_s_options_goes_before_a_call_s(said: float) -> None:
    made = []
    for given in (said, None):
        s, x = ours("DDIM", SD, sampler="ddim", eta=1.0), noise()
        s.set_timesteps(3)
        for t in s.timesteps:
            x = s.step(
                torch.tanh(x),
                t,
                x,
                eta=given,
                generator=torch.Generator().manual_seed(int(t)),
                return_dict=False,
            )[0]
        made.append(x)
        assert len(s.plan.draws) == 2
    assert torch.equal(*made)
