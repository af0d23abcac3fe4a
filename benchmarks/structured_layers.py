"""What do structured layers bring in milliseconds, in which form, on which runtime; and a whole ResNet-50?

    python benchmarks/structured_layers.py [--only 3x3|1x1|depthwise|resnet50] [--out DIR] [--seconds 6] [--skip-tests]

One thread, batch 1. Layers are timed as a chain of six equal ones with ReLU between, so that what they read and write
lies as a runtime likes it; printed is how many times faster a chain is than that of dense layers on the same runtime
(median, 95 % interval). fp32 is fp32 on both stock runtimes; 8 bits are calibrated on noise. All forms of a layer take
turns in one process. Forms of sums over pixels: `ones`, a depthwise convolution of ones (what is exported); `average`,
an average pool; `slices`, shifted slices added up. Of windows of channels: `differences` (what is exported) and
`running`, a cumulative sum and a subtraction. `small alone` is the layer behind the sums, the most there could be.

`resnet50`: n = 2 in every 3x3 layer but the stem, random weights. In fp32 and bfloat16 each runtime against itself;
the 8-bit file as `shoestring fit` writes it, with its receipt (in `--out`).
"""

import argparse
import copy
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional as F

from shoestring.cli.fit import fit
from shoestring.compress import int8, structured_conv
from shoestring.compress.structured_conv.decompose import decompose
from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes
from shoestring.deploy.export import export
from shoestring.graph.capture import capture
from shoestring.graph.inventory import inventory
from shoestring.measure import machine
from shoestring.measure.timing import Schedule, interleave
from shoestring.pipeline.original import remade, resolve
from shoestring.pipeline.post_training import calibrate

ROOT = Path(__file__).parents[1]
TESTS = ("tests/compress/structured_conv", "tests/graph/test_sums.py")
CHAIN = 6
DENSE, ALONE = "dense", "small alone"
SPATIAL = ((64, 56), (128, 28), (256, 14), (512, 7))  # channels, side
POINTWISE = ((64, 56), (256, 14), (512, 14), (960, 7))
DEPTHWISE = ((144, 56), (384, 14))
STOCK, OWN = ("onnxruntime", "openvino"), "engine"
Make = Callable[[int], dict[str, nn.Module]]


class Average(nn.Module):
    """Sums over 2x2 pixels as an average pool; the factor of four would be in the weight behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2, 1, 1)


class Slices(nn.Module):
    """The same as three additions of shifted pictures."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1))
        x = x[:, :, 1:] + x[:, :, :-1]
        return x[..., 1:] + x[..., :-1]


class Running(nn.Module):
    """Windows of half of the channels and one as differences of a running sum."""

    def __init__(self, channels: int):
        super().__init__()
        self.half = channels // 2

    def forward(self, x: Tensor) -> Tensor:
        total = F.pad(x.cumsum(1), (0, 0, 0, 0, 1, 0))
        return total[:, self.half + 1 :] - total[:, : self.half]


def spatial(channels: int) -> dict[str, nn.Module]:
    dense, small = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 2)
    pooled = {"average": Average(), "slices": Slices()}
    forms = {DENSE: dense, "ones": decompose(dense, n=2)}
    forms |= {name: nn.Sequential(pool, small) for name, pool in pooled.items()}
    return {**forms, ALONE: nn.Sequential(nn.ConstantPad2d((1, 0, 1, 0), 0.0), small)}


