"""What do zeros that execute cost in accuracy, and what do they bring in milliseconds? A network on CIFAR-10.

    python benchmarks/prune_cifar10.py [--data DIR] [--out DIR] [--only TABLE] [--threads 1] [--list] [--skip-tests]

One trained network (`checkpoints/cifar_mobilenet.safetensors`, swish, 88.76 %), pruned while it trains on, then
quantised to 8 bits after training. Every row, the dense control included, gets the same epochs, data, learning rate and
teacher (the network itself; labels are not used unless a row says so). Accuracies are of the exported 8-bit file in
ONNX Runtime, whose bytes the engine computes too; differences to the dense control are paired, with 95 % intervals. Milliseconds are measured at the
end, all files and OpenVINO's dense int8 in turns in one process, as ratios to OpenVINO.

Tables (`--only`): `scan` (patterns and allocations, short, one seed), `learned` (thresholds against magnitude at the same
pattern and time), `gap` (what closes the gap to single weights: permutation, Taylor, regrowth, labels, longer), `deciding` (the pair
that decides, three seeds), `headline`. Training is checkpointed; what is found in `--out` is not trained again.
"""

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto

from shoestring.compress import METHODS
from shoestring.core.quality import top1
from shoestring.core.statistics import mean_difference_interval
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.deploy.export import export
from shoestring.graph.fold import fold
from shoestring.image.data import load_images
from shoestring.image.samples import Inputs
from shoestring.image.training import TrainingImages
from shoestring.measure import machine
from shoestring.models import zoo
from shoestring.pipeline.costs import costs
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import eight_bit
from shoestring.pipeline.pruning import multiplications, zeros
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.stopwatch import milliseconds
from shoestring.train.loop import train
from shoestring.train.recipe import Recipe
from shoestring.train.run import Hooks

ROOT = Path(__file__).parents[1]
NETWORK = "cifar_mobilenet"
WEIGHTS = ROOT / "benchmarks/checkpoints/cifar_mobilenet.safetensors"
TESTS = ("tests/compress/magnitude", "tests/compress/ltp", "tests/graph/test_blocks.py", "tests/graph/test_masks.py")
BATCH, RATE, CALIBRATION = 64, 0.03, 128
SHORT, MIDDLE, LONG = 0.25, 0.5, 3.0  # epochs
PERCENTS, PATTERNS = (50, 70, 80, 90), ("1x1", "4x1", "8x1", "4x4")
DENSE = "dense"
# At one pattern and, but for the first and the last, one time.
PAIR = ("magnitude:4x1@80%:milliseconds", "block_ltp:4x1@80%")
WORDS = ("permute", "taylor", "regrow")


@dataclass(frozen=True)
class Cell:
    """One network: `method` as the command line spells it, trained for `epochs`; `distil`: the teacher's part of the
    loss, the labels have the rest."""

    method: str
    epochs: float
    seed: int = 0
    distil: float = 1.0
    rate: float = RATE

    @property
    def name(self) -> str:
        text = self.method.translate(str.maketrans({":": "-", "%": "", "*": "", "=": "-"}))
        return f"{text}-{self.epochs:g}-{self.seed}-{self.distil:g}-{self.rate:g}"


def tables() -> dict[str, list[Cell]]:
    """The cells of each table, the dense control first."""
    ways = [f"{pattern}@{percent}%:uniform" for pattern in PATTERNS for percent in PERCENTS]
    ways += [f"4x1@{percent}%:{scope}" for scope in ("global", "milliseconds") for percent in PERCENTS]
    ways += [f"{pattern}@80%:global" for pattern in ("1x1", "4x4")]
    scan = [Cell(DENSE, SHORT), *(Cell(f"magnitude:{way}", SHORT) for way in ways)]
    learned = [Cell(f"magnitude:{way}", SHORT) for way in ("1x1@80%:uniform", "1x1@80%:global", "4x1@80%:milliseconds")]
    learned += [Cell(f"{way}@80%", SHORT) for way in ("ltp:1x1", "block_ltp:4x1", "block_ltp:4x4")]
    plain = "magnitude:4x1@80%:uniform"
    gap = [Cell(plain, SHORT), *(Cell(f"{plain}:{word}", SHORT) for word in WORDS), Cell(plain, SHORT, distil=0.5)]
    gap += [Cell(DENSE, 4 * SHORT), Cell(plain, 4 * SHORT)]
    deciding = [Cell(method, MIDDLE, seed) for seed in range(3) for method in (DENSE, *PAIR)]
    ways = [way for n in (60, 80) for way in (f"block_ltp:4x1@{n}%", f"magnitude:4x1@{n}%:milliseconds:regrow")]
    headline = [Cell(DENSE, LONG), *(Cell(way, LONG) for way in ways)]
    return {"scan": scan, "learned": learned, "gap": gap, "deciding": deciding, "headline": headline}


