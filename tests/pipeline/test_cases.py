"""From files on disk to what is measured: the subject, its original, and the dense 8-bit baseline."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shoestring.core.budget import Budget
from shoestring.core.device import Device
from shoestring.core.errors import BadInput
from shoestring.deploy import shoe
from shoestring.deploy.normal_form import is_quantised, violations
from shoestring.pipeline.cases import against, case_of, claims, split_of
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import outputs

MACS = 16 * 16 * 16 * 27 + 2 * 16 * 16 * (16 * 9 + 16 * 16) + 160  # stem, two blocks, classifier


def weights_of(model: onnx.ModelProto) -> list[np.ndarray]:
    """Of convolutions and linear layers, in the order of the graph."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [constants[node.input[1]] for node in model.graph.node if node.op_type in ("Conv", "Gemm")]


@pytest.fixture
def edited(fitted, tmp_path: Path):
    """`edited(provenance={...}, members={...}, points=(...))`: the fitted file with something else in it."""

    def write(**changes: Any) -> str:
        artifact = shoe.read(fitted.path)
        contents = shoe.Contents(
            artifact.preprocess, artifact.labels, artifact.points, artifact.members, artifact.provenance
        )
        path = tmp_path / "edited.shoe"
        shoe.write(path, replace(contents, **changes))
        return str(path)

    return write


def test_a_shoe_alone_is_measured_against_its_stored_graph(fitted, device: Device, original: Original) -> None:
    case = case_of(str(fitted.path), device)
    assert case.file == "tiny.shoe"
    assert case.size == fitted.receipt.subject.size_bytes
    assert (case.trained, case.samples, case.macs) == (False, None, (MACS, MACS))
    assert is_quantised(case.subject)
    assert not is_quantised(case.original)
    assert violations(case.int8) == []
    assert case.layers == [layer.name for layer in original.layers if layer.weight]
    assert "random weights" in " ".join(case.notes)
    assert "No training was done." in case.notes
    shapes = {t.name: list(t.dims) for t in original.graph.graph.initializer}
    assert {t.name: list(t.dims) for t in case.original.graph.initializer} == shapes


def test_a_shoe_with_its_original(fitted, device: Device, original: Original, samples, inputs) -> None:
    """The original is the real one, and the 8-bit baseline is calibrated on the samples, not on noise."""
    case = case_of(str(fitted.path), device, original, samples)
    assert case.original == original.graph
    assert (case.trained, case.samples) == (True, samples)
    seen = samples.calibration
    wanted = outputs(original.graph, "onnxruntime", seen)
    error = np.abs(outputs(case.int8, "onnxruntime", seen) - wanted).max()
    of_noise = case_of(str(fitted.path), device, original).int8
    assert error < 0.5 * np.abs(outputs(of_noise, "onnxruntime", seen) - wanted).max()
    assert not case_of(str(fitted.path), device, replace(original, trained=False)).trained


@pytest.mark.parametrize("name", ["float", "old"])
def test_a_plain_file_is_its_own_original(name: str, onnx_files: Mapping[str, Path], device: Device, inputs) -> None:
    case = case_of(str(onnx_files[name]), device)
    assert (case.file, case.trained, case.notes) == (f"{name}.onnx", True, ())
    assert case.macs == (MACS, MACS)
    for graph in (case.subject, case.original):
        assert not is_quantised(graph)
        assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert is_quantised(case.int8)
    np.testing.assert_allclose(
        outputs(case.subject, "onnxruntime", inputs),
        outputs(case.original, "onnxruntime", inputs),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_quantised_file_is_measured_against_itself_in_floats(onnx_files, device: Device) -> None:
    case = case_of(str(onnx_files["qdq"]), device)
    assert is_quantised(case.subject)
    assert not is_quantised(case.original)
    assert "in floats" in " ".join(case.notes)
    assert not case.trained
    # Its weights are those of the float file, each rounded to one of 255 steps.
    found, expected = (weights_of(graph) for graph in (case.original, onnx.load(onnx_files["old"])))
    assert len(found) == len(expected) == 6
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() <= 0.51 * np.abs(theirs).max() / 127


def test_a_file_of_integer_operators_has_no_float_form(onnx_files, device: Device, original: Original) -> None:
    with pytest.raises(BadInput, match="QLinearConv has no float form"):
        case_of(str(onnx_files["qoperator"]), device)
    assert case_of(str(onnx_files["qoperator"]), device, original).original == original.graph


def test_a_network_without_layers_has_no_8_bit_baseline(tmp_path: Path, device: Device) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", values[:1], values[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "relu.onnx"
    )
    case = case_of(str(tmp_path / "relu.onnx"), device)
    assert case.int8 is None
    assert case.notes == ("No dense 8-bit baseline: the network has no convolution or linear layer.",)


