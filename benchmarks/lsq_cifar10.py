"""What do learned steps and offsets bring? A swish network on CIFAR-10 at 8, 4, 3 and 2 bits.

    python benchmarks/lsq_cifar10.py [--data DIR] [--out DIR] [--only w2a2] [--seeds 3] [--threads 2] [--skip-tests]

One trained network (`checkpoints/cifar_mobilenet.safetensors`), quantised post-training and by training. Everything but
the quantiser is the same: the network itself is the teacher and labels are not used, one pass over the 50,000 pictures
(a quarter at 8 bits), batch 64, SGD, the first and the last layer at 8 bits, a weight step for each output channel.
`lsq+` starts the weights where the squared error is least, `sigma` as the paper does, by three standard deviations.
Expected from the paper (arXiv 2004.09576, tables 2 and 3): LSQ+ ahead of LSQ, most at 2 bits; 4 bits within a point of
fp32. The deciding pair, LSQ against LSQ+ at 2 bits, gets `--seeds`.

Accuracies are of the exported file in ONNX Runtime, which has passed the parity gate, on all test pictures; differences
are paired, with 95 % intervals. Training is checkpointed; what is found in `--out` is not trained again. A cell takes
about ten minutes on one core.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto

from shoestring.compress import METHODS
from shoestring.compress.method import Applied
from shoestring.core.quality import top1
from shoestring.core.statistics import mean_difference_interval
from shoestring.deploy import parity, runtimes
from shoestring.deploy.archive import write_file
from shoestring.deploy.export import export
from shoestring.deploy.learned import realise
from shoestring.image.data import load_images
from shoestring.image.training import TrainingImages
from shoestring.measure import machine
from shoestring.models import zoo
from shoestring.pipeline.dataset import Dataset
from shoestring.pipeline.drawing import Inputs
from shoestring.pipeline.original import Original, resolve
from shoestring.train.loop import train
from shoestring.train.recipe import Recipe
from shoestring.train.run import Hooks

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "benchmarks/checkpoints/cifar_mobilenet.safetensors"
TESTS = ("tests/compress/lsq", "tests/graph/test_edges.py", "tests/train", "tests/deploy/test_learned.py")
NETWORK = "cifar_mobilenet"
EPOCHS = {"w8a8": 0.25, "w4a4": 1.0, "w3a3": 1.0, "w2a2": 1.0}
COLUMNS = ("lsq", "lsq+:config3:sigma", "lsq+:config4:sigma", "lsq+")  # sigma: as in the paper
POST_TRAINING = "lsq+"  # as it starts
DECIDING = ("w2a2", ("lsq", "lsq+:config4:sigma"))
BATCH, RATE, CALIBRATION = 64, 0.03, 256


@dataclass(frozen=True)
class Cell:
    """One network: `method` at `bits`, trained for `epochs` (0: the grids as they start)."""

    bits: str
    method: str
    epochs: float
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.method.replace(':', '-').replace('+', 'plus')}-{self.bits}-{self.epochs:g}-{self.seed}"


def main() -> int:
    args = arguments()
    if not (args.data / "train.npz").exists():
        print(f"skipped: no train.npz and test.npz in {args.data}; give --data DIR")
        return 0
    if not args.skip_tests and red():
        print("The tests of what is compared here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    original = resolve(NETWORK, str(WEIGHTS))
    pictures = load_images(args.data / "train.npz")
    test = load_images(args.data / "test.npz")
    spec = zoo.entry(NETWORK).preprocess
    judged, labels = Inputs(test, spec), np.array(test.targets)
    float_right = right(original.graph, judged, labels)
    print(f"fp32: {100 * float_right.mean():.2f} of {len(labels)} pictures", flush=True)
    rows = []
    for cell in cells(args.only or list(EPOCHS), args.seeds):
        place = args.out / f"{cell.name}.json"
        if not place.exists():
            applied = made(original, cell, pictures, spec, args)
            graph = realise(export(applied.bake(), original.input), applied.grids)
            moved = [judged[index] for index in range(8)]
            compared = parity.compare(graph, "onnxruntime", moved)
            parity.gate(compared)
            hits = right(graph, judged, labels)
            told = {**asdict(cell), "right": [int(hit) for hit in hits], "moved": compared.moved}
            write_file(place, json.dumps(told).encode())
        rows.append(json.loads(place.read_bytes()))
        print(line(rows[-1], float_right), flush=True)
    report(rows, float_right)
    if args.json:
        summary = [{**row, "right": sum(row["right"])} for row in rows]
        result = {"date": time.strftime("%Y-%m-%d"), "machine": machine.fingerprint(), "rate": RATE, "batch": BATCH}
        write_file(args.json, json.dumps({**result, "cells": summary}, indent=1).encode())
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = ROOT.parent / "shared/data/cifar10"
    parser.add_argument("--data", type=Path, default=place, help="holds train.npz and test.npz")
    parser.add_argument("--out", type=Path, default=Path("lsq-run"), help="folder; what is found in it is not repeated")
    parser.add_argument("--only", action="append", choices=list(EPOCHS), help="one row; may be repeated")
    parser.add_argument("--seeds", type=int, default=3, help="of the deciding pair")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def red() -> bool:
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *TESTS], cwd=ROOT).returncode != 0


def cells(rows: Sequence[str], seeds: int) -> list[Cell]:
    table = [Cell(bits, POST_TRAINING, 0.0) for bits in rows]
    table += [Cell(bits, method, EPOCHS[bits]) for bits in rows for method in COLUMNS]
    bits, pair = DECIDING
    repeated = [Cell(bits, method, EPOCHS[bits], seed) for seed in range(1, seeds) for method in pair]
    return table + (repeated if bits in rows else [])


def made(
    original: Original, cell: Cell, pictures: Dataset, spec: Mapping[str, object], args: argparse.Namespace
) -> Applied:
    """The network of a cell, trained; from the file in `--out` when it is there."""
    assert original.model is not None
    name, _, text = cell.method.partition(":")
    method = METHODS[name]
    setting = method.parse(":".join(filter(None, [cell.bits, text])))
    applied: Applied = method.apply(original.model, method.assign(original.of_kinds(method.CARD.kinds), setting))
    inputs = Inputs(pictures, spec)
    applied.settle([inputs[index] for index in range(CALIBRATION)])
    if not cell.epochs:
        return applied
    state = args.out / f"{cell.name}.pt"
    if state.exists():
        applied.freeze()
        applied.model.load_state_dict(torch.load(state, weights_only=True))
        return applied
    recipe = Recipe(epochs=cell.epochs, batch=BATCH, lr=RATE, seed=cell.seed)
    hooks = Hooks(applied.penalty, applied.on_step, applied.freeze)
    data = TrainingImages(pictures, spec, seed=cell.seed)
    folder, identity = args.out / cell.name, {"cell": cell.name}
    trained = train(applied.model, data, recipe, hooks, original.model, folder, identity)
    print(f"{cell.name}: {trained.seconds:.0f} s", flush=True)
    torch.save(applied.model.state_dict(), state)
    return applied


def right(graph: ModelProto, inputs: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Whether each picture's class is found, bool [n]."""
    session = runtimes.get("onnxruntime").open(graph.SerializeToString(), precision="fp32")
    outputs = np.concatenate([session(inputs[index])[0] for index in range(len(labels))])
    return top1(outputs) == labels


