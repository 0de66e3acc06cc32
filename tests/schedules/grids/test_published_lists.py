"""The lists of levels that papers give, on the paths that they were made for."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from fewstep.schedules import EDM, DiscreteVP, Flow, VPLinear, from_config, grid
from fewstep.schedules.grids.families.trajectory_regularity import TABLES as GITS

SD = from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})

#: (table, steps) -> rho, worked out from the construction of arXiv 2510.02390 apart from this code
LISTS = {
    ("sd15", 5): (14.615, 4.519, 1.962, 1.001, 0.502, 0.132),
    ("sd15", 8): (14.615, 7.096, 3.948, 2.433, 1.605, 1.099, 0.757, 0.502, 0.293),
    ("sd15_full", 8): (14.615, 6.712, 3.608, 2.172, 1.404, 0.937, 0.617, 0.373, 0.147),
}


@pytest.mark.parametrize(("table", "steps"), LISTS)
def test_hyperparameters(table: str, steps: int) -> None:
    wanted = LISTS[table, steps]
    found = grid("hyperparameters", SD, steps, final="sigma_min", table=table)
    assert [node.rho for node in found] == pytest.approx(wanted, abs=6e-4)
    longer = grid("hyperparameters", SD, steps + 1, table=table)
    assert longer.times[:-1] == found.times and longer[-1].sigma == 0.0
    if (table, steps) == ("sd15", 5):
        assert found.times == pytest.approx((999, 772, 557, 354, 170, 18), abs=1.0)


def test_the_last_level_of_hyperparameters_is_a_karras_level() -> None:
    for table, steps, n, p, j in (
        ("sd15", 6, 8, 5, 6),
        ("sd15", 7, 12, 7, 8),
        ("sdxl", 8, 12, 12, 8),
    ):
        karras = grid("karras", SD, n - 1, final="sigma_min", rho=float(p))
        found = grid("hyperparameters", SD, steps, final="sigma_min", table=table)
        assert found[-1].rho == pytest.approx(karras[j].rho, rel=1e-9)
        labels = np.asarray(found.times) ** (1.0 / 1.2)
        assert np.diff(labels) == pytest.approx(np.full(steps, np.diff(labels).mean()), rel=1e-9)


def test_hyperparameters_on_other_paths_have_the_labels_of_linear_vp() -> None:
    own = grid("hyperparameters", VPLinear(), 6, final="sigma_min")
    assert np.diff(np.asarray(own.times) ** (1.0 / 1.2), 2) == pytest.approx(np.zeros(5), abs=1e-12)
    edm = EDM(VPLinear().rho(1e-3), VPLinear().rho(1.0))
    moved = grid("hyperparameters", edm, 6, final="sigma_min")
    assert [node.rho for node in moved] == pytest.approx([node.rho for node in own], rel=1e-9)
    flow = grid("hyperparameters", Flow(), 6)
    assert flow[0].alpha == 0.0 and flow[-1].sigma == 0.0 and flow[-2].rho > 0.1


def test_hyperparameters_from_below_the_last_level() -> None:
    table = DiscreteVP.from_betas(np.linspace(1e-4, 0.02, 1000))
    found = grid("hyperparameters", table, 4, start=5.0, final="sigma_min")
    first, bottom = -math.log(table.rho(5.0)), -math.log(table.rho(0.0))
    assert found[-1].lam == pytest.approx(first + 0.9 * (bottom - first))
    assert all(s > t for s, t in pairwise(found.times))


def test_gits() -> None:
    """Six steps from 80 to 0.002 are the published ones; other lengths lie on the curve through
    them, and other ranges stretch it."""
    found = grid("gits", EDM(0.002, 80.0), 6, final="sigma_min")
    assert [node.rho for node in found] == pytest.approx(GITS["cifar10"], rel=1e-9)
    assert grid("gits", EDM(0.002, 80.0), 7).times == pytest.approx((*found.times, 0.0), rel=1e-9)
    twice = grid("gits", EDM(0.002, 80.0), 12, final="sigma_min")
    assert twice.times[::2] == pytest.approx(found.times, rel=1e-9)
    assert twice.times[1] == pytest.approx(math.sqrt(80.0 * 10.9836), rel=1e-9)
    narrow = grid("gits", EDM(0.01, 10.0), 6, final="sigma_min")
    factor = math.log(10.0 / 0.01) / math.log(80.0 / 0.002)
    for node, rho in zip(narrow, GITS["cifar10"], strict=True):
        assert math.log(node.rho / 0.01) == pytest.approx(factor * math.log(rho / 0.002), abs=1e-9)
