"""A small CIFAR-10 network for the training experiments: 88.8 % top-1 (4,438 of 5,000 test pictures, one view each).

    PYTHONPATH=src python benchmarks/train_cifar10.py --data DIR [--out DIR] [--epochs 22] [--seed 0] [--threads 2]

MobileNetV2-like, swish, 856,906 parameters, 27.9 million multiply-adds. The goal was 92 %: not reached. The run got 22
epochs, about 4.3 million pictures at 20x20, 24x24 and at last 32x32 pixels, in 5,446 s (91 min) on two shared cores of
an AMD EPYC (AVX2), torch 2.13.0, and was still improving with each; the pictures are lossy JPEGs besides.
Reported are the weights after the last epoch. The length of the run was settled while it ran: in its ninth epoch the
step size fell to 0.91 of its peak and then returned, which a run of this script from the start does not repeat.
`checkpoints/README.md` says more.
"""

import argparse
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from shoestring.models.cifar_mobilenet import cifar_mobilenet

# The input is (x / 255 - MEAN) / STD, red, green, blue.
MEAN = (0.491, 0.482, 0.447)
STD = (0.247, 0.243, 0.261)

BATCH = 256
SMOOTHING = 0.1
WARMUP = 1.5  # epochs over which the step size rises
HOLD = 0.45  # share of the run after which it falls, in a straight line, to zero
SIDES = ((0.31, 20), (0.88, 24), (1.0, 32))  # picture side in pixels, up to that share of the run
MUON_LR, MUON_MOMENTUM = 0.025, 0.9
ADAM_LR, ADAM_DECAY = 3e-3, 0.02


