"""What does reconstruction bring back without training, and how far beyond dense 8 bits does it carry?

    python benchmarks/reconstruct.py [--network efficientnet_lite0|cifar_mobilenet] [--only METHOD] [--out DIR]

EfficientNet-Lite0 and photographs of ImageNet, half of them (250) to calibrate, the others to judge; and a small
network (swish) for CIFAR-10, 250 training pictures to calibrate, 10,000 to judge. Each row is a method of `fit` without
training, raw (`--no-reconstruct`) and reconstructed: top-1, its difference to the float network (paired, 95 %
interval), and the probability kept of the original's, of the file in ONNX Runtime, whose codes are the engine's too.
Beside them the file of NNCF's defaults, of its exact bias correction and of its accuracy control, which reads the
labels of the calibration half; for other rows NNCF offers nothing that keeps activations in 8 bits. For CIFAR-10 also
what a quarter of an epoch of training makes of each row (`prune_cifar10.py`), the upper bound.

Bar: at most one point of top-1 lost, without training, at fewer milliseconds than OpenVINO's dense 8 bits take: the
last table has the milliseconds of all files in the engine and of dense 8 bits in OpenVINO, timed in turns in one
process on one thread. What is found in `--out` is not made again.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from int8_bars import NNCF_FOLDER, nncf_python, nncf_version
from onnx import ModelProto

from shoestring.core.errors import NoEffectWarning
from shoestring.core.quality import top1
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.image.data import load_images
from shoestring.image.fitting import image_task
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, interleave
from shoestring.models import zoo
from shoestring.pipeline.asked import asked
from shoestring.pipeline.drawing import Inputs, samples
from shoestring.pipeline.judge import quality
from shoestring.pipeline.original import resolve
from shoestring.pipeline.post_training import EightBit, eight_bit, outputs
from shoestring.pipeline.pruning import multiplications, zeros
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.shaping import Shaping, shape
from shoestring.pipeline.split import split
from shoestring.pipeline.untrained import made_up

ROOT = Path(__file__).parents[1]
TESTS = ("tests/compress/reconstruct", "tests/pipeline/test_reconstruct.py", "tests/pipeline/test_untrained.py")
PHOTOGRAPHS, PICTURES = "efficientnet_lite0", "cifar_mobilenet"
WEIGHTS = {PHOTOGRAPHS: None, PICTURES: str(ROOT / "benchmarks/checkpoints/cifar_mobilenet.safetensors")}
CALIBRATION = 250
RUNTIME = "onnxruntime"
INT8 = "int8"
ROWS = (
    *(INT8, "int8:w4", "int8:w3"),
    *(f"magnitude:4x1@{percent}%:milliseconds" for percent in (10, 20, 30, 50, 70, 80)),
    *("magnitude:4x1@50%:uniform", "magnitude:2:4"),
    *(f"magnitude:1x1@{percent}%:global" for percent in (50, 70)),
)
NNCF = ("nncf", "nncf:bias", "nncf:accuracy")
TRAINED = ("magnitude:4x1@50%:milliseconds", "magnitude:4x1@80%:milliseconds", "magnitude:1x1@70%:global")


def main() -> int:
    options = arguments()
    if not options.data.exists():
        print(f"skipped: no {options.data}; give --data DIR")
        return 0
    if not options.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        print("The tests of what is measured here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    print("| method | | top-1 | against fp32, points | probability kept | multiplications by zero, % | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    cells = bench.cells()
    for cell in cells:
        if not cell.told.exists():
            bench.make(cell)
        print(line(cell), flush=True)
    if not options.no_timing:
        bench.front(cells)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=tuple(WEIGHTS), default=PHOTOGRAPHS)
    parser.add_argument("--data", type=Path, help="photographs with labels.csv, or the folder of train.npz, test.npz")
    parser.add_argument("--only", action="append", help="a method of `fit`, as one of the rows or another")
    parser.add_argument("--out", type=Path, help="folder; what is in it is not made again")
    parser.add_argument("--threads", type=int, default=1, help="of the fitting; timing has one")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the timing, at most")
    parser.add_argument("--no-timing", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    found = parser.parse_args()
    shared = ROOT.parent / "shared/data"
    found.data = found.data or shared / ("imagenet_samples" if found.network == PHOTOGRAPHS else "cifar10")
    found.out = found.out or Path(f"reconstruct-{found.network}")
    return found


@dataclass(frozen=True)
class Cell:
    """One file: `way` is raw, reconstructed, trained or nncf."""

    method: str
    way: str
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.method}-{self.way}".replace(":", "-").replace("%", "")

    @property
    def told(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def graph(self) -> Path:
        return self.folder / (f"{self.name}.xml" if self.method == "nncf:accuracy" else f"{self.name}.onnx")


class Bench:
    """The network, the pictures, what is shared by rows."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.original = resolve(options.network, WEIGHTS[options.network])
        self.data = photographs(options, self.original) if options.network == PHOTOGRAPHS else pictures(options)
        self.dense: dict[Any, EightBit] = {}

    @cached_property
    def theirs(self) -> np.ndarray:
        return outputs(self.original.graph, RUNTIME, self.data.judgement)

    def cells(self) -> list[Cell]:
        rows, out = self.options.only or ROWS, self.options.out
        found = [Cell(row, way, out) for row in rows for way in ("raw", "reconstructed")]
        found += [Cell(row, "nncf", out) for row in NNCF if row in rows]
        found = [cell for cell in found if cell.method not in NNCF or cell.way == "nncf"]
        if self.options.only:
            return found
        if self.options.network == PICTURES:
            return found + [Cell(row, "trained", out) for row in TRAINED]
        return found + [Cell(row, "nncf", out) for row in NNCF]

    def make(self, cell: Cell) -> None:
        began = time.monotonic()
        told: dict[str, Any] = {}
        if cell.way in ("nncf", "trained"):
            graph = self.rival(cell)
        else:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", NoEffectWarning)
                graph, told = self.ours(cell)
            told["warnings"] = [str(one.message) for one in caught if issubclass(one.category, NoEffectWarning)]
        took = time.monotonic() - began
        theirs = self.theirs
        if graph is None:
            sessions = [runtimes.get("openvino").open(str(cell.graph)), runtimes.get("openvino").open(self.source)]
            ours, theirs = (np.concatenate([run(x)[0] for x in self.data.judgement]) for run in sessions)
        else:
            onnx.save(graph, cell.graph)
            ours = outputs(graph, RUNTIME, self.data.judgement)
        told |= {"method": cell.method, "way": cell.way, "seconds": took, **asdict(quality(ours, theirs, self.data))}
        write_file(cell.told, json.dumps(told, indent=1).encode())

    @cached_property
    def source(self) -> bytes:
        return self.original.graph.SerializeToString()

    def ours(self, cell: Cell) -> tuple[ModelProto, dict[str, Any]]:
        """As `fit` makes it."""
        refit = cell.way == "reconstructed"
        *shaping, bits = asked(self.original, (cell.method,))
        pruned = None
        with TemporaryDirectory() as folder:
            place = Path(folder)
            if shaping:
                way = Shaping(None, place, place / "trail", reconstruct=refit)
                pruned = shape(self.original, self.data, shaping, False, way, quiet)
            student = pruned.original if pruned else self.original
            network = self.calibrated(bits.setting)
            if pruned is not None:
                dense = network
                network = replace(dense, graph=student.graph) if refit else eight_bit(student, self.data, bits.setting)
            graph, told = network.build(), {}
            if refit:
                layers = set(network.precisions)
                made = made_up(graph, self.original, pruned, network, None, layers, self.data, place, quiet)
                graph, told = made.graph, {"errors": made.errors, "held_out": made.held_out}
        empty = zeros(graph, pruned.settings) if pruned else {}
        gone = 1 - multiplications(student.layers, empty) / multiplications(self.original.layers, {})
        return graph, {**told, "multiplications_gone": gone, "zeros": empty}

    def calibrated(self, setting: Any) -> EightBit:
        if setting not in self.dense:
            self.dense[setting] = eight_bit(self.original, self.data, setting)
        return self.dense[setting]

    def rival(self, cell: Cell) -> ModelProto | None:
        """NNCF's file (None for one that is no .onnx), or a trained one."""
        if cell.way == "trained":
            script, out = ROOT / "benchmarks/prune_cifar10.py", cell.folder / "trained"
            command = [sys.executable, script, "--method", cell.method, "--out", out, "--no-timing", "--skip-tests"]
            subprocess.run([*command, "--data", self.options.data], check=True, stdout=subprocess.DEVNULL)
            prefix = cell.method.replace(":", "-").replace("%", "")
            return onnx.load(next(out.glob(f"{prefix}-*.onnx")))
        with TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "float.onnx").write_bytes(self.source)
            np.save(place / "calibration.npy", np.concatenate(self.data.calibration))
            command = [nncf_python(), NNCF_FOLDER / "quantise.py", place / "float.onnx", place / "calibration.npy"]
            if cell.method == "nncf:bias":
                command.append("--bias-correction")
            if cell.method == "nncf:accuracy":
                np.save(place / "labels.npy", calibration_labels(self.options, self.original))
                command += ["--labels", place / "labels.npy"]
            subprocess.run([*command, cell.graph], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return None if cell.graph.suffix == ".xml" else onnx.load(cell.graph)

    def front(self, cells: Sequence[Cell]) -> None:
        """Milliseconds of what can be timed, beside dense 8 bits in OpenVINO."""
        dense = next((cell for cell in cells if (cell.method, cell.way) == (INT8, "raw")), None)
        if dense is None:
            return
        x = self.data.calibration[0]
        wanted = [cell for cell in cells if cell.way in ("reconstructed", "trained") and ":w" not in cell.method]
        with machine.pinned(1):
            rival = runtimes.get("openvino").open(dense.graph.read_bytes(), threads=1)
            subjects = {"openvino": lambda: rival(x)}
            for cell in wanted:
                session = runtimes.get("engine").open(cell.graph.read_bytes(), threads=1)
                subjects[cell.name] = lambda session=session: session(x)
            timings = interleave(subjects, Schedule(seconds=self.options.seconds))
        print("\n| in the engine | ms | speed against OpenVINO in 8 bits | against fp32, points | probability kept |")
        print("|---|---|---|---|---|")
        rows = []
        for cell in wanted:
            told, ratio = json.loads(cell.told.read_bytes()), timings.ratio("openvino", cell.name)
            ms = timings.measurement(cell.name).value
            print(
                f"| `{cell.method}` {cell.way} | {ms:.2f} | {1 / ratio.value:.2f}x [{1 / ratio.high:.2f}, "
                f"{1 / ratio.low:.2f}] | {difference(told)} | {100 - told['divergence']:.1f} |"
            )
            rows.append({"cell": cell.name, "ms": ms, "speed": 1 / ratio.value, **told})
        if self.options.json:
            result = {
                "date": time.strftime("%Y-%m-%d"),
                "machine": machine.fingerprint(),
                "nncf": nncf_version(nncf_python()) if self.options.network == PHOTOGRAPHS else None,
                "cells": [json.loads(cell.told.read_bytes()) for cell in cells],
                "front": rows,
            }
            write_file(self.options.json, json.dumps(result, indent=1).encode())


def photographs(options: argparse.Namespace, original: Any) -> Samples:
    task = image_task(original)
    found = samples(task.load(options.data), task, CALIBRATION)
    if found.targets is None:
        raise SystemExit(f"{options.data} has no labels, so there is no top-1; add labels.csv (file,class_index)")
    return found


def pictures(options: argparse.Namespace) -> Samples:
    spec = zoo.entry(PICTURES).preprocess
    train, test = (load_images(options.data / f"{part}.npz") for part in ("train", "test"))
    few, judged = Inputs(train, spec), Inputs(test, spec)
    calibration = [few[index] for index in range(CALIBRATION)]
    return Samples(calibration, judged, np.array(test.targets), right, "top-1")


def right(found: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return (top1(found) == targets).astype(float)


def calibration_labels(options: argparse.Namespace, original: Any) -> np.ndarray:
    """Of the photographs that calibrate."""
    fitted, _ = split(image_task(original).load(options.data), CALIBRATION, 0)
    return np.array(fitted.targets)[:CALIBRATION]


def line(cell: Cell) -> str:
    told: Mapping[str, Any] = json.loads(cell.told.read_bytes())
    gone = f"{100 * told['multiplications_gone']:.0f}" if told.get("multiplications_gone") else ""
    return (
        f"| `{cell.method}` | {cell.way} | {told['subject']:.1f} | {difference(told)} | "
        f"{100 - told['divergence']:.1f} | {gone} | {told['seconds']:.0f} |"
    )


def difference(told: Mapping[str, Any]) -> str:
    return f"{told['difference']:+.1f} [{told['low']:+.1f}, {told['high']:+.1f}]"


def quiet(stage: str, share: float) -> None:
    """Rows are progress enough."""


if __name__ == "__main__":
    sys.exit(main())
