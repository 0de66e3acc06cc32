"""``fewstep plan``, ``samplers`` and ``certify``: what they print, what they refuse, what they
return."""

import argparse
import dataclasses
import json

import pytest
import torch

import fewstep
from fewstep.checks import ArgumentError
from fewstep.cli import certify, plan, samplers
from fewstep.cli.certify_tables import TABLES
from fewstep.cli.options import parse_options
from fewstep.engine.automatic import choices
from fewstep.engine.planning import request
from fewstep.eval.certificates.certification import final_states, home_schedule
from fewstep.eval.certificates.problem import Unguided, exact_states, mixture, smooth_grid
from fewstep.models import ModelError
from fewstep.plans import Plan, run_plan
from fewstep.samplers import build, get, names, registry
from fewstep.samplers.multistep.unipc import UniPC, unipc
from fewstep.schedules import EDM, Flow, VPLinear
from fewstep.schedules.grids.auto import DataFacts
from fewstep.schedules.grids.request import GridRequest


@pytest.fixture
def call(capsys):
    def call(module, *argv):
        parser = argparse.ArgumentParser(prog=f"fewstep {module.NAME}")
        module.add_arguments(parser)
        code = module.execute(parser.parse_args([str(a) for a in argv]))
        captured = capsys.readouterr()
        assert captured.err == ""
        return code, captured.out

    return call


def diffusers_folder(folder):
    """A small network saved by diffusers."""
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


def test_options_are_literals_or_words():
    given = [
        "order=3",
        "variant=bh1",
        "skip_corrector=(0, 1)",
        "corrector=False",
        "eta=0.5",
        "text=a=b",
    ]
    wanted = {
        "order": 3,
        "variant": "bh1",
        "skip_corrector": (0, 1),
        "corrector": False,
        "eta": 0.5,
        "text": "a=b",
    }
    assert parse_options(given) == wanted
    assert parse_options(None) == {}


@pytest.mark.parametrize("text", ["order", "=3", "a b=3"])
def test_a_bad_option_is_named(text):
    with pytest.raises(ValueError, match=repr(text)):
        parse_options([text])


def test_plan_prints_the_table_on_the_path_of_the_default_model(call):
    code, out = call(plan, "unipc", "--steps", 8, "--grid", "karras")
    assert code == 0
    assert out.startswith("unipc: 8 steps, 8 evaluations, exact")
    assert out.strip() == fewstep.plan("unipc", EDM(0.002, 80.0), steps=8, grid="karras").explain()


def test_the_facts_of_a_model_need_no_weights(tmp_path):
    edm = {"sigma_data": 0.7, "sigma_min": 0.01, "sigma_max": 5.0}
    config = {"format": "fewstep-unet", "edm": edm}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert plan.model_facts(str(tmp_path)) == (EDM(0.01, 5.0), DataFacts(0.7, True))
    for key in edm:
        less = {name: value for name, value in edm.items() if name != key}
        (tmp_path / "config.json").write_text(json.dumps({**config, "edm": less}))
        with pytest.raises(ModelError, match=key):
            plan.model_facts(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**config, "edm": {**edm, "sigma_data": -1}}))
    with pytest.raises(ModelError, match="sigma_data=-1.0: allowed"):
        plan.model_facts(str(tmp_path))
    with pytest.raises(ModelError, match="did you mean 'mnist'"):
        plan.model_facts("mnst")


@pytest.mark.parametrize("name", ["mnist", "mixture", "folder"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--nfe", "8"], {"nfe": 8}),
        (["heun", "--steps", "3"], {"sampler": "heun", "steps": 3}),
        (["--grid", "karras"], {"grid": "karras"}),
    ],
    ids=["auto", "a sampler on grid auto", "auto on a grid"],
)
def test_the_plan_of_a_model_is_the_one_that_sample_runs(call, name, given, words, tmp_path):
    model = str(diffusers_folder(tmp_path)) if name == "folder" else name
    printed = call(plan, *given, "--model", model)[1]
    made = Plan.from_json(call(plan, *given, "--model", model, "--json")[1])
    _, info = fewstep.sample(fewstep.models.load(model), info=True, **words)
    assert made == info.plan and made.reason == info.reason == info.plan.reason
    assert printed.strip() == info.plan.explain().strip()
    assert all(line in printed for line in info.reason.splitlines())


def test_the_plan_of_a_schedule_knows_of_the_data_what_is_said(call):
    def made(*said):
        return Plan.from_json(call(plan, "--schedule", "EDM", "--nfe", 6, *said, "--json")[1])

    edm, where = plan.named_schedule("EDM"), GridRequest(nfe=6)
    assert made() == request("auto", edm, {}, where).plan()
    facts = DataFacts(3.0, False)
    known = request("auto", edm, {}, dataclasses.replace(where, facts=facts)).plan()
    assert made("--sigma-data", 3.0, "--shape", "vector") == known != made()
    facts = DataFacts(None, True)
    spatial = request("auto", edm, {}, dataclasses.replace(where, facts=facts)).plan()
    assert made("--shape", "spatial") == spatial != made()


