"""The table a run ends with: who is in it, and that it is of the run's own beginning and end."""

import numpy as np
import pytest
import torch

from shoestring.core.errors import BadInput
from shoestring.pretrain import Labelled, Request, pretrain, recipe
from shoestring.pretrain.evaluation.judge import Judged, Scores, exam
from shoestring.pretrain.evaluation.linear_svm import svm_scores
from shoestring.pretrain.evaluation.segmentation import PointLabels
from shoestring.pretrain.evaluation.subjects import encoder_subject
from shoestring.pretrain.evaluation.table import evaluation, learned_table, require_exam, require_point_exam

SMALL = {"dim": 24, "depth": 1, "heads": 3, "patches": 8, "neighbours": 6}


def test_a_run_beside_its_beginning_and_hand_made_features(shapes, tmp_path) -> None:
    clouds, labels = shapes
    request = Request(tmp_path / "rods.safetensors", recipe(1, 12), objective="point_mae", points=40, encoder=SMALL)
    labelled = Labelled(clouds, labels, 40)
    of = require_exam(labelled, ("linear",))
    done = pretrain(clouds, request)
    said: list[str] = []
    table = learned_table(done, request, of, ("linear",), lambda text, share: said.append(text))
    names = {(row.name, row.protocol) for row in table.rows}
    assert names >= {("untrained", "all labels"), ("forest", "all labels"), ("rods", "all labels")}
    assert names >= {("rods", "over untrained"), ("rods", "over forest")}
    assert said[0] == "judging, untrained" and said[-1] == "judging"
    expected = svm_scores(encoder_subject("", done.encoder).features(of.clouds), of.labels, of.splits)
    row = next(row for row in table.rows if (row.name, row.protocol) == ("rods", "all labels"))
    assert row.mean == pytest.approx(np.mean(expected))
    assert not row.baseline
    assert "36 labelled clouds, 3 classes, 40 points" in table.data
    assert "5 stratified folds x 3 seeds" in table.data


def test_vectors_and_any_pose_have_their_rows(shapes, tmp_path, monkeypatch) -> None:
    """What turns along is judged beside the same, untrained; in any pose the rival has features that do not turn."""
    monkeypatch.setattr("shoestring.pretrain.evaluation.subjects._TREES", 3)
    clouds, labels = shapes
    request = Request(tmp_path / "rods.safetensors", recipe(1, 12), objective="equivariant", points=40, encoder=SMALL)
    of = exam(clouds, labels, seeds=1)
    table = learned_table(pretrain(clouds, request), request, of, ("rotation", "invariance"))
    rows = {(row.name, row.protocol): row for row in table.rows}
    for kind in ("z", "SO3"):
        assert {name for name, protocol in rows if protocol == f"equivariance error, {kind}"} == {"untrained", "rods"}
    means = {name: rows[name, "turned SO3/SO3"].mean for name in ("rods", "untrained", "forest, invariant")}
    for rival in ("untrained", "forest, invariant"):
        assert rows["rods", f"SO3/SO3 over {rival}"].mean == pytest.approx(means["rods"] - means[rival])
    assert rows["forest, invariant", "invariance error"].mean < 1e-3


def test_costs_and_their_note_come_together(shapes) -> None:
    of = exam(*shapes, seeds=1)
    one = Judged("one", {"all labels": Scores((1.0, 2.0), 1)})
    table = evaluation("Worth", [one], of, {}, "turned: up", ("first",))
    assert table.notes[0] == "first"
    assert not any("Milliseconds" in note for note in table.notes)
    assert table.data.endswith("turned: up")
    assert table.device["versions"]["torch"] == torch.__version__


def test_what_cannot_be_asked_is_told_before_learning(shapes) -> None:
    labelled = Labelled(shapes[0][:4], np.array([0, 0, 0, 1]), 40)
    with pytest.raises(BadInput, match="class 1 has 1"):
        require_exam(labelled, ("linear",))


def test_points_are_told_of(shapes, tmp_path) -> None:
    clouds, kinds = shapes
    labels = PointLabels(2 * kinds[:, None] + (clouds[..., 1] > 0), kinds)
    of = require_point_exam(5 + 2 * clouds, labels, np.arange(36), ("segmentation",))
    np.testing.assert_allclose(np.linalg.norm(of.clouds, axis=2).max(1), 1, rtol=1e-5)
    request = Request(tmp_path / "rods.safetensors", recipe(1, 12), objective="point_mae", points=40, encoder=SMALL)
    table = learned_table(pretrain(clouds, request), request, of, ("segmentation",))
    names = {(row.name, row.protocol) for row in table.rows}
    assert names >= {(name, "part mIoU") for name in ("untrained", "forest", "rods")}
    assert names >= {("rods", "part mIoU over untrained"), ("rods", "part mIoU over forest")}
    assert table.data.startswith("36 shapes of 3 categories, 6 parts, 64 points in the unit sphere; 5 stratified folds")
    assert any(note.startswith("mIoU: of the points shown") for note in table.notes)
    scene = require_point_exam(clouds, PointLabels(labels.labels % 2), np.arange(36) // 6, ("segmentation",))
    told = evaluation("Worth", [Judged("one", {"scene mIoU": Scores((1.0, 2.0), 1)})], scene)
    assert told.data.startswith("36 clouds of scenes, 2 classes of points, 64 points in the unit sphere; 5 folds x 3")
    with pytest.raises(BadInput, match="classes of points only"):
        require_point_exam(clouds, PointLabels(labels.labels % 2), np.arange(36), ("linear",))