def pointwise(channels: int) -> dict[str, nn.Module]:
    dense, small = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels // 2, channels, 1)
    forms = {DENSE: dense, "differences": decompose(dense, channels // 2)}
    return {**forms, "running": nn.Sequential(Running(channels), small), ALONE: nn.Sequential(Half(channels), small)}


class Half(nn.Module):
    """Half of the channels, for nothing."""

    def __init__(self, channels: int):
        super().__init__()
        self.half = channels // 2

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.half]


def depthwise(channels: int) -> dict[str, nn.Module]:
    dense = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    return {DENSE: dense, "ones": decompose(dense, n=2)}


def chain(layer: nn.Module, channels: int, side: int) -> tuple[ModelProto, ModelProto]:
    """Six of them, as a float graph and in 8 bits."""
    parts = [part for index in range(CHAIN) for part in (_copy(layer, index), nn.ReLU())]
    model, shape = capture(nn.Sequential(*parts), (channels, side, side)), (channels, side, side)
    graph = export(model, shape)
    noise = [np.abs(np.random.default_rng(seed).standard_normal((1, *shape), np.float32)) for seed in range(2)]
    return graph, calibrate(graph, noise, int8.precisions(inventory(model, shape))).build()


def _copy(layer: nn.Module, seed: int) -> nn.Module:
    """With other weights, so that no two layers share them; those of sums are constants."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for name, value in layer.state_dict().items():
        constant = value.eq(value.flatten()[0]).all()
        state[name] = value if constant else torch.randn(value.shape, generator=generator) * value.std()
    other = copy.deepcopy(layer)
    other.load_state_dict(state)
    return other


def compared(
    forms: Mapping[str, ModelProto], runtime: str, precision: str, args: argparse.Namespace, baseline: str = DENSE
) -> Iterator[tuple[str, str]]:
    """Form, and how many times faster than `baseline` it is."""
    sessions = {}
    for name, graph in forms.items():
        try:
            sessions[name] = runtimes.get(runtime).open(graph.SerializeToString(), threads=1, precision=precision)
        except BadInput as refused:
            yield name, f"refused ({str(refused)[:60]})"
    x = np.random.default_rng(0).random(sessions[baseline].inputs[0].shape, np.float32)
    timings = interleave({n: partial(s, x) for n, s in sessions.items()}, Schedule(seconds=args.seconds, threads=1))
    dense = timings.measurement(baseline).value
    yield baseline, f"{dense:.3f} ms"
    for name in sessions:
        if name != baseline:
            ratio = timings.ratio(name, baseline)
            yield name, f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"


def table(title: str, make: Make, shapes: tuple[tuple[int, int], ...], args: argparse.Namespace) -> None:
    print(f"\n{title}")
    for channels, side in shapes:
        torch.manual_seed(0)
        graphs = {name: chain(layer, channels, side) for name, layer in make(channels).items()}
        if (channels, side) == shapes[0]:
            print(f"| channels, side | precision | runtime | {' | '.join(graphs)} |\n{'|---' * (3 + len(graphs))}|")
        with machine.pinned(1):
            for precision, names in (("fp32", STOCK), ("int8", (*STOCK, OWN))):
                forms = {name: pair[precision == "int8"] for name, pair in graphs.items()}
                for runtime in names:
                    told = dict(compared(forms, runtime, "fp32" if precision == "fp32" else "default", args))
                    cells = " | ".join(told.get(name, "") for name in graphs)
                    print(f"| {channels}, {side} | {precision} | {runtime} | {cells} |", flush=True)


def resnet50(args: argparse.Namespace) -> None:
    original = resolve("resnet50")
    assert original.model is not None
    layers = original.of_kinds(structured_conv.CARD.kinds)
    settings = structured_conv.assign(layers, structured_conv.parse("n=2"))
    made = remade(original, structured_conv.apply(original.model, settings).bake())  # type: ignore[arg-type]  # captured
    forms = {DENSE: original.graph, "structured": made.graph}
    print("\nResNet-50, float graphs, each runtime against itself")
    with machine.pinned(1):
        for runtime, precision in (*((name, "fp32") for name in STOCK), ("openvino", "default")):
            told = dict(compared(forms, runtime, precision, args))
            print(f"| {runtime} | {precision} | {told[DENSE]} | {told['structured']} |", flush=True)
    for runtime in runtimes.installed():
        out = args.out / f"resnet50-structured-{runtime}.shoe"
        how = {"runtime": runtime, "seconds": 3 * args.seconds, "demo": True, "reconstruct": False}
        fitted = fit("resnet50", method="structured:n=2:all", out=out, **how)
        assert fitted is not None
        against = (f"{s.ratio:.2f}x [{s.low:.2f}, {s.high:.2f}] {s.against}" for s in fitted.receipt.speedup)
        took = fitted.receipt.subject.latency_ms
        print(f"receipt of the 8-bit file on {runtime}: {took} ms; {'; '.join(against)}", flush=True)
        for line in fitted.receipt.baselines:
            print(f"    {line.name} on {line.runtime}: {line.latency_ms}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["3x3", "1x1", "depthwise", "resnet50"])
    parser.add_argument("--out", type=Path, default=Path("structured-layers"), help="folder for files with receipts")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing a layer on a runtime")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    args = parser.parse_args()
    if not args.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        sys.exit("the tests are red: nothing is measured")
    print(machine.processor(), ", ".join(machine.isa()))
    if args.only in (None, "3x3"):
        table("3x3, n = 2", spatial, SPATIAL, args)
    if args.only in (None, "1x1"):
        table("1x1, c = C / 2", pointwise, POINTWISE, args)
    if args.only in (None, "depthwise"):
        table("depthwise 3x3, n = 2", depthwise, DEPTHWISE, args)
    if args.only in (None, "resnet50"):
        args.out.mkdir(parents=True, exist_ok=True)
        resnet50(args)


if __name__ == "__main__":
    main()
