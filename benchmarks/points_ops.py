"""Are sampling and neighbours of points fast on a CPU? Against the usual torch forms, one thread.

    python benchmarks/points_ops.py [--json FILE] [--seconds 6] [--quick] [--others] [--skip-tests]

Farthest point sampling against the loop that point networks carry around, over a tensor [B, N, 3], and the nearest
neighbours against `torch.cdist` and `topk`, at 2048, 10,000 and 100,000 points on the surface of a torus (with noise).
Before anything is timed the indices are compared: with the plain loop exactly; of neighbours with the sorted distances.
Two subjects take turns in one process, CPU time of one thread, medians of the ratio. Bars: 10 times as fast to sample,
4 times to find neighbours. `--others`: beside them the package's own form without its compiled library, and what is
installed of torch-quickfps, fpsample, pykdtree and SciPy's tree alone (whose ties and roundings are its own: the share
of equal indices is printed). Exit code 0 whether bars are met or missed: they are told apart.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shoestring.core.statistics import Interval
from shoestring.engine import native
from shoestring.geometry import arrays, operators, reference
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, interleave

ROOT = Path(__file__).parents[1]
TESTS = ("tests/geometry", "tests/engine/test_points.py", "tests/measure/test_timing.py")
OURS, USUAL = "ours", "usual"
BARS = {"sampling": 10.0, "neighbours": 4.0}
SAMPLED = ((2048, 1024), (10_000, 1024), (10_000, 5000), (100_000, 1024))
SEARCHED = (
    (2048, 512, 16),
    (2048, 2048, 32),
    (10_000, 2500, 16),
    (10_000, 2500, 32),
    (100_000, 2048, 16),
    (100_000, 2048, 32),
)

Call = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Row:
    """`faster`: how many times as fast ours is; `equal`: the share of equal indices."""

    kind: str
    size: str
    against: str
    ours_ms: float
    theirs_ms: float
    faster: Interval
    equal: float


def usual_sampling(xyz: Tensor, count: int) -> Tensor:
    """The loop of the PointNet++ ports, beginning with point 0."""
    clouds, points, _ = xyz.shape
    picked = torch.zeros(clouds, count, dtype=torch.long)
    distance = torch.full((clouds, points), 1e10)
    last = torch.zeros(clouds, dtype=torch.long)
    batch = torch.arange(clouds)
    for i in range(count):
        picked[:, i] = last
        centre = xyz[batch, last].view(clouds, 1, 3)
        away = torch.sum((xyz - centre) ** 2, -1)
        closer = away < distance
        distance[closer] = away[closer]
        last = torch.max(distance, -1)[1]
    return picked


def usual_neighbours(centres: Tensor, xyz: Tensor, count: int) -> Tensor:
    """At most 512 centres at once: of 100,000 points even these take 200 MB."""
    parts = [torch.cdist(some, xyz).topk(count, dim=2, largest=False, sorted=True) for some in centres.split(512, 1)]
    return torch.cat([part.indices for part in parts], 1)


def torus(points: int, seed: int = 0) -> Tensor:
    """float32 [1, N, 3], at random on the surface and a hundredth of its size off it."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 2 * np.pi, (2, points))
    xyz = np.stack([(1 + 0.4 * np.cos(b)) * np.cos(a), (1 + 0.4 * np.cos(b)) * np.sin(a), 0.4 * np.sin(b)], 1)
    return torch.from_numpy((xyz + rng.normal(0, 0.01, xyz.shape)).astype(np.float32))[None]


