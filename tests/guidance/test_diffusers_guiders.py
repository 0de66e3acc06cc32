"""The guiders of diffusers on the same predictions: where they agree with ours, and where not."""

from __future__ import annotations

import pytest
import torch
from methods import images, pair
from problems import F64

from fewstep.guidance import APG, CFG, FDG, MAMBO, TCFG, CFGZero, Threshold
from fewstep.guidance.combinations.pyramid import down, up
from fewstep.models import RunFacts
from fewstep.schedules import Flow, VPLinear

guiders = pytest.importorskip("diffusers.guiders")
utils = pytest.importorskip("diffusers.guiders.guider_utils")
W = 5.0


def enabled(name, **given):
    made = getattr(guiders, name)(guidance_scale=W, **given)
    made.set_state(step=given.pop("step", 0), num_inference_steps=10, timestep=torch.tensor(500))
    return made


def ours(den, cond, uncond):
    return den.mix([uncond, cond], cond, [0.5])


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_diffusers_rescale_noise_cfg(dtype):
    cond, uncond = pair(4, 3, 8, 8, dtype=dtype)
    for share in (0.3, 0.7, 1.0):
        guided = uncond + W * (cond - uncond)
        wanted = utils.rescale_noise_cfg(guided, cond, share)
        found = ours(CFG(images(VPLinear()), W, rescale=share), cond, uncond)
        tolerance = 1e-13 if dtype == F64 else 3e-6
        assert torch.allclose(found, wanted, rtol=tolerance, atol=tolerance)


def test_diffusers_adaptive_projected_guidance_in_the_papers_formulation():
    """``use_original_formulation`` adds the update to the conditional prediction, with the paper's
    w - 1 as the scale; their eta and rescale (r) are ours, on the network's own prediction."""
    cond, uncond = pair(4, 3, 8, 8)
    for eta, norm in ((0.0, 4.0), (0.3, 1e9), (1.0, 2.0)):
        guider = guiders.AdaptiveProjectedGuidance(
            guidance_scale=W - 1.0, adaptive_projected_guidance_rescale=norm, eta=eta,
            use_original_formulation=True,
        )  # fmt: skip
        wanted = guider.forward(cond, uncond).pred
        den = APG(images(VPLinear()), W, eta=eta, norm=norm, on="prediction")
        assert torch.allclose(ours(den, cond, uncond), wanted, rtol=1e-12, atol=1e-12)


def test_diffusers_adaptive_projected_guidance_by_default_is_another_formula():
    """By default it adds w times the update to the unconditional prediction: the paper's formula
    only for eta = 1 and updates below r; else it differs by d less the update."""
    cond, uncond = pair(4, 3, 8, 8)
    guider = guiders.AdaptiveProjectedGuidance(
        guidance_scale=W, adaptive_projected_guidance_rescale=4.0, eta=0.2
    )
    wanted = guider.forward(cond, uncond).pred
    den = APG(images(VPLinear()), W, eta=0.2, norm=4.0, on="prediction")
    found = ours(den, cond, uncond)
    update = (found - cond) / (W - 1.0)
    assert torch.allclose(wanted - found, update - (cond - uncond), rtol=1e-10, atol=1e-10)
    assert not torch.allclose(wanted, found, atol=1e-2)
    same = guiders.AdaptiveProjectedGuidance(
        guidance_scale=W, adaptive_projected_guidance_rescale=1e9
    )
    den = APG(images(VPLinear()), W, eta=1.0, on="prediction")
    assert torch.allclose(
        ours(den, cond, uncond), same.forward(cond, uncond).pred, rtol=1e-12, atol=1e-12
    )


def test_diffusers_momentum_buffer():
    module = pytest.importorskip("diffusers.guiders.adaptive_projected_guidance")
    buffer = module.MomentumBuffer(-0.5)
    plain = APG(images(VPLinear()), W, eta=0.2, norm=4.0, momentum=-0.5, on="prediction")
    den = plain.for_run(RunFacts((), (0, 1, 2, 3)))
    for seed in range(4):
        cond, uncond = pair(4, 3, 8, 8, seed=seed)
        wanted = module.normalized_guidance(cond, uncond, W - 1.0, buffer, 0.2, 4.0, True)
        den._calls += 1  # what a network call counts
        assert torch.allclose(ours(den, cond, uncond), wanted, rtol=1e-12, atol=1e-12)


def test_diffusers_classifier_free_zero_star_guidance():
    cond, uncond = pair(4, 3, 8, 8, dtype=torch.float32)
    guider = enabled("ClassifierFreeZeroStarGuidance")
    assert bool((guider.forward(cond, uncond).pred == 0.0).all())  # the first step
    guider.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(400))
    wanted = guider.forward(cond, uncond).pred
    found = ours(CFGZero(images(Flow()), W), cond, uncond)
    assert torch.allclose(found.float(), wanted, rtol=1e-5, atol=1e-5)
    assert CFGZero(images(Flow()), W).zero_steps == guider.zero_init_steps == 1


