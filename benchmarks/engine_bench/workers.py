"""Runtimes in processes of their own, timed in turns: for what one process cannot hold."""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from shoestring.measure.timing import Schedule, Timings

BURST_MS = 2.0


@dataclass(frozen=True)
class Worker:
    """One process; see `worker.py`. Raises RuntimeError with its last words when it dies."""

    process: subprocess.Popen[str]
    errors: IO[bytes]

    def open(self, path: Path) -> dict[str, Any]:
        return self._ask({"open": str(path)})

    def run(self, path: Path, calls: int) -> dict[str, float]:
        return self._ask({"run": str(path), "calls": calls})

    def _ask(self, task: Mapping[str, object]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None, "both are pipes"
        try:
            print(json.dumps(task), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait()
            self.errors.seek(0)
            words = " ".join(self.errors.read().decode(errors="replace").split())[-500:]
            raise RuntimeError(f"a worker ended with code {self.process.returncode}: {words}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def worker(
    runtime: str,
    threads: int,
    python: str | Path = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Worker]:
    """Starts one, and ends it by closing its input. `environment` is added to ours."""
    command = [str(python), str(Path(__file__).with_name("worker.py")), runtime, str(threads)]
    variables = {**os.environ, **(environment or {})}
    with (
        TemporaryFile() as errors,
        subprocess.Popen(command, text=True, env=variables, stdin=PIPE, stdout=PIPE, stderr=errors) as process,
    ):
        yield Worker(process, errors)


def in_turns(subjects: Mapping[str, tuple[Worker, Path]], schedule: Schedule) -> Timings:
    """`measure.timing.interleave` across processes: one works, the others wait for their turn. Files are open already.
    Stops after `seconds`, within the bounds of `rounds`."""
    first = {name: worker.run(path, schedule.warm_up)["wall"] for name, (worker, path) in subjects.items()}
    calls = {name: max(1, round(BURST_MS / ms)) for name, ms in first.items()}
    rows: dict[str, dict[str, list[float]]] = {"wall": defaultdict(list), "cpu": defaultdict(list)}
    rng, order, start = np.random.default_rng(schedule.seed), list(subjects), time.monotonic()
    for number in range(schedule.rounds[1]):
        if number >= schedule.rounds[0] and time.monotonic() - start > schedule.seconds:
            break
        order = order[::-1] if number % 2 else list(rng.permutation(order))
        for name in order:
            worker, path = subjects[name]
            for clock, ms in worker.run(path, calls[name]).items():
                rows[clock][name].append(ms)
    wall, cpu = ({name: np.array(kept) for name, kept in rows[clock].items()} for clock in ("wall", "cpu"))
    return Timings(wall, cpu, calls, schedule.threads)
