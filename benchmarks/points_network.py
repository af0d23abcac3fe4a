"""A point network from cloud to class: our file on our engine against the usual ways to run the same weights.

    python benchmarks/points_network.py [--weights FILE] [--seconds 30] [--json FILE]

`point_mlp` (1,024 points, 12 classes of made shapes, trained by `train_points.py`), batch 1, one thread, all in turns
in one process. Everything samples and groups for itself; the input is the prepared cloud [1, 1024, 3].

- `plain torch`: what repositories publish, the sampling loop, cdist and topk, and one convolution on the concatenated
  groups (it is the oracle of the tests, `tests/models/test_point_mlp.py`);
- `torch, our operators`: the module as it is;
- `rows`: the network once more with linear layers on [M, K, C], the layout in which ONNX Runtime is fastest in fp32;
- the fp32 and the 8-bit file on ONNX Runtime and OpenVINO, and the 8-bit file on the engine.

The bars: at least 3 times as fast as plain torch and 1.3 times as fast as ONNX Runtime in fp32 (the better of its two
forms), at most one point worse on 1,200 shapes that nobody has trained or calibrated on.
"""

import argparse
import json
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from engine_bench.bars import Bar, print_bars, shown
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from train_points import FILE, JUDGED, SPEC, shapes

from shoestring.core.statistics import Interval
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.archive import write_file
from shoestring.deploy.export import export
from shoestring.deploy.preprocess import preprocess
from shoestring.geometry.operators import farthest, nearest, take
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, Timings, interleave
from shoestring.models.point_mlp import PointMLP, Residual, Stage
from shoestring.models.zoo import build
from shoestring.pipeline.drawing import samples
from shoestring.pipeline.fit import fit
from shoestring.pipeline.original import resolve
from shoestring.pipeline.request import Request
from shoestring.points.fitting import point_task

ROOT = Path(__file__).parents[1]
TESTS = ("tests/models/test_point_mlp.py", "tests/engine/lowering/test_points.py", "tests/deploy/test_geometry.py")
CALIBRATION = 64
PLAIN, STOCK, POINTS = 3.0, 1.3, 1.0  # the bars


def main() -> int:
    options = arguments()
    if not options.weights.exists():
        print(f"skipped: no {options.weights}; make it with train_points.py")
        return 0
    if not options.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        print("The tests of what is measured here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "point_mlp.shoe"
        lost = fitted(options.weights, file, options.seconds)
        timings = timed(options.weights, file, options.seconds)
    engine, rows = "engine, 8 bits", table(timings)
    stock = min(("onnxruntime, fp32", "onnxruntime, fp32, rows"), key=lambda name: rows[name]["ms"])
    bars = [
        Bar("times as fast as plain torch", timings.ratio(engine, "plain torch"), ">=", PLAIN),
        Bar(f"times as fast as {stock}", timings.ratio(engine, stock), ">=", STOCK),
        Bar("points lost", lost, "<=", POINTS),
    ]
    print_bars(bars)
    if options.json:
        told = {"date": time.strftime("%Y-%m-%d"), "machine": machine.fingerprint(), "rows": rows}
        write_file(options.json, json.dumps({**told, "bars": [bar.told() for bar in bars]}, indent=1).encode())
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=FILE)
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing, at most")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


