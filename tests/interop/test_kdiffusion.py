"""k-diffusion's function form: the same results as the registry, its callback, its noise, its
errors."""

import inspect
import math

import pytest
import torch
from golden_cases import cases, start_noise
from golden_cases import model as golden_model

import fewstep
from fewstep.interop import kdiffusion
from fewstep.interop.kdiffusion import sample_dpmpp_2m, sample_euler, sample_heun
from fewstep.interop.kdiffusion.noises import SigmaPath
from fewstep.samplers import ALIASES, names
from fewstep.schedules import EDM

NAMES = sorted(
    {a for a in ALIASES if a.startswith("sample_")} - {"sample_dpm_fast", "sample_dpm_adaptive"}
)
LEVELS = torch.tensor([80.0, 20.0, 5.0, 1.0, 0.2, 0.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def exact():
    den = golden_model(EDM(0.002, 120.0), "x0")  # churn goes above the first level
    return lambda x, sigma, **extra: den(x, float(sigma[0]))


def start():
    return 80.0 * start_noise()


def test_golden_run_of_k_diffusion_itself():
    """The same levels and start as a recorded run of k-diffusion's own function give its result."""
    chosen = [
        c
        for c in cases().values()
        if c.peer == "k-diffusion" and c.sampler == "sample_dpmpp_2m" and c.schedule == "edm"
    ]
    assert chosen
    for case in chosen:
        den = golden_model(EDM(0.002, 80.0), "x0")
        sigmas = torch.tensor(
            [*(call.sigma for call in case.calls), case.end.sigma], dtype=torch.float64
        )
        out = sample_dpmpp_2m(
            lambda x, s, den=den: den(x, float(s[0])),
            case.scale * start_noise(),
            sigmas,
            lower_order_final=False,
        )
        assert float((out - case.out).abs().max()) < 1e-9


def test_the_callback_sees_every_step_once(exact):
    seen = []
    out = sample_heun(exact, start(), LEVELS, callback=seen.append)
    assert [s["i"] for s in seen] == [0, 1, 2, 3, 4]
    assert (
        [float(s["sigma"]) for s in seen]
        == [float(s["sigma_hat"]) for s in seen]
        == LEVELS[:-1].tolist()
    )
    assert torch.equal(seen[0]["x"], start())
    for s in seen:
        assert torch.allclose(s["denoised"], exact(s["x"], s["sigma"][None]), atol=1e-12)
    # the state shown at the last level, stepped by hand, is the result
    last = seen[-1]
    assert torch.allclose(out, last["denoised"], atol=1e-12)


def test_churned_states_are_shown_at_sigma_hat(exact):
    seen = []
    torch.manual_seed(0)
    sample_euler(exact, start(), LEVELS, s_churn=5.0, callback=seen.append)
    hats = [float(s["sigma_hat"]) for s in seen]
    assert [s["i"] for s in seen] == [0, 1, 2, 3, 4]
    assert all(hat > float(s["sigma"]) for hat, s in zip(hats, seen, strict=True))


def test_noise_sampler_is_asked_for_the_steps(exact):
    asked = []

    def noise(a, b):
        asked.append((float(a), float(b)))
        return torch.zeros_like(start())

    kdiffusion.sample_euler_ancestral(exact, start(), LEVELS, noise_sampler=noise)
    assert asked == list(zip(LEVELS[:-2].tolist(), LEVELS[1:-1].tolist(), strict=True))


def test_the_models_arguments(exact):
    """sigma is (B,) in the state's dtype; extra_args arrive."""
    seen = []

    def model(x, sigma, **extra):
        seen.append((sigma.shape, sigma.dtype, x.dtype, extra))
        return torch.zeros_like(x)

    sample_euler(model, start().float(), LEVELS.float(), extra_args={"cond": 3}, disable=True)
    assert set(map(str, seen)) == {
        str((torch.Size([8]), torch.float32, torch.float32, {"cond": 3}))
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_function_runs(exact, name):
    torch.manual_seed(0)
    out = getattr(kdiffusion, name)(exact, start(), LEVELS)
    assert torch.isfinite(out).all() and float(out.abs().max()) < 20.0


def test_every_registered_sampler_has_a_function():
    for name in names():
        assert callable(getattr(kdiffusion, f"sample_{name}"))


def test_both_range_functions(exact):
    counted = []

    def model(x, sigma):
        counted.append(float(sigma[0]))
        return exact(x, sigma)

    fast = kdiffusion.sample_dpm_fast(model, start(), 0.01, 80.0, 12)
    assert len(counted) == 12 and max(counted) == pytest.approx(80.0)
    seen = []
    options = {"rtol": 0.01, "atol": 1e-3}
    adaptive, info = kdiffusion.sample_dpm_adaptive(
        exact, start(), 0.01, 80.0, callback=seen.append, return_info=True, **options
    )
    assert torch.equal(
        adaptive, kdiffusion.sample_dpm_adaptive(exact, start(), 0.01, 80.0, **options)
    )
    assert (
        len(seen) == info["steps"] == info["n_accept"] + info["n_reject"]
        and info["nfe"] == 3 * info["steps"]
    )
    assert float(seen[-1]["sigma"]) == pytest.approx(0.01) and torch.equal(seen[-1]["x"], adaptive)
    assert float((fast - adaptive).abs().median()) < 0.2


def test_a_rejected_trial_is_shown_with_the_state_that_stays(exact):
    """A trial that is rejected leaves state and level, makes the step smaller, and calls the
    network again at the same state."""
    seen, asked = [], []

    def model(x, sigma):
        asked.append(float(sigma[0]))
        return exact(x, sigma)

    kdiffusion.sample_dpm_adaptive(
        model, start(), 0.01, 80.0, callback=seen.append, h_init=5.0, rtol=1e-3, atol=1e-4
    )
    rejected = [k for k in range(1, len(seen)) if seen[k]["n_reject"] > seen[k - 1]["n_reject"]]
    assert seen[0]["n_reject"] == 1 and rejected
    assert torch.equal(seen[0]["x"], start()) and float(seen[0]["sigma"]) == pytest.approx(80.0)
    for k in rejected:
        assert torch.equal(seen[k]["x"], seen[k - 1]["x"]) and float(seen[k]["t"]) == float(
            seen[k - 1]["t"]
        )
    assert seen[0]["h"] < 5.0 and asked[3] == asked[0]


def test_max_nfe_bounds_an_adaptive_run(exact):
    with pytest.raises(fewstep.samplers.BudgetError, match="max_nfe=5"):
        kdiffusion.sample_dpm_adaptive(exact, start(), 0.01, 80.0, max_nfe=5)


@pytest.mark.parametrize(
    ("name", "positional", "keywords"),
    [
        (
            "sample_euler",
            (5.0, 0.1, 50.0, 1.1),
            {"s_churn": 5.0, "s_tmin": 0.1, "s_tmax": 50.0, "s_noise": 1.1},
        ),
        ("sample_lms", (2,), {"order": 2}),
        ("sample_euler_ancestral", (0.5, 1.1), {"eta": 0.5, "s_noise": 1.1}),
        (
            "sample_dpmpp_2m_sde",
            (0.5, 1.1, None, "heun"),
            {"eta": 0.5, "s_noise": 1.1, "solver_type": "heun"},
        ),
        ("sample_dpmpp_sde", (0.5, 1.1, None, 0.3), {"eta": 0.5, "s_noise": 1.1, "r": 0.3}),
    ],
)
def test_options_by_position(exact, name, positional, keywords):
    function, out = getattr(kdiffusion, name), []
    tensors = {
        key: torch.tensor(value, dtype=torch.float64) if isinstance(value, float) else value
        for key, value in keywords.items()
    }
    for args, options in (
        ((), {}),
        ((None, None, True, *positional), {}),
        ((), keywords),
        ((), tensors),
    ):
        torch.manual_seed(0)
        out.append(function(exact, start(), LEVELS, *args, **options))
    assert (
        torch.equal(out[1], out[2])
        and torch.equal(out[2], out[3])
        and not torch.allclose(out[0], out[1])
    )


@pytest.mark.parametrize("name", ["sample_euler", "sample_heun", "sample_dpm_2"])
def test_callbacks_of_dense_levels_under_churn(exact, name):
    """A churned level lies above the level of the step before: each step is shown once, at its own
    sigma_hat."""
    levels, seen = torch.linspace(10.0, 9.0, 11, dtype=torch.float64), []
    getattr(kdiffusion, name)(exact, start(), levels, s_churn=2.0, callback=seen.append)
    assert [s["i"] for s in seen] == list(range(10))
    assert torch.equal(torch.stack([s["sigma"] for s in seen]), levels[:-1])
    assert torch.allclose(
        torch.stack([s["sigma_hat"] for s in seen]), 1.2 * levels[:-1], rtol=1e-15
    )
    assert float(seen[1]["sigma_hat"]) > float(levels[0])


def test_a_write_into_the_callbacks_state_moves_the_run_and_not_the_callers_x(exact):
    given = start()

    def shift(step):
        step["x"] += 1.0 if step["i"] == 0 else 0.0

    out, plain = (sample_euler(exact, given, LEVELS[:2], callback=c) for c in (shift, None))
    assert torch.equal(given, start())
    # the slope of the step is that before the write
    assert torch.allclose(out, plain + 1.0, atol=1e-12)
    kept = []
    sample_euler(
        exact, given, LEVELS, callback=lambda step: kept.append((step["x"], step["x"].clone()))
    )
    assert all(torch.equal(a, b) for a, b in kept)  # safe to keep


@pytest.mark.parametrize("name", NAMES)
def test_a_model_may_write_into_its_input(exact, name):
    asks = "noise_sampler" in inspect.signature(getattr(kdiffusion, name)).parameters
    options = {"noise_sampler": lambda a, b: torch.ones_like(start())} if asks else {}

    def writing(x, sigma):
        out = exact(x, sigma)
        x.zero_()
        return out

    given = start()
    a, b = (getattr(kdiffusion, name)(m, given, LEVELS, **options) for m in (exact, writing))
    assert torch.equal(a, b) and torch.equal(given, start())


@pytest.mark.parametrize("name", kdiffusion.NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_shapes_and_inference_mode(name, dtype):
    """The result has the state's dtype; states of one axis are states; a callback may write under
    inference mode."""
    levels = {"sample_dpm_fast": (0.1, 10.0, 5), "sample_dpm_adaptive": (0.1, 10.0)}.get(
        name, (LEVELS.to(dtype),)
    )
    seen = []

    def model(x, sigma):
        seen.append((x.dtype, sigma.dtype, sigma.shape))
        return 0.5 * x / (1.0 + sigma.view(-1, *[1] * (x.ndim - 1)))

    for x in (torch.ones(3, 2, dtype=dtype), torch.ones(3, dtype=dtype)):
        with torch.inference_mode():
            out = getattr(kdiffusion, name)(
                model, x, *levels, callback=lambda step: step["x"].mul_(1.0)
            )
        assert out.dtype == dtype and out.shape == x.shape and torch.isfinite(out).all()
    assert set(seen) == {(dtype, dtype, torch.Size([3]))}


@pytest.mark.parametrize("name", ["sample_dpmpp_sde", "sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde"])
def test_the_default_noise_of_sde_functions_is_a_path_with_one_draw(exact, name):
    """One draw of torch for the seed, as there; the same seed of torch gives the same picture,
    samples are independent."""
    outs, after = [], []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(getattr(kdiffusion, name)(exact, start(), LEVELS))
        after.append(torch.rand(()))
    torch.manual_seed(0)
    torch.randint(0, 2**63 - 1, [])
    assert after[0] == torch.rand(())
    assert torch.equal(outs[0], outs[1]) and not torch.allclose(outs[0], outs[2], atol=1e-3)


def test_the_path_in_sigma():
    """Units, and the correlation of overlapping increments: sqrt((s - m) / (s - t)) for [s, m] and
    [s, t]."""
    plan = fewstep.plan("dpmpp_sde", EDM(0.5, 20.0), sigmas=[10.0, 1.0], noises="overlapping")
    path, like = SigmaPath(plan, 4, 1.0, 10.0), torch.empty(4, 20_000, dtype=torch.float64)
    a, b, c = (path(s, t, like) for s, t in ((10.0, 1.0), (10.0, 7.0), (7.0, 1.0)))
    for z in (a, b, c):
        assert abs(float(z.mean())) < 0.02 and abs(float(z.var()) - 1.0) < 0.03
    assert (
        abs(float((a * b).mean()) - math.sqrt(3.0 / 9.0)) < 0.02
        and abs(float((b * c).mean())) < 0.02
    )
    assert torch.allclose(3.0 * a, math.sqrt(3.0) * b + math.sqrt(6.0) * c, atol=1e-9)


def test_dpm_2_ancestral_adds_the_noise_that_k_diffusion_leaves_out(exact):
    """eta > 1 takes a step down to sigma = 0 first. k-diffusion then forgets the noise, and the
    state at 5 has none; here it has."""
    z = torch.ones_like(start())
    out = kdiffusion.sample_dpm_2_ancestral(
        exact, start(), LEVELS[1:3], eta=5.0, noise_sampler=lambda a, b: z
    )
    assert torch.allclose(out, exact(start(), LEVELS[1:2]) + 5.0 * z, atol=1e-12)


def test_levels_of_one_step_to_zero(exact):
    """k-diffusion's 2M and 3M SDE stop there with an UnboundLocalError; the step is the
    prediction."""
    for name in NAMES:
        out = getattr(kdiffusion, name)(
            exact, start(), torch.tensor([80.0, 0.0], dtype=torch.float64)
        )
        if name in kdiffusion.NAMES:
            assert torch.allclose(out, exact(start(), torch.tensor([80.0])), atol=1e-10)


@pytest.mark.parametrize("name", ["sample_euler", "sample_dpmpp_2m_sde", "sample_unipc"])
def test_one_level_gives_the_state_back(name):
    x = start()
    assert torch.equal(getattr(kdiffusion, name)(lambda *a: None, x, LEVELS[:1]), x)


@pytest.mark.parametrize("name", ["sample_euler", "sample_unipc"])
@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([], "sigmas is empty"),
        ([0.1, 1.0, 5.0], "must fall.*fewstep.invert"),
        ([5.0, 1.0, 3.0, 0.0], r"sigmas\[1\]=1 is followed by 3"),
        ([5.0, 5.0, 0.0], r"sigmas\[0\]=5 is followed by 5"),
        ([5.0, 0.0, 0.0], r"sigmas\[1\]=0 is followed by 0"),
        ([5.0, math.nan, 0.0], r"sigmas\[1\]=nan"),
        ([math.inf, 1.0], r"sigmas\[0\]=inf"),
        ([5.0, -1.0], r"sigmas\[1\]=-1"),
        ([[5.0, 0.0]], "sigmas"),
        (None, "sigmas=None"),
        (torch.tensor([[5.0, 0.0]]), r"shape \(1, 2\)"),
    ],
)
def test_bad_levels(name, levels, said):
    with pytest.raises(ValueError, match=said):
        getattr(kdiffusion, name)(lambda *a: None, start(), levels)


@pytest.mark.parametrize(
    "kind", [list, lambda s: s.to(torch.int64), lambda s: s.half(), lambda s: s.float()]
)
def test_lists_of_other_types(exact, kind):
    levels = torch.tensor([64.0, 16.0, 4.0, 1.0, 0.0], dtype=torch.float64)
    assert torch.equal(
        sample_dpmpp_2m(exact, start(), kind(levels)), sample_dpmpp_2m(exact, start(), levels)
    )


def test_what_is_refused():
    with pytest.raises(AttributeError, match="did you mean 'sample_euler'"):
        _ = kdiffusion.sample_eular
    with pytest.raises(AttributeError, match="no attribute"):
        _ = kdiffusion.something
    with pytest.raises(fewstep.samplers.SamplerError, match="did you mean 's_churn'"):
        sample_euler(None, start(), LEVELS, s_chrun=1.0)
    with pytest.raises(ValueError, match="noise_sampler"):
        kdiffusion.sample_pc(None, start(), LEVELS, noise_sampler=lambda a, b: start())
    with pytest.raises(fewstep.samplers.SamplerError, match="did you mean 'solver_type'"):
        kdiffusion.sample_dpmpp_2m_sde(None, start(), LEVELS, solver_typ="heun")
    with pytest.raises(fewstep.samplers.SamplerError, match="unknown argument 'noise_sampler'"):
        sample_euler(None, start(), LEVELS, noise_sampler=None)
    with pytest.raises(ValueError, match="did you mean 'midpoint'"):
        kdiffusion.sample_dpmpp_2m_sde(_never, start(), LEVELS, solver_type="midpoit")
    with pytest.raises(TypeError, match="too many positional"):
        sample_euler(_never, start(), LEVELS, None, None, True, 0.0, 0.0, 1.0, 1.0, 3)
    with pytest.raises(TypeError, match="missing a required argument: 'sigmas'"):
        sample_euler(_never, start())
    with pytest.raises(TypeError, match="7 were given"):
        kdiffusion.sample_unipc(_never, start(), LEVELS, None, None, True, 3)


def _never(x, sigma):
    raise AssertionError("the model was called")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"callback": 3}, "callback=3"),
        ({"noise_sampler": 0.5}, "noise_sampler=0.5"),
        ({"extra_args": 3}, "extra_args=3"),
        ({"eta": -1.0}, "eta=-1.0"),
        ({"x": torch.zeros(2, 3, dtype=torch.int64)}, "int64"),
        ({"model": 3}, "model=3"),
    ],
)
def test_bad_arguments(given, said):
    arguments = {"model": _never, "x": start(), "sigmas": LEVELS, **given}
    with pytest.raises(ValueError, match=said):
        kdiffusion.sample_euler_ancestral(**arguments)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sigma_min": 0.0}, "sigma_min=0"),
        ({"sigma_min": 20.0, "eta": 0.5}, "eta=0.5 with sigma_min=20"),
        ({"sigma_max": math.nan}, "sigma_max=nan"),
        ({"sigma_max": "a"}, "sigma_max='a'"),
        ({"h_init": "a"}, "h0='a'"),
        ({"order": 4}, "order=4"),
        ({"return_info": 1}, "return_info=1"),
        ({"per_sample": True, "eta": 0.5}, "eta=0.5"),
    ],
)
def test_bad_ranges(given, said):
    with pytest.raises(ValueError, match=said):
        kdiffusion.sample_dpm_adaptive(
            _never, start(), **{"sigma_min": 0.1, "sigma_max": 10.0, **given}
        )


