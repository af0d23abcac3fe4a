"""The `.shoe` file: what is written is read, and what `read` would refuse is not written."""

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

import shoestring
from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.core.receipt import Baseline, BudgetLine, LayerTime, Quality, Receipt, Speedup, Subject
from shoestring.deploy import shoe
from shoestring.deploy.shoe import Contents, read, write

SPEC = {"kind": "image", "resize": 8, "interpolation": "bilinear", "crop": [8, 8], "mean": [127] * 3, "std": [128] * 3}
SURE = {"temperature": 1.5, "threshold": 0.9}
RECEIPT = Receipt(
    device={"processor": "a processor", "threads": 1, "versions": {"onnxruntime": "1.0"}},
    subject=Subject("x.shoe", "openvino", 1.5, 1000, peak_mb=30.0),
    baselines=(Baseline("fp32", "onnxruntime", 4.0, 4000), Baseline("bf16", "openvino", 2, 4000, note="default")),
    speedup=(Speedup("fp32", 2.7, 2.5, 2.9, {"runtime": 1.2, "precision": 2.25}, realisation=0.7),),
    quality=Quality("top-1", "pt", 90.0, 89.5, -0.5, -1.0, 0.0, 500, agreement=0.97),
    budget=(BudgetLine("latency", 2.0, 1.5, "ms", True), BudgetLine("memory", 50.0, None, "MB", None)),
    verdict="holds",
    layers=(LayerTime("stem", 0.5, 0.2),),
    notes=("random weights",),
)


@pytest.fixture
def contents(classifier: ModelProto) -> Contents:
    return Contents(
        preprocess=SPEC,
        labels=("cat", "dog", "Käse", "naïve", "日本"),
        points=(Point("model.onnx", measured={"ms": 1.5, "runtime": "openvino"}),),
        members={"original.onnx": b"the original", "model.onnx": classifier.SerializeToString()},
        provenance={"methods": [{"name": "int8", "settings": {"calibration": "mse"}}], "seed": 0},
        receipt=RECEIPT,
    )


def test_round_trip(tmp_path: Path, contents: Contents) -> None:
    write(tmp_path / "x.shoe", contents)
    artifact = read(tmp_path / "x.shoe")
    for field in dataclasses.fields(Contents):
        assert getattr(artifact, field.name) == getattr(contents, field.name), field.name
    assert artifact.file == str(tmp_path / "x.shoe")
    assert artifact.onnx() == contents.members["model.onnx"]
    assert artifact.original == b"the original"


def test_what_may_be_left_out(tmp_path: Path, contents: Contents) -> None:
    smallest = Contents({"kind": "tensor", "shape": [3, 8, 8]}, (), contents.points, {"model.onnx": b""})
    write(tmp_path / "x.shoe", smallest)
    artifact = read(str(tmp_path / "x.shoe"))
    assert (artifact.labels, artifact.receipt, artifact.original, artifact.provenance) == ((), None, None, {})


def test_the_manifest_describes_the_file_to_any_reader(tmp_path: Path, contents: Contents) -> None:
    write(tmp_path / "x.shoe", contents)
    with zipfile.ZipFile(tmp_path / "x.shoe") as file:
        members = {name: file.read(name) for name in file.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    assert manifest["schema"] == 1
    assert manifest["members"] == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in members.items()
    }
    assert Receipt.from_json(json.loads(members["receipt.json"])) == RECEIPT


