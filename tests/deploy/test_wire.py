"""Bounds on the raw protobuf, against what the protobuf library says of the same bytes."""

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from shoestring.deploy import wire
from shoestring.deploy.wire import parse_model


def message(field: int, body: bytes) -> bytes:
    """A length-delimited field."""
    size, head = len(body), bytearray([field << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + body


def test_a_model_is_parsed(classifier: ModelProto) -> None:
    assert parse_model(classifier.SerializeToString()) == classifier


def test_only_weights_and_text_are_payload(classifier: ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by the library: what is left when the payload is taken out, plus the lengths' own bytes."""
    model = ModelProto()
    model.CopyFrom(classifier)
    constant = model.graph.node.add(op_type="Constant", output=["k"])
    constant.attribute.add(name="value").t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.np.ones(5000)))
    constant.metadata_props.add(key="trace", value="file.py " * 500)
    floats = onnx.helper.make_tensor("floats", onnx.TensorProto.FLOAT, [3000], [0.5] * 3000)
    model.graph.initializer.append(floats)
    data = model.SerializeToString()
    for tensor in (*model.graph.initializer, constant.attribute[0].t):
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    constant.metadata_props[0].value = ""
    bare = len(model.SerializeToString())
    monkeypatch.setattr(wire, "MAX_STRUCTURE", bare + 100)
    assert len(parse_model(data).graph.node) == 6
    monkeypatch.setattr(wire, "MAX_STRUCTURE", bare - 100)
    with pytest.raises(ValueError, match="besides weights"):
        parse_model(data)


def test_memory_bombs_are_refused_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte pair would become a node (or an attribute) of 150 bytes and more."""

    def never(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(onnx, "ModelProto", never)
    monkeypatch.setattr(wire, "MAX_FIELDS", 10_000)
    nodes = message(7, b"\x0a\x00" * (wire.MAX_FIELDS + 1))
    with pytest.raises(ValueError, match="fields"):
        parse_model(nodes)
    hidden = message(7, message(1, message(5, message(6, b"\x0a\x00" * wire.MAX_STRUCTURE))))  # in a subgraph
    with pytest.raises(ValueError, match="besides weights"):
        parse_model(hidden)
    monkeypatch.setattr(wire, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        parse_model(bytes(11))


@given(st.binary(max_size=80))
def test_any_bytes_are_parsed_or_value_error(data: bytes) -> None:
    expected = ModelProto()
    try:
        model = parse_model(data)
    except ValueError:
        return
    expected.ParseFromString(data)
    assert model == expected


@given(st.data())
def test_a_cut_model_is_refused_or_what_the_library_reads(classifier: ModelProto, data: st.DataObject) -> None:
    cut = classifier.SerializeToString()
    cut = cut[: data.draw(st.integers(0, len(cut) - 1))]
    try:
        model = parse_model(cut)
    except ValueError:
        return
    assert ModelProto.FromString(cut) == model


@pytest.mark.parametrize(
    "data",
    [b"\x3a\x05\x0a", b"\x80" * 11, b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b", b"\x09\x00"],
    ids=range(5),
)
def test_broken_encodings_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an ONNX graph, or cut off"):
        parse_model(data)
