"""Do the points of a ladder take the memory of one in the engine, and is another one ready at once?

    python benchmarks/ladder_engine.py [--json FILE] [--size 224] [--threads 1] [--rounds 200] [--skip-tests]

MobileNetV2 in five widths, 0.4 to 1, whose weights are cut from those of the widest: dense, and with 70 % of the 4x1
blocks at zero. **The weights are random**: such a network recognises nothing, it is as large and as fast as one that
does. Every point has biases and multipliers of its own; they are loaded alone, and together (`Network(base=...)`).

- Memory: packed weights and arena of all points together, at most 1.1 times those of the largest alone. On processors
  without a dot product of bytes (AVX2) more is kept; the figure is told apart.
- A switch: a run of a point right behind one of another (the next narrower; the widest for the narrowest) against one
  behind its own, in pairs. What the caches lost is in it, as it is for networks that share nothing, which stand beside
  it. What choosing another point takes in itself is no more than a whole call does of a network that computes next
  to nothing, each behind one of another: at most 50 us.
- The outputs of each point are those that it computes alone, byte for byte. Its time against that alone is told.

One thread is judged by CPU time, more by wall time. Exit code 0 whether bars are met or missed: they are goals.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from engine_bench.bars import Bar, print_bars, shown
from engine_bench.ladder import Ladder

from shoestring import engine
from shoestring.core.statistics import Interval, median_interval, ratio_interval
from shoestring.deploy.archive import write_file
from shoestring.engine.program import F32, Const, Program, Quantise, Tensor
from shoestring.measure import machine

ROOT = Path(__file__).parents[1]
TESTS = ("tests/engine/test_native_sharing.py", "tests/core/test_statistics.py")
WIDTHS = (0.4, 0.55, 0.7, 0.85, 1.0)
MEMORY, SWITCH_US = 1.1, 50.0
WITHOUT_DOTS = "avx2"


@dataclass(frozen=True)
class Row:
    """A point. Bytes of weights, and of the arena; `slower`: its time beside the others in that alone; `switch`: its
    time behind another's run in that behind its own, and the difference; `switch_apart`: where nothing is shared."""

    zeros: float
    width: float
    weights_alone: int
    arena_alone: int
    weights_shared: int
    ms: float
    slower: Interval
    switch: Interval
    switch_us: float
    switch_apart: Interval


def main() -> int:
    options = arguments()
    if absent := engine.why_absent():
        print(f"skipped: {absent}")
        return 0
    if not options.skip_tests and red():
        print("The tests of what is used here are red: nothing was measured.", file=sys.stderr)
        return 1
    load, rows, bars = machine.load(), list[Row](), list[Bar]()
    isa = engine.Network(Program((Tensor("x", (1,)),), (), (0,), (0,), b"")).isa  # SHOESTRING_ISA may name another
    with machine.pinned(options.threads):
        for zeros in (0.0, 0.7):
            found = points(Ladder(options.size, zeros), zeros, options)
            rows += found
            bars.append(memory_bar(found, isa))
        selection = selecting(options)
    bars.append(Bar("choosing another point: a whole call, us", selection, "<=", SWITCH_US))
    print_bars(bars)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine.fingerprint(), "load_before": round(load, 2), "load_after": round(machine.load(), 2)},
        "isa": isa,
        "versions": {name: version(name) for name in ("shoestring", "numpy")},
        "rows": [asdict(row) for row in rows],
        "bars": [bar.told() for bar in bars],
    }
    print()
    for name in ("date", "machine", "isa", "versions"):
        print(f"{name}: {result[name]}")
    if options.json:
        write_file(options.json, json.dumps(result, indent=1).encode())
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--size", type=int, default=224, help="of the pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200, help="pairs of runs for each figure")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def red() -> bool:
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *TESTS], cwd=ROOT).returncode != 0


