"""No method waits for the device: the numbers of a tensor on ``meta`` cannot be read."""

from __future__ import annotations

import pytest
import torch

from fewstep.guidance import CFG, ICG, PAG, TSG, BlackScholes, Classifier, Compose, Contrast
from fewstep.models import RunFacts, wrap
from fewstep.schedules import VPLinear
from fewstep.schedules.host_times import device_times

META = torch.device("meta")
W, ONE = torch.ones(2, device=META), torch.zeros(1, dtype=torch.int64, device=META)


def network(factor):
    return wrap(lambda x, t, cond: x * factor, VPLinear(), "v", time=lambda t: 0 * t, shape=(4,))


MADE = {
    "contrast": lambda a, b: Contrast(a, b, W, interval=(0.0, 10.0)),
    "pag": lambda a, b: PAG(a, b, 2.0, cfg=W, uncond=ONE),
    "compose": lambda a, b: Compose(a, [None, ONE], [W, lambda rho: 0.5], ONE),
    "icg of labels": lambda a, b: ICG(a, 2.0, classes=10),
    "cfg of tsg": lambda a, b: CFG(TSG(a, W, 0.1), 2.0, ONE),
    "classifier": lambda a, b: Classifier(a, lambda x, t, c: -(x**2).sum(1), W),
}


@pytest.mark.parametrize("name", MADE)
def test_nothing_is_read_from_the_device(name):
    den = MADE[name](network(0.1), network(0.2)).for_run(RunFacts((3, 4), (0, 1)))
    x, cond = torch.zeros(2, 4, device=META), torch.zeros(2, dtype=torch.int64, device=META)
    for t in device_times([0.7, 0.3], META):
        raws = den.raws(x, t, cond)
        assert len(raws) == len(den.coefficients(0.7)[1]) and all(raw.is_meta for raw in raws)
    with pytest.raises(RuntimeError):
        den.raws(x, torch.tensor(0.5, device=META), cond)


def test_neither_embeddings_nor_scores_are_read():
    x, embedding = torch.zeros(2, 4, device=META), torch.zeros(2, 3, 5, device=META)
    facts, (t, _) = RunFacts((3, 4), (0, 1)), device_times([0.7, 0.3], META)
    (raw, _) = ICG(network(0.1), 2.0).for_run(facts).raws(x, t, embedding)
    blended = BlackScholes(network(0.1), [ONE, ONE], lambda x0, i: x0.exp().sum(1)).for_run(facts)
    for now in device_times([0.7, 0.3], META):
        assert raw.is_meta and blended.raws(x, now)[0].is_meta
    assert blended.progress.calls == 2 and blended.progress.concepts.is_meta
