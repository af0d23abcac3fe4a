"""What do zeros that execute cost in accuracy, and what do they bring in milliseconds? A network on CIFAR-10.

    python benchmarks/prune_cifar10.py [--data DIR] [--out DIR] [--only TABLE] [--threads 1] [--list] [--skip-tests]

One trained network (`checkpoints/cifar_mobilenet.safetensors`, swish, 88.76 %), pruned while it trains on, then
quantised to 8 bits. Every row, the dense control included, gets the same pictures in the same order, the same learning
rate and the same teacher (the network itself; labels are not used unless a row says so). Accuracies are of the exported
8-bit file in ONNX Runtime, whose bytes are the engine's too; differences to the dense control are paired by picture,
with 95 % intervals. Milliseconds are measured at the end: all files and dense int8, in turns in one process.

Tables (`--only`): `scan`: patterns and ways to allot shares, a quarter of an epoch each, one seed. `learned`:
thresholds beside magnitude at the same pattern and time. `gap`: what closes the gap between blocks and single weights.
`channels`: whole channels, in one shot and trained. `deciding`: block LTP against block magnitude at the same
milliseconds, three seeds. `headline`: as long as patience allows. Training is checkpointed; what is found in `--out` is
not trained again. A cell of `scan` takes one to two minutes on one core.
"""

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto
from safetensors.torch import save_file

