"""Does the governor keep its word? Under a load that comes and goes, at most 0.1 % of frames are late after warm-up,
where the fixed largest point is late in 20 % or more, and its answers are worth more than the fixed smallest point's.

    python benchmarks/governor.py [--file FILE.shoe] [--deadline MS] [--seconds 60] [--fps 10] [--script LOAD.json]
        [--runtime onnxruntime] [--trace TRACE.json] [--late] [--json FILE] [--skip-tests]

FILE has several points; without it, five widths of MobileNetV2 with random weights are made (in 8 bits for the engine),
whose quality is what the authors say of trained ones. First a round of the load script is recorded in which every point
runs every frame: that chooses the deadline unless one is given (1.5 times the smallest point's longest frame: what can
be kept at all), and the fixed point for the worst case (the richest that is late in 0.1 % at most). Then governor,
largest, smallest and worst-case point take turns, a round of the script each, `--seconds` in all for each. The first
round of each is warm-up. `--trace` keeps the recorded round for `shoestring.deploy.simulate`. `--late` prints what
happened in each late frame of the governor's, and for how long this process waited for a core in it (Linux).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shoestring.core.timeline import Turn, summary
from shoestring.deploy import shoe
from shoestring.deploy.adaptive import Adaptive
from shoestring.deploy.preprocess import preprocess
from shoestring.deploy.session import load
from shoestring.measure import machine
from shoestring.measure.load import Script, playing, read, script

ROOT = Path(__file__).parents[1]
TESTS = ("tests/deploy/test_governor.py", "tests/deploy/test_simulate.py", "tests/deploy/test_adaptive.py")
MISSED, LARGEST_MISSED = 0.001, 0.20
# Top-1 on ImageNet of the authors' checkpoints at 224 pixels; of 1.4 the paper's, the checkpoint has 75.0.
WIDTHS = {0.35: 60.3, 0.5: 65.4, 0.75: 69.8, 1.0: 71.8, 1.4: 74.7}


def main() -> int:
    options = arguments()
    tests = [sys.executable, "-m", "pytest", "-q", "-W", "error", *TESTS]
    if not options.skip_tests and subprocess.run(tests, cwd=ROOT).returncode:
        print("The tests of what is timed here are red: nothing was timed.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        file = options.file or widths(Path(folder) / "widths.shoe", options.runtime == "engine")
        model = load(file, options.runtime)
        played = read(options.script) if options.script else script(machine.cores())
        frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
        ladder = model.adaptive(1e6)
        ladder.outputs(frame)
        quality = [float(p.measured.get("quality") or i) for i, p in enumerate(model.artifact.points)]
        trace = record(ladder, frame, played)
        if options.trace:
            data = {"expected_ms": np.min(trace, 0).tolist(), "quality": quality, "frames": trace.tolist()}
            options.trace.write_text(json.dumps(data))
        deadline = options.deadline or 1.5 * float(trace[:, 0].max())
        late = (trace > deadline).mean(0)
        worst = max((point for point in range(len(quality)) if late[point] <= MISSED), default=0)
        adaptive = model.adaptive(deadline)
        subjects = {"governor": governed(adaptive, frame, Phases(adaptive) if options.late else None)}
        for name, point in (("largest", len(quality) - 1), ("smallest", 0), (f"worst case ({worst})", worst)):
            subjects[name] = fixed(load(file, options.runtime, point=point), point, deadline, frame)
        turns = take_turns(subjects, played, options.seconds, options.fps)
    found = {name: summary(rounds, quality) for name, rounds in turns.items()}
    kept, largest, smallest = found["governor"], found["largest"], found["smallest"]
    passed = kept.missed <= MISSED and (kept.quality or 0) > (smallest.quality or 0)
    fair = largest.missed >= LARGEST_MISSED
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine.fingerprint(), "load": round(machine.load(), 2)},
        "runtime": model.runtime,
        "deadline_ms": round(deadline, 2),
        "late_in_the_recorded_round": late.round(4).tolist(),
        "subjects": {name: vars(of) for name, of in found.items()},
        "passed": passed and fair,
    }
    print_table(result, turns)
    verdict = "holds" if passed and fair else "too little load to say" if passed else "FAILS"
    print(
        f"{verdict}: late in {100 * MISSED:g} % at most where the largest is in 20 % or more; worth more than the least"
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if passed and fair else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--deadline", type=float, help="ms")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fps", type=float, default=10, help="frames a second as a camera gives them; 0: back to back")
    parser.add_argument("--script", type=Path)
    parser.add_argument("--runtime")
    parser.add_argument("--trace", type=Path)
    parser.add_argument("--late", action="store_true", help="print what happened in each late frame")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--skip-tests", action="store_true")
    return parser.parse_args()


def record(ladder: Adaptive, frame: np.ndarray, played: Script) -> np.ndarray:
    """[frames, points] ms, preprocessing included, of a round of the load."""
    rows = []
    with playing(played) as start:
        while time.monotonic() - start < played.seconds:
            row = []
            for stage in ladder.stages.values():
                begun, given = time.perf_counter(), None
                for point in stage.path:
                    part = ladder.stages[point]
                    given = part(preprocess(part.spec, frame)[None] if given is None else given[1])
                row.append(1000 * (time.perf_counter() - begun))
            rows.append(row)
    return np.array(rows)


def governed(adaptive: Adaptive, frame: np.ndarray, phases: "Phases | None") -> Callable[[], Turn]:
    def run() -> Turn:
        adaptive.outputs(frame)
        assert adaptive.last is not None
        if phases is not None:
            phases.tell(adaptive.last)
        return adaptive.last

    return run


class Phases:
    """What the steps of a frame took, and of that how long their threads could run but had no core."""

    def __init__(self, adaptive: Adaptive):
        self.found: list[str] = []
        self.adaptive, self.step, self.timed = adaptive, adaptive._step, adaptive._timed
        adaptive._step, adaptive._timed = self._step, self._timed  # type: ignore[method-assign]

    def tell(self, turn: Turn) -> None:
        if turn.missed:
            how = "given up" if turn.given_up else "over a net" if self.adaptive.governor.net else "alone"
            reserve = f"ready {self.adaptive._reserve_ms:.1f} ms before"
            print(f"late: {turn.ms:.1f} ms, point {turn.point}, {how}, {reserve}: {'; '.join(self.found)}", flush=True)
        self.found = []

    def _step(self, frame: Any, point: int, handed: Any, *end: float) -> Any:
        begun, waited = frame.since_ms(), without_core_ms()
        try:
            return self.step(frame, point, handed, *end)
        finally:
            waited = without_core_ms() - waited
            self.found.append(f"point {point} from {begun:.1f} to {frame.since_ms():.1f}, {waited:.1f} without a core")

    def _timed(self, frame: Any, step: int, handed: Any, left: float | None) -> Any:
        begun = frame.since_ms()
        found = self.timed(frame, step, handed, left)
        if left is not None and found[0] is None:
            self.found.append(f"was to end at {begun + left:.1f}, ended at {frame.since_ms():.1f}")
        return found


def without_core_ms() -> float:
    """How long this thread has waited for a core so far; 0 where the system does not say."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e6
    except (OSError, IndexError):
        return 0.0


