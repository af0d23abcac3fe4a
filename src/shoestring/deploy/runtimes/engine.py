"""Our own engine, for quantised graphs. What little it cannot execute, at a graph's ends, runs on ONNX Runtime."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper, load_from_string

from shoestring import engine
from shoestring.core.errors import BadInput, GivenUp
from shoestring.deploy.runtimes import TensorSpec
from shoestring.engine.split import split

NAME = "engine"


def version() -> str:
    """Of the programs it executes, and the instruction set in use, which sets its speed."""
    return f"{engine.VERSION} ({engine.isas()[0]})"


def default_precision(onnx: bytes = b"") -> str:
    del onnx
    return "fp32"


@dataclass(frozen=True)
class EngineStep:
    """How an op is executed. `name`: the node it came from; `label`: the kernel; `multiplies`: multiply-adds for an
    image, skipped zeros not counted; `bytes`: what it reads and writes, weights included."""

    name: str
    label: str
    multiplies: int
    bytes: int


class EngineSession:
    """See `runtimes.Session`."""

    def __init__(self, model: ModelProto, threads: int, profile: bool, base: "EngineSession | None" = None):
        parts = split(model)
        self._moved = parts.program.moved()  # not the program: it holds the weights once more
        self.whole = self.keeps_time = parts.head is None and parts.tail is None
        like: engine.Network | None = base._network if base and self.whole else None
        self._network: engine.Network = engine.Network(parts.program, threads, base=like)
        stages = (parts.head, None if self.whole else self._network, parts.tail)
        self._stages = [_stage(part, threads, profile) for part in stages if part is not None]
        stored = {tensor.name for tensor in model.graph.initializer}
        self.inputs = tuple(_spec(value) for value in model.graph.input if value.name not in stored)
        self.outputs = tuple(_spec(value) for value in model.graph.output)
        self._given_up = 0  # times

    def __call__(self, *inputs: np.ndarray, within: float = math.inf, gap: float = 0.0) -> list[np.ndarray]:
        if not self._stages:
            return self._network(*inputs, within=within, gap=gap)
        known, given_up = self._named(inputs), self._given_up
        for stage in self._stages:
            if self._given_up != given_up:
                raise GivenUp("engine: the run was given up")
            known.update(stage(known))
        return [known[spec.name] for spec in self.outputs]

    def give_up(self) -> None:
        """See `runtimes.Session`. One that waits for another point's run to end is given up, too."""
        self._given_up += 1
        self._network.give_up()
        for stage in self._stages:
            stage.run.give_up()

    @property
    def memory_bytes(self) -> int:
        """Packed weights and what flows between steps; of one opened on another, what it has of its own."""
        return self._network.weight_bytes + self._network.arena_bytes

    def steps(self) -> tuple[EngineStep, ...]:
        """One for each op of the program."""
        return tuple(
            EngineStep(step.name, step.label, step.multiplies, step.weight_bytes + moved)
            for step, moved in zip(self._network.steps, self._moved, strict=True)
        )

    def profile(self, *inputs: np.ndarray, runs: int = 20) -> Mapping[str, float]:
        if not self._stages:
            return _times(self._network, *inputs, runs=runs)
        known, found = self._named(inputs), dict[str, float]()
        for stage in self._stages:
            given = [known[name] for name in stage.reads]
            network = stage.run if isinstance(stage.run, engine.Network) else None
            found |= stage.run.profile(*given, runs=runs) if network is None else _times(network, *given, runs=runs)
            known.update(stage(known))
        return found

    def _named(self, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip((spec.name for spec in self.inputs), inputs, strict=True))


@dataclass(frozen=True)
class _Stage:
    """A part of the graph: what it reads and writes, by name."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    run: Any

    def __call__(self, known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.writes, self.run(*(known[name] for name in self.reads)), strict=True))


def _stage(part: ModelProto | engine.Network, threads: int, profile: bool) -> _Stage:
    # Loaded for those who need it only: it takes more memory than most networks.
    from shoestring.deploy.runtimes import onnxruntime

    run: Any = part
    if isinstance(part, ModelProto):
        run = onnxruntime.open(part.SerializeToString(), threads=threads, profile=profile)
    return _Stage(tuple(spec.name for spec in run.inputs), tuple(spec.name for spec in run.outputs), run)


def _times(network: engine.Network, *inputs: np.ndarray, runs: int) -> dict[str, float]:
    """Median milliseconds by node; what was made of one node is added up. The first run, which plans, is left out."""
    found: dict[str, float] = {}
    for step, ms in zip(
        network.steps, np.median(network.profile(*inputs, runs=runs + 1)[1:], axis=0) / 1e6, strict=True
    ):
        found[step.name] = found.get(step.name, 0.0) + float(ms)
    return found


def _spec(value: ValueInfoProto) -> TensorSpec:
    given = value.type.tensor_type
    shape = tuple(max(axis.dim_value, 1) for axis in given.shape.dim)
    return TensorSpec(value.name, shape, np.dtype(helper.tensor_dtype_to_np_dtype(given.elem_type)))


def open(
    onnx: bytes, threads: int = 1, precision: str = "default", profile: bool = False, literal: bool = False
) -> EngineSession:
    """A session on `threads` threads (0: all); `precision` is that of the graph. Raises BadInput when the engine is
    absent or cannot execute the graph, naming the first such node, and when `literal` execution is asked for."""
    del precision
    if literal:
        raise BadInput("engine: computes in integers only; run the graph literally on onnxruntime")
    return _open(onnx, threads, profile)


def open_all(graphs: Sequence[bytes], threads: int = 1) -> list[EngineSession]:
    """Sessions of the points of one network, the cheapest first, to be used in turns: they run on the threads and in
    the memory of the last, and weights that layers of one name have in common are kept once. Graphs whose ends another
    runtime executes are on their own. Raises BadInput as `open` does."""
    if not graphs:
        return []
    last = _open(graphs[-1], threads)
    return [*(_open(graph, threads, base=last if last.whole else None) for graph in graphs[:-1]), last]


def _open(onnx: bytes, threads: int, profile: bool = False, base: EngineSession | None = None) -> EngineSession:
    called = version()
    try:
        model = load_from_string(onnx)
        if {node.op_type for node in model.graph.node}.isdisjoint({"QuantizeLinear", "DequantizeLinear"}):
            raise BadInput("it computes in integers only, and nothing is quantised; fit the graph, or use onnxruntime")
        return EngineSession(model, threads or _cores(), profile, base)
    except Exception as error:  # a stranger's graph may be wrong in any way
        reason = " ".join(str(error).split()).removeprefix("engine: ")
        raise BadInput(f"engine {called} refuses the graph: {reason[:300]}") from None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
