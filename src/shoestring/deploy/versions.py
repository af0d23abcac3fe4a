"""Files of other opsets and with open batch axes, brought to the form that everything here works on."""

from onnx import ModelProto, version_converter

from shoestring.core.errors import BadInput
from shoestring.deploy.geometry import define
from shoestring.deploy.rewrite import IR_VERSION


def to_opset(model: ModelProto, opset: int) -> ModelProto:
    """A copy at `opset` whose inputs have batch 1 and are no initialisers (old files list those too). Raises BadInput
    when the converter cannot, or when another axis of an input than the first is open."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    del fixed.graph.input[:]
    fixed.graph.input.extend(value for value in model.graph.input if value.name not in constants)
    for value in fixed.graph.input:
        for index, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.dim_value < 1:
                if index:
                    raise BadInput(f"onnx: axis {index} of {value.name} has no fixed length; export it with one")
                axis.dim_value = 1
    current = next((item.version for item in fixed.opset_import if item.domain in ("", "ai.onnx")), 0)
    if current != opset:
        try:
            fixed = version_converter.convert_version(fixed, opset)
        except Exception as error:  # the converter raises bare RuntimeErrors
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"onnx: opset {current} cannot be brought to {opset}: {reason}") from None
        define(fixed)  # the converter drops functions; ours are of their own opset
    fixed.ir_version = IR_VERSION
    return fixed
