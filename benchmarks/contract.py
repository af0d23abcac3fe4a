"""What do the runtimes really execute? The measurements behind `src/shoestring/core/contract.py`, on one thread here.

    python benchmarks/contract.py [--json FILE] [--seconds 6] [--claim TEXT] [--skip-tests]

Each claim is measured in pairs, in ONNX Runtime and in OpenVINO (zeros in our engine, too), and must come out as the
contract says for this processor:

- conv int8: MobileNetV2 in 8 bits is faster than in fp32;
- u8 x s8 full range: without VNNI, products that the format allows come out wrong;
- depthwise int8: without VNNI, 8 bits make depthwise convolutions slower (ONNX Runtime) or change nothing (OpenVINO);
- depthwise left float: leaving them in fp32 makes an 8-bit network no faster, and in ONNX Runtime slower;
- unstructured zeros, block zeros, N:M zeros: 80 % of the weights of each layer at zero, one by one or in blocks of 4x1,
  or two of four inputs, in the layers where `magnitude` takes them: they change no time in stock runtimes, in fp32 or
  in 8 bits, and save some in our engine, which has no floats;
- signed activations: in ONNX Runtime, s8 is slower than u8;
- conv below 8 bits: INT4 weights are slower than int8 ones, or refused: they make the file smaller, no more;
- float layer between 8-bit ones: ONNX Runtime quantises its weights unasked, unless a sum of one term keeps it away;
- linear 4 bits: MatMulNBits is faster than an fp32 MatMul.

A ratio says how many times faster the first of the two is. "deviation" is the distance of the outputs from the same
file executed literally (every node as written, in floats), relative to them: root mean squares. Weights are random,
which changes no time; where a deviation is the claim they are chosen to show it, so its size is an example.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from shoestring.compress import int8
from shoestring.core.contract import capabilities
from shoestring.core.device import NO_EFFECT, RUNS, SLOWER, STORED_ONLY, WRONG
from shoestring.core.errors import BadInput
from shoestring.core.layer import DEPTHWISE
from shoestring.core.precision import INT8, INT8_SAFE16, Precision
from shoestring.core.receipt import HOLDS, NOISY
from shoestring.core.statistics import Interval, judge
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.deploy.rewrite import IR_VERSION, OPSET, tidy
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, interleave
from shoestring.pipeline.asked import asked
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import calibrate
from shoestring.pipeline.pruning import prune

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/core/test_contract.py",
    "tests/core/test_statistics.py",
    "tests/deploy/test_quantize.py",
    "tests/measure/test_timing.py",
)
ZEROS = "80%"
MATTERS = 0.1  # a ratio within 10 % of 1 is no effect: on a busy machine, two runs of one pair differ by up to 6 %
DEVIATES = 0.01  # correct execution differs from the literal by single steps of 8 bits: 0.0002 and less


@dataclass(frozen=True)
class Finding:
    """One line of the table. `ratio`: None when the runtime refused. `note`: deviations, sizes, a refusal."""

    claim: str
    case: str
    runtime: str
    verdict: str
    ratio: Interval | None = None
    note: str = ""

    @property
    def contract(self) -> str:
        """What the contract says for this processor; empty when it says nothing."""
        told = capabilities(self.runtime, machine.isa())
        return next((entry.verdict for entry in told if entry.feature == self.claim), "")

    @property
    def kept(self) -> bool:
        """A contract that says nothing promises that nothing is worse for it."""
        return self.verdict == self.contract if self.contract else self.verdict not in (SLOWER, WRONG)


@dataclass(frozen=True)
class Bench:
    """What the claims share: MobileNetV2, the runtimes here, and how long to time one pair."""

    original: Original
    runtimes: tuple[str, ...]
    seconds: float

    def ratio(self, runtime: str, subject: Sequence[ModelProto], baseline: Sequence[ModelProto]) -> Interval:
        """How many times faster all of `subject` is. Raises BadInput when the runtime refuses one."""
        subjects = {"subject": together(runtime, subject), "baseline": together(runtime, baseline)}
        return interleave(subjects, Schedule(seconds=self.seconds)).ratio(*subjects)


def conv_int8(bench: Bench) -> Iterator[Finding]:
    graph = bench.original.graph
    for runtime in bench.runtimes:
        ratio = bench.ratio(runtime, [eight_bits(graph, int8.precisions(bench.original.layers))], [graph])
        yield Finding("conv int8", "MobileNetV2, int8 against fp32", runtime, verdict(ratio), ratio)


def full_range(bench: Bench) -> Iterator[Finding]:
    """Weights of one sign near the end of their range, as in the worst layers of real networks."""
    weight = np.random.default_rng(0).uniform(0.5, 1.0, (64, 64, 1, 1)).astype(np.float32)
    graph = chain((64, 14, 14), [weight, weight[:1]])
    full, safe = (eight_bits(graph, {"conv0": precision}) for precision in (INT8, INT8_SAFE16))
    for runtime in bench.runtimes:
        ratio, deviations = bench.ratio(runtime, [full], [safe]), [deviation(runtime, model) for model in (full, safe)]
        note = "deviation {:.4f}, with safe16 {:.4f}".format(*deviations)
        correct = WRONG if deviations[0] > DEVIATES else RUNS
        yield Finding("u8 x s8 full range", "1x1 convolution, against safe16", runtime, correct, ratio, note)


def depthwise_int8(bench: Bench) -> Iterator[Finding]:
    """Stacks of layers in four shapes of MobileNetV2, so that quantising the input hardly counts."""
    floats, integers = [], []
    for channels, size in ((144, 56), (192, 28), (576, 14), (960, 7)):
        weight = np.random.default_rng(0).normal(0, 0.4, (channels, 1, 3, 3)).astype(np.float32)
        floats.append(chain((channels, size, size), [*[weight] * 8, np.ones((1, channels, 1, 1), np.float32)]))
        integers.append(eight_bits(floats[-1], {f"conv{layer}": INT8 for layer in range(8)}))
    for runtime in bench.runtimes:
        ratio = bench.ratio(runtime, integers, floats)
        yield Finding("depthwise int8", "layers of 144x56x56 to 960x7x7, against fp32", runtime, verdict(ratio), ratio)


def depthwise_float(bench: Bench) -> Iterator[Finding]:
    """Would the network gain by leaving them in fp32?"""
    graph, precisions = bench.original.graph, int8.precisions(bench.original.layers)
    depthwise = {layer.name for layer in bench.original.layers if layer.kind == DEPTHWISE}
    mixed = eight_bits(graph, {name: INT8_SAFE16 for name in precisions if name not in depthwise})
    for runtime in bench.runtimes:
        ratio = bench.ratio(runtime, [mixed], [eight_bits(graph, precisions)])
        yield Finding("depthwise left float", "MobileNetV2 int8, against all int8", runtime, verdict(ratio), ratio)


def zeros(bench: Bench) -> Iterator[Finding]:
    """In the same layers, so that patterns can be compared."""
    cases = {"unstructured zeros": f"1x1@{ZEROS}:uniform", "block zeros": f"4x1@{ZEROS}:uniform", "N:M zeros": "2:4"}
    for claim, blocks in cases.items():
        yield from _zeros(claim, blocks.removesuffix(":uniform"), pruned(bench.original, blocks), bench)


def _zeros(claim: str, words: str, sparse: ModelProto, bench: Bench) -> Iterator[Finding]:
    dense, precisions = bench.original.graph, int8.precisions(bench.original.layers)
    pairs = {"fp32": (sparse, dense), "int8": (eight_bits(sparse, precisions), eight_bits(dense, precisions))}
    own = runtimes.installed(("engine",))  # zeros are its subject; it has no floats
    for form, (zeros, full) in pairs.items():
        for runtime in (*bench.runtimes, *(own if form == "int8" else ())):
            ratio = bench.ratio(runtime, [zeros], [full])
            case = f"MobileNetV2 {form}, {words} against dense"
            yield Finding(claim, case, runtime, verdict(ratio), ratio)


def signed_activations(bench: Bench) -> Iterator[Finding]:
    kinds = (QuantType.QInt8, QuantType.QUInt8)
    signed, unsigned = (statically_quantised(bench.original.graph, kind) for kind in kinds)
    for runtime in bench.runtimes:
        ratio = bench.ratio(runtime, [signed], [unsigned])
        yield Finding("signed activations", "MobileNetV2 int8, s8 against u8", runtime, verdict(ratio), ratio)


def conv_below_8_bits(bench: Bench) -> Iterator[Finding]:
    dense = eight_bits(bench.original.graph, int8.precisions(bench.original.layers))
    packed = four_bit_weights(dense)
    case, size = "MobileNetV2, INT4 initialisers against int8", f"file {packed.ByteSize() / dense.ByteSize():.2f}x"
    for runtime in bench.runtimes:
        try:
            ratio = bench.ratio(runtime, [packed], [dense])
        except BadInput as refusal:
            yield Finding("conv below 8 bits", case, runtime, STORED_ONLY, None, str(refusal))
        else:
            found = verdict(ratio)
            stored = STORED_ONLY if found in (NO_EFFECT, SLOWER) else found
            yield Finding("conv below 8 bits", case, runtime, stored, ratio, size)


def float_between(bench: Bench) -> Iterator[Finding]:
    """The middle one of three is float; its output channels differ in size, as folded batch norm leaves them."""
    rng = np.random.default_rng(0)
    sizes = np.array([np.ones(32), np.geomspace(0.02, 1, 32), np.ones(32)])[:, :, None, None, None]
    weights = (rng.normal(0, 0.08, (3, 32, 32, 3, 3)) * sizes).astype(np.float32)
    guarded = eight_bits(chain((32, 28, 28), list(weights)), {"conv0": INT8_SAFE16, "conv2": INT8_SAFE16})
    bare = without_sums(guarded)
    for runtime in bench.runtimes:
        ratio, deviations = bench.ratio(runtime, [bare], [guarded]), [deviation(runtime, m) for m in (bare, guarded)]
        note = "deviation {:.4f}, guarded {:.4f}".format(*deviations)
        correct = WRONG if deviations[0] > DEVIATES else RUNS
        case = "3 convolutions, against the guarded"
        yield Finding("float layer between 8-bit ones", case, runtime, correct, ratio, note)


def linear_4_bits(bench: Bench) -> Iterator[Finding]:
    for shape in ((1280, 1000), (4096, 4096)):
        weight = np.random.default_rng(0).normal(0, 0.02, shape).astype(np.float32)
        linear = graph_of([helper.make_node("MatMul", ["x", "w"], ["y"], name="linear")], {"w": weight}, (1, shape[0]))
        # The quantiser changes what it is given.
        quantiser = MatMulNBitsQuantizer(cloned(linear), 4, 128, is_symmetric=True, accuracy_level=4)
        quantiser.process()
        ratio = bench.ratio("onnxruntime", [quantiser.model.model], [linear])
        case = "{}x{}, MatMulNBits against fp32".format(*shape)
        yield Finding("linear 4 bits", case, "onnxruntime", verdict(ratio), ratio)


CLAIMS: tuple[Callable[[Bench], Iterator[Finding]], ...] = (
    conv_int8,
    full_range,
    depthwise_int8,
    depthwise_float,
    zeros,
    signed_activations,
    conv_below_8_bits,
    float_between,
    linear_4_bits,
)


def verdict(ratio: Interval) -> str:
    """The ratio in the contract's words."""
    faster, slower = judge(ratio, ">=", 1 + MATTERS), judge(ratio, "<=", 1 - MATTERS)
    if NOISY in (faster, slower):
        return NOISY
    return RUNS if faster == HOLDS else SLOWER if slower == HOLDS else NO_EFFECT


