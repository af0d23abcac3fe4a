"""OpenVINO on the CPU: an extra, x86-64 mostly."""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache

import numpy as np
import openvino as ov
from onnx import load_from_string
from openvino import opset13 as opset

from shoestring.core.errors import BadInput, GivenUp
from shoestring.deploy import geometry
from shoestring.deploy.runtimes import TensorSpec, last_layers

NAME = "openvino"


@cache
def _core() -> ov.Core:
    return ov.Core()


def version() -> str:
    return str(ov.__version__).split("-")[0]


def default_precision(onnx: bytes = b"") -> str:
    """bf16 on processors with bfloat16 instructions: OpenVINO uses them for float graphs unless told not to, as it is
    for those that sample points."""
    if onnx and geometry.on_points(load_from_string(onnx)):
        return "fp32"
    return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"


class OpenVinoSession:
    """See `runtimes.Session`."""

    keeps_time = False

    def __init__(self, onnx: bytes, config: Mapping[str, object]):
        settings = dict(config)
        model = load_from_string(onnx)
        on_points = geometry.on_points(model)
        if on_points:
            onnx = geometry.inlined(model).SerializeToString()
            settings["INFERENCE_PRECISION_HINT"] = "f32"  # a coordinate of 8 bits is no place
        read = _core().read_model(onnx)
        if on_points:
            _rank_in_order(read)
        self._compiled = _core().compile_model(read, "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self._last = last_layers(onnx) if "PERF_COUNT" in config else {}
        self.inputs = tuple(map(_spec, self._compiled.inputs))
        self.outputs = tuple(map(_spec, self._compiled.outputs))
        self._given_up = 0  # times

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        given_up = self._given_up
        # Only what was started so can be cancelled. It takes as long as `infer`, which uses the same thread.
        self._request.start_async(list(inputs), share_inputs=True)
        try:
            self._request.wait()
        except RuntimeError:
            if self._given_up != given_up:
                raise GivenUp("openvino: the run was given up") from None
            raise
        # The result lives in the request's own memory, which the next call overwrites: hand out copies.
        result = self._request.results
        return [np.array(result[port]) for port in self._compiled.outputs]

    def give_up(self) -> None:
        """See `runtimes.Session`."""
        self._given_up += 1
        self._request.cancel()

    def profile(self, *inputs: np.ndarray, runs: int = 20) -> Mapping[str, float]:
        samples: dict[str, list[float]] = defaultdict(list)
        for run in range(runs + 1):
            self(*inputs)
            for info in self._request.profiling_info if run else ():
                if info.status == info.Status.EXECUTED:
                    name = self._last.get(info.node_name, info.node_name)
                    samples[name].append(info.real_time.total_seconds() * 1000)
        return {name: float(np.median(times)) for name, times in samples.items()}


def open(
    onnx: bytes, threads: int = 1, precision: str = "default", profile: bool = False, literal: bool = False
) -> OpenVinoSession:
    """A session on `threads` threads; `precision` "fp32" forbids bfloat16. Raises BadInput when the runtime refuses
    the graph, or when `literal` execution is asked for, which it does not offer."""
    if literal:
        raise BadInput("openvino always fuses; run the graph literally on onnxruntime")
    config: dict[str, object] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    # Its own pinning moves the calling thread to one core, and leaves it there.
    config["ENABLE_CPU_PINNING"] = False
    if precision == "fp32":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if profile:
        config["PERF_COUNT"] = True
    try:
        return OpenVinoSession(onnx, config)
    except Exception as error:  # the runtime raises bare RuntimeErrors
        raise BadInput(f"openvino {version()} refuses the graph: {' '.join(str(error).split())[:300]}") from None


def _rank_in_order(model: ov.Model) -> None:
    """Of equal distances the lower index comes first, as ONNX says and as OpenVINO does only when told to: then it
    compares one value after the other, or a vector of them where they do not lie along the axis that is ranked."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "TopK":
            continue
        given, ranked = node.get_attributes(), node.get_axis()
        order = list(range(len(node.input(0).get_partial_shape())))
        order[ranked], order[-2] = order[-2], order[ranked]
        turn = opset.constant(np.array(order))
        turned = opset.topk(  # one name for all: a profile speaks of the node that they stand for
            opset.transpose(node.input_value(0), turn),
            node.input_value(1),
            axis=len(order) - 2,
            mode=given["mode"],
            sort="value",
            index_element_type=given["index_element_type"],
            stable=True,
        )
        turned.set_friendly_name(node.get_friendly_name())
        for index in range(2):
            back = opset.transpose(turned.output(index), turn)
            node.output(index).replace(back.output(0))


def _spec(port: ov.ConstOutput) -> TensorSpec:
    shape = tuple(axis.get_length() if axis.is_static else 1 for axis in port.get_partial_shape())
    name = port.get_any_name() if port.get_names() else "output"
    return TensorSpec(name, shape, np.dtype(port.get_element_type().to_dtype()))
