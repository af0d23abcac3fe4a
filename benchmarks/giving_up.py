"""What it takes to give up a run, and to hand one over to another thread, on every runtime that can run the file.

    python benchmarks/giving_up.py FILE.shoe [--runs 60] [--skip-tests]

The richest point runs on one thread and is asked to end at 30 % of its length: how long does it go on? Where its answer
came in spite of that, the run is not counted. The engine gets 32 images at once, since its runs are short. Then the
cheapest point runs one image here and in a thread beside, in turns. Milliseconds: median and 99th percentile.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from shoestring.core.errors import BadInput, GivenUp
from shoestring.deploy import runtimes, shoe
from shoestring.measure import machine

ROOT = Path(__file__).parents[1]
TESTS = ("tests/engine/test_native_abort.py", "tests/deploy/test_runtimes.py")
SHARE, IMAGES = 0.3, 32


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args()
    tests = [sys.executable, "-m", "pytest", "-q", "-W", "error", *TESTS]
    if not options.skip_tests and subprocess.run(tests, cwd=ROOT).returncode:
        print("The tests of what is timed here are red: nothing was timed.", file=sys.stderr)
        return 1
    artifact = shoe.read(options.file)
    print(f"{time.strftime('%Y-%m-%d')}  {machine.fingerprint()}  load {machine.load():.2f}")
    for name in runtimes.installed():
        try:
            sessions = runtimes.open_all(name, [artifact.onnx(point) for point in (0, len(artifact.points) - 1)])
        except BadInput as error:
            print(f"{name}: {error}")
            continue
        small, large = (np.zeros(session.inputs[0].shape, np.float32) for session in sessions)
        if name == "engine":
            large = np.repeat(large, IMAGES, 0)
        whole, went_on = given_up(sessions[1], large, options.runs)
        here, beside = handed_over(sessions[0], small, 20 * options.runs)
        print(f"{name}: whole run {told(whole)}; given up, it goes on for {told(went_on)} ({len(went_on)} runs)")
        print(f"{name}: a short run here {told(here)}, in a thread beside {told(beside)}")
    return 0


def given_up(session: runtimes.Session, x: np.ndarray, runs: int) -> tuple[list[float], list[float]]:
    """Seconds: of whole runs, and from the request to the end of those that were given up."""
    whole = [seconds(lambda: session(x)) for _ in range(10)]
    went_on, asked = list[float](), [0.0]

    def ask() -> None:
        asked[0] = time.perf_counter()
        session.give_up()

    for _ in range(runs):
        timer = threading.Timer(SHARE * float(np.median(whole)), ask)
        timer.start()
        try:
            session(x)
        except GivenUp:
            went_on.append(time.perf_counter() - asked[0])
        timer.join()
        whole.append(seconds(lambda: session(x)))
    return whole, went_on


def handed_over(session: runtimes.Session, x: np.ndarray, runs: int) -> tuple[list[float], list[float]]:
    with ThreadPoolExecutor(1) as beside:
        both = [
            (seconds(lambda: session(x)), seconds(lambda: beside.submit(session, x).result(10))) for _ in range(runs)
        ]
    return [here for here, _ in both], [there for _, there in both]


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def told(found: list[float]) -> str:
    return " / ".join(f"{1000 * value:.3f}" for value in np.quantile(found, (0.5, 0.99))) if found else "never"


if __name__ == "__main__":
    sys.exit(main())
