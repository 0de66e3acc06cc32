"""Extractors whose weights the user brings, the rules of resizing, and LPIPS: small or random
networks, nothing downloaded."""

from __future__ import annotations

import json
import pickle
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from repository import ROOT
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import interpolate

from fewstep.eval import (
    ProvenanceError,
    ScoreError,
    frechet_distance,
    load_extractor,
    load_lpips,
    wrap_extractor,
)
from fewstep.eval.features.inception import read_state
from fewstep.eval.features.loading import KINDS
from fewstep.eval.features.resizing import RESIZERS, network_input, resized
from fewstep.eval.metrics.perceptual import NETS, WIDTHS
from fewstep.models import ModelError


def images(
    n: int, c: int = 3, height: int = 32, width: int | None = None, seed: int = 0
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (n, c, height, width or height), generator=generator, dtype=torch.uint8
    )


# --- rules of resizing


@pytest.mark.parametrize("size", [(9, 13), (50, 41), (20, 27)])
def test_clean_is_pillow_on_every_channel_in_float(size):
    x = images(2, 3, 20, 27)
    found = resized(x, size, "clean")
    for i in range(2):
        for c in range(3):
            plane = Image.fromarray(x[i, c].numpy().astype(np.float32))
            assert plane.mode == "F"
            wanted = np.asarray(plane.resize(size[::-1], Image.Resampling.BICUBIC)).clip(0, 255)
            np.testing.assert_array_equal(found[i, c].numpy(), wanted)
    assert found.dtype == torch.float32 and float(found.min()) >= 0 and float(found.max()) <= 255


def test_clean_is_the_antialiased_bicubic_and_pil_its_rounding():
    """Against torch's antialiased bicubic, another implementation of the same filter; and against
    Pillow's own RGB pictures."""
    x = images(2, 3, 40)
    wanted = interpolate(x.float(), (15, 17), mode="bicubic", antialias=True).clamp(0, 255)
    torch.testing.assert_close(resized(x, (15, 17), "clean"), wanted, rtol=0, atol=1e-3)
    picture = Image.fromarray(x[0].permute(1, 2, 0).numpy()).resize(
        (17, 15), Image.Resampling.BICUBIC
    )
    rounded = resized(x, (15, 17), "pil")
    np.testing.assert_array_equal(rounded[0].permute(1, 2, 0).numpy(), np.asarray(picture))
    assert float((rounded - resized(x, (15, 17), "clean")).abs().max()) < 1.01


def test_tf_samples_without_half_a_pixels_shift():
    """Place i h / H by hand, and the corner stays the corner: 2 pixels to 4 are 0, 1/2, 1, 1 of the
    way."""
    ramp = torch.tensor([[0, 100]], dtype=torch.uint8).view(1, 1, 1, 2)
    assert resized(ramp, (1, 4), "tf").flatten().tolist() == [0.0, 50.0, 100.0, 100.0]
    assert resized(ramp, (1, 4), "torch").flatten().tolist() == [0.0, 25.0, 75.0, 100.0]
    x = images(1, 1, 7, 5)
    found = resized(x, (19, 23), "tf")[0, 0].double()
    for i, j in ((0, 0), (3, 8), (10, 22), (18, 14)):
        a, b = i * 7 / 19, j * 5 / 23
        low, left = int(a), int(b)
        v = [[float(x[0, 0, min(low + p, 6), min(left + q, 4)]) for q in (0, 1)] for p in (0, 1)]
        p, q = a - low, b - left
        by_hand = (1 - p) * ((1 - q) * v[0][0] + q * v[0][1]) + p * (
            (1 - q) * v[1][0] + q * v[1][1]
        )
        assert float(found[i, j]) == pytest.approx(by_hand, abs=1e-4)


