"""Which backend computes: chosen, automatic, refused; and the check before a kernel is used."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.fused import SeededNoise, devices, linear_backend, linear_step, noise_backend
from fewstep.fused.linear import device, launch, step_checks
from fewstep.fused.linear.dispatch import backends_described
from fewstep.fused.linear.native import KERNEL

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def fresh(monkeypatch):
    """No variant was checked and no device has failed."""
    monkeypatch.setattr(devices, "_verified", set())
    monkeypatch.setattr(devices, "_failed", {})


def step(place):
    x, out = torch.ones(2, 3, device=place), torch.zeros(2, 3, device=place)
    linear_step([out], [x], [[2.0]])
    return out


def test_triton_is_chosen_and_the_former_choice_restored(place):
    before = linear_backend(), KERNEL.device
    with linear_backend("triton") as used:
        assert used == "triton" == linear_backend(device=place)
        with linear_backend("torch"):
            assert linear_backend(device=place) == "torch"
            if KERNEL.code is not None:
                with linear_backend("native"):
                    assert linear_backend() == "native"
        assert linear_backend(device=place) == "triton"
    assert (linear_backend(), KERNEL.device) == before


@pytest.mark.parametrize("choose", [linear_backend, noise_backend])
def test_triton_is_refused_where_it_is_not(choose, monkeypatch):
    with pytest.raises(ArgumentError, match="did you mean 'triton'"):
        choose("tritn")
    monkeypatch.setattr(devices, "installed", lambda: True)
    monkeypatch.setattr(devices, "interpreted", lambda: False)
    monkeypatch.setattr(devices, "cuda_present", lambda: False)
    with pytest.raises(ArgumentError, match="there is no CUDA device"):
        choose("triton")
    monkeypatch.setattr(devices, "installed", lambda: False)
    with pytest.raises(ArgumentError, match="triton is not installed"):
        choose("triton")


def test_cuda_is_automatic(monkeypatch, fresh):
    """Triton where it is installed and has not failed; a CPU never, unless it is asked for."""
    monkeypatch.setattr(devices, "installed", lambda: True)
    assert KERNEL.on(CUDA) == "triton" and KERNEL.on(CPU) in ("native", "torch")
    for name, there in (("torch", "torch"), ("triton", "triton")):
        monkeypatch.setattr(devices, "cuda_present", lambda: True)
        with linear_backend(name):
            assert KERNEL.on(CUDA) == there
    devices._failed[CUDA] = "a reason"
    assert KERNEL.on(CUDA) == "torch"
    with linear_backend("triton"), pytest.raises(ArgumentError, match="on cuda:0: a reason"):
        KERNEL.on(CUDA)
    monkeypatch.setattr(devices, "_failed", {})
    monkeypatch.setattr(devices, "installed", lambda: False)
    assert KERNEL.on(CUDA) == "torch"


def test_a_missing_triton_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    devices.installed.cache_clear()
    try:
        with caplog.at_level(logging.DEBUG, "fewstep.fused"):
            assert not devices.installed() and not devices.installed()
            assert KERNEL.on(CUDA) == "torch"
    finally:
        devices.installed.cache_clear()
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG and "triton is not installed" in record.getMessage()


def broken(monkeypatch, how):
    """A kernel that computes something else, or none that can be compiled."""
    run = launch.launch

    def wrong(variant, outs, *args):
        if how == "error":
            raise RuntimeError("no such instruction")
        run(variant, outs, *args)
        outs[0].mul_(1.001)

    monkeypatch.setattr(launch, "launch", wrong)
    monkeypatch.setattr(device, "launch", wrong)


@pytest.mark.parametrize(("how", "why"), [("error", "no such instruction"), ("value", "differs")])
def test_a_kernel_that_fails_its_check_is_not_used(how, why, place, monkeypatch, fresh):
    broken(monkeypatch, how)
    monkeypatch.setattr(KERNEL, "device", "triton")  # as on CUDA; put back at the end
    monkeypatch.setattr(type(KERNEL), "by_triton", lambda self, d: not devices.failure(d))
    with pytest.warns(RuntimeWarning, match=f"torch operations compute instead: .*{why}"):
        assert bool((step(place) == 2.0).all())
    # no second warning, which would be an error here
    assert bool((step(place) == 2.0).all())


def test_what_was_asked_for_is_not_replaced(place, monkeypatch, fresh):
    broken(monkeypatch, "value")
    with (
        linear_backend("triton"),
        pytest.warns(RuntimeWarning, match="differs"),
        pytest.raises(ArgumentError, match="'triton' cannot be used on"),
    ):
        step(place)


def test_a_variant_is_checked_once(place, monkeypatch, fresh):
    checked = []
    wrong = device.wrong
    monkeypatch.setattr(device, "wrong", lambda *args: checked.append(args) or wrong(*args))
    with linear_backend("triton"):
        for _ in range(3):
            step(place)
    assert len(checked) == 1


def test_the_check_finds_a_wrong_term(place, fresh):
    """Every kind of mistake that it is there for: a coefficient, a sign, a noise, a rounding."""
    tile = devices.tile(3, 40)
    for table, ins in ((0, (torch.float32, torch.float32)), (2, (torch.float32, None))):
        variant = launch.Variant(
            (3, 1),
            (torch.float32,) * 2,
            ins,
            torch.float32,
            False,
            (),
            table,
            False,
            tile,
            False,
            False,
            True,
        )
        assert launch.wrong(variant, place, 3, 40) is None
        other = variant._replace(masks=(3, 2))
        run = launch.launch
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                launch, "launch", lambda _, *args, other=other, run=run: run(other, *args)
            )
            assert "differs" in str(launch.wrong(variant, place, 3, 40))


def test_bad_steps_are_refused():
    x = torch.ones(2, 3)
    with pytest.raises(TypeError, match="floating point numbers, got Tensor torch.int64"):
        linear_step([x.clone()], [x.long()], [[1.0]])
    with pytest.raises(TypeError, match="dense"):
        linear_step([x.clone()], [x.to_sparse()], [[1.0]])
    drawn = SeededNoise((1, 2)).later(0, x)
    with pytest.raises(TypeError, match="dense"):
        linear_step([drawn], [x], [[1.0]])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="all must have one shape"):
        linear_step([x.clone()], [SeededNoise((1, 2)).later(0, torch.ones(2, 4))], [[1.0]])
    for clamp, text in (
        ([1.0], "must be \\(low, high\\), or None"),
        ([(1.0, 0.0)], "low <= high"),
        ([], "for each of 1 outputs"),
        ("no", "for each of 1 outputs"),
        ([(0.0, float("nan"))], "high of clamp"),
    ):
        with pytest.raises(ArgumentError, match=text):
            linear_step([x.clone()], [x], [[1.0]], clamp=clamp)


def test_mixed_devices_are_refused():
    """A device that is none, so that it needs no GPU."""

    class There(torch.Tensor):
        device = CUDA  # type: ignore[assignment]

    x = torch.ones(2, 3)
    with pytest.raises(ArgumentError, match=r"on \['cpu', 'cuda:0'\]; all must be on one device"):
        step_checks.check_step([x.clone()], [x.as_subclass(There)], [[1.0]])


def test_the_torch_form_draws_and_clamps():
    x = torch.linspace(-1.0, 1.0, 12).view(2, 6)
    noise, out = SeededNoise((1, 2)), torch.empty(2, 6)
    linear_step([out], [x, noise.later(3, x)], [[1.0, 0.5]])
    assert torch.equal(out, torch.add(x, noise(3, x), alpha=0.5))
    for dtype in (torch.float32, torch.bfloat16):
        out = torch.empty(2, 6, dtype=dtype)
        linear_step([out], [x], [[2.0]], clamp=[(-0.5, 1.0)])
        assert torch.equal(out, (2.0 * x).clamp(-0.5, 1.0).to(dtype))


def test_explain_names_the_backends(monkeypatch):
    plan = fewstep.plan("ddim", fewstep.schedules.VPLinear(), steps=2)
    assert "step on" not in plan.explain()
    with linear_backend("torch"):
        text = plan.explain(backend=True)
        assert text.startswith(plan.explain() + "\nstep on cpu: torch (operations")
        assert text.endswith("step on cuda: torch (operations; chosen)")
    if KERNEL.code is not None:
        with linear_backend("native"):
            assert "step on cpu: native (compiled kernel, one pass)" in backends_described()
    monkeypatch.setattr("fewstep.fused.linear.dispatch.installed", lambda: False)
    assert "step on cuda: torch (operations; triton is not installed)" in backends_described()
    monkeypatch.setattr("fewstep.fused.linear.dispatch.installed", lambda: True)
    monkeypatch.setattr("fewstep.fused.linear.dispatch.cuda_present", lambda: False)
    assert "triton (automatic, one launch a step); there is no CUDA device" in backends_described()
    monkeypatch.setattr("fewstep.fused.linear.dispatch.cuda_present", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert "compared with torch at its first use" in backends_described()
    monkeypatch.setattr(devices, "_failed", {CUDA: "a reason"})
    assert "triton failed its check: a reason" in backends_described()


@pytest.mark.slow
def test_the_environment_chooses_triton():
    code = "from fewstep.fused import linear_backend as f; print(f(), f(device='cpu'))"
    done = subprocess.run(
        [sys.executable, "-c", code + "; import sys; print('triton' in sys.modules)"],
        env={**os.environ, "FEWSTEP_LINEAR": "triton", "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    if not devices.installed():
        assert "triton is not installed" in done.stderr
    else:
        assert done.stdout.split() == ["triton", "triton", "False"], done.stderr
