"""How far does one elastic file of a point network reach, in milliseconds and in quality?

    python benchmarks/points_ladder.py [--slim w=0.25..1:n=0.5,1:r=0.125,0.25,0.5,1] [--seconds 20] [--json FILE]
        [--data DIR|demo [--weights FILE] --epochs 30 --optimiser adamw --points 8 --out FILE.shoe]

The range: `point_mlp` and the networks at the ends of its elastic space, alone and together, in 8 bits, timed in turns
on each runtime here on one thread. Milliseconds do not depend on what the weights are, so that none are trained for
this. The bar: the largest takes at least 20 times as long as the smallest.

With `--data` (what `fit --data` takes, or `demo` for the made shapes) and `--epochs`: half of the clouds train the
network, unless `--weights` has it trained already, and then, as long again, the elastic one, half of whose loss are the
labels; the other half judges (`pipeline.drawing.samples`). Of `demo`, the first `--each` of each class train, as in
`train_points.py`, and numbers 1,000 to 1,039 judge, which nobody has seen. Each operating point of the file is printed
with its milliseconds and its accuracy; the network alone in fp32 and in 8 bits beside them. Nothing is tuned: these say
whether the points are in order, not how good a network can be.
"""

import argparse
import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from train_points import JUDGED, shapes

from shoestring.compress.slim.network import plain
from shoestring.compress.slim.space import Shape, Space, parse
from shoestring.compress.slim.views import Views, sides
from shoestring.core.budget import Budget
from shoestring.deploy import runtimes
from shoestring.graph.capture import capture
from shoestring.measure import machine
from shoestring.models import zoo
from shoestring.models.point_mlp import POINTS, PointMLP
from shoestring.models.weights import load_weights
from shoestring.pipeline.drafts import draft
from shoestring.pipeline.drawing import load, samples
from shoestring.pipeline.ladder import fit_ladder
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.request import Request
from shoestring.pipeline.stopwatch import milliseconds, takes
from shoestring.points.task import PointClassification
from shoestring.train.loop import train
from shoestring.train.recipe import OPTIMISERS, suited

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/compress/slim",
    "tests/graph/test_sampling.py",
    "tests/pipeline/test_drafts.py",
    "tests/cli/test_fit_clouds.py",
)
SLIM = "w=0.25..1:n=0.5,1:r=0.125,0.25,0.5,1"
BAR = 20.0
EACH = 40  # shapes of a class that judge, of demo


