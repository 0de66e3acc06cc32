"""Independent-condition and time-step guidance: draws, closed forms, and the contract."""

from __future__ import annotations

import math

import pytest
import torch
from problems import F64, GRIDS, PATHS, SAMPLERS, Recorder, affine_end, linear_end

import fewstep
from fewstep.checks import ArgumentError
from fewstep.fused.noise.seeded import normals
from fewstep.guidance import CFG, ICG, TSG
from fewstep.guidance.combinations.seeds import Seeds, draw_of
from fewstep.jobs.hashes import denoiser_hash
from fewstep.models import GaussianMixture, RunFacts
from fewstep.schedules import VPLinear

CPU = torch.device("cpu")
#: means of four labels of one variance
MEANS, VARIANCE = (1.5, -1.0, 0.5, -0.2), 0.3


def labels(name, kind="velocity"):
    return GaussianMixture([[m] for m in MEANS], math.sqrt(VARIANCE), [0.25] * 4, PATHS[name], kind)


def test_draws_depend_on_the_seed_and_the_time_only():
    seeds = Seeds((7, 1 << 40, 9))
    all_times = (0.25, 0.5, 0.25)
    z = seeds.normals(all_times, 3, (5,), CPU)
    for i, t in enumerate(all_times):
        alone = Seeds(seeds.values[i : i + 1])
        assert torch.equal(alone.normals([t], 1, (5,), CPU)[0], z[i])
        own = normals([seeds.values[i]], (5,), stream=4, draw=draw_of(t))
        assert torch.equal(own[0], z[i])
    k = seeds.integers(all_times, 3, (6,), 1000, CPU)
    for i, t in enumerate(all_times):
        alone = seeds.select(torch.tensor([i]))
        assert torch.equal(alone.integers([t], 1, (6,), 1000, CPU)[0], k[i])
    assert not torch.equal(k[0], seeds.integers([0.5], 3, (6,), 1000, CPU)[0])
    assert Seeds().select(torch.tensor([2, 0])).values == (2, 0)
    assert draw_of(0.0) == draw_of(-0.0) != draw_of(0.5)
    with pytest.raises(ArgumentError, match="3 seeds for 2 samples"):
        seeds.normals([0.5], 2, (1,), CPU)


def test_random_labels_are_uniform():
    counts = torch.bincount(Seeds().integers([0.3], 40_000, (), 5, CPU), minlength=5)
    chi = float(((counts - 8000.0) ** 2 / 8000.0).sum())
    assert len(counts) == 5 and chi < 20.5  # 1 in 2500
    found = Seeds().integers([0.3], 400, (100,), 7, CPU).double()
    assert float(found.mean()) == pytest.approx(3.0, abs=4 * 2.0 / 200)


@pytest.mark.parametrize("name", PATHS)
def test_the_mean_over_random_labels_is_guidance_by_their_mean(name):
    """The flow is linear, so the mean end over the draws is that of guidance by the mean of the
    labels: the same for each step size."""
    w, n, steps = 1.8, 4000, 12
    mean = sum(MEANS) / 4
    both = GaussianMixture(
        [[MEANS[0]], [mean]], math.sqrt(VARIANCE), [0.5, 0.5], PATHS[name], "velocity"
    )
    x = torch.full((1, 1), 0.7 * PATHS[name].prior_scale, dtype=F64)
    given = {"steps": steps, "grid": GRIDS[name]}
    wanted = fewstep.sample(
        CFG(both, w, uncond=torch.tensor([1])), "dpmpp_2m", x=x, cond=torch.tensor([0]), **given
    )
    found = fewstep.sample(
        ICG(labels(name), w), "dpmpp_2m", x=x.expand(n, 1), seed=5,
        cond=torch.zeros(n, dtype=torch.int64), **given,
    )  # fmt: skip
    error = float(found.std()) / math.sqrt(n)
    assert error > 1e-3  # the ends differ from sample to sample
    assert float(found.mean()) == pytest.approx(float(wanted), abs=4 * error)


@pytest.mark.parametrize("name", PATHS)
def test_a_random_label_that_is_always_the_same(name):
    """With one class the flow has a closed form: the conditional model itself."""
    one = GaussianMixture([[1.5]], math.sqrt(0.3), [1.0], PATHS[name], "velocity")
    end = affine_end(ICG(one, 3.0), "unipc", 200, name)
    assert end == pytest.approx(linear_end(name, [(1.0, 1.5, 0.3)]), rel=1e-3)


