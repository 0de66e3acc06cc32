"""The CFG++ family: against its formulas written out in plain float64, in EDM units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import fewstep
from fewstep.checks import ArgumentError
from fewstep.guidance import CFG
from fewstep.models import GaussianMixture
from fewstep.plans import Plan
from fewstep.plans.instructions import Combine
from fewstep.samplers import NO_ORDER, describe, get, names
from fewstep.schedules import EDM, Flow, Schedule, VPCosine, VPLinear

F64 = torch.float64
PATHS: dict[str, Schedule] = {"edm": EDM(0.002, 80.0), "vp": VPLinear(), "flow": Flow()}
FAMILY = [name for name in names("plan") if get(name).guided]
#: the sampler without guidance of each
SIBLINGS = {
    "euler_cfg_pp": ("ddim", {}),
    "euler_ancestral_cfg_pp": ("euler_ancestral", {}),
    "dpmpp_2m_cfg_pp": ("dpmpp_2m", {}),
    "dpmpp_2s_ancestral_cfg_pp": ("dpmpp_2s_ancestral", {}),
    "res_multistep_cfg_pp": ("res_2m", {}),
    "gradient_estimation_cfg_pp": ("gradient_estimation", {}),
    "rectified_cfg_pp": ("flow_euler", {}),
}
Read = Callable[[Tensor, float], tuple[Tensor, Tensor]]


def network(schedule: Schedule) -> GaussianMixture:
    """Two components; the label selects one, -1 the mixture."""
    kind = "velocity" if isinstance(schedule, Flow) else "eps"
    return GaussianMixture([[1.0, -0.5], [-0.8, 0.6]], [0.4, 0.3], [0.6, 0.4], schedule, kind)


def start(schedule: Schedule) -> Tensor:
    x = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    return schedule.prior_scale * x


COND = torch.tensor([0, 1, 0])


def ratios(plan: Plan) -> list[float]:
    return [node.rho for node in plan.nodes]


def reads(den: CFG, plan: Plan) -> Read:
    """``(y, rho) -> (D, U)`` for ``y = x / alpha``."""
    schedule = den.schedule

    def read(y: Tensor, rho: float) -> tuple[Tensor, Tensor]:
        node = schedule.node_at_rho(rho)
        plain = network(schedule)
        c, u = (plain.predict("x0", node.alpha * y, node.t, label) for label in (COND, None))
        w = den.scale.at(node.t)
        return u + w * (c - u), u

    return read


def ancestral(s: float, t: float, eta: float) -> tuple[float, float]:
    up = min(t, eta * math.sqrt(t * t * (s * s - t * t) / (s * s)))
    return math.sqrt(t * t - up * up), up


def euler(y: Tensor, rhos: Sequence[float], read: Read, z: Sequence[Tensor], eta: float) -> Tensor:
    for k, (s, t) in enumerate(pairwise(rhos)):
        D, U = read(y, s)
        down, up = ancestral(s, t, eta)
        y = D + (y - U) / s * down
        if t > 0.0 and eta:
            y = y + up * z[k]
    return y


def two_m(y: Tensor, rhos: Sequence[float], read: Read, z: Sequence[Tensor], eta: float) -> Tensor:
    before = None
    for k, (s, t) in enumerate(pairwise(rhos)):
        D, U = read(y, s)
        E = t / s
        mix = -E * U
        if before is not None and t > 0.0:
            r = math.log(rhos[k - 1] / s) / math.log(s / t)
            mix = mix + (1.0 - E) / (2.0 * r) * (D - before)
        y, before = D + mix + E * y, U
    return y


def two_s(y: Tensor, rhos: Sequence[float], read: Read, z: Sequence[Tensor], eta: float) -> Tensor:
    for k, (s, t) in enumerate(pairwise(rhos)):
        D, U = read(y, s)
        down, up = ancestral(s, t, eta)
        if down == 0.0:
            y = D
        else:
            h = math.log(s / down)
            stage = math.exp(-h / 2) * (y + D - U) - math.expm1(-h / 2) * D
            D2, _ = read(stage, math.sqrt(s * down))
            y = math.exp(-h) * (y + D - U) - math.expm1(-h) * D2
        if t > 0.0 and eta:
            y = y + up * z[k]
    return y


def two_s_form(
    form: str, y: Tensor, rhos: Sequence[float], read: Read, z: Sequence[Tensor]
) -> Tensor:
    """The public forms of 2S with eta = 1, besides the default."""
    for k, (s, t) in enumerate(pairwise(rhos)):
        D, U = read(y, s)
        down, up = ancestral(s, t, 1.0)
        if down == 0.0:
            y = D
            continue
        middle, E = math.sqrt(s * down), down / s
        if form == "overwritten":
            D2, U2 = read(D + middle / s * (y - U), middle)
            y = D2 + E * (y + D - U2 - D2)
        else:
            D2, U2 = read(U + middle / s * (y - U), middle)
            y = D2 + E * (y - U2) if form == "published" else U2 + E * (y - U2) + (D - U)
        y = y + up * z[k]
    return y


def res(y: Tensor, rhos: Sequence[float], read: Read, z: Sequence[Tensor], eta: float) -> Tensor:
    before, low = None, 0.0
    for k, (s, t) in enumerate(pairwise(rhos)):
        D, U = read(y, s)
        down, up = ancestral(s, t, eta)
        if down == 0.0 or before is None:
            y = D + (y - U) / s * down
        else:
            h = math.log(s / down)
            c2 = -math.log(rhos[k - 1] / low) / h
            phi1 = -math.expm1(-h) / h
            phi2 = (1.0 - phi1) / h
            b1, b2 = phi1 - phi2 / c2, phi2 / c2
            y = math.exp(-h) * (y + D - U) + h * (b1 * U + b2 * before)
        if t > 0.0 and eta:
            y = y + up * z[k]
        before, low = U, down
    return y


def gradient(
    y: Tensor, rhos: Sequence[float], read: Read, z: Sequence[Tensor], eta: float
) -> Tensor:
    before = None
    for s, t in pairwise(rhos):
        D, U = read(y, s)
        d = (y - U) / s
        y = D + d * t
        if t > 0.0 and before is not None:
            y = y + (2.0 - 1.0) * (d - before) * (t - s)
        before = d
    return y


FORMULAS = {
    "euler_cfg_pp": (euler, 0.0),
    "euler_ancestral_cfg_pp": (euler, 1.0),
    "dpmpp_2m_cfg_pp": (two_m, 0.0),
    "dpmpp_2s_ancestral_cfg_pp": (two_s, 1.0),
    "res_multistep_cfg_pp": (res, 0.0),
    "res_multistep_ancestral_cfg_pp": (res, 1.0),
    "gradient_estimation_cfg_pp": (gradient, 0.0),
}


def test_the_family_is_whole():
    assert set(FAMILY) == {*FORMULAS, "rectified_cfg_pp"}


@pytest.mark.parametrize("scale", [0.6, 1.0])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("path", ["edm", "vp"])
@pytest.mark.parametrize("name", FORMULAS)
def test_equal_to_the_formula(name, path, final, scale):
    schedule = PATHS[path]
    loop, eta = FORMULAS[name]
    den = CFG(network(schedule), scale)
    for steps in (1, 2, 3, 6):
        plan = fewstep.plan(name, schedule, steps=steps, grid="lam", final=final)
        z = [
            torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(9 + k))
            for k in range(len(plan.draws))
        ]
        x = start(schedule)
        found = fewstep.run(plan, den, x, cond=COND, noise=z)
        y = loop(x / plan.start.alpha, ratios(plan), reads(den, plan), z, eta)
        assert torch.allclose(found, plan.end.alpha * y, rtol=0, atol=1e-10), steps


@pytest.mark.parametrize("scale", [0.6, 1.0])
@pytest.mark.parametrize("path", ["edm", "vp"])
@pytest.mark.parametrize("form", ["published", "uncond", "overwritten"])
def test_public_forms_of_2s(form, path, scale):
    schedule, name = PATHS[path], "dpmpp_2s_ancestral_cfg_pp"
    den, x = CFG(network(schedule), scale), start(schedule)
    for steps in (1, 2, 3, 6):
        plan = fewstep.plan(name, schedule, steps=steps, grid="lam", form=form)
        g = torch.Generator().manual_seed(9)
        z = [torch.randn(3, 2, dtype=F64, generator=g) for _ in plan.draws]
        found = fewstep.run(plan, den, x, cond=COND, noise=z)
        y = two_s_form(form, x / plan.start.alpha, ratios(plan), reads(den, plan), z)
        assert torch.allclose(found, plan.end.alpha * y, rtol=0, atol=1e-10), steps
        default = fewstep.run(
            fewstep.plan(name, schedule, steps=steps, grid="lam"), den, x, cond=COND, noise=z
        )
        assert torch.equal(found, default) == (steps == 1)


@pytest.mark.parametrize("scale", [0.6, 1.0])
@pytest.mark.parametrize("name", FORMULAS)
def test_equal_to_the_formula_on_flows(name, scale):
    """From a node with alpha > 0, where the formulas in ``x / alpha`` hold."""
    schedule = PATHS["flow"]
    loop, eta = FORMULAS[name]
    den = CFG(network(schedule), scale)
    plan = fewstep.plan(name, schedule, times=[0.98, 0.8, 0.55, 0.3, 0.1, 0.0])
    g = torch.Generator().manual_seed(9)
    z = [torch.randn(3, 2, dtype=F64, generator=g) for _ in plan.draws]
    found = fewstep.run(plan, den, start(schedule), cond=COND, noise=z)
    y = loop(start(schedule) / plan.start.alpha, ratios(plan), reads(den, plan), z, eta)
    assert torch.allclose(found, plan.end.alpha * y, rtol=0, atol=1e-10)


@pytest.mark.parametrize("path", PATHS)
def test_inversion_takes_the_step_back(path):
    """``x0 = (x_t - sigma_t eps_u) / alpha_t``, ``x_s = alpha_s x0 + sigma_s eps_l`` with the
    predictions of the step (arXiv 2406.08070, CFG++ inversion)."""
    schedule = PATHS[path]
    first, last = schedule.t_of_lam(-1.0), schedule.t_of_lam(0.3)
    plan = fewstep.plan("euler_cfg_pp", schedule, times=[first, last])
    s, t = plan.nodes
    den, x = CFG(network(schedule), 0.6), start(schedule)
    found = fewstep.run(plan, den, x, cond=COND)
    D, U = reads(den, plan)(x / s.alpha, s.rho)
    eps_l, eps_u = ((x - s.alpha * v) / s.sigma for v in (D, U))
    back = s.alpha * (found - t.sigma * eps_u) / t.alpha + s.sigma * eps_l
    assert torch.allclose(back, x, rtol=0, atol=1e-12 * float(x.abs().max()))


@pytest.mark.parametrize("options", [{}, {"gamma": 1.5}, {"stage": 1.0}])
@pytest.mark.parametrize("scale", [0.6, 2.0])
def test_rectified(options, scale):
    """In ``x``, with velocities of the straight path; the step to 0 of ``stage=1`` has no second
    call."""
    schedule, plain = Flow(), network(Flow())
    plan = fewstep.plan("rectified_cfg_pp", schedule, steps=5, grid="uniform", **options)
    found = fewstep.run(plan, CFG(plain, scale), start(schedule), cond=COND)
    x = start(schedule)
    gamma, stage = options.get("gamma", 0.0), options.get("stage", 0.5)
    for s, t in pairwise(node.t for node in plan.nodes):
        c = plain.predict("velocity", x, s, COND)
        m, at = (
            (x, s) if stage == 1.0 and t == 0.0 else (x + stage * (t - s) * c, s + stage * (t - s))
        )
        ahead = plain.predict("velocity", m, at, COND) - plain.predict("velocity", m, at)
        x = x + (t - s) * (c + scale * (1.0 - s) ** gamma * ahead)
    assert torch.allclose(found, x, rtol=0, atol=1e-10)
    calls = 2 * 5 - (stage == 1.0)
    assert plan.nfe == calls


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scale", [0.6, 1.0])
def test_a_step_is_guidance_with_a_scale_of_its_own(path, scale):
    """``w = l / (1 - e^-h)`` (arXiv 2406.08070): one Euler step of CFG++ is one of DDIM."""
    schedule = PATHS[path]
    first, last = schedule.t_of_lam(-1.0), schedule.t_of_lam(0.3)
    x = start(schedule)
    given = {"times": [first, last], "cond": COND, "x": x}
    own = fewstep.sample(CFG(network(schedule), scale), "euler_cfg_pp", **given)
    w = scale / -math.expm1(-1.3)
    plain = fewstep.sample(CFG(network(schedule), w), "ddim", **given)
    assert torch.allclose(own, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", SIBLINGS)
def test_without_guidance_it_is_its_sibling(name, path):
    """With l = 0 and no condition's effect, D = U: the plans agree step for step."""
    schedule = PATHS[path]
    if name == "rectified_cfg_pp" and path != "flow":
        return
    sibling, options = SIBLINGS[name]
    plain = network(schedule)

    class Equal(GaussianMixture):
        channels = ("main", "cond", "uncond")

    equal = Equal(plain.means, plain.stds, plain.weights, schedule, plain.prediction)
    x = start(schedule)
    for steps in (1, 2, 5):
        given = {"steps": steps, "grid": "lam", "x": x, "seeds": [1, 2, 3]}
        found = fewstep.sample(equal, name, **given)
        wanted = fewstep.sample(plain, sibling, **given, **options)
        assert torch.allclose(found, wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FAMILY)
