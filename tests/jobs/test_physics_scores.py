"""``fewstep score --physics`` and ``jobs.score_physics``: fields from folders, files and channels,
the grid they lie on, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import fewstep
from fewstep import jobs
from fewstep.checks import ArgumentError, UnknownName
from fewstep.cli import main
from fewstep.eval import physics
from fewstep.models.field_maps import FieldMap, FieldMaps

MAPS = FieldMaps((FieldMap("a", 0.2, -1.5), FieldMap("u", 115.0, -0.9)))
FLAGS = ["--fields", "a,u", "--field-map", "a=0.2,-1.5", "--field-map", "u=115,-0.9"]
H = 1.0 / 11


@pytest.fixture(scope="module")
def drawn():
    return physics.darcy.draw(24, 12, seed=100)


@pytest.fixture(scope="module")
def channels(drawn, tmp_path_factory):
    """A folder of npz files of channels."""
    folder = tmp_path_factory.mktemp("channels")
    x = MAPS.channels(drawn.fields).float().numpy()
    np.savez(folder / "a.npz", x=x[:10])
    np.savez(folder / "b.npz", x=x[10:])
    return folder


@pytest.fixture(scope="module")
def generated(drawn, tmp_path_factory):
    """A folder of ``generate``, of a model that draws pairs of the data, and says their fields."""
    root = tmp_path_factory.mktemp("generated")
    den = fewstep.models.Empirical(MAPS.channels(drawn.fields), fewstep.schedules.EDM(0.002, 80.0))
    jobs.generate(den, root / "samples", seeds=range(12), batch=8, sampler="ddim", steps=4)
    (root / "model").mkdir()
    (root / "model/config.json").write_text(json.dumps({"fields": MAPS.to_list()}))
    manifest = json.loads((root / "samples/manifest.json").read_text())
    manifest["model"] = str(root / "model")
    (root / "samples/manifest.json").write_text(json.dumps(manifest))
    return root / "samples"


def run(capsys, *flags):
    """Exit code, output and error of the command."""
    code = main(["score", *map(str, flags)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_generated_folder_is_rated_by_the_fields_of_its_model(generated, capsys):
    code, out, _ = run(capsys, "--physics", "darcy", generated, "--data", 32)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("12 samples of ") and lines[0].endswith("beside 32 true solutions")
    assert lines[1] == "spacing x 0.09091, y 0.09091 (of the data set of darcy)"
    assert lines[2].split()[:4] == ["metric", "mean", "+-", "median"]
    result = jobs.score_physics(generated, "darcy", data=32)
    # the samples are pairs of the data, to the rounding of their channels
    assert 0.3 < result["relative_residual"].ratio < 3.0
    assert result["relative_residual"].value < 1e-4
    names = [line.split()[0] for line in lines[3:]]
    assert names == list(result.scores.ratings)
    row = next(line for line in lines if line.startswith("relative_residual")).split()
    assert float(row[1]) == pytest.approx(result["relative_residual"].value, rel=0.01)


def test_channels_and_physical_fields_give_the_same_score(channels, drawn, tmp_path, capsys):
    code, out, _ = run(capsys, "--physics", "darcy", channels, *FLAGS, "--json")
    assert code == 0
    record = json.loads(out)
    file = tmp_path / "fields.npz"
    physics.save_fields(file, drawn)
    result = jobs.score_physics(file, "darcy", spacing={"x": H, "y": H})
    u = record["metrics"]
    assert record["count"] == result.scores.count == 24
    assert record["spacing"] == pytest.approx({"x": H, "y": H})
    assert u["boundary_error"]["value"] < 1e-6 and u["rms_residual"]["value"] < 1e-5
    assert result["rms_residual"].value < 1e-12  # no rounding of channels
    assert result.grid.origin == "given"
    assert jobs.score_physics(file, "darcy").grid.origin == "of the file"


def test_the_score_is_that_of_the_library(channels, drawn, tmp_path):
    fields = MAPS.physical(MAPS.channels(drawn.fields).float().double())
    plain = physics.rate("darcy", fields, {"x": H, "y": H}, {}, drawn.fields, drawn)
    physics.save_fields(tmp_path / "true.npz", drawn)
    result = jobs.score_physics(
        channels,
        "darcy",
        fields=["a", "u"],
        field_map={"a": (0.2, -1.5), "u": (115.0, -0.9)},
        data=tmp_path / "true.npz",
        truth=tmp_path / "true.npz",
        out=tmp_path / "out",
    )
    assert result.scores.to_dict() == plain.to_dict()
    assert json.loads((tmp_path / "out/score.json").read_text()) == result.record()
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["field_map"] == {"a": [0.2, -1.5], "u": [115.0, -0.9]}


def test_a_wrong_map_is_seen_by_the_baseline(channels):
    wrong = {"a": (0.2, -1.5), "u": (115.0, -0.8)}
    result = jobs.score_physics(channels, "darcy", fields="a,u", field_map=wrong, data=32)
    walls = result["boundary_error"]
    assert walls.value > 0.01 and walls.value > 1e4 * walls.data.value
    # an equal mean rule of samples and solver: another one leaves a residual of order one
    other = jobs.score_physics(
        channels,
        "darcy",
        fields="a,u",
        field_map={m.name: (m.scale, m.shift) for m in MAPS.maps},
        param={"mean": "harmonic"},
    )
    assert other["relative_residual"].value > 0.1


def test_settings_of_a_file(channels, tmp_path, capsys):
    config = tmp_path / "score.yaml"
    config.write_text(
        f"physics: darcy\nsource: {channels}\nfields: [a, u]\nmetrics: relative_residual\n"
        "field-map: {a: [0.2, -1.5], u: [115, -0.9]}\nspacing: {x: 0.1, y: 0.1}\n"
    )
    code, out, _ = run(capsys, "--config", config, "--spacing", f"x={H},y={H}", "--json")
    assert code == 0
    record = json.loads(out)
    assert list(record["metrics"]) == ["relative_residual"]
    assert record["metrics"]["relative_residual"]["value"] < 1e-5
    assert record["settings"]["spacing"] == {"x": H, "y": H}


def test_complex_fields_and_parameters_survive_a_file(tmp_path):
    psi = torch.randn(2, 3, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    params = {"nu": 0.1, "mean": "harmonic", "f": torch.ones(3, 8)}
    physics.save_fields(tmp_path / "psi.npz", physics.Problem({"psi": psi}, {"x": 0.5}, params))
    fields, spacing, found = physics.load_fields(tmp_path / "psi.npz")
    assert torch.equal(fields["psi"], psi) and spacing == {"x": 0.5}
    assert found["nu"] == 0.1 and found["mean"] == "harmonic" and found["f"].shape == (3, 8)


def heat(folder):
    """A file of the heat equation's solution, without spacing and kappa."""
    fields, spacing, params = physics.heat.exact(16)
    physics.save_fields(folder / "heat.npz", physics.Problem({"u": fields["u"]}, {}, {}))
    return folder / "heat.npz", spacing, params


