"""ONNX Runtime on the CPU: in every install."""

import json
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from shoestring.core.errors import BadInput, GivenUp
from shoestring.deploy import geometry
from shoestring.deploy.runtimes import TensorSpec, last_layers

NAME = "onnxruntime"
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def version() -> str:
    return str(ort.__version__)


def default_precision(onnx: bytes = b"") -> str:
    del onnx
    return "fp32"


class OnnxRuntimeSession:
    """See `runtimes.Session`."""

    keeps_time = False

    def __init__(self, onnx: bytes, options: ort.SessionOptions):
        self._session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._last = last_layers(onnx) if options.enable_profiling else {}
        self._threads = options.intra_op_num_threads
        self._graph = onnx if options.enable_profiling else b""
        self.inputs = tuple(map(_spec, self._session.get_inputs()))
        self.outputs = tuple(map(_spec, self._session.get_outputs()))
        self._names = [spec.name for spec in self.inputs]
        self._options = ort.RunOptions()

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        options, given = self._options, dict(zip(self._names, inputs, strict=True))
        try:
            outputs: list[np.ndarray] = self._session.run(None, given, options)
        except Exception:  # the runtime's exceptions share no public base class
            if options.terminate:
                raise GivenUp("onnxruntime: the run was given up") from None
            raise
        return outputs

    def give_up(self) -> None:
        """See `runtimes.Session`."""
        options, self._options = self._options, ort.RunOptions()  # one for all runs between two of these
        options.terminate = True

    def profile(self, *inputs: np.ndarray, runs: int = 20) -> Mapping[str, float]:
        """Ends the profile: call it once a session. The first run (allocation) is left out. A loop is slowed down by
        the notes that are taken of each of its steps: what it takes is what a run without them has left for it."""
        for _ in range(runs + 1):
            self(*inputs)
        path = Path(self._session.end_profiling())
        events = json.loads(path.read_text())
        path.unlink()
        samples: dict[str, list[float]] = defaultdict(list)
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                name = event["name"].removesuffix("_kernel_time")
                samples[self._last.get(name.removesuffix("_nchwc"), name)].append(event["dur"] / 1000)
        found = {name: float(np.median(times[1:])) for name, times in samples.items() if len(times) > 1}
        found = {name: ms for name, ms in found.items() if not name.endswith(geometry.INSIDE)}
        loops = {name: ms for name, ms in found.items() if name.endswith(geometry.LOOP)}
        if loops:
            left = self._unprofiled(inputs, runs) - sum(ms for name, ms in found.items() if name not in loops)
            found |= {name: ms * max(left, 0.0) / sum(loops.values()) for name, ms in loops.items()}
        return found

    def _unprofiled(self, inputs: Sequence[np.ndarray], runs: int) -> float:
        """Median milliseconds of the same graph, opened without a profile."""
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = self._threads, 4
        session = OnnxRuntimeSession(self._graph, options)
        times = []
        for _ in range(runs + 1):
            start = time.perf_counter()
            session(*inputs)
            times.append(1000 * (time.perf_counter() - start))
        return float(np.median(times[1:]))


def open(
    onnx: bytes, threads: int = 1, precision: str = "default", profile: bool = False, literal: bool = False
) -> OnnxRuntimeSession:
    """A session on `threads` threads. `precision` is always fp32 here (and int8 where the file says so). `literal`
    runs every node as written, quantise and dequantise in float included: the fake-quantised model. Raises BadInput
    when the runtime refuses the graph."""
    del precision
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Spinning threads of one runtime would steal the processor from the next in an interleaved comparison.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads > 1 else "1")
    if literal:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile:
        options.enable_profiling = True
        # The runtime adds the time in seconds, which two sessions may share.
        onnx = geometry.named_inside(onnx)
        options.profile_file_prefix = str(Path(tempfile.gettempdir()) / f"shoestring-{uuid.uuid4().hex}")
    try:
        return OnnxRuntimeSession(onnx, options)
    except Exception as error:  # the runtime's exceptions share no public base class
        raise BadInput(f"onnxruntime {version()} refuses the graph: {' '.join(str(error).split())[:300]}") from None


def _spec(node: ort.NodeArg) -> TensorSpec:
    shape = tuple(axis if isinstance(axis, int) else 1 for axis in node.shape)
    return TensorSpec(node.name, shape, np.dtype(_DTYPES.get(node.type, np.float32)))