@pytest.mark.parametrize("flag", [["--sigma-data", "1.0"], ["--shape", "vector"]])
def test_a_model_says_itself_what_its_data_are(call, flag):
    with pytest.raises(ArgumentError, match=f"{' '.join(flag)}: a model says it itself"):
        call(plan, "--model", "mnist", *flag)
    with pytest.raises(ArgumentError, match="sigma_data=-1.0"):
        call(plan, "--schedule", "EDM", "--sigma-data", "-1")


def test_plan_as_json_is_the_plan(call):
    code, out = call(
        plan,
        "dpmpp_2m",
        "--schedule",
        "Flow",
        "--nfe",
        5,
        "--final",
        "sigma_min",
        "-o",
        "correction=taylor",
        "--json",
    )
    assert code == 0
    assert Plan.from_json(out) == fewstep.plan(
        "dpmpp_2m", Flow(), nfe=5, final="sigma_min", correction="taylor"
    )


def test_plan_explains_which_backend_computes_the_steps(call):
    words = ("ddim", "--schedule", "VPLinear", "--steps", "2")
    table, explained = (call(plan, *words, *more)[1] for more in ((), ("--explain",)))
    assert explained.startswith(table.rstrip("\n"))
    cpu, cuda = explained[len(table) :].splitlines()
    assert cpu.startswith("step on cpu: ") and cuda.startswith("step on cuda: ")
    assert cpu.split()[3] in ("native", "torch") and cuda.split()[3] in ("triton", "torch")


def test_plan_takes_aliases_and_a_start(call):
    _, out = call(
        plan, "DPM++ 2M Karras", "--schedule", "VPLinear", "--steps", 3, "--start", 0.5, "--json"
    )
    made = Plan.from_json(out)
    assert made == fewstep.plan("dpmpp_2m", VPLinear(), steps=3, grid="karras", start=0.5)
    assert made.start.t == 0.5


@pytest.mark.parametrize(
    "name",
    ["VPLinear", "VPCosine", "VPSigmoid", "SubVP", "DiscreteVP", "VE", "EDM", "Flow", "Trig"],
)
def test_every_schedule_has_defaults(call, name):
    assert type(plan.named_schedule(name)).__name__ == name
    assert call(plan, "ddim", "--schedule", name, "--steps", 3)[1].startswith(
        "ddim: 3 steps, 3 evaluations"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["unipcc"], "did you mean 'unipc'"),
        (["unipc", "--grid", "karas"], "did you mean 'karras'"),
        (["unipc", "--schedule", "VPLinaer"], "VPLinear"),
        (["unipc", "-o", "ordr=3"], "did you mean 'order'"),
        (["unipc", "-o", "steps=3"], "'steps'"),
        (["unipc", "--steps", "0"], "steps=0"),
    ],
)
def test_plan_refuses(call, argv, message):
    with pytest.raises(ValueError, match=message):
        call(plan, *argv)


def test_steps_and_nfe_exclude_each_other(call):
    with pytest.raises(SystemExit) as stop:
        call(plan, "ddim", "--steps", 3, "--nfe", 3)
    assert stop.value.code == 2


def test_samplers_lists_all(call):
    code, out = call(samplers)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == [
        "sampler",
        "family",
        "form",
        "order",
        "stochastic",
        "nfe/step",
        "source",
    ]
    assert tuple(line.split()[0] for line in lines[1:-1]) == names()
    assert lines[-1].startswith("auto, the default")
    heun = next(line for line in lines if line.startswith("heun ")).split()
    assert heun[1:6] == ["rho_runge_kutta", "plan", "2", "no", "2"]
    rows = {row["name"]: row for row in json.loads(call(samplers, "--json")[1])}
    assert rows["ddpm"]["stochastic"] and rows["ddim"]["nfe_per_step"] == 1.0
    assert tuple(rows) == names()


def test_one_sampler_in_detail(call):
    _, out = call(samplers, "unipc")
    assert all(f"    {field.name} " in out for field in dataclasses.fields(UniPC))
    assert "UniPCMultistepScheduler" in out
    assert json.loads(call(samplers, "unipc", "--json")[1])["options"]["order"] == UniPC().order


def test_samplers_auto_says_what_it_takes(call):
    code, out = call(samplers, "auto")
    assert code == 0 and out.startswith("auto: ")
    lines, rows = out.splitlines()[2:-1], choices()
    for line, row in zip(lines, rows, strict=True):
        options = row["options"]
        assert line.startswith(row["samples"]) and f" {row['sampler']} " in line
        assert all(f"{key}={value}" in line for key, value in options.items())
    found = json.loads(call(samplers, "auto", "--json")[1])["choices"]
    assert [row["sampler"] for row in found] == [row["sampler"] for row in rows]
    assert [row["calls"] for row in found].count(None) == 4


