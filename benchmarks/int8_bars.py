"""Is our 8-bit file as good as NNCF's? EfficientNet-Lite0 and photographs of ImageNet, on one thread of this processor.

    python benchmarks/int8_bars.py [--data DIR] [--json FILE] [--seconds 120] [--skip-tests]

In ONNX Runtime and in OpenVINO, what `--method int8` writes (dense 8 bits, no training) must

- run at 0.97 or more of the speed of the same float graph quantised by NNCF's post-training quantisation with all its
  defaults: by its ONNX backend, whose file both runtimes take, and in OpenVINO by its OpenVINO backend too;
- be no worse than those files in top-1 on the same photographs (paired difference);
- lose at most 1.0 point of top-1 against the float graph.

All are calibrated on the same 64 photographs and judged on the others. The table also has `int8:full`, and beside the
runtimes each 8-bit file executed literally: every node as written, in floats. A runtime that keeps less of the
original's probability than that computes the file wrongly: x86-64 without VNNI saturates. NNCF's default gives the
inputs of depthwise layers a scale per channel, which ONNX Runtime does not run in integers, so the bars in OpenVINO are
the harder ones. NNCF lives in `.venv-nncf`, which the first run makes.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from onnx import ModelProto

from shoestring.compress import int8
from shoestring.core.layer import DEPTHWISE
from shoestring.core.receipt import HOLDS, Quality
from shoestring.core.statistics import Interval, judge
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.image.fitting import image_task
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, Timings, interleave
from shoestring.pipeline.drawing import samples
from shoestring.pipeline.judge import quality
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import calibrate, with_best_rule
from shoestring.pipeline.samples import Samples

ROOT = Path(__file__).parents[1]
NNCF_ENVIRONMENT = ROOT / ".venv-nncf"
NNCF_FOLDER = ROOT / "benchmarks/nncf_default"
TESTS = (
    "tests/core/test_quality.py",
    "tests/core/test_statistics.py",
    "tests/deploy/test_calibrate.py",
    "tests/deploy/test_quantize.py",
    "tests/image/test_split.py",
    "tests/measure/test_timing.py",
    "tests/pipeline/test_judge.py",
    "tests/pipeline/test_post_training.py",
)
RUNTIMES, LITERAL = ("onnxruntime", "openvino"), "literal"
FP32, OURS, FULL, NNCF, NNCF_OPENVINO = "fp32", "int8", "int8:full", "nncf", "nncf (openvino)"
RIVALS = ((NNCF, "onnxruntime"), (NNCF, "openvino"), (NNCF_OPENVINO, "openvino"))
SPEED, LOSS = 0.97, -1.0

Place = tuple[str, str]  # a file, and the runtime that executes it (or LITERAL)


@dataclass(frozen=True)
class Bar:
    """A claim: `interval`, a ratio or points, is at least `limit`."""

    claim: str
    interval: Interval
    limit: float

    @property
    def verdict(self) -> str:
        # There are no more photographs: where the interval of a difference straddles the limit, its value decides.
        return judge(self.interval, ">=", self.limit, tolerance=None if self.limit > 0 else np.inf)


def main() -> int:
    options = arguments()
    if not options.data.is_dir():
        print(f"skipped: no photographs in {options.data}; give --data DIR, with labels.csv (file,class_index)")
        return 0
    if not options.skip_tests and red():
        print("The tests of what is compared here are red: nothing was measured.", file=sys.stderr)
        return 1
    load, python = machine.load(), nncf_python()
    original = resolve("efficientnet_lite0")
    task = image_task(original)
    data = samples(task.load(options.data), task)
    if data.targets is None:
        raise SystemExit(f"{options.data} has no labels, so there is no top-1; add labels.csv (file,class_index)")
    with TemporaryDirectory() as folder:
        files, rules = ours(original, data, Path(folder))
        files |= theirs(python, files[FP32], data, Path(folder))
        with machine.pinned(1):
            sessions = opened(files)
            timings = timed(sessions, data.calibration[0], options.seconds)
            judged = judgements(sessions, data)
    bars = [*speed_bars(timings), *quality_bars(judged)]
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine.fingerprint(), "load_before": round(load, 2), "load_after": round(machine.load(), 2)},
        "versions": {**{name: version(name) for name in ("numpy", *RUNTIMES)}, "nncf": nncf_version(python)},
        "photographs": {"calibration": len(data.calibration), "judgement": len(data.judgement)},
        "ranges": rules,
        "places": [row(place, timings, judged) for place in sessions],
        "bars": [{**asdict(bar), "verdict": bar.verdict} for bar in bars],
        "passed": all(bar.verdict == HOLDS for bar in bars),
    }
    print_report(result, bars)
    if options.json:
        write_file(options.json, json.dumps(result, indent=1).encode())
    return 0 if result["passed"] else 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    photographs = ROOT.parent / "shared/data/imagenet_samples"
    parser.add_argument("--data", type=Path, default=photographs, help="photographs with labels.csv")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seconds", type=float, default=120.0, help="at most this long for the timing")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def red() -> bool:
    tests = [test for test in TESTS if (ROOT / test).exists()]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *tests], cwd=ROOT).returncode != 0


def nncf_python() -> Path:
    """The Python of NNCF's environment, which is made, or renewed when other versions are asked for."""
    python, requirements = NNCF_ENVIRONMENT / "bin/python", NNCF_FOLDER / "requirements.txt"
    wanted = requirements.read_bytes() + (ROOT / "constraints.txt").read_bytes()
    installed = NNCF_ENVIRONMENT / "installed"
    if not (installed.exists() and installed.read_bytes() == wanted):
        print("installing NNCF into .venv-nncf (minutes) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", NNCF_ENVIRONMENT], check=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", "-r", requirements], check=True)
        installed.write_bytes(wanted)
    return python