def test_equal_contents_give_equal_bytes(tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.shoe", contents)
    monkeypatch.setattr("time.time", lambda: 2e9)
    members = dict(reversed(contents.members.items()))
    provenance = dict(reversed(contents.provenance.items()))
    write(tmp_path / "b.shoe", dataclasses.replace(contents, members=members, provenance=provenance))
    assert (tmp_path / "a.shoe").read_bytes() == (tmp_path / "b.shoe").read_bytes()


def test_a_receipt_is_put_in_afterwards(tmp_path: Path, contents: Contents) -> None:
    write(tmp_path / "x.shoe", dataclasses.replace(contents, receipt=None))
    artifact = read(tmp_path / "x.shoe")
    assert artifact.receipt is None
    write(tmp_path / "x.shoe", dataclasses.replace(artifact, receipt=RECEIPT))
    assert read(tmp_path / "x.shoe").receipt == RECEIPT
    write(tmp_path / "again.shoe", dataclasses.replace(read(tmp_path / "x.shoe"), receipt=RECEIPT))
    assert (tmp_path / "again.shoe").read_bytes() == (tmp_path / "x.shoe").read_bytes()


def test_the_size_does_not_depend_on_what_was_measured(tmp_path: Path, contents: Contents) -> None:
    bare = dataclasses.replace(contents, receipt=None, points=(Point("model.onnx"),))
    write(tmp_path / "bare.shoe", bare)
    write(tmp_path / "full.shoe", dataclasses.replace(contents, receipt=RECEIPT))
    assert shoe.size(bare) == (tmp_path / "bare.shoe").stat().st_size
    assert shoe.size(read(tmp_path / "full.shoe")) == shoe.size(bare) < (tmp_path / "full.shoe").stat().st_size


def test_exits_are_kept(tmp_path: Path, contents: Contents) -> None:
    ladder = (dataclasses.replace(contents.points[0], confidence=SURE), Point("model.onnx", after=0))
    write(tmp_path / "x.shoe", dataclasses.replace(contents, points=ladder))
    assert read(tmp_path / "x.shoe").points == ladder


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_points_share_weights(tmp_path: Path, contents: Contents, classifier: ModelProto) -> None:
    head = np.random.default_rng(3).standard_normal((9, 4)).astype(np.float32)
    offsets = [np.full(5, value, np.float32) for value in (1, 2)]
    ladder = tuple(
        Point("model.onnx", {"head": {"member": "head.npy", "slice": [[i, i + 5]]}}, {}, {"offset": f"offset{i}.npy"})
        for i in range(2)
    )
    tensors = {"head.npy": npy(head), "offset0.npy": npy(offsets[0]), "offset1.npy": npy(offsets[1])}
    write(
        tmp_path / "x.shoe",
        dataclasses.replace(contents, points=ladder, members={**contents.members, **tensors}),
    )
    artifact = read(tmp_path / "x.shoe")
    for i in range(2):
        model = onnx.load_from_string(artifact.onnx(i))
        got = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        np.testing.assert_array_equal(got["head"], head[i : i + 5])
        np.testing.assert_array_equal(got["offset"], offsets[i])
        np.testing.assert_array_equal(got["w"], numpy_helper.to_array(classifier.graph.initializer[0]))
    for absent in (2, -1):
        with pytest.raises(BadInput, match=r"x\.shoe: there is no point"):
            artifact.onnx(absent)


def test_a_point_that_does_not_fit_names_file_and_point(tmp_path: Path, contents: Contents) -> None:
    ladder = (Point("model.onnx", {"head": {"member": "head.npy", "slice": [[0, 99]]}}),)
    members = {**contents.members, "head.npy": npy(np.zeros((5, 4), np.float32))}
    write(tmp_path / "x.shoe", dataclasses.replace(contents, points=ladder, members=members))
    with pytest.raises(BadInput, match=r"x\.shoe: point 0: the slice of 'head'"):
        read(tmp_path / "x.shoe").onnx()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"labels": ["cat"]}, "contents.labels is a list, not a tuple"),
        ({"labels": ("cat", 3)}, r"contents.labels\[1\] is a int"),
        ({"labels": ("cat\x1b[2J",)}, "control characters"),
        ({"labels": ("two\nlines",)}, "one line"),
        ({"labels": ("\ud800",)}, "control characters"),
        ({"points": ()}, "no operating point"),
        ({"points": (Point("absent.onnx"),)}, "'absent.onnx', which is not there"),
        ({"points": (Point("model.onnx", bias={"b": "c.npy"}),)}, "'c.npy', which is not there"),
        ({"points": (Point("model.onnx", weights={"w": "w.npy"}),)}, "weights of 'w'"),
        ({"points": (Point("model.onnx", weights={"w": {"member": "model.onnx", "slice": [3]}}),)}, "slice of 'w'"),
        ({"points": (Point("model.onnx", after=0),)}, "point 0 goes on after point 0; name an earlier one"),
        ({"points": (Point("model.onnx"), Point("model.onnx", after=-1))}, "point 1 goes on after point -1"),
        ({"points": (Point("model.onnx", confidence={"threshold": 0.5}),)}, "exactly the keys temperature, threshold"),
        ({"points": (Point("model.onnx", confidence={**SURE, "threshold": 1.5}),)}, "threshold of point 0 is 1.5"),
        ({"points": (Point("model.onnx", confidence={**SURE, "temperature": 0}),)}, "temperature of point 0 is 0,"),
        ({"points": (Point("model.onnx", confidence={**SURE, "temperature": float("inf")}),)}, "temperature of point"),
        ({"members": {"model.onnx": "text"}}, "contents.members.* is a str"),
        ({"members": {"model.onnx": b"", "../x": b""}}, "member name '../x'"),
        ({"members": {"model.onnx": b"", "receipt.json": b""}}, "receipt.json is reserved"),
        ({"provenance": {"path": Path("x")}}, "not JSON serializable"),
        ({"provenance": {"loss": float("nan")}}, "not JSON compliant"),
        ({"preprocess": {"kind": "image"}}, "takes exactly the keys"),
        ({"receipt": dataclasses.replace(RECEIPT, verdict="great")}, "verdict"),
        ({"receipt": dataclasses.replace(RECEIPT, notes=(1,))}, r"receipt.notes\[0\] is a int"),
    ],
)
def test_what_read_refuses_is_not_written(tmp_path: Path, contents: Contents, change: dict[str, Any], why: str) -> None:
    (tmp_path / "x.shoe").write_bytes(b"old")
    with pytest.raises(BadInput, match=f"x.shoe: cannot be written: .*{why}"):
        write(tmp_path / "x.shoe", dataclasses.replace(contents, **change))
    assert (tmp_path / "x.shoe").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.shoe"]


def test_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path, contents: Contents) -> None:
    """A process that writes two versions in turns is killed; what is left is one of them, whole."""
    write(tmp_path / "x.shoe", contents)
    script = (
        "import dataclasses, sys; from shoestring.deploy.shoe import *\n"
        "old = dataclasses.replace(read(sys.argv[1]), receipt=None)\n"
        "new = dataclasses.replace(old, labels=('new',) * 5)\n"
        "print('ready', flush=True)\n"
        "while True: write(sys.argv[1], new); write(sys.argv[1], old)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(shoestring.__path__[0]).parent)}
    for wait in (0.0, 0.01, 0.03):
        command = [sys.executable, "-c", script, str(tmp_path / "x.shoe")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(wait)
            child.kill()
        assert read(tmp_path / "x.shoe").labels in (contents.labels, ("new",) * 5)


def test_reading_loads_no_torch_and_no_runtime() -> None:
    script = (
        "import sys, shoestring.deploy.shoe; print(sorted({'torch', 'onnxruntime', 'openvino'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(shoestring.__path__[0]).parent)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "[]\n"


def test_the_schema_is_the_documented_one() -> None:
    assert shoe.SCHEMA == 1
