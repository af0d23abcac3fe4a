"""Runs a fitted file on photographs: `python examples/run_artifact.py network.shoe cat.jpg dog.jpg`. Needs no torch."""

import sys

import shoestring

if __name__ == "__main__":
    model = shoestring.load(sys.argv[1])
    print(f"{sys.argv[1]} on {model.runtime}, measured there: {model.artifact.points[0].measured['latency_ms']:.3f} ms")
    for photograph in sys.argv[2:]:
        best = model(photograph)[0]
        print(f"{photograph}: {best.label} ({100 * best.probability:.0f} %)")
