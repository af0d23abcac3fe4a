"""Is the receipt honest? A network against itself: at least 35 of 40 intervals contain 1.00 and none claims a gain.

    python benchmarks/receipt_against_itself.py [--onnx FILE] [--json FILE] [--seconds 4]

Each comparison opens the same file in two new ONNX Runtime sessions of one thread and times them as a receipt does. A
receipt that never claims anything would pass, so a control follows: one subject runs the network 10 times a call, the
other 11 times. Of 5 such comparisons 4 must contain 1.10 and 4 must claim a gain.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import onnx
import onnxruntime

from shoestring.core.statistics import TOLERANCE, Interval, gain
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, interleave

ROOT = Path(__file__).parents[1]
TESTS = ("tests/core/test_statistics.py", "tests/measure")
COMPARISONS, MUST_CONTAIN = 40, 35
CONTROLS, MUST_CLAIM = 5, 4


def main() -> int:
    options = arguments()
    tested = subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *TESTS], cwd=ROOT)
    if tested.returncode:
        print("The tests of what is timed here are red: nothing was timed.", file=sys.stderr)
        return 1
    model = options.onnx.read_bytes() if options.onnx else small_network()
    began, load = time.perf_counter(), machine.load()
    schedule = Schedule(seconds=options.seconds)
    with machine.pinned(1):
        itself = [compare(model, 1, 1, schedule, number) for number in range(COMPARISONS)]
        controls = [compare(model, 10, 11, schedule, number) for number in range(CONTROLS)]
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine.fingerprint(), "load_before": round(load, 2), "load_after": round(machine.load(), 2)},
        "versions": {
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "network": options.onnx.name if options.onnx else "4 convolutions, 3x64x64",
        "seconds": round(time.perf_counter() - began, 1),
        "itself": summary(itself, 1.0),
        "control": summary(controls, 1.1),
    }
    result["passed"] = (
        result["itself"]["contain"] >= MUST_CONTAIN
        and result["itself"]["gains"] == 0
        and result["control"]["contain"] >= MUST_CLAIM
        and result["control"]["gains"] >= MUST_CLAIM
    )
    print_table(result)
    if options.json:
        write_json(options.json, {**result, "intervals": [asdict(interval) for interval in itself + controls]})
    return 0 if result["passed"] else 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--onnx", type=Path, help="network to time, one float32 input (default: a small one made here)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seconds", type=float, default=4.0, help="at most this long for one comparison")
    return parser.parse_args()


def small_network() -> bytes:
    """Four 3x3 convolutions with ReLU and a global mean on 3x64x64, about 7 million MACs; random weights."""
    random = np.random.default_rng(0)
    channels, name = (3, 16, 32, 64, 64), "input"
    nodes, weights = [], []
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
        weight = random.normal(0, np.sqrt(2 / 9 / inputs), (outputs, inputs, 3, 3)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(weight, f"weight{layer}"))
        strides = [2, 2] if layer else [1, 1]
        convolution = [name, f"weight{layer}"], [f"sum{layer}"]
        nodes.append(onnx.helper.make_node("Conv", *convolution, pads=[1] * 4, strides=strides))
        name = f"active{layer}"
        nodes.append(onnx.helper.make_node("Relu", [f"sum{layer}"], [name]))
    nodes.append(onnx.helper.make_node("GlobalAveragePool", [name], ["output"]))
    ends = [
        [onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, shape)]
        for end, shape in (("input", [1, 3, 64, 64]), ("output", [1, 64, 1, 1]))
    ]
    graph = onnx.helper.make_graph(nodes, "small", *ends, weights)
    opset = onnx.helper.make_opsetid("", 21)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


def opened(model: bytes, runs: int) -> Callable[[], object]:
    """A call that runs `model` that many times in a session of its own."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in given.shape]
    feed = {given.name: np.random.default_rng(0).random(shape, np.float32)}

    def call() -> None:
        for _ in range(runs):
            session.run(None, feed)

    return call


def compare(model: bytes, first: int, second: int, schedule: Schedule, number: int) -> Interval:
    subjects = {"first": opened(model, first), "second": opened(model, second)}
    timings = interleave(subjects, schedule)
    interval = timings.ratio("first", "second")
    milliseconds = timings.measurement("first").value
    print(
        f"{number + 1:3}  {milliseconds:8.3f} ms  {interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"
        f"  {interval.n:4} rounds{'' if interval.steady else '  unsteady'}{'  GAIN' if gain(interval) else ''}",
        flush=True,
    )
    return interval


def summary(intervals: list[Interval], truth: float) -> dict[str, float]:
    off = np.abs(np.log([interval.value / truth for interval in intervals]))
    return {
        "truth": truth,
        "comparisons": len(intervals),
        "contain": sum(truth in interval for interval in intervals),
        "gains": sum(map(gain, intervals)),
        "unsteady": sum(not interval.steady for interval in intervals),
        "wide": sum(interval.half_width > TOLERANCE * truth for interval in intervals),
        "median_half_width": round(float(np.median([interval.half_width for interval in intervals])), 4),
        "median_error": round(float(np.median(off)), 4),
        "largest_error": round(float(off.max()), 4),
    }


def print_table(result: dict) -> None:
    print(f"\n{result['date']}  {result['machine']}  {result['versions']}  {result['seconds']} s")
    itself, control = result["itself"], result["control"]
    print(f"{'':20}{'itself':>10}{'control':>10}")
    for key in itself:
        print(f"{key.replace('_', ' '):20}{itself[key]:>10}{control[key]:>10}")
    print(
        f"{'passed' if result['passed'] else 'FAILED'}: at least {MUST_CONTAIN} of {COMPARISONS} contain 1.00 and none "
        f"claims a gain; at least {MUST_CLAIM} of {CONTROLS} controls contain 1.10, and as many claim it"
    )


def write_json(path: Path, data: dict) -> None:
    with NamedTemporaryFile("w", dir=path.resolve().parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


if __name__ == "__main__":
    sys.exit(main())
