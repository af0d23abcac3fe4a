"""Files of other opsets and with open batch axes, brought to the form everything here works on."""

from onnx import ModelProto, version_converter

from shoestring.core.errors import BadInput
from shoestring.deploy.rewrite import IR_VERSION


def to_opset(model: ModelProto, opset: int) -> ModelProto:
    """A copy at `opset` for one input (batch 1). Raises BadInput when the converter cannot, or when another axis than
    the first is open."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for value in [*fixed.graph.input, *fixed.graph.output]:
        for index, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.dim_value < 1 or axis.dim_param:
                if index and value in list(fixed.graph.input):
                    raise BadInput(f"onnx: axis {index} of {value.name} has no fixed length; export it with one")
                if index == 0:
                    axis.dim_value = 1
    current = next((item.version for item in fixed.opset_import if item.domain == ""), 0)
    if current != opset:
        try:
            fixed = version_converter.convert_version(fixed, opset)
        except Exception as error:  # the converter raises bare RuntimeErrors
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"onnx: opset {current} cannot be brought to {opset}: {reason}") from None
    fixed.ir_version = IR_VERSION
    return fixed
