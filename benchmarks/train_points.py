"""Trains `point_mlp` on made shapes (12 classes, 1,024 points): `checkpoints/point_mlp_shapes.safetensors`.

    python benchmarks/train_points.py [--out FILE] [--each 64] [--epochs 5] [--lr 0.002] [--seed 0] [--threads 1]

The shapes are those of `--demo` (`shoestring.points.demo`), numbers 0 to EACH - 1 of each class; judged are numbers
1,000 to 1,099, which nobody has seen: 1,200 clouds. A run that was stopped goes on.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from shoestring.deploy.archive import write_file
from shoestring.deploy.preprocess import preprocess
from shoestring.models.point_mlp import point_mlp
from shoestring.models.zoo import entry
from shoestring.pipeline.dataset import Dataset, Item
from shoestring.points.demo import CLASSES, Shape
from shoestring.points.training import TrainingClouds
from shoestring.train.loop import train
from shoestring.train.recipe import Recipe

SPEC = entry("point_mlp").preprocess
JUDGED = range(1000, 1100)  # of each class
FILE = Path(__file__).parent / "checkpoints/point_mlp_shapes.safetensors"


def shapes(numbers: range) -> Dataset:
    """These of each class."""
    items = (
        Item(Shape(name, number), target, f"{name} {number}")
        for target, name in enumerate(CLASSES)
        for number in numbers
    )
    return Dataset(tuple(items), tuple(CLASSES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--each", type=int, default=64, help="shapes of a class to train on")
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = point_mlp(len(CLASSES))
    recipe = Recipe(
        options.epochs,
        options.batch,
        options.lr,
        weight_decay=0.05,
        ema=0.0,
        distil=0.0,
        seed=options.seed,
        optimiser="adamw",
    )
    data = TrainingClouds(shapes(range(options.each)), SPEC, options.seed)
    train(model, data, recipe, folder=options.out.with_suffix(".training"), progress=told)
    accuracy = 100 * right(model, shapes(JUDGED)).mean()
    half = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    about = {"classes": ",".join(CLASSES), "epochs": f"{options.epochs:g}", "top1": f"{accuracy:.2f}"}
    write_file(options.out, save(half, about))
    print(f"wrote {options.out}: {accuracy:.2f} % of {len(CLASSES) * len(JUDGED)} shapes")


@torch.no_grad()
def right(model: torch.nn.Module, judged: Dataset) -> np.ndarray:
    """For each cloud whether its class is found."""
    model.eval()
    found = [int(model(torch.from_numpy(preprocess(SPEC, raw))[None]).argmax()) == target for raw, target in judged]
    return np.array(found)


def told(stage: str, share: float) -> None:
    print(f"{time.strftime('%H:%M:%S')} {stage} {share:.1%}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
