"""``Contrast`` and ``PAG`` against the guiders of diffusers, on random predictions."""

from __future__ import annotations

import pytest
import torch
from problems import F64

from fewstep.guidance import PAG, Contrast
from fewstep.models import BaseDenoiser
from fewstep.schedules import VPLinear

guiders = pytest.importorskip("diffusers.guiders")


class Given(BaseDenoiser):
    """A network with two given predictions: for a condition, and without one."""

    schedule, prediction, preserves_input = VPLinear(), "eps", True

    def __init__(self, cond, uncond=None):
        self.cond, self.uncond = cond, uncond

    def raws(self, x_in, t, cond=None, channels=("main",)):
        return (self.uncond if cond is None else self.cond,)

    def coefficients(self, t, channel="main"):
        return 0.0, (1.0,)


def predictions():
    random = torch.Generator().manual_seed(0)
    cond, uncond, perturbed = torch.randn(3, 2, 3, 4, 4, generator=random, dtype=F64)
    return cond, uncond, perturbed, Given(cond, uncond), Given(perturbed, perturbed)


def ours(den):
    return den(torch.zeros(2, 3, 4, 4, dtype=F64), 0.5, torch.zeros(2))


@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("scale", [2.0, 1.0, 0.0])
def test_autoguidance(scale, original):
    cond, _, perturbed, main, ref = predictions()
    peer = guiders.AutoGuidance(scale, 0, dropout=0.5, use_original_formulation=original)
    theirs = peer.forward(cond, perturbed).pred
    made = Contrast(main, ref, scale + 1.0 if original else scale)
    assert torch.allclose(ours(made), theirs, rtol=0, atol=1e-13)


def peers(name, w, s, original):
    given = {"guidance_scale": w, "use_original_formulation": original}
    if name == "pag":
        return guiders.PerturbedAttentionGuidance(
            perturbed_guidance_scale=s, perturbed_guidance_layers=0, **given
        )
    if name == "slg":
        return guiders.SkipLayerGuidance(
            skip_layer_guidance_scale=s, skip_layer_guidance_layers=0, **given
        )
    return guiders.SmoothedEnergyGuidance(seg_guidance_scale=s, seg_guidance_layers=0, **given)


@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("name", ["pag", "slg", "seg"])
def test_perturbed_guidance_with_cfg(name, original):
    cond, uncond, perturbed, main, ref = predictions()
    w, s = 4.5, 2.8
    peer = peers(name, w, s, original)
    peer.set_state(15, 100, torch.tensor(850))
    theirs = peer.forward(cond, uncond, perturbed).pred
    made = PAG(main, ref, s, cfg=w + 1.0 if original else w)
    assert torch.allclose(ours(made), theirs, rtol=0, atol=1e-13)
    # beyond the steps of the perturbation: classifier-free guidance alone
    peer.set_state(50, 100, torch.tensor(500))
    if name != "seg":  # which has no such limit by default
        theirs = peer.forward(cond, uncond, None).pred
        made = PAG(main, ref, s, cfg=w + 1.0 if original else w, interval=(0.0, 0.0))
        assert torch.allclose(ours(made), theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["pag", "slg", "seg"])
def test_perturbed_guidance_alone(name):
    """diffusers' own formulation counts s from the perturbed prediction: one more than the papers;
    its "original" formulation is that of the papers."""
    cond, _, perturbed, main, ref = predictions()
    for original, w, s in ((False, 1.0, 3.8), (True, 0.0, 2.8)):
        peer = peers(name, w, s, original)
        peer.set_state(15, 100, torch.tensor(850))
        theirs = peer.forward(cond, None, perturbed).pred
        made = ours(PAG(main, ref, 2.8))
        assert torch.allclose(made, theirs, rtol=0, atol=1e-13)
        assert torch.allclose(made, ours(Contrast(main, ref, 3.8)), rtol=0, atol=1e-13)
