"""Quick paired timing of graphs, for decisions on the way. The receipt has its own, longer contest."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np
from onnx import ModelProto

from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes
from shoestring.deploy.chain import run
from shoestring.measure.machine import pinned
from shoestring.measure.timing import Schedule, interleave, noise


def milliseconds(
    entrants: Mapping[str, tuple[ModelProto, str]],
    threads: int,
    seconds: float = 3.0,
    progress: Callable[[float], object] | None = None,
    floats: Collection[str] = (),
) -> dict[str, float]:
    """Median ms of each (graph, runtime), timed in turns, on an input of its own shape. `floats`: those that are
    computed in fp32 where their runtime would lower them to something else by itself."""
    with pinned(threads):
        sessions = {
            name: runtimes.get(runtime).open(
                graph.SerializeToString(), threads=threads, precision="fp32" if name in floats else "default"
            )
            for name, (graph, runtime) in entrants.items()
        }
        given = {name: noise(session.inputs[0].shape) for name, session in sessions.items()}
        subjects = {name: partial(session, given[name]) for name, session in sessions.items()}
        timings = interleave(subjects, Schedule(seconds=seconds, threads=threads), progress)
    return {name: float(np.median(samples)) for name, samples in timings.primary().items()}


def chained(
    chains: Mapping[str, Sequence[ModelProto]],
    runtime: str,
    threads: int,
    seconds: float = 3.0,
    progress: Callable[[float], object] | None = None,
) -> dict[str, float]:
    """Median ms of each of `chains` (graphs of which each takes what the one before hands on, `deploy.chain`) from the
    input to its last answer, timed in turns. A graph of several chains is opened once."""
    graphs = {id(graph): graph for graphs in chains.values() for graph in graphs}
    with pinned(threads):
        engine = runtimes.get(runtime)
        sessions = {key: engine.open(graph.SerializeToString(), threads=threads) for key, graph in graphs.items()}
        opened = {name: [sessions[id(graph)] for graph in graphs] for name, graphs in chains.items()}
        subjects = {name: partial(run, stages, noise(stages[0].inputs[0].shape)) for name, stages in opened.items()}
        timings = interleave(subjects, Schedule(seconds=seconds, threads=threads), progress)
    return {name: float(np.median(samples)) for name, samples in timings.primary().items()}


def against(
    graphs: Mapping[str, tuple[ModelProto, str]], original: ModelProto, threads: int
) -> tuple[dict[str, float], float]:
    """Median ms of each of `graphs` (graph, runtime), and of the original in fp32 on the stock runtime that is fastest
    with it: what a receipt's `x` is relative to. All in turns."""
    stock = {f"original on {name}": (original, name) for name in runtimes.installed(runtimes.STOCK)}
    times = milliseconds({**graphs, **stock}, threads, floats=stock.keys())
    return {name: times[name] for name in graphs}, min(times[name] for name in stock)


def fastest(graph: ModelProto, threads: int) -> str:
    """The runtime that runs this graph fastest here, of those that take it."""
    names = [name for name in runtimes.installed() if takes(name, graph)]
    if len(names) == 1:
        return names[0]
    times = milliseconds({name: (graph, name) for name in names}, threads)
    return min(times, key=times.__getitem__)


def takes(name: str, graph: ModelProto) -> bool:
    """The stock runtimes take everything, or say so when they are asked for it; the engine has no floats."""
    if name in runtimes.STOCK:
        return True
    try:
        runtimes.get(name).open(graph.SerializeToString(), threads=1)
    except BadInput:
        return False
    return True
