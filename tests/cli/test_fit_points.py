"""`shoestring fit` of a network that samples and groups points, by methods of every kind, to a file that runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from shoestring.deploy import shoe

pytestmark = pytest.mark.usefixtures("quick")
NETWORK = """
import torch
from shoestring.models.point_mlp import PointMLP

def net():
    torch.manual_seed(0)
    return PointMLP(2, width=8, neighbours=4, points=64).eval()
"""
TRAINED = ("--epochs", 1, "--train-batch", 4)
LAYERS = 31


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("network") / "net.py"
    path.write_text(NETWORK)
    return f"{path}:net"


@pytest.fixture(scope="session")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of eight: flat ones and long ones. Only read it."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("clouds")
    for name, shape in (("flat", (1, 0.1, 1)), ("long", (0.1, 1, 0.1))):
        (root / name).mkdir()
        for number in range(8):
            np.savetxt(root / name / f"{number}.xyz", rng.normal(size=(70, 3)) * shape)
    return root


@pytest.fixture
def fit(shoestring, clouds: Path, tmp_path: Path):
    """`fit(MODEL, OPTION...)`: the file and its receipt."""

    def run(model: str, *options: object) -> tuple[shoe.Artifact, dict]:
        out, told = tmp_path / "x.shoe", tmp_path / "x.json"
        places = ("--data", clouds, "--calibration", 4, "--runtime", "onnxruntime", "--out", out, "--json", told)
        ran = shoestring("fit", model, *places, *options)
        assert (ran.code, ran.err) == (0, "")
        receipt = json.loads(told.read_text())
        assert "bf16" not in {baseline["name"] for baseline in receipt["baselines"]}  # points are sampled in float32
        assert not any(note.startswith("No MicroNet score") for note in receipt["notes"])
        answers = shoestring("run", out, clouds / "flat", "--top", 1)
        assert answers.out.splitlines()[-1].startswith("8 inputs, ")
        return shoe.read(out), receipt

    return run


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (("lsq+:w4a4", *TRAINED), "Trained for 1 epoch. Bits of weights: 29 at 4, 2 at 8, of 31 layers."),
        (("magnitude:4x1@50%", "--method", "int8", "--no-reconstruct"), "Pruned in one shot, without training: "),
        (("ltp", "--method", "lsq+:w8a8", *TRAINED), "Bits of weights: 31 at 8, of 31 layers."),
        (("channels:30%", "--method", "int8", "--no-reconstruct"), " of 994 outputs are gone, "),
    ],
    ids=["low bits", "blocks of zeros", "learned zeros", "channels"],
)
def test_methods(fit, network: str, methods: tuple[object, ...], said: str) -> None:
    artifact, receipt = fit(network, "--input", "64x3", "--method", *methods)
    assert any(said in note for note in receipt["notes"]), receipt["notes"]
    assert len([layer for layer in artifact.provenance["methods"] if layer]) >= LAYERS


def test_a_file_with_our_functions(fit, shoestring, network: str, clouds: Path, tmp_path: Path) -> None:
    """As a `.shoe` holds its original, and any exporter of ours writes it."""
    from shoestring.pipeline.original import resolve  # loads torch

    graph = resolve(network, None, "64x3").graph
    (tmp_path / "net.onnx").write_bytes(graph.SerializeToString())
    artifact, _ = fit(str(tmp_path / "net.onnx"), "--method", "int8", "--no-reconstruct")
    assert set(artifact.provenance["methods"].values()) == {"int8"}
    told = shoestring("receipt", tmp_path / "net.onnx", tmp_path / "x.shoe", "--seconds", 1)
    assert told.code in (0, 3), told.err
    told = shoestring("profile", tmp_path / "x.shoe", "--runtime", "onnxruntime")
    assert told.code == 0 and "FarthestPoints" in told.out, told.err
