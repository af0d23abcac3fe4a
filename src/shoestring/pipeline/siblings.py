"""Networks of one structure that differ in how wide they are: exported once, the others' weights put in its place.
The exporter takes seconds for each, and of an elastic space most networks are siblings."""

from dataclasses import replace

import numpy as np
import torch
from onnx import ModelProto
from torch import fx, nn

from shoestring.deploy.export import export
from shoestring.deploy.refill import refilled
from shoestring.graph.fold import fold
from shoestring.graph.inventory import inventory
from shoestring.pipeline.original import Original
from shoestring.pipeline.post_training import outputs

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CLOSE = 1e-3  # of the largest output: float32 in another order; another network is off by as much as it says


class Siblings:
    """What was exported, by structure."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[dict[str, np.ndarray], ModelProto]] = {}

    def remade(self, before: Original, model: fx.GraphModule) -> Original:
        """As `pipeline.original.remade`. Another's graph is taken only where it computes what `model` does."""
        folded = fold(model)
        key, weights = _structure(folded, before.input), _weights(folded)
        graph = None
        if key in self._known:
            theirs, known = self._known[key]
            graph = refilled(known, theirs, weights, _groups(folded))
        if graph is None or not _computes(graph, folded, before.noise()[0]):
            graph = export(folded, before.input)
            self._known[key] = weights, graph
        return replace(before, model=model, graph=graph, layers=inventory(folded, before.input))


def _structure(folded: fx.GraphModule, shape: tuple[int, ...]) -> str:
    """All that a graph is made of, save channels."""
    kinds = []
    for name, module in folded.named_modules():
        own = (module.kernel_size, module.stride, module.padding) if isinstance(module, _CONVOLUTIONS) else ()
        kinds.append((name, type(module).__name__, own))
    return f"{shape} {kinds} {folded.code}"


def _weights(folded: fx.GraphModule) -> dict[str, np.ndarray]:
    state = folded.state_dict().items()
    return {name: value.detach().cpu().numpy().copy() for name, value in state if value.is_floating_point()}


def _groups(folded: fx.GraphModule) -> dict[str, int]:
    return {name: one.groups for name, one in folded.named_modules() if isinstance(one, _CONVOLUTIONS)}


def _computes(graph: ModelProto, folded: fx.GraphModule, x: np.ndarray) -> bool:
    with torch.no_grad():
        expected = folded(torch.from_numpy(x)).numpy()
    try:
        found = outputs(graph, "onnxruntime", [x], 1)
    except Exception:  # shapes do not fit; the runtime's exceptions share no public base class
        return False
    return bool(np.abs(found - expected).max() <= _CLOSE * np.abs(expected).max())
