"""Arrays from files that someone else wrote: the right values in any order of bytes; headers that
lie, refused before memory is taken."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fewstep.eval as E
from fewstep.files.arrays import ArrayError, npy_header, npz_header, npz_names, read_npy, read_npz
from fewstep.train.data import DataError, load_images

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def stored(array, **options):
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def header(text, body=b""):
    """An npy file with this header, whatever it says."""
    text = text + " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode("latin-1") + body


def shaped(shape, kind="|u1", body=b"\0" * 64):
    return header(f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}", body)


def archive(path, **members):
    """An npz file of these bytes and arrays."""
    with zipfile.ZipFile(path, "w") as made:
        for name, value in members.items():
            made.writestr(f"{name}.npy", value if isinstance(value, bytes) else stored(value))
    return path


def test_arrays_are_read_in_any_order():
    for array in (
        VALUES,
        np.asfortranarray(VALUES),
        VALUES.astype(">f4"),
        VALUES[:, ::-1],
        VALUES[0, 0, 0],
        VALUES[:0],
    ):
        found = read_npy(stored(array))
        assert (
            np.array_equal(found, array) and found.dtype.isnative and found.shape == np.shape(array)
        )


def test_an_archive_tells_its_arrays_without_reading_them(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=VALUES, big=np.zeros((500, 500)), text=np.array("hé"))
    assert npz_names(tmp_path / "a.npz") == ("x", "big", "text")
    assert npz_header(tmp_path / "a.npz", "big").shape == (500, 500)
    found = read_npz(tmp_path / "a.npz", ("x", "text", "none"))
    assert np.array_equal(found["x"], VALUES) and str(found["text"]) == "hé" and "none" not in found
    (tmp_path / "x.npy").write_bytes(stored(VALUES))
    assert npy_header(tmp_path / "x.npy").dtype == np.float32


LIES = {
    "rows that are not there": (shaped((10**12, 8, 8)), "64000000000000 bytes; 64 follow"),
    "a product beyond 64 bits": (shaped((2**40, 2**40)), "64 follow"),
    "fewer rows than there are": (shaped((3, 8)), "24 bytes; 64 follow"),
    "a negative shape": (shaped((-8, -8)), r"\(-8, -8\)"),
    "a boolean shape": (shaped((True, 64)), "True"),
    "a shape that is no tuple": (shaped("[64]"), "plain arrays"),
    "objects": (shaped((1,), "|O"), "pickled"),
    "a structure": (shaped((8,), [("a", "<f8")]), "plain arrays"),
    "complex numbers": (shaped((8,), "<c8"), "complex64"),
    "times": (shaped((8,), "<M8[s]"), "datetime64"),
    "no such dtype": (shaped((8,), "<q9"), "plain arrays"),
    "nested too deeply": (header("(" * 5000), "plain arrays"),
    "no literal": (header("__import__('os').getcwd()"), "plain arrays"),
    "a version to come": (b"\x93NUMPY\7\0" + shaped((64,))[8:], r"version \(7, 0\)"),
    "no array": (b"no array at all", "plain arrays"),
    "half a header": (shaped((64,))[:40], "plain arrays"),
    "nothing": (b"", "plain arrays"),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_lie_are_refused(lie, tmp_path):
    data, match = LIES[lie]
    with pytest.raises(ArrayError, match=match):
        read_npy(data)
    with pytest.raises(ArrayError, match=match):
        read_npz(archive(tmp_path / "a.npz", x=data), ("x",))
    archive(tmp_path / "images.npz", image=data)
    with pytest.raises(E.ScoreError, match=match):
        E.open_source(tmp_path / "images.npz")
    with pytest.raises(DataError, match=match):
        load_images(tmp_path / "images.npz")
    with pytest.raises(E.ScoreError, match=match):
        E.load_stats(archive(tmp_path / "stats.npz", mu=np.zeros(2), sigma=data))


def test_archives_that_lie_are_refused(tmp_path):
    path = archive(tmp_path / "a.npz", x=VALUES)
    whole = bytearray(path.read_bytes())
    place = whole.index(b"PK\1\2")
    # the size that the directory gives
    whole[place + 24 : place + 28] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(bytes(whole))
    with pytest.raises(ArrayError, match="cannot hold 4294967294"):
        read_npz(path, ("x",))
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as made:
        made.writestr("x.npy", stored(VALUES))
        made.writestr("x", stored(VALUES))
    with pytest.raises(ArrayError, match="duplicate name"):
        npz_names(tmp_path / "twice.npz")
    damaged = bytearray(archive(tmp_path / "b.npz", x=VALUES).read_bytes())
    damaged[damaged.index(VALUES.tobytes()) + 5] ^= 1
    (tmp_path / "b.npz").write_bytes(bytes(damaged))
    with pytest.raises(ArrayError, match="CRC"):
        read_npz(tmp_path / "b.npz", ("x",))


def test_damaged_archives_raise_one_kind_of_error(tmp_path):
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    np.savez_compressed(out, x=VALUES, label=np.arange(3))
    refused = 0
    for _ in range(400):
        data = bytearray(out.getvalue())
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        try:
            found = read_npz(io.BytesIO(bytes(data)), ("x", "label"))
            assert all(
                np.array_equal(found[key], want)
                for key, want in (("x", VALUES), ("label", np.arange(3)))
                if key in found
            )
        except ArrayError:
            refused += 1
    assert refused > 200


# --- images in npz files


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def test_images_in_fortran_order_are_the_same_images(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.asfortranarray(IMAGES))
    want = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    assert torch.equal(E.open_source(tmp_path / "a.npz").read(0, 5).image, want)
    assert torch.equal(load_images(tmp_path / "a.npz").image, want)
    for places in ((0, 6), (-1, 2), (3, 2)):
        with pytest.raises(E.ScoreError, match="allowed are 0 to 5"):
            E.open_source(tmp_path / "a.npz").read(*places)


def test_an_ending_in_capitals_is_an_ending(tmp_path):
    np.savez(tmp_path / "a.npz", image=IMAGES)
    (tmp_path / "a.npz").rename(tmp_path / "A.NPZ")
    assert E.open_source(tmp_path / "A.NPZ").count == 5 and E.open_source(tmp_path).count == 5


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (np.zeros((0, 8, 8), np.uint8), r"\(0, 8, 8\)"),
        (np.zeros((2, 0, 0), np.uint8), r"\(2, 0, 0\)"),
        (np.zeros((2, 8, 8), np.float32), "float32"),
        (np.zeros((2, 8, 8), np.int64), "int64"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.uint8(3), r"\(\)"),
    ],
)
def test_images_that_are_none(tmp_path, image, match):
    np.savez(tmp_path / "a.npz", image=image)
    with pytest.raises(E.ScoreError, match=match):
        E.open_source(tmp_path / "a.npz")
    with pytest.raises(DataError, match=match):
        load_images(tmp_path / "a.npz")


def test_channels_second_are_noticed(tmp_path):
    np.savez(tmp_path / "a.npz", image=IMAGES.transpose(0, 3, 1, 2))
    with pytest.raises(E.ScoreError, match=r"\(5, 3, 8, 8\) has its channels second"):
        E.open_source(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("jpeg", "offset", "match"),
    [
        (np.zeros(9, np.uint8), np.array([0, 5, 3]), "rise"),
        (np.zeros(9, np.uint8), np.array([0, 5, 10]), "at most 9"),
        (np.zeros(9, np.uint8), np.array([-1, 5]), "rise"),
        (np.zeros(9, np.uint8), np.array([0]), "n \\+ 1"),
        (np.zeros(9, np.uint8), np.array([], np.int64), "n \\+ 1"),
        (np.zeros(9, np.uint8), np.array([0.0, 9.0]), "integers"),
        (np.zeros(9, np.uint8), np.array([[0, 9]]), "integers"),
        (np.zeros(9, np.int8), np.array([0, 9]), "uint8"),
        (np.zeros((3, 3), np.uint8), np.array([0, 9]), "uint8"),
    ],
)
def test_streams_whose_offsets_lie(tmp_path, jpeg, offset, match):
    np.savez(tmp_path / "a.npz", jpeg=jpeg, offset=offset)
    with pytest.raises(E.ScoreError, match=match):
        E.open_source(tmp_path / "a.npz")
    with pytest.raises(DataError, match=match):
        load_images(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("label", "match"),
    [
        (np.array([0, 1, -1, 0, 1]), "from -1 to 1"),
        (np.array([0, 1, 10**12, 0, 1]), "to 1000000000000"),
        (np.array([0.0, 0.5, 1.0, 0.0, 1.0]), "float64"),
        (np.zeros(4, np.int64), r"\(4,\)"),
        (np.zeros((5, 1), np.int64), r"\(5, 1\)"),
        (np.array(["a", "b", "a", "b", "a"]), "<U1"),
    ],
)
def test_labels_that_are_none(tmp_path, label, match):
    np.savez(tmp_path / "a.npz", image=IMAGES, label=label)
    with pytest.raises(DataError, match=match):
        load_images(tmp_path / "a.npz")


# --- manifests and statistics


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "[" * 100_000,
        '{"samples": 3}',
        '{"samples": [3]}',
        '{"samples": [{"file": "a.png"}]}',
    ]
    + [
        json.dumps({"samples": [{"file": name, "sha256": "0"}]})
        for name in ("../a.png", "/a.png", 3)
    ]
    + [
        json.dumps({"samples": [{"file": "a.png", "sha256": "0", "label": label}]})
        for label in ([1], "1", 0.5, {})
    ],
)
def test_manifests_that_are_none(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(E.ScoreError, match="not a manifest"):
        E.open_source(tmp_path)


def test_an_empty_manifest_holds_no_image(tmp_path):
    (tmp_path / "manifest.json").write_text('{"samples": []}')
    with pytest.raises(E.ScoreError, match="no images"):
        E.open_source(tmp_path)


WHOLE = {"format": "fewstep-stats-1", "count": "5", "provenance": "{}"}


@pytest.mark.parametrize(
    ("facts", "match"),
    [
        ([], "found list"),
        (0, "found int"),
        ("text", "found str"),
        (None, "found NoneType"),
        ({}, "format None"),
        (WHOLE | {"count": 5.7}, "texts"),
        (WHOLE | {"count": [5]}, "texts"),
        (WHOLE | {"count": "five"}, "five"),
        (WHOLE | {"count": "-5"}, "count=-5"),
        (WHOLE | {"count": "1"}, "count=1"),
        (WHOLE | {"provenance": "[]"}, "found list"),
        (WHOLE | {"provenance": "[" * 100_000}, "too deeply"),
        (WHOLE | {"provenance": "{"}, "not readable JSON"),
        (WHOLE | {"provenance": '{"extractr": "x"}'}, "did you mean 'extractor'"),
        (WHOLE | {"provenance": '{"extractor": ["x"]}'}, "text or None"),
        (WHOLE | {"format": "fewstep-stats-9"}, "fewstep-stats-9"),
        (WHOLE | {"more": "x"}, "more"),
    ],
)
def test_facts_of_another_form(tmp_path, facts, match):
    tensors = {
        "mu": torch.zeros(2, dtype=torch.float64),
        "sigma": torch.eye(2, dtype=torch.float64),
    }
    save_file(tensors, tmp_path / "a.safetensors", {"statistics": json.dumps(facts)})
    with pytest.raises(E.ScoreError, match=match):
        E.load_stats(tmp_path / "a.safetensors")


def test_facts_that_are_nested_too_deeply(tmp_path):
    tensors = {
        "mu": torch.zeros(2, dtype=torch.float64),
        "sigma": torch.eye(2, dtype=torch.float64),
    }
    save_file(tensors, tmp_path / "a.safetensors", {"statistics": "[" * 100_000})
    with pytest.raises(E.ScoreError, match="too deeply"):
        E.load_stats(tmp_path / "a.safetensors")


def test_statistics_of_another_byte_order_are_the_same(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        mu=np.array([1.0, 2.0], ">f8"),
        sigma=np.asfortranarray(np.array([[2.0, 1.0], [1.0, 3.0]], ">f8")),
    )
    found = E.load_stats(tmp_path / "a.npz")
    assert found.mean.tolist() == [1.0, 2.0] and found.cov.tolist() == [[2.0, 1.0], [1.0, 3.0]]


def test_features_beside_other_statistics(tmp_path):
    stats = E.FeatureStats.from_moments(torch.zeros(2), torch.eye(2), 9)
    E.save_stats(stats, tmp_path / "a.npz")
    read = dict(np.load(tmp_path / "a.npz"))
    np.savez(tmp_path / "a.npz", **read, features=np.zeros((4, 3), np.float32))
    with pytest.raises(E.ScoreError, match="2 dimensions"):
        E.load_reference(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", **read, features=np.zeros((0, 2), np.float32))
    with pytest.raises(E.ScoreError, match=r"\(0, 2\)"):
        E.load_reference(tmp_path / "a.npz")
