"""A captured network with quantisers on its weights and edges: made, started, fixed, and baked into plain modules."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from shoestring.compress.lsq import initialise
from shoestring.compress.lsq.activations import ActivationQuantiser, ByteGrid
from shoestring.compress.lsq.settings import Lsq
from shoestring.compress.lsq.weights import WeightQuantiser, adds_pairs
from shoestring.compress.method import Applied, Take
from shoestring.core.errors import BadInput
from shoestring.core.grid import Grid
from shoestring.graph.edges import Edge, edges, insert
from shoestring.graph.fold import fold, foldable
from shoestring.graph.marker import MARKER
from shoestring.graph.nodes import MOVE, PAD, called, does
from shoestring.graph.parametrized import before, make_plain, transforms

Layer = nn.Conv1d | nn.Conv2d | nn.Linear

_WEIGHT_STARTS = {
    "min-max": initialise.weight_min_max,
    "mean": initialise.weight_mean,
    "mse": initialise.weight_least_error,
    "sigma": initialise.weight_three_sigma,
}
_BATCH = 16  # calibration inputs at once


@dataclass
class Quantised(Applied):
    """LSQ or LSQ+ at work on `model`. `settings`: module to its setting; `norms`: module to the
    batch norm behind it; `quantisers`: those of the edges, and whether an activation function wrote the edge."""

    settings: Mapping[str, Lsq] = field(default_factory=dict)
    norms: Mapping[str, str] = field(default_factory=dict)
    quantisers: Mapping[str, tuple[ActivationQuantiser, bool]] = field(default_factory=dict)

    @torch.no_grad()
    def settle(self, inputs: Sequence[np.ndarray]) -> None:
        """Starts the grids from what the float network does with `inputs` (float32 [1, ...] each). Raises BadInput when
        there are none."""
        self._start_edges(inputs)
        for path in self.settings:
            _weight_quantiser(_layer(self.model, path)).started.fill_(True)

    def _start_edges(self, inputs: Sequence[np.ndarray]) -> None:
        if not inputs:
            raise BadInput("lsq: steps start from calibration inputs, and there are none; give some")
        self.model.eval()
        for quantiser, _ in self.quantisers.values():
            quantiser.sample.clear()  # of what went through before
        for index in range(0, len(inputs), _BATCH):
            self.model(torch.from_numpy(np.concatenate(inputs[index : index + _BATCH])))
        for quantiser, activated in self.quantisers.values():
            _start(quantiser, activated, next(iter(self.settings.values())))

    def freeze(self) -> None:
        for quantiser, _ in self.quantisers.values():
            quantiser.fix()

    def within(self, smaller: fx.GraphModule, take: Take) -> "Quantised":
        """Grids of activations of its own; codes and steps of weights are parts of these."""
        modules = dict(smaller.named_modules())
        settings = {path: setting for path, setting in self.settings.items() if path in modules}
        norms = _norms(smaller, settings)
        quantisers = _on_edges(smaller, settings)
        return Within(smaller, settings=settings, norms=norms, quantisers=quantisers, whole=self, take=take)

    @torch.no_grad()
    def codes(self, path: str) -> tuple[Tensor, Tensor]:
        """Of the weight of the module at `path`: int8 in its shape, and the step of each output."""
        layer = _layer(self.model, path)
        quantiser = _weight_quantiser(layer)
        return quantiser.codes(before(layer, quantiser))

    @torch.no_grad()
    def bake(self) -> fx.GraphModule:
        """The network with plain layers whose weights lie on their grids, batch norm folded, and marker operators on
        its edges. Fills `grids`."""
        self.freeze()
        self.model.eval()
        plain = copy.deepcopy(self.model)
        assert isinstance(plain, fx.GraphModule), "`apply` made it"
        for path in set(self.norms.values()):
            behind: Any = plain.get_submodule(path)
            if parametrize.is_parametrized(behind):
                make_plain(behind, behind.weight)
        for path in self.settings:
            layer = _layer(plain, path)
            codes, steps = self.codes(path)
            if parametrize.is_parametrized(layer):
                make_plain(layer, layer.weight)
            layer.weight.copy_(codes * steps.reshape(-1, *[1] * (codes.ndim - 1)))
            norm = plain.get_submodule(self.norms[path]) if path in self.norms else None
            self.grids[path] = _folded(codes, steps, norm, self.settings[path].bits.weights)
        plain = fold(plain)
        _mark(plain)
        return plain


@dataclass
class Within(Quantised):
    """A network inside of the `whole` one: its weights are parts of that one's, its edges and batch norms its own."""

    whole: Quantised = field(kw_only=True)
    take: Take = field(kw_only=True)

    @torch.no_grad()
    def settle(self, inputs: Sequence[np.ndarray]) -> None:
        """As `Quantised.settle`, of the edges."""
        self._start_edges(inputs)

    @torch.no_grad()
    def codes(self, path: str) -> tuple[Tensor, Tensor]:
        codes, steps = self.whole.codes(path)
        spread = steps.reshape(-1, *[1] * (codes.ndim - 1)).expand_as(codes)
        name = f"{path}.weight"
        return self.take(name, codes), self.take(name, spread).flatten(1)[:, 0].clone()