def test_the_last_step_returns_the_guided_prediction(name, path):
    if name == "rectified_cfg_pp":
        return
    plan = fewstep.plan(name, PATHS[path], steps=3, grid="lam")
    last = next(i for i in reversed(plan.code) if isinstance(i, Combine) and i.out == plan.result)
    outs = {v: channel for e in plan.evaluations for v, _, channel in e.outs}
    assert [(outs[v], c) for v, c in last.terms if v in outs] == [("main", 1.0)]
    assert not [v for v, c in last.terms if v not in outs and c]


@pytest.mark.parametrize("schedule", [VPCosine(), Flow(), EDM(0.002, 80.0)])
@pytest.mark.parametrize("name", FAMILY)
def test_every_path_dtype_and_few_steps(name, schedule):
    den = CFG(network(schedule), 0.8)
    for dtype in (torch.float32, torch.bfloat16):
        for steps in (1, 2, 3):
            out = fewstep.sample(den, name, steps=steps, n=3, cond=COND, dtype=dtype, grid="lam")
            assert out.dtype == dtype and bool(torch.isfinite(out).all())


def test_rows_are_those_of_the_reads():
    """Rectified-CFG++ reads the conditional prediction alone in the first call of a step."""
    den = CFG(network(Flow()), 0.8)
    for name, rows in (("euler_cfg_pp", 4 * 2), ("rectified_cfg_pp", 4 * 3)):
        _, info = fewstep.sample(den, name, steps=4, n=3, cond=COND, grid="lam", info=True)
        assert info.rows == 3 * rows
    # at l = 1 the unconditional prediction is read all the same
    den = CFG(network(Flow()), 1.0)
    _, info = fewstep.sample(den, "euler_cfg_pp", steps=4, n=3, cond=COND, grid="lam", info=True)
    assert info.rows == 3 * 4 * 2