def test_an_equation_in_time(tmp_path, capsys):
    file, spacing, params = heat(tmp_path)
    grid = ["--spacing", f"t={spacing['t']},x={spacing['x']}"]
    code, out, _ = run(
        capsys, "--physics", "heat", file, *grid, "--param", f"kappa={params['kappa']}", "--json"
    )
    assert code == 0
    metrics = json.loads(out)["metrics"]
    assert metrics["relative_residual"]["value"] < 1e-3
    assert metrics["drift[mass]"]["value"] < 1e-14
    code, _, err = run(capsys, "--physics", "heat", file, *grid)
    assert code == 3 and "heat needs the parameter kappa: give param= (--param kappa=VALUE)" in err
    code, _, err = run(capsys, "--physics", "heat", file, "--spacing", "x=0.1")
    assert code == 3 and "the spacing of t is missing" in err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--physics", "darzy"], 3, "did you mean 'darcy'"),
        (["--physics", "darcy"], 3, "give fields= (--fields a,u)"),
        (["--physics", "darcy", "--fields", "a"], 3, "must have the 1 channels"),
        (["--physics", "darcy", "--fields", "a,v"], 3, "unknown field 'v'"),
        (["--physics", "darcy", "--fields", "a,u", "--field-map", "v=1,0"], 3, "field_map 'v'"),
        (["--physics", "darcy", *FLAGS, "--field-map", "v"], 3, "must be 2 numbers"),
        (["--physics", "darcy", *FLAGS, "--spacing", "z=1"], 3, "unknown axis of spacing 'z'"),
        (["--physics", "darcy", *FLAGS, "--spacing", "x=1"], 3, "spacing of y is missing"),
        (["--physics", "darcy", *FLAGS, "--spacing", "x=-1,y=1"], 3, "spacing['x']"),
        (["--physics", "darcy", *FLAGS, "--param", "nu=1"], 3, "unknown parameter 'nu'"),
        (["--physics", "darcy", *FLAGS, "--metrics", "drift_"], 3, "did you mean 'drift'"),
        (["--physics", "darcy", *FLAGS, "--levels", "a=3,12"], 3, "the reference holds no such"),
        (["--physics", "darcy", *FLAGS, "--data", "0"], 3, "data=0"),
        (["--physics", "darcy", *FLAGS, "--data", "none.npz"], 3, "none.npz"),
        (["--physics", "darcy", *FLAGS, "--ref", "mnist:test"], 2, "--ref is about images"),
        (["--physics", "darcy", *FLAGS, "--sampler", "unipc"], 2, "--sampler is about images"),
        (["--spacing", "x=1"], 2, "--spacing is about physical fields: give --physics"),
    ],
)
def test_what_does_not_fit_is_refused(channels, capsys, flags, code, message):
    found, out, err = run(capsys, channels, *flags)
    assert (found, out) == (code, "")
    assert message in err


