"""What do early exits save, and what do they cost? A network on CIFAR-10, 8 bits, one thread.

    python benchmarks/exits_cifar10.py [--data DIR] [--exits 2] [--epochs 6] [--lr 0.05] [--out FILE.shoe]

One trained network (`checkpoints/cifar_mobilenet.safetensors`, swish) gets exits, learns with them from itself, and is
written as a file whose points are a chain. 5,000 training pictures are held: they train nothing, and thresholds are
chosen on them, for several limits of points lost against the whole network. Accuracies are of the test pictures,
of the stages of the file in the runtime that is timed; differences are paired by picture, with 95 % intervals. The bar:
the accuracy of the network in fp32 less 0.5 point at 60 % of the mean time of the same network without exits.

A file that is there already is measured again, not trained again; a training that was stopped goes on.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from shoestring.core.statistics import mean_difference_interval
from shoestring.deploy import shoe
from shoestring.deploy.chain import join
from shoestring.deploy.rewrite import infer
from shoestring.deploy.wire import parse_model
from shoestring.image.fitting import image_task
from shoestring.pipeline.chain import Chain
from shoestring.pipeline.drawing import samples
from shoestring.pipeline.exiting import fit_exits
from shoestring.pipeline.leaving import left, rules
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import outputs
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.stopwatch import chained
from shoestring.train.recipe import Recipe

ROOT = Path(__file__).parents[1]
NETWORK = "cifar_mobilenet"
WEIGHTS = ROOT / "benchmarks/checkpoints/cifar_mobilenet.safetensors"
TESTS = ("tests/compress/exits", *(f"tests/pipeline/test_{name}.py" for name in ("chain", "leaving", "exiting")))
LIMITS = (0.0, 0.25, 0.5, 1.0, 2.0)  # points lost, on the pictures that are held
CALIBRATION = 256
POINTS, SHARE = 0.5, 0.6  # the bar


def main() -> int:
    options = arguments()
    if not (options.data / "train.npz").exists():
        print(f"skipped: no {options.data / 'train.npz'}; give --data DIR")
        return 0
    if not options.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        print("The tests of what is measured here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(options.threads)
    original = resolve(NETWORK, str(WEIGHTS))
    task = image_task(original)
    train, test = (task.load(options.data / f"{name}.npz") for name in ("train", "test"))
    given = samples(train, task, CALIBRATION, 0, test, train=True, hold=True)
    if not options.out.exists():
        recipe = Recipe(epochs=options.epochs, batch=options.batch, lr=options.lr, distil=options.distil)
        request = Request(options.out, exits=options.exits, recipe=recipe, runtime=options.runtime)
        fit_exits(original, given, request, told)
    table(original, given, options.out, options.seconds)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/cifar10", help="train.npz, test.npz")
    parser.add_argument("--exits", default="2", help="as in --method exits:...")
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--lr", type=float, default=0.05, help="the highest learning rate")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--distil", type=float, default=1.0, help="the teacher's part of the loss")
    parser.add_argument("--runtime", help="default: the one on which the chain is fastest")
    parser.add_argument("--out", type=Path, default=Path("exits-cifar10.shoe"))
    parser.add_argument("--threads", type=int, default=1, help="of the training; timing has one")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing, at most")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def table(original: Original, data: Samples, file: Path, seconds: float) -> None:
    """Everything of the file as it is there."""
    found = chain_of(file, seconds)
    answers = found.answers(data.judgement)
    full = outputs(original.graph, "onnxruntime", data.judgement)
    print(f"\n{file}: {found.runtime}, one thread, {len(data.judgement)} pictures\n")
    print("| | ms | of the network without exits | top-1 | against fp32, points | leave at each exit, % |")
    print("|---|---|---|---|---|---|")
    row("fp32", None, found.bare_ms, full, full, data)
    row("8 bits, without exits", found.bare_ms, found.bare_ms, answers[-1], full, data)
    for index, (ms, own) in enumerate(zip(found.ms, answers, strict=True)):
        name = "all stages" if index + 1 == len(answers) else f"all leave at {shape(file, index)}"
        row(name, ms, found.bare_ms, own, full, data)
    for limit in LIMITS:
        decided = rules(found, data, limit)
        gone = left(found, answers, decided, data)
        shares = ", ".join(f"{100 * share:.0f}" for share in gone.shares)
        row(f"early, at most {limit:g} points", gone.ms, found.bare_ms, gone.answers, full, data, shares)
        lost = 100 * (right(full, data).mean() - right(gone.answers, data).mean())
        if lost <= POINTS and gone.ms <= SHARE * found.bare_ms:
            print(
                f"\nThe bar is met with {limit:g}: {lost:.2f} points at {gone.ms / found.bare_ms:.2f}x.\n", flush=True
            )


def chain_of(file: Path, seconds: float) -> Chain:
    """The stages of a file, timed again, in turns with the network without exits."""
    artifact = shoe.read(file)
    stages = tuple(infer(parse_model(artifact.onnx(point))) for point in range(len(artifact.points)))
    bare, runtime = join(stages), str(artifact.points[-1].measured["runtime"])
    chains = {str(index): stages[: index + 1] for index in range(len(stages))} | {"bare": (bare,)}
    times = chained(chains, runtime, 1, seconds)
    ms = tuple(times[str(index)] for index in range(len(stages)))
    return Chain(bare, stages, bare, runtime, 1, ms, times["bare"])


def shape(file: Path, point: int) -> str:
    return str(shoe.read(file).points[point].measured["shape"]).removeprefix("exit at ")


def right(found: np.ndarray, data: Samples) -> np.ndarray:
    assert data.scores is not None
    assert data.targets is not None
    return data.scores(found, data.targets)


def row(  # noqa: PLR0913 - a row of the table
    name: str, ms: float | None, bare: float, found: np.ndarray, full: np.ndarray, data: Samples, shares: str = ""
) -> None:
    own, theirs = right(found, data), right(full, data)
    gap = mean_difference_interval(own, theirs)
    spent = ("", "") if ms is None else (f"{ms:.3f}", f"{ms / bare:.2f}x")
    span = f"{100 * gap.value:+.2f} [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
    print(f"| {name} | {spent[0]} | {spent[1]} | {100 * own.mean():.2f} | {span} | {shares} |", flush=True)


def told(stage: str, share: float, shown: Sequence[list[str]] = ([],)) -> None:
    """Training takes long: a line for each tenth."""
    line = f"{stage.split(',')[0]} {int(10 * share) * 10} %"
    if line not in shown[0]:
        shown[0].append(line)
        print(f"{time.strftime('%H:%M')} {stage} {share:.0%}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
