"""Does the engine turn zeros into milliseconds? Against OpenVINO and ONNX Runtime, batch 1, on this processor.

    python benchmarks/engine.py [--json FILE] [--network NAME] [--seconds 12] [--quick] [--skip-tests]

EfficientNet-Lite0, MobileNetV2 and ResNet-50 at 224x224, in 8 bits (normal form, made by the post-training path), dense
and with 50, 80 and 90 % of the blocks at zero, 4x1 and 4x4. **The masks are random and the ranges come from noise**: a
file of the table is fast or slow, it recognises nothing. Every runtime gets the same files, in one process, in turns.

- Dense: at least as fast as the better of OpenVINO and ONNX Runtime.
- 4x1: at least 1.4, 2 and 2.5 times as fast as OpenVINO at 50, 80 and 90 %. 4x4 stands beside it; 4x1 takes at most 1.1
  times as long.
- Dense on AVX2: as fast as OpenVINO. Where the processor has more, both are limited to it (SHOESTRING_ISA,
  ONEDNN_MAX_CPU_ISA), each in a process of its own; where it has not, the first bar says it already.
- EfficientNet-Lite0: loaded and run once in 50 ms, in a fresh process, imports not counted.
- Peak memory of a process that runs the dense file: no more than with ONNX Runtime.

One thread is judged by CPU time, two by wall time. Of each network follow the layers (`shoestring profile`): time, the
multiplications really done, and their share of what a core of this machine can do at most, measured by the engine
itself; the JSON file has all of them. Exit code 0 whether bars are met or missed: they are goals, and are told apart.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from engine_bench.bars import Bar, print_bars, shown
from engine_bench.fresh import avx2_bar, memory_bar, start_up_bar
from engine_bench.layers import print_layers
from engine_bench.networks import Zeros, eight_bits, noise

from shoestring import engine
from shoestring.cli.profile import profile
from shoestring.core.profile import Profile
from shoestring.core.statistics import Interval
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, Timings, interleave
from shoestring.pipeline.original import Original, resolve

ROOT = Path(__file__).parents[1]
TESTS = ("tests/engine", "tests/core/test_pattern.py", "tests/core/test_statistics.py", "tests/measure/test_timing.py")
NETWORKS = ("efficientnet_lite0", "mobilenet_v2", "resnet50")
STARTED = "efficientnet_lite0"
ENGINE, OPENVINO = "engine", "openvino"
FASTER = {50: 1.4, 80: 2.0, 90: 2.5}  # than OpenVINO, by percent of the blocks at zero
LONGER = 1.1  # 4x1 than 4x4
BEYOND_AVX2 = frozenset(("avx512f", "avx_vnni"))
DENSE, FINE, COARSE = Zeros(), "4x1", "4x4"
PROFILED = (DENSE, Zeros(80, FINE))

Files = Mapping[Zeros, Path]
Place = tuple[str, Zeros]  # a runtime, and the file that it runs


@dataclass(frozen=True)
class Row:
    """`faster`: how many times faster than this the engine is on the same file."""

    network: str
    threads: int
    zeros: str
    runtime: str
    ms: float
    faster: Interval


def main() -> int:
    options = arguments()
    if ENGINE not in runtimes.installed():
        print(f"skipped: {engine.why_absent()}")
        return 0
    if not options.skip_tests and red():
        print("The tests of what is used here are red: nothing was measured.", file=sys.stderr)
        return 1
    load, rows, bars, profiles = machine.load(), list[Row](), list[Bar](), dict[str, Profile]()
    for network in options.network or NETWORKS:
        original = resolve(network)
        with TemporaryDirectory() as folder:
            files = written(original, Path(folder))
            for threads in range(1, min(2, machine.cores()) + 1):
                for timings, places in timed(files, noise(original), threads, options):
                    rows += [told(row) for row in table(network, timings, places)]
                    bars += speed_bars(network, timings, places)
            bars += fresh_bars(network, files[DENSE], options)
            for zeros in PROFILED:
                found = profiles[f"{network} {zeros}"] = profile(files[zeros], runtime=ENGINE, seconds=2.0)
                print_layers(network, str(zeros), found)
    print_bars(bars)
    if not BEYOND_AVX2.intersection(machine.isa()):
        print("This processor has nothing beyond AVX2: the bars of the AVX2 build are those of dense files.")
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine.fingerprint(), "load_before": round(load, 2), "load_after": round(machine.load(), 2)},
        "versions": {name: version(name) for name in ("shoestring", "numpy", *runtimes.installed(runtimes.STOCK))},
        "rows": [asdict(row) for row in rows],
        "profiles": {name: found.to_json() for name, found in profiles.items()},
        "bars": [bar.told() for bar in bars],
    }
    print()
    for name in ("date", "machine", "versions"):
        print(f"{name}: {result[name]}")
    if options.json:
        write_file(options.json, json.dumps(result, indent=1).encode())
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only this; may be repeated")
    parser.add_argument("--seconds", type=float, default=12.0, help="at most this long for one network and sparsity")
    parser.add_argument("--quick", action="store_true", help="few rounds, wide intervals (for development)")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def red() -> bool:
    tests = [test for test in TESTS if (ROOT / test).exists()]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *tests], cwd=ROOT).returncode != 0


def schedule(options: argparse.Namespace, threads: int = 1) -> Schedule:
    if options.quick:
        return Schedule(seconds=2.0, rounds=(8, 20), warm_up=2, threads=threads)
    return Schedule(seconds=options.seconds, threads=threads)


def written(original: Original, folder: Path) -> Files:
    """Every file of a network."""
    files = {}
    for zeros in (DENSE, *(Zeros(percent, pattern) for percent in FASTER for pattern in (FINE, COARSE))):
        files[zeros] = folder / f"{zeros}.onnx"
        files[zeros].write_bytes(eight_bits(original, zeros).SerializeToString())
    return files


def timed(
    files: Files, x: np.ndarray, threads: int, options: argparse.Namespace
) -> Iterator[tuple[Timings, list[Place]]]:
    """The dense file everywhere, then each sparsity: both patterns in the engine and in OpenVINO. ONNX Runtime takes
    part only where it may be the best: zeros do not change its time."""
    stock = runtimes.installed(runtimes.STOCK)
    cases = [[(runtime, DENSE) for runtime in (ENGINE, *stock)]]
    sparse = [runtime for runtime in (ENGINE, OPENVINO) if runtime in (ENGINE, *stock)]
    cases += [[(runtime, Zeros(percent, p)) for p in (FINE, COARSE) for runtime in sparse] for percent in FASTER]
    for places in cases:
        with machine.pinned(threads):
            sessions = {
                key(place): runtimes.get(place[0]).open(files[place[1]].read_bytes(), threads=threads)
                for place in places
            }
            subjects = {name: partial(session, x) for name, session in sessions.items()}
            yield interleave(subjects, schedule(options, threads)), places


def key(place: Place) -> str:
    return f"{place[0]} {place[1]}"


def table(network: str, timings: Timings, places: list[Place]) -> Iterator[Row]:
    for place in places:
        ms, faster = timings.measurement(key(place)).value, timings.ratio(key((ENGINE, place[1])), key(place))
        yield Row(network, timings.threads, str(place[1]), place[0], ms, faster)


def told(row: Row) -> Row:
    """Printed as soon as it is known."""
    clock = "CPU" if row.threads == 1 else "wall"
    faster = "" if row.runtime == ENGINE else f"   the engine is {shown(row.faster)} times as fast"
    print(
        f"{row.network:20}{row.threads} thread{'s' * (row.threads > 1):2}{row.zeros:9}{row.runtime:12}"
        f"{row.ms:8.2f} ms {clock:5}{faster}".rstrip(),
        flush=True,
    )
    return row


def speed_bars(network: str, timings: Timings, places: list[Place]) -> Iterator[Bar]:
    where, zeros = f"{network}, {timings.threads} thread{'s' * (timings.threads > 1)}", places[0][1]
    if zeros == DENSE:
        best = min((place for place in places if place[0] != ENGINE), key=lambda p: timings.measurement(key(p)).value)
        yield Bar(f"{where}: dense, speed against {best[0]}", timings.ratio(key((ENGINE, DENSE)), key(best)), ">=", 1.0)
        return
    fine, coarse = (ENGINE, Zeros(zeros.percent, FINE)), (ENGINE, Zeros(zeros.percent, COARSE))
    if (rival := (OPENVINO, fine[1])) in places:
        ratio = timings.ratio(key(fine), key(rival))
        yield Bar(f"{where}: {fine[1]}, speed against openvino", ratio, ">=", FASTER[zeros.percent])
    # A ratio says how many times faster its first is: so many times longer takes its second.
    longer = timings.ratio(key(coarse), key(fine))
    yield Bar(f"{where}: time of {fine[1]} against {coarse[1]}", longer, "<=", LONGER)


def fresh_bars(network: str, dense: Path, options: argparse.Namespace) -> Iterator[Bar]:
    stock = runtimes.installed(runtimes.STOCK)
    if OPENVINO in stock and BEYOND_AVX2.intersection(machine.isa()):
        yield avx2_bar(network, dense, (ENGINE, OPENVINO), schedule(options))
    yield memory_bar(network, dense, (ENGINE, *stock))
    if network == STARTED:
        yield start_up_bar(network, dense, (ENGINE, *stock))


if __name__ == "__main__":
    sys.exit(main())
