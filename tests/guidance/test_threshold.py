"""Thresholding of the predicted data around any denoiser."""

from __future__ import annotations

import math

import pytest
import torch
from methods import images
from problems import F64, GRIDS, PATHS, SAMPLERS, Recorder

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG, Threshold
from fewstep.guidance.combinations.threshold import absolute_quantile
from fewstep.models import MeanReverted, convert_prediction, wrap
from fewstep.schedules import DiscreteVP, Flow, MeanReverting, VPLinear

LABELS = torch.tensor([0, 1, 0])


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.5, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("count", [1, 2, 60, 1001])
def test_the_quantile_is_linear_between_two_elements(quantile, count):
    data = torch.randn(4, count, dtype=F64)
    wanted = data.abs().quantile(quantile, dim=1)
    assert torch.allclose(absolute_quantile(data, quantile).flatten(), wanted, rtol=1e-12)


def test_dynamic_thresholding():
    data = 2.0 * torch.randn(4, 3, 10, 10, dtype=F64)
    data[0] *= 0.2
    den = Threshold(images(VPLinear()), quantile=0.9)
    s = data.abs().flatten(1).quantile(0.9, dim=1).clamp(min=1.0)[:, None, None, None]
    assert float(s.min()) == 1.0 and float(s.max()) > 2.0
    wanted = torch.maximum(torch.minimum(data, s), -s) / s
    assert torch.allclose(den.thresholded(data), wanted, rtol=0, atol=1e-15)
    assert float(den.thresholded(data).abs().max()) <= 1.0
    inside = 0.9 * data / data.abs().amax((1, 2, 3), keepdim=True)
    assert torch.equal(den.thresholded(inside), inside)
    limited = Threshold(images(VPLinear()), quantile=0.9, maximum=1.5)
    s = s.clamp(max=1.5)
    wanted = torch.maximum(torch.minimum(data, s), -s) / s
    assert torch.allclose(limited.thresholded(data), wanted, rtol=0, atol=1e-15)


def test_static_thresholding():
    data = 2.0 * torch.randn(4, 3, 10, 10, dtype=F64)
    assert torch.equal(
        Threshold(images(VPLinear()), "static").thresholded(data), data.clamp(-1.0, 1.0)
    )


@pytest.mark.parametrize("mode", ["dynamic", "static"])
@pytest.mark.parametrize("name", PATHS)
def test_main_is_thresholded_and_the_other_channels_are_as_they_are(name, mode):
    path = PATHS[name]
    guided = CFG(images(path), 6.0)
    den = Threshold(guided, mode)
    assert den.prediction == "x0" and den.channels == guided.channels and den.guided
    x = torch.randn(3, *den.shape, dtype=F64)
    t = 0.3
    raws = den.raws(x, t, LABELS, den.channels)
    own = guided.raws(x, t, LABELS, den.channels)

    def value(of, outputs, channel):
        p, qs = of.coefficients(t, channel)
        v = p * x + sum(q * r for q, r in zip(qs, outputs, strict=True))
        return convert_prediction(v, x, t, of.prediction, "x0", path)

    plain = value(guided, own, "main")
    assert float(plain.abs().max()) > 1.2
    assert torch.allclose(value(den, raws, "main"), den.thresholded(plain), rtol=0, atol=1e-12)
    assert torch.allclose(den(x, t, LABELS), den.thresholded(plain), rtol=0, atol=1e-12)
    for channel in ("cond", "uncond"):
        wanted = value(guided, own, channel)
        assert torch.allclose(value(den, raws, channel), wanted, rtol=1e-12, atol=1e-12)
    # without the main channel nothing is computed
    assert len(den.raws(x, t, LABELS, ("uncond",))) == len(raws)


def test_the_end_of_a_run_is_in_the_range_of_the_data():
    for name, path in PATHS.items():
        plain = images(path)
        given = {"steps": 4, "grid": GRIDS[name], "n": 3, "cond": LABELS, "dtype": F64}
        assert float(fewstep.sample(CFG(plain, 6.0), "ddim", **given).abs().max()) > 1.2
        for mode in ("dynamic", "static"):
            out = fewstep.sample(Threshold(CFG(plain, 6.0), mode), "ddim", **given)
            assert float(out.abs().max()) <= 1.0 + 1e-12


