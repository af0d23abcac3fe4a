"""What does the sparse U-Net make of a real scan? Ground and what stands on it, airborne lidar, one thread.

    python benchmarks/points_segmentation.py [--data DIR] [--steps 300] [--seeds 2] [--html FILE] [--json FILE]

`Megaplot.laz` of lidR (81,590 points, 227 x 234 m of forest). The heights in the file are above the ground, so that a
threshold alone would tell the ground from the rest (its IoU is printed); here every point is lifted by a terrain of
slopes that is made up, and by noise of 10 cm. Four strips: three train, the fourth is judged, each in its turn, for
every seed; the terrain of a strip in training is another than when it is judged. The baselines see the height above the
lowest point in columns of 2, 5 and 10 m and the shape of the 16 nearest neighbours. Also timed: a submanifold
convolution against the dense one of the same cells.

Needs `pip install "laspy[lazrs]" scikit-learn`.
"""

import argparse
import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray
from rich.console import Console
from scipy.spatial import cKDTree
from torch.nn import functional as F

from shoestring.core.evaluation import Cost, Evaluation, Row
from shoestring.core.resamples import resampled_difference, resampled_interval
from shoestring.geometry.rulebook import neighbours, voxelise
from shoestring.measure.machine import processor
from shoestring.measure.timing import Schedule, interleave
from shoestring.models.sparse_conv import SparseConv3d
from shoestring.models.sparse_unet import SparseUNet
from shoestring.pretrain.evaluation.cost import network_cost
from shoestring.pretrain.evaluation.scikit import scikit_learn
from shoestring.pretrain.evaluation.segmentation import head_logits, scene_iou
from shoestring.report.cloud import embedded, label_colours, pca_colours, splat
from shoestring.report.evaluation import evaluation_html, print_evaluation

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/geometry/test_voxels.py",
    "tests/models/test_sparse_conv.py",
    "tests/models/test_sparse_unet.py",
    "tests/pretrain/evaluation/test_segmentation.py",
)
STRIPS, VOXEL, SQUARE, NOISE = 4, 1.0, 70.0, 0.1
CHANNELS = (16, 24, 32, 48)
GROUND = 2  # in the file
NET, FOREST, LINEAR = "sparse U-Net, 1 m", "random forest, hand-made", "linear, hand-made"
NOTHING = "no ground anywhere"


def main() -> int:
    options = arguments()
    file = options.data / "Megaplot.laz"
    if not file.exists():
        print(f"skipped: no {file}; give --data DIR")
        return 0
    if find_spec("laspy") is None or find_spec("lazrs") is None:
        print('skipped: reading .laz needs a package; write: pip install "laspy[lazrs]"')
        return 0
    if not options.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        print("The tests of what is measured here are red: nothing was measured.", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    for share in (0.02, 0.1, 0.3):
        against_dense(share)
    plain, labels = read(file)
    print(f"height of the file below 1 mm as ground: IoU {scene_iou(as_ground(plain), labels, 2)[1]:.1f} %")
    scores, model = judged(plain, labels, options)
    table = evaluation(scores, model, options)
    print_evaluation(table, Console(width=120))
    for name in (FOREST, LINEAR):
        found = resampled_difference(scores[NET], scores[name], 1 / (STRIPS - 1))
        print(f"{NET} minus {name}: {found.value:+.2f} pt [{found.low:+.2f}, {found.high:+.2f}], {found.n} pairs")
    if options.json:
        options.json.write_text(json.dumps(table.to_json(), indent=1))
    if options.html:
        options.html.write_text(evaluation_html(table, pictures(model, plain, labels)), encoding="utf-8")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/lidar_lidR", help="Megaplot.laz")
    parser.add_argument("--steps", type=int, default=300, help="of training, a square of 70 m each")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--html", type=Path, help="the table and pictures as a page")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--skip-tests", action="store_true")
    return parser.parse_args()


