"""k-diffusion's function form: the same results as the registry, its callback, its noise, its errors."""

import math

import pytest
import torch
from golden_cases import cases, start_noise
from golden_cases import model as golden_model

import fewstep
from fewstep.interop import kdiffusion
from fewstep.interop.kdiffusion import sample_dpmpp_2m, sample_euler, sample_heun
from fewstep.samplers import ALIASES, names
from fewstep.schedules import EDM

NAMES = sorted({a for a in ALIASES if a.startswith("sample_")} - set(kdiffusion.RANGES))
LEVELS = torch.tensor([80.0, 20.0, 5.0, 1.0, 0.2, 0.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def exact():
    den = golden_model(EDM(0.002, 120.0), "x0")  # churn goes above the first level
    return lambda x, sigma, **extra: den(x, float(sigma[0]))


def start():
    return 80.0 * start_noise()


def test_golden_run_of_k_diffusion_itself():
    """The same levels and start as a recorded run of k-diffusion's own function give its result."""
    chosen = [c for c in cases().values() if c.peer == "k-diffusion" and c.sampler == "sample_dpmpp_2m" and c.schedule == "edm"]
    assert chosen
    for case in chosen:
        den = golden_model(EDM(0.002, 80.0), "x0")
        sigmas = torch.tensor([*(call.sigma for call in case.calls), case.end.sigma], dtype=torch.float64)
        out = sample_dpmpp_2m(lambda x, s, den=den: den(x, float(s[0])), case.scale * start_noise(), sigmas, lower_order_final=False)
        assert float((out - case.out).abs().max()) < 1e-9


def test_the_callback_sees_every_step_once(exact):
    seen = []
    out = sample_heun(exact, start(), LEVELS, callback=seen.append)
    assert [s["i"] for s in seen] == [0, 1, 2, 3, 4]
    assert [float(s["sigma"]) for s in seen] == [float(s["sigma_hat"]) for s in seen] == LEVELS[:-1].tolist()
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
    assert set(map(str, seen)) == {str((torch.Size([8]), torch.float32, torch.float32, {"cond": 3}))}


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
    adaptive = kdiffusion.sample_dpm_adaptive(exact, start(), 0.01, 80.0, callback=seen.append, rtol=0.01, atol=1e-3)
    assert len(seen) > 3 and math.isclose(float(seen[0]["sigma"]), 80.0)
    assert float((fast - adaptive).abs().median()) < 0.2


def test_what_is_refused():
    with pytest.raises(AttributeError, match="did you mean 'sample_euler'"):
        _ = kdiffusion.sample_eular
    with pytest.raises(AttributeError, match="no attribute"):
        _ = kdiffusion.something
    with pytest.raises(fewstep.samplers.SamplerError, match="did you mean 's_churn'"):
        sample_euler(None, start(), LEVELS, s_chrun=1.0)
    with pytest.raises(ValueError, match="noise_sampler"):
        kdiffusion.sample_pc(None, start(), LEVELS, noise_sampler=lambda a, b: start())
    with pytest.raises(ValueError, match="at least two"):
        sample_euler(None, start(), LEVELS[:1])
