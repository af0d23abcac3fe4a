"""An encoder on disk is the encoder; what is no encoder is told in a line."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.encoder_file import load_classifier, load_encoder, load_vectors, save_encoder
from shoestring.pretrain.heads import Vectors

SMALL = {"dim": 24, "depth": 1, "heads": 3, "patches": 8, "neighbours": 6}


def test_what_is_saved_is_loaded(tmp_path: Path, xyz: Tensor, encoder: PointViT) -> None:
    path = tmp_path / "one.safetensors"
    save_encoder(path, encoder, {"seed": 3})
    found, about = load_encoder(str(path))
    assert about == {"schema": 1, "model": "point_vit", "encoder": SMALL, "seed": 3}
    assert not found.training
    torch.testing.assert_close(found.features(xyz), encoder.eval().features(xyz), rtol=0, atol=0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["one.json", "one.safetensors"]


def test_a_head_stays_behind(tmp_path: Path) -> None:
    save_encoder(tmp_path / "one.safetensors", PointViT(**SMALL, classes=4), {})
    found, _ = load_encoder(tmp_path / "one.safetensors")
    assert not any(name.startswith("head") for name in found.state_dict())


def test_a_classifier_begins_with_the_encoder(tmp_path: Path, xyz: Tensor, encoder: PointViT) -> None:
    save_encoder(tmp_path / "one.safetensors", encoder, {})
    found = load_classifier(tmp_path / "one.safetensors", 5)
    assert found.eval()(xyz).shape == (6, 5)
    torch.testing.assert_close(found.features(xyz), encoder.eval().features(xyz), rtol=0, atol=0)


def test_vectors_come_with_their_encoder(tmp_path: Path, xyz: Tensor, encoder: PointViT) -> None:
    path, vectors = tmp_path / "one.safetensors", Vectors(48, 5, 2).eval()
    save_encoder(path, encoder, {}, vectors)
    found, about = load_encoder(path)
    torch.testing.assert_close(found.features(xyz), encoder.eval().features(xyz), rtol=0, atol=0)
    assert about["vectors"] == {"features": 48, "count": 5, "up": 2}
    loaded = load_vectors(path)
    assert loaded is not None
    expected = vectors(encoder.features(xyz))
    torch.testing.assert_close(loaded(found.features(xyz)), expected, rtol=0, atol=0)
    assert load_classifier(path, 3).eval()(xyz).shape == (6, 3)
    described = path.with_suffix(".json")
    described.write_text(json.dumps(about | {"vectors": {"count": 5}}))
    with pytest.raises(BadInput, match=r"the vectors of one\.safetensors are not described"):
        load_vectors(path)
    described.write_text(json.dumps(about | {"vectors": about["vectors"] | {"count": 6}}))
    with pytest.raises(BadInput, match="does not fit Vectors"):
        load_vectors(path)
    save_encoder(path, encoder, {})
    assert load_vectors(path) is None


def test_what_is_no_encoder_is_told(tmp_path: Path, encoder: PointViT) -> None:
    path = tmp_path / "one.safetensors"
    with pytest.raises(BadInput, match=r"one\.pt is not the name of one; write NAME\.safetensors"):
        save_encoder(tmp_path / "one.pt", encoder, {})
    with pytest.raises(BadInput, match=r"one\.json is missing"):
        load_encoder(path)
    save_encoder(path, encoder, {})
    about = json.loads(path.with_suffix(".json").read_text())
    for wrong in ("[1", "{}", json.dumps(about | {"encoder": {"width": 3}})):
        path.with_suffix(".json").write_text(wrong)
        with pytest.raises(BadInput, match=r"one\.json does not describe one"):
            load_encoder(path)
    path.with_suffix(".json").write_text(json.dumps(about | {"encoder": SMALL | {"dim": 48}}))
    with pytest.raises(BadInput, match="does not fit PointViT"):
        load_encoder(path)
    with pytest.raises(BadInput, match="cannot be written"):
        save_encoder(tmp_path / "absent" / "one.safetensors", encoder, {})
