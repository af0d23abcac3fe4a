"""Methods that learn, from a captured network to a graph in the normal form; and the fit around them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from shoestring.compress import METHODS
from shoestring.core.errors import BadInput
from shoestring.core.quality import distance
from shoestring.deploy import matmul_nbits, runtimes, shoe
from shoestring.deploy.normal_form import violations
from shoestring.pipeline.asked import asked
from shoestring.pipeline.device import here
from shoestring.pipeline.fit import fit
from shoestring.pipeline.learned import Learned, learn, lowered
from shoestring.pipeline.original import Original
from shoestring.pipeline.request import Request
from shoestring.pipeline.samples import Samples
from shoestring.train.recipe import Recipe

RECIPE = Recipe(epochs=1, batch=4, lr=0.02)


class Noise:
    """Twelve inputs without labels, in another order each epoch."""

    labelled = False

    def __len__(self) -> int:
        return 12

    def epoch(
        self, number: int, batch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index in range(start, len(self) // batch):
            rng = np.random.default_rng([number, index])
            yield rng.standard_normal((batch, 3, 32, 32)).astype(np.float32), np.full(batch, -1)


@pytest.fixture
def training(samples: Samples) -> Samples:
    return replace(samples, training=Noise(), provenance={"sha256": "0" * 64, "training": 12})


def learned(original: Original, samples: Samples, folder: Path, method: str, recipe: Recipe | None = None) -> Learned:
    (step,) = asked(original, (method,), recipe)
    settings = step.settings(original)
    return learn(original, None, samples, step.method, settings, recipe, folder, lambda stage, share: None)


@pytest.mark.parametrize("method", ["lsq:w4a4", "lsq+:w2a3:classifier=w8a8", "lsq+:w8a8"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_the_graph_computes_what_was_trained(method, epochs, original, training: Samples, tmp_path: Path) -> None:
    """Against the torch model that was trained, codes and all, on other inputs."""
    models = []
    name = method.partition(":")[0]
    kept = METHODS[name].apply

    def apply(model: Any, settings: Any) -> Any:
        models.append(kept(model, settings))
        return models[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(METHODS[name], "apply", apply)
        done = learned(original, training, tmp_path, method, RECIPE if epochs else None)
    assert violations(done.graph) == []
    assert done.epochs == epochs
    assert all(parameter.grad is None for parameter in models[0].model.parameters())
    session = runtimes.get("onnxruntime").open(done.graph.SerializeToString(), threads=1)
    inputs = np.concatenate(training.judgement)
    with torch.no_grad():
        expected = models[0].model.eval()(torch.from_numpy(inputs)).numpy()
    got = np.concatenate([session(x)[0] for x in training.judgement])
    # A code that falls on a rounding border may go either way: one step of an edge, not a network's worth.
    assert np.abs(got - expected).mean() < 0.02 * np.ptp(expected)
    assert np.median(np.abs(got - expected)) < 0.002 * np.ptp(expected)


def test_training_follows_the_original(original: Original, training: Samples, tmp_path: Path) -> None:
    """Two bits damage the network; a few steps undo a good part of it."""
    x = np.concatenate(training.calibration)
    assert original.model is not None
    with torch.no_grad():
        expected = original.model.eval()(torch.from_numpy(x)).numpy()

    def error(recipe: Recipe | None) -> float:
        graph = learned(original, training, tmp_path / str(recipe is None), "lsq+:w2a2", recipe).graph
        session = runtimes.get("onnxruntime").open(graph.SerializeToString(), threads=1)
        return float(distance(np.concatenate([session(row[None])[0] for row in x]), expected)[1].mean())

    assert error(replace(RECIPE, epochs=20, lr=0.01, norms=False)) < 0.8 * error(None)


def test_the_original_stays_as_it_is(original: Original, training: Samples, tmp_path: Path) -> None:
    assert original.model is not None
    before = {name: value.clone() for name, value in original.model.state_dict().items()}
    learned(original, training, tmp_path, "lsq+:w4a4", RECIPE)
    after = original.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_recipe_fits_the_bits(original: Original, training: Samples, tmp_path: Path, monkeypatch) -> None:
    """LSQ, section 3.3: a tenth of the rate at 8 bits, a quarter of the decay at 2."""
    seen: list[Recipe] = []

    def stop(model: Any, data: Any, recipe: Recipe, *_: Any, **__: Any) -> Any:
        seen.append(recipe)
        raise InterruptedError

    monkeypatch.setattr("shoestring.pipeline.following.train", stop)
    for method in ("lsq:w8a8", "lsq:w4a4", "lsq:w2a2"):
        with pytest.raises(InterruptedError):
            learned(original, training, tmp_path, method, RECIPE)
    assert [recipe.lr for recipe in seen] == pytest.approx([0.002, 0.02, 0.02])
    assert [recipe.weight_decay for recipe in seen] == pytest.approx([1e-4, 1e-4, 0.25e-4])


def test_a_stopped_run_goes_on_and_another_is_refused(original, training: Samples, tmp_path: Path) -> None:
    straight = learned(original, training, tmp_path / "a", "lsq+:w3a3", RECIPE).graph

    class Power(Exception):
        pass

    class Cut(Noise):
        def epoch(self, number: int, batch: int, start: int = 0, *rest: int, **more: int) -> Iterator[Any]:
            if start == 0:
                yield from list(super().epoch(number, batch))[:1]
                raise Power
            yield from super().epoch(number, batch, start)

    place = tmp_path / "b"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shoestring.train.loop.SAVE_SECONDS", 0.0)
        with pytest.raises(Power):
            learned(original, replace(training, training=Cut()), place, "lsq+:w3a3", RECIPE)
    resumed = learned(original, training, place, "lsq+:w3a3", RECIPE).graph
    assert resumed.SerializeToString(deterministic=True) == straight.SerializeToString(deterministic=True)
    with pytest.raises(BadInput, match="belongs to another run"):
        learned(original, training, place, "lsq+:w4a4", RECIPE)


def test_what_cannot_be_trained(original: Original, training: Samples, samples: Samples, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"an \.onnx file cannot be trained"):
        learned(replace(original, model=None), training, tmp_path, "lsq", RECIPE)
    with pytest.raises(BadInput, match="nothing to train on"):
        learned(original, samples, tmp_path, "lsq", RECIPE)
    with pytest.raises(BadInput, match="int8 works after training"):
        learned(original, training, tmp_path, "int8", RECIPE)


def test_linear_layers_run_at_their_bits_unless_that_is_slower(original, samples, tmp_path, monkeypatch) -> None:
    done = learned(original, samples, tmp_path, "lsq+:w4a4:classifier=w4a8")
    device = here("onnxruntime")

    def products(low: float) -> int:
        times = {"low": low, "dense": 1.0}
        monkeypatch.setattr("shoestring.pipeline.learned.milliseconds", lambda *_: times)
        return sum(node.op_type == matmul_nbits.OPERATOR for node in lowered(done, device).graph.node)

    assert (products(1.0), products(1.2)) == (1, 0)
    dense = learned(original, samples, tmp_path, "lsq+:w4a4")  # the last layer at 8 bits
    assert lowered(dense, device) is dense.graph

    def refuse(*_: object) -> None:
        raise BadInput("no such product on this processor")

    monkeypatch.setattr("shoestring.pipeline.learned.milliseconds", refuse)
    assert lowered(done, device) is done.graph


def test_a_fit_writes_low_bits_packed_and_cleans_up(original, training, timed, tmp_path, monkeypatch) -> None:
    timed({"fp32": 4.0, "int8@onnxruntime": 2.0, "int8@openvino": 3.0, "subject": 2.5})
    monkeypatch.setattr("shoestring.pipeline.receipt.peak_mb", lambda *_: 60.0)
    request = Request(tmp_path / "x.shoe", methods=("lsq+:w2a4",), recipe=RECIPE, runtime="onnxruntime")
    done = fit(original, training, request)
    assert done is not None
    artifact = shoe.read(done.path)
    assert artifact.provenance["epochs"] == 1
    assert artifact.provenance["training"]["lr"] == RECIPE.lr
    assert artifact.provenance["methods"]["blocks.0.project.0"] == "lsq+:w2a4:config4:mse"
    assert artifact.provenance["methods"]["classifier"] == "lsq+:w8a8:config4:mse"
    assert not request.checkpoints.exists()
    packed = artifact.points[0].weights["blocks.0.project.0.weight_quantized"]
    assert packed["bits"] == 2
    graph = onnx.load_from_string(artifact.onnx())
    assert violations(graph) == []
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    assert len(np.unique(stored["blocks.0.project.0.weight_quantized"])) <= 4
    notes = " ".join(done.receipt.notes)
    assert "Trained for 1 epoch. Bits of weights: 4 at 2, 2 at 8, of 6 layers." in notes
    assert "stored at fewer than 8 bits and executed at 8" in notes
    assert "Slower than the original in dense 8 bits: 0.80x its speed." in notes


def test_a_process_that_only_helps_stops_after_training(original, training, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        "shoestring.pipeline.making.learn", lambda *_: Learned(onnx.ModelProto(), {}, 1.0, leader=False)
    )
    request = Request(tmp_path / "x.shoe", methods=("lsq",), recipe=RECIPE, runtime="onnxruntime")
    assert fit(original, training, request) is None
    assert not request.out.exists()