def read(file: Path) -> tuple[ndarray, ndarray]:
    """Points float64 [N, 3] from their lowest corner in metres, and whether each is ground, int64 [N]."""
    import laspy

    found = laspy.read(file)
    points = np.stack([found.x, found.y, found.z], axis=1)
    points[:, :2] -= points[:, :2].min(0)
    return points, (np.asarray(found.classification) == GROUND).astype(np.int64)


def as_ground(points: ndarray) -> ndarray:
    return (points[:, 2] < 1e-3).astype(np.int64)


def lifted(points: ndarray, seed: int) -> ndarray:
    """On a terrain of eight waves, 60 to 200 m long and up to 4 m high (slopes up to about 1 in 2), with noise."""
    random = np.random.default_rng(seed)
    height = random.normal(0, NOISE, len(points))
    for _ in range(8):
        angle, length = random.uniform(0, 2 * np.pi), random.uniform(60, 200)
        along = points[:, 0] * np.cos(angle) + points[:, 1] * np.sin(angle)
        height += random.uniform(0, 4) * np.sin(2 * np.pi * along / length + random.uniform(0, 2 * np.pi))
    return points + np.stack([np.zeros_like(height), np.zeros_like(height), height], axis=1)


def judged(plain: ndarray, labels: ndarray, options: argparse.Namespace) -> tuple[dict[str, ndarray], SparseUNet]:
    """mIoU in per cent of each fold of each seed, and the last network."""
    strip = np.minimum((plain[:, 0] / (plain[:, 0].max() + 1e-9) * STRIPS).astype(int), STRIPS - 1)
    scores: dict[str, list[float]] = {NET: [], FOREST: [], LINEAR: [], NOTHING: []}
    for seed in range(options.seeds):
        for held in range(STRIPS):
            start = time.process_time()
            train, test = strip != held, strip == held
            x, y = lifted(plain[train], 100 * seed + held), labels[train]
            unseen, target = lifted(plain[test], 100 * seed + held + 50), labels[test]
            model = trained(x, y, options.steps, seed)
            own, theirs = by_hand(x), by_hand(unseen)
            forest = scikit_learn("ensemble").RandomForestClassifier(50, min_samples_leaf=5, random_state=seed)
            found = {
                NET: predict(model, unseen),
                FOREST: forest.fit(own, y).predict(theirs),
                LINEAR: head_logits(own, y, theirs).argmax(1),
                NOTHING: np.zeros_like(target),
            }
            for name, predicted in found.items():
                scores[name].append(float(np.nanmean(scene_iou(predicted, target, 2))))
            told = ", ".join(f"{name} {of[-1]:.1f}" for name, of in scores.items())
            print(f"seed {seed}, strip {held}: {told} ({time.process_time() - start:.0f} s)", flush=True)
    return {name: np.array(of) for name, of in scores.items()}, model


