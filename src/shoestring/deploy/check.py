"""Safety of a graph that may come from a stranger.

`check_graph` looks at it without running anything; `first_load` opens and runs it once in a child process, because
stock runtimes can crash natively on malformed graphs. `python -m shoestring.deploy.check RUNTIME` is that child.
"""

import contextlib
import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from shoestring.core.cache import folder
from shoestring.core.errors import BadInput
from shoestring.core.schema import one_line
from shoestring.deploy import geometry, matmul_nbits
from shoestring.deploy.operators import ALLOWED
from shoestring.deploy.wire import parse_model

IR_VERSIONS = (3, onnx.IR_VERSION)
OPSETS = (7, onnx.defs.onnx_opset_version())
MAX_ELEMENTS = 2**31  # of any tensor whose size the graph declares
MAX_RANK = 8
MAX_NESTING = 8  # of Loop and If
SECONDS = 120.0  # for the first load
MEMORY = 2**32  # bytes of address space for the first load, and eight times the graph on top
CHILD = ("-P", "-m", "shoestring.deploy.check")  # -P: nothing is imported from the current folder
# data_type: (bits of one element, the field that holds it when raw_data does not)
_STORAGE: dict[int, tuple[int, str]] = {
    TensorProto.FLOAT: (32, "float_data"),
    TensorProto.DOUBLE: (64, "double_data"),
    TensorProto.FLOAT16: (16, "int32_data"),
    TensorProto.BFLOAT16: (16, "int32_data"),
    TensorProto.BOOL: (8, "int32_data"),
    TensorProto.UINT4: (4, "int32_data"),
    TensorProto.INT4: (4, "int32_data"),
    TensorProto.UINT8: (8, "int32_data"),
    TensorProto.INT8: (8, "int32_data"),
    TensorProto.UINT16: (16, "int32_data"),
    TensorProto.INT16: (16, "int32_data"),
    TensorProto.INT32: (32, "int32_data"),
    TensorProto.UINT32: (32, "uint64_data"),
    TensorProto.INT64: (64, "int64_data"),
    TensorProto.UINT64: (64, "uint64_data"),
}


def check_graph(onnx_bytes: bytes, name: str) -> ModelProto:
    """The parsed model, when nothing about it is suspicious: sizes, versions, operators, no external data, no functions
    but those of `geometry`, initialisers as long as their dims say, and `onnx.checker`. Its shape inference is left to
    `first_load`.

    Raises BadInput in one line with `name`, the file, and the node.
    """
    try:
        model = parse_model(onnx_bytes)
        _check_model(model)
        _check_body(model.graph, 0)
        _check_ends(model.graph)
        _check_by_onnx(onnx_bytes)
    except ValueError as error:
        raise BadInput(f"{name}: {one_line(error)}") from None
    return model


def first_load(onnx_bytes: bytes, name: str, runtime: str) -> None:
    """Opens the graph with `runtime` and runs it once on zeros, in a child process with limits of time and memory.

    Graphs that went well are remembered, so that each is tried once. Raises BadInput with `name`, the file, when the
    child fails, crashes, or takes longer than SECONDS or more than MEMORY.
    """
    known = hashlib.sha256(onnx_bytes).hexdigest()
    if _remembered(known) or _remembered(f"{known}.{runtime}"):
        return
    fault = _try_in_child(onnx_bytes, runtime)
    if fault:
        raise BadInput(f"{name}: {runtime} cannot run it: {fault}")
    _remember(f"{known}.{runtime}")


def trust(onnx_bytes: bytes) -> None:
    """Remembers a graph that we have just made ourselves: `first_load` lets it pass on every runtime."""
    _remember(hashlib.sha256(onnx_bytes).hexdigest())


def _check_model(model: ModelProto) -> None:
    if not IR_VERSIONS[0] <= model.ir_version <= IR_VERSIONS[1]:
        raise ValueError(f"IR version {model.ir_version} is not in {IR_VERSIONS[0]}..{IR_VERSIONS[1]}; export it again")
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ValueError(f"opset {opset} is not in {OPSETS[0]}..{OPSETS[1]}; export it with opset 21")
    _check_functions(model)
    if model.training_info:
        raise ValueError("it holds a training graph; export it for inference")


def _check_functions(model: ModelProto) -> None:
    """Only ours, each once, and all that are called."""
    defined = [function.name for function in model.functions]
    for function in model.functions:
        if not geometry.is_ours(function):
            raise ValueError(f"it defines the function {function.name!r}; inline functions first (onnx.inliner)")
    if len(set(defined)) < len(defined):
        raise ValueError("it defines a function twice")
    if missing := sorted(geometry.called(model) - set(defined)):
        raise ValueError(f"it calls the function {missing[0]!r} and does not define it; export it again")


def _check_by_onnx(onnx_bytes: bytes, full: bool = False) -> None:
    try:
        onnx.checker.check_model(onnx_bytes, full_check=full)
    except Exception as error:  # it raises many types
        raise ValueError(f"not valid ONNX: {error}") from None


def _check_body(graph: GraphProto, nesting: int) -> None:
    if nesting > MAX_NESTING:
        raise ValueError(f"loops are nested deeper than {MAX_NESTING}")
    if graph.sparse_initializer:
        raise ValueError("sparse initialisers are not supported; store them dense")
    for tensor in graph.initializer:
        _check_tensor(tensor, f"initialiser {tensor.name!r}")
    for value in (*graph.input, *graph.output, *graph.value_info):
        _check_value(value)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for index, node in enumerate(graph.node):
        where = f"node {node.name or index!r} ({_operator(node)})"
        _check_node(node, where, nesting)
        if node.op_type == matmul_nbits.OPERATOR and (found := matmul_nbits.misfit(node, constants)):
            raise ValueError(f"{where}: {found}")