def opened(runtime: str, model: ModelProto) -> runtimes.Session:
    # fp32 says fp32: on processors with bfloat16, OpenVINO would lower float layers.
    session: runtimes.Session = runtimes.get(runtime).open(model.SerializeToString(), precision="fp32")
    return session


def together(runtime: str, models: Sequence[ModelProto]) -> Callable[[], object]:
    """A call that runs them one after the other."""
    calls = [partial(opened(runtime, model), noise(model)) for model in models]
    return lambda: [call() for call in calls]


def deviation(runtime: str, model: ModelProto) -> float:
    """Relative distance (root mean squares) of the outputs from literal execution."""
    x = noise(model)
    literal = runtimes.get("onnxruntime").open(model.SerializeToString(), literal=True)(x)[0]
    return float(np.linalg.norm(opened(runtime, model)(x)[0] - literal) / np.linalg.norm(literal))


def noise(model: ModelProto, seed: int = 0) -> np.ndarray:
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def eight_bits(graph: ModelProto, precisions: dict[str, Precision]) -> ModelProto:
    """As `fit` writes it, with ranges from noise."""
    return calibrate(graph, [noise(graph, seed) for seed in range(4)], precisions).build()


def pruned(original: Original, blocks: str) -> ModelProto:
    """Its graph as `--method magnitude:BLOCKS` leaves it before it is quantised."""
    step = asked(original, (f"magnitude:{blocks}",))[0]
    return prune(original, step.method, step.settings(original)).original.graph