def test_diffusers_tangential_classifier_free_guidance():
    cond, uncond = pair(4, 3, 8, 8, dtype=torch.float32)
    wanted = enabled("TangentialClassifierFreeGuidance").forward(cond, uncond).pred
    found = ours(TCFG(images(VPLinear()), W, on="prediction"), cond, uncond)
    assert torch.allclose(found.float(), wanted, rtol=1e-5, atol=2e-5)


def test_diffusers_magnitude_aware_guidance():
    """On tokens (B, N, C): for images its norm over three axes raises a RuntimeError."""
    cond, uncond = pair(4, 24, 8)
    for alpha in (0.5, 8.0):
        wanted = enabled("MagnitudeAwareGuidance", alpha=alpha).forward(cond, uncond).pred
        found = ours(MAMBO(images(VPLinear()), W, alpha=alpha, on="prediction"), cond, uncond)
        assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-12)


def kornia_down(image):
    """``kornia.geometry.pyrdown``: the binomial filter over mirrored borders, then a bilinear
    interpolation to half the size."""
    return torch.nn.functional.interpolate(
        filtered(image), scale_factor=0.5, mode="bilinear", align_corners=False
    )


def kornia_up(image):
    """``kornia.geometry.pyrup``: a bilinear interpolation to twice the size, then the filter."""
    size = [2 * n for n in image.shape[-2:]]
    return filtered(
        torch.nn.functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
    )


def filtered(image):
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], dtype=image.dtype) / 16.0
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect")
    kernel = torch.outer(row, row).expand(image.shape[1], 1, 5, 5)
    return torch.nn.functional.conv2d(padded, kernel, groups=image.shape[1])


def test_diffusers_frequency_decoupled_guidance_with_the_pyramid_of_kornia():
    """diffusers' guider needs kornia; its formulas by torch's own operations, for powers of two."""
    cond, uncond = pair(2, 3, 16, 8)
    assert torch.allclose(down(cond), kornia_down(cond), rtol=0, atol=1e-14)
    assert torch.allclose(up(cond, (32, 16)), kornia_up(cond), rtol=0, atol=1e-14)
    scales, weights = (10.0, 5.0), (0.5, 1.0)

    def levels(image):
        smaller = kornia_down(image)
        return [image - kornia_up(smaller), smaller]

    made = []
    for w, share, c, u in zip(scales, weights, levels(cond), levels(uncond), strict=True):
        unit = c / c.flatten(1).norm(dim=1)[:, None, None, None]
        d = c - u
        along = (d * unit).sum((1, 2, 3), keepdim=True) * unit
        made.append(u + w * (share * along + d - along))
    wanted = kornia_up(made[1]) + made[0]
    den = FDG(images(VPLinear()), scales, parallel_weights=weights, on="prediction")
    assert torch.allclose(ours(den, cond, uncond), wanted, rtol=1e-12, atol=1e-12)


def test_diffusers_frequency_decoupled_guidance():
    pytest.importorskip("kornia")
    cond, uncond = pair(2, 3, 16, 8, dtype=torch.float32)
    for weights in (None, [0.5, 1.0]):
        guider = guiders.FrequencyDecoupledGuidance([10.0, 5.0], parallel_weights=weights)
        guider.set_state(step=0, num_inference_steps=10, timestep=torch.tensor(500))
        wanted = guider.forward(cond, uncond).pred
        more = {} if weights is None else {"parallel_weights": weights, "on": "prediction"}
        found = ours(FDG(images(VPLinear()), (10.0, 5.0), **more), cond, uncond)
        assert torch.allclose(found.float(), wanted, rtol=1e-5, atol=1e-5)


def test_diffusers_dynamic_thresholding():
    """``sample_max_value`` is our ``maximum``; its default 1 clips statically."""
    from diffusers import DDIMScheduler

    data = 2.0 * torch.randn(4, 3, 10, 10)
    for maximum in (1.0, 1.5, 100.0):
        theirs = DDIMScheduler(
            thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=maximum
        )
        found = Threshold(images(VPLinear()), quantile=0.9, maximum=maximum).thresholded(data)
        assert torch.allclose(found, theirs._threshold_sample(data), rtol=0, atol=1e-6)
    theirs = DDIMScheduler(thresholding=True)
    static = Threshold(images(VPLinear()), "static").thresholded(data)
    assert torch.allclose(theirs._threshold_sample(data), static, rtol=0, atol=1e-6)
