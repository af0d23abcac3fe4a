"""An operating point's own graph: shared weights, sliced or packed, and its own scales and biases, put into its
initialisers; and the way there for low-bit weights, which runtimes compute with at 8 bits and a file need not store so.
"""

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from shoestring.core.errors import BadInput
from shoestring.core.ladder import Point
from shoestring.deploy.packing import STORED, pack, shift_of, unpack
from shoestring.deploy.rewrite import WEIGHTED, initialisers
from shoestring.deploy.wire import MAX_BYTES, parse_model

PACKED = "weights.npy"  # the member with all packed weights


def pack_weights(
    model: ModelProto, bits: Mapping[str, int]
) -> tuple[ModelProto, dict[str, bytes], dict[str, dict[str, Any]]]:
    """For a `.shoe`: a copy of `model` (normal form) without the int8 weights of those layers of `bits` (layer to bits
    of its codes) that are stored in fewer; the member with all of them packed (none when there are none); and the
    `weights` of a Point that put them back. The graph keeps names, types and shapes. 5 to 7 bits stay as they are: the
    file is deflated, which saves their idle bits. Raises BadInput for codes beyond their bits."""
    stripped = ModelProto()
    stripped.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in stripped.graph.initializer}
    parts: list[NDArray[np.uint8]] = []
    weights: dict[str, dict[str, Any]] = {}
    for name, (layer, codes) in _int8_weights(model).items():
        if bits.get(layer) not in STORED:
            continue
        width = STORED[bits[layer]]
        start = sum(map(len, parts))
        try:
            shift = shift_of(codes)
            parts.append(pack(codes >> shift, width))
        except ValueError as error:
            raise BadInput(f"{layer}: {error}") from None
        stop = start + len(parts[-1])
        where = {"member": PACKED, "slice": [[start, stop]]}
        weights[name] = {**where, "bits": width, "shift": shift, "shape": list(codes.shape)}
        tensors[name].ClearField("raw_data")
        tensors[name].ClearField("int32_data")
    return stripped, {PACKED: npy_bytes(np.concatenate(parts))} if parts else {}, weights


def materialise(point: Point, members: Mapping[str, bytes]) -> bytes:
    """The serialised ONNX model of `point`. The initialisers named in its `weights`, `scales` and `bias` get the values
    of the members (npy format); their dtype and dims in the graph must fit, their old values may be left out.

    Raises ValueError when a member, a slice or an initialiser does not fit.
    """
    if not (point.weights or point.scales or point.bias):
        return members[point.onnx]
    model = parse_model(members[point.onnx])
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    total = len(members[point.onnx])
    if total + sum(_unpacked(name, part) for name, part in point.weights.items()) > MAX_BYTES:
        raise ValueError(f"its graph and tensors have more than {MAX_BYTES} bytes together")
    for name, array in _values(point, members):
        total += array.nbytes
        if total > MAX_BYTES:
            raise ValueError(f"its graph and tensors have more than {MAX_BYTES} bytes together")
        if name not in tensors:
            raise ValueError(f"the graph has no initialiser {name[:60]!r}")
        target, value = tensors[name], numpy_helper.from_array(array, name)
        if target.data_type != value.data_type or target.dims != value.dims:
            raise ValueError(f"tensor {name[:60]!r} of {array.dtype} {list(array.shape)} does not fit its initialiser")
        target.CopyFrom(value)
    return model.SerializeToString(deterministic=True)


def read_npy(data: bytes) -> NDArray[Any]:
    """The array of an `.npy` file (version 1, C order, plain numbers), without copying. Raises ValueError otherwise.

    `numpy.load` would allocate what the header asks for before it sees how much there is.
    """
    file = io.BytesIO(data)
    try:
        if npy.read_magic(file) != (1, 0):
            raise ValueError("not version 1")
        shape, fortran, dtype = npy.read_array_header_1_0(file)
    except Exception:  # numpy evaluates the header as a Python literal, which fails in many ways
        raise ValueError("a tensor is not in npy format, version 1") from None
    if fortran or dtype.kind not in "fiub" or not dtype.isnative:
        raise ValueError(f"a tensor is {dtype}, not plain numbers in C order")
    if min(shape, default=0) < 0:
        raise ValueError("a tensor has a negative size")
    try:
        return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape)
    except ValueError:
        raise ValueError("a tensor is not as long as its header says") from None


def _values(point: Point, members: Mapping[str, bytes]) -> Iterator[tuple[str, NDArray[Any]]]:
    """(initialiser, value) pairs of everything that `point` puts into its graph."""
    for name, told in point.weights.items():
        array = _cut(name, read_npy(members[told["member"]]), told["slice"])
        if "bits" in told:
            if array.dtype != np.uint8:
                raise ValueError(f"tensor {name[:60]!r} is packed in {array.dtype}, not in bytes")
            array = unpack(array, told["bits"], tuple(told["shape"]))
            array = _cut(name, array, told.get("part", ())) << told["shift"]
        yield name, array
    for name, member in [*point.scales.items(), *point.bias.items()]:
        yield name, read_npy(members[member])


def _cut(name: str, array: NDArray[Any], ranges: Iterable[Sequence[int]]) -> NDArray[Any]:
    """The part of `array` within [start, stop] along its first axes."""
    found = tuple(slice(start, stop) for start, stop in ranges)
    if len(found) > array.ndim or any(
        not 0 <= one.start < one.stop <= size for one, size in zip(found, array.shape, strict=False)
    ):
        raise ValueError(f"the slice of {name[:60]!r} is outside of its member {list(array.shape)}")
    return array[found]


def _unpacked(name: str, part: Mapping[str, Any]) -> int:
    """How many bytes a packed tensor claims to become; 0 for one that is not packed."""
    if "bits" not in part:
        return 0
    if part["bits"] not in STORED.values() or min(part["shape"], default=0) < 1:
        raise ValueError(f"tensor {name[:60]!r}: {part['bits']} bits for {list(part['shape'])} codes are not offered")
    if not 0 <= part["shift"] < 8:
        raise ValueError(f"tensor {name[:60]!r}: {part['bits']} bits moved up by {part['shift']} do not fit a byte")
    return math.prod(part["shape"])


def _int8_weights(model: ModelProto) -> dict[str, tuple[str, NDArray[np.int8]]]:
    """Initialiser to (layer, codes) of every weighted node's int8 weight; one that two layers share is the first's."""
    constants = initialisers(model)
    sources = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    found: dict[str, tuple[str, NDArray[np.int8]]] = {}
    for node in model.graph.node:
        name = sources.get(node.input[1], "") if node.op_type in WEIGHTED else ""
        if name in constants and constants[name].dtype == np.int8:
            found.setdefault(name, (node.name, constants[name]))
    return found


def npy_bytes(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, array, version=(1, 0), allow_pickle=False)
    return file.getvalue()
