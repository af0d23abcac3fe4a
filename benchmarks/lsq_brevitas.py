"""Is our LSQ as quick to train and as good as Brevitas'? A swish network on CIFAR-10 at 4 and 2 bits, one thread.

    python benchmarks/lsq_brevitas.py [--data DIR] [--out DIR] [--epochs 0.25] [--only w2a2] [--seeds 1] [--skip-tests]

One trained network (`checkpoints/cifar_mobilenet.safetensors`), quantised by `lsq` and by Brevitas with learned scales
(`brevitas_lsq/network.py`: the same tensors, bits and signs), trained by the same loop: the teacher is the network
itself (labels are not used), the same batches in the same order, SGD with the same rate. No weight decay: the scales
of Brevitas have four dimensions, and the loop decays what has two or more. `lsq` must

- take at most 1.1 times as long as Brevitas (a whole training step, CPU time, paired in turns);
- be no worse on all test pictures than Brevitas beyond noise: the paired 95 % interval reaches 0 or more. Brevitas
  starts its scales where the squared error is least (against `lsq:mse`), and in another column where `lsq` starts.

Judged is the network as it trains, in eval mode. `lsq+` stands beside them. Brevitas goes into the folder
`.venv-brevitas`, which the first run makes, without what it needs: torch and all else are the project's own, as one
process has to time both. BREVITAS_JIT stays off, since what finds the start of its scales cannot be compiled; with
starts that can be, compiling changed the ratio of times little (0.58 for 0.52). Trained networks' answers are kept in
`--out`; what is there is not trained again. A network takes about four minutes on one core.
"""

import argparse
import copy
import json
import site
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lsq_cifar10 import BATCH, CALIBRATION, NETWORK, RATE, ROOT, WEIGHTS
from torch import Tensor, fx, nn

from shoestring.compress import METHODS
from shoestring.compress.lsq.network import Quantised
from shoestring.core.receipt import FAILS, HOLDS
from shoestring.core.statistics import Interval, judge, mean_difference_interval
from shoestring.deploy.archive import write_file
from shoestring.image.data import load_images
from shoestring.image.training import TrainingImages
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, Timings, interleave
from shoestring.models import zoo
from shoestring.pipeline.drawing import Inputs
from shoestring.pipeline.original import Original, resolve
from shoestring.train.distil import criterion
from shoestring.train.layout import choose_layout
from shoestring.train.loop import train
from shoestring.train.processes import World
from shoestring.train.recipe import Recipe
from shoestring.train.run import Hooks, Run

BREVITAS_FOLDER, REQUIREMENTS = ROOT / ".venv-brevitas", ROOT / "benchmarks/brevitas_lsq/requirements.txt"
TESTS = (
    "tests/compress/lsq",
    "tests/core/test_statistics.py",
    "tests/graph/test_edges.py",
    "tests/image/test_training.py",
    "tests/measure/test_timing.py",
    "tests/train",
)
BITS = ("w4a4", "w2a2")
OURS, PLUS, BREVITAS, SAME_START, FP32 = "lsq", "lsq+", "brevitas", "brevitas, our start", "fp32"
LEAST_ERROR = "lsq:mse"
COLUMNS = (OURS, LEAST_ERROR, BREVITAS, SAME_START, PLUS)
# Brevitas starts its scales where the squared error is least, or where ours start: each against ours with that start.
RIVALS = {BREVITAS: LEAST_ERROR, SAME_START: OURS}
SLOWER = 1.1


