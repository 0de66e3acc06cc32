"""Rows at equal network calls: drivers that skip calls at their measured mean, plans with skipped
calls, and the best of several draws."""

from __future__ import annotations

import pytest
import torch

import fewstep
from fewstep.checks import FewstepError
from fewstep.engine.planning import request
from fewstep.eval import bench
from fewstep.eval.benchmark.calibration import skips, steps_within
from fewstep.eval.benchmark.report.saving import code_line, markdown
from fewstep.eval.benchmark.selection import choice_of, rating_of, share
from fewstep.eval.errors import ChoiceError
from fewstep.eval.solver.counting import Counting
from fewstep.models import GaussianMixture
from fewstep.schedules import VPLinear
from fewstep.schedules.grids.request import GridRequest

LAW = ([[1.0, -0.5], [-0.8, 0.6]], [0.3, 0.4], [0.6, 0.4])
BEST = "best_of_n:particles=2,sampler=unipc,order=3"


def model() -> GaussianMixture:
    return GaussianMixture(*LAW, VPLinear(), "eps")


def test_the_most_steps_within_a_mean_of_calls():
    asked: list[int] = []

    def calls(steps: int) -> float:
        asked.append(steps)
        return 0.45 * steps + 1.0

    assert steps_within(20, calls) == 42 and len(asked) <= 8  # 0.45 * 42 + 1 = 19.9
    assert steps_within(20, lambda steps: float(steps)) == 20
    assert steps_within(20, lambda steps: 5.0) == 60


@pytest.mark.parametrize(
    ("name", "found"), [("sada", True), ("ode45", False), ("pc", False), ("ddim", False)]
)
def test_which_drivers_skip_calls(name, found):
    where = GridRequest() if name == "ode45" else GridRequest(steps=4)
    assert skips(request(name, VPLinear(), {}, where)) is found


def test_sada_is_placed_at_its_mean_number_of_calls(tmp_path):
    given = {"samplers": ["ddim", "skipped", "sada"], "grids": ["uniform"], "nfes": [20], "n": 8}
    given["labels"] = "none"
    den = Counting(model())
    made = bench({"m": den}, out=tmp_path, **given)
    ddim, skipped, sada = made.rows
    assert (ddim.calls, skipped.calls) == (20.0, 20.0) and skipped.steps == 40
    assert 19.0 <= sada.calls <= 20.0 < sada.nfe < sada.steps
    _, info = fewstep.sample(
        model(), "sada", steps=sada.steps, grid="uniform", n=8, info=True, dtype=torch.float64
    )
    assert (info.calls, info.nfe) == (sada.calls, sada.nfe)
    _, more = fewstep.sample(
        model(), "sada", steps=sada.steps + 1, grid="uniform", n=8, info=True, dtype=torch.float64
    )
    assert more.calls > 20.0
    assert f"({sada.calls:.3g})" in markdown(made) or sada.calls == 20.0
    assert f"'sada', steps={sada.steps}, " in code_line(sada)
    assert "'ddim', nfe=20, " in code_line(ddim)
    first = den.calls
    assert bench({"m": den}, out=tmp_path, **given).rows == made.rows and den.calls == first


def test_the_best_of_n_costs_one_draw_and_is_rated_by_its_samples():
    given = {"grids": ["lam"], "nfes": [8], "n": 4}
    made = bench("mixture", samplers=["unipc:order=3", BEST], samples=400, **given)
    one, best = made.rows
    assert best.nfe == best.calls == 8 and best.steps == 4 and one.steps == 8
    assert best.rmse is None and best.quality is not None and best.rank is None
    assert best.quality_rank is not None and best.stochastic
    assert "steer(den, reward, method='best_of_n', particles=2" in code_line(best)
    assert "nfe=4, n=64" in code_line(best)
    left = bench("mixture", samplers=["ddim", BEST], samples=0, **given).rows[1]
    assert left.nfe is None and "set samples" in str(left.skipped)
    few = bench("mixture", samplers=["ddim", BEST], grids=["lam"], nfes=[1], n=2).rows[1]
    assert "2 particles cannot share 1 network calls" in str(few.skipped)


def test_the_best_of_n_has_the_larger_reward():
    den = fewstep.models.load("mixture")
    rating = rating_of(den, None)
    assert rating is not None
    x = den.sample(6, 0)
    torch.testing.assert_close(rating(x), den.log_prob(x, den.schedule.t_min))
    given = {"sampler": "ddim", "nfe": 4, "n": 16, "seed": 3}
    best, info = fewstep.guidance.steer(den, rating, method="best_of_n", particles=3, **given)
    one = fewstep.sample(den, **given)
    assert info.nfe == 4 and bool((rating(best) >= rating(one)).all())


def test_the_reward_of_digits_is_a_log_probability():
    rating = rating_of(fewstep.models.load("mnist"), "mnist")
    assert rating is not None
    found = rating(torch.zeros(3, 1, 28, 28))
    assert found.shape == (3,) and bool((found <= 0.0).all())
    assert rating_of(fewstep.models.load("mnist"), None) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("best_of_n:particles=1", "particles=1"),
        ("best_of_n:sampler=best_of_n", "sampler='best_of_n'"),
        ("best_of_n:sampler=unipcc", "unipc"),
        ("best_of_n:sampler=unipc,ordr=3", "order"),
        ("skipped:evry=3", "every"),
        ("sada:begin=3", "begin"),
    ],
)
def test_rows_that_are_refused(text, words):
    den = Counting(model())
    with pytest.raises(FewstepError, match=words):
        bench({"m": den}, samplers=[text], nfes=[8])
    assert den.calls == 0


def test_a_driver_cannot_be_chosen_among():
    row = bench("mixture", samplers=["best_of_n:sampler=sada"], nfes=[8], n=2, samples=400).rows[0]
    assert row.nfe is None and "sada" in str(row.skipped)


def test_the_shares():
    assert choice_of({}) == (4, "auto", {})
    assert share(9, 2) == 4
    with pytest.raises(ChoiceError, match="4 particles cannot share 3"):
        share(3, 4)
