"""What do learned grids bring on a few hundred photographs? EfficientNet-Lite0 at 8, 6 and 4 bits, one thread.

    python benchmarks/lsq_efficientnet_lite0.py [--data DIR] [--out DIR] [--epochs 8] [--only w4a4] [--json FILE]
                                                [--seconds 60] [--threads 1] [--skip-tests]

Half of the photographs calibrates and trains (to follow the original: no labels), the other half judges. For each
number of bits, the file made after training (`int8` at 8 bits, else the grids of LSQ+ where its rule starts them) and
the one trained for `--epochs`. The first and the last layer have 8 bits. Batch norms keep the original's statistics:
so few photographs give poor ones. Below 8 bits the trained file must keep more of the original's probability than the
untrained one, and every file must pass the parity gate.

Accuracies are of the exported file, executed by ONNX Runtime as it is deployed; differences are paired, with 95 %
intervals. Training is checkpointed, and what is in `--out` is not made again; only the timing always is.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto

from shoestring.core.errors import NotMet
from shoestring.core.quality import distance
from shoestring.core.receipt import HOLDS
from shoestring.core.statistics import Interval, judge, mean_difference_interval
from shoestring.deploy import parity, runtimes, shoe
from shoestring.deploy.archive import write_file
from shoestring.deploy.normal_form import require
from shoestring.image.fitting import image_task
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, Timings, interleave
from shoestring.pipeline.artifact import Story, contents
from shoestring.pipeline.asked import asked
from shoestring.pipeline.drawing import samples
from shoestring.pipeline.fit import PARITY_INPUTS
from shoestring.pipeline.learned import learn
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import eight_bit, outputs
from shoestring.pipeline.samples import Samples
from shoestring.train import checkpoint
from shoestring.train.recipe import Recipe

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/compress/lsq",
    "tests/core/test_quality.py",
    "tests/core/test_statistics.py",
    "tests/deploy/test_learned.py",
    "tests/deploy/test_packing.py",
    "tests/deploy/test_parity.py",
    "tests/graph/test_edges.py",
    "tests/graph/test_marker.py",
    "tests/image/test_split.py",
    "tests/image/test_training.py",
    "tests/measure/test_timing.py",
    "tests/train",
)
RUNTIME = "onnxruntime"
BITS = ("w8a8", "w6a6", "w4a8", "w4a4")
FP32, INT8 = "fp32", "int8"
EPOCHS, RATE = 8.0, 0.001


@dataclass(frozen=True)
class Cell:
    """One file. `bits`: of weights and activations. `epochs`: 0 for the grids as they start."""

    bits: str
    epochs: float

    @property
    def method(self) -> str:
        return INT8 if self.bits == "w8a8" and not self.epochs else f"lsq+:{self.bits}"

    @property
    def name(self) -> str:
        return INT8 if self.method == INT8 else f"{self.bits}-{self.epochs:g}-epochs"

    @property
    def recipe(self) -> Recipe | None:
        """None where nothing is trained."""
        return Recipe(self.epochs, batch=16, lr=RATE, norms=False) if self.epochs else None


def main() -> int:
    options = arguments()
    if not options.data.is_dir():
        print(f"skipped: no photographs in {options.data}; give --data DIR, with labels.csv (file,class_index)")
        return 0
    if not options.skip_tests and red():
        print("The tests of what is compared here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(options.threads)
    original = resolve("efficientnet_lite0")
    task = image_task(original)
    data = samples(task.load(options.data), task, train=True)
    if data.targets is None or data.scores is None:
        raise SystemExit(f"{options.data} has no labels, so there is no top-1; add labels.csv (file,class_index)")
    options.out.mkdir(parents=True, exist_ok=True)
    cells = [Cell(bits, epochs) for bits in options.only or BITS for epochs in (0.0, options.epochs)]
    cells = list(dict.fromkeys([Cell("w8a8", 0.0), *cells]))  # the speed of all is told against `int8`
    theirs = outputs(original.graph, RUNTIME, data.judgement)
    found = {cell: result(cell, original, data, theirs, options.out) for cell in cells}
    files = {FP32: original.graph.SerializeToString()}
    files |= {cell.name: (options.out / f"{cell.name}.onnx").read_bytes() for cell in cells}
    told = report(found, data.scores(theirs, data.targets), timed(files, options.seconds), data)
    print_report(told)
    if options.json:
        write_file(options.json, json.dumps(told, indent=1).encode())
    return 0 if told["passed"] else 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    photographs = ROOT.parent / "shared/data/imagenet_samples"
    parser.add_argument("--data", type=Path, default=photographs, help="photographs with labels.csv")
    parser.add_argument("--out", type=Path, default=Path("lsq-lite0-run"), help="folder; what is in it is kept")
    parser.add_argument("--epochs", type=float, default=EPOCHS, help="of training")
    parser.add_argument("--only", action="append", choices=BITS, help="bits: these rows; may be repeated")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seconds", type=float, default=60.0, help="at most this long for the timing")
    parser.add_argument("--threads", type=int, default=1, help="of training")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def red() -> bool:
    tests = [test for test in TESTS if (ROOT / test).exists()]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *tests], cwd=ROOT).returncode != 0


def result(cell: Cell, original: Original, data: Samples, theirs: np.ndarray, folder: Path) -> dict[str, Any]:
    """What is known of a cell's file NAME.onnx: read from NAME.json, or made and judged first. `right`, `kept`: of each
    photograph, whether the class is right and how much of the original's probability is kept, 0..1."""
    told = folder / f"{cell.name}.json"
    recipe = asdict(cell.recipe) if cell.recipe else None
    wanted = {"method": cell.method, "recipe": recipe, "data": data.provenance, "original": original.provenance}
    wanted = json.loads(json.dumps(wanted))  # as it comes back
    if told.exists():
        known: dict[str, Any] = json.loads(told.read_bytes())
        if known["asked"] != wanted:
            raise SystemExit(f"{told} is of another recipe, network or data; give another --out or remove it")
        return known
    graph, bits = made(cell, original, data, folder)
    require(graph)
    ours = outputs(graph, RUNTIME, data.judgement)
    assert data.scores is not None and data.targets is not None, "asked in `main`"
    story = Story({cell.method: ""}, ranges="", budget="", seed=0)
    found = {
        "asked": wanted,
        "date": time.strftime("%Y-%m-%d"),
        "right": data.scores(ours, data.targets).tolist(),
        "kept": (1 - distance(ours, theirs)[1]).tolist(),
        "parity": gated(graph, data),
        "bytes": shoe.size(contents(original, graph, story, None, (), bits)),
    }
    write_file(folder / f"{cell.name}.onnx", graph.SerializeToString())
    write_file(told, json.dumps(found, indent=1).encode())  # last: what has this is whole
    checkpoint.remove(folder / f"{cell.name}.training")
    return found