def test_tf_is_torch_fidelitys_rule():
    peer = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    x = images(2, 3, 32, 40)
    wanted = peer.interpolate_bilinear_2d_like_tensorflow1x(
        x.float(), size=(299, 299), align_corners=False
    )
    torch.testing.assert_close(resized(x, (299, 299), "tf"), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rule", sorted(RESIZERS))
def test_every_rule_keeps_flat_images_and_sizes_that_fit(rule):
    flat = torch.full((2, 3, 10, 12), 77, dtype=torch.uint8)
    torch.testing.assert_close(
        resized(flat, (25, 6), rule), torch.full((2, 3, 25, 6), 77.0), rtol=0, atol=1e-4
    )
    x = images(2, 3, 10, 12)
    torch.testing.assert_close(resized(x, (10, 12), rule), x.float(), rtol=0, atol=1e-4)
    assert resized(x[:0], (4, 4), rule).shape == (0, 3, 4, 4)


def test_no_two_rules_are_the_same():
    x = images(2, 3, 40, 44)
    made = {rule: resized(x, (16, 15), rule) for rule in RESIZERS}
    for one in made:
        for other in made:
            assert one == other or float((made[one] - made[other]).abs().max()) > 0.25


def test_grey_images_become_three_channels_and_other_numbers_are_refused():
    grey = images(2, 1, 8)
    assert torch.equal(
        network_input(grey, 3, (5, 5), "clean"),
        resized(grey.expand(-1, 3, -1, -1), (5, 5), "clean"),
    )
    with pytest.raises(ScoreError, match="2 channels: must have 3, or 1"):
        network_input(images(2, 2, 8), 3, (5, 5), "clean")
    with pytest.raises(ScoreError, match="did you mean 'clean'"):
        resized(grey, (5, 5), "cleen")
    with pytest.raises(ScoreError, match="sizes >= 1"):
        resized(grey, (0, 5), "tf")
    with pytest.raises(ScoreError, match="uint8"):
        resized(grey.float(), (5, 5), "pil")


def test_the_page_tells_every_rule_and_every_kind():
    page = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    for rule in (*RESIZERS, "none", "processor"):
        assert f"| `{rule}` |" in page
    for kind, what in KINDS.items():
        assert f"`{kind}:{what}`" in page


# --- rules at the door


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 6, 6)
        return x.flatten(1)[:, ::20]


def test_any_module_with_a_rule():
    x = images(30, 3, 9, 11)
    one = wrap_extractor(Mean().eval(), "mean", shape=(3, 6, 6), resize="clean")
    by_hand = (resized(x, (6, 6), "clean") / 127.5 - 1.0).flatten(1)[:, ::20]
    torch.testing.assert_close(one.features(x), by_hand)
    other = wrap_extractor(Mean().eval(), "mean", shape=(3, 6, 6), resize="tf")
    assert one.provenance().resize == "clean"
    with pytest.raises(ProvenanceError, match="resize 'clean' and 'tf'"):
        frechet_distance(one.stats(x), other.stats(x))
    assert frechet_distance(one.stats(x), other.stats(x), strict=False) > 0.0
    with pytest.raises(ScoreError, match="needs shape="):
        wrap_extractor(Mean().eval(), "mean", resize="clean")


def test_a_bundled_network_resizes_only_when_asked():
    big = images(5, 1, 56)
    with pytest.raises(ScoreError, match=r"takes images of \(1, 28, 28\)"):
        load_extractor("mnist").features(big)
    asked, written = load_extractor("mnist", resize="clean"), load_extractor("mnist@clean")
    assert torch.equal(asked.features(big), written.features(big)) and written.resize == "clean"
    small = images(5, 1, 28)
    # the rule changes nothing there
    torch.testing.assert_close(written.features(small), load_extractor("mnist").features(small))
    with pytest.raises(ScoreError, match="3 channels"):
        written.features(images(2, 3, 56))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("incepton:weights.pth", "did you mean 'inception'"),
        ("inception", "'inception:FILE'"),
        ("dinov2:", "'dinov2:FOLDER'"),
        ("clip", "never downloaded"),
        ("inception:gone.pth", "does not exist"),
        ("clip:gone", "no folder 'gone'"),
        ("mnist@cleen", "did you mean 'clean'"),
        ("clip@processr:gone", "did you mean 'processor'"),
    ],
)
def test_specs_that_name_nothing_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        load_extractor(spec)


def test_two_rules_are_refused_and_a_path_is_a_path(tmp_path, monkeypatch):
    with pytest.raises(ScoreError, match="two rules"):
        load_extractor("mnist@clean", resize="tf")
    assert load_extractor("mnist@clean", resize="clean").resize == "clean"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a@b:c").mkdir()
    with pytest.raises(ModelError, match="no feature network 'a@b:c'"):
        load_extractor("a@b:c")


# --- weights by file


