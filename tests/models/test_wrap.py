"""Networks become denoisers: labels, flipped time, preconditioning, ways to be called, shapes of
the answer."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fewstep.checks import UnknownName
from fewstep.models import EDMPreconditioning, GaussianMixture, ShapeError, wrap
from fewstep.schedules import EDM, VE, DiscreteVP, Flow, Trig, VPLinear

F64 = torch.float64
TABLE = DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000).tolist())
MIXTURE = ([[-1.0, 0.5], [0.8, 0.1], [0.0, -1.2]], [0.3, 0.2, 0.4], [0.3, 0.5, 0.2])


def label_of(denoiser, t, dtype=torch.float32, batch=2):
    """The label that the network of ``denoiser`` gets at ``t``."""
    return denoiser.labels(t, torch.zeros(batch, 3, dtype=dtype))


def same(x, label):
    """A network."""
    return x


# --- labels
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "time", "flip", "t", "wanted"),
    [
        (VPLinear(), "t", False, 0.3, 0.3),
        (VPLinear(), "t", True, 0.3, 0.7),
        (TABLE, "t", False, 17.25, 17.25),
        (EDM(), "sigma", False, 3.0, 3.0),
        (Flow(), "sigma", False, 0.25, 1.0 / 3.0),
        (EDM(), "c_noise", False, 3.0, math.log(3.0) / 4.0),
        (VPLinear(), lambda t: 999.0 * t, False, 0.3, 299.7),
        (Flow(), lambda t: 1000.0 * t, True, 0.3, 700.0),
    ],
)
def test_label(schedule, time, flip, t, wanted):
    denoiser = wrap(same, schedule, "eps", time=time, flip_time=flip)
    for given in (t, np.float64(t), torch.tensor(t, dtype=F64), torch.tensor([t, t], dtype=F64)):
        single, double = label_of(denoiser, given), label_of(denoiser, given, F64)
        assert single.shape == double.shape == (2,)
        assert single.dtype is torch.float32 and double.dtype is F64
        torch.testing.assert_close(
            double, torch.full((2,), wanted, dtype=F64), rtol=1e-15, atol=0.0
        )
        assert torch.equal(single, double.float())
    assert denoiser.time_mismatch(t) == 0.0


def test_label_is_formed_in_double_precision():
    """c_noise of a float32 sigma would differ from the float32 of c_noise."""
    denoiser = wrap(same, VE(), "eps", time="c_noise")
    t = 0.123456789
    assert float(label_of(denoiser, t)[0]) == float(
        np.float32(math.log(denoiser.schedule.rho(t)) / 4.0)
    )


def test_each_sample_has_its_own_label():
    denoiser = wrap(same, EDM(), "x0", time="c_noise")
    labels = label_of(denoiser, torch.tensor([1.0, math.e**4], dtype=F64), F64)
    torch.testing.assert_close(labels, torch.tensor([0.0, 1.0], dtype=F64))


@pytest.mark.parametrize(
    ("t", "index", "mismatch"),
    [(41.0, 41, 0.0), (41.4, 41, 0.4), (41.7, 42, 0.3), (999.0, 999, 0.0), (-1.0, 0, 1.0)],
)
def test_index_rounds_and_reports(t, index, mismatch):
    denoiser = wrap(same, TABLE, "eps", time="index")
    labels = label_of(denoiser, t)
    assert labels.dtype is torch.int64 and labels.tolist() == [index, index]
    assert denoiser.time_mismatch(t) == pytest.approx(mismatch, abs=1e-12)


def test_flipped_index():
    assert label_of(wrap(same, TABLE, "eps", time="index", flip_time=True), 41.4).tolist() == [
        958,
        958,
    ]


def test_a_callable_may_answer_with_integers():
    denoiser = wrap(same, VPLinear(), "eps", time=lambda t: round(999 * t))
    assert (
        label_of(denoiser, 0.5).tolist() == [500, 500]
        and label_of(denoiser, 0.5).dtype is torch.int64
    )


@pytest.mark.parametrize(
    ("schedule", "time", "t"),
    [(Flow(), "c_noise", 1.0), (Flow(), "sigma", 1.0), (VE(), "t", -math.inf)],
)
def test_infinite_labels_are_refused(schedule, time, t):
    with pytest.raises(ValueError, match="label is -?inf"):
        label_of(wrap(same, schedule, "velocity", time=time), t)


@pytest.mark.parametrize("time", ["t", "index", lambda t: 2.0 * t])
def test_times_on_a_device_are_not_waited_for(time):
    """The meta device raises at every read of a value."""
    denoiser = wrap(same, TABLE, "eps", time=time)
    for t in (
        torch.empty((), dtype=F64, device="meta"),
        torch.empty(2, dtype=F64, device="meta"),
        3.0,
    ):
        (raw,) = denoiser.raws(torch.empty(2, 3, device="meta"), t)
        assert raw.device.type == "meta"
        label = denoiser.labels(t, raw)
        assert label.shape == (2,) and label.dtype is (
            torch.int64 if time == "index" else torch.float32
        )


# --- numbers
# --------------------------------------------------------------------------------------------------------------------


def test_plain_networks_have_trivial_numbers():
    denoiser = wrap(same, VPLinear(), "v", shape=[3])
    assert (
        denoiser.coefficients(0.5) == (0.0, (1.0,))
        and denoiser.input_scale(0.5) == 1.0
        and denoiser.shape == (3,)
    )
    x = torch.randn(2, 3)
    assert torch.equal(denoiser(x, 0.5), x)


def test_flipped_velocity_has_the_other_sign():
    """The exact velocity of the path that runs the other way, u = x0 - eps at t' = 1 - t."""
    exact = GaussianMixture(*MIXTURE, Flow(), "velocity")
    network = lambda x, label: -exact(x, 1.0 - label)  # noqa: E731
    denoiser = wrap(network, Flow(), "velocity", flip_time=True)
    x = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(denoiser(x, 0.3), exact(x, 0.3), rtol=1e-14, atol=1e-14)
    assert denoiser.coefficients(0.3) == (0.0, (-1.0,))
    assert wrap(network, Flow(), "eps", flip_time=True).coefficients(0.3) == (0.0, (1.0,))