def test_ranges_are_float64_whatever_the_default_dtype_is(exact):
    """k-diffusion makes its times in torch's default dtype, so that float32 rounds them; the
    results here are those of float64."""
    outs = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            outs.append(
                [kdiffusion.sample_dpm_fast(exact, start(), 0.01, 80.0, n) for n in (1, 4, 6)]
            )
        finally:
            torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))


def test_integer_levels_under_churn(exact):
    """sigma_hat is floating point in the functions with churn, churned or not; the others show the
    level itself."""
    levels = torch.tensor([80, 20, 5, 1, 0])
    for function, churn, hat in (
        (sample_euler, {}, torch.float32),
        (sample_heun, {"s_churn": 2.0}, torch.float32),
    ):
        seen = []
        function(exact, start(), levels, callback=seen.append, **churn)
        assert {s["sigma"].dtype for s in seen} == {torch.int64} and {
            s["sigma_hat"].dtype for s in seen
        } == {hat}
    seen = []
    kdiffusion.sample_lms(exact, start(), levels, callback=seen.append)
    assert {s["sigma_hat"].dtype for s in seen} == {torch.int64}


def test_a_stage_beyond_the_step(exact):
    """r > 1: the stage is below the step's end; its noise comes from the same path, which reaches
    down to there."""
    seen = []
    torch.manual_seed(0)
    out = kdiffusion.sample_dpmpp_sde(
        lambda x, s: (seen.append(float(s[0])), exact(x, s))[1], start(), LEVELS[:-1], r=2.0
    )
    assert torch.isfinite(out).all() and seen[1] == pytest.approx(80.0 * (20.0 / 80.0) ** 2)
    assert min(seen) == pytest.approx(0.2 * 0.2 / 1.0)


