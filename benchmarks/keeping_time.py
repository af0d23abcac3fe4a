"""Where to run what may be given up: in a thread beside the caller, who waits, or in the caller's own, which looks at
the clock as it runs.

    python benchmarks/keeping_time.py FILE.shoe [--frames 300] [--busy 0] [--times 1.2] [--skip-tests]

Each frame gets an answer of the cheapest point, then the richest is begun, whatever the governor would say. The ways
take turns, frame by frame, beside `--busy` processes that never rest, and whatever else the machine does; `early` is
beside, with a quarter of the deadline to wake up in. The deadline is `--times` the median of a frame that has time
enough, so that many are given up. On the engine, the one runtime that keeps time. Without FILE, five widths of
MobileNetV2 in 8 bits with random weights.

Told: the share of frames that the richest point answered, and the share that was late: all, where the richest was in
time, where it was given up. And what a run takes that looks at the clock, in that which does not: CPU time, in pairs.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from governor import widths

from shoestring.core.statistics import ratio_interval
from shoestring.core.timeline import Turn
from shoestring.deploy.adaptive import Adaptive
from shoestring.deploy.session import Model, load
from shoestring.measure import machine
from shoestring.measure.load import Script, playing

ROOT = Path(__file__).parents[1]
TESTS = ("tests/engine/test_native_abort.py", "tests/deploy/test_adaptive.py")
WAYS = ("beside", "early", "here")
EARLY = 0.25  # the most that is ever kept ready, of the deadline
PAUSE_S = 0.01


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=300, help="of each way")
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--times", type=float, default=1.2)
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args()
    tests = [sys.executable, "-m", "pytest", "-q", "-W", "error", *TESTS]
    if not options.skip_tests and subprocess.run(tests, cwd=ROOT).returncode:
        print("The tests of what is timed here are red: nothing was timed.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        model = load(options.file or widths(Path(folder) / "widths.shoe", eight_bits=True), "engine")
        print(f"{time.strftime('%Y-%m-%d')}  {machine.fingerprint()}  load {machine.load():.2f}")
        print(f"looking at the clock: {looking(model)} of the time")
        with playing(Script(((0, options.busy),), 3600)):
            deadline, found = frames(model, options.frames, options.times)
        print(f"deadline {deadline:.1f} ms, {options.busy} processes busy, load {machine.load():.2f}")
        for way, turns in found.items():
            print(told(way, turns))
    return 0


def frames(model: Model, count: int, times: float) -> tuple[float, dict[str, list[Turn]]]:
    """The deadline in ms, and the turns of each way."""
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    ways = {way: forced(model, way, frame) for way in WAYS}
    ms = [one(adaptive, frame).ms for _ in range(20) for adaptive in ways.values()]
    deadline = times * float(np.median(ms))
    found: dict[str, list[Turn]] = {way: [] for way in WAYS}
    for adaptive in ways.values():
        adaptive.deadline_ms = deadline
    for number in range(count):
        for way in WAYS if number % 2 else WAYS[::-1]:
            if way == "early":
                ways[way]._reserve_ms = EARLY * deadline
            found[way].append(one(ways[way], frame))
            time.sleep(PAUSE_S)
    return deadline, found


def forced(model: Model, way: str, frame: np.ndarray) -> Adaptive:
    """Always the richest point over a net, with all the time that is needed."""
    adaptive = model.adaptive(1e6)
    for stage in adaptive.stages.values():
        stage.session.keeps_time = way == "here"
    adaptive.outputs(frame)
    governor = adaptive.governor
    assert governor is not None
    governor.choose = lambda spent_ms=0.0: len(adaptive.stages) - 1  # type: ignore[method-assign]
    governor.likely_ms = lambda point, seen=None: 0.0  # type: ignore[method-assign]
    governor.net = True
    adaptive._reserve_ms = 4.0  # what it begins with
    return adaptive


def one(adaptive: Adaptive, frame: np.ndarray) -> Turn:
    adaptive.outputs(frame)
    assert adaptive.last is not None
    return adaptive.last


def told(way: str, turns: list[Turn]) -> str:
    richest = [turn for turn in turns if turn.point and not turn.given_up]
    given_up = [turn for turn in turns if turn.given_up]
    late = max((turn.ms - turn.deadline_ms for turn in turns if turn.missed), default=0.0)
    shares = " ".join(
        f"{name} {100 * np.mean([turn.missed for turn in of]) if of else 0:.1f} % of {len(of)},"
        for name, of in (
            ("late", turns),
            ("where the richest was in time", richest),
            ("where it was given up", given_up),
        )
    )
    return f"{way:7} richest {100 * len(richest) / len(turns):.1f} %; {shares} at most by {late:.1f} ms"


def looking(model: Model, pairs: int = 200) -> str:
    """What a run of the cheapest point takes that looks at the clock, in that of one that does not."""
    session = load(model.artifact.file, "engine", point=0).session
    x, took = np.zeros(session.inputs[0].shape, np.float32), np.empty((pairs, 2))
    for number in range(pairs):
        for which in (0, 1) if number % 2 else (1, 0):
            begun = time.thread_time()
            session(x, within=(np.inf, 3600.0)[which])  # type: ignore[call-arg]
            took[number, which] = time.thread_time() - begun
    ratio = ratio_interval(took[:, 0], took[:, 1])
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