@pytest.mark.parametrize("name", FAMILY)
def test_json_and_description(name):
    path = Flow() if get(name).on[0] == "flow" else VPLinear()
    plan = fewstep.plan(name, path, steps=4, grid="lam")
    assert Plan.from_json(plan.to_json()) == plan
    assert set(plan.channels) == set(get(name).channels)
    assert describe(name)["order_guided"] == NO_ORDER
    assert describe("ddim")["order_guided"] is None
    assert fewstep.plan("ddim_cfg_pp", VPLinear(), steps=4) == fewstep.plan(
        "euler_cfg_pp", VPLinear(), steps=4
    )


@pytest.mark.parametrize("name", FAMILY)
def test_refused_without_channels_before_the_first_call(name):
    path = Flow() if get(name).on[0] == "flow" else VPLinear()

    class Never(GaussianMixture):
        def predict(self, *given: object) -> Tensor:  # type: ignore[override]
            raise AssertionError("called")

    den = Never([[0.0]], 1.0, [1.0], path, "velocity")
    with pytest.raises(ArgumentError, match=r"pass fewstep\.guidance\.CFG\(model, scale=\.\.\.\)"):
        fewstep.sample(den, name, steps=3, n=2, grid="lam")
    # one step from alpha = 0 reads one prediction, and is refused all the same
    with pytest.raises(ArgumentError, match=rf"{name}.*guidance\.CFG\(model"):
        fewstep.sample(Never([[0.0]], 1.0, [1.0], Flow(), "velocity"), name, steps=1, n=2)
    with pytest.raises(ArgumentError, match=rf"{name}.*guidance\.CFG\(model"):
        fewstep.plan(name, den, steps=3)
    assert fewstep.plan(name, CFG(den, 0.6), steps=3).steps == 3


def test_the_automatic_choice_takes_none():
    from fewstep.engine.automatic import choices

    assert not {row["sampler"] for row in choices()} & set(FAMILY)


def test_the_published_variant_of_res_reads_d_for_u():
    """``history="guided"``: ``b_1 D + b_2 D_1``, as one public variant has it."""
    schedule = VPLinear()
    plan = fewstep.plan("res_multistep_cfg_pp", schedule, steps=4, grid="lam", history="guided")
    kinds = {v: channel for e in plan.evaluations for v, _, channel in e.outs}
    second = [i for i in plan.code if isinstance(i, Combine)][1]
    names_ = [kinds[v] for v, _ in second.terms if v in kinds]
    assert names_.count("main") == 2 and names_.count("uncond") == 1
