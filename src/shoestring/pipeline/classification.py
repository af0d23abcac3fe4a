"""Classification as a Task, whatever is classified: top-1 of [n, classes] outputs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shoestring.core.errors import BadInput
from shoestring.core.quality import top1
from shoestring.pipeline.dataset import Dataset

if TYPE_CHECKING:  # loads torch
    from shoestring.train.data import Batches


@dataclass
class Classification(ABC):
    """Implements `core.task.Task`; a modality adds what it reads and how it trains. `preprocess`: the JSON spec.
    `labels`: names of the network's outputs, or empty. `outputs`: how many there are, needed where there are no labels.
    `wnids`: WordNet identifiers of the outputs ("n01440764"), the folder names of ImageNet."""

    preprocess: Mapping[str, Any]
    labels: Sequence[str] = ()
    outputs: int = 0
    wnids: Sequence[str] = ()
    metric: str = "top-1"
    unit: str = "pt"
    higher_is_better: bool = True

    @abstractmethod
    def read(self, path: str | Path) -> Dataset:
        """The inputs at `path`, with the targets that they have there."""

    @abstractmethod
    def demo(self) -> Dataset:
        """Inputs that installed packages bring, or that are made."""

    @abstractmethod
    def network_input(self, spec: Mapping[str, Any], raw: Any) -> np.ndarray:
        """float32, without a batch axis. `spec`: `preprocess`, or that for inputs of another size."""

    @abstractmethod
    def training(self, dataset: Dataset, seed: int) -> "Batches":
        """What may be trained on: shuffled, augmented."""

    def load(self, path: str | Path) -> Dataset:
        """The inputs at `path` with targets that are output indices of the network."""
        return self.match(self.read(path))

    def match(self, dataset: Dataset) -> Dataset:
        """The same inputs with output indices for targets.

        Indices stay as they are. Class names that are labels or WordNet identifiers of the network are looked up
        (case, spaces, `_` and `-` do not count); when none is, the order of the classes is that of the outputs.
        Raises BadInput when an index has no output, some names only are known, or the counts differ.
        """
        if not dataset.labelled:
            return dataset
        outputs = self.outputs or len(self.labels)
        if dataset.indexed:
            highest = max((target for target in dataset.targets if target is not None), default=0)
            if outputs and highest >= outputs:
                raise BadInput(
                    f"data: class index {highest}, but the network has {outputs} outputs, 0 to {outputs - 1}"
                )
            return dataset
        index = self._indices(dataset.names, outputs)
        items = (replace(item, target=None if item.target is None else index[item.target]) for item in dataset.items)
        return Dataset(tuple(items), tuple(self.labels) or dataset.names, indexed=True)

    def _indices(self, names: Sequence[str], outputs: int) -> Sequence[int]:
        """For each class of the data its output index."""
        known: dict[str, list[int]] = {}
        for texts in (self.labels, self.wnids):
            for position, text in enumerate(texts):
                known.setdefault(_plain(text), []).append(position)
        found = [known.get(_plain(name), []) for name in names]
        if not any(found):
            if outputs and len(names) != outputs:
                wanted = "name the classes as the network's labels, or write labels.csv with file,class_index"
                raise BadInput(f"data: {len(names)} classes do not fit the network's {outputs} outputs; {wanted}")
            return range(len(names))
        for name, positions in zip(names, found, strict=True):
            if len(positions) != 1:
                what = "is a label of several outputs" if positions else "is no label of the network, others are"
                raise BadInput(f"data: class {name!r} {what}; write labels.csv with file,class_index")
        return [positions[0] for positions in found]

    def quality(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """1.0 where the largest output is the target's, else 0.0: [n, classes], [n] to float64 [n].

        An output row with NaN or +inf scores 0. Raises BadInput when shapes do not fit or a target is no output index.
        """
        targets = np.asarray(targets)
        if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
            raise BadInput(f"quality: outputs {outputs.shape} and targets {targets.shape} are not [n, classes] and [n]")
        if targets.dtype.kind not in "iu":
            raise BadInput(f"quality: targets of type {targets.dtype}; give labelled data, whole numbers")
        wrong = targets[(targets < 0) | (targets >= outputs.shape[1])]
        if len(wrong):
            raise BadInput(f"quality: target {wrong[0]} is not one of {outputs.shape[1]} outputs; label every input")
        return (top1(outputs) == targets).astype(np.float64)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