def made(cell: Cell, original: Original, data: Samples, folder: Path) -> tuple[ModelProto, Mapping[str, int]]:
    """The graph as `fit` makes it, and layer to the bits of its weights where they are below 8."""
    step = asked(original, (cell.method,), cell.recipe)[-1]
    method, settings = step.method, step.settings(original)
    if not method.CARD.trains:
        return eight_bit(original, data, next(iter(settings.values()))).build(), {}
    progress = spoken(cell.name)
    learned = learn(original, None, data, method, settings, cell.recipe, folder / f"{cell.name}.training", progress)
    return learned.graph, learned.bits


def spoken(name: str, every: float = 30.0) -> Callable[[str, float], None]:
    """Says how far a cell is, every so many seconds."""
    last = [0.0]

    def report(stage: str, share: float) -> None:
        if time.monotonic() - last[0] > every:
            last[0] = time.monotonic()
            print(f"{name}: {stage}, {100 * share:.0f} %", flush=True)

    return report


def gated(graph: ModelProto, data: Samples) -> dict[str, Any]:
    """The parity gate's answer: `failed` is empty where it passes."""
    compared = parity.compare(graph, RUNTIME, data.calibration[:PARITY_INPUTS])
    try:
        parity.gate(compared)
        failed = ""
    except NotMet as error:
        failed = str(error)
    steps = max(edge.mean_steps for edge in compared.edges)
    return {"mean_steps": steps, "moved": compared.moved, "failed": failed}


def timed(files: Mapping[str, bytes], seconds: float) -> Timings:
    print(f"timing {len(files)} files for {seconds:.0f} s ...", flush=True)
    with machine.pinned(1):
        sessions = {name: runtimes.get(RUNTIME).open(file) for name, file in files.items()}
        x = np.zeros(sessions[FP32].inputs[0].shape, np.float32)
        return interleave({name: partial(session, x) for name, session in sessions.items()}, Schedule(seconds=seconds))


