"""What a fresh process does to run a file once: the target of a peak-memory measurement. Imports no torch."""

import numpy as np

from shoestring.deploy import runtimes


def load_and_run(graph: bytes, runtime: str, threads: int, runs: int = 3) -> None:
    """Opens the graph on a runtime and runs it on zeros."""
    session = runtimes.get(runtime).open(graph, threads=threads)
    inputs = [np.zeros(spec.shape, spec.dtype) for spec in session.inputs]
    for _ in range(runs):
        session(*inputs)
