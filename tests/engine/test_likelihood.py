"""Likelihoods against the closed form of a mixture."""

from __future__ import annotations

import math

import pytest
import torch

import fewstep
from fewstep.engine.likelihood import GradientError, angle_plan, bits_per_dim, probe_vectors
from fewstep.eval.solver.counting import Counting
from fewstep.models import GaussianMixture
from fewstep.models.wrapping import wrap
from fewstep.plans.running.loop import NumericalError
from fewstep.schedules import EDM, VE, Flow, SubVP, Trig, VPCosine, VPLinear
from fewstep.schedules.base import Schedule
from fewstep.schedules.kinds import ConversionError

SCHEDULES = [VPLinear(), VPCosine(), SubVP(), VE(0.01, 50.0), EDM(0.002, 80.0), Flow(), Trig()]


def mixture(schedule: Schedule, prediction: str = "v", dims: int = 2) -> GaussianMixture:
    means = torch.tensor([-1.3, 0.4, 1.7], dtype=torch.float64)[:, None] * torch.linspace(
        1.0, -0.4, dims, dtype=torch.float64
    )
    return GaussianMixture(
        means, torch.tensor([0.3, 0.2, 0.4]), torch.tensor([0.3, 0.5, 0.2]), schedule, prediction
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_exact_trace_finds_the_density_of_the_mixture(schedule: Schedule) -> None:
    kinds = {VPLinear: "eps", VPCosine: "x0", VE: "score", EDM: "x0", Flow: "velocity"}
    den = mixture(schedule, kinds.get(type(schedule), "v"))
    x0 = den.sample(12, 0)
    found = fewstep.log_prob(den, x0, info=True, prior=lambda x: den.log_prob(x, schedule.t_max))
    assert found.nats.dtype == torch.float64 and found.nats.shape == (12,) and found.nfe == 256
    assert (found.nats - den.log_prob(x0, schedule.t_min)).abs().max() < 1e-5


@pytest.mark.parametrize("schedule", [Flow(), Trig()], ids=lambda s: type(s).__name__)
def test_where_the_path_reaches_pure_noise_the_default_prior_is_exact_from_sigma_zero_on(
    schedule: Schedule,
) -> None:
    den = mixture(schedule)
    x0 = den.sample(8, 1)
    assert (fewstep.log_prob(den, x0) - den.log_prob(x0, 0.0)).abs().max() < 1e-5
    later = 0.05
    assert (
        fewstep.log_prob(den, x0, t=later, steps=40) - den.log_prob(x0, later)
    ).abs().max() < 1e-4


def test_the_default_prior_costs_what_is_left_of_the_data_at_t_max() -> None:
    den = mixture(VPLinear())
    x0 = den.sample(8, 1)
    found = fewstep.log_prob(den, x0, info=True, steps=48)
    missing = den.log_prob(found.latent, 1.0) - found.prior
    assert 1e-4 < missing.abs().max() < 0.05
    assert (found.nats + missing - den.log_prob(x0, den.schedule.t_min)).abs().max() < 1e-5


@pytest.mark.parametrize(("rule", "order"), [("heun", 2), ("rk4", 4)])
def test_the_error_falls_with_the_order_of_the_rule(rule: str, order: int) -> None:
    den = mixture(Flow())
    x0 = den.sample(2, 2)
    errors = [
        float((fewstep.log_prob(den, x0, steps=n, rule=rule) - den.log_prob(x0, 0.0)).abs().max())
        for n in ((24, 48) if order == 2 else (64, 128))
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.4)


@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_hutchinson_is_within_three_standard_errors(probe: str) -> None:
    den = mixture(Flow(), dims=12)
    x0 = den.sample(4, 3)
    exact = fewstep.log_prob(den, x0, steps=8)
    few, more = (
        fewstep.log_prob(
            den, x0, steps=8, trace="hutchinson", probe=probe, probes=n, info=True, seed=9
        )
        for n in (32, 128)
    )
    assert (
        few.standard_error is not None
        and more.standard_error is not None
        and float(more.standard_error.min()) > 1e-3
    )
    for found in (few, more):
        assert ((found.nats - exact) / found.standard_error).abs().max() < 3.0
    assert float((more.standard_error / few.standard_error).mean()) == pytest.approx(0.5, abs=0.15)


def test_rademacher_probes_are_exact_where_dimensions_do_not_mix() -> None:
    den = GaussianMixture(torch.tensor([[0.3, -0.2, 0.1]]), 0.5, torch.ones(1), Flow(), "v")
    x0 = den.sample(4, 0)
    found = fewstep.log_prob(den, x0, trace="hutchinson", info=True)
    assert found.standard_error is None and (found.nats - den.log_prob(x0, 0.0)).abs().max() < 1e-5


def test_probes_belong_to_seeds() -> None:
    den = mixture(Flow(), dims=5)
    x0 = den.sample(3, 4)
    options = {"trace": "hutchinson", "steps": 8}
    whole = fewstep.log_prob(den, x0, seeds=[5, 6, 7], **options)
    alone = fewstep.log_prob(den, x0[2:], seeds=[7], **options)
    other = fewstep.log_prob(den, x0[2:], seeds=[8], **options)
    assert torch.equal(whole[2:], alone) and not torch.equal(alone, other)
    e = probe_vectors((1, 2), torch.empty(2, 4000), 1, "rademacher")
    assert set(e.unique().tolist()) == {-1.0, 1.0} and abs(float(e.mean())) < 4.5 / math.sqrt(8000)


def test_a_wrapped_network_with_preconditioning_and_its_dtype() -> None:
    exact = mixture(EDM(), "x0")
    seen = []

    def network(x_in: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        seen.append(x_in.dtype)
        sigma = torch.exp(4.0 * c_noise.double())
        y = x_in.double() * (sigma**2 + 0.25).sqrt()[:, None]
        D = exact(y, min(float(sigma[0]), 80.0))
        return (
            (D - 0.25 / (sigma**2 + 0.25)[:, None] * y)
            / (sigma * 0.5 / (sigma**2 + 0.25).sqrt())[:, None]
        ).to(x_in.dtype)

    den = wrap(network, EDM(), "x0", time="c_noise", precondition="edm", shape=(2,))
    x0 = exact.sample(5, 0)
    want = fewstep.log_prob(exact, x0, steps=16)
    assert (fewstep.log_prob(den, x0, steps=16) - want).abs().max() < 1e-6
    seen.clear()
    single = fewstep.log_prob(den, x0.float(), steps=16)
    assert (
        set(seen) == {torch.float32}
        and single.dtype == torch.float64
        and (single - want).abs().max() < 0.05
    )


def test_bits_per_dimension() -> None:
    nats = torch.tensor([-math.log(2.0) * 6.0], dtype=torch.float64)
    assert float(bits_per_dim(nats, 2)) == pytest.approx(3.0 + 7.0)
    assert float(bits_per_dim(nats, 2, low=0.0)) == pytest.approx(3.0 + 8.0)
    den = GaussianMixture(torch.zeros(1, 3), 1.0, torch.ones(1), Flow(), "v")
    found = fewstep.log_prob(den, torch.zeros(1, 3, dtype=torch.float64), info=True)
    assert float(found.bits_per_dim()) == pytest.approx(
        0.5 * math.log2(2.0 * math.pi) + 7.0, abs=1e-6
    )


@pytest.mark.parametrize("how", ["detach", "no_grad", "constant", "detach_with_parameters"])
def test_a_network_without_gradients_is_refused_after_one_call(how: str) -> None:
    scale = torch.nn.Parameter(torch.ones(()))

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if how == "no_grad":
            with torch.no_grad():
                return 2.0 * x
        return {
            "detach": x.detach(),
            "constant": torch.zeros_like(x),
            "detach_with_parameters": x.detach() * scale,
        }[how]

    den = Counting(wrap(network, VPLinear(), "eps", shape=(2,)))
    with pytest.raises(GradientError, match="autograd finds none"):
        fewstep.log_prob(den, torch.zeros(1, 2))
    assert den.calls == 1


def test_gradients_work_under_no_grad_and_leave_none_behind() -> None:
    den = mixture(Flow())
    x0 = den.sample(2, 0).requires_grad_()
    with torch.no_grad():
        found = fewstep.log_prob(den, x0, steps=4)
    assert not found.requires_grad and x0.grad is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"trace": "hutch"}, ValueError, "hutchinson"),
        ({"probe": "normal"}, ValueError, "rademacher"),
        ({"rule": "rk5"}, ValueError, "rk4"),
        ({"steps": 0}, ValueError, "steps=0"),
        ({"probes": 0}, ValueError, "probes=0"),
        ({"t": 1.0}, ValueError, "must be a time before"),
        ({"seeds": [1, 2, 3]}, ValueError, "3 seeds"),
        ({"x0": torch.zeros(2, 5)}, ValueError, "the model takes"),
        ({"prediction": "eps"}, ConversionError, "alpha=0"),
        ({"prediction": "x0"}, ConversionError, "sigma=0"),
    ],
)
def test_bad_input_is_refused_before_the_first_call(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    den = Counting(mixture(Flow(), str(options.pop("prediction", "v"))))
    x0 = options.pop("x0", torch.zeros(2, 2))
    with pytest.raises(error, match=message):
        fewstep.log_prob(den, x0, **options)
    assert den.calls == 0


def test_a_result_that_is_not_finite_names_the_sample() -> None:
    den = mixture(Flow())
    x0 = torch.tensor([[0.0, 0.0], [math.nan, 0.0]], dtype=torch.float64)
    with pytest.raises(NumericalError, match=r"samples \[1\]"):
        fewstep.log_prob(den, x0, steps=4)


def test_the_plan_is_exact_for_the_angle_of_a_table_and_counts_its_calls() -> None:
    plan = angle_plan(Flow(), 0.0, 10, "rk4")
    assert plan.nfe == 40 and plan.start.sigma == 0.0 and plan.end.alpha == 0.0
    den = Counting(mixture(Flow()))
    fewstep.log_prob(den, torch.zeros(1, 2, dtype=torch.float64), steps=10)
    assert den.calls == 40