def _check_node(node: NodeProto, where: str, nesting: int) -> None:
    if ("" if node.domain == "ai.onnx" else node.domain, node.op_type) not in ALLOWED:
        raise ValueError(f"{where}: this operator is not allowed in a perception network")
    for attribute in node.attribute:
        if attribute.ref_attr_name or attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS):
            raise ValueError(f"{where}: attribute {attribute.name!r} is of a kind that is not supported")
        for tensor in (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors:
            _check_tensor(tensor, f"{where}: attribute {attribute.name!r}")
        for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            _check_body(graph, nesting + 1)


def _check_tensor(tensor: TensorProto, where: str) -> None:
    """The data is here, and exactly as much of it as the dims say."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        raise ValueError(f"{where} is stored in another file; save the model as one file")
    storage = _STORAGE.get(tensor.data_type)
    if storage is None or tensor.HasField("segment"):
        raise ValueError(f"{where} has the unsupported data type {tensor.data_type}")
    elements = _elements(tensor.dims, where, smallest=0)
    bits, field = storage
    if tensor.HasField("raw_data"):
        stored, expected = len(tensor.raw_data), math.ceil(elements * bits / 8)
    else:
        stored, expected = len(getattr(tensor, field)), math.ceil(elements / 2) if bits == 4 else elements
    if stored != expected:
        raise ValueError(f"{where} of {list(tensor.dims)} holds {stored} values or bytes where {expected} are needed")


def _check_value(value: ValueInfoProto) -> None:
    where = f"tensor {value.name!r}"
    if value.type.WhichOneof("value") not in (None, "tensor_type"):
        raise ValueError(f"{where} is a sequence, map or optional; only tensors are supported")
    dims = value.type.tensor_type.shape.dim
    _elements([dim.dim_value for dim in dims if dim.HasField("dim_value")], where, smallest=0)


def _check_ends(graph: GraphProto) -> None:
    """What is fed and read: typed tensors without empty axes."""
    fed = {tensor.name for tensor in graph.initializer}  # old files list the initialisers among the inputs
    for value in (*(value for value in graph.input if value.name not in fed), *graph.output):
        where, tensor = f"tensor {value.name!r}", value.type.tensor_type
        if tensor.elem_type not in _STORAGE:
            raise ValueError(f"{where} has the unsupported data type {tensor.elem_type}")
        _elements([dim.dim_value for dim in tensor.shape.dim if dim.HasField("dim_value")], where, smallest=1)
    if not graph.output:
        raise ValueError("the graph has no output")


def _elements(dims: Iterable[int], where: str, smallest: int) -> int:
    sizes = list(dims)
    if len(sizes) > MAX_RANK or min(sizes, default=smallest) < smallest or math.prod(sizes) > MAX_ELEMENTS:
        raise ValueError(f"{where} has impossible dims {sizes[:MAX_RANK]}")
    return math.prod(sizes)


def _has_free_axes(model: ModelProto) -> bool:
    """Whether an axis other than the batch is left open."""
    dims = [value.type.tensor_type.shape.dim for value in model.graph.input]
    return any(not dim.HasField("dim_value") for axes in dims for dim in axes[1:])


def _operator(node: NodeProto) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def _try_in_child(onnx_bytes: bytes, runtime: str) -> str:
    """Why the graph cannot be opened and run, or nothing."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # it imports what we would
    command = [sys.executable, *CHILD, runtime]
    try:
        child = subprocess.run(
            command, input=onnx_bytes, capture_output=True, timeout=SECONDS, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it was not done after {SECONDS:g} s"
    except OSError as error:
        return f"no child process can be started ({error.strerror})"
    if child.returncode < 0:
        return f"the runtime crashed (signal {-child.returncode})"
    if child.returncode:
        return one_line(child.stderr.decode(errors="replace").strip().rpartition("\n")[2]) or "the runtime failed"
    return ""


def _remembered(name: str) -> bool:
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder
        return (folder("graphs") / name).is_file()
    return False


def _remember(name: str) -> None:
    """An empty file: made in one step, whoever else does the same. Without a place for it the graph is tried again."""
    with contextlib.suppress(OSError, RuntimeError):
        place = folder("graphs")
        place.mkdir(parents=True, exist_ok=True)
        (place / name).touch()


def _limit_memory(size: int) -> None:
    try:
        import resource  # not on Windows
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY + 8 * size
    resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _child(runtime: str) -> None:
    from shoestring.deploy import runtimes  # only the child may load a runtime

    onnx_bytes = sys.stdin.buffer.read()
    _limit_memory(len(onnx_bytes))
    model = check_graph(onnx_bytes, "graph")
    _check_by_onnx(onnx_bytes, full=True)
    session = runtimes.get(runtime).open(onnx_bytes, threads=1)
    try:
        session(*(np.zeros(spec.shape, spec.dtype) for spec in session.inputs))
    except Exception:
        if not _has_free_axes(model):  # else the smallest input may rightly be too small for the network
            raise


if __name__ == "__main__":
    try:
        _child(sys.argv[1])
    except Exception as error:
        print(one_line(error) or type(error).__name__, file=sys.stderr)
        sys.exit(2)
