"""What does structure cost in accuracy, with and without its regulariser, and what does a narrower network? CIFAR-10.

    python benchmarks/structured_cifar10.py [--data DIR] [--out DIR] [--net cifar_resnet20] [--epochs 12] [--only ROW]
        [--seed 0] [--threads 2] [--skip-tests]

Four networks, each trained from the same random weights on the same pictures in the same order, by the same recipe:
`dense`; `structured`: n = 2 in every layer with a 3x3 kernel but the first, from the start; `regularised`: drawn
towards structure by the penalty, put there after three quarters of the run (with `--lambdas` once for each strength);
`narrow`: dense, with as many multiplications as the structured one, which the paper does not compare with. Then the
trained dense network for a few epochs more (`tuned`): as it is, drawn towards structure (what `fit` does), and put
there at once. Judged are plain test pictures, on the decomposed network; differences to `dense` are paired by picture,
with 95 % intervals. At the end all networks are quantised to 8 bits after training, judged in ONNX Runtime, and timed
in turns on every runtime.

SGD with Nesterov momentum, linear decay, label smoothing; pictures grow from 20 to 24 to 32 pixels a side; bfloat16
where the processor has it. A run is checkpointed every epoch, and what is found in `--out` is not trained again.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import ModelProto
from torch import fx, nn

from shoestring.compress import structured_conv
from shoestring.compress.method import Applied
from shoestring.core.statistics import mean_difference_interval
from shoestring.deploy import runtimes
from shoestring.deploy.archive import write_file
from shoestring.deploy.export import export
from shoestring.graph.capture import capture
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory
from shoestring.models import zoo
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import eight_bit
from shoestring.pipeline.samples import Samples
from shoestring.pipeline.stopwatch import milliseconds
from shoestring.train import checkpoint

sys.path.insert(0, str(Path(__file__).parent))
import train_cifar10 as cifar  # its pictures

ROOT = Path(__file__).parents[1]
TESTS = ("tests/compress/structured_conv", "tests/graph/test_sums.py")
INPUT = (3, 32, 32)
BATCH, RATE, MOMENTUM, DECAY, SMOOTHING, WARMUP = 256, 0.4, 0.9, 5e-4, 0.1, 0.1
SIDES = ((0.35, 20), (0.8, 24), (1.0, 32))  # pixels, up to that share of the run
PUT = 0.75  # share of the run after which the regularised weights are put into the span
STRENGTH = 0.1
CALIBRATION = 128
DENSE, STRUCTURED, NARROW = "dense", "structured", "narrow"


TUNED = "tuned"
TUNED_RATE, TUNED_STRENGTH = 0.1, 1.0  # of a trained network, for a few epochs at full size


def regularised(strength: float) -> str:
    return f"regularised, lambda {strength:g}"


def tuned(what: str) -> str:
    return f"{TUNED}, {what}"


def network(net: str, row: str, seed: int) -> nn.Module:
    """Untrained; the same weights for all rows but the narrow one."""
    torch.manual_seed(seed)
    factory: Any = zoo.entry(net).factory
    return factory(narrow(net)) if row == NARROW else factory()


def narrow(net: str) -> tuple[int, int, int]:
    """The channels of the dense network whose multiplications are nearest to those of the structured one."""
    factory: Any = zoo.entry(net).factory
    asked = multiplications(applied(factory(), 0.0).bake())
    widths = [(w, 2 * w, 4 * w) for w in range(6, 17)]
    return min(widths, key=lambda width: abs(multiplications(capture(factory(width), INPUT)) - asked))


def multiplications(model: nn.Module) -> int:
    """Those of small layers; sums only add."""
    return sum(layer.macs for layer in inventory(model, INPUT) if not layer.fixed)  # type: ignore[arg-type]  # captured


def applied(model: nn.Module, strength: float) -> Applied:
    captured = capture(model, INPUT)
    layers = [layer for layer in inventory(captured, INPUT) if layer.kind in structured_conv.CARD.kinds]
    setting = structured_conv.parse(f"n=2:lambda{strength:g}")
    return structured_conv.apply(captured, structured_conv.assign(layers, setting))


class Bench:
    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.train_x, self.train_y = cifar.load(args.data / "train.npz")
        self.test_x, self.test_y = cifar.load(args.data / "test.npz")
        self.low = torch.ops.mkldnn._is_mkldnn_bf16_supported()

    def place(self, row: str) -> Path:
        what = row.replace(", ", "-").replace("lambda ", "")
        return self.args.out / f"{self.args.net}-{what}-{self.args.epochs}-{self.args.seed}"

    def run(self, row: str) -> dict[str, Any]:
        """Trains a row, or goes on with it, and judges it."""
        place = self.place(row)
        result = place.with_name(f"{place.name}.json")
        if result.exists():
            found: dict[str, Any] = json.loads(result.read_bytes())
            return found
        model = network(self.args.net, row, self.args.seed)
        if row.startswith(TUNED):
            state = checkpoint.load(self.place(DENSE), {"epochs": self.args.epochs})
            assert state is not None, "the dense row comes first"
            model.load_state_dict(state["model"])
        method = None
        if row.endswith(STRUCTURED) or "lambda" in row:
            method = applied(model, 0.0 if row.endswith(STRUCTURED) else float(row.split()[-1]))
            method.settle([])
        trained = model if method is None else method.model
        seconds = self.train(trained, method, place)
        final = trained.eval() if method is None else method.bake().eval()
        captured = capture(final.to(memory_format=torch.contiguous_format), INPUT)
        graph = self.in_8_bits(captured)
        onnx.save(graph, place.with_name(f"{place.name}.onnx"))
        told = {
            "row": row,
            "right": [int(hit) for hit in self.right(final)],
            "right_int8": [int(hit) for hit in self.right_int8(graph)],
            "parameters": sum(p.numel() for p in final.parameters() if p.requires_grad),
            "multiplications": multiplications(captured),
            "seconds": round(seconds),
            "residuals": {
                f"{share:.3f}": float(np.mean(list(found.values()))) for share, found in method.residuals.items()
            }
            if method is not None
            else {},
        }
        write_file(result, json.dumps(told).encode())
        return told

    def train(self, model: nn.Module, method: Applied | None, place: Path) -> float:
        tune = TUNED in place.name
        epochs, rate = (self.args.tune, TUNED_RATE) if tune else (self.args.epochs, RATE)
        steps = len(self.train_x) // BATCH
        total = steps * epochs
        decays = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
        optimiser = torch.optim.SGD(
            [{"params": decays, "weight_decay": DECAY}, {"params": others}], rate, MOMENTUM, nesterov=True
        )
        model.to(memory_format=torch.channels_last)
        epoch, seconds, identity = 0, 0.0, {"epochs": epochs}
        if state := checkpoint.load(place, identity):
            epoch, seconds = state["epoch"], state["seconds"]
            if method is not None:
                method.on_step(epoch / epochs)
                if state["frozen"]:
                    method.freeze()
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
        frozen = bool(state and state["frozen"])
        while epoch < epochs:
            began, model = time.monotonic(), model.train()
            side = 32 if tune else next(side for share, side in SIDES if epoch < share * epochs)
            loss_sum = 0.0
            device = torch.device("cpu")
            for index, (x, y) in enumerate(
                cifar.batches(self.train_x, self.train_y, side, epoch, self.args.seed, device)
            ):
                step = epoch * steps + index
                if method is not None and not frozen and step >= PUT * total:
                    method.freeze()
                    frozen = True
                share = (step + 0.5) / total
                for group in optimiser.param_groups:
                    group["lr"] = rate * min(share / WARMUP, (1 - share) / (1 - WARMUP))
                with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
                    output = model(x.contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(output.float(), y, label_smoothing=SMOOTHING)
                whole = loss if method is None else loss + method.penalty()
                whole.backward()
                optimiser.step()
                optimiser.zero_grad()
                loss_sum += float(loss.detach())
                if method is not None:
                    method.on_step((step + 1) / total)
            epoch += 1
            seconds += time.monotonic() - began
            told = f"{side} px, loss {loss_sum / steps:.3f}, test {100 * float(self.right(model).mean()):.2f}"
            status = "" if method is None else method.status()
            print(f"{place.name}: epoch {epoch}, {told}, {seconds:.0f} s {status}", flush=True)
            checkpoint.save(
                place,
                identity,
                {
                    "epoch": epoch,
                    "seconds": seconds,
                    "frozen": frozen,
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                },
            )
        return seconds

    def in_8_bits(self, captured: fx.GraphModule) -> ModelProto:
        folded = fold(captured)
        network = Original(self.args.net, export(folded, INPUT), inventory(folded, INPUT), INPUT)
        inputs = [cifar.normalise(x[None]).numpy() for x in self.train_x[:CALIBRATION]]
        return eight_bit(network, Samples(inputs, inputs)).build()

    def right_int8(self, graph: ModelProto) -> np.ndarray:
        session = runtimes.get("onnxruntime").open(graph.SerializeToString(), precision="fp32")
        inputs = cifar.normalise(self.test_x).numpy()
        return np.concatenate([session(x[None])[0].argmax(1) for x in inputs]) == self.test_y.numpy()

    def milliseconds(self, rows: Sequence[str]) -> dict[str, dict[str, float]]:
        """Of the 8-bit files, by runtime."""
        graphs = {row: onnx.load(self.args.out / f"{self.place(row).name}.onnx") for row in rows}
        forms = {f"{row}@{name}": (graph, name) for row, graph in graphs.items() for name in runtimes.installed()}
        told = milliseconds(forms, 1, seconds=8)
        return {row: {name: told[f"{row}@{name}"] for name in runtimes.installed()} for row in rows}

    @torch.no_grad()
    def right(self, model: nn.Module) -> np.ndarray:
        """Whether each test picture's class is found, bool [n]."""
        model.eval()
        found = [
            model(cifar.normalise(x)).argmax(1) == y
            for x, y in zip(self.test_x.split(500), self.test_y.split(500), strict=True)
        ]
        return torch.cat(found).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"), help="holds train.npz, test.npz")
    parser.add_argument("--out", type=Path, default=Path("structured-cifar10"), help="folder; runs found in it go on")
    parser.add_argument("--net", default="cifar_resnet20", choices=["cifar_resnet20", "cifar_resnet56"])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--tune", type=int, default=3, help="epochs of the rows that begin with the dense network")
    parser.add_argument("--lambdas", type=float, nargs="*", default=[STRENGTH])
    parser.add_argument("--only", help="dense, structured, regularised, narrow or tuned")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch chooses")
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    args = parser.parse_args()
    if not args.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        sys.exit("the tests are red: nothing is measured")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    rows = [DENSE, *map(regularised, args.lambdas), STRUCTURED, NARROW]
    rows += map(tuned, (DENSE, f"lambda {TUNED_STRENGTH:g}", STRUCTURED)) if args.tune else []
    found = [bench.run(row) for row in rows if args.only is None or row.startswith(args.only)]
    dense = next((row for row in found if row["row"] == DENSE), found[0])
    names = runtimes.installed()
    ms = bench.milliseconds([row["row"] for row in found])
    told = ["network", "weights", "multiplications, M", "top-1", "against dense", "residual when put", "top-1, 8 bits"]
    told += [f"ms, 8 bits, {name}" for name in names]
    print(f"\n| {' | '.join(told)} |\n{'|---' * len(told)}|")
    for row in found:
        gap = mean_difference_interval(np.asarray(row["right"], float), np.asarray(dense["right"], float))
        against = f"{100 * gap.value:+.2f} [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]" if row is not dense else ""
        size = f"{row['parameters']:,} | {row['multiplications'] / 1e6:.1f}"
        last = "".join(f"{value:.3f}" for value in list(row["residuals"].values())[-1:])
        took = " | ".join(f"{ms[row['row']][name]:.4f}" for name in names)
        print(
            f"| {row['row']} | {size} | {100 * np.mean(row['right']):.2f} | {against} | {last} | "
            f"{100 * np.mean(row['right_int8']):.2f} | {took} |"
        )


if __name__ == "__main__":
    main()