def test_true_solutions_of_another_setting_are_refused(channels):
    maps = {m.name: (m.scale, m.shift) for m in MAPS.maps}
    with pytest.raises(ArgumentError, match="data has the spacing"):
        jobs.score_physics(
            channels, "darcy", fields="a,u", field_map=maps, spacing={"x": 1.0, "y": 1.0}, data=8
        )


def broken(folder, kind):
    """A folder that cannot be read, by kind."""
    path = folder / kind
    path.mkdir()
    x = np.zeros((2, 2, 8, 8), np.float32)
    if kind == "pictures":
        np.savez(path / "a.npz", image=np.zeros((2, 8, 8, 1), np.uint8))
    elif kind == "different":
        np.savez(path / "a.npz", x=x)
        np.savez(path / "b.npz", a=x[:, 0], u=x[:, 1])
    elif kind == "unfinished":
        (path / "blocks").mkdir()
    elif kind == "shapes":
        np.savez(path / "a.npz", x=x)
        np.savez(path / "b.npz", x=x[..., :4])
    elif kind == "nan":
        np.savez(path / "a.npz", x=np.full_like(x, math.nan))
    elif kind == "spacing":
        for name, h in (("a", 0.1), ("b", 0.2)):
            np.savez(path / f"{name}.npz", **{"u": x[:, 0], "a": x[:, 1], "spacing.x": h})
    elif kind == "half":
        np.savez(path / "a.npz", **{"u.real": x[:, 0]})
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pictures", "pictures of 256 grey levels"),
        ("different", "hold different arrays"),
        ("unfinished", "not finished"),
        ("shapes", "all alike"),
        ("nan", "NaN or infinity in 2 of 2 samples"),
        ("spacing", "another spacing"),
        ("half", "'u.real' and 'u.imag'"),
        ("empty", "holds no npz files"),
    ],
)
def test_unusable_folders_are_refused(tmp_path, kind, message):
    names = ["a", "u"] if kind in ("shapes", "nan") else None
    with pytest.raises(ArgumentError, match=message):
        jobs.score_physics(broken(tmp_path, kind), "darcy", fields=names)


def test_a_folder_of_pictures_or_changed_files_is_refused(generated, tmp_path):
    import shutil

    copy = shutil.copytree(generated, tmp_path / "copy")
    block = sorted((copy / "samples").glob("*.npz"))[0]
    block.write_bytes(block.read_bytes() + b"0")
    with pytest.raises(ArgumentError, match="not the file of the manifest"):
        jobs.score_physics(copy, "darcy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["samples"][0]["file"] = "samples/000000.png"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArgumentError, match="256 grey levels"):
        jobs.score_physics(copy, "darcy")
    with pytest.raises(ArgumentError, match=r"settings\.json must stay"):
        jobs.score_physics(generated, "darcy", out=generated)


def test_an_unknown_equation_is_named_before_anything_is_read():
    with pytest.raises(UnknownName, match="did you mean 'heat'"):
        jobs.score_physics("nowhere", "haet")


def test_a_data_set_whose_parameters_differ_by_sample_gives_no_default(tmp_path):
    u = physics.porous_medium.draw(3, 12).fields
    physics.save_fields(tmp_path / "u.npz", physics.Problem(u, {}, {}))
    with pytest.raises(ArgumentError, match="has another m in each sample: give spacing="):
        jobs.score_physics(tmp_path / "u.npz", "porous_medium")
