"""What does structure cost in accuracy, with and without its regulariser, and what does a narrower network? CIFAR-10.

    python benchmarks/structured_cifar10.py [--data DIR] [--out DIR] [--net cifar_resnet20] [--epochs 12] [--only ROW]
        [--seed 0] [--threads 2] [--skip-tests]

Four networks, each trained from the same random weights on the same pictures in the same order, by the same recipe:
`dense`; `structured`: n = 2 in every layer with a 3x3 kernel but the first, from the start; `regularised`: drawn
towards structure by the penalty, put there after three quarters of the run; `narrow`: dense, with as many
multiplications as the structured one (what the paper does not compare with). Judged are plain test pictures, on the
decomposed network; differences to `dense` are paired by picture, with 95 % intervals. With `--lambdas` the last row is
repeated for other strengths.

SGD with Nesterov momentum, linear decay, label smoothing; pictures grow from 20 to 24 to 32 pixels a side; bfloat16
where the processor has it. A run is checkpointed every epoch, and what is found in `--out` is not trained again.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from shoestring.compress import structured_conv
from shoestring.compress.method import Applied
from shoestring.core.statistics import mean_difference_interval
from shoestring.deploy.archive import write_file
from shoestring.graph.capture import capture
from shoestring.graph.inventory import inventory
from shoestring.models import zoo
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
DENSE, STRUCTURED, NARROW = "dense", "structured", "narrow"


def regularised(strength: float) -> str:
    return f"regularised, lambda {strength:g}"


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

    def run(self, row: str) -> dict[str, Any]:
        """Trains a row, or goes on with it, and judges it."""
        place = self.args.out / f"{self.args.net}-{row.replace(', lambda ', '-')}-{self.args.epochs}-{self.args.seed}"
        result = place.with_name(f"{place.name}.json")
        if result.exists():
            found: dict[str, Any] = json.loads(result.read_bytes())
            return found
        model = network(self.args.net, row, self.args.seed)
        method = None
        if row == STRUCTURED or row.startswith("regularised"):
            method = applied(model, 0.0 if row == STRUCTURED else float(row.split()[-1]))
            method.settle([])
        trained = model if method is None else method.model
        seconds = self.train(trained, method, place)
        final = trained.eval() if method is None else method.bake().eval()
        captured = capture(final, INPUT)
        told = {
            "row": row,
            "right": [int(hit) for hit in self.right(final)],
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
        steps = len(self.train_x) // BATCH
        total = steps * self.args.epochs
        decays = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
        optimiser = torch.optim.SGD(
            [{"params": decays, "weight_decay": DECAY}, {"params": others}], RATE, MOMENTUM, nesterov=True
        )
        model.to(memory_format=torch.channels_last)
        epoch, seconds, identity = 0, 0.0, {"epochs": self.args.epochs}
        if state := checkpoint.load(place, identity):
            epoch, seconds = state["epoch"], state["seconds"]
            if method is not None:
                method.on_step(epoch / self.args.epochs)
                if state["frozen"]:
                    method.freeze()
            model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
        frozen = bool(state and state["frozen"])
        while epoch < self.args.epochs:
            began, model = time.monotonic(), model.train()
            side = next(side for share, side in SIDES if epoch < share * self.args.epochs)
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
                    group["lr"] = RATE * min(share / WARMUP, (1 - share) / (1 - WARMUP))
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
    parser.add_argument("--lambdas", type=float, nargs="*", default=[STRENGTH])
    parser.add_argument("--only", help="dense, structured, regularised or narrow")
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
    found = [bench.run(row) for row in rows if args.only is None or row.startswith(args.only)]
    dense = next((row for row in found if row["row"] == DENSE), found[0])
    print("\n| network | weights | multiplications, M | top-1 | against dense | residual when put |")
    print("|---|---|---|---|---|---|")
    for row in found:
        told = mean_difference_interval(np.asarray(row["right"], float), np.asarray(dense["right"], float))
        against = f"{100 * told.value:+.2f} [{100 * told.low:+.2f}, {100 * told.high:+.2f}]"
        size = f"{row['parameters']:,} | {row['multiplications'] / 1e6:.1f}"
        last = "".join(f"{value:.3f}" for value in list(row["residuals"].values())[-1:])
        print(f"| {row['row']} | {size} | {100 * np.mean(row['right']):.2f} | {against} | {last} |")


if __name__ == "__main__":
    main()
