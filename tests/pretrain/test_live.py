"""The glance at an encoder: ridge regression against its own equations, folds that hold every class, rows that stay."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shoestring.core.errors import BadInput
from shoestring.models.point_vit import PointViT
from shoestring.pretrain.live import Labelled, Log, effective_rank, parts, ridge_accuracy


def test_every_fold_has_its_part_of_every_class() -> None:
    labels = np.repeat([0, 1, 2], [25, 10, 5])
    np.random.default_rng(0).shuffle(labels)
    fold = parts(labels, 5, seed=1)
    for k in range(5):
        assert np.bincount(labels[fold == k]).tolist() == [5, 2, 1]
    assert not np.array_equal(parts(labels, 5, seed=2), fold)


def test_accuracy_is_that_of_a_ridge_by_least_squares() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    values = rng.standard_normal((60, 8)) + np.eye(8)[labels]
    fold, right = parts(labels, 5, 0), 0
    for k in range(5):
        train = fold != k
        mean, scale = values[train].mean(0), values[train].std(0)
        x, wanted = (values[train] - mean) / scale, np.eye(3)[labels[train]]
        # Ridge as rows of data: sqrt(lambda n) on the diagonal, answered by nothing.
        extra = np.sqrt(0.1 * train.sum()) * np.eye(8)
        rule, *_ = np.linalg.lstsq(np.r_[x, extra], np.r_[wanted - wanted.mean(0), np.zeros((8, 3))], rcond=None)
        scores = (values[~train] - mean) / scale @ rule + wanted.mean(0)
        right += (scores.argmax(1) == labels[~train]).sum()
    assert ridge_accuracy(values, labels) == pytest.approx(right / 60)
    assert 0.5 < right / 60 < 1
    assert ridge_accuracy(np.eye(3)[labels], labels) == 1
    assert ridge_accuracy(rng.standard_normal((60, 8)), labels) < 0.6


def test_the_rank_is_of_directions_that_are_filled() -> None:
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    q = q - q.mean(0)
    u, _, v = np.linalg.svd(q, full_matrices=False)
    for sizes in ([1.0, 1, 1, 1], [5.0, 1, 1], [1.0]):
        shares = np.array(sizes) / sum(sizes)
        expected = np.exp(-sum(p * np.log(p) for p in shares))
        values = (u[:, : len(sizes)] * sizes) @ v[: len(sizes)] + 3
        assert effective_rank(values) == pytest.approx(expected)
    assert effective_rank(np.ones((5, 3))) == pytest.approx(1)


def test_labelled_clouds_are_those_with_a_class(clouds: np.ndarray, labels: np.ndarray, encoder: PointViT) -> None:
    labels[:4] = -1
    given = Labelled(clouds, labels, points=50)
    assert given.clouds.shape == (10, 50, 3)
    assert given.labels.tolist() == [0, 1] * 5
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    found = given.features(encoder)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    np.testing.assert_allclose(
        found, encoder.eval().features(torch.from_numpy(given.clouds)).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    assert not np.allclose(given.features(encoder, "frames"), found)


@pytest.mark.parametrize("labels", [np.zeros(14, int), np.full(14, -1), np.arange(13), np.arange(14) / 2])
def test_labels_that_do_not_fit_are_told(clouds: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"^probe: "):
        Labelled(clouds, labels)


def test_rows_are_kept_and_found_again(
    tmp_path: Path, clouds: np.ndarray, labels: np.ndarray, encoder: PointViT
) -> None:
    given, path = Labelled(clouds, labels, 50), tmp_path / "log.json"
    log = Log(path, encoder, "none", given, every=2, epochs=5)
    assert log.on_epoch([3.0]) == ""
    said = log.on_epoch([3.0, 2.0])
    values = given.features(encoder)
    value, rank = 100 * ridge_accuracy(values, given.labels), effective_rank(values)
    assert said == f"probe {value:.1f} %, rank {rank:.1f}"
    last = {"epoch": 2, "loss": 2.0, "probe": round(value, 2), "rank": round(rank, 2)}
    assert json.loads(path.read_text()) == [{"epoch": 1, "loss": 3.0}, last]
    assert log.on_epoch([3.0, 2.0, 1.5]) == said  # the last there is

    again = Log(path, encoder, "none", given, every=2, epochs=5)  # continued after epoch 2
    assert again.on_epoch([3.0, 2.0, 1.5]) == said
    assert json.loads(path.read_text()) == log.rows == again.rows
    again.on_epoch([3.0, 2.0, 1.5, 1.4])
    again.on_epoch([3.0, 2.0, 1.5, 1.4, 1.3])
    assert [row["epoch"] for row in again.rows if "probe" in row] == [2, 4, 5]
    assert Log(path, encoder, "none").finish([3.0, 2.0, 1.5, 1.4, 1.3]) == again.rows


def test_a_log_that_cannot_be_read_is_begun_anew(tmp_path: Path, encoder: PointViT) -> None:
    path = tmp_path / "log.json"
    for broken in ("[{", "3", '[{"loss": 1}]'):
        path.write_text(broken)
        log = Log(path, encoder, "none")
        assert log.on_epoch([1.0, 0.5]) == ""
        assert log.rows == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]
