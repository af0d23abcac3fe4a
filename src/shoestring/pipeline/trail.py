"""The trail of a pruning run: the sparsities it passes through, each judged and kept as weights to go on from."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from shoestring.compress.method import Applied, Setting
from shoestring.core.errors import BadInput
from shoestring.core.quality import distance
from shoestring.core.schema import parse_json
from shoestring.core.trail import Trail, TrailPoint
from shoestring.deploy.archive import write_file
from shoestring.graph.masks import cut
from shoestring.pipeline.asked import Asked
from shoestring.pipeline.costs import Prices
from shoestring.pipeline.original import Original
from shoestring.pipeline.pruning import multiplications
from shoestring.pipeline.samples import Samples

POINTS = 10  # a run
NAME = "trail.json"
METRIC = "probability kept"
_BATCH = 16
_ROUND = 1e-9  # steps divide a run unevenly


class Recorder:
    """Writes points into `folder` while a run goes on: `point-03.safetensors` with plain weights whose zeros are exact,
    and `trail.json`. A point is judged by the probability that it moves on the calibration inputs, so that whoever
    chooses one has not looked at what judges in the end."""

    def __init__(  # noqa: PLR0913 - what a fit knows
        self,
        original: Original,
        student: Original,
        samples: Samples,
        asked: Asked,
        settings: Mapping[str, Setting],
        folder: Path,
        prices: Prices | None = None,
    ):
        self.original, self.student, self.samples, self.folder = original, student, samples, folder
        self.prices = prices
        self.asked, self.paths = asked, tuple(dict.fromkeys(name.partition(":")[0] for name in settings))
        self.reference: np.ndarray | None = None
        self.points: list[TrailPoint] = []
        self.shares: list[dict[str, float]] = []

    def watching(self, applied: Applied) -> Callable[[float], None]:
        """What is to be called after each step. A run that goes on keeps the points that lie behind it."""
        begun = False

        def watch(progress: float) -> None:
            nonlocal begun
            if not begun:
                self._resume(progress)
                begun = True
            last = self.points[-1].progress if self.points else 0.0
            if int(progress * POINTS + _ROUND) > int(last * POINTS + _ROUND):
                self._add(progress, applied)

        return watch

    def trail(self) -> Trail | None:
        """What was recorded, None when nothing was."""
        if not self.points:
            return None
        layers = {path: tuple(share.get(path, 0.0) for share in self.shares) for path in self.paths}
        return Trail(
            method=str(self.asked.setting),
            metric=METRIC,
            unit="pt",
            higher_is_better=True,
            original=100.0,
            inputs=len(self.samples.calibration),
            points=tuple(self.points),
            layers={path: shares for path, shares in layers.items() if any(shares)},
        )

    def _resume(self, progress: float) -> None:
        """Reads the points that this run wrote before it was stopped. Of a run that goes on, the first call after a
        step comes before its state is restored, with the progress of the checkpoint; that point is there already."""
        try:
            found = Trail.from_json(parse_json((self.folder / NAME).read_bytes()))
        except (OSError, ValueError, BadInput):  # none, or not ours
            return
        if found.method == str(self.asked.setting):
            self.points = [point for point in found.points if point.progress <= progress]
            for index in range(len(self.points)):
                self.shares.append({path: shares[index] for path, shares in found.layers.items()})

    def _add(self, progress: float, applied: Applied) -> None:
        masks = applied.zeros()
        model = cut(applied.model, masks).cpu()
        share = {path: 1 - float(keep.float().mean()) for path, keep in masks.items()}
        sizes = {layer.name: layer.weights for layer in self.student.layers if layer.name in share}
        gone = sum(share[name] * size for name, size in sizes.items()) / max(1, sum(sizes.values()))
        layers = self.student.layers
        left = multiplications(layers, share) / max(1, multiplications(layers, {}))
        file = f"point-{len(self.points) + 1:02d}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{file}.part"
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, part)
        part.replace(self.folder / file)
        self.points.append(
            TrailPoint(
                number=len(self.points) + 1,
                progress=progress,
                zeros=gone,
                multiplications=1 - left,
                quality=self._quality(model),
                file=file,
                ms=self.prices.predict(share) if self.prices else None,
                band=applied.near(),
            )
        )
        self.shares.append(share)
        self._write()

    @torch.no_grad()
    def _quality(self, model: nn.Module) -> float:
        """Points of probability that a network keeps of the original's, on the calibration inputs."""
        if self.reference is None:
            assert self.original.model is not None, "it is followed"
            self.reference = self._outputs(self.original.model)
        return 100 * (1 - float(distance(self._outputs(model), self.reference)[1].mean()))

    def _outputs(self, model: nn.Module) -> np.ndarray:
        inputs = self.samples.calibration
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        batches = [np.concatenate(inputs[i : i + _BATCH]) for i in range(0, len(inputs), _BATCH)]
        return np.concatenate([model(torch.from_numpy(batch).to(device)).cpu().numpy() for batch in batches])

    def _write(self) -> None:
        trail = self.trail()
        assert trail is not None, "a point was added"
        write_file(self.folder / NAME, json.dumps(trail.to_json(), indent=1).encode())