def test_find_knows_other_programs(call):
    code, out = call(samplers, "--find", "DPM++ 2M Karras")
    assert code == 0
    assert any("DPM++ 2M Karras" in line and "karras" in line for line in out.splitlines()[1:])
    found = json.loads(call(samplers, "--find", "uni_pc_bh2", "--json")[1])
    assert found["aliases"]["uni_pc_bh2"]["options"] == {"order": 3, "variant": "bh2"}


@pytest.mark.parametrize(
    ("argv", "near"),
    [(["--find", "eulr"], "euler"), (["--find", "hein"], "heun"), (["dimm"], "ddim")],
)
def test_what_is_not_there_is_refused_with_the_nearest(call, argv, near):
    with pytest.raises(ValueError, match=f"did you mean '{near}'"):
        call(samplers, *argv)


def test_certify_prints_a_table(call):
    code, out = call(certify, "euler")
    head, row = out.splitlines()[:2]
    assert code == 0
    assert head.split() == list(TABLES["orders"].heads)
    assert row.split()[0] == "euler" and row.split()[-3:] == ["10", "exact", "pass"]


@pytest.fixture
def planted(monkeypatch):
    """A third-order method that declares the fifth order."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr("fewstep.eval.certificates.certification.STEPS", (40, 80, 160))

    @registry.register("planted", order=5, source="none")
    def plant(b, grid, options: UniPC):
        """UniPC under another name."""
        return unipc(b, grid, options)

    yield "planted"
    registry.forget_plans()


@pytest.mark.parametrize("form", ["--markdown", "--json"])
def test_certify_returns_5_when_one_misses(call, planted, form):
    code, out = call(certify, planted, form)
    assert code == certify.MISSED == 5
    if form == "--json":
        (row,) = json.loads(out)
        assert (
            row["sampler"] == planted and not row["passed"] and row["nfe"] == row["counted"] == 10
        )
        assert abs(row["walked"] - 3.0) < 0.2 and row["declared"] == 5
    else:
        assert out.startswith("# ") and "fewstep certify --all --markdown" in out
        assert out.splitlines()[-1].startswith("| planted | 5 |") and out.splitlines()[-1].endswith(
            "| FAIL |"
        )


@pytest.mark.parametrize(
    "argv", [["ddim", "dimm"], ["unipc", "-o", "ordr=2"], [], ["ddim", "--all"]]
)
def test_certify_refuses_before_it_computes(call, monkeypatch, argv):
    monkeypatch.setattr("fewstep.eval.certify", lambda *a, **k: pytest.fail("computed"))
    with pytest.raises(ValueError):
        call(certify, *argv)


def test_drivers_have_a_table_of_their_own(planted):
    registry._REGISTRY[planted] = dataclasses.replace(get(planted), form="driver")
    assert certify.chosen([planted], False, {}) == [(planted, {})]
    assert planted not in {name for name, _ in certify.chosen([], True, {}, only_plans=True)}
    with pytest.raises(ValueError, match="driver"):
        certify.chosen([planted], False, {"order": 2})
    assert samplers.nfe_per_step(planted) is None


@pytest.mark.parametrize(
    "name", [n for n in names("plan") if get(n).tau_of(get(n).options()) == 0.0]
)
def test_the_certificate_follows_the_loop(name):
    """Certificates drive a cursor with predictions made in numpy; the states are those of a run,
    edits included."""
    schedule = home_schedule(name)
    made = build(name, smooth_grid(schedule, 12), get(name).options())
    exact = {node: exact_states(node) for node in made.nodes[1:5]}
    looped = run_plan(
        made,
        mixture(schedule),
        exact_states(made.start),
        on_step=lambda step: exact.get(step.next_node),
    )
    assert torch.allclose(final_states(made, schedule, 4), looped, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "name", [n for n in names("plan") if get(n).tau_of(get(n).options()) > 0.0]
)
def test_the_transposed_gaussian_follows_the_loop(name):
    """The coefficients of the last state, against runs of the loop that switch on one input at a
    time."""
    from fewstep.eval.certificates.gaussian import MEAN, STD, last_state

    schedule = home_schedule(name)
    made = build(name, smooth_grid(schedule, 5), get(name).options())
    rows = 2 + len(made.draws)
    x = torch.zeros(rows, 1, dtype=torch.float64)
    x[1] = 1.0

    def unit(key, like):
        z = torch.zeros_like(like)
        z[2 + key] = 1.0
        return z

    out = run_plan(made, Unguided([[MEAN]], [STD], [1.0], schedule), x, noise=unit)[:, 0]
    found = last_state(made)
    wanted = torch.tensor(
        [found.offset, *(found.offset + c for c in (found.gain, *found.noise))], dtype=torch.float64
    )
    assert torch.allclose(out, wanted, rtol=1e-12, atol=1e-12)


def test_a_plan_for_the_exact_model(call):
    code, out = call(plan, "ddim", "--model", "mixture", "--steps", "3")
    assert code == 0
    assert "3 evaluations" in out
