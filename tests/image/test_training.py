"""Training batches: every image once, the same whoever asks, and no pixel that preprocessing would not have made."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shoestring.core.errors import BadInput
from shoestring.deploy.preprocess import preprocess
from shoestring.image.data import load_images
from shoestring.image.dataset import ArrayImage
from shoestring.image.training import TrainingImages
from shoestring.pipeline.dataset import Dataset, Item

CIFAR = Path(__file__).parents[3] / "shared/data/cifar10/test.npz"
USUAL = {
    "kind": "image",
    "interpolation": "bilinear",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
}
SMALL = {**USUAL, "resize": None, "crop": [16, 24]}
RESIZED = {**USUAL, "resize": 32, "crop": [32, 24]}
PHOTOGRAPHS = {**USUAL, "resize": 80, "crop": [72, 68]}
TENSORS = {"kind": "tensor", "shape": [1, 2, 2]}


@dataclass
class Counted:
    """A source that remembers how often it was opened."""

    image: Image.Image
    opened: list[int] = field(default_factory=list)

    def open(self) -> Image.Image:
        self.opened.append(1)
        return self.image

    def content(self) -> bytes:
        return self.image.tobytes()


def pictures(count: int, size: tuple[int, int] = (24, 16)) -> Dataset:
    """Noise; the target of a picture is its index."""
    rng = np.random.default_rng(0)
    images = (Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(count))
    return Dataset(tuple(Item(Counted(image), index, str(index)) for index, image in enumerate(images)))


def plain(count: int, size: tuple[int, int]) -> Dataset:
    """One colour each."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 3))
    images = (Image.new("RGB", size, tuple(map(int, colour))) for colour in colours)
    return Dataset(tuple(Item(Counted(image), index, str(index)) for index, image in enumerate(images)))


def tensors(count: int, targets: Sequence[int | None] = ()) -> Dataset:
    """Network inputs that hold their own index."""
    images = np.repeat(np.arange(count, dtype=np.float32), 4).reshape(count, 1, 2, 2)
    labels = targets or range(count)
    return Dataset(tuple(Item(ArrayImage(images, index), labels[index], str(index)) for index in range(count)))


def opened(dataset: Dataset) -> list[int]:
    return [len(item.source.opened) for item in dataset.items]


def by_index(data: TrainingImages, *asked: Any) -> dict[int, np.ndarray]:
    return {int(target): x for inputs, targets in data.epoch(*asked) for x, target in zip(inputs, targets, strict=True)}


EVERY_KIND = [
    pytest.param(pictures(12), SMALL, id="small"),
    pytest.param(pictures(12, (40, 50)), RESIZED, id="resized"),
    pytest.param(pictures(12, (100, 90)), PHOTOGRAPHS, id="photographs"),
    pytest.param(tensors(12), TENSORS, id="tensors"),
]
every_kind = pytest.mark.parametrize(("dataset", "spec"), EVERY_KIND)


@every_kind
def test_an_epoch_holds_every_input_once(dataset: Dataset, spec: dict[str, Any]) -> None:
    data = TrainingImages(dataset, spec)
    assert len(data) == 12
    assert data.labelled
    orders = []
    for number in range(2):
        batches = list(data.epoch(number, 4))
        shape = spec["shape"] if spec["kind"] == "tensor" else (3, *spec["crop"])
        for inputs, targets in batches:
            assert (inputs.shape, inputs.dtype) == ((4, *shape), np.float32)
            assert (targets.shape, targets.dtype) == ((4,), np.int64)
            assert inputs.flags.c_contiguous
        orders.append(np.concatenate([targets for _, targets in batches]).tolist())
        assert sorted(orders[-1]) == list(range(12))
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


@every_kind
def test_inputs_depend_on_seed_epoch_and_index_alone(dataset: Dataset, spec: dict[str, Any]) -> None:
    """Not on the batch, on what was asked before, or on another data set's instance."""
    data, again = TrainingImages(dataset, spec, seed=3), TrainingImages(dataset, spec, seed=3)
    first = by_index(data, 5, 4)
    list(again.epoch(0, 12))
    second = by_index(again, 5, 6)
    assert first.keys() == second.keys()
    for index, x in first.items():
        np.testing.assert_array_equal(x, second[index])
    orders = [[targets.tolist() for _, targets in data.epoch(5, 4)] for data in (data, again)]
    assert orders[0] == orders[1] != [y.tolist() for _, y in TrainingImages(dataset, spec, seed=4).epoch(5, 4)]