@pytest.mark.parametrize("sampler", [*SAMPLERS, "picard"])
@pytest.mark.parametrize("name", PATHS)
def test_each_sample_is_what_it_is_alone(name, sampler):
    cond = torch.tensor([0, 1, 0])
    given = {"steps": 5, "grid": GRIDS[name], "dtype": F64}
    given |= {"tol": 0.0} if sampler == "picard" else {}
    for den in (ICG(labels(name), 2.0), TSG(labels(name), 2.0, 0.05)):
        every = fewstep.sample(den, sampler, seeds=[3, 4, 5], cond=cond, **given)
        for i in range(3):
            one = fewstep.sample(den, sampler, seeds=[3 + i], cond=cond[i : i + 1], **given)
            assert torch.allclose(every[i : i + 1], one, rtol=0, atol=1e-11)
        rows = torch.tensor([2, 0])
        run = den.for_run(RunFacts((3, 4, 5)))
        x = torch.randn(3, 1, dtype=F64)
        t = float(PATHS[name].t_of_lam(0.3))
        assert torch.equal(run.select(rows)(x[rows], t, cond[rows]), run(x, t, cond)[rows])
        assert not torch.equal(run(x, t, cond), den(x, t, cond))  # there sample i has seed i
        assert torch.equal(den(x, t, cond), den.for_run(RunFacts((0, 1, 2)))(x, t, cond))


def test_what_is_drawn():
    network = Recorder(VPLinear())
    network.classes = 6
    x = torch.randn(2, 4, dtype=F64)
    den = ICG(network, 2.0)
    fewstep.sample(den, "ddim", steps=5, x=x, seeds=[1, 2], cond=torch.tensor([0, 3]), grid="lam")
    draws = [cond[:2] for _, _, cond in network.calls]
    assert len(draws) == 5 and all(c.dtype == torch.int64 and c.max() < 6 for c in draws)
    assert len({tuple(c.tolist()) for c in draws}) > 1  # afresh at each level
    assert all(cond[2:].tolist() == [0, 3] for _, _, cond in network.calls)

    def of(cond, **more):
        source = ICG(network, 2.0, **more).branches[0].source
        return source.of(cond, 2, (0.3,))

    embedding = torch.randn(2, 7, 50) * torch.tensor([1.0, 3.0]).reshape(2, 1, 1)
    drawn = of(embedding)
    assert drawn.shape == embedding.shape and drawn.dtype == torch.float32
    wanted = normals([0, 1], (7, 50), stream=4, draw=draw_of(0.3))
    spread = embedding.flatten(1).std(1).reshape(2, 1, 1)
    assert torch.allclose(drawn, wanted * spread)
    assert torch.allclose(of(embedding, std=0.5), wanted * 0.5)
    assert of(embedding.bfloat16()).dtype == torch.bfloat16
    tokens = torch.zeros(2, 9, dtype=torch.int32)
    assert of(tokens, classes=500).shape == (2, 9) and of(tokens, classes=500).dtype == torch.int32
    mask = torch.ones(2, 9, dtype=torch.bool)
    both = {"text": embedding, "mask": mask, "label": torch.tensor([1, 2])}
    drawn = of(both)
    assert drawn["mask"] is mask and not torch.equal(drawn["text"], embedding)
    drawn = of(both, names=["label"])
    assert drawn["text"] is embedding and drawn["label"].dtype == torch.int64


@pytest.mark.parametrize("name", PATHS)
def test_rows_are_counted_as_they_are_predicted(name):
    cond = torch.tensor([1, 0, 2])
    for make, share in (
        (lambda n: ICG(n, 2.0, classes=4), 2),
        (lambda n: ICG(n, 1.0, classes=4), 1),
        (lambda n: TSG(n, 2.0, 0.1), 2),
        (lambda n: CFG(TSG(n, 2.0, 0.1), 3.0), 4),
        (lambda n: TSG(n, 1.0, 0.1), 1),
    ):
        network = Recorder(PATHS[name], null=0.0)
        _, info = fewstep.sample(
            make(network), "heun", steps=5, grid="lam", n=3, shape=(4,), cond=cond, info=True
        )
        assert info.rows == network.rows == 3 * share * info.nfe


