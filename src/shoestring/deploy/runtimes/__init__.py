"""The runtimes that execute a file. One module each, all with the same four names:

`NAME`, `version() -> str`, `default_precision(onnx) -> str` ("fp32", or "bf16" where it lowers floats by itself; of a
graph, or of any) and `open(onnx, threads, precision, profile, literal) -> Session`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np
import onnx

from shoestring.core.errors import BadInput
from shoestring.engine import why_absent as why_no_engine

STOCK = ("onnxruntime", "openvino")  # what anybody has: a speed-up is measured against the best of them
NAMES = (*STOCK, "engine")


class TensorSpec(NamedTuple):
    """An input or output; axes of unknown length are given as 1."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


class Session(Protocol):
    """A loaded graph. Calling it takes the inputs in order and returns the outputs in order; it raises GivenUp when
    `give_up` ended it. `keeps_time`: a call may be told to end by itself, too (`Timed`)."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    keeps_time: bool

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]: ...

    def give_up(self) -> None:
        """Called by another thread: the run that is under way ends soon, behind the node that it is at, and raises
        GivenUp. Does nothing where there is none, or where it has only just begun: who must be sure asks again. Later
        runs are as if this had not been."""
        ...

    def profile(self, *inputs: np.ndarray, runs: int = 20) -> Mapping[str, float]:
        """Milliseconds by node (median over `runs`), in the runtime's names. Only of a session opened to profile."""
        ...


class Timed(Session, Protocol):
    """A session that looks at the clock as it runs."""

    def __call__(self, *inputs: np.ndarray, within: float = math.inf, gap: float = 0.0) -> list[np.ndarray]:
        """Gives up by itself where it would not end `within` so many seconds of now, reckoning with one more stretch
        without a core like the longest so far, of `gap` seconds at least."""
        ...


def last_layers(graph: bytes) -> dict[str, str]:
    """The node that writes each output. Runtimes call other nodes by names of ours, but these after the output."""
    model = onnx.load_from_string(graph).graph
    outputs = {value.name for value in model.output}
    return {name: node.name for node in model.node for name in node.output if name in outputs and node.name}


def for_floats(name: str) -> str:
    """The runtime to run a float graph on, beside 8-bit ones on `name`: the engine computes in integers only."""
    return name if name in STOCK else STOCK[0]


def installed(names: Iterable[str] = NAMES) -> tuple[str, ...]:
    """Those of `names` that are present here, the base one first."""
    return tuple(name for name in names if not _why_absent(name))


def absent() -> dict[str, str]:
    """The others, with why, and how to get them."""
    return {name: reason for name in NAMES if (reason := _why_absent(name))}


def get(name: str) -> ModuleType:
    """The module of a runtime. Raises BadInput when it is unknown or absent."""
    if name not in NAMES:
        raise BadInput(f"runtime: unknown {name!r}; known are {', '.join(NAMES)}")
    if reason := _why_absent(name):
        raise BadInput(f"runtime: {reason}")
    return import_module(f"shoestring.deploy.runtimes.{name}")


def open_all(runtime: str, graphs: Sequence[bytes], threads: int = 1) -> list[Session]:
    """A session for each point of a network, given cheapest first. In the engine they share weights, memory and threads
    and run one at a time; elsewhere each has its own. Raises BadInput."""
    module = get(runtime)
    if runtime == "engine":
        return list(module.open_all(graphs, threads))
    return [module.open(graph, threads=threads) for graph in graphs]


def _why_absent(name: str) -> str:
    if name == "engine":
        return why_no_engine()
    return "" if find_spec(name) else f'{name} is not installed here; pip install "shoestring[{name}]"'
