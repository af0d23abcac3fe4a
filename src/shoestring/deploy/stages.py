"""The points of an artifact, opened to be run: each a stage with its session, its preprocessing and its path.

A stage of a chain takes what the stage before it handed on, instead of the input.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.core.ladder import chain
from shoestring.deploy import runtimes, shoe
from shoestring.deploy.check import check_graph, first_load
from shoestring.deploy.preprocess import at_size, input_shape

Handed = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Stage:
    """`spec`: the preprocessing of its size (of a chain's later stages: of the first). `path`: the points to run for
    its answer, itself the last. `confidence`: when that answer is final."""

    session: runtimes.Session
    spec: Mapping[str, Any]
    path: tuple[int, ...]
    confidence: Mapping[str, float]

    def __call__(
        self, given: np.ndarray | Handed, within: float = math.inf, gap: float = 0.0
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The answer without its batch axis, and what is handed on, by name. `given`: [1, ...] as preprocessed, or
        what the stage before handed on. `within`, `gap`: see `runtimes.Timed`; elsewhere they are not looked at."""
        inputs = [given] if isinstance(given, np.ndarray) else [given[spec.name] for spec in self.session.inputs]
        if self.session.keeps_time:
            outputs = cast(runtimes.Timed, self.session)(*inputs, within=within, gap=gap)
        else:
            outputs = self.session(*inputs)
        names = [spec.name for spec in self.session.outputs[1:]]
        return outputs[0][0], dict(zip(names, outputs[1:], strict=True))


def open_stages(artifact: shoe.Artifact, runtime: str, threads: int, points: Sequence[int]) -> dict[int, Stage]:
    """Opens `points` and all that they go on from. Raises BadInput, in one line, for a point that is not there, a graph
    that cannot be trusted or run, and inputs that neither the preprocessing nor the point before gives."""
    runtimes.get(runtime)  # refuses one that is not here
    for point in points:
        artifact.onnx(point)  # refuses a point that is not there
    needed = sorted({one for point in points for one in chain(artifact.points, point)})
    graphs = [artifact.onnx(point) for point in needed]
    for graph in graphs:
        check_graph(graph, artifact.file)
        first_load(graph, artifact.file, runtime)
    sessions = dict(zip(needed, runtimes.open_all(runtime, graphs, threads), strict=True))
    if any(not session.outputs[0].shape for session in sessions.values()):
        raise BadInput(f"{artifact.file}: its network gives one number for all inputs together, which is no answer")
    specs: dict[int, Mapping[str, Any]] = {}
    for point in needed:
        before = artifact.points[point].after
        if before is None:
            specs[point] = _spec(artifact, sessions[point], len(artifact.points) > 1)
        else:
            _check_handed(artifact.file, point, before, sessions)
            specs[point] = specs[before]
    return {
        point: Stage(sessions[point], specs[point], chain(artifact.points, point), artifact.points[point].confidence)
        for point in needed
    }


def _spec(artifact: shoe.Artifact, session: runtimes.Session, several: bool) -> Mapping[str, Any]:
    """The preprocessing for what this network takes. Only a ladder has networks of other sizes."""
    taken = [spec.shape for spec in session.inputs]
    if odd := [spec for spec in session.inputs if spec.dtype != np.float32]:
        raise BadInput(f"{artifact.file}: its network takes {odd[0].dtype} where its preprocessing gives float32")
    given = (1, *input_shape(artifact.preprocess))
    if taken == [given]:
        return artifact.preprocess
    try:
        if several and len(taken) == 1 and taken[0][:1] == (1,):
            return at_size(artifact.preprocess, taken[0][1:])
    except BadInput:
        pass  # the line below says more
    raise BadInput(f"{artifact.file}: its network takes {taken} where its preprocessing gives {list(given)}")


def _check_handed(file: str, point: int, before: int, sessions: Mapping[int, runtimes.Session]) -> None:
    handed = {spec.name: spec for spec in sessions[before].outputs[1:]}
    for spec in sessions[point].inputs:
        if handed.get(spec.name) != spec:
            raise BadInput(f"{file}: point {point} takes {spec.name[:60]!r}, which point {before} does not hand on")