class Noise(CalibrationDataReader):
    """What onnxruntime.quantization asks for its inputs."""

    def __init__(self, model: ModelProto):
        self._left = iter([{model.graph.input[0].name: noise(model, seed)} for seed in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


def statically_quantised(model: ModelProto, activations: QuantType) -> ModelProto:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        quantize_static(cloned(model), file, Noise(model), per_channel=True, activation_type=activations)
        return onnx.load(file)


def four_bit_weights(model: ModelProto) -> ModelProto:
    """A copy of an 8-bit file whose convolutions have INT4 weights, on a grid 16 times as coarse."""
    copy = cloned(model)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    readers = {node.input[1] for node in copy.graph.node if node.op_type == "Conv"}
    for node in copy.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] in readers:
            scale = tensors[node.input[1]]
            scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(16), scale.name))
            for name in (node.input[0], *node.input[2:]):
                values = np.clip(np.rint(numpy_helper.to_array(tensors[name]) / 16), -8, 7).astype(np.int8)
                tensors[name].CopyFrom(packed_int4(name, values))
    return copy


def packed_int4(name: str, values: np.ndarray) -> TensorProto:
    """Two in a byte, the first in the lower half."""
    halves = np.append(values.ravel(), np.zeros(values.size % 2, np.int8)).view(np.uint8) & 15
    bits = (halves[::2] | halves[1::2] << 4).tobytes()
    return helper.make_tensor(name, TensorProto.INT4, values.shape, bits, raw=True)


