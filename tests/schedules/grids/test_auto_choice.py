"""What ``grid="auto"`` stands for on every path, and the same of the defaults that a call without
them gets."""

from __future__ import annotations

import pytest

import fewstep
from fewstep.schedules import (
    EDM,
    VE,
    DiscreteVP,
    Flow,
    MeanReverting,
    Schedule,
    SubVP,
    Trig,
    VPCosine,
    VPLinear,
    VPSigmoid,
    grid,
)

TABLE = DiscreteVP.from_betas([1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)])
#: as documented in docs/grids.md
CHOICES = [
    (VPLinear(), "power", {"power": 3.0, "drop_last": True}),
    (VPCosine(), "lam", {"drop_last": True}),
    (VPSigmoid(), "lam", {"drop_last": True}),
    (SubVP(), "power", {"power": 2.0, "drop_last": True}),
    (TABLE, "lam", {"drop_last": True}),
    (VE(), "lam", {"drop_last": True}),
    (EDM(), "lam", {"drop_last": True}),
    (Flow(), "quadratic", {}),
    (Trig(), "quadratic", {}),
    (MeanReverting(0.5, VPLinear()), "lam", {"drop_last": True}),
]


@pytest.mark.parametrize(
    ("schedule", "name", "options"), CHOICES, ids=[type(s).__name__ for s, _, _ in CHOICES]
)
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_auto_is_this_grid(
    schedule: Schedule, name: str, options: dict[str, object], final: str
) -> None:
    for steps in (1, 2, 7):
        found, want = (
            grid("auto", schedule, steps, final=final),
            grid(name, schedule, steps, final=final, **options),
        )
        assert found.times == want.times
        assert fewstep.plan("ddim", schedule, steps=steps, final=final).nodes == want.nodes


def test_defaults_of_a_plan() -> None:
    """20 steps to sigma = 0 on the automatic grid; ``nfe`` is the most that fits."""
    made = fewstep.plan("dpmpp_2m", VPLinear())
    assert made == fewstep.plan("dpmpp_2m", VPLinear(), steps=20, grid="auto", final="zero")
    assert (made.steps, made.nfe, made.end.sigma) == (20, 20, 0.0)
    for nfe, steps in ((7, 4), (8, 4), (9, 5)):  # Heun's last step to sigma = 0 is Euler's
        assert fewstep.plan("heun", VPLinear(), nfe=nfe).steps == steps
    own = grid("karras", VPLinear(), 5)
    assert fewstep.plan("ddim", VPLinear(), grid=own).nodes == own.nodes
    assert fewstep.plan("ddim", VPLinear(), sigmas=[3.0, 1.0, 0.2]).steps == 2
    for bad in (
        {"steps": 4, "grid": own},
        {"grid": own, "start": 0.5},
        {"grid": own, "times": [0.5, 0.1]},
        {"steps": 3, "times": [0.5, 0.1]},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            fewstep.plan("ddim", VPLinear(), **bad)
    with pytest.raises(ValueError, match="belongs"):
        fewstep.plan("ddim", EDM(), grid=own)


@pytest.mark.parametrize("sigma_inf", [0.5, 2.0])
def test_a_mean_reverting_path_moves_its_base_in_lam(sigma_inf: float) -> None:
    """``lam = lam_base - log sigma_inf``: the cut of infinite ends too, so that its grids in lam
    are those of the base."""
    import math

    zero = TABLE.rescale_zero_snr()
    for base in (VPLinear(), VPCosine(), TABLE, zero):
        path = MeanReverting(sigma_inf, base)
        shift = math.log(sigma_inf)
        assert (path.lam_start, path.lam_end) == (base.lam_start - shift, base.lam_end - shift)
        for t in (0.3 * base.t_max, 0.9 * base.t_max):
            assert path.lam(t) == pytest.approx(base.lam(t) - shift, rel=1e-12)
            assert path.t_of_lam(path.lam(t)) == pytest.approx(t, rel=1e-9)
            assert path.dlam(t) == pytest.approx(base.dlam(t), rel=1e-12)
            assert path.g2(t) == pytest.approx(
                2.0 * path.sigma(t) * path.dsigma(t) - 2.0 * path.f(t) * path.sigma(t) ** 2,
                rel=1e-9,
            )
        for name in ("lam", "karras"):
            found, want = grid(name, path, 6), grid(name, base, 6)
            if name == "lam":
                assert found.times == pytest.approx(want.times, rel=1e-9)
            assert found[0].t == base.t_max
