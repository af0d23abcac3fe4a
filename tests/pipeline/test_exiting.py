"""A network with exits, trained on pictures of which half are easy, written, and left early."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto
from torch import nn

import shoestring as package
from shoestring.compress.exits.network import Exiting
from shoestring.compress.exits.settings import Exits
from shoestring.core.errors import BadInput
from shoestring.deploy import shoe
from shoestring.graph.capture import capture
from shoestring.pipeline.exiting import Exited, fit_exits, trained
from shoestring.pipeline.original import Original, remade
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

SHAPE, CLASSES = (3, 8, 8), 4


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs [n, 3, 8, 8], their classes, and which are easy. A class is where a bright spot of the first channel is;
    of the hard half the spot is faint and there is another one, brighter, in a channel that does not count."""
    rng = np.random.default_rng(seed)
    classes, easy = rng.integers(0, CLASSES, n), rng.random(n) < 0.5
    x = rng.normal(0, 0.3, (n, *SHAPE)).astype(np.float32)
    for index in range(n):
        row, column = divmod(classes[index], 2)
        x[index, 0, 4 * row + 1 : 4 * row + 3, 4 * column + 1 : 4 * column + 3] += 3 if easy[index] else 0.8
    return x, classes, easy


class Spots:
    """Implements `train.data.Batches`."""

    labelled = True

    def __init__(self, n: int):
        self.inputs, self.labels, _ = pictures(n, 0)

    def __len__(self) -> int:
        return len(self.inputs)

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng(number).permutation(len(self))
        for index in range(start, len(self) // batch):
            chosen = order[index * batch : (index + 1) * batch][rank::world]
            yield self.inputs[chosen], self.labels[chosen]


def small() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 8), (8, 16), (16, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, CLASSES))


@pytest.fixture(scope="module")
def network() -> Original:
    """Trained a little."""
    torch.manual_seed(0)
    model, data = small(), Spots(640)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for epoch in range(6):
        for x, labels in data.epoch(epoch, 64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
            optimiser.step()
    bare = Original("small", ModelProto(), (), SHAPE)
    return remade(bare, capture(model.eval(), SHAPE))


def scores(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return (outputs.argmax(1) == targets).astype(float)


def judged(n: int, seed: int) -> Samples:
    x, targets, _ = pictures(n, seed)
    return Samples([], list(x[:, None]), targets, scores, "top-1")


@pytest.fixture(scope="module")
def samples() -> Samples:
    data = Spots(640)
    return replace(judged(200, 2), calibration=list(data.inputs[:32, None]), training=data, held=judged(400, 1))


@pytest.fixture(scope="module")
def fitted(network: Original, samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Exited:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("exits")
        patch.setenv("SHOESTRING_CACHE", str(folder / "cache"))
        patch.setattr("shoestring.pipeline.receipt.peak_mb", lambda *_: 60.0)
        patch.setattr(
            "shoestring.pipeline.chain.chained", lambda *_: {"0": 1.0, "1": 2.0, "2": 3.5, "without exits": 3.0}
        )
        request = Request(
            folder / "x.shoe",
            runtime="onnxruntime",
            exits="2:lose=2",
            seconds=0.3,
            recipe=Recipe(epochs=4, batch=64, lr=0.05),
        )
        found = fit_exits(network, samples, request)
    assert found is not None
    return found


def test_the_points_are_a_chain(fitted: Exited) -> None:
    artifact = shoe.read(fitted.path)
    assert [point.after for point in artifact.points] == [None, 0, 1]
    assert [point.onnx for point in artifact.points] == ["exit_0.onnx", "exit_1.onnx", "rest.onnx"]
    assert [point.measured["latency_ms"] for point in artifact.points] == [1.0, 2.0, 3.5]
    assert [point.measured["share"] for point in artifact.points] == list(fitted.left.shares)
    assert [dict(point.confidence) for point in artifact.points] == [*fitted.rules.confidence, {}]
    assert [rung.shape for rung in fitted.receipt.ladder] == [point.measured["shape"] for point in artifact.points]
    assert artifact.points[0].measured["shape"] == "exit at 2"
    methods = artifact.provenance["methods"]
    assert (methods["0"], methods["exit_1.classifier"]) == ("int8", "exits:2:lose=2")
    assert not list(fitted.path.parent.glob("*.training*"))


def test_every_point_is_as_good_as_the_receipt_says(fitted: Exited, samples: Samples) -> None:
    qualities = []
    for index, rung in enumerate(fitted.receipt.ladder):
        model = package.load(fitted.path, point=index)
        answers = np.stack([model.outputs(x[0]) for x in samples.judgement])
        assert 100 * scores(answers, samples.targets).mean() == pytest.approx(rung.quality)
        qualities.append(rung.quality)
    assert qualities[-1] == fitted.receipt.subject.quality
    assert qualities[-1] > 75


def test_easy_inputs_leave_early(fitted: Exited) -> None:
    """As it is deployed: with time enough, an input goes as far as it must."""
    x, targets, easy = pictures(200, 3)
    model = package.load(fitted.path).adaptive(10_000)
    points, right = [], []
    for index in range(200):
        answer = model.outputs(x[index])
        points.append(model.last.point)
        right.append(answer.argmax() == targets[index])
    early = np.array(points) < 2
    assert early[easy].mean() > 0.5  # as many as training and thresholds, which rounding moves, let go
    assert early[easy].mean() > early[~easy].mean() + 0.2
    whole = package.load(fitted.path, point=2)
    all_the_way = np.mean([whole.outputs(x[index]).argmax() == targets[index] for index in range(200)])
    assert np.mean(right) > all_the_way - 0.06


def test_the_receipt_tells_the_mean(fitted: Exited, samples: Samples) -> None:
    notes = " ".join(fitted.receipt.notes)
    assert "Trained for 4 epochs: exits learn what the last layer says." in notes
    assert "400 held inputs with labels" in notes
    assert f"{fitted.left.ms:.3g} ms on average, {fitted.left.ms / 3:.2f}x of the 3 ms without exits" in notes
    assert fitted.left.ms < 3
    assert fitted.receipt.ladder[-1].latency_ms == 3.5


def test_a_training_that_was_stopped_goes_on(
    network: Original, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the least squares that exits begin with may come out a last bit away the second time."""
    request = Request(tmp_path / "x.shoe", recipe=Recipe(epochs=1, batch=64))

    def cut(stage: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(network, Exits(1), samples, request, cut)
    settle = Exiting.settle

    def moved(exiting: Exiting, inputs: list[np.ndarray]) -> None:
        settle(exiting, inputs)
        exiting.gm.get_parameter("exit_0.classifier.weight").data.mul_(1 + 1e-6)

    monkeypatch.setattr(Exiting, "settle", moved)
    assert trained(network, Exits(1), samples, request, lambda *_: None) is not None


def test_what_cannot_have_exits(network: Original, samples: Samples, tmp_path: Path) -> None:
    request = Request(tmp_path / "x.shoe", exits="2")
    with pytest.raises(BadInput, match="exits need a torch module"):
        fit_exits(replace(network, model=None), samples, request)
    with pytest.raises(BadInput, match="there is nothing to train on"):
        fit_exits(network, replace(samples, training=None), replace(request, recipe=Recipe(epochs=1)))
    with pytest.raises(BadInput, match=r"name it x\.shoe"):
        fit_exits(network, samples, replace(request, out=tmp_path / "x.onnx"))