@pytest.mark.parametrize(
    "schedule", [EDM(), VPLinear(), Flow(), Trig()], ids=lambda s: type(s).__name__
)
def test_preconditioned_network_is_the_exact_model(schedule):
    """F = (D - c_skip y) / c_out of the exact D on y = x / alpha, as Karras et al. write it, gives
    D back on every path."""
    s = 0.6
    exact = GaussianMixture(*MIXTURE, EDM(), "x0")

    def network(inputs, c_noise):
        rho = torch.exp(4.0 * c_noise)
        r = torch.sqrt(rho**2 + s**2)[:, None]
        y = inputs * r
        return (exact(y, rho) - s**2 / r**2 * y) / (rho[:, None] * s / r)

    denoiser = wrap(network, schedule, "x0", time="c_noise", precondition="edm", sigma_data=s)
    x = torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    truth = GaussianMixture(*MIXTURE, schedule, "x0")
    for t in (0.2 * schedule.t_max, 0.7 * schedule.t_max):
        torch.testing.assert_close(denoiser(x, t), truth(x, t), rtol=1e-12, atol=1e-12)
    times = torch.tensor([0.1, 0.2, 0.5, 0.7], dtype=F64)
    torch.testing.assert_close(denoiser(x, times), truth(x, times), rtol=1e-12, atol=1e-12)


def test_the_network_gets_the_scaled_state():
    seen = []
    denoiser = wrap(
        lambda x, t: seen.append(x) or x,
        EDM(),
        "x0",
        time="c_noise",
        precondition=EDMPreconditioning(0.5),
    )
    x = torch.randn(2, 3)
    denoiser(x, 1.2)
    torch.testing.assert_close(seen[0], x / 1.3)
    denoiser.raws(x, 1.2)
    assert torch.equal(seen[1], x) and seen[1] is not x  # a copy: the network may write into it


# --- how a network is called
# ----------------------------------------------------------------------------------------------------


class Two(torch.nn.Module):
    def forward(self, x, t):
        return x + 0.0


class Cond(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, t, extra=None, cond=None):
        assert extra is None
        return x if cond is None else 2.0 * x


class Third(torch.nn.Module):
    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        assert return_dict
        return SimpleNamespace(sample=sample if class_labels is None else 2.0 * sample)