def quantised(model: fx.GraphModule, settings: Mapping[str, Lsq]) -> Quantised:
    """A copy of `model` (captured, batch norms in place) with quantisers in front of and in the modules of `settings`,
    which run as in float until `settle`."""
    model = copy.deepcopy(model)
    norms = _norms(model, settings)
    for norm in set(norms.values()):
        layers = [_layer(model, path) for path, behind in norms.items() if behind == norm]
        _make_positive(layers, model.get_submodule(norm))
    quantisers = _on_edges(model, settings)
    for path, setting in settings.items():
        layer = _layer(model, path)
        parametrize.register_parametrization(layer, "weight", _started_at(layer, setting), unsafe=True)
    return Quantised(model, settings=settings, norms=norms, quantisers=quantisers)


def _on_edges(model: fx.GraphModule, settings: Mapping[str, Lsq]) -> dict[str, tuple[ActivationQuantiser, bool]]:
    """Puts quantisers on the edges of `model`, in place: path to each, and whether an activation function wrote the
    edge."""
    found = edges(model, {path: setting.bits.activations for path, setting in settings.items()})
    activated: dict[nn.Module, bool] = {}

    def make(edge: Edge, bits: int) -> ActivationQuantiser:
        activated[quantiser := ActivationQuantiser(bits)] = edge.activated
        return quantiser

    made = insert(model, found, make)
    return {path: (quantiser, activated[quantiser]) for path, quantiser in made.items()}


def _norms(model: fx.GraphModule, paths: Mapping[str, Lsq]) -> dict[str, str]:
    """Layer to the batch norm that will be folded into it."""
    found = ((node.all_input_nodes[0], node) for node in model.graph.nodes if foldable(model, node))
    return {str(layer.target): str(norm.target) for layer, norm in found if str(layer.target) in paths}


class _Positive(nn.Module):
    """Of the factors of a batch norm, so that training never turns a channel around. A factor of zero can leave it."""

    def forward(self, factors: Tensor) -> Tensor:
        return torch.where(factors < 0, -factors, factors)