def trained(points: ndarray, labels: ndarray, steps: int, seed: int) -> SparseUNet:
    """Adam, one cycle; every step takes a square of 70 m about a point and turns and shifts it against the grid."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = SparseUNet(2, VOXEL, channels=CHANNELS).train()
    optimiser = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.01, total_steps=steps)
    for _ in range(steps):
        middle = points[random.integers(len(points)), :2]
        inside = np.abs(points[:, :2] - middle).max(1) < SQUARE / 2
        angle = random.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        moved = points[inside] @ turn.T * random.uniform(0.95, 1.05) + random.uniform(0, VOXEL, 3)
        optimiser.zero_grad()
        logits = model(torch.from_numpy(moved).float()[None])[0]
        F.cross_entropy(logits, torch.from_numpy(labels[inside])).backward()
        optimiser.step()
        cycle.step()
    return model.eval()


@torch.no_grad()
def predict(model: SparseUNet, points: ndarray) -> ndarray:
    return model(torch.from_numpy(points).float()[None])[0].argmax(1).numpy()


def by_hand(points: ndarray) -> ndarray:
    """[N, 10]: height above the lowest point in the column of 2, 5, 10 m; shape and uprightness of 16 neighbours; the
    height among them and their distance."""
    heights = []
    for side in (2.0, 5.0, 10.0):
        _, column = np.unique((points[:, :2] // side).astype(int), axis=0, return_inverse=True)
        lowest = np.full(column.max() + 1, np.inf)
        np.minimum.at(lowest, column, points[:, 2])
        heights.append(points[:, 2] - lowest[column])
    away, near = cKDTree(points).query(points, 16)
    local = points[near] - points[near].mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", local, local) / 16)
    third, second, first = np.sqrt(np.maximum(values, 0)).T + 1e-9
    shape = [(first - second) / first, (second - third) / first, third / first, np.abs(vectors[:, 2, 0])]
    rank = points[:, 2] - points[near, 2].mean(1), np.ptp(points[near, 2], axis=1), np.log(away[:, -1] + 1e-3)
    return np.stack([*heights, *shape, *rank], axis=1)


def evaluation(scores: dict[str, ndarray], model: SparseUNet, options: argparse.Namespace) -> Evaluation:
    rows = []
    tile = torch.rand(1, 4096, 3) * torch.tensor([40.0, 40.0, 15.0])
    cost = network_cost(model, tile)
    for name, of in scores.items():
        found = resampled_interval(of, 1 / (STRIPS - 1))
        mine = cost if name == NET else Cost()
        row = Row(name, "scene mIoU", found.value, found.low, found.high, found.n, options.seeds, mine, name != NET)
        rows.append(row)
    notes = (
        "Heights in the file are above the ground; a made-up terrain and 10 cm of noise were added, see the script.",
        "Strips border on each other, so that trees on a border are half seen in training.",
        "Cost: of 4,096 random points in 40 x 40 x 15 m, in torch, CPU time of one thread; MB: torch is in it.",
    )
    device = {"processor": processor(), "threads": 1, "versions": {"torch": torch.__version__}}
    data = f"Megaplot of lidR: ground or not, {STRIPS} strips judged in turn, {options.steps} steps of training"
    return Evaluation("Airborne lidar, from scratch", "mIoU", data, tuple(rows), device, notes)


@torch.no_grad()
def pictures(model: SparseUNet, plain: ndarray, labels: ndarray) -> dict[str, object]:
    """A corner of the plot."""
    x = lifted(plain, 999)
    features, index, _ = model.per_voxel(torch.from_numpy(x).float()[None])
    corner = (x[:, 0] < 90) & (x[:, 1] < 110)
    of = pca_colours(features[index].numpy()[corner])
    shown = {
        "Features of the network, by their principal components": of,
        "What it calls ground": label_colours(predict(model, x)[corner]),
        "Ground in the file": label_colours(labels[corner]),
    }
    return {caption: embedded(splat(x[corner], colours, (640, 420)), caption) for caption, colours in shown.items()}


def against_dense(share: float) -> None:
    """One 3x3x3 convolution, 16 to 32 channels, forward and backward, in a cube of 48 cells that are there in part."""
    random = torch.Generator().manual_seed(0)
    cells = torch.nonzero(torch.rand(1, 48, 48, 48, generator=random) < share)
    cells, _ = voxelise((cells[:, 1:].float() + 0.5)[None], 1.0)
    rules, conv = neighbours(cells), SparseConv3d(16, 32, 27)
    x, volume = torch.randn(len(cells), 16, requires_grad=True), torch.randn(1, 16, 48, 48, 48, requires_grad=True)
    kernel = conv.weight.detach().reshape(3, 3, 3, 16, 32).permute(4, 3, 0, 1, 2).contiguous().requires_grad_()
    subjects = {
        "sparse": lambda: conv(x, rules, len(cells)).sum().backward(),
        "dense": lambda: F.conv3d(volume, kernel, padding=1).sum().backward(),
        "rules": lambda: neighbours(cells),
    }
    found = interleave(subjects, Schedule(seconds=6, rounds=(8, 40), warm_up=1))
    ratio = found.ratio("sparse", "dense")
    ms = {name: f"{found.measurement(name).value:.1f} ms" for name in subjects}
    print(
        f"{share:.0%} of 48^3 cells ({len(cells)}): sparse {ms['sparse']}, its rule book {ms['rules']}, dense "
        f"{ms['dense']}: {ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"
    )


if __name__ == "__main__":
    sys.exit(main())
