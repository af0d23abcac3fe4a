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

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.deploy import shoe
from shoestring.deploy.materialise import materialise, pack_weights, read_npy

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


# Packed weights.


def network(bits: dict[str, int], operator: str = "Conv") -> ModelProto:
    """Layers named by `bits`, one behind the other, with int8 weights of so many bits and float inputs between."""
    rng, nodes, tensors, x = np.random.default_rng(1), [], [], "x"
    for name, width in bits.items():
        half = 2 ** (width - 1)
        constants = {
            f"{name}.w": rng.integers(-half, half, (16, 16, 3, 3)).astype(np.int8),
            f"{name}.s": np.full(16, 0.01, np.float32),
        }
        tensors += [numpy_helper.from_array(value, key) for key, value in constants.items()]
        nodes += [
            helper.make_node("DequantizeLinear", list(constants), [f"{name}.f"], axis=0, name=f"{name}.f"),
            helper.make_node(operator, [x, f"{name}.f"], [f"{name}.y"], name=name, pads=[1] * 4),
        ]
        x = f"{name}.y"
    sides = [1, 16, 4, 4]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in ("x", x)]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


BITS = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 8}


def packed_point(model: ModelProto, bits: dict[str, int]) -> tuple[Point, dict[str, bytes]]:
    stripped, members, weights = pack_weights(model, bits)
    return Point("m.onnx", weights=weights), {"m.onnx": stripped.SerializeToString(), **members}


def test_packed_weights_come_back() -> None:
    model = network(BITS)
    before = model.SerializeToString(deterministic=True)
    point, members = packed_point(model, BITS)
    assert model.SerializeToString(deterministic=True) == before
    assert sorted(point.weights) == ["a.w", "b.w", "c.w"]
    assert materialise(point, members) == before
    stripped = onnx.load_from_string(members["m.onnx"])
    for old, new in zip(model.graph.initializer, stripped.graph.initializer, strict=True):
        assert (old.name, old.data_type, old.dims) == (new.name, new.data_type, new.dims)
        assert len(new.raw_data) == (0 if new.name in point.weights else len(old.raw_data))
    count = 16 * 16 * 9
    assert len(read_npy(members["weights.npy"])) == count * 2 // 8 + 2 * count * 4 // 8  # 3 bits are stored in 4


def test_a_packed_member_is_what_numpy_reads() -> None:
    _, members, weights = pack_weights(network({"a": 4}), {"a": 4})
    row = np.load(io.BytesIO(members["weights.npy"]))
    codes = np.stack([row & 15, row >> 4], axis=-1).reshape(weights["a.w"]["shape"]).astype(int) - 8
    assert np.array_equal(codes, numpy_helper.to_array(network({"a": 4}).graph.initializer[0]))


@pytest.mark.parametrize("bits", [{}, {"a": 8}, {"other": 4}, {"a": 5}])
def test_nothing_to_pack(bits: dict[str, int]) -> None:
    model = network({"a": 4})
    stripped, members, weights = pack_weights(model, bits)
    assert stripped == model and members == {} and weights == {}


def test_codes_beyond_their_bits_are_refused() -> None:
    with pytest.raises(BadInput, match=r"^c: codes -8\.\.7 go beyond 2 bits"):
        pack_weights(network({"c": 4}), {"c": 2})


