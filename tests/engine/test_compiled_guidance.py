"""``torch.compile(fullgraph=True)`` of ``run`` and ``sample`` with guided models and models of one's
own: one graph, no break, no recompilation, the numbers of a run without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from test_compiled_runs import LABELS, VP, graphs, network
from torch import Tensor

import fewstep
from fewstep import guidance, models

NET = network()
DEN = models.wrap(NET, VP, "eps", shape=(6,))
SEEDS = [3, 4, 5, 6]


class Own(models.BaseDenoiser):
    """A model of one's own, which writes into its input."""

    schedule, prediction, shape = VP, "x0", (6,)

    def raws(
        self, x_in: Tensor, t: Any, cond: Any = None, channels: Sequence[str] = ("main",)
    ) -> tuple[Tensor, ...]:
        x_in.mul_(0.5)
        return (NET(x_in, torch.as_tensor(t).expand(len(x_in)), cond),)

    def coefficients(self, t: float, channel: str = "main") -> tuple[float, tuple[float, ...]]:
        return 0.1 * t, (1.0 - t,)

    def input_scale(self, t: float) -> float:
        return 1.0 / (1.0 + t)


class Halved(models.Wrapper):
    """A wrapper of one's own."""

    def raws(
        self,
        x_in: Tensor,
        t: Any,
        cond: Any = None,
        channels: Sequence[str] = ("main",),
        to: Any = None,
    ) -> tuple[Tensor, ...]:
        return tuple(0.5 * raw for raw in self.denoiser.raws(x_in, t, cond))


class SixMembers:
    """A model with the members of the protocol alone."""

    schedule, prediction, shape = VP, "x0", (6,)
    raws, coefficients, input_scale, __call__ = (
        Own.raws,
        Own.coefficients,
        Own.input_scale,
        Own.__call__,
    )


MODELS: dict[str, Callable[[], Any]] = {
    "cfg with interval": lambda: guidance.CFG(DEN, 2.0, interval=(0.3, 3.0)),
    "cfg rescaled": lambda: guidance.CFG(DEN, 2.0, rescale=0.7),
    "cfg by level": lambda: guidance.CFG(DEN, lambda rho: 1.0 + rho),
    "cfg by sample": lambda: guidance.CFG(DEN, torch.tensor([1.0, 2.0, 3.0, 4.0])),
    "apg": lambda: guidance.APG(DEN, 3.0),
    "cfg zero": lambda: guidance.CFGZero(DEN, 2.0, zero_steps=0),
    "tcfg": lambda: guidance.TCFG(DEN, 2.0),
    "mambo": lambda: guidance.MAMBO(DEN, 2.0),
    "icg": lambda: guidance.ICG(DEN, 2.0, classes=3),
    "contrast": lambda: guidance.Contrast(DEN, models.wrap(network(1), VP, "v", shape=(6,)), 1.5),
    "threshold": lambda: guidance.Threshold(DEN),
    "own": Own,
    "wrapper": lambda: Halved(DEN),
    "completed": lambda: models.complete(SixMembers()),
    "cfg of own": lambda: guidance.CFG(Own(), 2.0),
}
QUICK = ("cfg with interval", "own")


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def cases(quick: Sequence[str]) -> list[Any]:
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in MODELS
    ]


@pytest.mark.parametrize("name", cases(QUICK))
def test_a_run_with_noise_is_one_graph(name: str) -> None:
    den = MODELS[name]()
    plan = fewstep.plan("dpmpp_2m_sde", schedule=VP, steps=3)
    made = graphs(lambda x: fewstep.run(plan, den, x, cond=LABELS, seeds=SEEDS))
    assert made == 1


@pytest.mark.parametrize("name", cases(("threshold",)))
def test_a_sample_is_one_graph(name: str) -> None:
    den = MODELS[name]()
    assert graphs(lambda x: fewstep.sample(den, "dpmpp_2m", steps=2, x=x, cond=LABELS)) == 1


@pytest.mark.parametrize(
    "name",
    ["cfg with interval", *(pytest.param(n, marks=pytest.mark.slow) for n in ("apg", "tcfg"))],
)
def test_a_sampler_of_two_channels_is_one_graph(name: str) -> None:
    den = MODELS[name]()
    assert graphs(lambda x: fewstep.sample(den, "euler_cfg_pp", steps=3, x=x, cond=LABELS)) == 1


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (SixMembers, "derive it from fewstep.models.BaseDenoiser, or give fewstep.models.complete"),
        (lambda: guidance.TSG(DEN, 2.0, 0.1), "TSG under torch.compile"),
    ],
)
def test_models_that_leave_the_graph_are_refused(made: Callable[[], Any], words: str) -> None:
    den, plan = made(), fewstep.plan("ddim", schedule=VP, steps=2)
    whole = torch.compile(lambda x: fewstep.run(plan, den, x), backend="eager", fullgraph=True)
    with pytest.raises(Exception, match=words):
        whole(torch.ones(4, 6))