def difference(one: Sequence[int] | np.ndarray, other: Sequence[int] | np.ndarray) -> str:
    """Points by which the first is ahead, paired by picture, with the 95 % interval."""
    told = mean_difference_interval(np.asarray(one, float), np.asarray(other, float))
    return f"{100 * told.value:+.2f} [{100 * told.low:+.2f}, {100 * told.high:+.2f}]"


def line(row: Mapping[str, object], float_right: np.ndarray) -> str:
    hits = np.array(row["right"])
    how = f"{row['epochs']:g} epochs" if row["epochs"] else "post-training"
    name = f"{row['bits']} {row['method']}, {how}, seed {row['seed']}"
    return f"{name:46} {100 * hits.mean():6.2f}   against fp32 {difference(hits, float_right)}"


def report(rows: Sequence[Mapping[str, object]], float_right: np.ndarray) -> None:
    """The table, and the deciding pair seed by seed."""
    first = {(row["bits"], row["method"], bool(row["epochs"])): np.array(row["right"]) for row in rows[::-1]}
    print(f"\n| bits | post-training | {' | '.join(COLUMNS)} |\n|---|---|{'---|' * len(COLUMNS)}")
    for bits in dict.fromkeys(row["bits"] for row in rows):
        keys = [(bits, POST_TRAINING, False), *((bits, method, True) for method in COLUMNS)]
        told = [f"{100 * first[key].mean():.2f}" if key in first else "" for key in keys]
        print(f"| {str(bits).upper()} | {' | '.join(told)} |")
    print(f"\nfp32: {100 * float_right.mean():.2f}")
    bits, pair = DECIDING
    found = {(row["method"], row["seed"]): row["right"] for row in rows if row["bits"] == bits and row["epochs"]}
    for seed in sorted({int(str(seed)) for _, seed in found}):
        if all((method, seed) in found for method in pair):
            ahead = difference(found[pair[1], seed], found[pair[0], seed])
            print(f"{bits}, seed {seed}: {pair[1]} ahead of {pair[0]} by {ahead}")


if __name__ == "__main__":
    sys.exit(main())
