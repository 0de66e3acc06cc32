"""Forward models that are not linear: derivatives, inverses, definitions, and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from operator_table import NONLINEAR, Case, draw
from PIL import Image
from problems import F64

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import DPS, MMPS, Gaussian, Loss, operators, solve
from fewstep.guidance.operators.jpeg import CHROMINANCE, LUMINANCE

HDR, JPEG = operators.HDR, operators.JPEG
PhaseRetrieval, Quantisation = operators.PhaseRetrieval, operators.Quantisation
#: whose derivative is that of automatic differentiation
SMOOTH = ("callable", "phase retrieval", "phase retrieval, odd", "hdr")


@pytest.fixture(params=NONLINEAR)
def case(request: Any) -> Case:
    return NONLINEAR[request.param]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, F64])
def test_data_follow_the_state(case, dtype):
    x = 0.5 * draw(3, *case.shape).to(dtype)
    y = case.operator(x)
    assert y.dtype == torch.promote_types(dtype, torch.float32)
    assert y.shape[1:] == case.operator.measured(case.shape)
    for i in range(3):
        assert torch.allclose(case.operator(x[i : i + 1]), y[i : i + 1], atol=1e-5)


def test_has_says_what_there_is(case):
    op = case.operator
    assert not op.linear and op.has == case.has
    for refused in (lambda: op.prox(draw(1, 2), draw(1, 2), 1.0), lambda: op.norm((2,))):
        with pytest.raises(ArgumentError, match="not linear"):
            refused()


def test_the_inverse_keeps_the_measurement(case):
    y = case.operator(draw(3, *case.shape))
    if "pinverse" not in case.has:
        with pytest.raises(ArgumentError, match="no pseudo-inverse"):
            case.operator.pinverse(y)
        return
    assert torch.allclose(case.operator(case.operator.pinverse(y)), y, atol=1e-10)


def test_the_norm_bound_is_a_lipschitz_constant(case):
    if "norm_bound" not in case.has:
        assert case.operator.norm_bound is None
        return
    x, z = 0.1 * draw(50, *case.shape), 0.1 * draw(50, *case.shape, seed=1)
    moved = (case.operator(x) - case.operator(z)).flatten(1).norm(dim=1)
    ratio = float((moved / (x - z).flatten(1).norm(dim=1)).max())
    assert 0.5 * case.operator.norm_bound < ratio <= case.operator.norm_bound * (1.0 + 1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_derivative_is_that_of_differences(name):
    case = NONLINEAR[name]
    x, u, h = draw(2, *case.shape), draw(2, *case.shape, seed=1), 1e-6
    at = case.operator.linearise(x)
    exact = (case.operator(x + h * u) - case.operator(x - h * u)) / (2.0 * h)
    assert torch.allclose(at.forward(u), exact, atol=1e-7)
    v = draw(*at.value.shape, seed=2)
    left, right = (at.forward(u) * v).sum(), (u * at.adjoint(v)).sum()
    assert torch.allclose(left, right, atol=1e-10)


def test_straight_through_is_the_derivative_without_rounding():
    x, v = draw(2, *NONLINEAR["quantisation"].shape), draw(2, 2, 4, 4, seed=1)
    at = Quantisation(5).linearise(x)
    inside = (x.abs() <= 1.0).double()
    assert torch.allclose(at.adjoint(v), inside * v) and torch.allclose(at.forward(v), inside * v)
    image, w = draw(2, 3, 8, 8), draw(2, 3, 8, 8, seed=1)
    assert torch.allclose(JPEG(50).linearise(image).adjoint(w), w, atol=1e-12)
    chroma = JPEG(50, "4:2:0").linearise(draw(1, 3, 16, 16))
    grey = draw(1, 1, 16, 16, seed=1).expand(1, 3, 16, 16)
    assert torch.allclose(chroma.forward(grey), grey, atol=1e-12)
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64).repeat(8, 8)
    red_green = torch.stack([0.114 * checks, 0.0 * checks, -0.299 * checks])[None]
    assert float(chroma.forward(red_green).abs().max()) < 1e-12  # no luminance, chroma averages 0


@pytest.mark.parametrize("op", [Quantisation(4, gradient="none"), JPEG(50, gradient="none")])
def test_without_a_gradient_methods_refuse(op):
    x = draw(1, 1, 8, 8).requires_grad_(True)
    assert not op(x).requires_grad
    with pytest.raises(ArgumentError, match="enkg"):
        op.linearise(x)
    likelihood = Gaussian(op, op(x.detach())[0])
    den = fewstep.models.GaussianMixture(
        torch.zeros(1, 1, 8, 8), 1.0, [1.0], fewstep.schedules.VPLinear()
    )
    for make in (MMPS, DPS):
        with pytest.raises(ArgumentError, match="enkg"):
            make(den, likelihood)
    with pytest.raises(ArgumentError, match="differentiabl"):
        solve(den, [Loss(likelihood)], "residual", steps=2, dtype=F64)


def test_magnitudes_are_those_of_the_padded_image():
    x = draw(2, 3, 4, 6)
    y = PhaseRetrieval(2.0)(x)
    wide = np.zeros((2, 3, 8, 12))
    wide[:, :, 2:6, 3:9] = x.numpy()
    exact = np.abs(np.fft.fftshift(np.fft.fft2(wide, norm="ortho"), axes=(-2, -1)))
    assert np.allclose(y.numpy(), exact, atol=1e-12)
    assert PhaseRetrieval(1.5)(torch.zeros(1, 1, 256, 256)).shape[-1] == 384
    for other in (-x, x.flip(-1, -2)):
        assert torch.allclose(PhaseRetrieval()(other), y, atol=1e-12)


def test_the_slope_of_a_magnitude_of_zero_is_zero():
    at = PhaseRetrieval().linearise(torch.zeros(1, 4, 4, dtype=F64))
    v = torch.ones_like(at.value)
    assert not at.value.any() and not at.adjoint(v).any()
    assert not at.forward(torch.ones(1, 4, 4, dtype=F64)).any()


def test_an_exposure_saturates():
    x = torch.tensor([[-0.9, -0.2, 0.3, 0.7]], dtype=F64)
    at = HDR().linearise(x)
    assert torch.allclose(at.value, torch.tensor([[-1.0, -0.4, 0.6, 1.0]], dtype=F64))
    assert at.adjoint(torch.ones_like(x)).tolist() == [[0.0, 2.0, 2.0, 0.0]]


def test_levels_are_those_of_the_grid():
    x = torch.linspace(-1.3, 1.3, 1001, dtype=F64)[None]
    y = Quantisation(5)(x)
    assert sorted(set(y.flatten().tolist())) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert float((y - x.clamp(-1.0, 1.0)).abs().max()) <= 0.25


def compressed(image: Any, quality: int, **more: Any) -> Any:
    """What Pillow makes of it, and its tables."""
    kept = io.BytesIO()
    Image.fromarray(image).save(kept, "JPEG", quality=quality, **more)
    with Image.open(kept) as found:
        return np.asarray(found).astype(float), found.quantization


def smooth(*shape: int) -> Any:
    """Integers about 50 to 200."""
    x = operators.Blur.gaussian(1.0)(draw(1, *shape))[0]
    return (128.0 + 35.0 * x / x.std()).clamp(30.0, 225.0).round()


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 95, 100])
def test_tables_equal_those_of_pillow(quality):
    _, tables = compressed(np.zeros((8, 8, 3), np.uint8), quality)
    for i, base in enumerate((LUMINANCE, CHROMINANCE)):
        assert list(tables[i]) == [int(n) for n in JPEG(quality).table(base).flatten()]


@pytest.mark.parametrize("quality", [20, 50, 90])
@pytest.mark.parametrize(("channels", "most"), [(1, 0.8), (3, 1.6)])
def test_jpeg_is_near_that_of_pillow(quality, channels, most):
    x = smooth(channels, 32, 40)
    theirs = x.permute(1, 2, 0).numpy().astype(np.uint8)
    theirs, _ = compressed(theirs[..., 0] if channels == 1 else theirs, quality, subsampling=0)
    ours = (JPEG(quality)(x[None] / 127.5 - 1.0)[0] + 1.0) * 127.5
    away = np.abs(ours.permute(1, 2, 0).numpy() - theirs.reshape(32, 40, channels))
    lost = np.abs(x.permute(1, 2, 0).numpy() - theirs.reshape(32, 40, channels)).mean()
    # libjpeg rounds colours and pixels to integers; a rare coefficient then rounds apart
    assert away.mean() < most and np.median(away) < 1.0 and away.mean() < 0.5 * lost


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: PhaseRetrieval(0.5), "oversampling"),
        (lambda: PhaseRetrieval()(draw(1, 5)), "takes images"),
        (lambda: HDR(0.0), "gain"),
        (lambda: HDR(1.0, 2.0, 1.0), "smaller than high"),
        (lambda: Quantisation(1), "levels=1"),
        (lambda: Quantisation(2, 1.0, 1.0), "smaller than high"),
        (lambda: Quantisation(2, gradient="straight"), "straight-through"),
        (lambda: JPEG(0), "quality=0"),
        (lambda: JPEG(101), "quality=101"),
        (lambda: JPEG(50, "4:2:2"), "4:2:0"),
        (lambda: JPEG(50)(draw(1, 3, 12, 8)), "multiples of 8"),
        (lambda: JPEG(50, "4:2:0")(draw(1, 3, 8, 8)), "multiples of 16"),
        (lambda: JPEG(50)(draw(1, 2, 8, 8)), "1 or 3"),
        (lambda: PhaseRetrieval().adjoint(draw(1, 4, 4)), "no adjoint"),
    ],
)
def test_bad_input_is_refused(make, match):
    with pytest.raises(ArgumentError, match=match):
        make()
