"""A file on disk, `.shoe` or `.onnx`, as a graph that was checked and tried. Needs no torch."""

from pathlib import Path

from onnx import ModelProto

from shoestring.core.errors import BadInput
from shoestring.core.ladder import chain
from shoestring.core.schema import one_line
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.chain import join
from shoestring.deploy.check import check_graph, first_load
from shoestring.deploy.rewrite import OPSET, infer, lean
from shoestring.deploy.versions import to_opset


def stored(path: str) -> bytes:
    """The graph in a file, as it is there; of a `.shoe` its richest point, a chain of points to its end. Raises
    BadInput."""
    if path.endswith(".shoe"):
        artifact = shoe.read(path)
        last = len(artifact.points) - 1
        if artifact.points[last].after is None:
            return artifact.onnx(last)
        stages = [check_graph(artifact.onnx(point), path) for point in chain(artifact.points, last)]
        try:
            return lean(join(stages))
        except Exception as error:  # a stranger's stages need not fit each other
            raise BadInput(f"{path}: its points do not fit each other: {one_line(error)}") from None
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