def main() -> int:
    options = arguments()
    if not options.skip_tests:
        tested = subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *TESTS], cwd=ROOT)
        if tested.returncode:
            print("The tests of what is timed here are red: nothing was timed.", file=sys.stderr)
            return 1
    if not native.available():
        print(f"The engine is absent, NumPy and SciPy are timed: {native.why_absent()}")
    torch.set_num_threads(1)
    load, rows = machine.load(), []
    schedule = Schedule(seconds=options.seconds, rounds=(10, 200), warm_up=2, spread=0.02)
    with machine.pinned(1):
        for points, count in SAMPLED[: 2 if options.quick else None]:
            rows += sampling(points, count, schedule, options.others)
        for points, centres, count in SEARCHED[: 2 if options.quick else None]:
            rows += neighbours(points, centres, count, schedule, options.others)
    print_table(rows)
    about = {**machine.fingerprint(), "load_before": round(load, 2), "load_after": round(machine.load(), 2)}
    about |= {"isa": native.isas()[0] if native.available() else None, "date": time.strftime("%Y-%m-%d")}
    about |= {name: version(name) for name in ("torch", "numpy", "scipy")}
    print(about)
    if options.json:
        options.json.write_text(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seconds", type=float, default=6.0, help="at most this long for one comparison")
    parser.add_argument("--quick", action="store_true", help="the small clouds only")
    parser.add_argument("--others", action="store_true", help="what else is installed, too")
    parser.add_argument("--skip-tests", action="store_true", help="they were run a moment ago")
    return parser.parse_args()


def sampling(points: int, count: int, schedule: Schedule, others: bool) -> list[Row]:
    xyz = torus(points)
    cloud = xyz[0].numpy()
    calls: dict[str, Call] = {
        OURS: lambda: operators.farthest(xyz, count).numpy(),
        USUAL: lambda: usual_sampling(xyz, count).numpy(),
    }
    if others:
        calls["NumPy, ours"] = lambda: arrays.farthest(xyz.numpy(), count)
        if quick := installed("torch_quickfps"):
            calls["torch-quickfps"] = lambda: quick.sample_idx(xyz, count, start_idx=0).numpy()
        if fpsample := installed("fpsample"):
            calls["fpsample, buckets"] = lambda: fpsample.bucket_fps_kdline_sampling(cloud, count, h=7)[None]
    require(np.array_equal(calls[OURS](), reference.farthest(xyz, count).numpy()), f"{points} sampled to {count}")
    return compare("sampling", f"{points:,} to {count:,}", calls, schedule)


def neighbours(points: int, centres: int, count: int, schedule: Schedule, others: bool) -> list[Row]:
    xyz = torus(points)
    around = xyz[:, torch.randperm(points, generator=torch.Generator().manual_seed(0))[:centres]]
    cloud, own = xyz[0].numpy(), around[0].numpy()
    calls: dict[str, Call] = {
        OURS: lambda: operators.nearest(around, xyz, count).numpy(),
        USUAL: lambda: usual_neighbours(around, xyz, count).numpy(),
    }
    if others:
        calls["SciPy, ours"] = lambda: arrays.nearest(around.numpy(), xyz.numpy(), count)
        tree = import_module("scipy.spatial").cKDTree
        calls["SciPy's tree"] = lambda: tree(cloud).query(own, count)[1][None]
        if pykdtree := installed("pykdtree.kdtree"):
            calls["pykdtree"] = lambda: pykdtree.KDTree(cloud).query(own, count)[1][None]
    some = slice(0, 200)
    expected = reference.nearest(around[:, some], xyz, count).numpy()
    require(np.array_equal(calls[OURS]()[:, some], expected), f"{count} of {points} around {centres}")
    return compare("neighbours", f"{count} of {points:,} around {centres:,}", calls, schedule)


def installed(module: str) -> object | None:
    try:
        return import_module(module)
    except ImportError:
        return None


def require(same: bool, what: str) -> None:
    if not same:
        raise SystemExit(f"{what}: the indices are not those of the plain loop; nothing was timed.")


def compare(kind: str, size: str, calls: dict[str, Call], schedule: Schedule) -> list[Row]:
    """Ours against each of the others, in turns of two."""
    rows, found = [], calls[OURS]()
    for against in calls:
        if against == OURS:
            continue
        timings = interleave({OURS: calls[OURS], against: calls[against]}, schedule)
        ms = [timings.measurement(name).value for name in (OURS, against)]
        equal = float(np.mean(found == calls[against]()))
        rows.append(Row(kind, size, against, *ms, timings.ratio(OURS, against), equal))
        print(line(rows[-1]), flush=True)
    return rows


def line(row: Row) -> str:
    ratio = f"{row.faster.value:.1f}x [{row.faster.low:.1f}, {row.faster.high:.1f}]"
    return (
        f"{row.kind:11}{row.size:26}{row.against:20}{row.ours_ms:9.3f} ms{row.theirs_ms:10.2f} ms  {ratio:24}"
        f"{row.equal:8.2%} equal"
    )


def print_table(rows: list[Row]) -> None:
    print("\n| | size | ours | usual torch form | times as fast | bar |\n|---|---|---|---|---|---|")
    for row in rows:
        if row.against != USUAL:
            continue
        bar = BARS[row.kind]
        met = f"{bar:.0f}: {'met' if row.faster.low >= bar else 'MISSED'}"
        ratio = f"{row.faster.value:.0f} [{row.faster.low:.0f}, {row.faster.high:.0f}]"
        print(f"| {row.kind} | {row.size} | {row.ours_ms:.2f} ms | {row.theirs_ms:.1f} ms | {ratio} | {met} |")


if __name__ == "__main__":
    sys.exit(main())
