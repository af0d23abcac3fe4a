"""Exported files, against torch's own outputs."""

import logging
from collections import OrderedDict

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes
from shoestring.deploy.export import export
from shoestring.deploy.rewrite import IR_VERSION, OPSET, shapes
from shoestring.graph.sums import FeatureSum


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
def test_the_file_computes_what_torch_does(
    network: nn.Module, floats: ModelProto, inputs: list[np.ndarray], runtime: str
) -> None:
    session = runtimes.get(runtime).open(floats.SerializeToString(), precision="fp32")
    for x in inputs:
        with torch.no_grad():
            expected = network(torch.from_numpy(x)).numpy()
        assert np.allclose(session(x)[0], expected, rtol=1e-4, atol=1e-5)


def test_the_form_is_what_the_room_expects(floats: ModelProto) -> None:
    onnx.checker.check_model(floats, full_check=True)
    assert [(item.domain, item.version) for item in floats.opset_import] == [("", OPSET)]
    assert floats.ir_version == IR_VERSION
    assert [value.name for value in floats.graph.input] == ["input"]
    assert [value.name for value in floats.graph.output] == ["output"]
    assert shapes(floats)["input"] == (1, 3, 16, 16) and shapes(floats)["output"] == (1, 5)
    operators = {node.op_type for node in floats.graph.node}
    assert operators.isdisjoint({"Pad", "BatchNormalization", "ReduceMean"})  # folded, folded, pooled
    assert __file__.encode() not in floats.SerializeToString()  # the exporter notes where each line comes from


def test_names_are_module_paths(floats: ModelProto) -> None:
    layers = [node.name for node in floats.graph.node if node.op_type in ("Conv", "Gemm")]
    assert layers == ["stem.1", "depthwise.0", "project.0", "reduce", "expand", "grouped", "mix", "head"]
    activations = [node.name for node in floats.graph.node if node.op_type in ("Relu", "Clip", "Sigmoid")]
    assert activations[:2] == ["stem.1/clip", "depthwise.0/clip"] and "grouped/sigmoid" in activations
    for node in floats.graph.node:
        assert list(node.output) in ([node.name], ["output"])


@pytest.mark.parametrize("bias", [True, False])
def test_a_single_window_of_channels(bias: bool) -> None:
    """The sum over all of them is a layer like any other, with nothing to cut out or put together."""
    layers = OrderedDict(fc_total=FeatureSum(8, 8**-0.5), fc=nn.Linear(1, 5, bias))
    graph = export(nn.Sequential(layers), (8,))
    assert [node.name for node in graph.graph.node] == ["fc_total", "fc"]


class Undecided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if bool(x.sum() > 0) else -x


def test_what_cannot_be_exported_is_refused_in_one_line() -> None:
    level = logging.getLogger("torch.onnx").level
    with pytest.raises(BadInput, match="export: Undecided cannot be exported to ONNX: ") as refused:
        export(Undecided(), (3,))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    assert logging.getLogger("torch.onnx").level == level