def points(ladder: Ladder, zeros: float, options: argparse.Namespace) -> list[Row]:
    """Every width, the narrowest first."""
    programs = [ladder.program(width) for width in WIDTHS]
    alone = [engine.Network(program, options.threads) for program in programs]
    base = engine.Network(programs[-1], options.threads)
    together = [*(engine.Network(program, base=base) for program in programs[:-1]), base]
    x = np.random.default_rng(0).uniform(-3, 3, (1, *programs[0].tensors[0].shape)).astype(np.float32)
    rows = []
    for number, (width, single, shared) in enumerate(zip(WIDTHS, alone, together, strict=True)):
        if not all(map(np.array_equal, single(x), shared(x))):
            raise AssertionError(f"width {width}: other bytes than alone")
        own, beside = in_pairs(partial(single, x), partial(shared, x), options)
        stays, comes = behind(partial(shared, x), partial(together[number - 1], x), options)
        stays_apart, comes_apart = behind(partial(single, x), partial(alone[number - 1], x), options)
        row = Row(
            zeros,
            width,
            single.weight_bytes,
            single.arena_bytes,
            shared.weight_bytes,
            float(np.median(own)) * 1e3,
            ratio_interval(own, beside),
            ratio_interval(stays, comes),
            float(np.median(comes - stays)) * 1e6,
            ratio_interval(stays_apart, comes_apart),
        )
        rows.append(row)
        print(
            f"{zeros:4.0%} zeros, width {width:4}: alone {row.weights_alone / 1e6:5.2f} MB + arena "
            f"{row.arena_alone / 1e6:5.2f} MB, {row.ms:6.2f} ms; beside the others {row.weights_shared / 1e6:5.2f} MB, "
            f"{shown(row.slower)} times as long; behind another {shown(row.switch)} ({row.switch_us:+.0f} us), "
            f"apart {shown(row.switch_apart)}",
            flush=True,
        )
    return rows


def memory_bar(rows: list[Row], isa: str) -> Bar:
    largest = rows[-1].weights_alone + rows[-1].arena_alone
    ratio = (sum(row.weights_shared for row in rows) + rows[-1].arena_alone) / largest
    apart = sum(row.weights_alone + row.arena_alone for row in rows) / largest
    without = ", which has no dot product of bytes" if isa == WITHOUT_DOTS else ""
    claim = f"{rows[0].zeros:.0%} zeros: memory of all points in that of the largest alone ({apart:.2f} apart) on {isa}"
    return Bar(claim + without, Interval(ratio, ratio, ratio, 1), "<=", MEMORY)


def selecting(options: argparse.Namespace) -> Interval:
    """Microseconds of a whole call, where the one before was of another network that shares with it."""
    tensors = Tensor("x", (16,), F32), Tensor("y", (16,))
    scale = np.array([0.1], np.float32).tobytes()
    program = Program(tensors, (Quantise("quantise", 0, 1, Const(0, 1), 0),), (0,), (1,), scale)
    base = engine.Network(program, options.threads)
    other, x, calls = engine.Network(program, base=base), np.ones((1, 16), np.float32), 50
    a_call = [
        seconds(lambda: [(base(x), other(x)) for _ in range(calls)], options.threads) / (2 * calls)
        for _ in range(options.rounds)
    ]
    return median_interval(np.multiply(a_call, 1e6))


def in_pairs(
    a: Callable[[], object], b: Callable[[], object], options: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of each, warm, in turns and in both orders."""
    times = np.empty((options.rounds, 2))
    for number in range(options.rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            run = (a, b)[which]
            run()
            times[number, which] = seconds(run, options.threads)
    return times[:, 0], times[:, 1]


def behind(
    run: Callable[[], object], other: Callable[[], object], options: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of a run behind its own, and behind another's."""
    times = np.empty((options.rounds, 2))
    for number in range(options.rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            run()
            (run, other)[which]()
            times[number, which] = seconds(run, options.threads)
    return times[:, 0], times[:, 1]


def seconds(run: Callable[[], object], threads: int) -> float:
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


if __name__ == "__main__":
    sys.exit(main())
