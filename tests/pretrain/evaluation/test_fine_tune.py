"""Fine-tuning: it learns, repeats itself, and its data follow from seed, epoch and item only."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shoestring.core.errors import BadInput
from shoestring.geometry.frames import in_frames
from shoestring.pretrain.evaluation.fine_tune import Augmented, Posed, fine_tune_scores, predict
from shoestring.pretrain.evaluation.rotation import turned
from shoestring.pretrain.evaluation.splits import stratified_folds
from shoestring.train.recipe import Recipe

RECIPE = Recipe(epochs=12, batch=8, lr=0.05, frozen=0, ema=0, distil=0)


class Small(nn.Module):
    """A PointNet of 16 channels."""

    def __init__(self, classes: int):
        super().__init__()
        self.points, self.head = nn.Conv1d(3, 16, 1), nn.Linear(16, classes)

    def forward(self, xyz: Tensor) -> Tensor:
        return self.head(self.points(xyz.transpose(1, 2)).relu().amax(2))


def test_it_learns_simple_shapes_and_repeats_itself(shapes) -> None:
    clouds, labels = shapes
    splits = stratified_folds(labels, folds=3, seeds=1)
    found = fine_tune_scores(lambda seed: Small(3), clouds, labels, splits, RECIPE)
    assert list(found) == ["as given", "z", "SO3"]
    assert found["as given"].shape == (3,) and found["as given"].mean() > 80
    again = fine_tune_scores(lambda seed: Small(3), clouds, labels, splits, RECIPE)
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_test_items_are_turned_as_the_rotation_protocol_turns_them(shapes) -> None:
    clouds, labels = shapes
    splits = stratified_folds(labels, folds=3, seeds=2)
    shown: list[np.ndarray] = []

    class Spy(Small):
        def forward(self, xyz: Tensor) -> Tensor:
            if not self.training:
                shown.append(xyz.numpy().copy())
            return super().forward(xyz)

    fine_tune_scores(lambda seed: Spy(3), clouds, labels, splits, replace(RECIPE, epochs=1))
    of = {split.seed: turned(clouds, "z", 2 * split.seed) for split in splits}
    calls = [shown[first : first + 4] for first in range(0, len(shown), 4)]
    for split, (_, given, upright, anyhow) in zip(splits, calls, strict=True):
        assert np.array_equal(given, clouds[split.test])
        assert np.array_equal(upright, of[split.seed][split.test])
        assert np.array_equal(anyhow, turned(clouds, "SO3", 2 * split.seed + 1)[split.test])


def test_a_posed_network_answers_alike_in_any_pose(shapes) -> None:
    clouds = torch.from_numpy(shapes[0])
    other = torch.from_numpy(turned(shapes[0], "SO3", 3))
    network = Small(3).eval()
    with torch.no_grad():
        for symmetry in ("frames", "average"):
            posed = Posed(network, symmetry)
            torch.testing.assert_close(posed(other), posed(clouds), rtol=1e-3, atol=1e-3)
        assert torch.equal(Posed(network, "none")(clouds), network(clouds))
        frames = torch.stack([network(each) for each in in_frames(clouds).unbind(1)], 1)
        torch.testing.assert_close(Posed(network, "average")(clouds), frames.mean(1))


def test_what_was_learned_before_helps(shapes) -> None:
    """One epoch from weights that already know beats one from scratch."""
    clouds, labels = shapes
    splits = stratified_folds(labels, folds=3, seeds=1)
    known = Small(3)
    optimiser = torch.optim.Adam(known.parameters(), 0.05)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(known(torch.from_numpy(clouds)), torch.from_numpy(labels)).backward()
        optimiser.step()

    def pretrained(seed: int) -> nn.Module:
        model = Small(3)
        model.load_state_dict(known.state_dict())
        return model

    short = Recipe(epochs=1, batch=8, lr=0.01, frozen=0, ema=0, distil=0)
    known_before, from_scratch = (
        fine_tune_scores(make, clouds, labels, splits, short)["as given"].mean()
        for make in (pretrained, lambda seed: Small(3))
    )
    assert known_before > from_scratch + 10


def test_augmented_clouds_follow_from_seed_epoch_and_item(shapes) -> None:
    clouds, labels = shapes
    data = Augmented(clouds, labels)
    whole = list(data.epoch(3, 8))
    assert len(whole) == 4 and whole[0][0].shape == (8, 64, 3) and whole[0][0].dtype == np.float32
    for (x, y), (again, same) in zip(whole[2:], data.epoch(3, 8, start=2), strict=True):
        assert np.array_equal(x, again) and np.array_equal(y, same)
    half = [next(data.epoch(3, 8, rank=rank, world=2))[0] for rank in range(2)]
    assert {x.tobytes() for part in half for x in part} == {x.tobytes() for x in whole[0][0]}
    assert not np.array_equal(whole[0][0], next(data.epoch(4, 8))[0])


def test_without_turning_only_size_and_place_change(shapes) -> None:
    clouds, labels = shapes
    data = Augmented(clouds, labels, turn="")
    moved = data._augment(0, 5)
    ratio = np.ptp(moved, axis=0) / np.ptp(clouds[5], axis=0)
    assert ((ratio >= 0.8) & (ratio <= 1.25)).all()


def test_labels_without_a_logit_are_refused(shapes) -> None:
    clouds, labels = shapes
    with pytest.raises(BadInput, match="labels 0 to 2 do not fit a network of 2 classes"):
        fine_tune_scores(lambda seed: Small(2), clouds, labels, stratified_folds(labels, 3, 1)[:1], RECIPE)


def test_prediction_is_in_batches_of_any_size(shapes) -> None:
    model = Small(3)
    np.testing.assert_allclose(predict(model, shapes[0], 7), predict(model, shapes[0], 64), rtol=1e-5, atol=1e-6)
