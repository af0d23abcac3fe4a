"""Running an artifact: `shoestring.load("x.shoe")(photograph)`. Needs no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shoestring.deploy import runtimes, shoe
from shoestring.deploy.adaptive import Adaptive
from shoestring.deploy.prediction import Prediction, best
from shoestring.deploy.preprocess import preprocess
from shoestring.deploy.stages import open_stages


class Model:
    """A loaded artifact. `model(x)` gives the five likeliest classes of a photograph (path, PIL image or uint8
    [H, W, 3] array); `model.outputs(x)` the raw network output. `spec`: the preprocessing. A point that goes on after
    another one runs the whole chain."""

    def __init__(self, artifact: shoe.Artifact, runtime: str, threads: int, point: int):
        stages = open_stages(artifact, runtime, threads, [point])
        self.artifact, self.runtime, self.threads = artifact, runtime, threads
        self._stages = [stages[one] for one in stages[point].path]
        self.spec: Mapping[str, Any] = stages[point].spec
        self.session: runtimes.Session = stages[point].session

    def __call__(self, x: Any, top: int = 5) -> list[Prediction]:
        return self.best(self.outputs(x), top)

    def prepare(self, x: Any) -> np.ndarray:
        """One raw input as float32 [1, ...]."""
        return preprocess(self.spec, x)[None]

    def run(self, prepared: np.ndarray) -> np.ndarray:
        """The network's output for what `prepare` gave, without the batch axis."""
        answer, handed = self._stages[0](prepared)
        for stage in self._stages[1:]:
            answer, handed = stage(handed)
        return answer

    def outputs(self, x: Any) -> np.ndarray:
        """The network's output for one raw input, without the batch axis."""
        return self.run(self.prepare(x))

    def best(self, outputs: np.ndarray, top: int = 5) -> list[Prediction]:
        """The `top` likeliest classes of one output [classes]. Raises BadInput for other outputs than class scores."""
        return best(outputs, self.artifact.labels, top, self.artifact.file)

    def adaptive(self, deadline_ms: float, miss: float = 0.001) -> Adaptive:
        """All points of the file together: each frame by the richest that will be in time. `miss`: the share of frames
        that may be late. Raises BadInput for a deadline that is no time, and when a point cannot be opened."""
        return Adaptive(self.artifact, self.runtime, self.threads, deadline_ms, miss)


def load(path: str | Path, runtime: str | None = None, threads: int = 1, point: int | None = None) -> Model:
    """Loads a `.shoe`. `runtime`: None takes the one the file was measured on when it is installed here, else
    onnxruntime. `point`: the operating point, cheapest first; None takes the richest. Raises BadInput in one line for
    anything wrong."""
    artifact = shoe.read(path)
    point = len(artifact.points) - 1 if point is None else point
    if runtime is None:
        measured = artifact.points[min(point, len(artifact.points) - 1)].measured.get("runtime")
        runtime = measured if measured in runtimes.installed() else "onnxruntime"
    return Model(artifact, runtime, threads, point)