def test_a_range_the_other_way(exact):
    """sigma_min > sigma_max goes toward noise, and back again to where it began."""
    x0 = kdiffusion.sample_dpm_adaptive(exact, start(), 0.01, 80.0, rtol=1e-5, atol=1e-6)
    back, info = kdiffusion.sample_dpm_adaptive(
        exact, x0, 80.0, 0.01, rtol=1e-5, atol=1e-6, return_info=True
    )
    assert info["n_accept"] > 10 and float((back - start()).abs().max()) < 1e-2
    again = kdiffusion.sample_dpm_fast(exact, x0, 80.0, 0.01, 300)
    assert float((again - start()).abs().max()) < 1e-2
    with pytest.raises(ValueError, match="equal"):
        kdiffusion.sample_dpm_fast(_never, start(), 2.0, 2.0, 5)


def test_lms_of_a_high_order(exact):
    """More than the steps have is cut, as there; more than 32 nodes in one step are refused."""
    assert torch.equal(
        kdiffusion.sample_lms(exact, start(), LEVELS, order=50),
        kdiffusion.sample_lms(exact, start(), LEVELS, order=5),
    )
    with pytest.raises(ValueError, match="order=33"):
        kdiffusion.sample_lms(_never, start(), torch.linspace(80.0, 0.0, 41), order=33)


def test_bad_answers(exact):
    with pytest.raises(TypeError, match="got tuple"):
        sample_euler(lambda x, sigma: (x,), start(), LEVELS)
    with pytest.raises(ValueError, match=r"noise_sampler returned shape \(5,\)"):
        kdiffusion.sample_euler_ancestral(
            exact, start(), LEVELS, noise_sampler=lambda a, b: torch.zeros(5)
        )
    with pytest.raises(ValueError, match="noise_sampler must return a tensor"):
        kdiffusion.sample_euler_ancestral(exact, start(), LEVELS, noise_sampler=lambda a, b: 0.0)
    # broadcast, as there
    ones = kdiffusion.sample_euler_ancestral(
        exact, start(), LEVELS, noise_sampler=lambda a, b: torch.ones(1)
    )
    assert torch.equal(
        ones,
        kdiffusion.sample_euler_ancestral(
            exact, start(), LEVELS, noise_sampler=lambda a, b: torch.ones_like(start())
        ),
    )
