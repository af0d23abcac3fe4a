"""The parity gate: does the file compute, layer by layer, what the fake-quantised model computes?

The reference executes every node as written, quantise and dequantise in float included, and low-bit linear layers
(MatMulNBits) as products with their dequantised weight. The deployed session is the runtime's own fused, integer
execution, and every layer of it is fed with the *reference's* codes (behind their Clip: what the layer reads), so that
one layer's rounding cannot travel into the next: what is found at a layer is that layer's own. What stays in floats is
computed in float32 there: some runtimes lower it to bfloat16 by themselves, which would hide a fault behind its
rounding. Codes are compared in steps of their edge's grid, the network's float outputs and low-bit products in whole
255ths of their largest. A low-bit product may besides be off by what quantising its inputs on the fly makes of it
(`matmul_nbits.tolerance`); the steps count from there. A runtime that saturates or fuses wrongly is named by its first
layer. The whole network then runs freely, as it is deployed, bfloat16 included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from shoestring.core.errors import NotMet
from shoestring.core.quality import distance
from shoestring.deploy import matmul_nbits
from shoestring.deploy.rewrite import infer, initialisers, shapes
from shoestring.deploy.runtimes import Session, get

# Float32 sums in another order move codes that fall on a rounding border by one step: about 1e-5 of them on an exact
# runtime. Sums that saturate at 16 bits move the average code by a hundredth of a step or more.
MEAN_STEPS = 0.005
# Of the whole network, run freely: single steps add up to 2 points of probability on EfficientNet-Lite0 and photographs
# it is unsure of; runtimes that saturate move 8 to 15 (benchmarks/int8_bars.py).
MOVED_POINTS = 5.0


@dataclass(frozen=True)
class EdgeParity:
    """Codes of one edge, deployed against reference, over all inputs given. `layer`: the node that writes the edge.
    `mean_steps`, `max_steps`: absolute difference in steps of the grid; `equal`: share of codes that are equal."""

    layer: str
    mean_steps: float
    max_steps: int
    equal: float


@dataclass(frozen=True)
class Parity:
    """Edges in graph order and then the outputs, each on the reference's inputs. Of the whole network, run freely, on
    its first output: `output`, relative L2 difference; `moved`, the metric's own measure (core.quality) in points."""

    runtime: str
    edges: tuple[EdgeParity, ...]
    output: float
    moved: float = 0.0

    @property
    def first_divergence(self) -> EdgeParity | None:
        return next((edge for edge in self.edges if edge.mean_steps > MEAN_STEPS), None)


def compare(model: ModelProto, runtime: str, inputs: Sequence[np.ndarray], threads: int = 1) -> Parity:
    """Runs `inputs` (each [1, ...]) through the literal model and through `runtime`."""
    exposed, isolated, edges = _expose(model)
    makers, constants, low_bit = _makers(model), initialisers(model), _low_bit(model)
    outputs = [value.name for value in model.graph.output]
    compared = {**edges, **{name: makers[name].name if name in makers else name for name in outputs}}
    literal = get("onnxruntime").open(exposed.SerializeToString(), threads=threads, literal=True)
    layers = get(runtime).open(isolated.SerializeToString(), threads=threads, precision="fp32")
    deployed = get(runtime).open(model.SerializeToString(), threads=threads)
    gaps: dict[str, list[np.ndarray]] = {name: [] for name in compared}
    freely, literally = [], []
    for x in inputs:
        given = {model.graph.input[0].name: x}
        expected = given | _named(literal, given)
        got = _named(layers, given | {_fed(edge): expected[edge] for edge in edges})
        allowed = {
            name: matmul_nbits.tolerance(node, expected[node.input[0]], constants) for name, node in low_bit.items()
        }
        for name in compared:
            gaps[name].append(_gap(got[name], expected[name], allowed.get(name, 0.0)).ravel())
        freely.append(deployed(x)[0])
        literally.append(expected[model.graph.output[0].name])
    met = tuple(_edge(layer, gaps[name]) for name, layer in compared.items())
    apart = [
        float(np.linalg.norm(y - z)) / max(float(np.linalg.norm(z)), 1e-12)
        for y, z in zip(freely, literally, strict=True)
    ]
    moved = 100 * float(distance(np.concatenate(freely), np.concatenate(literally))[1].mean())
    return Parity(runtime, met, float(np.mean(apart)), moved)


