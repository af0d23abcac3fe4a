"""From a torch module to one float ONNX file whose nodes carry the layers' names. The only file here that loads torch."""

import logging
import warnings

import onnx
import torch
from onnx import ModelProto
from torch import nn

from shoestring.core.errors import BadInput
from shoestring.deploy.rewrite import IR_VERSION, OPSET, tidy


def export(model: nn.Module, input_shape: tuple[int, ...]) -> ModelProto:
    """The float graph of `model` in eval mode for one input [1, *input_shape]: batch norm and padding folded by the
    exporter, then brought into the form the other files here expect (`rewrite.tidy`). Input "input", output "output".
    Raises BadInput with the exporter's reason."""
    example = torch.zeros(1, *input_shape)
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter, which a user cannot act on
            program = torch.onnx.export(
                model.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["output"],
                verbose=False,
            )
        graph: ModelProto = program.model_proto
    except Exception as error:  # the exporter wraps whatever the model raised
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"export: {type(model).__name__} cannot be exported to ONNX: {reason}") from None
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    graph.ir_version = IR_VERSION
    graph = tidy(graph)
    onnx.checker.check_model(graph)
    return graph
