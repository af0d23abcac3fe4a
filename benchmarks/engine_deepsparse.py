"""The engine beside DeepSparse 1.8.0, the last release of the closed engine that made sparse networks faster.

    python benchmarks/engine_deepsparse.py [--json FILE] [--network NAME] [--threads 1] [--seconds 20] [--quick]
        [--skip-tests]

The same networks with the same random masks (speed only): for us and for OpenVINO as our 8-bit file, for DeepSparse as
the same network in the form that it executes, made by `engine_bench/sparseml_form.py`, with one weight scale a layer
(what SparseML exports) and with one a channel. `executed` is the share of the network that DeepSparse says it runs
itself; our own file is there too, of which it runs nothing. `off` is how far the answers are from those of our file in
ONNX Runtime (relative, root mean squares). Where there is no VNNI, DeepSparse emulates it, exactly or (`fast`,
NM_FAST_VNNI_EMULATION) with sums that saturate. `fp32`: its float path.

Unstructured masks (1x1) stand beside 4x1 of the same sparsity: what it was made for, and the engine was not.

NumPy and ONNX of DeepSparse are older than ours, so each runtime has a process of its own; they take turns, one working
while the others wait, and ratios are paired by turn. It lives in `.venv-deepsparse`, which the first run makes.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from engine import ROOT, red
from engine_bench.networks import Zeros, eight_bits, masked
from engine_bench.sparseml_form import IR_VERSION, OPSET, sparseml_form
from engine_bench.worker import noise
from engine_bench.workers import in_turns, worker
from onnx import ModelProto

from shoestring.core.statistics import Interval
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.measure import machine
from shoestring.measure.timing import Schedule
from shoestring.pipeline.original import Original, resolve

ENVIRONMENT, REQUIREMENTS = ROOT / ".venv-deepsparse", ROOT / "benchmarks/engine_bench/deepsparse.txt"
NETWORKS = ("resnet50", "mobilenet_v2")
ALL_ZEROS = (Zeros(), Zeros(80, "1x1"), Zeros(80, "4x1"), Zeros(90, "1x1"), Zeros(90, "4x1"))
OURS = ("engine", "openvino")  # what runs our file beside it
ENGINE, RIVAL = "engine", "deepsparse"
QUIET = {"NM_DISABLE_ANALYTICS": "1"}  # it would tell its makers
FAST = {**QUIET, "NM_FAST_VNNI_EMULATION": "1"}


@dataclass(frozen=True)
class Row:
    """`form`: of the file. `executed`: the share that DeepSparse runs itself. `off`: how far from our file's answers.
    `against`: how many times faster the engine is than this."""

    network: str
    zeros: str
    runtime: str
    form: str
    ms: float
    executed: float | None
    off: float
    against: Interval | None


def main() -> int:
    options = arguments()
    if not options.skip_tests and red():
        print("The tests of what is compared here are red: nothing was measured.", file=sys.stderr)
        return 1
    try:
        python = deepsparse_python()
    except subprocess.CalledProcessError as error:
        print(f"skipped: {RIVAL} cannot be installed for this Python: {' '.join(error.stderr.split())[-300:]}")
        return 0
    present = runtimes.installed(OURS)
    if ENGINE not in present:
        print("The engine is not built here, so nothing of ours is timed.")
    load, rows = machine.load(), []
    for network in options.network or NETWORKS:
        original = resolve(network)
        for zeros in ALL_ZEROS:
            with TemporaryDirectory() as folder:
                files = {form: write(Path(folder), form, model) for form, model in forms(original, zeros)}
                rows += [told(row) for row in measured((network, zeros), files, present, python, options)]
    stock = ("numpy", *runtimes.installed(runtimes.STOCK))
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine.fingerprint(), "load_before": round(load, 2), "load_after": round(machine.load(), 2)},
        "versions": {**{name: version(name) for name in stock}, RIVAL: requirement()},
        "rows": [asdict(row) for row in rows],
    }
    for name in ("date", "machine", "versions"):
        print(f"{name}: {result[name]}")
    if options.json:
        write_file(options.json, json.dumps(result, indent=1).encode())
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--network", action="append", help="of the zoo; may be repeated")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most this long for one network and mask")
    parser.add_argument("--quick", action="store_true", help="few rounds, wide intervals (for development)")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def requirement() -> str:
    return REQUIREMENTS.read_text().partition("deepsparse==")[2].split()[0]


def deepsparse_python() -> Path:
    """The Python of DeepSparse's environment, which is made, or renewed when other versions are asked for."""
    python, wanted, installed = ENVIRONMENT / "bin/python", REQUIREMENTS.read_bytes(), ENVIRONMENT / "installed"
    if not (installed.exists() and installed.read_bytes() == wanted):
        print("installing DeepSparse into .venv-deepsparse (a minute) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True, capture_output=True, text=True)
        install = [str(python), "-m", "pip", "install", "-qq", "-r", str(REQUIREMENTS)]
        subprocess.run(install, check=True, capture_output=True, text=True)
        installed.write_bytes(wanted)
    return python


def forms(original: Original, zeros: Zeros) -> Iterator[tuple[str, ModelProto]]:
    ours = eight_bits(original, zeros)
    yield "ours", ours
    yield "ours, older opset", older(ours)
    yield "a scale a layer", sparseml_form(ours, per_tensor=True)
    yield "a scale a channel", sparseml_form(ours, per_tensor=False)
    yield "fp32", older(masked(original.graph, zeros))


def older(model: ModelProto) -> ModelProto:
    """With the version numbers that DeepSparse's ONNX Runtime reads; none of these networks has an operator that means
    something else there."""
    copy = ModelProto()
    copy.CopyFrom(model)
    copy.opset_import[0].version, copy.ir_version = OPSET, IR_VERSION
    return copy


def write(folder: Path, form: str, model: ModelProto) -> Path:
    path = folder / f"{form}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def measured(
    case: tuple[str, Zeros],
    files: Mapping[str, Path],
    present: tuple[str, ...],
    python: Path,
    options: argparse.Namespace,
) -> Iterator[Row]:
    rounds, seconds = ((8, 12), 4.0) if options.quick else ((12, 200), options.seconds)
    with machine.pinned(options.threads), ExitStack() as stack:
        workers = {name: stack.enter_context(worker(name, options.threads)) for name in present}
        workers[RIVAL] = stack.enter_context(worker(RIVAL, options.threads, python, QUIET))
        workers[f"{RIVAL} fast"] = stack.enter_context(worker(RIVAL, options.threads, python, FAST))
        places = [(runtime, "ours") for runtime in present]
        places += [(RIVAL, form) for form in files if form != "ours"]
        places += [(f"{RIVAL} fast", form) for form in files if "scale" in form]
        opened = {place: workers[place[0]].open(files[place[1]]) for place in places}
        subjects = {key(*place): (workers[place[0]], files[place[1]]) for place in places}
        timings = in_turns(subjects, Schedule(seconds=seconds, rounds=rounds, threads=options.threads))
    expected = answers(files["ours"])
    for place in places:
        off = float(np.linalg.norm(opened[place]["answer"] - expected) / np.linalg.norm(expected))
        against = timings.ratio(key(ENGINE, "ours"), key(*place)) if ENGINE in present else None
        ms = timings.measurement(key(*place)).value
        yield Row(case[0], str(case[1]), *place, ms, opened[place]["supported"], off, against)


def answers(file: Path) -> np.ndarray:
    """What ONNX Runtime says to the noise that the workers run on."""
    session = runtimes.get("onnxruntime").open(file.read_bytes())
    return np.ravel(session(noise(session.inputs[0].shape))[0])


def key(runtime: str, form: str) -> str:
    return f"{runtime}: {form}"


def told(row: Row) -> Row:
    """Printed as soon as it is known."""
    executed = "" if row.executed is None else f"executed {row.executed:4.0%}"
    ratio = row.against
    against = f"engine faster by {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else ""
    place = f"{row.network:14}{row.zeros:10}{row.runtime:17}{row.form:20}"
    print(f"{place}{row.ms:8.2f} ms  off {row.off:6.3f}  {executed:15}{against}".rstrip(), flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
