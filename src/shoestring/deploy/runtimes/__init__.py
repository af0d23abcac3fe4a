"""The runtimes that execute a file. One module each, all with the same four names:

`version() -> str`, `default_precision() -> str` ("fp32", or "bf16" where the runtime lowers float by itself),
`open(onnx, threads, precision, profile, keep) -> Session` and `NAME`.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np
import onnx

from shoestring.core.errors import BadInput

NAMES = ("onnxruntime", "openvino")


class TensorSpec(NamedTuple):
    """An input or output; axes of unknown length are given as 1."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


class Session(Protocol):
    """A loaded graph. Calling it takes the inputs in order and returns the outputs in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]: ...

    def profile(self, *inputs: np.ndarray, runs: int = 20) -> Mapping[str, float]:
        """Milliseconds by node (median over `runs`), in the runtime's names. Only of a session opened to profile."""
        ...


def last_layers(graph: bytes) -> dict[str, str]:
    """The node that writes each output. Runtimes call other nodes by names of ours, but these after the output."""
    model = onnx.load_from_string(graph).graph
    outputs = {value.name for value in model.output}
    return {name: node.name for node in model.node for name in node.output if name in outputs and node.name}


def installed() -> tuple[str, ...]:
    """The runtimes present here, the base one first."""
    return tuple(name for name in NAMES if find_spec(name) is not None)


def get(name: str) -> ModuleType:
    """The module of a runtime. Raises BadInput when it is unknown or absent."""
    if name not in NAMES:
        raise BadInput(f"runtime: unknown {name!r}; known are {', '.join(NAMES)}")
    if find_spec(name) is None:
        raise BadInput(f'runtime: {name} is not installed here; pip install "shoestring[{name}]"')
    return import_module(f"shoestring.deploy.runtimes.{name}")
