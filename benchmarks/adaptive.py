"""One elastic network against networks of one size each: CIFAR-10, the swish network of `train_cifar10.py`.

    python benchmarks/adaptive.py [--part elastic|alone|front] [--epochs 8] [--data DIR] [--out DIR]

- `elastic`: `fit --ladder 5` on the training pictures, from the trained network; one file, its receipt judged on the
  test pictures.
- `alone`: for each point of that file a network of its own: the same part of the same weights, trained as long, by the
  same recipe, with nothing else to do. It has batch norms of its own and is quantised on its own.
- `front`: all of them timed in turns in one process, on the ladder's runtime, beside the original in fp32 on OpenVINO.

The bars: at least five points from one training, each within 0.7 points of the network trained alone; on the Pareto
front of the single ones in measured milliseconds over a range of 4x or more; memory of all points at most 1.1 times
that of the largest alone. The governor has its own script (`governor.py`), early exits too (`exits_cifar10.py`). What
is found in `--out` is not made again, and training that was stopped goes on.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from reconstruct import PICTURES, WEIGHTS, pictures, quiet

from shoestring.compress.method import Applied
from shoestring.compress.slim.network import apply, plain, resized
from shoestring.compress.slim.space import Shape, parse
from shoestring.compress.slim.views import Views, sides
from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.archive import write_file
from shoestring.deploy.preprocess import at_size
from shoestring.image.data import load_images
from shoestring.image.training import TrainingImages
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, interleave
from shoestring.models import zoo
from shoestring.pipeline.drawing import Inputs
from shoestring.pipeline.following import Place, follow
from shoestring.pipeline.judge import quality
from shoestring.pipeline.ladder import fit_ladder
from shoestring.pipeline.original import Original, remade, resolve
from shoestring.pipeline.post_training import eight_bit, outputs
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

ROOT = Path(__file__).parents[1]
TESTS = ("tests/compress/slim", "tests/deploy/test_sharing.py", "tests/pipeline/test_elastic.py")
PARTS = ("elastic", "alone", "front")
POINTS = 5


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
    for part in options.part or PARTS:
        getattr(bench, part)()
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated; all without")
    parser.add_argument("--data", type=Path, help="the folder of train.npz, test.npz")
    parser.add_argument("--epochs", type=float, default=8.0, help="of each training")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--slim", default="", help="what may be smaller, as behind --method slim:")
    parser.add_argument("--only", type=int, action="append", help="a point to train alone, by its number")
    parser.add_argument("--out", type=Path, default=Path("adaptive"), help="folder; what is in it is not made again")
    parser.add_argument("--threads", type=int, default=1, help="of the training; timing has one")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the timing, at most")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    found = parser.parse_args()
    found.data = found.data or ROOT.parent / "shared/data/cifar10"
    return found


class Bench:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.original = resolve(PICTURES, WEIGHTS[PICTURES])
        self.spec = zoo.entry(PICTURES).preprocess
        self.train, self.test = (load_images(options.data / f"{part}.npz") for part in ("train", "test"))
        self.data = replace(pictures(options), training=TrainingImages(self.train, self.spec, 0), resized=self.resized)
        self.recipe = Recipe(epochs=options.epochs, lr=options.lr, distil=0.5)
        self.file = options.out / "ladder.shoe"

    def resized(self, shape: tuple[int, ...]) -> Samples:
        few, judged = (Inputs(part, at_size(self.spec, shape)) for part in (self.train, self.test))
        return replace(self.data, calibration=[few[i] for i in range(len(self.data.calibration))], judgement=judged)

    def elastic(self) -> None:
        if not self.file.exists():
            request = Request(
                self.file, recipe=self.recipe, ladder=POINTS, slim=self.options.slim, preprocess=self.spec, seconds=20.0
            )
            began = time.monotonic()
            found = fit_ladder(self.original, self.data, request, told)
            assert found is not None, "one process"
            rows = [{"shape": str(one.shape), "kept": one.kept, "ms": one.ms} for one in found.candidates]
            write_file(self.file.with_suffix(".json"), json.dumps(rows, indent=1).encode())
            print(f"made {self.file} in {time.monotonic() - began:.0f} s", flush=True)
        receipt = shoe.read(self.file).receipt
        assert receipt is not None, "it was measured"
        print("\n| point | ms | top-1 | against fp32, points | MB |\n|---|---|---|---|---|")
        for rung in receipt.ladder:
            print(
                f"| `{rung.shape}` | {rung.latency_ms:.3f} | {rung.quality:.2f} | {rung.difference:+.2f} "
                f"[{rung.low:+.2f}, {rung.high:+.2f}] | {rung.peak_mb:.1f} |"
            )
        self.memory()

    def memory(self) -> None:
        """What all points take in the engine, beside the largest alone."""
        artifact = shoe.read(self.file)
        graphs = [artifact.onnx(index) for index in range(len(artifact.points))]
        try:
            together = runtimes.get("engine").open_all(graphs)
            (alone,) = runtimes.get("engine").open_all(graphs[-1:])
        except BadInput as error:
            print(f"memory: {error}")
            return
        total, one = sum(session.memory_bytes for session in together), alone.memory_bytes
        print(f"\nMemory in the engine: {len(graphs)} points {total:,} bytes, the largest {one:,}: {total / one:.3f}x")

    def alone(self) -> None:
        """Each point's network, trained with nothing else to do."""
        assert self.original.model is not None, "a network of the zoo"
        views = apply(self.original.model, parse(self.options.slim)).views
        for index, point in enumerate(shoe.read(self.file).points):
            if self.options.only and index not in self.options.only:
                continue
            told_in = self.options.out / f"alone-{index}.json"
            if not told_in.exists():
                graph = self.trained(views, shape_of(point.measured["shape"]), index)
                onnx.save(graph, told_in.with_suffix(".onnx"))
                judged = self.judged(graph)
                write_file(told_in, json.dumps({"shape": point.measured["shape"], **judged}).encode())
            print(f"alone {point.measured['shape']}: {json.loads(told_in.read_bytes())['subject']:.2f}", flush=True)

    def trained(self, views: Views, shape: Shape, index: int) -> onnx.ModelProto:
        small = plain(views, shape, self.data.calibration)
        given = tuple(int(size) for size in views.shape)
        size = sides(given, shape.side)
        for parameter in small.parameters():
            parameter.requires_grad_(True)
        own = replace(self.original, input=size)
        data = self.data if size == given else self.resized(size)
        applied = Applied(Small(small, views.shape, shape))
        place = Place(self.options.out / f"alone-{index}.training", {"alone": str(shape)})
        follow(self.original, applied.model, applied, self.data, self.recipe, place, told)
        network: Original = remade(own, small)
        return eight_bit(network, data).build()

    def judged(self, graph: onnx.ModelProto) -> Mapping[str, Any]:
        size = tuple(axis.dim_value for axis in graph.graph.input[0].type.tensor_type.shape.dim)[1:]
        data = self.data if size == self.original.input else self.resized(size)
        theirs = outputs(self.original.graph, "onnxruntime", self.data.judgement)
        found = quality(outputs(graph, "onnxruntime", data.judgement), theirs, data)
        return {"subject": found.subject, "difference": found.difference, "low": found.low, "high": found.high}

    def front(self) -> None:
        artifact = shoe.read(self.file)
        runtime = artifact.points[-1].measured["runtime"]
        graphs = {f"point {i}": artifact.onnx(i) for i in range(len(artifact.points))}
        for path in sorted(self.options.out.glob("alone-*.onnx")):
            graphs[path.stem.replace("-", " ")] = path.read_bytes()
        with machine.pinned(1):
            sessions = {name: runtimes.get(runtime).open(graph, threads=1) for name, graph in graphs.items()}
            fp32 = runtimes.get("openvino").open(self.original.graph.SerializeToString(), threads=1, precision="fp32")
            sessions["original"] = fp32
            subjects = {name: bound(session) for name, session in sessions.items()}
            timings = interleave(subjects, Schedule(seconds=self.options.seconds, rounds=(40, 4000)))
        print("\n| | ms | top-1 | trained alone, top-1 | points behind it |\n|---|---|---|---|---|")
        for index, point in enumerate(artifact.points):
            path = self.options.out / f"alone-{index}.json"
            alone = json.loads(path.read_bytes())["subject"] if path.exists() else None
            ours = point.measured["quality"]
            behind = f"{alone:.2f} | {alone - ours:+.2f}" if alone is not None else "|"
            ms = timings.measurement(f"point {index}").value
            print(f"| `{point.measured['shape']}` | {ms:.3f} | {ours:.2f} | {behind} |")
        first, last = (timings.measurement(f"point {i}").value for i in (0, len(artifact.points) - 1))
        print(
            f"\nRange: {last / first:.1f}x. The original in fp32 takes {timings.measurement('original').value:.3f} ms."
        )


class Small(torch.nn.Module):
    """Takes inputs of full size, as the original that leads it does."""

    def __init__(self, gm: torch.fx.GraphModule, full: tuple[int, ...], shape: Shape):
        super().__init__()
        self.gm, self.full, self.side = gm, full, shape.side

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gm(resized(x, self.full, self.side))


def bound(session: Any) -> Any:
    x = np.zeros(session.inputs[0].shape, np.float32)
    return lambda: session(x)


def shape_of(text: str) -> Shape:
    """What `str(Shape)` wrote."""
    told = dict(word.split("=") for word in text.split(":"))
    return Shape(float(told["w"]), int(told.get("d", 0)), int(told.get("k", 0)), float(told.get("r", 1)))


def told(stage: str, share: float) -> None:
    """Training takes long: a line for each tenth."""
    if not stage.startswith("training"):
        quiet(stage, share)
    elif int(10 * share) > _SHOWN.get("training", -1):
        _SHOWN["training"] = int(10 * share)
        print(f"{time.strftime('%H:%M')} {stage} {share:.0%}", file=sys.stderr, flush=True)
    if share >= 1:
        _SHOWN.clear()


_SHOWN: dict[str, int] = {}


if __name__ == "__main__":
    sys.exit(main())
