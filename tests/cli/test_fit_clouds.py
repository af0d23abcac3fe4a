"""`shoestring fit`, `explain` and `receipt` of a network for point clouds, from data to a file that runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import shoestring as package
from shoestring.compress.slim.space import parse
from shoestring.deploy import shoe
from shoestring.deploy.grids import stored
from shoestring.deploy.preprocess import at_size, preprocess
from shoestring.deploy.wire import parse_model
from shoestring.pipeline import elastic

pytestmark = pytest.mark.usefixtures("quick")
NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.local, self.whole = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.whole(torch.relu(self.local(x)).amax(dim=1))

def net():
    torch.manual_seed(0)
    return Net().eval()
"""
ELASTIC = """
import torch
from torch import nn
from shoestring.models.point_mlp import Stage

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage, self.head = Stage(3, 32, 64, 8, 1), nn.Linear(32, 2)

    def forward(self, xyz):
        return self.head(self.stage(xyz, xyz.transpose(1, 2).unsqueeze(3))[1].amax((2, 3)))

def net():
    torch.manual_seed(0)
    return Net().eval()
"""
SPEC = {"kind": "points", "points": 64, "centre": "mean", "scale": "sphere", "up": "y"}


@pytest.fixture
def network(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NETWORK)
    return f"{tmp_path / 'net.py'}:net"


@pytest.fixture
def clouds(tmp_path: Path) -> Path:
    """Two classes of twelve: flat ones and long ones."""
    rng = np.random.default_rng(0)
    for name, shape in (("flat", (1, 0.1, 1)), ("long", (0.1, 1, 0.1))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(12):
            np.savetxt(tmp_path / "data" / name / f"{number}.xyz", rng.normal(size=(80, 3)) * shape)
    return tmp_path / "data"


def fit(shoestring, network: str, tmp_path: Path, *options: object, method: str = "int8"):
    places = ["--out", tmp_path / "x.shoe", "--json", tmp_path / "x.json", "--runtime", "onnxruntime"]
    return shoestring("fit", network, "--input", "64x3", "--method", method, "--calibration", 4, *places, *options)


def test_a_folder_of_clouds(shoestring, network: str, clouds: Path, tmp_path: Path) -> None:
    told = fit(shoestring, network, tmp_path, "--data", clouds)
    assert (told.code, told.err) == (0, "")
    artifact = shoe.read(tmp_path / "x.shoe")
    assert artifact.preprocess == SPEC
    assert artifact.labels == ("flat", "long")
    receipt = json.loads((tmp_path / "x.json").read_text())
    assert (receipt["quality"]["metric"], receipt["quality"]["n"]) == ("top-1", 20)
    file = clouds / "flat" / "0.xyz"
    model = package.load(tmp_path / "x.shoe")
    assert [item.label for item in model(file)] == [item.label for item in model(np.loadtxt(file))]
    told = shoestring("run", tmp_path / "x.shoe", clouds / "flat", "--top", 1)
    assert told.out.splitlines()[-1].startswith("12 inputs, ")
    told = shoestring(
        "receipt", tmp_path / "x.shoe", "--original", network, "--input", "64x3", "--data", clouds, "--seconds", 1
    )
    assert told.code == 0, told.err


def test_training(shoestring, network: str, clouds: Path, tmp_path: Path) -> None:
    """A few steps; what trained does not judge."""
    told = fit(shoestring, network, tmp_path, "--data", clouds, "--epochs", 1, "--train-batch", 4, method="lsq:w8a8")
    assert told.code == 0, told.err
    told_of = shoe.read(tmp_path / "x.shoe").provenance["data"]
    assert (told_of["training"], told_of["judgement"]) == (12, 12)


def test_a_ladder_of_points_and_neighbours(shoestring, clouds: Path, tmp_path: Path, monkeypatch) -> None:
    """Operating points of other numbers of points, in one file with one set of weights, that keep a deadline."""
    (tmp_path / "elastic.py").write_text(ELASTIC)
    looked = elastic.candidates

    def ranked(*given):  # of so small a network times and outputs are too close to choose by
        found, runtime = looked(*given)
        cost = [one.shape.width * one.shape.near * one.shape.side for one in found]
        return [replace(one, ms=ms, kept=100 * ms) for one, ms in zip(found, cost, strict=True)], runtime

    monkeypatch.setattr("shoestring.pipeline.ladder.candidates", ranked)
    monkeypatch.setattr("shoestring.pipeline.ladder.peak", lambda *_: 60.0)
    method, training = "slim:w=0.5,1:d=0:n=0.5,1:r=0.5,1", ("--ladder", 3, "--epochs", 1, "--train-batch", 4)
    network = f"{tmp_path / 'elastic.py'}:net"
    told = fit(shoestring, network, tmp_path, "--data", clouds, *training, "--seconds", 1, method=method)
    assert told.code in (0, 3), told.err
    file = tmp_path / "x.shoe"
    artifact = shoe.read(file)
    assert {point.measured["shape"] for point in artifact.points} <= {str(shape) for shape in parse(method[5:])}
    models = [package.load(file, point=index) for index in range(len(artifact.points))]
    assert [model.spec["points"] for model in models] == [32, models[1].spec["points"], 64]
    assert package.load(file).spec == models[-1].spec
    wide = stored(parse_model(artifact.onnx(2)))
    for index in range(2):
        for name, layer in stored(parse_model(artifact.onnx(index))).items():
            cut = wide[name].weight[tuple(slice(size) for size in layer.weight.shape)]
            np.testing.assert_array_equal(layer.weight, cut, name)
    cloud = np.loadtxt(clouds / "flat" / "0.xyz")
    for model in models:
        assert model.outputs(cloud).shape == (2,)
        np.testing.assert_array_equal(
            model.prepare(cloud)[0], preprocess(at_size(SPEC, (model.spec["points"], 3)), cloud)
        )
    timeline = tmp_path / "t.json"
    ran = shoestring("run", file, clouds / "flat", "--deadline", "500ms", "--frames", 20, "--timeline", timeline)
    assert ran.code == 0, ran.err
    assert "20 frames" in ran.out
    assert timeline.exists()
    again = shoestring("receipt", file, "--seconds", 1)
    assert again.code in (0, 3), again.err


def test_demo(shoestring, network: str, tmp_path: Path) -> None:
    """Twelve classes do not fit two outputs: one line."""
    told = fit(shoestring, network, tmp_path, "--demo")
    assert told.code == 2
    assert "12 classes do not fit the network's 2 outputs" in told.said


def test_pictures_are_refused(shoestring, network: str, photographs: Path, tmp_path: Path) -> None:
    told = fit(shoestring, network, tmp_path, "--data", photographs)
    assert told.code == 2
    assert "no point cloud in" in told.said