from shoestring.compress import METHODS
from shoestring.core.quality import top1
from shoestring.core.statistics import mean_difference_interval
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.deploy.export import export
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory
from shoestring.image.data import load_images
from shoestring.image.training import TrainingImages
from shoestring.measure import machine
from shoestring.models import zoo
from shoestring.pipeline.costs import costs
from shoestring.pipeline.drawing import Inputs
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
PERCENTS = (50, 70, 80, 90)
DENSE = "dense"
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
    ways = [f"4x1@{percent}%:{scope}" for percent in PERCENTS for scope in ("uniform", "global", "milliseconds")]
    ways += [f"{pattern}@{percent}%:uniform" for pattern in ("1x1", "8x1", "4x4") for percent in PERCENTS]
    ways += [f"{pattern}@80%:global" for pattern in ("1x1", "4x4")]
    scan = [Cell(DENSE, SHORT), *(Cell(f"magnitude:{way}", SHORT) for way in ways)]
    ways = ["magnitude:1x1@80%:uniform", "magnitude:1x1@80%:global", "ltp:1x1@80%", "magnitude:4x1@80%:milliseconds"]
    learned = [Cell(DENSE, SHORT), *(Cell(way, SHORT) for way in (*ways, "block_ltp:4x1@80%", "block_ltp:4x4@80%"))]
    plain = "magnitude:4x1@80%:uniform"
    gap = [Cell(DENSE, SHORT), Cell(plain, SHORT), *(Cell(f"{plain}:{word}", SHORT) for word in WORDS)]
    gap += [Cell(plain, SHORT, distil=0.5), Cell("magnitude:4x1@80%:milliseconds:regrow:permute", SHORT)]
    gap += [Cell(DENSE, 4 * SHORT), Cell(plain, 4 * SHORT)]
    deciding = [Cell(method, MIDDLE, seed) for seed in range(3) for method in (DENSE, *PAIR)]
    headline = [Cell(DENSE, LONG), Cell("block_ltp:4x1@60%", LONG)]
    ways = [f"channels:{percent}%:{scope}:by8" for percent in (15, 30) for scope in ("uniform", "global")]
    channels = [Cell(DENSE, SHORT), *(Cell(way, epochs) for epochs in (0, SHORT) for way in ways)]
    return {
        "scan": scan,
        "learned": learned,
        "gap": gap,
        "channels": channels,
        "deciding": deciding,
        "headline": headline,
    }


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
        folded, shape = fold(model), self.original.input
        pruned = Original(NETWORK, export(folded, shape), inventory(folded, shape), shape)
        graph = eight_bit(pruned, Samples(self.calibration, self.judged)).build()
        empty = zeros(graph, [layer.name for layer in pruned.layers if layer.name in settings])
        macs = multiplications(pruned.layers, empty) / multiplications(self.original.layers, {})
        sizes, left = ({layer.name: layer.weights for layer in net.layers} for net in (self.original, pruned))
        told = {
            **asdict(cell),
            "right": [int(hit) for hit in self.right(graph)],
            "float": float(self.right(pruned.graph).mean()),
            "zeros": empty,
            "weights_gone": 1 - sum(left[n] * (1 - empty[n]) for n in empty) / sum(sizes[n] for n in empty)
            if empty
            else 0.0,
            "multiplications_gone": 1 - macs,
            "seconds": time.monotonic() - began,
            "curve": curve,
        }
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, self.args.out / f"{cell.name}.safetensors")  # for `shoestring fit --from`
        onnx.save(graph, self.args.out / f"{cell.name}.onnx")
        write_file(self.args.out / f"{cell.name}.json", json.dumps(told).encode())

    def trained(self, cell: Cell) -> tuple[torch.nn.Module, Mapping[str, object], list[object]]:
        """The network of a cell with batch norms in place, its settings, and the zeros it went through, layer by
        layer."""
        assert self.original.model is not None
        recipe = partial(Recipe, cell.epochs, batch=BATCH, lr=cell.rate, seed=cell.seed, distil=cell.distil)
        data = TrainingImages(self.pictures, self.spec, seed=cell.seed)
        folder, identity, curve = self.args.out / cell.name, {"cell": cell.name}, list[object]()
        if cell.method == DENSE:
            model = copy.deepcopy(self.original.model)
            train(model, data, recipe(), Hooks(), self.original.model, folder, identity)
            return model, {}, curve
        name, _, text = cell.method.partition(":")
        method = METHODS[name]
        settings = method.assign(self.original.of_kinds(method.CARD.kinds), method.parse(text))
        applied = method.apply(self.original.model, settings)
        if patterns := method.priced(settings) if method.CARD.prunes else {}:
            applied.price(costs(self.original, patterns).paths)

        def watch(progress: float) -> None:
            applied.on_step(progress)
            if len(curve) <= progress * 20:
                gone = {path: 1 - float(keep.float().mean()) for path, keep in applied.zeros().items()}
                curve.append({"progress": progress, "gone": gone})

        hooks = Hooks(applied.penalty, watch, applied.freeze, applied.undecayed())
        if cell.epochs:
            train(applied.model, data, recipe(), hooks, self.original.model, folder, identity)
        return applied.bake(), settings, curve

    def right(self, graph: ModelProto) -> np.ndarray:
        """Whether each picture's class is found, bool [n]."""
        session = runtimes.get("onnxruntime").open(graph.SerializeToString(), precision="fp32")
        outputs = np.concatenate([session(self.judged[index])[0] for index in range(len(self.labels))])
        return top1(outputs) == self.labels

    def read(self, cell: Cell) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.args.out / f"{cell.name}.json").read_bytes())
        return found

    def against_dense(self, cell: Cell) -> str:
        """Points by which a cell is ahead of the dense control of as many epochs, where that is there."""
        control = self.args.out / f"{Cell(DENSE, cell.epochs, cell.seed).name}.json"
        return (
            difference(self.read(cell)["right"], json.loads(control.read_bytes())["right"]) if control.exists() else ""
        )

    def line(self, cell: Cell) -> str:
        row = self.read(cell)
        return (
            f"{cell.name:58} {100 * np.mean(row['right']):6.2f}  weights {100 * row['weights_gone']:5.1f}  "
            f"multiplications {100 * row['multiplications_gone']:5.1f}  {self.against_dense(cell)}  "
            f"({row['seconds']:.0f} s)"
        )

    def report(self, cells: Sequence[Cell]) -> None:
        """The table with milliseconds, of the files as they lie in `--out`."""
        dense = eight_bit(self.original, Samples(self.calibration, self.judged)).build()
        forms = {name: (dense, name) for name in runtimes.installed()}
        forms |= {cell.name: (onnx.load(self.args.out / f"{cell.name}.onnx"), "engine") for cell in cells}
        ms = milliseconds(forms, 1)
        print("\ndense int8: " + ", ".join(f"{name} {ms[name]:.4f} ms" for name in runtimes.installed()))
        told = ["method", "epochs", "seed", "weights, %", "multiplications, %", "ms", "over OpenVINO int8", "accuracy"]
        print(f"| {' | '.join([*told, 'against dense'])} |\n|{'---|' * (len(told) + 1)}")
        rows = []
        for cell in cells:
            row = self.read(cell)
            accuracy, gone = float(np.mean(row["right"])), (row["weights_gone"], row["multiplications_gone"])
            how = f"{cell.method}{'' if cell.distil == 1 else ', with labels'}"
            shares = " | ".join(f"{100 * share:.1f}" for share in gone)
            speed = f"{ms[cell.name]:.4f} | {ms['openvino'] / ms[cell.name]:.2f}"
            print(
                f"| {how} | {cell.epochs:g} | {cell.seed} | {shares} | {speed} | {100 * accuracy:.2f} | "
                f"{self.against_dense(cell)} |"
            )
            kept = {key: value for key, value in row.items() if key not in ("right", "curve")}
            rows.append({**kept, "ms": ms[cell.name], "accuracy": accuracy})
        if self.args.json:
            found = {"date": time.strftime("%Y-%m-%d"), "machine": machine.fingerprint()}
            dense_ms = {name: ms[name] for name in runtimes.installed()}
            write_file(self.args.json, json.dumps({**found, "dense_ms": dense_ms, "cells": rows}, indent=1).encode())


def difference(one: object, other: object) -> str:
    """Points by which the first is ahead, paired by picture, with the 95 % interval."""
    told = mean_difference_interval(np.asarray(one, float), np.asarray(other, float))
    return f"{100 * told.value:+.2f} [{100 * told.low:+.2f}, {100 * told.high:+.2f}]"


if __name__ == "__main__":
    sys.exit(main())
