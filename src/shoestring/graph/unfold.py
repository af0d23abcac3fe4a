"""Unfolding: weights that were found for a network as it is deployed, put back into the one that trains."""

import copy
from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shoestring.graph.masks import factors, layer_at, norms
from shoestring.graph.settle import norms_of

_OFF = 1e-6  # of the largest factor of a layer: an output that batch norm has switched off


@torch.no_grad()
def unfold(gm: fx.GraphModule, layers: Mapping[str, tuple[Tensor, Tensor | None]]) -> fx.GraphModule:
    """A copy of `gm`, batch norms in place, that folds (`graph.fold`) to these weights [out, in, ...] and biases [out]
    (None: as it is) at module paths: the inverse of arXiv 1712.05877, equation 14. An output that its batch norm has
    switched off keeps its weight, for no weight would make it another constant."""
    gm = copy.deepcopy(gm)
    found = norms(gm)
    for path, (weight, bias) in layers.items():
        layer, norm = layer_at(gm, path), found.get(path)
        scale = factors(layer, norm)
        on = scale.abs() > _OFF * scale.abs().max()
        rows = (-1, *[1] * (weight.ndim - 1))
        layer.weight.copy_(torch.where(on.reshape(rows), weight / scale.reshape(rows), layer.weight))
        if bias is not None:
            _put_bias(layer, norm, scale, bias)
    return gm


def _put_bias(layer: nn.Module, norm: _BatchNorm | None, scale: Tensor, bias: Tensor) -> None:
    own = getattr(layer, "bias", None)
    mean = bias.new_zeros(()) if norm is None or norm.running_mean is None else norm.running_mean
    if norm is not None and norm.bias is not None:
        norm.bias.copy_(bias - ((0 if own is None else own) - mean) * scale)
    else:
        layer.bias = nn.Parameter((bias / scale + mean).to(layer.weight.dtype))  # type: ignore[arg-type]  # a tensor


@torch.no_grad()
def settle_norms(gm: nn.Module, batches: Iterable[Tensor]) -> None:
    """Gives the batch norms of `gm`, in place, the statistics of what they read of `batches`, and factors and biases
    with which they do the same as before. In training they normalise by their batch: one whose statistics belong to
    other weights would make another network of it at the first step."""
    seen = {norm: _Sums() for norm in norms_of(gm)}
    hooks = [norm.register_forward_pre_hook(partial(_note, sums)) for norm, sums in seen.items()]
    gm.eval()
    for batch in batches:
        gm(batch)
    for hook in hooks:
        hook.remove()
    for norm, sums in seen.items():
        if not norm.affine or sums.count < 2:
            continue
        assert norm.running_mean is not None and norm.running_var is not None, "looked at above"
        mean, var = sums.total / sums.count, sums.squares / sums.count - (sums.total / sums.count).square()
        deviation = (var.clamp_min(0) + norm.eps).sqrt()
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias.add_(scale * (mean.to(scale) - norm.running_mean))
        norm.weight.copy_(scale * deviation)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(deviation.square() - norm.eps)


class _Sums:
    """Of what a batch norm reads, by channel, in float64."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())


def _note(sums: _Sums, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    flat = inputs[0].transpose(0, 1).flatten(1).double()
    sums.count += flat.shape[1]
    sums.total = sums.total + flat.sum(1)
    sums.squares = sums.squares + flat.square().sum(1)
