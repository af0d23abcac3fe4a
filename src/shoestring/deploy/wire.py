"""Parsing a model's protobuf in bounded memory.

Two bytes on the wire (an empty node) become 150 in memory, so that a small `.shoe` could fill a machine. What is not
weights or text is therefore counted on the raw bytes before they are parsed (protobuf encoding, "wire types").
"""

from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError

MAX_BYTES = 2**30  # protobuf itself ends at 2 GiB
MAX_STRUCTURE = 2**23  # bytes besides weights and text; a network of 5000 nodes has about one tenth
MAX_FIELDS = 2**20  # visited while counting
# Field numbers of onnx.proto: where payload lies (None), message by message.
_TENSOR: dict[int, Any] = {4: None, 9: None, 10: None}  # float_data, raw_data, double_data
_NODE = {5: {5: _TENSOR}, 6: None, 9: {2: None}}  # attribute.t, doc_string, metadata_props.value
_MODEL = {7: {1: _NODE, 5: _TENSOR, 10: None}}  # graph: node, initializer, doc_string


def parse_model(data: bytes) -> onnx.ModelProto:
    """The model in `data`. Raises ValueError when it is none, or larger than the bounds above."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"the graph has more than {MAX_BYTES} bytes")
    if len(data) - _payload(data, 0, len(data), _MODEL, iter(range(MAX_FIELDS))) > MAX_STRUCTURE:
        raise ValueError(f"the graph has more than {MAX_STRUCTURE} bytes besides weights in its initialisers")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise ValueError("not an ONNX graph, or cut off") from None
    return model


def _payload(data: bytes, start: int, stop: int, where: dict[int, Any], fields: Iterator[int]) -> int:
    """Bytes of weights and text in the message at data[start:stop]; takes one of `fields` for each field it sees."""
    total = 0
    while start < stop:
        if next(fields, None) is None:
            raise ValueError(f"the graph has more than {MAX_FIELDS} fields")
        key, start = _varint(data, start, stop)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            _, start = _varint(data, start, stop)
        elif wire_type == 1:
            start += 8
        elif wire_type == 5:
            start += 4
        elif wire_type == 2:
            size, start = _varint(data, start, stop)
            if size > stop - start:
                break
            if number in where:
                inner = where[number]
                total += size if inner is None else _payload(data, start, start + size, inner, fields)
            start += size
        else:
            break
    if start != stop:
        raise ValueError("not an ONNX graph, or cut off")
    return total


def _varint(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """The number at `start`, seven bits a byte, and where it ends."""
    value = 0
    for position in range(start, min(stop, start + 10)):
        value |= (data[position] & 0x7F) << (7 * (position - start))
        if data[position] < 0x80:
            return value, position + 1
    raise ValueError("not an ONNX graph, or cut off")
