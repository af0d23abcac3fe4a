"""What this machine can do at best: the two roofs that a profile is held against."""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from shoestring import engine
from shoestring.core.precision import INT8_SAFE16
from shoestring.core.profile import Roof
from shoestring.deploy import runtimes
from shoestring.deploy.quantize import quantise
from shoestring.deploy.rewrite import IR_VERSION, OPSET
from shoestring.measure.bandwidth import bandwidth

CHANNELS, PIXELS = 256, 16  # of the probe: it fits into a second-level cache
_NAME, _TRIES = "probe", 3


def roof(runtime: str, threads: int, quantised: bool, moved: int) -> Roof:
    """Of multiply-adds: in 8 bits the engine's own kernel, whichever `runtime` is profiled, where the engine is
    installed; else a convolution that suits any runtime, on `runtime`. Of bytes: copies of as many as a run moves. Call
    it while the threads are pinned."""
    gigabytes = bandwidth(moved, threads)
    if quantised and "engine" in runtimes.installed():
        how = f"the engine's convolution within the first-level cache of one core, times {threads}"
        return Roof(threads * engine.peak(), gigabytes, how)
    made = probe(quantised)
    how = f"a 1x1 convolution of {CHANNELS} to {CHANNELS} channels on {PIXELS}x{PIXELS} pixels, on {runtime}"
    return Roof(CHANNELS**2 * PIXELS**2 / _milliseconds(made, runtime, threads) / 1e6, gigabytes, how)


def probe(quantised: bool) -> ModelProto:
    """A 1x1 convolution in fp32 or in 8 bits; a small one behind it takes its codes, as in a network."""
    rng = np.random.default_rng(0)
    shapes = {"weight": (CHANNELS, CHANNELS, 1, 1), "last": (1, CHANNELS, 1, 1)}
    weights = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "weight"], [_NAME], name=_NAME),
            helper.make_node("Conv", [_NAME, "last"], ["y"], name="end"),
        ],
        _NAME,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, PIXELS, PIXELS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, PIXELS, PIXELS])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    ranges = dict.fromkeys(("x", _NAME, "y"), (-1.0, 1.0))
    return quantise(made, ranges, {_NAME: INT8_SAFE16, "end": INT8_SAFE16}) if quantised else made


def _milliseconds(model: ModelProto, runtime: str, threads: int) -> float:
    """Of the convolution alone, by the runtime's own clock: the best of a few medians."""
    data, x = model.SerializeToString(), np.zeros((1, CHANNELS, PIXELS, PIXELS), np.float32)
    found = []
    for _ in range(_TRIES):
        times = runtimes.get(runtime).open(data, threads=threads, profile=True).profile(x)
        found.append(sum(ms for node, ms in times.items() if node.startswith(_NAME)))
    return min(found)