def fixed(model: Any, point: int, deadline: float, frame: np.ndarray) -> Callable[[], Turn]:
    def run() -> Turn:
        begun = time.perf_counter()
        model.outputs(frame)
        ms = 1000 * (time.perf_counter() - begun)
        return Turn(point, ms, deadline, ms > deadline)

    return run


def take_turns(
    subjects: dict[str, Callable[[], Turn]], played: Script, seconds: float, fps: float
) -> dict[str, list[Turn]]:
    """All frames but those of the first round."""
    found: dict[str, list[Turn]] = {name: [] for name in subjects}
    rounds = max(1, round(seconds / played.seconds))
    for number in range(1 + rounds):
        for name, run in subjects.items():
            kept = []
            with playing(played) as start:
                due = time.monotonic()
                while time.monotonic() - start < played.seconds:
                    kept.append(run())
                    if fps:
                        due = max(due + 1 / fps, time.monotonic())
                        time.sleep(max(0.0, due - time.monotonic()))
            if number:
                found[name] += kept
            print(f"round {number}: {name}, {len(kept)} frames, {sum(t.missed for t in kept)} late", flush=True)
    return found


def widths(path: Path, eight_bits: bool = False) -> Path:
    """A file with a point for each width."""
    import torch

    from shoestring.core.ladder import Point
    from shoestring.core.precision import INT8
    from shoestring.deploy.check import trust
    from shoestring.deploy.export import export
    from shoestring.models.mobilenet_v2 import mobilenet_v2
    from shoestring.pipeline.post_training import calibrate

    torch.manual_seed(0)
    points, members, rng = [], {}, np.random.default_rng(0)
    noise = [rng.standard_normal((1, 3, 224, 224)).astype(np.float32) for _ in range(4)]
    for width, quality in WIDTHS.items():
        name, graph = f"{width}.onnx", export(mobilenet_v2(1000, width), (3, 224, 224))
        if eight_bits:
            layers = {node.name: INT8 for node in graph.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")}
            graph = calibrate(graph, noise, layers).build()
        members[name] = graph.SerializeToString()
        trust(members[name])
        points.append(Point(name, measured={"quality": quality}))
    spec = {"kind": "image", "resize": 256, "interpolation": "bilinear", "crop": [224, 224]}
    contents = shoe.Contents({**spec, "mean": [127] * 3, "std": [128] * 3}, (), tuple(points), members)
    shoe.write(path, contents)
    return path


def print_table(result: dict[str, Any], turns: dict[str, list[Turn]]) -> None:
    print(f"\n{result['date']}  {result['machine']}  {result['runtime']}  deadline {result['deadline_ms']} ms")
    print(f"late in the recorded round, point by point: {result['late_in_the_recorded_round']}")
    print(
        f"{'':16}{'frames':>8}{'late %':>9}{'quality':>9}{'p50 ms':>9}{'p99.9 ms':>10}{'changes':>9}{'given up %':>12}"
    )
    for name, of in result["subjects"].items():
        ms = np.quantile([turn.ms for turn in turns[name]], (0.5, 0.999))
        row = f"{of['frames']:>8}{100 * of['missed']:>9.3f}{of['quality']:>9.2f}{ms[0]:>9.1f}{ms[1]:>10.1f}"
        print(f"{name:16}{row}{of['changes']:>9}{100 * of['given_up']:>12.2f}")


if __name__ == "__main__":
    sys.exit(main())
