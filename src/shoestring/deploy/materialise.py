"""An operating point's own graph: shared weights, sliced, and its own scales and biases, put into its initialisers."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from onnx import numpy_helper

from shoestring.core.ladder import Point
from shoestring.deploy.wire import MAX_BYTES, parse_model


def materialise(point: Point, members: Mapping[str, bytes]) -> bytes:
    """The serialised ONNX model of `point`. The initialisers named in its `weights`, `scales` and `bias` get the values
    of the members (npy format); their dtype and dims in the graph must fit, their old values may be left out.

    Raises ValueError when a member, a slice or an initialiser does not fit.
    """
    if not (point.weights or point.scales or point.bias):
        return members[point.onnx]
    model = parse_model(members[point.onnx])
    initialisers = {tensor.name: tensor for tensor in model.graph.initializer}
    total = len(members[point.onnx])
    for name, array in _values(point, members):
        total += array.nbytes
        if total > MAX_BYTES:
            raise ValueError(f"its graph and tensors have more than {MAX_BYTES} bytes together")
        if name not in initialisers:
            raise ValueError(f"the graph has no initialiser {name[:60]!r}")
        target, value = initialisers[name], numpy_helper.from_array(array, name)
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


def _values(point: Point, members: Mapping[str, bytes]) -> Any:
    """(initialiser, value) pairs of everything that `point` puts into its graph."""
    for name, part in point.weights.items():
        array = read_npy(members[part["member"]])
        if len(part["slice"]) > array.ndim or any(
            not 0 <= start < stop <= size for (start, stop), size in zip(part["slice"], array.shape, strict=False)
        ):
            raise ValueError(f"the slice of {name[:60]!r} is outside of its member {list(array.shape)}")
        yield name, array[tuple(slice(start, stop) for start, stop in part["slice"])]
    for name, member in [*point.scales.items(), *point.bias.items()]:
        yield name, read_npy(members[member])