def test_a_file_is_as_small_as_its_bits(tmp_path: Any) -> None:
    """Members included: b / 8 of the int8 codes, and what a graph without weights takes."""
    sizes = {}
    for width in (2, 4, 8):
        model = network({"a": width, "b": width, "c": width})
        point, members = packed_point(model, {"a": width, "b": width, "c": width})
        shoe.write(tmp_path / "x.shoe", shoe.Contents({"kind": "tensor", "shape": [16, 4, 4]}, (), (point,), members))
        sizes[width] = (tmp_path / "x.shoe").stat().st_size
        assert shoe.read(tmp_path / "x.shoe").onnx() == model.SerializeToString(deterministic=True)
    count = 3 * 16 * 16 * 9
    for width, size in sizes.items():
        assert 0 < size - count * width / 8 < 2100, (width, size)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "bits": ({"bits": 3}, "3 bits"),
    "negative bits": ({"bits": -4}, "-4 bits"),
    "no shape": ({"shape": []}, "are not offered"),
    "other shape": ({"shape": [16, 16, 3, 1]}, "bytes are not"),
    "same number, other shape": ({"shape": [16, 3, 16, 3]}, "does not fit its initialiser"),
    "negative shape": ({"shape": [-16, -16, 3, 3]}, "are not offered"),
    "empty": ({"shape": [0, 16, 3, 3]}, "are not offered"),
    "huge": ({"shape": [2**40, 2**40]}, "have more than"),
    "a gigabyte": ({"shape": [2**30, 1]}, "have more than"),
    "other slice": ({"slice": [[0, 100]]}, "bytes are not"),
    "slice outside": ({"slice": [[0, 10**9]]}, "outside of its member"),
    "whole member": ({"slice": []}, ""),
    "two axes": ({"slice": [[0, 1152], [0, 1]]}, "outside of its member"),
    "no bytes": ({"member": "s.npy"}, "is packed in float32"),
    "part outside": ({"part": [[0, 17]]}, "outside of its member"),
    "part of nothing": ({"part": [[3, 3]]}, "outside of its member"),
    "too many axes": ({"part": [[0, 1]] * 5}, "outside of its member"),
    "a part that does not fit": ({"part": [[0, 8]]}, "does not fit its initialiser"),
    "all of it": ({"part": [[0, 16], [0, 16]]}, ""),
    "no npy": ({"member": "m.onnx"}, "not in npy format"),
}


@pytest.mark.parametrize("case", WRONG)
def test_packed_weights_that_do_not_fit_are_refused(case: str) -> None:
    change, why = WRONG[case]
    point, members = packed_point(network({"a": 4}), {"a": 4})
    wrong = Point("m.onnx", weights={"a.w": {**point.weights["a.w"], **change}})
    members["s.npy"] = npy(np.zeros(1152, np.float32))
    if not why:
        assert materialise(wrong, members) == materialise(point, members)
        return
    with pytest.raises(ValueError, match=why) as refused:
        materialise(wrong, members)
    assert len(str(refused.value)) < 300


def test_sizes_are_capped_before_anything_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slice may be named by any number of tensors."""
    point, members = packed_point(network({"a": 4}), {"a": 4})
    monkeypatch.setattr("shoestring.deploy.materialise.MAX_BYTES", 5000)

    def never(*_: Any) -> Any:
        raise AssertionError("unpacked")

    monkeypatch.setattr("shoestring.deploy.materialise.unpack", never)
    many = Point("m.onnx", weights={f"{name}": point.weights["a.w"] for name in ("a.w", "b.w", "c.w")})
    with pytest.raises(ValueError, match="more than 5000 bytes together"):
        materialise(many, members)


pairs = st.lists(st.tuples(st.integers(), st.integers()))
values = st.integers(-1, 9) | st.lists(st.integers(-1, 20), max_size=4) | pairs


@given(st.dictionaries(st.sampled_from(["bits", "shape", "slice", "part"]), values))
def test_any_manifest_of_a_packed_weight_is_read_or_refused(change: dict[str, Any]) -> None:
    point, members = packed_point(network({"a": 4}), {"a": 4})
    part = {**point.weights["a.w"], **change}
    contents = shoe.Contents({"kind": "tensor", "shape": [1]}, (), (Point("m.onnx", weights={"a.w": part}),), members)
    with contextlib.suppress(BadInput):
        shoe.size(contents)
        artifact = shoe.Artifact(**vars(contents), file="x")
        assert artifact.onnx() == materialise(point, members)