def fitted(weights: Path, file: Path, seconds: float) -> Interval:
    """Writes the 8-bit file for the engine; the points that it loses."""
    original = resolve("point_mlp", str(weights))
    task = point_task(original)
    few = -(-CALIBRATION // 12)
    given = samples(shapes(range(few)), task, CALIBRATION, 0, shapes(JUDGED))
    request = Request(file, methods=("int8",), runtime="engine", preprocess=task.preprocess, seconds=seconds)
    done = fit(original, given, request, told)
    assert done is not None, "one process"
    found = done.receipt.quality
    assert found is not None, "there are labels"
    print(f"top-1 of {found.n} shapes: fp32 {found.original:.2f} %, 8 bits on the engine {found.subject:.2f} %")
    return Interval(-found.difference, -found.high, -found.low, found.n)


def told(stage: str, share: float) -> None:
    if share >= 1:
        print(f"{time.strftime('%H:%M:%S')} {stage}", file=sys.stderr, flush=True)


def timed(weights: Path, file: Path, seconds: float) -> Timings:
    model = build("point_mlp", weights)
    assert isinstance(model, PointMLP), "the zoo says so"
    plain = runpy.run_path(str(ROOT / TESTS[0]))["plain"]
    fp32, eight = resolve("point_mlp", str(weights)).graph.SerializeToString(), shoe.read(file).onnx(0)
    by_rows = export(Rows(model), (model_points(model), 3)).SerializeToString()
    cloud = preprocess(SPEC, shapes(JUDGED)[0][0])[None]
    with machine.pinned(1):
        files = {"onnxruntime, fp32": fp32, "onnxruntime, fp32, rows": by_rows, "onnxruntime, 8 bits": eight}
        files |= {"openvino, fp32": fp32, "openvino, 8 bits": eight, "engine, 8 bits": eight}
        subjects: dict[str, Callable[[], object]] = {}
        for name, graph in files.items():
            session = runtimes.get(name.partition(",")[0]).open(graph, threads=1)
            subjects[name] = lambda session=session: session(cloud)  # type: ignore[misc]
        subjects["torch, our operators"] = torched(model, cloud)
        subjects["plain torch"] = torched(lambda x: plain(model, x), cloud)
        check(subjects)
        turns = {"engine, 8 bits": subjects["engine, 8 bits"], **subjects}
        return interleave(turns, Schedule(seconds=seconds, rounds=(40, 4000)))


def torched(call: Callable[[Tensor], Tensor], cloud: np.ndarray) -> Callable[[], list[np.ndarray]]:
    x = torch.from_numpy(cloud)

    @torch.no_grad()
    def run() -> list[np.ndarray]:
        return [call(x).numpy()]

    return run


def check(subjects: dict[str, Callable[[], object]]) -> None:
    """All forms in fp32 say the same."""
    expected = np.asarray(subjects["torch, our operators"]())
    for name, subject in subjects.items():
        if "8 bits" not in name:
            np.testing.assert_allclose(np.asarray(subject()), expected, atol=1e-3, err_msg=name)


def table(timings: Timings) -> dict[str, dict[str, float]]:
    rows = {}
    print("\n| | ms | the engine is so many times as fast |\n|---|---|---|")
    for name in sorted(timings.cpu, key=lambda name: timings.measurement(name).value):
        ms, times = timings.measurement(name).value, timings.ratio("engine, 8 bits", name)
        rows[name] = {"ms": ms, "times": times.value, "low": times.low, "high": times.high}
        print(f"| {name} | {ms:.2f} | {shown(times)} |")
    return rows


def model_points(model: PointMLP) -> int:
    first = model.stages[0]
    assert isinstance(first, Stage)
    return 2 * first.count


class Rows(nn.Module):
    """`PointMLP` with linear layers on rows [B, M, K, C], batch norms folded."""

    def __init__(self, model: PointMLP):
        super().__init__()
        self.embed, self.head = linear(model.embed), model.head
        self.stages = nn.ModuleList(RowStage(stage) for stage in model.stages if isinstance(stage, Stage))

    def forward(self, xyz: Tensor) -> Tensor:
        x = self.embed(xyz).relu()
        for stage in self.stages:
            xyz, x = stage(xyz, x)
        return self.head(torch.cat([x.amax(1), x.mean(1)], 1))


class RowStage(nn.Module):
    def __init__(self, stage: Stage):
        super().__init__()
        self.count, self.neighbours, self.nearness = stage.count, stage.neighbours, stage.nearness
        self.feature, self.geometry = linear(stage.feature), linear(stage.geometry)
        self.before, self.after = (
            nn.Sequential(*(RowResidual(block) for block in blocks if isinstance(block, Residual)))
            for blocks in (stage.before, stage.after)
        )

    def forward(self, xyz: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        centres = take(xyz, farthest(xyz, self.count))
        near = nearest(centres, xyz, self.neighbours)
        offsets = (take(xyz, near) - centres.unsqueeze(2)) * self.nearness
        y = (self.geometry(offsets) + take(self.feature(x), near)).relu()
        return centres, self.after(self.before(y).amax(2))


class RowResidual(nn.Module):
    def __init__(self, block: Residual):
        super().__init__()
        self.reduce, self.expand = linear(block.reduce), linear(block.expand)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.expand(self.reduce(x).relu())).relu()


def linear(pair: nn.Module) -> nn.Linear:
    """A 1x1 convolution and its batch norm."""
    assert isinstance(pair, nn.Sequential)
    fused = fuse_conv_bn_eval(pair[0], pair[1])
    made = nn.Linear(fused.in_channels, fused.out_channels)
    made.weight, made.bias = nn.Parameter(fused.weight.flatten(1)), fused.bias
    return made.eval()


if __name__ == "__main__":
    sys.exit(main())