def without_sums(model: ModelProto) -> ModelProto:
    """A copy without the sums of one term that keep a layer float."""
    copy = cloned(model)
    sums = {node.output[0]: node for node in copy.graph.node if node.op_type == "Sum" and len(node.input) == 1}
    for node in copy.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = sums[name].input[0] if name in sums else name
    for node in sums.values():
        copy.graph.node.remove(node)
    return copy


def chain(shape: tuple[int, int, int], weights: list[np.ndarray]) -> ModelProto:
    """Convolutions `conv0`, `conv1`, ... of [out, in / groups, k, k] weights, each with its Relu. No claim is about
    the last: it writes floats, so ONNX Runtime never computes it in integers."""
    nodes, edge = [], "x"
    for number, weight in enumerate(weights):
        name, after = f"conv{number}", f"relu{number}"
        settings = {"group": shape[0] // weight.shape[1], "pads": [weight.shape[2] // 2] * 4}
        nodes.append(helper.make_node("Conv", [edge, f"{name}.weight"], [name], name=name, **settings))
        nodes.append(helper.make_node("Relu", [name], [after], name=after))
        edge = after
    nodes[-1].output[0] = "y"
    return tidy(graph_of(nodes, {f"conv{number}.weight": weight for number, weight in enumerate(weights)}, (1, *shape)))


def graph_of(nodes: list[NodeProto], constants: dict[str, np.ndarray], shape: tuple[int, ...]) -> ModelProto:
    """A model from `x` [shape] to `y`."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "claim", [x], [y], [numpy_helper.from_array(v, n) for n, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def cloned(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def main() -> int:
    options = arguments()
    if not options.skip_tests and red():
        print("The tests of what is used here are red: nothing was measured.", file=sys.stderr)
        return 1
    logging.disable(logging.WARNING)  # onnxruntime.quantization tells its own choices
    load, claims = machine.load(), [claim for claim in CLAIMS if options.claim in claim.__name__]
    with machine.pinned(1):
        bench = Bench(resolve("mobilenet_v2"), runtimes.installed(runtimes.STOCK), options.seconds)
        print(f"{'claim':32}{'case':50}{'runtime':13}{'ratio':24}{'verdict':13}{'contract':13}")
        findings = [told(finding) for claim in claims for finding in claim(bench)]
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine.fingerprint(), "load_before": round(load, 2), "load_after": round(machine.load(), 2)},
        "versions": {name: version(name) for name in ("numpy", "onnx", *bench.runtimes)},
        "findings": [{**asdict(f), "contract": f.contract, "kept": f.kept} for f in findings],
        "passed": all(finding.kept for finding in findings),
    }
    print()
    for name in ("date", "machine", "versions"):
        print(f"{name}: {result[name]}")
    if options.json:
        write_file(options.json, json.dumps(result, indent=1).encode())
    return 0 if result["passed"] else 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seconds", type=float, default=6.0, help="at most this long for one pair")
    parser.add_argument("--claim", default="", help="only the claims whose function's name contains this")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def red() -> bool:
    tests = [test for test in TESTS if (ROOT / test).exists()]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *tests], cwd=ROOT).returncode != 0


def told(finding: Finding) -> Finding:
    """Printed as soon as it is known."""
    ratio = finding.ratio
    speed = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else "refused"
    head = f"{finding.claim:32}{finding.case:50}{finding.runtime:13}{speed:24}{finding.verdict:13}{finding.contract:13}"
    print(f"{head}{'' if finding.kept else '<- not as the contract says. '}{finding.note}".rstrip(), flush=True)
    return finding


if __name__ == "__main__":
    sys.exit(main())
