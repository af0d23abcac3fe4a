"""What does pruning in one shot cost in quality? EfficientNet-Lite0 in 8 bits, photographs of ImageNet, no training.

    python benchmarks/magnitude_efficientnet_lite0.py [--data DIR] [--json FILE] [--only 4x1@80%] [--skip-tests]

For each pattern and share of zeros, with the same share in every layer and with one threshold for all: the share of
multiplications by zero, top-1, and the probability kept of the original's, of the file that `--method magnitude` makes,
executed by ONNX Runtime. 64 photographs calibrate, the others judge; differences are paired, with 95 % intervals. There
is no bar: what is lost here is what training has to bring back. What a runtime makes of the zeros is in its receipt.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shoestring.deploy.archive import write_file
from shoestring.image.fitting import image_task
from shoestring.measure import machine
from shoestring.pipeline.asked import asked
from shoestring.pipeline.drawing import samples
from shoestring.pipeline.judge import quality
from shoestring.pipeline.original import Original, resolve
from shoestring.pipeline.post_training import eight_bit, outputs
from shoestring.pipeline.pruning import multiplications, prune, zeros
from shoestring.pipeline.samples import Samples

ROOT = Path(__file__).parents[1]
TESTS = ("tests/compress/magnitude", "tests/core/test_pattern.py", "tests/pipeline/test_pruning.py")
RUNTIME = "onnxruntime"
SHARES = {"1x1": (10, 20, 30, 50), "4x1": (10, 20, 30, 50, 80), "4x4": (10, 20)}
ROWS = ("int8", *(f"{pattern}@{share}%" for pattern, shares in SHARES.items() for share in shares))
SCOPES = ("global", "uniform")


def main() -> int:
    options = arguments()
    if not options.data.is_dir():
        print(f"skipped: no photographs in {options.data}; give --data DIR, with labels.csv (file,class_index)")
        return 0
    if not options.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        print("The tests of what is measured here are red: nothing was measured.", file=sys.stderr)
        return 1
    original = resolve("efficientnet_lite0")
    task = image_task(original)
    data = samples(task.load(options.data), task)
    methods = [
        "int8" if row == "int8" else f"magnitude:{row}:{scope}"
        for row in options.only or ROWS
        for scope in (SCOPES if row != "int8" else SCOPES[:1])
    ]
    print("| method | zeros, % | multiplications by zero, % | top-1 | against fp32, points | probability kept |")
    print("|---|---|---|---|---|---|")
    told = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.fingerprint(),
        "versions": {name: version(name) for name in ("numpy", "torch", RUNTIME)},
        "photographs": dict(data.provenance or {}),
        "rows": [row(method, original, data) for method in methods],
    }
    if options.json:
        write_file(options.json, json.dumps(told, indent=1).encode())
    return 0


def row(name: str, original: Original, data: Samples) -> dict[str, Any]:
    """One line of the table, printed and returned."""
    step = asked(original, (name,))[0]
    method, settings = step.method, step.settings(original)
    pruned = prune(original, method, settings) if method.CARD.prunes else None
    graph = eight_bit(pruned.original if pruned else original, data).build()
    empty = zeros(graph, pruned.settings) if pruned else {}
    ours, theirs = (outputs(model, RUNTIME, data.judgement) for model in (graph, original.graph))
    judged = quality(ours, theirs, data)
    sizes = {layer.name: layer.weights for layer in original.layers}
    found = {
        "method": name,
        "zeros": sum(sizes[layer] * share for layer, share in empty.items()) / sum(sizes.values()),
        "multiplications": 1 - multiplications(original.layers, empty) / multiplications(original.layers, {}),
        "top1": judged.subject,
        "difference": [judged.difference, judged.low, judged.high],
        "kept": 100 - judged.divergence,
    }
    print(
        f"| `{name}` | {100 * found['zeros']:.0f} | {100 * found['multiplications']:.0f} | {judged.subject:.1f} | "
        f"{judged.difference:+.1f} [{judged.low:+.1f}, {judged.high:+.1f}] | {found['kept']:.1f} |",
        flush=True,
    )
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = ROOT.parent / "shared" / "data" / "imagenet_samples"
    parser.add_argument("--data", type=Path, default=here, help="photographs with labels.csv")
    parser.add_argument("--only", action="append", choices=ROWS, help="these rows; may be repeated")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