def main() -> int:
    args = arguments()
    chosen = tables()
    wanted = list(dict.fromkeys(cell for name in args.only or list(chosen) for cell in chosen[name]))
    wanted += [Cell(text, args.epochs, args.seed, args.distil, args.rate) for text in args.method or ()]
    if args.method and not args.only:
        wanted = wanted[-len(args.method) :]
    if args.list:
        print("\n".join(cell.name for cell in wanted))
        return 0
    if not (args.data / "train.npz").exists():
        print(f"skipped: no train.npz and test.npz in {args.data}; give --data DIR")
        return 0
    if not args.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        print("The tests of what is compared here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    for cell in wanted:
        if not (args.out / f"{cell.name}.json").exists():
            bench.make(cell)
        print(bench.line(cell), flush=True)
    if not args.no_timing:
        bench.report(wanted)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = ROOT.parent / "shared/data/cifar10"
    parser.add_argument("--data", type=Path, default=place, help="holds train.npz and test.npz")
    parser.add_argument("--out", type=Path, default=Path("prune-run"), help="folder; what is in it is not repeated")
    parser.add_argument("--only", action="append", choices=list(tables()), help="one table; may be repeated")
    parser.add_argument("--method", action="append", help="one cell of your own instead; may be repeated")
    parser.add_argument("--epochs", type=float, default=SHORT, help="of --method")
    parser.add_argument("--seed", type=int, default=0, help="of --method")
    parser.add_argument("--distil", type=float, default=1.0, help="of --method")
    parser.add_argument("--rate", type=float, default=RATE, help="of --method")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-timing", action="store_true", help="train only")
    parser.add_argument("--list", action="store_true", help="the names of the cells")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


class Bench:
    """The network, the pictures, and the folder of what was found."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.original = resolve(NETWORK, str(WEIGHTS))
        self.spec = zoo.entry(NETWORK).preprocess
        self.pictures = load_images(args.data / "train.npz")
        test = load_images(args.data / "test.npz")
        self.judged, self.labels = Inputs(test, self.spec), np.array(test.targets)
        inputs = Inputs(self.pictures, self.spec)
        self.calibration = [inputs[index] for index in range(CALIBRATION)]

    def make(self, cell: Cell) -> None:
        began = time.monotonic()
        model, settings, curve = self.trained(cell)
        pruned = Original(NETWORK, export(fold(model), self.original.input), self.original.layers, self.original.input)
        graph = eight_bit(pruned, Samples(self.calibration, self.judged)).build()
        empty = zeros(graph, [layer.name for layer in self.original.layers if layer.name in settings])
        macs = multiplications(self.original.layers, empty) / multiplications(self.original.layers, {})
        sizes = {layer.name: layer.weights for layer in self.original.layers}
        told = {
            **asdict(cell),
            "right": [int(hit) for hit in self.right(graph)],
            "float": float(self.right(pruned.graph).mean()),
            "zeros": empty,
            "weights_gone": sum(sizes[name] * share for name, share in empty.items())
            / max(1, sum(sizes[n] for n in empty)),
            "multiplications_gone": 1 - macs,
            "seconds": time.monotonic() - began,
            "curve": curve,
        }
        onnx.save(graph, self.args.out / f"{cell.name}.onnx")
        write_file(self.args.out / f"{cell.name}.json", json.dumps(told).encode())

    def trained(self, cell: Cell) -> tuple[torch.nn.Module, Mapping[str, object], list[object]]:
        """The network of a cell with batch norms in place, its settings, and what its thresholds went through."""
        assert self.original.model is not None
        recipe = Recipe(epochs=cell.epochs, batch=BATCH, lr=cell.rate, seed=cell.seed, distil=cell.distil)
        data = TrainingImages(self.pictures, self.spec, seed=cell.seed)
        folder, identity, curve = self.args.out / cell.name, {"cell": cell.name}, list[object]()
        name, _, text = ("magnitude:dense" if cell.method == DENSE else cell.method).partition(":")
        method = METHODS[name]
        settings = method.assign(self.original.of_kinds(method.CARD.kinds), method.parse(text))
        if cell.method == DENSE:
            model = copy.deepcopy(self.original.model)
            train(model, data, recipe, Hooks(), self.original.model, folder, identity)
            return model, {}, curve
        applied = method.apply(self.original.model, settings)
        if patterns := method.priced(settings):
            applied.price(costs(self.original, patterns).paths)

        def watch(progress: float) -> None:
            applied.on_step(progress)
            if len(curve) <= progress * 20:
                curve.append({"progress": progress, **self.look(applied)})

        hooks = Hooks(applied.penalty, watch, applied.freeze, applied.undecayed())
        train(applied.model, data, recipe, hooks, self.original.model, folder, identity)
        return applied.bake(), settings, curve

    def look(self, applied: object) -> dict[str, object]:
        thresholds = getattr(applied, "thresholds", {})
        pressure = getattr(applied, "pressure", None)
        gone = {path: round(1 - float(keep.float().mean()), 3) for path, keep in applied.zeros().items()}  # type: ignore
        near = (
            {path: round(t.near(w), 4) for (path, t), (_, w) in zip(thresholds.items(), applied._pairs(), strict=True)}
            if thresholds
            else {}
        )  # type: ignore
        told = (
            {"push": float(pressure.push), "typical": float(pressure.typical), "left": applied.left} if pressure else {}
        )  # type: ignore
        return {**told, "gone": gone, "near": near}

    def right(self, graph: ModelProto) -> np.ndarray:
        """Whether each picture's class is found, bool [n]."""
        session = runtimes.get("onnxruntime").open(graph.SerializeToString(), precision="fp32")
        outputs = np.concatenate([session(self.judged[index])[0] for index in range(len(self.labels))])
        return top1(outputs) == self.labels

    def read(self, cell: Cell) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.args.out / f"{cell.name}.json").read_bytes())
        return found

    def line(self, cell: Cell) -> str:
        row = self.read(cell)
        control = self.args.out / f"{Cell(DENSE, cell.epochs, cell.seed).name}.json"
        lost = ""
        if control.exists():
            lost = f"  against dense {difference(row['right'], json.loads(control.read_bytes())['right'])}"
        return (
            f"{cell.name:58} {100 * np.mean(row['right']):6.2f}  weights {100 * row['weights_gone']:5.1f}  "  # type: ignore[operator]
            f"multiplications {100 * row['multiplications_gone']:5.1f}{lost}  ({row['seconds']:.0f} s)"  # type: ignore[operator]
        )

    def report(self, cells: Sequence[Cell]) -> None:
        """The table with milliseconds, of the files as they lie in `--out`."""
        dense = eight_bit(self.original, Samples(self.calibration, self.judged)).build()
        forms = {"openvino": (dense, "openvino"), "onnxruntime": (dense, "onnxruntime"), "engine": (dense, "engine")}
        forms |= {cell.name: (onnx.load(self.args.out / f"{cell.name}.onnx"), "engine") for cell in cells}
        found = milliseconds(forms, 1)
        print(
            f"\nopenvino int8 {found['openvino']:.4f} ms, onnxruntime {found['onnxruntime']:.4f}, engine {found['engine']:.4f}"
        )
        print(
            "| method | epochs | seed | weights, % | multiplications, % | ms | over OpenVINO int8 | accuracy | against dense |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        rows = []
        for cell in cells:
            row, ms = self.read(cell), found[cell.name]
            control = self.args.out / f"{Cell(DENSE, cell.epochs, cell.seed).name}.json"
            lost = difference(row["right"], json.loads(control.read_bytes())["right"]) if control.exists() else ""
            print(
                f"| {cell.method} | {cell.epochs:g} | {cell.seed} | {100 * row['weights_gone']:.1f} | "  # type: ignore[operator]
                f"{100 * row['multiplications_gone']:.1f} | {ms:.4f} | {found['openvino'] / ms:.2f} | "  # type: ignore[operator]
                f"{100 * np.mean(row['right']):.2f} | {lost} |"  # type: ignore[operator]
            )
            rows.append(
                {
                    **{key: row[key] for key in row if key not in ("right", "curve")},
                    "ms": ms,
                    "accuracy": float(np.mean(row["right"])),
                }
            )  # type: ignore
        if self.args.json:
            result = {
                "date": time.strftime("%Y-%m-%d"),
                "machine": machine.fingerprint(),
                "baselines": {n: found[n] for n in ("openvino", "onnxruntime", "engine")},
            }
            write_file(self.args.json, json.dumps({**result, "cells": rows}, indent=1).encode())


def difference(one: object, other: object) -> str:
    """Points by which the first is ahead, paired by picture, with the 95 % interval."""
    told = mean_difference_interval(np.asarray(one, float), np.asarray(other, float))
    return f"{100 * told.value:+.2f} [{100 * told.low:+.2f}, {100 * told.high:+.2f}]"


if __name__ == "__main__":
    sys.exit(main())
