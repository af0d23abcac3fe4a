"""What only fresh processes tell: time to the first answer, peak memory, and a runtime limited to AVX2."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from engine_bench.bars import Bar, shown
from engine_bench.workers import in_turns, worker

from shoestring.core.statistics import MIN_ROUNDS, median_interval, ratio_interval
from shoestring.deploy.footprint import load_and_run
from shoestring.measure import machine
from shoestring.measure.memory import peak_mb
from shoestring.measure.timing import Schedule

STARTS_WITHIN = 50.0
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "SHOESTRING_ISA": "avx2"}


def start_up_bar(network: str, file: Path, runtimes: tuple[str, ...], rounds: int = 2 * MIN_ROUNDS) -> Bar:
    """Loading and the first run, in as many fresh processes, the runtimes in turns; the first of them is judged."""
    found: dict[str, list[float]] = {runtime: [] for runtime in runtimes}
    with machine.pinned(1):
        for number in range(rounds):
            for runtime in runtimes[:: 1 - 2 * (number % 2)]:
                with worker(runtime, threads=1) as process:
                    found[runtime].append(process.open(file)["ms"])
    times = {runtime: median_interval(samples) for runtime, samples in found.items()}
    print(f"\nstart-up of {network}, load and first run, ms: {', '.join(f'{r} {shown(t)}' for r, t in times.items())}")
    return Bar(f"{network}: ms to load and run once", times[runtimes[0]], "<=", STARTS_WITHIN)


def memory_bar(network: str, file: Path, runtimes: tuple[str, ...], threads: int = 1) -> Bar:
    """Peak memory of a process that loads the file and runs it; the first of `runtimes` against the second."""
    graph = file.read_bytes()
    rounds = [[peak_mb(load_and_run, graph, name, threads) for name in runtimes] for _ in range(MIN_ROUNDS)]
    peaks = dict(zip(runtimes, np.transpose(rounds), strict=True))
    told = ", ".join(f"{name} {np.median(samples):.0f}" for name, samples in peaks.items())
    print(f"peak memory of {network}, {threads} thread, MB: {told}", flush=True)
    ours, other = runtimes[:2]
    ratio = ratio_interval(peaks[other], peaks[ours], placement=0.0)
    return Bar(f"{network}: peak memory, {ours} / {other}", ratio, "<=", 1.0)


def avx2_bar(network: str, file: Path, runtimes: tuple[str, ...], schedule: Schedule) -> Bar:
    """Both limited to AVX2, each in its own process, in turns; the first of `runtimes` against the second."""
    with machine.pinned(1), ExitStack() as stack:
        subjects = {name: (stack.enter_context(worker(name, 1, environment=AVX2)), file) for name in runtimes}
        for process, path in subjects.values():
            process.open(path)
        ratio = in_turns(subjects, schedule).ratio(*runtimes)
    return Bar(f"{network}: dense on AVX2, speed against {runtimes[1]} on AVX2", ratio, ">=", 1.0)