class Trap:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_weights_are_never_unpickled(tmp_path, capsys):
    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    torch.save({"a": Trap()}, tmp_path / "zipped.pth")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\0" * 9)
    (tmp_path / "empty.pth").write_bytes(b"")
    for name, message in (
        ("trap.pth", "weights alone"),
        ("zipped.pth", "weights alone"),
        ("list.pth", "holds a list"),
    ):
        with pytest.raises(ModelError, match=message):
            load_extractor(f"inception:{tmp_path / name}")
    for name in ("cut.safetensors", "empty.pth"):
        with pytest.raises(ModelError, match="weights alone"):
            read_state(tmp_path / name)
    with pytest.raises(ModelError, match="is a folder"):
        load_extractor(f"inception:{tmp_path}")
    assert "unpickled" not in capsys.readouterr().out
    save_file({"a": torch.ones(3)}, tmp_path / "good.safetensors")
    torch.save({"a": torch.ones(3)}, tmp_path / "good.pth")
    assert torch.equal(
        read_state(tmp_path / "good.safetensors")["a"], read_state(tmp_path / "good.pth")["a"]
    )


def test_without_torch_fidelity_the_message_says_what_to_install(tmp_path, monkeypatch):
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "w.pth")
    for name in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match="pip install torch-fidelity"):
        load_extractor(f"inception:{tmp_path / 'w.pth'}")


def test_without_transformers_the_message_says_what_to_install(tiny_dino, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match="pip install transformers"):
        load_extractor(f"dinov2:{tiny_dino}")


# --- Inception


class StandIn(nn.Module):
    """What is used of torch-fidelity's class: stages in order, the last one linear, weights read
    from what it is given."""

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path=None
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, stride=60)
        self.AvgPool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(5, 7)
        assert not isinstance(feature_extractor_weights_path, str)  # a path would be unpickled
        self.load_state_dict(torch.load(feature_extractor_weights_path, weights_only=True))


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = StandIn
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "first.weight": (5, 3, 3, 3),
        "first.bias": (5,),
        "fc.weight": (7, 5),
        "fc.bias": (7,),
    }
    state = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    torch.save(state, tmp_path / "w.pth")
    save_file(state, tmp_path / "w.safetensors")
    return state, tmp_path


def test_inceptions_input_output_and_name(stand_in):
    state, folder = stand_in
    x = images(3, 3, 32, 40)
    for spec, rule, low, name in (
        ("inception", "tf", lambda x: (x - 128.0) / 128.0, "inception"),
        ("inception@clean", "clean", lambda x: (x - 128.0) / 128.0, "inception"),
        ("inception@torch", "torch", lambda x: x / 127.5 - 1.0, "inception-pytorch-fid"),
    ):
        stages = nn.functional.conv2d(
            low(resized(x, (299, 299), rule)), state["first.weight"], state["first.bias"], stride=60
        )
        pool = stages.mean(dim=(2, 3))
        extractor = load_extractor(f"{spec}:{folder / 'w.pth'}")
        torch.testing.assert_close(extractor.features(x), pool, rtol=1e-4, atol=1e-4)
        assert (
            extractor.provenance().extractor == f"{name} sha256:{extractor.digest}"
            and extractor.resize == rule
        )
        logits = load_extractor(f"{spec}:{folder / 'w.safetensors'}", logits=True)
        # without bias
        torch.testing.assert_close(
            logits.features(x), pool @ state["fc.weight"].T, rtol=1e-4, atol=1e-4
        )
        assert logits.digest == extractor.digest  # of the weights, not of the file
    grey = images(2, 1, 64)
    torch.testing.assert_close(
        extractor.features(grey), extractor.features(grey.expand(-1, 3, -1, -1))
    )


def test_statistics_of_two_rules_of_inception_are_not_compared(stand_in):
    _, folder = stand_in
    x = images(20)
    one, other = (
        load_extractor(f"inception@{rule}:{folder / 'w.pth'}").stats(x) for rule in ("tf", "clean")
    )
    with pytest.raises(ProvenanceError, match="resize 'tf' and 'clean'"):
        frechet_distance(one, other)
    assert frechet_distance(one, other, strict=False) > 0


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory):
    """torch-fidelity's network with random weights, and the file that holds them."""
    peer = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    original = peer.load_state_dict_from_url
    network = None
    try:
        peer.load_state_dict_from_url = lambda *a, **k: {}
        base = peer.FeatureExtractorInceptionV3.load_state_dict
        peer.FeatureExtractorInceptionV3.load_state_dict = lambda self, state: None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = peer.FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"])
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d):
                    # by default features would be 1e-7
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    finally:
        peer.load_state_dict_from_url = original
        peer.FeatureExtractorInceptionV3.load_state_dict = base
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    return network, path


