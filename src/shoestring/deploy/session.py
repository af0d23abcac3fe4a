"""Running an artifact: `shoestring.load("x.shoe")(photograph)`. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.check import check_graph, first_load
from shoestring.deploy.preprocess import preprocess


@dataclass(frozen=True)
class Prediction:
    """One class: its `label` (its index as text when the file has none), `index` and `probability` in 0..1."""

    label: str
    index: int
    probability: float


class Model:
    """A loaded artifact. `model(x)` gives the five likeliest classes of a photograph (path, PIL image or uint8
    [H, W, 3] array); `model.outputs(x)` the raw network output. `spec`: the preprocessing."""

    def __init__(self, artifact: shoe.Artifact, runtime: str, threads: int, point: int):
        engine = runtimes.get(runtime)
        graph = artifact.onnx(point)
        check_graph(graph, artifact.file)
        first_load(graph, artifact.file, runtime)
        self.artifact, self.runtime = artifact, runtime
        self.spec: Mapping[str, Any] = artifact.preprocess
        self.session: runtimes.Session = engine.open(graph, threads=threads)
        given = (1, *(self.spec["shape"] if self.spec["kind"] == "tensor" else (3, *self.spec["crop"])))
        taken = [spec.shape for spec in self.session.inputs]
        if taken != [given]:
            raise BadInput(f"{artifact.file}: its network takes {taken} where its preprocessing gives {list(given)}")

    def __call__(self, x: Any, top: int = 5) -> list[Prediction]:
        return self.best(self.outputs(x), top)

    def prepare(self, x: Any) -> np.ndarray:
        """One raw input as float32 [1, ...]."""
        return preprocess(self.spec, x)[None]

    def outputs(self, x: Any) -> np.ndarray:
        """The network's output for one raw input, without the batch axis."""
        result: np.ndarray = self.session(self.prepare(x))[0][0]
        return result

    def best(self, outputs: np.ndarray, top: int = 5) -> list[Prediction]:
        """The `top` likeliest classes of one output [classes]. Raises BadInput for other outputs than class scores."""
        if outputs.ndim != 1:
            raise BadInput(f"{self.artifact.file}: its output {outputs.shape} is no list of class scores; use .outputs")
        if not np.isfinite(outputs).all():
            raise BadInput(f"{self.artifact.file}: its output is not finite on this input")
        scores = np.exp(outputs - outputs.max())
        scores /= scores.sum()
        labels = self.artifact.labels
        order = np.argsort(-scores, kind="stable")[:top]
        return [Prediction(labels[i] if i < len(labels) else str(i), int(i), float(scores[i])) for i in order]


def load(path: str | Path, runtime: str | None = None, threads: int = 1, point: int = 0) -> Model:
    """Loads a `.shoe`. `runtime`: None takes the one the file was measured on when it is installed here, else
    onnxruntime. `point`: the operating point, cheapest first. Raises BadInput in one line for anything wrong."""
    artifact = shoe.read(path)
    if runtime is None:
        measured = artifact.points[min(point, len(artifact.points) - 1)].measured.get("runtime")
        runtime = measured if measured in runtimes.installed() else "onnxruntime"
    return Model(artifact, runtime, threads, point)
