"""An artifact on point clouds: files, folders, a deadline, broken ones."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shoestring.core.ladder import Point
from shoestring.deploy.shoe import Contents, write

AXES = ("x", "y", "z")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A network whose answer anyone can tell: the axis along which a cloud is longest."""
    nodes = [helper.make_node("ReduceMax", ["cloud", "axes"], ["longest"], keepdims=0)]
    cloud = helper.make_tensor_value_info("cloud", TensorProto.FLOAT, [1, 64, 3])
    longest = helper.make_tensor_value_info("longest", TensorProto.FLOAT, [1, 3])
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    graph = helper.make_graph(nodes, "axes", [cloud], [longest], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    spec = {"kind": "points", "points": 64, "centre": "box", "scale": 0.1, "up": "z"}
    path = tmp_path / "axes.shoe"
    write(path, Contents(spec, AXES, (Point("model.onnx"),), {"model.onnx": model.SerializeToString()}))
    return path


@pytest.fixture
def clouds(tmp_path: Path) -> Path:
    folder = tmp_path / "clouds"
    folder.mkdir()
    for index, axis in enumerate(AXES):
        points = np.random.default_rng(index).random((100, 3))
        points[:, index] *= 4
        np.save(folder / f"{axis}.npy", points)
        np.savetxt(folder / f"{axis}.xyz", points)
    return folder


def test_files_and_folders(shoestring, artifact: Path, clouds: Path, tmp_path: Path) -> None:
    (clouds / "licence.txt").write_text("all of it")
    told = shoestring("run", artifact, clouds, clouds / "z.xyz", "--top", 1, "--json", tmp_path / "x.json")
    assert (told.code, told.err) == (0, "")
    answers = json.loads((tmp_path / "x.json").read_text())
    assert [Path(answer["input"]).name for answer in answers] == [
        *(f"{axis}.{suffix}" for axis in AXES for suffix in ("npy", "xyz")),
        "z.xyz",
    ]
    assert [answer["predictions"][0]["label"] for answer in answers] == [*"xxyyzz", "z"]


def test_frames_with_and_without_a_deadline(shoestring, artifact: Path, clouds: Path, tmp_path: Path) -> None:
    for options in ((), ("--deadline", "1s")):
        told = shoestring("run", artifact, clouds, "--frames", 8, *options, "--json", tmp_path / "x.json")
        assert told.code == 0, told.err
        answers = json.loads((tmp_path / "x.json").read_text())
        assert [answer["predictions"][0]["label"] for answer in answers] == [*"xxyyzzxx"]


def test_broken_clouds(shoestring, artifact: Path, clouds: Path, tmp_path: Path) -> None:
    (clouds / "x.npy").write_bytes(b"\x93NUMPY")
    told = shoestring("run", artifact, clouds, "--top", 1)
    assert told.code == 0
    assert f"{clouds / 'x.npy'}: not a readable npy file" in told.out
    assert told.out.splitlines()[-1].startswith("5 inputs, ")
    told = shoestring("run", artifact, clouds, "--frames", 6, "--deadline", "1s", "--top", 1)
    assert f"{clouds / 'x.npy'}: not a readable npy file" in told.out
    (tmp_path / "empty").mkdir()
    told = shoestring("run", artifact, tmp_path / "empty")
    assert told.code == 2
    assert "holds no point cloud" in told.said
    told = shoestring("run", artifact, tmp_path / "axes.shoe")
    assert told.code == 2


def test_a_picture_is_no_cloud(shoestring, artifact: Path, photographs: Path) -> None:
    picture = next(photographs.rglob("*.png"))
    told = shoestring("run", artifact, picture)
    assert told.code == 2
    assert "not a point cloud by its name" in told.out
