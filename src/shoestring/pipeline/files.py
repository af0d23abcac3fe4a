"""A file on disk, `.shoe` or `.onnx`, as a graph that was checked and tried. Needs no torch."""

from pathlib import Path

from onnx import ModelProto

from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.check import check_graph, first_load
from shoestring.deploy.rewrite import OPSET, infer
from shoestring.deploy.versions import to_opset


def stored(path: str) -> bytes:
    """The graph in a file, as it is there; of a `.shoe` its first point. Raises BadInput."""
    if path.endswith(".shoe"):
        return shoe.read(path).onnx()
    if not path.endswith(".onnx"):
        raise BadInput(f"{path}: is neither a .shoe nor an .onnx file")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None


def opened(data: bytes, path: str, runtime: str) -> ModelProto:
    """A graph from a stranger, checked and tried on `runtime`, at our opset and with all shapes. Raises BadInput with
    `path`, the file it is from."""
    model = check_graph(data, path)
    first_load(data, path, runtime)
    return infer(to_opset(model, OPSET))


def usable_runtime(path: str) -> str:
    """The runtime that a `.shoe` was measured on, when it is installed here; else onnxruntime."""
    measured = shoe.read(path).points[0].measured.get("runtime") if path.endswith(".shoe") else None
    return str(measured) if measured in runtimes.installed() else "onnxruntime"
