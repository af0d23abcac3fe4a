"""How good a segmentation of points is: intersection over union, per shape and per scene."""

import numpy as np

from shoestring.core.errors import BadInput


def shape_iou(outputs: np.ndarray, targets: np.ndarray, parts: "list[np.ndarray] | None" = None) -> np.ndarray:
    """Per shape the mean over its parts of intersection / union, float64 [n] in 0..1: the score that ShapeNetPart's
    instance mIoU is the mean of (Qi et al. 2017, section 5.1). A part that is neither there nor predicted counts as 1.

    `outputs`: [n, points, all parts]; `targets`: whole numbers [n, points], -1 where a point has none. `parts`: per
    shape the parts that its category has, among which alone the prediction chooses; None: those of its targets and
    predictions. A point with NaN or +inf is predicted to be nothing. Raises BadInput when shapes do not fit."""
    _require(outputs, targets)
    scores = np.empty(len(outputs))
    for n, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        allowed = np.arange(output.shape[1]) if parts is None else np.asarray(parts[n])
        fine = np.isfinite(output[:, allowed].max(axis=1))
        predicted = np.where(fine, allowed[output[:, allowed].argmax(axis=1)], -2)
        known = target >= 0
        asked = np.union1d(target[known], predicted[known & fine]) if parts is None else allowed
        ious = [_iou(predicted[known] == part, target[known] == part) for part in asked]
        scores[n] = np.mean(ious) if ious else 1.0
    return scores


def scene_miou(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The mean over classes of intersection / union over all points of all scenes, classes that are in no target left
    out, as S3DIS and ScanNet are judged; in 0..1. Arguments as in `shape_iou`."""
    _require(outputs, targets)
    classes = outputs.shape[2]
    known = targets >= 0
    predicted = np.where(np.isfinite(outputs.max(axis=2)), outputs.argmax(axis=2), classes)[known]
    table = np.bincount(targets[known] * (classes + 1) + predicted, minlength=classes * (classes + 1))
    table = table.reshape(classes, classes + 1)
    right = np.diagonal(table)
    there = table.sum(axis=1)
    union = there + table[:, :classes].sum(axis=0) - right
    return float((right[there > 0] / union[there > 0]).mean()) if there.any() else 1.0


def _iou(predicted: np.ndarray, target: np.ndarray) -> float:
    union = int((predicted | target).sum())
    return int((predicted & target).sum()) / union if union else 1.0


def _require(outputs: np.ndarray, targets: np.ndarray) -> None:
    if outputs.ndim != 3 or targets.shape != outputs.shape[:2] or targets.dtype.kind not in "iu":
        what = f"outputs {outputs.shape} and targets {targets.dtype} {targets.shape}"
        raise BadInput(f"quality: {what} are not [n, points, parts] and whole numbers [n, points]")
    if (targets >= outputs.shape[2]).any():
        raise BadInput(f"quality: target {int(targets.max())} is not one of {outputs.shape[2]} parts")
