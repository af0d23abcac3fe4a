"""A process that runs files in one runtime when it is told to; its other end is `workers.py`.

    python worker.py RUNTIME THREADS

A line of input is a JSON object; so is each answer. `{"open": PATH}` loads the file and runs it once: `{"ms"}`, imports
not counted; `{"answer"}`, its first output on noise, flat; and `{"supported"}`, the share of the network that the
runtime executes itself, where it says so.
`{"run": PATH, "calls": N}` runs it once more than N times: `{"wall", "cpu"}`, milliseconds of each of the N. Also runs
in the environment of DeepSparse, which has nothing of the project.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np

Call = Callable[[], list[np.ndarray]]


def opener(runtime: str, threads: int) -> Callable[[str], tuple[Call, float | None]]:
    """What loads a file: a call that runs it on noise, and the share that the runtime supports."""
    if runtime == "deepsparse":
        from deepsparse import Engine

        def load(path: str) -> tuple[Call, float | None]:
            engine = Engine(path, batch_size=1, num_cores=threads)
            inputs = [noise(shape) for shape in engine.input_shapes]
            return lambda: engine.run(inputs), engine.fraction_of_supported_ops

        return load
    from shoestring.deploy import runtimes

    module = runtimes.get(runtime)

    def open_here(path: str) -> tuple[Call, float | None]:
        session = module.open(Path(path).read_bytes(), threads=threads)
        inputs = [noise(spec.shape) for spec in session.inputs]
        return lambda: session(*inputs), None

    return open_here


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def timed(call: Call, calls: int) -> dict[str, float]:
    call()  # who had the processor before has emptied the caches
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        call()
    return {"wall": 1e3 * (time.perf_counter() - wall) / calls, "cpu": 1e3 * (time.process_time() - cpu) / calls}


def answers() -> TextIO:
    """Standard output for the answers alone: what runtimes print goes to standard error."""
    own = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return own


def main() -> None:
    out, load, calls = answers(), opener(sys.argv[1], int(sys.argv[2])), {}
    for line in sys.stdin:
        task = json.loads(line)
        if "open" in task:
            started = time.perf_counter()
            calls[task["open"]], supported = load(task["open"])
            answer = calls[task["open"]]()[0]
            ms = 1e3 * (time.perf_counter() - started)
            told: dict[str, object] = {"ms": ms, "answer": np.ravel(answer).tolist(), "supported": supported}
        else:
            told = {**timed(calls[task["run"]], task["calls"])}
        print(json.dumps(told), file=out)


if __name__ == "__main__":
    main()