@every_kind
def test_processes_share_each_batch(dataset: Dataset, spec: dict[str, Any]) -> None:
    data = TrainingImages(dataset, spec)
    whole = list(data.epoch(1, 4))
    for world in (2, 4):
        parts = [list(data.epoch(1, 4, 0, rank, world)) for rank in range(world)]
        assert {len(part) for part in parts} == {3}
        for step, (inputs, targets) in enumerate(whole):
            np.testing.assert_array_equal(np.concatenate([part[step][0] for part in parts]), inputs)
            np.testing.assert_array_equal(np.concatenate([part[step][1] for part in parts]), targets)


@every_kind
@pytest.mark.parametrize("rank", [0, 1])
def test_a_late_start_sees_the_rest(dataset: Dataset, spec: dict[str, Any], rank: int) -> None:
    data = TrainingImages(dataset, spec)
    for start in range(4):
        rest, expected = list(data.epoch(2, 4, start, rank, 2)), list(data.epoch(2, 4, 0, rank, 2))[start:]
        assert len(rest) == len(expected) == 3 - start
        for (x, y), (inputs, targets) in zip(rest, expected, strict=True):
            np.testing.assert_array_equal(x, inputs)
            np.testing.assert_array_equal(y, targets)


@pytest.mark.parametrize("spec", [SMALL, PHOTOGRAPHS])
def test_what_is_skipped_or_another_processs_is_not_decoded(spec: dict[str, Any]) -> None:
    dataset = pictures(12)
    data = TrainingImages(dataset, spec)
    before = opened(dataset)
    mine = [index for _, targets in data.epoch(0, 4, 2, 1, 2) for index in targets]
    assert len(mine) == 2
    assert [now - then for now, then in zip(opened(dataset), before, strict=True)] == [i in mine for i in range(12)]


def test_a_short_last_batch_is_left_out_unless_it_is_the_only_one() -> None:
    data = TrainingImages(tensors(11), TENSORS)
    assert [len(x) for x, _ in data.epoch(0, 4)] == [4, 4]
    assert [len(x) for x, _ in data.epoch(0, 11)] == [11]
    assert sorted(by_index(data, 0, 64)) == list(range(11))
    shares = [by_index(data, 0, 64, 0, rank, 2) for rank in (0, 1)]
    assert [len(share) for share in shares] == [5, 5]
    assert not shares[0].keys() & shares[1].keys()
    assert list(data.epoch(0, 64, 1)) == []


def test_what_is_left_out_changes_with_the_epoch() -> None:
    data = TrainingImages(tensors(11), TENSORS)
    assert set().union(*(by_index(data, number, 4) for number in range(6))) == set(range(11))


@pytest.mark.parametrize("spec", [SMALL, RESIZED, PHOTOGRAPHS])
def test_pixels_are_those_of_preprocessing_to_the_bit(spec: dict[str, Any]) -> None:
    """No augmentation changes a picture of one colour."""
    dataset = plain(40, (24, 16))
    for index, x in by_index(TrainingImages(dataset, spec), 0, 8).items():
        np.testing.assert_array_equal(x, preprocess(spec, dataset[index][0]))


def moves_of(x: np.ndarray) -> list[bytes]:
    """All shifts by up to an eighth of [3, H, W], mirrored and not, with reflected edges."""
    _, height, width = x.shape
    reach = height // 8, width // 8
    padded = np.pad(x, ((0, 0), *((r, r) for r in reach)), mode="reflect")
    cuts = [
        padded[:, top : top + height, left : left + width]
        for top in range(2 * reach[0] + 1)
        for left in range(2 * reach[1] + 1)
    ]
    return [cut.tobytes() for cut in cuts] + [cut[..., ::-1].tobytes() for cut in cuts]


@pytest.mark.parametrize(("spec", "size"), [(SMALL, (24, 16)), (RESIZED, (40, 50))])
def test_small_images_are_moved_and_mirrored(spec: dict[str, Any], size: tuple[int, int]) -> None:
    dataset = pictures(12, size)
    data = TrainingImages(dataset, spec)
    places = []
    for number in range(3):
        for index, x in by_index(data, number, 12).items():
            places.append(moves_of(preprocess(spec, dataset[index][0])).index(x.tobytes()))
    assert len(set(places)) > 20


@pytest.mark.skipif(not CIFAR.is_file(), reason="CIFAR-10 is not on this machine")
def test_cifar() -> None:
    dataset = load_images(CIFAR)[:64]
    spec = {**SMALL, "crop": [32, 32]}
    inputs, targets = next(TrainingImages(dataset, spec).epoch(0, 64))
    assert np.bincount(targets, minlength=10).tolist() == np.bincount(dataset.targets, minlength=10).tolist()
    known = {move for image, _ in dataset for move in moves_of(preprocess(spec, image))}
    assert all(x.tobytes() in known for x in inputs)


