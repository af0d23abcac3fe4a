"""`shoestring fit`, `explain` and `receipt` of a network for point clouds, from data to a file that runs."""

import json
from pathlib import Path

import numpy as np
import pytest

import shoestring as package
from shoestring.deploy import shoe

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


def test_demo(shoestring, network: str, tmp_path: Path) -> None:
    """Twelve classes do not fit two outputs: one line."""
    told = fit(shoestring, network, tmp_path, "--demo")
    assert told.code == 2
    assert "12 classes do not fit the network's 2 outputs" in told.said


def test_pictures_are_refused(shoestring, network: str, photographs: Path, tmp_path: Path) -> None:
    told = fit(shoestring, network, tmp_path, "--data", photographs)
    assert told.code == 2
    assert "no point cloud in" in told.said