@torch.no_grad()
def _make_positive(layers: Sequence[Layer], norm: nn.Module) -> None:
    """Turns channels that the batch norm behind `layers` multiplies by a negative number around, weights and norm: the
    same function. Folding then leaves the codes as they were trained; -8 of 4 bits has no opposite."""
    assert isinstance(norm, _BatchNorm), "`_norms` found it"
    if norm.weight is None:
        return
    sign = torch.where(norm.weight < 0, -1.0, 1.0)
    for layer in layers:
        layer.weight.mul_(sign.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.mul_(sign)
    assert norm.running_mean is not None, "foldable"
    norm.running_mean.mul_(sign)
    parametrize.register_parametrization(norm, "weight", _Positive(), unsafe=True)


def _started_at(layer: Layer, setting: Lsq) -> WeightQuantiser:
    weight, bits = layer.weight.detach(), setting.bits.weights
    rows = weight if setting.per_channel else weight.reshape(1, -1)
    steps = _WEIGHT_STARTS[setting.start](rows, bits)
    return WeightQuantiser(weight, bits, steps, safe16=adds_pairs(layer, bits))


def _start(quantiser: ActivationQuantiser, activated: bool, setting: Lsq) -> None:
    """Zero is the lowest code of what is never negative and, in configuration 1, of what an activation function wrote;
    there the file needs no offset, and integer kernels want none."""
    values = quantiser.observe()
    positive = bool((values >= 0).all())
    offset = setting.config in (3, 4) and not positive
    signed = not positive and (setting.config in (2, 3) or (setting.config == 1 and not activated))
    low = -(2 ** (quantiser.bits - 1)) if signed else 0
    high = low + 2**quantiser.bits - 1
    if setting.start == "mean":
        start = initialise.mean(values, high)
    else:
        rule = initialise.min_max if setting.start == "min-max" else initialise.least_error
        start = rule(values, low, high, offset)
    quantiser.start(start, signed, offset)


def _weight_quantiser(layer: Layer) -> WeightQuantiser:
    found = transforms(layer)[-1]
    assert isinstance(found, WeightQuantiser), "the last parametrization is ours"
    return found


def _layer(model: nn.Module, path: str) -> Layer:
    found = model.get_submodule(path)
    assert isinstance(found, nn.Conv1d | nn.Conv2d | nn.Linear), "`apply` looked"
    return found


def _folded(codes: Tensor, steps: Tensor, norm: nn.Module | None, bits: int) -> Grid:
    """The grid of a weight whose batch norm goes into its scales. A channel that the norm cut off takes zeros."""
    steps = steps.double()
    if norm is not None:
        assert isinstance(norm, _BatchNorm) and norm.running_var is not None, "`_norms` found it"
        factor = (norm.running_var.double() + norm.eps).rsqrt()
        steps = steps * (factor if norm.weight is None else factor * norm.weight.double())
    alive = steps >= torch.finfo(torch.float32).tiny
    codes = codes * alive.reshape(-1, *[1] * (codes.ndim - 1))
    return Grid(codes.numpy(), torch.where(alive, steps, 1.0).float().numpy(), bits)


def _mark(model: fx.GraphModule) -> None:
    """Marker operators instead of the edges' quantisers, and once more where values were moved about before they are
    read: a runtime moves codes as integers between two of them. Padding belongs to the convolution behind it."""
    carried: dict[fx.Node, ByteGrid] = {}
    for node in list(model.graph.nodes):
        quantiser, source = called(model, node), node.all_input_nodes[0] if node.all_input_nodes else None
        if isinstance(quantiser, ActivationQuantiser) and source is not None:
            marked = _marked_after(node, source, quantiser.byte_grid())
            node.replace_all_uses_with(marked)
            model.graph.erase_node(node)
            carried[marked] = quantiser.byte_grid()
        elif source in carried and does(model, node, MOVE):
            carried[node] = carried[source]
            readers = [user for user in node.users if not does(model, user, MOVE)]
            if readers and not does(model, node, PAD):
                marked = _marked_after(node, node, carried[node])
                for reader in readers:
                    reader.replace_input_with(node, marked)
    model.graph.lint()
    model.recompile()
    model.delete_all_unused_submodules()


def _marked_after(place: fx.Node, source: fx.Node, grid: ByteGrid) -> fx.Node:
    with place.graph.inserting_after(place):
        marked = place.graph.call_function(MARKER, (source, *grid))
    marked.meta = dict(source.meta)
    return marked
