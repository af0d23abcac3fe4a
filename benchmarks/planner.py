"""Is a mix that the planner chose ahead of each method alone? Are its costs and losses what it thinks they are?

    python benchmarks/planner.py [--network efficientnet_lite0|cifar_mobilenet] [--part table|ranks|front] [--out DIR]

EfficientNet-Lite0 with 250 photographs of ImageNet to calibrate and as many to judge, and a small swish network for
CIFAR-10 with 250 training pictures to calibrate and the test pictures to judge. Nothing is trained.

- `table`: the seconds that the latency tables take (bar: 300 for EfficientNet-Lite0), and how far the milliseconds of
  30 random plans are from the sums of the table, on every runtime, each plan timed whole, in turns with dense 8 bits,
  to whose time both are relative: machines are not as fast at all hours (bar: 5 % at the median). "Corrected": by the
  ratio that the first of them showed, as `fit` corrects.
- `ranks`: the rank correlation of the predicted loss of 30 random plans with what they do when they have been made and
  reconstructed: the squared error of the outputs and the points of probability moved, on inputs that judge (bar: 0.8).
- `trained` (CIFAR-10): plans at fewer milliseconds, trained for `--epochs`; `front` shows them with the others.
- `front`: single methods, reconstructed, each timed on the runtime where it is fastest; for each, the plan within its
  milliseconds. All files and NNCF's default 8 bits in OpenVINO are timed in turns in one process. The bars: at equal
  milliseconds more top-1 (or more probability kept), and at equal quality fewer milliseconds, than any single method;
  on CIFAR-10 at most one point lost at twice the speed of NNCF's 8 bits in OpenVINO.

What is found in `--out` is not made again.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from int8_bars import NNCF_FOLDER, nncf_python
from onnx import ModelProto
from reconstruct import PHOTOGRAPHS, PICTURES, WEIGHTS, photographs, pictures, quiet
from scipy.stats import spearmanr

from shoestring.compress import int8, magnitude
from shoestring.core.budget import Budget
from shoestring.core.errors import ShoestringError
from shoestring.core.proposal import UNCHANGED
from shoestring.core.quality import distance, relative_error
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.deploy.grids import stored
from shoestring.deploy.rewrite import shapes
from shoestring.deploy.walk import section
from shoestring.image.data import load_images
from shoestring.image.training import TrainingImages
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, interleave
from shoestring.models import zoo
from shoestring.pipeline import sparsity
from shoestring.pipeline.asked import asked
from shoestring.pipeline.borders import crossed
from shoestring.pipeline.costs import ENGINE
from shoestring.pipeline.judge import quality
from shoestring.pipeline.making import make
from shoestring.pipeline.original import resolve
from shoestring.pipeline.plan import Ground, ground, steps
from shoestring.pipeline.planned import planned
from shoestring.pipeline.post_training import calibrate, eight_bit, outputs
from shoestring.pipeline.pruning import prune
from shoestring.pipeline.request import Request
from shoestring.pipeline.resume import forget
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.search import MARGIN, draft
from shoestring.pipeline.stopwatch import against, milliseconds, takes
from shoestring.train.recipe import Recipe

ROOT = Path(__file__).parents[1]
TESTS = [f"tests/pipeline/test_{name}.py" for name in ("menus", "sensitivity", "plan", "search", "planned", "table")]
PARTS = ("table", "ranks", "front", "trained")
TRAINED = (0.46, 0.5)  # of the original's milliseconds
PLANS = 30
ALONE = 5  # layers that are timed by themselves
RUNTIME = "onnxruntime"
SINGLE = (
    *("int8", "lsq+:w4a8", "structured:n=2", "structured:c=0.5", "channels:10%"),
    *(f"magnitude:4x1@{percent}%:uniform" for percent in (20, 40)),
    *(f"magnitude:4x1@{percent}%:global" for percent in (20, 40)),
    *(f"magnitude:4x1@{percent}%:milliseconds" for percent in (20, 40)),
)
RIVALS = {PHOTOGRAPHS: "@20%", PICTURES: "@40%"}  # those within whose milliseconds plans are made


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
    for part in options.part or PARTS[:3]:
        getattr(bench, part)()
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=tuple(WEIGHTS), default=PHOTOGRAPHS)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated; all without")
    parser.add_argument("--data", type=Path, help="photographs with labels.csv, or the folder of train.npz, test.npz")
    parser.add_argument("--plans", type=int, default=PLANS, help="random ones")
    parser.add_argument("--only", action="append", help="a single method, as one of the rows or another")
    parser.add_argument("--share", type=float, action="append", help="of the original's milliseconds, for the planner")
    parser.add_argument("--rounds", type=int, default=1, help="of planning around what came of a plan")
    parser.add_argument("--epochs", type=float, default=3.0, help="of `trained`")
    parser.add_argument("--lr", type=float, default=0.1, help="of `trained`, the highest learning rate")
    parser.add_argument("--out", type=Path, help="folder; what is in it is not made again")
    parser.add_argument("--threads", type=int, default=1, help="of the fitting; timing has one")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the timing, at most")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    found = parser.parse_args()
    shared = ROOT.parent / "shared/data"
    found.data = found.data or shared / ("imagenet_samples" if found.network == PHOTOGRAPHS else "cifar10")
    found.out = found.out or Path(f"planner-{found.network}")
    return found


class Bench:
    """The network, the pictures, and what plans are made of."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.original = resolve(options.network, WEIGHTS[options.network])
        self.data = photographs(options, self.original) if options.network == PHOTOGRAPHS else pictures(options)
        began = time.monotonic()
        self.network = eight_bit(self.original, self.data)
        self.where: Ground = ground(self.original, self.network, self.data, Budget(), None, 1, (), self._noted)
        self.took = self.seconds, time.monotonic() - began

    seconds: Mapping[str, tuple[float, float]] = {}

    def _noted(self, stage: str, share: float) -> None:
        """When each stage began and where it is."""
        first, _ = self.seconds.get(stage, (time.monotonic(), 0.0))
        self.seconds = {**self.seconds, stage: (first, time.monotonic())}

    def table(self) -> None:
        spans = {stage: last - first for stage, (first, last) in self.seconds.items()}
        print("\nSeconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in spans.items()))
        print("| runtime | plans | error of the sums, median | worst | corrected by the first, median |")
        print("|---|---|---|---|---|", flush=True)
        dense = draft(self.original, asked(self.original, ("int8",)), self.data)
        for menus, timed in zip(self.where.menus, self.where.tables, strict=True):
            runtime, rng, ratios = menus.device.runtime, np.random.default_rng(0), []
            for _ in range(self.options.plans):
                picks = {name: options[rng.integers(len(options))] for name, options in menus.layers.items()}
                graph = draft(self.original, steps({name: pick.option for name, pick in picks.items()}), self.data)
                floats = {name for name, pick in picks.items() if pick.option == UNCHANGED}
                sums = menus.spent["latency"] + sum(pick.ms for pick in picks.values()) + crossed(menus.borders, floats)
                times = milliseconds({"plan": (graph, runtime), "dense": (dense, runtime)}, 1, seconds=2.0)
                ratios.append(times["plan"] / times["dense"] / (sums / timed.totals["int8"]))
            errors, corrected = np.abs(np.array(ratios) - 1), np.abs(np.array(ratios[1:]) / ratios[0] - 1)
            print(
                f"| {runtime} | {len(ratios)} | {100 * np.median(errors):.1f} % | {100 * errors.max():.1f} % | "
                f"{100 * np.median(corrected):.1f} % |",
                flush=True,
            )

        self.pairs()

    def pairs(self) -> None:
        """The check on the table: what zeros save in the layers that take longest, each alone in a graph."""
        timed = next(t for t, d in zip(self.where.tables, self.where.devices, strict=True) if d.runtime == ENGINE)
        option, layers = sparsity.option(80), {layer.name: layer for layer in self.original.layers}
        pruned = [name for name, own in self.where.trials.items() if own.pattern is not None]
        longest = sorted(pruned, key=lambda name: -timed.layers[name]["int8"])[:ALONE]
        print("\n| layer | saved by 80 % zeros in the table, ms | alone |\n|---|---|---|")
        for name in longest:
            node = stored(self.original.graph)[name]
            part = section(self.original.graph, node.reads, [node.writes])
            alone = replace(
                self.original, graph=part, model=None, layers=(layers[name],), input=shapes(part)[node.reads][1:]
            )
            noise, forms = alone.noise(), {}
            precisions = int8.precisions(alone.layers)
            for share in (0, 80):
                setting = magnitude.parse(f"{name}=4x1@{share}%:dense" if share else "dense")
                given = magnitude.assign((*alone.layers,) * 3, setting) if share else {}
                graph = prune(alone, magnitude, given).original.graph if share else part
                forms[str(share)] = calibrate(graph, noise, precisions).build(), ENGINE
            times, own = milliseconds(forms, 1, seconds=2.0), timed.layers[name]
            # In ms: alone, a layer also has its inputs quantised and its outputs put back.
            print(f"| {name} | {own['int8'] - own[option]:.4f} | {times['0'] - times['80']:.4f} |", flush=True)

    def ranks(self) -> None:
        """Plans of one kind: their shares of zeros are drawn around a level that is drawn first, so that there are mild
        and harsh ones."""
        menus = next(own for own in self.where.menus if own.device.runtime not in runtimes.STOCK)
        expected = outputs(self.original.graph, RUNTIME, self.data.judgement)
        rng, rows = np.random.default_rng(1), []
        for number in range(self.options.plans):
            level = rng.uniform(0, 1)
            picks = {}
            for name, options in menus.layers.items():
                place = np.clip(rng.normal(level, 0.25), 0, 1) * (len(options) - 1)
                picks[name] = options[round(float(place) * rng.uniform(0, 1))]
            told = self.options.out / f"random-{number}.json"
            if not told.exists():
                graph = self.made(steps({name: pick.option for name, pick in picks.items()}), menus.device.runtime)
                found = outputs(graph, RUNTIME, self.data.judgement)
                row = {
                    "predicted": sum(pick.loss for pick in picks.values()),
                    "error": float(np.square(relative_error(found, expected)).mean()),
                    "moved": 100 * float(distance(found, expected)[1].mean()),
                    **asdict(quality(found, expected, self.data)),
                }
                write_file(told, json.dumps(row).encode())
            rows.append(json.loads(told.read_bytes()))
        predicted = [row["predicted"] for row in rows]
        print(f"\nRank correlation of the predicted loss of {len(rows)} random plans, made and reconstructed, with")
        for name, of in (("error", "the squared error of outputs"), ("moved", "points moved"), ("difference", "top-1")):
            print(f"- {of}: {abs(spearmanr(predicted, [row[name] for row in rows]).statistic):.3f}", flush=True)

    def made(self, asked_for: Sequence[Any], runtime: str | None) -> ModelProto:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            request = Request(Path(folder) / "x.shoe", runtime=runtime)
            made = make(self.original, self.data, request, list(asked_for), quiet, self.network)
        assert made is not None, "one process"
        return made.subject

    def front(self) -> None:
        theirs = outputs(self.original.graph, RUNTIME, self.data.judgement)
        rows: dict[str, dict[str, Any]] = {}
        for method in self.options.only or SINGLE:
            rows[method] = self.row(method, lambda method=method: self.made(self.asked(method), None), theirs)
        for name, share in (self.shares(rows) | {f"{own}x": own for own in self.options.share or ()}).items():
            rows[f"plan {name}"] = self.row(f"plan-{name}", lambda share=share: self.plan(share), theirs)
        for path in sorted(self.options.out.glob("plan-*-epochs.json")):
            rows[path.stem.replace("-", " ")] = self.row(path.stem, None, theirs)
        rows["NNCF"] = self.row("nncf", self.nncf, theirs)
        self.timed(rows)

    def trained(self) -> None:
        """Whatever is in the folder already is not trained again; a run that was stopped goes on."""
        if self.options.network != PICTURES:
            print("--part trained: there is enough to train on for cifar_mobilenet only", file=sys.stderr)
            return
        train = load_images(self.options.data / "train.npz")
        data = replace(self.data, training=TrainingImages(train, zoo.entry(PICTURES).preprocess, 0))
        theirs = outputs(self.original.graph, RUNTIME, self.data.judgement)
        for share in self.options.share or TRAINED:
            name = f"plan-{share:g}x-{self.options.epochs:g}-epochs"
            self.row(name, lambda share=share, name=name: self.plan(share, data, name), theirs)

    def shares(self, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """Of the original's milliseconds, what each of RIVALS takes on the runtime where it is fastest."""
        found = {}
        for name, row in rows.items():
            if "graph" in row and RIVALS[self.options.network] in name:
                graph = row["graph"]
                forms = {runtime: (graph, runtime) for runtime in runtimes.installed() if takes(runtime, graph)}
                times, original = against(forms, self.original.graph, 1)
                found[f"within {name}"] = float(f"{min(times.values()) / original / MARGIN:.3g}")
        return found

    def asked(self, method: str) -> Sequence[Any]:
        return asked(self.original, (method,))

    def row(self, name: str, made: Any, theirs: np.ndarray) -> dict[str, Any]:
        """A file, and what it does; from the folder where it is there."""
        plain = name.replace(":", "-").replace("%", "").replace(" ", "-")
        graph, told = self.options.out / f"{plain}.onnx", self.options.out / f"{plain}.json"
        if not told.exists():
            began = time.monotonic()
            try:
                found = made()
            except ShoestringError as error:
                return {"error": " ".join(str(error).split())[:160]}
            onnx.save(found, graph)
            judged = quality(outputs(found, RUNTIME, self.data.judgement), theirs, self.data)
            write_file(told, json.dumps({"seconds": time.monotonic() - began, **asdict(judged)}).encode())
            print(f"made {name} in {time.monotonic() - began:.0f} s", flush=True)
        return {"graph": onnx.load(graph), **json.loads(told.read_bytes())}

    def plan(self, share: float, data: Samples | None = None, name: str = "") -> ModelProto:
        """With `data`, trained on it, with checkpoints called `name`."""
        with TemporaryDirectory() as folder:
            place = self.options.out / f"{name}.shoe" if data else Path(folder) / "x.shoe"
            request = Request(place, Budget.parse(f"latency<={share}x"), rounds=self.options.rounds)
            if data is not None:
                request = replace(request, recipe=Recipe(epochs=self.options.epochs, lr=self.options.lr))
            found = planned(self.original, data or self.data, request, told if data else quiet)
        assert found is not None, "one process"
        if data is not None:
            forget(request)
        return found.made.subject

    def nncf(self) -> ModelProto:
        with TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "float.onnx").write_bytes(self.original.graph.SerializeToString())
            np.save(place / "calibration.npy", np.concatenate(self.data.calibration))
            command = [nncf_python(), NNCF_FOLDER / "quantise.py", place / "float.onnx", place / "calibration.npy"]
            subprocess.run([*command, place / "x.onnx"], check=True, capture_output=True)
            return onnx.load(place / "x.onnx")

    def timed(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """All files that there are, in turns, each on every runtime that takes it; NNCF's in OpenVINO."""
        x = self.data.calibration[0]
        subjects = {}
        with machine.pinned(1):
            rival = runtimes.get("openvino").open(rows["NNCF"]["graph"].SerializeToString(), threads=1)
            subjects["NNCF", "openvino"] = lambda: rival(x)
            for name, row in rows.items():
                for runtime in runtimes.installed() if "graph" in row and name != "NNCF" else ():
                    if takes(runtime, row["graph"]):
                        session = runtimes.get(runtime).open(row["graph"].SerializeToString(), threads=1)
                        subjects[name, runtime] = lambda session=session: session(x)
            timings = interleave(subjects, Schedule(seconds=self.options.seconds, rounds=(40, 4000)))
        print("\n| | runtime | ms | as fast as NNCF in OpenVINO | top-1 | against fp32, points | probability kept |")
        print("|---|---|---|---|---|---|---|")
        points = {}
        for name, row in rows.items():
            if "graph" not in row:
                print(f"| `{name}` | {row['error']} | | | | | |")
                continue
            keys = [key for key in subjects if key[0] == name]
            best = min(keys, key=lambda key: timings.measurement(key).value)
            ms, ratio = timings.measurement(best).value, timings.ratio(best, ("NNCF", "openvino"))
            points[name] = ms, row["difference"], 100 - row["divergence"]
            print(
                f"| `{name}` | {best[1]} | {ms:.3f} | {ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}] | "
                f"{row['subject']:.1f} | {row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] | "
                f"{100 - row['divergence']:.1f} |"
            )
        self.compared(points)

    def compared(self, points: Mapping[str, tuple[float, float, float]]) -> None:
        """Each single method against the plans: is one of them no slower and better, or no worse and faster?"""
        plans = {name: point for name, point in points.items() if name.startswith("plan ")}
        print()
        for name, (ms, lost, kept) in points.items():
            if name in plans:
                continue
            better = [other for other, point in plans.items() if point[0] <= 1.01 * ms and point[2] > kept]
            quicker = [other for other, point in plans.items() if point[0] < 0.99 * ms and point[1] >= lost]
            told = (
                f"{what}: {', '.join(names) or 'none'}" for what, names in (("better", better), ("faster", quicker))
            )
            print(f"`{name}`: as fast and {'; as good and '.join(told)}")


def told(stage: str, share: float) -> None:
    """Training takes long: a line for each tenth."""
    if stage.startswith("training") and int(10 * share) > _SHOWN.get("training", -1):
        _SHOWN["training"] = int(10 * share)
        print(f"{time.strftime('%H:%M')} {stage} {share:.0%}", file=sys.stderr, flush=True)


_SHOWN: dict[str, int] = {}


if __name__ == "__main__":
    sys.exit(main())