@pytest.mark.slow
def test_inception_is_torch_fidelitys_network_to_the_rule(random_inception):
    network, path = random_inception
    x = images(3)
    pool, logits = network(x)
    assert float(pool.mean()) > 0.1 and float(logits.std()) > 0.01
    torch.testing.assert_close(
        load_extractor(f"inception:{path}").features(x), pool, rtol=1e-4, atol=1e-4
    )
    named = load_extractor(f"inception:{path}", logits=True)
    torch.testing.assert_close(named.features(x), logits, rtol=1e-4, atol=1e-4)
    assert (named.name, named.resize, logits.shape[1]) == ("inception-logits", "tf", 1008)
    clean = load_extractor(f"inception@clean:{path}")
    assert float((clean.features(x) - pool).abs().max()) > 0.01
    assert load_extractor(f"inception@torch:{path}").name == "inception-pytorch-fid"
    grey = images(2, 1)
    torch.testing.assert_close(clean.features(grey), clean.features(grey.expand(-1, 3, -1, -1)))


@pytest.mark.slow
def test_another_networks_weights_are_no_inception(random_inception, tmp_path):
    torch.save({"conv.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(
        ModelError, match="not a state dict of the 2015-12-05 InceptionV3: .*Missing"
    ):
        load_extractor(f"inception:{tmp_path / 'other.pth'}")


# --- DINOv2 and CLIP


def processor_config(folder, kind: str, size: int, crop: int) -> None:
    mean = {"BitImageProcessor": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])}.get(
        kind, ([0.48, 0.46, 0.41], [0.27, 0.26, 0.28])
    )
    facts = {
        "image_processor_type": kind,
        "do_resize": True,
        "do_center_crop": True,
        "do_rescale": True,
        "do_normalize": True,
    }
    facts |= {
        "size": {"shortest_edge": size},
        "crop_size": {"height": crop, "width": crop},
        "resample": 3,
        "rescale_factor": 1 / 255,
    }
    facts |= {"image_mean": mean[0], "image_std": mean[1], "do_convert_rgb": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def tiny_dino(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("dino")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=42
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Dinov2Model(config).save_pretrained(folder)
    processor_config(folder, "BitImageProcessor", 48, 42)
    return folder


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    part = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 12,
    }
    text = part | {
        "vocab_size": 50,
        "max_position_embeddings": 8,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    config = transformers.CLIPConfig(
        text_config=text,
        vision_config=part | {"image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(folder)
    processor_config(folder, "CLIPImageProcessor", 32, 32)
    return folder


def test_dinov2_is_transformers_with_its_processor(tiny_dino):
    transformers = pytest.importorskip("transformers")
    extractor = load_extractor(f"dinov2:{tiny_dino}")
    x = images(3, 3, 60, 80)
    processor = transformers.BitImageProcessorPil.from_pretrained(tiny_dino)
    pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in x]
    with torch.no_grad():
        wanted = transformers.Dinov2Model.from_pretrained(tiny_dino)(
            **processor(pictures, return_tensors="pt")
        ).pooler_output
    torch.testing.assert_close(extractor.features(x), wanted)
    assert extractor.name == "dinov2" and len(extractor.digest) == 64
    assert extractor.resize.startswith(
        "processor: shortest edge 48 bicubic (Pillow, grey levels), centre crop 42x42, mean [0.485"
    )


def test_a_state_dict_of_pytorch_is_read_as_tensors(tiny_dino, tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((tiny_dino / name).read_text())
    torch.save(read_state(tiny_dino / "model.safetensors"), tmp_path / "pytorch_model.bin")
    one, other = load_extractor(f"dinov2:{tiny_dino}"), load_extractor(f"dinov2:{tmp_path}")
    assert one.digest == other.digest
    assert torch.equal(one.features(images(2)), other.features(images(2)))


def test_dinov2_by_a_rule_takes_the_whole_image(tiny_dino):
    """FD-DINOv2 brings the image straight to the network's size; the processor would cut its border
    off."""
    transformers = pytest.importorskip("transformers")
    extractor = load_extractor(f"dinov2@pil:{tiny_dino}")
    x = images(2, 3, 60)
    pixels = torch.stack(
        [
            torch.from_numpy(
                np.asarray(
                    Image.fromarray(p.permute(1, 2, 0).numpy()).resize(
                        (42, 42), Image.Resampling.BICUBIC
                    )
                ).copy()
            )
            for p in x
        ]
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    ready = ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = transformers.Dinov2Model.from_pretrained(tiny_dino)(
            pixel_values=ready
        ).last_hidden_state[:, 0]
    torch.testing.assert_close(extractor.features(x), wanted, rtol=1e-4, atol=1e-5)
    changed = x.clone()
    changed[:, :, :2] = 255 - changed[:, :, :2]
    assert not torch.allclose(extractor.features(x), extractor.features(changed), atol=1e-3)
    by_processor = load_extractor(f"dinov2:{tiny_dino}")
    assert torch.equal(by_processor.features(x), by_processor.features(changed))
    with pytest.raises(ProvenanceError, match="resize"):
        frechet_distance(extractor.stats(x), by_processor.stats(x))


def test_clip_gives_projected_image_embeddings_and_leaves_the_text_half(tiny_clip, capfd):
    transformers = pytest.importorskip("transformers")
    extractor = load_extractor(f"clip:{tiny_clip}")
    assert capfd.readouterr() == ("", "")
    x = images(3, 3, 40)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(tiny_clip)
    pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in x]
    whole = transformers.CLIPModel.from_pretrained(tiny_clip)
    with torch.no_grad():
        seen = whole.vision_model(**processor(pictures, return_tensors="pt")).pooler_output
        wanted = whole.visual_projection(seen)
    torch.testing.assert_close(extractor.features(x), wanted)
    grey = images(2, 1, 40)
    torch.testing.assert_close(
        extractor.features(grey), extractor.features(grey.expand(-1, 3, -1, -1))
    )
    with pytest.raises(ScoreError, match="no class logits"):
        load_extractor(f"clip:{tiny_clip}", logits=True)


def test_folders_of_something_else_are_refused(tiny_dino, tiny_clip, tmp_path):
    with pytest.raises(ModelError, match="model_type 'clip'; dinov2 is"):
        load_extractor(f"dinov2:{tiny_clip}")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_extractor(f"dinov2:{tmp_path}")
    (tmp_path / "config.json").write_text((tiny_dino / "config.json").read_text())
    with pytest.raises(ModelError, match=r"no preprocessor_config\.json"):
        load_extractor(f"dinov2:{tmp_path}")
    processor_config(tmp_path, "BitImageProcessor", 48, 42)
    with pytest.raises(ModelError, match="cannot be read as dinov2"):
        load_extractor(f"dinov2:{tmp_path}")
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(ModelError, match="cannot be read as dinov2"):
        load_extractor(f"dinov2:{tmp_path}")
    (tmp_path / "pytorch_model.bin").unlink()
    save_file(
        {"layernorm.weight": torch.ones(16)},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"lacks \d+ weights of dinov2"):
        load_extractor(f"dinov2:{tmp_path}")
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "NoSuchProcessor"}'
    )
    save_file(
        read_state(tiny_dino / "model.safetensors"),
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelError, match="cannot be read"):
        load_extractor(f"dinov2:{tmp_path}")


# --- LPIPS


@pytest.fixture(scope="module", params=sorted(NETS))
def lpips_files(request, tmp_path_factory):
    """Random weights of the backbone under torchvision's names, non-negative heads, and the
    network's name."""
    folder = tmp_path_factory.mktemp("lpips")
    net = request.param
    generator = torch.Generator().manual_seed(1)
    state, inputs, place = {"classifier.6.weight": torch.zeros(2, 2)}, 3, 0
    for layer in NETS[net][0]:
        if len(layer) == 4:
            outputs, side = layer[:2]
            scale = (2.0 / (inputs * side**2)) ** 0.5
            state[f"features.{place}.weight"] = scale * torch.randn(
                outputs, inputs, side, side, generator=generator
            )
            state[f"features.{place}.bias"] = torch.zeros(outputs)
            inputs = outputs
        place += 2 if len(layer) == 4 else 1
    torch.save(state, folder / "net.pth")
    heads = {
        f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
        for i, width in enumerate(WIDTHS[net])
    }
    torch.save(heads, folder / "heads.pth")
    return net, folder


def test_lpips_is_zero_on_equal_images_symmetric_and_grows_with_noise(lpips_files):
    net, folder = lpips_files
    distance = load_lpips(folder / "net.pth", net, folder / "heads.pth")
    x = images(2).float() / 127.5 - 1.0
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    assert distance(x, x).tolist() == [0.0, 0.0]
    near = 0.5 * x
    rows = [distance(near, (near + s * noise).clamp(-1, 1)) for s in (0.02, 0.1, 0.3)]
    assert all(bool((b > a).all()) for a, b in pairwise(rows)) and bool((rows[0] > 0).all())
    torch.testing.assert_close(distance(near, x), distance(x, near))
    torch.testing.assert_close(
        distance(near[1:2], x[1:2]), distance(near, x)[1:2], rtol=1e-4, atol=1e-6
    )
    bytes_, other = images(1), images(1, seed=5)
    torch.testing.assert_close(
        distance(bytes_, other), distance(bytes_.float() / 127.5 - 1.0, other.float() / 127.5 - 1.0)
    )
    assert distance.name == f"lpips-{net}" and len(distance.digest) == 64


def test_lpips_is_torchmetrics(lpips_files):
    """The peer builds its layers with torchvision, which may not be there."""
    pytest.importorskip("torchvision")
    peer = pytest.importorskip("torchmetrics.functional.image.lpips")
    net, folder = lpips_files
    # heads of the package, random backbone
    theirs = peer._LPIPS(pretrained=True, net=net, pnet_rand=True)
    state = read_state(folder / "net.pth")
    flat = {
        f"features.{name.split('.')[-2]}.{name.split('.')[-1]}": name
        for name in theirs.net.state_dict()
    }
    theirs.net.load_state_dict({name: state[key] for key, name in flat.items()})
    ours = load_lpips(folder / "net.pth", net)
    a, b = (
        images(2, 3, 64, 48).float() / 127.5 - 1.0,
        images(2, 3, 64, 48, seed=3).float() / 127.5 - 1.0,
    )
    torch.testing.assert_close(ours(a, b), theirs(a, b).flatten(), rtol=1e-4, atol=1e-6)


def test_lpips_on_one_layer_by_hand(lpips_files):
    """With all heads but the first at zero, the distance is that of the first layer's normalised
    channels."""
    net, folder = lpips_files
    heads = read_state(folder / "heads.pth")
    only = {
        key: value if key.startswith("lin0") else torch.zeros_like(value)
        for key, value in heads.items()
    }
    torch.save(only, folder / "first.pth")
    state = read_state(folder / "net.pth")
    _, side, stride, padding = NETS[net][0][0]
    a, b = images(1, 3, 40).float() / 127.5 - 1.0, images(1, 3, 40, seed=4).float() / 127.5 - 1.0
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    taken = []
    for x in (a, b):
        x = (x - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
        x = nn.functional.conv2d(
            x, state["features.0.weight"], state["features.0.bias"], stride, padding
        ).relu()
        if net == "vgg":
            x = nn.functional.conv2d(
                x, state["features.2.weight"], state["features.2.bias"], stride, padding
            ).relu()
        taken.append(x / x.norm(dim=1, keepdim=True).clamp(min=1e-4))
    assert side in (3, 11)
    wanted = (heads["lin0.model.1.weight"] * (taken[0] - taken[1]) ** 2).sum(dim=1).mean()
    found = load_lpips(folder / "net.pth", net, folder / "first.pth")(a, b)
    assert float(found) == pytest.approx(float(wanted), rel=1e-3)


def test_bad_lpips_material_is_refused(lpips_files, tmp_path):
    net, folder = lpips_files
    distance = load_lpips(folder / "net.pth", net, folder / "heads.pth")
    good = images(2)
    for bad in (
        images(2, 3, 8),
        images(2, 2),
        images(3),
        good.float(),
        good.float() / 0.0,
        good.long(),
        good[:0],
    ):
        with pytest.raises(ScoreError):
            distance(good, bad)
    with pytest.raises(ModelError, match="did you mean 'alex'"):
        load_lpips(folder / "net.pth", "alexnet")
    with pytest.raises(ModelError, match="none is ever downloaded"):
        load_lpips(tmp_path / "gone.pth", net)
    with pytest.raises(ModelError, match="not torchvision's state dict"):
        load_lpips(folder / "heads.pth", net)
    with pytest.raises(ModelError, match="does not hold LPIPS' heads: lin0"):
        load_lpips(folder / "net.pth", net, folder / "net.pth")