def main() -> int:
    options = arguments()
    if not options.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        print("The tests of what is measured here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    found: dict[str, Any] = {**machine.fingerprint(), "load_before": round(machine.load(), 2)}
    print(f"{found['processor']}, load {found['load_before']}", flush=True)
    if not options.no_range:
        found["range"] = reach(options)
    if options.data:
        found["points"] = ladder(options)
    found["load_after"] = round(machine.load(), 2)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slim", default=SLIM, help="the space, as behind --method slim:")
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing, at most, a runtime")
    parser.add_argument("--no-range", action="store_true")
    parser.add_argument("--data", help="as for fit, or demo")
    parser.add_argument("--epochs", type=float, default=30.0, help="of each of the two trainings")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--optimiser", default="adamw", choices=OPTIMISERS)
    parser.add_argument("--lr", type=float, help="as suits the optimiser without")
    parser.add_argument("--weights", type=Path, help="of the network, trained: .safetensors")
    parser.add_argument("--each", type=int, default=64, help="shapes of a class that train, of demo")
    parser.add_argument("--cloud", type=int, default=POINTS, help="points of the largest network's input")
    parser.add_argument("--points", type=int, default=8, help="operating points")
    parser.add_argument("--runtime", help="of the file; the fastest here without")
    parser.add_argument("--out", type=Path, default=Path("points_ladder.shoe"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def network(points: int, classes: int, weights: Path | None = None) -> Original:
    """Untrained, the same each time, without `weights`."""
    torch.manual_seed(0)
    shape = (points, 3)
    model = PointMLP(classes, points=points).eval()
    if weights is not None:
        load_weights(model, str(weights))
    captured = capture(model, shape)
    spec = {**zoo.entry("point_mlp").preprocess, "points": points}
    return remade(Original("point_mlp", onnx.ModelProto(), (), shape, preprocess=spec), captured)


def ends(space: Space) -> list[Shape]:
    """The largest, each axis alone at its smallest, and all of them."""
    large, small = space.largest, space.smallest
    names = ("width", "depth", "near", "side")
    alone = [replace(large, **{name: getattr(small, name)}) for name in names]
    return list(dict.fromkeys([large, *alone, replace(large, width=small.width, side=small.side), small]))


def reach(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    original = network(options.cloud, 40)
    assert original.model is not None
    views = Views(original.model, parse(options.slim))
    print(f"{views.space}: {len(list(views.space))} networks")
    graphs = {}
    for shape in ends(views.space):
        own = replace(original, input=sides(views.shape, shape.side))
        graphs[str(shape)] = draft(remade(own, plain(views, shape, original.noise())))
        print(f"made {shape}", flush=True)
    names = [name for name in runtimes.installed() if takes(name, graphs[str(views.space.largest)])]
    entrants = {f"{name} {shape}": (graph, name) for name in names for shape, graph in graphs.items()}
    told = {}
    for name in names:
        own = {key: value for key, value in entrants.items() if value[1] == name}
        times = milliseconds(own, 1, options.seconds)
        told[name] = {key.partition(" ")[2]: ms for key, ms in times.items()}
    told["stock"] = fp32(original, options.seconds)
    print(f"\n{'ms':28}" + "".join(f"{name:>14}" for name in names))
    for shape in graphs:
        print(f"{shape:28}" + "".join(f"{told[name][shape]:14.3f}" for name in names))
    first, last = next(iter(graphs)), list(graphs)[-1]
    ratios = {name: told[name][first] / told[name][last] for name in names}
    verdicts = {name: "met" if ratio >= BAR else "missed" for name, ratio in ratios.items()}
    print(f"{'largest / smallest':28}" + "".join(f"{ratio:13.1f}x" for ratio in ratios.values()))
    print(f"{f'bar of {BAR:g}x':28}" + "".join(f"{verdict:>14}" for verdict in verdicts.values()))
    print(f"fp32: {', '.join(f'{name} {ms:.3f} ms' for name, ms in told['stock'].items())}\n", flush=True)
    return told


def fp32(original: Original, seconds: float) -> dict[str, float]:
    stock = {name: (original.graph, name) for name in runtimes.installed(runtimes.STOCK)}
    return milliseconds(stock, 1, seconds, floats=stock.keys())


def ladder(options: argparse.Namespace) -> list[dict[str, Any]]:
    spec = {**zoo.entry("point_mlp").preprocess, "points": options.cloud}
    demo = options.data == "demo"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # clouds without a label are left out
        task = PointClassification(spec)
        dataset = shapes(range(options.each)) if demo else load(options.data, False, task)
    classes = len(dataset.names)
    task = PointClassification(spec, dataset.names, outputs=classes)
    given = samples(dataset, task, judge=shapes(JUDGED[:EACH]) if demo else None, train=True)
    assert given.training is not None
    original = network(options.cloud, classes, options.weights)
    assert original.model is not None
    print(f"{len(given.training)} clouds of {classes} classes train, {len(given.judgement)} judge", flush=True)

    asked = {} if options.lr is None else {"lr": options.lr}
    recipe = suited(options.epochs, options.optimiser, batch=options.batch, ema=0.99, distil=0.0, **asked)
    if options.weights is None:
        folder = options.out.with_suffix(".original")
        train(original.model, given.training, recipe, folder=folder, progress=Shown())
        original = remade(original, original.model.eval())
    request = Request(
        options.out,
        Budget(),
        recipe=replace(recipe, distil=0.5),
        runtime=options.runtime,
        ladder=options.points,
        slim=options.slim,
        preprocess=spec,
        labels=dataset.names,
    )
    done = fit_ladder(original, given, request, Shown())
    assert done is not None
    quality = done.receipt.quality
    assert quality is not None
    print(f"\nalone ({quality.n} clouds):")
    for one in done.receipt.baselines:
        print(f"{one.name + ' on ' + one.runtime:28}{one.latency_ms:10.3f} ms {one.quality or np.nan:6.1f} %")
    print(f"\npoints of {done.path}, on {done.receipt.subject.runtime}:")
    for rung in done.receipt.ladder:
        print(f"{rung.shape:28}{rung.latency_ms:10.3f} ms {rung.quality or np.nan:6.1f} %")
    first, last = done.receipt.ladder[0].latency_ms, done.receipt.ladder[-1].latency_ms
    difference = f"{quality.difference:+.2f} points [{quality.low:+.2f}, {quality.high:+.2f}]"
    print(f"range {last / first:.1f}x; the richest against the network alone in fp32: {difference}", flush=True)
    return [vars(rung) for rung in done.receipt.ladder]


class Shown:
    """A line for each tenth of a stage."""

    def __init__(self) -> None:
        self.last = ("", -1)

    def __call__(self, stage: str, share: float) -> None:
        now = (stage.partition(",")[0], int(10 * share))
        if now != self.last:
            print(f"{stage} {100 * share:.0f} %", flush=True)
            self.last = now


if __name__ == "__main__":
    sys.exit(main())
