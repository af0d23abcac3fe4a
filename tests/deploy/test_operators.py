"""The allow-list against the schemas of ONNX and of ONNX Runtime."""

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as state

from shoestring.deploy import geometry
from shoestring.deploy.operators import ALLOWED


def test_every_operator_exists() -> None:
    standard = {("", schema.name) for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    contributed = {("com.microsoft", schema.name) for schema in state.get_all_operator_schema()}
    ours = {(geometry.DOMAIN, name) for name in geometry.functions()}
    assert standard | contributed | ours >= ALLOWED


def test_what_perception_needs_is_in_and_what_it_does_not_is_out() -> None:
    needed = (
        "Conv Gemm MatMul Relu HardSwish Sigmoid Add Resize QuantizeLinear DequantizeLinear Loop If TopK GridSample"
    )
    assert {("", name) for name in needed.split()} <= ALLOWED
    assert ("com.microsoft", "MatMulNBits") in ALLOWED
    unneeded = "ImageDecoder StringConcat RegexFullMatch RandomNormal SequenceMap Optional TfIdfVectorizer"
    assert not {("", name) for name in unneeded.split()} & ALLOWED
    assert not {("com.microsoft", name) for name in ("EPContext", "Snpe", "Tokenizer")} & ALLOWED
