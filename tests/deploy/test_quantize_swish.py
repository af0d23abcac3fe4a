"""Squeeze-and-excitation, h-swish and mixed kernels, all the way: captured, folded, exported, in 8 bits, executed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from onnx import ModelProto, helper
from torch import nn

from shoestring.core.layer import OTHER
from shoestring.core.precision import INT8_SAFE16
from shoestring.deploy import parity, runtimes
from shoestring.deploy.export import export
from shoestring.deploy.normal_form import require
from shoestring.deploy.rewrite import initialisers, tidy
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory
from shoestring.models.efficientnet_b0 import MBConv, cifar_efficientnet_b0
from shoestring.models.mixnet_s import _STAGES, MixBlock, cifar_mixnet_s
from shoestring.models.mobilenet_v3_small import _BLOCKS, InvertedResidual, cifar_mobilenet_v3_small

Build = Callable[..., ModelProto]
Fit = Callable[..., ModelProto]
RNG = np.random.default_rng(0)


def blocks() -> nn.Module:
    """[3, 16, 16] to 10 scores: a block of each of the networks, one after the other, and h-swish before the end."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.Hardswish()),
        MBConv(24, 24, 6, 3, 1),
        InvertedResidual(24, _BLOCKS[3], 1),
        MixBlock(40, _STAGES[2][1], 1),
        MixBlock(40, _STAGES[3][0], 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(80, 32),
        nn.Hardswish(),
        nn.Linear(32, 10),
    )


NETWORKS: dict[Callable[[], nn.Module], int] = {
    blocks: 16,
    cifar_efficientnet_b0: 32,
    cifar_mixnet_s: 32,
    cifar_mobilenet_v3_small: 32,
}


@dataclass(frozen=True)
class Case:
    """A folded network, its graph in floats, the layers of its inventory, and the inputs that are tried."""

    network: nn.Module
    floats: ModelProto
    layers: list[str]
    inputs: list[np.ndarray]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name is blocks else pytest.mark.slow) for name in NETWORKS],
    ids=[factory.__name__ for factory in NETWORKS],
)
def case(request: pytest.FixtureRequest) -> Case:
    """Untrained, but with batch norms that have seen enough to keep rounding from growing from layer to layer."""
    factory, side = request.param, NETWORKS[request.param]
    torch.manual_seed(0)
    model = factory()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(32, 3, side, side))
    gm = fold(capture(model, (3, side, side)))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in gm.modules())
    layers = [layer.name for layer in inventory(gm, (3, side, side)) if layer.kind != OTHER]
    inputs = list(np.random.default_rng(0).standard_normal((8, 1, 3, side, side), dtype=np.float32))
    return Case(gm, export(gm, (3, side, side)), layers, inputs)


@pytest.fixture(scope="module")
def quantised(case: Case, fit: Fit) -> ModelProto:
    return fit(case.floats, dict.fromkeys(case.layers, INT8_SAFE16), case.inputs)


def test_every_layer_is_in_the_file_under_its_name(case: Case) -> None:
    weighted = [node.name for node in case.floats.graph.node if node.op_type in ("Conv", "Gemm")]
    assert sorted(weighted) == sorted(case.layers)
    operators = {node.op_type for node in case.floats.graph.node}
    assert operators.isdisjoint({"BatchNormalization", "ReduceMean", "Pad", "Slice", "Gather"})


@pytest.mark.parametrize("runtime", runtimes.installed(runtimes.STOCK))
def test_floats_equal_torch(case: Case, runtime: str) -> None:
    session = runtimes.get(runtime).open(case.floats.SerializeToString(), precision="fp32")
    for x in case.inputs:
        with torch.no_grad():
            expected = case.network(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(session(x)[0], expected, rtol=0, atol=1e-4)


def test_all_layers_are_in_integers_in_the_normal_form(case: Case, quantised: ModelProto) -> None:
    require(quantised)
    constants = initialisers(quantised)
    makers = {name: node for node in quantised.graph.node for name in node.output}
    for node in quantised.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert constants[makers[node.input[1]].input[0]].dtype == np.int8, node.name


@pytest.mark.parametrize("runtime", runtimes.installed())
def test_the_runtime_computes_what_was_quantised(case: Case, quantised: ModelProto, runtime: str) -> None:
    parity.gate(parity.compare(quantised, runtime, case.inputs[:4]))


@pytest.mark.parametrize("runtime", runtimes.installed())
@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
def test_a_half_open_gate_is_rounded_the_same_everywhere(build: Build, fit: Fit, gate: str, runtime: str) -> None:
    """Gates that reach 1 beside gates that are half open, whose input is zero. Neither they nor their products may fall
    on a rounding border of the grids, where runtimes differ."""
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["m"]),
        helper.make_node("Conv", ["m", "b.weight"], ["b"], name="b"),
        helper.make_node(gate, ["b"], ["g"]),
        helper.make_node("Mul", ["r", "g"], ["p"]),
        helper.make_node("Conv", ["p", "c.weight"], ["y"], name="c"),
    ]
    # Four gates see nothing, four are wide open, those of the largest channels: their product has the input's grid.
    constants = {
        "a.weight": RNG.standard_normal((8, 3, 1, 1), dtype=np.float32) * np.repeat([1, 3], 4)[:, None, None, None],
        "b.weight": np.repeat([0, 99], 4)[:, None, None, None] * np.ones((1, 8, 1, 1)),
        "c.weight": RNG.standard_normal((4, 8, 1, 1), dtype=np.float32),
    }
    constants = {name: value.astype(np.float32) for name, value in constants.items()}
    model = tidy(build(nodes, constants, [1, 3, 8, 8], [1, 4, 8, 8]))
    inputs = list(RNG.standard_normal((8, 1, 3, 8, 8), dtype=np.float32))
    quantised = fit(model, dict.fromkeys("abc", INT8_SAFE16), inputs)
    require(quantised)
    edges = {edge.layer: edge for edge in parity.compare(quantised, runtime, inputs).edges}
    opened = next(name for name in edges if name.startswith("b/"))
    product = next(node.name for node in model.graph.node if node.op_type == "Mul")
    assert edges[opened].max_steps == edges[product].max_steps == 0
