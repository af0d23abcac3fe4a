"""The original: whatever the user named, as one float graph with its layers."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto
from torch import fx, nn

from shoestring.core.errors import BadInput
from shoestring.core.layer import Layer
from shoestring.core.schema import one_line
from shoestring.deploy import inventory as onnx_inventory
from shoestring.deploy.check import check_graph, first_load
from shoestring.deploy.export import export
from shoestring.deploy.normal_form import is_quantised
from shoestring.deploy.rewrite import OPSET, tidy
from shoestring.deploy.versions import to_opset
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory
from shoestring.models import zoo
from shoestring.models.labels import class_names
from shoestring.models.weights import load_weights


@dataclass(frozen=True)
class Original:
    """`graph`: float ONNX, batch 1, batch norm folded, nodes named after layers. `model`: the captured torch model the
    graph was made from, its batch norms in place, as training wants it; None for an `.onnx` file. `trained`: False when
    the weights are random, so that speed can be told but not quality. `preprocess`, `labels`: when the zoo knows them.
    `provenance`: for the file."""

    name: str
    graph: ModelProto
    layers: tuple[Layer, ...]
    input: tuple[int, ...]
    model: fx.GraphModule | None = None
    trained: bool = True
    preprocess: Mapping[str, Any] | None = None
    labels: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """How many numbers [n, outputs] it answers with; 0 when that is not the shape of its answers."""
        shape = self.graph.graph.output[0].type.tensor_type.shape.dim
        return int(shape[-1].dim_value) if len(shape) == 2 else 0

    def noise(self) -> list[np.ndarray]:
        """Four inputs of normal noise, float32 [1, *input], the same each time, to calibrate for speed only."""
        seeds = map(np.random.default_rng, range(4))
        return [random.standard_normal((1, *self.input), dtype=np.float32) for random in seeds]

    def of_kinds(self, kinds: Collection[str]) -> tuple[Layer, ...]:
        """The layers that a method for `kinds` can be applied to. What calls a function on a weight of its own is left
        out: it is no module, and the exported node has another name."""
        nodes = {node.name for node in self.graph.graph.node}
        modules = None if self.model is None else {name for name, _ in self.model.named_modules()}
        found = (layer for layer in self.layers if layer.kind in kinds and layer.name in nodes)
        return tuple(layer for layer in found if modules is None or layer.name.partition(":")[0] in modules)


def resolve(model: str, weights: str | None = None, input: str | None = None, classes: int | None = None) -> Original:
    """MODEL as the command line takes it: a name in the zoo, `package.module:factory`, `path/file.py:factory` or an
    `.onnx` file. `input`: CxHxW, or POINTSx3, for a factory, whose network does not say it itself. `classes`: of an
    untrained network of the zoo whose data say how many there are (`zoo.build`). Raises BadInput."""
    if ":" in model and not model.endswith(".onnx"):
        return _from_factory(model, weights, input)
    if input is not None:
        raise BadInput(f"--input: {model} says itself what it takes; leave --input out")
    return _from_onnx(model, weights) if model.endswith(".onnx") else _from_zoo(model, weights, classes)


def parse_shape(text: str) -> tuple[int, ...]:
    """`3x224x224` as (3, 224, 224)."""
    try:
        shape = tuple(int(axis) for axis in text.lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise BadInput(f"--input: cannot read {text!r}; write CxHxW, for example 3x224x224")
    return shape


def _from_zoo(name: str, weights: str | None, classes: int | None) -> Original:
    known = zoo.entry(name)
    model = zoo.build(name, weights, classes)
    labels = class_names(known.labels) if known.labels else ()
    trained = weights is not None or zoo.has_weights(name)
    source = weights or (zoo.packaged_weights(name) if trained else None)
    told = {"model": name, "weights": _digest(source)}
    found = _from_module(name, model, known.input, told)
    return replace(found, trained=trained, preprocess=known.preprocess, labels=labels)


def _from_factory(text: str, weights: str | None, input: str | None) -> Original:
    if input is None:
        raise BadInput(f"{text}: the input's shape is not known; add --input CxHxW, for example --input 3x224x224")
    module, _, factory = text.rpartition(":")
    shape = parse_shape(input)
    make = getattr(_imported(module), factory, None)
    if not callable(make):
        raise BadInput(f"{text}: {module} has no function {factory!r}")
    try:
        model = make()
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise BadInput(f"{text}: calling it failed: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise BadInput(f"{text}: returned {type(model).__name__}, not a torch.nn.Module")
    if weights is not None:
        load_weights(model, weights)
    told = {"model": f"{Path(module).name}:{factory}", "weights": _digest(weights)}
    # A factory may load its own weights, so they are taken to be what the user means.
    return _from_module(factory, model, shape, told)


def remade(before: Original, model: fx.GraphModule) -> Original:
    """`before` with another captured network in its place: its float graph and its layers."""
    folded = fold(model)
    return replace(before, model=model, graph=export(folded, before.input), layers=inventory(folded, before.input))


def _from_module(name: str, model: nn.Module, shape: tuple[int, ...], told: Mapping[str, Any]) -> Original:
    captured = capture(model, shape)
    folded = fold(captured)
    return Original(name, export(folded, shape), inventory(folded, shape), shape, captured, provenance=told)


def _from_onnx(path: str, weights: str | None) -> Original:
    if weights is not None:
        raise BadInput(f"{path}: an .onnx file brings its own weights; leave --weights out")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    graph = check_graph(data, path)
    if is_quantised(graph):
        raise BadInput(
            f"{path}: is already quantised; give the float original (`shoestring receipt` measures this one)"
        )
    if len(graph.graph.input) != 1 or len(graph.graph.output) != 1:
        raise BadInput(
            f"{path}: has {len(graph.graph.input)} inputs and {len(graph.graph.output)} outputs; one of each is needed"
        )
    first_load(data, path, "onnxruntime")
    graph = tidy(to_opset(graph, OPSET))
    shape = tuple(axis.dim_value for axis in graph.graph.input[0].type.tensor_type.shape.dim)[1:]
    layers = onnx_inventory.inventory(graph)
    told = {"model": Path(path).name, "weights": hashlib.sha256(data).hexdigest()}
    return Original(Path(path).stem, graph, layers, shape, provenance=told)


def _imported(name: str) -> Any:
    """A module by name, from the current folder too, or a file; its neighbours can be imported, as when it is run."""
    path = Path(name) if name.endswith(".py") else None
    if path is not None and not path.is_file():
        raise BadInput(f"{name}: there is no such file; write path/file.py:factory")
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd() if path is None else path.parent.resolve()))
    try:
        return importlib.import_module(name) if path is None else _executed(path)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise BadInput(f"{name}: cannot be imported: {type(error).__name__}: {one_line(error)}") from error
    finally:
        sys.path[:] = before


def _executed(path: Path) -> Any:
    # Registered like any import (dataclasses look their module up), under a name that hides no other module.
    name = f"shoestring.given.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "Python has a loader for .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _digest(path: str | Path | None) -> str | None:
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