class Loose(torch.nn.Module):
    def forward(self, *args, **kwargs):
        assert not kwargs
        return args[0] if len(args) == 2 else 2.0 * args[0]


def keywords(x, t, **kwargs):
    return x if not kwargs else 2.0 * x if set(kwargs) == {"cond"} else None


def flag(x, t, return_dict=True):
    assert return_dict is True
    return {True: (x,)}[return_dict]


def required(x, t, cond):
    return [x if cond is None else 2.0 * x]


def keyword_only(x, t, *, cond):
    return x if cond is None else 2.0 * x


@pytest.mark.parametrize(
    "network",
    [Cond(), Third(), Loose(), keywords, required, keyword_only],
    ids=lambda n: getattr(n, "__name__", str(n)),
)
def test_networks_that_take_a_condition(network):
    denoiser = wrap(network, VPLinear(), "eps")
    x = torch.randn(2, 3)
    assert torch.equal(denoiser(x, 0.5), x)
    assert torch.equal(denoiser(x, 0.5, torch.tensor([1, 2])), 2.0 * x)
    assert torch.equal(denoiser(x, 0.5, {"label": torch.tensor([1, 2])}), 2.0 * x)


@pytest.mark.parametrize("network", [Two(), same, flag], ids=["module", "function", "flag"])
def test_networks_that_take_none(network):
    denoiser = wrap(network, VPLinear(), "eps")
    x = torch.randn(2, 3)
    assert torch.equal(denoiser(x, 0.5), x)
    with pytest.raises(ValueError, match="takes only"):
        denoiser(x, 0.5, torch.tensor([1, 2]))


def test_compiled_and_parallel_shells_are_seen_through():
    x = torch.randn(2, 3)
    for shell in (torch.compile(Third(), backend="eager"), torch.nn.DataParallel(Third())):
        denoiser = wrap(shell, VPLinear(), "eps")
        assert (denoiser.passing.style, denoiser.passing.always) == ("positional", True)
    assert torch.equal(denoiser(x, 0.5, torch.tensor([1, 2])), 2.0 * x)


def test_device_is_that_of_the_weights():
    assert wrap(Cond(), VPLinear(), "eps").device == torch.device("cpu")
    assert wrap(Cond().to("meta"), VPLinear(), "eps").device == torch.device("meta")
    assert wrap(Two(), VPLinear(), "eps").device is None
    assert wrap(same, VPLinear(), "eps").device is None


@pytest.mark.parametrize(
    "answer", [None, (), {"sample": 1}, ("x",), SimpleNamespace(sample=3)], ids=str
)
def test_answers_without_a_tensor_are_refused(answer):
    with pytest.raises(TypeError, match=type(answer).__name__):
        wrap(lambda x, t: answer, VPLinear(), "eps")(torch.zeros(2, 3), 0.5)


def test_answers_of_another_shape_are_refused():
    """A learned variance doubles the channels: which half is meant is not guessed."""
    denoiser = wrap(lambda x, t: torch.cat([x, x], 1), VPLinear(), "eps")
    with pytest.raises(ShapeError, match=r"\(2, 6, 4, 4\).*\(2, 3, 4, 4\)"):
        denoiser(torch.zeros(2, 3, 4, 4), 0.5)
    with pytest.raises(ValueError):
        denoiser.raws(torch.zeros(2, 3, 4, 4), 0.5)


# --- settings
# -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"prediction": "epsilon"}, UnknownName, "did you mean 'eps'"),
        ({"time": "indexes"}, UnknownName, "did you mean 'index'"),
        ({"precondition": "EDM2"}, UnknownName, "did you mean 'edm'"),
        ({"precondition": "edm"}, ValueError, "'eps'.*'x0'"),
        ({"prediction": "x0", "precondition": "edm", "sigma_data": 0.0}, ValueError, "sigma_data"),
        ({"time": "index"}, ValueError, "table"),
        ({"time": "sigma", "flip_time": True}, ValueError, "direction"),
        ({"time": "c_noise", "flip_time": True}, ValueError, "direction"),
        ({"network": 3}, TypeError, "int"),
    ],
)
def test_settings_that_make_no_sense(settings, error, text):
    with pytest.raises(error, match=text):
        wrap(**{"network": same, "schedule": VPLinear(), "prediction": "eps", **settings})