def test_decoded_images_are_kept_as_far_as_the_cache_goes() -> None:
    one = 16 * 24 * 3
    made = []
    for cache, again in ((12 * one, 0), (5 * one + 1, 7), (0, 12)):
        dataset = pictures(12)
        data = TrainingImages(dataset, SMALL, cache=cache)
        by_index(data, 0, 4)
        before = sum(opened(dataset))
        made.append(by_index(data, 1, 4))
        assert sum(opened(dataset)) - before == again
    for index in range(12):
        np.testing.assert_array_equal(made[0][index], made[1][index])
        np.testing.assert_array_equal(made[0][index], made[2][index])


def test_photographs_are_read_as_when_the_artifact_runs(tmp_path: Path) -> None:
    """Turned as EXIF says, grey in three channels: with all of the area the crop shows both halves in their place."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    pixels = np.zeros((200, 200), np.uint8)
    pixels[:100] = 255
    for name in "abcd":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png", exif=exif)
    spec = {**PHOTOGRAPHS, "mean": [0] * 3, "std": [255] * 3}
    ((inputs, targets),) = TrainingImages(load_images(tmp_path), spec, least=1.0).epoch(0, 4)
    assert targets.tolist() == [-1] * 4
    assert inputs.shape == (4, 3, 72, 68)
    for x in inputs:  # the bright upper half is now on the right, or, mirrored, on the left
        right, left = x[:, :, 60:], x[:, :, :8]
        assert sorted((right.min(), left.min())) == sorted((right.max(), left.max())) == [0, 1]


def test_network_inputs_stay_as_they_are() -> None:
    floats = np.random.default_rng(0).normal(size=(6, 3, 16, 24)).astype(np.float32)
    dataset = Dataset(tuple(Item(ArrayImage(floats, n), n, str(n)) for n in range(6)))
    for spec in (SMALL, {"kind": "tensor", "shape": [3, 16, 24]}):
        for index, x in by_index(TrainingImages(dataset, spec), 0, 3).items():
            np.testing.assert_array_equal(x, floats[index])


def test_labels() -> None:
    unlabelled = TrainingImages(tensors(3, [None] * 3), TENSORS)
    assert not unlabelled.labelled
    assert [targets.tolist() for _, targets in unlabelled.epoch(0, 3)] == [[-1] * 3]
    partly = TrainingImages(tensors(3, [None, 7, None]), TENSORS)
    assert partly.labelled
    for inputs, targets in partly.epoch(0, 3):
        assert targets.tolist() == [7 if x[0, 0, 0] == 1 else -1 for x in inputs]


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    batches = TrainingImages(pictures(12), PHOTOGRAPHS).epoch(0, 2)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_a_broken_image_is_named(tmp_path: Path, save: Callable[..., Path]) -> None:
    for spec in (SMALL, PHOTOGRAPHS):
        for index in range(4):
            save(tmp_path / f"{index}.png", seed=index, size=(24, 16))
        dataset = load_images(tmp_path)
        (tmp_path / "2.png").write_bytes(b"broken since")
        with pytest.raises(BadInput, match=r"2\.png: not a readable image"):
            by_index(TrainingImages(dataset, spec), 0, 2)


def test_what_cannot_be_used_is_refused() -> None:
    data = TrainingImages(tensors(3), TENSORS)
    for batch, world in ((0, 1), (6, 4)):
        with pytest.raises(BadInput, match=f"{batch} inputs at once cannot be shared by {world} processes"):
            data.epoch(0, batch, 0, 0, world)
    with pytest.raises(BadInput, match="3 inputs for 4 processes"):
        data.epoch(0, 8, 0, 0, 4)
    with pytest.raises(BadInput, match="no image"):
        TrainingImages(Dataset(()), TENSORS)
    with pytest.raises(BadInput, match="kind 'sound' is unknown"):
        TrainingImages(tensors(3), {"kind": "sound"})
    with pytest.raises(BadInput, match="got 16x24 where 32x32 is taken"):
        by_index(TrainingImages(pictures(3), {**SMALL, "crop": [32, 32]}), 0, 3)


def test_cached_images_come_fast_enough() -> None:
    """3000 a second and core, so that two cores spend their time on the network. Here they were 40,000."""
    pixels = np.random.default_rng(0).integers(0, 256, (2048, 32, 32, 3), dtype=np.uint8)
    dataset = Dataset(tuple(Item(ArrayImage(pixels, n), 0, str(n)) for n in range(len(pixels))))
    data = TrainingImages(dataset, {**SMALL, "crop": [32, 32]})
    list(data.epoch(0, 128))
    before = time.process_time()
    count = sum(len(x) for x, _ in data.epoch(1, 128))
    assert count / (time.process_time() - before) > 3000
