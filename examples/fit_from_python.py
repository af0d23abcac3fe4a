"""Fits your own network to a budget: `python examples/fit_from_python.py FOLDER_OF_PHOTOGRAPHS`.

Any function that returns an `nn.Module` will do; the photographs may lie in a folder per class, or have no labels.
"""

import sys

from torch import nn

import shoestring


def network() -> nn.Module:
    """Stands for yours: build it, load your weights, return it."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


if __name__ == "__main__":
    # Quick and short; without `method` the planner chooses, and without `seconds` the receipt takes its time.
    options = {"calibration": 16, "method": ["int8"], "seconds": 3}
    fitted = shoestring.fit(f"{__file__}:network", input="3x64x64", data=sys.argv[1], budget="latency<=0.9x", **options)
    receipt = fitted.receipt
    for speedup in receipt.speedup:
        print(f"{speedup.ratio:.2f}x against {speedup.against} (95 %: {speedup.low:.2f} to {speedup.high:.2f})")
    print(f"{receipt.subject.latency_ms:.3f} ms, {receipt.subject.size_bytes} bytes: {receipt.verdict}")
    print(f"wrote {fitted.path}")