@dataclass(frozen=True)
class Setup:
    """What all networks share. `config`: of `lsq`; 1 has activations unsigned behind an activation, 2 signed."""

    data: Path
    config: int

    @cached_property
    def original(self) -> Original:
        return resolve(NETWORK, str(WEIGHTS))

    def copied(self) -> fx.GraphModule:
        """The float network, nobody else's."""
        assert self.original.model is not None, "it comes from the zoo"
        return copy.deepcopy(self.original.model)

    @cached_property
    def calibration(self) -> list[np.ndarray]:
        inputs = Inputs(load_images(self.data / "train.npz"), zoo.entry(NETWORK).preprocess)
        return [inputs[index] for index in range(CALIBRATION)]

    @cached_property
    def test(self) -> tuple[Tensor, np.ndarray]:
        """Pictures float32 [n, C, H, W] and labels [n]."""
        test = load_images(self.data / "test.npz")
        inputs = Inputs(test, zoo.entry(NETWORK).preprocess)
        return torch.from_numpy(np.concatenate([inputs[i] for i in range(len(inputs))])), np.array(test.targets)

    def training(self, seed: int) -> TrainingImages:
        return TrainingImages(load_images(self.data / "train.npz"), zoo.entry(NETWORK).preprocess, seed)

    def ours(self, bits: str, method: str = OURS) -> Quantised:
        name, _, start = method.partition(":")
        kind, config = METHODS[name], f"config{self.config}" if name == OURS else ""
        setting = kind.parse(":".join(filter(None, (bits, config, start))))
        layers = self.original.of_kinds(kind.CARD.kinds)
        applied = kind.apply(self.copied(), kind.assign(layers, setting))
        assert isinstance(applied, Quantised), "both methods give it"
        applied.settle(self.calibration)
        return applied

    def network(self, bits: str, column: str) -> tuple[nn.Module, Hooks]:
        if column in (OURS, LEAST_ERROR, PLUS):
            applied = self.ours(bits, column)
            return applied.model, Hooks(applied.penalty, applied.on_step, applied.freeze)
        from brevitas_lsq.network import rival  # the first run has only now installed Brevitas

        return rival(self.copied(), self.ours(bits), self.calibration, column == SAME_START), Hooks()


@dataclass(frozen=True)
class Bar:
    """A claim: `interval` holds against `limit`, as `verdict` says."""

    claim: str
    interval: Interval
    limit: float
    verdict: str


def main() -> int:
    options = arguments()
    if not (options.data / "train.npz").is_file():
        print(f"skipped: no train.npz and test.npz in {options.data}; give --data DIR")
        return 0
    if not options.skip_tests and red():
        print("The tests of what is compared here are red: nothing was measured.", file=sys.stderr)
        return 1
    install_brevitas()
    torch.set_num_threads(1)
    load, setup = machine.load(), Setup(options.data, options.config)
    recipe = Recipe(epochs=options.epochs, batch=BATCH, lr=options.rate, weight_decay=0.0)
    timings = None if options.seconds <= 0 else timed(setup, options.seconds)
    rows = options.only or BITS
    cells = {(bits, column): answers(setup, bits, column, recipe, options) for bits in rows for column in COLUMNS}
    bars = [*([] if timings is None else [speed_bar(timings)]), *accuracy_bars(cells)]
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine.fingerprint(), "load_before": round(load, 2), "load_after": round(machine.load(), 2)},
        "versions": {name: version(name) for name in ("torch", "brevitas")},
        "training": {**asdict(recipe), "config": options.config, "seeds": options.seeds},
        "step_ms": {} if timings is None else {name: timings.measurement(name).value for name in timings.cpu},
        "top1": {
            FP32: 100 * right(setup.copied(), setup).mean(),
            **{" ".join(k): 100 * v.mean() for k, v in cells.items()},
        },
        "bars": [asdict(bar) for bar in bars],
        "passed": all(bar.verdict == HOLDS for bar in bars),
    }
    print_report(result, bars)
    if options.json:
        write_file(options.json, json.dumps(result, indent=1).encode())
    return 0 if result["passed"] else 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cifar = ROOT.parent / "shared/data/cifar10"
    parser.add_argument("--data", type=Path, default=cifar, help="holds train.npz and test.npz")
    parser.add_argument("--out", type=Path, default=Path("lsq-brevitas-run"), help="what is found here is not repeated")
    parser.add_argument("--epochs", type=float, default=0.25, help="of every network")
    parser.add_argument("--only", action="append", help="bits: one row of the table; may be repeated")
    parser.add_argument("--config", type=int, default=1, choices=(1, 2), help="of lsq")
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seeds", type=int, default=1, help="networks of each kind; their answers are averaged")
    parser.add_argument("--seconds", type=float, default=240.0, help="at most this long for the timing; 0 for none")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def red() -> bool:
    tests = [test for test in TESTS if (ROOT / test).exists()]
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *tests], cwd=ROOT).returncode != 0


def install_brevitas() -> None:
    """Makes Brevitas importable, behind all that the project has itself."""
    wanted, installed = REQUIREMENTS.read_bytes(), BREVITAS_FOLDER / "installed"
    if not (installed.exists() and installed.read_bytes() == wanted):
        command = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--upgrade"]
        subprocess.run([*command, "--target", str(BREVITAS_FOLDER), "-r", str(REQUIREMENTS)], check=True)
        installed.write_bytes(wanted)
    site.addsitedir(str(BREVITAS_FOLDER))