def load(path: Path) -> tuple[Tensor, Tensor]:
    """Decode one split: pictures (N, 3, 32, 32) uint8 and labels (N,) int64."""
    with np.load(path) as file:
        data, offset, label = file["jpeg"].tobytes(), file["offset"], file["label"]
    pictures = [np.asarray(Image.open(io.BytesIO(data[a:b])).convert("RGB")) for a, b in pairwise(offset)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(label).long()


def normalise(pictures: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) -> float32 of about zero mean and unit deviation."""
    mean = torch.tensor(MEAN, device=pictures.device).view(3, 1, 1)
    std = torch.tensor(STD, device=pictures.device).view(3, 1, 1)
    return (pictures.float() / 255 - mean) / std


def batches(
    pictures: Tensor, labels: Tensor, side: int, epoch: int, seed: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """One shuffled epoch, cropped at random (+-4 pixels, mirrored border) and flipped in every other epoch.

    The random numbers depend on `seed` and `epoch` alone, so a resumed run sees the very same batches.
    """
    count = len(pictures)
    rng = torch.Generator().manual_seed(seed * 1000 + epoch + 1)
    order = torch.randperm(count, generator=rng)
    shift = torch.randint(0, 9, (count, 2), generator=rng)
    parity = torch.randint(0, 2, (count,), generator=torch.Generator().manual_seed(seed))
    flip = (parity + epoch) % 2 == 1
    pixel = torch.arange(32)
    for index in order.split(BATCH)[: count // BATCH]:
        padded = F.pad(pictures[index].float(), (4, 4, 4, 4), mode="reflect")
        rows = (pixel + shift[index, :1])[:, None, :, None]  # (B, 1, 32, 1)
        columns = torch.where(flip[index, None], pixel.flip(0), pixel) + shift[index, 1:]
        number = torch.arange(len(index))[:, None, None, None]
        x = padded[number, torch.arange(3)[:, None, None], rows, columns[:, None, None, :]].to(device)
        if side != 32:
            x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        yield normalise(x), labels[index].to(device)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: four Newton-Schulz steps of Muon (Jordan et al. 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix / (matrix.norm() + 1e-7)
    x = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(4):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal, for 1x1 convolutions that a batch norm follows.

    The scale of such weights has no effect, so they are kept at norm sqrt(outputs) and `lr` is the relative step.
    """

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
                outputs, inputs = ahead.shape
                weight.mul_(outputs**0.5 / weight.norm())
                scale = max(1.0, outputs / inputs) ** 0.5
                weight.sub_(orthogonalise(ahead).view_as(weight), alpha=group["lr"] * scale)


def optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the 1x1 convolutions; Adam for the rest, with weight decay on nothing of one dimension."""
    dense = [p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 3]
    rest = [p for p in model.parameters() if not (p.ndim == 4 and p.shape[1] > 3)]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": ADAM_DECAY},
        {"params": [p for p in rest if p.ndim == 1], "weight_decay": 0.0},
    ]
    chosen: list[torch.optim.Optimizer] = [
        Muon(dense, MUON_LR, MUON_MOMENTUM),
        torch.optim.AdamW(groups, ADAM_LR, betas=(0.9, 0.99)),
    ]
    for optimizer in chosen:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return chosen


def schedule(epoch: float, epochs: int) -> float:
    """Step size, relative to its peak, at a point of the run: rise, hold, fall."""
    return min(1.0, epoch / WARMUP, (1 - epoch / epochs) / (1 - HOLD))


@torch.no_grad()
def accuracy(model: nn.Module, pictures: Tensor, labels: Tensor, device: torch.device) -> float:
    """Top-1 on plain pictures: one view each, no test-time augmentation."""
    model.eval()
    right = 0
    for x, y in zip(pictures.split(500), labels.split(500), strict=True):
        right += int((model(normalise(x.to(device))).argmax(1).cpu() == y).sum())
    model.train()
    return right / len(labels)


def write(path: Path, content: bytes) -> None:
    """Replace `path` so that a reader, or a crash, finds the old file or the new one and nothing between."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def export(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Half-precision state dict (counters of batches stay integers) as safetensors."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    write(path, save({k: v.cpu().contiguous() for k, v in state.items()}, metadata))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"), help="holds train.npz, test.npz")
    parser.add_argument("--out", type=Path, default=Path("cifar10-run"), help="folder; a run found in it is resumed")
    parser.add_argument("--epochs", type=int, default=22)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch chooses")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    args.out.mkdir(parents=True, exist_ok=True)
    train_x, train_y = load(args.data / "train.npz")
    test_x, test_y = load(args.data / "test.npz")

    torch.manual_seed(args.seed)
    model = cifar_mobilenet().to(device)
    chosen = optimizers(model)
    epoch, seconds, result = 0, 0.0, 0.0
    saved = args.out / "last.pt"
    if saved.exists():
        run = torch.load(saved, map_location=device, weights_only=True)
        model.load_state_dict(run["model"])
        for optimizer, state in zip(chosen, run["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        epoch, seconds, result = run["epoch"], run["seconds"], run["accuracy"]

    steps = len(train_x) // BATCH
    step = epoch * steps
    while epoch < args.epochs:
        start = time.time()
        side = next(side for share, side in SIDES if epoch < share * args.epochs)
        total = torch.zeros((), device=device)
        for x, y in batches(train_x, train_y, side, epoch, args.seed, device):
            factor = schedule((step + 0.5) / steps, args.epochs)
            loss = F.cross_entropy(model(x), y, label_smoothing=SMOOTHING)
            loss.backward()
            for optimizer in chosen:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * factor
                optimizer.step()
                optimizer.zero_grad()
            step += 1
            total += loss.detach()
        epoch += 1
        seconds += time.time() - start
        result = accuracy(model, test_x, test_y, device)
        line = {
            "epoch": epoch, "side": side, "lr": round(factor, 4), "loss": round(float(total) / steps, 4),
            "accuracy": result, "seconds": round(seconds),
        }  # fmt: skip
        print(json.dumps(line), flush=True)
        buffer = io.BytesIO()
        run = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in chosen]}
        torch.save(run | {"epoch": epoch, "seconds": seconds, "accuracy": result}, buffer)
        write(saved, buffer.getvalue())

    metadata = {
        "accuracy": f"{result:.4f}", "epochs": str(epoch), "seed": str(args.seed),
        "mean": json.dumps(MEAN), "std": json.dumps(STD),
    }  # fmt: skip
    export(model, args.out / "cifar_mobilenet.safetensors", metadata)


if __name__ == "__main__":
    main()
