"""Other processes that take the cores, by a script: the same load again and again. Standard library only.

A script says from which second on how many processes are busy, and after how many seconds it begins anew:

    {"steps": [[0, 0], [6, 4], [12, 0]], "seconds": 16}

Each process follows the script by itself, on the clock that all processes of a machine share, and ends when it is told
to, or when whoever started it is gone, whatever ended that.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shoestring.core.errors import BadInput

_MOST_PROCESSES, _MOST_STEPS = 64, 1000
_SPIN_S = 0.002  # between two looks at the clock


@dataclass(frozen=True)
class Script:
    """`steps`: (second, processes that are busy from then on), the first at 0; `seconds`: of one round."""

    steps: tuple[tuple[float, int], ...]
    seconds: float

    @property
    def processes(self) -> int:
        return max(busy for _, busy in self.steps)

    def busy(self, at_s: float) -> int:
        """How many processes are busy `at_s` seconds after the start."""
        within = at_s % self.seconds if at_s >= 0 else 0.0
        return next(busy for start, busy in reversed(self.steps) if start <= within)


def script(cores: int) -> Script:
    """The built-in one: calm, a process a core, calm, two a core, calm."""
    return Script(((0, 0), (5, cores), (9, 0), (12, 2 * cores), (16, 0)), 20)


def read(path: str | Path) -> Script:
    """Raises BadInput, in one line naming the file, for what is no script."""
    try:
        data = json.loads(Path(path).read_bytes())
        steps = tuple((float(start), int(busy)) for start, busy in data["steps"])
        found = Script(steps, float(data["seconds"]))
        if set(data) != {"steps", "seconds"} or not 1 <= len(steps) <= _MOST_STEPS or steps[0][0] != 0:
            raise ValueError("it has other keys, or its first step is not at second 0")
        ends = [*(start for start, _ in steps[1:]), found.seconds]
        if not all(start < end < 1e6 for (start, _), end in zip(steps, ends, strict=True)):
            raise ValueError("its seconds do not go on in time")
        if not all(0 <= busy <= _MOST_PROCESSES for _, busy in steps):
            raise ValueError(f"it asks for other than 0 to {_MOST_PROCESSES} processes")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())[:120]
        form = '{"steps": [[0, 0], [5, 2]], "seconds": 10}'
        raise BadInput(f"{path}: no load script: {reason}; write one like {form}") from None
    return found


@contextmanager
def playing(load: Script) -> Iterator[float]:
    """Plays `load` while inside; gives the moment of its start on `time.monotonic`'s clock."""
    start = time.monotonic()
    told = json.dumps({"steps": load.steps, "seconds": load.seconds, "start": start, "parent": os.getpid()})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for index in range(load.processes):
            command = [sys.executable, "-P", "-m", "shoestring.measure.load", str(index), told]
            started.append(
                subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
        yield start
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def _follow(index: int, load: Script, start: float, parent: int) -> None:
    """Busy while the script asks for more than `index` processes, until the parent is gone."""
    while os.getppid() == parent:
        if load.busy(time.monotonic() - start) > index:
            end = time.monotonic() + _SPIN_S
            while time.monotonic() < end:
                pass
        else:
            time.sleep(_SPIN_S)


def _child(index: int, told: str) -> None:
    data = json.loads(told)
    steps = tuple((start, busy) for start, busy in data["steps"])
    _follow(index, Script(steps, data["seconds"]), data["start"], data["parent"])


if __name__ == "__main__":
    try:
        _child(int(sys.argv[1]), sys.argv[2])
    except KeyboardInterrupt:  # Ctrl-C reaches every process of a terminal
        sys.exit(130)