def nncf_version(python: Path) -> str:
    ask = "from importlib.metadata import version; print(version('nncf'))"
    return subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()


def ours(original: Original, data: Samples, folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """The float file and ours, made as `fit` makes them, and the rule by which each got its ranges."""
    files, rules = {FP32: write(folder / "float.onnx", original.graph)}, {}
    layers = [layer for layer in original.layers if layer.kind in int8.CARD.kinds]
    for method in (OURS, FULL):
        setting = int8.parse(method.partition(":")[2])
        precisions = {layer.name: int8.precision(layer.kind == DEPTHWISE, setting) for layer in layers}
        network = with_best_rule(calibrate(original.graph, data.calibration, precisions))
        files[method] = write(folder / f"{method.replace(':', '-')}.onnx", network.build())
        rules[method] = network.rule
    return files, rules


def write(path: Path, model: ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def theirs(python: Path, source: Path, data: Samples, folder: Path) -> dict[str, Path]:
    """NNCF's files: an .onnx, and an OpenVINO .xml with its .bin."""
    files = {NNCF: folder / "nncf.onnx", NNCF_OPENVINO: folder / "nncf.xml"}
    calibration = folder / "calibration.npy"
    np.save(calibration, np.concatenate(data.calibration))
    command = [python, NNCF_FOLDER / "quantise.py", source, calibration, *files.values()]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"NNCF failed:\n{done.stdout[-2000:]}")
    return files


def opened(files: Mapping[str, Path]) -> dict[Place, runtimes.Session]:
    """Every file where it can run, on one thread; the 8-bit ones of ONNX also literally."""
    sessions = {}
    for name, path in files.items():
        precision = "fp32" if name == FP32 else "default"
        if path.suffix == ".xml":
            # What reads an ONNX file from memory reads a file by its path as well.
            sessions[name, "openvino"] = runtimes.get("openvino").open(str(path))
            continue
        graph = path.read_bytes()
        for runtime in RUNTIMES:
            sessions[name, runtime] = runtimes.get(runtime).open(graph, precision=precision)
        if name != FP32:
            sessions[name, LITERAL] = runtimes.get("onnxruntime").open(graph, literal=True)
    return sessions


def timed(sessions: Mapping[Place, runtimes.Session], x: np.ndarray, seconds: float) -> Timings:
    subjects = {
        key(*place): lambda session=session: session(x) for place, session in sessions.items() if place[1] != LITERAL
    }
    print(f"timing {len(subjects)} files and runtimes for {seconds:.0f} s ...", flush=True)
    return interleave(subjects, Schedule(seconds=seconds))


def judgements(sessions: Mapping[Place, runtimes.Session], data: Samples) -> dict[tuple[Place, Place], Quality]:
    """Every place against its reference, and ours against NNCF's files."""
    print(f"judging {len(sessions)} on {len(data.judgement)} photographs ...", flush=True)
    outputs = defaultdict(list)
    for x in data.judgement:
        for place, session in sessions.items():
            outputs[place].append(session(x)[0])
    whole = {place: np.concatenate(rows) for place, rows in outputs.items()}
    pairs = [(place, reference(place)) for place in whole]
    pairs += [((OURS, rival[1]), rival) for rival in RIVALS]
    return {pair: quality(whole[pair[0]], whole[pair[1]], data) for pair in pairs}


def speed_bars(timings: Timings) -> Iterator[Bar]:
    for rival, runtime in RIVALS:
        ratio = timings.ratio(key(OURS, runtime), key(rival, runtime))
        yield Bar(f"{runtime}: speed against {rival}", ratio, SPEED)


def quality_bars(judged: Mapping[tuple[Place, Place], Quality]) -> Iterator[Bar]:
    for rival, runtime in RIVALS:
        difference = judged[(OURS, runtime), (rival, runtime)]
        yield Bar(f"{runtime}: top-1 against {rival}, points", interval(difference), 0.0)
    for runtime in RUNTIMES:
        difference = judged[(OURS, runtime), (FP32, runtime)]
        yield Bar(f"{runtime}: top-1 against {FP32}, points", interval(difference), LOSS)


def interval(told: Quality) -> Interval:
    return Interval(told.difference, told.low, told.high, told.n)


def key(file: str, runtime: str) -> str:
    return f"{file}@{runtime}"


def reference(place: Place) -> Place:
    """The float graph in the same runtime; in ONNX Runtime for a literal file."""
    return FP32, "onnxruntime" if place[1] == LITERAL else place[1]


def row(place: Place, timings: Timings, judged: Mapping[tuple[Place, Place], Quality]) -> dict[str, object]:
    """One line of the table: ms of a photograph; top-1, its difference to the reference and divergence in points."""
    told = judged[place, reference(place)]
    return {
        "file": place[0],
        "runtime": place[1],
        "ms": None if place[1] == LITERAL else timings.measurement(key(*place)).value,
        "top1": told.subject,
        "difference": told.difference,
        "low": told.low,
        "high": told.high,
        "divergence": told.divergence,
    }


def print_report(result: Mapping[str, Any], bars: list[Bar]) -> None:
    print()
    for name in ("date", "machine", "versions", "photographs", "ranges"):
        print(f"{name}: {result[name]}")
    print()
    print(f"{'file':17}{'runtime':13}{'ms':>7}{'top-1':>8}{'against fp32':>23}{'probability kept':>19}")
    for line in result["places"]:
        ms = "" if line["ms"] is None else f"{line['ms']:.2f}"
        difference = f"{line['difference']:+.1f} [{line['low']:+.1f}, {line['high']:+.1f}]"
        kept = 100 - line["divergence"]
        print(f"{line['file']:17}{line['runtime']:13}{ms:>7}{line['top1']:8.1f}{difference:>23}{kept:19.1f}")
    print()
    for bar in bars:
        found = bar.interval
        print(
            f"{bar.verdict:10}{bar.claim}: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], at least {bar.limit}"
        )


if __name__ == "__main__":
    sys.exit(main())