def report(
    found: Mapping[Cell, Mapping[str, Any]], right: np.ndarray, timings: Timings, data: Samples
) -> dict[str, Any]:
    """All that is printed. `right`: of the original."""
    claims = gains(found)
    failed = [cell.name for cell, told in found.items() if told["parity"]["failed"]]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.fingerprint(),
        "versions": {name: version(name) for name in ("numpy", "torch", RUNTIME)},
        "photographs": dict(data.provenance or {}),
        "recipe": next((told["asked"]["recipe"] for cell, told in found.items() if cell.epochs), None),
        "fp32": {"top1": 100 * float(right.mean()), "ms": timings.measurement(FP32).value},
        "cells": [row(cell, told, right, timings) for cell, told in found.items()],
        "trained against untrained": claims,
        "parity failed": failed,
        "passed": not failed and all(claim["verdict"] == HOLDS for claim in claims if claim["bits"] != "w8a8"),
    }


def row(cell: Cell, told: Mapping[str, Any], right: np.ndarray, timings: Timings) -> dict[str, Any]:
    """One line of the table. Points; intervals as [value, low, high]; `faster`: than `int8`."""
    return {
        "bits": cell.bits,
        "epochs": cell.epochs,
        "method": cell.method,
        "top1": 100 * float(np.mean(told["right"])),
        "difference": points(mean_difference_interval(told["right"], right)),
        "kept": points(mean_difference_interval(told["kept"], np.zeros(len(right)))),
        "bytes": told["bytes"],
        "ms": timings.measurement(cell.name).value,
        "faster": None if cell.name == INT8 else bounds(timings.ratio(cell.name, INT8)),
        "parity": told["parity"],
    }


def gains(found: Mapping[Cell, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each number of bits, what training brought. There are no more photographs: where an interval straddles 0, the
    value decides."""
    claims = []
    for cell, trained in found.items():
        before = found.get(Cell(cell.bits, 0.0))
        if cell.epochs and before is not None:
            kept = mean_difference_interval(trained["kept"], before["kept"])
            top1 = mean_difference_interval(trained["right"], before["right"])
            verdict = judge(kept, ">=", 0.0, tolerance=np.inf)
            claims.append({"bits": cell.bits, "kept": points(kept), "top1": points(top1), "verdict": verdict})
    return claims


def points(interval: Interval) -> list[float]:
    return [100 * value for value in bounds(interval)]


def bounds(interval: Interval) -> list[float]:
    return [interval.value, interval.low, interval.high]


def print_report(told: Mapping[str, Any]) -> None:
    for name in ("date", "machine", "versions", "photographs", "recipe"):
        print(f"{name}: {told[name]}")
    print()
    names = ("bits", "method", "epochs", "top-1", "against fp32, points", "probability kept", "MB", "ms")
    print("|", " | ".join([*names, "speed against int8", "parity"]), "|")
    print("|" + "---|" * (len(names) + 2))
    print(f"| fp32 | | | {told['fp32']['top1']:.1f} | | 100 | | {told['fp32']['ms']:.2f} | | |")
    for cell in told["cells"]:
        passed = "fails" if cell["parity"]["failed"] else f"passes, {cell['parity']['moved']:.2f} points moved"
        speed = "1" if cell["faster"] is None else ranged(cell["faster"], "{:.2f}")
        print(
            f"| {cell['bits']} | `{cell['method'].partition(':')[0]}` | {cell['epochs']:g} | {cell['top1']:.1f} | "
            f"{ranged(cell['difference'])} | {ranged(cell['kept'], '{:.1f}')} | {cell['bytes'] / 1e6:.2f} | "
            f"{cell['ms']:.2f} | {speed} | {passed} |"
        )
    print()
    for claim in told["trained against untrained"]:
        print(
            f"{claim['bits']}, trained against untrained: {ranged(claim['kept'])} points of probability kept, "
            f"{ranged(claim['top1'])} points of top-1: {claim['verdict']}"
        )
    for cell in told["cells"]:
        if cell["parity"]["failed"]:
            print(f"{cell['bits']}, {cell['epochs']:g} epochs: {cell['parity']['failed']}")


def ranged(interval: list[float], form: str = "{:+.1f}") -> str:
    value, low, high = map(form.format, interval)
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    sys.exit(main())