def gate(parity: Parity) -> None:
    """Raises NotMet naming the first layer that diverges, or when the outputs do although no layer does alone."""
    edge = parity.first_divergence
    if edge is not None:
        raise NotMet(
            f"parity: {parity.runtime} diverges from the fake-quantised model first at {edge.layer}: "
            f"{edge.mean_steps:.3f} steps on average (at most {MEAN_STEPS}), {edge.max_steps} at worst"
        )
    if parity.moved > MOVED_POINTS:
        raise NotMet(
            f"parity: every layer alone agrees, but the outputs of {parity.runtime} move {parity.moved:.1f} points "
            f"from the fake-quantised model's (at most {MOVED_POINTS:g})"
        )


def _gap(got: np.ndarray, expected: np.ndarray, allowed: np.ndarray | float) -> np.ndarray:
    """Absolute difference beyond what is `allowed`, in whole steps."""
    step = 1.0 if expected.dtype == np.uint8 else float(np.abs(expected).max()) / 255 or 1.0
    gap: np.ndarray = np.rint(np.maximum(np.abs(got.astype(np.float64) - expected) - allowed, 0.0) / step)
    return gap


def _edge(layer: str, gaps: list[np.ndarray]) -> EdgeParity:
    gap = np.concatenate(gaps)
    return EdgeParity(layer, float(gap.mean()), int(gap.max()), float((gap == 0).mean()))


def _named(session: Session, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name for inputs by name."""
    outputs = session(*(feeds[spec.name] for spec in session.inputs))
    return dict(zip((spec.name for spec in session.outputs), outputs, strict=True))


def _makers(model: ModelProto) -> dict[str, NodeProto]:
    """Tensor to the node that writes it."""
    return {name: node for node in model.graph.node for name in node.output}


def _low_bit(model: ModelProto) -> dict[str, NodeProto]:
    """Tensor to the MatMulNBits that writes it."""
    return {name: node for name, node in _makers(model).items() if node.op_type == matmul_nbits.OPERATOR}


def _layer(edge: str, makers: Mapping[str, NodeProto]) -> str:
    """The node whose output `edge` is, or carries as codes; the quantiser itself where it reads the network's input or
    another quantised edge."""
    maker = makers[edge]
    if maker.op_type == "Clip":
        maker = makers[maker.input[0]]
    source = makers.get(maker.input[0])
    if maker.op_type != "QuantizeLinear" or source is None or source.op_type == "DequantizeLinear":
        return maker.name
    return source.name


def _fed(edge: str) -> str:
    return f"{edge}/reference"


def _expose(model: ModelProto) -> tuple[ModelProto, ModelProto, dict[str, str]]:
    """The reference, with the codes of every quantised edge and both ends of every low-bit product as outputs; the
    model with the same edges as outputs, every layer reading them from inputs of their own; and edge to the layer that
    writes it."""
    reference, isolated = infer(matmul_nbits.as_floats(model)), ModelProto()
    isolated.CopyFrom(model)
    known, makers, low_bit = shapes(reference), _makers(model), _low_bit(model)
    read = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    edges = {name: _layer(name, makers) for name in makers if name in read or name in low_bit}
    kinds = {name: TensorProto.FLOAT if name in low_bit else TensorProto.UINT8 for name in edges}
    for graph, extra in ((reference.graph, [node.input[0] for node in low_bit.values()]), (isolated.graph, [])):
        there = {value.name for value in (*graph.input, *graph.output)}
        for name in dict.fromkeys([*edges, *extra]):
            if name not in there:
                kind = kinds.get(name, TensorProto.FLOAT)
                graph.output.append(helper.make_tensor_value_info(name, kind, known[name]))
    for node in isolated.graph.node:
        for index, name in enumerate(node.input):
            if name in edges:
                node.input[index] = _fed(name)
    fed = {name for node in isolated.graph.node for name in node.input}
    for edge in edges:
        if _fed(edge) in fed:
            isolated.graph.input.append(helper.make_tensor_value_info(_fed(edge), kinds[edge], known[edge]))
    return reference, isolated, edges
