"""Is our 8-bit file as good as NNCF's? EfficientNet-Lite0 and photographs of ImageNet, on one thread of this processor.

    python benchmarks/int8_bars.py [--data DIR] [--json FILE] [--seconds 120] [--skip-tests]

In ONNX Runtime and in OpenVINO, `--method int8` (dense 8 bits, nothing trained) must

- run at least at 0.97 of the speed of the same float graph quantised by NNCF's post-training quantisation with all its
  defaults: by its ONNX backend, whose file both runtimes take, and in OpenVINO by its OpenVINO backend too;
- be no worse than NNCF's file in top-1, by the paired difference on the same photographs;
- lose at most 1.0 point of top-1 against the float graph.

Everybody calibrates on the same 64 photographs and is judged on all others. The table also has `int8:full`, which x86-64
processors without VNNI compute wrongly, and next to the runtimes the literal execution of each file: every node as it is
written, in floats. NNCF lives in `.venv-nncf`, made on the first run.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from shoestring.compress import int8
from shoestring.core.receipt import HOLDS, Quality
from shoestring.core.statistics import Interval, judge
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.image.fitting import image_task
from shoestring.image.samples import CALIBRATION, samples
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, Timings, interleave
from shoestring.pipeline.judge import quality
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import best_rule, calibrate
from shoestring.pipeline.samples import Samples

ROOT = Path(__file__).parents[1]
NNCF_SCRIPT = ROOT / "benchmarks/nncf_default/quantise.py"
NNCF_REQUIREMENTS = NNCF_SCRIPT.with_name("requirements.txt")
NNCF_ENVIRONMENT = ROOT / ".venv-nncf"
TESTS = (
    "tests/core/test_quality.py",
    "tests/core/test_statistics.py",
    "tests/deploy/test_calibrate.py",
    "tests/deploy/test_quantize.py",
    "tests/image/test_split.py",
    "tests/measure/test_timing.py",
    "tests/pipeline/test_post_training.py",
)
FP32, OURS, FULL, NNCF, NNCF_OPENVINO = "fp32", "int8", "int8:full", "nncf", "nncf-openvino"
SPEED, LOSS = 0.97, -1.0
RUNTIMES, LITERAL = ("onnxruntime", "openvino"), "literal"


@dataclass(frozen=True)
class Bar:
    """One claim: `interval` (a ratio, or points) has to be at least `limit`."""

    claim: str
    interval: Interval
    limit: float
    verdict: str


def main() -> int:
    options = arguments()
    if not options.data.is_dir():
        print(f"skipped: no photographs in {options.data}; give --data DIR with labels.csv (file, class_index)")
        return 0
    if not options.skip_tests:
        present = [test for test in TESTS if (ROOT / test).exists()]
        if subprocess.run([sys.executable, "-m", "pytest", "-q", "-W", "error", *present], cwd=ROOT).returncode:
            print("The tests of what is compared here are red: nothing was measured.", file=sys.stderr)
            return 1
    load = machine.load()
    original = resolve("efficientnet_lite0")
    task = image_task(original)
    data = samples(task.load(options.data), task)
    graphs, rules = ours(original, data)
    with TemporaryDirectory() as folder, machine.pinned(1):
        graphs |= theirs(graphs[FP32], data.calibration, Path(folder))
        sessions = opened(graphs)
        judged = judgements(sessions, data)
        x = data.calibration[0]
        timed = {key: lambda s=session: s(x) for key, session in sessions.items() if key[1] != LITERAL}
        timings = interleave(timed, Schedule(seconds=options.seconds), spoken("timing"))
    bars = [*speed_bars(timings), *quality_bars(judged)]
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine.fingerprint(), "load_before": round(load, 2), "load_after": round(machine.load(), 2)},
        "versions": {name: version(name) for name in ("shoestring", "numpy", *RUNTIMES)} | {"nncf": nncf_version()},
        "photographs": {"calibration": len(data.calibration), "judgement": len(data.judgement)},
        "ranges": rules,
        "table": table(graphs, timings, judged),
        "bars": [asdict(bar) for bar in bars],
        "passed": all(bar.verdict == HOLDS for bar in bars),
    }