def test_data_in_range_are_not_changed():
    """Means within 0.2 and little variance: thresholding never acts, in any sampler."""
    for name, path in PATHS.items():
        small = fewstep.models.GaussianMixture(
            [[0.2, -0.1], [-0.2, 0.1]], 0.01, [0.5, 0.5], path, "velocity"
        )
        cond = torch.tensor([0, 1])
        given = {"steps": 5, "grid": GRIDS[name], "n": 2, "cond": cond, "dtype": F64}
        for sampler in SAMPLERS:
            plain = fewstep.sample(small, sampler, **given)
            found = fewstep.sample(Threshold(small), sampler, **given)
            assert torch.allclose(found, plain, rtol=0, atol=1e-9)


def test_times_of_single_samples():
    den = Threshold(CFG(images(Flow()), 6.0))
    x, t = torch.randn(3, *den.shape, dtype=F64), torch.tensor([0.2, 0.5, 0.9], dtype=F64)
    every = den(x, t, LABELS)
    for i in range(3):
        one = den(x[i : i + 1], float(t[i]), LABELS[i : i + 1])
        assert torch.allclose(every[i : i + 1], one, rtol=0, atol=1e-12)


def test_the_data_of_a_mean_reverting_path():
    path = MeanReverting(0.6, VPLinear())
    mu = 0.5 * torch.randn(2, 6, dtype=F64)
    network = wrap(lambda x, t, cond: 3.0 * torch.tanh(x), path, "eps", shape=(6,))
    plain = MeanReverted(network, mu, per_sample=True)
    den = Threshold(plain, "static")
    x = 2.0 * torch.randn(2, 6, dtype=F64)
    data = convert_prediction(plain(x, 0.4), x, 0.4, "eps", "x0", path) + mu
    assert float(data.abs().max()) > 1.0
    assert torch.allclose(den(x, 0.4) + mu, data.clamp(-1.0, 1.0), rtol=0, atol=1e-12)
    rows = torch.tensor([1])
    chosen = den.select(rows)
    assert torch.allclose(chosen(x[1:], 0.4), den(x, 0.4)[1:], rtol=0, atol=1e-12)


def test_an_eps_network_at_alpha_0_is_refused_before_the_first_call():
    path = DiscreteVP.from_alphas_cumprod(torch.linspace(0.999, 0.0, 20, dtype=F64))
    network = Recorder(path)
    given = {"steps": 3, "grid": "trailing", "n": 2, "shape": (4,)}
    with pytest.raises(ArgumentError, match="predicts eps says nothing about x0"):
        fewstep.sample(Threshold(network), "ddim", **given)
    assert not network.calls
    network.prediction = "v"
    assert bool(fewstep.sample(Threshold(network), "ddim", **given).isfinite().all())


def test_what_makes_no_sense_is_refused():
    den = Recorder(VPLinear())
    for given, message in (
        ({"mode": "dynamical"}, r"dynamical.*dynamic"),
        ({"mode": "static", "quantile": 0.9}, "quantile=0.9 with mode='static'"),
        ({"mode": "static", "maximum": 2.0}, "maximum=2.0 with mode='static'"),
        ({"quantile": 1.5}, "quantile=1.5"),
        ({"quantile": math.nan}, "quantile=nan"),
        ({"maximum": 0.5}, "maximum=0.5"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Threshold(den, **given)
    latents = wrap(lambda x, t: x, VPLinear(), "eps", shape=(4,), latent=True)
    for model in (latents, CFG(latents, 2.0, torch.zeros(1))):
        with pytest.raises(ArgumentError, match="latents of an autoencoder"):
            Threshold(model)
    assert "quantile=0.995" in repr(Threshold(den)) and "'static'" in repr(Threshold(den, "static"))