@pytest.mark.parametrize("name", PATHS)
def test_time_step_guidance_is_its_formula(name):
    """The prediction at the perturbed time, with state and coefficients of the time itself."""
    schedule = PATHS[name]
    model = labels(name, "v")
    x, cond = torch.randn(4, 1, dtype=F64), torch.tensor([0, 1, 2, 3])
    t, high = float(schedule.t_of_lam(0.3)), schedule.t_max
    for power in (1.0, 0.0, 2.0):
        den = TSG(model, 2.5, 0.02, power=power)
        z = normals([0, 1, 2, 3], (), stream=4, draw=draw_of(t)).double()
        moved = (t + 0.02 * high * (t / high) ** power * z).clamp(schedule.t_min, high)
        m, other = (
            model(x, t, cond),
            torch.cat([model(x[i : i + 1], float(moved[i]), cond[i : i + 1]) for i in range(4)]),
        )
        assert torch.allclose(den(x, t, cond), other + 2.5 * (m - other), rtol=0, atol=1e-12)
    network = Recorder(schedule)
    fewstep.sample(TSG(network, 2.0, 5.0), "ddim", steps=4, n=3, shape=(4,), grid=GRIDS[name])
    told = torch.cat([torch.as_tensor(times).reshape(-1) for _, times, _ in network.calls[1::2]])
    assert len(set(told.tolist())) > 2
    assert float(told.min()) >= schedule.t_min and float(told.max()) <= high


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_runs_in_every_dtype(name, dtype):
    cond = torch.tensor([0, 1])
    for den in (
        ICG(labels(name), 2.0, interval=(0.05, 1.0)),
        ICG(labels(name), torch.tensor([2.0, 3.0])),
        TSG(labels(name), 2.0, 0.05),
    ):
        for sampler in SAMPLERS:
            for steps in (1, 2, 3):
                out = fewstep.sample(
                    den, sampler, steps=steps, n=2, cond=cond, dtype=dtype, grid=GRIDS[name]
                )
                assert out.dtype == dtype and bool(torch.isfinite(out).all())


def test_wrong_arguments_are_refused():
    network = Recorder(VPLinear())
    wrong = [
        (lambda: ICG(network, math.nan), "scale=nan"),
        (lambda: ICG(network, 2.0, classes=0), "classes=0"),
        (lambda: ICG(network, 2.0, std=0.0), "std=0.0"),
        (lambda: ICG(network, 2.0, names="label"), "names='label'"),
        (lambda: TSG(network, 2.0, 0.0), "noise=0.0"),
        (lambda: TSG(network, 2.0, math.nan), "noise=nan"),
        (lambda: TSG(network, 2.0, 0.1, power=-1.0), "power=-1.0"),
        (lambda: TSG(CFG(network, 2.0), 2.0, 0.1), "TSG of CFG"),
    ]
    for make, message in wrong:
        with pytest.raises(ArgumentError, match=message):
            make()
    labelled = torch.tensor([0, 1])
    for den, cond, message in (
        (ICG(network, 2.0), None, "needs a condition; pass cond="),
        (ICG(network, 2.0), labelled, "no number of classes"),
        (ICG(network, 2.0), torch.ones(2), "no standard deviation: pass std="),
        (ICG(network, 2.0), {"mask": labelled}, "name the tensors to draw"),
        (ICG(network, 2.0, names=["label"]), {"text": torch.ones(2, 3)}, r"only \['text'\]"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fewstep.sample(den, "ddim", steps=2, grid="lam", x=torch.zeros(2, 4), cond=cond)
    assert not network.calls


def test_a_run_leaves_nothing_behind():
    """The hash of a model object, by which folders of samples tell models apart."""
    cond = torch.tensor([0, 1])
    for make in (lambda: ICG(labels("vp"), 2.0), lambda: TSG(labels("vp"), 2.0, 0.05)):
        den = make()
        before = denoiser_hash(den)
        fewstep.sample(den, "ddim", steps=2, n=2, cond=cond, grid="lam")
        assert denoiser_hash(den) == before == denoiser_hash(make())
    assert denoiser_hash(ICG(labels("vp"), 2.0, std=0.5)) != denoiser_hash(ICG(labels("vp"), 2.0))
