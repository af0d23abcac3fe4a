"""Operating points against graphs built with the values by hand."""

import contextlib
import io
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring.core.ladder import Point
from shoestring.deploy.materialise import materialise, read_npy

FULL = np.random.default_rng(0).integers(-127, 128, (8, 3, 1, 1), dtype=np.int8)
SCALES = np.linspace(0.01, 0.03, 4, dtype=np.float32)
BIAS = np.array([3, -4, 5, 600], np.int32)


def npy(array: np.ndarray, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **settings)
    return buffer.getvalue()


def stripped(name: str, kind: int, *dims: int) -> TensorProto:
    return TensorProto(name=name, data_type=kind, dims=dims)


def half_width() -> ModelProto:
    """A convolution of the first four outputs of FULL: weights and bias dequantised, no values inside."""
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wf"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "s"], ["bf"], axis=0),
        helper.make_node("Conv", ["x", "wf", "bf"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 2, 2])],
        [
            stripped("w", TensorProto.INT8, 4, 3, 1, 1),
            stripped("s", TensorProto.FLOAT, 4),
            stripped("b", TensorProto.INT32, 4),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


POINT = Point(
    "half.onnx",
    weights={"w": {"member": "w.npy", "slice": [[0, 4], [0, 3]]}},
    scales={"s": "s.npy"},
    bias={"b": "b.npy"},
)
MEMBERS = {
    "half.onnx": half_width().SerializeToString(),
    "w.npy": npy(FULL),
    "s.npy": npy(SCALES),
    "b.npy": npy(BIAS),
}


def test_a_point_without_shared_tensors_is_its_member(classifier: ModelProto) -> None:
    data = classifier.SerializeToString()
    assert materialise(Point("m.onnx"), {"m.onnx": data}) is data


def test_the_values_are_put_in_and_the_graph_computes() -> None:
    data = materialise(POINT, MEMBERS)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(data).graph.initializer}
    np.testing.assert_array_equal(tensors["w"], FULL[:4])
    np.testing.assert_array_equal(tensors["s"], SCALES)
    np.testing.assert_array_equal(tensors["b"], BIAS)
    x = np.random.default_rng(1).standard_normal((1, 3, 2, 2)).astype(np.float32)
    got = onnxruntime.InferenceSession(data).run(None, {"x": x})[0]
    weight = FULL[:4, :, 0, 0] * SCALES[:, None].astype(np.float64)
    expected = np.einsum("oi,nihw->nohw", weight, x) + (BIAS * SCALES.astype(np.float64))[:, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)  # float32 against float64
    assert materialise(POINT, MEMBERS) == data


def test_slices_may_start_anywhere_and_leave_axes_out() -> None:
    weights = {"w": {"member": "w.npy", "slice": [[3, 7]]}}
    data = materialise(Point("half.onnx", weights=weights), MEMBERS)
    np.testing.assert_array_equal(numpy_helper.to_array(onnx.load_from_string(data).graph.initializer[0]), FULL[3:7])


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ({"w": {"member": "w.npy", "slice": [[0, 5]]}}, "does not fit"),
        ({"w": {"member": "w.npy", "slice": [[0, 9]]}}, "outside"),
        ({"w": {"member": "w.npy", "slice": [[-4, 4]]}}, "outside"),
        ({"w": {"member": "w.npy", "slice": [[4, 4]]}}, "outside"),
        ({"w": {"member": "w.npy", "slice": [[0, 1]] * 5}}, "outside"),
        ({"w": {"member": "s.npy", "slice": []}}, "does not fit"),
        ({"v": {"member": "w.npy", "slice": [[0, 4]]}}, "no initialiser 'v'"),
        ({"w": {"member": "half.onnx", "slice": []}}, "not in npy format"),
    ],
)
def test_what_does_not_fit_is_refused(weights: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        materialise(Point("half.onnx", weights=weights), MEMBERS)


def test_a_broken_graph_is_refused() -> None:
    with pytest.raises(ValueError, match="not an ONNX graph"):
        materialise(POINT, {**MEMBERS, "half.onnx": b"junk"})


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8, np.int32, np.int64, np.bool_])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_npy_files_are_read(dtype: type, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    got = read_npy(npy(array))
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        npy(np.array([object()], object)),
        npy(np.array(["a"])),
        npy(np.zeros(2, [("a", np.int8)])),
        npy(np.zeros(2, ">f4")),
        npy(np.asfortranarray(np.zeros((2, 3)))),
        npy(np.zeros(3))[:-1],
        npy(np.zeros(3)) + b"x",
        npy(np.zeros(3)).replace(b"(3,), ", b"(3,9),"),
        npy(np.zeros(12)).replace(b"(12,)", b"(-3,)"),
        npy(np.zeros(12)).replace(b"(12,), }    ", b"(10**12,), }"),
    ],
    ids=range(12),
)
def test_other_npy_files_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="a tensor"):
        read_npy(data)


@given(st.integers(0, 127), st.integers(0, 255), st.integers(0, 127), st.integers(0, 255))
def test_damaged_npy_files_are_read_or_value_error(at: int, byte: int, at2: int, byte2: int) -> None:
    data = bytearray(npy(np.zeros(3)))
    data[at], data[at2] = byte, byte2
    with contextlib.suppress(ValueError):
        assert read_npy(bytes(data)).nbytes == 24
