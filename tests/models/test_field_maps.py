"""Maps between physical fields and channels: there and back, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from fewstep.models import FieldMap, FieldMaps, ModelError, fields_of

MAPS = FieldMaps((FieldMap("a", 0.2, -1.5), FieldMap("u", 115.0, -0.9)))


def test_channels_are_the_affine_maps_in_their_order():
    fields = {"u": torch.tensor([[[0.01]]]), "a": torch.tensor([[[12.0]]])}
    x = MAPS.channels(fields)
    assert x.shape == (1, 2, 1, 1)
    assert x.flatten().tolist() == pytest.approx([0.9, 0.25])
    back = MAPS.physical(x)
    assert list(back) == ["a", "u"]
    assert {name: float(value) for name, value in back.items()} == pytest.approx(
        {"a": 12.0, "u": 0.01}
    )


def test_they_are_read_from_the_folder_of_a_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"fields": MAPS.to_list()}))
    assert fields_of(tmp_path) == MAPS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fields_of("mnist"), "models no physical fields"),
        (lambda: MAPS.channels({"a": torch.ones(1, 2, 2)}), r"must be \['a', 'u'\]"),
        (lambda: MAPS.physical(torch.ones(1, 3, 2, 2)), "the 2 channels"),
        (lambda: MAPS.physical([1.0]), "must be a floating point tensor"),
        (lambda: FieldMap("a", 0.0), "no inverse"),
        (lambda: FieldMap(""), "not empty"),
        (lambda: FieldMaps((FieldMap("a"), FieldMap("a"))), "each name once"),
        (lambda: FieldMaps(()), "at least one"),
        (lambda: FieldMaps.from_list([{"name": "a"}]), "objects with the keys"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ModelError, match=message):
        call()