def timed(setup: Setup, seconds: float) -> Timings:
    """A training step of each, at 4 bits: teacher, forward, backward, optimiser, average. Decoding is not in it."""
    print(f"timing for {seconds:.0f} s ...", flush=True)
    pictures = torch.tensor(next(setup.training(0).epoch(0, BATCH))[0])
    with ExitStack() as stack:
        kinds = {name: setup.network("w4a4", name)[0] for name in (OURS, BREVITAS, PLUS)}
        kinds[FP32] = setup.copied()
        steps = {name: step(network, setup, pictures, stack) for name, network in kinds.items()}
        return interleave(steps, Schedule(seconds=seconds, rounds=(12, 200), warm_up=2))


def step(network: nn.Module, setup: Setup, pictures: Tensor, stack: ExitStack) -> Callable[[], None]:
    """What the loop does with a batch."""
    recipe, teacher = Recipe(epochs=1, batch=BATCH, lr=1e-6, weight_decay=0.0), setup.copied()
    layout = choose_layout([network.eval(), teacher.eval()], pictures)
    run = Run(network.train(), recipe, Hooks(), 10**6, World(torch.device("cpu")))
    loss = stack.enter_context(criterion(network, teacher, recipe))
    inputs, labels = pictures.contiguous(memory_format=layout), torch.full((BATCH,), -1)
    return lambda: run.advance(loss(inputs, labels))


def answers(setup: Setup, bits: str, column: str, recipe: Recipe, options: argparse.Namespace) -> np.ndarray:
    """For each test picture the share of seeds that are right about it, from files where they were trained before."""
    shares = []
    for seed in range(options.seeds):
        words = [column.replace(", ", "-").replace(" ", "-"), bits, f"config{setup.config}"]
        name = "_".join([*words, f"{recipe.epochs:g}", f"{recipe.lr:g}", str(seed)])
        file = options.out / f"{name}.json"
        if not file.exists():
            network, hooks = setup.network(bits, column)
            before = time.process_time()
            train(network, setup.training(seed), recipe, hooks, teacher=setup.copied())
            seconds = time.process_time() - before
            found = right(network, setup)
            print(f"{name}: {100 * found.mean():.2f} % after {seconds:.0f} s of CPU time", flush=True)
            kept = {"right": "".join(map(str, found.astype(int))), "cpu_seconds": seconds}
            options.out.mkdir(parents=True, exist_ok=True)
            write_file(file, json.dumps(kept).encode())
        shares.append([int(digit) for digit in json.loads(file.read_text())["right"]])
    return np.mean(shares, axis=0)


@torch.no_grad()
def right(network: nn.Module, setup: Setup) -> np.ndarray:
    """Whether the network is right about each test picture, bool [n]."""
    pictures, labels = setup.test
    network.eval()
    return np.concatenate([network(some).argmax(1).numpy() for some in pictures.split(250)]) == labels


def speed_bar(timings: Timings) -> Bar:
    ratio = timings.ratio(BREVITAS, OURS)  # ours / Brevitas
    return Bar("time of a training step, lsq / brevitas, at most", ratio, SLOWER, judge(ratio, "<=", SLOWER))


def accuracy_bars(cells: Mapping[tuple[str, str], np.ndarray]) -> Iterator[Bar]:
    for (bits, column), theirs in cells.items():
        if column in RIVALS:
            share = mean_difference_interval(cells[bits, RIVALS[column]], theirs)
            found = Interval(100 * share.value, 100 * share.low, 100 * share.high, share.n)
            verdict = HOLDS if found.high >= 0 else FAILS
            yield Bar(f"{bits}: top-1 points, {RIVALS[column]} - {column}, the interval reaches", found, 0.0, verdict)


def print_report(result: Mapping[str, Any], bars: Sequence[Bar]) -> None:
    print()
    for name in ("date", "machine", "versions", "training"):
        print(f"{name}: {result[name]}")
    print()
    for name, ms in result["step_ms"].items():
        print(f"{name:32}{ms:8.1f} ms CPU time a step of {BATCH}")
    for name, top1 in result["top1"].items():
        print(f"{name:32}{top1:8.2f} % top-1")
    print()
    for bar in bars:
        found = bar.interval
        print(f"{bar.verdict:10}{bar.claim} {bar.limit}: {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]")


if __name__ == "__main__":
    sys.exit(main())