def test_against_other_files(fitted, onnx_files: Mapping[str, Path], device: Device, tmp_path: Path) -> None:
    """By their names; the second file of a name by its path."""
    case = case_of(str(fitted.path), device)
    (tmp_path / "qdq.onnx").write_bytes(onnx_files["qdq"].read_bytes())
    for path in (onnx_files["qdq"], onnx_files["float"], tmp_path / "qdq.onnx"):
        case = against(case, str(path))
    assert list(case.others) == ["qdq.onnx", "float.onnx", str(tmp_path / "qdq.onnx")]


def test_files_with_other_inputs_cannot_be_compared(fitted, device: Device, tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "relu.onnx")
    with pytest.raises(BadInput, match=r"takes inputs \(1, 3, 4, 4\) where \(1, 3, 32, 32\) are taken"):
        against(case_of(str(fitted.path), device), str(tmp_path / "relu.onnx"))
    other = Original("other", model, (), (3, 4, 4))
    with pytest.raises(BadInput, match="its original: takes inputs"):
        case_of(str(fitted.path), device, other)


def test_what_a_file_says_of_itself(fitted, onnx_files: Mapping[str, Path], edited) -> None:
    path = str(fitted.path)
    assert claims(path) == Budget.parse("latency<=50x, size<=1MB")
    told = shoe.read(path).provenance["data"]
    assert split_of(path) == {"calibration": 8, "seed": 0, "sha256": told["sha256"]}
    plain = str(onnx_files["float"])
    assert (claims(plain), split_of(plain)) == (Budget(), {})
    for data in (None, 3, [8], {"calibration": "8", "seed": True}):
        assert split_of(edited(provenance={"data": data})) == {}
    assert claims(edited(provenance={})) == Budget()
    with pytest.raises(BadInput, match="cannot read 'anything'"):
        claims(edited(provenance={"budget": "anything"}))


def test_bad_files_are_told_in_one_line(tmp_path: Path, device: Device, edited, fitted) -> None:
    (tmp_path / "text.shoe").write_text("no zip")
    (tmp_path / "text.onnx").write_text("no graph")
    (tmp_path / "model.tflite").write_text("")
    (tmp_path / "cut.shoe").write_bytes(fitted.path.read_bytes()[:-300])
    (tmp_path / "cut.onnx").write_bytes(shoe.read(fitted.path).onnx()[:-300])
    hostile = edited(members={**shoe.read(fitted.path).members, shoe.ORIGINAL: b"\x08\x0a\x12\xff"})
    names = ("text.shoe", "text.onnx", "model.tflite", "cut.shoe", "cut.onnx", "none.shoe", "none.onnx")
    for path in (*(str(tmp_path / name) for name in names), hostile):
        with pytest.raises(BadInput) as refused:
            case_of(path, device)
        assert str(refused.value).startswith(path)
        assert "\n" not in str(refused.value)


def test_a_file_without_its_original_is_measured_in_floats(edited, fitted, device: Device) -> None:
    members = {name: data for name, data in shoe.read(fitted.path).members.items() if name != shoe.ORIGINAL}
    case = case_of(edited(members=members), device)
    assert "in floats" in " ".join(case.notes)
    assert not is_quantised(case.original)
